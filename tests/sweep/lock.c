/* SPDX-License-Identifier: MIT */
/* The lock. */
#include "sweep.h"

#include "sync/lock.h"
#include "trace.h"

#include <signal.h>
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

/* Giving up ********************************************************************************** */

/* Between W, who holds it, and V comes another one. */
static void set_up_queue(void)
{
    set_up_held();
    holder = sweep_fork_asleep(acquire);
}

static void try_it(void)
{
    int r = covey_lock_acquire(&g->lock, 0);

    check(r == 0 || r == COVEY_EOWNERDEAD || r == COVEY_ETIMEDOUT);
    if (r != COVEY_ETIMEDOUT)
        release();
}

static void acquire_or_give_up(void)
{
    int r = covey_lock_acquire(&g->lock, 0.15);

    check(r == 0 || r == COVEY_EOWNERDEAD || r == COVEY_ETIMEDOUT);
    if (r != COVEY_ETIMEDOUT)
        release();
}

static void kill_next_holder(void)
{
    if (!holder)
        return;
    while (!is_held_by(holder))
        (void)usleep(100);
    sweep_kill(holder);
    holder = 0;
}

OPERATION(lock_try, .setup = set_up_held, .victim = try_it, .unblock = let_holder_go, .rescue = use,
    .rescuers = 2, .when = RESCUE_SLEEPS_LATE, .verify = done);

/* V has been woken to watch the new holder, and gives up: then another one must. */
OPERATION(lock_give_up, .setup = set_up_queue, .victim = acquire_or_give_up,
    .unblock = let_holder_go, .after = kill_next_holder, .rescue = use, .rescuers = 2,
    .when = RESCUE_SLEEPS_LATE, .verify = done, .proves = "lock_quit", .is_slow = true);

/* Interrupted ******************************************************************************** */

static covey_lock *inner;

static void see_signal(int signal)
{
    (void)signal;
}

/* A wait inside of the wait, with a record of its own. */
static int wait_inside(void *context)
{
    int r = covey_lock_acquire(inner, 0.02);

    (void)context;
    check_int(r, ==, COVEY_ETIMEDOUT);
    return 0;
}

static void set_up_two(void)
{
    set_up_held();
    inner = covey_calloc(1, sizeof *inner);
    check_int(covey_lock_init(inner), ==, 0);
    check_int(covey_lock_acquire(inner, 0), ==, 0);
}

static void watch_for_signals(void)
{
    struct sigaction action = {.sa_handler = see_signal};

    check_int(sigaction(SIGUSR1, &action, NULL), ==, 0);
    covey_on_interrupt(wait_inside, NULL);
}

/* V is out of its sleep before the lock is free. */
static bool interrupt(void)
{
    check_int(kill(sweep_victim_pid(), SIGUSR1), ==, 0);
    while (!sweep_is_stalled() && trace_is_asleep(sweep_victim_pid()))
        (void)usleep(100);
    return let_holder_go();
}

static void done_with_two(void)
{
    check_int(covey_lock_release(inner), ==, 0);
    check_int(covey_lock_destroy(inner), ==, 0);
    check_int(covey_free(inner), ==, 0);
    done();
}

OPERATION(lock_interrupted, .setup = set_up_two, .warm = watch_for_signals, .victim = acquire,
    .unblock = interrupt, .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_LATE,
    .verify = done_with_two, .proves = "waiter_burial", .is_slow = true);

/* Waiters ************************************************************************************ */

enum {
    RECORDS = 64, /* that the family's table has at first */
};

static struct cv_waiter *records[RECORDS];

/* V's wait needs one more than there are. */
static void set_up_many_waiters(void)
{
    set_up_held();
    for (int i = 0; i < RECORDS; i++)
        records[i] = cv_waiter_take();
}

static bool let_waiters_go(void)
{
    for (int i = 0; i < RECORDS; i++)
        cv_waiter_drop(records[i]);
    return let_holder_go();
}

OPERATION(lock_more_waiters, .setup = set_up_many_waiters, .victim = acquire, .look = see_holder,
    .unblock = let_waiters_go, .rescue = use, .rescuers = 2, .when = RESCUE_SLEEPS_LATE,
    .verify = done, .proves = "waiter_burial", .is_slow = true);
