/* HMAC-SHA256 (RFC 2104) with the two pads compressed once, when the key is made. */
#ifndef HP_HMAC_H
#define HP_HMAC_H

#include "sha256.h"

struct hp_hmac_key {
    hp_mac_states states;
    const hp_sha256_impl *impl;
    uint64_t absorbed; /* bytes in states.inner: a pad's block and whatever was continued with */
};

/* 32 bytes as 64 lower-case hexadecimal digits, no terminator. */
void hp_hex32(const uint8_t in[32], char out[restrict 64]);

#endif
