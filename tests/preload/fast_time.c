/* LD_PRELOAD: time runs N times as fast for the processes it is loaded into. Every clock they read
 * runs faster from a common origin, and every wait of theirs ends so much earlier; the kernel's own
 * timers (TCP) keep real time. HARPOON_FAST_TIME in the environment says
 * "N REALTIME MONOTONIC MONOTONIC_RAW BOOTTIME": the factor, and what each clock showed in ns when
 * simulated time began. A wait that goes by this library is as long as in real time: io_uring's,
 * and what the C library does within itself. */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)
#define CLOCKS 12
#define KERNEL_SIGSET_BYTES ((size_t)8)

static int64_t factor = 1;
static int64_t origin_ns[CLOCKS]; /* 0: this clock is left alone, as those of processor time are */

/* Condition variables have an older version of the same name (x86-64). */
static void *behind_us(const char *name)
{
    void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
    return found ? found : dlsym(RTLD_NEXT, name);
}

/* real_NAME() is the C library's NAME. */
#define LOOKED_UP(name)                                                                            \
    static __typeof__(&name) real_##name(void)                                                     \
    {                                                                                              \
        static __typeof__(&name) found;                                                            \
        if (!found)                                                                                \
            found = (__typeof__(&name))behind_us(#name);                                           \
        return found;                                                                              \
    }

LOOKED_UP(clock_gettime)
LOOKED_UP(clock_nanosleep)
LOOKED_UP(ppoll)
LOOKED_UP(pselect)
LOOKED_UP(pthread_cond_timedwait)
LOOKED_UP(pthread_cond_clockwait)
LOOKED_UP(sem_timedwait)
LOOKED_UP(sem_clockwait)

__attribute__((constructor)) static void begin(void)
{
    static const clockid_t told[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW,
                                     CLOCK_BOOTTIME};
    const char *at = getenv("HARPOON_FAST_TIME");
    char *end;
    if (!at)
        return;
    int64_t n = strtoll(at, &end, 10);
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++)
        origin_ns[told[i]] = strtoll(end, &end, 10);
    origin_ns[CLOCK_REALTIME_COARSE] = origin_ns[CLOCK_REALTIME];
    origin_ns[CLOCK_MONOTONIC_COARSE] = origin_ns[CLOCK_MONOTONIC];
    if (n < 1 || *end || !origin_ns[CLOCK_BOOTTIME]) {
        fprintf(stderr, "HARPOON_FAST_TIME=%s is not a factor and four times in ns\n", at);
        _exit(2);
    }
    factor = n;
}

/* ---- between the two times ------------------------------------------------------------------- */

static int64_t to_ns(const struct timespec *t)
{
    return (int64_t)t->tv_sec * NS_PER_S + t->tv_nsec;
}

static struct timespec from_ns(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
}

static int64_t origin_of(clockid_t clock)
{
    return clock >= 0 && clock < CLOCKS ? origin_ns[clock] : 0;
}

/* Rounded up, as every wait is. */
static int64_t real_duration_ns(int64_t ns)
{
    return ns <= 0 ? ns : (ns - 1) / factor + 1;
}

static struct timespec real_duration(const struct timespec *simulated)
{
    return from_ns(real_duration_ns(to_ns(simulated)));
}

static struct timespec real_time(clockid_t clock, const struct timespec *simulated)
{
    int64_t origin = origin_of(clock);
    if (!origin || to_ns(simulated) < origin)
        return *simulated;
    return from_ns(origin + real_duration_ns(to_ns(simulated) - origin));
}

/* ---- clocks ---------------------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int rc = real_clock_gettime()(clock, now);
    int64_t origin = origin_of(clock);
    if (rc == 0 && origin)
        *now = from_ns(origin + (to_ns(now) - origin) * factor);
    return rc;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec ts;
    (void)zone;
    int rc = clock_gettime(CLOCK_REALTIME, &ts);
    if (rc == 0)
        *now = (struct timeval){.tv_sec = ts.tv_sec, .tv_usec = ts.tv_nsec / 1000};
    return rc;
}

time_t time(time_t *now)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (now)
        *now = ts.tv_sec;
    return ts.tv_sec;
}

/* ---- sleeping -------------------------------------------------------------------------------- */

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request,
                    struct timespec *left)
{
    int absolute = flags & TIMER_ABSTIME;
    struct timespec real = absolute ? real_time(clock, request) : real_duration(request);
    int rc = real_clock_nanosleep()(clock, flags, &real, left);
    if (rc == EINTR && left && !absolute)
        *left = from_ns(to_ns(left) * factor);
    return rc;
}

int nanosleep(const struct timespec *request, struct timespec *left)
{
    errno = clock_nanosleep(CLOCK_MONOTONIC, 0, request, left);
    return errno ? -1 : 0;
}

/* ---- waiting for descriptors ----------------------------------------------------------------- */

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
    struct timespec real;
    if (timeout)
        real = real_duration(timeout);
    return real_ppoll()(fds, n, timeout ? &real : NULL, mask);
}

int poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    struct timespec timeout = from_ns((int64_t)timeout_ms * 1000000);
    return ppoll(fds, n, timeout_ms < 0 ? NULL : &timeout, NULL);
}

/* What the compiler makes of poll and ppoll with _FORTIFY_SOURCE. */
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout_ms, size_t room);
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout_ms, size_t room)
{
    if (room / sizeof *fds < n)
        abort();
    return poll(fds, n, timeout_ms);
}

int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                const sigset_t *mask, size_t room);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                const sigset_t *mask, size_t room)
{
    if (room / sizeof *fds < n)
        abort();
    return ppoll(fds, n, timeout, mask);
}

int pselect(int n, fd_set *restrict in, fd_set *restrict out, fd_set *restrict other,
            const struct timespec *restrict timeout, const sigset_t *restrict mask)
{
    struct timespec real;
    if (timeout)
        real = real_duration(timeout);
    return real_pselect()(n, in, out, other, timeout ? &real : NULL, mask);
}

int select(int n, fd_set *restrict in, fd_set *restrict out, fd_set *restrict other,
           struct timeval *restrict timeout)
{
    struct timespec ts;
    if (timeout)
        ts = (struct timespec){.tv_sec = timeout->tv_sec, .tv_nsec = timeout->tv_usec * 1000};
    return pselect(n, in, out, other, timeout ? &ts : NULL, NULL);
}

int epoll_pwait2(int epoll, struct epoll_event *events, int n, const struct timespec *timeout,
                 const sigset_t *mask)
{
    struct timespec real;
    if (timeout)
        real = real_duration(timeout);
    return (int)syscall(SYS_epoll_pwait2, epoll, events, n, timeout ? &real : NULL, mask,
                        KERNEL_SIGSET_BYTES);
}

int epoll_pwait(int epoll, struct epoll_event *events, int n, int timeout_ms,
                const sigset_t *mask)
{
    struct timespec timeout = from_ns((int64_t)timeout_ms * 1000000);
    return epoll_pwait2(epoll, events, n, timeout_ms < 0 ? NULL : &timeout, mask);
}

int epoll_wait(int epoll, struct epoll_event *events, int n, int timeout_ms)
{
    return epoll_pwait(epoll, events, n, timeout_ms, NULL);
}

/* ---- waiting for threads --------------------------------------------------------------------- */

/* A condition variable does not tell which clock it was made with, but its times do: no machine has
 * been up since 2001. */
static clockid_t clock_of(const struct timespec *until)
{
    return until->tv_sec < 1000000000 ? CLOCK_MONOTONIC : CLOCK_REALTIME;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    struct timespec real = real_time(clock_of(until), until);
    return real_pthread_cond_timedwait()(cond, mutex, &real);
}

int pthread_cond_clockwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           clockid_t clock, const struct timespec *restrict until)
{
    struct timespec real = real_time(clock, until);
    return real_pthread_cond_clockwait()(cond, mutex, clock, &real);
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict until)
{
    struct timespec real = real_time(CLOCK_REALTIME, until);
    return real_sem_timedwait()(sem, &real);
}

int sem_clockwait(sem_t *restrict sem, clockid_t clock, const struct timespec *restrict until)
{
    struct timespec real = real_time(clock, until);
    return real_sem_clockwait()(sem, clock, &real);
}
