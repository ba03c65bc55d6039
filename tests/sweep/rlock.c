/* SPDX-License-Identifier: MIT */
/* The lock that is taken again. */
#include "sweep.h"

static covey_rlock *lock;

enum {
    RESULT, /* of the rescuer, with 100 added */
    HELD,   /* V held it when it was killed */
};

static void set_up(void)
{
    lock = covey_calloc(1, sizeof *lock);
    check_int(covey_rlock_init(lock), ==, 0);
}

static void take(void)
{
    check_int(covey_rlock_acquire(lock, COVEY_FOREVER), ==, 0);
}

static void release(void)
{
    check_int(covey_rlock_release(lock), ==, 0);
}

static void take_twice(void)
{
    take();
    take();
}

static void release_twice(void)
{
    release();
    release();
}

static void see_holder(void)
{
    sweep_tell(HELD, __atomic_load_n(&lock->lock_.word_, __ATOMIC_SEQ_CST) != 0);
}

/* However often the dead had taken it: twice, and it is free again. */
static void use(void)
{
    int r = covey_rlock_acquire(lock, sweep_patience());

    sweep_tell(RESULT, (uint64_t)(r + 100));
    if (r == COVEY_ETIMEDOUT && sweep_was_stalled())
        return;
    check(r == 0 || r == COVEY_EOWNERDEAD);
    take();
    release_twice();
}

static void done(void)
{
    int r;

    if (sweep_rescuer_finished() && !sweep_was_stalled())
        check_int((int)sweep_told(RESULT) - 100, ==, sweep_told(HELD) ? COVEY_EOWNERDEAD : 0);
    r = covey_rlock_acquire(lock, 1);
    check(r == 0 || r == COVEY_EOWNERDEAD);
    release();
    check_int(covey_rlock_release(lock), ==, COVEY_ENOTHELD);
    check_int(covey_rlock_destroy(lock), ==, 0);
    check_int(covey_free(lock), ==, 0);
}

OPERATION(rlock_acquire, .setup = set_up, .victim = take_twice, .look = see_holder, .rescue = use,
    .verify = done, .proves = "lock_takeover rlock_count");

OPERATION(rlock_release, .setup = set_up, .warm = take_twice, .victim = release_twice,
    .look = see_holder, .rescue = use, .verify = done, .proves = "lock_takeover");

static void set_up_held(void)
{
    set_up();
    take_twice();
}

static bool let_go(void)
{
    release_twice();
    return true;
}

static void done_after_waiting(void)
{
    int r = covey_rlock_acquire(lock, 1);

    check(r == 0 || r == COVEY_EOWNERDEAD);
    release();
    check_int(covey_rlock_release(lock), ==, COVEY_ENOTHELD);
    check_int(covey_rlock_destroy(lock), ==, 0);
    check_int(covey_free(lock), ==, 0);
}

/* Somebody may have died with it. */
static void acquire_asleep(void)
{
    int r = covey_rlock_acquire(lock, COVEY_FOREVER);

    check(r == 0 || r == COVEY_EOWNERDEAD);
    take();
}

OPERATION(rlock_acquire_asleep, .setup = set_up_held, .victim = acquire_asleep, .unblock = let_go,
    .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_LATE, .verify = done_after_waiting,
    .proves = "wait_alarm_asleep");

OPERATION(rlock_release_awaited, .setup = set_up, .warm = take_twice, .victim = release_twice,
    .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_FIRST, .verify = done_after_waiting,
    .proves = "wait_alarm wait_lives rlock_count");
