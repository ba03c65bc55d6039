/* SPDX-License-Identifier: MIT */
/* Points in time and deadlines, in nanoseconds. */
#ifndef CV_CLOCK_H
#define CV_CLOCK_H

#include <stdint.h>

#define CV_FOREVER   UINT64_MAX /* a deadline that never comes */
#define CV_NS_PER_S  1000000000u
#define CV_NS_PER_MS 1000000u
#define CV_NS_PER_US 1000u

/* CLOCK_MONOTONIC: what every deadline is measured against. */
uint64_t cv_clock_now(void);

/* Since boot, suspended time included: comparable with the start times in /proc. */
uint64_t cv_clock_since_boot(void);

/*
 * The deadline that lies @timeout_s seconds ahead: 0 (already over) for zero and negative timeouts,
 * CV_FOREVER for infinity and for more than 200 years. COVEY_EINVAL for NaN.
 */
int cv_clock_deadline(double timeout_s, uint64_t *deadline_ns);

/* The seconds up to then, as a timeout; 0: it is over. */
double cv_clock_left(uint64_t deadline_ns);

void cv_clock_sleep(uint64_t ns);

#endif
