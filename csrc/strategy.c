/* Kinds, net amounts, rules and duplicates; docs/strategy.md has the reasons.
 *
 * Outputs are looked up first: most transactions pay no exchange and cost nothing more. Only for
 * the others the inputs' owners and the txid are worked out. */
#include "strategy.h"

#include <string.h>

static void count_unlisted(hp_decision *d, uint32_t exchange)
{
    if (d->unlisted == 0)
        memset(d->is_unlisted, 0, sizeof d->is_unlisted);
    d->unlisted += !d->is_unlisted[exchange];
    d->is_unlisted[exchange] = 1;
}

static hp_signal *signal_for(hp_decision *d, uint32_t exchange)
{
    for (uint32_t i = 0; i < d->n_signals; i++)
        if (d->signals[i].exchange == exchange)
            return &d->signals[i];
    if (d->n_signals == HP_SIGNALS_MAX) {
        count_unlisted(d, exchange);
        return NULL;
    }
    hp_signal *s = &d->signals[d->n_signals++];
    memset(s, 0, sizeof *s);
    s->exchange = (uint16_t)exchange;
    s->source = HP_NOBODY;
    s->rule = -1;
    return s;
}

static void sum_outputs(const hp_strategy *strategy, const hp_tx *tx, hp_decision *d)
{
    hp_tx_iter it = {0};
    hp_tx_iter next = {0};
    hp_txout out;
    for (; hp_tx_next_output(tx, &next, &out); it = next) {
        uint32_t exchange = hp_book_find(strategy->book, out.script, out.script_len);
        if (exchange == HP_NOBODY)
            continue;
        hp_signal *s = signal_for(d, exchange);
        if (!s)
            continue;
        s->paid_sat += out.value_sat;
        s->paid_outputs++;
        if (d->n_paid < HP_PAID_OUTPUTS_MAX)
            d->paid[d->n_paid++] = (hp_paid_at){it, (uint16_t)exchange};
    }
}

typedef struct input_side {
    uint32_t recognised;
    uint32_t owned;
    uint16_t first_owner;
} input_side;

/* Owners of the inputs; a signal whose exchange owns one gets it as its source. */
static input_side find_owners(const hp_strategy *strategy, const hp_tx *tx, hp_decision *d)
{
    input_side side = {0, 0, HP_NOBODY};
    hp_tx_iter it = {0};
    hp_txin in;
    while (hp_tx_next_input(tx, &it, &in)) {
        uint8_t script[HP_SCRIPT_MAX];
        int spend;
        int len = hp_txin_spends(&in, strategy->impl, script, &spend);
        if (len == 0)
            continue;
        side.recognised++;
        uint32_t owner = hp_book_find(strategy->book, script, (size_t)len);
        if (owner == HP_NOBODY)
            continue;
        side.owned++;
        if (side.first_owner == HP_NOBODY)
            side.first_owner = (uint16_t)owner;
        for (uint32_t i = 0; i < d->n_signals; i++)
            if (d->signals[i].exchange == owner)
                d->signals[i].source = (uint16_t)owner;
    }
    return side;
}

static void classify(const hp_strategy *strategy, const hp_tx *tx, input_side side, hp_signal *s)
{
    s->n_in = tx->n_in;
    s->n_out = tx->n_out;
    s->inputs_recognised = side.recognised;
    s->inputs_owned = side.owned;
    if (s->source == s->exchange) { /* its own coins: what comes back is change */
        s->net_sat = tx->out_total_sat - s->paid_sat;
        s->kind = s->net_sat ? HP_WITHDRAWAL : HP_INTERNAL;
        return;
    }
    s->source = side.first_owner;
    s->net_sat = s->paid_sat;
    s->kind = tx->n_in >= strategy->sweep_inputs_min ? HP_SWEEP : HP_DEPOSIT;
}

static int16_t first_rule(const hp_strategy *strategy, const hp_signal *s)
{
    for (uint32_t i = 0; i < strategy->n_rules; i++) {
        const hp_rule *r = &strategy->rules[i];
        if ((r->kinds >> s->kind & 1) && (r->exchange == HP_NOBODY || r->exchange == s->exchange) &&
            s->net_sat >= r->min_net_sat && s->net_sat <= r->max_net_sat)
            return (int16_t)i;
    }
    return -1;
}

/* A transaction is published again with its block; a fee-bumped replacement has another txid but
 * spends one of the same outpoints (BIP-125). A txid commits to the outpoints, so these tell
 * both. */
static uint32_t is_duplicate(const hp_strategy *strategy, const hp_tx *tx)
{
    hp_tx_iter it = {0};
    hp_txin in;
    while (hp_tx_next_input(tx, &it, &in))
        if (hp_seen_has(strategy->seen, in.outpoint))
            return 1;
    return 0;
}

void hp_strategy_decide(const hp_strategy *strategy, const hp_tx *tx, hp_decision *d)
{
    d->n_signals = 0;
    d->n_paid = 0;
    d->unlisted = 0;
    d->duplicate = 0;
    if (tx->out_total_sat < strategy->min_signal_sat || hp_tx_is_coinbase(tx))
        return;
    sum_outputs(strategy, tx, d);
    if (d->n_signals == 0)
        return;
    input_side side = find_owners(strategy, tx, d);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d->n_signals; i++) {
        classify(strategy, tx, side, &d->signals[i]);
        if (d->signals[i].net_sat >= strategy->min_signal_sat)
            d->signals[kept++] = d->signals[i];
    }
    d->n_signals = kept;
    if (kept == 0)
        return;
    d->duplicate = is_duplicate(strategy, tx);
    if (d->duplicate) {
        d->n_signals = 0;
        d->unlisted = 0;
        return;
    }
    uint8_t txid[32];
    hp_tx_txid(tx, strategy->impl, txid);
    for (uint32_t i = 0; i < kept; i++) {
        memcpy(d->signals[i].txid, txid, sizeof txid);
        d->signals[i].rule = first_rule(strategy, &d->signals[i]);
    }
}

void hp_strategy_remember(hp_strategy *strategy, const hp_tx *tx)
{
    hp_tx_iter it = {0};
    hp_txin in;
    while (hp_tx_next_input(tx, &it, &in))
        hp_seen_add(strategy->seen, in.outpoint);
}

uint32_t hp_decision_outputs(const hp_decision *d, const hp_tx *tx, uint32_t exchange,
                             hp_paid_output *outputs, uint32_t cap)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n_paid && n < cap; i++) {
        if (d->paid[i].exchange != exchange)
            continue;
        hp_tx_iter it = d->paid[i].at;
        hp_txout out;
        hp_tx_next_output(tx, &it, &out);
        hp_paid_output *o = &outputs[n++];
        memset(o, 0, sizeof *o);
        o->value_sat = out.value_sat;
        o->vout = it.index - 1;
        o->script_len = out.script_len;
        memcpy(o->script, out.script, out.script_len);
    }
    return n;
}
