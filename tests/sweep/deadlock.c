/* SPDX-License-Identifier: MIT */
/* Circles of waits in a family that looks for them, and printing who waits for what. */
#include "sweep.h"

#include <fcntl.h>
#include <unistd.h>

static struct pair {
    covey_lock a;
    covey_lock b;
    covey_rwlock rwlock;
    covey_semaphore semaphore;
} * p;

static void set_up(void)
{
    p = covey_calloc(1, sizeof *p);
    check_int(covey_lock_init(&p->a), ==, 0);
    check_int(covey_lock_init(&p->b), ==, 0);
    check_int(covey_rwlock_init(&p->rwlock), ==, 0);
    check_int(covey_semaphore_init(&p->semaphore, 1, COVEY_BOUNDED), ==, 0);
}

static void take(covey_lock *lock)
{
    int r = covey_lock_acquire(lock, COVEY_FOREVER);

    check(r == 0 || r == COVEY_EOWNERDEAD);
}

static void leave(covey_lock *lock)
{
    check_int(covey_lock_release(lock), ==, 0);
}

static void take_a(void)
{
    take(&p->a);
}

static void take_b(void)
{
    take(&p->b);
}

static void end(void)
{
    take_a();
    leave(&p->a);
    take_b();
    leave(&p->b);
    check_int(covey_semaphore_value(&p->semaphore), ==, 1);
    check_int(covey_lock_destroy(&p->a), ==, 0);
    check_int(covey_lock_destroy(&p->b), ==, 0);
    check_int(covey_rwlock_destroy(&p->rwlock), ==, 0);
    check_int(covey_semaphore_destroy(&p->semaphore), ==, 0);
    check_int(covey_free(p), ==, 0);
}

/* Closing a circle *************************************************************************** */

/* V has a, the rescuer all the others, and sleeps for it. */
static void take_others_and_a(void)
{
    take_b();
    check_int(covey_semaphore_acquire(&p->semaphore, COVEY_FOREVER), ==, 0);
    check_int(covey_rwlock_acquire_read(&p->rwlock, COVEY_FOREVER), ==, 0);
    take_a();
    leave(&p->a);
    check_int(covey_rwlock_release(&p->rwlock), ==, 0);
    check_int(covey_semaphore_release(&p->semaphore), ==, 0);
    leave(&p->b);
}

static void close_by_lock(void)
{
    check_int(covey_lock_acquire(&p->b, COVEY_FOREVER), ==, COVEY_EDEADLK);
    leave(&p->a);
}

OPERATION(deadlock_by_lock, .setup = set_up, .warm = take_a, .victim = close_by_lock,
    .rescue = take_others_and_a, .when = RESCUE_SLEEPS_FIRST, .verify = end, .detects = true,
    .is_slow = true, .proves = "wait_alarm wait_lives waiter_burial");

static void close_by_semaphore(void)
{
    check_int(covey_semaphore_acquire(&p->semaphore, COVEY_FOREVER), ==, COVEY_EDEADLK);
    leave(&p->a);
}

OPERATION(deadlock_by_semaphore, .setup = set_up, .warm = take_a, .victim = close_by_semaphore,
    .rescue = take_others_and_a, .when = RESCUE_SLEEPS_FIRST, .verify = end, .detects = true,
    .is_slow = true);

static void close_by_rwlock(void)
{
    check_int(covey_rwlock_acquire_write(&p->rwlock, COVEY_FOREVER), ==, COVEY_EDEADLK);
    leave(&p->a);
}

OPERATION(deadlock_by_rwlock, .setup = set_up, .warm = take_a, .victim = close_by_rwlock,
    .rescue = take_others_and_a, .when = RESCUE_SLEEPS_FIRST, .verify = end, .detects = true,
    .is_slow = true);

/*
 * V has a and wants b, the rescuer has b and wants a, at about the same time: one of them is told of it,
 * however long V is stopped on its way, and never both.
 */
enum {
    VICTIM_REFUSED,
    RESCUER_REFUSED,
};

static void ask(covey_lock *wanted, covey_lock *own, unsigned refused)
{
    int r = covey_lock_acquire(wanted, COVEY_FOREVER);

    check(r == 0 || r == COVEY_EOWNERDEAD || r == COVEY_EDEADLK);
    sweep_tell(refused, r == COVEY_EDEADLK);
    if (r != COVEY_EDEADLK)
        leave(wanted);
    leave(own);
}

static void ask_for_b(void)
{
    ask(&p->b, &p->a, VICTIM_REFUSED);
}

static void ask_for_a(void)
{
    bool was_dead = sweep_is_dead();

    ask(&p->a, &p->b, RESCUER_REFUSED);
    check(!was_dead || !sweep_told(RESCUER_REFUSED));
}

static void end_after_asking(void)
{
    check(!sweep_told(VICTIM_REFUSED) || !sweep_told(RESCUER_REFUSED));
    end();
}

/* V gets on only by the rescuer, who must therefore live. */
OPERATION(deadlock_race, .setup = set_up, .warm = take_a, .prepare = take_b, .victim = ask_for_b,
    .rescue = ask_for_a, .when = RESCUE_SLEEPS_LATE, .verify = end_after_asking, .detects = true,
    .no_rescue = true, .proves = "waiter_burial");

/* Printing *********************************************************************************** */

static void set_up_waits(void)
{
    set_up();
    take_a();
    sweep_kill(sweep_fork(take_b));
}

static void print(void)
{
    check_int(covey_waits_print(STDERR_FILENO), ==, 0);
}

/* What it prints is for nobody. */
static void go_silent(void)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

    check_int(dup2(fd, STDERR_FILENO), ==, STDERR_FILENO);
}

static bool let_go(void)
{
    leave(&p->a);
    return true;
}

static void use_a(void)
{
    take_a();
    leave(&p->a);
}

OPERATION(waits_print, .setup = set_up_waits, .warm = go_silent, .victim = print, .unblock = let_go,
    .rescue = use_a, .rescuers = 2, .when = RESCUE_SLEEPS_FIRST, .verify = end, .walks = true);

/* The waits of the dead are printed, too. (What a death while printing does is seen above.) */
static void print_and_use(void)
{
    print();
    use_a();
}

OPERATION(waits_print_of_the_dead, .setup = set_up_waits, .victim = use_a, .prepare = go_silent,
    .unblock = let_go, .rescue = print_and_use, .verify = end, .is_slow = true, .no_rescue = true);
