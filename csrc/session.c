/* The state machine of one venue connection. Everything happens inside the calls of its owner. */
#include "session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define RECV_BYTES 32768
#define PLAINTEXT_SLACK 16384 /* one TLS record behind a whole message */
#define MASK_POOL 4096
#define DEAD_LINK_MS 10000
#define CLOSE_WAIT_NS INT64_C(500000000)
#define ROUNDS_PER_POLL 16 /* receives: a flooding venue may not keep us from the feed */
#define REASON_BYTES 512

enum close_code { /* RFC 6455 7.4.1 */
    CLOSE_NORMAL = 1000,
    CLOSE_PROTOCOL = 1002,
    CLOSE_UNSUPPORTED = 1003,
    CLOSE_INVALID_DATA = 1007,
    CLOSE_TOO_BIG = 1009,
};

_Static_assert(HP_FRAME_BYTES_MAX >= HP_ORDER_BYTES_MAX + HP_WS_HEADER_MAX, "an order fits");
_Static_assert(REASON_BYTES >= 128 + HP_WS_CONTROL_MAX, "a Close frame's reason fits behind ours");

struct hp_session {
    hp_ring *ring;
    hp_stats *stats;
    hp_tls *tls;
    hp_on_text on_text;
    void *context;
    int64_t send_timeout_ns;
    uint8_t *plaintext; /* bytes of frames not parsed yet */
    uint8_t *message;   /* fragments of a message, joined */
    size_t plaintext_cap;
    size_t plaintext_len;
    size_t message_len;
    uint32_t message_bytes_max;
    int fd;
    uint8_t open;
    uint8_t in_message; /* a fragmented message has begun */
    uint8_t close_sent;
    uint8_t ping_waits; /* for its Pong */
    uint8_t ping_len;
    uint8_t ping[HP_WS_CONTROL_MAX];
    size_t mask_at;
    uint8_t masks[MASK_POOL];
    uint8_t frame[HP_FRAME_BYTES_MAX];
    uint8_t received[RECV_BYTES];
    char reason[REASON_BYTES];
};

hp_session *hp_session_new(hp_ring *ring, hp_stats *stats, uint32_t message_bytes_max,
                           uint64_t send_timeout_ns, hp_on_text on_text, void *context)
{
    hp_session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->plaintext_cap = (size_t)message_bytes_max + HP_WS_HEADER_MAX + PLAINTEXT_SLACK;
    s->plaintext = malloc(s->plaintext_cap);
    s->message = malloc(message_bytes_max);
    s->ring = ring;
    s->stats = stats;
    s->message_bytes_max = message_bytes_max;
    s->send_timeout_ns = (int64_t)send_timeout_ns;
    s->on_text = on_text;
    s->context = context;
    s->fd = -1;
    s->mask_at = MASK_POOL;
    if (!s->plaintext || !s->message) {
        hp_session_free(s);
        return NULL;
    }
    return s;
}

/* Give up the connection at once; the reason stays. 0, or what hp_ring_cancel_recv() says. */
static int drop(hp_session *s)
{
    int rc = 0;
    s->open = 0;
    if (s->fd >= 0) {
        shutdown(s->fd, SHUT_RDWR); /* completes a pending recv */
        rc = hp_ring_cancel_recv(s->ring);
        close(s->fd);
    }
    s->fd = -1;
    hp_tls_free(s->tls);
    s->tls = NULL;
    return rc;
}

void hp_session_free(hp_session *s)
{
    if (!s || drop(s) < 0) /* rather a leak than a receive into memory that is somebody else's */
        return;
    free(s->plaintext);
    free(s->message);
    free(s);
}

static int fail(hp_session *s, int rc, const char *what)
{
    const char *words = s->tls ? hp_tls_reason(s->tls) : "";
    snprintf(s->reason, sizeof s->reason, "%s: %s%s%s", what, hp_strerror(rc), *words ? ": " : "",
             words);
    drop(s);
    return rc;
}

/* ---- bytes out ------------------------------------------------------------------------------ */

static int send_ciphertext(hp_session *s)
{
    const uint8_t *data;
    int len = hp_tls_output(s->tls, &data);
    if (len <= 0)
        return 0;
    int rc = hp_ring_send(s->ring, s->fd, data, (size_t)len, hp_now_ns() + s->send_timeout_ns);
    if (rc < 0)
        return rc;
    hp_tls_sent(s->tls, (size_t)len);
    s->stats->bytes_sent += (uint64_t)len;
    return 0;
}

int hp_session_flush(hp_session *s)
{
    int rc = send_ciphertext(s);
    return rc < 0 ? fail(s, rc, "sending to the venue") : 0;
}

/* Masks must be unpredictable (RFC 6455 5.3): the kernel's random bytes, drawn in bulk. */
static const uint8_t *next_mask(hp_session *s)
{
    if (s->mask_at == MASK_POOL) {
        for (size_t got = 0; got < MASK_POOL;) {
            ssize_t n = getrandom(s->masks + got, MASK_POOL - got, 0);
            if (n < 0 && errno != EINTR)
                return NULL;
            got += n > 0 ? (size_t)n : 0;
        }
        s->mask_at = 0;
    }
    s->mask_at += 4;
    return s->masks + s->mask_at - 4;
}

int hp_session_frame(hp_session *s, int opcode, const uint8_t *payload, size_t len,
                     const uint8_t **frame)
{
    if (len > sizeof s->frame - HP_WS_HEADER_MAX)
        return -ENOSPC;
    const uint8_t *mask = next_mask(s);
    if (!mask)
        return -ENOSYS;
    int header = hp_ws_header(s->frame, opcode, len, mask);
    memcpy(s->frame + header, payload, len);
    hp_ws_mask(s->frame + header, len, mask);
    *frame = s->frame;
    return header + (int)len;
}

int hp_session_seal(hp_session *s, const uint8_t *frame, size_t len)
{
    int rc = hp_tls_seal(s->tls, frame, len);
    return rc < 0 ? fail(s, rc, "sealing for the venue") : 0;
}

static int send_frame(hp_session *s, int opcode, const uint8_t *payload, size_t len)
{
    const uint8_t *frame;
    int n = hp_session_frame(s, opcode, payload, len, &frame);
    if (n < 0)
        return n;
    int rc = hp_session_seal(s, frame, (size_t)n);
    return rc < 0 ? rc : hp_session_flush(s);
}

static int send_close(hp_session *s, enum close_code code)
{
    uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    s->close_sent = 1;
    return send_frame(s, HP_WS_CLOSE, payload, sizeof payload);
}

/* ---- bytes in ------------------------------------------------------------------------------- */

/* Ciphertext into TLS: 1 something came, 0 nothing yet, or an error. */
static int receive(hp_session *s, int64_t timeout_ns)
{
    int32_t n;
    int rc = hp_ring_received(s->ring, timeout_ns, &n);
    if (rc <= 0)
        return rc;
    if (n <= 0)
        return n == 0 ? -HP_ECONN_CLOSED : n;
    s->stats->bytes_received += (uint64_t)n;
    rc = hp_tls_input(s->tls, s->received, (size_t)n);
    if (rc < 0)
        return rc;
    rc = hp_ring_start_recv(s->ring, s->fd, s->received, sizeof s->received);
    return rc < 0 ? rc : 1;
}

static int broken(hp_session *s, int rc, enum close_code code, const char *what)
{
    send_close(s, code); /* may fail; what the peer did stays the reason */
    return fail(s, rc, what);
}

/* RFC 6455 7.4: what an endpoint may put in a Close frame. */
static int is_close_code(int code)
{
    return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
           (code >= 3000 && code <= 4999);
}

/* A stranger's UTF-8 words without anything that a terminal obeys: C0, DEL, and C1 (U+0080-9F). */
static void put_words(char *out, const uint8_t *words, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        int is_c1 = (words[i] == 0xc2 && words[i + 1] < 0xa0) ||
                    (i > 0 && words[i - 1] == 0xc2 && words[i] < 0xa0);
        out[i] = (char)(words[i] < ' ' || words[i] == 0x7f || is_c1 ? '?' : words[i]);
    }
    out[len] = '\0';
}

/* close_notify (RFC 8446 6.1), so that the peer can tell our leaving from a cut, and go. */
static void leave(hp_session *s)
{
    if (s->tls) {
        hp_tls_close(s->tls);
        send_ciphertext(s);
    }
    drop(s);
}

/* The peer's Close: answer once (RFC 6455 5.5.1), say what it said, and leave. */
static int closed_by_peer(hp_session *s, const hp_ws_frame *f)
{
    int code = f->payload_len >= 2 ? f->payload[0] << 8 | f->payload[1] : CLOSE_NORMAL;
    size_t words = f->payload_len > 2 ? f->payload_len - 2 : 0;
    if (f->payload_len == 1 || !is_close_code(code) || !hp_utf8_valid(f->payload + 2, words))
        return broken(s, -HP_EWS_PROTOCOL, CLOSE_PROTOCOL, "a malformed Close frame");
    if (!s->close_sent)
        send_close(s, (enum close_code)code);
    leave(s);
    int n = snprintf(s->reason, sizeof s->reason, "the server closed the WebSocket (code %d)%s",
                     code, words ? ": " : "");
    put_words(s->reason + n, f->payload + 2, words);
    return -HP_ECONN_CLOSED;
}

static int deliver(hp_session *s, const uint8_t *text, size_t len)
{
    if (!hp_utf8_valid(text, len))
        return broken(s, -HP_EWS_UTF8, CLOSE_INVALID_DATA, "reading from the venue");
    s->on_text(s->context, text, len);
    return 0;
}

/* A text message in one frame or in several (RFC 6455 5.4). */
static int on_data(hp_session *s, const hp_ws_frame *f)
{
    int continues = f->opcode == HP_WS_CONTINUATION;
    if (continues != s->in_message)
        return broken(s, -HP_EWS_PROTOCOL, CLOSE_PROTOCOL, "fragments out of order");
    if (!continues && f->fin)
        return deliver(s, f->payload, f->payload_len);
    if (!continues)
        s->message_len = 0;
    if (f->payload_len > s->message_bytes_max - s->message_len)
        return broken(s, -HP_EWS_TOO_BIG, CLOSE_TOO_BIG, "joining fragments");
    memcpy(s->message + s->message_len, f->payload, f->payload_len);
    s->message_len += f->payload_len;
    s->in_message = !f->fin;
    return f->fin ? deliver(s, s->message, s->message_len) : 0;
}

static int on_frame(hp_session *s, const hp_ws_frame *f)
{
    switch (f->opcode) {
    case HP_WS_PING:
        s->ping_waits = 1;
        s->ping_len = (uint8_t)f->payload_len;
        memcpy(s->ping, f->payload, f->payload_len);
        return 0;
    case HP_WS_PONG:
        return 0;
    case HP_WS_CLOSE:
        return closed_by_peer(s, f);
    case HP_WS_BINARY:
        return broken(s, -HP_EWS_PROTOCOL, CLOSE_UNSUPPORTED, "a binary message");
    default:
        return on_data(s, f);
    }
}

static enum close_code close_code_of(int rc)
{
    return rc == -HP_EWS_TOO_BIG ? CLOSE_TOO_BIG : CLOSE_PROTOCOL;
}

static int parse_frames(hp_session *s)
{
    size_t at = 0;
    while (at < s->plaintext_len) {
        hp_ws_frame f;
        int64_t n = hp_ws_parse(s->plaintext + at, s->plaintext_len - at, s->message_bytes_max, &f);
        if (n == 0)
            break;
        if (n < 0)
            return broken(s, (int)n, close_code_of((int)n), "reading from the venue");
        int rc = on_frame(s, &f);
        if (rc < 0)
            return rc;
        at += (size_t)n;
    }
    s->plaintext_len -= at;
    if (at > 0) /* else a long message in short records would be moved onto itself for each */
        memmove(s->plaintext, s->plaintext + at, s->plaintext_len);
    return 0;
}

static int read_plaintext(hp_session *s)
{
    return hp_tls_read(s->tls, s->plaintext + s->plaintext_len,
                       s->plaintext_cap - s->plaintext_len);
}

static int drain(hp_session *s)
{
    int n;
    while ((n = read_plaintext(s)) > 0) {
        s->plaintext_len += (size_t)n;
        int rc = parse_frames(s);
        if (rc < 0)
            return rc;
    }
    return n < 0 ? fail(s, n, "reading from the venue") : 0;
}

/* One Pong, for the latest Ping: RFC 6455 5.5.3 allows that, and a flood of Pings cannot hold us.
 * Without one TLS may have an answer of its own, such as a KeyUpdate. */
static int answer(hp_session *s)
{
    if (!s->ping_waits)
        return hp_session_flush(s);
    s->ping_waits = 0;
    s->stats->pings_answered++;
    return send_frame(s, HP_WS_PONG, s->ping, s->ping_len);
}

int hp_session_poll(hp_session *s, int64_t timeout_ns)
{
    if (!s->open)
        return -HP_ENOT_READY;
    for (int round = 0; round < ROUNDS_PER_POLL; round++) {
        int rc = receive(s, round == 0 ? timeout_ns : 0);
        if (rc == 0)
            break;
        rc = rc > 0 ? drain(s) : fail(s, rc, "reading from the venue");
        if (rc < 0)
            return rc;
    }
    return answer(s);
}

/* ---- opening and closing -------------------------------------------------------------------- */

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

static int open_socket(hp_session *s, const hp_venue_address *venue, int64_t deadline_ns)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(venue->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(venue->port)};
    int is_v4 = inet_pton(AF_INET, venue->ip, &v4.sin_addr) == 1;
    if (!is_v4 && inet_pton(AF_INET6, venue->ip, &v6.sin6_addr) != 1)
        return -EINVAL;
    s->fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        return -errno;
    set_options(s->fd);
    return is_v4 ? hp_ring_connect(s->ring, s->fd, (struct sockaddr *)&v4, sizeof v4, deadline_ns)
                 : hp_ring_connect(s->ring, s->fd, (struct sockaddr *)&v6, sizeof v6, deadline_ns);
}

/* Wait for more ciphertext until the deadline: 0, or an error. */
static int await(hp_session *s, int64_t deadline_ns)
{
    int rc = 0;
    while (rc == 0) { /* a signal ends a receive early */
        int64_t left_ns = deadline_ns - hp_now_ns();
        rc = left_ns > 0 ? receive(s, left_ns) : -HP_ETIME_OUT;
    }
    return rc < 0 ? rc : 0;
}

static int shake_tls(hp_session *s, int64_t deadline_ns)
{
    int rc;
    do {
        rc = hp_tls_handshake(s->tls);
        int io = send_ciphertext(s); /* an alert must leave even when the handshake failed */
        if (rc == 0 && io == 0)
            io = await(s, deadline_ns);
        if (rc >= 0 && io < 0)
            return io;
    } while (rc == 0);
    return rc;
}

static int upgrade(hp_session *s, const hp_venue_address *venue, int64_t deadline_ns, int *status)
{
    uint8_t key[16];
    if (getrandom(key, sizeof key, 0) != sizeof key)
        return -EAGAIN;
    char host[300];
    const char *form = strchr(venue->host, ':') ? "[%s]:%u" : "%s:%u";
    snprintf(host, sizeof host, form, venue->host, venue->port);
    int len = hp_ws_request((char *)s->frame, sizeof s->frame, host, venue->path, key);
    if (len < 0)
        return len;
    int rc = hp_tls_seal(s->tls, s->frame, (size_t)len);
    if (rc < 0 || (rc = send_ciphertext(s)) < 0)
        return rc;
    for (;;) {
        int n = read_plaintext(s);
        if (n < 0)
            return n;
        s->plaintext_len += (size_t)n;
        int used = hp_ws_response(s->plaintext, s->plaintext_len, key, status);
        if (used < 0)
            return used;
        if (used > 0) {
            s->plaintext_len -= (size_t)used;
            memmove(s->plaintext, s->plaintext + used, s->plaintext_len);
            return 0;
        }
        if (n == 0 && (rc = await(s, deadline_ns)) < 0)
            return rc;
    }
}

/* Everything up to the open session; what happened last is in `what`. */
static int open_session(hp_session *s, const hp_venue_address *venue, char *what, size_t cap)
{
    int64_t deadline_ns = hp_now_ns() + (int64_t)venue->timeout_ns;
    snprintf(what, cap, "connecting to %.120s port %u", venue->host, venue->port);
    int rc = open_socket(s, venue, deadline_ns);
    if (rc < 0)
        return rc;
    s->tls = hp_tls_new(venue->host, venue->ca_file, &rc);
    if (!s->tls) {
        if (rc == -HP_ETLS_CA)
            snprintf(what, cap, "%.200s", venue->ca_file ? venue->ca_file : "the trust store");
        return rc;
    }
    snprintf(what, cap, "TLS with %.120s port %u", venue->host, venue->port);
    rc = hp_ring_start_recv(s->ring, s->fd, s->received, sizeof s->received);
    if (rc < 0 || (rc = shake_tls(s, deadline_ns)) < 0)
        return rc;
    int status = 0;
    rc = upgrade(s, venue, deadline_ns, &status);
    int n = snprintf(what, cap, "WebSocket upgrade of %.120s port %u, path %.60s", venue->host,
                     venue->port, venue->path);
    if (status)
        snprintf(what + n, cap - (size_t)n, " (HTTP status %d)", status);
    return rc;
}

int hp_session_connect(hp_session *s, const hp_venue_address *venue)
{
    s->plaintext_len = 0;
    s->in_message = 0;
    s->close_sent = 0;
    s->ping_waits = 0;
    s->reason[0] = '\0';
    char what[256];
    int rc = open_session(s, venue, what, sizeof what);
    if (rc < 0)
        return fail(s, rc, what);
    s->open = 1;
    rc = parse_frames(s); /* what came behind the answer */
    if (rc == 0)
        rc = drain(s);
    return rc < 0 ? rc : answer(s);
}

int hp_session_is_open(const hp_session *s)
{
    return s->open;
}

int hp_session_send_text(hp_session *s, const uint8_t *text, size_t len)
{
    return s->open ? send_frame(s, HP_WS_TEXT, text, len) : -HP_ENOT_READY;
}

void hp_session_touch(hp_session *s)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len);
    if (s->tls)
        hp_tls_touch(s->tls);
}

void hp_session_close(hp_session *s)
{
    if (!s->open)
        return;
    int64_t deadline_ns = hp_now_ns() + CLOSE_WAIT_NS;
    if (send_close(s, CLOSE_NORMAL) == 0)
        while (s->open && hp_now_ns() < deadline_ns)
            hp_session_poll(s, deadline_ns - hp_now_ns());
    leave(s);
    snprintf(s->reason, sizeof s->reason, "we closed the connection");
}

const char *hp_session_reason(const hp_session *s)
{
    return s->reason;
}

const char *hp_session_cipher(hp_session *s)
{
    return s->tls ? hp_tls_cipher(s->tls) : "";
}
