/* The journal while three threads are at it: one writes, one prepares segments, one reads with
 * them. And what its writer promises when there is no room. */
#include "crc32c.h"
#include "harpoon.h"
#include "require.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define RECORDS 40000u
#define PAYLOAD_BYTES_MAX 900u

typedef struct shared {
    const char *folder;
    hp_journal *journal;
    atomic_int written;
} shared;

static const uint8_t preamble[] = "{\"mode\": \"test\"}";

/* What record number `n` says: enough to know it again. */
static size_t payload_of(uint64_t n, uint8_t out[PAYLOAD_BYTES_MAX])
{
    size_t len = (size_t)(n * 2654435761u >> 7) % PAYLOAD_BYTES_MAX;
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(n + i * i);
    return len;
}

static void *prepare_all_the_time(void *argument)
{
    shared *s = argument;
    while (!atomic_load(&s->written)) {
        require(hp_journal_prepare(s->journal, preamble, sizeof preamble - 1) >= 0);
        sched_yield();
    }
    return NULL;
}

static void *write_all(void *argument)
{
    shared *s = argument;
    uint8_t payload[PAYLOAD_BYTES_MAX];
    for (uint64_t n = 1; n <= RECORDS; n++) {
        size_t len = payload_of(n, payload);
        size_t half = len / 3;
        int rc;
        hp_journal_touch(s->journal);
        while ((rc = hp_journal_append(s->journal, HP_RECORD_NOTICE, (int64_t)n, payload, half,
                                       payload + half, len - half)) == -ENOSPC)
            sched_yield();
        require(rc == 0);
    }
    atomic_store(&s->written, 1);
    return NULL;
}

static void read_all(const char *folder)
{
    uint8_t expected[PAYLOAD_BYTES_MAX];
    hp_record record;
    const uint8_t *payload;
    int64_t epoch_ns;
    int error;
    hp_journal_reader *reader = hp_journal_reader_open(folder, &error);
    require(reader && error == 0);
    for (uint64_t n = 1; n <= RECORDS;) {
        int rc = hp_journal_reader_next(reader, &record, &payload, &epoch_ns);
        require(rc >= 0);
        if (rc == 0) {
            sched_yield();
        } else if (record.kind == HP_RECORD_PREAMBLE) {
            require(record.sequence == 0 && record.payload_len == sizeof preamble - 1);
        } else {
            size_t len = payload_of(n, expected);
            require(record.sequence == n && record.t_ns == (int64_t)n);
            require(record.payload_len == len && memcmp(payload, expected, len) == 0);
            n++;
        }
    }
    hp_journal_reader_close(reader);
}

static void check_threads(const char *folder)
{
    pthread_t writer, preparer;
    int error;
    shared s = {.folder = folder, .journal = hp_journal_open(folder, HP_SEGMENT_BYTES_MIN, &error)};
    require(s.journal && error == 0);
    require(pthread_create(&preparer, NULL, prepare_all_the_time, &s) == 0);
    require(pthread_create(&writer, NULL, write_all, &s) == 0);
    read_all(folder);
    require(pthread_join(writer, NULL) == 0 && pthread_join(preparer, NULL) == 0);
    hp_journal_close(s.journal);
    read_all(folder);
}

/* Only what fits is taken, and nothing of what does not. */
static void check_room(const char *folder)
{
    static const uint8_t zeros[HP_RECORD_BYTES_MAX + 1];
    int error;
    require(!hp_journal_open(folder, HP_SEGMENT_BYTES_MIN - 4096, &error) && error < 0);
    require(!hp_journal_open(folder, HP_SEGMENT_BYTES_MIN + 1, &error) && error < 0);
    hp_journal *j = hp_journal_open(folder, HP_SEGMENT_BYTES_MIN, &error);
    require(j && !hp_journal_open(folder, HP_SEGMENT_BYTES_MIN, &error));
    require(error == -HP_EJOURNAL_LOCKED);
    require(hp_journal_room(j) == 0 && !hp_journal_ready(j));
    require(hp_journal_append(j, HP_RECORD_NOTICE, 0, zeros, 1, NULL, 0) == -ENOSPC);
    hp_journal_touch(j);
    require(hp_journal_prepare(j, zeros, sizeof zeros) == -HP_EJOURNAL);
    require(hp_journal_prepare(j, zeros, sizeof zeros - 1) == 1); /* the largest of all */
    require(hp_journal_prepare(j, preamble, sizeof preamble - 1) == 0 && hp_journal_ready(j));
    require(hp_journal_append(j, HP_RECORD_NOTICE, 0, zeros, 1, zeros, sizeof zeros - 1) ==
            -HP_EJOURNAL);
    while (hp_journal_append(j, HP_RECORD_NOTICE, 0, zeros, sizeof zeros - 1, NULL, 0) == 0)
        ;
    uint64_t room = hp_journal_room(j);
    require(hp_journal_ready(j) == (room >= HP_JOURNAL_RESERVE));
    require(hp_journal_append(j, HP_RECORD_NOTICE, 0, zeros, room - 31, NULL, 0) == -ENOSPC);
    require(hp_journal_append(j, HP_RECORD_NOTICE, 0, zeros, room - 32, NULL, 0) == 0);
    require(hp_journal_room(j) == 0 && !hp_journal_ready(j));
    hp_journal_touch(j);
    require(hp_journal_append(j, HP_RECORD_NOTICE, 0, NULL, 0, NULL, 0) == -ENOSPC);
    require(hp_journal_prepare(j, preamble, sizeof preamble - 1) == 1);
    require(hp_journal_append(j, HP_RECORD_NOTICE, 0, NULL, 0, NULL, 0) == 0);
    hp_journal_close(j);
}

static void check_crc(void)
{
    uint8_t data[300];
    hp_crc32c_fn *crc32c = hp_crc32c_choose();
    require(crc32c(0, "123456789", 9) == 0xe3069283); /* the usual check value */
    require(hp_crc32c_portable(0, "123456789", 9) == 0xe3069283);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * i >> 3);
    for (size_t at = 0; at < 9; at++)
        for (size_t len = 0; at + len <= sizeof data; len++)
            require(crc32c((uint32_t)len, data + at, len) ==
                    hp_crc32c_portable((uint32_t)len, data + at, len));
}

static void remove_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    require(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            require(unlinkat(dirfd(dir), entry->d_name, 0) == 0);
    closedir(dir);
    require(rmdir(folder) == 0);
}

int main(void)
{
    char folder[] = P_tmpdir "/harpoon-journal.XXXXXX";
    require(mkdtemp(folder));
    check_crc();
    check_threads(folder);
    remove_folder(folder);
    check_room(folder); /* makes it again */
    remove_folder(folder);
    return 0;
}
