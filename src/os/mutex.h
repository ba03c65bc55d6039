/* SPDX-License-Identifier: MIT */
/*
 * A lock for the threads of one process, who sleep while they wait: one with a real-time priority that only gave
 * way would keep the CPU from who has the lock.
 *
 * Its word is 0, or names the process whose thread had it last, and says whether one has it and whether others
 * may sleep. A child that was made past the C library finds another process there: then it is free.
 */
#ifndef CV_MUTEX_H
#define CV_MUTEX_H

#include <stdbool.h>
#include <stdint.h>

/* True: no thread of this process had it before. Leaves errno as it is. */
bool cv_mutex_lock(uint32_t *word);
void cv_mutex_unlock(uint32_t *word);

/* In the child of a fork, where who had it is not. */
void cv_mutex_reset(uint32_t *word);

#endif
