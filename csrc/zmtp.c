/* zmtp.c: the SUB end of ZMTP 3.0 and 3.1 with the NULL mechanism, bytes in and bytes out. Rules
 * are cited from rfc.zeromq.org 37 (ZMTP 3.1); 23 is 3.0. */
#include "bytes.h"
#include "harpoon.h"

#include <errno.h>
#include <string.h>

/* Flags of a frame (37, Framing); bits 7-3 are reserved and zero. */
#define MORE 0x01
#define LONG 0x02
#define COMMAND 0x04
#define FLAGS (MORE | LONG | COMMAND)

#define SHORT_HEADER 2
#define LONG_HEADER 9

/* Places in the greeting (37, Formal Grammar). */
#define SIGNATURE_END_AT 9
#define MAJOR_AT 10
#define MINOR_AT 11
#define MECHANISM_AT 12
#define MECHANISM_BYTES 20
#define MECHANISM_END (MECHANISM_AT + MECHANISM_BYTES)

static const char mechanism_null[MECHANISM_BYTES] = "NULL";

/* ---- greeting ------------------------------------------------------------------------------- */

void hp_zmtp_greeting(uint8_t out[64])
{
    memset(out, 0, HP_ZMTP_GREETING_BYTES);
    out[0] = 0xff;
    out[SIGNATURE_END_AT] = 0x7f;
    out[MAJOR_AT] = 3;
    out[MINOR_AT] = 1;
    memcpy(out + MECHANISM_AT, mechanism_null, MECHANISM_BYTES);
}

static char printable_mechanism_char(uint8_t c)
{
    int good = (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("-_.+", c));
    return good || !c ? (char)c : '?';
}

int hp_zmtp_parse_greeting(const uint8_t *buf, size_t len, hp_zmtp_peer *peer)
{
    memset(peer, 0, sizeof *peer);
    if ((len > 0 && buf[0] != 0xff) || (len > SIGNATURE_END_AT && buf[SIGNATURE_END_AT] != 0x7f))
        return -HP_EZMTP;
    if (len <= MAJOR_AT)
        return 0;
    peer->major = buf[MAJOR_AT];
    if (peer->major < 3) /* its greeting is shorter than ours: there is no waiting for the rest */
        return -HP_EZMTP_VERSION;
    if (len < MECHANISM_END)
        return 0;
    peer->minor = buf[MINOR_AT];
    for (size_t i = 0; i < MECHANISM_BYTES; i++)
        peer->mechanism[i] = printable_mechanism_char(buf[MECHANISM_AT + i]);
    if (memcmp(buf + MECHANISM_AT, mechanism_null, MECHANISM_BYTES) != 0)
        return -HP_EZMTP_MECHANISM;
    return len < HP_ZMTP_GREETING_BYTES ? 0 : HP_ZMTP_GREETING_BYTES;
}

/* ---- frames in ------------------------------------------------------------------------------ */

int64_t hp_zmtp_parse_frame(const uint8_t *buf, size_t len, uint64_t body_max,
                            hp_zmtp_frame *frame)
{
    if (len == 0)
        return 0;
    uint8_t flags = buf[0];
    if (flags & ~FLAGS || (flags & (COMMAND | MORE)) == (COMMAND | MORE))
        return -HP_EZMTP_PROTOCOL;
    size_t header = flags & LONG ? LONG_HEADER : SHORT_HEADER;
    if (len < header)
        return 0;
    uint64_t body_len = flags & LONG ? hp_be64(buf + 1) : buf[1];
    if (body_len > INT64_MAX)
        return -HP_EZMTP_PROTOCOL;
    if (body_len > body_max)
        return -HP_EZMTP_TOO_BIG;
    if (body_len > len - header)
        return 0;
    frame->body = buf + header;
    frame->body_len = body_len;
    frame->more = flags & MORE;
    frame->is_command = (flags & COMMAND) != 0;
    return (int64_t)(header + body_len);
}

static int is_letter(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

int hp_zmtp_parse_command(const uint8_t *body, uint64_t len, hp_zmtp_command *command)
{
    if (len == 0 || body[0] == 0 || body[0] > len - 1)
        return -HP_EZMTP_PROTOCOL;
    for (size_t i = 1; i <= body[0]; i++)
        if (!is_letter(body[i]))
            return -HP_EZMTP_PROTOCOL;
    command->name_len = body[0];
    command->name = body + 1;
    command->data = command->name + command->name_len;
    command->data_len = len - 1 - command->name_len;
    return 0;
}

/* 37, Connection Metadata: names are case-insensitive. */
static int is_named(const uint8_t *name, size_t len, const char *wanted)
{
    if (len != strlen(wanted))
        return 0;
    for (size_t i = 0; i < len; i++) {
        uint8_t a = name[i], b = (uint8_t)wanted[i];
        if (a != b && !(is_letter(a) && is_letter(b) && (a ^ b) == 0x20))
            return 0;
    }
    return 1;
}

int hp_zmtp_property(const uint8_t *data, uint64_t len, const char *name, const uint8_t **value,
                     uint64_t *value_len)
{
    int found = 0;
    while (len > 0) {
        size_t name_len = data[0];
        if (name_len == 0 || len < 1 + name_len + 4)
            return -HP_EZMTP_PROTOCOL;
        const uint8_t *after = data + 1 + name_len + 4;
        uint32_t size = hp_be32(after - 4);
        len -= 1 + name_len + 4;
        if (size > INT32_MAX || size > len)
            return -HP_EZMTP_PROTOCOL;
        if (!found && is_named(data + 1, name_len, name)) {
            *value = after;
            *value_len = size;
            found = 1;
        }
        data = after + size;
        len -= size;
    }
    return found;
}

/* ---- frames out ----------------------------------------------------------------------------- */

/* The caller has seen to it that the whole fits into HP_ZMTP_COMMAND_BYTES_MAX. */
static int put_command(uint8_t *out, const char *name, const void *data, size_t len)
{
    size_t name_len = strlen(name);
    out[0] = COMMAND;
    out[1] = (uint8_t)(1 + name_len + len);
    out[2] = (uint8_t)name_len;
    memcpy(out + 3, name, name_len);
    if (len > 0)
        memcpy(out + 3 + name_len, data, len);
    return (int)(3 + name_len + len);
}

int hp_zmtp_ready(uint8_t out[64])
{
    static const char metadata[] = "\x0bSocket-Type\0\0\0\x03SUB";
    return put_command(out, "READY", metadata, sizeof metadata - 1);
}

int hp_zmtp_subscribe(uint8_t out[64], const hp_zmtp_peer *peer, const char *topic)
{
    size_t len = strlen(topic);
    if (len > HP_ZMTP_TOPIC_MAX)
        return -EINVAL;
    if (peer->major > 3 || peer->minor > 0)
        return put_command(out, "SUBSCRIBE", topic, len);
    out[0] = 0; /* 23, The Publish-Subscribe Pattern: a message, not a command */
    out[1] = (uint8_t)(1 + len);
    out[2] = 1;
    memcpy(out + 3, topic, len);
    return (int)(3 + len);
}

/* libzmq takes a time to live as a promise of further PINGs, which a peer that is not silent does
 * not get from us. */
int hp_zmtp_ping(uint8_t out[64])
{
    static const uint8_t no_time_to_live[2];
    return put_command(out, "PING", no_time_to_live, sizeof no_time_to_live);
}

int hp_zmtp_pong(uint8_t out[64], const uint8_t *context, size_t len)
{
    if (len > HP_ZMTP_CONTEXT_MAX)
        return -EINVAL;
    return put_command(out, "PONG", context, len);
}
