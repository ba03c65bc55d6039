/* SPDX-License-Identifier: MIT */
#include "children.h"
#include "msg/queue.h"

#include <covey.h>

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int get_int(covey_queue *q, double timeout_s)
{
    int value = -1;
    size_t size = 0;

    check_int(covey_queue_get(q, &value, sizeof value, &size, timeout_s), ==, 0);
    check_int(size, ==, sizeof value);
    return value;
}

static void put_int(covey_queue *q, int value)
{
    check_int(covey_queue_put(q, &value, sizeof value, COVEY_FOREVER), ==, 0);
}

TEST(items_come_out_in_the_order_they_went_in)
{
    covey_queue *q;

    check_int(covey_queue_open(&q), ==, 0);
    check_int(covey_queue_is_empty(q), ==, 1);
    for (int i = 0; i < 100; i++)
        put_int(q, i);
    check_int(covey_queue_size(q), ==, 100);
    check_int(covey_queue_is_empty(q), ==, 0);
    for (int i = 0; i < 100; i++)
        check_int(get_int(q, 0), ==, i);
    check_int(covey_queue_size(q), ==, 0);
    check_fails(covey_queue_get(q, &(int){0}, sizeof(int), NULL, 0), COVEY_EEMPTY, "no item");
    check_int(covey_queue_free(q), ==, 0);
}

TEST(items_of_every_size_go_around_the_ring, .deadline_s = 60)
{
    unsigned char in[4096];
    unsigned char out[4096];
    unsigned seed = 7;
    covey_queue *q;

    check_int(covey_queue_open(&q, .bytes = 4096), ==, 0);
    check_int(covey_queue_item_max(q), ==, 4096 - 32);
    for (int round = 0; round < 20000; round++) {
        size_t size = round % 3 ? (size_t)rand_r(&seed) % 100
                                : (size_t)rand_r(&seed) % (covey_queue_item_max(q) + 1);
        size_t got = 1;

        memset(in, rand_r(&seed), size);
        check_int(covey_queue_put(q, in, size, 0), ==, 0);
        check_int(covey_queue_get(q, out, sizeof out, &got, 0), ==, 0);
        check_int(got, ==, size);
        check(memcmp(in, out, size) == 0);
    }
    check_int(covey_queue_free(q), ==, 0);
}

TEST(a_ring_holds_what_it_says)
{
    covey_queue *q;
    char item[24];
    int n = 0;

    check_int(covey_queue_open(&q, .bytes = 1024), ==, 0);
    while (covey_queue_put(q, item, sizeof item, 0) == 0)
        n++;
    check_int(covey_error_code(), ==, COVEY_EFULL);
    check_int(n, ==, (1024 - 8) / 32);
    check_int(covey_queue_size(q), ==, n);
    check_int(covey_queue_is_full(q, sizeof item), ==, 1);
    for (int i = 0; i < 2; i++) /* the next cell does not fit behind the last: it takes both */
        check_int(covey_queue_get(q, item, sizeof item, NULL, 0), ==, 0);
    check_int(covey_queue_is_full(q, sizeof item), ==, 0);
    check_int(covey_queue_put(q, item, sizeof item, 0), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(the_number_of_items_is_bounded)
{
    covey_queue *q;

    check_int(covey_queue_open(&q, .items = 3), ==, 0);
    for (int round = 0; round < 10000; round++) {
        for (int i = 0; i < 3; i++)
            put_int(q, i);
        check_int(covey_queue_is_full(q, 1), ==, 1);
        check_fails(covey_queue_put(q, "x", 1, 0), COVEY_EFULL, "no room");
        for (int i = 0; i < 3; i++)
            check_int(get_int(q, 0), ==, i);
    }
    check_int(covey_queue_free(q), ==, 0);
}

TEST(timeouts_are_kept)
{
    covey_queue *q;
    char item[8] = "";
    double start = test_now_s();

    check_int(covey_queue_open(&q, .items = 1), ==, 0);
    check_int(covey_queue_get(q, item, 8, NULL, 0.05), ==, COVEY_EEMPTY);
    check(test_now_s() - start >= 0.05);
    check_int(covey_queue_put(q, item, 8, -1), ==, 0);
    start = test_now_s();
    check_int(covey_queue_put(q, item, 8, 0.05), ==, COVEY_EFULL);
    check(test_now_s() - start >= 0.05);
    check_fails(covey_queue_get(q, item, 8, NULL, (double)NAN), COVEY_EINVAL, "not a number");
    check_int(covey_queue_free(q), ==, 0);
}

TEST(a_small_buffer_loses_nothing)
{
    covey_queue *q;
    char buffer[16];
    size_t size = 0;

    check_int(covey_queue_open(&q), ==, 0);
    check_int(covey_queue_put(q, "hello, world", 13, 0), ==, 0);
    check_fails(covey_queue_get(q, buffer, 5, &size, 0), COVEY_ETOOBIG, "13 bytes");
    check_int(size, ==, 13);
    check_int(covey_queue_get(q, NULL, 0, &size, 0), ==, COVEY_ETOOBIG);
    check_int(covey_queue_get(q, buffer, size, &size, 0), ==, 0);
    check_str(buffer, "hello, world");
    check_int(covey_queue_put(q, NULL, 0, 0), ==, 0);
    check_int(covey_queue_get(q, NULL, 0, &size, 0), ==, 0);
    check_int(size, ==, 0);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(misuse_of_a_queue_is_named)
{
    covey_queue *q;
    char item[1];

    check_fails(covey_queue_open(NULL), COVEY_EINVAL, "queue is NULL");
    check_fails(covey_queue_open(&q, .bytes = SIZE_MAX), COVEY_EINVAL, "bytes is");
    check_fails(covey_queue_open(&q, .bytes = ((size_t)1 << 40) + 1), COVEY_EINVAL, "bytes is");
    check_fails(covey_queue_open(&q, .items = SIZE_MAX), COVEY_EINVAL, "items is");
    check_fails(covey_queue_open(&q, .item_size = UINT32_MAX), COVEY_EINVAL, "item_size is");
    check_fails(covey_queue_open(&q, .item_size = 33, .bytes = 64), COVEY_EINVAL, "up to 32");
    check_fails(covey_queue_open(&q, .bytes = 63), COVEY_EINVAL, "bytes is 63: less than 64");
    check_fails(covey_queue_open(&q, .priorities = 17), COVEY_EINVAL, "priorities is 17");
    check_fails(covey_queue_open(&q, .producers = 1024), COVEY_EINVAL, "producers is 1024");
    check_fails(covey_queue_open(&q, .unbounded = true, .items = 1), COVEY_EINVAL, "unbounded");
    check_fails(covey_queue_put(NULL, item, 1, 0), COVEY_EINVAL, "queue is NULL");
    check_fails(covey_queue_get((covey_queue *)(void *)item, item, 1, NULL, 0), COVEY_EINVAL,
        "not a queue");
    check_int(covey_queue_open(&q, .bytes = 1 << 16), ==, 0);
    check_fails(covey_queue_put(q, NULL, 1, 0), COVEY_EINVAL, "item is NULL");
    check_fails(covey_queue_get(q, NULL, 1, NULL, 0), COVEY_EINVAL, "item is NULL");
    check_fails(covey_queue_put(q, item, 1 << 20, 0), COVEY_ETOOBIG, "1048576");
    check_fails(covey_queue_put(q, item, SIZE_MAX, 0), COVEY_ETOOBIG, "bytes");
    check_fails(covey_queue_is_full(q, SIZE_MAX), COVEY_ETOOBIG, "bytes");
    check_fails(covey_queue_commit(q, NULL, 1), COVEY_EINVAL, "item is NULL");
    check_fails(covey_queue_cancel(q, NULL), COVEY_EINVAL, "item is NULL");
    check_fails(covey_queue_release(q, NULL), COVEY_EINVAL, "item is NULL");
    check_fails(covey_queue_unpeek(q, NULL), COVEY_EINVAL, "item is NULL");
    check_int(covey_queue_free(q), ==, 0);
    check_fails(covey_queue_free(q), COVEY_EINVAL, "not a queue");
    check_fails(covey_queue_size(q), COVEY_EINVAL, "not a queue");
    check_int(covey_queue_item_max(q), ==, 0);
    check_int(covey_queue_free(NULL), ==, 0);
    check_int(covey_queue_open(&q, .item_size = 40), ==, 0);
    check_int(covey_queue_item_max(q), ==, 40);
    check_fails(covey_queue_put(q, item, 1, 0), COVEY_EINVAL, "is for items of 40");
    check_fails(covey_queue_put_block(q, NULL, 40, 0), COVEY_EINVAL, "block is NULL");
    check_fails(covey_queue_put_block(q, item, 40, 0), COVEY_EINVAL, "not the start of a block");
    check_int(covey_queue_free(q), ==, 0);
}

TEST(a_queue_without_memory_is_full)
{
    covey_queue *q;

    check_int(covey_open(.memory_max = 16 << 20), ==, 0);
    check_int(covey_queue_open(&q, .unbounded = true), ==, 0);
    check_int(covey_queue_is_full(q, 3 << 20), ==, 0);
    check_int(covey_queue_is_full(q, 300 << 20), ==, COVEY_ENOMEM);
    check_int(covey_queue_is_full(q, 8), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
    check_int(covey_close(), ==, 0);
}

TEST(a_closed_queue_is_drained_and_then_ends)
{
    covey_queue *q;

    check_int(covey_queue_open(&q), ==, 0);
    put_int(q, 1);
    put_int(q, 2);
    check_int(covey_queue_is_closed(q), ==, 0);
    check_int(covey_queue_close(q), ==, 0);
    check_int(covey_queue_close(q), ==, 0);
    check_int(covey_queue_is_closed(q), ==, 1);
    check_fails(covey_queue_put(q, "x", 1, COVEY_FOREVER), COVEY_ECLOSED, "closed");
    check_fails(covey_queue_is_full(q, 4000), COVEY_ECLOSED, "closed");
    check_int(covey_queue_is_closed(q), ==, 1);
    check_int(covey_queue_size(q), ==, 2);
    check_int(get_int(q, COVEY_FOREVER), ==, 1);
    check_int(get_int(q, COVEY_FOREVER), ==, 2);
    check_fails(covey_queue_get(q, &(int){0}, 4, NULL, COVEY_FOREVER), COVEY_ECLOSED, "closed");
    check_int(covey_queue_size(q), ==, 0);
    check_int(covey_queue_is_empty(q), ==, 1);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(closing_wakes_all_who_wait)
{
    covey_queue *full;
    covey_queue *empty;
    pid_t pids[8];

    check_int(covey_queue_open(&full, .items = 1), ==, 0);
    check_int(covey_queue_open(&empty), ==, 0);
    put_int(full, 0);
    for (int i = 0; i < 8; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            int r = i % 2 ? covey_queue_put(full, "x", 1, COVEY_FOREVER)
                          : covey_queue_get(empty, &(int){0}, 4, NULL, COVEY_FOREVER);

            _exit(r == COVEY_ECLOSED ? 0 : 1);
        }
    }
    test_sleep_ms(100);
    check_int(covey_queue_close(full), ==, 0);
    check_int(covey_queue_close(empty), ==, 0);
    for (int i = 0; i < 8; i++)
        test_reap(pids[i], 0);
    check_int(covey_queue_free(full), ==, 0);
    check_int(covey_queue_free(empty), ==, 0);
}

TEST(a_writer_and_a_reader_share_a_queue)
{
    enum {
        N = 200000
    };
    covey_queue *q;
    pid_t pid;

    check_int(covey_queue_open(&q, .bytes = 4096), ==, 0);
    pid = fork();
    if (pid == 0) {
        for (int i = 0; i < N; i++)
            put_int(q, i);
        put_int(q, -1);
        _exit(0);
    }
    for (int i = 0; i < N; i++)
        check_int(get_int(q, COVEY_FOREVER), ==, i);
    check_int(get_int(q, COVEY_FOREVER), ==, -1);
    test_reap(pid, 0);
    check_int(covey_queue_free(q), ==, 0);
}

/* Producers put (producer, number); consumers check the order of each producer. */
struct item {
    int producer;
    int number;
};

static void consume(covey_queue *q, long *sum)
{
    int last[16];
    struct item item;
    int r;

    memset(last, -1, sizeof last);
    while ((r = covey_queue_get(q, &item, sizeof item, NULL, COVEY_FOREVER)) == 0) {
        check_int(item.number, >, last[item.producer]);
        last[item.producer] = item.number;
        __atomic_fetch_add(sum, item.number, __ATOMIC_SEQ_CST);
    }
    check_int(r, ==, COVEY_ECLOSED);
}

static void many_to_many(int producers, int consumers, int n, size_t bytes, size_t items)
{
    long *sum = covey_calloc(1, sizeof *sum);
    covey_queue *q;
    pid_t pids[32];

    check_int(covey_queue_open(&q, .bytes = bytes, .items = items), ==, 0);
    for (int i = 0; i < producers + consumers; i++) {
        pids[i] = fork();
        if (pids[i] != 0)
            continue;
        if (i < producers) {
            for (int k = 0; k < n; k++) {
                struct item item = {i, k};

                check_int(covey_queue_put(q, &item, sizeof item, COVEY_FOREVER), ==, 0);
            }
        } else {
            consume(q, sum);
        }
        _exit(0);
    }
    for (int i = 0; i < producers; i++)
        test_reap(pids[i], 0);
    check_int(covey_queue_close(q), ==, 0);
    for (int i = producers; i < producers + consumers; i++)
        test_reap(pids[i], 0);
    check_int(*sum, ==, (long)producers * n * (n - 1) / 2);
    check_int(covey_queue_free(q), ==, 0);
    check_int(covey_free(sum), ==, 0);
}

TEST(many_producers_and_consumers_share_a_queue, .deadline_s = 120,
    .not_in_valgrind = "it takes too long")
{
    many_to_many(4, 4, 50000, 0, 0);
    many_to_many(8, 2, 10000, 1024, 0);
    many_to_many(2, 8, 10000, 0, 1);
    many_to_many(1, 1, 50000, 128, 0);
}

static void *get_in_thread(void *context)
{
    static long sum;

    consume(context, &sum);
    return &sum;
}

TEST(threads_share_a_queue, .deadline_s = 120)
{
    pthread_t threads[4];
    covey_queue *q;
    void *sum = NULL;

    check_int(covey_queue_open(&q, .bytes = 512), ==, 0);
    for (int i = 0; i < 4; i++)
        check_int(pthread_create(&threads[i], NULL, get_in_thread, q), ==, 0);
    for (int k = 0; k < 40000; k++) {
        struct item item = {0, k};

        check_int(covey_queue_put(q, &item, sizeof item, COVEY_FOREVER), ==, 0);
    }
    check_int(covey_queue_close(q), ==, 0);
    for (int i = 0; i < 4; i++)
        check_int(pthread_join(threads[i], &sum), ==, 0);
    check_int(*(long *)sum, ==, (long)40000 * 39999 / 2);
    check_int(covey_queue_free(q), ==, 0);
}

/* Deaths ************************************************************************************* */

static pid_t start_producer(covey_queue *q, int id, int first)
{
    pid_t pid = fork();

    if (pid == 0) {
        for (int k = first;; k++) {
            struct item item = {id, k};

            if (covey_queue_put(q, &item, sizeof item, COVEY_FOREVER) != 0)
                _exit(1);
        }
    }
    return pid;
}

static void put_in_a_child(covey_queue *q, size_t size, int *done)
{
    static char item[4000];
    pid_t pid = fork();

    if (pid == 0) {
        check_int(covey_queue_put(q, item, size, COVEY_FOREVER), ==, 0);
        (void)__atomic_fetch_add(done, 1, __ATOMIC_SEQ_CST);
        _exit(0);
    }
    check(pid > 0);
}

static void reap_children(int n)
{
    int status;

    while (n-- > 0) {
        check(waitpid(-1, &status, 0) > 0);
        check_int(status, ==, 0);
    }
}

TEST(a_large_item_makes_room_for_several_small_ones)
{
    int *done = covey_calloc(1, sizeof *done);
    static char item[4000];
    covey_queue *q;

    check_int(covey_queue_open(&q, .bytes = 8192), ==, 0);
    check_int(covey_queue_put(q, item, 4000, 0), ==, 0);
    check_int(covey_queue_put(q, item, 4000, 0), ==, 0);
    for (int i = 0; i < 3; i++)
        put_in_a_child(q, 1000, done);
    test_sleep_ms(200);
    check_int(*done, ==, 0);
    check_int(covey_queue_get(q, item, sizeof item, NULL, 0), ==, 0);
    reap_children(3);
    check_int(*done, ==, 3);
    check_int(covey_queue_free(q), ==, 0);
    check_int(covey_free(done), ==, 0);
}

TEST(a_large_item_that_does_not_fit_keeps_no_small_one_waiting)
{
    int *done = covey_calloc(1, sizeof *done);
    static char item[4000];
    covey_queue *q;

    check_int(covey_queue_open(&q, .bytes = 8192), ==, 0);
    for (int i = 0; i < 7; i++)
        check_int(covey_queue_put(q, item, 1000, 0), ==, 0);
    check_int(covey_queue_put(q, item, 900, 0), ==, 0);
    put_in_a_child(q, 4000, done);
    test_sleep_ms(100);
    put_in_a_child(q, 4000, done);
    test_sleep_ms(100);
    put_in_a_child(q, 900, done);
    test_sleep_ms(100);
    check_int(covey_queue_get(q, item, sizeof item, NULL, 0), ==, 0);
    reap_children(1); /* the small one */
    check_int(*done, ==, 1);
    while (covey_queue_get(q, item, sizeof item, NULL, 0.5) == 0) {
    }
    reap_children(2);
    check_int(covey_queue_free(q), ==, 0);
    check_int(covey_free(done), ==, 0);
}

TEST(who_has_no_room_for_the_item_wakes_another)
{
    covey_queue *q;
    char item[100] = {0};

    check_int(covey_queue_open(&q), ==, 0);
    for (int small = 1; small >= 0; small--) { /* the first to sleep is the first to be woken */
        pid_t pid = fork();

        if (pid == 0) {
            int r =
                covey_queue_get(q, item, small ? 1 : sizeof item, NULL, small ? 2 : COVEY_FOREVER);

            check(r == (small ? COVEY_ETOOBIG : 0) || (small && r == COVEY_EEMPTY));
            _exit(0);
        }
        test_sleep_ms(100);
    }
    check_int(covey_queue_put(q, item, sizeof item, 0), ==, 0);
    reap_children(2);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(timeouts_hold_though_a_member_is_stopped_in_the_middle, .deadline_s = 60)
{
    static char item[3000];
    covey_queue *q;

    check_int(covey_queue_open(&q, .bytes = 8192), ==, 0);
    for (int round = 0; round < 30; round++) {
        double start;
        pid_t pid = fork();

        if (pid == 0) {
            for (;;) {
                check_int(covey_queue_put(q, item, sizeof item, COVEY_FOREVER), ==, 0);
                check_int(covey_queue_get(q, item, sizeof item, NULL, COVEY_FOREVER), ==, 0);
            }
        }
        test_sleep_ms(5 + round % 7);
        check_int(kill(pid, SIGSTOP), ==, 0);
        test_sleep_ms(1);
        start = test_now_s();
        (void)covey_queue_put(q, item, 1, 0.1);
        (void)covey_queue_get(q, item, sizeof item, NULL, 0.1);
        check(test_now_s() - start < 5);
        check_int(kill(pid, SIGKILL), ==, 0);
        test_reap(pid, SIGKILL);
        while (covey_queue_get(q, item, sizeof item, NULL, 0) == 0) {
        }
    }
    check_int(covey_queue_free(q), ==, 0);
}

static void *page; /* the first touch of it stops the process, in the middle of a copy */

static void stop_here(int signal)
{
    (void)signal;
    (void)raise(SIGSTOP);
    (void)mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static char several[3000]; /* bytes of an item */

enum use {
    PUT,
    GET
};

/* Asleep, or stopped. */
static void await_state(pid_t pid, char state)
{
    for (int seen = 0; seen < 20;) {
        seen = test_state_of(pid) == state ? seen + 1 : 0;
        test_sleep_ms(1);
    }
}

/* In a child, which sleeps when this returns, or has stopped if it comes so far. */
static pid_t start_use(
    covey_queue *q, enum use use, void *item, size_t size, double timeout_s, int code)
{
    pid_t pid = fork();

    if (pid == 0) {
        page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        (void)signal(SIGSEGV, stop_here);
        if (!item)
            item = page;
        check_int(use == PUT ? covey_queue_put(q, item, size, timeout_s)
                             : covey_queue_get(q, item, size, NULL, timeout_s),
            ==, code);
        _exit(0);
    }
    return pid;
}

static pid_t use(covey_queue *q, enum use use, void *item, size_t size, double timeout_s, int code)
{
    pid_t pid = start_use(q, use, item, size, timeout_s, code);

    await_state(pid, use == PUT && !item ? 'T' : 'S');
    return pid;
}

/* It has found an item of so many bytes. */
static pid_t stop_in_get(covey_queue *q, size_t size)
{
    pid_t pid = start_use(q, GET, NULL, size, 0, 0);

    await_state(pid, 'T');
    return pid;
}

static int give_up(void *context)
{
    (void)context;
    return 1;
}

static void ignore(int signal)
{
    (void)signal;
}

/* In a child, which a signal interrupts when it sleeps, once. */
static int get_until_interrupted(void *argument)
{
    return covey_queue_get(*(covey_queue **)argument, &(int){0}, sizeof(int), NULL, COVEY_FOREVER);
}

static int put_until_interrupted(void *argument)
{
    return covey_queue_put(*(covey_queue **)argument, &(int){0}, sizeof(int), COVEY_FOREVER);
}

static int join_until_interrupted(void *argument)
{
    return covey_queue_join(*(covey_queue **)argument, COVEY_FOREVER);
}

static void check_is_interrupted(int (*call)(void *argument), covey_queue *q)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        covey_lock *lock = covey_alloc_own(sizeof *lock);
        covey_condition *condition = covey_alloc_own(sizeof *condition);

        check_int(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = ignore}, NULL), ==, 0);
        covey_on_interrupt(give_up, NULL);
        check_int(covey_lock_init(lock), ==, 0);
        check_int(covey_condition_init(condition, lock), ==, 0);
        check_int(covey_lock_acquire(lock, 0), ==, 0);
        check_int(call(&q), ==, COVEY_EINTR);
        check_int(covey_condition_wait(condition, 0.001), ==, COVEY_ETIMEDOUT); /* is not */
        _exit(0);
    }
    await_state(pid, 'S');
    check_int(kill(pid, SIGUSR1), ==, 0);
    check_int(waitpid(pid, &status, 0), ==, pid);
    check_int(status, ==, 0);
}

TEST(who_waits_for_ever_is_interrupted_wherever_he_waits,
    .not_in_valgrind = "it stops at a page that it must not touch")
{
    covey_queue *q;
    covey_queue *joinable;
    const void *seen;
    void *place;
    pid_t pid;

    check_int(covey_queue_open(&q), ==, 0);
    put_int(q, 1);
    check_int(covey_queue_peek(q, &seen, NULL, 0), ==, 0);
    check_int(covey_queue_reserve(q, 4, &place, 0), ==, 0);
    check_is_interrupted(get_until_interrupted, q);
    check_is_interrupted(put_until_interrupted, q);
    check_int(covey_queue_cancel(q, place), ==, 0);
    check_int(covey_queue_release(q, seen), ==, 0);
    check_is_interrupted(get_until_interrupted, q);
    check_int(covey_queue_free(q), ==, 0);

    check_int(covey_queue_open(&joinable, .joinable = true), ==, 0);
    check_int(covey_queue_put(joinable, several, 100, 0), ==, 0);
    pid = stop_in_get(joinable, 100);
    check_is_interrupted(join_until_interrupted, joinable);
    child_kill(pid);
    check_is_interrupted(join_until_interrupted, joinable);
    check_int(covey_queue_free(joinable), ==, 0);
}

/* Who is woken while the lock is held, and gives up, has had a wake that another one needs. */
TEST(a_consumer_that_gives_up_wakes_another)
{
    covey_queue *q;
    pid_t stopped;

    if (test_is_old_kernel())
        test_skip("there, who sleeps first is not woken first");
    check_int(covey_queue_open(&q), ==, 0);
    stopped = use(q, GET, NULL, 1, COVEY_FOREVER, 0);
    (void)use(q, GET, several, 1, 5, COVEY_EEMPTY);
    (void)use(q, GET, several, 1, COVEY_FOREVER, 0);
    check_int(covey_queue_put(q, several, 1, 0), ==, 0); /* wakes the one that stops */
    await_state(stopped, 'T');
    check_int(covey_queue_put(q, several, 1, 0), ==, 0); /* wakes the next */
    reap_children(1);
    check_int(kill(stopped, SIGCONT), ==, 0);
    reap_children(2);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(a_producer_that_gives_up_wakes_another)
{
    covey_queue *q;
    pid_t stopped;

    if (test_is_old_kernel())
        test_skip("there, who sleeps first is not woken first");
    check_int(covey_queue_open(&q, .bytes = 8192), ==, 0);
    for (int i = 0; i < 2; i++)
        check_int(covey_queue_put(q, several, 3000, 0), ==, 0);
    (void)use(q, PUT, several, 2500, 5, COVEY_EFULL);
    (void)use(q, PUT, several, 2500, COVEY_FOREVER, 0);
    stopped = use(q, PUT, NULL, 100, COVEY_FOREVER, 0); /* fits, and need not sleep before */
    check_int(covey_queue_get(q, several, sizeof several, NULL, 0), ==, 0);
    reap_children(1);
    check_int(kill(stopped, SIGCONT), ==, 0);
    reap_children(2);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(killed_producers_break_nothing, .deadline_s = 120, .not_in_valgrind = "it takes too long")
{
    covey_queue *q;

    check_int(covey_queue_open(&q, .bytes = 512), ==, 0);
    for (int round = 0; round < 150; round++) {
        pid_t pids[2] = {start_producer(q, 0, 0), start_producer(q, 1, 0)};
        int last[2] = {-1, -1};
        struct item item;

        for (int k = 0; k < 50 + round; k++) {
            check_int(covey_queue_get(q, &item, sizeof item, NULL, COVEY_FOREVER), ==, 0);
            check_int(item.number, ==, last[item.producer] + 1);
            last[item.producer]++;
        }
        for (int i = 0; i < 2; i++)
            check_int(kill(pids[i], SIGKILL), ==, 0);
        for (int i = 0; i < 2; i++)
            test_reap(pids[i], SIGKILL);
        while (covey_queue_get(q, &item, sizeof item, NULL, 0) == 0) {
            check_int(item.number, ==, last[item.producer] + 1);
            last[item.producer]++;
        }
        check_int(covey_error_code(), ==, COVEY_EEMPTY);
        check_int(covey_queue_size(q), ==, 0);
    }
    check_int(covey_queue_free(q), ==, 0);
}

TEST(killed_consumers_take_one_item_at_most, .deadline_s = 120,
    .not_in_valgrind = "it takes too long")
{
    covey_queue *q;
    int *last = covey_calloc(2, sizeof *last);

    check_int(covey_queue_open(&q, .bytes = 512), ==, 0);
    for (int round = 0; round < 150; round++) {
        pid_t producer = start_producer(q, 0, 0);
        struct item item;
        pid_t victim;

        last[0] = -1;
        victim = fork();
        if (victim == 0) {
            while (covey_queue_get(q, &item, sizeof item, NULL, COVEY_FOREVER) == 0) {
                if (item.number != last[0] + 1)
                    _exit(2);
                last[0] = item.number;
            }
            _exit(1);
        }
        test_sleep_ms(1 + round % 4);
        check_int(kill(victim, SIGKILL), ==, 0);
        test_reap(victim, SIGKILL);
        check_int(covey_queue_get(q, &item, sizeof item, NULL, COVEY_FOREVER), ==, 0);
        check(item.number == last[0] + 1 || item.number == last[0] + 2);
        for (int k = item.number + 1; k < item.number + 50; k++) {
            struct item next;

            check_int(covey_queue_get(q, &next, sizeof next, NULL, COVEY_FOREVER), ==, 0);
            check_int(next.number, ==, k);
        }
        check_int(kill(producer, SIGKILL), ==, 0);
        test_reap(producer, SIGKILL);
        while (covey_queue_get(q, &item, sizeof item, NULL, 0) == 0) {
        }
    }
    check_int(covey_queue_free(q), ==, 0);
    check_int(covey_free(last), ==, 0);
}

TEST(idle_waiters_do_not_wake_up)
{
    covey_queue *q;
    pid_t pid;
    long before;

    if (test_is_old_kernel())
        test_skip("without futex_waitv a waiter looks every 20 ms");
    check_int(covey_queue_open(&q), ==, 0);
    pid = fork();
    if (pid == 0)
        _exit(get_int(q, COVEY_FOREVER) == 5 ? 0 : 1);
    test_sleep_ms(100);
    before = test_status_of(pid, "voluntary_ctxt_switches");
    test_sleep_ms(500);
    check_int(test_status_of(pid, "voluntary_ctxt_switches"), ==, before);
    check_int(test_status_of(pid, "nonvoluntary_ctxt_switches"), >=, 0);
    put_int(q, 5);
    test_reap(pid, 0);
    check_int(covey_queue_free(q), ==, 0);
}

/* So many as make a queue look for a smaller segment; slower than what it has a wide one for. */
static void pass_slowly(covey_queue *q)
{
    test_sleep_ms(50);
    for (int i = 0; i < 10000; i++) {
        put_int(q, i);
        check_int(get_int(q, 0), ==, i);
    }
}

TEST(an_unbounded_queue_grows_and_shrinks, .deadline_s = 60)
{
    struct covey_stats before = {.size = sizeof before};
    struct covey_stats after = {.size = sizeof after};
    covey_queue *q;

    check_int(covey_queue_open(&q, .unbounded = 1), ==, 0);
    check_int(covey_stats(&before), ==, 0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 300000; i++)
            put_int(q, i);
        check_int(covey_queue_size(q), ==, 300000);
        for (int i = 0; i < 300000; i++)
            check_int(get_int(q, 0), ==, i);
        pass_slowly(q);
    }
    check_int(covey_stats(&after), ==, 0);
    check_int(after.blocks, ==, before.blocks);
    for (int i = 0; i < 300000; i++)
        put_int(q, i);
    check_int(covey_queue_free(q), ==, 0);
}

static size_t bytes_used(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    check_int(covey_stats(&stats), ==, 0);
    return stats.bytes;
}

/* 1 MiB, as fast as it goes. */
static void pass_fast(covey_queue *q)
{
    static unsigned char batch[8][2048];

    for (int i = 0; i < 64; i++) {
        check_int(covey_queue_put_many(q, batch, sizeof *batch, NULL, 8, 0), ==, 8);
        for (long n = 0; n < 8;) {
            long got = covey_queue_get_many(q, batch, sizeof *batch, NULL, (size_t)(8 - n), 0);

            check_int(got, >, 0);
            n += got;
        }
    }
}

TEST(where_much_goes_through_there_is_a_wide_segment, .deadline_s = 60,
    .not_in_valgrind = "the arena is small there")
{
    size_t before;
    covey_queue *q;

    check_int(covey_queue_open(&q), ==, 0);
    before = bytes_used();
    pass_slowly(q);
    check_int(bytes_used(), ==, before);
    while (bytes_used() < before + 256 * 1024)
        pass_fast(q);
    pass_slowly(q);
    check_int(bytes_used(), ==, before);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(a_queue_for_little_has_no_wide_segment, .deadline_s = 60)
{
    const struct covey_queue_options little[] = {{.items = 1024}, {.bytes = 64 * 1024}};

    for (int k = 0; k < 2; k++) {
        struct covey_queue_options o = little[k];
        size_t before;
        covey_queue *q;

        o.size = sizeof o;
        o.queue = &q;
        check_int(covey_queue_open_with(&o), ==, 0);
        before = bytes_used();
        for (int i = 0; i < 100; i++)
            pass_fast(q);
        check_int(bytes_used() - before, <=, 128 * 1024);
        check_int(covey_queue_free(q), ==, 0);
    }
}

TEST(a_queue_of_a_thousand_small_items_takes_little_memory)
{
    struct covey_stats before = {.size = sizeof before};
    struct covey_stats after = {.size = sizeof after};
    uint64_t item = 0;
    covey_queue *q;

    check_int(covey_stats(&before), ==, 0);
    check_int(covey_queue_open(&q, .items = 1024), ==, 0);
    for (int i = 0; i < 1024; i++)
        check_int(covey_queue_put_value(q, item, 0), ==, 0);
    check_int(covey_queue_put_value(q, item, 0), ==, COVEY_EFULL);
    for (int i = 0; i < 1024; i++)
        check_int(covey_queue_get_value(q, &item, 0), ==, 0);
    check_int(covey_stats(&after), ==, 0);
    check_int(after.bytes_claimed - before.bytes_claimed, <=, 64 * 1024);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(large_items_come_through_whole)
{
    static unsigned char in[3 << 20];
    static unsigned char out[3 << 20];
    covey_queue *q;
    size_t size;

    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (unsigned char)(i * 7 + i / 251);
    check_int(covey_queue_open(&q), ==, 0);
    for (size_t n = 1; n <= sizeof in; n = n * 3 + 1) {
        check_int(covey_queue_put(q, in, n, 0), ==, 0);
        check_int(covey_queue_put(q, in, 10, 0), ==, 0);
        check_int(covey_queue_get(q, out, n - 1, &size, 0), ==, COVEY_ETOOBIG);
        check_int(size, ==, n);
        check_int(covey_queue_get(q, out, n, &size, 0), ==, 0);
        check_int(size, ==, n);
        check_int(memcmp(in, out, n), ==, 0);
        check_int(covey_queue_get(q, out, 10, &size, 0), ==, 0);
    }
    check_int(covey_queue_put(q, in, sizeof in, 0), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(blocks_move_through_a_queue)
{
    covey_queue *q;
    void *out;
    size_t size;
    char *block = covey_alloc(100);
    char *own = covey_alloc(100);

    check_int(covey_own(own), ==, 0);
    check_int(covey_queue_open(&q), ==, 0);
    strcpy(block, "lent");
    strcpy(own, "given");
    check_int(covey_queue_put_block(q, block, 5, 0), ==, 0);
    check_int(covey_queue_put_block(q, own, 6, 0), ==, 0);
    check_fails(covey_free(own), COVEY_EINVAL, "lies in a queue");
    check_fails(covey_queue_put_block(q, own, 6, 0), COVEY_EINVAL, "lies in a queue already");
    check_int(covey_queue_put(q, "small", 6, 0), ==, 0);
    check_int(covey_queue_get_block(q, &out, &size, 0), ==, 0);
    check(out == block && size == 5);
    check_int(covey_queue_get_block(q, &out, &size, 0), ==, 0);
    check(out == own && size == 6);
    check_int(covey_owner(own), ==, getpid());
    check_int(covey_free(own), ==, 0);
    check_int(covey_queue_get_block(q, &out, &size, 0), ==, 0);
    check_str(out, "small");
    check_int(covey_free(out), ==, 0);
    check_int(covey_free(block), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(higher_priorities_come_first)
{
    covey_queue *q;

    check_int(covey_queue_open(&q, .priorities = 4), ==, 0);
    for (int i = 0; i < 40; i++)
        check_int(covey_queue_put_at(q, (unsigned)i % 4, &i, sizeof i, 0), ==, 0);
    check_int(covey_queue_size(q), ==, 40);
    check_int(covey_queue_close(q), ==, 0);
    for (int p = 3; p >= 0; p--) {
        for (int i = p; i < 40; i += 4)
            check_int(get_int(q, 0), ==, i);
    }
    check_int(covey_queue_get(q, &(int){0}, sizeof(int), NULL, 0), ==, COVEY_ECLOSED);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(priorities_share_the_bytes)
{
    static char item[100];
    covey_queue *q;
    long n = 0;

    check_int(covey_queue_open(&q, .bytes = 32 * 1024, .priorities = 16), ==, 0);
    for (unsigned p = 0; p < 16; p++)
        check_int(covey_queue_put_at(q, p, item, 1, 0), ==, 0);
    for (unsigned p = 0; p < 16; p++) {
        while (covey_queue_put_at(q, p, item, sizeof item, 0) == 0)
            n++;
        check_int(covey_error_code(), ==, COVEY_EFULL);
    }
    check_int(n * (8 + 104), <=, 32 * 1024);
    check_int(n * (8 + 104), >, 31 * 1024);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(many_items_go_at_once)
{
    static int in[5000];
    static int out[5000];
    covey_queue *q;
    long n;

    for (int i = 0; i < 5000; i++)
        in[i] = i;
    check_int(covey_queue_open(&q, .bytes = 32 * 1024), ==, 0);
    n = covey_queue_put_many(q, in, sizeof(int), NULL, 5000, 0);
    check(n > 1500 && n < 5000);
    check_int(covey_queue_size(q), ==, n);
    check_int(covey_queue_get_many(q, out, sizeof(int), NULL, 5000, 0), ==, n);
    check_int(memcmp(in, out, (size_t)n * sizeof(int)), ==, 0);
    check_int(covey_queue_get_many(q, out, sizeof(int), NULL, 5000, 0), ==, COVEY_EEMPTY);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(items_are_written_and_read_in_place)
{
    static char large[100000];
    covey_queue *q;
    void *in;
    const void *out;
    size_t size;

    check_int(covey_queue_open(&q), ==, 0);
    for (int i = 0; i < 3000; i++) {
        check_int(covey_queue_reserve(q, 100, &in, 0), ==, 0);
        check_int(covey_queue_commit(q, in, 101), ==, COVEY_EINVAL);
        memset(in, i, 100);
        check_int(covey_queue_commit(q, in, (size_t)i % 101), ==, 0);
        check_int(covey_queue_commit(q, in, 1), ==, COVEY_ESTATE);
        check_int(covey_queue_peek(q, &out, &size, 0), ==, 0);
        check_int(size, ==, i % 101);
        for (size_t k = 0; k < size; k++)
            check_int(((const unsigned char *)out)[k], ==, (unsigned char)i);
        if (i % 3 == 0) {
            check_int(covey_queue_unpeek(q, out), ==, 0);
            check_int(covey_queue_peek(q, &out, &size, 0), ==, 0);
        }
        check_int(covey_queue_release(q, out), ==, 0);
        check_int(covey_queue_size(q), ==, 0);
    }
    check_int(covey_queue_reserve(q, sizeof large, &in, 0), ==, 0);
    check_int(covey_queue_cancel(q, in), ==, 0);
    check_int(covey_queue_reserve(q, sizeof large, &in, 0), ==, 0);
    memset(in, 7, sizeof large);
    check_int(covey_queue_commit(q, in, sizeof large - 1), ==, 0);
    check_int(covey_queue_peek(q, &out, &size, 0), ==, 0);
    check(out == in && size == sizeof large - 1);
    check_int(covey_queue_release(q, out), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(a_joinable_queue_knows_what_is_done)
{
    covey_queue *q;
    const void *item;

    check_int(covey_queue_open(&q, .joinable = true), ==, 0);
    check_int(covey_queue_join(q, 0), ==, 0);
    for (int i = 0; i < 10; i++)
        put_int(q, i);
    check_int(covey_queue_size(q), ==, 10);
    check_int(get_int(q, 0), ==, 0);
    check_int(get_int(q, 0), ==, 1);
    check_int(covey_queue_size(q), ==, 8);
    check_fails(covey_queue_join(q, 0), COVEY_ETIMEDOUT, "10 items of queue");
    check_has(covey_error(), "has one");
    check_int(covey_queue_task_done(q), ==, 0);
    check_int(covey_queue_task_done(q), ==, 0);
    check_fails(covey_queue_task_done(q), COVEY_ESTATE, "has no item");
    check_int(covey_queue_peek(q, &item, NULL, 0), ==, 0);
    check_int(*(const int *)item, ==, 2);
    check_int(covey_queue_unpeek(q, item), ==, 0);
    for (int i = 2; i < 10; i++) {
        check_int(covey_queue_join(q, 0), ==, COVEY_ETIMEDOUT);
        check_int(get_int(q, 0), ==, i);
        check_int(covey_queue_task_done(q), ==, 0);
    }
    check_int(covey_queue_join(q, 0), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(the_items_of_the_dead_are_given_out_again)
{
    for (int redeliver = 0; redeliver < 2; redeliver++) {
        covey_queue *q;
        pid_t pid;

        check_int(covey_queue_open(&q, .joinable = true, .redeliver = redeliver), ==, 0);
        for (int i = 0; i < 4; i++)
            put_int(q, i);
        pid = covey_fork();
        if (pid == 0) {
            check_int(get_int(q, 0), ==, 0);
            check_int(get_int(q, 0), ==, 1);
            check_int(covey_queue_task_done(q), ==, 0);
            raise(SIGKILL);
        }
        check_int(waitpid(pid, NULL, 0), ==, pid);
        check_int(covey_queue_size(q), ==, redeliver ? 3 : 2);
        if (redeliver)
            check_int(get_int(q, 0), ==, 1);
        check_int(get_int(q, 0), ==, 2);
        check_int(get_int(q, 0), ==, 3);
        check_int(covey_queue_get(q, &(int){0}, sizeof(int), NULL, 0), ==, COVEY_EEMPTY);
        check_int(covey_queue_task_done(q), ==, 0);
        check_int(covey_queue_task_done(q), ==, 0);
        if (redeliver)
            check_int(covey_queue_task_done(q), ==, 0);
        else
            check_fails(covey_queue_join(q, 0), COVEY_EOWNERDEAD, "1 items were not done");
        check_int(covey_queue_join(q, 0), ==, 0);
        check_int(covey_queue_free(q), ==, 0);
    }
}

static void take_and_die(covey_queue *q, int number)
{
    pid_t pid = fork();

    if (pid == 0) {
        check_int(get_int(q, 0), ==, number);
        raise(SIGKILL);
    }
    test_reap(pid, SIGKILL);
}

/* One of several consumers dies with the only item of the higher priority; there are always others. */
TEST(the_items_of_the_dead_come_back_though_there_are_others)
{
    enum {
        TAKERS = 9,
        WAITING = 1000,
    };
    covey_queue *q;

    check_int(covey_queue_open(&q, .redeliver = true, .priorities = 2), ==, 0);
    check_int(covey_queue_put_at(q, 1, &(int){-1}, sizeof(int), 0), ==, 0);
    for (int i = 0; i < WAITING; i++)
        put_int(q, i);
    for (int i = 0; i < TAKERS; i++) {
        covey_process *p;
        pid_t pid = covey_fork();

        if (pid == 0) {
            (void)get_int(q, 0);
            check_int(covey_queue_task_done(q), ==, 0);
            _exit(0);
        }
        p = covey_process_find(pid);
        check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
        check_int(covey_process_close(p), ==, 0);
    }
    check_int(covey_queue_put_at(q, 1, &(int){-2}, sizeof(int), 0), ==, 0);
    take_and_die(q, -2);
    for (int i = 1;; i++) {
        int item = get_int(q, 0);

        check_int(covey_queue_task_done(q), ==, 0);
        if (item == -2)
            break;
        check_int(i, <, TAKERS);
    }
    check_int(covey_queue_free(q), ==, 0);
}

/* It comes into the cell of the dead one, which said that he has died. */
TEST(who_follows_on_a_dead_consumer_gets_his_item)
{
    covey_queue *q;
    pid_t takers[4];

    check_int(covey_queue_open(&q, .redeliver = true), ==, 0);
    for (int i = 0; i < 1000; i++)
        put_int(q, i);
    for (int i = 0; i < 4; i++) {
        takers[i] = fork();
        if (takers[i] == 0) {
            (void)get_int(q, 0);
            raise(SIGSTOP);
        }
        check_int(waitpid(takers[i], NULL, WUNTRACED), ==, takers[i]);
    }
    child_kill(takers[2]);
    take_and_die(q, 2);
    for (int i = 0; i < 4; i++) {
        if (i != 2)
            child_kill(takers[i]);
    }
    check_int(covey_queue_free(q), ==, 0);
}

/* A thread is done with what it got first, though a younger item of its may have come before. */
TEST(what_is_done_is_what_was_got_first)
{
    covey_queue *q;
    const void *first;
    const void *second;
    pid_t pid;

    check_int(covey_queue_open(&q, .redeliver = true), ==, 0);
    put_int(q, 1);
    put_int(q, 2);
    pid = fork();
    if (pid == 0) {
        check_int(get_int(q, 0), ==, 1);
        raise(SIGSTOP);
    }
    check_int(waitpid(pid, NULL, WUNTRACED), ==, pid);
    check_int(covey_queue_peek(q, &second, NULL, 0), ==, 0);
    check_int(*(const int *)second, ==, 2);
    child_kill(pid);
    check_int(covey_queue_peek(q, &first, NULL, 0), ==, 0);
    check_int(*(const int *)first, ==, 1);
    check_int(covey_queue_task_done(q), ==, 0);
    check_fails(covey_queue_release(q, second), COVEY_ESTATE, "is no item");
    check_int(covey_queue_release(q, first), ==, 0);
    check_fails(covey_queue_task_done(q), COVEY_ESTATE, "has no item");
    check_int(covey_queue_join(q, 0), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
}

/* Where an item was that was peeked at, there may be another one, whose bytes nobody keeps. */
TEST(only_what_was_peeked_at_is_released)
{
    covey_queue *q;
    const void *seen;

    check_int(covey_queue_open(&q, .joinable = true), ==, 0);
    put_int(q, 1);
    check_int(covey_queue_peek(q, &seen, NULL, 0), ==, 0);
    check_int(covey_queue_release(q, seen), ==, 0);
    for (int i = 0; i < 5000; i++) { /* as many as there are places for */
        put_int(q, i);
        check_int(get_int(q, 0), ==, i);
        check_fails(covey_queue_unpeek(q, seen), COVEY_ESTATE, "is no item");
        check_int(covey_queue_task_done(q), ==, 0);
    }
    check_int(covey_queue_free(q), ==, 0);
}

/* What was nobody's and is somebody's again waits no more. */
TEST(a_queue_is_not_ready_when_what_came_back_is_taken)
{
    covey_queue *q;

    check_int(covey_queue_open(&q, .redeliver = true), ==, 0);
    put_int(q, 1);
    take_and_die(q, 1);
    check_int(covey_queue_size(q), ==, 1);
    check_int(get_int(q, 0), ==, 1);
    check_int(covey_queue_size(q), ==, 0);
    check_int(covey_wait((struct covey_waited[]){COVEY_WAITED(q)}, 1, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_queue_task_done(q), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
}

static double less(double a, double b)
{
    return a < b ? a : b;
}

/* Somebody is stopped in the moment in which he looks for an item, and there is none. */
TEST(timeouts_hold_behind_one_who_is_stopped_where_nothing_is)
{
    double got = 1;
    double waited = 1;
    covey_queue *q;
    pid_t pid;

    check_int(covey_queue_open(&q, .redeliver = true), ==, 0);
    check_int(covey_queue_get(q, several, 1, NULL, 0), ==, COVEY_EEMPTY);
    pid = fork();
    if (pid == 0) {
        check_int(covey_queue_size(q), ==, 0);
        q->get.lock = cv_self.mark;
        (void)raise(SIGSTOP);
    }
    check_int(waitpid(pid, NULL, WUNTRACED), ==, pid);
    for (int i = 0; i < 5; i++) {
        double start = test_now_s();

        check_fails(covey_queue_get(q, several, 1, NULL, 0.2), COVEY_EEMPTY, "0.2 s");
        got = less(got, test_now_s() - start);
        start = test_now_s();
        check_int(
            covey_wait((struct covey_waited[]){COVEY_WAITED(q)}, 1, 0.2), ==, COVEY_ETIMEDOUT);
        waited = less(waited, test_now_s() - start);
    }
    check(got >= 0.2);
    check(got < 0.23);
    check(waited >= 0.2);
    check(waited < 0.23);
    check_is_interrupted(get_until_interrupted, q);
    child_kill(pid);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(who_joins_behind_one_who_is_stopped_is_told,
    .not_in_valgrind = "it stops at a page that it must not touch")
{
    covey_queue *q;
    pid_t pid;

    check_int(covey_queue_open(&q, .joinable = true), ==, 0);
    check_int(covey_queue_put(q, several, 100, 0), ==, 0);
    pid = stop_in_get(q, 100);
    check_fails(covey_queue_join(q, 0.1), COVEY_ETIMEDOUT, "was at work in it");
    child_kill(pid);
    check_fails(covey_queue_join(q, 0.1), COVEY_ETIMEDOUT, "1 items");
    check_int(covey_queue_free(q), ==, 0);
}

TEST(a_consumer_does_not_wait_for_what_it_has_itself)
{
    covey_queue *q;
    pid_t pid;

    check_int(covey_queue_open(&q, .redeliver = true), ==, 0);
    put_int(q, 1);
    put_int(q, 2);
    check_int(covey_queue_close(q), ==, 0);
    check_int(get_int(q, 0), ==, 1);
    pid = fork();
    if (pid == 0) {
        check_int(get_int(q, 0), ==, 2);
        check_int(covey_queue_get(q, &(int){0}, sizeof(int), NULL, 0.05), ==, COVEY_EEMPTY);
        check_int(covey_queue_task_done(q), ==, 0);
        (void)pause();
    }
    test_sleep_ms(20);
    check_int(covey_queue_get(q, &(int){0}, sizeof(int), NULL, COVEY_FOREVER), ==, COVEY_ECLOSED);
    child_kill(pid);
    check_int(covey_queue_task_done(q), ==, 0);
    check_int(covey_queue_join(q, 0), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(an_item_that_kills_is_given_up)
{
    covey_queue *q;

    check_fails(
        covey_queue_open(&q, .joinable = true, .deliveries = 2), COVEY_EINVAL, "but not redeliver");
    check_fails(covey_queue_open(&q, .redeliver = true, .deliveries = 65536), COVEY_EINVAL,
        "more than 65535");
    check_int(covey_queue_open(&q, .redeliver = true, .deliveries = 3), ==, 0);
    put_int(q, 1);
    put_int(q, 2);
    for (int i = 0; i < 3; i++) {
        check_int(covey_queue_join(q, 0), ==, COVEY_ETIMEDOUT);
        take_and_die(q, 1);
    }
    take_and_die(q, 2);
    check_int(get_int(q, 0), ==, 2);
    check_int(covey_queue_task_done(q), ==, 0);
    check_fails(covey_queue_join(q, 0), COVEY_EOWNERDEAD, "1 items were not done");
    check_int(covey_queue_join(q, 0), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
}

TEST(items_lost_with_the_dead_leave_their_room)
{
    covey_queue *q;
    pid_t pid;

    check_int(covey_queue_open(&q, .items = 1, .joinable = true), ==, 0);
    put_int(q, 1);
    pid = fork();
    if (pid == 0) {
        check_int(get_int(q, 0), ==, 1);
        raise(SIGKILL);
    }
    test_reap(pid, SIGKILL);
    check_int(covey_queue_put(q, &(int){2}, sizeof(int), 0), ==, 0);
    check_int(get_int(q, 0), ==, 2);
    check_int(covey_queue_task_done(q), ==, 0);
    check_fails(covey_queue_join(q, 0), COVEY_EOWNERDEAD, "1 items were not done");
    check_int(covey_queue_free(q), ==, 0);
}

static int wait_until_closed(void *argument)
{
    covey_queue *q = *(covey_queue **)argument;
    int r = covey_queue_get(q, &(int){0}, sizeof(int), NULL, COVEY_FOREVER);

    return r == COVEY_ECLOSED ? 0 : -r;
}

static int put_until_closed(void *argument)
{
    covey_queue *q = *(covey_queue **)argument;
    int r;

    while ((r = covey_queue_put(q, &(int){0}, sizeof(int), COVEY_FOREVER)) == 0) {
    }
    return r == COVEY_ECLOSED ? 0 : -r;
}

static void wait_asleep(covey_process *const *children, int n)
{
    for (int i = 0; i < n; i++) {
        while (test_state_of(covey_process_pid(children[i])) != 'S')
            test_sleep_ms(1);
    }
    test_sleep_ms(1);
}

TEST(who_waits_in_a_queue_that_is_freed_is_told, .deadline_s = 60)
{
    enum {
        WAITERS = 6
    };
    covey_process *children[WAITERS];

    for (int round = 0; round < 20; round++) {
        unsigned char *after;
        covey_queue *q;

        check_int(covey_queue_open(&q, .items = 1), ==, 0);
        for (int i = 0; i < WAITERS; i++)
            children[i] =
                child_start(round % 2 ? wait_until_closed : put_until_closed, q, COVEY_FORK);
        wait_asleep(children, WAITERS);
        if (round % 4 < 2)
            check_int(covey_queue_close(q), ==, 0);
        check_int(covey_queue_free(q), ==, 0);
        after = covey_calloc(1, 2000);
        for (int i = 0; i < WAITERS; i++)
            child_join(children[i], 0);
        for (int i = 0; i < 2000; i++)
            check_int(after[i], ==, 0);
        check_int(covey_free(after), ==, 0);
    }
}

static int join_items(void *argument)
{
    return covey_queue_join(*(covey_queue **)argument, COVEY_FOREVER) ? 1 : 0;
}

TEST(a_queue_in_which_somebody_stays_is_not_freed)
{
    covey_process *child;
    covey_queue *q;

    check_int(covey_queue_open(&q, .joinable = true), ==, 0);
    put_int(q, 1);
    child = child_start(join_items, q, COVEY_FORK);
    wait_asleep(&child, 1);
    check_fails(covey_queue_free(q), COVEY_ESTATE, "waits in queue");
    check_int(get_int(q, 0), ==, 1);
    check_int(covey_queue_task_done(q), ==, 0);
    child_join(child, 0);
    check_int(covey_queue_free(q), ==, 0);
}

static int count_items(void *argument)
{
    return (int)covey_queue_size(*(covey_queue **)argument);
}

/* Who counts them waits for none of these, and is in nobody's way. */
TEST(items_are_counted_while_somebody_has_one_in_place)
{
    for (int joinable = 0; joinable < 2; joinable++) {
        covey_queue *q;
        const void *item;
        void *place;

        check_int(covey_queue_open(&q, .priorities = 2, .joinable = joinable), ==, 0);
        put_int(q, 1);
        put_int(q, 2);
        check_int(covey_queue_peek(q, &item, NULL, 0), ==, 0);
        check_int(covey_queue_reserve(q, 4, &place, 0), ==, 0);
        child_join(child_start(count_items, q, COVEY_FORK), 2 - joinable);
        check_int(covey_queue_size(q), ==, 2 - joinable);
        check_int(covey_queue_is_empty(q), ==, 0);
        check_int(covey_queue_commit(q, place, 4), ==, 0);
        check_int(covey_queue_size(q), ==, 3 - joinable);
        check_int(covey_queue_release(q, item), ==, 0);
        check_int(covey_queue_size(q), ==, 2);
        check_int(covey_queue_free(q), ==, 0);
    }
}

/* Who has an item in his hands would wait for himself. */
TEST(a_thread_does_not_wait_for_its_own_item_in_place)
{
    char item[4] = "abc";
    const void *seen;
    covey_queue *q;
    void *place;

    check_int(covey_queue_open(&q), ==, 0);
    check_int(covey_queue_reserve(q, 4, &place, 0), ==, 0);
    check_fails(covey_queue_put(q, item, 4, COVEY_FOREVER), COVEY_ESTATE, "has reserved an item");
    check_fails(covey_queue_reserve(q, 4, &place, COVEY_FOREVER), COVEY_ESTATE, "has reserved");
    check_fails(covey_queue_close(q), COVEY_ESTATE, "has reserved");
    check_fails(covey_queue_free(q), COVEY_ESTATE, "has reserved");
    check_fails(covey_queue_is_full(q, 4), COVEY_ESTATE, "has reserved");
    check_int(covey_queue_is_closed(q), ==, 0);
    check_int(covey_queue_size(q), ==, 0);
    memcpy(place, item, 4);
    check_int(covey_queue_commit(q, place, 4), ==, 0);
    check_int(covey_queue_put(q, item, 4, 0), ==, 0);
    check_int(covey_queue_peek(q, &seen, NULL, 0), ==, 0);
    check_fails(covey_queue_get(q, item, 4, NULL, COVEY_FOREVER), COVEY_ESTATE, "looks at an item");
    check_fails(covey_queue_peek(q, &seen, NULL, COVEY_FOREVER), COVEY_ESTATE, "looks at an item");
    check_fails(covey_queue_free(q), COVEY_ESTATE, "looks at an item");
    check_int(covey_queue_put(q, item, 4, 0), ==, 0);
    check_int(covey_queue_size(q), ==, 3);
    check_int(covey_queue_release(q, seen), ==, 0);
    check_int(covey_queue_get(q, item, 4, NULL, 0), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
}

/* A small item, and then a large one that has no room where small ones lie. */
TEST(a_large_item_behind_a_small_one_goes_as_a_block)
{
    enum {
        LARGE = 100000,
    };
    unsigned char *items = calloc(2, LARGE);
    unsigned char *got = malloc(LARGE);
    size_t sizes[2] = {1, LARGE};
    covey_queue *q, *neighbour;
    size_t size;

    check(items && got);
    for (int i = 0; i < LARGE; i++)
        items[LARGE + i] = (unsigned char)(i * 7);
    for (sizes[1] = 100; sizes[1] <= LARGE; sizes[1] = sizes[1] * 3 / 2) {
        check_int(covey_queue_open(&q, .bytes = 4 * LARGE), ==, 0);
        check_int(covey_queue_open(&neighbour), ==, 0);
        for (int round = 0; round < 50; round++) {
            check_int(covey_queue_put_many(q, items, LARGE, sizes, 2, 0), ==, 2);
            check_int(covey_queue_get(q, got, LARGE, &size, 0), ==, 0);
            check_int(size, ==, 1);
            check_int(covey_queue_get(q, got, LARGE, &size, 0), ==, 0);
            check_int(size, ==, sizes[1]);
            check(memcmp(got, items + LARGE, size) == 0);
        }
        check_int(covey_queue_put(neighbour, "x", 1, 0), ==, 0);
        check_int(covey_queue_free(neighbour), ==, 0);
        check_int(covey_queue_free(q), ==, 0);
    }
    free(items);
    free(got);
}

struct looked_at {
    covey_queue *queue;
    int word;
};

static void look_for_a_while(void *argument)
{
    struct looked_at *l = argument;
    const void *seen;

    check_int(covey_queue_peek(l->queue, &seen, NULL, 0), ==, 0);
    word_set(&l->word, 1);
    word_await(&l->word, 2);
    test_sleep_ms(100);
    check_int(covey_queue_release(l->queue, seen), ==, 0);
}

static void get_until_closed(void *argument)
{
    const struct looked_at *l = argument;
    char item;
    int r = covey_queue_get(l->queue, &item, 1, NULL, COVEY_FOREVER);

    check(r == 0 || r == COVEY_ECLOSED);
}

TEST(who_waits_behind_one_who_looks_is_sent_away_by_who_frees_the_queue)
{
    struct looked_at *l = covey_calloc(1, sizeof *l);

    for (int i = 0; i < 5; i++) {
        pid_t looks, gets;

        check_int(covey_queue_open(&l->queue, .bytes = 1024), ==, 0);
        check_int(covey_queue_put(l->queue, "x", 1, 0), ==, 0);
        word_set(&l->word, 0);
        looks = child_fork(look_for_a_while, l);
        word_await(&l->word, 1);
        gets = child_fork(get_until_closed, l);
        child_await_sleep(gets);
        word_set(&l->word, 2);
        check_int(covey_queue_free(l->queue), ==, 0);
        test_reap(looks, 0);
        test_reap(gets, 0);
    }
    check_int(covey_free(l), ==, 0);
}

/* Others are told who is in the way, and wait as long as they want to. */
TEST(who_holds_an_item_in_place_is_named)
{
    char item[4] = "abc";
    char who[64];
    pid_t pid;
    const void *seen;
    covey_queue *q;
    void *place;

    check_int(covey_queue_open(&q, .items = 5), ==, 0);
    check_int(covey_queue_put(q, item, 4, 0), ==, 0);
    check_int(covey_queue_reserve(q, 4, &place, 0), ==, 0);
    check_int(covey_queue_peek(q, &seen, NULL, 0), ==, 0);
    pid = fork();
    if (pid == 0) {
        (void)snprintf(who, sizeof who, "process %d has reserved", (int)getppid());
        check_fails(covey_queue_put(q, item, 4, 0.01), COVEY_EFULL, who);
        (void)snprintf(who, sizeof who, "process %d looks at", (int)getppid());
        check_fails(covey_queue_get(q, item, 4, NULL, 0.01), COVEY_EEMPTY, who);
        check_int(covey_queue_is_full(q, 4), ==, 1);
        check_int(covey_queue_is_closed(q), ==, 0);
        _exit(0);
    }
    test_reap(pid, 0);
    check_int(covey_queue_cancel(q, place), ==, 0);
    check_int(covey_queue_unpeek(q, seen), ==, 0);
    check_int(covey_queue_is_full(q, 4), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
}

/* Those who wait fell asleep before he came. */
TEST(the_death_of_one_who_comes_later_is_noticed)
{
    for (int redeliver = 0; redeliver < 2; redeliver++) {
        covey_queue *q;
        pid_t waiter;
        pid_t taker;

        check_int(covey_queue_open(&q, .joinable = true, .redeliver = redeliver), ==, 0);
        waiter = covey_fork();
        if (waiter == 0) {
            put_int(q, 1);
            check_int(get_int(q, COVEY_FOREVER), ==, 1);
            check_int(covey_queue_task_done(q), ==, 0);
            if (redeliver) {
                check_int(get_int(q, COVEY_FOREVER), ==, 2);
                check_int(covey_queue_task_done(q), ==, 0);
                _exit(0);
            }
            put_int(q, 2);
            check_int(covey_queue_join(q, COVEY_FOREVER), ==, COVEY_EOWNERDEAD);
            _exit(0);
        }
        test_sleep_ms(100);
        taker = covey_fork();
        if (taker == 0) {
            if (redeliver) { /* so that it is he who gets it */
                kill(waiter, SIGSTOP);
                put_int(q, 2);
            }
            check_int(get_int(q, COVEY_FOREVER), ==, 2);
            kill(waiter, SIGCONT);
            test_sleep_ms(100);
            raise(SIGKILL);
        }
        check_int(waitpid(taker, NULL, 0), ==, taker);
        test_reap(waiter, 0);
        check_int(covey_queue_free(q), ==, 0);
    }
}

/* What is done goes away, though an older item is not; what is not done does not wait. */
TEST(one_unfinished_item_holds_back_neither_room_nor_memory)
{
    static const size_t sizes[] = {16, 1000, 100 * 1024};
    static char item[100 * 1024];
    covey_queue *q;
    struct covey_stats stats = {.size = sizeof stats};
    struct covey_stats before = {.size = sizeof before};

    for (int way = 0; way < 12; way++) {
        size_t size = sizes[way % 3];
        bool redeliver = way / 3 % 2;
        bool peek = way / 6;
        const void *there = NULL;
        const void *first = NULL;

        check_int(
            covey_queue_open(&q, .bytes = 256 * 1024, .joinable = true, .redeliver = redeliver), ==,
            0);
        check_int(covey_queue_put(q, item, size, 0), ==, 0);
        if (peek)
            check_int(covey_queue_peek(q, &first, NULL, 0), ==, 0);
        else
            check_int(covey_queue_get(q, item, sizeof item, NULL, 0), ==, 0);
        check_int(covey_stats(&before), ==, 0);
        for (int i = 0; i < 2000; i++) {
            check_int(covey_queue_put(q, item, size, 0), ==, 0);
            check_int(covey_queue_peek(q, &there, NULL, 0), ==, 0);
            check_int(covey_queue_release(q, there), ==, 0);
        }
        check_int(covey_stats(&stats), ==, 0);
        check_int(stats.blocks, ==, before.blocks);
        check_fails(covey_queue_join(q, 0), COVEY_ETIMEDOUT, "1 items");
        check_int(peek ? covey_queue_release(q, first) : covey_queue_task_done(q), ==, 0);
        check_int(covey_queue_join(q, 0), ==, 0);
        check_int(covey_queue_free(q), ==, 0);
    }
}

/* One stays, many come and go: the cells of these are used again. */
TEST(a_queue_outlives_many_producers, .deadline_s = 60, .not_in_valgrind = "it takes too long")
{
    covey_queue *q;

    check_int(covey_queue_open(&q, .producers = 1), ==, 0);
    put_int(q, 0);
    check_int(get_int(q, 0), ==, 0);
    for (int i = 0; i < 1100; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            put_int(q, i);
            _exit(0);
        }
        test_reap(pid, 0);
        check_int(get_int(q, 0), ==, i);
    }
    check_int(covey_queue_leave(q), ==, 0);
    check_fails(covey_queue_get(q, &(int){0}, sizeof(int), NULL, COVEY_FOREVER), COVEY_ECLOSED,
        "all its producers have gone");
    check_fails(covey_queue_add_producer(q, NULL), COVEY_ECLOSED, "has ended");
    check_int(covey_queue_free(q), ==, 0);
}

TEST(a_queue_ends_with_its_producers)
{
    covey_queue *q;
    pid_t pid[3];
    int value;
    int n = 0;

    check_int(covey_queue_open(&q, .producers = 3), ==, 0);
    for (int i = 0; i < 3; i++) {
        pid[i] = fork(); /* covey_fork() would take away those that have ended */
        if (pid[i] == 0) {
            for (int k = 0; k < 100; k++)
                put_int(q, k);
            if (i == 0)
                check_int(covey_queue_leave(q), ==, 0);
            if (i == 1)
                raise(SIGKILL);
            if (i == 0)
                pause();
            _exit(0);
        }
    }
    while (covey_queue_get(q, &value, sizeof value, NULL, COVEY_FOREVER) == 0)
        n++;
    check_int(covey_error_code(), ==, COVEY_ECLOSED);
    check_int(n, ==, 300);
    kill(pid[0], SIGKILL);
    for (int i = 0; i < 3; i++)
        check_int(waitpid(pid[i], NULL, 0), ==, pid[i]);
    check_int(covey_queue_free(q), ==, 0);
}

/* What is taken and not done may come again: so it is waited for, but no longer than one has time. */
TEST(a_queue_that_has_ended_waits_for_what_is_not_done)
{
    double timeouts[] = {0, 0.05};
    covey_queue *q;
    int value = 0;

    for (int dies = 0; dies < 2; dies++) {
        pid_t pid;

        check_int(covey_queue_open(&q, .redeliver = true, .producers = 1), ==, 0);
        put_int(q, 7);
        pid = fork();
        if (pid == 0) {
            value = get_int(q, COVEY_FOREVER);
            raise(SIGSTOP);
            if (dies)
                raise(SIGKILL);
            check_int(covey_queue_task_done(q), ==, 0);
            _exit(0);
        }
        check_int(waitpid(pid, NULL, WUNTRACED), ==, pid);
        check_int(covey_queue_leave(q), ==, 0);
        for (int i = 0; i < 2; i++) {
            clock_t before = clock();

            check_int(covey_queue_get_value(q, &value, timeouts[i]), ==, COVEY_EEMPTY);
            check_int(covey_queue_get_many(q, &value, sizeof value, NULL, 1, timeouts[i]), ==,
                COVEY_EEMPTY);
            check_int(
                covey_queue_peek(q, &(const void *){NULL}, NULL, timeouts[i]), ==, COVEY_EEMPTY);
            check_int(clock() - before, <, CLOCKS_PER_SEC / 20);
        }
        check_int(kill(pid, SIGCONT), ==, 0);
        if (dies) {
            check_int(get_int(q, COVEY_FOREVER), ==, 7);
            check_int(covey_queue_task_done(q), ==, 0);
        }
        check_int(covey_queue_get_value(q, &value, COVEY_FOREVER), ==, COVEY_ECLOSED);
        test_reap(pid, dies ? SIGKILL : 0);
        check_int(covey_queue_free(q), ==, 0);
    }
}

static int die_first(void *argument)
{
    (void)argument;
    raise(SIGKILL);
    return 0;
}

static int put_one(void *argument)
{
    put_int(*(covey_queue **)argument, 1);
    return 0;
}

/* One puts something, one dies before it can, and this process has nothing to put. */
TEST_METHODS(a_queue_ends_with_producers_that_put_nothing, 30)
{
    covey_process *children[2];
    covey_queue *q, *other;

    check_int(covey_queue_open(&q, .producers = 3), ==, 0);
    check_int(covey_queue_open(&other), ==, 0);
    for (int i = 0; i < 2; i++) {
        check_int(covey_process_start(
                      &children[i], i ? put_one : die_first, COVEY_ARGUMENT(q), .method = method),
            ==, 0);
        check_int(covey_queue_add_producer(q, children[i]), ==, 0);
        check_int(covey_process_join(children[i], COVEY_FOREVER), ==, 0);
        check_int(covey_queue_add_producer(q, children[i]), ==, 0);
    }
    check_int(get_int(q, COVEY_FOREVER), ==, 1);
    check_int(covey_queue_get(q, NULL, 0, NULL, 0), ==, COVEY_EEMPTY);
    check_int(covey_queue_add_producer(q, NULL), ==, 0);
    check_int(covey_queue_get(q, NULL, 0, NULL, 0), ==, COVEY_EEMPTY);
    check_int(covey_queue_leave(q), ==, 0);
    check_int(covey_queue_get(q, NULL, 0, NULL, COVEY_FOREVER), ==, COVEY_ECLOSED);
    check_fails(covey_queue_add_producer(other, NULL), COVEY_ESTATE, "end with its producers");
    check_fails(covey_queue_add_producer(NULL, NULL), COVEY_EINVAL, "queue is NULL");
    for (int i = 0; i < 2; i++)
        check_int(covey_process_close(children[i]), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
    check_int(covey_queue_free(other), ==, 0);
    if (method == COVEY_FORKSERVER)
        check_int(covey_close(), ==, 0);
}

/* More than one can watch; each of those who wait watches another one. */
TEST(consumers_of_many_producers_do_not_wake_up, .deadline_s = 60,
    .not_in_valgrind = "it takes too long")
{
    enum {
        PRODUCERS = 120,
        CONSUMERS = 20,
    };
    pid_t producers[PRODUCERS];
    pid_t consumers[CONSUMERS];
    long before[CONSUMERS];
    covey_queue *q;

    if (test_is_old_kernel())
        test_skip("without futex_waitv a waiter looks every 20 ms");
    check_int(covey_queue_open(&q, .producers = PRODUCERS), ==, 0);
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i] = fork();
        if (producers[i] == 0) {
            put_int(q, i);
            for (;;)
                (void)pause();
        }
    }
    for (int i = 0; i < PRODUCERS; i++)
        (void)get_int(q, COVEY_FOREVER);
    for (int i = 0; i < CONSUMERS; i++) {
        consumers[i] = fork();
        if (consumers[i] == 0)
            _exit(covey_queue_get(q, &(int){0}, sizeof(int), NULL, COVEY_FOREVER) == COVEY_ECLOSED
                      ? 0
                      : 1);
    }
    for (int i = 0; i < CONSUMERS; i++)
        child_await_sleep(consumers[i]);
    test_sleep_ms(100);
    for (int i = 0; i < CONSUMERS; i++)
        before[i] = test_status_of(consumers[i], "voluntary_ctxt_switches");
    test_sleep_ms(500);
    for (int i = 0; i < CONSUMERS; i++)
        check_int(test_status_of(consumers[i], "voluntary_ctxt_switches"), ==, before[i]);
    for (int i = 0; i < PRODUCERS; i++)
        child_kill(producers[i * 7 % PRODUCERS]);
    for (int i = 0; i < CONSUMERS; i++)
        test_reap(consumers[i], 0);
    check_int(covey_queue_free(q), ==, 0);
}

/* One has the only item and dies with it: the other one gets it, and is not told before that there is none. */
TEST(a_closed_queue_has_not_ended_while_somebody_has_an_item, .deadline_s = 60,
    .not_in_valgrind = "it takes too long")
{
    int *word = covey_calloc(3, sizeof *word); /* have come; may begin; have had it */

    for (int round = 0; round < 200; round++) {
        pid_t pids[2];
        covey_queue *q;
        int killed = 0;

        memset(word, 0, 3 * sizeof *word);
        check_int(covey_queue_open(&q, .redeliver = true, .priorities = 2, .items = 4), ==, 0);
        check_int(covey_queue_put_at(q, (unsigned)round % 2, &round, sizeof round, 0), ==, 0);
        check_int(covey_queue_close(q), ==, 0);
        for (int i = 0; i < 2; i++) {
            pids[i] = fork();
            if (pids[i] != 0)
                continue;
            check_int(covey_queue_size(q), ==, 1);
            (void)word_add(&word[0], 1);
            while (!word_get(&word[1])) {
            }
            for (volatile int k = 0; k < round % 7 * (1 + i); k++) {
            }
            check_int(get_int(q, COVEY_FOREVER), ==, round);
            if (word_add(&word[2], 1) == 1)
                raise(SIGKILL);
            check_int(covey_queue_task_done(q), ==, 0);
            _exit(0);
        }
        word_await(&word[0], 2);
        word_set(&word[1], 1);
        for (int i = 0; i < 2; i++) {
            int status;

            check_int(waitpid(pids[i], &status, 0), ==, pids[i]);
            killed += WIFSIGNALED(status);
            check(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        }
        check_int(killed, ==, 1);
        check_int(covey_queue_free(q), ==, 0);
    }
    check_int(covey_free(word), ==, 0);
}

/* All want a place among the producers at the same time, of which there are just enough. */
TEST(producers_that_come_at_once_find_a_place, .deadline_s = 60,
    .not_in_valgrind = "it takes too long")
{
    enum {
        PRODUCERS = 24,
        ROUNDS = 60,
    };
    struct {
        covey_queue *queue;
        covey_pipe *ends[2];
        int round, done;
    } *all = covey_calloc(1, sizeof *all);
    pid_t pids[PRODUCERS];

    for (int i = 0; i < PRODUCERS; i++) {
        pids[i] = fork();
        if (pids[i] != 0)
            continue;
        for (int round = 1; round <= ROUNDS; round++) {
            word_await(&all->round, round);
            check_int(covey_queue_add_producer(all->queue, NULL), ==, 0);
            check_int(covey_pipe_hold(all->ends[0]), ==, 0);
            check_int(covey_pipe_close(all->ends[0]), ==, 0);
            check_int(covey_queue_leave(all->queue), ==, 0);
            (void)word_add(&all->done, 1);
        }
        _exit(0);
    }
    for (int round = 1; round <= ROUNDS; round++) {
        check_int(covey_queue_open(&all->queue, .items = 3, .producers = PRODUCERS), ==, 0);
        check_int(covey_pipe_open(&all->ends[0], &all->ends[1]), ==, 0);
        word_set(&all->round, round);
        word_await(&all->done, PRODUCERS * round);
        check_int(covey_queue_get(all->queue, &(int){0}, sizeof(int), NULL, 0), ==, COVEY_ECLOSED);
        check_int(covey_queue_free(all->queue), ==, 0);
        check_int(covey_pipe_close(all->ends[0]), ==, 0);
        check_int(covey_pipe_close(all->ends[1]), ==, 0);
    }
    for (int i = 0; i < PRODUCERS; i++)
        test_reap(pids[i], 0);
    check_int(covey_free(all), ==, 0);
}

TEST(who_has_an_item_in_hand_does_not_leave)
{
    covey_queue *q;
    void *item;

    check_int(covey_queue_open(&q, .producers = 1), ==, 0);
    check_int(covey_queue_reserve(q, 8, &item, 0), ==, 0);
    check_fails(covey_queue_leave(q), COVEY_ESTATE, "reserved");
    check_int(covey_queue_cancel(q, item), ==, 0);
    check_int(covey_queue_leave(q), ==, 0);
    check_int(covey_queue_free(q), ==, 0);
}

/* Slowly: so when room is made for the next item, that is where the chain began. */
static void go_round(covey_queue *q)
{
    char item[1000] = {0};

    for (int i = 0; i < 3; i++) {
        int n = 0;

        while (n < 150 && covey_queue_put(q, item, sizeof item, 0) == 0)
            n++;
        for (; n > 0; n--)
            check_int(covey_queue_get(q, item, sizeof item, NULL, 0), ==, 0);
    }
    test_sleep_ms(30);
}

enum {
    HUGE_ITEM = 20 << 20, /* more than may wait beside others */
};

TEST(a_reserved_item_always_has_room, .not_in_valgrind = "the arena is small there")
{
    size_t sizes[] = {HUGE_ITEM, 0};
    covey_queue *queues[2];

    check_int(covey_queue_open(&queues[0]), ==, 0);
    check_int(covey_queue_open(&queues[1], .bytes = 40000), ==, 0);
    sizes[1] = covey_queue_item_max(queues[1]);
    for (int i = 0; i < 2; i++) {
        covey_queue *q = queues[i];

        for (int k = 0; k < 4; k++) {
            void *item;
            size_t size;

            go_round(q);
            check_int(covey_queue_reserve(q, sizes[i], &item, 0), ==, 0);
            check_int(covey_queue_commit(q, item, sizes[i]), ==, 0);
            check_int(covey_queue_get_block(q, &item, &size, 0), ==, 0);
            check_int(size, ==, sizes[i]);
            check_int(covey_free(item), ==, 0);
        }
        check_int(covey_queue_free(q), ==, 0);
    }
}

TEST(an_empty_queue_takes_the_largest_item, .not_in_valgrind = "the arena is small there")
{
    char *item = calloc(1, HUGE_ITEM);
    covey_queue *q;

    check(item != NULL);
    check_int(covey_queue_open(&q), ==, 0);
    for (int k = 0; k < 4; k++) {
        go_round(q);
        check_int(covey_queue_is_full(q, 8), ==, 0);
        check_int(covey_queue_put(q, item, HUGE_ITEM, 0), ==, 0);
        check_int(covey_queue_get(q, item, HUGE_ITEM, NULL, 0), ==, 0);
    }
    check_int(covey_queue_free(q), ==, 0);
    free(item);
}

TEST(a_queue_is_empty_when_only_room_was_made)
{
    covey_pipe *here, *there;
    struct covey_waited things[1];
    covey_queue *q;
    void *item;

    check_int(covey_pipe_open(&here, &there), ==, 0);
    check_int(covey_pipe_hold(there), ==, 0);
    q = covey_pipe_outgoing(here);
    go_round(covey_pipe_incoming(there));
    check_int(covey_queue_reserve(q, 100, &item, 0), ==, 0);
    check_int(covey_queue_cancel(q, item), ==, 0);
    check_int(covey_queue_is_empty(q), ==, 1);
    things[0] = (struct covey_waited)COVEY_WAITED(there);
    check_int(covey_pipe_poll(there, 0), ==, 0);
    check_int(covey_wait(things, 1, 0.01), ==, COVEY_ETIMEDOUT);
    check_int(covey_queue_put(q, "x", 1, 0), ==, 0);
    check_int(covey_pipe_poll(there, 0), ==, 1);
    check_int(covey_wait(things, 1, 0), ==, 1);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
}
