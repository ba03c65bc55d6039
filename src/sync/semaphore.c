/* SPDX-License-Identifier: MIT */
#include "sync/semaphore.h"

#include "arena/object.h"
#include "base/error.h"
#include "base/mutation.h"
#include "sync/wait.h"

#include <limits.h>

static inline bool is_counter(const covey_semaphore *s)
{
    return s->kind_ == COVEY_EVENTS;
}

static int check(const covey_semaphore *s)
{
    int r = cv_enter();

    if (r != 0 || cv_object_is(s, CV_COUNTER))
        return r;
    return cv_object_check(s, CV_SEMAPHORE);
}

static long value(covey_semaphore *s)
{
    uint64_t word = cv_load_acquire(s->share_);

    return (long)(is_counter(s) ? word : cv_share_free(word));
}

/* Counters of events ************************************************************************* */

static inline bool try_event(covey_semaphore *s)
{
    uint64_t now = cv_load_relaxed(s->share_);

    while (now > 0) {
        if (cv_cas(s->share_, &now, now - 1))
            return true;
    }
    return false;
}

/* False when there would be too many. */
static inline bool add_event(covey_semaphore *s)
{
    uint64_t now = cv_load_relaxed(s->share_);

    while (now < INT_MAX) {
        if (cv_cas(s->share_, &now, now + 1))
            return true;
    }
    return false;
}

/* Acquiring ********************************************************************************** */

/* 0, a code, or CV_SHARE_NOT with the word that said so. */
static int take(covey_semaphore *s, uint64_t *seen)
{
    if (!is_counter(s))
        return cv_share_take(cv_semaphore_share(s), 1, NULL, seen);
    *seen = 0;
    return try_event(s) ? 0 : CV_SHARE_NOT;
}

static int sleep_on(covey_semaphore *s, struct cv_wait *wait, uint64_t seen)
{
    struct cv_futex_watch words[] = {cv_bell_armed(s->bell_), cv_word_low(s->share_, seen)};
    uint64_t tags[CV_WAIT_LIVES_MAX];
    unsigned n = 0;

    if (cv_wait_spin(wait, words[1].word, words[1].seen))
        return CV_WAIT_AGAIN;
    if (!is_counter(s))
        n = cv_share_holders(cv_semaphore_share(s), tags, CV_WAIT_LIVES_MAX);
    cv_bell_arm(s->bell_);
    return cv_wait_sleep(wait, s->alarm_, cv_bell_gong(s->bell_), words, 2, tags, n);
}

/*
 * One wake comes with each permit. Who has been woken and takes it wakes the next, to watch the life
 * of whoever holds it now; who gives up does, for it may have been the one that watched; and who
 * leaves permits, free by a death, does as well. (Events are held by nobody: there it is enough that
 * he who leaves some wakes the next.)
 */
static int acquire(covey_semaphore *s, struct cv_wait *wait)
{
    int waited = 0;

    for (;;) {
        uint64_t seen = 0;
        int r = take(s, &seen);

        if (r == CV_SHARE_NOT && waited < 0)
            r = waited;
        if (r != CV_SHARE_NOT) {
            if ((wait->alarm && !is_counter(s) && CV_RECOVERS(share_next)) || value(s) > 0)
                cv_bell_ring(s->bell_, 1);
            return r;
        }
        waited = sleep_on(s, wait, seen);
    }
}

CV_SLOW static int acquire_slowly(covey_semaphore *semaphore, double timeout_s)
{
    struct cv_wait wait;
    int r = check(semaphore);

    if (r == 0)
        r = cv_wait_begin(
            &wait, timeout_s, semaphore, is_counter(semaphore) ? CV_COUNTER : CV_SEMAPHORE);
    if (r != 0)
        return r;
    cv_alarm_set(semaphore->alarm_);
    r = acquire(semaphore, &wait);
    cv_wait_end(&wait);
    cv_alarm_clear();
    return r == COVEY_ETIMEDOUT ? cv_fail(r, "no permit of the semaphore within %g s", timeout_s)
                                : r;
}

int covey_semaphore_acquire(covey_semaphore *semaphore, double timeout_s)
{
    const struct cv_self *self = cv_load_acquire(&cv_self);

    if (timeout_s != timeout_s)
        return acquire_slowly(semaphore, timeout_s);
    if (cv_object_is_to(self, semaphore, CV_SEMAPHORE) &&
        cv_share_try(self, cv_semaphore_share(semaphore), 1))
        return 0;
    if (cv_object_is_to(self, semaphore, CV_COUNTER) && try_event(semaphore))
        return 0;
    return acquire_slowly(semaphore, timeout_s);
}

/* Releasing ********************************************************************************** */

static int give_slowly(covey_semaphore *s)
{
    struct cv_share *share = cv_semaphore_share(s);

    if (is_counter(s))
        return add_event(s) ? 0
                            : cv_fail(COVEY_ELIMIT, "semaphore %p has counted %d events", (void *)s,
                                  INT_MAX);
    if (cv_share_give(share, 1, true) == CV_SHARE_DONE)
        return 0;
    if (s->kind_ == COVEY_BOUNDED)
        return cv_fail(COVEY_ENOTHELD, "nobody holds a permit of semaphore %p", (void *)s);
    if (cv_share_add(share, 1) == CV_SHARE_DONE)
        return 0;
    return cv_fail(COVEY_ELIMIT, "semaphore %p has %d permits already", (void *)s, CV_SHARE_MAX);
}

CV_SLOW static int release_slowly(covey_semaphore *semaphore)
{
    int r = check(semaphore);

    if (r != 0)
        return r;
    cv_alarm_set(semaphore->alarm_);
    r = give_slowly(semaphore);
    if (r == 0)
        cv_bell_ring(semaphore->bell_, 1);
    cv_alarm_clear();
    return r;
}

/* The permit is given; somebody may be sleeping. */
CV_SLOW static int end_release(covey_semaphore *semaphore)
{
    cv_bell_ring_armed(semaphore->bell_, 1);
    cv_alarm_clear();
    return 0;
}

int covey_semaphore_release(covey_semaphore *semaphore)
{
    struct robust_list_head *head = cv_robust_list();
    const struct cv_self *self = cv_load_acquire(&cv_self);

    if (cv_object_is_to(self, semaphore, CV_SEMAPHORE)) {
        cv_robust_pend_on(head, semaphore->alarm_);
        if (!cv_share_try_give(self, cv_semaphore_share(semaphore), 1))
            return release_slowly(semaphore);
    } else if (cv_object_is_to(self, semaphore, CV_COUNTER)) {
        cv_robust_pend_on(head, semaphore->alarm_);
        if (!add_event(semaphore))
            return release_slowly(semaphore);
    } else {
        return release_slowly(semaphore);
    }
    if (cv_load_seq(semaphore->bell_) == CV_BELL_ARMED)
        return end_release(semaphore);
    cv_robust_done_on(head);
    return 0;
}

int covey_semaphore_release_many(covey_semaphore *semaphore, long n)
{
    int r = check(semaphore);

    if (r == 0 && n < 0)
        return cv_fail(COVEY_EINVAL, "n is %ld: negative", n);
    while (r == 0 && n-- > 0)
        r = covey_semaphore_release(semaphore);
    return r;
}

/* Other ************************************************************************************** */

int covey_semaphore_init(covey_semaphore *semaphore, long value, enum covey_semaphore_kind kind)
{
    int r = cv_object_place(semaphore, sizeof *semaphore, CV_SEMAPHORE);
    long most = kind == COVEY_EVENTS ? INT_MAX : CV_SHARE_MAX;

    if (r != 0)
        return r;
    if ((int)kind < COVEY_SEMAPHORE || kind > COVEY_EVENTS)
        return cv_fail(COVEY_EINVAL, "kind is %d: no enum covey_semaphore_kind", (int)kind);
    if (value < 0 || value > most)
        return cv_fail(COVEY_EINVAL, "value is %ld: 0 to %ld are possible", value, most);
    cv_wait_init(semaphore->alarm_, semaphore->bell_);
    semaphore->kind_ = kind;
    cv_share_init(cv_semaphore_share(semaphore), (uint32_t)(kind == COVEY_EVENTS ? 0 : value));
    if (kind == COVEY_EVENTS)
        cv_store_relaxed(semaphore->share_, (uint64_t)value);
    cv_object_begin(semaphore, kind == COVEY_EVENTS ? CV_COUNTER : CV_SEMAPHORE);
    return 0;
}

long covey_semaphore_value(covey_semaphore *semaphore)
{
    int r = check(semaphore);

    if (r != 0)
        return r;
    cv_alarm_set(semaphore->alarm_);
    if (!is_counter(semaphore) && cv_share_reap(cv_semaphore_share(semaphore), false))
        cv_bell_ring(semaphore->bell_, INT_MAX);
    cv_alarm_clear();
    return value(semaphore);
}

int covey_semaphore_destroy(covey_semaphore *semaphore)
{
    int r = check(semaphore);

    if (r != 0)
        return r;
    if (!is_counter(semaphore))
        cv_cells_end(&cv_semaphore_share(semaphore)->cells);
    cv_object_end(semaphore);
    return 0;
}
