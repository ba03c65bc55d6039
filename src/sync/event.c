/* SPDX-License-Identifier: MIT */
/*
 * The event: a word with the flag in bit 0, and above it how often the flag was set. Setting and
 * clearing it are one compare-exchange each, and that is the commit; a kill leaves nothing to mend.
 * Who waits goes on when the flag is set or the number is not what it was, so a clearing that comes
 * at once cannot hold him back. The number has 63 bits, of which a sleeper compares 31.
 */
#include "arena/object.h"
#include "base/error.h"
#include "sync/any.h"
#include "sync/watch.h"

#include <covey/event.h>

#include <limits.h>

#define SET  UINT64_C(1)
#define ONCE UINT64_C(2)

int covey_event_init(covey_event *event)
{
    int r = cv_object_place(event, sizeof *event, CV_EVENT);

    if (r != 0)
        return r;
    cv_store_relaxed(&event->word_, 0);
    cv_alarm_init(event->alarm_, 1);
    cv_object_begin(event, CV_EVENT);
    return 0;
}

int covey_event_set(covey_event *event)
{
    int r = cv_object_check(event, CV_EVENT);
    uint64_t now;

    if (r != 0)
        return r;
    now = cv_load_acquire(&event->word_);
    cv_alarm_set(event->alarm_);
    while (!(now & SET) && !cv_cas(&event->word_, &now, (now + ONCE) | SET)) {
    }
    cv_bell_ring(event->bell_, INT_MAX); /* also when another has set it, and not yet rung */
    cv_alarm_clear();
    return 0;
}

int covey_event_clear(covey_event *event)
{
    int r = cv_object_check(event, CV_EVENT);
    uint64_t now;

    if (r != 0)
        return r;
    now = cv_load_acquire(&event->word_);
    while ((now & SET) && !cv_cas(&event->word_, &now, now & ~SET)) {
    }
    cv_watch_arm(event);
    return 0;
}

int covey_event_is_set(covey_event *event)
{
    int r = cv_object_check(event, CV_EVENT);

    if (r != 0)
        return r;
    r = (int)(cv_load_acquire(&event->word_) & SET);
    if (!r)
        cv_watch_arm(event);
    return r;
}

static int wait_until_set(covey_event *e, struct cv_wait *wait, uint64_t first)
{
    struct cv_futex_watch word = cv_word_low(&e->word_, first);
    int r = 0;

    for (;;) {
        if (cv_load_acquire(&e->word_) != first) /* not set then; so it has been set since */
            return 0;
        if (r < 0)
            return r;
        if (cv_wait_spin(wait, word.word, word.seen))
            continue;
        r = cv_wait_sleep_armed(wait, e->alarm_, cv_bell_arm(e->bell_), &word, 1, NULL, 0);
    }
}

int covey_event_wait(covey_event *event, double timeout_s)
{
    int r = cv_object_check(event, CV_EVENT);
    struct cv_wait wait;
    uint64_t now;

    if (r != 0)
        return r;
    now = cv_load_acquire(&event->word_);
    if ((now & SET) && timeout_s == timeout_s)
        return 0;
    r = cv_wait_begin(&wait, timeout_s, event, CV_EVENT);
    if (r != 0)
        return r;
    r = wait_until_set(event, &wait, now);
    cv_wait_end(&wait);
    if (r == COVEY_ETIMEDOUT)
        cv_watch_arm(event);
    return r == COVEY_ETIMEDOUT ? cv_fail_late(r, "event", event, "was not set", timeout_s) : r;
}

int covey_event_destroy(covey_event *event)
{
    int r = cv_object_check(event, CV_EVENT);

    if (r != 0)
        return r;
    (void)cv_watch_close(event);
    cv_object_end(event);
    cv_bell_ring(event->bell_, INT_MAX); /* for others' watches */
    return 0;
}

/* For others that wait *********************************************************************** */

static int check_event(void *object)
{
    return cv_object_check(object, CV_EVENT);
}

static int look(void *object, bool arm, struct cv_target *target, struct cv_watched_lives *lives)
{
    covey_event *e = object;
    int r = check_event(e);
    uint64_t now;

    (void)lives;
    if (r != 0)
        return r;
    target->alarm = e->alarm_;
    if (arm) {
        target->armed = cv_bell_arm(e->bell_);
        r = check_event(e); /* who ends it rings only for those that have come before */
        if (r != 0)
            return r;
    }
    now = cv_load_acquire(&e->word_);
    target->words[0] = cv_word_low(&e->word_, now);
    target->n_words = 1;
    if (arm && (now & SET))
        cv_bell_disarm(&target->armed);
    return (int)(now & SET);
}

static int descriptor(void *object, struct cv_descriptor *own);

static const struct cv_any_kind kind = {check_event, look, descriptor, CV_ANY_SECOND};

static int descriptor(void *object, struct cv_descriptor *own)
{
    (void)own;
    return cv_watch_open(object, &kind);
}

__attribute__((constructor)) static void register_kind(void)
{
    cv_any_set(COVEY_WAIT_EVENT, &kind);
}

int covey_event_fd(covey_event *event)
{
    int r = check_event(event);

    return r != 0 ? r : cv_watch_open(event, &kind);
}

int covey_event_fd_close(covey_event *event)
{
    return cv_watch_close(event) ? 0 : check_event(event);
}
