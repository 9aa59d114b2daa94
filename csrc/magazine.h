/* Finished orders, waiting for their whale: text, signature, WebSocket frame and, for each session
 * that can seal ahead, the TLS record. One for every order template.
 *
 * The sessions share a round's frame, client order id and all: one signature, and whichever session
 * the order goes to, it is the same order. It goes to one of them only, because
 *   - a round is fired by one call (trade.c), which goes on to the other session only when nothing
 *     of the order has left, nor can any more, on the first (session.h);
 *   - hp_magazine_spend() in the same call ends whatever of the round bears that client order id,
 *     the frame and the sealed records of both sessions, so that no later call finds it. A record
 *     with another id may stay: nothing with that id has been sent.
 * Nothing runs in between: all of it belongs to one thread. */
#ifndef HP_MAGAZINE_H
#define HP_MAGAZINE_H

#include "order.h"
#include "session.h"

typedef struct hp_shot { /* what makes one order different from the next */
    int64_t timestamp_ms;
    int64_t built_ns; /* 0: there is none */
    char client_id[HP_CLIENT_ID_LEN + 1];
} hp_shot;

typedef struct hp_round { /* its order template has the same index, its sealed record that slot */
    hp_shot framed;       /* lies in `frame` */
    hp_shot sealed[HP_SESSIONS]; /* lie in the sessions' slots, as long as those are good */
    uint32_t frame_len;
    uint8_t frame[HP_WS_HEADER_MAX + HP_ORDER_BYTES_MAX];
} hp_round;

typedef struct hp_magazine {
    hp_order orders[HP_ORDERS_MAX];
    hp_round rounds[HP_ORDERS_MAX];
    hp_session *sessions[HP_SESSIONS];
    uint32_t n;
    uint8_t disabled[HP_ORDERS_MAX]; /* neither built nor sealed ahead */
    uint8_t run[16];      /* this run's part of every client order id */
    uint64_t last_number; /* this order's */
    int64_t clock_offset_ms;
    int64_t rearm_ns; /* a timestamp is renewed after so long */
    int64_t due_ns;   /* when the first timestamp is; 0 while something is left to do */
    uint32_t last[HP_SESSIONS]; /* sealed, of all that are armed */
    unsigned seen_to;           /* sessions of the last step, bit by number */
    int turn;                   /* session that is looked after next */
} hp_magazine;

/* At leisure: one step towards every round being armed on each of the `sessions`, bit by number,
 * which can seal ahead; some 2 us. 1 when there was something to do, 0 when all are armed, or the
 * error that closed a session. */
int hp_magazine_step(hp_magazine *magazine, unsigned sessions, int64_t now_ns);
/* Whether round i can be fired as it is on that session. */
int hp_magazine_is_armed(const hp_magazine *magazine, int session, uint32_t i, int64_t now_ns);

/* Whether its frame is good, though nothing is sealed: another record has used the number. */
int hp_magazine_is_framed(const hp_magazine *magazine, uint32_t i, int64_t now_ns);
/* At the trigger, for a round that is not even framed: its text; its signature; its frame, which
 * alone makes it one that there is. */
void hp_magazine_build(hp_magazine *magazine, uint32_t i);
/* The text of an order that has its id and timestamp already. */
void hp_magazine_rebuild(hp_magazine *magazine, uint32_t i, const char *client_id,
                         int64_t timestamp_ms);
int hp_magazine_frame(hp_magazine *magazine, int session, uint32_t i, int64_t now_ns);
/* Seal the frame ahead: 1, 0 when the session cannot, or an error. */
int hp_magazine_seal(hp_magazine *magazine, int session, uint32_t i);
/* Round i was fired, or would have been, as this order: what bears its id is not sent again. */
void hp_magazine_spend(hp_magazine *magazine, uint32_t i, const char *client_id);
/* It is made anew before it is sent. */
void hp_magazine_forget(hp_magazine *magazine, uint32_t i);
/* Whether round i may wait at all; from the beginning all may. */
void hp_magazine_enable(hp_magazine *magazine, uint32_t i, int enabled);

#endif
