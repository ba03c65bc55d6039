/* SPDX-License-Identifier: MIT */
/*
 * The event: a word with the flag in bit 0, and above it how often the flag was set. Setting and
 * clearing it are one compare-exchange each, and that is the commit; a kill leaves nothing to mend.
 * Who waits goes on when the flag is set or the number is not what it was, so a clearing that comes
 * at once cannot hold him back. The number has 63 bits, of which a sleeper compares 31.
 */
#include "arena/object.h"
#include "base/error.h"
#include "sync/wait.h"

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
    cv_wait_init(event->alarm_, event->bell_);
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
    return 0;
}

int covey_event_is_set(covey_event *event)
{
    int r = cv_object_check(event, CV_EVENT);

    return r != 0 ? r : (int)(cv_load_acquire(&event->word_) & SET);
}

static int wait_until_set(covey_event *e, struct cv_wait *wait, uint64_t first)
{
    struct cv_futex_watch words[] = {cv_bell_armed(e->bell_), cv_word_low(&e->word_, first)};
    int r = 0;

    for (;;) {
        if (cv_load_acquire(&e->word_) != first) /* not set then; so it has been set since */
            return 0;
        if (r < 0)
            return r;
        if (cv_wait_spin(wait, words[1].word, words[1].seen))
            continue;
        cv_bell_arm(e->bell_);
        r = cv_wait_sleep(wait, e->alarm_, cv_bell_gong(e->bell_), words, 2, NULL, 0);
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
    return r == COVEY_ETIMEDOUT ? cv_fail_late(r, "event", event, "was not set", timeout_s) : r;
}

int covey_event_destroy(covey_event *event)
{
    int r = cv_object_check(event, CV_EVENT);

    if (r == 0)
        cv_object_end(event);
    return r;
}
