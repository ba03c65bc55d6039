/* SPDX-License-Identifier: MIT */
/* Child processes of a test, made by a plain fork or by covey, and words that they signal with. */
#ifndef CHILDREN_H
#define CHILDREN_H

#include "runner.h"

#include <covey.h>

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static inline void word_set(int *word, int value)
{
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static inline int word_add(int *word, int n)
{
    return __atomic_add_fetch(word, n, __ATOMIC_SEQ_CST);
}

static inline int word_get(int *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static inline void word_await(int *word, int value)
{
    while (word_get(word) < value)
        test_sleep_ms(1);
}

/* A forked child that runs @run and exits with 0. */
static inline pid_t child_fork(void (*run)(void *), void *context)
{
    pid_t pid = fork();

    check(pid >= 0);
    if (pid == 0) {
        run(context);
        exit(0);
    }
    return pid;
}

static inline void child_kill(pid_t pid)
{
    check_int(kill(pid, SIGKILL), ==, 0);
    test_reap(pid, SIGKILL);
}

/* Started by covey, with a pointer into the arena as its argument. */
static inline covey_process *child_start(
    covey_function *run, void *context, enum covey_method method)
{
    covey_process *p = NULL;

    check_int(covey_process_start(&p, run, COVEY_ARGUMENT(context), .method = method), ==, 0);
    return p;
}

static inline void child_join(covey_process *p, int expected)
{
    int code = -1;

    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(p, &code), ==, 0);
    check_int(code, ==, expected);
    check_int(covey_process_close(p), ==, 0);
}

/* Sleeps until the process's first thread sleeps in the kernel, as far as one can see, or has ended. */
static inline void child_await_sleep(pid_t pid)
{
    for (int asleep = 0; asleep < 6;) {
        char state = test_state_of(pid);

        asleep = state == 'S' || state == 'Z' ? asleep + 1 : 0;
        test_sleep_ms(2);
    }
}

#endif
