/* Who is called in what order: decode, decide, risk, build, sign, frame, seal, send. */
#include "clock.h"
#include "events.h"
#include "handover.h"
#include "hist.h"
#include "order.h"
#include "rehearsal.h"
#include "risk.h"
#include "session.h"
#include "strategy.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define EVENT_BYTES (8u << 20)
#define EVENT_BYTES_KEPT (1u << 20) /* not for the venue's messages */
#define MESSAGE_BYTES_LEAST 4096u
#define MESSAGE_BYTES_MOST (4u << 20) /* half the event queue, so that one always fits */
#define EXAMPLE_BYTES_MAX 2048
#define CLOCK_OFFSET_MS_MOST INT64_C(86400000)
/* A node publishes a connected block's transactions back to back, coinbase first, as `rawtx` too
 * (Bitcoin Core, doc/zmq.md). A pause of this length ends the block; shorter ones are a busy
 * machine's. */
#define BLOCK_PAUSE_NS INT64_C(5000000)

_Static_assert(HP_STAGES == sizeof((hp_order_event *)0)->stage_ns / sizeof(int64_t),
               "an order event has room for every stage");

struct hp_engine {
    hp_engine_config config;
    hp_strategy strategy;
    hp_risk risk;
    hp_stats stats;
    hp_decision decision;
    hp_handover books;
    atomic_int aborted;
    hp_io io;
    hp_session *session;
    hp_rehearsal *rehearsal; /* dry-run seals here: a sealed record that is not sent would break the
                                real session's sequence */
    hp_hmac_key *key;
    hp_events *events;
    uint8_t run[16];      /* random: this run's client order ids are nobody else's */
    uint64_t next_number; /* of the next order of this run */
    int64_t clock_offset_ms;
    pthread_t owner;
    uint32_t n_orders;
    uint8_t claimed;
    int64_t last_rx_ns;
    uint8_t in_block; /* since a coinbase the feed has not paused */
    uint8_t held;
    uint8_t connected; /* the session was open when we last looked */
    const char *reason;
    hp_order orders[HP_ORDERS_MAX];
    hp_paid_output outputs[HP_SIGNAL_OUTPUTS_MAX];
    hp_hist stages[HP_STAGES];
    hp_order_event acts[HP_SIGNALS_MAX]; /* what became of the transaction's signals */
    hp_decision rehearsed;
    uint32_t example_len;
    uint8_t example[EXAMPLE_BYTES_MAX]; /* the last transaction that signalled, for rehearsals */
};

/* ---- set-up ---------------------------------------------------------------------------------- */

static int config_is_sane(const hp_engine_config *c)
{
    return c->min_signal_sat >= 0 && c->sweep_inputs_min >= 1 &&
           c->message_bytes_max >= MESSAGE_BYTES_LEAST &&
           c->message_bytes_max <= MESSAGE_BYTES_MOST && c->cooldown_ns <= INT64_MAX &&
           c->send_timeout_ns > 0 && c->send_timeout_ns <= INT64_MAX / 2 &&
           c->transport <= HP_TRANSPORT_SYSCALL;
}

static int fill(hp_engine *e)
{
    hp_siphash_key seed;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed ||
        getrandom(e->run, sizeof e->run, 0) != sizeof e->run)
        return -EAGAIN;
    e->strategy.seen = hp_seen_new(e->config.remembered, seed);
    if (!e->strategy.seen)
        return -HP_ECONFIG;
    e->events = hp_events_new(EVENT_BYTES);
    return e->events ? 0 : -ENOMEM;
}

hp_engine *hp_engine_new(const hp_engine_config *config, const hp_book *book,
                         const hp_sha256_impl *impl, int *error)
{
    *error = -HP_ECONFIG;
    if (!book || !impl || !config_is_sane(config))
        return NULL;
    *error = -ENOMEM;
    hp_engine *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->config = *config;
    e->strategy.book = book;
    e->strategy.impl = impl;
    e->strategy.min_signal_sat = config->min_signal_sat;
    e->strategy.sweep_inputs_min = config->sweep_inputs_min;
    e->risk.max_orders = config->max_orders;
    e->risk.cooldown_ns = (int64_t)config->cooldown_ns;
    e->reason = "";
    *error = fill(e);
    if (*error < 0) {
        hp_engine_free(e);
        return NULL;
    }
    return e;
}

void hp_engine_free(hp_engine *e)
{
    if (!e)
        return;
    hp_session_free(e->session);
    hp_rehearsal_free(e->rehearsal);
    hp_io_close(&e->io);
    for (uint32_t i = 0; i < e->n_orders; i++)
        hp_order_free(&e->orders[i]);
    hp_hmac_key_free(e->key);
    hp_seen_free(e->strategy.seen);
    hp_events_free(e->events);
    free(e);
}

int hp_engine_set_key(hp_engine *e, const uint8_t *secret, size_t len)
{
    hp_hmac_key *key = hp_hmac_key_new(e->strategy.impl, secret, len);
    if (!key)
        return -ENOMEM;
    hp_hmac_key_free(e->key);
    e->key = key;
    for (uint32_t i = 0; i < e->n_orders; i++) {
        int rc = hp_order_set_key(&e->orders[i], key);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int hp_engine_add_order(hp_engine *e, const hp_order_template *order)
{
    if (e->n_orders == HP_ORDERS_MAX)
        return -ENOSPC;
    hp_order *added = &e->orders[e->n_orders];
    int rc = hp_order_init(added, order);
    if (rc == 0 && e->key)
        rc = hp_order_set_key(added, e->key);
    return rc < 0 ? rc : (int)e->n_orders++;
}

int hp_engine_add_rule(hp_engine *e, const hp_rule *rule)
{
    if (e->strategy.n_rules == HP_RULES_MAX)
        return -ENOSPC;
    if (rule->order >= e->n_orders || !hp_order_can_sign(&e->orders[rule->order]) ||
        rule->min_net_sat > rule->max_net_sat)
        return -HP_ECONFIG;
    e->strategy.rules[e->strategy.n_rules] = *rule;
    return (int)e->strategy.n_rules++;
}

int hp_engine_set_clock_offset(hp_engine *e, int64_t offset_ms)
{
    if (offset_ms < -CLOCK_OFFSET_MS_MOST || offset_ms > CLOCK_OFFSET_MS_MOST)
        return -HP_ECONFIG;
    e->clock_offset_ms = offset_ms;
    return 0;
}

/* ---- the owning thread --------------------------------------------------------------------- */

static int claim(hp_engine *e)
{
    if (!e->claimed) {
        e->owner = pthread_self();
        e->claimed = 1;
    }
    return pthread_equal(e->owner, pthread_self()) ? 0 : -HP_ETHREAD;
}

static void push(hp_engine *e, uint32_t kind, const void *first, size_t first_len,
                 const void *second, size_t second_len)
{
    if (hp_events_push(e->events, kind, hp_now_ns(), first, first_len, second, second_len) < 0)
        e->stats.events_lost++;
}

/* A venue that floods us may lose its own messages, not the news of our orders and the session. */
static void on_text(void *context, const uint8_t *text, size_t len)
{
    hp_engine *e = context;
    if (len + EVENT_BYTES_KEPT > hp_events_room(e->events))
        e->stats.events_lost++;
    else
        push(e, HP_EVENT_MESSAGE, text, len, NULL, 0);
}

/* After anything that used the session: if that ended it, say so once. */
static void notice(hp_engine *e)
{
    if (!e->connected || hp_session_is_open(e->session))
        return;
    e->connected = 0;
    e->reason = hp_session_reason(e->session);
    push(e, HP_EVENT_CLOSED, e->reason, strlen(e->reason), NULL, 0);
}

/* The session, its sockets and the rehearsal are made by the thread that will use them. */
static int make_session(hp_engine *e)
{
    e->reason = "";
    int rc = e->io.way ? 0 : hp_io_open(&e->io, e->config.transport, &e->aborted);
    if (rc < 0) {
        e->reason = e->io.words;
        return rc;
    }
    if (!e->rehearsal)
        e->rehearsal = hp_rehearsal_new(&e->io, &rc);
    if (rc < 0)
        return rc;
    e->session = hp_session_new(&e->io, &e->stats, e->config.message_bytes_max,
                                e->config.send_timeout_ns, on_text, e);
    return e->session ? 0 : -ENOMEM;
}

int hp_engine_connect(hp_engine *e, const hp_venue_address *venue)
{
    int rc = claim(e);
    if (rc < 0)
        return rc;
    if (venue->timeout_ns > INT64_MAX / 2)
        return -HP_ECONFIG;
    rc = hp_engine_close(e);
    if (rc == 0 && !e->session)
        rc = make_session(e);
    if (rc < 0)
        return rc;
    rc = hp_session_connect(e->session, venue);
    e->reason = hp_session_reason(e->session);
    e->connected = rc == 0;
    notice(e);
    return rc;
}

/* ---- one order ------------------------------------------------------------------------------- */

typedef struct stopwatch {
    int64_t last_ns;
    int64_t *stage_ns;
} stopwatch;

static void lap(stopwatch *w, int stage)
{
    int64_t now_ns = hp_now_ns();
    w->stage_ns[stage] = now_ns - w->last_ns;
    w->last_ns = now_ns;
}

/* Seal and, when live, send. */
static int seal_and_send(hp_engine *e, const uint8_t *frame, size_t len, stopwatch *w)
{
    if (!e->config.live) {
        int rc = hp_rehearsal_seal(e->rehearsal, frame, len);
        lap(w, HP_STAGE_SEAL);
        return rc;
    }
    int rc = hp_session_seal(e->session, frame, len);
    lap(w, HP_STAGE_SEAL);
    if (rc < 0)
        return rc;
    rc = hp_session_flush(e->session);
    lap(w, HP_STAGE_SEND);
    return rc;
}

/* Build, sign, frame, seal, send: what the risk gate has allowed. */
static void fire(hp_engine *e, hp_order_event *o, stopwatch *w)
{
    hp_order *order = &e->orders[o->order];
    o->timestamp_ms = hp_epoch_ms() + e->clock_offset_ms;
    hp_order_build(order, o->client_id, o->timestamp_ms);
    lap(w, HP_STAGE_BUILD);
    hp_order_sign(order);
    lap(w, HP_STAGE_SIGN);
    const uint8_t *frame;
    int rc = hp_session_frame(e->session, HP_WS_TEXT, order->body, order->at.body_len, &frame);
    lap(w, HP_STAGE_FRAME);
    if (rc >= 0)
        rc = seal_and_send(e, frame, (size_t)rc, w);
    if (rc < 0) {
        o->verdict = HP_SEND_FAILED;
        o->error = rc;
    } else {
        o->verdict = e->config.live ? HP_ALLOWED : HP_DRY_RUN;
    }
}

static void count(hp_engine *e, const hp_order_event *o)
{
    switch (o->verdict) {
    case HP_ALLOWED:
        e->stats.orders_sent++;
        break;
    case HP_DRY_RUN:
        e->stats.orders_dry++;
        break;
    case HP_SEND_FAILED:
        e->stats.orders_failed++;
        break;
    default:
        e->stats.orders_refused++;
        return;
    }
    for (int stage = HP_STAGE_BUILD; stage < HP_STAGES; stage++)
        if (o->stage_ns[stage] >= 0)
            hp_hist_add(&e->stages[stage], o->stage_ns[stage]);
}

/* A signal that a rule chose, from the gate to the wire. The rule matched at t_trigger_ns. */
static void act(hp_engine *e, const hp_signal *s, int64_t t_rx_ns, int64_t t_trigger_ns,
                hp_order_event *o)
{
    stopwatch w = {hp_now_ns(), o->stage_ns};
    o->rule = s->rule;
    o->order = e->strategy.rules[s->rule].order;
    o->exchange = s->exchange;
    memcpy(o->txid, s->txid, sizeof o->txid);
    hp_client_id(e->run, e->next_number++, o->client_id);
    int ready = hp_engine_ready(e) && !e->held;
    o->verdict = (uint8_t)hp_risk_check(&e->risk, (uint32_t)s->rule, ready, e->in_block,
                                        w.last_ns);
    if (o->verdict == HP_ALLOWED)
        fire(e, o, &w);
    if (o->verdict == HP_ALLOWED) {
        o->sent_ns = w.last_ns;
        o->stage_ns[HP_STAGE_FIRE_TOTAL] = w.last_ns - t_trigger_ns;
        o->stage_ns[HP_STAGE_RAWTX_TO_SEND] = w.last_ns - t_rx_ns;
    }
    count(e, o);
}

/* The way of an order for nobody: it keeps code and data in the caches for the whale. */
static void rehearse(hp_engine *e)
{
    hp_tx tx;
    if (hp_tx_parse(e->example, e->example_len, &tx) > 0)
        hp_strategy_decide(&e->strategy, &tx, &e->rehearsed);
    hp_order *order = &e->orders[0];
    const uint8_t *frame;
    char client_id[HP_CLIENT_ID_LEN + 1];
    hp_client_id(e->run, e->next_number, client_id);
    hp_order_build(order, client_id, hp_epoch_ms() + e->clock_offset_ms);
    hp_order_sign(order);
    int len = hp_session_frame(e->session, HP_WS_TEXT, order->body, order->at.body_len, &frame);
    if (len > 0)
        hp_rehearsal_send(e->rehearsal, frame, (size_t)len);
    hp_session_touch(e->session);
}

/* ---- one transaction ------------------------------------------------------------------------- */

/* Every order first: nothing else is done before the last one has left. */
static uint32_t act_on_signals(hp_engine *e, const hp_order_event *blank, int64_t t_rx_ns,
                               int64_t t_trigger_ns)
{
    uint32_t n_acts = 0;
    for (uint32_t i = 0; i < e->decision.n_signals; i++) {
        const hp_signal *s = &e->decision.signals[i];
        if (s->rule < 0)
            continue;
        e->acts[n_acts] = *blank;
        act(e, s, t_rx_ns, t_trigger_ns, &e->acts[n_acts++]);
    }
    return n_acts;
}

static void report(hp_engine *e, const hp_tx *tx, uint32_t n_acts)
{
    for (uint32_t i = 0; i < e->decision.n_signals; i++) {
        const hp_signal *s = &e->decision.signals[i];
        uint32_t n = hp_decision_outputs(&e->decision, tx, s->exchange, e->outputs,
                                         HP_SIGNAL_OUTPUTS_MAX);
        push(e, HP_EVENT_SIGNAL, s, sizeof *s, e->outputs, n * sizeof e->outputs[0]);
    }
    for (uint32_t i = 0; i < n_acts; i++)
        push(e, HP_EVENT_ORDER, &e->acts[i], sizeof e->acts[i], NULL, 0);
}

static void remember(hp_engine *e, const hp_tx *tx)
{
    hp_strategy_remember(&e->strategy, tx);
    if (tx->size <= EXAMPLE_BYTES_MAX) {
        memcpy(e->example, tx->raw, tx->size);
        e->example_len = tx->size;
    }
}

/* Whether this transaction came with a block: then a whale's payment in it is old news. */
static void note_block(hp_engine *e, const hp_tx *tx, int64_t t_rx_ns)
{
    if (hp_tx_is_coinbase(tx)) {
        e->in_block = 1;
        e->stats.coinbases++;
    } else if (t_rx_ns - e->last_rx_ns > BLOCK_PAUSE_NS) {
        e->in_block = 0;
    }
    e->last_rx_ns = t_rx_ns;
}

int hp_engine_rawtx(hp_engine *e, const uint8_t *raw, size_t len, int64_t t_rx_ns)
{
    int rc = claim(e);
    if (rc < 0)
        return rc;
    hp_order_event blank;
    memset(&blank, 0, sizeof blank);
    memset(blank.stage_ns, -1, sizeof blank.stage_ns);
    stopwatch w = {hp_now_ns(), blank.stage_ns};
    hp_tx tx;
    e->strategy.book = hp_handover_take(&e->books, e->strategy.book);
    e->stats.transactions++;
    rc = hp_tx_parse_exact(raw, len, &tx);
    if (rc < 0) {
        e->stats.malformed++;
        return rc;
    }
    lap(&w, HP_STAGE_DECODE);
    note_block(e, &tx, t_rx_ns);
    hp_decision *d = &e->decision;
    hp_strategy_decide(&e->strategy, &tx, d);
    lap(&w, HP_STAGE_DECIDE);
    uint32_t n_acts = act_on_signals(e, &blank, t_rx_ns, w.last_ns);
    hp_hist_add(&e->stages[HP_STAGE_DECODE], blank.stage_ns[HP_STAGE_DECODE]);
    hp_hist_add(&e->stages[HP_STAGE_DECIDE], blank.stage_ns[HP_STAGE_DECIDE]);
    e->stats.duplicates += d->duplicate;
    e->stats.signals += d->n_signals;
    e->stats.signals_unlisted += d->unlisted;
    if (d->n_signals)
        remember(e, &tx);
    report(e, &tx, n_acts);
    notice(e);
    return (int)d->n_signals;
}

/* ---- the rest of the door -------------------------------------------------------------------- */

int hp_engine_poll(hp_engine *e, int64_t timeout_ns)
{
    int rc = claim(e);
    if (rc < 0)
        return rc;
    e->strategy.book = hp_handover_take(&e->books, e->strategy.book);
    if (!hp_engine_ready(e))
        return -HP_ENOT_READY;
    rc = hp_session_poll(e->session, timeout_ns);
    if (rc == 0 && e->n_orders && hp_order_can_sign(&e->orders[0]))
        rehearse(e);
    notice(e);
    return rc;
}

int hp_engine_send_text(hp_engine *e, const uint8_t *text, size_t len)
{
    int rc = claim(e);
    if (rc < 0)
        return rc;
    if (!e->session)
        return -HP_ENOT_READY;
    rc = hp_session_send_text(e->session, text, len);
    notice(e);
    return rc;
}

void hp_engine_hold(hp_engine *e, int held)
{
    e->held = held != 0;
}

int hp_engine_close(hp_engine *e)
{
    int rc = claim(e);
    if (rc < 0)
        return rc;
    if (e->session)
        hp_session_close(e->session);
    notice(e);
    return 0;
}

int hp_engine_next_event(hp_engine *e, hp_event *event, uint8_t *payload, size_t cap)
{
    int rc = claim(e);
    return rc < 0 ? rc : hp_events_pop(e->events, event, payload, cap);
}

int hp_engine_ready(const hp_engine *e)
{
    return e->session && hp_session_is_open(e->session);
}

const char *hp_engine_reason(const hp_engine *e)
{
    return e->reason;
}

const char *hp_engine_transport(const hp_engine *e)
{
    return e->io.words;
}

const char *hp_engine_cipher(hp_engine *e)
{
    return e->session ? hp_session_cipher(e->session) : "";
}

const hp_book *hp_engine_offer_book(hp_engine *e, const hp_book *book)
{
    return atomic_exchange_explicit(&e->books.offered, book, memory_order_acq_rel);
}

const hp_book *hp_engine_returned_book(hp_engine *e)
{
    return atomic_exchange_explicit(&e->books.returned, NULL, memory_order_acquire);
}

void hp_engine_abort(hp_engine *e)
{
    atomic_store_explicit(&e->aborted, 1, memory_order_release);
    hp_io_wake(&e->io);
}

void hp_engine_kill(hp_engine *e)
{
    atomic_store_explicit(&e->risk.killed, 1, memory_order_release);
}

int hp_engine_killed(const hp_engine *e)
{
    return atomic_load_explicit(&e->risk.killed, memory_order_acquire);
}

void hp_engine_stats(const hp_engine *e, hp_stats *stats)
{
    *stats = e->stats;
}

int hp_engine_latency(const hp_engine *e, int stage, hp_latency *latency)
{
    if (stage < 0 || stage >= HP_STAGES)
        return -EINVAL;
    hp_hist_read(&e->stages[stage], latency);
    return 0;
}
