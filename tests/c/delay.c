/* A loop that stood still: since when what comes may have waited, and what else is old when the
 * machine was suspended meanwhile. */
#include "clock.h"

static int64_t suspended_ns;

static int64_t fake_suspended_ns(void)
{
    return suspended_ns;
}

#define hp_suspended_ns fake_suspended_ns

#include "../../csrc/run.c"
#include "require.h"

#define MS INT64_C(1000000)
#define S INT64_C(1000000000)
#define E8 INT64_C(100000000)

static hp_engine engine;

static void give_price(int64_t now_ns)
{
    const hp_price price = {.bid_e8 = E8, .ask_e8 = E8, .t_ns = now_ns};
    require(hp_risk_set_price(engine.risk, &price, now_ns) == 0);
}

static int order(int64_t now_ns)
{
    const hp_terms market = {.quantity_e8 = E8};
    hp_candidate c = {.now_ns = now_ns,
                      .rx_ns = now_ns,
                      .terms = &market,
                      .ready = 1,
                      .journal = 1,
                      .enabled = 1,
                      .orders = 1,
                      .live = 1};
    return hp_risk_check(engine.risk, &c);
}

int main(void)
{
    const hp_limits limits = {
        .max_order_notional_e8 = 2 * E8,
        .max_total_notional_e8 = HP_NO_LIMIT,
        .max_position_notional_e8 = HP_NO_LIMIT,
        .max_orders_per_second = HP_NO_LIMIT,
        .max_orders_per_minute = HP_NO_LIMIT,
        .max_orders_per_hour = HP_NO_LIMIT,
        .max_orders_per_day = HP_NO_LIMIT,
        .max_signal_age_ns = HP_NO_LIMIT,
        .max_feed_silence_ns = HP_NO_LIMIT,
        .max_price_age_ns = 10 * S,
        .price_band_bp = HP_NO_LIMIT,
        .max_clock_offset_ms = HP_NO_LIMIT,
        .max_unresolved = HP_NO_LIMIT,
    };
    const int64_t began_ns = hp_now_ns(), late_ns = began_ns + 5 * MS, later_ns = late_ns + S;
    hp_source *node = &engine.sources[0];
    engine.n_feeds = 1;
    engine.awake_ns = began_ns;
    engine.risk = hp_risk_new(UINT64_MAX, 0);
    require(hp_risk_set_limits(engine.risk, &limits) == 0);
    require(hp_risk_add_market(engine.risk) == 0);
    hp_risk_set_clock_offset(engine.risk, 0);
    give_price(began_ns);

    note_delay(&engine, late_ns); /* no delay to speak of */
    require(node->held_up_ns == 0);
    note_delay(&engine, later_ns);
    require(node->held_up_ns == late_ns && !node->old_until_ns);
    require(order(later_ns) == HP_ALLOWED);

    suspended_ns = 3600 * S;
    note_delay(&engine, later_ns + S);
    require(node->held_up_ns == later_ns - 3600 * S);
    require(node->old_until_ns > later_ns && engine.sources[HP_DOOR].old_until_ns > later_ns);
    require(order(later_ns + S) == HP_REFUSED_PRICE_STALE);
    give_price(later_ns + S);
    require(order(later_ns + S) == HP_ALLOWED);
    note_delay(&engine, later_ns + 2 * S); /* of the same suspension, nothing again */
    require(order(later_ns + 2 * S) == HP_ALLOWED);
    hp_risk_free(engine.risk);
    return 0;
}
