/* SPDX-License-Identifier: MIT */
/* Descriptors in queues. Who puts one has a thread; what is followed is the other one. */
#include "sweep.h"

#include <poll.h>
#include <unistd.h>

static covey_queue *q;
static int end; /* to read, of the pipe whose other end W has put; -1 */

static void set_up(void)
{
    check_int(covey_queue_open(&q, .bytes = 1024), ==, 0);
    end = -1;
}

static void set_up_put(void)
{
    int ends[2];

    set_up();
    check_int(pipe(ends), ==, 0);
    check_int(covey_descriptor_put(q, ends[1], 0), ==, 0);
    check_int(close(ends[1]), ==, 0);
    end = ends[0];
}

/* Starts the thread. */
static void put_elsewhere(void)
{
    covey_queue *other;
    int fd;

    check_int(covey_queue_open(&other, .bytes = 1024), ==, 0);
    check_int(covey_descriptor_put(other, STDERR_FILENO, 0), ==, 0);
    check_int(covey_descriptor_get(other, &fd, 0), ==, 0);
    check_int(close(fd), ==, 0);
    check_int(covey_queue_free(other), ==, 0);
}

static void put(void)
{
    check_int(covey_descriptor_put(q, STDERR_FILENO, COVEY_FOREVER), ==, 0);
}

static int get_what_is_there(void)
{
    int fd;
    int r = covey_descriptor_get(q, &fd, 0);

    if (r == 0)
        check_int(close(fd), ==, 0);
    return r;
}

/* If it was stopped, another may have been faster. */
static void get(void)
{
    int r = get_what_is_there();

    check(r == 0 || (r == COVEY_EEMPTY && sweep_was_stalled()));
}

/* Buries V first. */
static void rescuer_gets(void)
{
    struct covey_stats stats = {.size = sizeof stats};
    int r;

    check_int(covey_stats(&stats), ==, 0);
    r = get_what_is_there();
    check(sweep_is_fine(r) || r == COVEY_EEMPTY || r == COVEY_EDIED);
}

/* Nobody has the other end any more. */
static void check_ends(void)
{
    struct pollfd p = {.fd = end, .events = POLLIN};

    check_int(poll(&p, 1, 2000), ==, 1);
    check_int(p.revents, ==, POLLHUP);
}

/* When V is dead and the queue empty. */
static void done(void)
{
    struct covey_stats stats = {.size = sizeof stats};
    int r;

    check_int(covey_stats(&stats), ==, 0);
    while ((r = get_what_is_there()) != COVEY_EEMPTY)
        check(r == 0 || r == COVEY_EDIED);
    check_int(covey_queue_free(q), ==, 0);
    if (end < 0)
        return;
    check_ends();
    check_int(close(end), ==, 0);
}

/* Nobody has buried V. */
static void find_end_unburied(void)
{
    int r;

    if (!sweep_is_dead())
        return;
    while ((r = get_what_is_there()) != COVEY_EEMPTY)
        check_int(r, ==, 0);
    check_ends();
}

static void free_queue(void)
{
    check_int(covey_queue_free(q), ==, 0);
}

static void bury(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    check_int(covey_stats(&stats), ==, 0);
}

static void free_what_is_left(void)
{
    int r = covey_queue_free(q);

    check(r == 0 || r == COVEY_EINVAL);
    check_ends();
    check_int(close(end), ==, 0);
}

OPERATION(descriptor_put, .setup = set_up, .warm = put_elsewhere, .victim = put,
    .rescue = rescuer_gets, .verify = done);

OPERATION(descriptor_get, .setup = set_up_put, .victim = get, .rescue = rescuer_gets,
    .verify = done, .proves = "object_end queue_intended");

OPERATION(descriptor_get_unburied, .setup = set_up_put, .victim = get, .after = find_end_unburied,
    .verify = done, .proves = "descriptor_taken descriptor_settled");

OPERATION(descriptor_free, .setup = set_up_put, .victim = free_queue, .rescue = bury,
    .verify = free_what_is_left, .proves = "descriptor_gone");
