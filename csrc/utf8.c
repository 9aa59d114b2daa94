/* utf8.c: is it UTF-8, by the grammar of RFC 3629 4. */
#include "harpoon.h"

#include <string.h>

/* Length of the well-formed sequence at the start of `s`, or 0. The second byte's range is what
 * rules out overlong forms, surrogates and anything above U+10FFFF. */
static size_t sequence_len(const uint8_t *s, size_t len)
{
    uint8_t lead = s[0], low = 0x80, high = 0xbf;
    if (lead < 0x80)
        return 1;
    size_t n = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (lead < 0xc2 || lead > 0xf4 || len < n)
        return 0;
    switch (lead) {
    case 0xe0: low = 0xa0; break;
    case 0xed: high = 0x9f; break;
    case 0xf0: low = 0x90; break;
    case 0xf4: high = 0x8f; break;
    }
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

static int ascii_word(const uint8_t *s)
{
    uint64_t word;
    memcpy(&word, s, sizeof word);
    return (word & 0x8080808080808080u) == 0;
}

int hp_utf8_valid(const uint8_t *data, size_t len)
{
    size_t at = 0;
    while (at < len) {
        size_t n = len - at >= 8 && ascii_word(data + at) ? 8 : sequence_len(data + at, len - at);
        if (n == 0)
            return 0;
        at += n;
    }
    return 1;
}
