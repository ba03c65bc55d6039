/* SPDX-License-Identifier: MIT */
/*
 * Threads that the C library does not know.
 *
 * Two duties need somebody who outlives the program's own threads and is no burden to it: keeping
 * a member's life words when the thread that held them ends, and ending a daemon with its parent.
 * Both threads sleep in the kernel, with all signals blocked, for their whole life. They are made
 * by clone() itself, so that they do not count when the C library asks whether the last thread of
 * the program has ended; they use no thread-local memory of their own, hence nothing but system
 * calls that cannot fail. (Others, which do ordinary work, are ordinary threads: cv_thread_start().)
 */
#ifndef CV_THREAD_H
#define CV_THREAD_H

#include "os/descriptor.h"
#include "os/robust.h"

#include <pthread.h>
#include <signal.h>
#include <sys/types.h>

#define CV_THREAD_NAME "covey:helper" /* of these threads, to the kernel */

/*
 * A thread of the C library's for work in the background, which uses what others use: with all signals
 * blocked, and a small stack. It ends by returning, when it is told to. 0 or a code.
 */
int cv_thread_start(pthread_t *thread, void *(*run)(void *), void *argument);

/* No signal handler runs in this thread until that is undone: what was blocked before. For who has a lock that
 * a fork takes, too: the handler may fork. */
sigset_t cv_thread_block_signals(void);
void cv_thread_restore_signals(const sigset_t *before);

/* Names the calling thread CV_THREAD_NAME. */
void cv_thread_name(void);

/* The calling thread's number, which no other thread of the system has. */
pid_t cv_thread_id(void);

/*
 * Holds the words as cv_robust_hold() does. When this thread ends before its process, they pass
 * to a thread made for that; in between they are 0 for a moment.
 */
bool cv_thread_hold(struct cv_held *held, unsigned n);

/* Lets go of them in the thread that holds them; their memory may go, too. */
void cv_thread_release(struct cv_held *held, unsigned n);

/* Is the calling thread the first one of its process? */
bool cv_thread_is_first(void);

/* The kernel is to kill this process (SIGKILL) when the thread that has forked it ends. False: it
 * will not. */
bool cv_thread_end_with_maker(void);

/* Kills this process (SIGKILL) when process @pid ends, which @pidfd names. Keeps @pidfd; without one,
 * or when the program has closed it, the process is asked for now and then. */
int cv_thread_end_with(const struct cv_descriptor *pidfd, pid_t pid);

#endif
