/* Every return code as a sentence. */
#include "harpoon.h"

#include <errno.h>

typedef struct sentence {
    int code;
    const char *words;
} sentence;

static const sentence sentences[] = {
    {HP_ETX_TRUNCATED, "the bytes end inside the transaction"},
    {HP_ETX_VARINT, "a length in the transaction is not in its shortest form"},
    {HP_ETX_COUNT, "a count in the transaction exceeds the bytes that follow"},
    {HP_ETX_NO_INPUTS, "the transaction has no inputs"},
    {HP_ETX_NO_OUTPUTS, "the transaction has no outputs"},
    {HP_ETX_FLAG, "the transaction's segwit flag is not 1"},
    {HP_ETX_WITNESS, "the transaction is in segwit form but has no witness"},
    {HP_ETX_VALUE, "the transaction has an amount that is negative or above 21 million BTC"},
    {HP_ETX_TRAILING, "bytes follow the transaction"},
    {HP_ETX_TOO_BIG, "the transaction is larger than a block may be"},
    {HP_EBOOK_FULL, "the address book is full"},
    {HP_EBOOK_SCRIPT, "no address stands for this script"},
    {HP_EBOOK_CONFLICT, "two exchanges claim the same script"},
    {HP_EBOOK_CROWDED, "too many scripts fall on one place of the book: build it again"},
    {HP_EBOOK_FILE, "this is no saved address book of this version"},
    {HP_EBOOK_DAMAGED, "the saved address book was cut short or changed: save it again"},
    {HP_EWS_UPGRADE, "the server did not agree to the WebSocket upgrade"},
    {HP_EWS_ACCEPT, "the server's Sec-WebSocket-Accept does not answer our key"},
    {HP_EWS_PROTOCOL, "the server sent a frame that breaks the WebSocket protocol"},
    {HP_EWS_UTF8, "the server sent a text message that is not UTF-8"},
    {HP_EWS_TOO_BIG, "the server sent a message above the size limit"},
    {HP_ETLS, "TLS failed"},
    {HP_ETLS_CERT, "the server's certificate was refused"},
    {HP_ETLS_CLOSED, "the server ended the TLS session"},
    {HP_ETLS_CA, "the CA file cannot be read or holds no certificate"},
    {HP_ERING, "io_uring is not available to this process"},
    {HP_ECONN_CLOSED, "the server closed the connection"},
    {HP_ETIME_OUT, "the server did not answer in time"},
    {HP_ENOT_READY, "there is no open session"},
    {HP_ETHREAD, "the engine belongs to another thread"},
    {HP_ECONFIG, "a setting is out of its bounds"},
    {HP_EJOURNAL, "a record is longer than the journal takes"},
    {HP_EJOURNAL_FILE, "this is no journal of this version"},
    {HP_EJOURNAL_DAMAGED, "bytes of the journal were changed or lost"},
    {HP_EJOURNAL_LOCKED, "another process writes this journal"},
    {HP_EZMTP, "what answers does not speak ZeroMQ's protocol"},
    {HP_EZMTP_VERSION, "the peer speaks a version of ZeroMQ's protocol before 3.0"},
    {HP_EZMTP_MECHANISM, "the peer wants a security mechanism other than NULL"},
    {HP_EZMTP_PROTOCOL, "the peer broke ZeroMQ's protocol"},
    {HP_EZMTP_TOO_BIG, "the peer sent a frame above the size limit"},
    {HP_ELATCH, "the file is no kill latch, or a damaged one"},
    {ENOENT, "there is no such file"},
    {ECONNREFUSED, "the connection was refused"},
    {EHOSTUNREACH, "the host cannot be reached"},
    {ENETUNREACH, "the network cannot be reached"},
    {ECONNRESET, "the connection was reset"},
    {ECONNABORTED, "the connection was aborted"},
    {ETIMEDOUT, "the connection timed out"},
    {EPIPE, "the connection is closed"},
    {EMFILE, "this process may not open more files (`ulimit -n`)"},
    {EACCES, "permission is denied"},
    {EBUSY, "it is busy"},
    {ECANCELED, "it was given up because we are told to stop"},
    {EAGAIN, "it is not ready"},
    {ENOMEM, "memory is short"},
    {ENOSPC, "there is no room left"},
    {EINVAL, "an argument makes no sense"},
    {ERANGE, "a sum leaves its range"},
    {EPERM, "the kernel does not permit it"},
    {ENOSYS, "the kernel does not have it"},
};

const char *hp_strerror(int code)
{
    int positive = code < 0 ? -code : code;
    for (size_t i = 0; i < sizeof sentences / sizeof sentences[0]; i++)
        if (sentences[i].code == positive)
            return sentences[i].words;
    return "a system error";
}
