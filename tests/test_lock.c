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

struct shared {
    covey_lock lock;
    long counter;
    int step;
    int told;
};

static struct shared *make(void)
{
    struct shared *s = covey_calloc(1, sizeof *s);

    check_int(covey_lock_init(&s->lock), ==, 0);
    return s;
}

static void end(struct shared *s)
{
    check_int(covey_lock_destroy(&s->lock), ==, 0);
    check_int(covey_free(s), ==, 0);
}

static void set_step(struct shared *s, int step)
{
    __atomic_store_n(&s->step, step, __ATOMIC_SEQ_CST);
}

static void wait_step(struct shared *s, int step)
{
    while (__atomic_load_n(&s->step, __ATOMIC_SEQ_CST) < step)
        test_sleep_ms(1);
}

TEST(a_lock_excludes_and_times_out)
{
    struct shared *s;
    double start;

    test_ignore_deadlocks();
    s = make();
    check_int(covey_lock_acquire(&s->lock, COVEY_FOREVER), ==, 0);
    check_fails(covey_lock_acquire(&s->lock, 0.01), COVEY_ETIMEDOUT, "held by pid");
    check_fails(covey_lock_acquire(&s->lock, 0.01), COVEY_ETIMEDOUT, "which is this process");
    check_int(covey_lock_acquire(&s->lock, -5), ==, COVEY_ETIMEDOUT);
    start = test_now_s();
    check_int(covey_lock_acquire(&s->lock, 0.05), ==, COVEY_ETIMEDOUT);
    check(test_now_s() - start >= 0.05);
    check_int(covey_lock_release(&s->lock), ==, 0);
    check_int(covey_lock_acquire(&s->lock, 1e300), ==, 0);
    check_int(covey_lock_release(&s->lock), ==, 0);
    end(s);
}

TEST(misuse_of_a_lock_is_named)
{
    struct shared *s = make();
    covey_lock outside;

    check_fails(covey_lock_init(&outside), COVEY_EINVAL, "not in the family's arena");
    check_fails(covey_lock_init(NULL), COVEY_EINVAL, "lock is NULL");
    check_fails(covey_lock_acquire(NULL, 1), COVEY_EINVAL, "lock is NULL");
    check_fails(
        covey_lock_acquire((covey_lock *)(void *)&s->counter, 1), COVEY_EINVAL, "never made");
    check_fails(covey_lock_release(&s->lock), COVEY_ENOTHELD, "not held");
    check_int(covey_lock_acquire(&s->lock, 0), ==, 0);
    check_fails(covey_lock_acquire(&s->lock, (double)NAN), COVEY_EINVAL, "not a number");
    check_fails(covey_lock_destroy(&s->lock), COVEY_ESTATE, "held");
    check_int(covey_lock_release(&s->lock), ==, 0);
    check_int(covey_lock_destroy(&s->lock), ==, 0);
    check_fails(covey_lock_acquire(&s->lock, 0), COVEY_EINVAL, "not a lock");
    check_fails(covey_lock_is_held(&s->lock), COVEY_EINVAL, "not a lock");
    check_int(covey_free(s), ==, 0);
}

static void count(struct shared *s, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        check_int(covey_lock_acquire(&s->lock, COVEY_FOREVER), ==, 0);
        s->counter++;
        check_int(covey_lock_release(&s->lock), ==, 0);
    }
}

TEST(processes_count_under_a_lock, .deadline_s = 120)
{
    enum {
        PROCESSES = 6,
        ROUNDS = 50000
    };
    struct shared *s = make();
    pid_t pids[PROCESSES];

    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            count(s, ROUNDS);
            _exit(0);
        }
    }
    for (int i = 0; i < PROCESSES; i++)
        test_reap(pids[i], 0);
    check_int(s->counter, ==, PROCESSES * ROUNDS);
    end(s);
}

static void *count_in_thread(void *context)
{
    count(context, 50000);
    return NULL;
}

TEST(threads_count_under_a_lock, .deadline_s = 120)
{
    struct shared *s = make();
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        check_int(pthread_create(&threads[i], NULL, count_in_thread, s), ==, 0);
    for (int i = 0; i < 4; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
    check_int(s->counter, ==, 4 * 50000);
    end(s);
}

TEST(another_process_may_release)
{
    struct shared *s;
    pid_t pid;

    test_ignore_deadlocks();
    s = make();
    check_int(covey_lock_acquire(&s->lock, 0), ==, 0);
    pid = fork();
    if (pid == 0)
        _exit(covey_lock_release(&s->lock) == 0 ? 0 : 1);
    check_int(covey_lock_acquire(&s->lock, COVEY_FOREVER), ==, 0);
    check_int(covey_lock_release(&s->lock), ==, 0);
    test_reap(pid, 0);
    end(s);
}

static pid_t start_holder(struct shared *s)
{
    pid_t pid = fork();

    if (pid == 0) {
        check_int(covey_lock_acquire(&s->lock, COVEY_FOREVER), ==, 0);
        set_step(s, 1);
        for (;;)
            (void)pause();
    }
    wait_step(s, 1);
    return pid;
}

TEST(whether_a_lock_is_held_can_be_seen)
{
    struct shared *s = make();
    pid_t holder;

    check_int(covey_lock_is_held(&s->lock), ==, 0);
    check_int(covey_lock_acquire(&s->lock, 0), ==, 0);
    check_int(covey_lock_is_held(&s->lock), ==, 1);
    check_int(covey_lock_release(&s->lock), ==, 0);
    check_int(covey_lock_is_held(&s->lock), ==, 0);
    holder = start_holder(s);
    check_int(covey_lock_is_held(&s->lock), ==, 1);
    check_int(kill(holder, SIGKILL), ==, 0);
    test_reap(holder, SIGKILL);
    check_int(covey_lock_is_held(&s->lock), ==, 0);
    check_int(covey_lock_acquire(&s->lock, 0), ==, COVEY_EOWNERDEAD);
    check_int(covey_lock_release(&s->lock), ==, 0);
    end(s);
}

TEST(the_death_of_a_holder_is_reported_once)
{
    struct shared *s = make();
    pid_t pid = start_holder(s);
    char text[32];

    check_int(covey_lock_acquire(&s->lock, 0.01), ==, COVEY_ETIMEDOUT);
    check_int(kill(pid, SIGKILL), ==, 0);
    test_reap(pid, SIGKILL);
    (void)snprintf(text, sizeof text, "pid %d", (int)pid);
    check_fails(covey_lock_acquire(&s->lock, COVEY_FOREVER), COVEY_EOWNERDEAD, text);
    check_int(covey_lock_release(&s->lock), ==, 0);
    check_int(covey_lock_acquire(&s->lock, 0), ==, 0);
    check_int(covey_lock_release(&s->lock), ==, 0);
    end(s);
}

TEST(a_dead_holder_is_named_though_its_slot_is_used_again, .not_in_valgrind = "it takes too long")
{
    struct shared *s = make();
    pid_t holder = start_holder(s);
    char name[32];

    (void)snprintf(name, sizeof name, "(pid %d)", (int)holder);
    check_int(kill(holder, SIGKILL), ==, 0);
    test_reap(holder, SIGKILL);
    for (int i = 0; i < 100; i++) { /* comes by all slots */
        pid_t pid = fork();

        if (pid == 0)
            _exit(covey_stats(&(struct covey_stats){.size = sizeof(struct covey_stats)}) != 0);
        test_reap(pid, 0);
    }
    check_fails(covey_lock_acquire(&s->lock, COVEY_FOREVER), COVEY_EOWNERDEAD, name);
    check_int(covey_lock_release(&s->lock), ==, 0);
    end(s);
}

TEST(a_try_finds_out_that_the_holder_is_dead)
{
    struct shared *s = make();
    pid_t holder = start_holder(s);

    check_int(covey_lock_acquire(&s->lock, 0), ==, COVEY_ETIMEDOUT);
    check_int(kill(holder, SIGKILL), ==, 0);
    test_reap(holder, SIGKILL);
    check_int(covey_lock_acquire(&s->lock, 0), ==, COVEY_EOWNERDEAD);
    check_int(covey_lock_release(&s->lock), ==, 0);
    end(s);
}

/* Filters older than pidfds refuse what they do not know. Here /proc tells of the dead. */
TEST(a_try_finds_out_that_the_holder_is_dead_where_pidfds_are_forbidden)
{
    struct shared *s = make();
    pid_t holder;
    pid_t pid;

    test_deny(SYS_pidfd_open, EPERM);
    holder = start_holder(s);
    pid = fork();
    if (pid == 0) { /* not the holder's parent, which would see a zombie */
        check_int(covey_lock_acquire(&s->lock, 0), ==, COVEY_ETIMEDOUT);
        check_int(kill(holder, SIGKILL), ==, 0);
        check_int(covey_lock_acquire(&s->lock, 1), ==, COVEY_EOWNERDEAD);
        check_int(covey_lock_release(&s->lock), ==, 0);
        _exit(0);
    }
    test_reap(pid, 0);
    test_reap(holder, SIGKILL);
    end(s);
}

TEST(a_try_finds_out_that_the_holder_is_dead_without_a_free_descriptor)
{
    struct shared *s = make();
    struct rlimit none;
    pid_t holder = start_holder(s);
    pid_t pid = fork();

    if (pid == 0) { /* not the holder's parent, which would see a zombie */
        check_int(covey_lock_acquire(&s->lock, 0), ==, COVEY_ETIMEDOUT);
        check_int(getrlimit(RLIMIT_NOFILE, &none), ==, 0);
        none.rlim_cur = 0;
        check_int(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
        check_int(covey_lock_acquire(&s->lock, 0), ==, COVEY_ETIMEDOUT);
        check_int(kill(holder, SIGKILL), ==, 0);
        check_int(covey_lock_acquire(&s->lock, 1), ==, COVEY_EOWNERDEAD);
        check_int(covey_lock_release(&s->lock), ==, 0);
        _exit(0);
    }
    test_reap(pid, 0);
    test_reap(holder, SIGKILL);
    end(s);
}

/* The thread that has joined ends, and no keeper can be made: the kernel has marked the holder's life. */
static void *hold_and_end(void *context)
{
    struct shared *s = context;

    check_int(covey_lock_acquire(&s->lock, 0), ==, 0);
    test_deny(SYS_clone, EPERM);
    return NULL;
}

static void hold_by_a_thread_that_ends(struct shared *s)
{
    pthread_t thread;

    check_int(pthread_create(&thread, NULL, hold_and_end, s), ==, 0);
    check_int(pthread_join(thread, NULL), ==, 0);
    set_step(s, 1);
    for (;;)
        (void)pause();
}

static void take_nothing_away_where_nothing_can_be_seen(struct shared *s)
{
    struct rlimit none;
    char directory[] = "/tmp/covey-XXXXXX";

    wait_step(s, 1);
    check_int(covey_lock_acquire(&s->lock, 0), ==, COVEY_ETIMEDOUT);
    check(mkdtemp(directory) != NULL);
    check_int(chdir(directory), ==, 0);
    check_int(rmdir(directory), ==, 0);
    check_int(chroot("."), ==, 0);
    check_int(getrlimit(RLIMIT_NOFILE, &none), ==, 0);
    none.rlim_cur = 0;
    check_int(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
    check_int(covey_lock_acquire(&s->lock, 0), ==, COVEY_ETIMEDOUT);
    set_step(s, 2);
    wait_step(s, 3);
    check_int(covey_lock_acquire(&s->lock, 1), ==, COVEY_EOWNERDEAD);
    check_int(covey_lock_release(&s->lock), ==, 0);
    _exit(0);
}

/* Neither a free descriptor nor /proc. */
TEST(who_cannot_be_seen_is_alive, .not_in_valgrind = "its own files are not seen, either")
{
    struct shared *s;
    pid_t holder;
    pid_t pid;

    if (chroot("/") != 0)
        test_skip("no other root directory: %s", strerror(errno));
    s = make();
    if ((holder = fork()) == 0)
        hold_by_a_thread_that_ends(s);
    if ((pid = fork()) == 0)
        take_nothing_away_where_nothing_can_be_seen(s);
    wait_step(s, 2);
    check_int(kill(holder, SIGKILL), ==, 0);
    test_reap(holder, SIGKILL);
    set_step(s, 3);
    test_reap(pid, 0);
    end(s);
}

TEST(sleepers_learn_of_the_holders_death_at_once)
{
    struct shared *s = make();
    pid_t holder = start_holder(s);
    pid_t waiters[12];
    double start;

    for (int i = 0; i < 12; i++) {
        waiters[i] = fork();
        if (waiters[i] == 0) {
            int r = covey_lock_acquire(&s->lock, COVEY_FOREVER);

            check(r == 0 || r == COVEY_EOWNERDEAD);
            s->told += r == COVEY_EOWNERDEAD;
            s->counter++;
            check_int(covey_lock_release(&s->lock), ==, 0);
            _exit(0);
        }
    }
    test_sleep_ms(200);
    start = test_now_s();
    check_int(kill(holder, SIGKILL), ==, 0);
    for (int i = 0; i < 12; i++)
        test_reap(waiters[i], 0);
    check(test_now_s() - start < 10);
    test_reap(holder, SIGKILL); /* it was a zombie all the time */
    check_int(s->told, ==, 1);
    check_int(s->counter, ==, 12);
    end(s);
}

/* Each of them sleeps when the lock is another's than when it is killed as its holder. */
TEST(sleepers_learn_of_the_death_of_a_later_holder)
{
    struct shared *s = make();
    pid_t waiters[3];

    check_int(covey_lock_acquire(&s->lock, 0), ==, 0);
    for (int i = 0; i < 3; i++) {
        waiters[i] = fork();
        if (waiters[i] == 0) {
            (void)covey_lock_acquire(&s->lock, COVEY_FOREVER);
            (void)kill(getpid(), SIGKILL);
        }
        test_sleep_ms(50);
    }
    check_int(covey_lock_release(&s->lock), ==, 0);
    for (int i = 0; i < 3; i++)
        test_reap(waiters[i], SIGKILL);
    check_int(covey_lock_acquire(&s->lock, 0), ==, COVEY_EOWNERDEAD);
    check_int(covey_lock_release(&s->lock), ==, 0);
    end(s);
}

TEST(a_stopped_holder_is_alive)
{
    struct shared *s = make();
    pid_t pid = start_holder(s);

    check_int(kill(pid, SIGSTOP), ==, 0);
    check_int(covey_lock_acquire(&s->lock, 0.2), ==, COVEY_ETIMEDOUT);
    check_int(kill(pid, SIGKILL), ==, 0);
    check_int(covey_lock_acquire(&s->lock, COVEY_FOREVER), ==, COVEY_EOWNERDEAD);
    check_int(covey_lock_release(&s->lock), ==, 0);
    test_reap(pid, SIGKILL);
    end(s);
}

TEST(killed_sleepers_swallow_no_wake, .deadline_s = 120, .not_in_valgrind = "it takes too long")
{
    struct shared *s = make();

    for (int round = 0; round < 200; round++) {
        pid_t victims[3];
        pid_t witness;

        check_int(covey_lock_acquire(&s->lock, COVEY_FOREVER), ==, 0);
        for (int i = 0; i < 3; i++) {
            victims[i] = fork();
            if (victims[i] == 0) {
                (void)covey_lock_acquire(&s->lock, COVEY_FOREVER);
                (void)covey_lock_release(&s->lock);
                _exit(0);
            }
        }
        witness = fork();
        if (witness == 0) {
            int r = covey_lock_acquire(&s->lock, COVEY_FOREVER);

            check(r == 0 || r == COVEY_EOWNERDEAD);
            check_int(covey_lock_release(&s->lock), ==, 0);
            _exit(0);
        }
        test_sleep_ms(2);
        check_int(covey_lock_release(&s->lock), ==, 0);
        for (int i = 0; i < 3; i++)
            check_int(kill(victims[i], SIGKILL), ==, 0);
        test_reap(witness, 0);
        for (int i = 0; i < 3; i++)
            check_int(waitpid(victims[i], NULL, 0), ==, victims[i]);
        /* A victim that had it may have died with it. */
        if (covey_lock_acquire(&s->lock, COVEY_FOREVER) < 0)
            check_int(covey_error_code(), ==, COVEY_EOWNERDEAD);
        check_int(covey_lock_release(&s->lock), ==, 0);
    }
    end(s);
}

TEST(a_sleeping_waiter_uses_no_cpu)
{
    struct shared *s = make();
    struct rusage usage;
    pid_t pid;
    long before;

    if (test_is_old_kernel())
        test_skip("without futex_waitv a waiter looks every 20 ms");
    check_int(covey_lock_acquire(&s->lock, 0), ==, 0);
    pid = fork();
    if (pid == 0) {
        check_int(covey_lock_acquire(&s->lock, COVEY_FOREVER), ==, 0);
        check_int(covey_lock_release(&s->lock), ==, 0);
        check_int(getrusage(RUSAGE_SELF, &usage), ==, 0);
        _exit(usage.ru_utime.tv_sec == 0 && usage.ru_utime.tv_usec < 200000 ? 0 : 1);
    }
    test_sleep_ms(100);
    before = test_status_of(pid, "voluntary_ctxt_switches");
    test_sleep_ms(500);
    check_int(test_status_of(pid, "voluntary_ctxt_switches"), ==, before);
    check_int(covey_lock_release(&s->lock), ==, 0);
    test_reap(pid, 0);
    end(s);
}

static int interrupts;

static int give_up(void *context)
{
    return ++interrupts >= *(int *)context;
}

static void do_nothing(int signal)
{
    (void)signal;
}

TEST(a_signal_interrupts_a_wait_only_if_the_hook_says_so)
{
    struct sigaction action = {.sa_handler = do_nothing};
    struct shared *s;
    pid_t parent = getpid();
    int limit = 3;
    pid_t pid;

    test_ignore_deadlocks();
    s = make();
    check_int(sigaction(SIGUSR1, &action, NULL), ==, 0);
    check_int(covey_lock_acquire(&s->lock, 0), ==, 0);
    pid = fork();
    if (pid == 0) {
        for (;;) { /* on a busy machine, several of them may arrive as one */
            test_sleep_ms(50);
            (void)kill(parent, SIGUSR1);
        }
    }
    check_int(covey_lock_acquire(&s->lock, 0.1), ==, COVEY_ETIMEDOUT);
    covey_on_interrupt(give_up, &limit);
    check_fails(covey_lock_acquire(&s->lock, COVEY_FOREVER), COVEY_EINTR, "interrupted");
    check_int(interrupts, ==, 3);
    (void)kill(pid, SIGKILL);
    test_reap(pid, SIGKILL);
    check_int(covey_lock_release(&s->lock), ==, 0);
    end(s);
}
