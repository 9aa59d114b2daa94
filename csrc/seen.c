/* A set-associative table: the keyed hash picks a bucket, a bucket forgets its oldest entry. An
 * entry is 128 bits of the outpoint's hash and name, so that two are told apart for good. */
#include "seen.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define WAYS 8u
#define ENTRIES_MAX (1u << 24)
#define HUGE_PAGE ((size_t)1 << 21)

typedef struct entry {
    uint64_t hash; /* 0: free */
    uint64_t name; /* the outpoint's first 8 bytes, which no hash key hides */
} entry;

typedef struct bucket {
    entry entries[WAYS];
} bucket;

struct hp_seen {
    bucket *buckets;
    uint8_t *oldest; /* per bucket, the entry to forget next */
    hp_siphash_key key;
    uint32_t mask;
};

hp_seen *hp_seen_new(uint32_t entries, hp_siphash_key key)
{
    if (entries < WAYS || entries > ENTRIES_MAX || (entries & (entries - 1)))
        return NULL;
    uint32_t buckets = entries / WAYS;
    hp_seen *seen = calloc(1, sizeof *seen);
    if (!seen)
        return NULL;
    size_t bytes = buckets * sizeof *seen->buckets;
    seen->buckets = aligned_alloc(bytes < HUGE_PAGE ? sizeof *seen->buckets : HUGE_PAGE, bytes);
    seen->oldest = calloc(buckets, 1);
    if (!seen->buckets || !seen->oldest) {
        hp_seen_free(seen);
        return NULL;
    }
    madvise(seen->buckets, bytes, MADV_HUGEPAGE);
    memset(seen->buckets, 0, bytes);
    seen->key = key;
    seen->mask = buckets - 1;
    return seen;
}

void hp_seen_free(hp_seen *seen)
{
    if (!seen)
        return;
    free(seen->buckets);
    free(seen->oldest);
    free(seen);
}

static entry entry_of(const hp_seen *seen, const uint8_t outpoint[36])
{
    return (entry){hp_siphash13(seen->key, outpoint, 36) | 1, hp_le64(outpoint)};
}

static uint32_t bucket_of(const hp_seen *seen, entry e)
{
    return (uint32_t)(e.hash >> 32) & seen->mask;
}

int hp_seen_has(const hp_seen *seen, const uint8_t outpoint[36])
{
    entry e = entry_of(seen, outpoint);
    const bucket *b = &seen->buckets[bucket_of(seen, e)];
    for (uint32_t i = 0; i < WAYS; i++)
        if (b->entries[i].hash == e.hash && b->entries[i].name == e.name)
            return 1;
    return 0;
}

void hp_seen_add(hp_seen *seen, const uint8_t outpoint[36])
{
    if (hp_seen_has(seen, outpoint))
        return;
    entry e = entry_of(seen, outpoint);
    uint32_t at = bucket_of(seen, e);
    seen->buckets[at].entries[seen->oldest[at]] = e;
    seen->oldest[at] = (uint8_t)((seen->oldest[at] + 1) % WAYS);
}
