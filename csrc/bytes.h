/* Unaligned bytes as numbers: little-endian (Bitcoin's order) and big-endian (SHA-256's). */
#ifndef HP_BYTES_H
#define HP_BYTES_H

#include <stdint.h>

static inline uint16_t hp_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t hp_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t hp_le64(const uint8_t *p)
{
    return (uint64_t)hp_le32(p) | (uint64_t)hp_le32(p + 4) << 32;
}

static inline uint32_t hp_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static inline uint64_t hp_be64(const uint8_t *p)
{
    return (uint64_t)hp_be32(p) << 32 | hp_be32(p + 4);
}

static inline void hp_store_be64(uint8_t *p, uint64_t x)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(x >> (56 - 8 * i));
}

#endif
