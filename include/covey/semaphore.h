/* SPDX-License-Identifier: MIT */
/**
 * covey/semaphore.h - permits that processes take and give back, and counters of events
 *
 * A semaphore lies in the arena, alone or inside of a structure. It has a number of permits; who
 * wants one waits until one is free. Three kinds:
 *
 *   COVEY_SEMAPHORE  Permits belong to the process that has taken them: when it ends, in whatever way,
 *                    they are free again. Released is one that the caller's process holds; if it
 *                    holds none, one that some other process holds (taken by a parent, released by its
 *                    child); if nobody holds any, there is one more.
 *   COVEY_BOUNDED    The same, but there are never more than at first: releasing when nobody holds
 *                    any is an error.
 *   COVEY_EVENTS     A counter: releasing adds one, acquiring takes one away, they belong to nobody,
 *                    and a death changes nothing. For a producer that counts what it has made and a
 *                    consumer that waits for it.
 *
 * Of the first two, whose permits come back, there may be 32,767 permits and 1,023 processes that use
 * them; a counter goes to 2,147,483,647.
 *
 * A death is not told: who guards something by a semaphore of one permit, and wants to know, takes a
 * covey_lock.
 *
 * Nobody is served before his turn on purpose, and nobody in the order of coming: a permit goes to
 * whoever is there first.
 *
 * All functions may be called by any thread of any member, at the same time, except where they say
 * otherwise.
 */
#ifndef COVEY_SEMAPHORE_H
#define COVEY_SEMAPHORE_H

#include <covey/family.h>

#ifdef __cplusplus
extern "C" {
#endif

/** enum covey_semaphore_kind - whose the permits are, and how many there may be: see above */
enum covey_semaphore_kind {
    COVEY_SEMAPHORE,
    COVEY_BOUNDED,
    COVEY_EVENTS,
};

/** covey_semaphore - 136 bytes of the arena; all of it is covey's */
typedef struct covey_semaphore {
    uint64_t signature_;
    uint32_t alarm_[2];
    uint32_t kind_;
    uint32_t signals_;
    uint32_t unused_[2];
    uint64_t share_[13];
} covey_semaphore;

/**
 * covey_semaphore_init() - make a semaphore
 * @semaphore: 136 bytes in the arena, aligned to 8
 * @value: how many permits are free at first
 * @kind: one of the three
 *
 * Nobody may be using the memory as a semaphore. Returns 0; COVEY_EINVAL when @semaphore does not lie
 * in the arena or is not aligned, or @value is negative or more than the kind can have; the codes of
 * covey_open_with().
 */
COVEY_API int covey_semaphore_init(
    covey_semaphore *semaphore, long value, enum covey_semaphore_kind kind);

/**
 * covey_semaphore_acquire() - take a permit, waiting for one
 * @semaphore: the semaphore
 * @timeout_s: how long to wait at most, in seconds; 0 or less: only try; COVEY_FOREVER
 *
 * Returns 0; COVEY_ETIMEDOUT; COVEY_EDEADLK, if the family looks for deadlocks (see covey_open()):
 * all threads of all processes that hold permits wait for what this one has (not if ever a process has
 * released a permit that it did not hold: then nobody knows who will be the next to do so); COVEY_ELIMIT when too
 * many processes use the semaphore; COVEY_ENOMEM; COVEY_EINTR; COVEY_EINVAL when @semaphore is not a
 * semaphore or the timeout not a number.
 */
COVEY_API int covey_semaphore_acquire(covey_semaphore *semaphore, double timeout_s);

/**
 * covey_semaphore_release() - give a permit back, or count an event
 * @semaphore: the semaphore
 *
 * Never waits. Returns 0; COVEY_ENOTHELD when it is bounded and nobody holds a permit; COVEY_ELIMIT
 * when there would be too many; COVEY_EINVAL when @semaphore is not a semaphore.
 */
COVEY_API int covey_semaphore_release(covey_semaphore *semaphore);

/**
 * covey_semaphore_release_many() - the same @n times
 * @semaphore: the semaphore
 * @n: how many; 0 does nothing
 *
 * One after the other; stops at the first failure. Returns as covey_semaphore_release(); COVEY_EINVAL
 * for a negative @n.
 */
COVEY_API int covey_semaphore_release_many(covey_semaphore *semaphore, long n);

/**
 * covey_semaphore_value() - how many permits are free, or how high the counter is
 *
 * At some instant during the call; those of the dead are free. Negative: COVEY_EINVAL.
 */
COVEY_API long covey_semaphore_value(covey_semaphore *semaphore);

/**
 * covey_semaphore_destroy() - make it plain memory again
 * @semaphore: the semaphore, which nobody waits for
 *
 * Calls with it then return COVEY_EINVAL. Must be called before its memory is freed: when more than
 * four processes have used it, it has memory elsewhere. Returns 0; COVEY_EINVAL when @semaphore is
 * not a semaphore.
 */
COVEY_API int covey_semaphore_destroy(covey_semaphore *semaphore);

#ifdef __cplusplus
}
#endif

#endif
