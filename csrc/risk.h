/* The gate every order passes: each limit says no by its own code (docs/risk.md). Time is an
 * argument, so all of it can be tried without waiting. */
#ifndef HP_RISK_H
#define HP_RISK_H

#include "harpoon.h"

#include <stdatomic.h>

typedef struct hp_risk hp_risk;

typedef struct hp_candidate { /* an order that wants to leave */
    int64_t now_ns;
    int64_t rx_ns;         /* since when its transaction may have been here */
    const hp_terms *terms; /* quantity 0: nobody has told them */
    int64_t notional_e8;   /* hp_risk_check() sets it, where a limit needs it */
    int16_t rule;          /* -1: no signal is its reason, and the limits of signals mean nothing */
    uint16_t exchange;
    uint8_t ready;   /* a session takes orders */
    uint8_t journal; /* has room */
    uint8_t enabled; /* the venue would take it */
    uint8_t doubt;   /* enum hp_verdict: why its transaction may be old news, or HP_ALLOWED */
    uint8_t reduces; /* an exit */
    uint8_t orders;  /* as the venue counts them */
    uint8_t live;
} hp_candidate;

/* Without limits but these two. NULL when memory is short. */
hp_risk *hp_risk_new(uint64_t max_orders, int64_t cooldown_ns);
void hp_risk_free(hp_risk *risk);
/* Once: 0, -HP_ECONFIG or -ENOMEM. */
int hp_risk_set_limits(hp_risk *risk, const hp_limits *limits);
const hp_limits *hp_risk_limits(const hp_risk *risk);

/* enum hp_verdict: HP_ALLOWED, or the first limit that refuses. */
int hp_risk_check(hp_risk *risk, hp_candidate *order);
/* It leaves, or would in dry-run: it counts. */
void hp_risk_count(hp_risk *risk, const hp_candidate *order);

/* Orders are killed from now on (any thread, signal handlers); whether they are. */
void hp_risk_kill(hp_risk *risk);
int hp_risk_is_killed(const hp_risk *risk);
/* Orders are killed as soon as this word is not what it is now. */
void hp_risk_watch(hp_risk *risk, const _Atomic uint64_t *word);
/* The same for who is no order: look at the word, and tell. */
int hp_risk_look(hp_risk *risk);

/* What the gate is told. Each returns 0, -HP_ECONFIG for what cannot be, or -ERANGE when a sum
 * would leave its range or an order ends that was not open; then nothing has changed. */
int hp_risk_add_market(hp_risk *risk); /* its index, or -ENOSPC */
int hp_risk_check_terms(const hp_risk *risk, const hp_terms *terms);
int hp_risk_set_price(hp_risk *risk, const hp_price *price, int64_t now_ns);
/* There is none any more, until the next comes. */
void hp_risk_forget_prices(hp_risk *risk);
int hp_risk_set_position(hp_risk *risk, int market, int64_t position_e8);
int hp_risk_expose(hp_risk *risk, const hp_settlement *order);
int hp_risk_settle(hp_risk *risk, const hp_settlement *settlement);
int hp_risk_count_past(hp_risk *risk, int64_t t_ns, int64_t now_ns, int64_t notional_e8, int rule,
                       int exchange);
/* INT64_MIN: unknown. */
void hp_risk_set_clock_offset(hp_risk *risk, int64_t offset_ms);
/* The venue's clock, in ns since the epoch, less CLOCK_MONOTONIC. */
void hp_risk_set_venue_clock(hp_risk *risk, int64_t ahead_ns);
int hp_risk_set_venue_limit(hp_risk *risk, const hp_venue_limit *limit, int64_t now_ns);
void hp_risk_pause(hp_risk *risk, int64_t until_ns);

/* Walk the way of an order, to keep it in the caches. */
void hp_risk_rehearse(hp_risk *risk, const hp_terms *terms, int64_t now_ns);
/* At leisure: forget the orders of more than a day ago, which the next check would have to do. */
void hp_risk_tidy(hp_risk *risk, int64_t now_ns);

#endif
