/* The risk gate with time as an argument: its edges; and with `replay`, a script from standard
 * input, one answer a line, for tests/test_risk.py to compare with a plain model. */
#include "risk.h"
#include "require.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>

#define S INT64_C(1000000000)
#define E8 INT64_C(100000000)
#define T0 (INT64_C(1000000) * S) /* late enough for a day before it */

static const hp_limits none = {
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

static hp_risk *gate(const hp_limits *limits)
{
    hp_risk *risk = hp_risk_new(UINT64_MAX, 0);
    require(risk && hp_risk_set_limits(risk, limits) == 0 && hp_risk_add_market(risk) == 0);
    return risk;
}

static int order(hp_risk *risk, const hp_terms *terms, int64_t now_ns)
{
    hp_candidate c = {.now_ns = now_ns,
                      .rx_ns = now_ns,
                      .terms = terms,
                      .ready = 1,
                      .journal = 1,
                      .enabled = 1,
                      .orders = 1,
                      .live = 1};
    int verdict = hp_risk_check(risk, &c);
    if (verdict == HP_ALLOWED)
        hp_risk_count(risk, &c);
    return verdict;
}

/* More orders than are remembered one by one: the total never falls short of the truth, and is
 * right again when all of them are a day old. */
static void check_long_history(void)
{
    hp_limits limits = none;
    hp_terms one = {.quantity_e8 = E8, .price_e8 = E8};
    limits.max_total_notional_e8 = 5000 * E8;
    hp_risk *risk = gate(&limits);
    for (int64_t i = 0; i < 5000; i++)
        require(order(risk, &one, T0 + i * S) == HP_ALLOWED);
    require(order(risk, &one, T0 + 5000 * S) == HP_REFUSED_TOTAL_NOTIONAL);
    require(order(risk, &one, T0 + 86399 * S) == HP_REFUSED_TOTAL_NOTIONAL);
    for (int64_t i = 0; i < 5000; i++)
        require(order(risk, &one, T0 + (86400 + 5000) * S) == HP_ALLOWED);
    hp_risk_free(risk);
}

/* An order of exactly a day ago is yesterday's. */
static void check_day(void)
{
    hp_limits limits = none;
    hp_terms one = {.quantity_e8 = E8, .price_e8 = E8};
    limits.max_total_notional_e8 = E8;
    hp_risk *risk = gate(&limits);
    require(order(risk, &one, T0) == HP_ALLOWED);
    require(order(risk, &one, T0 + 86400 * S - 1) == HP_REFUSED_TOTAL_NOTIONAL);
    require(order(risk, &one, T0 + 86400 * S) == HP_ALLOWED);
    hp_risk_free(risk);
}

static long page_faults(void)
{
    struct rusage usage;
    require(getrusage(RUSAGE_THREAD, &usage) == 0);
    return usage.ru_minflt;
}

/* The greatest window is exact to the order, and no order waits for memory. */
static void check_wide_window(void)
{
    hp_limits limits = none;
    hp_terms one = {.quantity_e8 = E8, .price_e8 = E8};
    limits.max_orders_per_day = HP_RATE_MAX;
    hp_risk *risk = gate(&limits);
    long before = page_faults();
    for (int64_t i = 0; i < HP_RATE_MAX; i++)
        require(order(risk, &one, T0 + i) == HP_ALLOWED);
    require(page_faults() - before < 100); /* of 1024 pages */
    require(order(risk, &one, T0 + 86400 * S - 1) == HP_REFUSED_RATE_DAY);
    require(order(risk, &one, T0 + 86400 * S) == HP_ALLOWED);
    require(order(risk, &one, T0 + 86400 * S) == HP_REFUSED_RATE_DAY);
    hp_risk_free(risk);
}

/* Amounts at the end of their range are refused, and do not wrap. */
static void check_overflow(void)
{
    hp_limits limits = none;
    hp_terms most = {.quantity_e8 = INT64_MAX / 4, .price_e8 = INT64_MAX / 4};
    hp_terms beyond = {.quantity_e8 = INT64_MAX / 4 + 1, .price_e8 = 1};
    limits.max_position_notional_e8 = limits.max_order_notional_e8 = HP_NO_LIMIT - 1;
    limits.price_band_bp = 10000;
    hp_risk *risk = gate(&limits);
    hp_price price = {.bid_e8 = INT64_MAX / 4, .ask_e8 = INT64_MAX / 4};
    require(hp_risk_check_terms(risk, &most) == 0);
    require(hp_risk_check_terms(risk, &beyond) == -HP_ECONFIG);
    require(hp_risk_set_price(risk, &price, T0) == 0);
    require(order(risk, &most, T0) == HP_REFUSED_ORDER_NOTIONAL);
    most.price_e8 = 0;
    require(order(risk, &most, T0) == HP_REFUSED_ORDER_NOTIONAL);
    price.ask_e8++;
    require(hp_risk_set_price(risk, &price, T0) == -HP_ECONFIG);
    hp_risk_free(risk);

    limits.max_order_notional_e8 = HP_NO_LIMIT;
    risk = gate(&limits);
    price.ask_e8--;
    require(hp_risk_set_price(risk, &price, T0) == 0);
    require(order(risk, &most, T0) == HP_REFUSED_POSITION);
    hp_settlement all = {.quantity_e8 = INT64_MAX / 4, .filled_e8 = INT64_MAX / 4, .reduces = 1};
    for (int i = 0; i < 4; i++)
        require(hp_risk_expose(risk, &all) == 0);
    require(hp_risk_expose(risk, &all) == -ERANGE);
    for (int i = 0; i < 4; i++)
        require(hp_risk_settle(risk, &all) == 0);
    require(hp_risk_settle(risk, &all) == -ERANGE);
    hp_risk_free(risk);
}

static int leave(hp_risk *risk, int64_t now_ns)
{
    hp_terms one = {.quantity_e8 = E8, .price_e8 = E8};
    return order(risk, &one, now_ns);
}

/* A window that was found by a clock an hour ahead lasts no longer than any other. While the
 * venue's clock is unknown, windows go on by what it was. */
static void check_venue_clock(void)
{
    hp_venue_limit limit = {.window_ms = 10000, .limit = 1};
    int64_t ahead_ns = INT64_C(1700000000) * S - T0;
    hp_risk *risk = gate(&none);
    hp_risk_set_venue_clock(risk, ahead_ns + 3600 * S);
    require(hp_risk_set_venue_limit(risk, &limit, T0) == 0);
    require(leave(risk, T0) == HP_ALLOWED);
    require(leave(risk, T0) == HP_REFUSED_VENUE_LIMIT);
    hp_risk_set_venue_clock(risk, ahead_ns);
    require(leave(risk, T0) == HP_ALLOWED);
    require(leave(risk, T0 + 10 * S - 1) == HP_REFUSED_VENUE_LIMIT);
    hp_risk_set_clock_offset(risk, INT64_MIN);
    hp_risk_set_venue_clock(risk, ahead_ns + 3600 * S);
    hp_risk_set_clock_offset(risk, 0);
    require(leave(risk, T0 + 10 * S - 1) == HP_REFUSED_VENUE_LIMIT);
    require(leave(risk, T0 + 10 * S) == HP_ALLOWED);
    hp_risk_free(risk);
}

static void check_settings(void)
{
    hp_limits limits = none;
    hp_risk *risk = hp_risk_new(1, 1);
    require(risk);
    limits.max_orders_per_hour = HP_RATE_MAX + 1;
    require(hp_risk_set_limits(risk, &limits) == -HP_ECONFIG);
    limits.max_orders_per_hour = -1;
    require(hp_risk_set_limits(risk, &limits) == -HP_ECONFIG);
    limits = none;
    limits.venue_headroom_percent = 101;
    require(hp_risk_set_limits(risk, &limits) == -HP_ECONFIG);
    require(hp_risk_set_limits(risk, &none) == 0);
    require(hp_risk_set_limits(risk, &none) == -HP_ECONFIG);
    for (int i = 0; i < HP_MARKETS_MAX; i++)
        require(hp_risk_add_market(risk) == i);
    require(hp_risk_add_market(risk) == -ENOSPC);
    hp_risk_free(risk);
}

/* The word that is watched may come back to what it was: killed stays killed. */
static void check_watched_word(void)
{
    _Atomic uint64_t word = 7;
    hp_terms one = {.quantity_e8 = E8, .price_e8 = E8};
    hp_risk *risk = gate(&none);
    hp_risk_watch(risk, &word);
    require(order(risk, &one, T0) == HP_ALLOWED);
    atomic_store(&word, 8);
    require(!hp_risk_is_killed(risk));
    require(order(risk, &one, T0) == HP_REFUSED_KILLED);
    atomic_store(&word, 7);
    require(order(risk, &one, T0) == HP_REFUSED_KILLED);
    require(hp_risk_is_killed(risk));
    hp_risk_free(risk);
}

/* ---- replay ---------------------------------------------------------------------------------- */

#define NUMBERS_MAX 16

static int order_of(hp_risk *risk, const int64_t *n)
{
    hp_terms terms = {
        .quantity_e8 = n[2], .price_e8 = n[3], .market = (uint16_t)n[4], .is_sell = (uint8_t)n[5]};
    hp_candidate c = {.now_ns = n[0],
                      .rx_ns = n[1],
                      .terms = &terms,
                      .rule = (int16_t)n[6],
                      .exchange = (uint16_t)n[7],
                      .ready = (uint8_t)n[8],
                      .journal = (uint8_t)n[9],
                      .enabled = (uint8_t)n[10],
                      .doubt = (uint8_t)n[11],
                      .reduces = (uint8_t)n[12],
                      .live = (uint8_t)n[13],
                      .orders = (uint8_t)n[14]};
    int verdict = hp_risk_check(risk, &c);
    if (verdict == HP_ALLOWED)
        hp_risk_count(risk, &c);
    return verdict;
}

static int step(hp_risk *risk, char what, const int64_t *n)
{
    hp_price price = {.market = (uint32_t)n[0], .bid_e8 = n[1], .ask_e8 = n[2], .t_ns = n[3]};
    hp_settlement settlement = {.market = (uint32_t)n[0],
                                .is_sell = (uint8_t)n[1],
                                .quantity_e8 = n[2],
                                .filled_e8 = n[3],
                                .reduces = (uint8_t)n[4]};
    hp_venue_limit limit = {.index = (uint32_t)n[0],
                            .window_ms = (uint64_t)n[1],
                            .limit = (uint32_t)n[2],
                            .used = (uint32_t)n[3]};
    switch (what) {
    case 'o':
        return order_of(risk, n);
    case 'p':
        return hp_risk_set_price(risk, &price, n[4]);
    case 's':
        return hp_risk_settle(risk, &settlement);
    case 'e':
        return hp_risk_expose(risk, &settlement);
    case 'h':
        return hp_risk_count_past(risk, n[0], n[1], n[2], (int)n[3], (int)n[4]);
    case 'q':
        return hp_risk_set_position(risk, (int)n[0], n[1]);
    case 'v':
        return hp_risk_set_venue_limit(risk, &limit, n[4]);
    case 'a':
        hp_risk_set_venue_clock(risk, n[0]);
        return 0;
    case 'c':
        hp_risk_set_clock_offset(risk, n[0]);
        return 0;
    case 'u':
        hp_risk_pause(risk, n[0]);
        return 0;
    case 't':
        hp_risk_tidy(risk, n[0]);
        return 0;
    default:
        return -EINVAL;
    }
}

static int read_numbers(int64_t *n, int most)
{
    int count = 0;
    while (count < most && scanf(" %" SCNd64, &n[count]) == 1)
        count++;
    return count;
}

/* max_orders, cooldown, markets; the limits as in hp_limits; then a letter and numbers each. */
static void replay(void)
{
    int64_t n[NUMBERS_MAX];
    hp_limits limits;
    char what;
    require(read_numbers(n, 3) == 3);
    hp_risk *risk = hp_risk_new((uint64_t)n[0], n[1]);
    int64_t markets = n[2];
    require(sizeof limits == 15 * sizeof n[0] && read_numbers(n, 15) == 15);
    memcpy(&limits, n, sizeof limits);
    require(risk && hp_risk_set_limits(risk, &limits) == 0);
    while (markets-- > 0)
        hp_risk_add_market(risk);
    while (scanf(" %c", &what) == 1) {
        memset(n, 0, sizeof n);
        read_numbers(n, NUMBERS_MAX);
        printf("%d\n", step(risk, what, n));
    }
    hp_risk_free(risk);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "replay")) {
        replay();
        return 0;
    }
    check_settings();
    check_watched_word();
    check_venue_clock();
    check_overflow();
    check_day();
    check_wide_window();
    check_long_history();
    return 0;
}
