/* What a transaction is for the exchanges it pays, and which rule applies. */
#ifndef HP_STRATEGY_H
#define HP_STRATEGY_H

#include "harpoon.h"
#include "seen.h"

typedef struct hp_strategy {
    const hp_book *book;
    const hp_sha256_impl *impl;
    hp_seen *seen;
    int64_t min_signal_sat;
    uint32_t sweep_inputs_min;
    uint32_t n_rules;
    hp_rule rules[HP_RULES_MAX];
} hp_strategy;

typedef struct hp_paid_at { /* where an output that pays an exchange begins */
    hp_tx_iter at;
    uint16_t exchange;
} hp_paid_at;

typedef struct hp_decision {
    hp_signal signals[HP_SIGNALS_MAX];
    hp_paid_at paid[HP_PAID_OUTPUTS_MAX];
    uint32_t n_signals;
    uint32_t n_paid;
    uint32_t unlisted;  /* exchanges that found no room in `signals` */
    uint32_t duplicate; /* an outpoint has signalled before: no signals */
    uint8_t is_unlisted[HP_EXCHANGES_MAX]; /* valid while `unlisted` is not 0 */
} hp_decision;

/* `tx` comes from hp_tx_parse(). */
void hp_strategy_decide(const hp_strategy *strategy, const hp_tx *tx, hp_decision *decision);
/* From now on this transaction, and any that spends one of its outpoints, is a duplicate. */
void hp_strategy_remember(hp_strategy *strategy, const hp_tx *tx);
/* The outputs that pay `exchange`, up to `cap` of them: how many were written. */
uint32_t hp_decision_outputs(const hp_decision *decision, const hp_tx *tx, uint32_t exchange,
                             hp_paid_output *outputs, uint32_t cap);

#endif
