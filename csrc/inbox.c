/* `put` and `taken` only grow; their distance is what waits. An item is never split: where the
 * ring's end is too near, the rest of it is skipped. */
#include "inbox.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define LINE 64
#define SKIP UINT32_MAX /* as a length: go on at the ring's beginning */

typedef struct header {
    int64_t number;
    uint32_t len;
    uint16_t kind;
    int16_t session;
} header;

struct hp_inbox {
    _Alignas(LINE) _Atomic uint64_t put; /* the producer's line */
    uint64_t taken_seen;                 /* `taken` as the producer last knew it */
    _Alignas(LINE) _Atomic uint64_t taken; /* the consumer's */
    uint64_t end;                          /* of the item that hp_inbox_next() has given */
    _Alignas(LINE) uint32_t size;
    _Alignas(header) uint8_t bytes[];
};

hp_inbox *hp_inbox_new(uint32_t bytes)
{
    size_t whole = (sizeof(hp_inbox) + bytes + LINE - 1) / LINE * LINE;
    hp_inbox *inbox = aligned_alloc(LINE, whole);
    if (!inbox)
        return NULL;
    memset(inbox, 0, whole); /* its pages too, so that the first items find them */
    inbox->size = bytes;
    return inbox;
}

void hp_inbox_free(hp_inbox *inbox)
{
    free(inbox);
}

static uint64_t padded(size_t len)
{
    return (sizeof(header) + len + 7) / 8 * 8;
}

static header *at(hp_inbox *inbox, uint64_t position)
{
    return (header *)(void *)(inbox->bytes + (position & (inbox->size - 1)));
}

/* Whether `want` bytes more fit behind `put`. */
static int has_room(hp_inbox *inbox, uint64_t put, uint64_t want)
{
    if (put + want - inbox->taken_seen <= inbox->size)
        return 1;
    inbox->taken_seen = atomic_load_explicit(&inbox->taken, memory_order_acquire);
    return put + want - inbox->taken_seen <= inbox->size;
}

int hp_inbox_put(hp_inbox *inbox, int kind, int session, int64_t number, const uint8_t *bytes,
                 size_t len)
{
    if (len > inbox->size / 2 - sizeof(header))
        return -ENOSPC;
    uint64_t put = atomic_load_explicit(&inbox->put, memory_order_relaxed);
    uint64_t want = padded(len);
    uint64_t to_end = inbox->size - (put & (inbox->size - 1));
    uint64_t skipped = to_end < want ? to_end : 0;
    if (!has_room(inbox, put, skipped + want))
        return -ENOSPC;
    if (skipped >= sizeof(header))
        at(inbox, put)->len = SKIP;
    put += skipped;
    header *item = at(inbox, put);
    *item = (header){number, (uint32_t)len, (uint16_t)kind, (int16_t)session};
    if (len)
        memcpy(item + 1, bytes, len);
    atomic_store_explicit(&inbox->put, put + want, memory_order_release);
    return 0;
}

int hp_inbox_next(hp_inbox *inbox, hp_inbox_item *item)
{
    uint64_t taken = atomic_load_explicit(&inbox->taken, memory_order_relaxed);
    if (atomic_load_explicit(&inbox->put, memory_order_acquire) == taken)
        return 0;
    uint64_t to_end = inbox->size - (taken & (inbox->size - 1));
    if (to_end < sizeof(header) || at(inbox, taken)->len == SKIP)
        taken += to_end;
    const header *found = at(inbox, taken);
    *item = (hp_inbox_item){(const uint8_t *)(found + 1), found->number, found->len, found->kind,
                            found->session};
    inbox->end = taken + padded(found->len);
    return 1;
}

void hp_inbox_done(hp_inbox *inbox)
{
    atomic_store_explicit(&inbox->taken, inbox->end, memory_order_release);
}
