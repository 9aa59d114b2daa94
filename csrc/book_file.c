/* A built book as a file: written once beside its place and renamed there, then read by whoever
 * wants it. The header has a checksum and every bound; book.c checks each index against these
 * bounds, so the rest of the file may hold anything.
 *
 * A file of up to PRIVATE_BYTES_MAX is read into memory and checked to its end. A larger one is
 * mapped: replace it by a rename, as hp_book_save() does. Who cuts it short while it is mapped ends
 * its readers (SIGBUS), and what is written over it they see. */
#include "book.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES_MAX 4096
#define PRIVATE_BYTES_MAX ((size_t)64 << 20)

static const hp_siphash_key checksum_key = {0, 0};

static uint64_t header_sum(const hp_book_header *h)
{
    return hp_siphash13(checksum_key, (const uint8_t *)h, offsetof(hp_book_header, header_sum));
}

static uint64_t body_sum(const hp_book *book)
{
    return hp_siphash13(checksum_key, (const uint8_t *)book->map + sizeof(hp_book_header),
                        hp_book_layout_of(&book->header).size - sizeof(hp_book_header));
}

static int write_all(int fd, const void *data, size_t bytes)
{
    const char *p = data;
    while (bytes) {
        ssize_t n = write(fd, p, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        bytes -= (size_t)n;
    }
    return 0;
}

static int write_file(int fd, const hp_book *book)
{
    hp_book_header h = book->header;
    h.body_sum = body_sum(book);
    h.header_sum = header_sum(&h);
    int rc = write_all(fd, &h, sizeof h);
    if (rc == 0)
        rc = write_all(fd, (const char *)book->map + sizeof h,
                       hp_book_layout_of(&h).size - sizeof h);
    if (rc == 0 && (fchmod(fd, 0644) < 0 || fsync(fd) < 0))
        rc = -errno;
    return rc;
}

int hp_book_save(const hp_book *book, const char *path)
{
    char beside[PATH_BYTES_MAX];
    if (!book->map)
        return -HP_ECONFIG;
    int n = snprintf(beside, sizeof beside, "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof beside)
        return -ENAMETOOLONG;
    int fd = mkostemp(beside, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = write_file(fd, book);
    if (close(fd) < 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && rename(beside, path) < 0)
        rc = -errno;
    if (rc < 0)
        unlink(beside);
    return rc;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int counts_are_sane(const hp_book_header *h)
{
    return h->home_lines >= 1 && h->home_lines <= h->lines && h->lines <= HP_BOOK_RECORDS_MAX &&
           h->records <= HP_BOOK_ENTRIES_MAX && h->owners <= HP_BOOK_OWNERS_MAX &&
           h->exchanges <= HP_EXCHANGES_MAX && h->labels <= UINT32_MAX / sizeof(uint32_t) &&
           h->label_bytes <= UINT32_MAX &&
           h->arena_bytes <= (uint64_t)HP_BOOK_ENTRIES_MAX * (1 + HP_SCRIPT_MAX);
}

static int texts_end(const hp_book *book)
{
    const hp_book_header *h = &book->header;
    for (uint32_t i = 0; i < h->exchanges; i++)
        if (book->names[i][0] == 0 || book->names[i][HP_EXCHANGE_NAME_MAX] != 0)
            return 0;
    return h->label_bytes > 0 && book->text[h->label_bytes - 1] == 0;
}

static int check_header(const hp_book_header *h, size_t bytes)
{
    if (h->magic != HP_BOOK_MAGIC)
        return -HP_EBOOK_FILE;
    if (h->header_sum != header_sum(h) || !counts_are_sane(h) ||
        hp_book_layout_of(h).size != bytes)
        return -HP_EBOOK_DAMAGED;
    return 0;
}

static int read_all(int fd, void *data, size_t bytes)
{
    char *p = data;
    while (bytes) {
        ssize_t n = read(fd, p, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -HP_EBOOK_DAMAGED;
        p += n;
        bytes -= (size_t)n;
    }
    return 0;
}

static void *read_private(int fd, size_t bytes, int *error)
{
    void *pages = hp_book_map_pages(bytes);
    *error = pages ? read_all(fd, pages, bytes) : -ENOMEM;
    if (pages && *error < 0) {
        munmap(pages, bytes);
        return NULL;
    }
    return pages;
}

static void *map_shared(int fd, size_t bytes, int *error)
{
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    *error = map == MAP_FAILED ? -errno : 0;
    return map == MAP_FAILED ? NULL : map;
}

static void *load_file(const char *path, size_t *bytes, int *error)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would wait for a writer */
    if (fd < 0) {
        *error = -errno;
        return NULL;
    }
    void *map = NULL;
    if (fstat(fd, &st) < 0) {
        *error = -errno;
    } else if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(hp_book_header)) {
        *error = -HP_EBOOK_FILE;
    } else {
        *bytes = (size_t)st.st_size;
        map = (*bytes <= PRIVATE_BYTES_MAX ? read_private : map_shared)(fd, *bytes, error);
    }
    close(fd);
    return map;
}

hp_book *hp_book_open(const char *path, int *error)
{
    size_t bytes;
    void *map = load_file(path, &bytes, error);
    if (!map)
        return NULL;
    hp_book *book = calloc(1, sizeof *book);
    hp_book_header header;
    memcpy(&header, map, sizeof header);
    *error = book ? check_header(&header, bytes) : -ENOMEM;
    if (*error < 0) {
        munmap(map, bytes);
        free(book);
        return NULL;
    }
    hp_book_bind(book, map, &header, bytes);
    if (!texts_end(book) || (bytes <= PRIVATE_BYTES_MAX && hp_book_verify(book) < 0)) {
        *error = -HP_EBOOK_DAMAGED;
        hp_book_free(book);
        return NULL;
    }
    /* The index is what every transaction touches: no page of it should be missing then. */
    madvise(map, sizeof header + header.lines * sizeof(hp_book_line),
            MADV_POPULATE_READ);
    return book;
}

int hp_book_verify(const hp_book *book)
{
    return book->map && body_sum(book) == book->header.body_sum ? 0 : -HP_EBOOK_DAMAGED;
}
