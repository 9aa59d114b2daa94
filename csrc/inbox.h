/* What other threads want of the hot thread: a ring of bytes with one producer and one consumer.
 * Neither waits for the other. */
#ifndef HP_INBOX_H
#define HP_INBOX_H

#include <stddef.h>
#include <stdint.h>

typedef struct hp_inbox hp_inbox;

typedef struct hp_inbox_item {
    const uint8_t *bytes; /* until hp_inbox_done() */
    int64_t number;
    uint32_t len;
    uint16_t kind;
    int16_t session; /* whom it concerns */
} hp_inbox_item;

/* Room for `bytes`, a power of two; an item takes 24 more than its length. NULL when memory is
 * short. */
hp_inbox *hp_inbox_new(uint32_t bytes);
void hp_inbox_free(hp_inbox *inbox);

/* The producer: 0, or -ENOSPC, for good when the item is longer than half the room. */
int hp_inbox_put(hp_inbox *inbox, int kind, int session, int64_t number, const uint8_t *bytes,
                 size_t len);
/* The consumer: 1 and the oldest item, which stays until hp_inbox_done(), or 0. */
int hp_inbox_next(hp_inbox *inbox, hp_inbox_item *item);
void hp_inbox_done(hp_inbox *inbox);

#endif
