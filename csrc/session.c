/* The state machine of one venue connection. Everything happens inside the calls of its owner. */
#include "session.h"

#include "incoming.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define RECV_BYTES 32768
#define MASK_POOL 4096
#define CLOSE_WAIT_NS INT64_C(500000000)
#define RETRY_NS INT64_C(1000000) /* to send what a full socket did not take */
#define ROUNDS_MOST 4 /* receives in a row: a flooding venue may not keep us from the feed */
#define REASON_BYTES 512

/* FAILED: over, nothing is read or written any more; it is cleaned up off the way of an order. */
enum step { CLOSED = 0, CONNECTING, SHAKING, UPGRADING, OPEN, CLOSING, FAILED };

_Static_assert(HP_FRAME_BYTES_MAX >= HP_ORDER_BYTES_MAX + HP_WS_HEADER_MAX, "an order fits");
_Static_assert(REASON_BYTES >= 128 + HP_WS_CONTROL_MAX, "a Close frame's reason fits behind ours");

struct hp_session {
    hp_io *io;
    hp_stats *stats;
    hp_tls *tls;
    hp_opening *opening; /* has the TLS */
    hp_laid_down *laid_down;
    hp_on_text on_text;
    void *context;
    int64_t send_timeout_ns;
    hp_incoming in;
    int64_t deadline_ns; /* of the opening or closing */
    int64_t send_by_ns;  /* the socket is full: when it has to have room again; else 0 */
    int64_t retry_ns;
    int number;          /* of HP_SESSIONS */
    int port;            /* of `io`, or -1 */
    hp_ws_answer answer; /* to the upgrade */
    uint8_t step;        /* enum step */
    int error;           /* of the last end; 0: ours */
    uint8_t cannot_arm;  /* this TLS session's records are OpenSSL's to make */
    uint8_t ping_waits;  /* for its Pong */
    uint8_t ping_len;
    uint8_t ping[HP_WS_CONTROL_MAX];
    size_t mask_at;
    uint8_t masks[MASK_POOL];
    uint8_t frame[HP_FRAME_BYTES_MAX];
    uint8_t received[RECV_BYTES];
    char reason[REASON_BYTES];
};

hp_session *hp_session_new(int number, hp_io *io, hp_stats *stats, hp_laid_down *laid_down,
                           uint32_t message_bytes_max, uint64_t send_timeout_ns,
                           hp_on_text on_text, void *context)
{
    hp_session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->number = number;
    s->io = io;
    s->stats = stats;
    s->laid_down = laid_down;
    s->send_timeout_ns = (int64_t)send_timeout_ns;
    s->on_text = on_text;
    s->context = context;
    s->port = -1;
    s->mask_at = MASK_POOL;
    if (hp_incoming_init(&s->in, message_bytes_max) < 0) {
        hp_session_free(s);
        return NULL;
    }
    return s;
}

/* Give up the connection at once; the reason stays. 0, or what hp_io_detach() says. */
static int drop(hp_session *s)
{
    int rc = s->port >= 0 ? hp_io_detach(s->io, s->port) : 0;
    s->step = CLOSED;
    s->port = -1;
    s->send_by_ns = 0;
    s->tls = NULL;
    hp_opening_lay_down(s->laid_down, s->opening);
    s->opening = NULL;
    return rc;
}

void hp_session_free(hp_session *s)
{
    if (!s || drop(s) < 0) /* rather a leak than a receive into memory that is somebody else's */
        return;
    hp_incoming_free(&s->in);
    free(s);
}

static void we_closed(hp_session *s)
{
    s->error = 0;
    snprintf(s->reason, sizeof s->reason, "we closed the connection");
    drop(s);
}

/* Of what we are closing anyway, nothing more can fail. What takes time is clean_up()'s: an order
 * may be waiting to go elsewhere. */
static int fail(hp_session *s, int rc, const char *what)
{
    if (s->step == CLOSING) {
        we_closed(s);
        return rc;
    }
    s->step = FAILED;
    s->send_by_ns = 0;
    s->error = rc;
    const char *words = s->tls ? hp_tls_reason(s->tls) : "";
    snprintf(s->reason, sizeof s->reason, "%s: %s%s%s", what, hp_strerror(rc), *words ? ": " : "",
             words);
    return rc;
}

static void clean_up(hp_session *s)
{
    if (s->step == FAILED)
        drop(s);
}

/* ---- bytes out ------------------------------------------------------------------------------ */

/* The socket has taken all there is, or it is full. */
static void note_room(hp_session *s, int is_full)
{
    if (!is_full) {
        s->send_by_ns = 0;
        return;
    }
    int64_t now_ns = hp_now_ns();
    s->retry_ns = now_ns + RETRY_NS;
    if (!s->send_by_ns)
        s->send_by_ns = now_ns + s->send_timeout_ns;
}

/* One send: how many bytes have left by it, or an error. */
static int send_ciphertext(hp_session *s)
{
    const uint8_t *data;
    int len = hp_tls_output(s->tls, &data);
    if (len <= 0)
        return 0;
    int sent = hp_io_try_send(s->io, s->port, data, (size_t)len);
    if (sent < 0)
        return sent;
    hp_tls_sent(s->tls, (size_t)sent);
    s->stats->bytes_sent += (uint64_t)sent;
    note_room(s, sent < len);
    return sent;
}

static int flush(hp_session *s)
{
    int rc = send_ciphertext(s);
    return rc < 0 ? fail(s, rc, "sending to the venue") : 0;
}

/* What a full socket has left over, which may be nothing. */
static int send_rest(hp_session *s)
{
    const uint8_t *data;
    int64_t now_ns = hp_now_ns();
    int rc = 0;
    if (now_ns < s->retry_ns)
        return 0;
    if (hp_tls_output(s->tls, &data) > 0)
        rc = send_ciphertext(s);
    else
        note_room(s, !hp_io_has_room(s->io, s->port));
    if (rc >= 0 && s->send_by_ns && now_ns >= s->send_by_ns)
        rc = -HP_ETIME_OUT;
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

int hp_session_frame(hp_session *s, int opcode, const uint8_t *payload, size_t len, uint8_t *out,
                     size_t cap)
{
    if (cap < HP_WS_HEADER_MAX || len > cap - HP_WS_HEADER_MAX)
        return -ENOSPC;
    const uint8_t *mask = next_mask(s);
    if (!mask)
        return -ENOSYS;
    int header = hp_ws_header(out, opcode, len, mask);
    memcpy(out + header, payload, len);
    hp_ws_mask(out + header, len, mask);
    return header + (int)len;
}

static int seal(hp_session *s, const uint8_t *frame, size_t len)
{
    int rc = hp_tls_seal(s->tls, frame, len);
    return rc < 0 ? fail(s, rc, "sealing for the venue") : 0;
}

/* A control frame: where the socket is full, it waits for room. */
static int send_control(hp_session *s, int opcode, const uint8_t *payload, size_t len)
{
    int n = hp_session_frame(s, opcode, payload, len, s->frame, sizeof s->frame);
    if (n < 0)
        return n;
    int rc = seal(s, s->frame, (size_t)n);
    return rc < 0 ? rc : flush(s);
}

int hp_session_has_room(hp_session *s)
{
    int has_room = hp_io_has_room(s->io, s->port);
    if (!has_room)
        note_room(s, 1);
    return has_room;
}

/* What is sealed has its record number and cannot be taken back. */
int hp_session_seal(hp_session *s, const uint8_t *frame, size_t len)
{
    return hp_session_has_room(s) ? seal(s, frame, len) : -EAGAIN;
}

/* Should it take nothing all the same, the session ends and what is sealed with it: an order must
 * not leave later, when it is on the other session or killed. */
int hp_session_flush(hp_session *s)
{
    int sent = send_ciphertext(s);
    return sent > 0 ? 0 : fail(s, sent < 0 ? sent : -EAGAIN, "sending to the venue");
}

/* ---- sealed ahead ---------------------------------------------------------------------------- */

int hp_session_can_arm(const hp_session *s)
{
    return hp_session_can_send(s) && !s->cannot_arm;
}

int hp_session_arm(hp_session *s, int slot, const uint8_t *frame, size_t len)
{
    int rc = hp_tls_seal_ahead(s->tls, slot, frame, len);
    s->cannot_arm = rc == 0;
    if (rc < 0)
        return fail(s, rc, "sealing for the venue");
    if (rc == 1 && !hp_session_is_armed(s, slot) && flush(s) < 0) /* a KeyUpdate */
        return s->error;
    return rc;
}

int hp_session_is_armed(const hp_session *s, int slot)
{
    const uint8_t *record;
    return s->step == OPEN && hp_tls_sealed(s->tls, slot, &record) > 0;
}

/* From the moment that some of the record may have left to the commit there is no way out. */
int hp_session_fire(hp_session *s, int slot, int64_t *now_ns)
{
    const uint8_t *record;
    int len = hp_tls_sealed(s->tls, slot, &record);
    if (len <= 0)
        return -HP_ENOT_READY;
    int sent = hp_io_try_send(s->io, s->port, record, (size_t)len);
    *now_ns = hp_now_ns();
    if (sent < 0)
        return fail(s, sent, "sending to the venue");
    if (sent < len)
        note_room(s, 1);
    if (sent == 0)
        return -EAGAIN;
    hp_tls_commit(s->tls, slot, (size_t)sent);
    s->stats->bytes_sent += (uint64_t)sent;
    return 0;
}

void hp_session_spoil(hp_session *s, int slot)
{
    if (s->step == OPEN)
        hp_tls_spoil(s->tls, slot);
}

void hp_session_disarm(hp_session *s)
{
    if (s->step == OPEN)
        hp_tls_discard(s->tls);
}

static int send_close(hp_session *s, int code)
{
    uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    return send_control(s, HP_WS_CLOSE, payload, sizeof payload);
}

/* ---- bytes in ------------------------------------------------------------------------------- */

static int start_recv(hp_session *s)
{
    return hp_io_start_recv(s->io, s->port, s->received, sizeof s->received);
}

/* Ciphertext into TLS: 1 something came, 0 nothing yet, or an error. */
static int receive(hp_session *s)
{
    int32_t n;
    if (!hp_io_received(s->io, s->port, &n))
        return 0;
    if (n <= 0)
        return n == 0 ? -HP_ECONN_CLOSED : n;
    s->stats->bytes_received += (uint64_t)n;
    int rc = hp_tls_input(s->tls, s->received, (size_t)n);
    if (rc < 0)
        return rc;
    rc = start_recv(s);
    return rc < 0 ? rc : 1;
}

static int broken(hp_session *s, int rc, const hp_heard *wrong)
{
    if (s->step != CLOSING)
        send_close(s, wrong->close_code); /* may fail; what the peer did stays the reason */
    return fail(s, rc, wrong->what);
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
static void take_leave(hp_session *s)
{
    if (s->tls && s->step != FAILED) {
        hp_tls_close(s->tls);
        send_ciphertext(s);
    }
}

static void leave(hp_session *s)
{
    take_leave(s);
    we_closed(s);
}

/* The peer's Close: answer once (RFC 6455 5.5.1), say what it said, and leave. */
static int closed_by_peer(hp_session *s, const hp_heard *close)
{
    if (s->step == CLOSING) {
        leave(s);
        return -HP_ECONN_CLOSED;
    }
    send_close(s, close->close_code);
    take_leave(s);
    drop(s);
    s->error = -HP_ECONN_CLOSED;
    int n = snprintf(s->reason, sizeof s->reason, "the server closed the WebSocket (code %d)%s",
                     close->close_code, close->len ? ": " : "");
    put_words(s->reason + n, close->bytes, close->len);
    return -HP_ECONN_CLOSED;
}

/* What has come, as far as it is whole. */
static int hear(hp_session *s)
{
    hp_heard heard;
    int what;
    while ((what = hp_incoming_next(&s->in, &heard)) > 0) {
        if (what == HP_WS_CLOSE)
            return closed_by_peer(s, &heard);
        if (what == HP_WS_TEXT) {
            s->on_text(s->context, s->number, heard.bytes, heard.len);
            continue;
        }
        s->ping_waits = 1;
        s->ping_len = (uint8_t)heard.len;
        memcpy(s->ping, heard.bytes, heard.len);
    }
    return what < 0 ? broken(s, what, &heard) : 0;
}

/* As hp_tls_read(). */
static int read_plaintext(hp_session *s)
{
    size_t room;
    uint8_t *into = hp_incoming_room(&s->in, &room);
    int n = hp_tls_read(s->tls, into, room);
    if (n > 0)
        hp_incoming_add(&s->in, (size_t)n);
    return n;
}

static int drain(hp_session *s)
{
    int n;
    while ((n = read_plaintext(s)) > 0) {
        int rc = hear(s);
        if (rc < 0)
            return rc;
    }
    return n < 0 ? fail(s, n, "reading from the venue") : 0;
}

/* One Pong, for the latest Ping: RFC 6455 5.5.3 allows that, and a flood of Pings cannot hold us;
 * nor can they fill up what waits for a full socket. TLS may have an answer of its own, such as a
 * KeyUpdate. */
static int answer(hp_session *s)
{
    if (s->send_by_ns)
        return send_rest(s);
    if (!s->ping_waits || s->step != OPEN)
        return flush(s);
    s->ping_waits = 0;
    s->stats->pings_answered++;
    return send_control(s, HP_WS_PONG, s->ping, s->ping_len);
}

static int read_and_answer(hp_session *s)
{
    for (int round = 0; round < ROUNDS_MOST; round++) {
        int rc = receive(s);
        if (rc == 0)
            break;
        rc = rc > 0 ? drain(s) : fail(s, rc, "reading from the venue");
        if (rc < 0)
            return rc;
    }
    return answer(s);
}

/* ---- opening -------------------------------------------------------------------------------- */

/* One step of TLS with what has come: 1 done, 0 more is needed, or an error. */
static int shake(hp_session *s)
{
    int rc = hp_tls_handshake(s->tls);
    int sent = send_ciphertext(s); /* an alert must leave even when the handshake failed */
    return rc >= 0 && sent < 0 ? sent : rc;
}

static int ask_for_upgrade(hp_session *s)
{
    const hp_opening *opening = s->opening;
    int rc = hp_tls_seal(s->tls, (const uint8_t *)opening->request, opening->request_len);
    return rc < 0 ? rc : send_ciphertext(s);
}

/* 1 upgraded, 0 more is needed, or an error. */
static int hear_answer(hp_session *s)
{
    int n;
    while ((n = read_plaintext(s)) > 0) {
        int used = hp_ws_response(s->in.bytes, s->in.len, s->opening->key, &s->answer);
        if (used < 0)
            return used;
        if (used > 0) {
            hp_incoming_skip(&s->in, (size_t)used);
            return 1;
        }
    }
    return n;
}

/* As far as what has come allows: 1 upgraded, 0 more is needed, or an error. */
static int advance(hp_session *s)
{
    if (s->step == SHAKING) {
        int rc = shake(s);
        if (rc <= 0)
            return rc;
        s->step = UPGRADING;
        rc = ask_for_upgrade(s);
        if (rc < 0)
            return rc;
    }
    return hear_answer(s);
}

static int open_further(hp_session *s)
{
    int rc = 0;
    if (s->step == CONNECTING) {
        rc = hp_io_connected(s->io, s->port);
        if (rc <= 0)
            return rc;
        s->step = SHAKING;
        rc = start_recv(s);
        if (rc == 0)
            rc = advance(s);
    }
    for (int round = 0; rc == 0 && round < ROUNDS_MOST; round++) {
        rc = receive(s);
        if (rc <= 0)
            return rc;
        rc = advance(s);
    }
    return rc;
}

static int fail_to_open(hp_session *s, int rc)
{
    char what[256];
    if (s->step == UPGRADING) {
        int n = snprintf(what, sizeof what, "WebSocket upgrade of %s, path %s",
                         s->opening->peer, s->opening->path);
        size_t room = sizeof what - (size_t)n;
        if (s->answer.retry_after_s)
            snprintf(what + n, room, " (HTTP status %d, retry after %u s)", s->answer.status,
                     s->answer.retry_after_s);
        else if (s->answer.status)
            snprintf(what + n, room, " (HTTP status %d)", s->answer.status);
    } else {
        snprintf(what, sizeof what, "%s %s", s->step == SHAKING ? "TLS with" : "connecting to",
                 s->opening->peer);
    }
    return fail(s, rc, what);
}

int hp_session_start(hp_session *s, hp_opening *opening)
{
    s->opening = opening;
    s->tls = opening->tls;
    s->deadline_ns = hp_now_ns() + opening->timeout_ns;
    hp_incoming_restart(&s->in);
    s->answer = (hp_ws_answer){0};
    s->ping_waits = 0;
    s->reason[0] = '\0';
    s->cannot_arm = 0;
    s->step = CONNECTING;
    s->port = hp_opening_connect(opening, s->io);
    int rc = s->port < 0 ? fail_to_open(s, s->port) : 0;
    clean_up(s);
    return rc;
}

static int on_open(hp_session *s)
{
    s->step = OPEN;
    int rc = hear(s); /* what came behind the answer */
    if (rc == 0)
        rc = drain(s);
    return rc < 0 ? rc : answer(s);
}

static int close_further(hp_session *s)
{
    int rc = read_and_answer(s);
    if (rc == 0 && hp_now_ns() >= s->deadline_ns)
        leave(s);
    return rc;
}

static int work(hp_session *s)
{
    if (s->step == OPEN)
        return read_and_answer(s);
    if (s->step == CLOSING)
        return close_further(s);
    int rc = open_further(s);
    if (rc == 0 && hp_now_ns() >= s->deadline_ns)
        rc = -HP_ETIME_OUT;
    if (rc < 0)
        return fail_to_open(s, rc);
    return rc > 0 ? on_open(s) : 0;
}

int hp_session_work(hp_session *s)
{
    if (s->step == CLOSED)
        return -HP_ENOT_READY;
    int rc = s->step == FAILED ? s->error : work(s);
    clean_up(s);
    return rc;
}

int64_t hp_session_next_ns(const hp_session *s)
{
    if (s->step == FAILED)
        return 0;
    int64_t next_ns = s->step == CLOSED || s->step == OPEN ? INT64_MAX : s->deadline_ns;
    return s->send_by_ns && s->retry_ns < next_ns ? s->retry_ns : next_ns;
}

int hp_session_is_opening(const hp_session *s)
{
    return s->step == CONNECTING || s->step == SHAKING || s->step == UPGRADING;
}

int hp_session_is_open(const hp_session *s)
{
    return s->step == OPEN;
}

int hp_session_is_closed(const hp_session *s)
{
    return s->step == CLOSED;
}

int hp_session_can_send(const hp_session *s)
{
    return s->step == OPEN && !s->send_by_ns;
}

/* Who tells us to stop wakes us, too. */
int hp_session_settle(hp_session *s)
{
    clean_up(s);
    while (s->step != CLOSED && s->step != OPEN) {
        int rc = hp_io_wait(s->io, hp_session_next_ns(s) - hp_now_ns());
        if (rc == 0 && atomic_load_explicit(s->io->aborted, memory_order_acquire))
            rc = -ECANCELED;
        if (rc == 0)
            hp_session_work(s);
        else if (s->step == CLOSING)
            leave(s);
        else
            fail_to_open(s, rc);
        clean_up(s);
    }
    return s->step == OPEN ? 0 : s->error;
}

int hp_session_send_text(hp_session *s, const uint8_t *text, size_t len)
{
    if (s->step != OPEN)
        return -HP_ENOT_READY;
    if (s->send_by_ns)
        return -EAGAIN;
    int n = hp_session_frame(s, HP_WS_TEXT, text, len, s->frame, sizeof s->frame);
    if (n < 0)
        return n;
    int rc = hp_session_seal(s, s->frame, (size_t)n);
    return rc < 0 ? rc : hp_session_flush(s);
}

void hp_session_touch(hp_session *s)
{
    if (s->step != OPEN)
        return;
    struct tcp_info info;
    socklen_t len = sizeof info;
    getsockopt(hp_io_fd(s->io, s->port), IPPROTO_TCP, TCP_INFO, &info, &len);
    if (s->tls)
        hp_tls_touch(s->tls);
}

void hp_session_close(hp_session *s)
{
    if (s->step == CLOSED || s->step == CLOSING || s->step == FAILED)
        return;
    if (s->step == OPEN && send_close(s, HP_CLOSE_NORMAL) == 0) {
        s->step = CLOSING;
        s->deadline_ns = hp_now_ns() + CLOSE_WAIT_NS;
    } else {
        leave(s);
    }
}

void hp_session_abandon(hp_session *s)
{
    if (s->step != CLOSED && s->step != FAILED)
        fail(s, -ECANCELED, "waiting for the venue");
    clean_up(s);
}

int hp_session_error(const hp_session *s)
{
    return s->error;
}

const char *hp_session_reason(const hp_session *s)
{
    return s->reason;
}

const char *hp_session_cipher(hp_session *s)
{
    return s->tls ? hp_tls_cipher(s->tls) : "";
}
