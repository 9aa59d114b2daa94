/* What this library was built with, for the line above every benchmark. */
#include "harpoon.h"

#include <openssl/opensslv.h>

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

const char *hp_build(void)
{
    return COMPILER ", " OPENSSL_VERSION_TEXT;
}
