/* feed.c: the state machine of one subscription: connection, ZMTP handshake, frames, heartbeats. */
#include "feed.h"

#include "feed_message.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define MS INT64_C(1000000)
#define S INT64_C(1000000000)

#define CONNECT_NS (5 * S) /* the kernel's own patience, two minutes, is too long without a word */
#define HANDSHAKE_NS (5 * S)
/* libzmq closes at a mechanism that it does not like, before it has named its own. So we name ours
 * second; but not for ever, for a peer may do the same (37, Authentication and Confidentiality). */
#define RETICENCE_NS (200 * MS)
#define GREETING_START_BYTES 11 /* signature and major version (37, Version Negotiation) */
#define PING_NS (10 * S) /* of silence */
#define DEAD_NS (30 * S) /* of silence after the first PING */
#define RETRY_MIN_NS (100 * MS)
#define RETRY_MAX_NS (10 * S)
#define SEND_NS (1 * MS) /* a peer that does not read must not keep us */

/* A node that vanished without a FIN, and takes no PING, is noticed after 10 + 3 * 5 s. */
#define KEEPALIVE_IDLE_S 10
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT 3

#define RECV_BYTES 65536 /* 160 transactions: a flood must not keep the caller from the venue */
#define BURST_BYTES (8 << 20) /* a new block is published at once, with its 5,000 transactions */
#define BUFFER_BYTES (HP_MESSAGE_BYTES_MAX + RECV_BYTES)

enum state {
    WAITING = 0, /* until due_ns, to connect */
    CONNECTING,
    RETICENT,  /* for the peer's greeting, with the rest of ours unsaid */
    GREETING,  /* the same, with nothing unsaid */
    HANDSHAKE, /* for its READY */
    OPEN,
};

struct hp_feed {
    hp_io *io;
    uint8_t *buf; /* [start, at): parts of a message and what came between; [at, end): unparsed */
    size_t start;
    size_t at;
    size_t end;
    hp_messages messages;
    int64_t now_ns;
    int64_t due_ns;    /* what this state waits for, at the latest */
    int64_t heard_ns;  /* the last byte from the peer */
    int64_t pinged_ns; /* the first PING since then */
    int64_t opened_ns;
    int64_t retry_ns;
    uint64_t random;
    int port; /* -1: none */
    uint8_t state;
    uint8_t pinged;     /* since heard_ns */
    uint8_t owes_pong;
    uint8_t complained; /* one complaint until the connection stands again */
    uint8_t is_drained; /* the last receive found nothing */
    hp_zmtp_peer peer;
    size_t ping_context_len;
    uint8_t ping_context[HP_ZMTP_CONTEXT_MAX];
    char stranger[80]; /* what the peer is, if it is no publisher */
    socklen_t address_len;
    struct sockaddr_storage address;
    char name[];
};

/* ---- connection ----------------------------------------------------------------------------- */

static void set_options(int fd)
{
    int on = 1, idle_s = KEEPALIVE_IDLE_S, interval_s = KEEPALIVE_INTERVAL_S;
    int count = KEEPALIVE_COUNT, burst = BURST_BYTES;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    /* With privilege only: SO_RCVBUF is cut to net.core.rmem_max, by default 208 KiB, and ends the
     * kernel's own tuning, which goes up to 6 MB (tcp(7), tcp_rmem). */
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &burst, sizeof burst);
}

static uint64_t next_random(hp_feed *f) /* splitmix64 */
{
    uint64_t x = f->random += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Half of the delay at least, so that many subscribers do not come back all at once. */
static void wait_to_retry(hp_feed *f)
{
    int64_t half_ns = f->retry_ns / 2;
    f->state = WAITING;
    f->due_ns = f->now_ns + half_ns + (int64_t)(next_random(f) % (uint64_t)half_ns);
    f->retry_ns = f->retry_ns < RETRY_MAX_NS / 2 ? 2 * f->retry_ns : RETRY_MAX_NS;
}

static void tell_unreachable(const hp_feed *f, int rc)
{
    static const char ours[] = "ipc://"; /* which is unix: for bitcoind */
    int is_ipc = !strncmp(f->name, ours, sizeof ours - 1);
    hp_messages_tell(&f->messages, HP_FEED_UNREACHABLE, HP_FEED_NO_TOPIC, 0, 0,
                     "the node at %s does not answer (%s, retrying): start bitcoind with "
                     "-zmqpubrawtx=%s%s or correct feed.endpoint.",
                     f->name, hp_strerror(rc), is_ipc ? "unix:" : "",
                     f->name + (is_ipc ? sizeof ours - 1 : 0));
}

/* What sort of server answers in so many words. */
static const char *strange_greeting(const hp_feed *f)
{
    const uint8_t *said = f->buf + f->at;
    size_t len = f->end - f->at;
    if (!memcmp(said, "HTTP/", len < 5 ? len : 5))
        return "it speaks HTTP, as bitcoind's RPC port does";
    if (!memcmp(said, "\x15\x03", len < 2 ? len : 2)) /* an alert, RFC 8446 5.1 */
        return "it speaks TLS";
    return "its first bytes are no greeting of ZeroMQ's protocol";
}

static void describe_stranger(const hp_feed *f, int rc, char *out, size_t cap)
{
    int said_nothing = f->state < HANDSHAKE && f->end == 0;
    int closed = rc == -HP_ECONN_CLOSED || rc == -ECONNRESET || rc == -EPIPE;
    if (*f->stranger)
        snprintf(out, cap, "%s", f->stranger);
    else if (rc == -HP_EZMTP)
        snprintf(out, cap, "%s", strange_greeting(f));
    else if (rc == -HP_EZMTP_VERSION)
        snprintf(out, cap, "it speaks a ZeroMQ protocol before 3.0, as libzmq before 4.0 does");
    else if (rc == -HP_EZMTP_MECHANISM)
        snprintf(out, cap, "it wants the security mechanism '%s'", f->peer.mechanism);
    else if (closed)
        snprintf(out, cap, "it closes the connection %s",
                 said_nothing ? "without a word" : "during the handshake");
    else if (rc == -HP_ETIME_OUT)
        snprintf(out, cap, "it %s for %d s",
                 said_nothing ? "says nothing" : "does not go on with the handshake",
                 (int)(HANDSHAKE_NS / S));
    else
        snprintf(out, cap, "%s", hp_strerror(rc));
}

static void tell_stranger(const hp_feed *f, int rc)
{
    char what[128];
    describe_stranger(f, rc, what, sizeof what);
    hp_messages_tell(&f->messages, HP_FEED_NOT_ZMTP, HP_FEED_NO_TOPIC, 0, 0,
                     "what answers at %s is not a ZeroMQ publisher (%s; retrying): correct "
                     "feed.endpoint, or the -zmqpubrawtx of bitcoind.",
                     f->name, what);
}

static void tell_lost(const hp_feed *f, int rc)
{
    char why[160];
    int kind = HP_FEED_DISCONNECTED;
    if (rc == -HP_EZMTP_TOO_BIG) {
        snprintf(why, sizeof why, "was given up because it sent a frame of more than %d bytes",
                 HP_TX_BYTES_MAX);
    } else if (rc == -HP_EZMTP_PROTOCOL) {
        snprintf(why, sizeof why, "was given up because it broke ZeroMQ's protocol");
    } else if (rc == -HP_ETIME_OUT) {
        kind = HP_FEED_TIMED_OUT;
        snprintf(why, sizeof why, "was given up because it is silent, to PINGs too");
    } else {
        snprintf(why, sizeof why, "was lost (%s)", hp_strerror(rc));
    }
    hp_messages_tell(&f->messages, kind, HP_FEED_NO_TOPIC, 0, 0,
                     "the connection to the node at %s %s, and what is published meanwhile is "
                     "missed (retrying): check that bitcoind runs and that it publishes there.",
                     f->name, why);
}

/* 0, or -EBUSY while the kernel still has our buffer. */
static int let_go(hp_feed *f)
{
    int rc = f->port < 0 ? 0 : hp_io_detach(f->io, f->port);
    f->port = rc < 0 ? f->port : -1;
    return rc;
}

static void fail(hp_feed *f, int rc)
{
    if (!f->complained && f->state == OPEN)
        tell_lost(f, rc);
    else if (!f->complained && f->state >= RETICENT)
        tell_stranger(f, rc);
    else if (!f->complained)
        tell_unreachable(f, rc);
    f->complained = 1;
    if (f->state == OPEN && f->now_ns - f->opened_ns >= RETRY_MAX_NS)
        f->retry_ns = RETRY_MIN_NS;
    let_go(f);
    wait_to_retry(f);
}

static void start_connect(hp_feed *f)
{
    if (let_go(f) < 0) {
        wait_to_retry(f);
        return;
    }
    int fd = socket(f->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        fail(f, -errno);
        return;
    }
    if (f->address.ss_family != AF_UNIX)
        set_options(fd);
    int rc = hp_io_attach(f->io, fd);
    if (rc < 0) {
        close(fd);
        fail(f, rc);
        return;
    }
    f->port = rc;
    f->start = f->at = f->end = 0;
    hp_messages_restart(&f->messages);
    f->pinged = f->owes_pong = 0;
    f->stranger[0] = '\0';
    f->state = CONNECTING;
    f->due_ns = f->now_ns + CONNECT_NS;
    rc = hp_io_start_connect(f->io, f->port, (const struct sockaddr *)&f->address, f->address_len);
    if (rc < 0)
        fail(f, rc);
}

static int send_bytes(hp_feed *f, const uint8_t *data, int len)
{
    return hp_io_send(f->io, f->port, data, (size_t)len, hp_now_ns() + SEND_NS);
}

static int receive_more(hp_feed *f)
{
    return hp_io_start_recv(f->io, f->port, f->buf + f->end, RECV_BYTES);
}

static void greet(hp_feed *f)
{
    uint8_t greeting[HP_ZMTP_GREETING_BYTES];
    hp_zmtp_greeting(greeting);
    f->state = RETICENT;
    f->due_ns = f->now_ns + RETICENCE_NS;
    int rc = send_bytes(f, greeting, GREETING_START_BYTES);
    if (rc == 0)
        rc = receive_more(f);
    if (rc < 0)
        fail(f, rc);
}

static int say_all_of_greeting(hp_feed *f)
{
    uint8_t greeting[HP_ZMTP_GREETING_BYTES];
    hp_zmtp_greeting(greeting);
    f->state = GREETING;
    f->due_ns = f->now_ns + HANDSHAKE_NS;
    return send_bytes(f, greeting + GREETING_START_BYTES,
                      HP_ZMTP_GREETING_BYTES - GREETING_START_BYTES);
}

static void connecting(hp_feed *f)
{
    int rc = hp_io_connected(f->io, f->port);
    if (rc > 0)
        greet(f);
    else if (rc < 0)
        fail(f, rc);
    else if (f->now_ns >= f->due_ns)
        fail(f, -HP_ETIME_OUT);
}

/* ---- handshake and commands ----------------------------------------------------------------- */

static int take_greeting(hp_feed *f)
{
    uint8_t ready[HP_ZMTP_COMMAND_BYTES_MAX];
    int n = hp_zmtp_parse_greeting(f->buf + f->at, f->end - f->at, &f->peer);
    if (n <= 0)
        return n;
    int rc = f->state == RETICENT ? say_all_of_greeting(f) : 0;
    f->at += (size_t)n;
    f->start = f->at;
    f->state = HANDSHAKE;
    return rc < 0 ? rc : send_bytes(f, ready, hp_zmtp_ready(ready));
}

static int subscribe(hp_feed *f, int topic)
{
    uint8_t out[HP_ZMTP_COMMAND_BYTES_MAX];
    return send_bytes(f, out, hp_zmtp_subscribe(out, &f->peer, hp_message_topics[topic]));
}

static int is_word(const uint8_t *bytes, uint64_t len, const char *word)
{
    return len == strlen(word) && !memcmp(bytes, word, len);
}

static int takes_pings(const hp_feed *f) /* ZMTP 3.1 and later */
{
    return f->peer.major > 3 || f->peer.minor > 0;
}

/* 37, The Socket-Type Property: PUB and XPUB go with SUB. */
static int take_ready(hp_feed *f, const hp_zmtp_command *ready)
{
    const uint8_t *type;
    uint64_t len;
    char printable[16];
    int rc = hp_zmtp_property(ready->data, ready->data_len, "Socket-Type", &type, &len);
    if (rc < 0)
        return rc;
    if (rc == 0 || (!is_word(type, len, "PUB") && !is_word(type, len, "XPUB"))) {
        hp_put_printable(printable, sizeof printable, rc ? type : NULL, rc ? len : 0);
        snprintf(f->stranger, sizeof f->stranger, "it is a ZeroMQ socket of type '%s'", printable);
        return -HP_EZMTP_PROTOCOL;
    }
    rc = subscribe(f, HP_FEED_RAWTX);
    if (rc == 0 && f->messages.wants_sequence)
        rc = subscribe(f, HP_FEED_SEQUENCE);
    if (rc < 0)
        return rc;
    f->state = OPEN;
    f->opened_ns = f->now_ns;
    f->due_ns = takes_pings(f) ? f->now_ns + PING_NS : INT64_MAX;
    f->complained = 0;
    hp_messages_tell(&f->messages, HP_FEED_CONNECTED, HP_FEED_NO_TOPIC, 0, 0,
                     "connected to the node at %s.", f->name);
    return 0;
}

/* 37, The NULL Security Mechanism: READY or ERROR, and nothing else before. */
static int take_handshake(hp_feed *f, const hp_zmtp_command *command)
{
    char reason[32];
    if (is_word(command->name, command->name_len, "READY"))
        return take_ready(f, command);
    if (is_word(command->name, command->name_len, "ERROR") && command->data_len > 0) {
        hp_put_printable(reason, sizeof reason, command->data + 1, command->data_len - 1);
        snprintf(f->stranger, sizeof f->stranger, "it refuses us: '%s'", reason);
    }
    return -HP_EZMTP_PROTOCOL;
}

/* Of several PINGs in one receive the last is answered: a sign of life is what they ask for. */
static int take_command(hp_feed *f, const hp_zmtp_frame *frame)
{
    hp_zmtp_command command;
    int rc = hp_zmtp_parse_command(frame->body, frame->body_len, &command);
    if (rc < 0)
        return rc;
    if (f->state == HANDSHAKE)
        return take_handshake(f, &command);
    if (is_word(command.name, command.name_len, "PING")) {
        if (command.data_len < 2 || command.data_len > 2 + HP_ZMTP_CONTEXT_MAX)
            return -HP_EZMTP_PROTOCOL;
        f->ping_context_len = (size_t)command.data_len - 2;
        memcpy(f->ping_context, command.data + 2, f->ping_context_len);
        f->owes_pong = 1;
    }
    return 0; /* a PONG says no more than that the peer lives */
}

static int answer_ping(hp_feed *f)
{
    uint8_t pong[HP_ZMTP_COMMAND_BYTES_MAX];
    f->owes_pong = 0;
    return send_bytes(f, pong, hp_zmtp_pong(pong, f->ping_context, f->ping_context_len));
}

/* 37, Connection Heartbeating: any traffic is a sign of life. A peer of 3.0 knows no PING; for it
 * there is TCP's keepalive. */
static int beat(hp_feed *f)
{
    uint8_t ping[HP_ZMTP_COMMAND_BYTES_MAX];
    if (f->now_ns - f->heard_ns < PING_NS) {
        f->due_ns = f->heard_ns + PING_NS;
        return 0;
    }
    if (!f->pinged)
        f->pinged_ns = f->now_ns;
    else if (f->now_ns - f->pinged_ns >= DEAD_NS)
        return -HP_ETIME_OUT;
    f->pinged = 1;
    f->due_ns = f->now_ns + PING_NS;
    return send_bytes(f, ping, hp_zmtp_ping(ping));
}

/* ---- bytes in ------------------------------------------------------------------------------- */

static int take_frame(hp_feed *f, const hp_zmtp_frame *frame)
{
    int rc = 0, is_done = f->messages.n_parts == 0;
    if (frame->is_command)
        rc = take_command(f, frame);
    else if (f->state == OPEN)
        is_done = hp_messages_add(&f->messages, f->buf + f->start, frame, f->now_ns);
    else
        rc = -HP_EZMTP_PROTOCOL;
    /* libzmq may put a PONG between the frames of a message: then it stays until that is whole. */
    if (is_done)
        f->start = f->at;
    return rc;
}

static int take_frames(hp_feed *f)
{
    hp_zmtp_frame frame;
    for (;;) {
        int64_t n = hp_zmtp_parse_frame(f->buf + f->at, f->end - f->at, HP_TX_BYTES_MAX, &frame);
        if (n <= 0)
            return (int)n;
        f->at += (size_t)n;
        int rc = take_frame(f, &frame);
        if (rc < 0)
            return rc;
    }
}

/* So that RECV_BYTES fit behind what must be kept. That is moved when it is no more than what was
 * used up, so that no byte costs more than one move; or, with a transaction of megabytes, when it
 * must. */
static void make_room(hp_feed *f)
{
    if (f->end - f->start > HP_MESSAGE_BYTES_MAX) {
        hp_messages_abandon(&f->messages);
        f->start = f->at;
    }
    size_t kept = f->end - f->start;
    if (f->start < kept && BUFFER_BYTES - f->end >= RECV_BYTES)
        return;
    memmove(f->buf, f->buf + f->start, kept);
    f->at -= f->start;
    f->start = 0;
    f->end = kept;
}

/* Or every receive would end with sending one, which over loopback takes longer than all that we do
 * with the message. The kernel forgets it when it had to (tcp(7), TCP_QUICKACK). */
static void delay_acknowledgements(const hp_feed *f)
{
    int quick = 0;
    setsockopt(hp_io_fd(f->io, f->port), IPPROTO_TCP, TCP_QUICKACK, &quick, sizeof quick);
}

static int take_bytes(hp_feed *f, int32_t n)
{
    if (n <= 0)
        return n == 0 ? -HP_ECONN_CLOSED : n;
    f->end += (size_t)n;
    f->heard_ns = f->now_ns;
    f->pinged = 0;
    int rc = f->state < HANDSHAKE ? take_greeting(f) : 0;
    if (rc == 0 && f->state >= HANDSHAKE)
        rc = take_frames(f);
    if (rc == 0 && f->owes_pong)
        rc = answer_ping(f);
    if (rc < 0)
        return rc;
    make_room(f);
    delay_acknowledgements(f);
    return receive_more(f);
}

static void receive(hp_feed *f)
{
    int32_t n;
    int rc = hp_io_received(f->io, f->port, &n);
    f->is_drained = rc == 0;
    if (rc > 0)
        rc = take_bytes(f, n);
    if (rc == 0 && f->now_ns >= f->due_ns)
        rc = f->state == OPEN       ? beat(f)
             : f->state == RETICENT ? say_all_of_greeting(f)
                                    : -HP_ETIME_OUT;
    if (rc < 0)
        fail(f, rc);
}

/* ---- for the owner -------------------------------------------------------------------------- */

int hp_feed_work(hp_feed *f, int64_t now_ns)
{
    f->now_ns = now_ns;
    f->messages.handed_on = 0;
    if (now_ns >= f->messages.notes_due_ns)
        hp_messages_renew_notes(&f->messages, now_ns);
    if (f->state >= RETICENT)
        receive(f);
    else if (f->state == CONNECTING)
        connecting(f);
    else if (now_ns >= f->due_ns)
        start_connect(f);
    return f->messages.handed_on;
}

int hp_feed_is_drained(const hp_feed *f)
{
    return f->is_drained;
}

int64_t hp_feed_next_ns(const hp_feed *f)
{
    int has_sums = f->messages.notes_left == 0;
    return has_sums && f->messages.notes_due_ns < f->due_ns ? f->messages.notes_due_ns : f->due_ns;
}

static int set_address(hp_feed *f, const hp_feed_address *address)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(address->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(address->port)};
    const void *chosen;
    if (address->path) {
        if (strlen(address->path) >= sizeof un.sun_path)
            return 0;
        memcpy(un.sun_path, address->path, strlen(address->path));
        chosen = &un;
        f->address_len = sizeof un;
    } else if (!address->ip) {
        return 0;
    } else if (inet_pton(AF_INET, address->ip, &v4.sin_addr) == 1) {
        chosen = &v4;
        f->address_len = sizeof v4;
    } else if (inet_pton(AF_INET6, address->ip, &v6.sin6_addr) == 1) {
        chosen = &v6;
        f->address_len = sizeof v6;
    } else {
        return 0;
    }
    memcpy(&f->address, chosen, f->address_len);
    return 1;
}

hp_feed *hp_feed_new(hp_io *io, int endpoint, const hp_feed_address *address,
                     const hp_feed_door *door, uint64_t random_seed)
{
    size_t name_bytes = strlen(address->name) + 1;
    hp_feed *f = calloc(1, sizeof *f + name_bytes);
    if (!f)
        return NULL;
    f->port = -1;
    f->buf = malloc(BUFFER_BYTES);
    if (!f->buf || !set_address(f, address)) {
        hp_feed_free(f);
        return NULL;
    }
    memset(f->buf, 0, BUFFER_BYTES); /* its pages are there before the first large transaction */
    memcpy(f->name, address->name, name_bytes);
    f->io = io;
    f->messages.endpoint = endpoint;
    f->messages.name = f->name;
    f->messages.door = *door;
    f->messages.wants_sequence = address->sequence;
    f->random = random_seed;
    f->retry_ns = RETRY_MIN_NS;
    return f;
}

void hp_feed_leave(hp_feed *f)
{
    let_go(f);
    f->state = WAITING;
    f->due_ns = 0;
}

void hp_feed_free(hp_feed *f)
{
    if (!f || let_go(f) < 0) /* rather a leak than a receive into memory that is somebody else's */
        return;
    free(f->buf);
    free(f);
}
