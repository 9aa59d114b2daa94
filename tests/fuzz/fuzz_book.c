/* Any bytes as a saved book, and any bytes over a good one whose checksums are then made right
 * again: opening and every lookup stay within the file, and what comes out is within its
 * bounds. */
#include "book.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PROGRAMS 150
#define GOOD_BYTES_MAX 65536
#define PATCH_AT_BYTES 3

static const uint8_t seed[16] = "a seed, 16 bytes";
static uint8_t good[GOOD_BYTES_MAX];
static size_t good_bytes;

static void require(int holds)
{
    if (!holds)
        abort();
}

static size_t make_script(uint32_t n, uint8_t script[HP_SCRIPT_MAX])
{
    memset(script, 0, HP_SCRIPT_MAX);
    script[0] = n % 4 == 0 ? 0x51 : 0;
    script[1] = n % 4 == 0 ? 32 : 20;
    for (uint32_t i = 0; i < 8; i++)
        script[2 + i] = (uint8_t)(n * 2654435761u >> 3 * i);
    return 2u + script[1];
}

static hp_book *make_book(void)
{
    hp_book *book = hp_book_new(PROGRAMS, seed);
    uint8_t script[HP_SCRIPT_MAX];
    for (uint32_t n = 0; n < PROGRAMS; n++) {
        hp_owner owner = {.added_at_s = n, .kind = (uint8_t)(n % 5)};
        owner.exchange = (uint16_t)hp_book_exchange(book, n % 2 ? "odd" : "even");
        owner.label = (uint32_t)hp_book_label(book, "label");
        size_t len = make_script(n, script);
        require(hp_book_add(book, script, len, (uint32_t)hp_book_owner(book, &owner)) == 0);
    }
    require(hp_book_build(book) == 0);
    return book;
}

static void path_of(int fd, char path[32])
{
    char digits[12];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + fd % 10);
    while (fd /= 10);
    memcpy(path, "/proc/self/fd/", 14);
    for (size_t i = 0; i < n; i++)
        path[14 + i] = digits[n - 1 - i];
    path[14 + n] = 0;
}

static void look_up(const hp_book *book)
{
    uint8_t script[HP_SCRIPT_MAX];
    for (uint32_t n = 0; n < 2 * PROGRAMS; n++) {
        size_t len = make_script(n, script);
        hp_owner owner;
        uint32_t exchange = hp_book_find(book, script, len);
        int known = hp_book_lookup(book, script, len, &owner);
        require((exchange != HP_NOBODY) == known);
        if (!known)
            continue;
        require(exchange == owner.exchange && strlen(hp_book_name(book, exchange)) > 0);
        require(strlen(hp_book_label_text(book, owner.label)) <= book->header.label_bytes);
    }
}

static void try_file(const uint8_t *data, size_t len)
{
    int fd = memfd_create("book", MFD_CLOEXEC);
    require(fd >= 0 && write(fd, data, len) == (ssize_t)len);
    char path[32];
    path_of(fd, path);
    int error;
    hp_book *book = hp_book_open(path, &error);
    close(fd);
    require(book ? error == 0 : error < 0);
    if (!book)
        return;
    require(hp_book_verify(book) == 0); /* so small a file was checked when it was opened */
    look_up(book);
    hp_book_free(book);
}

static void set_sum(uint8_t *file, size_t at, const uint8_t *of, size_t len)
{
    uint64_t sum = hp_siphash13((hp_siphash_key){0, 0}, of, len);
    memcpy(file + at, &sum, sizeof sum);
}

/* Bytes 0-2 say where the rest goes, over the good file. */
static void try_patch(const uint8_t *data, size_t len)
{
    uint8_t patched[GOOD_BYTES_MAX];
    if (len < PATCH_AT_BYTES)
        return;
    size_t at = (data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16) % good_bytes;
    size_t n = len - PATCH_AT_BYTES < good_bytes - at ? len - PATCH_AT_BYTES : good_bytes - at;
    memcpy(patched, good, good_bytes);
    memcpy(patched + at, data + PATCH_AT_BYTES, n);
    const size_t header = sizeof(hp_book_header);
    set_sum(patched, offsetof(hp_book_header, body_sum), patched + header, good_bytes - header);
    set_sum(patched, offsetof(hp_book_header, header_sum), patched,
            offsetof(hp_book_header, header_sum));
    try_file(patched, good_bytes);
}

static void load_good(void)
{
    char path[] = P_tmpdir "/fuzz_book.XXXXXX";
    hp_book *book = make_book();
    int fd = mkstemp(path);
    require(fd >= 0 && hp_book_save(book, path) == 0);
    close(fd);
    hp_book_free(book);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, good, sizeof good);
    require(n > 0 && (size_t)n < sizeof good);
    good_bytes = (size_t)n;
    close(fd);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (good_bytes == 0)
        load_good();
    if (len && data[0] % 8 == 7)
        try_file(data + 1, len - 1);
    else if (len)
        try_patch(data + 1, len - 1);
    return 0;
}
