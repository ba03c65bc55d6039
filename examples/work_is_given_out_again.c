/* SPDX-License-Identifier: MIT */
/*
 * A joinable queue of work. One of the two workers is killed in the middle of an item; the other one gets
 * that item, too, and the parent, which waits for all of them to be done, need not know.
 */
#include <covey.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ITEMS = 6,
    UNLUCKY = 1, /* the worker that does not live long */
};

struct job {
    covey_queue *queue;
    int *done; /* how often each item was finished; in the arena */
    int worker;
};

static void check(int result)
{
    if (result < 0) {
        (void)fprintf(stderr, "%s\n", covey_error());
        exit(EXIT_FAILURE);
    }
}

static int work(void *argument)
{
    struct job *job = argument;
    int item;

    while (covey_queue_get_value(job->queue, &item, COVEY_FOREVER) == 0) {
        if (job->worker == UNLUCKY)
            (void)raise(SIGKILL);
        (void)covey_fetch_add(&job->done[item], 1);
        check(covey_queue_task_done(job->queue));
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct job job = {0};
    covey_process *worker[2];

    covey_main(argc, argv);
    check(covey_queue_open(&job.queue, .joinable = true, .redeliver = true));
    job.done = covey_calloc(ITEMS, sizeof *job.done);
    for (int item = 0; item < ITEMS; item++)
        check(covey_queue_put_value(job.queue, item, COVEY_FOREVER));
    job.worker = UNLUCKY;
    check(covey_process_start(&worker[1], work, COVEY_ARGUMENT(job)));
    check(covey_process_join(worker[1], COVEY_FOREVER));
    job.worker = 0;
    check(covey_process_start(&worker[0], work, COVEY_ARGUMENT(job)));
    check(covey_queue_join(job.queue, COVEY_FOREVER));
    for (int item = 0; item < ITEMS; item++)
        (void)printf("item %d was done %d time\n", item, job.done[item]);
    check(covey_queue_close(job.queue));
    check(covey_process_join(worker[0], COVEY_FOREVER));
    for (int i = 0; i < 2; i++)
        check(covey_process_close(worker[i]));
    check(covey_free(job.done));
    check(covey_queue_free(job.queue));
    return EXIT_SUCCESS;
}
