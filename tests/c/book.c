/* The book from its draft to its file: what was put in is found, nothing else is, and a file that
 * was cut short or changed is told from a good one. */
#include "harpoon.h"
#include "require.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES 3000u
#define FILE_BYTES_MAX (1 << 20)

static const uint8_t seed[16] = "a seed, 16 bytes";

static uint64_t mixed(uint64_t n)
{
    n = (n ^ n >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    n = (n ^ n >> 27) * UINT64_C(0x94d049bb133111eb);
    return n ^ n >> 31;
}

/* Script number n, in one of six forms; numbers count up in the program's first bytes when
 * `plain`. */
static size_t make_script(uint32_t n, int plain, uint8_t s[HP_SCRIPT_MAX])
{
    static const uint8_t starts[6][3] = {{0x76, 0xa9, 20}, {0xa9, 20, 0}, {0, 20, 0},
                                         {0, 32, 0},       {0x51, 32, 0}, {0x60, 40, 0}};
    static const uint8_t sizes[6] = {25, 23, 22, 34, 34, 42};
    uint32_t form = n % 6;
    memset(s, 0, HP_SCRIPT_MAX);
    for (uint32_t i = 0; i < (plain ? 1 : 2); i++) {
        uint64_t word = plain ? n : mixed(2 * (uint64_t)n + i);
        memcpy(s + 3 + 8 * i, &word, sizeof word);
    }
    memcpy(s, starts[form], form == 0 ? 3 : 2);
    if (form == 0)
        memcpy(s + 23, "\x88\xac", 2);
    if (form == 1)
        s[22] = 0x87;
    return sizes[form];
}

static uint32_t add_owner(hp_book *book, const char *name, const char *label, int64_t added_at_s)
{
    hp_owner owner = {.added_at_s = added_at_s, .kind = HP_WALLET_COLD};
    owner.exchange = (uint16_t)hp_book_exchange(book, name);
    owner.label = (uint32_t)hp_book_label(book, label);
    int id = hp_book_owner(book, &owner);
    require(id >= 0);
    return (uint32_t)id;
}

static hp_book *make_book(uint32_t entries, int plain)
{
    uint8_t script[HP_SCRIPT_MAX];
    hp_book *book = hp_book_new(entries + 1, seed);
    require(book);
    uint32_t owners[2] = {add_owner(book, "even", "of even", 100),
                          add_owner(book, "odd", "of odd", 200)};
    for (uint32_t n = 0; n < entries; n++) {
        size_t len = make_script(n, plain, script);
        require(hp_book_add(book, script, len, owners[n % 2]) == 0);
        require(hp_book_find(book, script, len) == HP_NOBODY); /* a draft knows nobody */
    }
    require(hp_book_build(book) == 0 && hp_book_count(book) == entries);
    return book;
}

static void check_book(const hp_book *book, uint32_t entries, int plain)
{
    uint8_t script[HP_SCRIPT_MAX];
    for (uint32_t n = 0; n < 2 * entries + 100; n++) {
        hp_owner owner;
        size_t len = make_script(n, plain, script);
        require(hp_book_find(book, script, len) == (n < entries ? n % 2 : HP_NOBODY));
        require(hp_book_lookup(book, script, len, &owner) == (n < entries));
        if (n >= entries)
            continue;
        require(owner.kind == HP_WALLET_COLD && owner.added_at_s == 100 + n % 2 * 100);
        require(!strcmp(hp_book_label_text(book, owner.label), n % 2 ? "of odd" : "of even"));
    }
}

static void check_neighbours(void)
{
    uint8_t script[HP_SCRIPT_MAX];
    hp_book *book = make_book(6, 0);
    for (uint32_t n = 0; n < 6; n++) {
        size_t len = make_script(n, 0, script);
        for (size_t bit = 0; bit < 8 * len; bit++) {
            script[bit / 8] ^= (uint8_t)(1 << bit % 8);
            require(hp_book_find(book, script, len) == HP_NOBODY);
            script[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        require(hp_book_find(book, script, len) == n % 2);
    }
    hp_book_free(book);
}

static void check_claims(void)
{
    uint8_t script[HP_SCRIPT_MAX];
    for (uint32_t n = 0; n < 6; n++) {
        for (int other = 0; other < 2; other++) {
            hp_book *book = hp_book_new(1000, seed);
            uint32_t first = add_owner(book, "a", "first", 0);
            uint32_t second = add_owner(book, other ? "b" : "a", "second", 0);
            size_t len = make_script(n, 0, script);
            for (uint32_t i = 0; i < 999; i++)
                require(hp_book_add(book, script, len, first) == 0);
            require(hp_book_add(book, script, len, second) == 0);
            require(hp_book_add(book, script, len, second) == -HP_EBOOK_FULL);
            require(hp_book_build(book) == (other ? -HP_EBOOK_CONFLICT : 0));
            require(other || hp_book_count(book) == 1);
            hp_book_free(book);
        }
    }
}

static void check_draft_bounds(void)
{
    uint8_t script[HP_SCRIPT_MAX];
    char label[HP_LABEL_MAX + 2];
    memset(label, 'x', sizeof label);
    label[HP_LABEL_MAX + 1] = 0;
    require(!hp_book_new(0, seed) && !hp_book_new(HP_BOOK_ENTRIES_MAX + 1, seed));
    hp_book *book = hp_book_new(1, seed);
    require(hp_book_label(book, label) == -HP_ECONFIG && hp_book_label(book, label + 1) == 1);
    require(hp_book_exchange(book, "") == -HP_ECONFIG && hp_book_exchange(book, "a") == 0);
    require(hp_book_owner(book, &(hp_owner){.exchange = 1}) == -HP_ECONFIG);
    require(hp_book_owner(book, &(hp_owner){.label = 2}) == -HP_ECONFIG);
    require(hp_book_owner(book, &(hp_owner){.kind = HP_WALLET_LEARNED + 1}) == -HP_ECONFIG);
    size_t len = make_script(0, 0, script);
    require(hp_book_add(book, script, len, 0) == -HP_ECONFIG);
    require(hp_book_owner(book, &(hp_owner){.label = 1}) == 0);
    require(hp_book_add(book, script, len - 1, 0) == -HP_EBOOK_SCRIPT);
    require(hp_book_build(book) == 0 && hp_book_build(book) == -HP_ECONFIG);
    require(hp_book_find(book, script, len) == HP_NOBODY);
    require(hp_book_exchange(book, "b") == -HP_ECONFIG);
    require(hp_book_add(book, script, len, 0) == -HP_ECONFIG);
    hp_book_free(book);
}

static void put_file(const char *path, const uint8_t *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    require(fd >= 0 && write(fd, data, len) == (ssize_t)len && close(fd) == 0);
}

static size_t get_file(const char *path, uint8_t *data)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, data, FILE_BYTES_MAX);
    require(fd >= 0 && n > 0 && n < FILE_BYTES_MAX && close(fd) == 0);
    return (size_t)n;
}

static void check_file(const char *path)
{
    static uint8_t data[FILE_BYTES_MAX];
    int error;
    hp_book *book = make_book(ENTRIES, 0);
    require(hp_book_save(book, path) == 0);
    hp_book_free(book);
    book = hp_book_open(path, &error);
    require(book && hp_book_verify(book) == 0 && hp_book_count(book) == ENTRIES);
    check_book(book, ENTRIES, 0);
    hp_book_free(book);
    size_t len = get_file(path, data);
    for (size_t cut = 0; cut < len; cut += 1 + cut / 7) {
        put_file(path, data, cut);
        require(!hp_book_open(path, &error) && error <= -HP_EBOOK_FILE);
    }
    for (size_t at = 0; at < len; at += 1 + at / 20) {
        data[at] ^= 0x10;
        put_file(path, data, len);
        require(!hp_book_open(path, &error) && error <= -HP_EBOOK_FILE);
        data[at] ^= 0x10;
    }
}

/* What was opened is the reader's own, whatever becomes of the file. */
static void check_cut_later(const char *path)
{
    int error;
    hp_book *book = make_book(ENTRIES, 0);
    require(hp_book_save(book, path) == 0);
    hp_book_free(book);
    book = hp_book_open(path, &error);
    require(book && truncate(path, 0) == 0);
    check_book(book, ENTRIES, 0);
    hp_book_free(book);
}

static void check_places(void)
{
    char folder[] = P_tmpdir "/harpoon-book.XXXXXX";
    char path[64];
    int error;
    require(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/book", folder);
    check_file(path);
    check_cut_later(path);
    require(unlink(path) == 0 && !hp_book_open(path, &error) && error == -ENOENT);
    require(!hp_book_open(folder, &error) && error < 0);
    require(mkfifo(path, 0600) == 0 && !hp_book_open(path, &error) && error == -HP_EBOOK_FILE);
    require(unlink(path) == 0);
    hp_book *book = make_book(1, 0);
    snprintf(path, sizeof path, "%s/none/book", folder);
    require(hp_book_save(book, path) == -ENOENT);
    hp_book_free(book);
    require(rmdir(folder) == 0); /* nothing was left behind */
}

int main(void)
{
    static const uint32_t sizes[] = {0, 1, 30, 31, 59, 1000, ENTRIES, 16384, 16385};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int plain = 0; plain < 2; plain++) {
            hp_book *book = make_book(sizes[i], plain);
            check_book(book, sizes[i], plain);
            hp_book_free(book);
        }
    }
    check_neighbours();
    check_claims();
    check_draft_bounds();
    check_places();
    return 0;
}
