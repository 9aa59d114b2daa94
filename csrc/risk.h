/* The gate every order passes: each limit says no by its own code. */
#ifndef HP_RISK_H
#define HP_RISK_H

#include "harpoon.h"

#include <stdatomic.h>

typedef struct hp_risk {
    uint64_t max_orders;
    int64_t cooldown_ns;
    uint64_t orders; /* allowed so far, dry ones too: dry-run shows what live would do */
    int64_t last_ns[HP_RULES_MAX]; /* per rule, when it last fired; 0 never */
    atomic_int killed;
} hp_risk;

typedef struct hp_circumstances { /* of one order */
    int64_t now_ns;
    int ready;    /* a session is open and not held */
    int in_block; /* the transaction came with a block */
    int journal;  /* has room */
} hp_circumstances;

/* enum hp_verdict. */
int hp_risk_check(hp_risk *risk, uint32_t rule, const hp_circumstances *now);
/* An order leaves, or would in dry-run: it counts, and the rule's cooldown begins. */
void hp_risk_count(hp_risk *risk, uint32_t rule, int64_t now_ns);

#endif
