/* Any bytes as ZMTP: no parser reads past them, a frame comes out as the bytes that went in. And
 * any bytes as a publisher: whatever it says, however it is cut, the feed hands on the same. */
#include "../c/fake_io.h"

#include "../../csrc/feed.c"

static void require(int holds)
{
    if (!holds)
        abort();
}

/* ---- the parsers ---------------------------------------------------------------------------- */

static void check_header(const uint8_t *raw, size_t n, const hp_zmtp_frame *frame)
{
    size_t header = raw[0] & 2 ? 9 : 2;
    require(frame->body == raw + header && frame->body_len == n - header);
    require(frame->more == (raw[0] & 1) && frame->is_command == raw[0] >> 2);
    uint64_t written = raw[1];
    for (size_t i = 2; i < header; i++)
        written = written << 8 | raw[i];
    require(written == frame->body_len);
}

static void parse_command(const hp_zmtp_frame *frame)
{
    hp_zmtp_command command;
    const uint8_t *value;
    uint64_t len;
    if (hp_zmtp_parse_command(frame->body, frame->body_len, &command) < 0)
        return;
    require(command.data + command.data_len == frame->body + frame->body_len);
    if (hp_zmtp_property(command.data, command.data_len, "Socket-Type", &value, &len) == 1)
        require(value >= command.data && value + len <= command.data + command.data_len);
}

static void parse_all(const uint8_t *raw, size_t len)
{
    hp_zmtp_peer greeting;
    hp_zmtp_frame frame, again;
    int greeted = hp_zmtp_parse_greeting(raw, len, &greeting);
    require(greeted <= 64 && strlen(greeting.mechanism) <= 20);
    while (len > 0) {
        int64_t n = hp_zmtp_parse_frame(raw, len, 1000, &frame);
        if (n <= 0)
            return;
        require((size_t)n <= len && frame.body_len <= 1000);
        check_header(raw, (size_t)n, &frame);
        require(hp_zmtp_parse_frame(raw, (size_t)n - 1, 1000, &again) == 0);
        if (frame.is_command)
            parse_command(&frame);
        raw += n;
        len -= (size_t)n;
    }
}

/* ---- the feed ------------------------------------------------------------------------------- */

typedef struct heard {
    uint64_t messages;
    uint64_t digest;
} heard;

static hp_feed *feed;

static void mix(heard *h, uint64_t value)
{
    h->digest = (h->digest ^ value) * UINT64_C(0x100000001b3);
}

static void on_rawtx(void *context, int endpoint, const uint8_t *raw, size_t len, int64_t t_rx_ns)
{
    (void)endpoint;
    (void)t_rx_ns;
    require(raw >= feed->buf && raw + len <= feed->buf + feed->end);
    heard *h = context;
    h->messages++;
    mix(h, len);
    for (size_t i = 0; i < len; i++)
        mix(h, raw[i]);
}

static void on_sequence(void *context, int endpoint, uint8_t label, const uint8_t hash[32])
{
    (void)endpoint;
    heard *h = context;
    h->messages++;
    mix(h, label);
    for (size_t i = 0; i < 32; i++)
        mix(h, hash[i]);
}

/* Not the words: of a stranger they quote what has come so far. */
static void on_break(void *context, int endpoint, uint32_t lost, int restarted)
{
    (void)context, (void)endpoint, (void)lost, (void)restarted;
}

static void on_note(void *context, int endpoint, int kind, int topic, uint64_t count,
                    uint32_t sequence, const char *words)
{
    (void)endpoint;
    for (const char *c = words; *c; c++)
        require(*c >= ' ' && *c <= '~');
    mix(context, (uint64_t)kind << 32 | (uint64_t)topic);
    mix(context, count);
    mix(context, sequence);
}

static heard listen_to(const uint8_t *said, size_t len, int is_greeted, size_t chunk)
{
    static const char ready[] = "\4\x19\5READY\xbSocket-Type\0\0\0\3PUB";
    heard h = {0};
    uint8_t greeting[HP_ZMTP_GREETING_BYTES];
    peer_reset(chunk);
    hp_zmtp_greeting(greeting);
    if (is_greeted) {
        peer_says(greeting, sizeof greeting);
        peer_says(ready, sizeof ready - 1);
    }
    peer_says(said, len);
    peer.last = 0;
    feed->messages.door = (hp_feed_door){&h, on_rawtx, on_sequence, on_break, on_note};
    memset(feed->messages.numberings, 0, sizeof feed->messages.numberings);
    feed->messages.notes_left = 0;
    feed->messages.notes_due_ns = 0;
    feed->complained = 0;
    require(feed->state == WAITING);
    int64_t now_ns = feed->due_ns;
    do
        hp_feed_work(feed, now_ns);
    while (feed->state != WAITING);
    hp_messages_renew_notes(&feed->messages, now_ns); /* the sums */
    require(peer.attached == 0);
    return h;
}

static void make_feed(void)
{
    static const hp_feed_address address = {
        .name = "tcp://127.0.0.1:1", .ip = "127.0.0.1", .port = 1, .sequence = 1};
    static const hp_feed_door nobody;
    feed = hp_feed_new(NULL, 0, &address, &nobody, 1);
    require(feed != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *raw, size_t len)
{
    if (!feed)
        make_feed(); /* once: it touches four megabytes */
    parse_all(raw, len);
    if (len < 2)
        return 0;
    int is_greeted = raw[0] & 1;
    heard whole = listen_to(raw + 2, len - 2, is_greeted, RECV_BYTES);
    heard cut = listen_to(raw + 2, len - 2, is_greeted, raw[1] % 64 + 1);
    require(whole.messages == cut.messages && whole.digest == cut.digest);
    return 0;
}
