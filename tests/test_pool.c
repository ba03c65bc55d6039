/* SPDX-License-Identifier: MIT */
#include "runner.h"

#include <covey.h>

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int square(const void *argument, void *result)
{
    int n = *(const int *)argument;

    *(int *)result = n * n;
    return 0;
}

static covey_pool *open_pool(unsigned workers, enum covey_method method)
{
    covey_pool *pool = NULL;

    check_int(covey_pool_open(&pool, .workers = workers, .method = method), ==, 0);
    return pool;
}

static void close_family(void)
{
    check_int(covey_close(), ==, 0); /* ends the fork server, if there is one */
}

TEST_METHODS(a_map_fills_the_results, 60)
{
    enum {
        N = 1000
    };
    covey_pool *pool = open_pool(3, method);
    int numbers[N];
    int squares[N];

    for (int i = 0; i < N; i++)
        numbers[i] = i;
    check_int(covey_pool_workers(pool), ==, 3);
    check_int(covey_pool_map(pool, square, numbers, squares, N), ==, 0);
    for (int i = 0; i < N; i++)
        check_int(squares[i], ==, i * i);
    check_int(covey_pool_map(pool, square, numbers, squares, 0), ==, 0);
    check_int(covey_pool_map(pool, square, (const void *)numbers, (void *)squares, 0), ==, 0);
    check_int(covey_pool_map(pool, square, numbers, squares, 1), ==, 0);
    check_int(covey_pool_map(pool, square, numbers, squares, 7, .chunk = 2), ==, 0);
    check_int(covey_pool_close(pool), ==, 0);
    check_int(covey_pool_join(pool, COVEY_FOREVER), ==, 0);
    check_int(covey_pool_free(pool), ==, 0);
    close_family();
}

TEST_METHODS(futures_give_their_results, 60)
{
    enum {
        N = 600
    };
    covey_pool *pool = open_pool(2, method);
    covey_future *futures[N];

    for (int i = 0; i < N; i++)
        check_int(
            covey_pool_submit(pool, &futures[i], square, &i, sizeof i, .result_size = sizeof(int)),
            ==, 0);
    for (int i = N - 1; i >= 0; i--) {
        int result = -1;

        check_int(covey_future_get(futures[i], &result, COVEY_FOREVER), ==, 0);
        check_int(result, ==, i * i);
        check_int(covey_future_is_ready(futures[i]), ==, 1);
        check_int(covey_future_get(futures[i], &result, 0), ==, 0);
        check_int(covey_future_free(futures[i]), ==, 0);
    }
    check_int(covey_pool_free(pool), ==, 0);
    close_family();
}

TEST(arrays_in_the_arena_are_used_in_place)
{
    enum {
        N = 10000
    };
    covey_pool *pool = open_pool(2, COVEY_FORK);
    int *numbers = covey_alloc(N * sizeof *numbers);
    int *squares = covey_alloc(N * sizeof *squares);

    for (int i = 0; i < N; i++)
        numbers[i] = i % 1000;
    check_int(covey_pool_map(pool, square, numbers, squares, N), ==, 0);
    for (int i = 0; i < N; i++)
        check_int(squares[i], ==, (i % 1000) * (i % 1000));
    check_int(covey_pool_free(pool), ==, 0);
    check_int(covey_free(numbers), ==, 0);
    check_int(covey_free(squares), ==, 0);
}

struct large {
    char bytes[5000];
};

static int reverse(const void *argument, void *result)
{
    const struct large *in = argument;
    struct large *out = result;

    for (size_t i = 0; i < sizeof in->bytes; i++)
        out->bytes[i] = in->bytes[sizeof in->bytes - 1 - i];
    return 0;
}

static int add_long_doubles(const void *argument, void *result)
{
    const long double *in = argument;

    *(long double *)result = in[0] + in[1];
    return 0;
}

TEST(arguments_and_results_of_any_size_travel)
{
    covey_pool *pool = open_pool(2, COVEY_FORK);
    covey_future *future;
    struct large in;
    struct large out;
    long double pair[2] = {1.5L, 2.25L};
    long double sum = 0;

    for (size_t i = 0; i < sizeof in.bytes; i++)
        in.bytes[i] = (char)(i * 7);
    check_int(covey_pool_submit(pool, &future, reverse, &in, sizeof in, .result_size = sizeof out),
        ==, 0);
    check_int(covey_future_get(future, &out, COVEY_FOREVER), ==, 0);
    for (size_t i = 0; i < sizeof in.bytes; i++)
        check(out.bytes[i] == in.bytes[sizeof in.bytes - 1 - i]);
    check_int(covey_future_free(future), ==, 0);
    check_int(covey_pool_submit(
                  pool, &future, add_long_doubles, pair, sizeof pair, .result_size = sizeof sum),
        ==, 0);
    check_int(covey_future_get(future, &sum, COVEY_FOREVER), ==, 0);
    check(sum == 3.75L);
    check_int(covey_future_free(future), ==, 0);
    check_int(covey_pool_free(pool), ==, 0);
}

/* Failure *********************************************************************************** */

enum {
    FINE,
    RETURN_5,
    SEGFAULT,
    ABORT,
    KILL,
    EXIT_0,
    EXIT_3,
    LOOP
};

static int fail_as_told(const void *argument, void *result)
{
    struct rlimit none = {0, 0};

    (void)setrlimit(RLIMIT_CORE, &none);
    (void)signal(SIGSEGV, SIG_DFL);
    (void)signal(SIGABRT, SIG_DFL);
    switch (*(const int *)argument) {
    case RETURN_5:
        return 5;
    case SEGFAULT:
        (void)raise(SIGSEGV);
        return 0;
    case ABORT:
        abort();
    case KILL:
        (void)kill(getpid(), SIGKILL);
        return 0;
    case EXIT_0:
        _exit(0);
    case EXIT_3:
        exit(3);
    case LOOP:
        for (;;) {
        }
    default:
        *(int *)result = 1;
        return 0;
    }
}

static void check_outcome(const struct covey_outcome *o, int how)
{
    static const int exit_codes[] = {0, 0, -SIGSEGV, -SIGABRT, -SIGKILL, 0, 3, 0};

    switch (how) {
    case FINE:
        check_int(o->code, ==, 0);
        break;
    case RETURN_5:
        check_int(o->code, ==, COVEY_ETASK);
        check_int(o->value, ==, 5);
        break;
    case LOOP:
        check_int(o->code, ==, COVEY_EDEADLINE);
        check_int(o->pid, >, 0);
        break;
    default:
        check_int(o->code, ==, COVEY_EDIED);
        check_int(o->pid, >, 0);
        check_int(o->exit_code, ==, exit_codes[how]);
    }
}

TEST_METHODS(only_the_lost_task_fails, 120, .not_in_valgrind = "it measures time")
{
    enum {
        N = 64
    };
    covey_pool *pool = open_pool(3, method);
    covey_future *futures[N];

    for (int i = 0; i < N; i++) {
        int how = i % 4 ? FINE : i / 4 % 8;

        check_int(covey_pool_submit(pool, &futures[i], fail_as_told, &how, sizeof how,
                      .result_size = sizeof(int), .timeout_s = 0.2),
            ==, 0);
    }
    for (int i = 0; i < N; i++) {
        int how = i % 4 ? FINE : i / 4 % 8;
        struct covey_outcome outcome;
        int result = 0;
        int r = covey_future_get(futures[i], &result, COVEY_FOREVER);

        check_int(covey_future_outcome(futures[i], &outcome), ==, 0);
        check_outcome(&outcome, how);
        check_int(r, ==, outcome.code);
        check_int(result, ==, how == FINE);
        check_int(covey_future_free(futures[i]), ==, 0);
    }
    check_int(covey_pool_free(pool), ==, 0);
    close_family();
}

TEST(only_the_lost_items_of_a_map_fail, .deadline_s = 60, .not_in_valgrind = "it measures time")
{
    enum {
        N = 200
    };
    covey_pool *pool = open_pool(2, COVEY_FORK);
    int how[N] = {0};
    int done[N];
    struct covey_outcome outcomes[N];

    for (int i = 10; i < N; i += 10)
        how[i] = 1 + i / 10 % 7;
    for (size_t chunk = 1; chunk <= 100; chunk += 33) {
        check_int(covey_pool_map(pool, fail_as_told, how, done, N, .chunk = chunk, .timeout_s = 1,
                      .outcomes = outcomes),
            ==, COVEY_EDIED);
        check_has(covey_error(), "item 10 died with its worker");
        for (int i = 0; i < N; i++) {
            check_outcome(&outcomes[i], how[i]);
            if (how[i] == FINE)
                check_int(done[i], ==, 1);
        }
    }
    check_int(covey_pool_map(pool, fail_as_told, how, done, 10), ==, 0);
    check_int(covey_pool_free(pool), ==, 0);
}

TEST(the_message_tells_what_happened, .not_in_valgrind = "it measures time")
{
    covey_pool *pool = open_pool(1, COVEY_FORK);
    static const char *const words[] = {NULL, "returned 5", "killed by signal 11",
        "killed by signal 6", "killed by signal 9", "exited with 0", "exited with 3", "deadline"};

    for (int how = RETURN_5; how <= LOOP; how++) {
        covey_future *future;

        check_int(covey_pool_submit(pool, &future, fail_as_told, &how, sizeof how,
                      .timeout_s = how == LOOP ? 0.05 : 60),
            ==, 0);
        check_int(covey_future_get(future, NULL, COVEY_FOREVER), <, 0);
        check_has(covey_error(), words[how]);
        check_int(covey_future_free(future), ==, 0);
    }
    check_int(covey_pool_free(pool), ==, 0);
}

static int sleep_ms(const void *argument, void *result)
{
    (void)result;
    test_sleep_ms(*(const unsigned *)argument);
    return 0;
}

TEST(idle_workers_that_are_killed_are_replaced, .deadline_s = 60)
{
    covey_pool *pool = open_pool(4, COVEY_FORK);
    covey_process *workers[8];
    int number = 12;

    for (int round = 0; round < 5; round++) {
        covey_future *future;
        int result = 0;

        test_sleep_ms(20); /* the last of them was killed, and may not be dead yet */
        check_int(covey_pool_map(pool, square, &number, &result, 1), ==, 0);
        check_int(covey_active_children(workers, 8), ==, 4);
        for (int i = 0; i < 4; i++)
            check_int(covey_process_kill(workers[i]), ==, 0);
        check_int(covey_pool_submit(
                      pool, &future, square, &number, sizeof number, .result_size = sizeof result),
            ==, 0);
        check_int(covey_future_get(future, &result, COVEY_FOREVER), ==, 0);
        check_int(result, ==, 144);
        check_int(covey_future_free(future), ==, 0);
    }
    check_int(covey_pool_free(pool), ==, 0);
}

TEST(a_waiting_owner_learns_of_a_death_at_once)
{
    covey_pool *pool = open_pool(2, COVEY_FORK);
    covey_process *workers[2];
    covey_future *future;
    unsigned ms = 60000;
    pid_t killer;
    pid_t pid;

    check_int(covey_pool_submit(pool, &future, sleep_ms, &ms, sizeof ms), ==, 0);
    check_int(covey_active_children(workers, 2), ==, 2);
    pid = getpid();
    killer = fork();
    if (killer == 0) {
        test_sleep_ms(200);
        (void)kill(covey_process_pid(workers[0]), SIGKILL);
        (void)kill(covey_process_pid(workers[1]), SIGKILL);
        _exit(0);
    }
    check_int(pid, ==, getpid());
    check_int(covey_future_get(future, NULL, 10), ==, COVEY_EDIED);
    test_reap(killer, 0);
    check_int(covey_future_free(future), ==, 0);
    check_int(covey_pool_free(pool), ==, 0);
}

TEST(workers_that_die_idle_again_and_again_break_the_pool, .deadline_s = 60)
{
    covey_pool *pool = open_pool(2, COVEY_FORK);
    covey_future *future;
    unsigned ms = 10;
    int r = 0;

    for (int round = 0; r == 0 && round < 100; round++) {
        covey_process *workers[4];
        int n = covey_active_children(workers, 4);

        for (int i = 0; i < n; i++)
            (void)covey_process_kill(workers[i]);
        test_sleep_ms(5);
        if (covey_pool_submit(pool, &future, sleep_ms, &ms, sizeof ms) != 0)
            break;
        n = covey_active_children(workers, 4);
        for (int i = 0; i < n; i++)
            (void)covey_process_kill(workers[i]);
        (void)covey_future_is_ready(future);
        r = covey_error_code() == COVEY_EDIED && strstr(covey_error(), "broken") ? 1 : 0;
        (void)covey_future_free(future);
    }
    check_has(covey_error(), "die before they take a task");
    check_int(covey_pool_free(pool), ==, 0);
}

/* Life ************************************************************************************** */

TEST(timeouts_of_get_are_kept)
{
    covey_pool *pool = open_pool(1, COVEY_FORK);
    covey_future *future;
    unsigned ms = 300;
    struct covey_outcome outcome;

    check_int(covey_pool_submit(pool, &future, sleep_ms, &ms, sizeof ms), ==, 0);
    check_int(covey_future_is_ready(future), ==, 0);
    check_fails(covey_future_get(future, NULL, 0), COVEY_ETIMEDOUT, "has not ended");
    check_fails(covey_future_outcome(future, &outcome), COVEY_ESTATE, "has not ended");
    check_int(covey_future_get(future, NULL, 0.05), ==, COVEY_ETIMEDOUT);
    check_int(covey_future_get(future, NULL, COVEY_FOREVER), ==, 0);
    check_int(covey_future_free(future), ==, 0);
    check_int(covey_pool_free(pool), ==, 0);
}

TEST_METHODS(closing_does_what_was_submitted, 60)
{
    covey_pool *pool = open_pool(2, method);
    covey_future *futures[20];
    unsigned ms = 10;

    for (int i = 0; i < 20; i++)
        check_int(covey_pool_submit(pool, &futures[i], sleep_ms, &ms, sizeof ms), ==, 0);
    check_fails(covey_pool_join(pool, 0), COVEY_ESTATE, "not closed");
    check_int(covey_pool_close(pool), ==, 0);
    check_fails(
        covey_pool_submit(pool, &futures[0], sleep_ms, &ms, sizeof ms), COVEY_ECLOSED, "closed");
    check_int(covey_pool_join(pool, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_pool_join(pool, COVEY_FOREVER), ==, 0);
    check_int(covey_active_children(NULL, 0), ==, 0);
    for (int i = 0; i < 20; i++)
        check_int(covey_future_is_ready(futures[i]), ==, 1);
    check_int(covey_pool_free(pool), ==, 0);
    close_family();
}

TEST(a_death_after_closing_does_not_stop_the_rest)
{
    enum {
        N = 50
    };
    covey_pool *pool = open_pool(2, COVEY_FORK);
    covey_future *futures[N];

    for (int i = 0; i < N; i++) {
        int how = i % 2 ? FINE : KILL;

        check_int(covey_pool_submit(pool, &futures[i], fail_as_told, &how, sizeof how,
                      .result_size = sizeof(int)),
            ==, 0);
    }
    check_int(covey_pool_close(pool), ==, 0);
    check_int(covey_pool_join(pool, COVEY_FOREVER), ==, 0);
    for (int i = 0; i < N; i++)
        check_int(covey_future_get(futures[i], NULL, 0), ==, i % 2 ? 0 : COVEY_EDIED);
    check_int(covey_pool_free(pool), ==, 0);
}

TEST(terminating_fails_what_was_not_done)
{
    covey_pool *pool = open_pool(2, COVEY_FORK);
    covey_future *futures[10];
    unsigned ms = 60000;

    for (int i = 0; i < 10; i++)
        check_int(covey_pool_submit(pool, &futures[i], sleep_ms, &ms, sizeof ms), ==, 0);
    test_sleep_ms(50);
    check_int(covey_pool_terminate(pool), ==, 0);
    for (int i = 0; i < 10; i++)
        check_fails(covey_future_get(futures[i], NULL, COVEY_FOREVER), COVEY_ECLOSED, "terminated");
    check_int(covey_pool_join(pool, COVEY_FOREVER), ==, 0);
    check_int(covey_pool_free(pool), ==, 0);
}

TEST(a_pool_can_be_freed_at_any_moment, .deadline_s = 60)
{
    for (unsigned delay = 0; delay < 20; delay++) {
        covey_pool *pool = open_pool(3, COVEY_FORK);
        covey_future *future;
        unsigned ms = 1;

        for (int i = 0; i < 300; i++)
            check_int(covey_pool_submit(pool, &future, sleep_ms, &ms, sizeof ms), ==, 0);
        test_sleep_ms(delay);
        check_int(covey_pool_free(pool), ==, 0);
        check_fails(covey_pool_close(pool), COVEY_EINVAL, "not a pool");
    }
}

TEST(futures_may_be_freed_before_they_are_done, .deadline_s = 60)
{
    enum {
        N = 20000
    };
    covey_pool *pool = open_pool(2, COVEY_FORK);
    covey_future *kept;
    int number = 3;
    int result = 0;

    check_int(covey_pool_submit(
                  pool, &kept, square, &number, sizeof number, .result_size = sizeof result),
        ==, 0);
    for (int i = 0; i < N; i++) {
        covey_future *future;

        check_int(
            covey_pool_submit(pool, &future, square, &i, sizeof i, .result_size = sizeof result),
            ==, 0);
        check_int(covey_future_free(future), ==, 0);
    }
    check_int(covey_future_get(kept, &result, COVEY_FOREVER), ==, 0);
    check_int(result, ==, 9);
    check_int(covey_future_free(kept), ==, 0);
    check_int(covey_pool_free(pool), ==, 0);
}

static size_t claimed(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    check_int(covey_stats(&stats), ==, 0);
    return stats.bytes;
}

TEST(a_long_life_takes_no_more_memory, .deadline_s = 60, .not_in_valgrind = "it takes too long")
{
    covey_pool *pool = open_pool(2, COVEY_FORK);
    covey_future *kept;
    size_t before = 0;
    int number = 1;

    check_int(covey_pool_submit(
                  pool, &kept, square, &number, sizeof number, .result_size = sizeof number),
        ==, 0);
    for (int i = 0; i < 60000; i++) {
        covey_future *future;

        check_int(covey_pool_submit(
                      pool, &future, square, &number, sizeof number, .result_size = sizeof number),
            ==, 0);
        check_int(covey_future_get(future, NULL, COVEY_FOREVER), ==, 0);
        check_int(covey_future_free(future), ==, 0);
        if (i == 20000)
            before = claimed();
    }
    check_int(claimed(), <=, before + 65536);
    check_int(covey_future_get(kept, NULL, 0), ==, 0);
    check_int(covey_pool_free(pool), ==, 0);
}

static void *submit_from_thread(void *argument)
{
    covey_pool *pool = argument;

    for (int i = 0; i < 2000; i++) {
        covey_future *future;
        int result = 0;

        check_int(
            covey_pool_submit(pool, &future, square, &i, sizeof i, .result_size = sizeof result),
            ==, 0);
        check_int(covey_future_get(future, &result, COVEY_FOREVER), ==, 0);
        check_int(result, ==, i * i);
        check_int(covey_future_free(future), ==, 0);
    }
    return NULL;
}

static int sleep_400_ms(const void *argument, void *result)
{
    (void)argument;
    (void)result;
    test_sleep_ms(400);
    return 0;
}

static int touch(const void *argument, void *result)
{
    (void)argument;
    (void)result;
    return 0;
}

TEST(futures_freed_behind_a_long_task_take_no_more_memory, .deadline_s = 60)
{
    covey_pool *pool = open_pool(2, COVEY_FORK);
    struct covey_stats stats = {.size = sizeof stats};
    char argument[4000] = {0};
    covey_future *slow;
    covey_future *future;
    size_t most = 0;

    check_int(covey_pool_submit(pool, &slow, sleep_400_ms), ==, 0);
    for (int i = 0; i < 5000 && !covey_future_is_ready(slow); i++) {
        check_int(covey_pool_submit(pool, &future, touch, COVEY_ARGUMENT(argument)), ==, 0);
        check_int(covey_future_free(future), ==, 0);
        if (i % 50 == 0) { /* a backlog that is worked off, but never empty */
            check_int(covey_pool_submit(pool, &future, touch, COVEY_ARGUMENT(argument)), ==, 0);
            check_int(covey_future_get(future, NULL, COVEY_FOREVER), ==, 0);
            check_int(covey_future_free(future), ==, 0);
            check_int(covey_stats(&stats), ==, 0);
            most = stats.blocks > most ? stats.blocks : most;
        }
    }
    check_int(most, <, 500);
    check_int(covey_pool_free(pool), ==, 0);
}

static int call_exec(const void *argument, void *result)
{
    (void)argument;
    (void)result;
    (void)execlp("sleep", "sleep", "30", NULL);
    return 1;
}

TEST_METHODS(a_task_that_calls_exec_has_lost_its_worker, 30, .not_in_valgrind = "it measures time")
{
    covey_pool *pool = open_pool(1, method);
    covey_future *future;
    double start = test_now_s();
    int n = 3;

    check_int(covey_pool_submit(pool, &future, call_exec), ==, 0);
    check_int(covey_future_get(future, NULL, COVEY_FOREVER), ==, COVEY_EDIED);
    check_int(covey_pool_map(pool, square, &n, &n, 1), ==, 0);
    check(test_now_s() - start < 10);
    check_int(covey_pool_free(pool), ==, 0);
    if (method == COVEY_FORKSERVER)
        check_int(covey_close(), ==, 0); /* ends the server */
}

static int call_exec_for_a_second(const void *argument, void *result)
{
    (void)argument;
    (void)result;
    (void)execlp("sleep", "sleep", "1", NULL);
    return 1;
}

/* As one that calls a program which changes its user id. */
TEST(a_task_that_calls_what_cannot_be_killed_is_not_waited_for)
{
    covey_pool *pool = open_pool(1, COVEY_FORK);
    covey_future *future;
    double start = test_now_s();
    int n = 3;

    test_deny(SYS_pidfd_send_signal, EPERM);
    check_int(covey_pool_submit(pool, &future, call_exec_for_a_second), ==, 0);
    check_int(covey_future_get(future, NULL, COVEY_FOREVER), ==, COVEY_EDIED);
    check_int(covey_pool_map(pool, square, &n, &n, 1), ==, 0);
    check(test_now_s() - start < 0.9);
    check_int(covey_pool_close(pool), ==, 0);
    check_int(covey_pool_join(pool, COVEY_FOREVER), ==, 0);
    check_int(covey_pool_free(pool), ==, 0);
    while (waitid(P_ALL, 0, &(siginfo_t){0}, WEXITED | WNOHANG | WNOWAIT) == 0) {
        check_int(covey_active_children(NULL, 0), ==, 0); /* takes it away when it has ended */
        test_sleep_ms(1);
    }
}

TEST(a_future_is_freed_once)
{
    covey_pool *pool = open_pool(1, COVEY_FORK);
    covey_future *slow;

    check_int(covey_pool_submit(pool, &slow, sleep_400_ms), ==, 0);
    check_int(covey_future_free(slow), ==, 0);
    check_fails(covey_future_free(slow), COVEY_EINVAL, "was freed");
    check_fails(covey_future_get(slow, NULL, 0), COVEY_EINVAL, "was freed");
    check_int(covey_pool_free(pool), ==, 0);
}

TEST(killing_idle_workers_does_not_break_a_pool, .deadline_s = 60)
{
    covey_pool *pool = open_pool(4, COVEY_FORK);
    covey_process *workers[4];
    covey_future *slow;
    double end = test_now_s() + 5;
    int kills = 0;
    int n = 3;

    check_int(covey_pool_map(pool, square, &n, &n, 1), ==, 0);
    while (kills < 16 && test_now_s() < end) {
        int n_workers;

        test_sleep_ms(120); /* they have lived for a while */
        n_workers = covey_active_children(workers, 4);
        if (n_workers > 0) /* each submission replaces one, if that is dead */
            check_int(covey_process_kill(workers[kills++ % n_workers]), ==, 0);
        check_int(covey_pool_submit(pool, &slow, sleep_400_ms, .timeout_s = 5), ==, 0);
        check_int(covey_future_free(slow), ==, 0);
    }
    n = 3;
    check_int(covey_pool_map(pool, square, &n, &n, 1), ==, 0);
    check_int(n, ==, 9);
    check_int(covey_pool_free(pool), ==, 0);
}

TEST(a_deadline_that_cannot_be_set_fails_the_task)
{
    struct rlimit none = {0, 0};
    covey_future *future;
    covey_pool *pool;

    check_int(setrlimit(RLIMIT_SIGPENDING, &none), ==, 0);
    pool = open_pool(1, COVEY_FORK);
    check_int(covey_pool_submit(pool, &future, sleep_400_ms, .timeout_s = 0.1), ==, 0);
    check_fails(covey_future_get(future, NULL, COVEY_FOREVER), COVEY_ELIMIT, "could not be run");
    check_int(covey_pool_free(pool), ==, 0);
}

TEST(several_threads_may_use_one_pool, .deadline_s = 120)
{
    covey_pool *pool = open_pool(2, COVEY_FORK);
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        check_int(pthread_create(&threads[i], NULL, submit_from_thread, pool), ==, 0);
    for (int i = 0; i < 4; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
    check_int(covey_pool_free(pool), ==, 0);
}

static int use_a_pool_below(const void *argument, void *result)
{
    covey_pool *pool;
    int numbers[10];
    int squares[10];
    int sum = 0;

    for (int i = 0; i < 10; i++)
        numbers[i] = *(const int *)argument + i;
    if (covey_pool_open(&pool, .workers = 2) != 0 ||
        covey_pool_map(pool, square, numbers, squares, 10) != 0 || covey_pool_free(pool) != 0)
        return 1;
    for (int i = 0; i < 10; i++)
        sum += squares[i];
    *(int *)result = sum;
    return 0;
}

TEST(a_worker_may_open_a_pool_of_its_own)
{
    covey_pool *pool = open_pool(2, COVEY_FORK);
    int starts[3] = {0, 10, 20};
    int sums[3];

    check_int(covey_pool_map(pool, use_a_pool_below, starts, sums, 3), ==, 0);
    check_int(sums[0], ==, 285);
    check_int(sums[2], ==, 6085);
    check_int(covey_pool_free(pool), ==, 0);
}

static bool only_one_block(void *unused)
{
    struct covey_stats stats = {.size = sizeof stats};

    (void)unused;
    check_int(covey_stats(&stats), ==, 0);
    return stats.blocks == 1;
}

TEST(the_workers_end_with_a_killed_owner)
{
    pid_t *workers = covey_calloc(4, sizeof *workers);
    pid_t pid = fork();

    if (pid == 0) {
        covey_pool *pool = open_pool(4, COVEY_FORK);
        covey_process *list[4];
        covey_future *future;
        int how = LOOP;

        for (int i = 0; i < 2; i++)
            check_int(covey_pool_submit(pool, &future, fail_as_told, &how, sizeof how), ==, 0);
        check_int(covey_active_children(list, 4), ==, 4);
        test_sleep_ms(50);
        for (int i = 0; i < 4; i++)
            __atomic_store_n(&workers[i], covey_process_pid(list[i]), __ATOMIC_SEQ_CST);
        for (;;)
            test_sleep_ms(1000);
    }
    while (__atomic_load_n(&workers[3], __ATOMIC_SEQ_CST) == 0)
        test_sleep_ms(1);
    check_int(kill(pid, SIGKILL), ==, 0);
    test_reap(pid, SIGKILL);
    /* The pool's memory goes when the owner's daemons have gone; the runner looks for those. */
    test_wait_for(only_one_block, NULL, 10);
    check_int(covey_free(workers), ==, 0);
}

TEST(a_pool_belongs_to_the_process_that_opened_it)
{
    covey_pool *pool = open_pool(1, COVEY_FORK);
    covey_future *future;
    int n = 2;
    pid_t pid;

    check_int(
        covey_pool_submit(pool, &future, square, &n, sizeof n, .result_size = sizeof n), ==, 0);
    pid = fork();
    if (pid == 0) {
        covey_future *other;

        check_fails(covey_pool_submit(pool, &other, square, &n, sizeof n, .result_size = sizeof n),
            COVEY_ENOTOWNER, "which alone may use it");
        check_fails(covey_future_get(future, &n, 0), COVEY_ENOTOWNER, "which alone");
        check_fails(covey_pool_free(pool), COVEY_ENOTOWNER, "which alone");
        check_int(covey_pool_workers(pool), ==, 1);
        _exit(0);
    }
    test_reap(pid, 0);
    check_int(covey_future_get(future, &n, COVEY_FOREVER), ==, 0);
    check_int(covey_pool_free(pool), ==, 0);
}

TEST(misuse_of_a_pool_is_named)
{
    covey_pool *pool;
    covey_future *future;
    static char long_name[100];
    int n = 2;

    memset(long_name, 'x', sizeof long_name - 1);
    check_fails(covey_pool_open(NULL), COVEY_EINVAL, "pool is NULL");
    check_fails(covey_pool_open(&pool, .workers = 100000), COVEY_EINVAL, "100000");
    check_fails(covey_pool_open(&pool, .name = long_name), COVEY_EINVAL, "xxx");
    check_fails(covey_pool_open(&pool, .method = (enum covey_method)7), COVEY_EINVAL, "7 is not");
    check_fails(covey_pool_close(NULL), COVEY_EINVAL, "pool is NULL");
    check_fails(covey_pool_close((covey_pool *)(void *)&n), COVEY_EINVAL, "not a pool");
    pool = open_pool(0, COVEY_FORK);
    check_int(covey_pool_workers(pool), ==, covey_cpu_count());
    check_fails(covey_pool_submit(pool, NULL, square), COVEY_EINVAL, "future is NULL");
    check_fails(covey_pool_submit(pool, &future, NULL), COVEY_EINVAL, "task is NULL");
    check_fails(
        covey_pool_submit(pool, &future, square, NULL, 4), COVEY_EINVAL, "argument is NULL");
    check_fails(
        covey_pool_submit(pool, &future, square, &n, (size_t)1 << 33), COVEY_ETOOBIG, "8589934592");
    check_fails(covey_pool_submit(pool, &future, square, &n, 4, .timeout_s = (double)NAN),
        COVEY_EINVAL, "timeout_s");
    check_fails(covey_pool_submit(pool, &future, square, &n, 4, .timeout_s = -1.0), COVEY_EINVAL,
        "timeout_s is -1");
    check_fails(covey_pool_map(pool, NULL, &n, &n, 1), COVEY_EINVAL, "task is NULL");
    check_fails(
        covey_pool_map(pool, square, (int *)NULL, &n, 1), COVEY_EINVAL, "arguments is NULL");
    check_fails(covey_future_get(NULL, &n, 0), COVEY_EINVAL, "future is NULL");
    check_fails(
        covey_future_get((covey_future *)(void *)pool, &n, 0), COVEY_EINVAL, "not a future");
    check_int(covey_future_free(NULL), ==, 0);
    check_int(covey_pool_submit(pool, &future, square, &n, sizeof n, .result_size = 4), ==, 0);
    check_int(covey_future_get(future, &n, COVEY_FOREVER), ==, 0);
    check_int(covey_future_free(future), ==, 0);
    check_fails(covey_future_free(future), COVEY_EINVAL, "was freed");
    check_int(covey_pool_free(pool), ==, 0);
    check_int(covey_pool_free(NULL), ==, 0);
}

TEST_METHODS(without_processes_no_pool_opens_and_nothing_is_left, 30)
{
    covey_pool *pool = NULL;

    test_deny_processes(EAGAIN);
    check_fails(covey_pool_open(&pool, .workers = 3, .method = method), COVEY_ELIMIT, "cannot");
    check(pool == NULL);
}

TEST(a_worker_that_cannot_be_replaced_is_an_error)
{
    covey_pool *pool = open_pool(1, COVEY_FORK);
    covey_process *worker;
    int n = 3;

    check_int(covey_pool_map(pool, square, &n, &n, 1), ==, 0);
    check_int(n, ==, 9);
    check_int(covey_active_children(&worker, 1), ==, 1);
    test_deny_processes(EAGAIN);
    check_int(covey_process_kill(worker), ==, 0);
    check_fails(covey_pool_map(pool, square, &n, &n, 1), COVEY_ELIMIT, "cannot fork");
    check_int(n, ==, 9);
    check_int(covey_pool_free(pool), ==, 0);
}

TEST(an_idle_pool_does_nothing, .deadline_s = 60)
{
    covey_process *workers[8];
    covey_pool *pool;
    long before[8];
    int n = 3;

    if (test_is_old_kernel())
        test_skip("without futex_waitv an idle worker looks every 20 ms");
    pool = open_pool(8, COVEY_FORK);
    check_int(covey_pool_map(pool, square, &n, &n, 1), ==, 0);
    check_int(covey_active_children(workers, 8), ==, 8);
    test_sleep_ms(500);
    for (int i = 0; i < 8; i++)
        before[i] = test_status_of(covey_process_pid(workers[i]), "voluntary_ctxt_switches");
    test_sleep_ms(2000);
    for (int i = 0; i < 8; i++)
        check_int(test_status_of(covey_process_pid(workers[i]), "voluntary_ctxt_switches"), ==,
            before[i]);
    check_int(covey_pool_free(pool), ==, 0);
}

TEST(random_kills_lose_only_what_was_running, .deadline_s = 120,
    .not_in_valgrind = "it takes too long")
{
    enum {
        ROUNDS = 60,
        N = 200
    };
    covey_pool *pool = open_pool(3, COVEY_FORK);
    int *runs = covey_calloc(N, sizeof *runs);
    unsigned seed = 5;
    int died = 0;

    for (int round = 0; round < ROUNDS; round++) {
        covey_future *futures[N];
        covey_process *workers[8];
        int kills = 0;

        for (int i = 0; i < N; i++) {
            unsigned ms = i % 40 == 0;

            check_int(covey_pool_submit(pool, &futures[i], i % 2 ? square : sleep_ms, &ms,
                          sizeof ms, .result_size = sizeof(int)),
                ==, 0);
        }
        for (int k = 0; k < 3; k++) {
            int n = covey_active_children(workers, 8);

            kills += n > 0 && covey_process_kill(workers[rand_r(&seed) % n]) == 0;
            test_sleep_ms((unsigned)rand_r(&seed) % 3);
        }
        for (int i = 0; i < N; i++) {
            int r = covey_future_get(futures[i], NULL, COVEY_FOREVER);

            check(r == 0 || r == COVEY_EDIED);
            kills -= r == COVEY_EDIED;
            died += r == COVEY_EDIED;
            check_int(covey_future_free(futures[i]), ==, 0);
        }
        check_int(kills, >=, 0); /* no more tasks than workers were killed */
    }
    (void)fprintf(stderr, "# %d tasks died\n", died);
    check_int(covey_pool_free(pool), ==, 0);
    check_int(covey_free(runs), ==, 0);
}
