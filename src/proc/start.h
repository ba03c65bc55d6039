/* SPDX-License-Identifier: MIT */
/*
 * Starting processes, seen from both sides.
 *
 * A fresh image of the program is told what to be by its arguments,
 *
 *     PROGRAM --covey-child FD:BASE:SIZE:TAG:TRIES:FLAGS
 *
 * the family's memory and where it is mapped, the slot that was reserved for it (arena/member.h)
 * and one or more letters. What to run lies in a block of the arena that carries the child's tag:
 * so it is freed if the child dies before it takes it, or never comes to life because its parent
 * has died.
 */
#ifndef CV_START_H
#define CV_START_H

#include "proc/process.h"

/* In a child that cannot do what it was started for: leaves the last failure in its record. */
__attribute__((noreturn)) void cv_start_fail(covey_process *process);

/* The function and argument of a child, in a block of its own. */
int cv_start_write_arguments(covey_process *process, const struct covey_process_options *options);

/* A fresh image for @process; @socket is the fork server's, if it is to be that, or -1. */
int cv_start_image(covey_process *process, int socket);

/* In a child that the fork server has just forked: becomes the member, runs, and exits. */
__attribute__((noreturn)) void cv_start_be_served(uint64_t tag);

/*
 * Hands @process to the fork server, which is started if there is none. COVEY_EDIED: that died, and
 * @process was not started and has been withdrawn.
 */
int cv_server_start(covey_process *process);

/* The fork server of this process, if any, is to end, or has. */
void cv_server_forget(void);

/* The server's own main loop. */
__attribute__((noreturn)) void cv_server_main(int socket);

#endif
