/* The limits, in the order in which they are reported. */
#include "risk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define E8 INT64_C(100000000)
#define BP 10000
#define MS_NS INT64_C(1000000)
#define SECOND_NS INT64_C(1000000000)
#define DAY_NS (86400 * SECOND_NS)
#define AMOUNT_MAX (INT64_MAX / 4) /* of a price or quantity: 2.3e10, and sums of two fit */
#define WINDOW_MS_MAX UINT64_C(31622400000)
#define HISTORY_MIN 1024u
#define CACHE_LINE 64

typedef __int128 hp_wide; /* a product of two amounts */

typedef struct hp_past { /* an order that has left */
    int64_t t_ns;
    int64_t notional_e8;
} hp_past;

/* The last orders, oldest first, in a ring. The n-th is at[n & mask]. */
typedef struct hp_history {
    hp_past *at;
    uint64_t mask;
    uint64_t n;      /* that have left */
    uint64_t oldest; /* whose notional is in the total */
    hp_wide total_e8;
} hp_history;

typedef struct hp_market {
    _Alignas(CACHE_LINE) int64_t bid_e8; /* 0: no price yet */
    int64_t ask_e8;
    int64_t price_ns;
    int64_t position_e8;
    int64_t open_e8[2];    /* to buy, to sell */
    int64_t exiting_e8[2]; /* by exits, of these */
    int64_t entered_e8[2]; /* bought and sold by entries, less what exits have closed of it */
} hp_market;

typedef struct hp_venue_count {
    int64_t end_ns; /* of the window, by the venue's clock */
    int64_t window_ns; /* 0: no such limit */
    uint32_t limit;
    uint32_t less_headroom;
    uint32_t used; /* as far as anybody knows */
    uint32_t ours; /* of these at least */
} hp_venue_count;

struct hp_risk {
    _Alignas(CACHE_LINE) atomic_int killed; /* any thread */
    uint32_t needs_terms;
    const _Atomic uint64_t *latch_word; /* another process's */
    uint64_t clear_word;
    int64_t pause_until_ns;
    int64_t venue_ahead_ns;
    int64_t clock_off_ms; /* INT64_MAX: unknown */
    uint64_t orders; /* allowed so far, dry ones too: dry-run shows what live would do */
    uint64_t max_orders;
    int64_t cooldown_ns;
    int64_t unresolved;
    uint64_t most[4]; /* orders in each of windows_ns */
    hp_history history;
    hp_venue_count venue[HP_VENUE_LIMITS_MAX];
    hp_limits limits;
    int64_t rule_free_ns[HP_RULES_MAX]; /* until then it cools down */
    uint32_t n_markets;
    hp_market markets[HP_MARKETS_MAX];
    int64_t exchange_free_ns[HP_EXCHANGES_MAX];
};

static const int64_t windows_ns[] = {SECOND_NS, 60 * SECOND_NS, 3600 * SECOND_NS, DAY_NS};

_Static_assert(HP_REFUSED_RATE_DAY == HP_REFUSED_RATE_SECOND + 3, "as windows_ns");

/* ---- set-up ---------------------------------------------------------------------------------- */

static const hp_limits unlimited = {
    .max_order_notional_e8 = HP_NO_LIMIT,
    .max_total_notional_e8 = HP_NO_LIMIT,
    .max_position_notional_e8 = HP_NO_LIMIT,
    .max_orders_per_second = HP_NO_LIMIT,
    .max_orders_per_minute = HP_NO_LIMIT,
    .max_orders_per_hour = HP_NO_LIMIT,
    .max_orders_per_day = HP_NO_LIMIT,
    .max_signal_age_ns = HP_NO_LIMIT,
    .max_feed_silence_ns = HP_NO_LIMIT,
    .max_price_age_ns = HP_NO_LIMIT,
    .price_band_bp = HP_NO_LIMIT,
    .max_clock_offset_ms = HP_NO_LIMIT,
    .max_unresolved = HP_NO_LIMIT,
};

static void obey_limits(hp_risk *r, const hp_limits *l)
{
    r->limits = *l;
    r->most[0] = (uint64_t)l->max_orders_per_second;
    r->most[1] = (uint64_t)l->max_orders_per_minute;
    r->most[2] = (uint64_t)l->max_orders_per_hour;
    r->most[3] = (uint64_t)l->max_orders_per_day;
    r->needs_terms = l->max_order_notional_e8 != HP_NO_LIMIT ||
                     l->max_total_notional_e8 != HP_NO_LIMIT ||
                     l->max_position_notional_e8 != HP_NO_LIMIT || l->price_band_bp != HP_NO_LIMIT;
}

hp_risk *hp_risk_new(uint64_t max_orders, int64_t cooldown_ns)
{
    hp_risk *r = aligned_alloc(CACHE_LINE, sizeof *r);
    if (!r)
        return NULL;
    memset(r, 0, sizeof *r);
    r->max_orders = max_orders;
    r->cooldown_ns = cooldown_ns;
    r->pause_until_ns = INT64_MIN;
    for (uint32_t i = 0; i < HP_RULES_MAX; i++)
        r->rule_free_ns[i] = INT64_MIN;
    for (uint32_t i = 0; i < HP_EXCHANGES_MAX; i++)
        r->exchange_free_ns[i] = INT64_MIN;
    obey_limits(r, &unlimited);
    return r;
}

void hp_risk_free(hp_risk *r)
{
    if (!r)
        return;
    free(r->history.at);
    free(r);
}

static int limits_are_sane(const hp_limits *l)
{
    const int64_t rates[] = {l->max_orders_per_second, l->max_orders_per_minute,
                             l->max_orders_per_hour, l->max_orders_per_day};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++)
        if (rates[i] < 0 || (rates[i] > HP_RATE_MAX && rates[i] != HP_NO_LIMIT))
            return 0;
    return l->exchange_cooldown_ns >= 0 && l->max_order_notional_e8 >= 0 &&
           l->max_total_notional_e8 >= 0 && l->max_position_notional_e8 >= 0 &&
           l->max_signal_age_ns >= 0 && l->max_feed_silence_ns >= 0 && l->max_price_age_ns >= 0 &&
           l->price_band_bp >= 0 && (l->price_band_bp <= BP || l->price_band_bp == HP_NO_LIMIT) &&
           l->max_clock_offset_ms >= 0 && l->max_unresolved >= 0 &&
           l->venue_headroom_percent >= 0 && l->venue_headroom_percent <= 100;
}

/* Orders that must be remembered one by one: as many as the largest window may hold. */
static uint64_t history_size(const hp_risk *r)
{
    uint64_t size = HISTORY_MIN;
    for (size_t i = 0; i < sizeof r->most / sizeof r->most[0]; i++)
        while (r->most[i] != HP_NO_LIMIT && size < r->most[i])
            size *= 2;
    return size;
}

/* Written to, so that the kernel gives the pages now and not to the order that comes first to each.
 * No zeros: a compiler makes calloc() of these, which touches nothing. */
static int make_history(hp_history *h, uint64_t size)
{
    h->at = malloc(size * sizeof *h->at);
    h->mask = size - 1;
    if (!h->at)
        return -ENOMEM;
    memset(h->at, 0xff, size * sizeof *h->at);
    return 0;
}

int hp_risk_set_limits(hp_risk *r, const hp_limits *limits)
{
    if (r->history.at || !limits_are_sane(limits))
        return -HP_ECONFIG;
    obey_limits(r, limits);
    if (limits->max_clock_offset_ms != HP_NO_LIMIT)
        r->clock_off_ms = INT64_MAX;
    return make_history(&r->history, history_size(r));
}

const hp_limits *hp_risk_limits(const hp_risk *r)
{
    return &r->limits;
}

/* ---- the kill latch -------------------------------------------------------------------------- */

void hp_risk_kill(hp_risk *r)
{
    atomic_store_explicit(&r->killed, 1, memory_order_release);
}

int hp_risk_is_killed(const hp_risk *r)
{
    return atomic_load_explicit(&r->killed, memory_order_acquire);
}

void hp_risk_watch(hp_risk *r, const _Atomic uint64_t *word)
{
    r->clear_word = atomic_load_explicit(word, memory_order_acquire);
    r->latch_word = word;
}

int hp_risk_look(hp_risk *r)
{
    if (hp_risk_is_killed(r))
        return 1;
    if (!r->latch_word ||
        atomic_load_explicit(r->latch_word, memory_order_acquire) == r->clear_word)
        return 0;
    hp_risk_kill(r);
    return 1;
}

/* ---- orders that have left ------------------------------------------------------------------- */

static hp_past *past(const hp_history *h, uint64_t number)
{
    return &h->at[number & h->mask];
}

static int64_t add_up_to_max(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static void forget(hp_history *h, int64_t before_ns)
{
    for (; h->oldest < h->n && past(h, h->oldest)->t_ns <= before_ns; h->oldest++)
        h->total_e8 -= past(h, h->oldest)->notional_e8;
}

void hp_risk_tidy(hp_risk *r, int64_t now_ns)
{
    forget(&r->history, now_ns - DAY_NS);
}

/* When there is no room, the oldest order's notional is put to the next one's account, and so is
 * forgotten later than it might be, never earlier. */
static void remember(hp_history *h, int64_t t_ns, int64_t notional_e8)
{
    if (!h->at)
        return;
    forget(h, t_ns - DAY_NS);
    if (h->n - h->oldest > h->mask) {
        hp_past *next = past(h, h->oldest + 1);
        next->notional_e8 = add_up_to_max(next->notional_e8, past(h, h->oldest)->notional_e8);
        h->oldest++;
    }
    h->total_e8 += notional_e8;
    uint64_t i = h->n++;
    for (; i > h->oldest && past(h, i - 1)->t_ns > t_ns; i--) /* only for those of other runs */
        *past(h, i) = *past(h, i - 1);
    *past(h, i) = (hp_past){t_ns, notional_e8};
}

/* Whether `most` orders have left after `since_ns`. */
static int has_reached(const hp_history *h, uint64_t most, int64_t since_ns)
{
    return most == 0 || (h->n >= most && past(h, h->n - most)->t_ns > since_ns);
}

/* ---- the venue's limits ---------------------------------------------------------------------- */

/* The next window; or another one, when the clock by which this one was found was wrong. */
static void roll(hp_venue_count *v, int64_t venue_ns)
{
    if (!v->window_ns || (venue_ns < v->end_ns && v->end_ns - venue_ns <= v->window_ns))
        return;
    v->end_ns = venue_ns - venue_ns % v->window_ns + v->window_ns;
    v->used = v->ours = 0;
}

static int venue_refuses(hp_risk *r, const hp_candidate *o)
{
    if (o->now_ns < r->pause_until_ns)
        return 1;
    for (uint32_t i = 0; i < HP_VENUE_LIMITS_MAX; i++) {
        hp_venue_count *v = &r->venue[i];
        roll(v, o->now_ns + r->venue_ahead_ns);
        uint64_t used = (uint64_t)v->used + o->orders;
        if (v->window_ns && used > (o->reduces ? v->limit : v->less_headroom))
            return 1;
    }
    return 0;
}

/* ---- money ----------------------------------------------------------------------------------- */

static int64_t narrow(hp_wide amount)
{
    return amount > INT64_MAX ? INT64_MAX : (int64_t)amount;
}

/* A LIMIT's distance from the middle; for a MARKET order that of the two sides. */
static int is_off_band(const hp_market *m, int64_t price_e8, int64_t band_bp)
{
    int64_t twice_mid_e8 = m->bid_e8 + m->ask_e8;
    hp_wide twice_off_e8 = price_e8 ? (hp_wide)2 * price_e8 - twice_mid_e8
                                    : (hp_wide)2 * (m->ask_e8 - m->bid_e8);
    if (twice_off_e8 < 0)
        twice_off_e8 = -twice_off_e8;
    return twice_off_e8 * BP > (hp_wide)twice_mid_e8 * band_bp;
}

/* A LIMIT sale fills at the bid where that is better. For a MARKET order, the far side of the book
 * and the band on top. */
static int64_t worst_price(const hp_market *m, const hp_terms *t, int64_t band_bp)
{
    if (t->price_e8)
        return t->is_sell && m->bid_e8 > t->price_e8 ? m->bid_e8 : t->price_e8;
    int64_t far_e8 = t->is_sell ? m->bid_e8 : m->ask_e8;
    return band_bp == HP_NO_LIMIT ? far_e8
                                  : narrow(((hp_wide)far_e8 * (BP + band_bp) + BP - 1) / BP);
}

/* Of the market, if everything that is open on this side fills, and nothing on the other. */
static int exceeds_position(const hp_market *m, const hp_terms *t, int64_t price_e8,
                            int64_t max_e8)
{
    hp_wide held_e8 = t->is_sell ? -(hp_wide)m->position_e8 : m->position_e8;
    hp_wide worst_e8 = held_e8 + m->open_e8[t->is_sell] + t->quantity_e8;
    return max_e8 != HP_NO_LIMIT && worst_e8 * price_e8 > (hp_wide)max_e8 * E8;
}

static int check_money(hp_risk *r, hp_candidate *o)
{
    const hp_limits *l = &r->limits;
    const hp_terms *t = o->terms;
    const hp_market *m = &r->markets[t->market];
    int needs_price = !t->price_e8 || l->price_band_bp != HP_NO_LIMIT;
    if (!t->quantity_e8 ||
        (needs_price && (!m->bid_e8 || o->now_ns - m->price_ns > l->max_price_age_ns)))
        return HP_REFUSED_PRICE_STALE;
    if (needs_price && is_off_band(m, t->price_e8, l->price_band_bp))
        return HP_REFUSED_PRICE_BAND;
    int64_t price_e8 = worst_price(m, t, l->price_band_bp);
    o->notional_e8 = narrow(((hp_wide)t->quantity_e8 * price_e8 + E8 - 1) / E8);
    if (o->notional_e8 > l->max_order_notional_e8)
        return HP_REFUSED_ORDER_NOTIONAL;
    forget(&r->history, o->now_ns - DAY_NS);
    if (l->max_total_notional_e8 != HP_NO_LIMIT &&
        r->history.total_e8 + o->notional_e8 > l->max_total_notional_e8)
        return HP_REFUSED_TOTAL_NOTIONAL;
    return exceeds_position(m, t, price_e8, l->max_position_notional_e8) ? HP_REFUSED_POSITION
                                                                         : HP_ALLOWED;
}

/* ---- the gate -------------------------------------------------------------------------------- */

static int check_rates(const hp_risk *r, int64_t now_ns)
{
    for (int i = 0; i < 4; i++)
        if (has_reached(&r->history, r->most[i], now_ns - windows_ns[i]))
            return HP_REFUSED_RATE_SECOND + i;
    return HP_ALLOWED;
}

static int check_signal(const hp_risk *r, const hp_candidate *o)
{
    if (o->rule < 0)
        return HP_ALLOWED;
    if (o->now_ns < r->rule_free_ns[o->rule])
        return HP_REFUSED_COOLDOWN;
    if (o->now_ns < r->exchange_free_ns[o->exchange])
        return HP_REFUSED_EXCHANGE_COOLDOWN;
    if (o->doubt)
        return o->doubt;
    if (o->now_ns - o->rx_ns > r->limits.max_signal_age_ns)
        return HP_REFUSED_SIGNAL_AGE;
    return HP_ALLOWED;
}

/* Exits close what entries have brought. These sums know no single entry, yet refuse no exit that
 * keeps to what its own has left: docs/risk.md. Without limits nobody tells what was entered. */
static int check_exit(const hp_risk *r, const hp_candidate *o)
{
    const hp_terms *t = o->terms;
    const hp_market *m = &r->markets[t->market];
    hp_wide closing_e8 = (hp_wide)m->exiting_e8[t->is_sell] + t->quantity_e8;
    return r->history.at && o->live && closing_e8 > m->entered_e8[!t->is_sell]
               ? HP_REFUSED_EXIT_SIZE
               : HP_ALLOWED;
}

static int check_all(hp_risk *r, hp_candidate *o)
{
    o->notional_e8 = 0;
    if (!o->ready)
        return HP_REFUSED_NOT_READY;
    if (!o->journal)
        return HP_REFUSED_JOURNAL;
    if (venue_refuses(r, o))
        return HP_REFUSED_VENUE_LIMIT;
    if (o->reduces)
        return check_exit(r, o);
    if (!o->enabled)
        return HP_REFUSED_FILTER;
    if (r->clock_off_ms > r->limits.max_clock_offset_ms || r->clock_off_ms == INT64_MAX)
        return HP_REFUSED_CLOCK;
    if (r->orders >= r->max_orders)
        return HP_REFUSED_MAX_ORDERS;
    int verdict = check_rates(r, o->now_ns);
    if (verdict == HP_ALLOWED)
        verdict = check_signal(r, o);
    if (verdict != HP_ALLOWED)
        return verdict;
    if (r->unresolved >= r->limits.max_unresolved)
        return HP_REFUSED_UNRESOLVED;
    return r->needs_terms ? check_money(r, o) : HP_ALLOWED;
}

int hp_risk_check(hp_risk *r, hp_candidate *o)
{
    return hp_risk_look(r) ? HP_REFUSED_KILLED : check_all(r, o);
}

/* The latch's word is only fetched: there is no bus error in that, whatever became of the file. */
void hp_risk_rehearse(hp_risk *r, const hp_terms *terms, int64_t now_ns)
{
    hp_candidate nobody = {.now_ns = now_ns,
                           .rx_ns = now_ns,
                           .terms = terms,
                           .ready = 1,
                           .journal = 1,
                           .enabled = 1,
                           .orders = 1};
    __builtin_prefetch((const void *)r->latch_word);
    check_all(r, &nobody);
}

static uint32_t add_u32(uint32_t a, uint32_t b)
{
    uint32_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT32_MAX : sum;
}

static void delay(int64_t *free_ns, int64_t until_ns)
{
    if (until_ns > *free_ns)
        *free_ns = until_ns;
}

static void begin_cooldowns(hp_risk *r, int64_t t_ns, int rule, int exchange)
{
    if (rule >= 0)
        delay(&r->rule_free_ns[rule], add_up_to_max(t_ns, r->cooldown_ns));
    if (exchange != HP_NOBODY)
        delay(&r->exchange_free_ns[exchange],
              add_up_to_max(t_ns, r->limits.exchange_cooldown_ns));
}

static void open_order(hp_risk *r, const hp_terms *t, int reduces)
{
    hp_market *m = &r->markets[t->market];
    int64_t *exiting_e8 = &m->exiting_e8[t->is_sell];
    m->open_e8[t->is_sell] = add_up_to_max(m->open_e8[t->is_sell], t->quantity_e8);
    if (reduces)
        *exiting_e8 = add_up_to_max(*exiting_e8, t->quantity_e8);
    else
        r->unresolved++;
}

void hp_risk_count(hp_risk *r, const hp_candidate *o)
{
    remember(&r->history, o->now_ns, o->notional_e8);
    for (uint32_t i = 0; i < HP_VENUE_LIMITS_MAX; i++) {
        r->venue[i].used = add_u32(r->venue[i].used, o->orders);
        r->venue[i].ours = add_u32(r->venue[i].ours, o->orders);
    }
    if (o->live) /* in dry-run nothing would ever end them */
        open_order(r, o->terms, o->reduces);
    if (o->reduces)
        return;
    r->orders++;
    begin_cooldowns(r, o->now_ns, o->rule, o->exchange);
}

/* ---- what it is told ------------------------------------------------------------------------- */

int hp_risk_add_market(hp_risk *r)
{
    return r->n_markets == HP_MARKETS_MAX ? -ENOSPC : (int)r->n_markets++;
}

static int is_amount(int64_t amount_e8)
{
    return amount_e8 >= 0 && amount_e8 <= AMOUNT_MAX;
}

int hp_risk_check_terms(const hp_risk *r, const hp_terms *t)
{
    return t->market < r->n_markets && t->is_sell <= 1 && t->quantity_e8 > 0 &&
                   is_amount(t->quantity_e8) && is_amount(t->price_e8)
               ? 0
               : -HP_ECONFIG;
}

void hp_risk_forget_prices(hp_risk *r)
{
    for (uint32_t i = 0; i < r->n_markets; i++)
        r->markets[i].bid_e8 = 0;
}

int hp_risk_set_price(hp_risk *r, const hp_price *p, int64_t now_ns)
{
    if (p->market >= r->n_markets || p->bid_e8 <= 0 || p->ask_e8 < p->bid_e8 ||
        !is_amount(p->ask_e8) || p->t_ns < 0 || p->t_ns > now_ns)
        return -HP_ECONFIG;
    hp_market *m = &r->markets[p->market];
    m->bid_e8 = p->bid_e8;
    m->ask_e8 = p->ask_e8;
    m->price_ns = p->t_ns;
    return 0;
}

int hp_risk_set_position(hp_risk *r, int market, int64_t position_e8)
{
    if (market < 0 || (uint32_t)market >= r->n_markets || position_e8 == INT64_MIN)
        return -HP_ECONFIG;
    r->markets[market].position_e8 = position_e8;
    return 0;
}

static int settlement_is_sane(const hp_risk *r, const hp_settlement *s)
{
    return s->market < r->n_markets && s->is_sell <= 1 && is_amount(s->quantity_e8) &&
           is_amount(s->filled_e8);
}

/* An exit never is unresolved, and quantity 0 says nothing of an end. */
static int counts_as_unresolved(const hp_settlement *s)
{
    return !s->reduces && s->quantity_e8 > 0;
}

int hp_risk_expose(hp_risk *r, const hp_settlement *order)
{
    if (!settlement_is_sane(r, order))
        return -HP_ECONFIG;
    hp_market *m = &r->markets[order->market];
    int side = order->is_sell;
    int64_t open_e8;
    if (__builtin_add_overflow(m->open_e8[side], order->quantity_e8, &open_e8))
        return -ERANGE;
    m->open_e8[side] = open_e8;
    r->unresolved += counts_as_unresolved(order);
    if (order->reduces) { /* it is on its way already, whatever was entered */
        m->exiting_e8[side] += order->quantity_e8; /* fits, as a part of what is open */
        m->entered_e8[!side] = add_up_to_max(m->entered_e8[!side], order->quantity_e8);
    }
    return 0;
}

/* What an exit fills beyond its quantity closes nothing: taken off what was entered, it would be
 * another entry's, whose own exit would be refused. */
static void settle_entered(hp_market *m, const hp_settlement *s)
{
    int side = s->is_sell;
    if (!s->reduces) {
        m->entered_e8[side] = add_up_to_max(m->entered_e8[side], s->filled_e8);
        return;
    }
    int64_t closed_e8 = s->filled_e8 < s->quantity_e8 ? s->filled_e8 : s->quantity_e8;
    m->exiting_e8[side] -= s->quantity_e8;
    m->entered_e8[!side] -= closed_e8 < m->entered_e8[!side] ? closed_e8 : m->entered_e8[!side];
}

int hp_risk_settle(hp_risk *r, const hp_settlement *s)
{
    if (!settlement_is_sane(r, s))
        return -HP_ECONFIG;
    hp_market *m = &r->markets[s->market];
    int resolves = counts_as_unresolved(s);
    int64_t position_e8;
    if (__builtin_add_overflow(m->position_e8, s->is_sell ? -s->filled_e8 : s->filled_e8,
                               &position_e8) ||
        position_e8 == INT64_MIN || m->open_e8[s->is_sell] < s->quantity_e8 ||
        (s->reduces && m->exiting_e8[s->is_sell] < s->quantity_e8) ||
        (resolves && r->unresolved == 0))
        return -ERANGE;
    m->position_e8 = position_e8;
    m->open_e8[s->is_sell] -= s->quantity_e8;
    r->unresolved -= resolves;
    settle_entered(m, s);
    return 0;
}

int hp_risk_count_past(hp_risk *r, int64_t t_ns, int64_t now_ns, int64_t notional_e8, int rule,
                       int exchange)
{
    if (notional_e8 < 0 || rule < -1 || rule >= HP_RULES_MAX || exchange < 0 ||
        (exchange >= HP_EXCHANGES_MAX && exchange != HP_NOBODY))
        return -HP_ECONFIG;
    if (t_ns > now_ns) /* the clock was set back since */
        t_ns = now_ns;
    if (t_ns > now_ns - DAY_NS)
        remember(&r->history, t_ns, notional_e8);
    begin_cooldowns(r, t_ns, rule, exchange);
    return 0;
}

void hp_risk_set_clock_offset(hp_risk *r, int64_t offset_ms)
{
    r->clock_off_ms = offset_ms == INT64_MIN ? INT64_MAX : offset_ms < 0 ? -offset_ms : offset_ms;
}

/* While it is unknown, what it was is carried on; before that, ours has to do. */
void hp_risk_set_venue_clock(hp_risk *r, int64_t ahead_ns)
{
    if (r->clock_off_ms != INT64_MAX || r->venue_ahead_ns == 0)
        r->venue_ahead_ns = ahead_ns;
}

/* An order that left after the venue had counted is in `ours` and not in its answer. */
int hp_risk_set_venue_limit(hp_risk *r, const hp_venue_limit *limit, int64_t now_ns)
{
    if (limit->index >= HP_VENUE_LIMITS_MAX || limit->window_ms == 0 ||
        limit->window_ms > WINDOW_MS_MAX)
        return -HP_ECONFIG;
    hp_venue_count *v = &r->venue[limit->index];
    int64_t window_ns = (int64_t)limit->window_ms * MS_NS;
    if (window_ns != v->window_ns) {
        v->window_ns = window_ns;
        v->end_ns = INT64_MIN;
    }
    roll(v, now_ns + r->venue_ahead_ns);
    uint64_t headroom = (uint64_t)limit->limit * (uint64_t)r->limits.venue_headroom_percent;
    v->limit = limit->limit;
    v->less_headroom = limit->limit - (uint32_t)((headroom + 99) / 100);
    v->used = limit->used > v->ours ? limit->used : v->ours;
    return 0;
}

void hp_risk_pause(hp_risk *r, int64_t until_ns)
{
    r->pause_until_ns = until_ns;
}
