/* harpoon.h: the one public header of the C library.
 *
 * ffi_build.py gives this very file to CFFI (without its preprocessor lines), so C and Python
 * cannot drift apart. Rules that hold everywhere:
 *   - a function returns >= 0 for success and -errno or -HP_E... for failure; hp_strerror()
 *     names it;
 *   - nothing prints, nothing keeps global state, nothing here may be called from two threads at
 *     once on the same handle but what says "any thread", and the reading of a built book;
 *   - times are nanoseconds of CLOCK_MONOTONIC unless the name ends in _ms (CLOCK_REALTIME,
 *     epoch);
 *   - money is satoshis; a txid is 32 bytes in internal (not displayed) byte order.
 */
#ifndef HARPOON_H
#define HARPOON_H

#include <stddef.h>
#include <stdint.h>

/* ---- errors -------------------------------------------------------------------------------- */

enum hp_error {
    HP_ETX_TRUNCATED = 1000, /* the bytes end inside the transaction */
    HP_ETX_VARINT,           /* a CompactSize is not in its shortest form */
    HP_ETX_COUNT,            /* a count or length exceeds the bytes left */
    HP_ETX_NO_INPUTS,        /* no inputs */
    HP_ETX_NO_OUTPUTS,       /* no outputs */
    HP_ETX_FLAG,             /* BIP-144 marker with a flag other than 1 */
    HP_ETX_WITNESS,          /* BIP-144 form although every witness is empty */
    HP_ETX_VALUE,            /* an amount is negative or above 21 million BTC */
    HP_ETX_TRAILING,         /* bytes follow the transaction */
    HP_ETX_TOO_BIG,          /* above HP_TX_BYTES_MAX */
    HP_EBOOK_FULL,           /* the book holds as many scripts as it was made for */
    HP_EBOOK_SCRIPT,         /* a script that no address stands for */
    HP_EBOOK_CONFLICT,       /* two exchanges claim the same script */
    HP_EBOOK_CROWDED,        /* too many scripts fall on one place under this seed */
    HP_EBOOK_FILE,           /* not a saved book, or of another version or byte order */
    HP_EBOOK_DAMAGED,        /* a saved book that was cut short or changed */
    HP_EWS_UPGRADE,          /* the answer to the upgrade is not the 101 of RFC 6455 4.2.2 */
    HP_EWS_ACCEPT,           /* Sec-WebSocket-Accept is missing or wrong */
    HP_EWS_PROTOCOL,         /* a frame breaks RFC 6455 5 */
    HP_EWS_UTF8,             /* a text message is not UTF-8 */
    HP_EWS_TOO_BIG,          /* a message above the configured size */
    HP_ETLS,                 /* OpenSSL failed; the session's reason says how */
    HP_ETLS_CERT,            /* the peer's certificate was refused */
    HP_ETLS_CLOSED,          /* the peer ended the TLS session */
    HP_ETLS_CA,              /* the CA file cannot be used */
    HP_ERING,                /* io_uring is not to be had here */
    HP_ECONN_CLOSED,         /* the peer closed the connection */
    HP_ETIME_OUT,            /* the peer did not answer in time */
    HP_ENOT_READY,           /* no open session */
    HP_ETHREAD,              /* called from a thread that does not own the engine */
    HP_ECONFIG,              /* a number in the configuration is out of its bounds */
    HP_EJOURNAL,             /* a record is longer than the journal takes */
    HP_EJOURNAL_FILE,        /* not a journal, or of another version or byte order */
    HP_EJOURNAL_DAMAGED,     /* bytes of a journal were changed or lost */
    HP_EJOURNAL_LOCKED,      /* another process writes this journal */
    HP_EZMTP,                /* what answers does not speak ZMTP */
    HP_EZMTP_VERSION,        /* a ZMTP before 3.0 */
    HP_EZMTP_MECHANISM,      /* a security mechanism other than NULL */
    HP_EZMTP_PROTOCOL,       /* a frame or command breaks ZMTP */
    HP_EZMTP_TOO_BIG,        /* a frame above the size limit */
    HP_ELATCH,               /* not a kill latch, or a damaged one, which counts as set */
};

/* A constant English sentence for a (negative or positive) return code. */
const char *hp_strerror(int code);

/* Compiler and OpenSSL that this library was built with. */
const char *hp_build(void);

/* No core dump of this process, no debugger of the same user: the API secret is in its memory. 0 or
 * -errno. */
int hp_protect_process(void);

/* CLOCK_MONOTONIC now, in ns: the clock of every latency. */
int64_t hp_now_ns(void);

/* ---- SHA-256 and HMAC (FIPS 180-4, RFC 2104) ----------------------------------------------- */

typedef struct hp_sha256_impl hp_sha256_impl; /* one way to compute the compression function */

/* The implementation called `name`. `name` NULL: the one that the environment's HARPOON_SHA256
 * names when it is set and not empty, else the best this CPU has. NULL when there is none of
 * that name or the CPU lacks it. */
const hp_sha256_impl *hp_sha256_choose(const char *name);
/* The i-th implementation this build has and this CPU can run, best first; NULL past the last. */
const hp_sha256_impl *hp_sha256_available(int i);
const char *hp_sha256_name(const hp_sha256_impl *impl);

void hp_sha256_digest(const hp_sha256_impl *impl, const uint8_t *data, size_t len, uint8_t out[32]);
/* SHA-256 of SHA-256, Bitcoin's hash. */
void hp_sha256d_digest(const hp_sha256_impl *impl, const uint8_t *data, size_t len,
                       uint8_t out[32]);
/* The first nonce n, first <= n < first + count (modulo 2^32), with which the 80-byte block
 * header has a double SHA-256 of at most `target`, both little-endian numbers: 1 with *nonce
 * set, or 0. The header's own nonce is not looked at. */
int hp_sha256d_scan(const hp_sha256_impl *impl, const uint8_t header[80], const uint8_t target[32],
                    uint32_t first, uint64_t count, uint32_t *nonce);
/* RIPEMD-160 of SHA-256, Bitcoin's HASH160. */
void hp_hash160(const hp_sha256_impl *impl, const uint8_t *data, size_t len, uint8_t out[20]);

typedef struct hp_hmac_key hp_hmac_key; /* a key's inner and outer midstates; wiped when freed */

/* NULL when memory is short. `secret` is not kept. */
hp_hmac_key *hp_hmac_key_new(const hp_sha256_impl *impl, const uint8_t *secret, size_t len);
/* The same key for messages that all begin with `prefix`: as much of it as is whole 64-byte
 * blocks is absorbed now, and *absorbed says how many bytes to leave out when signing. NULL when
 * memory is short. Needs `key` no longer. */
hp_hmac_key *hp_hmac_key_continue(const hp_hmac_key *key, const uint8_t *prefix, size_t len,
                                  size_t *absorbed);
void hp_hmac_sign(const hp_hmac_key *key, const uint8_t *message, size_t len, uint8_t out[32]);

#define HP_HMAC_BATCH_MAX 16

/* n <= HP_HMAC_BATCH_MAX messages at once, each with its own key, all keys of one implementation:
 * 32 bytes each into `out`, in the order given. More of them are a bug, and abort. */
void hp_hmac_sign_batch(const hp_hmac_key *const key[], const uint8_t *const message[],
                        const size_t len[], size_t n, uint8_t *out);
void hp_hmac_key_free(hp_hmac_key *key);

/* ---- transactions (BIP-144 serialisation) -------------------------------------------------- */

#define HP_TX_BYTES_MAX 4000000 /* the block weight limit bounds any transaction */

typedef struct hp_tx { /* a view: every offset is into `raw`, which the caller keeps alive */
    const uint8_t *raw;
    int64_t out_total_sat;
    uint32_t size; /* bytes, witness included */
    uint32_t version;
    uint32_t lock_time;
    uint32_t n_in;
    uint32_t n_out;
    uint32_t in_at;      /* first input */
    uint32_t out_at;     /* first output */
    uint32_t out_end;    /* one past the last output */
    uint32_t witness_at; /* first witness; 0 in a legacy transaction */
} hp_tx;

typedef struct hp_txin {
    const uint8_t *outpoint; /* 36 bytes: txid, little-endian vout */
    const uint8_t *script;
    const uint8_t *witness; /* the items, each behind its CompactSize length */
    uint32_t script_len;
    uint32_t sequence;
    uint32_t witness_items;
    uint32_t witness_len;
} hp_txin;

typedef struct hp_txout {
    const uint8_t *script;
    int64_t value_sat;
    uint32_t script_len;
} hp_txout;

typedef struct hp_tx_iter {
    uint32_t index;
    uint32_t at;
    uint32_t witness_at;
} hp_tx_iter;

/* Walk one transaction at the start of `raw`: its length in bytes, or -HP_ETX_... */
int hp_tx_parse(const uint8_t *raw, size_t len, hp_tx *tx);
/* The same, and nothing may follow it. */
int hp_tx_parse_exact(const uint8_t *raw, size_t len, hp_tx *tx);
int hp_tx_is_coinbase(const hp_tx *tx);
/* Iterators over a parsed transaction; start from a zeroed hp_tx_iter. 1, or 0 past the end. */
int hp_tx_next_input(const hp_tx *tx, hp_tx_iter *it, hp_txin *in);
int hp_tx_next_output(const hp_tx *tx, hp_tx_iter *it, hp_txout *out);
void hp_tx_txid(const hp_tx *tx, const hp_sha256_impl *impl, uint8_t out[32]);
void hp_tx_wtxid(const hp_tx *tx, const hp_sha256_impl *impl, uint8_t out[32]);
/* Bytes without marker, flag and witnesses (BIP-141: weight = 3 * base + size). */
uint32_t hp_tx_base_size(const hp_tx *tx);

#define HP_SCRIPT_MAX 42 /* the longest script an address stands for: witness v1-16, 40 bytes */

enum hp_spend { /* what an input reveals of the script it spends */
    HP_SPEND_HIDDEN = 0, /* nothing: P2TR, P2PK, bare multisig, anything unusual */
    HP_SPEND_P2PKH,
    HP_SPEND_P2WPKH,
    HP_SPEND_P2SH_P2WPKH,
    HP_SPEND_P2SH_P2WSH,
    HP_SPEND_P2WSH,
    HP_SPEND_P2SH,
};

/* The scriptPubKey an input spends, as far as its script and witness reveal it, into `script`.
 * Its length in bytes, 0 when hidden; *spend says which form. */
int hp_txin_spends(const hp_txin *in, const hp_sha256_impl *impl, uint8_t script[42],
                   int *spend);

/* ---- address book -------------------------------------------------------------------------- */

#define HP_NOBODY 0xffff     /* no exchange */
#define HP_EXCHANGES_MAX 4096
#define HP_EXCHANGE_NAME_MAX 63
#define HP_LABEL_MAX 4095    /* bytes */
#define HP_BOOK_ENTRIES_MAX 130000000

/* scriptPubKey -> owner; exact matches only. A book is a draft until it is built, and never changes
 * from then on, so any number of threads may read it. */
typedef struct hp_book hp_book;

enum hp_wallet { /* what an owner uses the address for */
    HP_WALLET_UNKNOWN = 0,
    HP_WALLET_HOT = 1,
    HP_WALLET_COLD = 2,
    HP_WALLET_DEPOSIT = 3,
    HP_WALLET_LEARNED = 4, /* a deposit address that a sweep has shown */
};

typedef struct hp_owner {
    int64_t added_at_s; /* since the epoch; 0: unknown */
    uint32_t label;     /* 0: none */
    uint16_t exchange;
    uint8_t kind;       /* enum hp_wallet */
    uint8_t pad;
} hp_owner;

/* A draft with room for `capacity` scripts, or NULL. `seed` keys the hash: whoever pays us chooses
 * the scripts. */
hp_book *hp_book_new(uint32_t capacity, const uint8_t seed[16]);
void hp_book_free(hp_book *book);
/* For a draft. The id of the exchange `name`, which is added when new; the id of one more label or
 * owner (the caller keeps these apart); 0 for a script taken. Or -HP_EBOOK_..., -HP_ECONFIG,
 * -ENOMEM. */
int hp_book_exchange(hp_book *book, const char *name);
int hp_book_label(hp_book *book, const char *label);
int hp_book_owner(hp_book *book, const hp_owner *owner);
int hp_book_add(hp_book *book, const uint8_t *script, size_t len, uint32_t owner);
/* The draft becomes a book; a script added twice stays its first owner's. 0, or -HP_EBOOK_CONFLICT
 * when two exchanges claim a script, -HP_EBOOK_CROWDED; then the draft is of no further use. */
int hp_book_build(hp_book *book);
/* The exchange's id, or HP_NOBODY. */
uint32_t hp_book_find(const hp_book *book, const uint8_t *script, size_t len);
/* 1 and what is known of the owner, or 0. */
int hp_book_lookup(const hp_book *book, const uint8_t *script, size_t len, hp_owner *owner);
const char *hp_book_name(const hp_book *book, uint32_t exchange); /* "" when unknown */
const char *hp_book_label_text(const hp_book *book, uint32_t label);
uint32_t hp_book_count(const hp_book *book);
/* Bytes of a built book, and of these the ones that a miss may touch; without the filter of small
 * books, 32 KiB at most. */
uint64_t hp_book_bytes(const hp_book *book, uint64_t *index_bytes);

/* Write a built book to `path`, whole or not at all: 0 or -errno. */
int hp_book_save(const hp_book *book, const char *path);
/* A saved book: NULL on failure with *error set. Up to 64 MiB are read into memory and verified; a
 * larger file is mapped and shared by all processes. Whatever is in it, no lookup reads outside of
 * it; cutting a mapped file short afterwards is a SIGBUS: replace it by a rename. */
hp_book *hp_book_open(const char *path, int *error);
/* Read a book that came from a file to its end: 0, or -HP_EBOOK_DAMAGED when it is not what was
 * saved. */
int hp_book_verify(const hp_book *book);

/* ---- signals and rules ---------------------------------------------------------------------- */

#define HP_SIGNALS_MAX 64         /* exchanges told apart in one transaction */
#define HP_SIGNAL_OUTPUTS_MAX 1024 /* outputs listed in one signal; paid_outputs counts all */
#define HP_PAID_OUTPUTS_MAX 4096   /* outputs listed in all signals of one transaction */
#define HP_RULES_MAX 64

enum hp_kind { /* what a transaction is for an exchange it pays; see docs/strategy.md */
    HP_DEPOSIT = 1,
    HP_WITHDRAWAL = 2,
    HP_INTERNAL = 3,
    HP_SWEEP = 4,
};

typedef struct hp_signal {
    uint8_t txid[32];
    int64_t net_sat;  /* deposit, sweep: what is paid; withdrawal: what leaves; internal: 0 */
    int64_t paid_sat; /* all outputs to the exchange, change included */
    uint32_t n_in;
    uint32_t n_out;
    uint32_t paid_outputs;
    uint32_t inputs_recognised; /* inputs that reveal the script they spend */
    uint32_t inputs_owned;      /* of these, the ones whose script is in the book */
    uint16_t exchange;
    uint16_t source; /* exchange that owns an input, or HP_NOBODY */
    int16_t rule;    /* first rule that matches, -1 if none */
    uint8_t kind;    /* enum hp_kind */
    uint8_t pad;
} hp_signal;

typedef struct hp_paid_output {
    int64_t value_sat;
    uint32_t vout;
    uint32_t script_len;
    uint8_t script[42];
} hp_paid_output;

typedef struct hp_rule { /* the first rule whose every condition holds decides */
    int64_t min_net_sat;
    int64_t max_net_sat; /* inclusive */
    uint32_t kinds;      /* bit (1 << enum hp_kind) */
    uint16_t exchange;   /* HP_NOBODY: any */
    uint16_t order;      /* index of the order template it fires */
} hp_rule;

/* ---- orders --------------------------------------------------------------------------------- */

#define HP_ORDERS_MAX 64
#define HP_ORDER_BYTES_MAX 2048  /* JSON body, and the string that is signed */
#define HP_CLIENT_ID_LEN 36      /* the most Binance takes: ^[a-zA-Z0-9-_]{1,36}$ */
#define HP_TIMESTAMP_LEN 13      /* decimal ms since the epoch, until the year 2286 */
#define HP_SIGNATURE_LEN 64      /* lower-case hex of an HMAC-SHA256 */

/* Constant bytes; *_at are offsets of the slots to patch. With payload_len 0 the order is sent
 * without signature, as after session.logon, and payload* and body_signature_at mean nothing. */
typedef struct hp_order_template {
    const uint8_t *payload; /* the string that is signed */
    const uint8_t *body;    /* the JSON text frame */
    uint32_t payload_len;
    uint32_t payload_client_id_at;
    uint32_t payload_timestamp_at;
    uint32_t body_len;
    uint32_t body_request_id_at; /* the request's id is the client order id: replies carry it */
    uint32_t body_client_id_at;
    uint32_t body_timestamp_at;
    uint32_t body_signature_at;
} hp_order_template;

enum hp_verdict { /* what the risk gate said of an order; docs/risk.md has them one by one */
    HP_ALLOWED = 0,
    HP_REFUSED_KILLED,     /* the kill latch is set */
    HP_REFUSED_NOT_READY,  /* no open session with the venue */
    HP_REFUSED_MAX_ORDERS, /* risk.max_orders are out already */
    HP_REFUSED_COOLDOWN,   /* risk.cooldown_ns since this rule's last order are not over */
    HP_REFUSED_IN_BLOCK,   /* published with a block, or by a node that has just restarted: it may
                              be old news */
    HP_REFUSED_JOURNAL,    /* the journal has no room for what must be in it before an order */
    HP_DRY_RUN,            /* everything was done but the send */
    HP_SEND_FAILED,        /* the send failed or was cut short: the outcome is unknown */
    HP_REFUSED_EXCHANGE_COOLDOWN,
    HP_REFUSED_ORDER_NOTIONAL,
    HP_REFUSED_TOTAL_NOTIONAL,
    HP_REFUSED_POSITION,
    HP_REFUSED_RATE_SECOND,
    HP_REFUSED_RATE_MINUTE,
    HP_REFUSED_RATE_HOUR,
    HP_REFUSED_RATE_DAY,
    HP_REFUSED_SIGNAL_AGE,
    HP_REFUSED_FEED,        /* behind a gap in the node's numbering, or behind its silence */
    HP_REFUSED_PRICE_STALE, /* a limit needs the market's price, or the order's terms, and has none
                               or an old one */
    HP_REFUSED_PRICE_BAND,
    HP_REFUSED_CLOCK,
    HP_REFUSED_UNRESOLVED,
    HP_REFUSED_VENUE_LIMIT,
    HP_REFUSED_FILTER,    /* the venue would not take this order */
    HP_REFUSED_DUPLICATE, /* an order with this client id has left in this run */
    HP_REFUSED_EXIT_SIZE, /* an exit of more than what entries have brought and no exit covers */
};

/* ---- risk ----------------------------------------------------------------------------------- */

#define HP_NO_LIMIT INT64_MAX
#define HP_RATE_MAX (1 << 18) /* orders in any window: more than venues take in a day */
#define HP_MARKETS_MAX 16
#define HP_VENUE_LIMITS_MAX 4

/* Amounts (_e8) are in 1e-8 of a unit of the base asset or, where money is meant, of the quote
 * asset; a price is quote for one base. Every `max_` is the most that is allowed: 0 allows nothing,
 * HP_NO_LIMIT everything. */
typedef struct hp_limits {
    int64_t exchange_cooldown_ns;       /* between two orders for one exchange; 0: none */
    int64_t max_order_notional_e8;
    int64_t max_total_notional_e8;      /* of the orders of any 24 h */
    int64_t max_position_notional_e8;   /* of a market, if all that is open on that side fills */
    int64_t max_orders_per_second;      /* of any second, minute, hour, day; HP_RATE_MAX at most */
    int64_t max_orders_per_minute;
    int64_t max_orders_per_hour;
    int64_t max_orders_per_day;
    int64_t max_signal_age_ns;          /* from the feed's having the transaction to the gate */
    int64_t max_feed_silence_ns;        /* after a longer one, what comes may be old news */
    int64_t max_price_age_ns;
    int64_t price_band_bp;              /* LIMIT: off the mid price; MARKET: from bid to ask */
    int64_t max_clock_offset_ms;
    int64_t max_unresolved;             /* orders whose end is not known, exits left out */
    int64_t venue_headroom_percent;     /* of the venue's limits, kept for exits; 0..100 */
} hp_limits;

typedef struct hp_terms { /* what an order would trade */
    int64_t quantity_e8;
    int64_t price_e8; /* 0: MARKET */
    uint16_t market;
    uint8_t is_sell;
    uint8_t pad[5];
} hp_terms;

typedef struct hp_price { /* the best offers of a market */
    int64_t bid_e8;
    int64_t ask_e8;
    int64_t t_ns; /* when they came */
    uint32_t market;
    uint32_t pad;
} hp_price;

/* The end of an order: what was open of it is so no longer, and what was filled moves the position.
 * With quantity 0 a correction: an order that had ended has filled more, or a commission was taken
 * in the base asset, which is a sale. `reduces` as in its hp_order_request; of any other order,
 * exits may close what was filled. */
typedef struct hp_settlement {
    int64_t quantity_e8; /* that was counted as open when it left: all of it */
    int64_t filled_e8;
    uint32_t market;
    uint8_t is_sell;
    uint8_t reduces;
    uint8_t pad[2];
} hp_settlement;

/* The venue's own limit of orders in a window of its clock, which begins at a multiple of window_ms
 * since the epoch. */
typedef struct hp_venue_limit {
    uint64_t window_ms;
    uint32_t index; /* below HP_VENUE_LIMITS_MAX: which of them this is */
    uint32_t limit;
    uint32_t used; /* in this window, as the venue counts */
    uint32_t pad;
} hp_venue_limit;

#define HP_LATCH_REASON_MAX 255

/* The kill latch: a small file that stops every engine which has it open, and stays set until a
 * person resets it. A file that is damaged, cut short or something else counts as set. */
typedef struct hp_latch hp_latch;

typedef struct hp_latch_state {
    int64_t set_at_ms; /* since the epoch; 0 when nobody knows */
    char reason[256];
    uint8_t is_set;
    uint8_t is_damaged;
} hp_latch_state;

/* The latch at `path`, made (0600, not set) where there is no file. NULL on failure with *error
 * set: -errno. */
hp_latch *hp_latch_open(const char *path, int *error);
void hp_latch_close(hp_latch *latch);
/* Any thread, and a signal handler: set it, and write that to the disk. The first reason stays. 0
 * or -errno. */
int hp_latch_set(hp_latch *latch, const char *reason);
/* 0, -errno, or -HP_ELATCH for a damaged one: remove the file. An engine that was running stays
 * stopped. */
int hp_latch_reset(hp_latch *latch);
/* Any thread: 1 when it is set. */
int hp_latch_is_set(const hp_latch *latch, hp_latch_state *state);
/* Any thread: 1 while `path` still is this file, whole: else setting it would stop nobody. */
int hp_latch_is_there(const hp_latch *latch);

/* ---- WebSocket and TLS (bytes in, bytes out; RFC 6455, RFC 8446) ---------------------------- */

#define HP_WS_HEADER_MAX 14
#define HP_WS_CONTROL_MAX 125

enum hp_ws_opcode {
    HP_WS_CONTINUATION = 0,
    HP_WS_TEXT = 1,
    HP_WS_BINARY = 2,
    HP_WS_CLOSE = 8,
    HP_WS_PING = 9,
    HP_WS_PONG = 10,
};

typedef struct hp_ws_frame {
    const uint8_t *payload; /* inside the caller's buffer */
    uint64_t payload_len;
    uint8_t opcode;
    uint8_t fin;
} hp_ws_frame;

/* Client's upgrade request (RFC 6455 4.1) into `out`, with a NUL behind it: its length, -ENOSPC, or
 * -EINVAL for a host or path with a character that has no place there. `key` is 16 random bytes. */
int hp_ws_request(char *out, size_t cap, const char *host, const char *path,
                  const uint8_t key[16]);

typedef struct hp_ws_answer { /* HTTP's part of the answer to the upgrade */
    int status;               /* 0 before its first line is whole */
    uint32_t retry_after_s;   /* of a refusal, RFC 9110 10.2.3; 0 when it is not said in seconds */
} hp_ws_answer;

/* The server's answer: n > 0 bytes consumed, 0 need more, -HP_EWS_UPGRADE or -HP_EWS_ACCEPT. What
 * is no HTTP is refused at its first line, everything else when its header is whole. */
int hp_ws_response(const uint8_t *buf, size_t len, const uint8_t key[16], hp_ws_answer *said);
/* One whole frame from a server: n > 0 bytes consumed, 0 need more, -HP_EWS_...
 * `payload_max` bounds a data frame's payload, so that a length alone can be refused. */
int64_t hp_ws_parse(const uint8_t *buf, size_t len, uint64_t payload_max, hp_ws_frame *frame);
/* Header of a masked client frame: its length in bytes (6, 8 or 14). */
int hp_ws_header(uint8_t out[14], int opcode, uint64_t payload_len, const uint8_t mask[4]);
void hp_ws_mask(uint8_t *payload, size_t len, const uint8_t mask[4]);
/* 1 when `data` is well-formed UTF-8 (RFC 3629), else 0. */
int hp_utf8_valid(const uint8_t *data, size_t len);

#define HP_SLOTS_MAX 64
#define HP_SLOT_BYTES_MAX 2064 /* plaintext of a record sealed ahead: an order and its header */

typedef struct hp_tls hp_tls; /* a TLS client over memory: it never touches a socket */

/* `host` is verified in the certificate and sent as SNI (an IP address: verified, not sent).
 * `ca_file` NULL: the system's trust store. NULL on failure with *error set: -HP_ETLS_CA,
 * -EINVAL for what cannot be a host, -ENOMEM. */
hp_tls *hp_tls_new(const char *host, const char *ca_file, int *error);
void hp_tls_free(hp_tls *tls);
/* Ciphertext from the peer: bytes taken (all of them), or -ENOSPC. */
int hp_tls_input(hp_tls *tls, const uint8_t *data, size_t len);
/* Ciphertext for the peer: *data points at what waits, its length is returned; hp_tls_sent() drops
 * that many bytes. Sealing more does not move what waits. */
int hp_tls_output(hp_tls *tls, const uint8_t **data);
void hp_tls_sent(hp_tls *tls, size_t len);
/* 1 done, 0 more bytes needed, -HP_ETLS... */
int hp_tls_handshake(hp_tls *tls);
/* Plaintext from the peer into `out`: n > 0, 0 nothing yet, -HP_ETLS..., -HP_ETLS_CLOSED. It may
 * leave something in the output: the answer to a KeyUpdate, an alert. */
int hp_tls_read(hp_tls *tls, uint8_t *out, size_t cap);
/* Seal `len` bytes of plaintext behind what waits in the output: len, or -HP_ETLS..., -ENOSPC,
 * -HP_ENOT_READY before the handshake is done. */
int hp_tls_seal(hp_tls *tls, const uint8_t *data, size_t len);
/* Touch what the next record will need, so that it stays in the caches. */
void hp_tls_touch(hp_tls *tls);
/* close_notify behind what waits in the output. */
void hp_tls_close(hp_tls *tls);
/* Records sealed ahead. In TLS 1.3 the write side becomes ours with the first hp_tls_seal(), if
 * that is one record of at most HP_SLOT_BYTES_MAX bytes; from then on several records can be made
 * for the next sequence number, of which at most one is sent. Each slot holds one of these
 * alternatives. Everything else that is written (hp_tls_seal(), the answer to a KeyUpdate in
 * hp_tls_read(), hp_tls_close()) takes the number, and so wipes them.
 *
 * Seal `len` bytes into `slot`, in place of what is there: 1; 0 when this connection cannot
 * (TLS 1.2, an unknown suite, not yet ours, at its end); -ENOSPC above HP_SLOT_BYTES_MAX or when a
 * due KeyUpdate finds no room in the output; -EINVAL for no slot. It may write that KeyUpdate. */
int hp_tls_seal_ahead(hp_tls *tls, int slot, const uint8_t *data, size_t len);
/* *record points at the record in `slot`: its length, or 0 when there is none that may be sent now.
 * None may as long as something waits in the output, which has earlier numbers. */
int hp_tls_sealed(const hp_tls *tls, int slot, const uint8_t **record);
/* The kernel has taken the first `sent` bytes of the record in `slot`, one at least; the others
 * wait in the output now. The number advances and all alternatives are wiped. Between
 * hp_tls_sealed() and this no other call may be made. Committing what was not sealed ends the
 * write side. */
void hp_tls_commit(hp_tls *tls, int slot, size_t sent);
/* The record in `slot`, or all alternatives, were not sent and will not be: they are wiped, the
 * number stays. */
void hp_tls_spoil(hp_tls *tls, int slot);
void hp_tls_discard(hp_tls *tls);
/* Why the last call failed, in OpenSSL's words; "" if it did not. */
const char *hp_tls_reason(const hp_tls *tls);
/* "TLSv1.3 TLS_AES_256_GCM_SHA384", once the handshake is done. */
const char *hp_tls_cipher(hp_tls *tls);

/* ---- ZMTP (the SUB end of 3.0 and 3.1, mechanism NULL; rfc.zeromq.org 23 and 37) ------------ */

#define HP_ZMTP_GREETING_BYTES 64
#define HP_ZMTP_COMMAND_BYTES_MAX 64 /* of what is written here */
#define HP_ZMTP_TOPIC_MAX 32
#define HP_ZMTP_CONTEXT_MAX 16 /* of a PING, in bytes (37, Connection Heartbeating) */

typedef struct hp_zmtp_peer { /* what its greeting says; zero where that is not there yet */
    uint8_t major;
    uint8_t minor;
    char mechanism[21]; /* what is no mechanism-char is '?' */
} hp_zmtp_peer;

typedef struct hp_zmtp_frame {
    const uint8_t *body; /* inside the caller's buffer */
    uint64_t body_len;
    uint8_t more;
    uint8_t is_command;
} hp_zmtp_frame;

typedef struct hp_zmtp_command {
    const uint8_t *name; /* inside the caller's buffer, as is the data */
    const uint8_t *data;
    uint64_t data_len;
    uint8_t name_len;
} hp_zmtp_command;

/* Our greeting: ZMTP 3.1, NULL, not a server. */
void hp_zmtp_greeting(uint8_t out[64]);
/* The peer's: 64 consumed, 0 need more, or as soon as the bytes show it -HP_EZMTP,
 * -HP_EZMTP_VERSION, -HP_EZMTP_MECHANISM. */
int hp_zmtp_parse_greeting(const uint8_t *buf, size_t len, hp_zmtp_peer *peer);
/* One whole frame: n > 0 bytes consumed, 0 need more, -HP_EZMTP_PROTOCOL, or -HP_EZMTP_TOO_BIG as
 * soon as the header says that the body has more than `body_max` bytes. */
int64_t hp_zmtp_parse_frame(const uint8_t *buf, size_t len, uint64_t body_max,
                            hp_zmtp_frame *frame);
/* A command frame's body, all of it: 0 or -HP_EZMTP_PROTOCOL. */
int hp_zmtp_parse_command(const uint8_t *body, uint64_t len, hp_zmtp_command *command);
/* The property `name` in a READY command's data: 1 and its value, 0 when it is not there,
 * -HP_EZMTP_PROTOCOL. */
int hp_zmtp_property(const uint8_t *data, uint64_t len, const char *name, const uint8_t **value,
                     uint64_t *value_len);
/* Whole frames for the peer, each returns its length: READY of a SUB socket; a subscription to all
 * topics that begin with `topic`, as a peer with that version of ZMTP 3 takes it (-EINVAL above
 * HP_ZMTP_TOPIC_MAX); PING without a time to live; PONG to a PING's context (-EINVAL above
 * HP_ZMTP_CONTEXT_MAX). */
int hp_zmtp_ready(uint8_t out[64]);
int hp_zmtp_subscribe(uint8_t out[64], const hp_zmtp_peer *peer, const char *topic);
int hp_zmtp_ping(uint8_t out[64]);
int hp_zmtp_pong(uint8_t out[64], const uint8_t *context, size_t len);

/* ---- the feed -------------------------------------------------------------------------------- */

enum hp_feed_topic { /* of what a Bitcoin Core node publishes (its doc/zmq.md) */
    HP_FEED_NO_TOPIC = 0,
    HP_FEED_RAWTX = 1,
    HP_FEED_SEQUENCE = 2,
};

typedef struct hp_feed_address {
    const char *name; /* the endpoint as the user wrote it */
    const char *ip;   /* numeric, v4 or v6; or NULL */
    const char *path; /* of a unix socket; or NULL */
    uint16_t port;
    uint8_t sequence; /* subscribe to `sequence` too */
} hp_feed_address;

#define HP_FEEDS_MAX 8

/* ---- what is recorded ------------------------------------------------------------------------ */

#define HP_NO_TEMPLATE 0xffff
#define HP_INTENT_OUTPOINTS 8 /* listed in one intent; HP_RECORD_SPENT has the others */
#define HP_OUTPOINT_BYTES 36  /* txid, little-endian vout */

enum hp_record_kind { /* what the payload is */
    HP_RECORD_PREAMBLE = 1, /* JSON: what the numbers of this segment mean */
    HP_RECORD_SIGNAL = 2,   /* hp_signal, then its listed hp_paid_output's */
    HP_RECORD_INTENT = 3,   /* hp_intent, then its outpoints: before the send */
    HP_RECORD_ORDER = 4,    /* hp_order_event: after the send or the refusal */
    HP_RECORD_MESSAGE = 5,  /* hp_session_note, then text from the venue */
    HP_RECORD_OPENED = 6,   /* hp_session_note, then the cipher in words: that session is open */
    HP_RECORD_CLOSED = 7,   /* hp_closed_note, then the reason in words */
    HP_RECORD_FEED = 8,     /* hp_feed_note, then words */
    HP_RECORD_BLOCK = 9,    /* hp_block_note */
    HP_RECORD_COMMAND = 10, /* hp_command_note: it was carried out */
    HP_RECORD_STATS = 11,   /* hp_stats */
    HP_RECORD_NOTICE = 12,  /* words */
    HP_RECORD_SPENT = 13,   /* txid, then the outpoints beyond those in the intent */
};

typedef struct hp_intent { /* an order that is about to leave, or would in dry-run */
    uint8_t txid[32];     /* zeros where no transaction was the reason */
    int64_t net_sat;
    int64_t timestamp_ms; /* in the order, venue time */
    int64_t t_rx_ns;      /* since when the transaction may have been here */
    int64_t t_trigger_ns; /* the rule matched */
    hp_terms terms;       /* quantity 0: not told */
    int64_t notional_e8;  /* as it counts in max_total_notional */
    uint32_t n_in;        /* outpoints that the transaction spends */
    uint32_t n_outpoints; /* that follow, at most HP_INTENT_OUTPOINTS */
    uint16_t order;       /* template; HP_NO_TEMPLATE for HP_COMMAND_ORDER */
    int16_t rule;         /* -1 for HP_COMMAND_ORDER */
    uint16_t exchange;
    uint8_t kind;         /* enum hp_kind; 0 for HP_COMMAND_ORDER */
    uint8_t live;         /* 0: dry-run */
    uint8_t armed;        /* sealed before the trigger */
    uint8_t reduces;      /* as in hp_order_request */
    char client_id[37];
    char parent[37];      /* as in hp_order_request */
    uint8_t pad[4];
} hp_intent;

enum hp_feed_note_kind { /* of what a user should know about a feed */
    HP_FEED_CONNECTED = 1,
    HP_FEED_DISCONNECTED,
    HP_FEED_UNREACHABLE,
    HP_FEED_NOT_ZMTP,
    HP_FEED_MALFORMED,
    HP_FEED_GAP,
    HP_FEED_RESTART,
    HP_FEED_TIMED_OUT,
};

typedef struct hp_feed_note {
    uint64_t count;    /* of a gap: messages missed */
    uint32_t sequence; /* that the node gave the message */
    uint16_t endpoint;
    uint8_t kind;      /* enum hp_feed_note_kind */
    uint8_t topic;
} hp_feed_note;

typedef struct hp_block_note { /* a block joined or left the node's chain */
    uint8_t hash[32];
    uint16_t endpoint;
    uint8_t label; /* 'C' connected, 'D' disconnected */
    uint8_t pad;
} hp_block_note;

#define HP_SESSIONS 2 /* with the venue, so that one takes over before the other ends: 0 and 1 */
#define HP_EVERY_SESSION (-1)

typedef struct hp_session_note { /* which session it is about */
    uint32_t session;
    uint32_t pad;
} hp_session_note;

typedef struct hp_closed_note { /* a session ended, or could not be opened */
    int32_t error;    /* -errno or -HP_E..., 0 when we closed it */
    uint8_t was_open;
    uint8_t session;
    uint8_t pad[2];
} hp_closed_note;

typedef struct hp_command_note {
    int64_t value;    /* what came with it */
    uint32_t command;
    int32_t error;    /* 0, or the code with which it was refused */
    int32_t session;  /* as it came with the command */
    uint32_t pad;
} hp_command_note;

/* ---- journal --------------------------------------------------------------------------------- */

#define HP_RECORD_BYTES_MAX (1u << 20)   /* of a payload */
#define HP_SEGMENT_BYTES_MIN (4u << 20)
#define HP_SEGMENT_BYTES (16u << 20)     /* the usual size */
#define HP_SEGMENT_BYTES_MAX (1u << 30)
#define HP_JOURNAL_RESERVE (1u << 20) /* for one transaction's orders, and usual signals */

/* An append-only log in a folder of memory-mapped segment files, NNNNNNNN.hpj: one writer, any
 * number of readers in other processes. It survives its writer's kill -9, not a loss of power: the
 * kernel writes it to the disk when it likes. See docs/journal.md. */
typedef struct hp_journal hp_journal;

typedef struct hp_record {
    uint32_t crc;         /* CRC-32C of what follows, seeded with the run; written last */
    uint32_t payload_len;
    uint64_t sequence;    /* 1, 2, 3... over the folder; 0 for a segment's preamble */
    int64_t t_ns;
    uint32_t kind;        /* enum hp_record_kind */
    uint32_t pad;
} hp_record;

/* The folder, made when it is absent (0700), is this process's to write. NULL on failure with
 * *error set: -HP_EJOURNAL_LOCKED (its file `lock` has the writer's pid), -HP_ECONFIG for a size
 * out of its bounds, -errno. Nothing can be appended before hp_journal_prepare(). */
hp_journal *hp_journal_open(const char *folder, uint64_t segment_bytes, int *error);
void hp_journal_close(hp_journal *journal);
/* One other thread, or the writer before it starts: when no segment waits, make, preallocate and
 * map the next, with `preamble` (JSON) as its first record, and let go of the one that is full. 1
 * made, 0 nothing to do, -HP_EJOURNAL for a preamble too long, -errno (-ENOSPC, -EACCES...). */
int hp_journal_prepare(hp_journal *journal, const uint8_t *preamble, size_t len);

/* The writer's thread: */
/* One record, `a` and behind it `b`. Never allocates, locks or enters the kernel. 0, -HP_EJOURNAL
 * above HP_RECORD_BYTES_MAX, or -ENOSPC when neither this segment nor a waiting one has room. */
int hp_journal_append(hp_journal *journal, uint32_t kind, int64_t t_ns, const void *a,
                      size_t a_len, const void *b, size_t b_len);
/* 1 when HP_JOURNAL_RESERVE bytes more can be appended: the condition for arming. */
int hp_journal_ready(const hp_journal *journal);
/* Bytes until -ENOSPC, as of now; each record takes 32 more than its payload, in units of 64. */
uint64_t hp_journal_room(const hp_journal *journal);
/* Write the zeros that are there to where the next records go. The kernel protects pages of a file
 * after it has written them to disk: this takes the fault, and keeps the lines in the cache. */
void hp_journal_touch(hp_journal *journal);
const uint8_t *hp_journal_run(const hp_journal *journal); /* 16 random bytes: this run's id */

typedef struct hp_journal_reader hp_journal_reader;

typedef struct hp_journal_place { /* what the reader's last call was about */
    uint64_t offset;        /* in its segment: of the record, of the damage, or of the end */
    uint64_t skipped_bytes; /* damaged: from there to the next good record */
    uint64_t missing;       /* damaged: records that the sequence lacks */
    int64_t created_epoch_ns;
    uint32_t segment;       /* the number of the file; 0: none */
    uint8_t run[16];        /* the run that wrote it */
    uint8_t torn;           /* at the end lies a record that was not finished */
} hp_journal_place;

/* Any thread or process, each reader one thread. `path` is the folder, or one segment in it. NULL
 * on failure with *error set: -HP_EJOURNAL_FILE, -ENOMEM, -errno. */
hp_journal_reader *hp_journal_reader_open(const char *path, int *error);
void hp_journal_reader_close(hp_journal_reader *reader);
/* Before the first step: leave out what the folder holds by now. */
void hp_journal_reader_skip(hp_journal_reader *reader);
/* 1 and the next record, its payload valid until the next call, and its time since the epoch; 0
 * nothing more yet: call again later. -HP_EJOURNAL_DAMAGED: something is lost here, and the next
 * call goes on behind it; -HP_EJOURNAL_FILE: a segment of another version, which is left out. */
int hp_journal_reader_next(hp_journal_reader *reader, hp_record *record, const uint8_t **payload,
                           int64_t *epoch_ns);
void hp_journal_reader_place(const hp_journal_reader *reader, hp_journal_place *place);

/* ---- the engine ------------------------------------------------------------------------------ */

enum hp_stage { /* the stages of a latency report, in the order they happen */
    HP_STAGE_DECODE = 0, /* walk over the transaction; every transaction */
    HP_STAGE_DECIDE,     /* book, kind, duplicate, rule; every transaction that decoded */
    HP_STAGE_RISK,
    HP_STAGE_BUILD, /* client id, timestamp: the patched order. This and the next three are done
                       before the trigger when the order is armed */
    HP_STAGE_SIGN,
    HP_STAGE_FRAME,
    HP_STAGE_SEAL,
    HP_STAGE_JOURNAL,       /* the intent */
    HP_STAGE_SEND,          /* submission to completion */
    HP_STAGE_FIRE_TOTAL,    /* trigger (a rule matched) to send returned */
    HP_STAGE_RAWTX_TO_SEND, /* the feed handed over the bytes to send returned */
    HP_STAGES
};

enum hp_transport { /* what carries the bytes */
    HP_TRANSPORT_URING = 0,
    HP_TRANSPORT_SYSCALL = 1, /* recv(2), send(2), ppoll(2): where io_uring is forbidden */
};

#define HP_REARM_NS_MAX INT64_C(10000000000)

typedef struct hp_engine_config {
    int64_t min_signal_sat; /* signals with a smaller net amount are not reported */
    uint64_t cooldown_ns;
    uint64_t max_orders;
    uint64_t send_timeout_ns;
    uint32_t sweep_inputs_min;
    uint32_t remembered; /* outpoints kept for duplicate suppression; a power of two */
    uint32_t message_bytes_max; /* longest message a venue may send */
    int32_t cpu;                /* where hp_engine_run() stays; -1: the kernel chooses */
    uint64_t rearm_ns;          /* age at which an armed order's timestamp is renewed */
    uint8_t live;               /* 0: dry-run, everything but the send */
    uint8_t spin;               /* hp_engine_run() never sleeps */
    uint8_t transport;          /* enum hp_transport */
} hp_engine_config;

typedef struct hp_venue_address {
    const char *ip; /* numeric, v4 or v6 */
    const char *host;
    const char *path;
    const char *ca_file; /* NULL: the system's trust store */
    uint64_t timeout_ns; /* for connect, TLS and upgrade together */
    uint16_t port;
} hp_venue_address;

typedef struct hp_order_event {
    uint8_t txid[32];
    int64_t timestamp_ms;    /* in the order, venue time; 0 when it was refused */
    int64_t rx_ns;           /* since when the transaction may have been here */
    int64_t trigger_ns;      /* when the rule matched */
    int64_t sent_ns;         /* when the send returned; 0 when nothing was sent */
    int64_t stage_ns[11];    /* by enum hp_stage; -1 where the order did not pass */
    int32_t error;           /* -errno or -HP_E... of HP_SEND_FAILED */
    uint16_t order;          /* template; HP_NO_TEMPLATE for HP_COMMAND_ORDER */
    int16_t rule;
    uint16_t exchange;
    uint8_t verdict;         /* enum hp_verdict */
    uint8_t armed;           /* was sealed before the trigger */
    char client_id[37];      /* "" when a template's was refused */
    uint8_t session;         /* that the order went to, or was tried last */
} hp_order_event;

typedef struct hp_stats {
    uint64_t transactions;
    uint64_t malformed;
    uint64_t coinbases;
    uint64_t duplicates;    /* transactions that spend an outpoint which had signalled before */
    uint64_t signals;
    uint64_t signals_unlisted; /* exchanges beyond HP_SIGNALS_MAX in one transaction */
    uint64_t orders_sent;
    uint64_t orders_dry;
    uint64_t orders_refused;
    uint64_t orders_failed;
    uint64_t pings_answered;
    uint64_t bytes_sent;
    uint64_t bytes_received;
    uint64_t records_lost;  /* the journal had no room */
    uint64_t copies;        /* transactions that another feed had brought before */
    uint64_t transactions_lost; /* by the publishers' own numbering */
    uint64_t orders_armed;  /* of those that were not refused */
} hp_stats;

typedef struct hp_latency {
    uint64_t count;
    int64_t p50_ns;
    int64_t p90_ns;
    int64_t p99_ns;
    int64_t p999_ns;
    int64_t max_ns;
} hp_latency;

typedef struct hp_engine hp_engine;

/* Book and journal must outlive the engine, or be returned by it. The engine is the journal's
 * writer. NULL on failure with *error set. */
hp_engine *hp_engine_new(const hp_engine_config *config, const hp_book *book,
                         const hp_sha256_impl *impl, hp_journal *journal, int *error);
void hp_engine_free(hp_engine *engine);

/* Set-up; each returns an index, 0 or -HP_ECONFIG / -ENOSPC / -ENOMEM. What is given is copied. A
 * rule wants its order before it, and the key where that is signed. */
int hp_engine_set_key(hp_engine *engine, const uint8_t *secret, size_t len);
int hp_engine_add_order(hp_engine *engine, const hp_order_template *order);
int hp_engine_add_rule(hp_engine *engine, const hp_rule *rule);
/* The number by which hp_feed_note and hp_block_note mean this feed. */
int hp_engine_add_feed(hp_engine *engine, const hp_feed_address *address);
/* An outpoint that has had its order, in another run: what spends it is a duplicate. */
void hp_engine_remember(hp_engine *engine, const uint8_t outpoint[36]);

/* Once, before anything below. Without it none of these limits holds; with it those that need a
 * price, the terms or the clock refuse until they are told them. */
int hp_engine_set_limits(hp_engine *engine, const hp_limits *limits);
/* One more thing that is traded; its index is what hp_terms calls the market. */
int hp_engine_add_market(hp_engine *engine);
/* What an order template trades. */
int hp_engine_set_terms(hp_engine *engine, int order, const hp_terms *terms);
/* From other runs: what is held, of one market; an order that left so long ago; an order that is
 * open, as if it had left now, and an exit as if its entry had brought so much; an order's end. Its
 * rule is -1 and its exchange HP_NOBODY where there is none, or none any more, each on its own; an
 * exit has neither, and notional 0. */
int hp_engine_set_position(hp_engine *engine, int market, int64_t position_e8);
int hp_engine_count_past(hp_engine *engine, int64_t age_ns, int64_t notional_e8, int rule,
                         int exchange);
int hp_engine_expose(hp_engine *engine, const hp_settlement *order);
int hp_engine_settle(hp_engine *engine, const hp_settlement *settlement);
/* Once; the latch must outlive the engine. From the moment in which it is seen set this engine
 * sends no order, whatever becomes of the latch. It only ever reads the mapped word: who controls
 * it has to look whether the file still is at its path, and whole. */
int hp_engine_use_latch(hp_engine *engine, hp_latch *latch);

/* ---- the hot thread */

/* The loop, until HP_COMMAND_STOP or hp_engine_abort(): feeds, orders, the venue, arming. The
 * calling thread owns the engine, and nobody else can hold it up. 0, or why it could not begin:
 * hp_engine_reason() has words for -HP_ERING.
 *
 * Every order template is armed on each session that takes orders: that is open, not held, and
 * whose socket is not full. An order goes to the preferred session if that takes it, else to the
 * other, and to one of them only (magazine.h). */
int hp_engine_run(hp_engine *engine);

enum hp_command { /* what the one controlling thread asks of the hot thread */
    HP_COMMAND_CONNECT = 1, /* hp_engine_command_connect() */
    HP_COMMAND_LISTEN,      /* the feeds may connect */
    HP_COMMAND_TEXT,        /* send this text message, which is not an order, on that session */
    HP_COMMAND_HOLD,        /* 1: that session takes no orders; with HP_EVERY_SESSION none does,
                               which is a hold of its own. 0: no longer. A new connection is held */
    HP_COMMAND_CLOCK_OFFSET, /* ms: the venue's clock minus ours, in every order's timestamp;
                                INT64_MIN: unknown, and all but exits are refused as `clock` */
    HP_COMMAND_CLOSE,       /* say goodbye to the venue on that session */
    HP_COMMAND_STOP,
    HP_COMMAND_PREFER,      /* orders go to that session first; in the beginning to 0 */
    HP_COMMAND_PRICE,       /* hp_price. Not recorded when it is taken */
    HP_COMMAND_SETTLE,      /* hp_settlement */
    HP_COMMAND_VENUE_LIMIT, /* hp_venue_limit */
    HP_COMMAND_PAUSE,       /* CLOCK_MONOTONIC ns: until then every order is `venue-limit` */
    HP_COMMAND_ENABLE,      /* order template: may be armed and fired, as from the beginning */
    HP_COMMAND_DISABLE,     /* order template: is refused as `filter` */
    HP_COMMAND_ORDER,       /* hp_order_request, then the text; the number is its timestamp_ms */
};

/* An order that was made by the controlling thread. HP_RECORD_ORDER tells what became of it. */
typedef struct hp_order_request {
    hp_terms terms;
    char client_id[37]; /* NUL behind it; 1 to HP_CLIENT_ID_LEN characters */
    char parent[37];    /* client id of the order that this one undoes, or "" */
    uint8_t reduces;    /* an exit: it lessens a position, and only killed, not-ready, journal,
                           venue-limit and duplicate hold it up */
    uint8_t orders;     /* as the venue counts them: 1, or 2 for a list */
    uint8_t pad[4];
} hp_order_request;

/* One thread, any: 0, or -ENOSPC while the hot thread does not come to it. `session` means nothing
 * to a command that is not about one. HP_RECORD_COMMAND tells what came of it. */
int hp_engine_command(hp_engine *engine, int command, int session, int64_t number,
                      const uint8_t *bytes, size_t len);
/* Close what is open on that session, then connect, TLS, upgrade: HP_RECORD_OPENED or
 * HP_RECORD_CLOSED tells. */
int hp_engine_command_connect(hp_engine *engine, int session, const hp_venue_address *venue);
enum hp_offer { /* where a transaction stands in its publisher's numbering */
    HP_OFFER_NEXT = 0,
    HP_OFFER_BEHIND_GAP,
    HP_OFFER_RESTARTED, /* the numbering went back */
};

/* One thread, any, the feed's: a transaction that it had at t_rx_ns. 0, or -ENOSPC. */
int hp_engine_offer_rawtx(hp_engine *engine, const uint8_t *raw, size_t len, int64_t t_rx_ns,
                          int offer);

/* ---- the same in single steps, for one thread that owns the engine from the first of them on */

/* Session 0: close what is open, then connect, TLS, upgrade: 0 when it is open, else the error, for
 * which hp_engine_reason() has words. */
int hp_engine_connect(hp_engine *engine, const hp_venue_address *venue);
/* One raw transaction from a feed, which had it at t_rx_ns: the number of signals, -HP_ETX_... */
int hp_engine_rawtx(hp_engine *engine, const uint8_t *raw, size_t len, int64_t t_rx_ns);
/* One turn of the loop; when nothing came, wait up to timeout_ns for something, and do meanwhile
 * what can wait. 0; -HP_ENOT_READY without a session or feed to wait for; -ECANCELED when aborted,
 * which has ended the session. */
int hp_engine_poll(hp_engine *engine, int64_t timeout_ns);
/* At once, of session 0: HP_COMMAND_TEXT, HP_COMMAND_HOLD, HP_COMMAND_CLOCK_OFFSET (of all),
 * HP_COMMAND_CLOSE. */
int hp_engine_send_text(hp_engine *engine, const uint8_t *text, size_t len);
void hp_engine_hold(hp_engine *engine, int held);
int hp_engine_set_clock_offset(hp_engine *engine, int64_t offset_ms);
int hp_engine_close(hp_engine *engine);
/* 1 when this order would be sent as it lies, sealed, by that session, or by every one that takes
 * orders, of which there must be one. */
int hp_engine_armed(const hp_engine *engine, int order, int session);

int hp_engine_ready(const hp_engine *engine); /* a session is open */
const char *hp_engine_reason(const hp_engine *engine);
/* The transport and what is used of it, in words. */
const char *hp_engine_transport(const hp_engine *engine);
const char *hp_engine_cipher(hp_engine *engine); /* session 0's */

/* ---- any thread */

/* Any thread: another built book, to be used from the next transaction or poll on. Exchanges that
 * the former book has must have the same ids in it. The book that was offered before and not
 * taken, or NULL. */
const hp_book *hp_engine_offer_book(hp_engine *engine, const hp_book *book);
/* Any thread: the book that the engine has stopped using, or NULL. As long as one waits here, no
 * other is taken. */
const hp_book *hp_engine_returned_book(hp_engine *engine);

/* Any thread: what waits for the venue, now or later, gives up with -ECANCELED within 100 ms. */
void hp_engine_abort(hp_engine *engine);

/* Any thread, and a signal handler: no order is sent any more; the latch is set: 0, or why it could
 * not be written (-errno): then the next engine would trade. */
int hp_engine_kill(hp_engine *engine);
/* Whether this engine has been told, or has seen it at its latch, which it looks at for every order
 * and once a second. */
int hp_engine_killed(const hp_engine *engine);

/* The owning thread, or anybody after hp_engine_run(). */
void hp_engine_stats(const hp_engine *engine, hp_stats *stats);
int hp_engine_latency(const hp_engine *engine, int stage, hp_latency *latency);

#endif
