/* SPDX-License-Identifier: MIT */
/* Waiting for the first of several objects. Nobody takes anything: one item is enough for all. */
#include "sweep.h"

static covey_queue *q;
static covey_queue *silent;
static covey_event *e;

static void set_up(void)
{
    check_int(covey_queue_open(&q, .bytes = 1024), ==, 0);
    check_int(covey_queue_open(&silent, .bytes = 1024), ==, 0);
    e = covey_calloc(1, sizeof *e);
    check_int(covey_event_init(e), ==, 0);
}

static void put(void)
{
    check_int(covey_queue_put(q, "x", 1, COVEY_FOREVER), ==, 0);
}

static void put_if_empty(void)
{
    if (covey_queue_size(q) == 0)
        put();
}

static bool put_what_is_missing(void)
{
    put_if_empty();
    return true;
}

static void wait_for_one(void)
{
    struct covey_waited things[] = {COVEY_WAITED(q)};

    check_int(covey_wait(things, 1, COVEY_FOREVER), ==, 1);
}

static void wait_for_several(void)
{
    struct covey_waited things[] = {COVEY_WAITED(silent), COVEY_WAITED(e), COVEY_WAITED(q)};

    check_int(covey_wait(things, 3, COVEY_FOREVER), ==, 1);
    check_int(things[2].ready, ==, 1);
}

static void done(void)
{
    struct covey_waited things[] = {COVEY_WAITED(silent), COVEY_WAITED(e)};

    put_if_empty();
    wait_for_one();
    wait_for_several();
    check_int(covey_wait(things, 2, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_queue_free(q), ==, 0);
    check_int(covey_queue_free(silent), ==, 0);
    check_int(covey_event_destroy(e), ==, 0);
    check_int(covey_free(e), ==, 0);
}

OPERATION(wait_awaited, .setup = set_up, .victim = put, .when = RESCUE_SLEEPS_FIRST, .rescuers = 2,
    .rescue = wait_for_one, .unblock = put_what_is_missing, .no_stall = true, .verify = done,
    .proves = "wait_alarm");

/* They look by themselves, after a while. */
OPERATION(wait_awaited_by_several, .setup = set_up, .victim = put, .when = RESCUE_SLEEPS_FIRST,
    .rescuers = 2, .rescue = wait_for_several, .unblock = put_what_is_missing, .no_stall = true,
    .verify = done, .is_slow = true);

OPERATION(wait_asleep, .setup = set_up, .victim = wait_for_one, .when = RESCUE_SLEEPS_LATE,
    .rescuers = 2, .rescue = wait_for_one, .unblock = put_what_is_missing, .after = put_if_empty,
    .verify = done);

OPERATION(wait_asleep_for_several, .setup = set_up, .victim = wait_for_several,
    .when = RESCUE_SLEEPS_LATE, .rescuers = 2, .rescue = wait_for_one,
    .unblock = put_what_is_missing, .after = put_if_empty, .verify = done, .is_slow = true);
