/* SPDX-License-Identifier: MIT */
/**
 * covey/rwlock.h - a lock for many readers or one writer
 *
 * It lies in the arena, alone or inside of a structure. Any number of readers may hold it at the same
 * time (32,766, of 1,023 processes), or one writer. When a reader dies, nothing has happened; when a
 * writer dies, all who get the lock are told, up to the next writer.
 *
 * A writer that waits keeps new readers out, so that there is an end to the reading; readers wait as
 * long as there are writers. So a thread that holds it for reading must not ask for it again: if a
 * writer has come in between, each waits for the other; and to write it must release it first.
 *
 * Who reads and is told that the last writer has died cannot mend what he sees: he should release the
 * lock and take it for writing. That one is told again, if nobody has come before him.
 *
 * What a process holds it may release in any of its threads. The child of a fork holds nothing of its
 * parent's.
 *
 * All functions may be called by any thread of any member, at the same time, except where they say
 * otherwise.
 */
#ifndef COVEY_RWLOCK_H
#define COVEY_RWLOCK_H

#include <covey/family.h>

#ifdef __cplusplus
extern "C" {
#endif

/** covey_rwlock - 144 bytes of the arena; all of it is covey's */
typedef struct covey_rwlock {
    uint64_t signature_;
    uint64_t gate_;
    uint32_t alarm_[2];
    uint32_t bell_[2];
    uint64_t share_[13];
    uint64_t died_;
} covey_rwlock;

/**
 * covey_rwlock_init() - make a reader/writer lock
 * @lock: 144 bytes in the arena, aligned to 8
 *
 * Nobody may be using the memory as a lock. Returns 0; COVEY_EINVAL when @lock does not lie in the
 * arena or is not aligned; the codes of covey_open_with().
 */
COVEY_API int covey_rwlock_init(covey_rwlock *lock);

/**
 * covey_rwlock_acquire_read() - take the lock for reading, waiting for writers
 * @lock: the lock
 * @timeout_s: how long to wait at most, in seconds; 0 or less: only try; COVEY_FOREVER
 *
 * Returns 0; COVEY_EOWNERDEAD when the lock is taken as well, but the last writer has died: what the
 * lock guards may be half changed, and the message names the pid; COVEY_ETIMEDOUT;
 * COVEY_EDEADLK, if the family looks for deadlocks (see covey_open()); COVEY_ELIMIT when too many
 * processes use the lock; COVEY_ENOMEM; COVEY_EINTR; COVEY_EINVAL when @lock is not an rwlock or the
 * timeout not a number.
 */
COVEY_API int covey_rwlock_acquire_read(covey_rwlock *lock, double timeout_s);

/**
 * covey_rwlock_acquire_write() - take the lock for writing, waiting for readers and writers
 * @lock: the lock
 * @timeout_s: how long to wait at most, in seconds; 0 or less: only try; COVEY_FOREVER
 *
 * Returns as covey_rwlock_acquire_read().
 */
COVEY_API int covey_rwlock_acquire_write(covey_rwlock *lock, double timeout_s);

/**
 * covey_rwlock_release() - release what this process holds: the lock for writing, or once for reading
 * @lock: the lock
 *
 * Never waits. Returns 0; COVEY_ENOTHELD when this process does not hold it; COVEY_EINVAL when @lock
 * is not an rwlock.
 */
COVEY_API int covey_rwlock_release(covey_rwlock *lock);

/**
 * covey_rwlock_destroy() - make it plain memory again
 * @lock: the lock, which nobody holds or waits for
 *
 * Calls with it then return COVEY_EINVAL. Must be called before its memory is freed: when more than
 * four processes have used it, it has memory elsewhere. Returns 0; COVEY_ESTATE when it is held;
 * COVEY_EINVAL when @lock is not an rwlock.
 */
COVEY_API int covey_rwlock_destroy(covey_rwlock *lock);

#ifdef __cplusplus
}
#endif

#endif
