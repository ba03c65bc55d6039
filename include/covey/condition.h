/* SPDX-License-Identifier: MIT */
/**
 * covey/condition.h - wait, under a lock, until another process has changed something
 *
 * A condition lies in the arena, alone or inside of a structure, and belongs to a lock, a covey_lock
 * or a covey_rlock. Who holds the lock can wait: that releases the lock (however often an rlock was
 * taken), waits to be notified, and takes the lock again. Who holds the lock can notify: those who
 * have waited longest go on, as soon as they get the lock.
 *
 *     r = covey_lock_acquire(&box->lock, COVEY_FOREVER);
 *     while (r == 0 && box->empty)
 *         r = covey_condition_wait(&box->filled, COVEY_FOREVER);
 *
 * A waiter that has died is passed over; one that dies after it was notified and before it goes on
 * leaves its notification to the next. (That one may then have been woken for nothing: look again
 * what you have waited for, as above.) Who dies while holding the lock is reported to the next who
 * gets it (COVEY_EOWNERDEAD); if that death was before notifying, nobody else knows what there was to
 * notify: so he who is told should mend what the lock guards, and notify all.
 *
 * All functions may be called by any thread of any member, at the same time, except where they say
 * otherwise.
 */
#ifndef COVEY_CONDITION_H
#define COVEY_CONDITION_H

#include <covey/lock.h>
#include <covey/rlock.h>

#ifdef __cplusplus
extern "C" {
#endif

/** covey_condition - 32 bytes of the arena; all of it is covey's */
typedef struct covey_condition {
    uint64_t signature_;
    uint64_t lock_;
    uint64_t came_;
    uint64_t word_;
} covey_condition;

/**
 * covey_condition_init() - make a condition
 * @condition: 32 bytes in the arena, aligned to 8
 * @lock: a covey_lock or a covey_rlock, which must outlive it; several conditions may have the same
 *
 * Nobody may be using the memory as a condition. Returns 0; COVEY_EINVAL when @condition does not lie
 * in the arena or is not aligned, or @lock is neither; the codes of covey_open_with().
 */
COVEY_API int covey_condition_init(covey_condition *condition, void *lock);

/**
 * covey_condition_wait() - release the lock, wait to be notified, take the lock again
 * @condition: the condition, whose lock is held: an rlock by this thread, a lock by this process
 * @timeout_s: how long to wait at most to be notified, in seconds; 0 or less: not at all;
 *             COVEY_FOREVER. Taking the lock again may take longer.
 *
 * Returns, with the lock held again: 0 when notified; COVEY_ETIMEDOUT; COVEY_EINTR (see
 * covey_on_interrupt()); COVEY_EOWNERDEAD when the last holder of the lock has died, whether notified
 * or not (see covey_lock_acquire()). With the lock *not* held: COVEY_EDEADLK, if the family looks for
 * deadlocks (see covey_open()) and taking it again would be one. With nothing done: COVEY_ENOTHELD
 * when the lock is not held; COVEY_ELIMIT or COVEY_ENOMEM when too many threads wait; COVEY_EINVAL.
 */
COVEY_API int covey_condition_wait(covey_condition *condition, double timeout_s);

/**
 * covey_condition_wait_for() - wait until something is true
 * @condition: the condition, whose lock is held: an rlock by this thread, a lock by this process
 * @is_true: called with the lock held, at first and after each notification, until it returns other
 *           than 0
 * @context: passed to it
 * @timeout_s: how long to wait at most, in all, in seconds; 0 or less: not at all; COVEY_FOREVER
 *
 * Returns 0 when it is true; COVEY_ETIMEDOUT when it was not in time; else as
 * covey_condition_wait(), at once.
 */
COVEY_API int covey_condition_wait_for(
    covey_condition *condition, int (*is_true)(void *context), void *context, double timeout_s);

/**
 * covey_condition_notify() - let up to @n of those who wait go on
 * @condition: the condition, whose lock is held: an rlock by this thread, a lock by this process
 * @n: how many; those who have waited longest
 *
 * Never waits, and does not release the lock. Returns 0, also when nobody waits; COVEY_ENOTHELD when
 * the lock is not held; COVEY_EINVAL when @n is negative or @condition not a condition.
 */
COVEY_API int covey_condition_notify(covey_condition *condition, long n);

/** covey_condition_notify_all() - let all who wait go on; returns as covey_condition_notify() */
COVEY_API int covey_condition_notify_all(covey_condition *condition);

/**
 * covey_condition_destroy() - make it plain memory again
 * @condition: the condition, at which nobody waits
 *
 * Calls with it then return COVEY_EINVAL. Frees nothing. Returns 0; COVEY_ESTATE when somebody waits, or
 * was notified and has not gone on yet; COVEY_EINVAL when @condition is not a condition.
 */
COVEY_API int covey_condition_destroy(covey_condition *condition);

#ifdef __cplusplus
}
#endif

#endif
