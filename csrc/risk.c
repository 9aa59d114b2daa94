/* The limits, in the order in which they are reported. */
#include "risk.h"

int hp_risk_check(hp_risk *risk, uint32_t rule, const hp_circumstances *now)
{
    if (atomic_load_explicit(&risk->killed, memory_order_acquire))
        return HP_REFUSED_KILLED;
    if (!now->ready)
        return HP_REFUSED_NOT_READY;
    if (!now->journal)
        return HP_REFUSED_JOURNAL;
    if (risk->orders >= risk->max_orders)
        return HP_REFUSED_MAX_ORDERS;
    int64_t last_ns = risk->last_ns[rule];
    if (last_ns && now->now_ns - last_ns < risk->cooldown_ns)
        return HP_REFUSED_COOLDOWN;
    if (now->in_block)
        return HP_REFUSED_IN_BLOCK;
    return HP_ALLOWED;
}

void hp_risk_count(hp_risk *risk, uint32_t rule, int64_t now_ns)
{
    risk->orders++;
    risk->last_ns[rule] = now_ns;
}
