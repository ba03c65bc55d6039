/* SPDX-License-Identifier: MIT */
/*
 * Two producers and three consumers share a queue that holds 10 items at most. When the producers
 * have ended the queue is closed, and the consumers end when they have emptied it. Prints how many
 * numbers were produced and consumed, and their sums, which match.
 */
#include <covey.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PRODUCERS = 2,
    CONSUMERS = 3,
    ITEMS = 1000, /* of each producer */
};

/* Lies in the arena, for all to count in. */
struct totals {
    atomic_long count;
    atomic_long sum;
};

struct job {
    covey_queue *queue;
    struct totals *totals;
};

static _Noreturn void fail(void)
{
    (void)fprintf(stderr, "%s\n", covey_error());
    exit(EXIT_FAILURE);
}

static void check(int result)
{
    if (result < 0)
        fail();
}

static void add(struct totals *totals, int n)
{
    (void)atomic_fetch_add(&totals->count, 1);
    (void)atomic_fetch_add(&totals->sum, n);
}

static int produce(void *argument)
{
    struct job *job = argument;

    for (int n = 1; n <= ITEMS; n++) {
        check(covey_queue_put(job->queue, &n, sizeof n, COVEY_FOREVER));
        add(job->totals, n);
    }
    return 0;
}

static int consume(void *argument)
{
    struct job *job = argument;
    int result;
    int n;

    while ((result = covey_queue_get(job->queue, &n, sizeof n, NULL, COVEY_FOREVER)) == 0)
        add(job->totals, n);
    if (result != COVEY_ECLOSED)
        fail();
    return 0;
}

static void start(covey_process **processes, int count, covey_function *function, struct job job)
{
    for (int i = 0; i < count; i++)
        check(covey_process_start(&processes[i], function, COVEY_ARGUMENT(job)));
}

static void join(covey_process **processes, int count)
{
    for (int i = 0; i < count; i++) {
        check(covey_process_join(processes[i], COVEY_FOREVER));
        check(covey_process_close(processes[i]));
    }
}

int main(int argc, char **argv)
{
    covey_process *producers[PRODUCERS];
    covey_process *consumers[CONSUMERS];
    covey_queue *queue;
    struct totals *totals;

    covey_main(argc, argv);
    check(covey_queue_open(&queue, .items = 10));
    totals = covey_calloc(2, sizeof *totals);
    if (!totals)
        fail();
    start(producers, PRODUCERS, produce, (struct job){queue, &totals[0]});
    start(consumers, CONSUMERS, consume, (struct job){queue, &totals[1]});
    join(producers, PRODUCERS);
    check(covey_queue_close(queue));
    join(consumers, CONSUMERS);
    (void)printf("produced %ld, sum %ld\n", totals[0].count, totals[0].sum);
    (void)printf("consumed %ld, sum %ld\n", totals[1].count, totals[1].sum);
    check(covey_free(totals));
    check(covey_queue_free(queue));
    return EXIT_SUCCESS;
}
