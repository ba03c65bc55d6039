/* SPDX-License-Identifier: MIT */
/**
 * covey/lock.h - a lock that no death can keep
 *
 * A lock lies in the arena, alone or inside of a structure, and serves processes and threads alike.
 * When the process that holds it dies, the next one that wants it gets it, and is told. Free, it
 * costs one atomic operation to take and one to release; the kernel is called only to sleep and to
 * wake a sleeper.
 *
 *     struct account { covey_lock lock; long total; } *account = covey_calloc(1, sizeof *account);
 *
 *     covey_lock_init(&account->lock);
 *     r = covey_lock_acquire(&account->lock, COVEY_FOREVER);
 *     if (r == COVEY_EOWNERDEAD)
 *         repair(account);
 *     account->total++;
 *     covey_lock_release(&account->lock);
 *
 * A lock belongs to a process: a thread that ends without releasing keeps it locked as long as its
 * process lives, and the child of a fork holds nothing of its parent's. A process that ends in order, or
 * leaves the family, while it holds a lock has died as well, as far as the lock is concerned.
 *
 * All functions may be called by any thread of any member, at the same time, except where they say
 * otherwise.
 */
#ifndef COVEY_LOCK_H
#define COVEY_LOCK_H

#include <covey/family.h>

#ifdef __cplusplus
extern "C" {
#endif

/** covey_lock - 32 bytes of the arena; all of it is covey's */
typedef struct covey_lock {
    uint64_t signature_;
    uint64_t word_;
    uint32_t alarm_[2];
    uint32_t count_;
    uint32_t unused_;
} covey_lock;

/**
 * covey_lock_init() - make a lock
 * @lock: 32 bytes in the arena, aligned to 8
 *
 * Nobody may be using the memory as a lock. Returns 0; COVEY_EINVAL when @lock does not lie in the
 * arena or is not aligned; the codes of covey_open_with().
 */
COVEY_API int covey_lock_init(covey_lock *lock);

/**
 * covey_lock_acquire() - take the lock, waiting for it
 * @lock: the lock
 * @timeout_s: how long to wait at most, in seconds; 0 or less: only try; COVEY_FOREVER
 *
 * Not recursive: a thread that holds the lock and takes it again waits for itself; covey_rlock can
 * be taken again.
 *
 * Returns 0; COVEY_EOWNERDEAD when the lock is taken as well, and to be released as ever, but its
 * last holder has died: what it guards may be half changed, and the message names the pid (said
 * once; the next one gets 0); COVEY_ETIMEDOUT; COVEY_EDEADLK, if the family looks for deadlocks (see
 * covey_open()); COVEY_EINTR; COVEY_EINVAL when @lock is not a lock or the timeout not a number.
 */
COVEY_API int covey_lock_acquire(covey_lock *lock, double timeout_s);

/**
 * covey_lock_release() - release the lock
 * @lock: the lock
 *
 * Any thread or process may release it, not only its holder. Never waits.
 *
 * Returns 0; COVEY_ENOTHELD when nobody holds it; COVEY_EINVAL when @lock is not a lock.
 */
COVEY_API int covey_lock_release(covey_lock *lock);

/**
 * covey_lock_is_held() - whether somebody holds it, at some instant during the call
 * @lock: the lock
 *
 * For monitors and tests: who wants the lock tries to take it. Never waits. Returns 1; 0 when it is
 * free, also because its holder has died; COVEY_EINVAL when @lock is not a lock.
 */
COVEY_API int covey_lock_is_held(covey_lock *lock);

/**
 * covey_lock_destroy() - make it plain memory again
 * @lock: the lock, which nobody holds or waits for
 *
 * Calls with it then return COVEY_EINVAL. Frees nothing. Returns 0; COVEY_ESTATE when it is held, also
 * by one who has died (then acquire and release it first); COVEY_EINVAL when @lock is not a lock.
 */
COVEY_API int covey_lock_destroy(covey_lock *lock);

#ifdef __cplusplus
}
#endif

#endif
