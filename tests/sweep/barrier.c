/* SPDX-License-Identifier: MIT */
/*
 * The barrier, of V and the rescuers. Either all go on, or all are told that it is broken; if V died
 * before it came, W takes its place.
 */
#include "sweep.h"

#include "sync/cells.h"

#include <pthread.h>
#include <unistd.h>

enum {
    RESCUERS = 2,
    WENT_ON = 1,
    BROKEN = 2,

    VICTIM = 8, /* told: what V was */
    OTHER,      /* what another one was */
    ACTED,      /* how often the action has ended */
    LEFT,       /* V had left when it was killed */
};

static covey_barrier *b;
static covey_lock *lock;

static void make(unsigned parties)
{
    b = covey_calloc(1, sizeof *b);
    check_int(covey_barrier_init(b, parties), ==, 0);
}

static void set_up(void)
{
    make(RESCUERS + 1);
}

static uint64_t what(int r)
{
    check((r >= 0 && r <= RESCUERS) || r == COVEY_EBROKEN);
    return r >= 0 ? WENT_ON : BROKEN;
}

static uint64_t come(void)
{
    return what(covey_barrier_wait(b, COVEY_FOREVER));
}

static void victim_comes(void)
{
    sweep_tell(VICTIM, come());
}

static void rescuer_comes(void)
{
    sweep_tell(sweep_rescuer(), come());
}

static void end(void)
{
    check_int(covey_barrier_reset(b), ==, 0);
    check_int(covey_barrier_waiting(b), ==, 0);
    check_int(covey_barrier_is_broken(b), ==, 0);
    if (covey_barrier_parties(b) > 1)
        check_int(covey_barrier_wait(b, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_barrier_reset(b), ==, 0);
    check_int(covey_barrier_destroy(b), ==, 0);
    check_int(covey_free(b), ==, 0);
}

/* All that have come to the end of it, V perhaps among them, have had the same. */
static void done(void)
{
    uint64_t told = sweep_told(0);

    if (sweep_rescuers() == RESCUERS) {
        check(told == WENT_ON || told == BROKEN);
        for (unsigned i = 1; i < RESCUERS; i++)
            check_int(sweep_told(i), ==, told);
        check(sweep_told(VICTIM) == 0 || sweep_told(VICTIM) == told);
        check_int(covey_barrier_is_broken(b), ==, told == BROKEN);
    }
    if (covey_barrier_waiting(b) > 0) /* one of the dead */
        check_int(covey_barrier_wait(b, COVEY_FOREVER), ==, COVEY_EBROKEN);
    end();
}

/* The rescuers have come before V; it may have led them out of the round before it died. */
static void come_if_missing(void)
{
    if (covey_barrier_waiting(b) == RESCUERS)
        (void)come();
}

OPERATION(barrier_wait_last, .setup = set_up, .victim = victim_comes, .after = come_if_missing,
    .rescue = rescuer_comes, .rescuers = RESCUERS, .when = RESCUE_SLEEPS_FIRST, .verify = done,
    .proves = "wait_alarm barrier_dead");

/* V sleeps until the others have come; a rescuer that is alone is sent away. */
static void come_for_victim(void)
{
    if (sweep_rescuers() != RESCUERS)
        check_int(covey_barrier_abort(b), ==, 0);
    else
        come_if_missing();
}

OPERATION(barrier_wait_first, .setup = set_up, .victim = victim_comes, .after = come_for_victim,
    .rescue = rescuer_comes, .rescuers = RESCUERS, .when = RESCUE_SLEEPS_LATE, .verify = done,
    .proves = "barrier_dead");

/* Rounds ************************************************************************************* */

static void set_up_for_two(void)
{
    make(2);
}

/* The other one is expected again, and dead. */
static void come_twice(void)
{
    if (come() == WENT_ON)
        check_int(come(), ==, BROKEN);
}

static void other_comes(void)
{
    sweep_tell(OTHER, come());
}

static bool come_and_die(void)
{
    if (covey_barrier_waiting(b) != 1)
        return false;
    sweep_kill(sweep_fork(other_comes));
    return true;
}

static void expect_broken(void)
{
    if (sweep_told(OTHER) == WENT_ON)
        check_int(covey_barrier_wait(b, COVEY_FOREVER), ==, COVEY_EBROKEN);
    end();
}

OPERATION(barrier_expected, .setup = set_up_for_two, .victim = come_twice, .unblock = come_and_die,
    .verify = expect_broken, .proves = "barrier_expected");

/* Alone, each comes and goes on; V is expected, unless it has left. */
static void set_up_alone(void)
{
    make(1);
}

static void leave(void)
{
    check_int(covey_barrier_leave(b), ==, 0);
}

static void see_left(void)
{
    const struct cv_cell *first = (const struct cv_cell *)(const void *)b->cells_;

    sweep_tell(LEFT, first->value >> 32 & 1);
}

static void done_after_leaving(void)
{
    if (sweep_rescuer_finished() && !sweep_was_stalled())
        check_int(sweep_told(0), ==, sweep_told(LEFT) ? WENT_ON : BROKEN);
    end();
}

OPERATION(barrier_leave, .setup = set_up_alone, .warm = victim_comes, .victim = leave,
    .look = see_left, .rescue = rescuer_comes, .verify = done_after_leaving,
    .proves = "barrier_expected");

/* Two parties. V meets the first, and goes its way; the next one is dead before V knows that. */
static pid_t first;

static void set_up_pair(void)
{
    set_up_for_two();
    first = 0;
}

static void come_and_leave(void)
{
    (void)come();
    leave();
}

static bool meet_and_lose_next(void)
{
    if (covey_barrier_waiting(b) == 0)
        return false;
    first = sweep_fork_asleep(other_comes);
    sweep_kill(sweep_fork_asleep(other_comes));
    return true;
}

/* Whoever comes after that must be told of it. */
static void done_with_pair(void)
{
    if (first) {
        check_int(covey_barrier_wait(b, 1), ==, COVEY_EBROKEN);
        sweep_kill(first);
    }
    check_int(covey_barrier_reset(b), ==, 0);
    end();
}

OPERATION(barrier_passed_late, .setup = set_up_pair, .victim = come_and_leave,
    .unblock = meet_and_lose_next, .verify = done_with_pair, .proves = "barrier_dead");

/* Threads *********************************************************************************** */

enum {
    THREAD_ROUNDS = 3,
};

/* V's other threads, with whom it shares a cell, and the rescuer go through rounds while V is stopped. */
static void go_through_rounds(unsigned n)
{
    while (!sweep_is_stalled())
        (void)usleep(200);
    for (unsigned i = 0; i < n; i++)
        (void)come();
}

static void *come_thrice(void *unused)
{
    go_through_rounds(THREAD_ROUNDS);
    return unused;
}

static void *come_twice_only(void *unused)
{
    go_through_rounds(THREAD_ROUNDS - 1);
    return unused;
}

static void make_threads(void)
{
    pthread_t thread;

    check_int(covey_barrier_wait(b, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_barrier_reset(b), ==, 0);
    check_int(pthread_create(&thread, NULL, come_thrice, NULL), ==, 0);
    check_int(pthread_create(&thread, NULL, come_twice_only, NULL), ==, 0);
}

static void come_late(void)
{
    (void)come();
}

/* In the last round there is, beside the rescuer, only a thread of V's that must not be forgotten. */
static void come_beside_threads(void)
{
    for (unsigned i = 0; sweep_was_stalled() && i < THREAD_ROUNDS; i++)
        (void)come();
}

static bool send_victim_away(void)
{
    if (sweep_is_stalled())
        return false;
    if (!sweep_is_dead())
        check_int(covey_barrier_abort(b), ==, 0);
    return true;
}

OPERATION(barrier_threads, .setup = set_up, .warm = make_threads, .victim = come_late,
    .unblock = send_victim_away, .rescue = come_beside_threads, .verify = end, .no_rescue = true);

/* Breaking it ******************************************************************************** */

static void abort_it(void)
{
    check_int(covey_barrier_abort(b), ==, 0);
}

static void reset(void)
{
    check_int(covey_barrier_reset(b), ==, 0);
}

static void abort_if_anybody_waits(void)
{
    if (covey_barrier_waiting(b) > 0)
        abort_it();
}

static void all_were_sent_away(void)
{
    for (unsigned i = 0; i < RESCUERS; i++)
        check_int(sweep_told(i), ==, BROKEN);
    end();
}

OPERATION(barrier_abort, .setup = set_up, .victim = abort_it, .after = abort_if_anybody_waits,
    .rescue = rescuer_comes, .rescuers = RESCUERS, .when = RESCUE_SLEEPS_FIRST,
    .verify = all_were_sent_away, .proves = "wait_alarm");

OPERATION(barrier_reset, .setup = set_up, .victim = reset, .after = abort_if_anybody_waits,
    .rescue = rescuer_comes, .rescuers = RESCUERS, .when = RESCUE_SLEEPS_FIRST,
    .verify = all_were_sent_away, .proves = "wait_alarm");

static void set_up_for_more(void)
{
    make(RESCUERS + 2);
}

static void come_for_a_moment(void)
{
    int r = covey_barrier_wait(b, 0.03);

    check(r == COVEY_ETIMEDOUT || r == COVEY_EBROKEN);
}

OPERATION(barrier_give_up, .setup = set_up_for_more, .victim = come_for_a_moment,
    .after = abort_if_anybody_waits, .rescue = rescuer_comes, .rescuers = RESCUERS,
    .when = RESCUE_SLEEPS_FIRST, .verify = all_were_sent_away, .is_slow = true);

/* Acting ************************************************************************************* */

static void set_up_to_act(void)
{
    set_up();
    lock = covey_calloc(1, sizeof *lock);
    check_int(covey_lock_init(lock), ==, 0);
}

/* It uses something else: so V is not at the barrier only. */
static int act(void *result)
{
    int r = covey_lock_acquire(lock, COVEY_FOREVER);

    check(r == 0);
    check_int(covey_lock_release(lock), ==, 0);
    sweep_tell(ACTED, 1);
    return *(int *)result;
}

static void come_and_act(void)
{
    int result = 0;

    sweep_tell(VICTIM, what(covey_barrier_wait_then(b, act, &result, COVEY_FOREVER)));
}

/* Who goes on does so after the action. */
static void done_acting(void)
{
    int r = covey_lock_acquire(lock, 0);

    check(sweep_told(0) == BROKEN || sweep_told(ACTED) || !sweep_victim_finished());
    check(r == 0 || r == COVEY_EOWNERDEAD);
    check_int(covey_lock_release(lock), ==, 0);
    check_int(covey_lock_destroy(lock), ==, 0);
    check_int(covey_free(lock), ==, 0);
    done();
}

OPERATION(barrier_act, .setup = set_up_to_act, .victim = come_and_act, .after = come_if_missing,
    .rescue = rescuer_comes, .rescuers = RESCUERS, .when = RESCUE_SLEEPS_FIRST,
    .verify = done_acting, .proves = "wait_alarm barrier_act");

static void come_and_fail(void)
{
    int result = 1;

    check_int(covey_barrier_wait_then(b, act, &result, COVEY_FOREVER), ==, COVEY_ETASK);
    sweep_tell(VICTIM, BROKEN);
}

OPERATION(barrier_act_in_vain, .setup = set_up_to_act, .victim = come_and_fail,
    .after = come_if_missing, .rescue = rescuer_comes, .rescuers = RESCUERS,
    .when = RESCUE_SLEEPS_FIRST, .verify = done_acting, .proves = "wait_alarm barrier_act_alarm");

/* Cells elsewhere **************************************************************************** */

static void touch(void)
{
    check_int(covey_barrier_wait(b, 0), ==, 0);
}

static void set_up_crowded(void)
{
    set_up_alone();
    sweep_gather(touch);
}

/* V is the fifth, and expected when it has come. */
static void done_with_crowd(void)
{
    sweep_disperse();
    if (sweep_victim_finished() && !sweep_rescuer_finished())
        check_int(covey_barrier_wait(b, 0), ==, COVEY_EBROKEN);
    end();
}

OPERATION(barrier_extend, .setup = set_up_crowded, .victim = victim_comes, .rescue = rescuer_comes,
    .verify = done_with_crowd, .proves = "cells_settle cells_dangling");

/* They have only found it broken: their cells are used again. */
static void touch_broken(void)
{
    check_int(covey_barrier_wait(b, 0), ==, COVEY_EBROKEN);
}

static void set_up_of_the_dead(void)
{
    set_up_for_two();
    check_int(covey_barrier_abort(b), ==, 0);
    sweep_gather(touch_broken);
    sweep_disperse();
}

static void done_without_more_cells(void)
{
    const struct cv_cells *cells = (const struct cv_cells *)(const void *)b->cells_;

    check_int(cells->more[0], ==, 0);
    end();
}

OPERATION(barrier_cells, .setup = set_up_of_the_dead, .victim = touch_broken,
    .rescue = touch_broken, .verify = done_without_more_cells, .proves = "barrier_cells");

static void set_up_extended(void)
{
    set_up_crowded();
    touch();
}

static void destroy(void)
{
    check_int(covey_barrier_destroy(b), ==, 0);
}

static void done_after_destroying(void)
{
    int r = covey_barrier_destroy(b);

    sweep_disperse();
    check(r == 0 || r == COVEY_EINVAL);
    check(r == COVEY_EINVAL || !sweep_victim_finished());
    check_int(covey_free(b), ==, 0);
}

/* Nobody may use what is being destroyed: so V is not stopped. */
OPERATION(barrier_destroy, .setup = set_up_extended, .victim = destroy,
    .verify = done_after_destroying, .no_stall = true);
