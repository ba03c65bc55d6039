/* SPDX-License-Identifier: MIT */
/* How many CPUs this process may use. */
#ifndef CV_CPU_H
#define CV_CPU_H

#include <stddef.h>

/* The smaller of the affinity mask and the CPU quota of the control group, rounded up; at least 1.
 */
unsigned cv_cpu_usable(void);

/* The affinity mask alone; what decides whether spinning can ever help. */
unsigned cv_cpu_affinity(void);

/* Bytes of the largest cache that a CPU has for itself, as far as is known. */
size_t cv_cpu_cache(void);

/* Lets others run that can. */
void cv_cpu_yield(void);

#endif
