/* The subscriber against a peer that is a script, on a clock that is a number. */
#include "fake_io.h"

#include "../../csrc/feed.c"
#include "require.h"

#define MESSAGES_MAX 64
#define NAME "tcp://127.0.0.1:28332"

typedef struct seen {
    int kind[MESSAGES_MAX];
    int topic[MESSAGES_MAX];
    uint64_t count[MESSAGES_MAX];
    uint32_t sequence[MESSAGES_MAX];
    char words[MESSAGES_MAX][512];
    int notes;
    uint64_t counted; /* of the notes beyond MESSAGES_MAX too */
    uint64_t rawtx_bytes;
    uint64_t rawtx_sum; /* of all bytes, weighted by place */
    uint64_t rawtxs;
    uint64_t copied; /* bodies outside of the receive buffer */
    int64_t t_rx_ns;
    uint64_t sequences;
    uint64_t lost; /* of rawtx, by on_break */
    int restarts;
    uint8_t label;
    uint8_t hash[32];
} seen;

static seen saw;
static hp_feed *feed;
static int64_t now_ns;

static void on_rawtx(void *context, int endpoint, const uint8_t *raw, size_t len, int64_t t_rx_ns)
{
    require(context == &saw && endpoint == 7);
    saw.copied += raw < feed->buf || raw + len > feed->buf + BUFFER_BYTES;
    saw.rawtxs++;
    saw.rawtx_bytes += len;
    for (size_t i = 0; i < len; i++)
        saw.rawtx_sum += raw[i] * (i % 251 + 1);
    saw.t_rx_ns = t_rx_ns;
}

static void on_sequence(void *context, int endpoint, uint8_t label, const uint8_t hash[32])
{
    require(context == &saw && endpoint == 7);
    saw.sequences++;
    saw.label = label;
    memcpy(saw.hash, hash, 32);
}

static void on_break(void *context, int endpoint, uint32_t lost, int restarted)
{
    require(context == &saw && endpoint == 7);
    saw.lost += lost;
    saw.restarts += restarted;
}

static void on_note(void *context, int endpoint, int kind, int topic, uint64_t count,
                    uint32_t sequence, const char *words)
{
    require(context == &saw && endpoint == 7);
    require(strstr(words, NAME) && words[strlen(words) - 1] == '.');
    saw.counted += count;
    int i = saw.notes++;
    if (i >= MESSAGES_MAX)
        return;
    saw.kind[i] = kind;
    saw.topic[i] = topic;
    saw.count[i] = count;
    saw.sequence[i] = sequence;
    snprintf(saw.words[i], sizeof saw.words[i], "%s", words);
}

static void start(size_t chunk)
{
    static const hp_feed_address address = {
        .name = NAME, .ip = "127.0.0.1", .port = 28332, .sequence = 1};
    const hp_feed_door door = {&saw, on_rawtx, on_sequence, on_break, on_note};
    hp_feed_free(feed);
    saw = (seen){0};
    now_ns = 1000 * S;
    peer_reset(chunk);
    feed = hp_feed_new(NULL, 7, &address, &door, 1);
    require(feed);
}

/* Until the peer has nothing more to say. */
static int work(void)
{
    int handed_on = 0;
    for (int idle = 0; idle < 4; idle++) {
        size_t said_at = peer.said_at;
        handed_on += hp_feed_work(feed, now_ns);
        if (peer.said_at != said_at)
            idle = 0;
    }
    return handed_on;
}

/* ---- what the peer says --------------------------------------------------------------------- */

static void say_greeting(uint8_t major, uint8_t minor, const char *mechanism)
{
    uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, major, minor};
    memcpy(greeting + 12, mechanism, strlen(mechanism));
    greeting[40] = 9; /* the filler is nobody's business */
    peer_says(greeting, sizeof greeting);
}

static void say_frame(uint8_t flags, const void *body, size_t len)
{
    uint8_t header[9] = {flags, (uint8_t)len};
    int is_long = len > 255;
    if (is_long) {
        header[0] |= 2;
        for (int i = 0; i < 8; i++)
            header[1 + i] = (uint8_t)((uint64_t)len >> (56 - 8 * i));
    }
    peer_says(header, is_long ? 9 : 2);
    if (body)
        peer_says(body, len);
}

static void say_ready(const char *type)
{
    uint8_t body[64] = "\5READY\xbsocket-TYPE\0\0\0";
    size_t len = strlen(type);
    body[6 + 12 + 3] = (uint8_t)len;
    memcpy(body + 6 + 12 + 4, type, len);
    say_frame(4, body, 6 + 12 + 4 + len);
}

static void say_hello(uint8_t minor)
{
    say_greeting(3, minor, "NULL");
    say_ready("PUB");
}

static void say_message(const char *topic, const void *body, size_t len, uint32_t number)
{
    uint8_t le[4] = {(uint8_t)number, (uint8_t)(number >> 8), (uint8_t)(number >> 16),
                     (uint8_t)(number >> 24)};
    say_frame(1, topic, strlen(topic));
    say_frame(1, body, len);
    say_frame(0, le, 4);
}

static int heard_ends_with(const void *bytes, size_t len)
{
    return peer.heard_len >= len && !memcmp(peer.heard + peer.heard_len - len, bytes, len);
}

/* ---- tests ---------------------------------------------------------------------------------- */

static const char greeted[] = "\4\x19\5READY\xbSocket-Type\0\0\0\3SUB";
static const char subscribed_3_0[] = "\0\6\1rawtx\0\11\1sequence";
static const char subscribed_3_1[] = "\4\17\11SUBSCRIBErawtx\4\22\11SUBSCRIBEsequence";

static void every_fragmentation_is_the_same(void)
{
    static uint8_t body[70000];
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (uint8_t)(i * 7);
    uint64_t sum = 0;
    static const size_t chunks[] = {1, 2, 3, 7, 64, 65, 1000, 65535, 1 << 20};
    for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
        start(chunks[c]);
        say_hello(1);
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < 300; i++) {
            size_t len = i == 150 ? sizeof body : i;
            say_message("rawtx", body + i, len - (i == 150 ? i : 0), i);
            bytes += len - (i == 150 ? i : 0);
            if (i % 64 == 0)
                say_message("sequence", "0123456789abcdef0123456789abcdefC", 33, i / 64);
        }
        require(work() == 305);
        require(saw.rawtxs == 300 && saw.rawtx_bytes == bytes && saw.copied == 0);
        require(saw.sequences == 5 && saw.label == 'C' && saw.hash[0] == 'f');
        require(saw.t_rx_ns == now_ns && saw.notes == 1 && saw.kind[0] == HP_FEED_CONNECTED);
        require(c == 0 || sum == saw.rawtx_sum);
        sum = saw.rawtx_sum;
    }
}

static void the_version_decides_how_to_subscribe(void)
{
    for (uint8_t version = 0; version < 3; version++) {
        const char *expected = version ? subscribed_3_1 : subscribed_3_0;
        size_t len = version ? sizeof subscribed_3_1 - 1 : sizeof subscribed_3_0 - 1;
        start(1000);
        say_greeting(version == 2 ? 4 : 3, version == 1, "NULL");
        work();
        require(peer.heard_len == 64 + sizeof greeted - 1);
        require(heard_ends_with(greeted, sizeof greeted - 1));
        say_ready("XPUB");
        work();
        require(peer.heard_len == 64 + sizeof greeted - 1 + len && heard_ends_with(expected, len));
    }
}

static void numbers_tell_of_losses(void)
{
    start(1000);
    say_hello(1);
    static const uint32_t numbers[] = {UINT32_MAX - 3, UINT32_MAX, 0, 5, 4, 4, 5};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        say_message("rawtx", "tx", 2, numbers[i]);
    require(work() == 7 && saw.notes == 5);
    require(saw.kind[1] == HP_FEED_GAP && saw.count[1] == 2 && saw.sequence[1] == UINT32_MAX);
    require(saw.topic[1] == HP_FEED_RAWTX && strstr(saw.words[1], "-zmqpubrawtxhwm"));
    require(saw.kind[2] == HP_FEED_GAP && saw.count[2] == 4 && saw.sequence[2] == 5);
    require(saw.kind[3] == HP_FEED_RESTART && saw.count[3] == 1 && saw.sequence[3] == 4);
    require(saw.kind[4] == HP_FEED_RESTART && strstr(saw.words[4], "back to 4 where 5 was due"));
    require(saw.lost == 6 && saw.restarts == 2);
}

static void say_frames(int n, const char *topic, const char *body, size_t number_len)
{
    for (int i = 0; i < n; i++) {
        const char *part = i == 0 ? topic : body;
        say_frame(i < n - 1, part, i < 2 ? strlen(part) : number_len);
    }
}

static void wrong_messages_are_told_and_skipped(void)
{
    static const struct {
        const char *topic, *body, *words;
        size_t number_len;
        int frames;
    } wrong[] = {
        {"rawtx", "", "1 frames", 0, 1},
        {"rawtx", "tx", "2 frames", 0, 2},
        {"rawtx", "tx", "4 frames", 1, 4},
        {"rawtx", "tx", "201 frames", 1, 201},
        {"raw\x1btx\xff", "tx??", "'raw?tx?'", 4, 3},
        {"rawtx", "tx", "number of 0 bytes", 0, 3},
        {"rawtx", "longer than 8", "number of 8 bytes", 8, 3},
        {"sequence", "0123456789abcdef0123456789abcdefA", "body of 33 bytes", 4, 3},
        {"sequence", "0123456789abcdef0123456789abcdef", "body of 32 bytes", 4, 3},
        {"sequence", "0123456789abcdef0123456789abcdefX", "body of 33 bytes", 4, 3},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        start(i % 2 ? 1 : 1000);
        say_hello(1);
        say_message("rawtx", "first", 5, 5);
        say_frames(wrong[i].frames, wrong[i].topic, wrong[i].body, wrong[i].number_len);
        say_message("rawtx", "second", 6, 6);
        require(work() == 2 && saw.rawtx_bytes == 11 && saw.notes == 2);
        require(saw.kind[1] == HP_FEED_MALFORMED && saw.count[1] == 1);
        require(strstr(saw.words[1], wrong[i].words));
        require(peer.attached == 1);
    }
}

static void a_flood_of_notes_becomes_a_sum(void)
{
    start(1 << 20);
    say_hello(1);
    for (int i = 0; i < 10000; i++)
        say_frames(2, "rawtx", "tx", 0);
    for (uint32_t i = 0; i < 1000; i++)
        say_message("rawtx", "tx", 2, 3 * i);
    work();
    require(saw.notes == 101 && saw.counted == 100 && hp_feed_next_ns(feed) <= now_ns + S);
    now_ns += S;
    work();
    require(saw.notes == 103 && saw.counted == 10000 + 2 * 999);
    now_ns += S;
    work();
    require(saw.notes == 103);
    say_frames(2, "rawtx", "tx", 0);
    work();
    require(saw.notes == 104);
}

static void a_frame_has_a_largest_size(void)
{
    uint8_t *body = calloc(1, HP_TX_BYTES_MAX);
    require(body);
    for (size_t chunk = 10007; chunk < 1 << 17; chunk *= 3) {
        start(chunk);
        say_hello(0);
        for (uint32_t i = 0; i < 2; i++) /* the second begins within the first one's last receive */
            say_message("rawtx", body, HP_TX_BYTES_MAX, i);
        require(work() == 2 && saw.rawtx_bytes == 2 * HP_TX_BYTES_MAX && saw.copied == 0);
        require(saw.notes == 1);
    }
    start(40100); /* behind another, where at 4,010,000 bytes a whole receive has no more room */
    say_hello(0);
    work();
    say_message("rawtx", body, 19000, 0);
    say_message("rawtx", body, HP_TX_BYTES_MAX, 1);
    require(work() == 2 && saw.copied == 0 && saw.notes == 1);
    start(1000);
    say_hello(0);
    say_message("rawtx", "before", 6, 0);
    say_frame(1, "rawtx", 5);
    say_frame(1, NULL, HP_TX_BYTES_MAX + 1);
    require(work() == 1 && peer.attached == 0 && saw.notes == 2);
    require(saw.kind[1] == HP_FEED_DISCONNECTED && strstr(saw.words[1], "4000000 bytes"));

    start(1 << 20); /* what is longer than any message, in frames that may be so long */
    say_hello(0);
    say_frame(1, "rawtx", 5);
    say_frame(1, body, HP_TX_BYTES_MAX);
    say_frame(0, body, HP_TX_BYTES_MAX);
    say_message("rawtx", "after", 5, 0);
    require(work() == 1 && saw.rawtx_bytes == 5 && saw.notes == 2);
    require(strstr(saw.words[1], "number of 4000000 bytes"));
    free(body);
}

static void commands_come_between_frames(void)
{
    for (size_t chunk = 1; chunk < 200; chunk *= 3) {
        start(chunk);
        say_hello(1);
        say_frame(1, "rawtx", 5);
        say_frame(4, "\4PONG", 5);
        say_frame(1, "a transaction", 13);
        say_frame(4, "\4PING\0\0context", 14);
        say_frame(4, "\7UNKNOWN", 8);
        say_frame(0, "\0\0\0\0", 4);
        require(work() == 1 && saw.rawtx_bytes == 13 && saw.notes == 1);
        require(heard_ends_with("\4\14\4PONGcontext", 14));
    }
    start(1 << 20);
    say_hello(1);
    say_frame(1, "rawtx", 5);
    for (int i = 0; i < 900000; i++)
        say_frame(4, "\4PONG", 5);
    say_frame(1, "tx", 2);
    say_frame(0, "\0\0\0\0", 4);
    say_message("rawtx", "after", 5, 0);
    require(work() == 1 && saw.rawtx_bytes == 5 && saw.notes == 2);
    require(strstr(saw.words[1], "too many commands"));
}

static void what_breaks_the_protocol_ends_the_connection(void)
{
    static const struct {
        const char *bytes;
        size_t len;
    } broken[] = {
        {"\x08\0", 2},               /* a reserved flag */
        {"\5\0", 2},                 /* a command that goes on */
        {"\4\0", 2},                 /* without a name */
        {"\4\1\0", 3},               /* with an empty one */
        {"\4\2\5A", 4},              /* with a longer one than itself */
        {"\4\3\2A!", 5},             /* that is none */
        {"\4\6\4PING\0", 8},         /* without its time to live */
        {"\2\x80\0\0\0\0\0\0\1", 9}, /* a length beyond 2^63-1 */
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        start(1 + i % 2 * 1000);
        say_hello(1);
        say_message("rawtx", "before", 6, 0);
        peer_says(broken[i].bytes, broken[i].len);
        require(work() == 1 && peer.attached == 0 && saw.notes == 2);
        require(saw.kind[1] == HP_FEED_DISCONNECTED && strstr(saw.words[1], "broke ZeroMQ's"));
    }
}

static void expect_stranger(const char *words)
{
    work();
    require(saw.notes == 1 && saw.kind[0] == HP_FEED_NOT_ZMTP && peer.attached == 0);
    require(strstr(saw.words[0], "is not a ZeroMQ publisher") && strstr(saw.words[0], words));
}

static void strangers_are_named(void)
{
    static const char signature[] = "\xff\0\0\0\0\0\0\0\1\x7f";
    for (size_t chunk = 1; chunk <= 100; chunk *= 100) {
        start(chunk);
        peer_says("HTTP/1.1 400 Bad Request\r\n\r\n", 28);
        expect_stranger("HTTP");
        start(chunk);
        peer_says("\x15\x03\x03\0\2\2\x32", 7);
        expect_stranger("TLS");
        start(chunk);
        peer_says("SSH-2.0-OpenSSH_9.2\r\n", 21);
        expect_stranger("no greeting");
        start(chunk);
        peer_says(signature, 10);
        peer_says("\1\2\0\0", 4); /* 2.0, PUB, no identity */
        expect_stranger("before 3.0");
        start(chunk);
        say_greeting(3, 0, "CURVE");
        expect_stranger("'CURVE'");
        start(chunk);
        say_greeting(3, 1, "NULLE\x1b[2J");
        expect_stranger("'NULLE??2J'");
        start(chunk);
        say_greeting(3, 1, "NULL");
        say_ready("REP");
        expect_stranger("type 'REP'");
        start(chunk);
        say_greeting(3, 1, "NULL");
        say_frame(4, "\5READY", 6);
        expect_stranger("type ''");
        start(chunk);
        say_greeting(3, 1, "NULL");
        say_frame(4, "\5READY\13Socket-Type\0\0\0\4PUB", 25);
        expect_stranger("broke ZeroMQ's protocol");
        start(chunk);
        say_greeting(3, 1, "NULL");
        say_frame(4, "\5ERROR\7go\x1b[2J!", 14);
        expect_stranger("refuses us: 'go?[2J!'");
        start(chunk);
        say_greeting(3, 1, "NULL");
        say_message("rawtx", "tx", 2, 0);
        expect_stranger("broke ZeroMQ's protocol");
        start(chunk);
        peer.last = 0;
        expect_stranger("without a word");
        start(chunk);
        peer_says(signature, 10);
        peer.last = 0;
        expect_stranger("closes the connection during");
        start(chunk);
        peer.last = -ECONNRESET;
        expect_stranger("without a word");
        start(chunk);
        say_greeting(3, 1, "NULL");
        peer.last = 0;
        expect_stranger("closes the connection during");
        start(chunk);
        peer.last = -ETIMEDOUT;
        expect_stranger("timed out");
    }
}

static void silence_is_not_waited_out(void)
{
    start(1000);
    work();
    require(saw.notes == 0 && hp_feed_next_ns(feed) == now_ns + RETICENCE_NS);
    require(peer.heard_len == GREETING_START_BYTES);
    now_ns += RETICENCE_NS;
    work();
    require(saw.notes == 0 && hp_feed_next_ns(feed) == now_ns + HANDSHAKE_NS);
    require(peer.heard_len == HP_ZMTP_GREETING_BYTES);
    now_ns += HANDSHAKE_NS;
    expect_stranger("says nothing for 5 s");
    start(1000); /* a peer that names its mechanism second, too */
    say_greeting(3, 1, "NULL");
    peer.said_len = 11;
    work();
    now_ns += RETICENCE_NS;
    work();
    require(peer.heard_len == HP_ZMTP_GREETING_BYTES);
    peer.said_len = 64;
    say_ready("PUB");
    work();
    require(saw.notes == 1 && saw.kind[0] == HP_FEED_CONNECTED);
    require(peer.heard_len == 64 + sizeof greeted - 1 + sizeof subscribed_3_1 - 1);
    start(1000);
    say_greeting(3, 1, "NULL");
    work();
    now_ns += HANDSHAKE_NS;
    expect_stranger("does not go on");
    start(1000);
    peer.connected = 0;
    work();
    require(saw.notes == 0 && hp_feed_next_ns(feed) == now_ns + CONNECT_NS);
    now_ns += CONNECT_NS;
    work();
    require(saw.notes == 1 && saw.kind[0] == HP_FEED_UNREACHABLE && peer.attached == 0);
}

static void retries_come_later_and_later(void)
{
    start(1000);
    peer.connected = -ECONNREFUSED;
    int64_t expected_ns = RETRY_MIN_NS;
    for (int i = 0; i < 20; i++) {
        work();
        int64_t delay_ns = hp_feed_next_ns(feed) - now_ns;
        require(delay_ns >= expected_ns / 2 && delay_ns <= expected_ns && peer.attached == 0);
        now_ns += delay_ns - 1;
        work();
        require(peer.connections == i + 1);
        now_ns += 1;
        expected_ns = 2 * expected_ns < RETRY_MAX_NS ? 2 * expected_ns : RETRY_MAX_NS;
    }
    require(saw.notes == 1 && saw.kind[0] == HP_FEED_UNREACHABLE);
    require(strstr(saw.words[0], "refused") && strstr(saw.words[0], "-zmqpubrawtx=" NAME));
    peer.connected = 1;
    say_hello(0);
    work();
    require(saw.notes == 2 && saw.kind[1] == HP_FEED_CONNECTED);
    now_ns += RETRY_MAX_NS; /* it stood for a while: the next delay is short again */
    peer.last = 0;
    work();
    require(saw.notes == 3 && saw.kind[2] == HP_FEED_DISCONNECTED);
    require(hp_feed_next_ns(feed) - now_ns <= RETRY_MIN_NS);
}

static void half_a_message_dies_with_its_connection(void)
{
    start(1000);
    say_hello(0);
    say_message("rawtx", "tx", 2, 10);
    say_frame(1, "rawtx", 5);
    peer.last = -ECONNRESET;
    require(work() == 1 && saw.kind[1] == HP_FEED_DISCONNECTED);
    now_ns = hp_feed_next_ns(feed);
    peer.last = 1;
    say_hello(0);
    say_message("rawtx", "tx", 2, 12);
    require(work() == 1 && saw.notes == 4);
    require(saw.kind[2] == HP_FEED_CONNECTED && saw.kind[3] == HP_FEED_GAP && saw.count[3] == 1);
}

static void heartbeats(void)
{
    static const char ping[] = "\4\7\4PING\0\0";
    start(1000);
    say_hello(1);
    work();
    size_t before = peer.heard_len;
    now_ns += PING_NS / 2;
    say_message("rawtx", "tx", 2, 0);
    work();
    int64_t heard_ns = now_ns;
    now_ns = hp_feed_next_ns(feed);
    work(); /* ten seconds since READY, but not of silence */
    require(peer.heard_len == before && hp_feed_next_ns(feed) == heard_ns + PING_NS);
    for (size_t i = 1; i <= 3; i++) {
        now_ns = hp_feed_next_ns(feed);
        require(now_ns == heard_ns + (int64_t)i * PING_NS);
        work();
        require(peer.heard_len == before + i * (sizeof ping - 1));
        require(heard_ends_with(ping, sizeof ping - 1));
    }
    say_frame(4, "\4PONG", 5);
    work();
    heard_ns = now_ns;
    for (now_ns += PING_NS; now_ns < heard_ns + PING_NS + DEAD_NS; now_ns += PING_NS) {
        work();
        require(saw.notes == 1);
    }
    work();
    require(saw.notes == 2 && saw.kind[1] == HP_FEED_TIMED_OUT && peer.attached == 0);

    start(1000); /* 3.0 knows no PING */
    say_hello(0);
    work();
    before = peer.heard_len;
    require(hp_feed_next_ns(feed) == INT64_MAX);
    now_ns += 100 * DEAD_NS;
    work();
    require(peer.heard_len == before && saw.notes == 1);
}

static void sends_that_fail(void)
{
    start(1000);
    peer.sends = -EPIPE;
    work();
    require(saw.kind[0] == HP_FEED_NOT_ZMTP && peer.attached == 0);
    start(1000);
    say_hello(1);
    work();
    peer.sends = -HP_ETIME_OUT;
    say_frame(4, "\4PING\0\0", 7);
    work();
    require(saw.notes == 2 && peer.attached == 0);
}

static void the_buffer_stays_the_kernels(void)
{
    start(1000);
    say_hello(1);
    work();
    peer.busy = 1;
    peer.last = 0;
    work();
    require(saw.kind[1] == HP_FEED_DISCONNECTED);
    for (int i = 0; i < 3; i++) {
        now_ns = hp_feed_next_ns(feed);
        work();
        require(peer.connections == 1);
    }
    peer.busy = 0;
    peer.last = 1;
    say_hello(1);
    now_ns = hp_feed_next_ns(feed);
    work();
    require(peer.connections == 2 && saw.kind[2] == HP_FEED_CONNECTED);
}

static void addresses(void)
{
    char path[200];
    const hp_feed_door door = {&saw, on_rawtx, on_sequence, on_break, on_note};
    hp_feed_address address = {.name = "ipc:///run/node", .path = path};
    memset(path, 'x', sizeof path);
    path[108] = '\0';
    require(!hp_feed_new(NULL, 7, &address, &door, 1));
    path[107] = '\0';
    hp_feed *one = hp_feed_new(NULL, 7, &address, &door, 1);
    require(one && one->address.ss_family == AF_UNIX);
    hp_feed_free(one);
    address = (hp_feed_address){.name = "tcp://[::1]:1", .ip = "::1", .port = 1};
    one = hp_feed_new(NULL, 7, &address, &door, 1);
    require(one && one->address.ss_family == AF_INET6);
    hp_feed_free(one);
    address.ip = "localhost";
    require(!hp_feed_new(NULL, 7, &address, &door, 1));
    address.ip = NULL;
    require(!hp_feed_new(NULL, 7, &address, &door, 1));
}

int main(void)
{
    every_fragmentation_is_the_same();
    the_version_decides_how_to_subscribe();
    numbers_tell_of_losses();
    wrong_messages_are_told_and_skipped();
    a_flood_of_notes_becomes_a_sum();
    a_frame_has_a_largest_size();
    commands_come_between_frames();
    what_breaks_the_protocol_ends_the_connection();
    strangers_are_named();
    silence_is_not_waited_out();
    retries_come_later_and_later();
    half_a_message_dies_with_its_connection();
    heartbeats();
    sends_that_fail();
    the_buffer_stays_the_kernels();
    addresses();
    hp_feed_free(feed);
    free(peer.said);
    return 0;
}
