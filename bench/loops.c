/* Tight loops around functions of the engine's library, which are passed by address: calling
 * each from Python would measure Python. */
#include "floor.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <emmintrin.h>
#define WAIT_FOR_ALL_BEFORE() _mm_lfence()
#else
#define WAIT_FOR_ALL_BEFORE() __asm__ volatile("" ::: "memory")
#endif

#define LINE_WORDS 8

typedef int (*parse_function)(const uint8_t *raw, size_t len, void *tx);
typedef uint32_t (*find_function)(const void *book, const uint8_t *script, size_t len);
typedef int (*rawtx_function)(void *engine, const uint8_t *raw, size_t len, int64_t t_rx_ns);
typedef int (*poll_function)(void *engine, int64_t timeout_ns);
typedef void (*hold_function)(void *engine, int held);
typedef int (*add_function)(void *book, const uint8_t *script, size_t len, uint32_t owner);

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static uint64_t mixed(uint64_t n)
{
    n = (n ^ n >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    n = (n ^ n >> 27) * UINT64_C(0x94d049bb133111eb);
    return n ^ n >> 31;
}

/* P2WPKH, P2PKH and P2SH in turn. */
static size_t write_script(uint64_t number, uint8_t *script)
{
    static const uint8_t starts[3][3] = {{0, 20}, {0x76, 0xa9, 20}, {0xa9, 20}};
    static const uint8_t start_bytes[3] = {2, 3, 2};
    uint64_t words[3];
    uint32_t form = (uint32_t)(number % 3);
    for (uint64_t i = 0; i < 3; i++)
        words[i] = mixed(3 * number + i + UINT64_C(0x9e3779b97f4a7c15));
    memcpy(script, starts[form], start_bytes[form]);
    memcpy(script + start_bytes[form], words, 20);
    if (form == 1)
        memcpy(script + 23, "\x88\xac", 2);
    if (form == 2)
        script[22] = 0x87;
    return form == 0 ? 22 : form == 1 ? 25 : 23;
}

void hp_loop_scripts(uint64_t first, size_t n, hp_loop_script *scripts)
{
    for (size_t i = 0; i < n; i++)
        scripts[i].len = (uint8_t)write_script(first + i, scripts[i].bytes);
}

int hp_loop_fill(uintptr_t add, uintptr_t book, size_t n, uint32_t owner)
{
    uint8_t script[32];
    for (size_t i = 0; i < n; i++) {
        size_t len = write_script(i, script);
        int rc = ((add_function)add)((void *)book, script, len, owner);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int64_t hp_loop_walk_ns(uintptr_t parse, const uint8_t *raw, const uint64_t *at, size_t n)
{
    uint64_t tx[16]; /* room for an hp_tx */
    int64_t start_ns = now_ns();
    for (size_t i = 0; i < n; i++) {
        size_t len = (size_t)(at[i + 1] - at[i]);
        if (((parse_function)parse)(raw + at[i], len, tx) != (int)len)
            return -1;
    }
    return now_ns() - start_ns;
}

int64_t hp_loop_rawtx_ns(uintptr_t rawtx, uintptr_t engine, const uint8_t *raw, const uint64_t *at,
                         size_t n)
{
    int64_t start_ns = now_ns();
    for (size_t i = 0; i < n; i++) {
        size_t len = (size_t)(at[i + 1] - at[i]);
        if (((rawtx_function)rawtx)((void *)engine, raw + at[i], len, start_ns) < 0)
            return -1;
    }
    return now_ns() - start_ns;
}

static void rest(const hp_loop_engine *e, int64_t pause_ns, int park)
{
    poll_function poll = (poll_function)e->poll;
    int64_t end_ns = now_ns() + pause_ns;
    do
        poll((void *)e->engine, park ? end_ns - now_ns() : 0);
    while (now_ns() < end_ns);
}

static int fire(const hp_loop_engine *e, const uint8_t *raw, size_t len, int ahead)
{
    hold_function hold = (hold_function)e->hold;
    hold((void *)e->engine, 0);
    int rc = ((rawtx_function)e->rawtx)((void *)e->engine, raw, len, now_ns());
    hold((void *)e->engine, !ahead);
    return rc;
}

int hp_loop_fire_and_send(const hp_loop_engine *e, const uint8_t *raw, size_t len, size_t times,
                          int64_t pause_ns, int park, int ahead, int fd, const uint8_t *bytes,
                          size_t n, int64_t *send_ns)
{
    for (size_t i = 0; i < times; i++) {
        rest(e, pause_ns, park);
        if (fire(e, raw + i * len, len, ahead) != 1)
            return -EBADMSG;
        rest(e, pause_ns, park);
        send_ns[i] = hp_floor_send_ns(fd, bytes, n);
        if (send_ns[i] < 0)
            return (int)send_ns[i];
    }
    rest(e, pause_ns, park);
    return 0;
}

int64_t hp_loop_find_ns(uintptr_t find, uintptr_t book, const hp_loop_script *scripts, size_t n,
                        uint32_t expected)
{
    uint32_t wrong = 0;
    int64_t start_ns = now_ns();
    for (size_t i = 0; i < n; i++)
        wrong |= ((find_function)find)((const void *)book, scripts[i].bytes, scripts[i].len) ^
                 expected;
    int64_t took_ns = now_ns() - start_ns;
    return wrong ? -1 : took_ns;
}

int64_t hp_loop_find_alone_ns(uintptr_t find, uintptr_t book, const hp_loop_script *scripts,
                              size_t n, uint32_t expected)
{
    uint32_t wrong = 0;
    int64_t start_ns = now_ns();
    for (size_t i = 0; i < n; i++) {
        wrong |= ((find_function)find)((const void *)book, scripts[i].bytes, scripts[i].len) ^
                 expected;
        WAIT_FOR_ALL_BEFORE();
    }
    int64_t took_ns = now_ns() - start_ns;
    return wrong ? -1 : took_ns;
}

/* One cycle through all lines, in no order (Sattolo). */
void hp_loop_chain(uint64_t *table, size_t lines)
{
    for (size_t i = 0; i < lines; i++)
        table[i * LINE_WORDS] = i;
    for (size_t i = lines - 1; i > 0; i--) {
        size_t j = (size_t)(mixed(i) % i);
        uint64_t other = table[i * LINE_WORDS];
        table[i * LINE_WORDS] = table[j * LINE_WORDS];
        table[j * LINE_WORDS] = other;
    }
}

int64_t hp_loop_load_ns(const uint64_t *table, uint64_t *at, size_t n)
{
    uint64_t line = *at;
    int64_t start_ns = now_ns();
    for (size_t i = 0; i < n; i++)
        line = table[line * LINE_WORDS];
    int64_t took_ns = now_ns() - start_ns;
    *at = line;
    return took_ns;
}

uint64_t hp_loop_read(const uint8_t *data, size_t bytes)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < bytes; i += 64)
        sum += data[i];
    return sum;
}
