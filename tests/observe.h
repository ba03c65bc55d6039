/* SPDX-License-Identifier: MIT */
/* What tests ask the system. */
#ifndef OBSERVE_H
#define OBSERVE_H

void test_sleep_ms(unsigned ms);
double test_now_s(void);

/* What the process is doing: R, S, T, Z and so on, as in /proc/PID/stat; 0: there is none. */
char test_state_of(int pid);

/* A field of /proc/PID/status as a number, such as "VmRSS" or "voluntary_ctxt_switches"; -1. */
long test_status_of(int pid, const char *field);

/* The threads of this process that covey has made, and that have not yet ended, for the kernel. */
unsigned test_helper_threads(void);

/* How often these have given up the CPU. */
long test_helper_switches(void);

/* Of this process, without the family's own: if its joining thread has ended, it keeps that. */
unsigned test_open_descriptors(void);

#endif
