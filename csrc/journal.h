/* The journal's files, for its writer (journal.c) and its readers (journal_reader.c).
 *
 * A segment is a header of HP_SEGMENT_HEADER_BYTES and then slots of HP_SLOT_BYTES, all zero until
 * they are written. A record begins at a slot and takes as many as hp_record and payload need. Its
 * checksum goes in last: where it is 0, nothing lies yet. */
#ifndef HP_JOURNAL_H
#define HP_JOURNAL_H

#include "crc32c.h"
#include "harpoon.h"

#define HP_SEGMENT_HEADER_BYTES 4096
#define HP_SEGMENT_MAGIC "HPOONJRN"
#define HP_SEGMENT_VERSION 2
#define HP_SEGMENT_BYTE_ORDER 0x01020304u
#define HP_SEGMENT_NUMBER_MAX 99999999u
#define HP_SEGMENT_NAME_BYTES 24
#define HP_SLOT_BYTES 64
#define HP_RUN_BYTES 16

typedef struct hp_segment_header {
    uint8_t magic[8];
    uint32_t byte_order; /* as its writer stores it */
    uint32_t version;
    uint32_t slot_bytes;
    uint32_t first_at; /* where the first record behind the preamble goes */
    uint32_t number;
    uint32_t pad;
    uint64_t bytes; /* of the whole file as it was made */
    int64_t created_epoch_ns; /* CLOCK_REALTIME and CLOCK_MONOTONIC at one moment */
    int64_t created_ns;
    uint8_t run[HP_RUN_BYTES]; /* random: seeds the records' checksums */
    uint32_t crc; /* of all above */
    uint32_t reserved;
} hp_segment_header;

_Static_assert(sizeof(hp_segment_header) <= HP_SEGMENT_HEADER_BYTES, "the header has its page");
_Static_assert(sizeof(hp_record) * 2 == HP_SLOT_BYTES, "small records take one slot");
_Static_assert(HP_SEGMENT_HEADER_BYTES + 2 * (HP_RECORD_BYTES_MAX + HP_SLOT_BYTES) +
                       HP_JOURNAL_RESERVE <= HP_SEGMENT_BYTES_MIN,
               "behind any preamble a segment takes any record");

/* Bytes that a record takes in its segment. */
static inline uint64_t hp_record_bytes(uint64_t payload_len)
{
    return (sizeof(hp_record) + payload_len + HP_SLOT_BYTES - 1) / HP_SLOT_BYTES * HP_SLOT_BYTES;
}

/* The checksum of a record: never 0. The run's id goes in first, which no venue knows: a text from
 * it cannot hold what a reader, after damage, would take for a record. */
static inline uint32_t hp_record_crc(hp_crc32c_fn *crc32c, uint32_t seed, const hp_record *record,
                                     const void *a, size_t a_len, const void *b, size_t b_len)
{
    const size_t skip = sizeof record->crc;
    uint32_t crc = crc32c(seed, (const uint8_t *)record + skip, sizeof *record - skip);
    crc = crc32c(crc32c(crc, a, a_len), b, b_len);
    return crc ? crc : 1;
}

uint32_t hp_segment_header_crc(const hp_segment_header *header);
void hp_segment_name(char name[HP_SEGMENT_NAME_BYTES], uint32_t number);
/* The lowest segment number above `number`, or the highest below it, in a folder; 0 if none. */
uint32_t hp_segment_above(int folder, uint32_t number);
uint32_t hp_segment_below(int folder, uint32_t number);
/* A reader of one segment, whose descriptor it takes over; NULL with *error set. */
hp_journal_reader *hp_journal_reader_of(int fd, int *error);

#endif
