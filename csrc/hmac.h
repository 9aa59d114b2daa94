/* HMAC-SHA256 (RFC 2104) with the two pads compressed once, when the key is made. */
#ifndef HP_HMAC_H
#define HP_HMAC_H

#include "sha256.h"

struct hp_hmac_key {
    const hp_sha256_impl *impl;
    uint32_t inner[8]; /* state after the block key ^ ipad */
    uint32_t outer[8]; /* state after the block key ^ opad */
};

/* 32 bytes as 64 lower-case hexadecimal digits, no terminator. */
void hp_hex32(const uint8_t in[32], char out[restrict 64]);

#endif
