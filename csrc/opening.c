#include "opening.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define DEAD_LINK_MS 10000

static int write_address(hp_opening *o, const hp_venue_address *venue)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(venue->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(venue->port)};
    if (inet_pton(AF_INET, venue->ip, &v4.sin_addr) == 1) {
        memcpy(&o->address, &v4, sizeof v4);
        o->address_len = sizeof v4;
    } else if (inet_pton(AF_INET6, venue->ip, &v6.sin6_addr) == 1) {
        memcpy(&o->address, &v6, sizeof v6);
        o->address_len = sizeof v6;
    }
    return o->address_len ? 0 : -EINVAL;
}

static int write_request(hp_opening *o, const hp_venue_address *venue)
{
    char host[300];
    const char *form = strchr(venue->host, ':') ? "[%s]:%u" : "%s:%u";
    snprintf(host, sizeof host, form, venue->host, venue->port);
    if (getrandom(o->key, sizeof o->key, 0) != sizeof o->key)
        return -EAGAIN;
    int len = hp_ws_request(o->request, sizeof o->request, host, venue->path, o->key);
    o->request_len = len < 0 ? 0 : (size_t)len;
    return len < 0 ? len : 0;
}

static int fill(hp_opening *o, const hp_venue_address *venue)
{
    int rc = venue->timeout_ns <= INT64_MAX / 2 ? write_address(o, venue) : -HP_ECONFIG;
    if (rc == 0)
        o->tls = hp_tls_new(venue->host, venue->ca_file, &rc);
    return rc < 0 ? rc : write_request(o, venue);
}

hp_opening *hp_opening_new(const hp_venue_address *venue, int *error)
{
    hp_opening *o = calloc(1, sizeof *o);
    *error = -ENOMEM;
    if (!o)
        return NULL;
    o->timeout_ns = (int64_t)venue->timeout_ns;
    snprintf(o->peer, sizeof o->peer, "%.120s port %u", venue->host, venue->port);
    snprintf(o->path, sizeof o->path, "%s", venue->path);
    *error = fill(o, venue);
    if (*error == 0)
        return o;
    hp_opening_free(o);
    return NULL;
}

void hp_opening_free(hp_opening *o)
{
    if (o)
        hp_tls_free(o->tls);
    free(o);
}

void hp_opening_lay_down(hp_laid_down *laid_down, hp_opening *o)
{
    if (!o)
        return;
    o->next = atomic_load_explicit(laid_down, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(laid_down, &o->next, o, memory_order_release,
                                                  memory_order_relaxed))
        continue;
}

void hp_opening_free_all(hp_laid_down *laid_down)
{
    hp_opening *o = atomic_exchange_explicit(laid_down, NULL, memory_order_acquire);
    while (o) {
        hp_opening *next = o->next;
        hp_opening_free(o);
        o = next;
    }
}

/* A peer that vanished without a word is noticed within some DEAD_LINK_MS, idle or not. */
static void set_options(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, DEAD_LINK_MS / 2000},
        {IPPROTO_TCP, TCP_KEEPINTVL, DEAD_LINK_MS / 10000},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, DEAD_LINK_MS},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

int hp_opening_connect(const hp_opening *o, hp_io *io)
{
    int fd = socket(o->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    set_options(fd);
    int port = hp_io_attach(io, fd);
    if (port < 0) {
        close(fd);
        return port;
    }
    int rc = hp_io_start_connect(io, port, (const struct sockaddr *)&o->address, o->address_len);
    if (rc < 0)
        hp_io_detach(io, port);
    return rc < 0 ? rc : port;
}
