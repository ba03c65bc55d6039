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
 * be others. These watch the life of somebody who does not hold it any more: so he wakes the next one,
 * who then watches his. The alarm (sync/wait.h) covers the moments between release, or taking, and
 * wake, and a woken sleeper that dies before it takes the lock. One that gives up wakes the next as
 * well: it may have been the one that watched.
 */
#ifndef CV_LOCK_H
#define CV_LOCK_H

#include "arena/object.h"
#include "base/atomic.h"
#include "os/futex.h"
#include "sync/wait.h"

#include <covey/lock.h>

#define CV_LOCK_SLEEPERS (UINT64_C(1) << 31)

enum {
    CV_LOCK_PATIENCE_NS = 50 * CV_NS_PER_MS
};

/* Takes it as @mine. 0, COVEY_EOWNERDEAD (both: taken), COVEY_ETIMEDOUT or COVEY_EINTR. */
int cv_lock_take_slowly(uint64_t *word, uint64_t mine, uint32_t *alarm, struct cv_wait *wait);

static inline bool cv_lock_try(uint64_t *word)
{
    return cv_cas64(word, 0, cv_self.mark);
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

/* The same deadline for who gives up when he is interrupted, whatever it is. */
static inline uint64_t cv_lock_until(uint64_t deadline_ns)
{
    return deadline_ns == CV_FOREVER ? CV_FOREVER - 1 : deadline_ns;
}

/* Wakes one of those who sleep. */
void cv_lock_wake(uint64_t *word);

static inline void cv_lock_exit(uint64_t *word)
{
    if (cv_exchange(word, 0) & CV_LOCK_SLEEPERS)
        cv_lock_wake(word);
}

/*
 * The lock that users have is held by a thread, where that matters: the rlock, which must know its
 * holder again, and the plain lock where deadlocks are looked for. Then the mark in its word has the
 * thread's id in the place of the pid. The count is the rlock's, how often it was taken beyond the
 * first time, and its holder's.
 */
int cv_lock_init(covey_lock *lock, enum cv_kind kind);
int cv_lock_acquire(covey_lock *lock, enum cv_kind kind, double timeout_s) __attribute__((cold));
int cv_lock_is_held(covey_lock *lock, enum cv_kind kind);
int cv_lock_destroy(covey_lock *lock, enum cv_kind kind);

/* Within a wait; without a message. */
int cv_lock_acquire_until(covey_lock *lock, enum cv_kind kind, struct cv_wait *wait);

/* COVEY_EOWNERDEAD, with its message, for the holder whose lock was taken over in this wait. */
int cv_lock_report_death(const struct cv_wait *wait);

/* What comes after the commit, @before being what was there, and clears the alarm. */
int cv_lock_end_release(covey_lock *lock, uint64_t before) __attribute__((cold));

/* Who holds it; 0: nobody. */
static inline uint64_t cv_lock_holder(const covey_lock *lock)
{
    return cv_load_relaxed(&lock->word_) & ~CV_LOCK_SLEEPERS;
}

/* The pid of who held it, in words: of a thread whose process is forgotten, its own id. */
pid_t cv_lock_pid(uint64_t mark);

/* 0 or COVEY_ENOTHELD. */
static inline int cv_lock_release(covey_lock *lock)
{
    struct robust_list_head *head = cv_robust_list();
    uint64_t before;

    cv_robust_pend_on(head, lock->alarm_);
    before = cv_exchange(&lock->word_, 0);
    if (!before || (before & CV_LOCK_SLEEPERS))
        return cv_lock_end_release(lock, before);
    cv_robust_done_on(head);
    return 0;
}

#endif
