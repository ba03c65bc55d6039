/* SPDX-License-Identifier: MIT */
/**
 * covey/rlock.h - a lock that its holder may take again
 *
 * As covey_lock (covey/lock.h), but held by a *thread*, which may take it any number of times and
 * must release it as often; nobody else can release it. A thread that ends without having done so
 * keeps it locked as long as its process lives. The child of a fork holds nothing of its parent's.
 *
 * All functions may be called by any thread of any member, at the same time, except where they say
 * otherwise.
 */
#ifndef COVEY_RLOCK_H
#define COVEY_RLOCK_H

#include <covey/lock.h>

#ifdef __cplusplus
extern "C" {
#endif

/** covey_rlock - 32 bytes of the arena; all of it is covey's */
typedef struct covey_rlock {
    covey_lock lock_;
} covey_rlock;

/**
 * covey_rlock_init() - make a lock that can be taken again
 * @lock: 32 bytes in the arena, aligned to 8
 *
 * Nobody may be using the memory as a lock. Returns 0; COVEY_EINVAL when @lock does not lie in the
 * arena or is not aligned; the codes of covey_open_with().
 */
COVEY_API int covey_rlock_init(covey_rlock *lock);

/**
 * covey_rlock_acquire() - take the lock, waiting for it, or take it once more
 * @lock: the lock
 * @timeout_s: how long to wait at most, in seconds; 0 or less: only try; COVEY_FOREVER
 *
 * Returns 0; COVEY_EOWNERDEAD when the lock is taken as well, but its last holder has died (told once,
 * see covey_lock_acquire()): it is held one time then, however often that one had taken it;
 * COVEY_ETIMEDOUT; COVEY_EDEADLK, if the family looks for deadlocks; COVEY_ELIMIT after 4,294,967,295
 * times; COVEY_EINTR; COVEY_EINVAL when @lock is not an rlock or the timeout not a number.
 */
COVEY_API int covey_rlock_acquire(covey_rlock *lock, double timeout_s);

/**
 * covey_rlock_release() - release the lock once
 * @lock: the lock, held by the calling thread
 *
 * Never waits. Returns 0; COVEY_ENOTHELD when this thread does not hold it; COVEY_EINVAL when @lock is
 * not an rlock.
 */
COVEY_API int covey_rlock_release(covey_rlock *lock);

/**
 * covey_rlock_is_held() - whether somebody holds it, at some instant during the call
 * @lock: the lock
 *
 * For monitors and tests: who wants the lock tries to take it. Never waits. Returns 1; 0 when it is
 * free, also because its holder has died; COVEY_EINVAL when @lock is not an rlock.
 */
COVEY_API int covey_rlock_is_held(covey_rlock *lock);

/**
 * covey_rlock_destroy() - make it plain memory again
 * @lock: the lock, which nobody holds or waits for
 *
 * Calls with it then return COVEY_EINVAL. Frees nothing. Returns 0; COVEY_ESTATE when it is held, also
 * by one who has died (then acquire and release it first); COVEY_EINVAL when @lock is not an rlock.
 */
COVEY_API int covey_rlock_destroy(covey_rlock *lock);

#ifdef __cplusplus
}
#endif

#endif
