/* One venue connection: TCP through io.h, TLS over memory, WebSocket frames. */
#ifndef HP_SESSION_H
#define HP_SESSION_H

#include "opening.h"

#define HP_FRAME_BYTES_MAX 8192 /* the longest text we send, with its header */

/* Called for every whole text message; `number` is the session's. */
typedef void (*hp_on_text)(void *context, int number, const uint8_t *text, size_t len);

typedef struct hp_session hp_session;

/* NULL when memory is short. `io`, `stats`, `laid_down` and `context` must outlive the session. */
hp_session *hp_session_new(int number, hp_io *io, hp_stats *stats, hp_laid_down *laid_down,
                           uint32_t message_bytes_max, uint64_t send_timeout_ns,
                           hp_on_text on_text, void *context);
void hp_session_free(hp_session *session);

/* Nothing here but hp_session_settle() ever waits: neither for the peer nor for room in the socket.
 * What a full socket does not take leaves in hp_session_work(); until it has room again, no order
 * and no text is taken, and a Ping waits. When that lasts longer than send_timeout_ns, the session
 * ends. What fails to send an order has failed at once, which costs next to nothing, so that the
 * order can go elsewhere; it is closed in the next hp_session_work(). */

/* Begin to open what is closed: connect, TLS, upgrade; the work is hp_session_work()'s. Takes over
 * `opening`, and lays it down when the connection is over. 0, or the error with
 * hp_session_reason(). */
int hp_session_start(hp_session *session, hp_opening *opening);
/* Everything that can be done without waiting, but not much of a flood at once: open further; read,
 * answer, deliver. 0, or the error that closed the session, with hp_session_reason(); at once
 * -HP_ENOT_READY when it is closed. Call it after every hp_io_turn() and hp_io_wait(). */
int hp_session_work(hp_session *session);
/* When to work at the latest, though nothing came, or INT64_MAX. */
int64_t hp_session_next_ns(const hp_session *session);
int hp_session_is_opening(const hp_session *session);
int hp_session_is_open(const hp_session *session);
int hp_session_is_closed(const hp_session *session); /* else it may be closing, or have failed */
/* It is open, and its socket was not full when we last looked. */
int hp_session_can_send(const hp_session *session);
/* Of one that can send: whether its socket has room, by asking the kernel. */
int hp_session_has_room(hp_session *session);

/* Wait until what is opening or closing is open or closed: 0, or its error. -ECANCELED when we are
 * told to stop. */
int hp_session_settle(hp_session *session);
/* Frame, seal and send a text message: 0, -EAGAIN when it cannot be taken now, or the error by
 * which the session has failed. */
int hp_session_send_text(hp_session *session, const uint8_t *text, size_t len);
/* Touch what a send will need of the kernel's connection and of TLS, so that it stays in the
 * caches. */
void hp_session_touch(hp_session *session);
/* Begin to close what is open: the Close frame leaves, the peer has half a second for its own and
 * for what it had to say before; then close_notify. An opening is given up at once. */
void hp_session_close(hp_session *session);

/* The same as hp_session_send_text() in three steps, so that each can be timed. After an error of
 * the last two nothing of the frame has left, nor will: the session has failed, or the socket is
 * full, nothing is sealed, and it is -EAGAIN. A masked frame into `out`: its length, or an error.
 */
int hp_session_frame(hp_session *session, int opcode, const uint8_t *payload, size_t len,
                     uint8_t *out, size_t cap);
int hp_session_seal(hp_session *session, const uint8_t *frame, size_t len);
int hp_session_flush(hp_session *session);

/* Sealed ahead: up to HP_SLOTS_MAX alternatives for the record that leaves next (seal.c says why
 * that is safe). Whatever else is sent ends them all. */
/* Whether this open session can. */
int hp_session_can_arm(const hp_session *session);
/* Seal a frame into `slot`, in place of what is there: 1, 0 when the session cannot, or the error
 * by which it has failed. */
int hp_session_arm(hp_session *session, int slot, const uint8_t *frame, size_t len);
int hp_session_is_armed(const hp_session *session, int slot);
/* Send what is_armed says is there: 0 when the kernel has taken it, or a part of it which the rest
 * follows. Otherwise nothing of it has left, and nothing will if the slot is spoiled now: -EAGAIN
 * when the socket is full, or the error by which the session has failed. *now_ns becomes the time
 * when the send returned. */
int hp_session_fire(hp_session *session, int slot, int64_t *now_ns);
/* That one, or none of them, is sent any more. */
void hp_session_spoil(hp_session *session, int slot);
void hp_session_disarm(hp_session *session);

/* Leave at once and without a word: -ECANCELED. */
void hp_session_abandon(hp_session *session);

/* -errno or -HP_E... of the session's end, 0 when it was ours. */
int hp_session_error(const hp_session *session);
const char *hp_session_reason(const hp_session *session);
const char *hp_session_cipher(hp_session *session);

#endif
