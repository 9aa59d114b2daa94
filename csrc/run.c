/* The loop: commands, completions, feeds, the venue, and in idle time the arming. */
#include "clock.h"
#include "engine.h"
#include "journal.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#define REHEARSE_EVERY_NS INT64_C(1000000) /* how cold 1 ms makes a send: bench/BENCHMARKS.md */
#define REHEARSE_PARKED_NS INT64_C(10000000)
#define STATS_EVERY_NS INT64_C(1000000000)
#define RESTART_NS INT64_C(600000000000) /* to load and publish a full mempool */
#define POLL_NS_MOST INT64_C(3600000000000)
#define LATE_NS INT64_C(10000000)
#define SUSPENDED_NS_LEAST INT64_C(100000000)
#define TRANSACTIONS_PER_TURN 64 /* of another thread's feed */
#define JOURNAL_KEPT (1u << 20) /* bytes not for the venue's messages */

/* ---- the journal ----------------------------------------------------------------------------- */

int hp_engine_record(hp_engine *e, uint32_t kind, const void *first, size_t first_len,
                     const void *second, size_t second_len)
{
    int rc = hp_journal_append(e->journal, kind, hp_now_ns(), first, first_len, second, second_len);
    e->stats.records_lost += rc < 0;
    return rc;
}

/* Who talks much may lose his own words, not the news of our orders and the session. */
static void record_stranger(hp_engine *e, uint32_t kind, const void *first, size_t first_len,
                            const void *second, size_t second_len)
{
    if (first_len + second_len + JOURNAL_KEPT > hp_journal_room(e->journal))
        e->stats.records_lost++;
    else
        hp_engine_record(e, kind, first, first_len, second, second_len);
}

static void on_text(void *context, int session, const uint8_t *text, size_t len)
{
    hp_session_note note = {.session = (uint32_t)session};
    record_stranger(context, HP_RECORD_MESSAGE, &note, sizeof note, text, len);
}

static int record_beginning(hp_engine *e, int session)
{
    hp_session_note note = {.session = (uint32_t)session};
    const char *cipher = hp_session_cipher(e->links[session].session);
    return hp_engine_record(e, HP_RECORD_OPENED, &note, sizeof note, cipher, strlen(cipher));
}

static int record_end(hp_engine *e, int session)
{
    const hp_link *link = &e->links[session];
    hp_closed_note note = {
        .error = hp_session_error(link->session),
        .was_open = link->told == HP_TOLD_OPEN,
        .session = (uint8_t)session,
    };
    e->reason = hp_session_reason(link->session);
    return hp_engine_record(e, HP_RECORD_CLOSED, &note, sizeof note, e->reason,
                            strlen(e->reason));
}

static void notice(hp_engine *e, int session)
{
    hp_link *link = &e->links[session];
    enum hp_told now = hp_session_is_open(link->session)      ? HP_TOLD_OPEN
                       : hp_session_is_opening(link->session) ? HP_TOLD_OPENING
                       : hp_session_is_closed(link->session)  ? HP_TOLD_CLOSED
                                                              : link->told;
    if (now == link->told)
        return;
    if (now < link->told && record_end(e, session) < 0)
        return;
    if (now == HP_TOLD_OPEN && record_beginning(e, session) < 0)
        return;
    link->told = (uint8_t)now;
}

void hp_engine_notice(hp_engine *e)
{
    for (int k = 0; k < HP_SESSIONS && e->links[k].session; k++)
        notice(e, k);
}

/* ---- feeds ----------------------------------------------------------------------------------- */

static void on_rawtx(void *context, int endpoint, const uint8_t *raw, size_t len, int64_t t_rx_ns)
{
    hp_trade(context, endpoint, raw, len, t_rx_ns);
}

/* Bitcoin Core publishes 'A' behind the rawtx of a transaction that entered the mempool, 'C' behind
 * those of a connected block (doc/zmq.md): either ends what a coinbase began. */
static void on_sequence(void *context, int endpoint, uint8_t label, const uint8_t hash[32])
{
    hp_engine *e = context;
    e->sources[endpoint].has_sequence = 1;
    if (label != 'R')
        e->sources[endpoint].doubt = HP_ALLOWED;
    if (label == 'A' || label == 'R')
        return;
    hp_block_note note = {.endpoint = (uint16_t)endpoint, .label = label};
    memcpy(note.hash, hash, sizeof note.hash);
    record_stranger(e, HP_RECORD_BLOCK, &note, sizeof note, NULL, 0);
}

/* What was lost may have been a coinbase: what follows is in doubt as a block's is. A restarted
 * node publishes the mempool that it had saved, hours old. */
void hp_engine_distrust(hp_engine *e, int source, int restarted)
{
    hp_source *s = &e->sources[source];
    int64_t now_ns = hp_now_ns();
    s->doubt = HP_REFUSED_FEED;
    s->last_rx_ns = now_ns;
    s->block_until_ns = now_ns + HP_BLOCK_NS;
    if (restarted)
        s->old_until_ns = now_ns + RESTART_NS;
}

static void on_break(void *context, int endpoint, uint32_t lost, int restarted)
{
    hp_engine *e = context;
    e->stats.transactions_lost += lost;
    hp_engine_distrust(e, endpoint, restarted);
}

static void on_note(void *context, int endpoint, int kind, int topic, uint64_t count,
                    uint32_t sequence, const char *words)
{
    hp_engine *e = context;
    if (kind == HP_FEED_CONNECTED)
        e->sources[endpoint].has_sequence = 0; /* until it speaks of it */
    hp_feed_note note = {
        .count = count,
        .sequence = sequence,
        .endpoint = (uint16_t)endpoint,
        .kind = (uint8_t)kind,
        .topic = (uint8_t)topic,
    };
    record_stranger(e, HP_RECORD_FEED, &note, sizeof note, words, strlen(words));
}

hp_feed_door hp_engine_feed_door(hp_engine *e)
{
    return (hp_feed_door){e, on_rawtx, on_sequence, on_break, on_note};
}

/* ---- the owning thread ----------------------------------------------------------------------- */

int hp_engine_claim(hp_engine *e)
{
    if (!e->claimed) {
        e->owner = pthread_self();
        e->claimed = 1;
    }
    return pthread_equal(e->owner, pthread_self()) ? 0 : -HP_ETHREAD;
}

int hp_engine_furnish(hp_engine *e)
{
    e->reason = "";
    int rc = e->io_is_open ? 0 : hp_io_open(&e->io, e->config.transport, &e->aborted);
    if (rc < 0) {
        e->reason = e->io.words;
        return rc;
    }
    e->io_is_open = 1;
    if (!e->rehearsal)
        e->rehearsal = hp_rehearsal_new(&e->io, &rc);
    if (rc < 0)
        return rc;
    for (int k = 0; k < HP_SESSIONS && !e->links[k].session; k++) {
        hp_session *session = hp_session_new(k, &e->io, &e->stats, &e->laid_down,
                                             e->config.message_bytes_max,
                                             e->config.send_timeout_ns, on_text, e);
        if (!session)
            return -ENOMEM;
        e->links[k].session = e->magazine.sessions[k] = session;
    }
    return 0;
}

/* ---- one turn -------------------------------------------------------------------------------- */

static int take_transactions(hp_engine *e)
{
    hp_inbox_item item;
    int n = 0;
    for (; n < TRANSACTIONS_PER_TURN && hp_inbox_next(e->transactions, &item); n++) {
        if (item.kind != HP_OFFER_NEXT)
            hp_engine_distrust(e, HP_DOOR, item.kind == HP_OFFER_RESTARTED);
        hp_trade(e, HP_DOOR, item.bytes, item.len, item.number);
        hp_inbox_done(e->transactions);
    }
    return n;
}

static int work_sessions(hp_engine *e)
{
    uint64_t before = e->stats.bytes_received;
    for (int k = 0; k < HP_SESSIONS; k++)
        hp_session_work(e->links[k].session);
    hp_engine_notice(e);
    for (int k = 0; k < HP_SESSIONS; k++)
        if (hp_engine_open_next(e, k) < 0)
            hp_engine_notice(e);
    return e->stats.bytes_received != before;
}

int hp_engine_takes_orders(const hp_engine *e, int session)
{
    const hp_link *link = &e->links[session];
    return !e->held && !link->held && link->session && hp_session_can_send(link->session);
}

int hp_engine_taker(const hp_engine *e, int except)
{
    for (int n = 0; n < HP_SESSIONS; n++) {
        int session = (e->preferred + n) % HP_SESSIONS;
        if (session != except && hp_engine_takes_orders(e, session))
            return session;
    }
    return -1;
}

/* Whoever has set the latch: that it was seen. */
static void tell_kill(hp_engine *e)
{
    if (e->kill_told || !hp_engine_killed(e))
        return;
    e->kill_told = 1;
    static const char words[] = "killed: no order is sent any more";
    hp_engine_record(e, HP_RECORD_NOTICE, words, sizeof words - 1, NULL, 0);
}

static void tell_stats(hp_engine *e, int64_t now_ns)
{
    e->next_stats_ns = now_ns + STATS_EVERY_NS;
    hp_limits_look(e, now_ns);
    hp_engine_record(e, HP_RECORD_STATS, &e->stats, sizeof e->stats, NULL, 0);
}

enum outcome { /* of a turn */
    NOTHING = 0, /* all is done */
    STEP,        /* something that could wait; there may be more */
    CAME,        /* something that could not */
};

static int is_trading(const hp_engine *e)
{
    return hp_engine_ready(e) && e->strategy.n_rules > 0;
}

/* The sessions on which orders are armed, bit by number. */
static unsigned arming(const hp_engine *e)
{
    unsigned sessions = 0;
    if (!is_trading(e) || !hp_journal_ready(e->journal))
        return 0;
    for (int k = 0; k < HP_SESSIONS; k++)
        if (hp_engine_takes_orders(e, k) && hp_session_can_arm(e->links[k].session))
            sessions |= 1u << k;
    return sessions;
}

/* One small step of what can wait. */
static enum outcome idle(hp_engine *e, int64_t now_ns)
{
    tell_kill(e);
    if (hp_magazine_step(&e->magazine, arming(e), now_ns) != 0) {
        hp_engine_notice(e);
        return STEP;
    }
    if (now_ns >= e->next_stats_ns) {
        tell_stats(e, now_ns);
    } else if (is_trading(e) && now_ns >= e->next_rehearsal_ns) {
        e->next_rehearsal_ns = now_ns + (e->config.spin ? REHEARSE_EVERY_NS : REHEARSE_PARKED_NS);
        hp_trade_rehearse(e);
    }
    return NOTHING;
}

/* A flood may put off what can wait, but not for good. */
static int is_overdue(const hp_engine *e, int64_t now_ns)
{
    return now_ns >= e->next_stats_ns || (now_ns >= e->magazine.due_ns && arming(e));
}

/* While the machine slept, CLOCK_MONOTONIC stood still: no price that we have is as young as it
 * seems, and what a node sends now may be of before. For how long. */
static int64_t note_suspension(hp_engine *e)
{
    int64_t before_ns = e->suspended_ns;
    e->suspended_ns = hp_suspended_ns();
    if (e->suspended_ns - before_ns < SUSPENDED_NS_LEAST)
        return 0;
    hp_risk_forget_prices(e->risk);
    for (int i = 0; i <= HP_DOOR; i++)
        hp_engine_distrust(e, i, 1);
    return e->suspended_ns - before_ns;
}

/* While we were held up, a pause between two transactions was ours and not their publisher's, and
 * so was the time that a block takes; what lies in the sockets may have come when that began. */
static void note_delay(hp_engine *e, int64_t now_ns)
{
    int64_t late_ns = now_ns - e->awake_ns;
    int64_t since_ns = e->awake_ns - (late_ns > LATE_NS ? note_suspension(e) : 0);
    for (uint32_t i = 0; late_ns > LATE_NS && i < e->n_feeds; i++) {
        hp_source *s = &e->sources[i];
        s->last_rx_ns += late_ns;
        s->block_until_ns += late_ns;
        if (!s->held_up_ns || since_ns < s->held_up_ns)
            s->held_up_ns = since_ns;
    }
    e->awake_ns = now_ns;
}

static int work_feeds(hp_engine *e, int64_t now_ns)
{
    int messages = 0;
    for (uint32_t i = 0; e->listening && i < e->n_feeds; i++) {
        messages += hp_feed_work(e->feeds[i], now_ns);
        if (hp_feed_is_drained(e->feeds[i]))
            e->sources[i].held_up_ns = 0;
    }
    return messages;
}

static enum outcome turn(hp_engine *e, int64_t now_ns)
{
    note_delay(e, now_ns);
    e->strategy.book = hp_handover_take(&e->books, e->strategy.book);
    int work = hp_engine_take_command(e);
    e->io_error = hp_io_turn(&e->io);
    work += work_feeds(e, now_ns);
    work += take_transactions(e);
    work += work_sessions(e);
    if (work && !is_overdue(e, now_ns))
        return CAME;
    enum outcome outcome = idle(e, now_ns);
    return work ? CAME : outcome;
}

/* When somebody wants to be worked at the latest. */
static int64_t next_ns(const hp_engine *e)
{
    int64_t next = e->next_stats_ns;
    for (int k = 0; k < HP_SESSIONS; k++) {
        int64_t session_ns = hp_session_next_ns(e->links[k].session);
        next = session_ns < next ? session_ns : next;
    }
    for (uint32_t i = 0; e->listening && i < e->n_feeds; i++) {
        int64_t feed_ns = hp_feed_next_ns(e->feeds[i]);
        next = feed_ns < next ? feed_ns : next;
    }
    if (is_trading(e) && e->next_rehearsal_ns < next)
        next = e->next_rehearsal_ns;
    if (e->magazine.due_ns < next && arming(e))
        next = e->magazine.due_ns;
    return next;
}

/* Who wakes behind his time was held up, from then at the latest. While orders can leave, the next
 * rehearsal bounds the sleep, so that nothing waits long unnoticed. */
static void sleep_until(hp_engine *e, int64_t wake_ns)
{
    int64_t next = next_ns(e);
    int64_t until_ns = next < wake_ns ? next : wake_ns;
    int64_t left_ns = until_ns - hp_now_ns();
    if (left_ns <= 0)
        return;
    e->io_error = hp_io_wait(&e->io, left_ns);
    int64_t now_ns = hp_now_ns();
    e->awake_ns = now_ns < until_ns ? now_ns : until_ns;
}

static int is_aborted(const hp_engine *e)
{
    return atomic_load_explicit(&e->aborted, memory_order_relaxed);
}

static void abandon_sessions(hp_engine *e)
{
    for (int k = 0; k < HP_SESSIONS; k++)
        hp_session_abandon(e->links[k].session);
    hp_engine_notice(e);
}

/* Whether there is a session to wait for. */
static int is_connected(const hp_engine *e)
{
    for (int k = 0; k < HP_SESSIONS; k++)
        if (!hp_session_is_closed(e->links[k].session))
            return 1;
    return 0;
}

int hp_engine_poll(hp_engine *e, int64_t timeout_ns)
{
    int rc = hp_engine_claim(e);
    if (rc < 0 || (rc = hp_engine_furnish(e)) < 0)
        return rc;
    e->listening = 1;
    int64_t end_ns = hp_now_ns() + (timeout_ns < POLL_NS_MOST ? timeout_ns : POLL_NS_MOST);
    for (;;) {
        enum outcome outcome = turn(e, hp_now_ns());
        if (e->io_error < 0)
            return e->io_error;
        if (!e->n_feeds && !is_connected(e))
            return -HP_ENOT_READY;
        if (is_aborted(e)) {
            abandon_sessions(e);
            return -ECANCELED;
        }
        if (outcome == CAME || hp_now_ns() >= end_ns)
            return 0;
        if (outcome == NOTHING)
            sleep_until(e, end_ns);
    }
}

/* ---- the hot thread -------------------------------------------------------------------------- */

static int stay_on(int32_t cpu)
{
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET((size_t)cpu, &only);
    return sched_setaffinity(0, sizeof only, &only) < 0 ? -errno : 0;
}

static void say_goodbye(hp_engine *e)
{
    for (int k = 0; k < HP_SESSIONS; k++)
        hp_session_close(e->links[k].session);
    for (int k = 0; k < HP_SESSIONS; k++)
        hp_session_settle(e->links[k].session);
}

int hp_engine_run(hp_engine *e)
{
    int rc = hp_engine_claim(e);
    if (rc == 0 && e->config.cpu >= 0)
        rc = stay_on(e->config.cpu);
    if (rc < 0 || (rc = hp_engine_furnish(e)) < 0)
        return rc;
    e->stopping = 0;
    while (!e->stopping && !is_aborted(e) && e->io_error >= 0)
        if (turn(e, hp_now_ns()) == NOTHING && !e->config.spin)
            sleep_until(e, INT64_MAX);
    if (e->stopping && e->io_error >= 0)
        say_goodbye(e);
    abandon_sessions(e);
    for (uint32_t i = 0; i < e->n_feeds; i++)
        hp_feed_leave(e->feeds[i]);
    tell_stats(e, hp_now_ns());
    return e->io_error;
}
