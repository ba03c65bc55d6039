/* SPDX-License-Identifier: MIT */
/* The semaphore: however V ends, in the end all permits are free again, and no more of them. */
#include "sweep.h"

#include <unistd.h>

enum {
    TOUCHERS = 4, /* processes that fill the cells which the semaphore has itself */

    RELEASED = 8, /* told: V had begun to release what it did not hold */
};

static covey_semaphore *s;
static long permits;
static pid_t holder;
static pid_t touchers[TOUCHERS];

static void acquire(void)
{
    check_int(covey_semaphore_acquire(s, COVEY_FOREVER), ==, 0);
}

static void release(void)
{
    check_int(covey_semaphore_release(s), ==, 0);
}

static void touch(void)
{
    acquire();
    release();
}

static void make(long n, enum covey_semaphore_kind kind)
{
    permits = n;
    s = covey_calloc(1, sizeof *s);
    check_int(covey_semaphore_init(s, n, kind), ==, 0);
}

/* W was the last to use it. */
static void set_up(void)
{
    make(2, COVEY_BOUNDED);
    touch();
}

static void set_up_one(void)
{
    make(1, COVEY_BOUNDED);
}

/* What survivors do. */
static void use(void)
{
    int r = covey_semaphore_acquire(s, sweep_patience());

    check(sweep_is_fine(r));
    if (r == 0)
        release();
}

static void done(void)
{
    check_int(covey_semaphore_value(s), ==, permits);
    for (long i = 0; i < permits; i++)
        check_int(covey_semaphore_acquire(s, 0), ==, 0);
    check_int(covey_semaphore_acquire(s, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_semaphore_release_many(s, permits), ==, 0);
    check_int(covey_semaphore_value(s), ==, permits);
    check_int(covey_semaphore_destroy(s), ==, 0);
    check_int(covey_free(s), ==, 0);
}

OPERATION(semaphore_acquire, .setup = set_up, .victim = acquire, .rescue = use, .verify = done,
    .proves = "share_reap");

OPERATION(semaphore_acquire_again, .setup = set_up, .warm = touch, .victim = acquire, .rescue = use,
    .verify = done, .proves = "share_reap");

OPERATION(semaphore_release, .setup = set_up, .warm = acquire, .victim = release, .rescue = use,
    .verify = done);

OPERATION(semaphore_release_moved, .setup = set_up, .warm = acquire, .prepare = touch,
    .victim = release, .rescue = use, .verify = done);

/* Waiting ************************************************************************************ */

static void set_up_held(void)
{
    set_up_one();
    acquire();
}

static bool let_go(void)
{
    release();
    return true;
}

OPERATION(semaphore_acquire_asleep, .setup = set_up_held, .victim = acquire, .unblock = let_go,
    .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_LATE, .verify = done,
    .proves = "wait_alarm_asleep share_next");

OPERATION(semaphore_release_awaited, .setup = set_up_one, .warm = acquire, .victim = release,
    .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_FIRST, .verify = done,
    .proves = "wait_alarm wait_lives");

/* The dead *********************************************************************************** */

static void set_up_dead_holder(void)
{
    set_up();
    sweep_kill(sweep_fork(acquire));
    sweep_kill(sweep_fork(acquire));
}

OPERATION(semaphore_reap, .setup = set_up_dead_holder, .victim = acquire, .rescue = use,
    .verify = done, .proves = "share_reap");

static void set_up_holder(void)
{
    set_up_one();
    holder = sweep_fork(acquire);
}

static bool kill_holder(void)
{
    sweep_kill(holder);
    return true;
}

OPERATION(semaphore_holder_dies, .setup = set_up_holder, .victim = acquire, .unblock = kill_holder,
    .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_LATE, .verify = done,
    .proves = "wait_lives");

/* What nobody, or another one, has taken ***************************************************** */

static void set_up_taken(void)
{
    set_up();
    acquire();
}

/* W's permit may have been given back by V: then there is nothing left to give back. */
static void done_after_release(void)
{
    if (covey_semaphore_value(s) < permits)
        release();
    done();
}

OPERATION(semaphore_release_of_another, .setup = set_up_taken, .victim = release, .rescue = use,
    .verify = done_after_release);

static void set_up_unbounded(void)
{
    make(2, COVEY_SEMAPHORE);
    touch();
}

static void add(void)
{
    sweep_tell(RELEASED, 1);
    release();
}

static void done_after_adding(void)
{
    long now = covey_semaphore_value(s);

    check(now == permits || (now == permits + 1 && sweep_told(RELEASED)));
    check(now == permits + 1 || !sweep_victim_finished());
    permits = now;
    done();
}

OPERATION(semaphore_add, .setup = set_up_unbounded, .victim = add, .rescue = use,
    .verify = done_after_adding);

/* Cells elsewhere **************************************************************************** */

static void set_up_crowded(void)
{
    make(2, COVEY_BOUNDED);
    for (int i = 0; i < TOUCHERS; i++)
        touchers[i] = sweep_fork(touch);
}

static void done_with_crowd(void)
{
    for (int i = 0; i < TOUCHERS; i++)
        sweep_kill(touchers[i]);
    done();
}

OPERATION(semaphore_extend, .setup = set_up_crowded, .victim = acquire, .rescue = use,
    .verify = done_with_crowd, .proves = "cells_settle cells_dangling");

static void set_up_extended(void)
{
    set_up_crowded();
    acquire();
    release();
}

static void destroy(void)
{
    check_int(covey_semaphore_destroy(s), ==, 0);
}

static void done_after_destroying(void)
{
    int r = covey_semaphore_destroy(s);

    for (int i = 0; i < TOUCHERS; i++)
        sweep_kill(touchers[i]);
    check(r == 0 || (r == COVEY_EINVAL));
    check(r == COVEY_EINVAL || !sweep_victim_finished());
    check_int(covey_free(s), ==, 0);
}

OPERATION(semaphore_destroy, .setup = set_up_extended, .victim = destroy,
    .verify = done_after_destroying, .no_stall = true);

/* Events ************************************************************************************* */

static void set_up_events(void)
{
    make(0, COVEY_EVENTS);
}

static void count_event(void)
{
    sweep_tell(RELEASED, 1);
    release();
}

static void take_event(void)
{
    int r = covey_semaphore_acquire(s, 0.3);

    check(r == 0 || r == COVEY_ETIMEDOUT);
    sweep_tell(sweep_rescuer(), r == 0);
}

static void done_with_events(void)
{
    long n = covey_semaphore_value(s) + (long)sweep_told(0) + (long)sweep_told(1);

    check(n == 0 || (n == 1 && sweep_told(RELEASED)));
    check(n == 1 || !sweep_victim_finished());
    check_int(covey_semaphore_destroy(s), ==, 0);
    check_int(covey_free(s), ==, 0);
}

OPERATION(semaphore_count, .setup = set_up_events, .victim = count_event, .rescue = take_event,
    .rescuers = 2, .when = RESCUE_SLEEPS_FIRST, .verify = done_with_events, .only_kill = true,
    .proves = "wait_alarm");
