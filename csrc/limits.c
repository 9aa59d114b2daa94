/* What the risk gate is told: its limits, and what the controlling thread knows of prices,
 * positions and the venue's limits. And the orders of that thread, which pass the gate too. */
#include "clock.h"
#include "engine.h"
#include "journal.h"
#include "latch.h"

#include <errno.h>
#include <string.h>

#define TEXT_BYTES_MAX (HP_FRAME_BYTES_MAX - HP_WS_HEADER_MAX)

_Static_assert(HP_CLIENT_ID_LEN == HP_OUTPOINT_BYTES, "a name is remembered as an outpoint is");

/* ---- set-up ---------------------------------------------------------------------------------- */

int hp_engine_set_limits(hp_engine *e, const hp_limits *limits)
{
    return hp_risk_set_limits(e->risk, limits);
}

int hp_engine_add_market(hp_engine *e)
{
    return hp_risk_add_market(e->risk);
}

int hp_engine_set_terms(hp_engine *e, int order, const hp_terms *terms)
{
    int rc = order >= 0 && (uint32_t)order < e->magazine.n ? hp_risk_check_terms(e->risk, terms)
                                                           : -HP_ECONFIG;
    if (rc == 0)
        e->terms[order] = *terms;
    return rc;
}

int hp_engine_set_position(hp_engine *e, int market, int64_t position_e8)
{
    return hp_risk_set_position(e->risk, market, position_e8);
}

int hp_engine_count_past(hp_engine *e, int64_t age_ns, int64_t notional_e8, int rule, int exchange)
{
    int64_t now_ns = hp_now_ns();
    int64_t t_ns = age_ns < 0 ? now_ns : now_ns - age_ns;
    return hp_risk_count_past(e->risk, t_ns, now_ns, notional_e8, rule, exchange);
}

int hp_engine_expose(hp_engine *e, const hp_settlement *order)
{
    return hp_risk_expose(e->risk, order);
}

int hp_engine_settle(hp_engine *e, const hp_settlement *settlement)
{
    return hp_risk_settle(e->risk, settlement);
}

int hp_engine_use_latch(hp_engine *e, hp_latch *latch)
{
    hp_latch_state state;
    if (e->latch)
        return -HP_ECONFIG;
    e->latch = latch;
    const _Atomic uint64_t *word = hp_latch_word(latch);
    if (word)
        hp_risk_watch(e->risk, word);
    if (hp_latch_is_set(latch, &state))
        hp_risk_kill(e->risk);
    return 0;
}

/* ---- once a second --------------------------------------------------------------------------- */

static void set_venue_clock(hp_engine *e, int64_t now_ns)
{
    hp_risk_set_venue_clock(e->risk,
                            (hp_epoch_ms() + e->magazine.clock_offset_ms) * 1000000 - now_ns);
}

void hp_limits_look(hp_engine *e, int64_t now_ns)
{
    hp_risk_tidy(e->risk, now_ns);
    set_venue_clock(e, now_ns);
    hp_risk_look(e->risk);
}

/* ---- an order of the controlling thread ------------------------------------------------------ */

/* The intent is in the journal before the order can be anywhere else. */
static int write_request(hp_engine *e, const hp_order_request *request, const hp_order_event *o,
                         int64_t notional_e8)
{
    hp_intent intent;
    memset(&intent, 0, sizeof intent);
    memcpy(intent.client_id, request->client_id, sizeof intent.client_id);
    memcpy(intent.parent, request->parent, sizeof intent.parent);
    intent.terms = request->terms;
    intent.notional_e8 = notional_e8;
    intent.timestamp_ms = o->timestamp_ms;
    intent.t_rx_ns = o->rx_ns;
    intent.t_trigger_ns = o->trigger_ns;
    intent.order = o->order;
    intent.rule = o->rule;
    intent.exchange = o->exchange;
    intent.live = e->config.live;
    intent.reduces = request->reduces;
    return hp_journal_append(e->journal, HP_RECORD_INTENT, o->trigger_ns, &intent, sizeof intent,
                             NULL, 0);
}

static int send_on(hp_engine *e, int session, const uint8_t *text, size_t len)
{
    return hp_session_send_text(e->links[session].session, text, len);
}

/* When the first has failed, nothing has left on it, nor will (session.h). */
static int send_request(hp_engine *e, const uint8_t *text, size_t len, hp_order_event *o)
{
    if (!e->config.live)
        return 0;
    int rc = send_on(e, o->session, text, len);
    int other = rc < 0 ? hp_engine_taker(e, o->session) : -1;
    if (other < 0)
        return rc;
    o->session = (uint8_t)other;
    return send_on(e, other, text, len);
}

/* Before the intent: an order that then finds no room would have to be asked for. Each that is full
 * is left out by the next call. */
static int taker_with_room(hp_engine *e)
{
    int session = hp_engine_taker(e, -1);
    while (session >= 0 && e->config.live && !hp_session_has_room(e->links[session].session))
        session = hp_engine_taker(e, -1);
    return session;
}

static int judge(hp_engine *e, hp_candidate *candidate, const uint8_t name[HP_CLIENT_ID_LEN])
{
    int verdict = hp_risk_check(e->risk, candidate);
    return verdict == HP_ALLOWED && hp_seen_has(e->requested, name) ? HP_REFUSED_DUPLICATE
                                                                     : verdict;
}

static void handle_request(hp_engine *e, const hp_order_request *request, const uint8_t *text,
                           size_t len, hp_order_event *o)
{
    uint8_t name[HP_CLIENT_ID_LEN] = {0};
    int session = taker_with_room(e);
    memcpy(name, request->client_id, strlen(request->client_id));
    hp_candidate candidate = {
        .now_ns = o->trigger_ns,
        .terms = &request->terms,
        .rule = -1,
        .exchange = HP_NOBODY,
        .ready = session >= 0,
        .journal = (uint8_t)hp_journal_ready(e->journal),
        .enabled = 1,
        .reduces = request->reduces,
        .orders = request->orders,
        .live = e->config.live,
    };
    o->verdict = (uint8_t)judge(e, &candidate, name);
    if (o->verdict != HP_ALLOWED)
        return;
    if (write_request(e, request, o, candidate.notional_e8) < 0) {
        o->verdict = HP_REFUSED_JOURNAL;
        return;
    }
    o->session = (uint8_t)session;
    hp_seen_add(e->requested, name);
    hp_risk_count(e->risk, &candidate);
    o->error = send_request(e, text, len, o);
    o->verdict = o->error < 0 ? HP_SEND_FAILED : e->config.live ? HP_ALLOWED : HP_DRY_RUN;
    o->sent_ns = o->verdict == HP_ALLOWED ? hp_now_ns() : 0;
}

static int is_string(const char *chars, size_t least)
{
    size_t len = strnlen(chars, HP_CLIENT_ID_LEN + 1);
    return len >= least && len <= HP_CLIENT_ID_LEN;
}

static int request_order(hp_engine *e, const hp_inbox_item *item)
{
    hp_order_request request;
    if (item->len <= sizeof request || item->len - sizeof request > TEXT_BYTES_MAX)
        return -EINVAL;
    memcpy(&request, item->bytes, sizeof request);
    if (!is_string(request.client_id, 1) || !is_string(request.parent, 0) ||
        request.reduces > 1 || request.orders < 1 || request.orders > 2 ||
        hp_risk_check_terms(e->risk, &request.terms) < 0)
        return -EINVAL;
    int64_t now_ns = hp_now_ns();
    hp_order_event o = {
        .timestamp_ms = item->number,
        .rx_ns = now_ns,
        .trigger_ns = now_ns,
        .order = HP_NO_TEMPLATE,
        .rule = -1,
        .exchange = HP_NOBODY,
    };
    memset(o.stage_ns, -1, sizeof o.stage_ns);
    memcpy(o.client_id, request.client_id, sizeof o.client_id);
    handle_request(e, &request, item->bytes + sizeof request, item->len - sizeof request, &o);
    hp_trade_count(e, &o);
    hp_engine_record(e, HP_RECORD_ORDER, &o, sizeof o, NULL, 0);
    return 0;
}

/* ---- commands -------------------------------------------------------------------------------- */

static int take(const hp_inbox_item *item, void *out, size_t size)
{
    if (item->len != size)
        return -EINVAL;
    memcpy(out, item->bytes, size);
    return 0;
}

static int take_price(hp_engine *e, const hp_inbox_item *item)
{
    hp_price price;
    int rc = take(item, &price, sizeof price);
    return rc < 0 ? rc : hp_risk_set_price(e->risk, &price, hp_now_ns());
}

static int take_settlement(hp_engine *e, const hp_inbox_item *item)
{
    hp_settlement settlement;
    int rc = take(item, &settlement, sizeof settlement);
    return rc < 0 ? rc : hp_risk_settle(e->risk, &settlement);
}

static int take_venue_limit(hp_engine *e, const hp_inbox_item *item)
{
    hp_venue_limit limit;
    int rc = take(item, &limit, sizeof limit);
    if (rc < 0)
        return rc;
    int64_t now_ns = hp_now_ns();
    set_venue_clock(e, now_ns);
    return hp_risk_set_venue_limit(e->risk, &limit, now_ns);
}

static int enable(hp_engine *e, int64_t order, int enabled)
{
    if (order < 0 || order >= e->magazine.n)
        return -EINVAL;
    hp_magazine_enable(&e->magazine, (uint32_t)order, enabled);
    return 0;
}

int hp_limits_obey(hp_engine *e, const hp_inbox_item *item)
{
    switch (item->kind) {
    case HP_COMMAND_PRICE:
        return take_price(e, item);
    case HP_COMMAND_SETTLE:
        return take_settlement(e, item);
    case HP_COMMAND_VENUE_LIMIT:
        return take_venue_limit(e, item);
    case HP_COMMAND_PAUSE:
        hp_risk_pause(e->risk, item->number);
        return 0;
    case HP_COMMAND_ENABLE:
    case HP_COMMAND_DISABLE:
        return enable(e, item->number, item->kind == HP_COMMAND_ENABLE);
    case HP_COMMAND_ORDER:
        return request_order(e, item);
    default:
        return -EINVAL;
    }
}
