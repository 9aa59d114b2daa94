#include "incoming.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLACK 16384 /* one TLS record behind a whole message */

int hp_incoming_init(hp_incoming *in, uint32_t message_bytes_max)
{
    memset(in, 0, sizeof *in);
    in->message_bytes_max = message_bytes_max;
    in->cap = (size_t)message_bytes_max + HP_WS_HEADER_MAX + SLACK;
    in->bytes = malloc(in->cap);
    in->message = malloc(message_bytes_max);
    return in->bytes && in->message ? 0 : -ENOMEM;
}

void hp_incoming_free(hp_incoming *in)
{
    free(in->bytes);
    free(in->message);
}

void hp_incoming_restart(hp_incoming *in)
{
    in->len = in->at = 0;
    in->in_message = 0;
}

uint8_t *hp_incoming_room(const hp_incoming *in, size_t *room)
{
    *room = in->cap - in->len;
    return in->bytes + in->len;
}

void hp_incoming_add(hp_incoming *in, size_t n)
{
    in->len += n;
}

void hp_incoming_skip(hp_incoming *in, size_t n)
{
    in->at += n;
}

static int wrong(hp_heard *heard, int rc, int close_code, const char *what)
{
    heard->close_code = close_code;
    heard->what = what;
    return rc;
}

/* RFC 6455 7.4: what an endpoint may put in a Close frame. */
static int is_close_code(int code)
{
    return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
           (code >= 3000 && code <= 4999);
}

static int on_close(const hp_ws_frame *f, hp_heard *heard)
{
    heard->close_code =
        f->payload_len >= 2 ? f->payload[0] << 8 | f->payload[1] : HP_CLOSE_NORMAL;
    heard->len = f->payload_len > 2 ? f->payload_len - 2 : 0;
    heard->bytes = f->payload + f->payload_len - heard->len;
    if (f->payload_len == 1 || !is_close_code(heard->close_code) ||
        !hp_utf8_valid(heard->bytes, heard->len))
        return wrong(heard, -HP_EWS_PROTOCOL, HP_CLOSE_PROTOCOL, "a malformed Close frame");
    return HP_WS_CLOSE;
}

static int on_text(const uint8_t *text, size_t len, hp_heard *heard)
{
    heard->bytes = text;
    heard->len = len;
    if (!hp_utf8_valid(text, len))
        return wrong(heard, -HP_EWS_UTF8, HP_CLOSE_INVALID_DATA, "reading from the venue");
    return HP_WS_TEXT;
}

/* A text message in one frame or in several: 0 when it is not whole yet. */
static int on_data(hp_incoming *in, const hp_ws_frame *f, hp_heard *heard)
{
    int continues = f->opcode == HP_WS_CONTINUATION;
    if (continues != in->in_message)
        return wrong(heard, -HP_EWS_PROTOCOL, HP_CLOSE_PROTOCOL, "fragments out of order");
    if (!continues && f->fin)
        return on_text(f->payload, f->payload_len, heard);
    if (!continues)
        in->message_len = 0;
    if (f->payload_len > in->message_bytes_max - in->message_len)
        return wrong(heard, -HP_EWS_TOO_BIG, HP_CLOSE_TOO_BIG, "joining fragments");
    memcpy(in->message + in->message_len, f->payload, f->payload_len);
    in->message_len += f->payload_len;
    in->in_message = !f->fin;
    return f->fin ? on_text(in->message, in->message_len, heard) : 0;
}

static int on_frame(hp_incoming *in, const hp_ws_frame *f, hp_heard *heard)
{
    switch (f->opcode) {
    case HP_WS_PING:
        heard->bytes = f->payload;
        heard->len = f->payload_len;
        return HP_WS_PING;
    case HP_WS_PONG:
        return 0;
    case HP_WS_CLOSE:
        return on_close(f, heard);
    case HP_WS_BINARY:
        return wrong(heard, -HP_EWS_PROTOCOL, HP_CLOSE_UNSUPPORTED, "a binary message");
    default:
        return on_data(in, f, heard);
    }
}

/* Only when all whole frames are taken, else what follows would be moved for each of them; and not
 * when none was, else a long message in short records would be moved onto itself for each. */
static void move_up(hp_incoming *in)
{
    if (in->at == 0)
        return;
    in->len -= in->at;
    memmove(in->bytes, in->bytes + in->at, in->len);
    in->at = 0;
}

int hp_incoming_next(hp_incoming *in, hp_heard *heard)
{
    int what = 0;
    while (what == 0) {
        hp_ws_frame f;
        int64_t n = hp_ws_parse(in->bytes + in->at, in->len - in->at, in->message_bytes_max, &f);
        if (n < 0)
            return wrong(heard, (int)n,
                         n == -HP_EWS_TOO_BIG ? HP_CLOSE_TOO_BIG : HP_CLOSE_PROTOCOL,
                         "reading from the venue");
        if (n == 0) {
            move_up(in);
            return 0;
        }
        in->at += (size_t)n;
        what = on_frame(in, &f, heard);
    }
    return what;
}
