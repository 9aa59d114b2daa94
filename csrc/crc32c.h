/* CRC-32C (Castagnoli, RFC 3720 B.4): polynomial 0x1EDC6F41, reflected. */
#ifndef HP_CRC32C_H
#define HP_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum goes on from `crc`, which is 0 at the start. */
typedef uint32_t hp_crc32c_fn(uint32_t crc, const void *data, size_t len);

hp_crc32c_fn hp_crc32c_portable;
/* The fastest way that this CPU has. */
hp_crc32c_fn *hp_crc32c_choose(void);

#endif
