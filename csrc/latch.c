/* The kill latch. Who sets it writes to the file, and the gate reads the same page of the kernel's
 * through a mapping. All others read the file: a mapping of one that was emptied is a SIGBUS. */
#include "latch.h"

#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "HPLATCH1"
#define SET 0 /* so that a file of zeros is */

typedef struct page { /* the file, whole */
    char magic[8];
    uint64_t word;       /* SET, or a random number as long as it is not */
    uint64_t complement; /* of the word */
    int64_t set_at_ms;
    char reason[HP_LATCH_REASON_MAX + 1];
} page;

struct hp_latch {
    char *path;
    const page *mapped; /* NULL: damaged when it was opened */
    int fd;
};

_Static_assert(sizeof(page) == 32 + sizeof((hp_latch_state *)0)->reason, "no padding, one page");

static int is_good(const page *p)
{
    return memcmp(p->magic, MAGIC, sizeof p->magic) == 0 && p->complement == ~p->word;
}

/* 0, or -HP_ELATCH when it is not all there. */
static int read_page(int fd, page *p)
{
    struct stat file;
    return fstat(fd, &file) == 0 && file.st_size == sizeof *p &&
                   pread(fd, p, sizeof *p, 0) == sizeof *p && is_good(p)
               ? 0
               : -HP_ELATCH;
}

/* In one call, so that a reader sees all of it or nothing, and onto the disk. */
static int write_page(int fd, page *p)
{
    memcpy(p->magic, MAGIC, sizeof p->magic);
    p->complement = ~p->word;
    ssize_t n = pwrite(fd, p, sizeof *p, 0);
    if (n < 0 || fdatasync(fd) < 0)
        return -errno;
    return n == sizeof *p ? 0 : -ENOSPC;
}

static int write_clear(int fd)
{
    page p = {.word = SET};
    while (p.word == SET)
        if (getrandom(&p.word, sizeof p.word, 0) != sizeof p.word)
            return -EAGAIN;
    return write_page(fd, &p);
}

/* ---- opening --------------------------------------------------------------------------------- */

/* The name, onto the disk: if it was lost with the power, another latch would be made, not set. */
static int keep_name(const char *path)
{
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", path);
    int fd = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) < 0 && errno != EINVAL ? -errno : 0; /* EINVAL: no such thing there */
    close(fd);
    return rc;
}

/* Whole or not at all: made under another name. Who comes second takes what the first has made. */
static int make(const char *path)
{
    char name[4096];
    int n = snprintf(name, sizeof name, "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof name)
        return -ENAMETOOLONG;
    int fd = mkostemp(name, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return -errno;
    int rc = write_clear(fd);
    if (rc == 0 && link(name, path) < 0 && errno != EEXIST)
        rc = -errno;
    unlink(name);
    close(fd);
    return rc < 0 ? rc : keep_name(path);
}

static int open_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        int rc = make(path);
        if (rc < 0)
            return rc;
        fd = open(path, O_RDWR | O_CLOEXEC);
    }
    return fd < 0 ? -errno : fd;
}

/* The page is asked to stay in memory: the gate would have to wait for it. */
static int map(hp_latch *latch)
{
    page p;
    if (read_page(latch->fd, &p) < 0)
        return 0;
    void *at = mmap(NULL, sizeof p, PROT_READ, MAP_SHARED | MAP_POPULATE, latch->fd, 0);
    if (at == MAP_FAILED)
        return -errno;
    mlock(at, sizeof p);
    latch->mapped = at;
    return 0;
}

hp_latch *hp_latch_open(const char *path, int *error)
{
    hp_latch *latch = calloc(1, sizeof *latch);
    *error = -ENOMEM;
    if (!latch)
        return NULL;
    latch->fd = -1;
    latch->path = strdup(path);
    if (latch->path)
        *error = latch->fd = open_file(path);
    if (latch->fd >= 0)
        *error = map(latch);
    if (*error == 0)
        return latch;
    hp_latch_close(latch);
    return NULL;
}

void hp_latch_close(hp_latch *latch)
{
    if (!latch)
        return;
    if (latch->mapped)
        munmap((void *)(uintptr_t)latch->mapped, sizeof *latch->mapped);
    if (latch->fd >= 0)
        close(latch->fd);
    free(latch->path);
    free(latch);
}

/* ---- setting and reading --------------------------------------------------------------------- */

/* A file that was never a latch counts as set, but is not ours to write to. */
static int is_foreign(int fd)
{
    char magic[sizeof MAGIC - 1];
    ssize_t n = pread(fd, magic, sizeof magic, 0);
    return n < 0 || memcmp(magic, MAGIC, (size_t)n) != 0;
}

int hp_latch_set(hp_latch *latch, const char *reason)
{
    page p;
    int is_whole = read_page(latch->fd, &p) == 0;
    if (is_whole ? p.word == SET : is_foreign(latch->fd))
        return 0;
    memset(&p, 0, sizeof p);
    p.word = SET;
    p.set_at_ms = hp_epoch_ms();
    strncpy(p.reason, reason, sizeof p.reason - 1);
    return write_page(latch->fd, &p);
}

int hp_latch_reset(hp_latch *latch)
{
    page p;
    int rc = read_page(latch->fd, &p);
    if (rc < 0 || p.word != SET)
        return rc;
    return write_clear(latch->fd);
}

int hp_latch_is_set(const hp_latch *latch, hp_latch_state *state)
{
    page p;
    memset(state, 0, sizeof *state);
    state->is_damaged = !latch->mapped || read_page(latch->fd, &p) < 0;
    state->is_set = state->is_damaged || p.word == SET;
    if (state->is_set && !state->is_damaged) {
        state->set_at_ms = p.set_at_ms;
        memcpy(state->reason, p.reason, sizeof state->reason - 1);
    }
    return state->is_set;
}

int hp_latch_is_there(const hp_latch *latch)
{
    struct stat ours, named;
    return latch->mapped && fstat(latch->fd, &ours) == 0 && stat(latch->path, &named) == 0 &&
           ours.st_dev == named.st_dev && ours.st_ino == named.st_ino &&
           ours.st_size == sizeof(page);
}

const _Atomic uint64_t *hp_latch_word(const hp_latch *latch)
{
    return latch->mapped ? (const _Atomic uint64_t *)&latch->mapped->word : NULL;
}
