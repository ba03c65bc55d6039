/* SPDX-License-Identifier: MIT */
/*
 * Two queues, a small one and a large one, for many producers and consumers.
 *
 * Every item has a number, in the order in which its producer makes them, and bytes that go with it. A
 * table says of each whether it was about to be put, has been put, and has been taken; a consumer has it
 * written right into the notes of its life. So in the end it is known of each number what must have
 * become of it:
 *
 *   - none is taken twice, none that was refused is taken at all;
 *   - what has been put is taken, or lies, whole, in the notes of a consumer that was killed in getting,
 *     or, of those large enough to be blocks, had become its own but was not yet copied there;
 *   - only a producer that was killed in putting leaves a number of which it is not known whether it has
 *     been put;
 *   - nobody gets two items of one place in the wrong order;
 *   - size() is how many can be taken.
 */
#include "soak.h"

#include "msg/queue.h"

#include <string.h>

enum {
    QUEUES = 2,
    SMALL_ITEMS = 3,
    SMALL_BYTES = 512,
    FILL_WORDS_MAX = 20,
    ITEMS_MAX = 1 << 20, /* in a round */
    ITEMS_SPARE = 1 << 12,
    PUT_ONCE_IN = 2,
    TRY_ONCE_IN = 8,

    /* What is known of an item. */
    BEGUN = 1,
    REFUSED = 2,
    IS_PUT = 4,
    IS_TAKEN = 8,
    IN_DEAD_HANDS = 16,
    BY_THE_DEAD = 32,
    IS_BLOCK = 64,
};

struct item {
    uint32_t number; /* 0: none */
    uint32_t place;
    uint64_t fill[FILL_WORDS_MAX];
};

struct notes {
    uint32_t putting; /* this number */
    uint32_t getting; /* into this: */
    struct item item;
    size_t size;
};

struct queues {
    covey_queue *queue[QUEUES];
    uint32_t next;
    uint32_t in_vain; /* consumers that were killed in getting, and have nothing in their notes */
    uint8_t known[ITEMS_MAX];
    struct notes of[LIVES_MAX + 1];
};

/* The last number got, of each place. */
static uint32_t last[QUEUES][PLACES + 1];

static void *set_up(void)
{
    struct queues *q = covey_calloc(1, sizeof *q);

    check(q != NULL);
    check_int(covey_queue_open(&q->queue[0], .bytes = SMALL_BYTES, .items = SMALL_ITEMS), ==, 0);
    check_int(covey_queue_open(&q->queue[1]), ==, 0);
    memset(last, 0, sizeof last);
    return q;
}

static size_t item_size(uint64_t words)
{
    return offsetof(struct item, fill) + words * sizeof(uint64_t);
}

static bool is_whole(const struct item *item, size_t size)
{
    return item->number > 0 && item->number < ITEMS_MAX && item->place <= PLACES &&
           size >= item_size(0) && size <= sizeof *item &&
           soak_is_filled(item->fill, size - item_size(0), item->number);
}

static uint8_t know(struct queues *q, uint32_t number, unsigned what)
{
    return __atomic_fetch_or(&q->known[number], (uint8_t)what, __ATOMIC_SEQ_CST);
}

static void put(struct queues *q, unsigned which, double timeout_s)
{
    struct notes *me = &q->of[soak_me];
    size_t size = item_size(soak_random(FILL_WORDS_MAX + 1));
    struct item item = {.place = run->life[soak_me].place};
    int r;

    item.number = cv_fetch_add(&q->next, 1) + 1;
    check_int(item.number, <, ITEMS_MAX);
    soak_fill(item.fill, size - item_size(0), item.number);
    cv_store_seq(&me->putting, item.number);
    (void)know(q, item.number, BEGUN | (size >= q->queue[which]->block_min ? IS_BLOCK : 0));
    r = covey_queue_put(q->queue[which], &item, size, timeout_s);
    if (r != COVEY_EFULL || timeout_s == COVEY_FOREVER)
        check_int(r, ==, 0);
    (void)know(q, item.number, r == 0 ? IS_PUT : REFUSED);
    cv_store_seq(&me->putting, 0);
}

static void check_item(struct queues *q, unsigned which, const struct item *item, size_t size)
{
    uint8_t before;

    if (!is_whole(item, size))
        test_fail(__FILE__, __LINE__, "queue: item %u of %zu bytes is torn", item->number, size);
    before = know(q, item->number, IS_TAKEN);
    if (!(before & BEGUN) || (before & (IS_TAKEN | REFUSED)))
        test_fail(__FILE__, __LINE__, "queue: item %u is taken, and was %#x before", item->number,
            before);
    if (item->number <= last[which][item->place])
        test_fail(__FILE__, __LINE__, "queue: place %u's item %u comes after its item %u",
            item->place, item->number, last[which][item->place]);
    last[which][item->place] = item->number;
}

/* False: there was none. */
static bool get(struct queues *q, unsigned which, double timeout_s)
{
    struct notes *me = &q->of[soak_me];
    int r;

    memset(&me->item, 0, sizeof me->item);
    cv_store_seq(&me->getting, 1);
    r = covey_queue_get(q->queue[which], &me->item, sizeof me->item, &me->size, timeout_s);
    if (r != COVEY_EEMPTY || timeout_s == COVEY_FOREVER) {
        check_int(r, ==, 0);
        check_item(q, which, &me->item, me->size);
    }
    cv_store_seq(&me->getting, 0);
    return r == 0;
}

static void work(void *state)
{
    struct queues *q = state;
    unsigned which = (unsigned)soak_random(QUEUES);
    double timeout_s = soak_chance(TRY_ONCE_IN) ? 0 : COVEY_FOREVER;

    if (cv_load_seq(&q->next) > ITEMS_MAX - ITEMS_SPARE)
        return;
    if (soak_chance(PUT_ONCE_IN))
        put(q, which, timeout_s);
    else
        (void)get(q, which, timeout_s);
}

static void give(void *state)
{
    struct queues *q = state;

    for (unsigned i = 0; i < QUEUES; i++) {
        if (covey_queue_is_empty(q->queue[i]))
            put(q, i, 0);
        else if (covey_queue_is_full(q->queue[i], sizeof(struct item)))
            (void)get(q, i, 0);
    }
}

/* What the dead had in their hands. */
static void look_at(struct queues *q, struct notes *n)
{
    size_t size = sizeof n->item;

    if (n->putting)
        (void)know(q, n->putting, BY_THE_DEAD);
    while (n->getting && size > item_size(0) && !is_whole(&n->item, size))
        size -= sizeof(uint64_t);
    if (n->getting && is_whole(&n->item, size))
        (void)know(q, n->item.number, IN_DEAD_HANDS);
    else
        q->in_vain += n->getting;
}

static void check_number(struct queues *q, uint32_t number)
{
    uint8_t known = q->known[number];

    if (known & BEGUN && !(known & (IS_PUT | REFUSED | BY_THE_DEAD)))
        test_fail(__FILE__, __LINE__, "queue: nobody knows whether item %u was put", number);
    if ((known & IS_PUT) && !(known & (IS_TAKEN | IN_DEAD_HANDS)) &&
        !((known & IS_BLOCK) && q->in_vain-- > 0))
        test_fail(__FILE__, __LINE__, "queue: item %u was put and is lost", number);
    if ((known & IS_PUT) && !(known & IS_TAKEN))
        soak_told(&soak_queue);
}

static void finish(void *state)
{
    struct queues *q = state;

    for (unsigned i = 0; i < QUEUES; i++) {
        long size = covey_queue_size(q->queue[i]);

        for (long k = 0; k < size; k++)
            check(get(q, i, 0));
        check(!get(q, i, 0));
        check_int(covey_queue_size(q->queue[i]), ==, 0);
        check_int(covey_queue_close(q->queue[i]), ==, 0);
        check_int(covey_queue_free(q->queue[i]), ==, 0);
    }
    for (uint32_t i = 0; i < run->lives; i++) {
        if (soak_is_doomed(i))
            look_at(q, &q->of[i]);
    }
    for (uint32_t i = 1; i <= q->next && i < ITEMS_MAX; i++)
        check_number(q, i);
    check_int(covey_free(q), ==, 0);
}

const struct scenario soak_queue = {
    "queue", .set_up = set_up, .work = work, .give = give, .finish = finish};
