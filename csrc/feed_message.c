/* feed_message.c: frames become messages: handed on, counted, or told to be wrong. */
#include "feed_message.h"

#include "bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NUMBER_BYTES 4
#define HASH_BYTES 32
#define NOTES_PER_S 100 /* further ones are told as a sum: who sends rubbish must not fill a disk */
#define WORDS_BYTES 512

_Static_assert(HP_MESSAGE_BYTES_MAX >= HP_TX_BYTES_MAX + 3 * 9 + 8 + NUMBER_BYTES,
               "three long headers, a topic, the largest body and its number fit");
_Static_assert(HP_FEED_GAP == HP_FEED_MALFORMED + 1 && HP_FEED_RESTART == HP_FEED_MALFORMED + 2,
               "the tallies are numbered by the kinds of notes about messages");

const char *const hp_message_topics[HP_MESSAGE_TOPICS] = {"", "rawtx", "sequence"};

/* ---- notes ---------------------------------------------------------------------------------- */

void hp_messages_tell(const hp_messages *m, int kind, int topic, uint64_t count,
                      uint32_t sequence, const char *format, ...)
{
    char words[WORDS_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    m->door.on_note(m->door.context, m->endpoint, kind, topic, count, sequence, words);
}

/* Whether a note about messages may be told now. If not, it goes into a sum. */
static int may_tell(hp_messages *m, int kind, uint64_t count, uint32_t sequence)
{
    if (m->notes_left > 0) {
        m->notes_left--;
        return 1;
    }
    hp_message_tally *sum = &m->untold[kind - HP_FEED_MALFORMED][m->topic];
    sum->count += count;
    sum->sequence = sequence;
    return 0;
}

static void tell_sum(const hp_messages *m, int kind, int topic, hp_message_tally sum)
{
    const char *name = hp_message_topics[topic];
    unsigned long long count = sum.count;
    if (kind == HP_FEED_MALFORMED)
        hp_messages_tell(m, kind, topic, sum.count, sum.sequence,
                         "%llu more messages from %s were wrong and ignored: check that a Bitcoin "
                         "Core node publishes there.",
                         count, m->name);
    else if (kind == HP_FEED_GAP)
        hp_messages_tell(m, kind, topic, sum.count, sum.sequence,
                         "%llu more %s messages from %s were lost: raise bitcoind's -zmqpub%shwm.",
                         count, name, m->name, name);
    else
        hp_messages_tell(m, kind, topic, sum.count, sum.sequence,
                         "the %s numbering of %s went back %llu more times: check that one node "
                         "alone publishes there.",
                         name, m->name, count);
}

void hp_messages_renew_notes(hp_messages *m, int64_t now_ns)
{
    for (int i = 0; i < HP_MESSAGE_TALLIES && m->notes_left == 0; i++)
        for (int topic = 0; topic < HP_MESSAGE_TOPICS; topic++) {
            hp_message_tally *sum = &m->untold[i][topic];
            if (sum->count > 0)
                tell_sum(m, HP_FEED_MALFORMED + i, topic, *sum);
            *sum = (hp_message_tally){0};
        }
    m->notes_left = NOTES_PER_S;
    m->notes_due_ns = now_ns + INT64_C(1000000000);
}

void hp_put_printable(char *out, size_t cap, const uint8_t *bytes, uint64_t len)
{
    size_t n = len < cap - 1 ? (size_t)len : cap - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)(bytes[i] < ' ' || bytes[i] > '~' ? '?' : bytes[i]);
    out[n] = '\0';
}

/* ---- numbering ------------------------------------------------------------------------------ */

static void tell_gap(hp_messages *m, uint32_t lost, uint32_t sequence)
{
    const char *topic = hp_message_topics[m->topic];
    if (may_tell(m, HP_FEED_GAP, lost, sequence))
        hp_messages_tell(m, HP_FEED_GAP, m->topic, lost, sequence,
                         "%u %s messages from %s were lost before number %u (its queue was full, "
                         "or the connection was cut): raise bitcoind's -zmqpub%shwm.",
                         lost, topic, m->name, sequence, topic);
}

static void tell_restart(hp_messages *m, uint32_t due, uint32_t sequence)
{
    if (may_tell(m, HP_FEED_RESTART, 1, sequence))
        hp_messages_tell(m, HP_FEED_RESTART, m->topic, 1, sequence,
                         "the %s numbering of %s went back to %u where %u was due, so the node "
                         "was restarted and an unknown number of messages is lost: nothing to do "
                         "if that was meant.",
                         hp_message_topics[m->topic], m->name, sequence, due);
}

static void number(hp_messages *m, uint32_t sequence)
{
    hp_message_numbering *n = &m->numberings[m->topic];
    uint32_t due = n->known ? n->next : sequence, ahead = sequence - due;
    n->next = sequence + 1;
    n->known = 1;
    if (ahead == 0)
        return;
    if (m->topic == HP_FEED_RAWTX)
        m->door.on_break(m->door.context, m->endpoint, ahead <= INT32_MAX ? ahead : 0,
                         ahead > INT32_MAX);
    if (ahead <= INT32_MAX)
        tell_gap(m, ahead, sequence);
    else
        tell_restart(m, due, sequence);
}

/* ---- messages ------------------------------------------------------------------------------- */

static void tell_malformed(hp_messages *m)
{
    char what[128], topic[sizeof m->strange_topic + 1];
    if (!may_tell(m, HP_FEED_MALFORMED, 1, 0))
        return;
    if (m->n_parts != HP_MESSAGE_PARTS) {
        snprintf(what, sizeof what, "%llu frames in a message instead of %d",
                 (unsigned long long)m->n_parts, HP_MESSAGE_PARTS);
    } else if (m->topic == HP_FEED_NO_TOPIC) {
        hp_put_printable(topic, sizeof topic, m->strange_topic, m->strange_topic_len);
        snprintf(what, sizeof what, "the topic '%s', which was not subscribed to", topic);
    } else if (m->parts[2].len != NUMBER_BYTES) {
        snprintf(what, sizeof what, "a sequence number of %zu bytes instead of %d",
                 m->parts[2].len, NUMBER_BYTES);
    } else if (m->abandoned) {
        snprintf(what, sizeof what, "a message with too many commands between its frames");
    } else {
        snprintf(what, sizeof what, "a body of %zu bytes that is no event of the topic sequence",
                 m->parts[1].len);
    }
    hp_messages_tell(m, HP_FEED_MALFORMED, m->topic, 1, 0,
                     "%s sent %s, which was ignored: check that a Bitcoin Core node publishes "
                     "there.",
                     m->name, what);
}

/* A hash and C or D; or a hash, A or R, and the mempool's own 8-byte number. The hash comes in the
 * order in which it is displayed (Bitcoin Core, doc/zmq.md). */
static int hand_on_sequence(hp_messages *m, const uint8_t *body, size_t len, uint32_t sequence)
{
    uint8_t hash[HASH_BYTES];
    uint8_t label = len > HASH_BYTES ? body[HASH_BYTES] : 0;
    int of_block = len == HASH_BYTES + 1 && (label == 'C' || label == 'D');
    int of_mempool = len == HASH_BYTES + 1 + 8 && (label == 'A' || label == 'R');
    if (!of_block && !of_mempool)
        return 0;
    for (size_t i = 0; i < HASH_BYTES; i++)
        hash[i] = body[HASH_BYTES - 1 - i];
    number(m, sequence);
    m->door.on_sequence(m->door.context, m->endpoint, label, hash);
    return 1;
}

/* 1, or 0 when the message is wrong. */
static int hand_on(hp_messages *m, const uint8_t *start, int64_t t_rx_ns)
{
    if (m->n_parts != HP_MESSAGE_PARTS || m->topic == HP_FEED_NO_TOPIC ||
        m->parts[2].len != NUMBER_BYTES || m->abandoned)
        return 0;
    const uint8_t *body = start + m->parts[1].offset;
    uint32_t sequence = hp_le32(start + m->parts[2].offset);
    if (m->topic == HP_FEED_SEQUENCE)
        return hand_on_sequence(m, body, m->parts[1].len, sequence);
    number(m, sequence);
    m->door.on_rawtx(m->door.context, m->endpoint, body, m->parts[1].len, t_rx_ns);
    return 1;
}

static void read_topic(hp_messages *m, const uint8_t *topic, size_t len)
{
    m->topic = HP_FEED_NO_TOPIC;
    if (len == 5 && !memcmp(topic, "rawtx", 5)) {
        m->topic = HP_FEED_RAWTX;
    } else if (m->wants_sequence && len == 8 && !memcmp(topic, "sequence", 8)) {
        m->topic = HP_FEED_SEQUENCE;
    } else {
        m->strange_topic_len = len < sizeof m->strange_topic ? len : sizeof m->strange_topic;
        memcpy(m->strange_topic, topic, m->strange_topic_len);
    }
}

int hp_messages_add(hp_messages *m, const uint8_t *start, const hp_zmtp_frame *frame,
                    int64_t t_rx_ns)
{
    if (m->n_parts == 0)
        read_topic(m, frame->body, (size_t)frame->body_len);
    if (m->n_parts < HP_MESSAGE_PARTS)
        m->parts[m->n_parts] =
            (hp_message_part){(size_t)(frame->body - start), (size_t)frame->body_len};
    m->n_parts++;
    if (frame->more) {
        m->abandoned |= m->topic == HP_FEED_NO_TOPIC || m->n_parts >= HP_MESSAGE_PARTS;
        return m->abandoned;
    }
    if (hand_on(m, start, t_rx_ns))
        m->handed_on++;
    else
        tell_malformed(m);
    hp_messages_restart(m);
    return 1;
}

void hp_messages_abandon(hp_messages *m)
{
    m->abandoned = 1;
}

void hp_messages_restart(hp_messages *m)
{
    m->n_parts = 0;
    m->abandoned = 0;
}
