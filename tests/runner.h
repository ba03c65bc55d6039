/* SPDX-License-Identifier: MIT */
/*
 * Tests that register themselves and run each in a process of its own.
 *
 *     TEST(queue_get_returns_items_in_order) { ... check(n == 3); ... }
 *     TEST(pool_survives_kills, .deadline_s = 60) { ... }
 *     TEST(waiting_costs_no_time, .not_in_valgrind = "it measures time") { ... }
 *
 * A test passes if its function returns and nothing is left: the same descriptors are open as
 * before (the family's memory aside), no block of the arena is in use, no child process (running or
 * zombie) is there, and no descendant of the test is still running when its process has ended. It
 * fails at a false check, when it dies, and at its deadline, with all its descendants killed.
 *
 * PROGRAM [WORD...]   runs the tests whose names contain one of the words; all without words
 * PROGRAM --list      prints the names
 * PROGRAM --old-kernel [WORD...]   as if on Linux before 5.16, which has no futex_waitv and no SO_PASSRIGHTS
 *
 * With COVEY_TEST_VALGRIND in the environment those are skipped that valgrind cannot run, for the reason
 * that each gives.
 *
 * The output is TAP. A framework of somebody else's would not do: the tests also run with musl and
 * under sanitizers, and it is the leak checks that matter most here.
 */
#ifndef RUNNER_H
#define RUNNER_H

#include "observe.h"

#include <stdbool.h>

struct test {
    const char *name;
    const char *file;
    void (*run)(void);
    double deadline_s;           /* 0: 20 s */
    bool keeps_blocks;           /* the test ends with arena blocks in use, on purpose */
    bool needs_pidfds;           /* old valgrinds and some sandboxes have none */
    const char *not_in_valgrind; /* why it is skipped there */
    struct test *next;
};

void test_register(struct test *test);

#define TEST(...)               TEST_NAMED_(TEST_FIRST_(__VA_ARGS__, 0), __VA_ARGS__)
#define TEST_FIRST_(first, ...) first
#define TEST_NAMED_(name, ...)  TEST_DEFINE_(name, __VA_ARGS__)
#define TEST_DEFINE_(test_name, ...)                                                               \
    static void test_name(void);                                                                   \
    __attribute__((constructor)) static void test_name##_register(void)                            \
    {                                                                                              \
        static struct test test = {.name = #test_name, .file = __FILE__, .run = __VA_ARGS__};      \
        test_register(&test);                                                                      \
    }                                                                                              \
    static void test_name(void)

/*
 * The body is a test for each start method. The first option is the deadline. Without pidfds the
 * children of a fork server cannot be signalled.
 */
#define TEST_METHODS(name, ...)                                                                    \
    static void name##_body(enum covey_method method);                                             \
    TEST(name##_by_fork, .deadline_s = __VA_ARGS__)                                                \
    {                                                                                              \
        name##_body(COVEY_FORK);                                                                   \
    }                                                                                              \
    TEST(name##_by_spawn, .deadline_s = __VA_ARGS__)                                               \
    {                                                                                              \
        name##_body(COVEY_SPAWN);                                                                  \
    }                                                                                              \
    TEST(name##_by_forkserver, .needs_pidfds = true, .deadline_s = __VA_ARGS__)                    \
    {                                                                                              \
        name##_body(COVEY_FORKSERVER);                                                             \
    }                                                                                              \
    static void name##_body(enum covey_method method)

/* Sanitizers have their own ideas of the address space, and of when a program ends. */
#if defined(__SANITIZE_THREAD__)
#define TEST_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_ASAN 1
#endif
#endif
#ifndef TEST_TSAN
#define TEST_TSAN 0
#endif
#ifndef TEST_ASAN
#define TEST_ASAN 0
#endif

/* Ends the test with a message unless @condition holds. Works in children of the test, too. */
#define check(condition) ((condition) ? (void)0 : test_fail(__FILE__, __LINE__, "%s", #condition))

#define check_int(left, op, right)                                                                 \
    do {                                                                                           \
        long long left_ = (long long)(left);                                                       \
        long long right_ = (long long)(right);                                                     \
        if (!(left_ op right_))                                                                    \
            test_fail(                                                                             \
                __FILE__, __LINE__, "%s " #op " %s: %lld, %lld", #left, #right, left_, right_);    \
    } while (0)

#define check_str(left, right) test_check_str(__FILE__, __LINE__, (left), (right))
#define check_has(text, part)  test_check_has(__FILE__, __LINE__, (text), (part))

/* The call returns @code and leaves a message with @part in it. */
#define check_fails(call, code, part)                                                              \
    do {                                                                                           \
        check_int((call), ==, (code));                                                             \
        check_int(covey_error_code(), ==, (code));                                                 \
        check_has(covey_error(), (part));                                                          \
    } while (0)

__attribute__((noreturn, format(printf, 3, 4))) void test_fail(
    const char *file, int line, const char *format, ...);
void test_check_str(const char *file, int line, const char *left, const char *right);
void test_check_has(const char *file, int line, const char *text, const char *part);

/* Ends the test as skipped: only for what the machine cannot do. */
__attribute__((noreturn, format(printf, 1, 2))) void test_skip(const char *format, ...);

/* Skips the test on a machine that does not know that name: one without /etc/hosts. */
void test_need_localhost(void);

/* From now on the system call fails with @error, here and in all descendants. */
void test_deny(long system_call, int error);

/* The same for setting an option of a socket. */
void test_deny_option(int level, int option, int error);

/* The same for all that make a process. */
void test_deny_processes(int error);

/* Is there no futex_waitv, by --old-kernel or really? */
bool test_is_old_kernel(void);

/* For tests in which a process waits for itself, on purpose. Call it first. */
void test_ignore_deadlocks(void);

/* Waits for a child, whose wait status must be @status. */
void test_reap(int pid, int status);

/* Calls @condition until it holds; fails the test after @seconds. */
void test_wait_for(bool (*condition)(void *), void *context, double seconds);

/* Fails the test if the calling process leaves children, blocks, or other open descriptors than so
 * many; closes the family. The runner does this itself when a test has returned. */
void test_check_nothing_is_left(unsigned descriptors);

/* Waits until a child has ended, without taking its status; false at the deadline. */
bool test_ends_within(int pid, double deadline_s);

#endif
