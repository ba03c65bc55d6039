/* SPDX-License-Identifier: MIT */
#include "guard.h"

static void check_told(struct guard *g, const struct scenario *scenario)
{
    pid_t pid = soak_pid_named();
    uint32_t dead = soak_life_of(pid);

    if (dead == LIVES_MAX || !soak_is_doomed(dead))
        test_fail(__FILE__, __LINE__, "%s: told of the death of %d, who was not killed",
            scenario->name, (int)pid);
    if (!g->of[dead].is_near)
        test_fail(__FILE__, __LINE__, "%s: told of the death of %d, who was elsewhere",
            scenario->name, (int)pid);
    if (__atomic_fetch_add(&g->of[dead].is_told, 1, __ATOMIC_SEQ_CST) != 0)
        test_fail(
            __FILE__, __LINE__, "%s: told of the death of %d again", scenario->name, (int)pid);
    soak_told(scenario);
}

/*
 * The dead one is found in the record by somebody who was not told of it: was another one? A reader who
 * was killed later may have been told and not have said so; he accounts for one dead writer.
 */
static bool is_excused(struct guard *g, uint32_t dead)
{
    if (cv_load_seq(&g->of[dead].is_told))
        return true;
    for (uint32_t i = 0; i < cv_load_seq(&run->lives); i++) {
        uint32_t none = 0;

        if (cv_load_seq(&run->life[i].doomed) > cv_load_seq(&run->life[dead].doomed) &&
            cv_load_seq(&g->of[i].is_reader) &&
            (cv_cas(&g->of[i].excuses, &none, dead + 1) || none == dead + 1))
            return true;
    }
    return false;
}

__attribute__((noreturn)) static void fail_untold(uint32_t dead, const struct scenario *scenario)
{
    test_fail(__FILE__, __LINE__,
        "%s: what process %d has half written is seen by one who was not told, nor was anybody "
        "else",
        scenario->name, (int)run->life[dead].pid);
}

/* Another reader may hold the lock, too, and have been told, and not have said so yet. */
static void await_excuse(struct guard *g, uint32_t dead, const struct scenario *scenario)
{
    double end_s = test_now_s() + run->deadline_s;

    while (!is_excused(g, dead)) {
        if (!soak_is_doomed(dead) || test_now_s() > end_s)
            fail_untold(dead, scenario);
        test_sleep_ms(1);
    }
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

static void become_holder(struct guard *g)
{
    cv_store_seq(&g->holder, soak_me + 1);
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
    become_holder(g);
}

void guard_enter_as_writer(struct guard *g, int result, const struct scenario *scenario)
{
    uint32_t before = cv_load_seq(&g->holder);

    if (result == 0 && before) { /* a reader was told, then, and has said so or is dead */
        if (!soak_is_doomed(before - 1) || !is_excused(g, before - 1))
            fail_untold(before - 1, scenario);
        become_holder(g);
        return;
    }
    guard_enter(g, result, scenario);
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
    cv_store_seq(&g->of[soak_me].is_reader, 0);
    cv_store_seq(&g->of[soak_me].is_near, 0);
}

void guard_approach_to_read(struct guard *g)
{
    cv_store_seq(&g->of[soak_me].is_reader, 1);
}

bool guard_read(struct guard *g, int result, const struct scenario *scenario)
{
    uint32_t holder = cv_load_seq(&g->holder);
    uint64_t value = cv_load_seq(&g->left);

    if (result == COVEY_EOWNERDEAD)
        check_told(g, scenario);
    else
        check_int(result, ==, 0);
    cv_store_seq(&g->of[soak_me].is_reader, 0);
    if (holder) {
        if (!soak_is_doomed(holder - 1) || result == 0)
            await_excuse(g, holder - 1, scenario);
        return false;
    }
    check_whole(g, scenario);
    soak_dawdle();
    check_int(cv_load_seq(&g->holder), ==, 0);
    check_int(cv_load_seq(&g->right), ==, value);
    return true;
}
