/* SPDX-License-Identifier: MIT */
/* The lock, and the rlock, which is that of a shared value, taken several times. See guard.h. */
#include "guard.h"

enum {
    LOCKS = 2,
    DEPTH_MAX = 3,
    TRY_ONCE_IN = 8,
};

struct locks {
    struct {
        covey_lock lock;
        struct guard guard;
    } of[LOCKS];
};

static double patience(void)
{
    return soak_chance(TRY_ONCE_IN) ? (double)soak_random(3) / 1000 : COVEY_FOREVER;
}

static void *set_up(void)
{
    struct locks *locks = covey_calloc(1, sizeof *locks);

    check(locks != NULL);
    for (unsigned i = 0; i < LOCKS; i++)
        check_int(covey_lock_init(&locks->of[i].lock), ==, 0);
    return locks;
}

static void use(struct locks *locks, unsigned i, double timeout_s)
{
    struct guard *g = &locks->of[i].guard;
    int r;

    guard_approach(g);
    r = covey_lock_acquire(&locks->of[i].lock, timeout_s);
    if (r != COVEY_ETIMEDOUT || timeout_s == COVEY_FOREVER) {
        guard_enter(g, r, &soak_lock);
        guard_change(g);
        guard_leave(g);
        check_int(covey_lock_release(&locks->of[i].lock), ==, 0);
    }
    guard_depart(g);
}

static void work(void *state)
{
    use(state, (unsigned)soak_random(LOCKS), patience());
}

static void finish(void *state)
{
    struct locks *locks = state;

    for (unsigned i = 0; i < LOCKS; i++) {
        use(locks, i, COVEY_FOREVER);
        check_int(covey_lock_release(&locks->of[i].lock), ==, COVEY_ENOTHELD);
        check_int(covey_lock_destroy(&locks->of[i].lock), ==, 0);
    }
    check_int(covey_free(locks), ==, 0);
}

const struct scenario soak_lock = {"lock", .set_up = set_up, .work = work, .finish = finish};

/* The rlock ********************************************************************************** */

static void *set_up_value(void)
{
    struct guard *g = covey_array_locked(struct guard, 1);

    check(g != NULL);
    return g;
}

static void use_value(struct guard *g, double timeout_s)
{
    covey_rlock *lock = covey_array_lock(g);
    uint64_t depth = soak_random(DEPTH_MAX);
    int r;

    guard_approach(g);
    r = covey_rlock_acquire(lock, timeout_s);
    if (r != COVEY_ETIMEDOUT || timeout_s == COVEY_FOREVER) {
        guard_enter(g, r, &soak_rlock);
        for (uint64_t i = 0; i < depth; i++)
            check_int(covey_rlock_acquire(lock, 0), ==, 0);
        guard_change(g);
        for (uint64_t i = 0; i < depth; i++)
            check_int(covey_rlock_release(lock), ==, 0);
        guard_change(g);
        guard_leave(g);
        check_int(covey_rlock_release(lock), ==, 0);
    }
    guard_depart(g);
}

static void work_at_value(void *state)
{
    use_value(state, patience());
}

static void finish_value(void *state)
{
    use_value(state, COVEY_FOREVER);
    check_int(covey_rlock_release(covey_array_lock(state)), ==, COVEY_ENOTHELD);
    check_int(covey_array_free(state), ==, 0);
}

const struct scenario soak_rlock = {
    "rlock", .set_up = set_up_value, .work = work_at_value, .finish = finish_value};
