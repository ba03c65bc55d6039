/* SPDX-License-Identifier: MIT */
/* Other processes: naming them safely, signalling them, and proving that they are gone. */
#ifndef CV_PID_H
#define CV_PID_H

#include "os/descriptor.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A descriptor that names process @pid, and no later one with its number. Close-on-exec. */
int cv_pid_open(pid_t pid, struct cv_descriptor *pidfd);

/* 0, or COVEY_EDIED, without a message, when the process has ended. */
int cv_pid_signal(int pidfd, int signal);

/* The same for a child that has no descriptor here: it keeps its pid until it is reaped. */
int cv_pid_signal_child(pid_t pid, int signal);

/* Waits until the process has ended: 0, COVEY_ETIMEDOUT, or COVEY_EINTR after a signal handler. */
int cv_pid_wait(int pidfd, uint64_t deadline_ns);

/*
 * Is the process that had number @pid at time @seen_ns (cv_clock_since_boot) still running, with
 * the file of @memory mapped (NULL: any)? The kernel's word, never a guess: when it cannot be had
 * (no descriptors left, no permission), the answer is yes. A process that is about to end is
 * waited for, up to @patience_ns. A zombie has ended; so has, for the family, one that called exec.
 */
bool cv_pid_lives(
    pid_t pid, uint64_t seen_ns, const struct cv_descriptor *memory, uint64_t patience_ns);

/*
 * How has a child of this process ended? 1 when *status was set (as of waitpid), 0 when it still
 * runs, COVEY_ESTATE when the kernel says that it is not a child of this process (any more). It
 * stays a zombie, so that several can look. Never blocks. @pidfd: -1 if there is none.
 */
int cv_pid_look(pid_t pid, int pidfd, int *status);

/* Takes the zombie away: once, for then its number may be another child's. */
void cv_pid_reap(pid_t pid);

/* The ids of its threads, covey's own (os/thread.h) left out: up to @max of them. How many there are;
 * 0: unknown. */
unsigned cv_pid_threads(pid_t pid, uint32_t *tids, unsigned max);

/* How a process ended that somebody else has reaped; Linux 6.15 and later. */
bool cv_pid_exit_info(int pidfd, int *status);

#endif
