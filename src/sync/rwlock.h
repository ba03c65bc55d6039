/* SPDX-License-Identifier: MIT */
/*
 * The reader/writer lock: a share (sync/share.h) of all the permits there can be. A reader takes one,
 * a writer all of them: those are the commits, and a dead reader's permit comes back like any other.
 * A dead writer's all come back with the word saying so; whoever is next to take any is told.
 *
 * The gate is a robust lock word (sync/lock.h) of the writer that waits: until it has got the lock,
 * or given up, no new reader comes in. A dead writer's gate is opened by whoever finds it.
 *
 * Those whom a gate keeps waiting are writers, who sleep on its word; all others sleep on the bell and
 * the share's word, each watching the lives of whom it waits for. Readers look at the gate once more
 * when they have armed the bell. (They must not sleep on it: a wake there is for a writer.) The bell is
 * rung for all, when the last permit has come back and when a writer gives up.
 */
#ifndef CV_RWLOCK_H
#define CV_RWLOCK_H

#include "sync/lock.h"
#include "sync/share.h"

#include <covey/rwlock.h>

_Static_assert(sizeof(struct cv_share) == sizeof((covey_rwlock *)0)->share_, "a share fits");

static inline struct cv_share *cv_rwlock_share(covey_rwlock *lock)
{
    return (struct cv_share *)(void *)lock->share_;
}

/* The tag of the writer that waits; 0: there is none, or it is dead. */
uint64_t cv_rwlock_gate(const covey_rwlock *lock);

#endif
