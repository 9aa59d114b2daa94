/* A subscriber to what one Bitcoin Core node publishes: the transactions (`rawtx`), and when asked
 * what becomes of them and of blocks (`sequence`). Connects, and connects again, by itself. */
#ifndef HP_FEED_H
#define HP_FEED_H

#include "harpoon.h"
#include "io.h"

/* Where what comes goes to; called within hp_feed_work(). What pointers point at is good for that
 * call only. */
typedef struct hp_feed_door {
    void *context;
    /* t_rx_ns: the now_ns of the work that received its last byte. */
    void (*on_rawtx)(void *context, int endpoint, const uint8_t *raw, size_t len, int64_t t_rx_ns);
    /* `label`: 'A' a transaction entered the mempool, 'R' left it otherwise than by a block, 'C' a
     * block was connected, 'D' disconnected; `hash` in internal byte order. */
    void (*on_sequence)(void *context, int endpoint, uint8_t label, const uint8_t hash[32]);
    /* The numbering of rawtx has a gap of `lost`, or went back: the node was restarted. Each one,
     * before the message that showed it. */
    void (*on_break)(void *context, int endpoint, uint32_t lost, int restarted);
    /* `kind` and `topic`: enum hp_feed_note_kind, hp_feed_topic; `count`: messages that were lost
     * or malformed, restarts; `sequence`: the number that showed a gap or restart; `words`: one
     * sentence. Of a flood of notes about messages the later ones come as a sum. */
    void (*on_note)(void *context, int endpoint, int kind, int topic, uint64_t count,
                    uint32_t sequence, const char *words);
} hp_feed_door;

typedef struct hp_feed hp_feed;

/* The strings are copied; `io` and what the door leads to must outlive the feed. NULL when memory
 * is short, or when the address has neither a numeric ip nor a path that fits. */
hp_feed *hp_feed_new(hp_io *io, int endpoint, const hp_feed_address *address,
                     const hp_feed_door *door, uint64_t random_seed);
/* Everything that can be done without waiting, one receive at most: how many messages were handed
 * on. */
int hp_feed_work(hp_feed *feed, int64_t now_ns);
/* Whether the last work found nothing to receive: what comes from now on has not waited for us. */
int hp_feed_is_drained(const hp_feed *feed);
/* The hp_now_ns() time at which it must be worked at the latest, whatever `io` says. */
int64_t hp_feed_next_ns(const hp_feed *feed);
/* By the thread that owns `io`: the connection is ended, and made again with the next work. */
void hp_feed_leave(hp_feed *feed);
void hp_feed_free(hp_feed *feed);

#endif
