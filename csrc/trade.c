/* One transaction: decode, decide, risk, and the order, which mostly waits finished. */
#include "engine.h"

#include "journal.h"

#include <errno.h>
#include <string.h>

/* A node publishes a connected block's transactions back to back, coinbase first, as `rawtx` too
 * (Bitcoin Core, doc/zmq.md). A pause of this length ends the block; shorter ones may be a lost
 * segment's, or a busy machine's. */
#define BLOCK_PAUSE_NS INT64_C(250000000)
/* A publisher with a `sequence` topic says itself when the block is over. */
#define BLOCK_SAID_NS INT64_C(60000000000)
#define SPENT_PER_RECORD 512
#define SPENT_BYTES 37 /* of the journal for an outpoint, with its share of the record's header */

typedef struct stopwatch {
    int64_t last_ns;
    int64_t *stage_ns;
} stopwatch;

_Static_assert(HP_STAGES == sizeof((hp_order_event *)0)->stage_ns / sizeof(int64_t),
               "an order event has room for every stage");

static void lap_at(stopwatch *w, int stage, int64_t now_ns)
{
    w->stage_ns[stage] = now_ns - w->last_ns;
    w->last_ns = now_ns;
}

static void lap(stopwatch *w, int stage)
{
    lap_at(w, stage, hp_now_ns());
}

/* ---- one order ------------------------------------------------------------------------------- */

/* The round on its session, as it waits or made on the spot: 1 sealed ahead, 0 only framed, or an
 * error. */
static int load(hp_engine *e, hp_order_event *o, stopwatch *w)
{
    hp_magazine *m = &e->magazine;
    uint32_t i = o->order;
    o->armed = (uint8_t)hp_magazine_is_armed(m, o->session, i, w->last_ns);
    if (o->armed)
        return 1;
    if (!hp_magazine_is_framed(m, i, w->last_ns)) {
        hp_magazine_build(m, i);
        lap(w, HP_STAGE_BUILD);
        hp_order_sign(&m->orders[i]);
        lap(w, HP_STAGE_SIGN);
        int rc = hp_magazine_frame(m, o->session, i, w->last_ns);
        lap(w, HP_STAGE_FRAME);
        if (rc < 0)
            return rc;
    }
    int rc = hp_magazine_seal(m, o->session, i);
    lap(w, HP_STAGE_SEAL);
    if (rc == 0 && e->config.live && !hp_session_has_room(e->links[o->session].session))
        return -EAGAIN;
    return rc;
}

/* The very same order, whose intent is written, on a session that has its record or not. */
static int load_again(hp_engine *e, hp_order_event *o, stopwatch *w)
{
    hp_magazine *m = &e->magazine;
    uint32_t i = o->order;
    if (hp_magazine_is_armed(m, o->session, i, w->last_ns) &&
        !strcmp(m->rounds[i].sealed[o->session].client_id, o->client_id))
        return 1;
    o->armed = 0;
    hp_magazine_rebuild(m, i, o->client_id, o->timestamp_ms);
    hp_order_sign(&m->orders[i]);
    int rc = hp_magazine_frame(m, o->session, i, w->last_ns);
    if (rc >= 0)
        rc = hp_magazine_seal(m, o->session, i);
    lap(w, HP_STAGE_SEAL);
    return rc;
}

/* The session that has not taken the order is left for the other: 0 when that takes none. */
static int try_other(hp_engine *e, hp_order_event *o)
{
    int other = hp_engine_taker(e, o->session);
    if (other >= 0)
        o->session = (uint8_t)other;
    return other >= 0;
}

/* The order is in the journal before it can be anywhere else. */
static int write_intent(hp_engine *e, const hp_tx *tx, const hp_signal *s, const hp_order_event *o,
                        int64_t notional_e8)
{
    uint8_t outpoints[HP_INTENT_OUTPOINTS][36];
    hp_intent intent;
    memset(&intent, 0, sizeof intent);
    memcpy(intent.txid, s->txid, sizeof intent.txid);
    memcpy(intent.client_id, o->client_id, sizeof intent.client_id);
    intent.net_sat = s->net_sat;
    intent.timestamp_ms = o->timestamp_ms;
    intent.t_rx_ns = o->rx_ns;
    intent.t_trigger_ns = o->trigger_ns;
    intent.terms = e->terms[o->order];
    intent.notional_e8 = notional_e8;
    intent.n_in = tx->n_in;
    intent.order = o->order;
    intent.rule = o->rule;
    intent.exchange = s->exchange;
    intent.kind = s->kind;
    intent.live = e->config.live;
    intent.armed = o->armed;
    hp_tx_iter it = {0};
    hp_txin in;
    while (intent.n_outpoints < HP_INTENT_OUTPOINTS && hp_tx_next_input(tx, &it, &in))
        memcpy(outpoints[intent.n_outpoints++], in.outpoint, 36);
    return hp_journal_append(e->journal, HP_RECORD_INTENT, o->trigger_ns, &intent, sizeof intent,
                             outpoints, 36 * intent.n_outpoints);
}

/* A session that cannot seal ahead: seal and send now. A dry run seals for nobody, since a record
 * that is sealed and not sent would break such a session's sequence. */
static int seal_and_send(hp_engine *e, const hp_order_event *o, stopwatch *w)
{
    const hp_round *round = &e->magazine.rounds[o->order];
    hp_session *session = e->links[o->session].session;
    int rc = e->config.live
                 ? hp_session_seal(session, round->frame, round->frame_len)
                 : hp_rehearsal_seal(e->rehearsal, round->frame, round->frame_len);
    lap(w, HP_STAGE_SEAL);
    if (rc < 0 || !e->config.live)
        return rc;
    rc = hp_session_flush(session);
    lap(w, HP_STAGE_SEND);
    return rc;
}

static int send_sealed(hp_engine *e, const hp_order_event *o, stopwatch *w)
{
    hp_session *session = e->links[o->session].session;
    if (!e->config.live) {
        hp_session_disarm(session);
        return 0;
    }
    int64_t now_ns = w->last_ns;
    int rc = hp_session_fire(session, o->order, &now_ns);
    lap_at(w, HP_STAGE_SEND, now_ns);
    return rc;
}

static int send_order(hp_engine *e, const hp_order_event *o, int sealed, stopwatch *w)
{
    return sealed ? send_sealed(e, o, w) : seal_and_send(e, o, w);
}

/* What the risk gate has allowed: take the order that waits, or make it; intent; send. */
static void fire(hp_engine *e, const hp_tx *tx, const hp_signal *s, hp_candidate *c,
                 hp_order_event *o, stopwatch *w)
{
    const hp_round *round = &e->magazine.rounds[o->order];
    o->session = (uint8_t)hp_engine_taker(e, -1);
    int sealed = load(e, o, w);
    if (sealed < 0 && try_other(e, o))
        sealed = load(e, o, w);
    if (sealed < 0) { /* nothing can have left */
        o->verdict = HP_REFUSED_NOT_READY;
        o->error = sealed;
        return;
    }
    const hp_shot *shot = sealed ? &round->sealed[o->session] : &round->framed;
    memcpy(o->client_id, shot->client_id, sizeof o->client_id);
    o->timestamp_ms = shot->timestamp_ms;
    if (write_intent(e, tx, s, o, c->notional_e8) < 0) {
        o->verdict = HP_REFUSED_JOURNAL;
        return;
    }
    lap(w, HP_STAGE_JOURNAL);
    c->now_ns = w->last_ns;
    hp_risk_count(e->risk, c);
    int rc = send_order(e, o, sealed, w);
    if (rc < 0 && try_other(e, o)) { /* nothing has left on the first, nor will (session.h) */
        sealed = load_again(e, o, w);
        rc = sealed < 0 ? sealed : send_order(e, o, sealed, w);
    }
    hp_magazine_spend(&e->magazine, o->order, o->client_id);
    o->error = rc < 0 ? rc : 0;
    o->verdict = rc < 0 ? HP_SEND_FAILED : e->config.live ? HP_ALLOWED : HP_DRY_RUN;
}

void hp_trade_count(hp_engine *e, const hp_order_event *o)
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
    e->stats.orders_armed += o->armed;
    for (int stage = HP_STAGE_RISK; stage < HP_STAGES; stage++)
        if (o->stage_ns[stage] >= 0)
            hp_hist_add(&e->stages[stage], o->stage_ns[stage]);
}

/* Room for the intents, and for every outpoint that finds no place in them. */
static int journal_has_room(const hp_engine *e, const hp_tx *tx)
{
    uint64_t needed = HP_JOURNAL_RESERVE + (uint64_t)SPENT_BYTES * tx->n_in;
    return hp_journal_ready(e->journal) && hp_journal_room(e->journal) >= needed;
}

/* A signal that a rule chose, from the gate to the wire. */
static void act(hp_engine *e, const hp_tx *tx, const hp_signal *s, int doubt, hp_order_event *o)
{
    stopwatch w = {hp_now_ns(), o->stage_ns};
    o->rule = s->rule;
    o->order = e->strategy.rules[s->rule].order;
    o->exchange = s->exchange;
    memcpy(o->txid, s->txid, sizeof o->txid);
    hp_candidate candidate = {
        .now_ns = w.last_ns,
        .rx_ns = o->rx_ns,
        .terms = &e->terms[o->order],
        .rule = s->rule,
        .exchange = s->exchange,
        .ready = hp_engine_taker(e, -1) >= 0,
        .journal = (uint8_t)journal_has_room(e, tx),
        .enabled = !e->magazine.disabled[o->order],
        .orders = 1,
        .doubt = (uint8_t)doubt,
        .live = e->config.live,
    };
    o->verdict = (uint8_t)hp_risk_check(e->risk, &candidate);
    lap(&w, HP_STAGE_RISK);
    if (o->verdict == HP_ALLOWED)
        fire(e, tx, s, &candidate, o, &w);
    if (o->verdict == HP_ALLOWED) {
        o->sent_ns = w.last_ns;
        o->stage_ns[HP_STAGE_FIRE_TOTAL] = w.last_ns - o->trigger_ns;
        o->stage_ns[HP_STAGE_RAWTX_TO_SEND] = w.last_ns - o->rx_ns;
    }
    hp_trade_count(e, o);
}

/* ---- one transaction ------------------------------------------------------------------------- */

/* Every order first: nothing else is done before the last one has left. */
static uint32_t act_on_signals(hp_engine *e, const hp_tx *tx, int doubt,
                               const hp_order_event *blank)
{
    uint32_t n_acts = 0;
    for (uint32_t i = 0; i < e->decision.n_signals; i++) {
        const hp_signal *s = &e->decision.signals[i];
        if (s->rule < 0)
            continue;
        e->acts[n_acts] = *blank;
        act(e, tx, s, doubt, &e->acts[n_acts++]);
    }
    return n_acts;
}

/* The outpoints that found no room in the intents: a restarted engine has to know them all. */
static void write_spent(hp_engine *e, const hp_tx *tx, const uint8_t txid[32])
{
    uint8_t outpoints[SPENT_PER_RECORD][36];
    hp_tx_iter it = {0};
    hp_txin in;
    size_t n = 0;
    for (uint32_t i = 0; hp_tx_next_input(tx, &it, &in); i++) {
        if (i < HP_INTENT_OUTPOINTS)
            continue;
        memcpy(outpoints[n++], in.outpoint, 36);
        if (n == SPENT_PER_RECORD || i + 1 == tx->n_in) {
            hp_engine_record(e, HP_RECORD_SPENT, txid, 32, outpoints, 36 * n);
            n = 0;
        }
    }
}

/* The first of the acts for which there is an intent of a real order, or NULL. */
static const hp_order_event *first_fired(const hp_engine *e, uint32_t n_acts)
{
    for (uint32_t i = 0; i < n_acts; i++)
        if (e->acts[i].verdict == HP_ALLOWED || e->acts[i].verdict == HP_SEND_FAILED)
            return &e->acts[i];
    return NULL;
}

static void report(hp_engine *e, const hp_tx *tx, uint32_t n_acts)
{
    const hp_order_event *fired = first_fired(e, n_acts);
    if (fired && tx->n_in > HP_INTENT_OUTPOINTS)
        write_spent(e, tx, fired->txid); /* first: for these there is room */
    for (uint32_t i = 0; i < e->decision.n_signals; i++) {
        const hp_signal *s = &e->decision.signals[i];
        uint32_t n = hp_decision_outputs(&e->decision, tx, s->exchange, e->outputs,
                                         HP_SIGNAL_OUTPUTS_MAX);
        hp_engine_record(e, HP_RECORD_SIGNAL, s, sizeof *s, e->outputs, n * sizeof e->outputs[0]);
    }
    for (uint32_t i = 0; i < n_acts; i++)
        hp_engine_record(e, HP_RECORD_ORDER, &e->acts[i], sizeof e->acts[i], NULL, 0);
}

/* An example for rehearsals, whose outpoints nobody has seen: a duplicate would not be walked to
 * the end. */
static void keep_example(hp_engine *e, const hp_tx *tx)
{
    hp_tx_iter it = {0};
    hp_txin in;
    memcpy(e->example, tx->raw, tx->size);
    while (hp_tx_next_input(tx, &it, &in))
        e->example[in.outpoint - tx->raw] ^= 0xff;
    e->example_len = tx->size;
}

static void remember(hp_engine *e, const hp_tx *tx)
{
    hp_strategy_remember(&e->strategy, tx);
    if (tx->size <= sizeof e->example)
        keep_example(e, tx);
}

static int was_silent(const hp_engine *e, const hp_source *source, int64_t t_rx_ns)
{
    return source->last_rx_ns && t_rx_ns - source->last_rx_ns >
                                     hp_risk_limits(e->risk)->max_feed_silence_ns;
}

/* Whether this transaction may have come with a block: then a whale's payment in it is old news. So
 * it is when the publisher says at last what it had to say long ago. */
static void note_block(hp_engine *e, hp_source *source, const hp_tx *tx, int64_t t_rx_ns)
{
    int64_t pause_ns = source->has_sequence ? BLOCK_SAID_NS : BLOCK_PAUSE_NS;
    if (hp_tx_is_coinbase(tx)) {
        source->doubt = HP_REFUSED_IN_BLOCK;
        source->block_until_ns = t_rx_ns + (source->has_sequence ? BLOCK_SAID_NS : HP_BLOCK_NS);
        e->stats.coinbases++;
    } else if (was_silent(e, source, t_rx_ns)) {
        source->doubt = HP_REFUSED_FEED;
        source->block_until_ns = t_rx_ns + HP_BLOCK_NS;
    } else if (t_rx_ns - source->last_rx_ns > pause_ns || t_rx_ns > source->block_until_ns) {
        source->doubt = HP_ALLOWED;
    }
    source->last_rx_ns = t_rx_ns;
}

/* HP_ALLOWED, or why it may be old news. */
static int doubt_of(const hp_source *source, int64_t t_rx_ns)
{
    return t_rx_ns < source->old_until_ns ? HP_REFUSED_IN_BLOCK : source->doubt;
}

/* Several feeds: the first copy of a transaction wins. */
static int is_copy(hp_engine *e, const hp_tx *tx, int doubt)
{
    if (!e->copies)
        return 0;
    uint8_t name[36] = {0};
    uint64_t hash = hp_siphash13(e->copies_key, tx->raw, tx->size);
    memcpy(name, &hash, sizeof hash);
    memcpy(name + sizeof hash, &tx->size, sizeof tx->size);
    if (hp_seen_has(e->copies, name))
        return 1;
    if (!doubt)
        hp_seen_add(e->copies, name);
    return 0;
}

int hp_trade(hp_engine *e, int source, const uint8_t *raw, size_t len, int64_t t_rx_ns)
{
    hp_order_event blank;
    memset(&blank, 0, sizeof blank);
    memset(blank.stage_ns, -1, sizeof blank.stage_ns);
    stopwatch w = {hp_now_ns(), blank.stage_ns};
    hp_tx tx;
    e->stats.transactions++;
    int rc = hp_tx_parse_exact(raw, len, &tx);
    if (rc < 0) {
        e->stats.malformed++;
        return rc;
    }
    lap(&w, HP_STAGE_DECODE);
    note_block(e, &e->sources[source], &tx, t_rx_ns);
    int doubt = doubt_of(&e->sources[source], t_rx_ns);
    if (is_copy(e, &tx, doubt)) {
        e->stats.copies++;
        return 0;
    }
    hp_decision *d = &e->decision;
    hp_strategy_decide(&e->strategy, &tx, d);
    lap(&w, HP_STAGE_DECIDE);
    blank.rx_ns = e->sources[source].held_up_ns ? e->sources[source].held_up_ns : t_rx_ns;
    blank.trigger_ns = w.last_ns;
    uint32_t n_acts = act_on_signals(e, &tx, doubt, &blank);
    hp_hist_add(&e->stages[HP_STAGE_DECODE], blank.stage_ns[HP_STAGE_DECODE]);
    hp_hist_add(&e->stages[HP_STAGE_DECIDE], blank.stage_ns[HP_STAGE_DECIDE]);
    e->stats.duplicates += d->duplicate;
    e->stats.signals += d->n_signals;
    e->stats.signals_unlisted += d->unlisted;
    if (d->n_signals) {
        if (!doubt || !e->copies) /* else a feed that is up to date may have it as news */
            remember(e, &tx);
        report(e, &tx, n_acts);
    }
    return (int)d->n_signals;
}

/* ---- rehearsal ------------------------------------------------------------------------------- */

/* It keeps code and data in the caches for the whale. */
void hp_trade_rehearse(hp_engine *e)
{
    hp_tx tx;
    if (hp_tx_parse(e->example, e->example_len, &tx) > 0)
        hp_strategy_decide(&e->strategy, &tx, &e->rehearsed);
    hp_risk_rehearse(e->risk, &e->terms[0], hp_now_ns());
    hp_journal_touch(e->journal);
    const hp_round *round = &e->magazine.rounds[0];
    if (round->frame_len)
        hp_rehearsal_send(e->rehearsal, round->frame, round->frame_len);
    int session = hp_engine_taker(e, -1);
    if (session >= 0)
        hp_session_touch(e->links[session].session);
}
