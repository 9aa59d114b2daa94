/* A new book for the hot thread, which never waits and never frees: another thread offers one, the
 * hot thread takes it between two transactions with one atomic swap and lays the old one down. A
 * book that was laid down, or was offered and replaced before it was taken, is nobody's. */
#ifndef HP_HANDOVER_H
#define HP_HANDOVER_H

#include "harpoon.h"

#include <stdatomic.h>
#include <stddef.h>

typedef struct hp_handover {
    _Atomic(const hp_book *) offered;
    _Atomic(const hp_book *) returned;
} hp_handover;

/* The hot thread, while it uses no book: the one to use from now on. */
static inline const hp_book *hp_handover_take(hp_handover *h, const hp_book *current)
{
    if (!atomic_load_explicit(&h->offered, memory_order_relaxed) ||
        atomic_load_explicit(&h->returned, memory_order_relaxed))
        return current;
    const hp_book *book = atomic_exchange_explicit(&h->offered, NULL, memory_order_acquire);
    if (!book)
        return current;
    atomic_store_explicit(&h->returned, current, memory_order_release);
    return book;
}

#endif
