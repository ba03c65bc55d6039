/* SPDX-License-Identifier: MIT */
#include "children.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum {
    LOCKS = 4
};

struct shared {
    covey_lock lock[LOCKS];
    covey_rlock rlock;
    covey_rwlock rwlock;
    covey_semaphore semaphore;
    covey_event event;
    covey_process *process;
    int seats;
    int step;
    int deadlocks;
    int results[LOCKS];
};

static struct shared *make_detecting(enum covey_deadlocks deadlocks)
{
    struct shared *s;

    check_int(covey_open(.deadlocks = deadlocks), ==, 0);
    s = covey_calloc(1, sizeof *s);
    for (int i = 0; i < LOCKS; i++)
        check_int(covey_lock_init(&s->lock[i]), ==, 0);
    check_int(covey_rlock_init(&s->rlock), ==, 0);
    check_int(covey_rwlock_init(&s->rwlock), ==, 0);
    check_int(covey_semaphore_init(&s->semaphore, 2, COVEY_SEMAPHORE), ==, 0);
    check_int(covey_event_init(&s->event), ==, 0);
    return s;
}

/* Where a process is stuck only if all its threads are. */
static void skip_with_threads_that_never_wait(void)
{
    if (TEST_TSAN)
        test_skip("ThreadSanitizer adds a thread that never waits to each process");
}

static struct shared *make(void)
{
    return make_detecting(COVEY_DEADLOCKS_DETECT);
}

/* Who is to be told looks last; but one that polls looks again. */
static void skip_where_waiters_poll(void)
{
    if (test_is_old_kernel())
        test_skip("without futex_waitv a waiter looks every 20 ms, and another may be told");
}

TEST(a_lock_that_its_thread_waits_for_is_a_deadlock)
{
    struct shared *s = make();
    char circle[160];

    check_int(covey_lock_acquire(&s->lock[0], 0), ==, 0);
    check_int(covey_lock_acquire(&s->lock[0], 0), ==, COVEY_ETIMEDOUT);
    (void)snprintf(circle, sizeof circle,
        "waits for lock %p, held by process %d (thread %d), which is this thread itself",
        (void *)&s->lock[0], (int)getpid(), (int)getpid());
    check_fails(covey_lock_acquire(&s->lock[0], COVEY_FOREVER), COVEY_EDEADLK, circle);
    check_fails(covey_lock_acquire(&s->lock[0], 5), COVEY_EDEADLK, circle);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    check_int(covey_lock_acquire(&s->lock[0], COVEY_FOREVER), ==, 0);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    check_int(covey_free(s), ==, 0);
}

/* To its end, or it says how much there would be. */
static void check_circle_is_whole(int r)
{
    const char *text = covey_error();

    check_fails(r, COVEY_EDEADLK, "which waits for lock");
    check(text[strlen(text) - 1] == ')' || strstr(text, ", and so on: 4 threads in all"));
}

/* A philosopher takes a lock, waits until all have one, and wants the next one's. */
static int dine(struct shared *s)
{
    int me = word_add(&s->seats, 1) % LOCKS;
    int next = (me + 1) % LOCKS;
    int r;

    check_int(covey_lock_acquire(&s->lock[me], COVEY_FOREVER), ==, 0);
    word_add(&s->step, 1);
    word_await(&s->step, LOCKS);
    r = covey_lock_acquire(&s->lock[next], COVEY_FOREVER);
    if (r == 0)
        check_int(covey_lock_release(&s->lock[next]), ==, 0);
    else
        check_circle_is_whole(r);
    check_int(covey_lock_release(&s->lock[me]), ==, 0);
    return r;
}

static int dine_as_child(void *argument)
{
    struct shared *s = *(struct shared **)argument;

    if (dine(s) == COVEY_EDEADLK)
        word_add(&s->deadlocks, 1);
    return 0;
}

TEST_METHODS(
    exactly_one_of_a_circle_of_processes_is_told, 60, .not_in_valgrind = "it takes too long")
{
    struct shared *s = make();

    for (int round = 0; round < 20; round++) {
        covey_process *children[LOCKS];

        s->step = 0;
        for (int i = 0; i < LOCKS; i++)
            children[i] = child_start(dine_as_child, s, method);
        for (int i = 0; i < LOCKS; i++)
            child_join(children[i], 0);
        check_int(s->deadlocks, ==, round + 1);
    }
    check_int(covey_free(s), ==, 0);
    check_int(covey_close(), ==, 0);
}

static void *dine_in_thread(void *context)
{
    struct shared *s = context;

    if (dine(s) == COVEY_EDEADLK)
        word_add(&s->deadlocks, 1);
    return NULL;
}

TEST(exactly_one_of_a_circle_of_threads_is_told, .deadline_s = 60)
{
    struct shared *s = make();

    for (int round = 0; round < 50; round++) {
        pthread_t threads[LOCKS];

        s->step = 0;
        for (int i = 0; i < LOCKS; i++)
            check_int(pthread_create(&threads[i], NULL, dine_in_thread, s), ==, 0);
        for (int i = 0; i < LOCKS; i++)
            check_int(pthread_join(threads[i], NULL), ==, 0);
        check_int(s->deadlocks, ==, round + 1);
    }
    check_int(covey_free(s), ==, 0);
}

static void take_rlock_then_lock(void *context)
{
    struct shared *s = context;

    check_int(covey_rlock_acquire(&s->rlock, COVEY_FOREVER), ==, 0);
    word_set(&s->step, 1);
    check_int(covey_lock_acquire(&s->lock[0], COVEY_FOREVER), ==, 0);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    check_int(covey_rlock_release(&s->rlock), ==, 0);
}

TEST(an_rlock_in_the_circle_is_named)
{
    struct shared *s;
    pid_t pid;
    char circle[200];

    skip_where_waiters_poll();
    s = make();
    check_int(covey_lock_acquire(&s->lock[0], 0), ==, 0);
    pid = child_fork(take_rlock_then_lock, s);
    word_await(&s->step, 1);
    child_await_sleep(pid);
    (void)snprintf(circle, sizeof circle,
        "waits for rlock %p, held by process %d (thread %d), which waits for lock %p, held by "
        "process %d",
        (void *)&s->rlock, (int)pid, (int)pid, (void *)&s->lock[0], (int)getpid());
    check_fails(covey_rlock_acquire(&s->rlock, COVEY_FOREVER), COVEY_EDEADLK, circle);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    check_int(covey_rlock_acquire(&s->rlock, COVEY_FOREVER), ==, 0);
    check_int(covey_rlock_release(&s->rlock), ==, 0);
    test_reap(pid, 0);
    check_int(covey_free(s), ==, 0);
}

static void read_then_lock(void *context)
{
    struct shared *s = context;

    check_int(covey_rwlock_acquire_read(&s->rwlock, COVEY_FOREVER), ==, 0);
    word_add(&s->step, 1);
    check_int(covey_lock_acquire(&s->lock[0], COVEY_FOREVER), ==, 0);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    check_int(covey_rwlock_release(&s->rwlock), ==, 0);
}

TEST(one_stuck_reader_is_enough_to_keep_a_writer_out)
{
    struct shared *s;
    pid_t pid;

    skip_where_waiters_poll();
    skip_with_threads_that_never_wait();
    s = make();
    check_int(covey_lock_acquire(&s->lock[0], 0), ==, 0);
    pid = child_fork(read_then_lock, s);
    word_await(&s->step, 1);
    child_await_sleep(pid);
    check_int(covey_rwlock_acquire_read(&s->rwlock, COVEY_FOREVER), ==, 0);
    check_int(covey_rwlock_release(&s->rwlock), ==, 0);
    check_fails(covey_rwlock_acquire_write(&s->rwlock, COVEY_FOREVER), COVEY_EDEADLK, "rwlock");
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    test_reap(pid, 0);
    check_int(covey_rwlock_acquire_write(&s->rwlock, COVEY_FOREVER), ==, 0);
    check_fails(covey_rwlock_acquire_read(&s->rwlock, COVEY_FOREVER), COVEY_EDEADLK, "rwlock");
    check_int(covey_rwlock_release(&s->rwlock), ==, 0);
    check_int(covey_free(s), ==, 0);
}

static void hold_permit_then_lock(void *context)
{
    struct shared *s = context;

    check_int(covey_semaphore_acquire(&s->semaphore, COVEY_FOREVER), ==, 0);
    word_add(&s->step, 1);
    check_int(covey_lock_acquire(&s->lock[0], COVEY_FOREVER), ==, 0);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    check_int(covey_semaphore_release(&s->semaphore), ==, 0);
}

static void hold_permit_for_a_while(void *context)
{
    struct shared *s = context;

    check_int(covey_semaphore_acquire(&s->semaphore, COVEY_FOREVER), ==, 0);
    word_add(&s->step, 1);
    test_sleep_ms(200);
    check_int(covey_semaphore_release(&s->semaphore), ==, 0);
}

TEST(a_semaphore_is_a_deadlock_when_all_holders_are_stuck)
{
    struct shared *s;
    pid_t pids[2];

    skip_where_waiters_poll();
    skip_with_threads_that_never_wait();
    s = make();
    check_int(covey_lock_acquire(&s->lock[0], 0), ==, 0);
    pids[0] = child_fork(hold_permit_then_lock, s);
    pids[1] = child_fork(hold_permit_for_a_while, s);
    word_await(&s->step, 2);
    child_await_sleep(pids[0]);
    check_int(covey_semaphore_acquire(&s->semaphore, COVEY_FOREVER), ==, 0); /* of the second */
    test_reap(pids[1], 0);
    check_fails(covey_semaphore_acquire(&s->semaphore, COVEY_FOREVER), COVEY_EDEADLK, "semaphore");
    check_int(covey_semaphore_release(&s->semaphore), ==, 0);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    test_reap(pids[0], 0);
    check_int(covey_semaphore_destroy(&s->semaphore), ==, 0);
    check_int(covey_free(s), ==, 0);
}

TEST(a_semaphore_is_no_deadlock_when_one_of_very_many_holders_goes_on, .deadline_s = 60,
    .not_in_valgrind = "it needs more memory than there is")
{
    enum {
        STUCK = 64 /* as many holders as one looks at */
    };
    struct shared *s = make();
    pid_t pids[STUCK + 1];

    check_int(covey_semaphore_destroy(&s->semaphore), ==, 0);
    check_int(covey_semaphore_init(&s->semaphore, STUCK + 1, COVEY_SEMAPHORE), ==, 0);
    check_int(covey_lock_acquire(&s->lock[0], 0), ==, 0);
    for (int i = 0; i < STUCK; i++) {
        pids[i] = child_fork(hold_permit_then_lock, s);
        word_await(&s->step, i + 1);
    }
    child_await_sleep(pids[STUCK - 1]);
    pids[STUCK] = child_fork(hold_permit_for_a_while, s);
    word_await(&s->step, STUCK + 1);
    check_int(covey_semaphore_acquire(&s->semaphore, COVEY_FOREVER), ==, 0);
    check_int(covey_semaphore_release(&s->semaphore), ==, 0);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    for (int i = 0; i <= STUCK; i++)
        test_reap(pids[i], 0);
    check_int(covey_semaphore_destroy(&s->semaphore), ==, 0);
    check_int(covey_free(s), ==, 0);
}

static void hold_lock_and_wait_for_permit(void *context)
{
    struct shared *s = context;

    check_int(covey_lock_acquire(&s->lock[0], COVEY_FOREVER), ==, 0);
    check_int(covey_semaphore_acquire(&s->semaphore, COVEY_FOREVER), ==, 0);
    check_int(covey_semaphore_release(&s->semaphore), ==, 0);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
}

TEST(a_semaphore_is_no_deadlock_when_a_permit_is_free)
{
    struct shared *s;
    pid_t other;
    pid_t waiter;

    skip_with_threads_that_never_wait();
    s = make();
    other = child_fork(hold_permit_for_a_while, s);
    word_await(&s->step, 1);
    check_int(covey_semaphore_acquire(&s->semaphore, 0), ==, 0);
    waiter = child_fork(hold_lock_and_wait_for_permit, s);
    child_await_sleep(waiter);
    check_int(kill(waiter, SIGSTOP), ==, 0);
    test_reap(other, 0);
    check_int(covey_lock_acquire(&s->lock[0], 0.1), ==, COVEY_ETIMEDOUT); /* it need only go on */
    check_int(kill(waiter, SIGCONT), ==, 0);
    check_int(covey_lock_acquire(&s->lock[0], COVEY_FOREVER), ==, 0);
    test_reap(waiter, 0);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    check_int(covey_semaphore_release(&s->semaphore), ==, 0);
    check_int(covey_semaphore_destroy(&s->semaphore), ==, 0);
    check_int(covey_free(s), ==, 0);
}

static void signal_twice(void *context)
{
    struct shared *s = context;

    for (int i = 0; i < 2; i++) {
        test_sleep_ms(50);
        check_int(covey_semaphore_release(&s->semaphore), ==, 0);
    }
}

TEST(a_semaphore_that_others_release_is_no_deadlock)
{
    struct shared *s = make();
    pid_t pid;

    check_int(covey_semaphore_init(&s->semaphore, 0, COVEY_SEMAPHORE), ==, 0);
    pid = child_fork(signal_twice, s);
    for (int i = 0; i < 2; i++)
        check_int(covey_semaphore_acquire(&s->semaphore, COVEY_FOREVER), ==, 0);
    test_reap(pid, 0);
    check_int(covey_semaphore_destroy(&s->semaphore), ==, 0);
    check_int(covey_free(s), ==, 0);
}

static int wait_for_lock(void *argument)
{
    struct shared *s = *(struct shared **)argument;

    check_int(covey_lock_acquire(&s->lock[0], COVEY_FOREVER), ==, 0);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    return 0;
}

TEST_METHODS(to_join_a_process_that_waits_for_what_one_holds_is_a_deadlock, 60)
{
    struct shared *s;
    covey_process *child;

    skip_where_waiters_poll();
    skip_with_threads_that_never_wait();
    s = make();
    check_int(covey_lock_acquire(&s->lock[0], 0), ==, 0);
    child = child_start(wait_for_lock, s, method);
    while (covey_process_pid(child) == 0)
        test_sleep_ms(1);
    child_await_sleep(covey_process_pid(child));
    check_fails(
        covey_process_join(child, COVEY_FOREVER), COVEY_EDEADLK, "waits for the end of process");
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    child_join(child, 0);
    check_int(covey_free(s), ==, 0);
    check_int(covey_close(), ==, 0);
}

static void hold_and_wait_for_event(void *context)
{
    struct shared *s = context;

    check_int(covey_lock_acquire(&s->lock[0], COVEY_FOREVER), ==, 0);
    word_set(&s->step, 1);
    check_int(covey_event_wait(&s->event, COVEY_FOREVER), ==, 0);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
}

/* Somebody else may set the event. */
TEST(who_waits_for_an_event_is_not_stuck)
{
    struct shared *s = make();
    pid_t pid = child_fork(hold_and_wait_for_event, s);

    word_await(&s->step, 1);
    child_await_sleep(pid);
    check_int(covey_lock_acquire(&s->lock[0], 0.05), ==, COVEY_ETIMEDOUT);
    check_int(covey_event_set(&s->event), ==, 0);
    check_int(covey_lock_acquire(&s->lock[0], COVEY_FOREVER), ==, 0);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    test_reap(pid, 0);
    check_int(covey_free(s), ==, 0);
}

static void take_lock_and_die(void *context)
{
    struct shared *s = context;

    check_int(covey_lock_acquire(&s->lock[1], COVEY_FOREVER), ==, 0);
    word_set(&s->step, 1);
    (void)covey_lock_acquire(&s->lock[0], COVEY_FOREVER);
}

TEST(the_dead_are_not_stuck)
{
    struct shared *s = make();
    pid_t pid;

    check_int(covey_lock_acquire(&s->lock[0], 0), ==, 0);
    pid = child_fork(take_lock_and_die, s);
    word_await(&s->step, 1);
    child_await_sleep(pid);
    child_kill(pid);
    check_int(covey_lock_acquire(&s->lock[1], COVEY_FOREVER), ==, COVEY_EOWNERDEAD);
    check_int(covey_lock_release(&s->lock[1]), ==, 0);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    check_int(covey_free(s), ==, 0);
}

/* Random order, so that there are circles all the time; who is told gives all back and goes on. */
static void take_at_random(void *context)
{
    struct shared *s = context;
    unsigned seed = (unsigned)getpid();

    for (int i = 0; i < 300; i++) {
        bool held[LOCKS] = {false};
        int r = 0;

        for (int k = 0; k < 3 && r == 0; k++) {
            int n = rand_r(&seed) % LOCKS;

            if (held[n])
                continue;
            r = covey_lock_acquire(&s->lock[n], COVEY_FOREVER);
            held[n] = r == 0;
        }
        if (r != 0)
            check_int(r, ==, COVEY_EDEADLK);
        for (int n = 0; n < LOCKS; n++) {
            if (held[n])
                check_int(covey_lock_release(&s->lock[n]), ==, 0);
        }
    }
}

TEST(no_circle_goes_unnoticed, .deadline_s = 60)
{
    struct shared *s = make();
    pid_t pids[5];

    for (int i = 0; i < 5; i++)
        pids[i] = child_fork(take_at_random, s);
    for (int i = 0; i < 5; i++)
        test_reap(pids[i], 0);
    check_int(covey_free(s), ==, 0);
}

TEST(a_family_that_ignores_deadlocks_waits)
{
    struct shared *s = make_detecting(COVEY_DEADLOCKS_IGNORE);

    check_int(covey_lock_acquire(&s->lock[0], 0), ==, 0);
    check_int(covey_lock_acquire(&s->lock[0], 0.05), ==, COVEY_ETIMEDOUT);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    check_int(covey_free(s), ==, 0);
}

static void wait_for_locks(void *context)
{
    struct shared *s = context;

    check_int(covey_lock_acquire(&s->lock[0], COVEY_FOREVER), ==, 0);
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
}

static void read_waits(char *text, size_t room)
{
    size_t length = 0;
    int ends[2];
    ssize_t n;

    check_int(pipe(ends), ==, 0);
    check_int(covey_waits_print(ends[1]), ==, 0);
    check_int(close(ends[1]), ==, 0);
    while (length < room - 1 && (n = read(ends[0], text + length, room - 1 - length)) > 0)
        length += (size_t)n;
    text[length] = '\0';
    check_int(close(ends[0]), ==, 0);
}

TEST(who_holds_and_who_waits_is_printed)
{
    struct shared *s = make();
    static char text[4096];
    char line[160];
    pid_t pid;

    check_int(covey_lock_acquire(&s->lock[0], 0), ==, 0);
    check_int(covey_rwlock_acquire_read(&s->rwlock, 0), ==, 0);
    check_int(covey_rwlock_acquire_read(&s->rwlock, 0), ==, 0);
    check_int(covey_semaphore_acquire(&s->semaphore, 0), ==, 0);
    pid = child_fork(wait_for_locks, s);
    for (read_waits(text, sizeof text); !strstr(text, "waits for"); read_waits(text, sizeof text))
        test_sleep_ms(1);
    (void)snprintf(line, sizeof line,
        "process %d thread %d waits for lock %p held by process %d thread %d, for 0.", (int)pid,
        (int)pid, (void *)&s->lock[0], (int)getpid(), (int)getpid());
    check_has(text, line);
    (void)snprintf(line, sizeof line, "\nlock %p held by process %d thread %d\n",
        (void *)&s->lock[0], (int)getpid(), (int)getpid());
    check_has(text, line);
    (void)snprintf(line, sizeof line, "\nrwlock %p held by process %d (2)\n", (void *)&s->rwlock,
        (int)getpid());
    check_has(text, line);
    (void)snprintf(line, sizeof line, "\nsemaphore %p held by process %d (1)\n",
        (void *)&s->semaphore, (int)getpid());
    check_has(text, line);
    check(!strstr(text, "rlock"));
    check_int(covey_lock_release(&s->lock[0]), ==, 0);
    test_reap(pid, 0);
    check_fails(covey_waits_print(-1), COVEY_ESYS, "descriptor -1");
    check_int(covey_free(s), ==, 0);
}

TEST(a_wrong_option_for_deadlocks_is_named)
{
    check_fails(covey_open(.deadlocks = (enum covey_deadlocks)9), COVEY_EINVAL, "deadlocks is 9");
}
