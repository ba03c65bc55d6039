/* SPDX-License-Identifier: MIT */
/* The semaphore: however V ends, in the end all permits are free again, and no more of them. */
#include "sweep.h"

#include "sync/semaphore.h"

#include <unistd.h>

enum {
    RELEASED = 8, /* told: V had begun to release what it did not hold */
};

static covey_semaphore *s;
static long permits;
static pid_t holder;

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
    .proves = "share_next");

OPERATION(semaphore_release_awaited, .setup = set_up_one, .warm = acquire, .victim = release,
    .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_FIRST, .verify = done,
    .proves = "wait_alarm wait_lives");

/* Giving up: between W, who has the permit, and V comes another one. */
static void set_up_queue(void)
{
    set_up_held();
    holder = sweep_fork_asleep(acquire);
}

static void acquire_or_give_up(void)
{
    int r = covey_semaphore_acquire(s, 0.15);

    check(r == 0 || r == COVEY_ETIMEDOUT);
    if (r == 0)
        release();
}

static bool has_permit(pid_t pid)
{
    struct cv_holding holding;

    return cv_share_holdings(cv_semaphore_share(s), &holding, 1) > 0 &&
           cv_mark_pid(holding.mark) == pid;
}

static void kill_next_holder(void)
{
    if (!holder)
        return;
    while (!has_permit(holder))
        (void)usleep(100);
    sweep_kill(holder);
    holder = 0;
}

OPERATION(semaphore_give_up, .setup = set_up_queue, .victim = acquire_or_give_up, .unblock = let_go,
    .after = kill_next_holder, .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_LATE,
    .verify = done, .proves = "share_quit", .is_slow = true);

static void try_in_vain(void)
{
    int r = covey_semaphore_acquire(s, 0);

    check(r == 0 || r == COVEY_ETIMEDOUT);
    if (r == 0)
        release();
}

OPERATION(semaphore_try, .setup = set_up_held, .victim = try_in_vain, .unblock = let_go,
    .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_FIRST, .verify = done);

static void acquire_all(void)
{
    acquire();
    acquire();
}

static void release_all(void)
{
    check_int(covey_semaphore_release_many(s, 2), ==, 0);
}

OPERATION(semaphore_release_many, .setup = set_up, .warm = acquire_all, .victim = release_all,
    .rescue = use, .verify = done, .proves = "share_reap");

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

/* Two permits are found to be free, for which others may be about to fall asleep. */
static void ask_value(void)
{
    check_int(covey_semaphore_value(s), ==, permits);
}

OPERATION(semaphore_value, .setup = set_up_dead_holder, .victim = ask_value, .rescue = use,
    .rescuers = 2, .verify = done, .proves = "share_reap");

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
    sweep_gather(touch);
}

static void done_with_crowd(void)
{
    sweep_disperse();
    done();
}

OPERATION(semaphore_extend, .setup = set_up_crowded, .victim = acquire, .rescue = use,
    .verify = done_with_crowd, .proves = "cells_settle cells_dangling");

/* The cells are the dead's: so they are free, and there are enough of them. */
static void set_up_deserted(void)
{
    make(2, COVEY_BOUNDED);
    sweep_gather(touch);
    sweep_disperse();
}

static void done_with_deserted(void)
{
    check(cv_semaphore_share(s)->cells.more[0] == 0);
    done();
}

OPERATION(semaphore_cells, .setup = set_up_deserted, .victim = acquire, .rescue = use,
    .verify = done_with_deserted, .proves = "share_cells");

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

    sweep_disperse();
    check(r == 0 || (r == COVEY_EINVAL));
    check(r == COVEY_EINVAL || !sweep_victim_finished());
    check_int(covey_free(s), ==, 0);
}

/* Nobody may use what is being destroyed: so V is not stopped. */
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
    .rescuers = 2, .when = RESCUE_SLEEPS_FIRST, .verify = done_with_events, .proves = "wait_alarm",
    .is_slow = true);

enum {
    TAKERS = 2,
    CALM_MS = 20 /* for one that takes an event to tell of it */
};

static void take_one(void)
{
    acquire();
    sweep_tell(sweep_rescuer(), 1);
}

static bool add_one(void)
{
    release();
    return true;
}

static bool all_have_taken(void)
{
    bool all = true;

    for (unsigned i = 0; i < sweep_rescuers(); i++)
        all &= sweep_told(i) != 0;
    return all;
}

/* V may have taken one: then there is another. As long as there is one, somebody must take it. */
static void add_for_rescuers(void)
{
    int calm_ms = 0;

    while (!all_have_taken()) {
        calm_ms = covey_semaphore_value(s) == 0 ? calm_ms + 1 : 0;
        if (calm_ms == CALM_MS) {
            release();
            calm_ms = 0;
        }
        (void)usleep(1000);
    }
}

/* Also for V, or the rescuer that is alone, when it sleeps again because another one was faster. */
static void add_more(void)
{
    if (sweep_is_dead() && sweep_rescuers() == TAKERS)
        add_for_rescuers();
    else
        release();
}

static void end_events(void)
{
    check(covey_semaphore_value(s) >= 0);
    check_int(covey_semaphore_destroy(s), ==, 0);
    check_int(covey_free(s), ==, 0);
}

OPERATION(semaphore_wait_for_event, .setup = set_up_events, .victim = acquire, .unblock = add_one,
    .after = add_more, .rescue = take_one, .rescuers = TAKERS, .when = RESCUE_SLEEPS_LATE,
    .verify = end_events, .is_slow = true);
