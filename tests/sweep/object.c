/* SPDX-License-Identifier: MIT */
/* Making objects, and making plain memory of them again. */
#include "sweep.h"

static struct objects {
    covey_lock lock;
    covey_rlock rlock;
    covey_rwlock rwlock;
    covey_semaphore semaphore;
    covey_semaphore counter;
    covey_condition condition;
    covey_event event;
    covey_barrier barrier;
} * all;

static void set_up(void)
{
    all = covey_alloc(sizeof *all);
    sweep_fill(all, sizeof *all, 1);
}

static void make(void)
{
    check_int(covey_lock_init(&all->lock), ==, 0);
    check_int(covey_rlock_init(&all->rlock), ==, 0);
    check_int(covey_rwlock_init(&all->rwlock), ==, 0);
    check_int(covey_semaphore_init(&all->semaphore, 1, COVEY_BOUNDED), ==, 0);
    check_int(covey_semaphore_init(&all->counter, 1, COVEY_EVENTS), ==, 0);
    check_int(covey_condition_init(&all->condition, &all->lock), ==, 0);
    check_int(covey_event_init(&all->event), ==, 0);
    check_int(covey_barrier_init(&all->barrier, 1), ==, 0);
}

static void set_up_made(void)
{
    set_up();
    make();
}

/* Each is one, and free; or it is none. */
static void expect_whole_or_nothing(int r)
{
    check(r == 0 || r == COVEY_EINVAL);
}

static void try_all(void)
{
    int r = covey_lock_acquire(&all->lock, 0);

    expect_whole_or_nothing(r);
    if (r == 0)
        expect_whole_or_nothing(covey_condition_notify_all(&all->condition));
    if (r == 0)
        check_int(covey_lock_release(&all->lock), ==, 0);
    r = covey_rlock_acquire(&all->rlock, 0);
    expect_whole_or_nothing(r);
    if (r == 0)
        check_int(covey_rlock_release(&all->rlock), ==, 0);
    r = covey_rwlock_acquire_write(&all->rwlock, 0);
    expect_whole_or_nothing(r);
    if (r == 0)
        check_int(covey_rwlock_release(&all->rwlock), ==, 0);
    r = covey_semaphore_acquire(&all->semaphore, 0);
    expect_whole_or_nothing(r);
    if (r == 0)
        check_int(covey_semaphore_release(&all->semaphore), ==, 0);
    r = covey_semaphore_acquire(&all->counter, 0);
    expect_whole_or_nothing(r);
    if (r == 0)
        check_int(covey_semaphore_release(&all->counter), ==, 0);
    expect_whole_or_nothing(covey_event_set(&all->event));
    expect_whole_or_nothing(covey_barrier_wait(&all->barrier, 0));
}

/* Whether V had destroyed it, or W does now. */
static void gone(int r)
{
    expect_whole_or_nothing(r);
    check(r == COVEY_EINVAL || !sweep_victim_finished());
}

static void destroy(void)
{
    check_int(covey_condition_destroy(&all->condition), ==, 0);
    check_int(covey_lock_destroy(&all->lock), ==, 0);
    check_int(covey_rlock_destroy(&all->rlock), ==, 0);
    check_int(covey_rwlock_destroy(&all->rwlock), ==, 0);
    check_int(covey_semaphore_destroy(&all->semaphore), ==, 0);
    check_int(covey_semaphore_destroy(&all->counter), ==, 0);
    check_int(covey_event_destroy(&all->event), ==, 0);
    check_int(covey_barrier_destroy(&all->barrier), ==, 0);
}

/* The same memory can be used again. */
static void end(void)
{
    make();
    try_all();
    destroy();
    check_int(covey_free(all), ==, 0);
}

OPERATION(object_init, .setup = set_up, .victim = make, .rescue = try_all, .verify = end);

static void destroy_what_is_left(void)
{
    gone(covey_condition_destroy(&all->condition));
    gone(covey_lock_destroy(&all->lock));
    gone(covey_rlock_destroy(&all->rlock));
    gone(covey_rwlock_destroy(&all->rwlock));
    gone(covey_semaphore_destroy(&all->semaphore));
    gone(covey_semaphore_destroy(&all->counter));
    gone(covey_event_destroy(&all->event));
    gone(covey_barrier_destroy(&all->barrier));
    end();
}

/* Nobody may use what is being destroyed: so V is not stopped. */
OPERATION(object_destroy, .setup = set_up_made, .victim = destroy, .rescue = try_all,
    .verify = destroy_what_is_left, .no_stall = true);
