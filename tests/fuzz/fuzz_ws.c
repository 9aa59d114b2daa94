/* Any bytes as a venue: as its answer to the upgrade, and as frames behind it. Nothing reads past
 * them, and however they are cut, the same is heard. */
#include "incoming.h"

#include <stdlib.h>
#include <string.h>

#define MESSAGE_BYTES_MAX 600

static const uint8_t key[16] = "the sample nonce"; /* RFC 6455 1.3 */

static void require(int holds)
{
    if (!holds)
        abort();
}

/* A copy that ends where the input does, so that the sanitizer sees a byte too many. */
static int response(const uint8_t *raw, size_t len, hp_ws_answer *said)
{
    uint8_t *exact = malloc(len ? len : 1);
    memcpy(exact, raw, len);
    int rc = hp_ws_response(exact, len, key, said);
    free(exact);
    require(rc <= (int)len && said->status >= 0 && said->status <= 999);
    return rc;
}

static void check_response(const uint8_t *raw, size_t len, size_t cut)
{
    hp_ws_answer whole, part;
    int rc = response(raw, len, &whole);
    int rc_of_part = response(raw, cut, &part);
    require(rc_of_part == 0 || (rc_of_part == rc && part.status == whole.status &&
                                part.retry_after_s == whole.retry_after_s));
    require(rc <= 0 || whole.status == 101);
    require(whole.status != 101 || whole.retry_after_s == 0 || rc < 0);
}

/* ---- frames --------------------------------------------------------------------------------- */

typedef struct heard_all {
    uint64_t messages;
    uint64_t digest;
    int end; /* the error or the Close that ended it, 0: none */
} heard_all;

static void mix(heard_all *all, uint64_t value)
{
    all->digest = (all->digest ^ value) * UINT64_C(0x100000001b3);
}

/* Everything that can be heard now: whether there may be more. */
static int hear(hp_incoming *in, heard_all *all)
{
    hp_heard heard = {0};
    int what;
    while ((what = hp_incoming_next(in, &heard)) > 0) {
        require(heard.len <= MESSAGE_BYTES_MAX || what != HP_WS_TEXT);
        all->messages++;
        mix(all, (uint64_t)what);
        mix(all, heard.len);
        for (size_t i = 0; i < heard.len; i++)
            mix(all, heard.bytes[i]);
        if (what == HP_WS_CLOSE)
            break;
    }
    all->end = what;
    if (what < 0)
        require(heard.what != NULL && heard.close_code >= 1000);
    return what == 0;
}

static heard_all listen_to(hp_incoming *in, const uint8_t *raw, size_t len, size_t chunk)
{
    heard_all all = {0};
    size_t room;
    hp_incoming_restart(in);
    while (hear(in, &all) && len > 0) {
        uint8_t *to = hp_incoming_room(in, &room);
        size_t n = len < chunk ? len : chunk;
        require(room >= n);
        memcpy(to, raw, n);
        hp_incoming_add(in, n);
        raw += n;
        len -= n;
    }
    return all;
}

int LLVMFuzzerTestOneInput(const uint8_t *raw, size_t len)
{
    static hp_incoming in;
    if (!in.bytes && hp_incoming_init(&in, MESSAGE_BYTES_MAX) < 0)
        abort();
    if (len < 1)
        return 0;
    size_t cut = raw[0];
    raw++, len--;
    check_response(raw, len, cut < len ? cut : len);
    heard_all whole = listen_to(&in, raw, len, len ? len : 1);
    heard_all cut_up = listen_to(&in, raw, len, cut % 64 + 1);
    require(whole.messages == cut_up.messages && whole.digest == cut_up.digest &&
            whole.end == cut_up.end);
    return 0;
}
