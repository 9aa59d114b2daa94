/* The record writer seen from inside: RFC 8448's records, what is wiped and when, which number each
 * record has, and the KeyUpdate that a worn key asks for. */
#include "require.h"
#include "tls.h"
#include "tls_rehearsal.h"

#include <errno.h>
#include <string.h>

#define CONTROL_BYTES (HP_SEAL_KEY_UPDATE_LEN + HP_SEAL_OVERHEAD)
#define ALERT_BYTES (2 + HP_SEAL_OVERHEAD)

static uint8_t text[40000];

static int is_zero(const void *data, size_t len)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < len; i++)
        if (bytes[i])
            return 0;
    return 1;
}

static void unhex(const char *hex, uint8_t *out, size_t cap, size_t *len)
{
    require(OPENSSL_hexstr2buf_ex(out, cap, len, hex, '\0'));
}

static hp_tls *new_client(void)
{
    int error;
    hp_tls *tls = hp_tls_rehearsal_new(&error);
    const uint8_t *data;
    require(tls && tls->writer == HP_WRITER_OURS && tls->seal.number == 1);
    require(hp_tls_output(tls, &data) == 0);
    return tls;
}

/* Another writer of the same key, at the same number: it says what a record has to be. */
static hp_seal *new_mirror(const hp_tls *tls)
{
    hp_seal *mirror = calloc(1, sizeof *mirror);
    require(mirror);
    memcpy(mirror->secret, tls->seal.secret, sizeof mirror->secret);
    mirror->secret_len = tls->seal.secret_len;
    require(hp_seal_start(mirror, SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(tls->ssl))));
    mirror->number = tls->seal.number;
    return mirror;
}

static void free_mirror(hp_seal *mirror)
{
    hp_seal_end(mirror);
    require(is_zero(mirror, sizeof *mirror));
    free(mirror);
}

/* The output begins with the mirror's next record; it is dropped. */
static void expect_data(hp_tls *tls, hp_seal *mirror, const uint8_t *data, size_t len)
{
    static uint8_t record[HP_SEAL_PLAIN_MAX + HP_SEAL_OVERHEAD];
    const uint8_t *output;
    int n = hp_seal_now(mirror, HP_CONTENT_DATA, data, len, record);
    require(n == (int)len + HP_SEAL_OVERHEAD && hp_tls_output(tls, &output) >= n);
    require(!memcmp(output, record, (size_t)n));
    hp_tls_sent(tls, (size_t)n);
}

static void expect_key_update(hp_tls *tls, hp_seal *mirror)
{
    uint8_t record[CONTROL_BYTES];
    const uint8_t *output;
    require(hp_seal_key_update(mirror, record) == CONTROL_BYTES && mirror->number == 0);
    require(hp_tls_output(tls, &output) >= CONTROL_BYTES);
    require(!memcmp(output, record, CONTROL_BYTES));
    hp_tls_sent(tls, CONTROL_BYTES);
}

/* RFC 8448 3: the client's two records under its application key. */
static void check_the_published_records(void)
{
    static const char secret[] = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
    static const char data_hex[] = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab"
                                   "3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3d"
                                   "eae63aeebb21694915e4";
    static const char alert_hex[] = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3";
    uint8_t expected[128], record[128], payload[50];
    size_t len;
    hp_seal *seal = calloc(1, sizeof *seal);
    require(seal);
    unhex(secret, seal->secret, sizeof seal->secret, &seal->secret_len);
    require(hp_seal_start(seal, 0x1301));
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)i;
    unhex(data_hex, expected, sizeof expected, &len);
    require(hp_seal_ahead(seal, 5, payload, sizeof payload) == 1);
    require(seal->len[5] == len && !memcmp(seal->record[5], expected, len));
    hp_seal_commit(seal);
    unhex(alert_hex, expected, sizeof expected, &len);
    require(hp_seal_now(seal, HP_CONTENT_ALERT, (const uint8_t *)"\1\0", 2, record) == (int)len);
    require(!memcmp(record, expected, len));
    free_mirror(seal);
}

/* Key lengths belong to suites; what is not known is not tried. */
static void check_suites(void)
{
    static const struct {
        uint32_t suite;
        size_t secret_len;
        int good;
    } cases[] = {{0x1301, 32, 1}, {0x1302, 48, 1}, {0x1303, 32, 1}, {0x1301, 48, 0},
                 {0x1302, 32, 0}, {0x1303, 0, 0},  {0x1304, 32, 0}, {0xc02f, 32, 0}};
    hp_seal *seal = calloc(1, sizeof *seal);
    require(seal);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        seal->secret_len = cases[i].secret_len;
        require(hp_seal_start(seal, cases[i].suite) == cases[i].good);
        require(!cases[i].good || hp_seal_ahead(seal, 0, text, 100) == 1);
        hp_seal_end(seal);
        require(is_zero(seal, sizeof *seal));
    }
    free(seal);
}

static void fill_slots(hp_tls *tls)
{
    for (int slot = 0; slot < HP_SLOTS_MAX; slot++)
        require(hp_tls_seal_ahead(tls, slot, text, (size_t)(HP_SLOT_BYTES_MAX - slot)) == 1);
    require(!is_zero(tls->seal.record[HP_SLOTS_MAX - 1], HP_SEAL_RECORD_BYTES));
}

static void require_no_alternatives(const hp_seal *seal)
{
    require(seal->sealed == 0 && is_zero(seal->len, sizeof seal->len));
    require(is_zero(seal->record, sizeof seal->record));
}

static void commit(hp_tls *tls)
{
    hp_tls_commit(tls, 7, SIZE_MAX);
}

static void seal_text(hp_tls *tls)
{
    require(hp_tls_seal(tls, text, 10) == 10);
}

static void seal_nothing(hp_tls *tls)
{
    require(hp_tls_seal_ahead(tls, 3, text, 0) == 1);
    hp_tls_commit(tls, 3, SIZE_MAX);
}

static void commit_twice(hp_tls *tls)
{
    hp_tls_commit(tls, 7, SIZE_MAX);
    hp_tls_commit(tls, 7, SIZE_MAX);
}

static void commit_outside(hp_tls *tls)
{
    hp_tls_commit(tls, HP_SLOTS_MAX, SIZE_MAX);
}

/* Whatever takes or gives up the number leaves nothing of any alternative; what ends the write side
 * leaves no secret either. */
static void check_wiping(void)
{
    static const struct {
        void (*act)(hp_tls *);
        uint64_t number; /* afterwards; 0: the write side has ended */
    } ways[] = {{commit, 2},         {seal_text, 2},      {seal_nothing, 2},  {hp_tls_discard, 1},
                {hp_tls_close, 0}, {commit_twice, 0}, {commit_outside, 0}};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        hp_tls *tls = new_client();
        fill_slots(tls);
        require(tls->seal.number == 1);
        ways[i].act(tls);
        require_no_alternatives(&tls->seal);
        require(tls->seal.number == ways[i].number);
        if (ways[i].number == 0) {
            require(is_zero(&tls->seal, sizeof tls->seal));
            require(hp_tls_seal(tls, text, 1) == -HP_ETLS);
            require(hp_tls_seal_ahead(tls, 0, text, 1) == 0);
        }
        hp_tls_free(tls);
    }
}

static void check_slots(void)
{
    hp_tls *tls = new_client();
    const uint8_t *record;
    require(hp_tls_seal_ahead(tls, -1, text, 1) == -EINVAL);
    require(hp_tls_seal_ahead(tls, HP_SLOTS_MAX, text, 1) == -EINVAL);
    require(hp_tls_seal_ahead(tls, 0, text, HP_SLOT_BYTES_MAX + 1) == -ENOSPC);
    require(hp_tls_sealed(tls, -1, &record) == 0);
    require(hp_tls_sealed(tls, HP_SLOTS_MAX, &record) == 0);
    require_no_alternatives(&tls->seal);

    require(hp_tls_seal_ahead(tls, 9, text, HP_SLOT_BYTES_MAX) == 1);
    require(hp_tls_seal_ahead(tls, 9, text, 100) == 1); /* in its place: no tail of the former */
    require(hp_tls_sealed(tls, 9, &record) == 100 + HP_SEAL_OVERHEAD);
    require(is_zero(record + 100 + HP_SEAL_OVERHEAD, HP_SLOT_BYTES_MAX - 100));
    hp_tls_free(tls);
}

/* What is touched stays as it is, and touching takes no number. */
static void check_touching(void)
{
    hp_tls *tls = new_client();
    hp_seal *before = malloc(sizeof *before);
    require(before);
    fill_slots(tls);
    *before = tls->seal;
    hp_tls_touch(tls);
    require(!memcmp(before, &tls->seal, sizeof *before) && tls->output_end == 0);
    free(before);
    hp_tls_free(tls);
}

/* The key's last record, the KeyUpdate as the record behind it, and the next key from number 0. */
static void check_worn_key(void)
{
    hp_tls *tls = new_client();
    const uint8_t *record;
    tls->seal.number = HP_SEAL_NUMBERS_MAX - 1;
    hp_seal *mirror = new_mirror(tls);
    fill_slots(tls);
    require(hp_tls_sealed(tls, 1, &record) > 0);
    hp_tls_commit(tls, 1, SIZE_MAX);
    mirror->number++;
    require(hp_tls_seal_ahead(tls, 2, text, 600) == 1);
    require(hp_tls_sealed(tls, 2, &record) == 0); /* the KeyUpdate has to leave first */
    expect_key_update(tls, mirror);
    require(hp_tls_sealed(tls, 2, &record) == 600 + HP_SEAL_OVERHEAD);
    require(hp_seal_ahead(mirror, 0, text, 600) == 1);
    require(!memcmp(record, mirror->record[0], 600 + HP_SEAL_OVERHEAD));
    hp_tls_commit(tls, 2, SIZE_MAX);
    hp_seal_commit(mirror);
    require_no_alternatives(&tls->seal);

    tls->seal.number = mirror->number = HP_SEAL_NUMBERS_MAX - 2; /* within one message */
    require(hp_tls_seal(tls, text, sizeof text) == sizeof text);
    expect_data(tls, mirror, text, HP_SEAL_PLAIN_MAX);
    expect_data(tls, mirror, text + HP_SEAL_PLAIN_MAX, HP_SEAL_PLAIN_MAX);
    expect_key_update(tls, mirror);
    expect_data(tls, mirror, text + 2 * HP_SEAL_PLAIN_MAX, sizeof text - 2 * HP_SEAL_PLAIN_MAX);
    require(hp_tls_output(tls, &record) == 0);
    free_mirror(mirror);
    hp_tls_free(tls);
}

/* As many KeyUpdates as it takes until one finds no room. */
static int wear_out_keys(hp_tls *tls)
{
    int rc = 1;
    for (int updates = 0; rc == 1 && updates < 1000; updates++) {
        hp_tls_discard(tls);
        tls->seal.number = HP_SEAL_NUMBERS_MAX;
        rc = hp_tls_seal_ahead(tls, 0, text, 500);
    }
    return rc;
}

/* A due KeyUpdate waits for room, and everything else waits for it; an alert finds its place. */
static void check_full_output(void)
{
    hp_tls *tls = new_client();
    const uint8_t *output;
    while (hp_tls_seal(tls, text, 500) == 500)
        continue;
    require(wear_out_keys(tls) == -ENOSPC && hp_tls_seal(tls, text, 1) == -ENOSPC);
    require_no_alternatives(&tls->seal);
    require(tls->seal.number == HP_SEAL_NUMBERS_MAX);

    hp_seal *mirror = new_mirror(tls);
    hp_tls_sent(tls, (size_t)hp_tls_output(tls, &output));
    require(hp_tls_seal(tls, text, 1) == 1);
    expect_key_update(tls, mirror);
    expect_data(tls, mirror, text, 1);
    free_mirror(mirror);

    require(hp_tls_seal(tls, text, sizeof text) == sizeof text);
    while (hp_tls_seal(tls, text, 500) == 500)
        continue;
    require(wear_out_keys(tls) == -ENOSPC);
    int before = hp_tls_output(tls, &output);
    hp_tls_close(tls);
    require(hp_tls_output(tls, &output) == before + ALERT_BYTES);
    hp_tls_free(tls);
}

int main(void)
{
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)(i * 7 % 251 + 1);
    check_the_published_records();
    check_suites();
    check_wiping();
    check_slots();
    check_touching();
    check_worn_key();
    check_full_output();
    return 0;
}
