/* io.h without a kernel: one socket, whose peer says what a test has written down. To be included
 * before the C file that is to use it. */
#ifndef FAKE_IO_H
#define FAKE_IO_H

#include "io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SAID_MAX (9 << 20)

typedef struct fake_peer {
    int connected; /* what hp_io_connected() and hp_io_start_connect() answer */
    int start_connect;
    int sends;        /* what hp_io_send() answers */
    int busy;         /* hp_io_detach() does not succeed */
    int attached;     /* sockets, now */
    int connections;  /* since the start */
    size_t chunk;     /* bytes of one receive at most */
    int32_t last;     /* what a receive answers when everything was said; 1: nothing yet */
    uint8_t *said;    /* by the peer */
    size_t said_len;
    size_t said_at;
    uint8_t heard[4096]; /* by the peer; the latest connection's */
    size_t heard_len;
    uint8_t *into; /* NULL: no receive is in flight */
    size_t cap;
} fake_peer;

static fake_peer peer;

static void peer_reset(size_t chunk)
{
    uint8_t *said = peer.said ? peer.said : malloc(SAID_MAX);
    peer = (fake_peer){.connected = 1, .chunk = chunk, .last = 1, .said = said};
}

static void peer_says(const void *bytes, size_t len)
{
    if (len > SAID_MAX - peer.said_len)
        abort();
    memcpy(peer.said + peer.said_len, bytes, len);
    peer.said_len += len;
}

/* The ring is not there, but who asks for a descriptor gets one that is none. */
static int fake_fd(const hp_io *io, int port)
{
    (void)io, (void)port;
    return -1;
}

static int fake_attach(hp_io *io, int fd)
{
    (void)io;
    close(fd);
    peer.attached++;
    peer.connections++;
    peer.heard_len = 0;
    return 0;
}

static int fake_detach(hp_io *io, int port)
{
    (void)io;
    (void)port;
    if (peer.busy)
        return -EBUSY;
    peer.attached--;
    peer.into = NULL;
    return 0;
}

static int fake_start_connect(hp_io *io, int port, const struct sockaddr *to, socklen_t len)
{
    (void)io;
    (void)port;
    (void)to;
    (void)len;
    return peer.start_connect;
}

static int fake_connected(hp_io *io, int port)
{
    (void)io;
    (void)port;
    return peer.connected;
}

static int fake_start_recv(hp_io *io, int port, uint8_t *into, size_t cap)
{
    (void)io;
    (void)port;
    if (peer.into)
        abort(); /* two receives at once */
    peer.into = into;
    peer.cap = cap;
    memset(into, 0xee, cap); /* it is the kernel's: nothing in there may be looked at */
    return 0;
}

static int fake_received(hp_io *io, int port, int32_t *n)
{
    (void)io;
    (void)port;
    size_t left = peer.said_len - peer.said_at;
    if (!peer.into || (left == 0 && peer.last == 1))
        return 0;
    size_t len = left < peer.chunk ? left : peer.chunk;
    len = len < peer.cap ? len : peer.cap;
    if (len > 0)
        memcpy(peer.into, peer.said + peer.said_at, len);
    peer.said_at += len;
    peer.into = NULL;
    *n = left > 0 ? (int32_t)len : peer.last;
    return 1;
}

static int fake_send(hp_io *io, int port, const uint8_t *data, size_t len, int64_t deadline_ns)
{
    (void)io;
    (void)port;
    (void)deadline_ns;
    if (peer.sends < 0)
        return peer.sends;
    if (len > sizeof peer.heard - peer.heard_len)
        peer.heard_len = 0;
    memcpy(peer.heard + peer.heard_len, data, len);
    peer.heard_len += len;
    return 0;
}

#define hp_io_attach fake_attach
#define hp_io_detach fake_detach
#define hp_io_fd fake_fd
#define hp_io_start_connect fake_start_connect
#define hp_io_connected fake_connected
#define hp_io_start_recv fake_start_recv
#define hp_io_received fake_received
#define hp_io_send fake_send

#endif
