/* SPDX-License-Identifier: MIT */
/**
 * covey/barrier.h - a place where a fixed number of parties wait for each other
 *
 * A barrier lies in the arena, alone or inside of a structure. Each party that comes waits until all
 * have come; then all go on, and the next round begins. Parties are threads, of one process or of
 * many.
 *
 * A barrier that can never be filled is *broken*: all who wait at it, and all who come, are told
 * (COVEY_EBROKEN, and the message says why), until it is reset. It breaks when
 *
 *   - a process dies that waits at it;
 *   - a process dies that has taken part in the round before (killed, crashed, or by _exit()): it is
 *     expected. One that ends in order, by exit(), by returning from its function or main, or by
 *     covey_close(), is not; nor one that has called covey_barrier_leave();
 *   - somebody's time is over, or a signal interrupts him (see covey_on_interrupt());
 *   - the action fails, or covey_barrier_abort() is called.
 *
 * All functions may be called by any thread of any member, at the same time, except where they say
 * otherwise.
 */
#ifndef COVEY_BARRIER_H
#define COVEY_BARRIER_H

#include <covey/family.h>

#ifdef __cplusplus
extern "C" {
#endif

/** covey_barrier - 144 bytes of the arena; all of it is covey's */
typedef struct covey_barrier {
    uint64_t signature_;
    uint64_t word_;
    uint64_t why_;
    uint32_t alarm_[2];
    uint32_t parties_;
    uint32_t reset_;
    uint32_t looks_;
    uint32_t unused_;
    uint64_t cells_[12];
} covey_barrier;

/**
 * covey_barrier_init() - make a barrier
 * @barrier: 144 bytes in the arena, aligned to 8
 * @parties: how many wait for each other, 1 to 16,383; of 1,023 processes at most
 *
 * Nobody may be using the memory as a barrier. Returns 0; COVEY_EINVAL when @barrier does not lie in
 * the arena or is not aligned, or for another number of parties; the codes of covey_open_with().
 */
COVEY_API int covey_barrier_init(covey_barrier *barrier, unsigned parties);

/**
 * covey_barrier_wait() - wait until all parties have come
 * @barrier: the barrier
 * @timeout_s: how long to wait at most, in seconds; COVEY_FOREVER. When it is over (at once with 0 or
 *             less, unless this party is the last), the barrier breaks
 *
 * Returns how many came before, 0 to parties - 1, different for each party of a round;
 * COVEY_EBROKEN; COVEY_ETIMEDOUT; COVEY_EINTR; COVEY_ELIMIT when too many processes use the barrier;
 * COVEY_ENOMEM; COVEY_EINVAL when @barrier is not a barrier or the timeout not a number.
 */
COVEY_API int covey_barrier_wait(covey_barrier *barrier, double timeout_s);

/**
 * covey_barrier_wait_then() - wait until all parties have come and one has done something
 * @barrier: the barrier
 * @action: called by the last party to come (each may give its own), before any goes on; if it returns
 *          other than 0, or its process dies in it, the barrier breaks
 * @context: passed to it
 * @timeout_s: how long to wait at most, in seconds, as for covey_barrier_wait(); it includes what the
 *             others' actions take
 *
 * Returns as covey_barrier_wait(); COVEY_ETASK to the party whose action has failed.
 */
COVEY_API int covey_barrier_wait_then(
    covey_barrier *barrier, int (*action)(void *context), void *context, double timeout_s);

/** covey_barrier_leave() - this process need not be expected any more; 0 or COVEY_EINVAL */
COVEY_API int covey_barrier_leave(covey_barrier *barrier);

/**
 * covey_barrier_abort() - break the barrier
 * @barrier: the barrier
 *
 * Never waits. Returns 0, also if it is broken already; COVEY_EINVAL when @barrier is not a barrier.
 */
COVEY_API int covey_barrier_abort(covey_barrier *barrier);

/**
 * covey_barrier_reset() - make the barrier as new, broken or not
 * @barrier: the barrier
 *
 * Those who wait at it get COVEY_EBROKEN; nobody is expected any more. Never waits. Returns 0;
 * COVEY_EINVAL when @barrier is not a barrier.
 */
COVEY_API int covey_barrier_reset(covey_barrier *barrier);

/** covey_barrier_is_broken() - 1 if it is broken, 0 if not; COVEY_EINVAL */
COVEY_API int covey_barrier_is_broken(covey_barrier *barrier);

/** covey_barrier_parties() - how many it was made for; COVEY_EINVAL */
COVEY_API int covey_barrier_parties(covey_barrier *barrier);

/** covey_barrier_waiting() - how many have come in this round, at some instant; COVEY_EINVAL */
COVEY_API int covey_barrier_waiting(covey_barrier *barrier);

/**
 * covey_barrier_destroy() - make it plain memory again
 * @barrier: the barrier, at which nobody waits
 *
 * Calls with it then return COVEY_EINVAL. Must be called before its memory is freed: when more than
 * four processes have used it, it has memory elsewhere. Returns 0; COVEY_ESTATE when somebody waits;
 * COVEY_EINVAL when @barrier is not a barrier.
 */
COVEY_API int covey_barrier_destroy(covey_barrier *barrier);

#ifdef __cplusplus
}
#endif

#endif
