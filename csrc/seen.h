/* Which txids and outpoints have signalled: a set of bounded memory that forgets its oldest. */
#ifndef HP_SEEN_H
#define HP_SEEN_H

#include "siphash.h"

typedef struct hp_seen hp_seen;

/* Room for about `entries` (a power of two >= 8). NULL when memory is short or the number is not. */
hp_seen *hp_seen_new(uint32_t entries, hp_siphash_key key);
void hp_seen_free(hp_seen *seen);
/* A txid is given as the 36 bytes of an outpoint with the index HP_SEEN_TXID. */
int hp_seen_has(const hp_seen *seen, const uint8_t id[36]);
void hp_seen_add(hp_seen *seen, const uint8_t id[36]);

#define HP_SEEN_TXID 0xffffffffu /* no output has this index: a coinbase's null outpoint has it */

#endif
