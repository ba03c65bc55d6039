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

struct shared {
    covey_queue *queue;
    atomic_long produced, produced_sum;
    atomic_long consumed, consumed_sum;
};

static void check(int result)
{
    if (result < 0) {
        (void)fprintf(stderr, "%s\n", covey_error());
        exit(EXIT_FAILURE);
    }
}

static int produce(void *argument)
{
    struct shared *shared = *(struct shared **)argument;

    for (int n = 1; n <= ITEMS; n++) {
        check(covey_queue_put(shared->queue, &n, sizeof n, COVEY_FOREVER));
        atomic_fetch_add(&shared->produced, 1);
        atomic_fetch_add(&shared->produced_sum, n);
    }
    return 0;
}

static int consume(void *argument)
{
    struct shared *shared = *(struct shared **)argument;
    int result;
    int n;

    while ((result = covey_queue_get(shared->queue, &n, sizeof n, NULL, COVEY_FOREVER)) == 0) {
        atomic_fetch_add(&shared->consumed, 1);
        atomic_fetch_add(&shared->consumed_sum, n);
    }
    if (result != COVEY_ECLOSED)
        check(result);
    return 0;
}

static void start(covey_process **processes, int count, covey_function *run, struct shared *shared)
{
    for (int i = 0; i < count; i++)
        check(covey_process_start(&processes[i], run, COVEY_ARGUMENT(shared)));
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
    struct shared *shared;
    covey_process *producers[PRODUCERS];
    covey_process *consumers[CONSUMERS];

    covey_main(argc, argv);
    shared = covey_calloc(1, sizeof *shared);
    if (!shared)
        check(covey_error_code());
    check(covey_queue_open(&shared->queue, .items = 10));
    start(producers, PRODUCERS, produce, shared);
    start(consumers, CONSUMERS, consume, shared);
    join(producers, PRODUCERS);
    check(covey_queue_close(shared->queue));
    join(consumers, CONSUMERS);
    (void)printf("produced %ld, sum %ld\n", shared->produced, shared->produced_sum);
    (void)printf("consumed %ld, sum %ld\n", shared->consumed, shared->consumed_sum);
    check(covey_queue_free(shared->queue));
    check(covey_free(shared));
    return EXIT_SUCCESS;
}
