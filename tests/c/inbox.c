/* The ring between two threads: everything arrives once, whole and in order, whatever the lengths
 * and wherever in the ring it lies. */
#include "inbox.h"
#include "require.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#define RING 512
#define LONGEST (RING / 2 - 16)
#define ITEMS 200000

/* A length that depends on the item's number alone: mostly short, at times the longest. */
static size_t length_of(int64_t number)
{
    uint64_t mixed = (uint64_t)number * 0x9e3779b97f4a7c15u >> 33;
    return mixed % 7 == 0 ? LONGEST : (size_t)(mixed % 60);
}

static void fill(uint8_t *bytes, int64_t number)
{
    for (size_t i = 0; i < length_of(number); i++)
        bytes[i] = (uint8_t)((size_t)number * 31 + i);
}

static int kind_of(int64_t number)
{
    return (int)(number ^ 5) & 0xffff;
}

static int put(hp_inbox *inbox, int64_t number)
{
    uint8_t bytes[LONGEST];
    fill(bytes, number);
    return hp_inbox_put(inbox, kind_of(number), (int)(number % 3) - 1, number, bytes,
                        length_of(number));
}

static int take(hp_inbox *inbox, int64_t number)
{
    uint8_t wanted[LONGEST];
    hp_inbox_item item, again;
    if (!hp_inbox_next(inbox, &item))
        return 0;
    require(hp_inbox_next(inbox, &again) && again.bytes == item.bytes); /* until it is done */
    fill(wanted, number);
    require(item.number == number && item.kind == kind_of(number));
    require(item.session == number % 3 - 1);
    require(item.len == length_of(number) && !memcmp(item.bytes, wanted, item.len));
    hp_inbox_done(inbox);
    return 1;
}

static void *produce(void *inbox)
{
    for (int64_t number = 0; number < ITEMS;)
        if (put(inbox, number) == 0)
            number++;
        else
            sched_yield();
    return NULL;
}

static void test_two_threads(void)
{
    hp_inbox *inbox = hp_inbox_new(RING);
    pthread_t producer;
    require(inbox && pthread_create(&producer, NULL, produce, inbox) == 0);
    for (int64_t number = 0; number < ITEMS;)
        if (take(inbox, number))
            number++;
        else
            sched_yield();
    require(pthread_join(producer, NULL) == 0);
    require(!take(inbox, ITEMS));
    hp_inbox_free(inbox);
}

/* A full ring refuses, keeps what it has, and takes more as soon as something is done. */
static void test_full(void)
{
    hp_inbox *inbox = hp_inbox_new(RING);
    int64_t first = 0, next = 0;
    for (int round = 0; round < 2000; round++) {
        int rc;
        while ((rc = put(inbox, next)) == 0)
            next++;
        require(rc == -ENOSPC && next > first);
        for (int n = round % 5 + 1; n > 0 && first < next; n--)
            require(take(inbox, first++));
    }
    while (first < next)
        require(take(inbox, first++));
    require(!take(inbox, first));
    hp_inbox_free(inbox);
}

/* From every place in the ring, an empty one takes the longest item; and none that is longer. */
static void test_longest(void)
{
    static const uint8_t bytes[LONGEST + 1];
    for (size_t before = 0; before < RING; before += 8) {
        hp_inbox *inbox = hp_inbox_new(RING);
        hp_inbox_item item;
        for (size_t at = 0; at < before; at += 24) { /* 16 to 24 bytes a step */
            require(hp_inbox_put(inbox, 1, 0, 2, bytes, before - at < 24 ? 0 : 8) == 0);
            require(hp_inbox_next(inbox, &item));
            hp_inbox_done(inbox);
        }
        require(hp_inbox_put(inbox, 1, 0, 2, bytes, LONGEST + 1) == -ENOSPC);
        require(hp_inbox_put(inbox, 3, -1, -4, bytes, LONGEST) == 0);
        require(hp_inbox_next(inbox, &item) && item.len == LONGEST);
        require(item.kind == 3 && item.session == -1 && item.number == -4);
        hp_inbox_done(inbox);
        require(!hp_inbox_next(inbox, &item));
        hp_inbox_free(inbox);
    }
}

int main(void)
{
    test_longest();
    test_full();
    test_two_threads();
    return 0;
}
