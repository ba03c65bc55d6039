/* SPDX-License-Identifier: MIT */
/*
 * The barrier, of V and the rescuers. Either all go on, or all are told that it is broken; if V died
 * before it came, W takes its place.
 */
#include "sweep.h"

enum {
    RESCUERS = 2,
    WENT_ON = 1,
    BROKEN = 2,
};

static covey_barrier *b;

static void set_up(void)
{
    b = covey_calloc(1, sizeof *b);
    check_int(covey_barrier_init(b, RESCUERS + 1), ==, 0);
}

static uint64_t come(void)
{
    int r = covey_barrier_wait(b, COVEY_FOREVER);

    check((r >= 0 && r <= RESCUERS) || r == COVEY_EBROKEN);
    return r >= 0 ? WENT_ON : BROKEN;
}

static void victim_comes(void)
{
    (void)come();
}

static void rescuer_comes(void)
{
    sweep_tell(sweep_rescuer(), come());
}

static void come_for_victim(void)
{
    if (!sweep_victim_finished() && !sweep_rescuer_finished())
        (void)come();
}

static void done(void)
{
    uint64_t told = sweep_told(0);

    check(told == WENT_ON || told == BROKEN);
    for (unsigned i = 1; i < RESCUERS; i++)
        check_int(sweep_told(i), ==, told);
    check_int(covey_barrier_is_broken(b), ==, told == BROKEN);
    check_int(covey_barrier_reset(b), ==, 0);
    check_int(covey_barrier_wait(b, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_barrier_reset(b), ==, 0);
    check_int(covey_barrier_destroy(b), ==, 0);
    check_int(covey_free(b), ==, 0);
}

/* The rescuers have come before V; it may have led them out of the round before it died. */
static void come_if_missing(void)
{
    if (covey_barrier_waiting(b) == RESCUERS)
        (void)come();
}

OPERATION(barrier_wait_last, .setup = set_up, .victim = victim_comes, .after = come_if_missing,
    .rescue = rescuer_comes, .rescuers = RESCUERS, .when = RESCUE_SLEEPS_FIRST, .verify = done,
    .only_kill = true, .proves = "wait_alarm barrier_dead");

/* The others come when V sleeps, or is dead. */
OPERATION(barrier_wait_first, .setup = set_up, .victim = victim_comes, .after = come_for_victim,
    .rescue = rescuer_comes, .rescuers = RESCUERS, .when = RESCUE_AFTER, .verify = done,
    .only_kill = true, .no_stall = true, .ends_asleep = true, .proves = "barrier_dead");

/* Two parties. V meets the first, and goes its way; the next one is dead before V knows that. */
static pid_t first;

static void set_up_pair(void)
{
    b = covey_calloc(1, sizeof *b);
    check_int(covey_barrier_init(b, 2), ==, 0);
    first = 0;
}

static void come_and_leave(void)
{
    (void)come();
    check_int(covey_barrier_leave(b), ==, 0);
}

static bool meet_and_lose_next(void)
{
    if (covey_barrier_waiting(b) == 0)
        return false;
    first = sweep_fork_asleep(victim_comes);
    sweep_kill(sweep_fork_asleep(victim_comes));
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
    check_int(covey_barrier_destroy(b), ==, 0);
    check_int(covey_free(b), ==, 0);
}

OPERATION(barrier_passed_late, .setup = set_up_pair, .victim = come_and_leave,
    .unblock = meet_and_lose_next, .verify = done_with_pair, .proves = "barrier_dead");
