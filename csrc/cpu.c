#include "cpu.h"

#if defined(__x86_64__)

#include <cpuid.h>

/* Intel SDM volume 2A, CPUID: leaf 1 ECX bits 9 and 19, leaf 7 EBX bit 29. All three work on the
 * SSE registers, which every x86-64 system saves, so XGETBV need not be asked. */
int hp_cpu_has_sha(void)
{
    const unsigned sse = bit_SSSE3 | bit_SSE4_1;
    unsigned eax, ebx, ecx, edx;

    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & sse) != sse)
        return 0;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & bit_SHA) != 0;
}

/* Wider registers need a system that saves them, which the compiler's own test asks too. */
int hp_cpu_has_avx2(void)
{
    return __builtin_cpu_supports("avx2") != 0;
}

int hp_cpu_has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

#else

int hp_cpu_has_sha(void)
{
    return 0;
}

int hp_cpu_has_avx2(void)
{
    return 0;
}

int hp_cpu_has_avx512(void)
{
    return 0;
}

#endif
