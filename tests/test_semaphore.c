/* SPDX-License-Identifier: MIT */
#include "children.h"

#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>

struct shared {
    covey_semaphore semaphore;
    int step;
    int inside;
    int most;
    long counter;
};

static struct shared *make(long value, enum covey_semaphore_kind kind)
{
    struct shared *s = covey_calloc(1, sizeof *s);

    check_int(covey_semaphore_init(&s->semaphore, value, kind), ==, 0);
    return s;
}

static void end(struct shared *s)
{
    check_int(covey_semaphore_destroy(&s->semaphore), ==, 0);
    check_int(covey_free(s), ==, 0);
}

static int acquire(struct shared *s)
{
    return covey_semaphore_acquire(&s->semaphore, COVEY_FOREVER);
}

static int release(struct shared *s)
{
    return covey_semaphore_release(&s->semaphore);
}

static long value(struct shared *s)
{
    return covey_semaphore_value(&s->semaphore);
}

TEST(permits_are_counted)
{
    struct shared *s;
    double start;

    test_ignore_deadlocks();
    s = make(2, COVEY_SEMAPHORE);
    check_int(value(s), ==, 2);
    check_int(acquire(s), ==, 0);
    check_int(acquire(s), ==, 0);
    check_int(value(s), ==, 0);
    check_fails(covey_semaphore_acquire(&s->semaphore, 0), COVEY_ETIMEDOUT, "no permit");
    check_int(covey_semaphore_acquire(&s->semaphore, -3), ==, COVEY_ETIMEDOUT);
    start = test_now_s();
    check_int(covey_semaphore_acquire(&s->semaphore, 0.05), ==, COVEY_ETIMEDOUT);
    check(test_now_s() - start >= 0.05);
    check_int(covey_semaphore_release_many(&s->semaphore, 2), ==, 0);
    check_int(covey_semaphore_release_many(&s->semaphore, 0), ==, 0);
    check_int(value(s), ==, 2);
    check_int(covey_semaphore_acquire(&s->semaphore, 1e300), ==, 0);
    check_int(release(s), ==, 0);
    check_int(release(s), ==, 0); /* nobody holds any: one more */
    check_int(value(s), ==, 3);
    end(s);
}

TEST(a_bounded_semaphore_is_not_released_too_often)
{
    struct shared *s = make(2, COVEY_BOUNDED);

    check_fails(release(s), COVEY_ENOTHELD, "nobody holds");
    check_int(acquire(s), ==, 0);
    check_int(release(s), ==, 0);
    check_fails(release(s), COVEY_ENOTHELD, "nobody holds");
    check_int(value(s), ==, 2);
    end(s);
}

TEST(events_are_counted_and_belong_to_nobody)
{
    struct shared *s = make(0, COVEY_EVENTS);
    pid_t pid;

    check_int(covey_semaphore_acquire(&s->semaphore, 0), ==, COVEY_ETIMEDOUT);
    pid = fork();
    if (pid == 0) {
        check_int(covey_semaphore_release_many(&s->semaphore, 3), ==, 0);
        check_int(acquire(s), ==, 0);
        (void)raise(SIGKILL);
    }
    test_reap(pid, SIGKILL);
    check_int(value(s), ==, 2);
    check_int(acquire(s), ==, 0);
    check_int(acquire(s), ==, 0);
    check_int(covey_semaphore_acquire(&s->semaphore, 0.01), ==, COVEY_ETIMEDOUT);
    end(s);
}

static void hold_two(void *context)
{
    struct shared *s = context;

    check_int(acquire(s), ==, 0);
    check_int(acquire(s), ==, 0);
    word_add(&s->step, 1);
    for (;;)
        (void)pause();
}

TEST(permits_of_the_dead_come_back)
{
    struct shared *s = make(3, COVEY_BOUNDED);
    pid_t pid = child_fork(hold_two, s);

    word_await(&s->step, 1);
    check_int(value(s), ==, 1);
    child_kill(pid);
    check_int(value(s), ==, 3);
    for (int i = 0; i < 3; i++)
        check_int(covey_semaphore_acquire(&s->semaphore, 0), ==, 0);
    check_int(covey_semaphore_acquire(&s->semaphore, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_semaphore_release_many(&s->semaphore, 3), ==, 0);
    check_int(release(s), ==, COVEY_ENOTHELD);
    end(s);
}

TEST(permits_of_the_dead_come_back_when_another_operated_in_between)
{
    struct shared *s = make(5, COVEY_BOUNDED);
    pid_t pids[2];

    for (int i = 0; i < 2; i++) {
        pids[i] = child_fork(hold_two, s);
        word_await(&s->step, i + 1);
        check_int(acquire(s), ==, 0);
        check_int(release(s), ==, 0);
    }
    check_int(value(s), ==, 1);
    child_kill(pids[0]);
    check_int(value(s), ==, 3);
    child_kill(pids[1]);
    check_int(value(s), ==, 5);
    end(s);
}

static void take_one(void *context)
{
    struct shared *s = context;

    check_int(acquire(s), ==, 0);
    word_add(&s->step, 1);
    check_int(release(s), ==, 0);
}

TEST(sleepers_get_the_permits_of_the_dead_at_once)
{
    struct shared *s = make(2, COVEY_SEMAPHORE);
    pid_t holder = child_fork(hold_two, s);
    pid_t waiters[4];

    word_await(&s->step, 1);
    for (int i = 0; i < 4; i++)
        waiters[i] = child_fork(take_one, s);
    test_sleep_ms(100);
    check_int(kill(holder, SIGKILL), ==, 0);
    for (int i = 0; i < 4; i++)
        test_reap(waiters[i], 0);
    test_reap(holder, SIGKILL);
    check_int(value(s), ==, 2);
    end(s);
}

static void release_one(void *context)
{
    check_int(release(context), ==, 0);
}

TEST(a_child_may_release_what_its_parent_has_taken)
{
    struct shared *s = make(2, COVEY_BOUNDED);

    check_int(acquire(s), ==, 0);
    check_int(acquire(s), ==, 0);
    test_reap(child_fork(release_one, s), 0);
    check_int(value(s), ==, 1);
    check_int(release(s), ==, 0);
    check_int(value(s), ==, 2);
    check_int(release(s), ==, COVEY_ENOTHELD);
    end(s);
}

static void hold_one(void *context)
{
    struct shared *s = context;

    check_int(acquire(s), ==, 0);
    word_add(&s->step, 1);
    word_await(&s->step, 1000);
    check_int(release(s), ==, 0);
}

static void hold_one_till_killed(void *context)
{
    struct shared *s = context;

    check_int(acquire(s), ==, 0);
    word_add(&s->step, 1);
    for (;;)
        (void)pause();
}

TEST(more_processes_than_have_room_in_it_use_a_semaphore, .deadline_s = 60,
    .not_in_valgrind = "it needs more memory than there is")
{
    enum {
        PROCESSES = 70
    };
    struct shared *s = make(PROCESSES, COVEY_BOUNDED);
    pid_t pids[PROCESSES];

    for (int i = 0; i < PROCESSES; i++)
        pids[i] = child_fork(i % 2 ? hold_one : hold_one_till_killed, s);
    word_await(&s->step, PROCESSES);
    check_int(value(s), ==, 0);
    for (int i = 0; i < PROCESSES; i += 2)
        child_kill(pids[i]);
    check_int(value(s), ==, PROCESSES / 2);
    word_set(&s->step, 1000);
    for (int i = 1; i < PROCESSES; i += 2)
        test_reap(pids[i], 0);
    check_int(value(s), ==, PROCESSES);
    end(s);
}

static void acquire_and_die(void *context)
{
    check_int(acquire(context), ==, 0);
    (void)raise(SIGKILL);
}

/* Whether somebody has looked in between, or not. */
TEST(the_dead_hold_nothing_that_others_could_release)
{
    for (int looks = 0; looks < 2; looks++) {
        struct shared *bounded = make(1, COVEY_BOUNDED);
        struct shared *s = make(1, COVEY_SEMAPHORE);

        test_reap(child_fork(acquire_and_die, bounded), SIGKILL);
        test_reap(child_fork(acquire_and_die, s), SIGKILL);
        if (looks) {
            check_int(value(bounded), ==, 1);
            check_int(value(s), ==, 1);
        }
        check_int(release(bounded), ==, COVEY_ENOTHELD);
        check_int(value(bounded), ==, 1);
        check_int(release(s), ==, 0);
        check_int(value(s), ==, 2);
        end(bounded);
        end(s);
    }
}

static void acquire_and_end(void *context)
{
    check_int(acquire(context), ==, 0);
}

TEST(sleepers_get_the_permit_of_any_of_very_many_that_dies, .deadline_s = 60,
    .not_in_valgrind = "it needs more memory than there is")
{
    enum {
        PROCESSES = 100 /* more than a sleeper watches the lives of */
    };
    struct shared *s = make(PROCESSES, COVEY_BOUNDED);
    pid_t pids[PROCESSES];
    pid_t sleeper;

    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = child_fork(hold_one_till_killed, s);
        word_await(&s->step, i + 1);
    }
    sleeper = child_fork(acquire_and_end, s);
    child_await_sleep(sleeper);
    child_kill(pids[PROCESSES - 1]);
    test_reap(sleeper, 0);
    for (int i = 0; i < PROCESSES - 1; i++)
        child_kill(pids[i]);
    end(s);
}

static void work_inside(struct shared *s, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        int inside;

        check_int(acquire(s), ==, 0);
        inside = word_add(&s->inside, 1);
        if (inside > word_get(&s->most))
            word_set(&s->most, inside);
        check_int(inside, <=, 3);
        word_add(&s->inside, -1);
        check_int(release(s), ==, 0);
    }
}

static int work(void *argument)
{
    work_inside(*(struct shared **)argument, 10000);
    return 0;
}

TEST_METHODS(no_more_than_permitted_are_inside, 120)
{
    struct shared *s = make(3, COVEY_BOUNDED);
    covey_process *children[6];

    for (int i = 0; i < 6; i++)
        children[i] = child_start(work, s, method);
    for (int i = 0; i < 6; i++)
        child_join(children[i], 0);
    check_int(value(s), ==, 3);
    end(s);
    check_int(covey_close(), ==, 0);
}

static void *work_in_thread(void *context)
{
    work_inside(context, 10000);
    return NULL;
}

TEST(threads_share_the_permits_of_their_process, .deadline_s = 60)
{
    struct shared *s = make(3, COVEY_BOUNDED);
    pthread_t threads[6];

    for (int i = 0; i < 6; i++)
        check_int(pthread_create(&threads[i], NULL, work_in_thread, s), ==, 0);
    for (int i = 0; i < 6; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
    check_int(value(s), ==, 3);
    end(s);
}

static void produce(void *context)
{
    for (int i = 0; i < 20000; i++)
        check_int(release(context), ==, 0);
}

static void consume(void *context)
{
    for (int i = 0; i < 20000; i++)
        check_int(acquire(context), ==, 0);
}

TEST(all_events_arrive, .deadline_s = 120)
{
    struct shared *s = make(0, COVEY_EVENTS);
    pid_t pids[6];

    for (int i = 0; i < 6; i++)
        pids[i] = child_fork(i % 2 ? produce : consume, s);
    for (int i = 0; i < 6; i++)
        test_reap(pids[i], 0);
    check_int(value(s), ==, 0);
    end(s);
}

TEST(a_sleeper_that_is_killed_swallows_no_permit, .deadline_s = 60,
    .not_in_valgrind = "it takes too long")
{
    struct shared *s = make(1, COVEY_BOUNDED);

    for (int round = 0; round < 100; round++) {
        pid_t victims[2];
        pid_t witness;

        check_int(acquire(s), ==, 0);
        for (int i = 0; i < 2; i++)
            victims[i] = child_fork(take_one, s);
        witness = child_fork(take_one, s);
        test_sleep_ms(2);
        check_int(release(s), ==, 0);
        for (int i = 0; i < 2; i++)
            check_int(kill(victims[i], SIGKILL), ==, 0);
        test_reap(witness, 0);
        for (int i = 0; i < 2; i++)
            (void)waitpid(victims[i], NULL, 0);
        check_int(value(s), ==, 1);
    }
    end(s);
}

TEST(limits_of_a_semaphore_are_named)
{
    struct shared *s = make(32767, COVEY_SEMAPHORE);

    check_fails(release(s), COVEY_ELIMIT, "32767 permits");
    check_int(acquire(s), ==, 0);
    check_int(release(s), ==, 0);
    end(s);
    s = make(INT_MAX, COVEY_EVENTS);
    check_fails(release(s), COVEY_ELIMIT, "2147483647");
    check_int(acquire(s), ==, 0);
    check_int(value(s), ==, INT_MAX - 1);
    end(s);
}

TEST(misuse_of_a_semaphore_is_named)
{
    struct shared *s = make(1, COVEY_SEMAPHORE);
    covey_semaphore *other = covey_calloc(1, sizeof *other);
    covey_semaphore outside;

    check_fails(covey_semaphore_init(&outside, 1, COVEY_SEMAPHORE), COVEY_EINVAL, "not in the");
    check_fails(covey_semaphore_init(other, -1, COVEY_SEMAPHORE), COVEY_EINVAL, "value is -1");
    check_fails(covey_semaphore_init(other, 32768, COVEY_BOUNDED), COVEY_EINVAL, "0 to 32767");
    check_fails(
        covey_semaphore_init(other, 1, (enum covey_semaphore_kind)7), COVEY_EINVAL, "kind is 7");
    check_fails(covey_semaphore_acquire(other, 1), COVEY_EINVAL, "not a semaphore");
    check_fails(covey_semaphore_acquire(NULL, 1), COVEY_EINVAL, "semaphore is NULL");
    check_fails(covey_semaphore_value(NULL), COVEY_EINVAL, "semaphore is NULL");
    check_fails(covey_semaphore_release_many(&s->semaphore, -2), COVEY_EINVAL, "n is -2");
    check_fails(covey_semaphore_acquire(&s->semaphore, (double)NAN), COVEY_EINVAL, "not a number");
    memcpy(other, &s->semaphore, sizeof *other);
    check_fails(covey_semaphore_release(other), COVEY_EINVAL, "not a semaphore");
    check_int(covey_semaphore_destroy(&s->semaphore), ==, 0);
    check_fails(covey_semaphore_release(&s->semaphore), COVEY_EINVAL, "not a semaphore");
    check_int(covey_free(other), ==, 0);
    check_int(covey_free(s), ==, 0);
}
