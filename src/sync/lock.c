/* SPDX-License-Identifier: MIT */
#include "sync/lock.h"

#include "arena/family.h"
#include "base/error.h"
#include "base/mutation.h"

enum {
    MAGIC = 0x6b636f6c
}; /* "lock" */

int cv_lock_take_slowly(uint64_t *word, uint32_t *alarm, struct cv_wait *wait)
{
    uint64_t mine = cv_self->mark;
    int r = CV_WAIT_AGAIN;

    for (;;) {
        uint64_t now = cv_load_acquire(word);
        uint64_t holder = now & ~CV_LOCK_SLEEPERS;
        uint64_t owner = holder ? cv_member_marked(holder) : 0;
        struct cv_futex_watch watch = {cv_lock_low(word), (uint32_t)(now | CV_LOCK_SLEEPERS)};

        if (!holder || (CV_RECOVERS(lock_takeover) && (!owner || cv_member_is_past(owner)))) {
            if (!cv_cas64(word, now, mine | (now & CV_LOCK_SLEEPERS)))
                continue;
            wait->dead_owner = holder;
            if ((mine & CV_LOCK_SLEEPERS) &&
                CV_RECOVERS(lock_next)) /* one of them is to watch this life now */
                (void)cv_futex_wake(watch.word, 1);
            return holder ? COVEY_EOWNERDEAD : 0;
        }
        if (r < 0) /* only now, for the wake of the lock's release may have been for this thread */
            return r;
        if (cv_wait_spin(wait, watch.word, (uint32_t)now))
            continue;
        if (wait->deadline_ns != 0 && !(now & CV_LOCK_SLEEPERS) &&
            !cv_cas64(word, now, now | CV_LOCK_SLEEPERS))
            continue;
        r = cv_wait_sleep(wait, alarm, &watch, 1, &owner, 1);
        mine |= CV_LOCK_SLEEPERS; /* from now on: others may sleep, too */
    }
}

int cv_lock_enter_slowly(uint64_t *word, uint32_t *alarm, uint64_t deadline_ns)
{
    uint64_t patience_ns = cv_clock_now() + CV_LOCK_PATIENCE_NS;
    struct cv_wait wait = {.deadline_ns = deadline_ns > patience_ns ? deadline_ns : patience_ns};
    int r;

    do {
        r = cv_lock_take_slowly(word, alarm, &wait);
    } while (r == COVEY_EINTR && deadline_ns == CV_FOREVER);
    wait.alarm = NULL; /* it stays pending for the operation that this lock is part of */
    cv_wait_end(&wait);
    return r;
}

/* Public ************************************************************************************* */

static int check(const covey_lock *lock)
{
    int r = cv_enter();

    if (r != 0)
        return r;
    if (!cv_arena_has(lock, sizeof *lock, 8) || cv_load_relaxed(&lock->magic_) != MAGIC)
        return cv_fail_object(lock, "lock");
    return 0;
}

int covey_lock_init(covey_lock *lock)
{
    int r = cv_enter();

    if (r != 0)
        return r;
    if (!cv_arena_has(lock, sizeof *lock, 1))
        return cv_fail(COVEY_EINVAL,
            "%p is not in the family's arena, where covey_alloc() has memory for a lock",
            (void *)lock);
    if ((uintptr_t)lock % 8)
        return cv_fail(COVEY_EINVAL, "%p is not aligned to 8 bytes", (void *)lock);
    lock->alarm_ = 0;
    cv_store_relaxed(&lock->word_, 0);
    cv_store_release(&lock->magic_, MAGIC);
    return 0;
}

int covey_lock_acquire(covey_lock *lock, double timeout_s)
{
    struct cv_wait wait;
    uint64_t owner;
    int r = check(lock);

    if (r != 0)
        return r;
    if (timeout_s == timeout_s && cv_lock_try(&lock->word_))
        return 0;
    r = cv_wait_begin(&wait, timeout_s);
    if (r != 0)
        return r;
    r = cv_lock_take_slowly(&lock->word_, &lock->alarm_, &wait);
    cv_wait_end(&wait);
    if (r == COVEY_EOWNERDEAD) {
        owner = cv_member_marked(wait.dead_owner);
        if (owner)
            (void)cv_member_bury(owner);
        return cv_fail(r, "the process that held the lock (pid %d) has died",
            (int)cv_lock_pid(wait.dead_owner));
    }
    if (r == COVEY_ETIMEDOUT)
        return cv_fail(
            r, "the lock is held by pid %d", (int)cv_lock_pid(cv_load_relaxed(&lock->word_)));
    return r;
}

int covey_lock_release(covey_lock *lock)
{
    uint64_t now;
    int r = check(lock);

    if (r != 0)
        return r;
    cv_alarm_set(&lock->alarm_);
    now = cv_exchange(&lock->word_, 0);
    if (now & CV_LOCK_SLEEPERS)
        (void)cv_futex_wake(cv_lock_low(&lock->word_), 1);
    cv_alarm_clear();
    return now ? 0 : cv_fail(COVEY_ENOTHELD, "lock %p is not held", (void *)lock);
}

int covey_lock_destroy(covey_lock *lock)
{
    int r = check(lock);

    if (r != 0)
        return r;
    if (cv_load_acquire(&lock->word_))
        return cv_fail(COVEY_ESTATE, "lock %p is held", (void *)lock);
    cv_store_release(&lock->magic_, 0);
    return 0;
}
