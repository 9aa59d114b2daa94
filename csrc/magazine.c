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

int hp_magazine_is_armed(const hp_magazine *m, const hp_session *session, uint32_t i,
                         int64_t now_ns)
{
    const hp_shot *shot = &m->rounds[i].sealed;
    return shot->built_ns && now_ns - shot->built_ns < STALE_AFTER * m->rearm_ns &&
           hp_session_is_armed(session, (int)i);
}

int hp_magazine_is_framed(const hp_magazine *m, uint32_t i, int64_t now_ns)
{
    const hp_shot *shot = &m->rounds[i].framed;
    return shot->built_ns && now_ns - shot->built_ns < STALE_AFTER * m->rearm_ns;
}

void hp_magazine_build(hp_magazine *m, uint32_t i, int64_t now_ns)
{
    hp_shot *shot = &m->rounds[i].framed;
    hp_client_id(m->run, ++m->last_number, shot->client_id);
    shot->timestamp_ms = hp_epoch_ms() + m->clock_offset_ms;
    shot->built_ns = now_ns;
    hp_order_build(&m->orders[i], shot->client_id, shot->timestamp_ms);
}

int hp_magazine_frame(hp_magazine *m, hp_session *session, uint32_t i)
{
    hp_round *round = &m->rounds[i];
    const hp_order *order = &m->orders[i];
    int len = hp_session_frame(session, HP_WS_TEXT, order->body, order->at.body_len, round->frame,
                               sizeof round->frame);
    if (len < 0)
        round->framed.built_ns = 0;
    else
        round->frame_len = (uint32_t)len;
    return len;
}

int hp_magazine_seal(hp_magazine *m, hp_session *session, uint32_t i)
{
    hp_round *round = &m->rounds[i];
    int rc = hp_session_arm(session, (int)i, round->frame, round->frame_len);
    round->sealed = round->framed;
    if (rc <= 0)
        round->sealed.built_ns = 0;
    return rc;
}

void hp_magazine_spend(hp_magazine *m, uint32_t i)
{
    hp_round *round = &m->rounds[i];
    if (!strcmp(round->framed.client_id, round->sealed.client_id))
        round->framed.built_ns = 0;
    round->sealed.built_ns = 0;
}

void hp_magazine_enable(hp_magazine *m, uint32_t i, int enabled)
{
    m->disabled[i] = !enabled;
    if (!enabled)
        m->rounds[i].framed.built_ns = m->rounds[i].sealed.built_ns = 0;
    m->due_ns = 0;
}

/* New texts for what is due, signed together: up to a batch of them. How many, or an error. */
static int renew(hp_magazine *m, hp_session *session, int64_t now_ns)
{
    hp_order *orders[HP_HMAC_BATCH_MAX];
    uint32_t which[HP_HMAC_BATCH_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n && n < HP_HMAC_BATCH_MAX; i++) {
        if (!is_due(m, i, now_ns))
            continue;
        hp_magazine_build(m, i, now_ns);
        orders[n] = &m->orders[i];
        which[n++] = i;
    }
    hp_orders_sign(orders, n);
    for (uint32_t k = 0; k < n; k++) {
        int rc = hp_magazine_frame(m, session, which[k]);
        if (rc < 0)
            return rc;
    }
    return (int)n;
}

static int needs_sealing(const hp_magazine *m, const hp_session *session, uint32_t i)
{
    const hp_round *round = &m->rounds[i];
    return round->framed.built_ns && (round->sealed.built_ns != round->framed.built_ns ||
                                      !hp_session_is_armed(session, (int)i));
}

/* Whether nothing has changed since every round was armed. Whatever uses up the record number ends
 * all of them together, so one tells of all. */
static int is_complete(const hp_magazine *m, const hp_session *session, int64_t now_ns)
{
    return now_ns < m->due_ns && hp_session_is_armed(session, (int)m->last);
}

int hp_magazine_step(hp_magazine *m, hp_session *session, int64_t now_ns)
{
    if (!hp_session_can_arm(session) || is_complete(m, session, now_ns))
        return 0;
    int rc = renew(m, session, now_ns);
    if (rc != 0)
        return rc < 0 ? rc : 1;
    for (uint32_t i = 0; i < m->n; i++)
        if (needs_sealing(m, session, i)) {
            m->due_ns = 0;
            m->last = i;
            rc = hp_magazine_seal(m, session, i);
            return rc < 0 ? rc : 1;
        }
    m->due_ns = INT64_MAX;
    for (uint32_t i = 0; i < m->n; i++) {
        int64_t built_ns = m->rounds[i].framed.built_ns;
        if (built_ns && built_ns + m->rearm_ns < m->due_ns)
            m->due_ns = built_ns + m->rearm_ns;
    }
    return 0;
}
