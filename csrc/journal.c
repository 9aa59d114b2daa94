/* The journal's writer. Two threads meet here and nowhere wait for each other: the writer fills
 * `current`; another makes the next segment, hands it over in `waiting` and takes back in `full`
 * what the writer has left. A segment waits only after `full` was emptied, so the writer always
 * finds a place for what it leaves.
 *
 * A file of the journal may not be cut while it is mapped here: writing to it then is a SIGBUS. */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CACHE_LINE_BYTES 64
#define PAGE_BYTES 4096
#define TOUCHED_BYTES 1024 /* an intent and what becomes of it */

typedef struct segment {
    uint8_t *map;
    uint64_t at; /* where the next record goes */
    int fd;
} segment;

struct hp_journal {
    /* the writer's */
    segment *current;
    uint64_t sequence; /* of the last record */
    /* both threads' */
    _Alignas(CACHE_LINE_BYTES) _Atomic(segment *) waiting;
    _Atomic(segment *) full;
    /* the preparing thread's */
    _Alignas(CACHE_LINE_BYTES) segment segments[2];
    uint32_t made;   /* segments, in this run */
    uint32_t number; /* of the last one in the folder */
    /* neither's: never changed once open */
    _Alignas(CACHE_LINE_BYTES) uint64_t bytes;
    hp_crc32c_fn *crc32c;
    uint32_t seed;
    int folder;
    int lock;
    uint8_t run[HP_RUN_BYTES];
};

/* ---- the folder ------------------------------------------------------------------------------ */

static int write_pid(int fd)
{
    char words[24];
    int n = snprintf(words, sizeof words, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, words, (size_t)n, 0) != n)
        return errno ? -errno : -EIO;
    return 0;
}

static int take_lock(hp_journal *j)
{
    j->lock = openat(j->folder, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (j->lock < 0)
        return -errno;
    if (flock(j->lock, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? -HP_EJOURNAL_LOCKED : -errno;
    return write_pid(j->lock);
}

/* The last sequence number in a segment, 0 if it has none; *used tells whether anything, even a
 * record that was not finished, lies behind the preamble. */
static int last_sequence(int folder, uint32_t number, uint64_t *sequence, int *used)
{
    char name[HP_SEGMENT_NAME_BYTES];
    hp_record record;
    const uint8_t *payload;
    int64_t epoch_ns;
    hp_journal_place place;
    int error;

    hp_segment_name(name, number);
    *sequence = 0;
    *used = 1;
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    hp_journal_reader *reader = hp_journal_reader_of(fd, &error);
    if (!reader)
        return error == -HP_EJOURNAL_FILE ? 0 : error;
    int damaged = 0;
    for (int rc; (rc = hp_journal_reader_next(reader, &record, &payload, &epoch_ns)) != 0;) {
        if (rc == 1 && record.sequence)
            *sequence = record.sequence;
        damaged |= rc < 0;
    }
    hp_journal_reader_place(reader, &place);
    *used = *sequence || damaged || place.torn;
    hp_journal_reader_close(reader);
    return 0;
}

/* Where an earlier run stopped. A segment that it had only prepared is of no use to anyone. */
static int go_on(hp_journal *j)
{
    j->number = hp_segment_below(j->folder, UINT32_MAX);
    for (uint32_t n = j->number; n; n = hp_segment_below(j->folder, n)) {
        int used;
        int rc = last_sequence(j->folder, n, &j->sequence, &used);
        if (rc < 0 || j->sequence)
            return rc;
        char name[HP_SEGMENT_NAME_BYTES];
        hp_segment_name(name, n);
        if (!used && unlinkat(j->folder, name, 0) < 0)
            return -errno;
    }
    return 0;
}

static int open_folder(hp_journal *j, const char *path)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return -errno;
    j->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (j->folder < 0)
        return -errno;
    int rc = take_lock(j);
    if (rc == 0)
        rc = go_on(j);
    if (rc == 0 && getrandom(j->run, sizeof j->run, 0) != (ssize_t)sizeof j->run)
        rc = -EIO;
    j->seed = j->crc32c(0, j->run, sizeof j->run);
    return rc;
}

hp_journal *hp_journal_open(const char *folder, uint64_t segment_bytes, int *error)
{
    *error = -HP_ECONFIG;
    if (segment_bytes < HP_SEGMENT_BYTES_MIN || segment_bytes > HP_SEGMENT_BYTES_MAX ||
        segment_bytes % PAGE_BYTES)
        return NULL;
    hp_journal *j = aligned_alloc(CACHE_LINE_BYTES, sizeof *j);
    *error = -ENOMEM;
    if (!j)
        return NULL;
    memset(j, 0, sizeof *j);
    j->bytes = segment_bytes;
    j->folder = j->lock = -1;
    j->crc32c = hp_crc32c_choose();
    *error = open_folder(j, folder);
    if (*error == 0)
        return j;
    hp_journal_close(j);
    return NULL;
}

/* ---- segments -------------------------------------------------------------------------------- */

/* What it did not need of its file is given back; if that fails, it costs room and nothing else. */
static void let_go(const hp_journal *j, segment *s)
{
    munmap(s->map, j->bytes);
    if (ftruncate(s->fd, (off_t)s->at) < 0)
        errno = 0;
    close(s->fd);
    s->map = NULL;
}

/* The checksum goes in last, so that a reader never sees the half of a record. */
static void lay(const hp_journal *j, segment *s, hp_record *record, const void *a, size_t a_len,
                const void *b, size_t b_len)
{
    const size_t skip = sizeof record->crc;
    uint8_t *to = s->map + s->at;
    memcpy(to + skip, (const uint8_t *)record + skip, sizeof *record - skip);
    if (a_len)
        memcpy(to + sizeof *record, a, a_len);
    if (b_len)
        memcpy(to + sizeof *record + a_len, b, b_len);
    record->crc = hp_record_crc(j->crc32c, j->seed, record, a, a_len, b, b_len);
    __atomic_store_n((uint32_t *)(void *)to, record->crc, __ATOMIC_RELEASE);
    s->at += hp_record_bytes(record->payload_len);
}

/* Every page of it present and writable, or an error now instead of a signal later. */
static int map_file(const hp_journal *j, segment *s)
{
    int rc = posix_fallocate(s->fd, 0, (off_t)j->bytes);
    if (rc != 0)
        return -rc;
    s->map = mmap(NULL, j->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
    if (s->map == MAP_FAILED) {
        s->map = NULL;
        return -errno;
    }
    if (madvise(s->map, j->bytes, MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno != EINVAL) /* EINVAL: a kernel before 5.14 */
        return errno == EFAULT ? -ENOSPC : -errno;
    for (uint64_t at = 0; at < j->bytes; at += PAGE_BYTES)
        *(volatile uint8_t *)(s->map + at) = 0;
    return 0;
}

static int64_t epoch_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void begin(const hp_journal *j, segment *s, const uint8_t *preamble, size_t len)
{
    hp_record record = {.payload_len = (uint32_t)len, .kind = HP_RECORD_PREAMBLE};
    hp_segment_header header = {
        .magic = HP_SEGMENT_MAGIC,
        .byte_order = HP_SEGMENT_BYTE_ORDER,
        .version = HP_SEGMENT_VERSION,
        .slot_bytes = HP_SLOT_BYTES,
        .first_at = (uint32_t)(HP_SEGMENT_HEADER_BYTES + hp_record_bytes(len)),
        .number = j->number + 1,
        .bytes = j->bytes,
        .created_epoch_ns = epoch_now_ns(),
        .created_ns = hp_now_ns(),
    };
    memcpy(header.run, j->run, sizeof header.run);
    header.crc = hp_segment_header_crc(&header);
    memcpy(s->map, &header, sizeof header);
    s->at = HP_SEGMENT_HEADER_BYTES;
    record.t_ns = header.created_ns;
    lay(j, s, &record, preamble, len, NULL, 0);
}

/* Under its own name only when it is whole: a reader meets no half segment. */
static int make(hp_journal *j, segment *s, const uint8_t *preamble, size_t len)
{
    static const char unfinished[] = "next.tmp";
    char name[HP_SEGMENT_NAME_BYTES];
    if (j->number >= HP_SEGMENT_NUMBER_MAX)
        return -EOVERFLOW;
    hp_segment_name(name, j->number + 1);
    s->fd = openat(j->folder, unfinished, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                   0600);
    if (s->fd < 0)
        return -errno;
    int rc = map_file(j, s);
    if (rc == 0)
        begin(j, s, preamble, len);
    if (rc == 0 && renameat(j->folder, unfinished, j->folder, name) < 0)
        rc = -errno;
    if (rc == 0)
        return 0;
    if (s->map)
        munmap(s->map, j->bytes);
    s->map = NULL;
    close(s->fd);
    unlinkat(j->folder, unfinished, 0);
    return rc;
}

int hp_journal_prepare(hp_journal *j, const uint8_t *preamble, size_t len)
{
    if (len > HP_RECORD_BYTES_MAX)
        return -HP_EJOURNAL;
    if (atomic_load_explicit(&j->waiting, memory_order_acquire))
        return 0;
    segment *full = atomic_load_explicit(&j->full, memory_order_relaxed);
    if (full) {
        let_go(j, full);
        atomic_store_explicit(&j->full, NULL, memory_order_relaxed);
    }
    segment *next = &j->segments[j->made % 2]; /* the other one is the writer's */
    int rc = make(j, next, preamble, len);
    if (rc < 0)
        return rc;
    j->made++;
    j->number++;
    atomic_store_explicit(&j->waiting, next, memory_order_release);
    return 1;
}

/* ---- the writer ------------------------------------------------------------------------------ */

/* `full` first: who sees that nothing waits must see it. */
static segment *take_next(hp_journal *j)
{
    segment *next = atomic_load_explicit(&j->waiting, memory_order_acquire);
    if (!next)
        return NULL;
    atomic_store_explicit(&j->full, j->current, memory_order_relaxed);
    atomic_store_explicit(&j->waiting, NULL, memory_order_release);
    return j->current = next;
}

int hp_journal_append(hp_journal *j, uint32_t kind, int64_t t_ns, const void *a, size_t a_len,
                      const void *b, size_t b_len)
{
    if (a_len > HP_RECORD_BYTES_MAX || b_len > HP_RECORD_BYTES_MAX - a_len)
        return -HP_EJOURNAL;
    segment *s = j->current;
    if (!s || hp_record_bytes(a_len + b_len) > j->bytes - s->at)
        s = take_next(j);
    if (!s)
        return -ENOSPC;
    hp_record record = {
        .payload_len = (uint32_t)(a_len + b_len),
        .sequence = ++j->sequence,
        .t_ns = t_ns,
        .kind = kind,
    };
    lay(j, s, &record, a, a_len, b, b_len);
    return 0;
}

static uint64_t room_in(const hp_journal *j, const segment *s)
{
    return s ? j->bytes - s->at : 0;
}

uint64_t hp_journal_room(const hp_journal *j)
{
    return room_in(j, j->current) +
           room_in(j, atomic_load_explicit(&j->waiting, memory_order_acquire));
}

int hp_journal_ready(const hp_journal *j)
{
    return room_in(j, j->current) >= HP_JOURNAL_RESERVE ||
           atomic_load_explicit(&j->waiting, memory_order_acquire) != NULL;
}

static void touch(const hp_journal *j, segment *s)
{
    uint64_t next_page = s->at / PAGE_BYTES * PAGE_BYTES + PAGE_BYTES;
    uint64_t end = s->at + TOUCHED_BYTES < j->bytes ? s->at + TOUCHED_BYTES : j->bytes;
    for (uint64_t at = s->at; at < end; at += CACHE_LINE_BYTES)
        *(volatile uint8_t *)(s->map + at) = 0;
    if (next_page < j->bytes)
        *(volatile uint8_t *)(s->map + next_page) = 0;
}

void hp_journal_touch(hp_journal *j)
{
    segment *next = atomic_load_explicit(&j->waiting, memory_order_acquire);
    if (j->current)
        touch(j, j->current);
    if (next && room_in(j, j->current) < TOUCHED_BYTES)
        touch(j, next);
}

const uint8_t *hp_journal_run(const hp_journal *j)
{
    return j->run;
}

/* A segment that waits holds nothing yet: the next run makes its own. */
static void drop_waiting(hp_journal *j)
{
    char name[HP_SEGMENT_NAME_BYTES];
    segment *next = atomic_load_explicit(&j->waiting, memory_order_acquire);
    if (!next)
        return;
    hp_segment_name(name, j->number);
    unlinkat(j->folder, name, 0);
    let_go(j, next);
}

void hp_journal_close(hp_journal *j)
{
    if (!j)
        return;
    segment *full = atomic_load_explicit(&j->full, memory_order_acquire);
    drop_waiting(j);
    if (full)
        let_go(j, full);
    if (j->current)
        let_go(j, j->current);
    if (j->lock >= 0)
        close(j->lock);
    if (j->folder >= 0)
        close(j->folder);
    free(j);
}
