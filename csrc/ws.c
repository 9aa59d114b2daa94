/* ws.c: the client's half of RFC 6455, bytes in and bytes out: the opening handshake and single
 * frames. Putting fragments together, and answering, is the session's work. */
#include "harpoon.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/sha.h>

#define RETRY_AFTER_DIGITS_MAX 9 /* 31 years; fits 32 bits */
#define HEADER_BLOCK_MAX 16384 /* status line and fields of the server's answer, in bytes */
#define KEY_TEXT_LEN 24        /* base64 of 16 bytes */
#define ACCEPT_TEXT_LEN 28     /* base64 of a SHA-1 */

/* First byte of a frame, and the escapes of its second (RFC 6455 5.2). */
#define FIN 0x80
#define RSV 0x70
#define OPCODE 0x0f
#define MASKED 0x80
#define LENGTH 0x7f
#define LENGTH_16 126
#define LENGTH_64 127

/* ---- opening handshake (RFC 6455 4) --------------------------------------------------------- */

struct span {
    const char *at;
    size_t len;
};

struct answer { /* what the fields read so far say */
    int upgrade;
    int connection;
    int accept;
};

/* Visible ASCII only: nothing that could end the word or the line it is put into. */
static int is_visible(const char *s)
{
    if (*s == '\0')
        return 0;
    for (; *s != '\0'; s++)
        if (*s < 0x21 || *s > 0x7e)
            return 0;
    return 1;
}

int hp_ws_request(char *out, size_t cap, const char *host, const char *path,
                  const uint8_t key[16])
{
    unsigned char key_text[KEY_TEXT_LEN + 1];
    if (!is_visible(host) || !is_visible(path) || path[0] != '/')
        return -EINVAL;
    EVP_EncodeBlock(key_text, key, 16);
    int n = snprintf(out, cap,
                     "GET %s HTTP/1.1\r\n"
                     "Host: %s\r\n"
                     "Upgrade: websocket\r\n"
                     "Connection: Upgrade\r\n"
                     "Sec-WebSocket-Key: %s\r\n"
                     "Sec-WebSocket-Version: 13\r\n"
                     "\r\n",
                     path, host, (const char *)key_text);
    return n < 0 || (size_t)n >= cap ? -ENOSPC : n;
}

/* Not tolower(): that one follows the process's locale. */
static char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* `word` is lower-case. */
static int equals_nocase(struct span s, const char *word)
{
    if (s.len != strlen(word))
        return 0;
    for (size_t i = 0; i < s.len; i++)
        if (ascii_lower(s.at[i]) != word[i])
            return 0;
    return 1;
}

static struct span trimmed(struct span s)
{
    while (s.len > 0 && (s.at[0] == ' ' || s.at[0] == '\t'))
        s.at++, s.len--;
    while (s.len > 0 && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* Is `word` (lower-case) in a comma-separated list (RFC 9110 5.6.1)? */
static int lists_nocase(struct span list, const char *word)
{
    for (;;) {
        const char *comma = memchr(list.at, ',', list.len);
        struct span item = {list.at, comma ? (size_t)(comma - list.at) : list.len};
        if (equals_nocase(trimmed(item), word))
            return 1;
        if (!comma)
            return 0;
        list.len -= item.len + 1;
        list.at = comma + 1;
    }
}

static int is_token_char(char c) /* RFC 9110 5.6.2 */
{
    char lower = ascii_lower(c);
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* The line at `*at` without its CRLF: 1, 0 when it is not whole, -HP_EWS_UPGRADE when it holds a
 * control character (so no bare CR or LF either) or the block is too long. */
static int next_line(const uint8_t *buf, size_t len, size_t *at, struct span *line)
{
    const uint8_t *start = buf + *at;
    const uint8_t *end = memchr(start, '\n', len - *at);
    if (!end)
        return len == HEADER_BLOCK_MAX ? -HP_EWS_UPGRADE : 0;
    if (end == start || end[-1] != '\r')
        return -HP_EWS_UPGRADE;
    *line = (struct span){(const char *)start, (size_t)(end - 1 - start)};
    for (size_t i = 0; i < line->len; i++)
        if ((start[i] < 0x20 && start[i] != '\t') || start[i] == 0x7f)
            return -HP_EWS_UPGRADE;
    *at = (size_t)(end + 1 - buf);
    return 1;
}

/* The status of "HTTP/1.x NNN" or "HTTP/1.x NNN reason" (RFC 9112 4), 0 when it is no such line. */
static int status_of(struct span line)
{
    static const char shape[] = "HTTP/1.d ddd";
    int status = 0;
    if (line.len < sizeof shape - 1 || (line.len >= sizeof shape && line.at[12] != ' '))
        return 0;
    for (size_t i = 0; i < sizeof shape - 1; i++) {
        char c = line.at[i];
        if (shape[i] == 'd' ? c < '0' || c > '9' : c != shape[i])
            return 0;
        if (i >= 9)
            status = 10 * status + c - '0';
    }
    return status;
}

/* RFC 6455 4.2.2, point 5.4: base64 of SHA-1 of the key's text and a fixed GUID. */
static int accept_matches(struct span value, const uint8_t key[16])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char text[KEY_TEXT_LEN + sizeof guid];
    unsigned char digest[SHA_DIGEST_LENGTH], expected[ACCEPT_TEXT_LEN + 1];
    EVP_EncodeBlock(text, key, 16);
    memcpy(text + KEY_TEXT_LEN, guid, sizeof guid);
    if (!SHA1(text, sizeof text - 1, digest))
        return 0;
    EVP_EncodeBlock(expected, digest, sizeof digest);
    return value.len == ACCEPT_TEXT_LEN && memcmp(value.at, expected, ACCEPT_TEXT_LEN) == 0;
}

/* A folded line (RFC 9112 5.2) and a space before the colon both fail as a name. */
static int split_field(struct span line, struct span *name, struct span *value)
{
    *name = (struct span){line.at, 0};
    while (name->len < line.len && is_token_char(line.at[name->len]))
        name->len++;
    if (name->len == 0 || name->len == line.len || line.at[name->len] != ':')
        return -HP_EWS_UPGRADE;
    *value = trimmed((struct span){line.at + name->len + 1, line.len - name->len - 1});
    return 0;
}

/* Of an upgrade that was refused: RFC 9110 10.2.3, as far as it is a number of seconds. */
static int read_refusal_field(struct span line, uint32_t *retry_after_s)
{
    struct span name, value;
    uint32_t seconds = 0;
    if (split_field(line, &name, &value) < 0)
        return -HP_EWS_UPGRADE;
    if (!equals_nocase(name, "retry-after") || value.len > RETRY_AFTER_DIGITS_MAX)
        return 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] < '0' || value.at[i] > '9')
            return 0;
        seconds = 10 * seconds + (uint32_t)(value.at[i] - '0');
    }
    *retry_after_s = seconds;
    return 0;
}

static int read_field(struct span line, const uint8_t key[16], struct answer *answer)
{
    struct span name, value;
    if (split_field(line, &name, &value) < 0)
        return -HP_EWS_UPGRADE;
    if (equals_nocase(name, "upgrade")) {
        if (!equals_nocase(value, "websocket"))
            return -HP_EWS_UPGRADE;
        answer->upgrade = 1;
    } else if (equals_nocase(name, "connection")) {
        answer->connection |= lists_nocase(value, "upgrade");
    } else if (equals_nocase(name, "sec-websocket-accept")) {
        if (answer->accept || !accept_matches(value, key)) /* 11.3.3: once only */
            return -HP_EWS_ACCEPT;
        answer->accept = 1;
    } else if (equals_nocase(name, "sec-websocket-extensions") ||
               equals_nocase(name, "sec-websocket-protocol")) {
        return -HP_EWS_UPGRADE; /* 4.1: hp_ws_request() asks for neither */
    }
    return 0;
}

int hp_ws_response(const uint8_t *buf, size_t len, const uint8_t key[16], hp_ws_answer *said)
{
    struct answer answer = {0};
    struct span line;
    size_t at = 0;
    *said = (hp_ws_answer){0};
    if (len > HEADER_BLOCK_MAX)
        len = HEADER_BLOCK_MAX;
    int rc = next_line(buf, len, &at, &line);
    if (rc <= 0)
        return rc;
    said->status = status_of(line);
    if (said->status == 0)
        return -HP_EWS_UPGRADE;
    /* RFC 9110 7.8: HTTP/1.0 has no upgrade */
    int refused = said->status != 101 || line.at[7] == '0';
    while ((rc = next_line(buf, len, &at, &line)) > 0 && line.len > 0) {
        rc = refused ? read_refusal_field(line, &said->retry_after_s)
                     : read_field(line, key, &answer);
        if (rc < 0)
            return rc;
    }
    if (rc <= 0)
        return rc;
    if (refused || !answer.upgrade || !answer.connection)
        return -HP_EWS_UPGRADE;
    return answer.accept ? (int)at : -HP_EWS_ACCEPT;
}

/* ---- frames (RFC 6455 5) -------------------------------------------------------------------- */

static uint64_t big_endian(const uint8_t *p, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | p[i];
    return value;
}

/* What the first two bytes alone can be refused for. */
static int check_start(uint8_t first, uint8_t second)
{
    int opcode = first & OPCODE, length = second & LENGTH;
    if (first & RSV || second & MASKED) /* 5.2: no extension was agreed; 5.1: servers do not mask */
        return -HP_EWS_PROTOCOL;
    switch (opcode) {
    case HP_WS_CONTINUATION:
    case HP_WS_TEXT:
    case HP_WS_BINARY:
        return 0;
    case HP_WS_CLOSE: /* 5.5.1: a status code has two bytes */
    case HP_WS_PING:
    case HP_WS_PONG:
        if (!(first & FIN) || length > HP_WS_CONTROL_MAX || (opcode == HP_WS_CLOSE && length == 1))
            return -HP_EWS_PROTOCOL;
        return 0;
    default:
        return -HP_EWS_PROTOCOL;
    }
}

/* The header: its length in bytes, 0 need more, -HP_EWS_PROTOCOL. */
static int parse_header(const uint8_t *buf, size_t len, hp_ws_frame *frame)
{
    if (len < 2)
        return 0;
    int rc = check_start(buf[0], buf[1]);
    if (rc < 0)
        return rc;
    uint64_t length = buf[1] & LENGTH, shortest = 0;
    size_t header = 2;
    if (length >= LENGTH_16) {
        size_t bytes = length == LENGTH_16 ? 2 : 8;
        shortest = length == LENGTH_16 ? LENGTH_16 : UINT16_MAX + 1;
        header += bytes;
        if (len < header)
            return 0;
        length = big_endian(buf + 2, bytes);
    }
    if (length < shortest || length > INT64_MAX) /* 5.2: the top bit of 64 is 0 */
        return -HP_EWS_PROTOCOL;
    frame->payload = buf + header;
    frame->payload_len = length;
    frame->opcode = buf[0] & OPCODE;
    frame->fin = (buf[0] & FIN) != 0;
    return (int)header;
}

int64_t hp_ws_parse(const uint8_t *buf, size_t len, uint64_t payload_max, hp_ws_frame *frame)
{
    int header = parse_header(buf, len, frame);
    if (header <= 0)
        return header;
    /* A control frame may come between the fragments of a message that is as long as it may get. */
    if (frame->payload_len > payload_max && frame->opcode < HP_WS_CLOSE)
        return -HP_EWS_TOO_BIG;
    if (frame->payload_len > len - (size_t)header)
        return 0;
    return header + (int64_t)frame->payload_len;
}

int hp_ws_header(uint8_t out[14], int opcode, uint64_t payload_len, const uint8_t mask[4])
{
    size_t bytes = payload_len < LENGTH_16 ? 0 : payload_len <= UINT16_MAX ? 2 : 8;
    uint8_t length = bytes == 0 ? (uint8_t)payload_len : bytes == 2 ? LENGTH_16 : LENGTH_64;
    out[0] = (uint8_t)(FIN | opcode);
    out[1] = MASKED | length;
    for (size_t i = 0; i < bytes; i++)
        out[2 + i] = (uint8_t)(payload_len >> 8 * (bytes - 1 - i));
    memcpy(out + 2 + bytes, mask, 4);
    return (int)(2 + bytes + 4);
}

void hp_ws_mask(uint8_t *payload, size_t len, const uint8_t mask[4])
{
    uint8_t twice[8] = {mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]};
    uint64_t key, word;
    size_t at = 0;
    memcpy(&key, twice, sizeof key);
    for (; len - at >= sizeof word; at += sizeof word) {
        memcpy(&word, payload + at, sizeof word);
        word ^= key;
        memcpy(payload + at, &word, sizeof word);
    }
    for (; at < len; at++)
        payload[at] ^= twice[at % 4];
}
