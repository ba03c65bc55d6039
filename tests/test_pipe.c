/* SPDX-License-Identifier: MIT */
#include "arena/family.h"
#include "children.h"

#include <covey.h>

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static size_t blocks(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    check_int(covey_stats(&stats), ==, 0);
    return stats.blocks;
}

static void send_int(covey_pipe *pipe, int value)
{
    check_int(covey_pipe_send(pipe, &value, sizeof value, COVEY_FOREVER), ==, 0);
}

static int receive_int(covey_pipe *pipe)
{
    int value = -1;

    check_int(covey_pipe_receive(pipe, &value, sizeof value, NULL, COVEY_FOREVER), ==, 0);
    return value;
}

TEST(both_ends_send_and_receive)
{
    covey_pipe *a, *b;
    size_t before = blocks();

    check_int(covey_pipe_open(&a, &b), ==, 0);
    for (int i = 0; i < 5000; i++) {
        send_int(a, i);
        send_int(b, -i);
        check_int(covey_pipe_poll(a, 0), ==, 1);
        check_int(receive_int(a), ==, -i);
        check_int(receive_int(b), ==, i);
        check_int(covey_pipe_poll(a, 0), ==, 0);
    }
    check_int(covey_pipe_close(a), ==, 0);
    check_fails(
        covey_pipe_send(b, "x", 1, COVEY_FOREVER), COVEY_ECLOSED, "nobody holds the other end");
    check_int(covey_pipe_receive(b, NULL, 0, NULL, COVEY_FOREVER), ==, COVEY_ECLOSED);
    check_int(covey_pipe_poll(b, COVEY_FOREVER), ==, 1);
    check_int(covey_pipe_close(b), ==, 0);
    check_int(blocks(), ==, before);
}

TEST(a_one_way_pipe_goes_one_way)
{
    covey_pipe *receiver, *sender;

    check_int(covey_pipe_open(&receiver, &sender, .one_way = true), ==, 0);
    send_int(sender, 1);
    check_int(receive_int(receiver), ==, 1);
    check_fails(covey_pipe_send(receiver, "x", 1, 0), COVEY_ESTATE, "only receives");
    check_fails(covey_pipe_receive(sender, NULL, 0, NULL, 0), COVEY_ESTATE, "only sends");
    send_int(sender, 2);
    check_int(covey_pipe_close(sender), ==, 0);
    check_int(receive_int(receiver), ==, 2);
    check_int(covey_pipe_receive(receiver, NULL, 0, NULL, 0), ==, COVEY_ECLOSED);
    check_int(covey_pipe_close(receiver), ==, 0);
}

static int double_them(void *argument)
{
    covey_pipe *pipe = *(covey_pipe **)argument;
    int value;

    while (covey_pipe_receive(pipe, &value, sizeof value, NULL, COVEY_FOREVER) == 0)
        send_int(pipe, 2 * value);
    return covey_error_code() == COVEY_ECLOSED ? 0 : 1;
}

static int die_at_once(void *argument)
{
    (void)argument;
    raise(SIGKILL);
    return 0;
}

static void end_server(enum covey_method method)
{
    if (method == COVEY_FORKSERVER)
        check_int(covey_close(), ==, 0);
}

/* Somebody else, the fork server perhaps, may be burying a child that has ended. */
static void check_blocks(size_t before)
{
    for (int i = 0; i < 1000 && blocks() != before; i++)
        test_sleep_ms(1);
    check_int(blocks(), ==, before);
}

TEST_METHODS(an_end_goes_to_a_child, 30)
{
    size_t before = blocks();

    for (int closes = 0; closes < 2; closes++) {
        covey_pipe *here;
        covey_pipe *there;
        covey_process *child;
        int code;

        check_int(covey_pipe_open(&here, &there), ==, 0);
        check_int(covey_process_start(&child, double_them, COVEY_ARGUMENT(there), .method = method),
            ==, 0);
        if (closes)
            check_int(covey_pipe_close(there), ==, 0);
        for (int k = 0; k < 100; k++) {
            send_int(here, k);
            check_int(receive_int(here), ==, 2 * k);
        }
        check_int(covey_pipe_close(here), ==, 0);
        check_int(covey_process_join(child, COVEY_FOREVER), ==, 0);
        check_int(covey_process_exit_code(child, &code), ==, 0);
        check_int(code, ==, 0);
        check_int(covey_process_close(child), ==, 0);
        if (!closes)
            check_int(covey_pipe_close(there), ==, 0);
    }
    check_blocks(before);
    end_server(method);
}

TEST_METHODS(the_death_of_the_other_end_ends_a_pipe, 30)
{
    size_t before = blocks();
    covey_pipe *here;
    covey_pipe *there;
    covey_process *child;
    char died[64];

    check_int(covey_pipe_open(&here, &there), ==, 0);
    check_int(
        covey_process_start(&child, die_at_once, COVEY_ARGUMENT(there), .method = method), ==, 0);
    (void)snprintf(died, sizeof died, "process %d has ended", (int)covey_process_pid(child));
    check_fails(covey_pipe_receive(here, NULL, 0, NULL, COVEY_FOREVER), COVEY_ECLOSED, died);
    check_int(covey_process_join(child, COVEY_FOREVER), ==, 0);
    check_int(covey_process_close(child), ==, 0);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    check_blocks(before);
    end_server(method);
}

/* By who has opened it, and goes before it has used its end. */
enum going {
    CLOSES_ONE,
    CLOSES_BOTH,
    IS_KILLED,
    WAYS_TO_GO,
};

struct heir {
    covey_pipe *end;
    covey_queue *told;
};

static int wait_for_end(void *argument)
{
    const struct heir *heir = argument;
    int r = covey_pipe_receive(heir->end, NULL, 0, NULL, COVEY_FOREVER);

    check_int(covey_queue_put_value(heir->told, r, 0), ==, 0);
    return 0;
}

static int open_and_go(covey_queue *told, enum covey_method method, enum going how)
{
    struct heir heir = {.told = told};
    covey_pipe *here;

    check_int(covey_pipe_open(&here, &heir.end), ==, 0);
    check_int(
        covey_process_start(NULL, wait_for_end, COVEY_ARGUMENT(heir), .method = method), ==, 0);
    test_sleep_ms(50);
    if (how == IS_KILLED)
        raise(SIGKILL);
    check_int(covey_pipe_close(here), ==, 0);
    if (how == CLOSES_BOTH)
        check_int(covey_pipe_close(heir.end), ==, 0);
    pause();
    return 0;
}

TEST_METHODS(an_end_that_was_never_used_ends_a_pipe, 30)
{
    size_t before = blocks();
    covey_queue *told;

    check_int(covey_queue_open(&told), ==, 0);
    for (int how = 0; how < WAYS_TO_GO; how++) {
        int r = 0;
        pid_t pid = fork();

        if (pid == 0)
            _exit(open_and_go(told, method, (enum going)how));
        check_int(covey_queue_get_value(told, &r, 10), ==, 0);
        check_int(r, ==, COVEY_ECLOSED);
        kill(pid, SIGKILL);
        test_reap(pid, SIGKILL);
    }
    check_int(covey_queue_free(told), ==, 0);
    while (blocks() != before) /* those who wait for the end are about to go */
        test_sleep_ms(1);
}

enum {
    NESTED = 3000,
    SMALL_STACK = 128 * 1024,
};

static void *close_first(void *end)
{
    check_int(covey_pipe_close(end), ==, 0);
    return NULL;
}

/* In each pipe lies an end of the next one, which nobody else holds. */
TEST(pipes_in_pipes_end_one_after_the_other)
{
    size_t before = blocks();
    covey_pipe *first, *there;
    pthread_attr_t small;
    pthread_t thread;

    check_int(covey_pipe_open(&first, &there, .bytes = 256), ==, 0);
    for (int i = 0; i < NESTED; i++) {
        covey_pipe *next, *other;

        check_int(covey_pipe_open(&next, &other, .bytes = 256), ==, 0);
        check_int(covey_pipe_put(covey_pipe_outgoing(there), next, 0), ==, 0);
        check_int(covey_pipe_close(next), ==, 0);
        check_int(covey_pipe_close(there), ==, 0);
        there = other;
    }
    check_int(covey_pipe_close(there), ==, 0);
    check_int(pthread_attr_init(&small), ==, 0);
    check_int(pthread_attr_setstacksize(&small, SMALL_STACK), ==, 0);
    check_int(pthread_create(&thread, &small, close_first, first), ==, 0);
    check_int(pthread_join(thread, NULL), ==, 0);
    check_int(pthread_attr_destroy(&small), ==, 0);
    check_int(blocks(), ==, before);
}

/* Nobody could ever get it there, and it would keep the pipe. */
static void *receive_end(void *end)
{
    check_int(covey_pipe_receive(end, NULL, 0, NULL, COVEY_FOREVER), ==, COVEY_ECLOSED);
    return NULL;
}

TEST(a_thread_is_told_when_another_one_closes_the_other_end)
{
    covey_pipe *here, *there;
    pthread_t thread;

    check_int(covey_pipe_open(&here, &there), ==, 0);
    check_int(covey_pipe_hold(there), ==, 0);
    check_int(pthread_create(&thread, NULL, receive_end, here), ==, 0);
    test_sleep_ms(20);
    check_int(covey_pipe_close(there), ==, 0);
    check_int(pthread_join(thread, NULL), ==, 0);
    check_int(covey_pipe_close(here), ==, 0);
}

TEST(an_end_does_not_go_through_a_queue_of_one_size)
{
    covey_pipe *here, *there;

    for (size_t size = 8; size <= 64; size += 8) {
        covey_queue *queue;

        check_int(covey_queue_open(&queue, .item_size = size), ==, 0);
        check_int(covey_pipe_open(&here, &there), ==, 0);
        check_fails(covey_pipe_put(queue, there, 0), COVEY_ESTATE, "is for items of");
        check_fails(covey_descriptor_put(queue, STDERR_FILENO, 0), COVEY_ESTATE, "is for items of");
        check_int(covey_pipe_close(here), ==, 0);
        check_int(covey_pipe_close(there), ==, 0);
        check_int(covey_queue_free(queue), ==, 0);
    }
    check_fails(covey_pipe_open(&here, &here), COVEY_EINVAL, "one place");
}

TEST(an_end_does_not_go_through_its_own_pipe)
{
    covey_pipe *a, *b;
    size_t before = blocks();

    check_int(covey_pipe_open(&a, &b), ==, 0);
    check_fails(covey_pipe_put(covey_pipe_outgoing(a), a, 0), COVEY_EINVAL, "through its own pipe");
    check_fails(covey_pipe_put(covey_pipe_outgoing(b), a, 0), COVEY_EINVAL, "through its own pipe");
    check_int(covey_queue_size(covey_pipe_incoming(b)), ==, 0);
    check_int(covey_pipe_close(a), ==, 0);
    check_int(covey_pipe_close(b), ==, 0);
    check_int(blocks(), ==, before);
}

/* Its block may be this process's own. */
TEST(a_pipe_is_no_block)
{
    covey_pipe *a, *b;
    covey_queue *queue;

    check_int(covey_pipe_open(&a, &b), ==, 0);
    check_int(covey_queue_open(&queue), ==, 0);
    check_fails(covey_free(a), COVEY_EINVAL, "is a covey object");
    check_fails(covey_share(a), COVEY_EINVAL, "is a covey object");
    check(!covey_realloc(a, 100));
    check_fails(covey_queue_free(covey_pipe_outgoing(a)), COVEY_ESTATE, "that of a pipe");
    check_fails(covey_queue_close(covey_pipe_outgoing(a)), COVEY_ESTATE, "that of a pipe");
    check_fails(covey_queue_put_block(queue, a, 8, 0), COVEY_EINVAL, "is a covey object");
    send_int(a, 1);
    check_int(receive_int(b), ==, 1);
    check_int(covey_queue_free(queue), ==, 0);
    check_int(covey_pipe_close(a), ==, 0);
    check_int(covey_pipe_close(b), ==, 0);
}

TEST(variables_go_through_a_pipe)
{
    struct point {
        double x, y;
    } sent = {1.5, -2}, got = {0};
    covey_pipe *a, *b;
    char who[64];
    char byte;

    check_int(covey_pipe_open(&a, &b), ==, 0);
    check_int(covey_pipe_send_value(a, sent, 0), ==, 0);
    check_fails(covey_pipe_receive_value(b, &byte, 0), COVEY_ETOOBIG, "16 bytes");
    check_int(covey_pipe_receive_value(b, &got, 0), ==, 0);
    check(got.x == sent.x && got.y == sent.y);
    check_int(covey_pipe_send(a, "x", 1, 0), ==, 0);
    check_fails(covey_pipe_receive_value(b, &got, 0), COVEY_ETOOBIG, "there should be 16");
    check_int(covey_pipe_receive_value(b, &byte, 0), ==, 0);
    (void)snprintf(who, sizeof who, "pipe end %p had no message", (void *)b);
    check_fails(covey_pipe_receive_value(b, &byte, 0), COVEY_EEMPTY, who);
    check_fails(covey_pipe_open(&a, &b, .bytes = 63), COVEY_EINVAL, "bytes is 63");
    check_int(covey_pipe_close(a), ==, 0);
    check_fails(covey_pipe_receive_value(b, &byte, 0), COVEY_ECLOSED, "the other end");
    check_int(covey_pipe_close(b), ==, 0);
}

/* Forked from one that holds the end, too, which does not count any more then. */
TEST(who_has_asked_for_the_queue_of_an_end_holds_it)
{
    covey_pipe *here, *there;
    covey_queue *told;
    int value = 7;
    pid_t pid;

    check_int(covey_queue_open(&told), ==, 0);
    check_int(covey_pipe_open(&here, &there), ==, 0);
    check_int(covey_pipe_hold(there), ==, 0);
    pid = fork();
    if (pid == 0) {
        covey_queue *incoming = covey_pipe_incoming(there);

        check(incoming);
        check_int(covey_queue_put_value(told, value, 0), ==, 0);
        check_int(covey_queue_get_value(incoming, &value, COVEY_FOREVER), ==, 0);
        _exit(value);
    }
    check_int(covey_queue_get_value(told, &value, COVEY_FOREVER), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    check(!covey_pipe_incoming(there));
    send_int(here, 8);
    test_reap(pid, 8 << 8);
    check_int(covey_queue_free(told), ==, 0);
    check_int(covey_pipe_close(here), ==, 0);
}

TEST(a_closed_end_stays_closed)
{
    covey_queue *queue;
    covey_pipe *here, *there, *got;

    check_int(covey_queue_open(&queue), ==, 0);
    check_int(covey_pipe_open(&here, &there), ==, 0);
    send_int(here, 1);
    check_int(covey_pipe_put(queue, there, 0), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    check_fails(covey_pipe_receive(there, NULL, 0, NULL, 0), COVEY_ESTATE, "has closed end");
    check_fails(covey_pipe_send(there, "x", 1, 0), COVEY_ESTATE, "has closed end");
    check_fails(covey_pipe_poll(there, 0), COVEY_ESTATE, "has closed end");
    check_fails(covey_pipe_hold(there), COVEY_ESTATE, "has closed end");
    check_int(covey_pipe_get(queue, &got, 0), ==, 0); /* it is given back */
    check(got == there);
    check_int(receive_int(there), ==, 1);
    check_int(covey_pipe_close(there), ==, 0);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_queue_free(queue), ==, 0);
}

TEST(a_pipe_goes_with_its_last_holder)
{
    size_t before = blocks();
    covey_pipe **ends = covey_calloc(2, sizeof *ends);
    pid_t pid;

    pid = covey_fork();
    if (pid == 0) {
        check_int(covey_pipe_open(&ends[0], &ends[1]), ==, 0);
        send_int(ends[0], 1);
        raise(SIGKILL);
    }
    check_int(waitpid(pid, NULL, 0), ==, pid);
    check_int(covey_free(ends), ==, 0);
    check_int(blocks(), ==, before);

    ends = covey_calloc(2, sizeof *ends);
    pid = covey_fork();
    if (pid == 0) {
        check_int(covey_pipe_open(&ends[0], &ends[1]), ==, 0);
        send_int(ends[1], 7);
        pause();
    }
    while (!__atomic_load_n(&ends[1], __ATOMIC_ACQUIRE))
        test_sleep_ms(1);
    check_int(receive_int(ends[0]), ==, 7);
    kill(pid, SIGKILL);
    check_int(waitpid(pid, NULL, 0), ==, pid);
    check_int(covey_pipe_receive(ends[0], NULL, 0, NULL, COVEY_FOREVER), ==, COVEY_ECLOSED);
    check_int(covey_pipe_close(ends[0]), ==, 0);
    check_int(covey_free(ends), ==, 0);
    check_int(blocks(), ==, before);
}

TEST(an_end_goes_through_a_queue)
{
    size_t before = blocks();
    covey_queue *queue;
    covey_pipe *here, *there, *got;
    pid_t pid;

    check_int(covey_queue_open(&queue), ==, 0);
    check_int(covey_pipe_open(&here, &there), ==, 0);
    check_int(covey_queue_put(queue, "no end", 7, 0), ==, 0);
    check_fails(covey_pipe_get(queue, &got, 0), COVEY_EINVAL, "is no end of a pipe");
    check_int(covey_queue_get(queue, (char[7]){0}, 7, NULL, 0), ==, 0);
    check_int(covey_pipe_put(queue, there, 0), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    check_int(covey_pipe_receive(here, NULL, 0, NULL, 0), ==, COVEY_EEMPTY);
    pid = covey_fork();
    if (pid == 0) {
        check_int(covey_pipe_get(queue, &got, COVEY_FOREVER), ==, 0);
        check(got == there);
        send_int(got, 3);
        _exit(0);
    }
    check_int(receive_int(here), ==, 3);
    check_int(waitpid(pid, NULL, 0), ==, pid);
    check_int(covey_pipe_receive(here, NULL, 0, NULL, COVEY_FOREVER), ==, COVEY_ECLOSED);
    check_int(covey_pipe_close(here), ==, 0);

    check_int(covey_pipe_open(&here, &there), ==, 0);
    check_int(covey_pipe_put(queue, there, 0), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    check_int(covey_queue_free(queue), ==, 0);
    check_int(covey_pipe_receive(here, NULL, 0, NULL, COVEY_FOREVER), ==, COVEY_ECLOSED);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(blocks(), ==, before);
}

TEST(an_end_on_its_way_keeps_its_pipe)
{
    size_t before = blocks();
    covey_queue *queue;
    covey_pipe *here, *there, *got;
    size_t size;
    char message[8];

    check_int(covey_queue_open(&queue), ==, 0);
    check_int(covey_pipe_open(&here, &there), ==, 0);
    check_int(covey_pipe_send(here, "left", 5, 0), ==, 0);
    check_int(covey_pipe_put(queue, there, 0), ==, 0);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    check_int(covey_pipe_get(queue, &got, 0), ==, 0);
    check(got == there);
    check_int(covey_pipe_receive(got, message, sizeof message, &size, 0), ==, 0);
    check_str(message, "left");
    check_int(covey_pipe_receive(got, message, sizeof message, &size, 0), ==, COVEY_ECLOSED);
    check_int(covey_pipe_close(got), ==, 0);

    check_int(covey_pipe_open(&here, &there), ==, 0);
    check_int(covey_pipe_put(queue, there, 0), ==, 0);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    check_int(covey_queue_free(queue), ==, 0);
    check_int(blocks(), ==, before);
}

/* Ends that nobody has used: the children of who has opened the pipe may have them. */
enum {
    CHILDREN = 5,
};

struct unused {
    covey_pipe *here, *there;
    uint32_t children; /* that have come, and have closed one end if they should */
    uint32_t last_closes;
    uint32_t all_are_there;
    pid_t child[CHILDREN];
};

static void come_and_stay(struct unused *u, bool closes)
{
    check_int(covey_open(), ==, 0);
    if (closes)
        check_int(covey_pipe_close(u->there), ==, 0);
    (void)__atomic_fetch_add(&u->children, 1, __ATOMIC_SEQ_CST);
    for (;;)
        (void)pause();
}

static void wait_for_children(struct unused *u, uint32_t n)
{
    while (__atomic_load_n(&u->children, __ATOMIC_SEQ_CST) < n)
        test_sleep_ms(1);
}

static void end_child(pid_t pid)
{
    check_int(kill(pid, SIGKILL), ==, 0);
    test_reap(pid, SIGKILL);
}

TEST(a_child_that_has_closed_an_end_is_not_waited_for)
{
    struct unused *u = covey_calloc(1, sizeof *u);

    for (unsigned closes = 0; closes < 2; closes++) {
        pid_t pid;

        check_int(covey_pipe_open(&u->here, &u->there), ==, 0);
        pid = covey_fork();
        if (pid == 0)
            come_and_stay(u, closes);
        wait_for_children(u, closes + 1);
        check_int(covey_pipe_close(u->there), ==, 0);
        if (!closes) {
            check_int(covey_pipe_receive(u->here, NULL, 0, NULL, 0), ==, COVEY_EEMPTY);
            end_child(pid);
        }
        check_int(covey_pipe_receive(u->here, NULL, 0, NULL, 1), ==, COVEY_ECLOSED);
        check_int(covey_pipe_close(u->here), ==, 0);
        if (closes)
            end_child(pid);
    }
    check_int(covey_free(u), ==, 0);
}

/* The first one may use the end; the others have closed it, and the last does so late. */
static void open_and_fork(struct unused *u)
{
    check_int(covey_pipe_open(&u->here, &u->there), ==, 0);
    for (uint32_t i = 0; i < CHILDREN; i++) {
        pid_t pid = covey_fork();

        if (pid != 0) {
            u->child[i] = pid; /* in the arena: not in the child, too */
            continue;
        }
        while (i == CHILDREN - 1 && !__atomic_load_n(&u->last_closes, __ATOMIC_SEQ_CST))
            test_sleep_ms(1);
        come_and_stay(u, i > 0);
    }
    __atomic_store_n(&u->all_are_there, 1, __ATOMIC_SEQ_CST);
    for (;;)
        (void)pause();
}

TEST(the_cell_of_a_dead_parent_tells_of_its_children)
{
    struct unused *u = covey_calloc(1, sizeof *u);
    pid_t pid;

    check_int(prctl(PR_SET_CHILD_SUBREAPER, 1), ==, 0);
    pid = fork();
    if (pid == 0)
        open_and_fork(u);
    wait_for_children(u, CHILDREN - 1);
    while (!__atomic_load_n(&u->all_are_there, __ATOMIC_SEQ_CST))
        test_sleep_ms(1);
    check_int(covey_pipe_hold(u->here), ==, 0);
    end_child(pid);
    check_int(covey_pipe_receive(u->here, NULL, 0, NULL, 0), ==, COVEY_EEMPTY);
    __atomic_store_n(&u->last_closes, 1, __ATOMIC_SEQ_CST);
    wait_for_children(u, CHILDREN);
    check_int(covey_pipe_receive(u->here, NULL, 0, NULL, 0), ==, COVEY_EEMPTY);
    end_child(u->child[0]);
    check_int(covey_pipe_receive(u->here, NULL, 0, NULL, 1), ==, COVEY_ECLOSED);
    for (int i = 1; i < CHILDREN; i++)
        end_child(u->child[i]);
    check_int(covey_pipe_close(u->here), ==, 0);
    check_int(covey_free(u), ==, 0);
}

/* A process that dies as soon as it has started a child, for which it has opened a pipe. */
struct gift {
    enum covey_method method;
    int opened;
    int started;
    int results;
    int result; /* of the child's holding of its end */
    int next;   /* and of the first use */
};

struct given {
    covey_pipe *end;
    struct gift *gift;
};

static int use_gift(void *argument)
{
    const struct given *given = argument;
    char byte;

    test_sleep_ms(5);
    given->gift->result = covey_pipe_hold(given->end);
    given->gift->next = covey_pipe_receive(given->end, &byte, sizeof byte, NULL, COVEY_FOREVER);
    word_set(&given->gift->results, 1);
    return 0;
}

static int make_gift(void *argument)
{
    struct given given = {.gift = *(struct gift **)argument};
    covey_pipe *here;

    check_int(covey_pipe_open(&here, &given.end), ==, 0);
    word_set(&given.gift->opened, 1);
    check_int(
        covey_process_start(NULL, use_gift, COVEY_ARGUMENT(given), .method = given.gift->method),
        ==, 0);
    word_set(&given.gift->started, 1);
    (void)pause();
    return 0;
}

static void wait_for_members(size_t n)
{
    struct covey_stats stats = {.size = sizeof stats};

    while (covey_stats(&stats) == 0 && stats.members > n)
        test_sleep_ms(1);
}

TEST_METHODS(an_end_outlives_who_has_given_it, 60)
{
    struct gift *gift = covey_calloc(1, sizeof *gift);
    struct covey_stats stats = {.size = sizeof stats};
    unsigned used = 0;
    size_t before;

    check_int(prctl(PR_SET_CHILD_SUBREAPER, 1), ==, 0);
    child_join(child_start(die_at_once, gift, method), -SIGKILL); /* there is a fork server */
    check_int(covey_stats(&stats), ==, 0);
    before = stats.blocks;
    for (int i = 0; i < 40; i++) {
        covey_process *giver;

        memset(gift, 0, sizeof *gift);
        gift->method = method;
        giver = child_start(make_gift, gift, COVEY_FORK);
        word_await(&gift->opened, 1);
        if (i % 8 == 7)
            word_await(&gift->started, 1);
        (void)usleep((unsigned)i * 100);
        check_int(covey_process_kill(giver), ==, 0);
        check_int(covey_process_join(giver, COVEY_FOREVER), ==, 0);
        check_int(covey_process_close(giver), ==, 0);
        if (word_get(&gift->started))
            word_await(&gift->results, 1);
        wait_for_members(stats.members);
        if (!word_get(&gift->results))
            continue;
        used++;
        check_int(gift->result, ==, 0);
        check_int(gift->next, ==, COVEY_ECLOSED);
    }
    check_int(used, >, 0);
    check_int(blocks(), ==, before);
    check_int(covey_free(gift), ==, 0);
    end_server(method);
    while (waitpid(-1, NULL, 0) > 0) { /* the orphans */
    }
}

static int receive_nothing(void *argument)
{
    char byte;

    return covey_pipe_receive(*(covey_pipe **)argument, &byte, 1, NULL, COVEY_FOREVER) !=
           COVEY_ECLOSED;
}

/* Of a chain of all blocks that the family has memory for, the large ones first. */
static void **take_all_memory(void)
{
    void **last = NULL;

    for (size_t size = (size_t)1 << 20; size >= sizeof last;
         size -= size > 1024 ? size / 2 : sizeof last) {
        void **block;

        while ((block = covey_alloc(size))) {
            *block = last;
            last = block;
        }
    }
    return last;
}

static void **free_last(void **last)
{
    void **next = *last;

    check_int(covey_free(last), ==, 0);
    return next;
}

/* There are four already: who opened it, and three children. */
TEST(without_memory_for_its_user_an_end_stays_as_it_is, .deadline_s = 60)
{
    covey_pipe *here, *there;
    covey_process *children[4] = {NULL};
    unsigned refused = 0;
    void **last;

    check_int(covey_open(.memory_max = 16 << 20), ==, 0);
    check_int(covey_pipe_open(&here, &there), ==, 0);
    for (int i = 0; i < 3; i++)
        children[i] = child_start(receive_nothing, there, COVEY_FORK);
    last = take_all_memory();
    while (covey_process_start(&children[3], receive_nothing, COVEY_ARGUMENT(there)) != 0) {
        check_int(covey_error_code(), ==, COVEY_ENOMEM);
        check_int(covey_active_children(NULL, 0), ==, 3);
        check(last != NULL);
        last = free_last(last);
        refused++;
    }
    check_int(refused, >, 0);
    while (last)
        last = free_last(last);
    check_int(covey_pipe_close(here), ==, 0);
    for (int i = 0; i < 4; i++)
        child_join(children[i], 0);
    check_int(covey_pipe_close(there), ==, 0);
    check_int(covey_close(), ==, 0);
}

enum {
    REUSED = 40 * 1024
};

static void spin_us(unsigned us)
{
    double end_s = test_now_s() + us * 1e-6;

    while (test_now_s() < end_s) {
    }
}

struct meeting {
    covey_pipe *ends[2];
    int ready;
    unsigned pause_us;
};

static int hold_first(void *argument)
{
    struct meeting *m = *(struct meeting **)argument;

    check_int(covey_pipe_hold(m->ends[0]), ==, 0);
    (void)word_add(&m->ready, 1);
    for (;;)
        (void)pause();
}

static int close_second_and_reuse(void *argument)
{
    struct meeting *m = *(struct meeting **)argument;
    covey_pipe *end = m->ends[1];
    unsigned char *blocks[3];
    char byte;

    check_int(covey_pipe_hold(end), ==, 0);
    (void)word_add(&m->ready, 1);
    check_int(covey_pipe_receive(end, &byte, 1, NULL, COVEY_FOREVER), ==, COVEY_ECLOSED);
    spin_us(m->pause_us);
    check_int(covey_pipe_close(end), ==, 0);
    for (int i = 0; i < 3; i++)
        blocks[i] = covey_calloc(1, REUSED);
    test_sleep_ms(60); /* who waits for a lock gives up after 50 */
    for (int i = 0; i < 3; i++) {
        for (size_t at = 0; at < REUSED; at++)
            check_int(blocks[i][at], ==, 0);
        check_int(covey_free(blocks[i]), ==, 0);
    }
    return 0;
}

/* Who has the pipe's memory dies; while this process buries him, the other one closes, and uses it for
 * something else. */
TEST(who_inherits_a_pipe_finds_it_gone, .deadline_s = 60, .not_in_valgrind = "it measures time")
{
    struct meeting *m = covey_calloc(1, sizeof *m);

    for (unsigned i = 0; i < 60; i++) {
        covey_process *first;
        covey_process *second;

        check_int(covey_pipe_open(&m->ends[0], &m->ends[1]), ==, 0);
        m->ready = 0;
        m->pause_us = i * 37 % 150;
        first = child_start(hold_first, m, COVEY_FORK);
        second = child_start(close_second_and_reuse, m, COVEY_FORK);
        check_int(covey_pipe_close(m->ends[0]), ==, 0);
        check_int(covey_pipe_close(m->ends[1]), ==, 0);
        word_await(&m->ready, 2);
        test_sleep_ms(1);
        check_int(covey_process_kill(first), ==, 0);
        spin_us(i * 61 % 150);
        child_join(first, -SIGKILL);
        child_join(second, 0);
    }
    check_int(covey_free(m), ==, 0);
}

static void open_and_leave(void *unused)
{
    covey_pipe *ends[2];

    (void)unused;
    check_int(covey_pipe_open(&ends[0], &ends[1]), ==, 0);
    check_int(covey_pipe_send(ends[0], "x", 1, 0), ==, 0);
    check_int(covey_pipe_hold(ends[1]), ==, 0);
    check_int(covey_close(), ==, 0);
    _exit(0);
}

TEST(who_leaves_the_family_leaves_no_pipe)
{
    check_int(covey_open(), ==, 0);
    test_reap(child_fork(open_and_leave, NULL), 0);
    check_int(blocks(), ==, 0);
}

TEST(an_end_is_not_closed_with_an_item_in_hand)
{
    covey_pipe *here, *there;
    const void *read;
    void *item;

    check_int(covey_pipe_open(&here, &there), ==, 0);
    check_int(covey_queue_reserve(covey_pipe_outgoing(here), 8, &item, 0), ==, 0);
    check_fails(covey_pipe_close(here), COVEY_ESTATE, "reserved");
    check_int(covey_queue_commit(covey_pipe_outgoing(here), item, 8), ==, 0);
    check_int(covey_queue_peek(covey_pipe_incoming(there), &read, NULL, 0), ==, 0);
    check_fails(covey_pipe_close(there), COVEY_ESTATE, "item");
    check_int(covey_queue_unpeek(covey_pipe_incoming(there), read), ==, 0);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
}

static void stop_in_the_locks(void *unused)
{
    (void)unused;
    check_int(covey_open(), ==, 0);
    for (int i = 0; i < CV_PIPE_LOCKS; i++)
        cv_store_seq(&cv_arena.family->pipe_lock[i].word, cv_self.mark);
    raise(SIGSTOP);
}

static pid_t start_stopped(void)
{
    pid_t stopped = child_fork(stop_in_the_locks, NULL);
    int status;

    check_int(waitpid(stopped, &status, WUNTRACED), ==, stopped);
    check(WIFSTOPPED(status));
    return stopped;
}

/* Whoever uses an end for the first time takes the pipe's lock. */
TEST(timeouts_hold_though_a_process_is_stopped_in_the_lock_of_a_pipe, .deadline_s = 30)
{
    covey_pipe *here, *there, *got;
    covey_queue *q;
    pid_t stopped;
    int status;

    check_int(covey_pipe_open(&here, &there), ==, 0);
    check_int(covey_queue_open(&q), ==, 0);
    stopped = start_stopped();
    check_fails(covey_pipe_send(here, "x", 1, 0.1), COVEY_EFULL, "begun to use within 0.1 s");
    check_int(covey_pipe_receive_exactly(here, &status, 1, 0), ==, COVEY_EEMPTY);
    check_int(covey_pipe_poll(here, 0), ==, 0);
    check_int(covey_pipe_put(q, here, 0.1), ==, COVEY_EFULL);
    check_fails(covey_pipe_send(here, "x", 1, NAN), COVEY_EINVAL, "NaN");
    child_kill(stopped);
    check_int(covey_pipe_send(here, "x", 1, 10), ==, 0);
    check_int(covey_pipe_put(q, here, 10), ==, 0);
    check_int(covey_pipe_get(q, &got, 10), ==, 0);
    check(got == here);
    covey_queue_free(q);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
}

static void hold_and_pause(void *end)
{
    check_int(covey_pipe_hold(end), ==, 0);
    for (;;)
        (void)pause();
}

static void reserve_and_stop(void *end)
{
    void *item;

    check_int(covey_queue_reserve(covey_pipe_outgoing(end), 8, &item, 0), ==, 0);
    raise(SIGSTOP);
}

/* Nobody reads any more, but to say so takes the lock of one who is stopped with an item in hand. */
TEST(timeouts_hold_though_a_sender_is_stopped_when_the_reader_dies, .deadline_s = 30)
{
    covey_pipe *reader, *writer;
    pid_t reading, stopped;
    int status;
    int r;

    check_int(covey_pipe_open(&reader, &writer, .one_way = true), ==, 0);
    reading = child_fork(hold_and_pause, reader);
    child_await_sleep(reading);
    stopped = child_fork(reserve_and_stop, writer);
    check_int(waitpid(stopped, &status, WUNTRACED), ==, stopped);
    check(WIFSTOPPED(status));
    check_int(covey_pipe_close(reader), ==, 0);
    check_int(covey_pipe_send(writer, "x", 1, 0.1), ==, COVEY_EFULL);
    child_kill(reading);
    r = covey_pipe_send(writer, "x", 1, 0.1);
    check(r == COVEY_EFULL || r == COVEY_ECLOSED);
    child_kill(stopped);
    check_int(covey_pipe_send(writer, "x", 1, 10), ==, COVEY_ECLOSED);
    check_int(covey_pipe_close(writer), ==, 0);
}

static int give_up(void *count)
{
    ++*(int *)count;
    return 1;
}

static void do_nothing(int signal)
{
    (void)signal;
}

static void ring_every_ms(suseconds_t ms)
{
    struct itimerval timer = {.it_interval.tv_usec = ms * 1000, .it_value.tv_usec = ms * 1000};

    check_int(sigaction(SIGALRM, &(struct sigaction){.sa_handler = do_nothing}, NULL), ==, 0);
    check_int(setitimer(ITIMER_REAL, &timer, NULL), ==, 0);
}

TEST(who_is_interrupted_in_the_lock_of_a_pipe_is_told, .deadline_s = 30)
{
    covey_pipe *here, *there;
    int hooks = 0;
    char byte;
    pid_t stopped;

    check_int(covey_pipe_open(&here, &there), ==, 0);
    stopped = start_stopped();
    covey_on_interrupt(give_up, &hooks);
    ring_every_ms(20);
    check_int(covey_pipe_send(here, "x", 1, 10), ==, COVEY_EINTR);
    check_int(covey_pipe_send(here, "x", 1, COVEY_FOREVER), ==, COVEY_EINTR);
    check_int(covey_pipe_receive(here, &byte, 1, NULL, 0.5), ==, COVEY_EINTR);
    check_int(hooks, ==, 3);
    ring_every_ms(0);
    covey_on_interrupt(NULL, NULL);
    child_kill(stopped);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
}

TEST(covey_wait_keeps_to_its_timeout_in_the_lock_of_a_pipe, .deadline_s = 30)
{
    covey_pipe *pipes[2];
    int fds[2];
    pid_t stopped;

    check_int(pipe(fds), ==, 0);
    for (size_t n = 1; n <= 2; n++) { /* asleep, and by poll() */
        struct covey_waited waited[2];
        double start_s;

        check_int(covey_pipe_open(&pipes[0], &pipes[1]), ==, 0);
        check_int(covey_pipe_send(pipes[1], "x", 1, 0), ==, 0);
        waited[0] = (struct covey_waited)COVEY_WAITED(pipes[0]);
        waited[1] = (struct covey_waited){.kind = COVEY_WAIT_DESCRIPTOR, .descriptor = fds[0]};
        stopped = start_stopped();
        start_s = test_now_s();
        check_int(covey_wait(waited, n, 0.2), ==, COVEY_ETIMEDOUT);
        check(test_now_s() - start_s < 2);
        child_kill(stopped);
        check_int(covey_wait(waited, n, COVEY_FOREVER), ==, 1);
        check_int(waited[0].ready, ==, 1);
        check_int(covey_pipe_close(pipes[0]), ==, 0);
        check_int(covey_pipe_close(pipes[1]), ==, 0);
    }
    close(fds[0]);
    close(fds[1]);
}

static void fill_and_pause(void *end)
{
    while (covey_pipe_send(end, "12345678", 8, 0) == 0) {
    }
    for (;;)
        (void)pause();
}

/* The lock is free when half of the time is over, but there is no room. */
TEST(a_timeout_is_one_for_the_lock_and_the_queue, .deadline_s = 30,
    .not_in_valgrind = "it measures time")
{
    covey_pipe *here, *there;
    double start_s;
    pid_t filler, stopped, killer;

    check_int(covey_pipe_open(&here, &there, .bytes = 256), ==, 0);
    check_int(covey_pipe_hold(there), ==, 0);
    filler = child_fork(fill_and_pause, here);
    child_await_sleep(filler);
    stopped = start_stopped();
    killer = fork();
    if (killer == 0) {
        test_sleep_ms(1000);
        kill(stopped, SIGKILL);
        _exit(0);
    }
    start_s = test_now_s();
    check_int(covey_pipe_send(here, "12345678", 8, 2), ==, COVEY_EFULL);
    check(test_now_s() - start_s >= 1.9 && test_now_s() - start_s < 2.7);
    test_reap(killer, 0);
    test_reap(stopped, SIGKILL);
    child_kill(filler);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
}

static void await_blocks(size_t n)
{
    while (blocks() != n)
        test_sleep_ms(1);
}

static void receive_the_end(void *end)
{
    char byte;

    check_int(covey_pipe_receive(end, &byte, 1, NULL, COVEY_FOREVER), ==, COVEY_ECLOSED);
    _exit(7);
}

/* An end is on its way, and who gives it up cannot have the lock. */
TEST(who_waits_is_told_though_a_process_is_stopped_in_the_lock_of_a_pipe, .deadline_s = 30)
{
    size_t before = blocks();
    covey_pipe *here, *there;
    covey_queue *q;
    pid_t stopped, waiting;

    check_int(covey_queue_open(&q), ==, 0);
    check_int(covey_pipe_open(&here, &there), ==, 0);
    waiting = child_fork(receive_the_end, here);
    child_await_sleep(waiting);
    check_int(covey_pipe_put(q, there, 0), ==, 0);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    stopped = start_stopped();
    check_int(covey_queue_free(q), ==, 0);
    test_reap(waiting, 7 << 8);
    child_kill(stopped);
    await_blocks(before);
}

static void free_and_pause(void *q)
{
    check_int(covey_queue_free(q), ==, 0);
    for (;;)
        (void)pause();
}

/* The end that it has given up was the last. */
TEST(what_could_not_be_ended_ends_with_who_should_have, .deadline_s = 30)
{
    size_t before = blocks();
    covey_pipe *here, *there;
    covey_queue *q;
    pid_t stopped, giver;

    check_int(covey_queue_open(&q), ==, 0);
    check_int(covey_pipe_open(&here, &there), ==, 0);
    check_int(covey_pipe_put(q, there, 0), ==, 0);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    stopped = start_stopped();
    giver = child_fork(free_and_pause, q);
    test_sleep_ms(200);
    child_kill(stopped);
    child_kill(giver);
    await_blocks(before);
}

enum {
    STUCK = 40,
};

static void open_many_and_pause(void *opened)
{
    covey_pipe *here, *there;

    for (int i = 0; i < STUCK; i++)
        check_int(covey_pipe_open(&here, &there, .bytes = 256), ==, 0);
    word_set(opened, 1);
    for (;;)
        (void)pause();
}

/* A moment for each would be two seconds. */
TEST(many_pipes_do_not_hold_up_for_long, .deadline_s = 60, .not_in_valgrind = "it measures time")
{
    size_t before = blocks();
    int *opened = covey_calloc(1, sizeof *opened);
    covey_pipe *here, *there;
    covey_queue *q;
    double start_s;
    pid_t dying, stopped;

    check_int(covey_queue_open(&q), ==, 0);
    check_int(covey_pipe_open(&here, &there), ==, 0);
    for (int i = 0; i < STUCK; i++)
        check_int(covey_pipe_put(q, there, 0), ==, 0);
    dying = child_fork(open_many_and_pause, opened);
    word_await(opened, 1);
    stopped = start_stopped();
    kill(dying, SIGKILL);
    test_reap(dying, SIGKILL);
    start_s = test_now_s();
    check_int(blocks(), >, before);
    check(test_now_s() - start_s < 1);
    start_s = test_now_s();
    check_int(covey_queue_free(q), ==, 0);
    check(test_now_s() - start_s < 1);
    child_kill(stopped);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    check_int(covey_free(opened), ==, 0);
    await_blocks(before);
}

struct forked {
    covey_queue *q;
    int done;
};

static pid_t forked;

static int fork_once(void *context)
{
    struct forked *f = context;
    covey_pipe *end;

    if (forked || (forked = fork()) != 0)
        return 0;
    check_int(covey_pipe_get(f->q, &end, 0), ==, 0);
    check_int(covey_pipe_close(end), ==, 0);
    word_set(&f->done, 1);
    for (;;)
        (void)pause();
}

/* While its parent gives up an end, which takes a while. */
TEST(who_was_forked_in_a_hook_gives_up_its_ends, .deadline_s = 30)
{
    struct forked *f = covey_calloc(1, sizeof *f);
    covey_pipe *here, *there, *waited, *given;
    covey_queue *q;
    pid_t stopped, waiting;

    check_int(covey_queue_open(&q), ==, 0);
    check_int(covey_queue_open(&f->q), ==, 0);
    check_int(covey_pipe_open(&here, &there), ==, 0);
    check_int(covey_pipe_open(&waited, &given), ==, 0);
    waiting = child_fork(receive_the_end, waited);
    child_await_sleep(waiting);
    check_int(covey_pipe_put(q, there, 0), ==, 0);
    check_int(covey_pipe_put(f->q, given, 0), ==, 0);
    check_int(covey_pipe_close(given), ==, 0);
    check_int(covey_pipe_close(waited), ==, 0);
    stopped = start_stopped();
    covey_on_interrupt(fork_once, f);
    ring_every_ms(10);
    check_int(covey_queue_free(q), ==, 0);
    ring_every_ms(0);
    covey_on_interrupt(NULL, NULL);
    check_int(forked, !=, 0);
    child_kill(stopped);
    word_await(&f->done, 1);
    test_reap(waiting, 7 << 8);
    child_kill(forked);
    check_int(covey_queue_free(f->q), ==, 0);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    check_int(covey_free(f), ==, 0);
}

TEST(an_end_that_has_too_many_holders_leaves_nothing_behind, .deadline_s = 60)
{
    size_t before = blocks();
    covey_pipe *here, *there;
    covey_queue *q;
    pid_t stopped;
    int r;

    check_int(covey_queue_open(&q, .unbounded = true), ==, 0);
    check_int(covey_pipe_open(&here, &there), ==, 0);
    while ((r = covey_pipe_put(q, there, 0)) == 0) {
    }
    check_int(r, ==, COVEY_ELIMIT);
    stopped = start_stopped();
    check_int(covey_pipe_put(q, there, 0), ==, COVEY_ELIMIT);
    child_kill(stopped);
    check_int(covey_queue_free(q), ==, 0);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    check_int(blocks(), ==, before);
}

enum {
    MANY = 400,
};

/* More than a process remembers. */
TEST(only_the_first_use_of_an_end_takes_the_lock, .deadline_s = 60)
{
    size_t before = blocks();
    covey_pipe *here, *there, *others[MANY][2];
    const void *item;
    char byte;
    int fd;
    pid_t stopped;

    check_int(covey_pipe_open(&here, &there), ==, 0);
    check_int(covey_pipe_send(there, "x", 1, 0), ==, 0);
    fd = covey_pipe_fd(here);
    check_int(fd, >=, 0);
    check_int(covey_queue_peek(covey_pipe_incoming(here), &item, NULL, 0), ==, 0);
    for (int i = 0; i < MANY; i++) {
        check_int(covey_pipe_open(&others[i][0], &others[i][1], .bytes = 256), ==, 0);
        check_int(covey_pipe_hold(others[i][0]), ==, 0);
    }
    check_fails(covey_pipe_close(here), COVEY_ESTATE, "item");
    check_int(fcntl(fd, F_GETFD), >=, 0);
    check_int(covey_queue_unpeek(covey_pipe_incoming(here), item), ==, 0);
    for (int i = 0; i < MANY; i++)
        check_int(covey_pipe_hold(others[i][0]), ==, 0);
    stopped = start_stopped();
    check_int(covey_pipe_receive(here, &byte, 1, NULL, 0), ==, 0);
    check_int(covey_pipe_send(there, "x", 1, 0), ==, 0);
    child_kill(stopped);
    for (int i = 0; i < MANY; i++) {
        check_int(covey_pipe_close(others[i][0]), ==, 0);
        check_int(covey_pipe_close(others[i][1]), ==, 0);
    }
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    check_int(blocks(), ==, before);
}
