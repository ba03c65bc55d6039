/* SPDX-License-Identifier: MIT */
/*
 * Waiting for several things at once. Each place has a mailbox: two queues and an event. Who is at that place
 * waits for them, with a descriptor or without; the others put, and set. Some wait for a child of theirs, or
 * for the pipe that it holds.
 *
 * Only one process takes from a mailbox, so what it is told is ready must be there; what was there before
 * must be told; and nobody sleeps while something is there, which shows as one that hangs. A process is told to
 * have ended only if it was killed, or has been told to end.
 */
#include "soak.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    QUEUES = 2,
    THINGS_MAX = QUEUES + 3,
    ITEMS = 4,
    WAIT_ONCE_IN = 2,
    CHILD_ONCE_IN = 16,
    TIMED_ONCE_IN = 4,
    POLLED_ONCE_IN = 8,
};

struct mailbox {
    covey_queue *queue[QUEUES];
    covey_event event;
};

struct mailboxes {
    struct mailbox of[PLACES];
    uint32_t child[LIVES_MAX + 1]; /* its pid */
};

static void *set_up(void)
{
    struct mailboxes *m = covey_calloc(1, sizeof *m);

    check(m != NULL);
    for (unsigned i = 0; i < PLACES; i++) {
        for (unsigned k = 0; k < QUEUES; k++)
            check_int(covey_queue_open(&m->of[i].queue[k], .items = ITEMS), ==, 0);
        check_int(covey_event_init(&m->of[i].event), ==, 0);
    }
    return m;
}

/* Putting ************************************************************************************ */

static void put(struct mailbox *box)
{
    uint64_t dice = soak_random(QUEUES + 1);
    uint32_t item = soak_me;

    if (dice == QUEUES) {
        check_int(covey_event_set(&box->event), ==, 0);
    } else {
        int r = covey_queue_put_value(box->queue[dice], item, 0);

        check(r == 0 || r == COVEY_EFULL);
    }
}

/* Waiting ************************************************************************************ */

struct waiting {
    struct covey_waited things[THINGS_MAX];
    bool was_ready[THINGS_MAX];
    unsigned n;
};

static void add(struct waiting *w, struct covey_waited thing, bool was_ready)
{
    w->was_ready[w->n] = was_ready;
    w->things[w->n++] = thing;
}

static void take_item(covey_queue *queue)
{
    uint32_t item;

    check_int(covey_queue_get_value(queue, &item, 0), ==, 0);
    check(item <= LIVES_MAX);
}

static void take(const struct covey_waited *thing)
{
    if (thing->kind == COVEY_WAIT_QUEUE) {
        take_item(thing->object);
    } else if (thing->kind == COVEY_WAIT_EVENT) {
        check_int(covey_event_is_set(thing->object), ==, 1);
        check_int(covey_event_clear(thing->object), ==, 0);
    } else if (thing->kind == COVEY_WAIT_PIPE) {
        check_int(covey_pipe_receive(thing->object, NULL, 0, NULL, 0), ==, COVEY_ECLOSED);
    } else {
        check_int(covey_process_is_alive(thing->object), ==, 0);
    }
}

/* What was ready before must be told, and what is told must be so. */
static void check_ready(const struct waiting *w, int n)
{
    int ready = 0;

    for (unsigned i = 0; i < w->n; i++) {
        check(w->things[i].ready == 0 || w->things[i].ready == 1);
        check(w->things[i].ready || !w->was_ready[i]);
        ready += w->things[i].ready;
        if (w->things[i].ready)
            take(&w->things[i]);
    }
    check_int(ready, ==, n > 0 ? n : 0);
}

static void wait_for(struct waiting *w, double timeout_s)
{
    int n = covey_wait(w->things, w->n, timeout_s);

    if (n < 0)
        check_int(n, ==, COVEY_ETIMEDOUT);
    check(n > 0 || timeout_s != COVEY_FOREVER);
    check_ready(w, n);
}

/* The mailbox must be among them, if that is to end. */
static void add_mailbox(struct waiting *w, struct mailbox *box)
{
    for (unsigned k = 0; k < QUEUES; k++)
        add(w, (struct covey_waited)COVEY_WAITED(box->queue[k]),
            covey_queue_size(box->queue[k]) > 0);
    add(w, (struct covey_waited)COVEY_WAITED(&box->event), covey_event_is_set(&box->event) == 1);
}

static double random_timeout(void)
{
    return soak_chance(TIMED_ONCE_IN) ? (double)soak_random(4) / 1000 : COVEY_FOREVER;
}

/* A child of its own, which holds the other end of a pipe, and is killed or ends. */
static int be_child(void *argument)
{
    covey_pipe *there = *(covey_pipe **)argument;
    char message;

    (void)covey_pipe_receive(there, &message, 1, NULL, COVEY_FOREVER);
    return 0;
}

static void wait_for_child(struct mailboxes *m)
{
    bool by_pipe = soak_chance(2);
    covey_process *child;
    covey_pipe *here;
    covey_pipe *there;
    struct waiting w = {.n = 0};
    int code;

    check_int(covey_pipe_open(&here, &there), ==, 0);
    check_int(covey_process_start(
                  &child, be_child, COVEY_ARGUMENT(there), .method = COVEY_FORK, .daemon = true),
        ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    cv_store_seq(&m->child[soak_me], (uint32_t)covey_process_pid(child));
    if (soak_chance(2))
        check_int(
            covey_pipe_send(here, "x", 1, 0) == 0 || covey_error_code() == COVEY_ECLOSED, ==, 1);
    else
        check_int(covey_process_signal(child, SIGKILL), ==, 0);
    if (by_pipe)
        add(&w, (struct covey_waited)COVEY_WAITED(here), false);
    else
        add(&w, (struct covey_waited)COVEY_WAITED(child), false);
    wait_for(&w, COVEY_FOREVER);
    check_int(covey_process_join(child, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(child, &code), ==, 0);
    check(code == 0 || code == -SIGKILL);
    check_int(covey_process_close(child), ==, 0);
    cv_store_seq(&m->child[soak_me], 0);
    check_int(covey_pipe_close(here), ==, 0);
}

/* By descriptors, if there is one among them that is never ready. */
static void wait_for_mail(struct mailbox *box)
{
    struct waiting w = {.n = 0};
    int fds[2];
    bool polls = soak_chance(POLLED_ONCE_IN);

    add_mailbox(&w, box);
    if (polls) {
        check_int(pipe(fds), ==, 0);
        add(&w, (struct covey_waited)COVEY_WAITED(fds[0]), false);
    }
    wait_for(&w, random_timeout());
    if (polls) {
        check_int(close(fds[0]), ==, 0);
        check_int(close(fds[1]), ==, 0);
    }
}

static void work(void *state)
{
    struct mailboxes *m = state;

    if (soak_chance(CHILD_ONCE_IN))
        wait_for_child(m);
    else if (soak_chance(WAIT_ONCE_IN))
        wait_for_mail(&m->of[run->life[soak_me].place]);
    else
        put(&m->of[soak_random(WORKERS)]);
}

static void give(void *state)
{
    struct mailboxes *m = state;

    for (unsigned i = 0; i < WORKERS; i++) {
        struct mailbox *box = &m->of[i];

        if (covey_queue_is_empty(box->queue[0]) == 1 && covey_queue_is_empty(box->queue[1]) == 1 &&
            !covey_event_is_set(&box->event))
            put(box);
    }
}

static pid_t helper(void *state, uint32_t life)
{
    return (pid_t)cv_load_seq(&((struct mailboxes *)state)->child[life]);
}

static void finish(void *state)
{
    struct mailboxes *m = state;

    for (unsigned i = 0; i < PLACES; i++) {
        for (unsigned k = 0; k < QUEUES; k++)
            check_int(covey_queue_free(m->of[i].queue[k]), ==, 0);
        check_int(covey_event_destroy(&m->of[i].event), ==, 0);
    }
    check_int(covey_free(m), ==, 0);
}

const struct scenario soak_wait = {
    "wait", .set_up = set_up, .work = work, .give = give, .finish = finish, .helper = helper};
