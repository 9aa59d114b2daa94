/* A thread that looks up all the time; another replaces its book and frees what comes back. */
#include "handover.h"
#include "require.h"

#include <pthread.h>
#include <string.h>

#define BOOKS 500

typedef struct reading {
    hp_handover books;
    const hp_book *current;
    atomic_int stopped;
    uint32_t changes;
} reading;

static const uint8_t script[22] = {0, 20, 1, 2, 3};

static hp_book *make_book(void)
{
    hp_book *book = hp_book_new(1, (const uint8_t *)"a seed, 16 bytes");
    require(hp_book_exchange(book, "a") == 0 && hp_book_owner(book, &(hp_owner){0}) == 0);
    require(hp_book_add(book, script, sizeof script, 0) == 0 && hp_book_build(book) == 0);
    return book;
}

static void *read_all_the_time(void *argument)
{
    reading *r = argument;
    while (!atomic_load(&r->stopped)) {
        const hp_book *book = hp_handover_take(&r->books, r->current);
        r->changes += book != r->current;
        r->current = book;
        for (int i = 0; i < 100; i++)
            require(hp_book_find(book, script, sizeof script) == 0);
    }
    return NULL;
}

static int free_book(const hp_book *book)
{
    hp_book_free((hp_book *)(uintptr_t)book);
    return book != NULL;
}

int main(void)
{
    static reading r;
    pthread_t thread;
    int freed = 0;
    r.current = make_book();
    require(pthread_create(&thread, NULL, read_all_the_time, &r) == 0);
    for (int i = 0; i < BOOKS; i++) {
        freed += free_book(atomic_exchange(&r.books.returned, NULL));
        freed += free_book(atomic_exchange(&r.books.offered, make_book()));
    }
    while (atomic_load(&r.books.offered)) /* the last one is taken, too */
        freed += free_book(atomic_exchange(&r.books.returned, NULL));
    atomic_store(&r.stopped, 1);
    require(pthread_join(thread, NULL) == 0);
    freed += free_book(atomic_exchange(&r.books.returned, NULL));
    freed += free_book(r.current);
    require(freed == BOOKS + 1 && r.changes > 0);
    return 0;
}
