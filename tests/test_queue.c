/* SPDX-License-Identifier: MIT */
#include "runner.h"

#include <covey.h>

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
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
    unsigned char in[2048];
    unsigned char out[2048];
    unsigned seed = 7;
    covey_queue *q;

    check_int(covey_queue_open(&q, .bytes = 4096), ==, 0);
    check_int(covey_queue_item_max(q), ==, 2048 - 16);
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
    check_fails(covey_queue_open(&q, .bytes = (size_t)1 << 40), COVEY_ENOMEM, "");
    check_fails(covey_queue_put(NULL, item, 1, 0), COVEY_EINVAL, "queue is NULL");
    check_fails(covey_queue_get((covey_queue *)(void *)item, item, 1, NULL, 0), COVEY_EINVAL,
        "not a queue");
    check_int(covey_queue_open(&q), ==, 0);
    check_fails(covey_queue_put(q, NULL, 1, 0), COVEY_EINVAL, "item is NULL");
    check_fails(covey_queue_get(q, NULL, 1, NULL, 0), COVEY_EINVAL, "item is NULL");
    check_fails(covey_queue_put(q, item, 1 << 20, 0), COVEY_ETOOBIG, "1048576");
    check_fails(covey_queue_put(q, item, SIZE_MAX, 0), COVEY_ETOOBIG, "bytes");
    check_fails(covey_queue_is_full(q, SIZE_MAX), COVEY_ETOOBIG, "bytes");
    check_int(covey_queue_free(q), ==, 0);
    check_fails(covey_queue_free(q), COVEY_EINVAL, "not a queue");
    check_fails(covey_queue_size(q), COVEY_EINVAL, "not a queue");
    check_int(covey_queue_item_max(q), ==, 0);
    check_int(covey_queue_free(NULL), ==, 0);
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
static pid_t use(covey_queue *q, enum use use, void *item, size_t size, double timeout_s, int code)
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
    await_state(pid, use == PUT && !item ? 'T' : 'S');
    return pid;
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
