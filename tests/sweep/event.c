/* SPDX-License-Identifier: MIT */
/* The event. */
#include "sweep.h"

static covey_event *e;

static void set_up(void)
{
    e = covey_calloc(1, sizeof *e);
    check_int(covey_event_init(e), ==, 0);
}

static void set(void)
{
    check_int(covey_event_set(e), ==, 0);
}

static void wait_for_it(void)
{
    check_int(covey_event_wait(e, COVEY_FOREVER), ==, 0);
}

/* If V has not set it, W does. */
static void set_if_not_set(void)
{
    if (!covey_event_is_set(e))
        set();
}

static bool set_and_clear(void)
{
    set();
    check_int(covey_event_clear(e), ==, 0);
    return true;
}

static void done(void)
{
    set();
    check_int(covey_event_wait(e, 0), ==, 0);
    check_int(covey_event_clear(e), ==, 0);
    check_int(covey_event_wait(e, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_event_destroy(e), ==, 0);
    check_int(covey_free(e), ==, 0);
}

OPERATION(event_set, .setup = set_up, .victim = set, .after = set_if_not_set, .rescue = wait_for_it,
    .rescuers = 2, .when = RESCUE_SLEEPS_FIRST, .verify = done,
    .proves = "wait_alarm wait_alarm_all");

/* Who comes after it was cleared waits for the next time. */
OPERATION(event_wait_asleep, .setup = set_up, .victim = wait_for_it, .unblock = set_and_clear,
    .after = set, .rescue = wait_for_it, .rescuers = 2, .when = RESCUE_SLEEPS_LATE, .verify = done);

static void wait_in_vain(void)
{
    int r = covey_event_wait(e, 0.05);

    check(r == 0 || r == COVEY_ETIMEDOUT);
}

OPERATION(event_give_up, .setup = set_up, .victim = wait_in_vain, .after = set,
    .rescue = wait_for_it, .rescuers = 2, .when = RESCUE_SLEEPS_LATE, .verify = done,
    .is_slow = true);

/* Clearing *********************************************************************************** */

enum {
    SEEN, /* told: V had cleared it when it was killed */
};

static void set_up_set(void)
{
    set_up();
    set();
}

static void clear(void)
{
    check_int(covey_event_clear(e), ==, 0);
}

static void see_cleared(void)
{
    sweep_tell(SEEN, covey_event_is_set(e) == 0);
}

static void look_and_set(void)
{
    if (!sweep_was_stalled())
        check_int(covey_event_is_set(e), ==, !sweep_told(SEEN));
    set();
    wait_for_it();
}

static void done_after_clearing(void)
{
    check(sweep_told(SEEN) || !sweep_victim_finished() || sweep_was_stalled());
    done();
}

OPERATION(event_clear, .setup = set_up_set, .victim = clear, .look = see_cleared,
    .rescue = look_and_set, .verify = done_after_clearing);
