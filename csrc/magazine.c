#include "magazine.h"
#include "clock.h"

#include <string.h>

/* A round that could not be renewed in time is better than none, up to here; engine/runner.py
 * keeps that well inside the venue's recvWindow. */
#define STALE_AFTER 2

static int is_due(const hp_magazine *m, uint32_t i, int64_t now_ns)
{
    int64_t built_ns = m->rounds[i].framed.built_ns;
    return hp_order_can_sign(&m->orders[i]) && !m->disabled[i] &&
           (built_ns == 0 || now_ns - built_ns >= m->rearm_ns);
}

int hp_magazine_is_armed(const hp_magazine *m, int session, uint32_t i, int64_t now_ns)
{
    const hp_shot *shot = &m->rounds[i].sealed[session];
    return shot->built_ns && now_ns - shot->built_ns < STALE_AFTER * m->rearm_ns &&
           hp_session_is_armed(m->sessions[session], (int)i);
}

int hp_magazine_is_framed(const hp_magazine *m, uint32_t i, int64_t now_ns)
{
    const hp_shot *shot = &m->rounds[i].framed;
    return shot->built_ns && now_ns - shot->built_ns < STALE_AFTER * m->rearm_ns;
}

void hp_magazine_build(hp_magazine *m, uint32_t i)
{
    char client_id[HP_CLIENT_ID_LEN + 1];
    hp_client_id(m->run, ++m->last_number, client_id);
    hp_magazine_rebuild(m, i, client_id, hp_epoch_ms() + m->clock_offset_ms);
}

void hp_magazine_rebuild(hp_magazine *m, uint32_t i, const char *client_id, int64_t timestamp_ms)
{
    hp_shot *shot = &m->rounds[i].framed;
    memcpy(shot->client_id, client_id, sizeof shot->client_id);
    shot->timestamp_ms = timestamp_ms;
    shot->built_ns = 0; /* `frame` is another's still */
    hp_order_build(&m->orders[i], shot->client_id, shot->timestamp_ms);
}

int hp_magazine_frame(hp_magazine *m, int session, uint32_t i, int64_t now_ns)
{
    hp_round *round = &m->rounds[i];
    const hp_order *order = &m->orders[i];
    int len = hp_session_frame(m->sessions[session], HP_WS_TEXT, order->body, order->at.body_len,
                               round->frame, sizeof round->frame);
    if (len < 0)
        return len;
    round->frame_len = (uint32_t)len;
    round->framed.built_ns = now_ns;
    return len;
}

int hp_magazine_seal(hp_magazine *m, int session, uint32_t i)
{
    hp_round *round = &m->rounds[i];
    int rc = hp_session_arm(m->sessions[session], (int)i, round->frame, round->frame_len);
    round->sealed[session] = round->framed;
    if (rc <= 0)
        round->sealed[session].built_ns = 0;
    return rc;
}

void hp_magazine_spend(hp_magazine *m, uint32_t i, const char *client_id)
{
    hp_round *round = &m->rounds[i];
    if (!strcmp(round->framed.client_id, client_id))
        round->framed.built_ns = 0;
    for (int k = 0; k < HP_SESSIONS; k++)
        if (!strcmp(round->sealed[k].client_id, client_id)) {
            round->sealed[k].built_ns = 0;
            hp_session_spoil(m->sessions[k], (int)i);
        }
    m->due_ns = 0;
}

void hp_magazine_forget(hp_magazine *m, uint32_t i)
{
    m->rounds[i].framed.built_ns = 0;
    for (int k = 0; k < HP_SESSIONS; k++)
        m->rounds[i].sealed[k].built_ns = 0;
    m->due_ns = 0;
}

void hp_magazine_enable(hp_magazine *m, uint32_t i, int enabled)
{
    m->disabled[i] = !enabled;
    hp_magazine_forget(m, i);
}

/* New texts for what is due, signed together: up to a batch of them. How many, or an error. */
static int renew(hp_magazine *m, int session, int64_t now_ns)
{
    hp_order *orders[HP_HMAC_BATCH_MAX];
    uint32_t which[HP_HMAC_BATCH_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n && n < HP_HMAC_BATCH_MAX; i++) {
        if (!is_due(m, i, now_ns))
            continue;
        hp_magazine_build(m, i);
        orders[n] = &m->orders[i];
        which[n++] = i;
    }
    if (n == 0)
        return 0;
    hp_orders_sign(orders, n);
    for (uint32_t k = 0; k < n; k++) {
        int rc = hp_magazine_frame(m, session, which[k], now_ns);
        if (rc < 0)
            return rc;
    }
    return (int)n;
}

static int needs_sealing(const hp_magazine *m, int session, uint32_t i)
{
    const hp_round *round = &m->rounds[i];
    return round->framed.built_ns && (round->sealed[session].built_ns != round->framed.built_ns ||
                                      !hp_session_is_armed(m->sessions[session], (int)i));
}

/* One round that is not armed on that session: 1, 0 without one, or an error. */
static int seal_one(hp_magazine *m, int session)
{
    for (uint32_t i = 0; i < m->n; i++)
        if (needs_sealing(m, session, i)) {
            m->due_ns = 0;
            m->last[session] = i;
            int rc = hp_magazine_seal(m, session, i);
            return rc < 0 ? rc : 1;
        }
    return 0;
}

/* Whether nothing has changed since every round was armed. Whatever uses up a session's record
 * number ends all that it has together, so one tells of all. */
static int is_complete(const hp_magazine *m, unsigned sessions, int64_t now_ns)
{
    for (int k = 0; k < HP_SESSIONS; k++)
        if (sessions >> k & 1 && !hp_session_is_armed(m->sessions[k], (int)m->last[k]))
            return 0;
    return now_ns < m->due_ns;
}

static int64_t first_due_ns(const hp_magazine *m)
{
    int64_t due_ns = INT64_MAX;
    for (uint32_t i = 0; i < m->n; i++) {
        int64_t built_ns = m->rounds[i].framed.built_ns;
        if (built_ns && built_ns + m->rearm_ns < due_ns)
            due_ns = built_ns + m->rearm_ns;
    }
    return due_ns;
}

/* In turns, so that one that is disturbed all the time does not keep the other unarmed. */
int hp_magazine_step(hp_magazine *m, unsigned sessions, int64_t now_ns)
{
    if (sessions != m->seen_to) /* what one of them has may be of long ago */
        m->due_ns = 0;
    m->seen_to = sessions;
    if (!sessions || is_complete(m, sessions, now_ns))
        return 0;
    int rc = renew(m, __builtin_ctz(sessions), now_ns);
    for (int n = 0; rc == 0 && n < HP_SESSIONS; n++) {
        int k = m->turn;
        m->turn = (k + 1) % HP_SESSIONS;
        rc = sessions >> k & 1 ? seal_one(m, k) : 0;
    }
    if (rc == 0)
        m->due_ns = first_due_ns(m);
    return rc < 0 ? rc : rc > 0;
}
