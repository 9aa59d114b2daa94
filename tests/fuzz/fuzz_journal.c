/* Any bytes as a segment of a journal, and any bytes over a good one, whose checksums are then made
 * right again or are not: reading comes to an end, and every step leads on. */
#include "journal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RECORDS 24
#define GOOD_BYTES (HP_SEGMENT_HEADER_BYTES + 16384)
#define PATCH_AT_BYTES 3

static const uint8_t run[HP_RUN_BYTES] = "a run, 16 bytes";
static volatile uint8_t sink; /* so that every byte of a payload is read */

static void require(int holds)
{
    if (!holds)
        abort();
}

static void set_header_crc(uint8_t *file)
{
    hp_segment_header header;
    memcpy(&header, file, sizeof header);
    header.crc = hp_segment_header_crc(&header);
    memcpy(file, &header, sizeof header);
}

/* The record at `at`, as far as its length is within the file. */
static uint64_t set_record_crc(uint8_t *file, uint64_t at)
{
    hp_record record;
    memcpy(&record, file + at, sizeof record);
    if (record.payload_len > GOOD_BYTES - at - sizeof record)
        return GOOD_BYTES;
    uint32_t seed = hp_crc32c_portable(0, run, sizeof run);
    record.crc = hp_record_crc(hp_crc32c_portable, seed, &record, file + at + sizeof record,
                               record.payload_len, NULL, 0);
    memcpy(file + at, &record.crc, sizeof record.crc);
    return at + hp_record_bytes(record.payload_len);
}

static void make_good(uint8_t file[GOOD_BYTES])
{
    hp_segment_header header = {.magic = HP_SEGMENT_MAGIC,
                                .byte_order = HP_SEGMENT_BYTE_ORDER,
                                .version = HP_SEGMENT_VERSION,
                                .slot_bytes = HP_SLOT_BYTES,
                                .number = 1,
                                .bytes = GOOD_BYTES};
    uint64_t at = HP_SEGMENT_HEADER_BYTES;
    memset(file, 0, GOOD_BYTES);
    memcpy(header.run, run, sizeof run);
    memcpy(file, &header, sizeof header);
    set_header_crc(file);
    for (uint32_t n = 0; n < RECORDS; n++) {
        hp_record record = {.payload_len = n * 37 % 640, .sequence = n, .kind = 1 + n % 13};
        memcpy(file + at, &record, sizeof record);
        memset(file + at + sizeof record, (int)n, record.payload_len);
        at = set_record_crc(file, at);
    }
}

static void read_file(const uint8_t *data, size_t len)
{
    int error;
    int fd = memfd_create("segment", MFD_CLOEXEC);
    require(fd >= 0 && write(fd, data, len) == (ssize_t)len);
    hp_journal_reader *reader = hp_journal_reader_of(fd, &error);
    require(reader ? error == 0 : error < 0);
    uint64_t last = 0;
    for (int rc = 1; reader && rc != 0;) {
        hp_record record;
        const uint8_t *payload;
        int64_t epoch_ns;
        hp_journal_place place;
        rc = hp_journal_reader_next(reader, &record, &payload, &epoch_ns);
        hp_journal_reader_place(reader, &place);
        require(place.offset >= last && place.offset <= len + HP_SLOT_BYTES + HP_RECORD_BYTES_MAX);
        last = place.offset + (rc == 1);
        for (uint32_t i = 0; rc == 1 && i < record.payload_len; i++)
            sink = payload[i];
    }
    hp_journal_reader_close(reader);
}

/* Bytes 0-2 say where the rest goes, over the good file. */
static void read_patched(const uint8_t *data, size_t len, int mend)
{
    uint8_t file[GOOD_BYTES];
    if (len < PATCH_AT_BYTES)
        return;
    size_t at = (data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16) % GOOD_BYTES;
    size_t n = len - PATCH_AT_BYTES < GOOD_BYTES - at ? len - PATCH_AT_BYTES : GOOD_BYTES - at;
    make_good(file);
    memcpy(file + at, data + PATCH_AT_BYTES, n);
    if (mend) {
        set_header_crc(file);
        set_record_crc(file, at / HP_SLOT_BYTES * HP_SLOT_BYTES);
    }
    read_file(file, GOOD_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len && data[0] % 8 == 7)
        read_file(data + 1, len - 1);
    else if (len)
        read_patched(data + 1, len - 1, data[0] & 1);
    return 0;
}
