/* SPDX-License-Identifier: MIT */
/*
 * One poll() loop, as programs have that also look after sockets or windows: for orders from a pipe, jobs of two
 * priorities from a queue, and the result of a task. Each source is got from until there is nothing more, and
 * tells by its descriptor when there is something again, or that it has ended.
 */
#include <covey.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ORDINARY,
    URGENT,
    PRIORITIES
};

struct office {
    covey_queue *jobs;
    covey_pipe *orders;
};

static void check(int result)
{
    if (result < 0) {
        (void)fprintf(stderr, "%s\n", covey_error());
        exit(EXIT_FAILURE);
    }
}

static void put(covey_queue *jobs, unsigned priority, const char *text)
{
    check(covey_queue_put_at(jobs, priority, text, strlen(text) + 1, COVEY_FOREVER));
}

static int send_all(void *argument)
{
    const struct office *o = argument;

    put(o->jobs, ORDINARY, "water the plants");
    put(o->jobs, ORDINARY, "post the letters");
    put(o->jobs, URGENT, "put out the fire");
    check(covey_pipe_send(o->orders, "begin", sizeof "begin", COVEY_FOREVER));
    return 0;
}

static int add(const void *argument, void *result)
{
    const int *n = argument;

    *(int *)result = n[0] + n[1];
    return 0;
}

/* Each of these does what can be done now, and says whether there will be more. */

static bool read_orders(covey_pipe *orders)
{
    char order[16];
    int r;

    while ((r = covey_pipe_receive(orders, order, sizeof order, NULL, 0)) == 0)
        (void)printf("order: %s\n", order);
    return r == COVEY_EEMPTY;
}

static bool do_jobs(covey_queue *jobs)
{
    char job[32];
    int r;

    while ((r = covey_queue_get(jobs, job, sizeof job, NULL, 0)) == 0)
        (void)printf("job: %s\n", job);
    return r == COVEY_EEMPTY;
}

static bool get_sum(covey_future *future, int *sum)
{
    int r = covey_future_get(future, sum, 0);

    return r == COVEY_ETIMEDOUT;
}

int main(int argc, char **argv)
{
    const int pair[] = {2, 3};
    struct office office;
    covey_pipe *orders;
    covey_process *sender;
    covey_pool *pool;
    covey_future *future;
    int sum = 0;

    covey_main(argc, argv);
    check(covey_queue_open(&office.jobs, .priorities = PRIORITIES, .producers = 1));
    check(covey_pipe_open(&orders, &office.orders, .one_way = true));
    check(covey_pool_open(&pool, .workers = 1));
    check(covey_pool_submit(pool, &future, add, COVEY_ARGUMENT(pair), .result_size = sizeof sum));
    check(covey_process_start(&sender, send_all, COVEY_ARGUMENT(office)));
    check(
        covey_queue_add_producer(office.jobs, sender)); /* should it die before it puts anything */
    check(covey_pipe_close(office.orders));

    struct pollfd look[] = {
        {.fd = covey_pipe_fd(orders), .events = POLLIN},
        {.fd = -1, .events = POLLIN}, /* no job before the order */
        {.fd = covey_future_fd(future), .events = POLLIN},
    };
    while (look[0].fd >= 0 || look[1].fd >= 0 || look[2].fd >= 0) {
        check(poll(look, 3, -1));
        if (look[0].revents && !read_orders(orders)) {
            look[0].fd = -1;
            look[1].fd = covey_queue_fd(office.jobs);
        }
        if (look[1].revents && !do_jobs(office.jobs))
            look[1].fd = -1;
        if (look[2].revents && !get_sum(future, &sum))
            look[2].fd = -1;
    }
    (void)printf("the sum is %d\n", sum);
    check(covey_process_join(sender, COVEY_FOREVER));
    check(covey_process_close(sender));
    check(covey_pipe_close(orders));
    check(covey_queue_free(office.jobs));
    check(covey_pool_free(pool));
    return EXIT_SUCCESS;
}
