/* The sockets of the hot thread, both ways: what comes is seen, what ends is told, nothing of a
 * detached socket reaches the port's next one, and no wake is lost. */
#include "io.h"
#include "require.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_NS INT64_C(5000000000)
#define SHORT_NS INT64_C(30000000)
#define WAKES 20000

static atomic_int aborted;
static hp_io io;
static uint8_t inbox[HP_IO_PORTS][256];

static int64_t deadline(void)
{
    return hp_now_ns() + PATIENCE_NS;
}

/* A connected pair: the port of one end, the other as a blocking descriptor. */
static int pair(int *peer)
{
    int ends[2];
    require(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    *peer = ends[1];
    return hp_io_attach(&io, ends[0]);
}

static void start(int port)
{
    require(hp_io_start_recv(&io, port, inbox[port], sizeof inbox[port]) == 0);
}

static int32_t await_bytes(int port)
{
    int32_t n = 0;
    int64_t end_ns = deadline();
    while (!hp_io_received(&io, port, &n)) {
        require(hp_now_ns() < end_ns);
        require(hp_io_wait(&io, end_ns - hp_now_ns()) == 0);
    }
    return n;
}

static int64_t slept_ns(int64_t timeout_ns)
{
    int64_t before_ns = hp_now_ns();
    require(hp_io_wait(&io, timeout_ns) == 0);
    return hp_now_ns() - before_ns;
}

static void bytes_come_in_both_ways(void)
{
    int peer;
    int port = pair(&peer);
    int32_t n;
    start(port);
    require(hp_io_start_recv(&io, port, inbox[port], 1) == -EBUSY);
    require(hp_io_turn(&io) == 0 && hp_io_received(&io, port, &n) == 0);
    require(slept_ns(SHORT_NS) >= SHORT_NS);
    require(write(peer, "abc", 3) == 3 && slept_ns(PATIENCE_NS) < PATIENCE_NS);
    require(slept_ns(PATIENCE_NS) < PATIENCE_NS); /* it waits to be taken: no sleep */
    require(hp_io_received(&io, port, &n) == 1 && n == 3 && !memcmp(inbox[port], "abc", 3));
    require(hp_io_received(&io, port, &n) == 0);
    require(slept_ns(SHORT_NS) >= SHORT_NS); /* nothing is started */
    start(port);
    require(write(peer, "d", 1) == 1);
    int64_t end_ns = deadline();
    while (!hp_io_received(&io, port, &n)) /* spinning */
        require(hp_io_turn(&io) == 0 && hp_now_ns() < end_ns);
    require(n == 1 && inbox[port][0] == 'd');
    require(hp_io_send(&io, port, (const uint8_t *)"back", 4, deadline()) == 0);
    char back[8];
    require(read(peer, back, sizeof back) == 4 && !memcmp(back, "back", 4));
    start(port);
    require(close(peer) == 0 && await_bytes(port) == 0);
    require(hp_io_send(&io, port, (const uint8_t *)"x", 1, deadline()) == -EPIPE);
    require(hp_io_detach(&io, port) == 0);
}

static void many_ports_do_not_mix(void)
{
    int peers[HP_IO_PORTS], ports[HP_IO_PORTS], refused;
    for (int i = 0; i < HP_IO_PORTS; i++) {
        ports[i] = pair(&peers[i]);
        require(ports[i] >= 0);
        start(ports[i]);
    }
    require(pair(&refused) == -ENOSPC && close(refused) == 0);
    for (int i = HP_IO_PORTS - 1; i >= 0; i--)
        require(write(peers[i], &(char){(char)('a' + i)}, 1) == 1);
    for (int i = 0; i < HP_IO_PORTS; i++)
        require(await_bytes(ports[i]) == 1 && inbox[ports[i]][0] == 'a' + i);
    for (int i = 0; i < HP_IO_PORTS; i++)
        require(hp_io_detach(&io, ports[i]) == 0 && close(peers[i]) == 0);
}

/* A receive is in flight, submitted or not, done or not, when the socket goes. */
static void a_port_used_again_hears_nothing_old(void)
{
    for (int turn = 0; turn < 200; turn++) {
        int peer;
        int32_t n;
        int port = pair(&peer);
        start(port);
        if (turn & 1)
            require(hp_io_turn(&io) == 0);
        if (turn & 2)
            require(write(peer, "old", 3) == 3);
        if (turn & 4)
            require(hp_io_turn(&io) == 0);
        require(hp_io_detach(&io, port) == 0);
        close(peer);
        memset(inbox[port], 0, sizeof inbox[port]);
        require(pair(&peer) == port);
        require(hp_io_received(&io, port, &n) == 0);
        start(port);
        require(hp_io_turn(&io) == 0 && hp_io_received(&io, port, &n) == 0);
        require(write(peer, "new", 3) == 3 && await_bytes(port) == 3);
        require(!memcmp(inbox[port], "new", 4));
        require(hp_io_detach(&io, port) == 0 && close(peer) == 0);
    }
    require(slept_ns(SHORT_NS) >= SHORT_NS); /* nothing is left that would keep it awake */
}

static int connect_to(const struct sockaddr *to, socklen_t len)
{
    int port = hp_io_attach(&io, socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0));
    int rc = hp_io_start_connect(&io, port, to, len);
    int64_t end_ns = deadline();
    while (rc == 0 && (rc = hp_io_connected(&io, port)) == 0) {
        require(hp_io_wait(&io, PATIENCE_NS) == 0 && hp_now_ns() < end_ns);
    }
    require(rc < 0 || hp_io_connected(&io, port) == 1);
    require(hp_io_detach(&io, port) == 0);
    return rc;
}

static void connects_and_is_refused(struct sockaddr *at, socklen_t len)
{
    int listener = socket(at->sa_family, SOCK_STREAM, 0);
    if (bind(listener, at, len) < 0) {
        require(at->sa_family == AF_INET6); /* which a machine may lack */
        close(listener);
        return;
    }
    require(getsockname(listener, at, &len) == 0);
    require(connect_to(at, len) == -ECONNREFUSED);
    require(listen(listener, 1) == 0 && connect_to(at, len) == 1);
    close(listener);
}

static void connecting(void)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path + 1, sizeof un.sun_path - 1, "harpoon-io-%d", getpid()); /* abstract */
    connects_and_is_refused((struct sockaddr *)&v4, sizeof v4);
    connects_and_is_refused((struct sockaddr *)&v6, sizeof v6);
    connects_and_is_refused((struct sockaddr *)&un, sizeof un);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t len = sizeof v4;
    v4.sin_port = 0;
    require(bind(listener, (struct sockaddr *)&v4, len) == 0 && listen(listener, 0) == 0);
    require(getsockname(listener, (struct sockaddr *)&v4, &len) == 0);
    int ports[4]; /* Linux drops what comes when the queue is full: detached while connecting */
    for (int i = 0; i < 4; i++) {
        ports[i] = hp_io_attach(&io, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        require(hp_io_start_connect(&io, ports[i], (struct sockaddr *)&v4, len) == 0);
    }
    require(hp_io_wait(&io, SHORT_NS) == 0 && hp_io_connected(&io, ports[3]) == 0);
    for (int i = 0; i < 4; i++)
        require(hp_io_detach(&io, ports[i]) == 0);
    close(listener);
}

static void *abort_soon(void *unused)
{
    usleep(20000);
    atomic_store(&aborted, 1);
    return unused;
}

static void a_peer_that_does_not_read(void)
{
    static const uint8_t much[1 << 20];
    int peer, other;
    int port = pair(&peer), another = pair(&other);
    start(another);
    require(write(other, "!", 1) == 1); /* must neither end the wait nor be lost */
    int64_t before_ns = hp_now_ns();
    require(hp_io_send(&io, port, much, sizeof much, before_ns + SHORT_NS) == -HP_ETIME_OUT);
    require(hp_now_ns() - before_ns >= SHORT_NS);
    pthread_t thread;
    require(pthread_create(&thread, NULL, abort_soon, NULL) == 0);
    require(hp_io_send(&io, port, much, sizeof much, deadline()) == -ECANCELED);
    require(pthread_join(thread, NULL) == 0);
    atomic_store(&aborted, 0);
    require(await_bytes(another) == 1);
    require(hp_io_detach(&io, port) == 0 && hp_io_detach(&io, another) == 0);
    close(peer);
    close(other);
}

static atomic_int posted; /* relaxed: what makes it visible is the wake */
static atomic_int seen;

static void *post_and_wake(void *unused)
{
    for (int i = 1; i <= WAKES; i++) {
        for (volatile int delay = i % 512; delay > 0; delay--) /* falls into every moment of a wait */
            ;
        atomic_store_explicit(&posted, i, memory_order_relaxed);
        hp_io_wake(&io);
        while (atomic_load_explicit(&seen, memory_order_relaxed) != i)
            sched_yield();
    }
    return unused;
}

/* A lost wake costs the whole PATIENCE: the poster waits, too. */
static void no_wake_is_lost(void)
{
    pthread_t thread;
    atomic_store(&posted, 0);
    atomic_store(&seen, 0);
    require(pthread_create(&thread, NULL, post_and_wake, NULL) == 0);
    int last = 0;
    while (last < WAKES) {
        require(slept_ns(PATIENCE_NS) < PATIENCE_NS);
        last = atomic_load_explicit(&posted, memory_order_relaxed);
        atomic_store_explicit(&seen, last, memory_order_relaxed);
    }
    require(pthread_join(thread, NULL) == 0);
}

static void on_signal(int number)
{
    (void)number;
}

static void *send_signal_soon(void *owner)
{
    usleep(20000);
    pthread_kill(*(pthread_t *)owner, SIGUSR1);
    return NULL;
}

static void a_signal_ends_a_wait(void)
{
    pthread_t thread, self = pthread_self();
    struct sigaction action = {.sa_handler = on_signal};
    require(sigaction(SIGUSR1, &action, NULL) == 0);
    while (slept_ns(SHORT_NS) < SHORT_NS) /* a late wake */
        ;
    require(pthread_create(&thread, NULL, send_signal_soon, &self) == 0);
    require(slept_ns(PATIENCE_NS) < PATIENCE_NS);
    require(pthread_join(thread, NULL) == 0);
}

/* Somebody else's cancel may fail, but says so, and does not hang. */
static void *detach_elsewhere(void *port)
{
    static int rc;
    rc = hp_io_detach(&io, *(int *)port);
    return &rc;
}

static void a_stranger_cannot_detach_silently(void)
{
    int peer;
    int32_t n;
    int port = pair(&peer);
    start(port);
    require(hp_io_turn(&io) == 0);
    pthread_t thread;
    void *rc;
    require(pthread_create(&thread, NULL, detach_elsewhere, &port) == 0);
    require(pthread_join(thread, &rc) == 0);
    require(*(int *)rc == 0 || *(int *)rc == -EBUSY);
    require(slept_ns(SHORT_NS) >= 0 && hp_io_received(&io, port, &n) == 0);
    close(peer);
}

int main(void)
{
    for (int transport = HP_TRANSPORT_URING; transport <= HP_TRANSPORT_SYSCALL; transport++) {
        hp_io_wake(&io); /* before it is open: the first wait ends at once */
        if (hp_io_open(&io, transport, &aborted) < 0) {
            printf("%s\n", io.words);
            continue;
        }
        require(slept_ns(PATIENCE_NS) < PATIENCE_NS);
        bytes_come_in_both_ways();
        many_ports_do_not_mix();
        a_port_used_again_hears_nothing_old();
        connecting();
        a_peer_that_does_not_read();
        no_wake_is_lost();
        a_signal_ends_a_wait();
        a_stranger_cannot_detach_silently();
        hp_io_close(&io);
    }
    return 0;
}
