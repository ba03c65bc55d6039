/* SPDX-License-Identifier: MIT */
#include "sync/rwlock.h"

#include "base/error.h"
#include "base/mutation.h"
#include "sync/wait.h"

#include <limits.h>

#define ALL ((uint32_t)CV_SHARE_MAX)

enum {
    READS = 2,        /* permits of which a reader takes one: all together, they never have all */
    HOLDERS_MAX = 16, /* looked at for a message */
};

/* Whose gate it is, by its word as it was seen; 0: nobody's, or the slot is another's. */
static uint64_t gate_owner(uint64_t gate)
{
    uint64_t mark = gate & ~CV_LOCK_SLEEPERS;

    return mark ? cv_member_marked(mark) : 0;
}

static bool is_past(uint64_t owner)
{
    return !owner || cv_member_is_past(owner);
}

uint64_t cv_rwlock_gate(const covey_rwlock *l)
{
    uint64_t owner = gate_owner(cv_load_acquire(&l->gate_));

    return is_past(owner) ? 0 : owner;
}

static void ring_all(covey_rwlock *l)
{
    cv_bell_ring(l->bell_, INT_MAX);
}

/*
 * This process has become a reader. A writer that has closed the gate in between, and then looked whose
 * lives to watch, may not have seen it.
 */
static void tell_writer(covey_rwlock *l)
{
    if (cv_load_seq(&l->gate_) && CV_RECOVERS(rwlock_tell))
        ring_all(l);
}

/* Permits, with the name of the writer that has died, if one has. */
static int take(covey_rwlock *l, uint32_t n, uint32_t of, struct cv_wait *wait, uint64_t *seen)
{
    int r = cv_share_take(cv_rwlock_share(l), n, of, &l->died_, seen);

    wait->dead_owner = r == CV_SHARE_TOLD ? cv_load_acquire(&l->died_) : 0;
    return r == CV_SHARE_TOLD ? CV_SHARE_DONE : r;
}

/* Reading ************************************************************************************ */

static int sleep_as_reader(covey_rwlock *l, struct cv_wait *wait, uint64_t seen, uint64_t gate)
{
    struct cv_share *share = cv_rwlock_share(l);
    struct cv_futex_watch words[] = {
        cv_word_low(&l->gate_, gate), cv_word_high(&share->word, seen)};
    const struct cv_futex_watch *word = &words[gate ? 0 : 1];
    bool waits_for_holders = cv_share_free(seen) < READS;
    uint64_t tags[CV_WAIT_TAGS_MAX + 1];
    unsigned n;

    if (cv_wait_spin(wait, word->word, word->seen))
        return CV_WAIT_AGAIN;
    n = waits_for_holders ? cv_share_holders(share, tags, CV_WAIT_TAGS_MAX) : 0;
    if (gate) /* as it was seen; if that one has died since, this is no sleep */
        tags[n++] = gate_owner(gate);
    return cv_wait_sleep_armed(
        wait, l->alarm_, cv_bell_arm(l->bell_), words, waits_for_holders ? 2 : 1, tags, n);
}

static int acquire_read(covey_rwlock *l, struct cv_wait *wait)
{
    int waited = 0;

    for (;;) {
        uint64_t gate = cv_load_seq(&l->gate_);
        uint64_t seen = cv_load_seq(&cv_rwlock_share(l)->word);
        int r = CV_SHARE_NOT;

        if (gate && CV_RECOVERS(rwlock_gate) && is_past(gate_owner(gate))) {
            (void)cv_cas64(&l->gate_, gate, 0); /* whose writer has died */
            continue;
        }
        if (gate && waited == CV_WAIT_DEATH && cv_share_reap(cv_rwlock_share(l), &l->died_))
            ring_all(l); /* that was for the writer at the gate, which may be stopped */
        if (!gate)
            r = take(l, 1, READS, wait, &seen);
        if (r == CV_SHARE_NOT && waited < 0)
            r = waited;
        if (r != CV_SHARE_NOT) {
            tell_writer(l);
            return r;
        }
        waited = sleep_as_reader(l, wait, seen, gate);
    }
}

/* Writing ************************************************************************************ */

static int sleep_as_writer(covey_rwlock *l, struct cv_wait *wait, uint64_t seen)
{
    struct cv_share *share = cv_rwlock_share(l);
    struct cv_futex_watch word = cv_word_high(&share->word, seen);
    uint64_t tags[CV_WAIT_TAGS_MAX];
    unsigned n;

    if (cv_wait_spin(wait, word.word, word.seen))
        return CV_WAIT_AGAIN;
    n = cv_share_holders(share, tags, CV_WAIT_TAGS_MAX);
    return cv_wait_sleep_armed(wait, l->alarm_, cv_bell_arm(l->bell_), &word, 1, tags, n);
}

/* This process has the gate. */
static int take_all(covey_rwlock *l, struct cv_wait *wait)
{
    int waited = 0;

    for (;;) {
        uint64_t seen = 0;
        int r = take(l, ALL, ALL, wait, &seen);

        if (r != CV_SHARE_NOT)
            return r;
        if (waited < 0)
            return waited;
        waited = sleep_as_writer(l, wait, seen);
    }
}

static int acquire_write(covey_rwlock *l, struct cv_wait *wait)
{
    int r = cv_lock_take_slowly(&l->gate_, cv_self.mark, l->alarm_, wait);

    if (r != 0 && r != COVEY_EOWNERDEAD)
        return r;
    wait->dead_owner = 0; /* of the gate: nothing is changed under it */
    r = take_all(l, wait);
    cv_lock_exit(&l->gate_);
    if (r != 0)
        ring_all(l);
    return r;
}

/* Public ************************************************************************************* */

static int report_timeout(covey_rwlock *l, double timeout_s)
{
    uint64_t tags[HOLDERS_MAX];
    unsigned n;
    bool mine = false;

    if (timeout_s <= 0)
        return cv_fail_late(COVEY_ETIMEDOUT, "rwlock", l, "was not free", timeout_s);
    n = cv_share_holders(cv_rwlock_share(l), tags, HOLDERS_MAX);
    for (unsigned i = 0; i < n; i++)
        mine |= tags[i] == cv_self.tag;
    return cv_fail(COVEY_ETIMEDOUT, "rwlock %p was not free within %g s: held by %s", (void *)l,
        timeout_s, mine ? "this process itself" : "others");
}

static int finish(covey_rwlock *l, struct cv_wait *wait, int r, double timeout_s)
{
    uint64_t tag;

    cv_wait_end(wait);
    cv_alarm_clear();
    if (r == COVEY_ETIMEDOUT)
        return report_timeout(l, timeout_s);
    if (r != 0 || !wait->dead_owner)
        return r;
    tag = cv_member_marked(wait->dead_owner);
    if (tag)
        (void)cv_member_bury(tag);
    return cv_fail(COVEY_EOWNERDEAD, "the process that held the lock for writing (pid %d) has died",
        (int)cv_mark_pid(wait->dead_owner));
}

CV_SLOW static int acquire_slowly(
    covey_rwlock *lock, double timeout_s, int (*acquire)(covey_rwlock *lock, struct cv_wait *wait))
{
    struct cv_wait wait;
    int r = cv_object_check(lock, CV_RWLOCK);

    if (r == 0)
        r = cv_wait_begin(&wait, timeout_s, lock, CV_RWLOCK);
    if (r != 0)
        return r;
    cv_alarm_set(lock->alarm_);
    return finish(lock, &wait, acquire(lock, &wait), timeout_s);
}

CV_SLOW static int end_read_try(covey_rwlock *lock)
{
    tell_writer(lock);
    cv_alarm_clear();
    return 0;
}

int covey_rwlock_acquire_read(covey_rwlock *lock, double timeout_s)
{
    struct robust_list_head *head = cv_robust_list();

    if (!cv_object_is(lock, CV_RWLOCK) || timeout_s != timeout_s || cv_load_seq(&lock->gate_))
        return acquire_slowly(lock, timeout_s, acquire_read);
    cv_robust_pend_on(head, lock->alarm_);
    if (!cv_share_try(cv_rwlock_share(lock), 1, READS))
        return acquire_slowly(lock, timeout_s, acquire_read);
    if (cv_load_seq(&lock->gate_))
        return end_read_try(lock);
    cv_robust_done_on(head);
    return 0;
}

int covey_rwlock_acquire_write(covey_rwlock *lock, double timeout_s)
{
    return cv_object_is(lock, CV_RWLOCK) && timeout_s == timeout_s && !cv_load_seq(&lock->gate_) &&
                   cv_share_try(cv_rwlock_share(lock), ALL, ALL)
               ? 0
               : acquire_slowly(lock, timeout_s, acquire_write);
}

/*
 * Is it time to ring? When a writer has released it, always: another may have come in since, whom those
 * who sleep do not watch. When a reader has, if it was the last one that the writer at the gate waits for;
 * also if a writer has taken all since, which had looked at the gate before. With nobody at the gate,
 * those who sleep, if any, are readers for whom there were too many.
 */
static bool is_awaited(covey_rwlock *l, bool wrote)
{
    uint32_t free;

    if (wrote || !cv_load_seq(&l->gate_))
        return true;
    free = cv_share_free(cv_load_seq(&cv_rwlock_share(l)->word));
    return free == ALL || (free == 0 && CV_RECOVERS(rwlock_late));
}

CV_SLOW static int release_slowly(covey_rwlock *lock)
{
    struct cv_share *share;
    int r = cv_object_check(lock, CV_RWLOCK);
    bool wrote;
    bool done;

    if (r != 0)
        return r;
    share = cv_rwlock_share(lock);
    cv_alarm_set(lock->alarm_);
    wrote = cv_share_give(share, ALL, false) == CV_SHARE_DONE;
    done = wrote || cv_share_give(share, 1, false) == CV_SHARE_DONE;
    if (done && is_awaited(lock, wrote))
        ring_all(lock);
    cv_alarm_clear();
    return done ? 0
                : cv_fail(COVEY_ENOTHELD, "rwlock %p is not held by this process", (void *)lock);
}

int covey_rwlock_release(covey_rwlock *lock)
{
    struct robust_list_head *head = cv_robust_list();
    struct cv_share *share;
    bool wrote;

    if (!cv_object_is(lock, CV_RWLOCK))
        return release_slowly(lock);
    share = cv_rwlock_share(lock);
    cv_robust_pend_on(head, lock->alarm_);
    wrote = cv_share_try_give(share, ALL);
    if (!wrote && !cv_share_try_give(share, 1))
        return release_slowly(lock);
    if ((cv_load_seq(lock->bell_) & CV_BELL_ARMED) && is_awaited(lock, wrote))
        ring_all(lock);
    cv_robust_done_on(head);
    return 0;
}

int covey_rwlock_init(covey_rwlock *lock)
{
    int r = cv_object_place(lock, sizeof *lock, CV_RWLOCK);

    if (r != 0)
        return r;
    cv_alarm_init(lock->alarm_, 1);
    cv_store_relaxed(&lock->gate_, 0);
    cv_store_relaxed(&lock->died_, 0);
    cv_share_init(cv_rwlock_share(lock), ALL);
    cv_object_begin(lock, CV_RWLOCK);
    return 0;
}

int covey_rwlock_destroy(covey_rwlock *lock)
{
    struct cv_share *share;
    int r = cv_object_check(lock, CV_RWLOCK);

    if (r != 0)
        return r;
    share = cv_rwlock_share(lock);
    (void)cv_share_reap(share, &lock->died_);
    if (cv_share_free(cv_load_acquire(&share->word)) != ALL)
        return cv_fail(COVEY_ESTATE, "rwlock %p is held", (void *)lock);
    cv_cells_end(&share->cells);
    cv_object_end(lock);
    return 0;
}
