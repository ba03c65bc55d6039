/* SPDX-License-Identifier: MIT */
/*
 * The reader/writer lock: a share (sync/share.h) of all the permits there can be. A reader takes one,
 * but never the last, a writer all of them: those are the commits, and tell one from the other. A dead
 * reader's permit comes back like any other. A dead writer's all come back with the word saying so, and
 * @died saying who it was (a name for people: who is very late in writing it leaves an older one). It
 * goes on saying so until a writer takes all: whoever takes a permit before, or takes them, is told.
 *
 * The gate is a robust lock word (sync/lock.h) of the writer that waits: until it has got the lock,
 * or given up, no new reader comes in. A dead writer's gate is opened by whoever finds it. What the dead
 * held is made free also by a reader before the gate, that does not get it: he at the gate may be stopped.
 *
 * Writers sleep at the gate, for each other, and the one that has it on the bell, like all readers. Each
 * watches the lives of whom it waits for, and sleeps only if the share's version is still that of the
 * word which said so. The bell is rung for all: when a writer releases the lock (though another may have
 * it already: he is to be watched); when the last reader does (the same), or any with nobody at the gate
 * (then those who sleep are readers for whom there were too many); when a writer gives up; and by a
 * reader that came in while the gate was being closed, for the writer to watch it.
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
