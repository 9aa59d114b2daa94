/* The limits, in the order in which they are reported. */
#include "risk.h"

int hp_risk_check(hp_risk *risk, uint32_t rule, int session_ready, int in_block, int64_t now_ns)
{
    if (atomic_load_explicit(&risk->killed, memory_order_acquire))
        return HP_REFUSED_KILLED;
    if (!session_ready)
        return HP_REFUSED_NOT_READY;
    if (risk->orders >= risk->max_orders)
        return HP_REFUSED_MAX_ORDERS;
    int64_t last_ns = risk->last_ns[rule];
    if (last_ns && now_ns - last_ns < risk->cooldown_ns)
        return HP_REFUSED_COOLDOWN;
    if (in_block)
        return HP_REFUSED_IN_BLOCK;
    risk->orders++;
    risk->last_ns[rule] = now_ns;
    return HP_ALLOWED;
}
