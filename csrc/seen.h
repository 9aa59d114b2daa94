/* Which outpoints have signalled: a set of bounded memory that forgets its oldest. */
#ifndef HP_SEEN_H
#define HP_SEEN_H

#include "siphash.h"

typedef struct hp_seen hp_seen;

/* Room for about `entries`, a power of two from 8. NULL when memory is short or the number is
 * none. */
hp_seen *hp_seen_new(uint32_t entries, hp_siphash_key key);
void hp_seen_free(hp_seen *seen);
int hp_seen_has(const hp_seen *seen, const uint8_t outpoint[36]);
void hp_seen_add(hp_seen *seen, const uint8_t outpoint[36]);

#endif
