/* SPDX-License-Identifier: MIT */
#include "sync/lock.h"

#include "base/error.h"
#include "base/mutation.h"
#include "sync/holders.h"

#include <stdio.h>
#include <string.h>

enum {
    HOLDER_BYTES = 80,
};

void cv_lock_wake(uint64_t *word)
{
    (void)cv_futex_wake(cv_word_gong(word, 0).word, 1);
}

int cv_lock_take_slowly(uint64_t *word, uint64_t mine, uint32_t *alarm, struct cv_wait *wait)
{
    int r = CV_WAIT_AGAIN;

    for (;;) {
        uint64_t now = cv_load_acquire(word);
        uint64_t holder = now & ~CV_LOCK_SLEEPERS;
        uint64_t owner = holder ? cv_member_marked(holder) : 0;
        bool taken = false;
        struct cv_futex_watch low;

        if (!holder || (CV_RECOVERS(lock_takeover) && (!owner || cv_member_is_past(owner)))) {
            taken = cv_cas64(word, now, mine | (now & CV_LOCK_SLEEPERS));
            if (!taken)
                continue;
            wait->dead_owner = holder;
            r = holder ? COVEY_EOWNERDEAD : 0;
        }
        if (taken || r < 0) {
            if ((mine & CV_LOCK_SLEEPERS) &&
                ((taken && CV_RECOVERS(lock_next)) || (!taken && CV_RECOVERS(lock_quit))))
                cv_lock_wake(word); /* of those who sleep, one must watch who holds it now */
            return r;
        }
        if (cv_wait_spin(wait, (uint32_t *)(void *)word, (uint32_t)now))
            continue;
        if (wait->deadline_ns != 0 && !(now & CV_LOCK_SLEEPERS) &&
            !cv_cas64(word, now, now | CV_LOCK_SLEEPERS))
            continue;
        low = cv_word_low(word, now | CV_LOCK_SLEEPERS);
        r = cv_wait_sleep(wait, alarm, cv_word_gong(word, now), &low, 1, &owner, 1);
        if (wait->alarm)
            mine |= CV_LOCK_SLEEPERS; /* from now on: others may sleep, too */
    }
}

int cv_lock_enter_slowly(uint64_t *word, uint32_t *alarm, uint64_t deadline_ns)
{
    uint64_t patience_ns = cv_clock_now() + CV_LOCK_PATIENCE_NS;
    struct cv_wait wait = {.deadline_ns = deadline_ns > patience_ns ? deadline_ns : patience_ns};
    int r;

    do {
        r = cv_lock_take_slowly(word, cv_self.mark, alarm, &wait);
    } while (r == COVEY_EINTR && deadline_ns == CV_FOREVER);
    wait.alarm = NULL; /* it stays pending for the operation that this lock is part of */
    cv_wait_end(&wait);
    return r;
}

/* Locks that users have ********************************************************************** */

static uint64_t my_mark(enum cv_kind kind)
{
    return kind == CV_RLOCK || cv_self.detects ? cv_waiter_me() : cv_self.mark;
}

pid_t cv_lock_pid(uint64_t mark)
{
    uint64_t owner = mark ? cv_member_marked(mark) : 0;

    return owner ? cv_member_pid(owner) : cv_mark_pid(mark);
}

int cv_lock_report_death(const struct cv_wait *wait)
{
    uint64_t owner = cv_member_marked(wait->dead_owner);
    pid_t pid = cv_lock_pid(wait->dead_owner);

    if (owner)
        (void)cv_member_bury(owner);
    return cv_fail(COVEY_EOWNERDEAD, "the process that held the lock (pid %d) has died", (int)pid);
}

int cv_lock_acquire_until(covey_lock *lock, enum cv_kind kind, struct cv_wait *wait)
{
    return cv_lock_take_slowly(&lock->word_, my_mark(kind), lock->alarm_, wait);
}

/* Names who holds it, if somebody still does. */
static int report_timeout(covey_lock *lock, enum cv_kind kind, double timeout_s)
{
    struct cv_hold hold = {.mark = 0};
    char holder[HOLDER_BYTES] = "";
    char thread[HOLDER_BYTES] = "";

    if (timeout_s <= 0)
        return cv_fail_late(COVEY_ETIMEDOUT, cv_object_name(kind), lock, "was not free", timeout_s);
    (void)cv_holders_of(lock, kind, &hold, 1);
    if (hold.tid)
        (void)snprintf(thread, sizeof thread, " (thread %u)", hold.tid);
    if (hold.mark)
        (void)snprintf(holder, sizeof holder, ": held by pid %d%s%s", (int)cv_lock_pid(hold.mark),
            thread, cv_member_marked(hold.mark) == cv_self.tag ? ", which is this process" : "");
    return cv_fail(COVEY_ETIMEDOUT, "%s %p was not free within %g s%s", cv_object_name(kind),
        (void *)lock, timeout_s, holder);
}

int cv_lock_acquire(covey_lock *lock, enum cv_kind kind, double timeout_s)
{
    struct cv_wait wait;
    int r = cv_object_check(lock, kind);

    if (r == 0)
        r = cv_wait_begin(&wait, timeout_s, lock, kind);
    if (r != 0)
        return r;
    r = cv_lock_acquire_until(lock, kind, &wait);
    cv_wait_end(&wait);
    if (r == COVEY_EOWNERDEAD)
        return cv_lock_report_death(&wait);
    return r == COVEY_ETIMEDOUT ? report_timeout(lock, kind, timeout_s) : r;
}

int cv_lock_end_release(covey_lock *lock, uint64_t before)
{
    if (before & CV_LOCK_SLEEPERS)
        cv_lock_wake(&lock->word_);
    cv_alarm_clear();
    return before ? 0 : cv_fail(COVEY_ENOTHELD, "lock %p is not held", (void *)lock);
}

int cv_lock_init(covey_lock *lock, enum cv_kind kind)
{
    int r = cv_object_place(lock, sizeof *lock, kind);

    if (r != 0)
        return r;
    cv_store_relaxed(&lock->word_, 0);
    memset(lock->alarm_, 0, sizeof lock->alarm_);
    lock->count_ = 0;
    cv_object_begin(lock, kind);
    return 0;
}

int cv_lock_is_held(covey_lock *lock, enum cv_kind kind)
{
    int r = cv_object_check(lock, kind);
    uint64_t holder = r == 0 ? cv_lock_holder(lock) : 0;
    uint64_t owner = holder ? cv_member_marked(holder) : 0;

    return r != 0 ? r : owner && !cv_member_is_dead(owner, 0);
}

int cv_lock_destroy(covey_lock *lock, enum cv_kind kind)
{
    int r = cv_object_check(lock, kind);

    if (r != 0)
        return r;
    if (cv_load_acquire(&lock->word_))
        return cv_fail(COVEY_ESTATE, "%s %p is held", cv_object_name(kind), (void *)lock);
    cv_object_end(lock);
    return 0;
}

/* Public ************************************************************************************* */

int covey_lock_init(covey_lock *lock)
{
    return cv_lock_init(lock, CV_LOCK);
}

int covey_lock_acquire(covey_lock *lock, double timeout_s)
{
    if (cv_object_is(lock, CV_LOCK) && timeout_s == timeout_s && !cv_self.detects &&
        cv_cas64(&lock->word_, 0, cv_self.mark))
        return 0;
    return cv_lock_acquire(lock, CV_LOCK, timeout_s);
}

int covey_lock_release(covey_lock *lock)
{
    int r = cv_object_check(lock, CV_LOCK);

    return r == 0 ? cv_lock_release(lock) : r;
}

int covey_lock_is_held(covey_lock *lock)
{
    return cv_lock_is_held(lock, CV_LOCK);
}

int covey_lock_destroy(covey_lock *lock)
{
    return cv_lock_destroy(lock, CV_LOCK);
}
