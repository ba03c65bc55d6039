/* SPDX-License-Identifier: MIT */
/*
 * A condition: a level under a lock, raised by some and lowered by others, who wait while it is 0.
 *
 * The lock is a lock or an rlock, by turns; see guard.h. Each that raises the level notifies one. So
 * nobody sleeps when it is not 0: it is that which shows at the end of a round.
 */
#include "guard.h"
#include "tally.h"

enum {
    LOWER_TWICE_IN = 3,
    IMPATIENT_ONCE_IN = 8,
    ALL_ONCE_IN = 16,
};

struct box {
    covey_lock lock;
    covey_rlock rlock;
    bool is_recursive;
    covey_condition filled;
    uint64_t level;
    struct guard guard;
    struct tally raised;
    struct tally lowered;
};

static void *set_up(void)
{
    struct box *box = covey_calloc(1, sizeof *box);

    check(box != NULL);
    box->is_recursive = soak_chance(2);
    check_int(covey_lock_init(&box->lock), ==, 0);
    check_int(covey_rlock_init(&box->rlock), ==, 0);
    check_int(covey_condition_init(
                  &box->filled, box->is_recursive ? (void *)&box->rlock : (void *)&box->lock),
        ==, 0);
    return box;
}

/* The dead one may have raised the level and told nobody. */
static void enter(struct box *box, int result)
{
    guard_enter(&box->guard, result, &soak_condition);
    guard_change(&box->guard);
    if (result == COVEY_EOWNERDEAD)
        check_int(covey_condition_notify_all(&box->filled), ==, 0);
}

static void acquire(struct box *box)
{
    guard_approach(&box->guard);
    enter(box, box->is_recursive ? covey_rlock_acquire(&box->rlock, COVEY_FOREVER)
                                 : covey_lock_acquire(&box->lock, COVEY_FOREVER));
}

static void release(struct box *box)
{
    guard_leave(&box->guard);
    check_int(box->is_recursive ? covey_rlock_release(&box->rlock) : covey_lock_release(&box->lock),
        ==, 0);
    guard_depart(&box->guard);
}

static void raise_level(struct box *box)
{
    tally_begin(&box->raised);
    cv_store_seq(&box->level, box->level + 1);
    tally_end(&box->raised);
    if (soak_chance(ALL_ONCE_IN))
        check_int(covey_condition_notify_all(&box->filled), ==, 0);
    else
        check_int(covey_condition_notify(&box->filled, 1), ==, 0);
}

/* False: nothing came in time. */
static bool await_level(struct box *box, double timeout_s)
{
    while (box->level == 0) {
        int r;

        guard_leave(&box->guard);
        r = covey_condition_wait(&box->filled, timeout_s);
        enter(box, r == COVEY_ETIMEDOUT && timeout_s != COVEY_FOREVER ? 0 : r);
        if (r == COVEY_ETIMEDOUT)
            return box->level != 0;
    }
    return true;
}

static void lower_level(struct box *box)
{
    double timeout_s =
        soak_chance(IMPATIENT_ONCE_IN) ? (double)soak_random(3) / 1000 : COVEY_FOREVER;

    if (!await_level(box, timeout_s))
        return;
    tally_begin(&box->lowered);
    cv_store_seq(&box->level, box->level - 1);
    tally_end(&box->lowered);
}

static void work(void *state)
{
    struct box *box = state;

    acquire(box);
    if (soak_random(3) < LOWER_TWICE_IN - 1)
        lower_level(box);
    else
        raise_level(box);
    release(box);
}

static void give(void *state)
{
    struct box *box = state;

    acquire(box);
    if (box->level == 0)
        raise_level(box);
    release(box);
}

static void finish(void *state)
{
    struct box *box = state;

    acquire(box);
    check_int(box->level, >=,
        tally_least(&box->raised) - tally_least(&box->lowered) - tally_doubts(&box->lowered));
    check_int(box->level, <=,
        tally_least(&box->raised) - tally_least(&box->lowered) + tally_doubts(&box->raised));
    release(box);
    check_int(covey_condition_destroy(&box->filled), ==, 0);
    check_int(covey_lock_destroy(&box->lock), ==, 0);
    check_int(covey_rlock_destroy(&box->rlock), ==, 0);
    check_int(covey_free(box), ==, 0);
}

const struct scenario soak_condition = {
    "condition", .set_up = set_up, .work = work, .give = give, .finish = finish};
