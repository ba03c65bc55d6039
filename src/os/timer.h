/* SPDX-License-Identifier: MIT */
/* The kernel as executioner: ends this process at a deadline, whatever it is doing then. */
#ifndef CV_TIMER_H
#define CV_TIMER_H

#include <stdint.h>

/* SIGKILL for this process @ns from now on; replaces an earlier one. 0 or a code. */
int cv_timer_kill_after(uint64_t ns);

/* Takes it back. */
void cv_timer_stop(void);

#endif
