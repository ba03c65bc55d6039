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
    .rescuers = 2, .when = RESCUE_SLEEPS_FIRST, .verify = done, .only_kill = true,
    .proves = "wait_alarm wait_alarm_all");

OPERATION(event_wait_asleep, .setup = set_up, .victim = wait_for_it, .unblock = set_and_clear,
    .rescue = wait_for_it, .rescuers = 2, .when = RESCUE_SLEEPS_LATE, .verify = done,
    .only_kill = true);
