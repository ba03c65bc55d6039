/* SPDX-License-Identifier: MIT */
/* The lock. */
#include "sweep.h"

#include "sync/lock.h"

#include <unistd.h>

/* Beside the lock, what it guards: two numbers that are equal whenever it is free. */
static struct guarded {
    covey_lock lock;
    uint64_t left;
    uint64_t right;
} * g;

static pid_t holder;

enum {
    RESULT,   /* of rescuer i: RESULT + i, with 1 added to what the call returned */
    HELD = 8, /* 1: V held the lock when it was killed */
};

static void set_up(void)
{
    g = covey_calloc(1, sizeof *g);
    check_int(covey_lock_init(&g->lock), ==, 0);
}

static bool is_held_by(pid_t pid)
{
    return cv_mark_pid(cv_load_acquire(&g->lock.word_)) == pid;
}

static void see_holder(void)
{
    sweep_tell(HELD, is_held_by(sweep_victim_pid()));
}

static void acquire(void)
{
    int r = covey_lock_acquire(&g->lock, COVEY_FOREVER);

    check(r == 0 || r == COVEY_EOWNERDEAD);
}

static void release(void)
{
    check_int(covey_lock_release(&g->lock), ==, 0);
}

/* Takes it, mends what a dead holder left, changes what it guards, and releases it. */
static void use(void)
{
    int r = covey_lock_acquire(&g->lock, sweep_patience());

    sweep_tell(RESULT + sweep_rescuer(), (uint64_t)(r + 100));
    if (r == COVEY_ETIMEDOUT && sweep_was_stalled())
        return;
    check(r == 0 || r == COVEY_EOWNERDEAD);
    check(is_held_by(getpid()));
    if (r == 0)
        check_int(g->left, ==, g->right);
    g->left = g->right + 1;
    g->right = g->left;
    release();
}

static int result(void)
{
    return (int)sweep_told(RESULT) - 100;
}

/* W takes it last; then it is free and whole. */
static void done(void)
{
    int r = covey_lock_acquire(&g->lock, 1);

    check(r == 0 || r == COVEY_EOWNERDEAD);
    g->left = g->right;
    check_int(covey_lock_release(&g->lock), ==, 0);
    check_int(covey_lock_acquire(&g->lock, 0), ==, 0);
    check_int(covey_lock_release(&g->lock), ==, 0);
    check_int(covey_lock_release(&g->lock), ==, COVEY_ENOTHELD);
    check_int(covey_lock_destroy(&g->lock), ==, 0);
    check_int(covey_free(g), ==, 0);
}

/* Who comes after V is told of its death if it held the lock, and only then. */
static void done_after_holder(void)
{
    if (sweep_rescuer_finished() && !sweep_was_stalled())
        check_int(result(), ==, sweep_told(HELD) ? COVEY_EOWNERDEAD : 0);
    done();
}

OPERATION(lock_acquire, .setup = set_up, .victim = acquire, .look = see_holder, .rescue = use,
    .verify = done_after_holder, .proves = "lock_takeover");

static void take(void)
{
    check_int(covey_lock_acquire(&g->lock, 0), ==, 0);
}

OPERATION(lock_release, .setup = set_up, .warm = take, .victim = release, .look = see_holder,
    .rescue = use, .verify = done_after_holder, .proves = "lock_takeover");

static void set_up_held(void)
{
    set_up();
    take();
}

static bool let_holder_go(void)
{
    check_int(covey_lock_release(&g->lock), ==, 0);
    return true;
}

OPERATION(lock_acquire_asleep, .setup = set_up_held, .victim = acquire, .look = see_holder,
    .unblock = let_holder_go, .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_LATE,
    .verify = done, .proves = "wait_alarm wait_alarm_asleep wait_lives lock_next");

/* V takes it, before the others fall asleep in their wait for it. */
OPERATION(lock_release_awaited, .setup = set_up, .warm = take, .victim = release,
    .look = see_holder, .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_FIRST, .verify = done,
    .proves = "wait_alarm wait_lives lock_takeover");

static void set_up_dead_holder(void)
{
    set_up();
    sweep_kill(sweep_fork(take));
}

static void done_after_death(void)
{
    if (sweep_rescuer_finished() && !sweep_was_stalled())
        check_int(result(), ==, COVEY_EOWNERDEAD);
    done();
}

OPERATION(lock_takeover, .setup = set_up_dead_holder, .victim = acquire, .look = see_holder,
    .rescue = use, .verify = done_after_death, .proves = "lock_takeover");

static void set_up_holder(void)
{
    set_up();
    holder = sweep_fork(take);
}

static bool kill_holder(void)
{
    sweep_kill(holder);
    return true;
}

OPERATION(lock_holder_dies, .setup = set_up_holder, .victim = acquire, .look = see_holder,
    .unblock = kill_holder, .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_LATE,
    .verify = done, .proves = "wait_lives lock_takeover");
