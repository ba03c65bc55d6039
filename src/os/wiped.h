/* SPDX-License-Identifier: MIT */
/*
 * Private memory that is all zero again in every child.
 *
 * A process's identity in the family must not survive a fork, also not one that covey does not see
 * (another library's, a clone system call). The kernel wipes it in the child of any fork. All state
 * of covey that belongs to one process lies there, locks included; so no fork can break it.
 */
#ifndef CV_WIPED_H
#define CV_WIPED_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A page, or more where pages have several sizes: what a static variable is aligned to so that it
 * has its pages to itself. (The type must be: then its size is a multiple of that, too.) */
#if defined(__x86_64__)
#define CV_WIPED_ALIGNMENT 4096
#else
#define CV_WIPED_ALIGNMENT 65536
#endif

/*
 * From now on the variable at @p, with @size bytes of which the first @used are ever written, is
 * wiped in children. @forking: a word of it for this file. There is one such variable; again does no
 * harm. 0, or a code with a message.
 */
int cv_wipe_on_fork(void *p, size_t size, size_t used, uint32_t *forking);

/* Will children be what this file says? 0, or a code with a message. */
int cv_wiped_check(void);

/* Is this a handler of the program's that a fork calls while this thread has all locks? (One that was
 * registered before covey was loaded.) It finds all as it should be, and must not wait for them. */
bool cv_wiped_is_forking(void);

/*
 * Other state of one process, under a lock that every fork takes, so that no child finds it half changed. In
 * a thread that has it no signal handler runs: it might fork. The lock lies in the wiped variable; so in a child
 * that was made past the C library it is free, and known to be new. Who forks has all of these locks, in
 * the order in which they were added: no thread may take two.
 */
struct cv_private {
    uint32_t *lock;
    void (*forget)(
        void); /* in a child: gives back what only the parent needs. Under the lock, more than once */
    sigset_t signals; /* what who has the lock had blocked before */
};

/* By constructors. */
void cv_private_add(struct cv_private *p);

void cv_private_lock(struct cv_private *p);
void cv_private_unlock(struct cv_private *p);

#endif
