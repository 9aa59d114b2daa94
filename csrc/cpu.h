/* Which instruction sets this CPU has, asked of CPUID where there is one. */
#ifndef HP_CPU_H
#define HP_CPU_H

int hp_cpu_has_sha(void); /* SHA-NI, with the SSSE3 and SSE4.1 it is used with */
int hp_cpu_has_avx2(void);
int hp_cpu_has_avx512(void); /* the F and BW parts */

#endif
