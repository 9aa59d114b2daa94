/* A reader of the journal. It reads with pread, through a window that it fills anew whenever it
 * sees nothing good in what it has: a file that is cut or written meanwhile does it no harm.
 *
 * What it may meet where a record should be: nothing (its checksum is 0), or bytes that do not fit
 * their checksum. Good records behind such a place mean damage. None: the writer died there (a torn
 * tail), or has not come so far yet. */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW_BYTES (HP_RECORD_BYTES_MAX + (64u << 10))
#define FILL_BYTES (64u << 10)
/* What the search behind damage may check in one segment: a file could claim a long record at each
 * of its slots. */
#define SEARCH_BYTES_MAX (UINT64_C(1) << 30)

enum found { NOTHING = 0, GOOD = 1, BAD = 2 };

struct hp_journal_reader {
    uint64_t at;       /* in the segment: the next record */
    uint64_t sequence; /* of the last record */
    uint64_t window_at;
    uint64_t searchable; /* bytes left for searching in this segment */
    hp_journal_place place;
    hp_segment_header header;
    hp_crc32c_fn *crc32c;
    uint32_t seed;
    uint32_t window_len;
    uint32_t number; /* of the segment; 0 before the first */
    int folder;      /* -1: there is one segment and no other */
    int fd;          /* -1: none yet */
    uint8_t searched; /* once to its end: what is damaged there is known */
    uint8_t over;     /* nothing more comes in this segment */
    int entered;      /* what was wrong with the header, until it is reported */
    uint8_t *window;
};

/* ---- bytes ----------------------------------------------------------------------------------- */

static void fill(hp_journal_reader *r, uint64_t at, uint32_t len)
{
    uint32_t have = 0;
    while (have < len) {
        ssize_t n = pread(r->fd, r->window + have, len - have, (off_t)(at + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break; /* the end; and what the disk cannot give is as good as lost */
        have += (uint32_t)n;
    }
    memset(r->window + have, 0, len - have);
    r->window_at = at;
    r->window_len = len;
}

/* `len` bytes of the segment at `at`; zeros behind its end. */
static const uint8_t *bytes_at(hp_journal_reader *r, uint64_t at, uint32_t len)
{
    if (at < r->window_at || at + len > r->window_at + r->window_len)
        fill(r, at, len > FILL_BYTES ? WINDOW_BYTES : FILL_BYTES);
    return r->window + (at - r->window_at);
}

static enum found look(hp_journal_reader *r, uint64_t at, hp_record *record)
{
    memcpy(record, bytes_at(r, at, sizeof *record), sizeof *record);
    if (record->crc == 0)
        return NOTHING;
    if (record->payload_len > HP_RECORD_BYTES_MAX)
        return BAD;
    const uint8_t *p = bytes_at(r, at, (uint32_t)sizeof *record + record->payload_len);
    uint32_t crc = hp_record_crc(r->crc32c, r->seed, record, p + sizeof *record,
                                 record->payload_len, NULL, 0);
    return crc == record->crc ? GOOD : BAD;
}

/* In the file as it is now. The first read may have met a record while it was written. */
static enum found look_again(hp_journal_reader *r, hp_record *record)
{
    enum found found = BAD;
    for (int i = 0; i < 2 && found == BAD; i++) {
        r->window_len = 0;
        found = look(r, r->at, record);
    }
    return found;
}

static uint64_t file_bytes(const hp_journal_reader *r)
{
    struct stat st;
    return fstat(r->fd, &st) < 0 || st.st_size < 0 ? 0 : (uint64_t)st.st_size;
}

static int is_zero(const uint8_t *p, size_t len)
{
    return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

/* Whether a record may begin with these bytes, as far as they tell. */
static int may_begin(const hp_journal_reader *r, const hp_record *record)
{
    return record->crc != 0 && record->payload_len <= HP_RECORD_BYTES_MAX &&
           record->sequence > r->sequence;
}

/* The next good record behind r->at, 0 if there is none; place.torn tells whether anything is. */
static uint64_t search(hp_journal_reader *r)
{
    hp_record record;
    uint64_t end = file_bytes(r);
    r->searched = 1;
    r->place.torn = 0;
    for (uint64_t at = r->at; at < end; at += HP_SLOT_BYTES) {
        const uint8_t *slot = bytes_at(r, at, HP_SLOT_BYTES);
        if (is_zero(slot, HP_SLOT_BYTES))
            continue;
        r->place.torn = 1;
        memcpy(&record, slot, sizeof record);
        if (at == r->at || !may_begin(r, &record))
            continue;
        if (r->searchable < sizeof record + record.payload_len)
            break;
        r->searchable -= sizeof record + record.payload_len;
        if (look(r, at, &record) == GOOD)
            return at;
    }
    return 0;
}

/* ---- segments -------------------------------------------------------------------------------- */

static int has_magic(const hp_segment_header *h)
{
    return memcmp(h->magic, HP_SEGMENT_MAGIC, sizeof h->magic) == 0;
}

static int judge(const hp_segment_header *h)
{
    if (has_magic(h) && h->byte_order == __builtin_bswap32(HP_SEGMENT_BYTE_ORDER))
        return -HP_EJOURNAL_FILE;
    if (!has_magic(h) || h->crc != hp_segment_header_crc(h))
        return -HP_EJOURNAL_DAMAGED;
    if (h->version != HP_SEGMENT_VERSION || h->slot_bytes != HP_SLOT_BYTES)
        return -HP_EJOURNAL_FILE;
    return 0;
}

/* From the beginning of the segment `fd`: 0, or what its header is instead of good. */
static int enter(hp_journal_reader *r, int fd)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = fd;
    r->at = HP_SEGMENT_HEADER_BYTES;
    r->window_len = 0;
    r->searched = 0;
    r->searchable = SEARCH_BYTES_MAX;
    memcpy(&r->header, bytes_at(r, 0, sizeof r->header), sizeof r->header);
    r->seed = r->crc32c(0, r->header.run, sizeof r->header.run);
    r->place = (hp_journal_place){.segment = r->number ? r->number : r->header.number};
    r->place.created_epoch_ns = r->header.created_epoch_ns;
    memcpy(r->place.run, r->header.run, sizeof r->place.run);
    int rc = judge(&r->header);
    r->over = rc == -HP_EJOURNAL_FILE;
    if (rc == -HP_EJOURNAL_DAMAGED) /* the records may be good still */
        r->place.skipped_bytes = HP_SEGMENT_HEADER_BYTES;
    return rc;
}

static int open_segment(const hp_journal_reader *r, uint32_t number)
{
    char name[HP_SEGMENT_NAME_BYTES];
    hp_segment_name(name, number);
    return openat(r->folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/* The writer prepares a segment long before it comes to it. A bad header has no say in this. */
static int has_begun(int fd)
{
    hp_segment_header header;
    uint32_t crc = 0;
    if (pread(fd, &header, sizeof header, 0) != (ssize_t)sizeof header || judge(&header) < 0)
        return 1;
    return pread(fd, &crc, sizeof crc, header.first_at) > 0 && crc != 0;
}

/* The first segment behind `number` that has records: its descriptor, or -1. */
static int next_begun(const hp_journal_reader *r, uint32_t *number)
{
    for (*number = r->number; r->folder >= 0;) {
        *number = hp_segment_above(r->folder, *number);
        int fd = *number ? open_segment(r, *number) : -1;
        if (fd < 0 && *number)
            continue; /* deleted meanwhile */
        if (fd < 0 || has_begun(fd))
            return fd;
        close(fd);
    }
    return -1;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int lost(hp_journal_reader *r, uint64_t skipped_bytes, uint64_t sequence)
{
    r->place.offset = r->at;
    r->place.skipped_bytes = skipped_bytes;
    r->place.missing = sequence > r->sequence + 1 ? sequence - r->sequence - 1 : 0;
    r->place.torn = 0;
    r->sequence = sequence - 1;
    r->at += skipped_bytes;
    r->searched = 0;
    return -HP_EJOURNAL_DAMAGED;
}

static int give(hp_journal_reader *r, const hp_record *record, const uint8_t **payload,
                int64_t *epoch_ns)
{
    if (record->sequence && r->sequence && record->sequence != r->sequence + 1)
        return lost(r, 0, record->sequence);
    *payload = bytes_at(r, r->at, (uint32_t)sizeof *record + record->payload_len) + sizeof *record;
    *epoch_ns = (int64_t)((uint64_t)r->header.created_epoch_ns + (uint64_t)record->t_ns -
                          (uint64_t)r->header.created_ns);
    if (record->sequence)
        r->sequence = record->sequence;
    r->place.offset = r->at;
    r->place.skipped_bytes = r->place.missing = 0;
    r->place.torn = 0;
    r->at += hp_record_bytes(record->payload_len);
    return 1;
}

/* Nothing good lies at r->at: past it to what does, 1 when the writer came meanwhile, or 0. */
static int get_past(hp_journal_reader *r)
{
    hp_record record;
    uint64_t good = search(r);
    if (look_again(r, &record) == GOOD)
        return 1;
    return good && look(r, good, &record) == GOOD ? lost(r, good - r->at, record.sequence) : 0;
}

/* Nothing good lies at r->at, as far as the window tells: 1 when another look is worth it, in the
 * next segment perhaps; 0 when nothing more is there yet; or the error to report. */
static int go_on(hp_journal_reader *r)
{
    hp_record record;
    uint32_t number;
    int reading = r->fd >= 0 && !r->over;
    enum found found = reading ? look_again(r, &record) : NOTHING;
    if (found == GOOD)
        return 1;
    int fd = next_begun(r, &number);
    int rc = 0;
    if (reading && (found == BAD || fd >= 0 || !r->searched))
        rc = get_past(r); /* looks again: the writer may have gone on here before it did there */
    if (rc == 0) {
        r->place.offset = r->at;
        r->over |= found == BAD;
    }
    if (rc == 0 && fd >= 0) {
        r->number = number;
        rc = enter(r, fd);
        return rc < 0 ? rc : 1;
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

int hp_journal_reader_next(hp_journal_reader *r, hp_record *record, const uint8_t **payload,
                           int64_t *epoch_ns)
{
    int rc = r->entered;
    r->entered = 0;
    while (rc >= 0) {
        if (r->fd >= 0 && !r->over && look(r, r->at, record) == GOOD)
            return give(r, record, payload, epoch_ns);
        rc = go_on(r);
        if (rc == 0)
            return 0;
    }
    return rc;
}

void hp_journal_reader_place(const hp_journal_reader *r, hp_journal_place *place)
{
    *place = r->place;
}

/* ---- opening --------------------------------------------------------------------------------- */

static hp_journal_reader *reader_new(int *error)
{
    hp_journal_reader *r = calloc(1, sizeof *r);
    *error = -ENOMEM;
    if (!r)
        return NULL;
    r->folder = r->fd = -1;
    r->crc32c = hp_crc32c_choose();
    r->window = aligned_alloc(HP_SLOT_BYTES, WINDOW_BYTES);
    if (!r->window) {
        free(r);
        return NULL;
    }
    *error = 0;
    return r;
}

void hp_journal_reader_skip(hp_journal_reader *r)
{
    if (r->folder >= 0)
        r->number = hp_segment_below(r->folder, HP_SEGMENT_NUMBER_MAX + 1);
}

void hp_journal_reader_close(hp_journal_reader *r)
{
    if (!r)
        return;
    if (r->fd >= 0)
        close(r->fd);
    if (r->folder >= 0)
        close(r->folder);
    free(r->window);
    free(r);
}

hp_journal_reader *hp_journal_reader_of(int fd, int *error)
{
    hp_journal_reader *r = reader_new(error);
    if (!r) {
        close(fd);
        return NULL;
    }
    r->entered = enter(r, fd);
    if (has_magic(&r->header) && r->entered != -HP_EJOURNAL_FILE)
        return r;
    *error = -HP_EJOURNAL_FILE;
    hp_journal_reader_close(r);
    return NULL;
}

static hp_journal_reader *reader_of_folder(int folder, int *error)
{
    hp_journal_reader *r = NULL;
    if (hp_segment_above(folder, 0) || faccessat(folder, "lock", F_OK, 0) == 0)
        r = reader_new(error);
    else
        *error = -HP_EJOURNAL_FILE;
    if (r)
        r->folder = folder;
    else
        close(folder);
    return r;
}

hp_journal_reader *hp_journal_reader_open(const char *path, int *error)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would wait for a writer */
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        return reader_of_folder(fd, error);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return hp_journal_reader_of(fd, error);
    *error = fd < 0 ? -errno : -HP_EJOURNAL_FILE;
    if (fd >= 0)
        close(fd);
    return NULL;
}
