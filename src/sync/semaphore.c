/* SPDX-License-Identifier: MIT */
#include "sync/semaphore.h"

#include "arena/object.h"
#include "base/error.h"
#include "base/mutation.h"
#include "sync/wait.h"

#include <limits.h>

#define COUNTER_SLEEPERS (UINT64_C(1) << 31)

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

    return is_counter(s) ? (long)(word & ~COUNTER_SLEEPERS) : (long)cv_share_free(word);
}

/* Sleepers *********************************************************************************** */

static uint64_t sleepers_bit(const covey_semaphore *s)
{
    return is_counter(s) ? COUNTER_SLEEPERS : CV_SHARE_SLEEPERS;
}

/* Wakes up to @n of those who sleep, if any may. */
static void wake(covey_semaphore *s, int n)
{
    uint32_t *gong = cv_alarm_gong(s->alarm_).word;
    uint64_t bit = sleepers_bit(s);

    if (!(cv_load_seq(s->share_) & bit) || cv_futex_wake(gong, n) > 0)
        return;
    (void)cv_fetch_and(s->share_, ~bit);
    (void)cv_futex_wake(gong, INT_MAX);
}

/* Makes free what the dead hold. */
static void take_back(covey_semaphore *s)
{
    if (!is_counter(s) && cv_share_reap(cv_semaphore_share(s), NULL))
        wake(s, INT_MAX);
}

/* Counters of events ************************************************************************* */

static inline bool try_event(covey_semaphore *s)
{
    uint64_t now = cv_load_seq(s->share_);

    while (now & ~COUNTER_SLEEPERS) {
        if (cv_cas(s->share_, &now, now - 1))
            return true;
    }
    return false;
}

/* False when there would be too many, or there is one of @flags. */
static inline bool add_event(covey_semaphore *s, uint64_t flags)
{
    uint64_t now = cv_load_seq(s->share_);

    while ((now & ~COUNTER_SLEEPERS) < INT_MAX && !(now & flags)) {
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
        return cv_share_take(cv_semaphore_share(s), 1, 1, NULL, seen);
    *seen = cv_load_seq(s->share_) & COUNTER_SLEEPERS;
    return try_event(s) ? 0 : CV_SHARE_NOT;
}

/* Those it watches are the holders by @seen, for that is compared with the version. */
static int sleep_on(covey_semaphore *s, struct cv_wait *wait, uint64_t seen)
{
    struct cv_futex_watch words[] = {cv_word_low(s->share_, seen), cv_word_high(s->share_, seen)};
    uint64_t tags[CV_WAIT_TAGS_MAX];
    unsigned n;

    if (cv_wait_spin(wait, words[0].word, words[0].seen))
        return CV_WAIT_AGAIN;
    if (!(seen & sleepers_bit(s)) && wait->deadline_ns != 0 &&
        !cv_cas64(s->share_, seen, seen | sleepers_bit(s)))
        return CV_WAIT_AGAIN;
    words[0].seen |= (uint32_t)sleepers_bit(s);
    if (is_counter(s))
        return cv_wait_sleep(wait, s->alarm_, cv_alarm_gong(s->alarm_), words, 1, NULL, 0);
    n = cv_share_holders(cv_semaphore_share(s), tags, CV_WAIT_TAGS_MAX);
    return cv_wait_sleep(wait, s->alarm_, cv_alarm_gong(s->alarm_), words, 2, tags, n);
}

/* Whether who has slept, and ends with @r, wakes the next to watch. */
static bool hands_on(const covey_semaphore *s, int r)
{
    return !is_counter(s) &&
           ((r < 0 && CV_RECOVERS(share_quit)) || (r >= 0 && CV_RECOVERS(share_next)));
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
            if ((wait->alarm && hands_on(s, r)) || value(s) > 0)
                wake(s, 1);
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
    return r == COVEY_ETIMEDOUT
               ? cv_fail_late(r, "semaphore", semaphore, "had no permit free", timeout_s)
               : r;
}

/* The permit is taken; what is no timeout is looked for behind that, where it costs nothing. */
CV_SLOW static int refuse(covey_semaphore *semaphore, double timeout_s)
{
    (void)covey_semaphore_release(semaphore);
    return acquire_slowly(semaphore, timeout_s);
}

int covey_semaphore_acquire(covey_semaphore *semaphore, double timeout_s)
{
    if (!(cv_object_is(semaphore, CV_SEMAPHORE) &&
            cv_share_try(cv_semaphore_share(semaphore), 1, 1)) &&
        !(cv_object_is(semaphore, CV_COUNTER) && try_event(semaphore)))
        return acquire_slowly(semaphore, timeout_s);
    return timeout_s == timeout_s ? 0 : refuse(semaphore, timeout_s);
}

/* Releasing ********************************************************************************** */

static int give_slowly(covey_semaphore *s)
{
    struct cv_share *share = cv_semaphore_share(s);

    if (is_counter(s))
        return add_event(s, 0) ? 0
                               : cv_fail(COVEY_ELIMIT, "semaphore %p has counted %d events",
                                     (void *)s, INT_MAX);
    if (cv_share_give(share, 1, false) == CV_SHARE_DONE)
        return 0;
    cv_store_relaxed(&s->signals_, 1);
    take_back(s); /* what the dead held is nobody's to release */
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
        wake(semaphore, 1);
    cv_alarm_clear();
    return r;
}

int covey_semaphore_release(covey_semaphore *semaphore)
{
    if (cv_object_is(semaphore, CV_SEMAPHORE)) {
        if (cv_share_try_give(cv_semaphore_share(semaphore), 1))
            return 0;
    } else if (cv_object_is(semaphore, CV_COUNTER)) {
        if (add_event(semaphore, COUNTER_SLEEPERS))
            return 0;
    }
    return release_slowly(semaphore);
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
    cv_alarm_init(semaphore->alarm_, 0);
    semaphore->kind_ = kind;
    semaphore->signals_ = 0;
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
    take_back(semaphore);
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
