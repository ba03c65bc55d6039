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

#include <stddef.h>

/* A page, or more where pages have several sizes: what a static variable is aligned to so that it
 * has its pages to itself. (The type must be: then its size is a multiple of that, too.) */
#if defined(__x86_64__)
#define CV_WIPED_ALIGNMENT 4096
#else
#define CV_WIPED_ALIGNMENT 65536
#endif

/*
 * From now on the variable at @p, with @size bytes of which the first @used are ever written, is
 * wiped in children. There is one such variable; again does no harm. 0, or a code with a message.
 */
int cv_wipe_on_fork(void *p, size_t size, size_t used);

/*
 * For other private state, around every fork() of the C library's: what is called before it, so that nobody
 * is just changing it; after it in the parent; and in the child, to give back what only the parent needs.
 * By constructors.
 */
void cv_wiped_set_forks(void (*before)(void), void (*after)(void), void (*forget)(void));

#endif
