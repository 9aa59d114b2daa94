/* What a Bitcoin Core node publishes, put together from ZMTP frames: topic, body and a 4-byte
 * little-endian number that counts the topic's messages (Bitcoin Core, doc/zmq.md). */
#ifndef HP_FEED_MESSAGE_H
#define HP_FEED_MESSAGE_H

#include "feed.h"

#define HP_MESSAGE_PARTS 3
#define HP_MESSAGE_BYTES_MAX (HP_TX_BYTES_MAX + 64) /* the largest body, headers, topic, number */
#define HP_MESSAGE_TOPICS 3
#define HP_MESSAGE_TALLIES 3

typedef struct hp_message_part { /* offset from the message's start */
    size_t offset;
    size_t len;
} hp_message_part;

typedef struct hp_message_numbering {
    uint32_t next;
    uint8_t known;
} hp_message_numbering;

typedef struct hp_message_tally {
    uint64_t count;
    uint32_t sequence;
} hp_message_tally;

typedef struct hp_messages {
    hp_message_part parts[HP_MESSAGE_PARTS];
    uint64_t n_parts; /* of the message that is being put together */
    uint8_t topic;
    uint8_t abandoned; /* its parts are gone, because it cannot be well-formed */
    uint8_t wants_sequence;
    int handed_on; /* messages, since the caller set it to 0 */
    int endpoint;
    const char *name;
    hp_feed_door door;
    hp_message_numbering numberings[HP_MESSAGE_TOPICS];
    int64_t notes_due_ns; /* when notes_left is full again */
    int notes_left;
    hp_message_tally untold[HP_MESSAGE_TALLIES][HP_MESSAGE_TOPICS];
    size_t strange_topic_len;
    uint8_t strange_topic[20];
} hp_messages;

extern const char *const hp_message_topics[HP_MESSAGE_TOPICS]; /* by enum hp_feed_topic */

/* One more frame of the message whose first frame's header is at `start`; the last one hands it on.
 * 1 when nothing up to the end of this frame is needed any more, 0 when it must stay. */
int hp_messages_add(hp_messages *m, const uint8_t *start, const hp_zmtp_frame *frame,
                    int64_t t_rx_ns);
/* Nothing before the next frame will stay: the message is longer than any well-formed one. */
void hp_messages_abandon(hp_messages *m);
/* A new connection: what was half a message is none. The numbering goes on. */
void hp_messages_restart(hp_messages *m);
/* To be called once notes_due_ns has come: notes that a flood held back are told as sums. */
void hp_messages_renew_notes(hp_messages *m, int64_t now_ns);

/* A note to the door, in printf's manner. */
__attribute__((format(printf, 6, 7))) void hp_messages_tell(const hp_messages *m, int kind,
                                                            int topic, uint64_t count,
                                                            uint32_t sequence, const char *format,
                                                            ...);
/* A stranger's bytes as something that no terminal obeys, cut to `cap` with its NUL. */
void hp_put_printable(char *out, size_t cap, const uint8_t *bytes, uint64_t len);

#endif
