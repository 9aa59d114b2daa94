/* The kill latch, for the gate. */
#ifndef HP_LATCH_H
#define HP_LATCH_H

#include "harpoon.h"

#include <stdatomic.h>

/* A word in the mapped file that changes whenever the latch is set or reset, and is never again
 * what it was; NULL when the file is damaged. */
const _Atomic uint64_t *hp_latch_word(const hp_latch *latch);

#endif
