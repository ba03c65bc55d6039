/* SPDX-License-Identifier: MIT */
#include "guard.h"

/* The life of whom the calling process was just told that it has died here. */
static uint32_t life_told_of(const struct guard *g, const struct scenario *scenario)
{
    pid_t pid = soak_pid_named();
    uint32_t dead = soak_life_of(pid);

    if (dead == LIVES_MAX || !soak_is_doomed(dead))
        test_fail(__FILE__, __LINE__, "%s: told of the death of %d, who was not killed",
            scenario->name, (int)pid);
    if (!g->of[dead].is_near)
        test_fail(__FILE__, __LINE__, "%s: told of the death of %d, who was elsewhere",
            scenario->name, (int)pid);
    return dead;
}

static void check_told(struct guard *g, const struct scenario *scenario)
{
    uint32_t dead = life_told_of(g, scenario);

    if (__atomic_fetch_add(&g->of[dead].is_told, 1, __ATOMIC_SEQ_CST) != 0)
        test_fail(__FILE__, __LINE__, "%s: told of the death of %d again", scenario->name,
            (int)run->life[dead].pid);
    soak_told(scenario);
}

static void check_whole(const struct guard *g, const struct scenario *scenario)
{
    uint64_t left = cv_load_seq(&g->left);
    uint64_t right = cv_load_seq(&g->right);

    if (left != right)
        test_fail(__FILE__, __LINE__, "%s: the record is torn and nobody has died: %llx, %llx",
            scenario->name, (unsigned long long)left, (unsigned long long)right);
}

void guard_approach(struct guard *g)
{
    cv_store_seq(&g->of[soak_me].is_near, 1);
}

void guard_enter(struct guard *g, int result, const struct scenario *scenario)
{
    uint32_t before = cv_load_seq(&g->holder);

    if (result == COVEY_EOWNERDEAD)
        check_told(g, scenario);
    else
        check_int(result, ==, 0);
    if (before && (result == 0 || !soak_is_doomed(before - 1)))
        test_fail(__FILE__, __LINE__, "%s: process %d holds the lock, too (got %d)", scenario->name,
            (int)run->life[before - 1].pid, result);
    if (!before)
        check_whole(g, scenario);
    cv_store_seq(&g->holder, soak_me + 1);
}

void guard_change(struct guard *g)
{
    uint64_t value = soak_random(UINT64_MAX);

    check_int(cv_load_seq(&g->holder), ==, soak_me + 1);
    cv_store_seq(&g->left, value);
    soak_dawdle();
    check_int(cv_load_seq(&g->left), ==, value);
    check_int(cv_load_seq(&g->holder), ==, soak_me + 1);
    cv_store_seq(&g->right, value);
}

void guard_leave(struct guard *g)
{
    check_int(cv_load_seq(&g->holder), ==, soak_me + 1);
    check_int(cv_load_seq(&g->left), ==, cv_load_seq(&g->right));
    cv_store_seq(&g->holder, 0);
}

void guard_depart(struct guard *g)
{
    cv_store_seq(&g->of[soak_me].is_near, 0);
}

bool guard_read(struct guard *g, int result, const struct scenario *scenario)
{
    uint64_t value = cv_load_seq(&g->left);

    if (result == COVEY_EOWNERDEAD) {
        (void)life_told_of(g, scenario);
        return false;
    }
    check_int(result, ==, 0);
    check_int(cv_load_seq(&g->holder), ==, 0);
    check_whole(g, scenario);
    soak_dawdle();
    check_int(cv_load_seq(&g->holder), ==, 0);
    check_int(cv_load_seq(&g->right), ==, value);
    return true;
}
