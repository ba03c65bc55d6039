/* SPDX-License-Identifier: MIT */
#include "base/error.h"
#include "sync/lock.h"

#include <covey/rlock.h>

static covey_lock *base(covey_rlock *lock)
{
    return (covey_lock *)(void *)lock; /* which may be anything yet */
}

/* In a process that is a member. */
static inline bool is_mine(const covey_rlock *lock)
{
    return cv_load_relaxed(&lock->lock_.holder_) == cv_waiter_me();
}

int covey_rlock_init(covey_rlock *lock)
{
    return cv_lock_init(base(lock), CV_RLOCK);
}

CV_SLOW static int acquire_slowly(covey_rlock *lock, double timeout_s)
{
    int r = cv_object_check(lock, CV_RLOCK);

    if (r == 0 && is_mine(lock))
        return cv_fail(COVEY_ELIMIT, "rlock %p was taken %u times", (void *)lock, UINT32_MAX);
    if (r == 0)
        r = cv_lock_acquire(base(lock), CV_RLOCK, timeout_s);
    if (r == 0 || r == COVEY_EOWNERDEAD)
        lock->lock_.count_ = 1;
    return r;
}

int covey_rlock_acquire(covey_rlock *lock, double timeout_s)
{
    if (cv_object_is(lock, CV_RLOCK) && timeout_s == timeout_s) {
        if (is_mine(lock) && lock->lock_.count_ < UINT32_MAX) {
            lock->lock_.count_++;
            return 0;
        }
        if (cv_lock_try(&lock->lock_.word_)) {
            cv_store_relaxed(&lock->lock_.holder_, cv_waiter_me());
            lock->lock_.count_ = 1;
            return 0;
        }
    }
    return acquire_slowly(lock, timeout_s);
}

int covey_rlock_release(covey_rlock *lock)
{
    int r = cv_object_check(lock, CV_RLOCK);

    if (r != 0)
        return r;
    if (!is_mine(lock))
        return cv_fail(COVEY_ENOTHELD, "rlock %p is not held by this thread", (void *)lock);
    return --lock->lock_.count_ ? 0 : cv_lock_release(&lock->lock_);
}

int covey_rlock_destroy(covey_rlock *lock)
{
    return cv_lock_destroy(base(lock), CV_RLOCK);
}
