/* The engine's state: what trade.c (one transaction), run.c (the loop), commands.c and limits.c
 * (what the controlling thread asks for) and engine.c (the doors) share. Everything in it belongs
 * to the owning thread but what is said to be for any. */
#ifndef HP_ENGINE_H
#define HP_ENGINE_H

#include "feed.h"
#include "handover.h"
#include "hist.h"
#include "inbox.h"
#include "io.h"
#include "magazine.h"
#include "rehearsal.h"
#include "risk.h"
#include "seen.h"
#include "session.h"
#include "strategy.h"

#include <pthread.h>
#include <stdatomic.h>

#define HP_DOOR HP_FEEDS_MAX /* the source of what comes from other threads and in steps */

typedef struct hp_source { /* one publisher of transactions */
    int64_t last_rx_ns;
    int64_t held_up_ns;     /* what comes now may have waited for us since then; 0: it has not */
    int64_t old_until_ns;   /* a node that has just started publishes what it had kept */
    int64_t block_until_ns; /* at the latest */
    uint8_t doubt;          /* enum hp_verdict: what comes now may be old news, and why */
    uint8_t has_sequence;   /* it has told where a block ends */
} hp_source;

#define HP_BLOCK_NS INT64_C(10000000000) /* no block takes longer to publish */

enum hp_told { HP_TOLD_CLOSED = 0, HP_TOLD_OPENING, HP_TOLD_OPEN };

typedef struct hp_link { /* one session with the venue, and what is known of it */
    hp_session *session;
    hp_opening *next; /* waits for the end of what was before, or NULL */
    uint8_t held; /* it takes no orders */
    uint8_t told; /* enum hp_told: what the journal knows */
} hp_link;

struct hp_engine {
    hp_engine_config config;
    hp_strategy strategy;
    hp_risk *risk;
    hp_latch *latch;                /* not ours; NULL: none */
    hp_terms terms[HP_ORDERS_MAX];  /* of the magazine's orders */
    hp_stats stats;
    hp_decision decision;
    hp_handover books; /* any thread */
    atomic_int aborted; /* any thread */
    hp_io io;
    hp_link links[HP_SESSIONS];
    hp_laid_down laid_down; /* any thread */
    hp_rehearsal *rehearsal;
    hp_journal *journal;
    hp_inbox *commands;     /* from the controlling thread */
    hp_inbox *transactions; /* from a feed that is not ours */
    hp_hmac_key *key;
    hp_magazine magazine;
    hp_feed *feeds[HP_FEEDS_MAX];
    hp_source sources[HP_FEEDS_MAX + 1];
    uint32_t n_feeds;
    hp_seen *copies; /* transactions that any feed had; NULL with one feed */
    hp_siphash_key copies_key;
    hp_seen *requested; /* client ids of the controlling thread's orders */
    pthread_t owner;
    uint8_t claimed;
    uint8_t io_is_open;
    uint8_t held;      /* no session takes orders */
    uint8_t preferred; /* session */
    int io_error; /* ends the loop */
    uint8_t listening; /* the feeds are worked */
    uint8_t stopping;
    uint8_t kill_told;
    int64_t suspended_ns; /* as hp_suspended_ns() said at our last delay */
    int64_t awake_ns; /* what has come since then we may not have seen yet */
    int64_t next_rehearsal_ns;
    int64_t next_stats_ns;
    const char *reason;
    hp_paid_output outputs[HP_SIGNAL_OUTPUTS_MAX];
    hp_hist stages[HP_STAGES];
    hp_order_event acts[HP_SIGNALS_MAX]; /* what became of the transaction's signals */
    hp_decision rehearsed;
    uint32_t example_len;
    uint8_t example[2048]; /* the last transaction that signalled, for rehearsals */
};

/* ---- trade.c --------------------------------------------------------------------------------- */

/* One transaction from `source`: the number of signals, or -HP_ETX_... */
int hp_trade(hp_engine *e, int source, const uint8_t *raw, size_t len, int64_t t_rx_ns);
/* Walk the way of an order for nobody. */
void hp_trade_rehearse(hp_engine *e);
/* What became of an order: into the counters. */
void hp_trade_count(hp_engine *e, const hp_order_event *o);

/* ---- limits.c -------------------------------------------------------------------------------- */

/* The commands for the risk gate, and the orders of the controlling thread: 0, an error, or -EINVAL
 * for any other command. */
int hp_limits_obey(hp_engine *e, const hp_inbox_item *item);
/* Once a second: what must not wait for the next order. No system call, which could hang. */
void hp_limits_look(hp_engine *e, int64_t now_ns);

/* ---- commands.c ------------------------------------------------------------------------------ */

/* Carry out the oldest command that waits: 1, or 0 without one. One a turn is enough. */
int hp_engine_take_command(hp_engine *e);
/* Begin the opening that waits on a link, if there is one and its session is closed, and known to
 * be. 0, or its error. */
int hp_engine_open_next(hp_engine *e, int session);
/* Without carrying out what waits. */
void hp_engine_drop_commands(hp_engine *e);

/* ---- run.c ----------------------------------------------------------------------------------- */

/* 0, or -HP_ETHREAD: the engine belongs to another thread. */
int hp_engine_claim(hp_engine *e);
/* What is made by the thread that will use it: io, sessions, rehearsal. 0, or an error for which
 * e->reason has words. */
int hp_engine_furnish(hp_engine *e);
/* Where a feed's messages go. */
hp_feed_door hp_engine_feed_door(hp_engine *e);
/* The publisher's numbering has a gap, or went back. */
void hp_engine_distrust(hp_engine *e, int source, int restarted);
/* Into the journal: 0; what does not fit is counted, -ENOSPC. */
int hp_engine_record(hp_engine *e, uint32_t kind, const void *first, size_t first_len,
                      const void *second, size_t second_len);
/* After anything that used a session: if that opened or ended it, say so once, and again as long as
 * the journal has no room for it. */
void hp_engine_notice(hp_engine *e);
/* Whether that session can send, and neither it nor all of them are held. */
int hp_engine_takes_orders(const hp_engine *e, int session);
/* The session for the next order: the preferred one if it takes orders, else the other, else -1.
 * When one has not taken it, `except` that. */
int hp_engine_taker(const hp_engine *e, int except);

#endif
