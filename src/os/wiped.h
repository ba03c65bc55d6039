/* SPDX-License-Identifier: MIT */
/*
 * Private memory that is all zero again in every child.
 *
 * A process's identity in the family must not survive a fork, also not one that covey does not see
 * (another library's, a clone system call). The kernel wipes these pages in the child of any fork.
 * All state of covey that belongs to one process lies here, locks included; so no fork can break
 * it.
 */
#ifndef CV_WIPED_H
#define CV_WIPED_H

#include <stddef.h>

/* Zeroed memory that stays for the life of the process; NULL (with a message) if there is none. */
void *cv_wiped_alloc(size_t size);

#endif
