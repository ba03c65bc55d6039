/* SPDX-License-Identifier: MIT */
/* covey's queues: with copies, and with blocks that move. */
#include "messages.h"

#include <covey.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCKS = 64,
    BLOCK_BYTES = 1 << 30, /* in all, at most */
};

static const struct plan *plan;
static covey_queue *queue[WAYS_MAX];

static void check(bool good)
{
    if (good)
        return;
    (void)fprintf(stderr, "bench/messages: %s\n", covey_error());
    exit(EXIT_FAILURE);
}

static void make(const struct plan *p)
{
    plan = p;
    for (unsigned i = 0; i < p->ways; i++)
        check(covey_queue_open(&queue[i]) == 0);
}

static void put(unsigned way, const void *items)
{
    if (plan->many == 1)
        check(covey_queue_put(queue[way], items, plan->size, COVEY_FOREVER) == 0);
    else
        check(covey_queue_put_many(queue[way], items, plan->size, NULL, plan->many,
                  COVEY_FOREVER) == (long)plan->many);
}

static void get(unsigned way, void *items)
{
    char *p = items;

    if (plan->many == 1)
        check(covey_queue_get(queue[way], items, plan->size, NULL, COVEY_FOREVER) == 0);
    for (long left = plan->many, n = 0; plan->many > 1 && left > 0; left -= n) {
        n = covey_queue_get_many(queue[way], p, plan->size, NULL, (size_t)left, COVEY_FOREVER);
        check(n > 0);
        p += (size_t)n * plan->size;
    }
}

/*
 * Blocks go around: consumers give them back by a queue of their own. So what is measured is what it costs
 * to hand on a block that is there, twice. Only its first byte is touched.
 */
static covey_queue *back;

static void make_for_blocks(const struct plan *p)
{
    plan = p;
    for (unsigned i = 0; i < p->ways; i++)
        check(covey_queue_open(&queue[i], .items = 2 * BLOCKS) == 0);
    check(covey_queue_open(&back, .items = 2 * BLOCKS) == 0);
    for (size_t i = 0; i < BLOCKS && (i + 1) * p->size <= BLOCK_BYTES; i++) {
        void *block = covey_alloc_own(p->size);

        check(block != NULL);
        check(covey_queue_put_block(back, block, p->size, 0) == 0);
    }
}

static void put_block(unsigned way, const void *items)
{
    void *block;

    check(covey_queue_get_block(back, &block, NULL, COVEY_FOREVER) == 0);
    memcpy(block, items, 1);
    check(covey_queue_put_block(queue[way], block, plan->size, COVEY_FOREVER) == 0);
}

static void get_block(unsigned way, void *items)
{
    void *block;

    check(covey_queue_get_block(queue[way], &block, NULL, COVEY_FOREVER) == 0);
    memcpy(items, block, 1);
    check(covey_queue_put_block(back, block, plan->size, COVEY_FOREVER) == 0);
}

const struct channel channels[] = {
    {.name = "queue", .make = make, .put = put, .get = get},
    {.name = "block", .make = make_for_blocks, .put = put_block, .get = get_block},
    {0},
};
