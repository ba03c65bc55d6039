/* SPDX-License-Identifier: MIT */
/*
 * A barrier of three.
 *
 *   - Nobody passes before the action of his round: never have more passed than three for each action.
 *   - A round is completed by those who live. Whoever was dead for certain when the last one came,
 *     because another had his place, cannot be one of them.
 *   - It breaks because of a death, of somebody who was killed and had been there, and works again after
 *     a reset; in the end because it is aborted, and for no other reason.
 */
#include "soak.h"

#include <stdio.h>
#include <string.h>

enum {
    PARTIES = 3,
};

struct gate {
    covey_barrier barrier;
    uint64_t actions;
    uint64_t passed;
    uint64_t resets;
    uint32_t aborted;
    uint8_t is_there[LIVES_MAX]; /* from before it comes until after it goes */
    uint8_t has_been[LIVES_MAX];
    uint8_t is_resetting[LIVES_MAX];
};

/* What the one who comes sees before; his action compares. */
static struct {
    struct gate *gate;
    unsigned dead; /* who had come */
    unsigned dead_resetting;
    uint64_t resets;
} seen;

static void *set_up(void)
{
    struct gate *g = covey_calloc(1, sizeof *g);

    check(g != NULL);
    check_int(covey_barrier_init(&g->barrier, PARTIES), ==, 0);
    return g;
}

static bool is_at_place(uint32_t life)
{
    bool found = false;

    for (unsigned i = 0; i < PLACES; i++)
        found |= cv_load_seq(&run->at_place[i]) == life;
    return found;
}

/* The lives of which a table says so; of the dead, those whose places are others'. */
static unsigned count(const uint8_t *is_so, bool only_dead)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < cv_load_seq(&run->lives); i++)
        n += cv_load_seq(&is_so[i]) && !(only_dead && is_at_place(i));
    return n;
}

static void look(struct gate *g)
{
    seen.gate = g;
    seen.dead = count(g->is_there, true);
    seen.dead_resetting = count(g->is_resetting, true);
    seen.resets = cv_load_seq(&g->resets);
}

/* All of his round are there, unless somebody sends them away by a reset just now. */
static int act(void *context)
{
    struct gate *g = seen.gate;
    unsigned there = count(g->is_there, false);

    (void)context;
    if (count(g->is_resetting, false) == seen.dead_resetting &&
        cv_load_seq(&g->resets) == seen.resets)
        check_int(there, >=, seen.dead + PARTIES);
    soak_dawdle();
    (void)cv_fetch_add(&g->actions, 1);
    return 0;
}

static void check_reason(struct gate *g)
{
    pid_t pid = soak_pid_named();
    uint32_t life = soak_life_of(pid);

    if (strstr(covey_error(), "it was reset"))
        return;
    if (strstr(covey_error(), "has aborted it") && cv_load_seq(&g->aborted))
        return;
    if (!strstr(covey_error(), "has died"))
        test_fail(__FILE__, __LINE__, "barrier: it is broken for no good reason");
    if (life == LIVES_MAX || !soak_is_doomed(life) || !cv_load_seq(&g->has_been[life]))
        test_fail(__FILE__, __LINE__,
            "barrier: it is broken by the death of %d, who was not killed "
            "or had never been there",
            (int)pid);
}

static void reset(struct gate *g)
{
    if (covey_barrier_is_broken(&g->barrier) != 1)
        return;
    if (strstr(covey_error(), "has died"))
        soak_told(&soak_barrier);
    cv_store_seq(&g->is_resetting[soak_me], 1);
    check_int(covey_barrier_reset(&g->barrier), ==, 0);
    (void)cv_fetch_add(&g->resets, 1);
    cv_store_seq(&g->is_resetting[soak_me], 0);
}

static void work(void *state)
{
    struct gate *g = state;
    int r;

    look(g);
    cv_store_seq(&g->has_been[soak_me], 1);
    cv_store_seq(&g->is_there[soak_me], 1);
    r = covey_barrier_wait_then(&g->barrier, act, NULL, COVEY_FOREVER);
    if (r == COVEY_EBROKEN) {
        check_reason(g);
        reset(g);
    } else {
        check_int(r, >=, 0);
        check_int(r, <, PARTIES);
        check_int(cv_fetch_add(&g->passed, 1), <, PARTIES * cv_load_seq(&g->actions));
    }
    cv_store_seq(&g->is_there[soak_me], 0);
}

/* There may be too few in the end. */
static void give(void *state)
{
    struct gate *g = state;

    if (!cv_load_seq(&run->closing) || covey_barrier_waiting(&g->barrier) == 0 ||
        covey_barrier_is_broken(&g->barrier) == 1)
        return;
    cv_store_seq(&g->aborted, 1);
    check_int(covey_barrier_abort(&g->barrier), ==, 0);
}

static void finish(void *state)
{
    struct gate *g = state;

    check_int(g->passed, <=, PARTIES * g->actions);
    check_int(covey_barrier_reset(&g->barrier), ==, 0);
    check_int(covey_barrier_waiting(&g->barrier), ==, 0);
    check_int(covey_barrier_wait(&g->barrier, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_barrier_is_broken(&g->barrier), ==, 1);
    check_int(covey_barrier_destroy(&g->barrier), ==, 0);
    check_int(covey_free(g), ==, 0);
}

const struct scenario soak_barrier = {
    "barrier", .set_up = set_up, .work = work, .give = give, .finish = finish};
