/* The engine's doors: making it, setting it up, and what other threads may ask. */
#include "clock.h"
#include "engine.h"
#include "journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define MESSAGE_BYTES_LEAST 4096u
#define CLOCK_OFFSET_MS_MOST INT64_C(86400000)
#define COMMAND_BYTES (1u << 18)
#define TRANSACTION_BYTES (1u << 24) /* one of HP_TX_BYTES_MAX, and a block's worth of others */
#define COPIES (1u << 18)            /* transactions: a busy half hour's */
#define REQUESTED (1u << 12)         /* orders of the controlling thread: a run's, and more */

_Static_assert(TRANSACTION_BYTES / 2 > HP_TX_BYTES_MAX + 64, "any transaction fits");

/* ---- set-up ---------------------------------------------------------------------------------- */

static int config_is_sane(const hp_engine_config *c)
{
    return c->min_signal_sat >= 0 && c->sweep_inputs_min >= 1 &&
           c->message_bytes_max >= MESSAGE_BYTES_LEAST &&
           c->message_bytes_max <= HP_RECORD_BYTES_MAX - sizeof(hp_session_note) &&
           c->cooldown_ns <= INT64_MAX &&
           c->send_timeout_ns > 0 && c->send_timeout_ns <= INT64_MAX / 2 && c->rearm_ns > 0 &&
           c->rearm_ns <= HP_REARM_NS_MAX && c->cpu >= -1 && c->cpu < CPU_SETSIZE &&
           c->transport <= HP_TRANSPORT_SYSCALL;
}

static int fill(hp_engine *e)
{
    hp_siphash_key seed;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed ||
        getrandom(&e->copies_key, sizeof e->copies_key, 0) != sizeof e->copies_key)
        return -EAGAIN;
    e->strategy.seen = hp_seen_new(e->config.remembered, seed);
    if (!e->strategy.seen)
        return -HP_ECONFIG;
    e->risk = hp_risk_new(e->config.max_orders, (int64_t)e->config.cooldown_ns);
    e->requested = hp_seen_new(REQUESTED, seed);
    e->commands = hp_inbox_new(COMMAND_BYTES);
    e->transactions = hp_inbox_new(TRANSACTION_BYTES);
    return e->risk && e->requested && e->commands && e->transactions ? 0 : -ENOMEM;
}

hp_engine *hp_engine_new(const hp_engine_config *config, const hp_book *book,
                         const hp_sha256_impl *impl, hp_journal *journal, int *error)
{
    *error = -HP_ECONFIG;
    if (!book || !impl || !journal || !config_is_sane(config))
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
    e->magazine.rearm_ns = (int64_t)config->rearm_ns;
    memcpy(e->magazine.run, hp_journal_run(journal), sizeof e->magazine.run);
    e->journal = journal;
    e->suspended_ns = hp_suspended_ns();
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
    for (uint32_t i = 0; i < e->n_feeds; i++)
        hp_feed_free(e->feeds[i]);
    for (int k = 0; k < HP_SESSIONS; k++) {
        hp_session_free(e->links[k].session);
        hp_opening_free(e->links[k].next);
    }
    hp_engine_drop_commands(e);
    hp_opening_free_all(&e->laid_down);
    hp_rehearsal_free(e->rehearsal);
    if (e->io_is_open)
        hp_io_close(&e->io);
    for (uint32_t i = 0; i < e->magazine.n; i++)
        hp_order_free(&e->magazine.orders[i]);
    hp_hmac_key_free(e->key);
    hp_seen_free(e->strategy.seen);
    hp_seen_free(e->copies);
    hp_seen_free(e->requested);
    hp_risk_free(e->risk);
    hp_inbox_free(e->commands);
    hp_inbox_free(e->transactions);
    free(e);
}

int hp_engine_set_key(hp_engine *e, const uint8_t *secret, size_t len)
{
    hp_hmac_key *key = hp_hmac_key_new(e->strategy.impl, secret, len);
    if (!key)
        return -ENOMEM;
    hp_hmac_key_free(e->key);
    e->key = key;
    for (uint32_t i = 0; i < e->magazine.n; i++) {
        int rc = hp_order_set_key(&e->magazine.orders[i], key);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int hp_engine_add_order(hp_engine *e, const hp_order_template *order)
{
    hp_magazine *m = &e->magazine;
    if (m->n == HP_ORDERS_MAX)
        return -ENOSPC;
    int rc = hp_order_init(&m->orders[m->n], order);
    if (rc == 0 && e->key)
        rc = hp_order_set_key(&m->orders[m->n], e->key);
    return rc < 0 ? rc : (int)m->n++;
}

int hp_engine_add_rule(hp_engine *e, const hp_rule *rule)
{
    if (e->strategy.n_rules == HP_RULES_MAX)
        return -ENOSPC;
    if (rule->order >= e->magazine.n || !hp_order_can_sign(&e->magazine.orders[rule->order]) ||
        rule->min_net_sat > rule->max_net_sat)
        return -HP_ECONFIG;
    e->strategy.rules[e->strategy.n_rules] = *rule;
    return (int)e->strategy.n_rules++;
}

/* A second feed brings the copies, and what tells them. */
static int expect_copies(hp_engine *e)
{
    if (e->copies)
        return 0;
    e->copies = hp_seen_new(COPIES, e->copies_key);
    return e->copies ? 0 : -ENOMEM;
}

int hp_engine_add_feed(hp_engine *e, const hp_feed_address *address)
{
    if (e->n_feeds == HP_FEEDS_MAX)
        return -ENOSPC;
    if (e->n_feeds > 0 && expect_copies(e) < 0)
        return -ENOMEM;
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        return -EAGAIN;
    hp_feed_door door = hp_engine_feed_door(e);
    e->feeds[e->n_feeds] = hp_feed_new(&e->io, (int)e->n_feeds, address, &door, seed);
    if (!e->feeds[e->n_feeds])
        return -HP_ECONFIG;
    return (int)e->n_feeds++;
}

void hp_engine_remember(hp_engine *e, const uint8_t outpoint[36])
{
    hp_seen_add(e->strategy.seen, outpoint);
}

int hp_engine_set_clock_offset(hp_engine *e, int64_t offset_ms)
{
    hp_risk_set_clock_offset(e->risk, INT64_MIN); /* what is none leaves it unknown */
    if (offset_ms == INT64_MIN)
        return 0;
    if (offset_ms < -CLOCK_OFFSET_MS_MOST || offset_ms > CLOCK_OFFSET_MS_MOST)
        return -HP_ECONFIG;
    hp_risk_set_clock_offset(e->risk, offset_ms);
    hp_magazine *m = &e->magazine;
    if (offset_ms == m->clock_offset_ms)
        return 0;
    m->clock_offset_ms = offset_ms;
    for (uint32_t i = 0; i < m->n; i++) /* their timestamps are by the former clock */
        hp_magazine_forget(m, i);
    return 0;
}

/* ---- the feed's thread ----------------------------------------------------------------------- */

int hp_engine_offer_rawtx(hp_engine *e, const uint8_t *raw, size_t len, int64_t t_rx_ns, int offer)
{
    int rc = hp_inbox_put(e->transactions, offer, 0, t_rx_ns, raw, len);
    if (rc == 0)
        hp_io_wake(&e->io);
    return rc;
}

/* ---- steps: the owning thread ---------------------------------------------------------------- */

int hp_engine_connect(hp_engine *e, const hp_venue_address *venue)
{
    int rc = hp_engine_claim(e);
    if (rc < 0)
        return rc;
    rc = hp_engine_close(e);
    if (rc < 0 || (rc = hp_engine_furnish(e)) < 0)
        return rc;
    hp_opening_free_all(&e->laid_down);
    hp_opening *opening = hp_opening_new(venue, &rc);
    if (!opening)
        return rc;
    rc = hp_session_start(e->links[0].session, opening);
    if (rc == 0)
        rc = hp_session_settle(e->links[0].session);
    e->reason = hp_session_reason(e->links[0].session);
    hp_engine_notice(e);
    return rc;
}

int hp_engine_rawtx(hp_engine *e, const uint8_t *raw, size_t len, int64_t t_rx_ns)
{
    int rc = hp_engine_claim(e);
    if (rc < 0)
        return rc;
    e->strategy.book = hp_handover_take(&e->books, e->strategy.book);
    rc = hp_trade(e, HP_DOOR, raw, len, t_rx_ns);
    hp_engine_notice(e);
    return rc;
}

int hp_engine_send_text(hp_engine *e, const uint8_t *text, size_t len)
{
    int rc = hp_engine_claim(e);
    if (rc < 0)
        return rc;
    if (!e->links[0].session)
        return -HP_ENOT_READY;
    rc = hp_session_send_text(e->links[0].session, text, len);
    hp_engine_notice(e);
    return rc;
}

void hp_engine_hold(hp_engine *e, int held)
{
    e->links[0].held = held != 0;
}

int hp_engine_close(hp_engine *e)
{
    int rc = hp_engine_claim(e);
    if (rc < 0)
        return rc;
    if (e->links[0].session) {
        hp_session_close(e->links[0].session);
        hp_session_settle(e->links[0].session);
    }
    hp_engine_notice(e);
    return 0;
}

int hp_engine_ready(const hp_engine *e)
{
    for (int k = 0; k < HP_SESSIONS && e->links[k].session; k++)
        if (hp_session_is_open(e->links[k].session))
            return 1;
    return 0;
}

int hp_engine_armed(const hp_engine *e, int order, int session)
{
    int64_t now_ns = hp_now_ns();
    int armed = 0;
    if (order < 0 || (uint32_t)order >= e->magazine.n)
        return 0;
    for (int k = 0; k < HP_SESSIONS; k++) {
        if ((session != HP_EVERY_SESSION && session != k) || !hp_engine_takes_orders(e, k))
            continue;
        if (!hp_magazine_is_armed(&e->magazine, k, (uint32_t)order, now_ns))
            return 0;
        armed = 1;
    }
    return armed;
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
    return e->links[0].session ? hp_session_cipher(e->links[0].session) : "";
}

/* ---- any thread ------------------------------------------------------------------------------ */

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

int hp_engine_kill(hp_engine *e)
{
    int interrupted_errno = errno;
    hp_risk_kill(e->risk);
    int rc = e->latch ? hp_latch_set(e->latch, "the running engine was told to stop") : 0;
    hp_io_wake(&e->io);
    errno = interrupted_errno;
    return rc;
}

int hp_engine_killed(const hp_engine *e)
{
    return hp_risk_is_killed(e->risk);
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
