/* What the venue sends: bytes in as they come, messages out one by one (RFC 6455 5.4, 5.5). */
#ifndef HP_INCOMING_H
#define HP_INCOMING_H

#include "harpoon.h"

enum hp_close_code { /* RFC 6455 7.4.1 */
    HP_CLOSE_NORMAL = 1000,
    HP_CLOSE_PROTOCOL = 1002,
    HP_CLOSE_UNSUPPORTED = 1003,
    HP_CLOSE_INVALID_DATA = 1007,
    HP_CLOSE_TOO_BIG = 1009,
};

typedef struct hp_incoming {
    uint8_t *bytes;   /* of frames that are not taken yet */
    uint8_t *message; /* fragments, joined */
    size_t cap;
    size_t len;
    size_t at; /* what is before it has been taken */
    size_t message_len;
    uint32_t message_bytes_max;
    uint8_t in_message; /* a fragmented message has begun */
} hp_incoming;

typedef struct hp_heard {
    const uint8_t *bytes; /* valid until the next call; of a Close: the words behind its code */
    size_t len;
    int close_code;   /* the Close's; of an error: for ours */
    const char *what; /* of an error: in words */
} hp_heard;

/* 0 or -ENOMEM; free it in either case. */
int hp_incoming_init(hp_incoming *in, uint32_t message_bytes_max);
void hp_incoming_free(hp_incoming *in);
/* Another connection begins. */
void hp_incoming_restart(hp_incoming *in);
/* Where the next bytes go, and how many of them; then that n of them came. When hp_incoming_next()
 * has said 0, there is room. */
uint8_t *hp_incoming_room(const hp_incoming *in, size_t *room);
void hp_incoming_add(hp_incoming *in, size_t n);
/* The first n bytes were no frames. */
void hp_incoming_skip(hp_incoming *in, size_t n);
/* HP_WS_TEXT a whole message, HP_WS_PING, HP_WS_CLOSE; 0 nothing more yet; or what is wrong,
 * -HP_EWS_... */
int hp_incoming_next(hp_incoming *in, hp_heard *heard);

#endif
