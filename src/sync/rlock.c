/* SPDX-License-Identifier: MIT */
#include "base/error.h"
#include "base/mutation.h"
#include "sync/lock.h"

#include <covey/rlock.h>

static covey_lock *base(covey_rlock *lock)
{
    return (covey_lock *)(void *)lock; /* which may be anything yet */
}

int covey_rlock_init(covey_rlock *lock)
{
    return cv_lock_init(base(lock), CV_RLOCK);
}

CV_SLOW static int acquire_slowly(covey_rlock *lock, double timeout_s)
{
    int r = cv_object_check(lock, CV_RLOCK);

    if (r == 0 && cv_lock_holder(&lock->lock_) == cv_waiter_me())
        return cv_fail(COVEY_ELIMIT, "rlock %p was taken %u times", (void *)lock, UINT32_MAX);
    if (r == 0)
        r = cv_lock_acquire(base(lock), CV_RLOCK, timeout_s);
    if (r == COVEY_EOWNERDEAD && CV_RECOVERS(rlock_count))
        lock->lock_.count_ = 0; /* the dead one's */
    return r;
}

int covey_rlock_acquire(covey_rlock *lock, double timeout_s)
{
    if (cv_object_is(lock, CV_RLOCK) && timeout_s == timeout_s) {
        uint64_t me = cv_waiter_me();
        uint64_t now = 0;

        if (cv_cas(&lock->lock_.word_, &now, me))
            return 0;
        if ((now & ~CV_LOCK_SLEEPERS) == me && lock->lock_.count_ < UINT32_MAX - 1) {
            lock->lock_.count_++;
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
    if (cv_lock_holder(&lock->lock_) != cv_waiter_me())
        return cv_fail(COVEY_ENOTHELD, "rlock %p is not held by this thread", (void *)lock);
    if (lock->lock_.count_) {
        lock->lock_.count_--;
        return 0;
    }
    return cv_lock_release(&lock->lock_);
}

int covey_rlock_is_held(covey_rlock *lock)
{
    return cv_lock_is_held(base(lock), CV_RLOCK);
}

int covey_rlock_destroy(covey_rlock *lock)
{
    return cv_lock_destroy(base(lock), CV_RLOCK);
}
