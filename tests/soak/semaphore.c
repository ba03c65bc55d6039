/* SPDX-License-Identifier: MIT */
/*
 * Permits, and events that are counted.
 *
 * A permit is held from before its holder says so until after he has taken that back. So if more than
 * there are permits are said to be held by lives that are not doomed, and a second look finds them
 * unchanged, there were too many at the same time. In the end all are free.
 *
 * Of the counter it is known how often it was raised and lowered: see tally.h.
 */
#include "tally.h"

enum {
    PERMITS = 3,
    TRY_ONCE_IN = 8,
    SECOND_ONCE_IN = 4,
};

struct permits {
    covey_semaphore semaphore;
    struct {
        uint32_t held; /* so many for certain */
        uint32_t turn; /* changes whenever that does */
    } of[LIVES_MAX + 1];
};

static void *set_up(void)
{
    struct permits *p = covey_calloc(1, sizeof *p);
    enum covey_semaphore_kind kind = soak_chance(2) ? COVEY_SEMAPHORE : COVEY_BOUNDED;

    check(p != NULL);
    check_int(covey_semaphore_init(&p->semaphore, PERMITS, kind), ==, 0);
    return p;
}

static void note(struct permits *p, uint32_t held)
{
    cv_store_seq(&p->of[soak_me].turn, p->of[soak_me].turn + 1);
    cv_store_seq(&p->of[soak_me].held, held);
}

struct look {
    uint32_t life[PLACES];
    uint32_t held[PLACES];
    uint32_t turn[PLACES];
    uint32_t all;
};

static struct look look(struct permits *p)
{
    struct look l = {0};

    for (unsigned i = 0; i < PLACES; i++) {
        l.life[i] = cv_load_seq(&run->at_place[i]);
        l.turn[i] = cv_load_seq(&p->of[l.life[i]].turn);
        l.held[i] = soak_is_doomed(l.life[i]) ? 0 : cv_load_seq(&p->of[l.life[i]].held);
        l.all += l.held[i];
    }
    return l;
}

/* More than there are, unless one of them changed between the looks. */
static void check_permits(struct permits *p)
{
    struct look first = look(p);
    struct look second;

    if (first.all <= PERMITS)
        return;
    second = look(p);
    for (unsigned i = 0; i < PLACES; i++) {
        if (first.held[i] && (first.life[i] != second.life[i] || first.turn[i] != second.turn[i] ||
                                 first.held[i] != second.held[i]))
            return;
    }
    test_fail(__FILE__, __LINE__, "%u of %d permits are held", first.all, (int)PERMITS);
}

static void release(struct permits *p, uint32_t left)
{
    note(p, left);
    check_int(covey_semaphore_release(&p->semaphore), ==, 0);
}

static void work(void *state)
{
    struct permits *p = state;
    double timeout_s = soak_chance(TRY_ONCE_IN) ? (double)soak_random(3) / 1000 : COVEY_FOREVER;
    int r = covey_semaphore_acquire(&p->semaphore, timeout_s);
    bool second;

    if (r == COVEY_ETIMEDOUT && timeout_s != COVEY_FOREVER)
        return;
    check_int(r, ==, 0);
    note(p, 1);
    check_permits(p);
    second = soak_chance(SECOND_ONCE_IN) && covey_semaphore_acquire(&p->semaphore, 0) == 0;
    if (second)
        note(p, 2);
    check_permits(p);
    soak_dawdle();
    if (second)
        release(p, 1);
    release(p, 0);
}

static void finish(void *state)
{
    struct permits *p = state;

    for (uint32_t i = 0; i < run->lives; i++) {
        for (uint32_t k = 0; k < p->of[i].held; k++)
            soak_told(&soak_semaphore);
    }
    check_int(covey_semaphore_value(&p->semaphore), ==, PERMITS);
    for (int i = 0; i < PERMITS; i++)
        check_int(covey_semaphore_acquire(&p->semaphore, 0), ==, 0);
    check_int(covey_semaphore_acquire(&p->semaphore, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_semaphore_destroy(&p->semaphore), ==, 0);
    check_int(covey_free(p), ==, 0);
}

const struct scenario soak_semaphore = {
    "semaphore", .set_up = set_up, .work = work, .finish = finish};

/* The counter ******************************************************************************** */

struct counter {
    covey_semaphore semaphore;
    struct tally given;
    struct tally taken;
};

static void *set_up_counter(void)
{
    struct counter *c = covey_calloc(1, sizeof *c);

    check(c != NULL);
    check_int(covey_semaphore_init(&c->semaphore, 0, COVEY_EVENTS), ==, 0);
    return c;
}

static void raise_counter(struct counter *c)
{
    tally_begin(&c->given);
    check_int(covey_semaphore_release(&c->semaphore), ==, 0);
    tally_end(&c->given);
}

static void lower_counter(struct counter *c)
{
    tally_begin(&c->taken);
    check_int(covey_semaphore_acquire(&c->semaphore, COVEY_FOREVER), ==, 0);
    tally_end(&c->taken);
}

static void work_at_counter(void *state)
{
    if (soak_chance(2))
        raise_counter(state);
    else
        lower_counter(state);
}

static void give(void *state)
{
    struct counter *c = state;

    if (covey_semaphore_value(&c->semaphore) == 0)
        raise_counter(c);
}

static void finish_counter(void *state)
{
    struct counter *c = state;
    uint64_t least = tally_least(&c->given) - tally_least(&c->taken) - tally_doubts(&c->taken);
    uint64_t most = tally_least(&c->given) - tally_least(&c->taken) + tally_doubts(&c->given);

    check_int(covey_semaphore_value(&c->semaphore), >=, least);
    check_int(covey_semaphore_value(&c->semaphore), <=, most);
    check_int(covey_semaphore_destroy(&c->semaphore), ==, 0);
    check_int(covey_free(c), ==, 0);
}

const struct scenario soak_counter = {"counter", .set_up = set_up_counter, .work = work_at_counter,
    .give = give, .finish = finish_counter};
