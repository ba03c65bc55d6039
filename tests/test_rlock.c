/* SPDX-License-Identifier: MIT */
#include "children.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

struct shared {
    covey_rlock lock;
    int step;
    long counter;
};

static struct shared *make(void)
{
    struct shared *s = covey_calloc(1, sizeof *s);

    check_int(covey_rlock_init(&s->lock), ==, 0);
    return s;
}

static void end(struct shared *s)
{
    check_int(covey_rlock_destroy(&s->lock), ==, 0);
    check_int(covey_free(s), ==, 0);
}

static void *try_in_thread(void *context)
{
    struct shared *s = context;

    check_fails(covey_rlock_release(&s->lock), COVEY_ENOTHELD, "not held by this thread");
    return (void *)(intptr_t)covey_rlock_acquire(&s->lock, 0);
}

static long in_thread(void *(*run)(void *), void *context)
{
    pthread_t thread;
    void *result;

    check_int(pthread_create(&thread, NULL, run, context), ==, 0);
    check_int(pthread_join(thread, &result), ==, 0);
    return (intptr_t)result;
}

TEST(an_rlock_is_taken_again_by_its_thread_only)
{
    struct shared *s = make();

    for (int i = 0; i < 3; i++)
        check_int(covey_rlock_acquire(&s->lock, 0), ==, 0);
    check_int(in_thread(try_in_thread, s), ==, COVEY_ETIMEDOUT);
    for (int i = 0; i < 2; i++)
        check_int(covey_rlock_release(&s->lock), ==, 0);
    check_int(in_thread(try_in_thread, s), ==, COVEY_ETIMEDOUT);
    check_fails(covey_rlock_destroy(&s->lock), COVEY_ESTATE, "held");
    check_int(covey_rlock_release(&s->lock), ==, 0);
    check_fails(covey_rlock_release(&s->lock), COVEY_ENOTHELD, "not held");
    end(s);
}

static void *take_and_end(void *context)
{
    struct shared *s = context;

    check_int(covey_rlock_acquire(&s->lock, 0), ==, 0);
    return NULL;
}

TEST(a_thread_that_ends_keeps_its_rlock)
{
    struct shared *s = make();

    check_int(in_thread(take_and_end, s), ==, 0);
    check_fails(covey_rlock_acquire(&s->lock, 0.01), COVEY_ETIMEDOUT, "held by pid");
    check_fails(covey_rlock_release(&s->lock), COVEY_ENOTHELD, "not held");
    check_int(covey_free(s), ==, 0);
}

static void try_as_child(void *context)
{
    struct shared *s = context;

    check_int(covey_rlock_acquire(&s->lock, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_rlock_release(&s->lock), ==, COVEY_ENOTHELD);
}

TEST(the_child_of_a_fork_holds_no_rlock_of_its_parent)
{
    struct shared *s = make();

    check_int(covey_rlock_acquire(&s->lock, 0), ==, 0);
    test_reap(child_fork(try_as_child, s), 0);
    check_int(covey_rlock_release(&s->lock), ==, 0);
    end(s);
}

static void hold_twice(void *context)
{
    struct shared *s = context;

    check_int(covey_rlock_acquire(&s->lock, 0), ==, 0);
    check_int(covey_rlock_acquire(&s->lock, 0), ==, 0);
    word_set(&s->step, 1);
    for (;;)
        (void)pause();
}

struct relatives {
    covey_rlock lock;
    int pid;  /* of the ancestor, who has taken the lock once */
    int gone; /* he is */
    int heir; /* -1: there is none with his pid */
    int done;
};

/* A child with the pid @pid, which is free; the kernel gives the one after the last. False: not so. */
static bool fork_as(int pid, void (*run)(struct relatives *), struct relatives *s)
{
    FILE *last = fopen("/proc/sys/kernel/ns_last_pid", "w");
    bool right;
    pid_t child;

    if (!last)
        return false;
    (void)fprintf(last, "%d", pid - 1);
    right = fclose(last) == 0;
    child = right ? fork() : -1;
    if (child == 0) {
        if (getpid() == pid)
            run(s);
        _exit(getpid() != pid);
    }
    return child > 0 && waitpid(child, &pid, 0) == child && pid == 0;
}

static void inherit(struct relatives *s)
{
    check_int(covey_rlock_acquire(&s->lock, 0), ==, 0);
    word_set(&s->heir, 1);
    word_await(&s->done, 1);
    check_int(covey_rlock_release(&s->lock), ==, 0);
}

static void have_heirs(void *context)
{
    struct relatives *s = context;
    bool right = false;

    check_int(covey_rlock_acquire(&s->lock, 0), ==, 0);
    check_int(covey_rlock_release(&s->lock), ==, 0);
    word_set(&s->pid, getpid());
    if (fork() != 0)
        return;
    word_await(&s->gone, 1);
    test_sleep_ms(50); /* so that the kernel says that the heir began later */
    for (int i = 0; i < 10 && !right; i++)
        right = fork_as(s->pid, inherit, s);
    if (!right)
        word_set(&s->heir, -1);
    _exit(0);
}

/* What the ancestor's thread knew of itself is in the memory of both, and the pid is the same. */
TEST(a_process_is_not_taken_for_an_ancestor_with_its_pid)
{
    struct relatives *s = covey_calloc(1, sizeof *s);
    bool heir;
    pid_t pid;

    check_int(prctl(PR_SET_CHILD_SUBREAPER, 1), ==, 0);
    check_int(covey_rlock_init(&s->lock), ==, 0);
    pid = child_fork(have_heirs, s);
    test_reap(pid, 0);
    word_set(&s->gone, 1);
    while (word_get(&s->heir) == 0)
        test_sleep_ms(1);
    heir = word_get(&s->heir) == 1;
    if (heir)
        check_int(covey_rlock_acquire(&s->lock, 0), ==, COVEY_ETIMEDOUT);
    word_set(&s->done, 1);
    check_int(wait(NULL), >, 0);
    check_int(covey_rlock_destroy(&s->lock), ==, 0);
    check_int(covey_free(s), ==, 0);
    if (!heir)
        test_skip("no pid can be chosen");
}

TEST(an_rlock_of_a_dead_holder_is_taken_once_and_told)
{
    struct shared *s = make();
    pid_t pid = child_fork(hold_twice, s);
    char name[32];

    word_await(&s->step, 1);
    (void)snprintf(name, sizeof name, "pid %d", (int)pid);
    check_int(covey_rlock_acquire(&s->lock, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_rlock_is_held(&s->lock), ==, 1);
    child_kill(pid);
    check_int(covey_rlock_is_held(&s->lock), ==, 0);
    check_fails(covey_rlock_acquire(&s->lock, COVEY_FOREVER), COVEY_EOWNERDEAD, name);
    check_int(covey_rlock_acquire(&s->lock, COVEY_FOREVER), ==, 0);
    check_int(covey_rlock_release(&s->lock), ==, 0);
    check_int(in_thread(try_in_thread, s), ==, COVEY_ETIMEDOUT);
    check_int(covey_rlock_release(&s->lock), ==, 0);
    check_int(covey_rlock_acquire(&s->lock, 0), ==, 0);
    check_int(covey_rlock_release(&s->lock), ==, 0);
    end(s);
}

static int count(void *argument)
{
    struct shared *s = *(struct shared **)argument;

    for (int i = 0; i < 20000; i++) {
        check_int(covey_rlock_acquire(&s->lock, COVEY_FOREVER), ==, 0);
        check_int(covey_rlock_acquire(&s->lock, COVEY_FOREVER), ==, 0);
        s->counter++;
        check_int(covey_rlock_release(&s->lock), ==, 0);
        check_int(covey_rlock_release(&s->lock), ==, 0);
    }
    return 0;
}

TEST_METHODS(processes_count_under_an_rlock, 120)
{
    struct shared *s = make();
    covey_process *children[4];

    for (int i = 0; i < 4; i++)
        children[i] = child_start(count, s, method);
    for (int i = 0; i < 4; i++)
        child_join(children[i], 0);
    check_int(s->counter, ==, 4 * 20000);
    end(s);
    check_int(covey_close(), ==, 0);
}

TEST(misuse_of_an_rlock_is_named)
{
    struct shared *s = make();
    covey_rlock outside;
    covey_lock *plain = covey_alloc(sizeof *plain);

    check_fails(covey_rlock_init(&outside), COVEY_EINVAL, "not in the family's arena");
    check_fails(covey_rlock_init((void *)((char *)s + 4)), COVEY_EINVAL, "not aligned");
    check_fails(covey_rlock_acquire(NULL, 1), COVEY_EINVAL, "rlock is NULL");
    check_fails(covey_rlock_release(&outside), COVEY_EINVAL, "not an rlock");
    check_int(covey_lock_init(plain), ==, 0);
    check_fails(covey_rlock_acquire((covey_rlock *)(void *)plain, 1), COVEY_EINVAL,
        "is a lock, not an rlock");
    check_fails(covey_lock_acquire((covey_lock *)(void *)&s->lock, 1), COVEY_EINVAL,
        "is an rlock, not a lock");
    check_fails(covey_rlock_is_held(NULL), COVEY_EINVAL, "rlock is NULL");
    check_fails(covey_rlock_acquire(&s->lock, (double)NAN), COVEY_EINVAL, "not a number");
    check_int(covey_lock_destroy(plain), ==, 0);
    check_int(covey_free(plain), ==, 0);
    end(s);
}
