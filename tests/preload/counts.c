/* LD_PRELOAD: counts the calls of one thread to what allocates, locks or closes, while it is in a
 * function of the engine's. Calls within the C library do not come by here, only those into it. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* X(returned type, name, parameters, arguments): what is looked up behind us. */
#define LOOKED_UP(X)                                                                               \
    X(void *, mmap, (void *at, size_t n, int prot, int how, int fd, off_t from),                   \
      (at, n, prot, how, fd, from))                                                                \
    X(int, munmap, (void *at, size_t n), (at, n))                                                  \
    X(int, close, (int fd), (fd))                                                                  \
    X(int, shutdown, (int fd, int how), (fd, how))                                                 \
    X(int, brk, (void *end), (end))                                                                \
    X(void *, sbrk, (intptr_t by), (by))                                                           \
    X(int, pthread_mutex_lock, (pthread_mutex_t * m), (m))                                         \
    X(int, pthread_mutex_trylock, (pthread_mutex_t * m), (m))                                      \
    X(int, pthread_rwlock_rdlock, (pthread_rwlock_t * l), (l))                                     \
    X(int, pthread_rwlock_wrlock, (pthread_rwlock_t * l), (l))                                     \
    X(int, pthread_rwlock_tryrdlock, (pthread_rwlock_t * l), (l))                                  \
    X(int, pthread_rwlock_trywrlock, (pthread_rwlock_t * l), (l))                                  \
    X(int, pthread_spin_lock, (pthread_spinlock_t * l), (l))                                       \
    X(int, pthread_cond_wait, (pthread_cond_t * c, pthread_mutex_t * m), (c, m))                   \
    X(int, pthread_cond_timedwait,                                                                 \
      (pthread_cond_t * c, pthread_mutex_t * m, const struct timespec *until), (c, m, until))      \
    X(int, pthread_cond_signal, (pthread_cond_t * c), (c))                                         \
    X(int, pthread_cond_broadcast, (pthread_cond_t * c), (c))                                      \
    X(int, sem_wait, (sem_t * s), (s))                                                             \
    X(int, sem_post, (sem_t * s), (s))

/* glibc's own names for its heap need no look-up, which would itself allocate. */
#define HEAP(X)                                                                                    \
    X(void *, malloc, (size_t n), (n))                                                             \
    X(void *, calloc, (size_t n, size_t each), (n, each))                                          \
    X(void *, realloc, (void *old, size_t n), (old, n))                                            \
    X(void *, memalign, (size_t align, size_t n), (align, n))

enum function {
#define NUMBER(type, name, parameters, arguments) COUNT_##name,
    HEAP(NUMBER) LOOKED_UP(NUMBER) COUNT_free,
    COUNT_posix_memalign,
    COUNT_aligned_alloc,
    COUNT_syscall,
    FUNCTIONS,
};

static const char *const names[] = {
#define NAME(type, name, parameters, arguments) #name,
    HEAP(NAME) LOOKED_UP(NAME) "free", "posix_memalign", "aligned_alloc", "syscall"};

/* Not allocated at its first use, as thread-local memory of a library is otherwise. */
static _Thread_local uint64_t counts[FUNCTIONS] __attribute__((tls_model("initial-exec")));
static _Thread_local int counting __attribute__((tls_model("initial-exec")));

static void count(enum function which)
{
    counts[which] += (uint64_t)counting;
}

/* Condition variables have an older version of the same name (x86-64). */
static void *behind_us(const char *name)
{
    void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
    return found ? found : dlsym(RTLD_NEXT, name);
}

#define COUNT_HEAP(type, name, parameters, arguments)                                              \
    type __libc_##name parameters;                                                                 \
    type name parameters                                                                           \
    {                                                                                              \
        count(COUNT_##name);                                                                       \
        return __libc_##name arguments;                                                            \
    }
HEAP(COUNT_HEAP)

#define COUNT_LOOKED_UP(type, name, parameters, arguments)                                         \
    type name parameters                                                                           \
    {                                                                                              \
        static type(*real) parameters;                                                             \
        count(COUNT_##name);                                                                       \
        if (!real)                                                                                 \
            real = (type(*) parameters)behind_us(#name);                                           \
        return real arguments;                                                                     \
    }
LOOKED_UP(COUNT_LOOKED_UP)

void __libc_free(void *old);
void free(void *old)
{
    if (old)
        count(COUNT_free);
    __libc_free(old);
}

int posix_memalign(void **at, size_t align, size_t n)
{
    count(COUNT_posix_memalign);
    *at = __libc_memalign(align, n);
    return *at ? 0 : ENOMEM;
}

void *aligned_alloc(size_t align, size_t n)
{
    count(COUNT_aligned_alloc);
    return __libc_memalign(align, n);
}

/* futex(2) has no other door, and nothing else may come through this one either. */
long syscall(long number, ...)
{
    static long (*real)(long, ...);
    va_list list;
    long a[6];
    count(COUNT_syscall);
    if (!real)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- for the test ---------------------------------------------------------------------------- */

/* The name of each count, NULL behind the last. */
const char *counted_name(int which)
{
    return which < FUNCTIONS ? names[which] : NULL;
}

typedef int (*rawtx_function)(void *engine, const uint8_t *raw, size_t len, int64_t t_rx_ns);

/* One transaction through `rawtx`, with what it called while it ran. */
int counted_rawtx(rawtx_function rawtx, void *engine, const uint8_t *raw, size_t len,
                  int64_t t_rx_ns, uint64_t called[FUNCTIONS])
{
    memset(counts, 0, sizeof counts);
    counting = 1;
    int rc = rawtx(engine, raw, len, t_rx_ns);
    counting = 0;
    memcpy(called, counts, sizeof counts);
    return rc;
}

typedef int (*poll_function)(void *engine, int64_t timeout_ns);

/* The same of one turn of the loop. */
int counted_poll(poll_function poll, void *engine, uint64_t called[FUNCTIONS])
{
    memset(counts, 0, sizeof counts);
    counting = 1;
    int rc = poll(engine, 0);
    counting = 0;
    memcpy(called, counts, sizeof counts);
    return rc;
}

/* In the place of the engine's: allocates, frees and locks, once each. */
int counted_control(void *engine, const uint8_t *raw, size_t len, int64_t t_rx_ns)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    void *volatile memory = malloc(len);
    (void)engine;
    (void)raw;
    (void)t_rx_ns;
    free(memory);
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    return 1;
}
