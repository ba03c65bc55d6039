/* SPDX-License-Identifier: MIT */
/*
 * A joinable queue that gives the items of the dead out again, for many producers and consumers, who have
 * several items at a time, and look at some where they lie.
 *
 * Every item has a number. A table says of each whether it was about to be put, has been put, and is done; the
 * notes of a life say what it is about to put, and to say done of. So in the end:
 *
 *   - none is got after it was done, none is done twice;
 *   - what has been put is done, unless who said so was killed in saying it: then it may be that, too;
 *   - when the rest is done as well, the queue is joined.
 */
#include "soak.h"

#include <stdlib.h>

enum {
    ITEMS = 50,       /* as many as go through several segments, should some be large */
    WORDS_MAX = 1000, /* some are blocks */
    SEVERAL = 4,
    ITEMS_MAX = 1 << 20, /* in a round */
    ITEMS_SPARE = 1 << 12,
    TRY_ONCE_IN = 8,
    DAWDLE_ONCE_IN = 4,

    /* What is known of an item. */
    BEGUN = 1,
    IS_PUT = 2,
    IS_DONE = 4,
};

struct item {
    uint64_t number;
    uint64_t fill[WORDS_MAX];
};

struct notes {
    uint32_t putting; /* this number */
    uint32_t ending;
};

struct jobs {
    covey_queue *queue;
    uint32_t next;
    uint8_t known[ITEMS_MAX];
    struct notes of[LIVES_MAX + 1];
};

static void *set_up(void)
{
    struct jobs *j = covey_calloc(1, sizeof *j);

    check(j != NULL);
    check_int(covey_queue_open(&j->queue, .items = ITEMS, .redeliver = true), ==, 0);
    return j;
}

static uint8_t know(struct jobs *j, uint32_t number, unsigned what)
{
    return __atomic_fetch_or(&j->known[number], (uint8_t)what, __ATOMIC_SEQ_CST);
}

static void put(struct jobs *j, double timeout_s)
{
    static struct item item;
    struct notes *me = &j->of[soak_me];
    size_t words = soak_random(soak_chance(TRY_ONCE_IN) ? WORDS_MAX : SEVERAL);
    uint32_t number = cv_fetch_add(&j->next, 1) + 1;
    int r;

    check_int(number, <, ITEMS_MAX);
    item.number = number;
    soak_fill(item.fill, words * sizeof *item.fill, number);
    cv_store_seq(&me->putting, number);
    (void)know(j, number, BEGUN);
    r = covey_queue_put(j->queue, &item, sizeof item.number + words * sizeof *item.fill, timeout_s);
    if (r != COVEY_EFULL || timeout_s == COVEY_FOREVER)
        check_int(r, ==, 0);
    if (r == 0)
        (void)know(j, number, IS_PUT);
    cv_store_seq(&me->putting, 0);
}

/* It has been got: its number. */
static uint32_t look(struct jobs *j, const struct item *item, size_t size)
{
    uint32_t number = (uint32_t)item->number;
    uint8_t known = number < ITEMS_MAX ? cv_load_seq(&j->known[number]) : 0;

    if (size < sizeof item->number || !(known & BEGUN) ||
        !soak_is_filled(item->fill, size - sizeof item->number, item->number))
        test_fail(__FILE__, __LINE__, "claims: item %u of %zu bytes is torn", number, size);
    if (known & IS_DONE)
        test_fail(__FILE__, __LINE__, "claims: item %u is got, and was done", number);
    return number;
}

static void end(struct jobs *j, uint32_t number, const void *at)
{
    struct notes *me = &j->of[soak_me];

    cv_store_seq(&me->ending, number);
    check_int(at ? covey_queue_release(j->queue, at) : covey_queue_task_done(j->queue), ==, 0);
    if (know(j, number, IS_DONE) & IS_DONE)
        test_fail(__FILE__, __LINE__, "claims: item %u is done twice", number);
    cv_store_seq(&me->ending, 0);
}

/* False: there was none. */
static bool work_on_some(struct jobs *j, size_t most, double timeout_s)
{
    static struct item items[SEVERAL];
    size_t sizes[SEVERAL];
    uint32_t numbers[SEVERAL];
    long n = covey_queue_get_many(j->queue, items, sizeof items[0], sizes, most, timeout_s);

    if (n == COVEY_EEMPTY && timeout_s != COVEY_FOREVER)
        return false;
    check_int(n, >, 0);
    for (long i = 0; i < n; i++)
        numbers[i] = look(j, &items[i], sizes[i]);
    if (soak_chance(DAWDLE_ONCE_IN))
        soak_dawdle();
    for (long i = 0; i < n; i++)
        end(j, numbers[i], NULL);
    return true;
}

static void look_at_one(struct jobs *j, double timeout_s)
{
    const void *item;
    size_t size;
    uint32_t number;
    int r = covey_queue_peek(j->queue, &item, &size, timeout_s);

    if (r == COVEY_EEMPTY && timeout_s != COVEY_FOREVER)
        return;
    check_int(r, ==, 0);
    number = look(j, item, size);
    if (soak_chance(DAWDLE_ONCE_IN))
        soak_dawdle();
    check_int(look(j, item, size), ==, number);
    if (soak_chance(2))
        end(j, number, item);
    else
        check_int(covey_queue_unpeek(j->queue, item), ==, 0);
}

static void work(void *state)
{
    struct jobs *j = state;
    double timeout_s = soak_chance(TRY_ONCE_IN) ? 0 : COVEY_FOREVER;
    int r;

    if (cv_load_seq(&j->next) > ITEMS_MAX - ITEMS_SPARE)
        return;
    switch (soak_random(8)) {
    case 0:
        r = covey_queue_join(j->queue, 0);
        check(r == 0 || r == COVEY_ETIMEDOUT);
        return;
    case 1:
        look_at_one(j, timeout_s);
        return;
    case 2:
    case 3:
    case 4:
        (void)work_on_some(j, 1 + soak_random(SEVERAL), timeout_s);
        return;
    default:
        put(j, timeout_s);
    }
}

static void give(void *state)
{
    struct jobs *j = state;

    if (covey_queue_is_empty(j->queue))
        put(j, 0);
    else if (covey_queue_is_full(j->queue, sizeof(struct item)))
        (void)work_on_some(j, 1, 0);
}

static void check_number(struct jobs *j, uint32_t number, bool by_the_dead)
{
    if ((j->known[number] & (IS_PUT | IS_DONE)) != IS_PUT)
        return;
    if (!by_the_dead)
        test_fail(__FILE__, __LINE__, "claims: item %u was put, and is lost", number);
    soak_told(&soak_claims);
}

static void finish(void *state)
{
    struct jobs *j = state;
    uint8_t *ended_by_the_dead = calloc(ITEMS_MAX, 1);

    check(ended_by_the_dead != NULL);
    while (work_on_some(j, SEVERAL, 0)) {
    }
    check_int(covey_queue_join(j->queue, 0), ==, 0);
    check_int(covey_queue_size(j->queue), ==, 0);
    check_int(covey_queue_free(j->queue), ==, 0);
    for (uint32_t i = 0; i < run->lives; i++) {
        if (soak_is_doomed(i))
            ended_by_the_dead[j->of[i].ending] = 1;
    }
    for (uint32_t i = 1; i <= j->next && i < ITEMS_MAX; i++)
        check_number(j, i, ended_by_the_dead[i]);
    free(ended_by_the_dead);
    check_int(covey_free(j), ==, 0);
}

const struct scenario soak_claims = {
    "claims", .set_up = set_up, .work = work, .give = give, .finish = finish};
