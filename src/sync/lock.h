/* SPDX-License-Identifier: MIT */
/*
 * The robust lock: a word, taken by one compare-exchange with the taker's mark.
 *
 *   0           free
 *   mark        held by that process
 *   mark|FLAG   held, and somebody may be sleeping
 *
 * The mark is a process's short tag, its pid (so that it can be named when its slot is another's),
 * and ten more bits of its generation: 26 in all, so the mark of a dead process means a living one
 * only if its slot has been used exactly 2^26 times since, and nobody has tried the lock meanwhile.
 *
 * Anybody writes it, by compare-exchange or exchange only; the commit of taking and of releasing
 * is that one operation. A kill leaves the mark of a dead process: whoever finds it takes the lock
 * over, mark for mark, and is told so by COVEY_EOWNERDEAD; what the lock guards is then his to mend.
 *
 * The sleeper sets the flag, and sleeps on the word and on the holder's life. The releaser wakes
 * one sleeper if the flag was set; that one takes the lock with the flag set again, for there may
 * be others. These still watch the life of the holder before: so it wakes one of them, which finds
 * the lock held, and sleeps again, on the life of the new holder. (If somebody who did not sleep
 * was faster, the woken one watches him.) Of those who sleep, one at least always watches the
 * holder. The alarm (sync/wait.h) covers the moment between release and wake, and a woken sleeper
 * that dies before it takes the lock, or before it has passed the wake on.
 */
#ifndef CV_LOCK_H
#define CV_LOCK_H

#include "arena/member.h"
#include "base/atomic.h"
#include "os/futex.h"
#include "sync/wait.h"

#include <covey/lock.h>

#define CV_LOCK_SLEEPERS (UINT64_C(1) << 31)

enum {
    CV_LOCK_PATIENCE_NS = 50 * CV_NS_PER_MS
};

/* The half of the word with tag and flag; all supported machines are little-endian. */
static inline uint32_t *cv_lock_low(uint64_t *word)
{
    return (uint32_t *)(void *)word;
}

/* 0, COVEY_EOWNERDEAD (both: taken), COVEY_ETIMEDOUT or COVEY_EINTR. */
int cv_lock_take_slowly(uint64_t *word, uint32_t *alarm, struct cv_wait *wait);

static inline bool cv_lock_try(uint64_t *word)
{
    return cv_cas64(word, 0, cv_self->mark);
}

static inline pid_t cv_lock_pid(uint64_t word)
{
    return (pid_t)(word >> 32 & 0x3fffff);
}

/*
 * For locks inside of covey's objects, whose operations have the object's alarm pending all the
 * time. Holders are quick, or dead, or stopped in the middle: so it waits until @deadline_ns, and
 * for CV_LOCK_PATIENCE_NS at least. 0 or COVEY_EOWNERDEAD: entered; COVEY_ETIMEDOUT; COVEY_EINTR,
 * but not with CV_FOREVER.
 */
int cv_lock_enter_slowly(uint64_t *word, uint32_t *alarm, uint64_t deadline_ns);

static inline int cv_lock_enter(uint64_t *word, uint32_t *alarm, uint64_t deadline_ns)
{
    return cv_lock_try(word) ? 0 : cv_lock_enter_slowly(word, alarm, deadline_ns);
}

static inline void cv_lock_exit(uint64_t *word)
{
    if (cv_exchange(word, 0) & CV_LOCK_SLEEPERS)
        (void)cv_futex_wake(cv_lock_low(word), 1);
}

#endif
