/* A whale comes seldom. Until then the code of TLS and of TCP falls out of the
 * caches, and the first send after a pause takes several times as long (bench/BENCHMARKS.md). So
 * the way is walked again and again, up to a socket of our own. */
#include "rehearsal.h"
#include "tls_rehearsal.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#define SEND_WAIT_NS INT64_C(10000000)

struct hp_rehearsal {
    hp_io *io;
    hp_tls *tls;
    int port; /* one TCP connection over loopback, both ends ours; -1 without */
    int in;
    uint8_t scratch[4096];
};

static int same_address(const struct sockaddr_in *a, const struct sockaddr_in *b)
{
    return a->sin_port == b->sin_port && a->sin_addr.s_addr == b->sin_addr.s_addr;
}

/* Connect to a listener of our own; whoever else connected first is not us. The accepted end, or
 * -1. */
static int connect_to_ourselves(int out, int listener)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_in ours, theirs;
    socklen_t len = sizeof at, ours_len = sizeof ours, theirs_len = sizeof theirs;
    int on = 1;
    if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&at, &len) < 0 ||
        connect(out, (struct sockaddr *)&at, sizeof at) < 0)
        return -1;
    int in = accept4(listener, (struct sockaddr *)&theirs, &theirs_len, SOCK_CLOEXEC);
    if (in < 0 || getsockname(out, (struct sockaddr *)&ours, &ours_len) < 0 ||
        !same_address(&ours, &theirs) || fcntl(out, F_SETFL, O_NONBLOCK) < 0) {
        close(in);
        return -1;
    }
    setsockopt(out, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return in;
}

/* Where it cannot be, there is no sending to ourselves. */
static void open_sockets(hp_rehearsal *r)
{
    int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (out >= 0 && listener >= 0)
        r->in = connect_to_ourselves(out, listener);
    if (r->in >= 0)
        r->port = hp_io_attach(r->io, out);
    if (out >= 0 && r->port < 0)
        close(out);
    if (listener >= 0)
        close(listener);
}

hp_rehearsal *hp_rehearsal_new(hp_io *io, int *error)
{
    *error = 0;
    hp_rehearsal *r = calloc(1, sizeof *r);
    hp_tls *tls = hp_tls_rehearsal_new(error);
    if (!r || !tls) {
        hp_tls_free(tls);
        free(r);
        *error = *error ? *error : -HP_ETLS;
        return NULL;
    }
    r->io = io;
    r->tls = tls;
    r->port = r->in = -1;
    open_sockets(r);
    return r;
}

void hp_rehearsal_free(hp_rehearsal *r)
{
    if (!r)
        return;
    if (r->port >= 0)
        hp_io_detach(r->io, r->port);
    if (r->in >= 0)
        close(r->in);
    hp_tls_free(r->tls);
    free(r);
}

static void discard_record(hp_rehearsal *r)
{
    const uint8_t *record;
    int len = hp_tls_output(r->tls, &record);
    hp_tls_sent(r->tls, (size_t)len);
}

int hp_rehearsal_seal(hp_rehearsal *r, const uint8_t *frame, size_t len)
{
    int rc = hp_tls_seal(r->tls, frame, len);
    discard_record(r);
    return rc < 0 ? rc : 0;
}

void hp_rehearsal_send(hp_rehearsal *r, const uint8_t *frame, size_t len)
{
    const uint8_t *record;
    int n = hp_tls_seal(r->tls, frame, len) < 0 ? 0 : hp_tls_output(r->tls, &record);
    if (n > 0 && r->port >= 0) {
        if (hp_io_send(r->io, r->port, record, (size_t)n, hp_now_ns() + SEND_WAIT_NS) < 0) {
            hp_io_detach(r->io, r->port); /* never mind: rehearse without it from now on */
            r->port = -1;
        } else {
            recv(r->in, r->scratch, sizeof r->scratch, MSG_DONTWAIT | MSG_TRUNC);
        }
    }
    discard_record(r);
}
