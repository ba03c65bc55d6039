/* SPDX-License-Identifier: MIT */
/* Joining, leaving, watching, and the burial of all that a dead member leaves. */
#include "sweep.h"

#include "arena/family.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    RESERVED, /* told: the tag of a slot that the dead had reserved */
    HOLDER,   /* the pid of the dead holder of the lock */
};

static covey_lock *lock;
static pid_t other;

static void own_much(void)
{
    check_int(covey_own(covey_alloc(200)), ==, 0);
    check_int(covey_own(covey_alloc(6000)), ==, 0);
    check_int(covey_own(covey_alloc(3 * CV_PAGE_BYTES)), ==, 0);
}

static void bury(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    check_int(covey_stats(&stats), ==, 0);
}

static void bury_and_use(void)
{
    bury();
    sweep_use_heap();
}

static void join(void)
{
    check_int(covey_open(), ==, 0);
}

/* Joining and leaving *************************************************************************** */

static void die_owning(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        own_much();
        _exit(0);
    }
    check_int(waitpid(pid, NULL, 0), ==, pid);
}

/* No slot is free, and two are of dead processes that nobody has buried. */
static void fill_table(void)
{
    die_owning();
    die_owning();
}

OPERATION(member_join, .is_stranger = true, .prepare = fill_table, .victim = join,
    .rescue = bury_and_use);

static void leave(void)
{
    check_int(covey_close(), ==, 0);
}

OPERATION(member_leave, .warm = own_much, .victim = leave, .rescue = bury_and_use,
    .proves = "heap_run heap_tags");

/* Somebody sleeps until the holder of the lock is gone, in whatever way. */
static void set_up_free_lock(void)
{
    lock = covey_alloc(sizeof *lock);
    check_int(covey_lock_init(lock), ==, 0);
}

static void take(void)
{
    check_int(covey_lock_acquire(lock, 0), ==, 0);
}

static void inherit(void)
{
    check_int(covey_lock_acquire(lock, COVEY_FOREVER), ==, COVEY_EOWNERDEAD);
}

static void free_lock(void)
{
    check_int(covey_free(lock), ==, 0);
}

OPERATION(member_leave_awaited, .setup = set_up_free_lock, .warm = take, .victim = leave,
    .rescue = inherit, .when = RESCUE_SLEEPS_FIRST, .no_stall = true, .verify = free_lock,
    .proves = "member_leaving");

/* Burial **************************************************************************************** */

static void reserve(void)
{
    join();
    sweep_tell(RESERVED, cv_member_reserve(false));
    own_much();
}

static void set_up_reserved(void)
{
    sweep_kill(sweep_fork(reserve));
}

OPERATION(member_burial, .setup = set_up_reserved, .victim = bury, .rescue = bury_and_use,
    .proves = "heap_run heap_tags member_burial");

/* The child has died before it came to life, and its parent lives. */
static void have_stillborn(void)
{
    pid_t pid;

    reserve();
    pid = fork();
    if (pid == 0)
        _exit(0);
    cv_member_hand_over(sweep_told(RESERVED), pid);
    check_int(waitpid(pid, NULL, 0), ==, pid);
}

static void set_up_stillborn(void)
{
    other = sweep_fork(have_stillborn);
}

static void is_buried(void)
{
    check_int(cv_member_phase(sweep_told(RESERVED)), ==, CV_GONE);
    sweep_kill(other);
}

OPERATION(member_stillborn, .setup = set_up_stillborn, .victim = bury, .rescue = bury_and_use,
    .verify = is_buried, .proves = "member_stillborn");

/* Only the dead holder of a lock is buried, and with it what it had reserved. */
static void take_and_reserve(void)
{
    reserve();
    check_int(covey_lock_acquire(lock, 0), ==, 0);
    sweep_tell(HOLDER, (uint64_t)getpid());
}

static void set_up_lock(void)
{
    pid_t pids[4];

    for (int i = 0; i < 4; i++)
        pids[i] = sweep_fork(join);
    for (int i = 0; i < 4; i++)
        sweep_kill(pids[i]);
    bury(); /* so there are free slots, and those who join bury nobody */
    set_up_free_lock();
    sweep_kill(sweep_fork(take_and_reserve));
}

static void take_over(void)
{
    bool from_dead = lock->word_ >> 32 == sweep_told(HOLDER);
    int r = covey_lock_acquire(lock, sweep_patience());

    if (r == COVEY_ETIMEDOUT && sweep_was_stalled())
        return;
    check_int(r, ==, COVEY_EOWNERDEAD);
    if (from_dead)
        check_int(cv_member_phase(sweep_told(RESERVED)), ==, CV_GONE);
    check_int(covey_lock_release(lock), ==, 0);
}

static void acquire(void)
{
    int r = covey_lock_acquire(lock, COVEY_FOREVER);

    check(r == 0 || r == COVEY_EOWNERDEAD);
}

OPERATION(member_burial_by_lock, .setup = set_up_lock, .victim = acquire, .rescue = take_over,
    .verify = free_lock, .proves = "member_abandon");

/* Watching ************************************************************************************** */

static uint64_t tag_of_holder(void)
{
    return cv_member_marked(lock->word_ & ~(UINT64_C(1) << 31));
}

/* All words of the holder's life are watched by somebody who is dead. */
static void set_up_watched(void)
{
    uint64_t dead;
    pid_t pid;

    set_up_free_lock();
    pid = sweep_fork(take);
    dead = tag_of_holder();
    sweep_kill(pid);
    bury();
    check_int(covey_lock_init(lock), ==, 0);
    other = sweep_fork(take);
    for (int i = 0; i < CV_LIVES; i++)
        cv_member_of(tag_of_holder())->watcher[i] = dead;
    sweep_tell(RESERVED, tag_of_holder());
}

static bool release(void)
{
    check_int(covey_lock_release(lock), ==, 0);
    return true;
}

static void use(void)
{
    int r = covey_lock_acquire(lock, sweep_patience());

    check(r == 0 || r == COVEY_EOWNERDEAD || sweep_is_fine(r));
    if (r == 0 || r == COVEY_EOWNERDEAD)
        check_int(covey_lock_release(lock), ==, 0);
}

static void can_be_watched(void)
{
    struct cv_life life;
    struct cv_futex_watch watch;

    check_int(cv_member_watch(sweep_told(RESERVED), &life, &watch), ==, CV_LIFE_WATCHED);
    cv_member_unwatch(&life);
    sweep_kill(other);
    free_lock();
}

OPERATION(member_watch, .setup = set_up_watched, .victim = acquire, .unblock = release,
    .rescue = use, .when = RESCUE_SLEEPS_LATE, .verify = can_be_watched,
    .proves = "member_watchers");
