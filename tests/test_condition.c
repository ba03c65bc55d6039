/* SPDX-License-Identifier: MIT */
#include "children.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

struct shared {
    covey_lock lock;
    covey_rlock rlock;
    covey_condition condition; /* of the lock */
    covey_condition recursive; /* of the rlock */
    int waiting;
    int ready;
    int woken;
    int order[64];
    long items;
    long taken;
};

static struct shared *make(void)
{
    struct shared *s = covey_calloc(1, sizeof *s);

    check_int(covey_lock_init(&s->lock), ==, 0);
    check_int(covey_rlock_init(&s->rlock), ==, 0);
    check_int(covey_condition_init(&s->condition, &s->lock), ==, 0);
    check_int(covey_condition_init(&s->recursive, &s->rlock), ==, 0);
    return s;
}

static void end(struct shared *s)
{
    check_int(covey_condition_destroy(&s->condition), ==, 0);
    check_int(covey_condition_destroy(&s->recursive), ==, 0);
    check_int(covey_lock_destroy(&s->lock), ==, 0);
    check_int(covey_rlock_destroy(&s->rlock), ==, 0);
    check_int(covey_free(s), ==, 0);
}

static void take(struct shared *s)
{
    check_int(covey_lock_acquire(&s->lock, COVEY_FOREVER), ==, 0);
}

static void leave(struct shared *s)
{
    check_int(covey_lock_release(&s->lock), ==, 0);
}

static void notify(struct shared *s, long n)
{
    take(s);
    check_int(covey_condition_notify(&s->condition, n), ==, 0);
    leave(s);
}

static void wait_once(void *context)
{
    struct shared *s = context;

    take(s);
    s->waiting++;
    check_int(covey_condition_wait(&s->condition, COVEY_FOREVER), ==, 0);
    s->order[s->woken++] = getpid();
    leave(s);
}

/* A child that has come to the condition. */
static pid_t start_waiter(struct shared *s)
{
    int before;
    pid_t pid;

    take(s);
    before = s->waiting;
    leave(s);
    pid = child_fork(wait_once, s);
    for (int now = before; now == before;) {
        test_sleep_ms(1);
        take(s);
        now = s->waiting;
        leave(s);
    }
    return pid;
}

static int woken(struct shared *s)
{
    int n;

    take(s);
    n = s->woken;
    leave(s);
    return n;
}

/* A process with much memory takes a while to end, and all that while the kernel calls it alive. */
static void wait_with_much_memory(void *context)
{
    void *memory = mmap(NULL, (size_t)400 << 20, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    check(memory != MAP_FAILED);
    wait_once(context);
}

static void check_notified_past_dying(unsigned after_ms)
{
    struct shared *s = make();
    pid_t dying = child_fork(wait_with_much_memory, s);
    pid_t next;

    word_await(&s->waiting, 1);
    child_await_sleep(dying);
    next = child_fork(wait_once, s);
    word_await(&s->waiting, 2);
    child_await_sleep(next);
    check_int(kill(dying, SIGKILL), ==, 0);
    test_sleep_ms(after_ms);
    notify(s, 1);
    check(test_ends_within(next, 10));
    test_reap(next, 0);
    test_reap(dying, SIGKILL);
    end(s);
}

TEST(a_notification_is_not_lost_with_a_waiter_that_is_just_dying, .deadline_s = 60)
{
    for (unsigned ms = 0; ms < 24; ms += 4)
        check_notified_past_dying(ms);
}

TEST(notify_wakes_as_many_as_asked_for_and_those_that_waited_longest)
{
    struct shared *s = make();
    pid_t pids[6];

    notify(s, 3); /* nobody waits: not remembered */
    for (int i = 0; i < 6; i++)
        pids[i] = start_waiter(s);
    take(s);
    check_fails(covey_condition_destroy(&s->condition), COVEY_ESTATE, "somebody waits");
    leave(s);
    notify(s, 0);
    test_sleep_ms(20);
    check_int(woken(s), ==, 0);
    notify(s, 1);
    test_reap(pids[0], 0);
    test_sleep_ms(20);
    check_int(woken(s), ==, 1);
    notify(s, 2);
    test_reap(pids[1], 0);
    test_reap(pids[2], 0);
    test_sleep_ms(20);
    check_int(woken(s), ==, 3);
    take(s);
    check_int(covey_condition_notify_all(&s->condition), ==, 0);
    leave(s);
    for (int i = 3; i < 6; i++)
        test_reap(pids[i], 0);
    check_int(s->order[0], ==, pids[0]);
    check(s->order[1] == pids[1] || s->order[2] == pids[1]);
    end(s);
}

TEST(waiting_ends_at_its_time_with_the_lock_held)
{
    struct shared *s = make();
    double start = test_now_s();

    take(s);
    check_fails(covey_condition_wait(&s->condition, 0.05), COVEY_ETIMEDOUT, "not notified");
    check(test_now_s() - start >= 0.05);
    check_int(covey_condition_wait(&s->condition, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_condition_wait(&s->condition, -1), ==, COVEY_ETIMEDOUT);
    check_int(covey_lock_acquire(&s->lock, 0), ==, COVEY_ETIMEDOUT);
    leave(s);
    end(s);
}

static void *take_rlock(void *context)
{
    struct shared *s = context;
    int r = covey_rlock_acquire(&s->rlock, 0);

    if (r == 0)
        check_int(covey_rlock_release(&s->rlock), ==, 0);
    return (void *)(intptr_t)r;
}

static long try_rlock(struct shared *s)
{
    pthread_t thread;
    void *result;

    check_int(pthread_create(&thread, NULL, take_rlock, s), ==, 0);
    check_int(pthread_join(thread, &result), ==, 0);
    return (intptr_t)result;
}

static void notify_recursive(void *context)
{
    struct shared *s = context;

    check_int(covey_rlock_acquire(&s->rlock, COVEY_FOREVER), ==, 0);
    check_int(covey_condition_notify(&s->recursive, 1), ==, 0);
    check_int(covey_rlock_release(&s->rlock), ==, 0);
}

TEST(waiting_gives_an_rlock_up_and_takes_it_as_often_again)
{
    struct shared *s = make();
    pid_t pid;

    for (int i = 0; i < 3; i++)
        check_int(covey_rlock_acquire(&s->rlock, 0), ==, 0);
    pid = child_fork(notify_recursive, s);
    check_int(covey_condition_wait(&s->recursive, COVEY_FOREVER), ==, 0);
    test_reap(pid, 0);
    for (int i = 0; i < 3; i++) {
        check_int(try_rlock(s), ==, COVEY_ETIMEDOUT);
        check_int(covey_rlock_release(&s->rlock), ==, 0);
    }
    check_int(try_rlock(s), ==, 0);
    end(s);
}

static int has_items(void *context)
{
    return ((struct shared *)context)->items > 0;
}

static void add_items_slowly(void *context)
{
    struct shared *s = context;

    for (int i = 0; i < 5; i++) {
        test_sleep_ms(10);
        take(s);
        s->items = i == 4;
        check_int(covey_condition_notify_all(&s->condition), ==, 0);
        leave(s);
    }
}

TEST(wait_for_waits_until_it_is_true)
{
    struct shared *s = make();
    pid_t pid = child_fork(add_items_slowly, s);

    take(s);
    check_int(covey_condition_wait_for(&s->condition, has_items, s, COVEY_FOREVER), ==, 0);
    check_int(s->items, ==, 1);
    check_int(covey_condition_wait_for(&s->condition, has_items, s, 0), ==, 0);
    s->items = 0;
    check_fails(covey_condition_wait_for(&s->condition, has_items, s, 0.02), COVEY_ETIMEDOUT,
        "not true within 0.02 s");
    leave(s);
    check_fails(
        covey_condition_wait_for(&s->condition, has_items, s, 1), COVEY_ENOTHELD, "not held");
    test_reap(pid, 0);
    end(s);
}

TEST(notify_passes_over_the_dead)
{
    struct shared *s = make();
    pid_t pids[3];

    for (int i = 0; i < 3; i++)
        pids[i] = start_waiter(s);
    child_kill(pids[0]);
    child_kill(pids[1]);
    notify(s, 1);
    test_reap(pids[2], 0);
    end(s);
}

TEST(a_notification_of_one_who_dies_goes_to_the_next, .deadline_s = 60,
    .not_in_valgrind = "it takes too long")
{
    struct shared *s = make();

    for (int round = 0; round < 100; round++) {
        pid_t victim = start_waiter(s);
        pid_t witness = start_waiter(s);

        if (round % 2)
            child_await_sleep(witness);
        take(s);
        check_int(covey_condition_notify(&s->condition, 1), ==, 0);
        child_kill(victim); /* notified, and waiting for the lock */
        leave(s);
        test_reap(witness, 0);
        s->woken = 0;
    }
    end(s);
}

static void join(void *context)
{
    (void)context;
    check_int(covey_open(), ==, 0);
}

static void join_and_stay(void *joined)
{
    join(NULL);
    word_set(joined, 1);
    for (;;)
        (void)pause();
}

/* Who joins buries if there is no free slot: so with more and more members, sometimes. */
static void do_nothing(int signal)
{
    (void)signal;
}

/* An interrupt hook that uses another object, and does not come back. */
static int stay_in_hook(void *context)
{
    struct shared *s = context;

    check_int(covey_rlock_acquire(&s->rlock, COVEY_FOREVER), ==, 0);
    check_int(covey_rlock_release(&s->rlock), ==, 0);
    word_set(&s->ready, 1);
    for (;;)
        (void)pause();
    return 0;
}

static void wait_with_hook(void *context)
{
    struct sigaction action = {.sa_handler = do_nothing};

    check_int(sigaction(SIGUSR1, &action, NULL), ==, 0);
    covey_on_interrupt(stay_in_hook, context);
    wait_once(context);
}

TEST(also_if_he_dies_in_a_hook)
{
    struct shared *s = make();
    pid_t first = child_fork(wait_with_hook, s);
    pid_t next;

    word_await(&s->waiting, 1);
    child_await_sleep(first);
    next = start_waiter(s);
    child_await_sleep(next);
    while (word_get(&s->ready) == 0) { /* it may sleep on its way there */
        check_int(kill(first, SIGUSR1), ==, 0);
        test_sleep_ms(10);
    }
    child_await_sleep(next);
    notify(s, 1);
    child_kill(first);
    test_reap(next, 0);
    end(s);
}

TEST(also_if_who_joins_the_family_buries_him)
{
    struct shared *s = make();
    pid_t others[8];

    for (int i = 0; i < 8; i++) {
        pid_t victim = start_waiter(s);
        pid_t witness = start_waiter(s);

        child_await_sleep(witness);
        check_int(kill(witness, SIGSTOP), ==, 0);
        take(s);
        check_int(covey_condition_notify(&s->condition, 1), ==, 0);
        child_kill(victim);
        test_reap(child_fork(join, NULL), 0);
        leave(s);
        check_int(kill(witness, SIGCONT), ==, 0);
        test_reap(witness, 0);
        s->woken = 0;
        others[i] = child_fork(join_and_stay, &s->woken);
        word_await(&s->woken, 1);
    }
    for (int i = 0; i < 8; i++)
        child_kill(others[i]);
    end(s);
}

static void notify_and_die(void *context)
{
    struct shared *s = context;

    take(s);
    check_int(covey_condition_notify(&s->condition, 1), ==, 0);
    (void)raise(SIGKILL);
}

static void wait_and_be_told(void *context)
{
    struct shared *s = context;

    take(s);
    s->waiting++;
    check_int(covey_condition_wait(&s->condition, COVEY_FOREVER), ==, COVEY_EOWNERDEAD);
    check_has(covey_error(), "has died");
    leave(s);
}

TEST(who_goes_on_after_the_notifier_died_with_the_lock_is_told)
{
    struct shared *s = make();
    pid_t waiter = child_fork(wait_and_be_told, s);
    pid_t notifier;

    for (int waiting = 0; !waiting;) {
        test_sleep_ms(1);
        take(s);
        waiting = s->waiting;
        leave(s);
    }
    notifier = child_fork(notify_and_die, s);
    test_reap(notifier, SIGKILL);
    test_reap(waiter, 0);
    end(s);
}

enum {
    ITEMS = 3000
};

static int produce(void *argument)
{
    struct shared *s = *(struct shared **)argument;

    for (int i = 0; i < ITEMS; i++) {
        take(s);
        s->items++;
        check_int(covey_condition_notify(&s->condition, 1), ==, 0);
        leave(s);
    }
    return 0;
}

static int consume(void *argument)
{
    struct shared *s = *(struct shared **)argument;

    for (int i = 0; i < ITEMS; i++) {
        take(s);
        while (s->items == 0)
            check_int(covey_condition_wait(&s->condition, COVEY_FOREVER), ==, 0);
        s->items--;
        s->taken++;
        leave(s);
    }
    return 0;
}

TEST_METHODS(producers_and_consumers_meet_at_a_condition, 120)
{
    struct shared *s = make();
    covey_process *children[6];

    for (int i = 0; i < 6; i++)
        children[i] = child_start(i % 2 ? produce : consume, s, method);
    for (int i = 0; i < 6; i++)
        child_join(children[i], 0);
    check_int(s->items, ==, 0);
    check_int(s->taken, ==, 3 * ITEMS);
    end(s);
    check_int(covey_close(), ==, 0);
}

static void *produce_in_thread(void *context)
{
    (void)produce(&context);
    return NULL;
}

static void *consume_in_thread(void *context)
{
    (void)consume(&context);
    return NULL;
}

TEST(threads_meet_at_a_condition, .deadline_s = 120)
{
    struct shared *s = make();
    pthread_t threads[6];

    for (int i = 0; i < 6; i++)
        check_int(
            pthread_create(&threads[i], NULL, i % 2 ? produce_in_thread : consume_in_thread, s), ==,
            0);
    for (int i = 0; i < 6; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
    check_int(s->taken, ==, 3 * ITEMS);
    end(s);
}

static void consume_until_killed(void *context)
{
    struct shared *s = context;

    for (;;) {
        int r = covey_lock_acquire(&s->lock, COVEY_FOREVER);

        while ((r == 0 || r == COVEY_EOWNERDEAD) && s->items == 0)
            r = covey_condition_wait(&s->condition, COVEY_FOREVER);
        check(r == 0 || r == COVEY_EOWNERDEAD);
        s->items--;
        s->taken++;
        leave(s);
    }
}

/* One item, one notification, several consumers that are killed: somebody always takes it. */
TEST(no_kill_of_a_consumer_leaves_an_item, .deadline_s = 60, .not_in_valgrind = "it takes too long")
{
    struct shared *s = make();
    pid_t pids[3];

    for (int i = 0; i < 3; i++)
        pids[i] = child_fork(consume_until_killed, s);
    for (int i = 0; i < 300; i++) {
        bool empty = false;
        int r = covey_lock_acquire(&s->lock, COVEY_FOREVER);

        check(r == 0 || r == COVEY_EOWNERDEAD);
        s->items++;
        check_int(covey_condition_notify(&s->condition, 1), ==, 0);
        leave(s);
        if (i % 3 == 0)
            test_sleep_ms(1);
        child_kill(pids[i % 3]);
        while (!empty) {
            r = covey_lock_acquire(&s->lock, COVEY_FOREVER);
            check(r == 0 || r == COVEY_EOWNERDEAD);
            empty = s->items <= 0;
            leave(s);
        }
        pids[i % 3] = child_fork(consume_until_killed, s);
    }
    for (int i = 0; i < 3; i++)
        child_kill(pids[i]);
    (void)covey_lock_acquire(&s->lock, COVEY_FOREVER);
    leave(s);
    end(s);
}

static void wait_once_and_often_in_vain(void *context)
{
    struct shared *s = context;

    wait_once(s);
    take(s);
    for (int i = 0; i < 40000; i++)
        check_int(covey_condition_wait(&s->condition, 0), ==, COVEY_ETIMEDOUT);
    leave(s);
}

/* A word names a wait by 14 bits of its number. */
TEST(a_notification_of_many_waits_ago_ends_none, .deadline_s = 60)
{
    struct shared *s = make();
    pid_t child = child_fork(wait_once_and_often_in_vain, s);
    int waiting;

    do {
        test_sleep_ms(1);
        take(s);
        waiting = s->waiting;
        leave(s);
    } while (!waiting);
    notify(s, 1);
    test_reap(child, 0);
    end(s);
}

TEST(a_condition_is_not_destroyed_before_all_who_were_notified_have_gone_on)
{
    struct shared *s = make();
    pid_t pid = start_waiter(s);

    check_fails(covey_condition_destroy(&s->condition), COVEY_ESTATE, "somebody waits");
    take(s);
    check_int(covey_condition_notify(&s->condition, 1), ==, 0);
    check_fails(covey_condition_destroy(&s->condition), COVEY_ESTATE, "somebody waits");
    leave(s);
    test_reap(pid, 0);
    end(s);
}

TEST(misuse_of_a_condition_is_named)
{
    struct shared *s = make();
    covey_condition *other = covey_calloc(1, sizeof *other);

    check_fails(covey_condition_init(other, NULL), COVEY_EINVAL, "lock is NULL");
    check_fails(
        covey_condition_init(other, &s->condition), COVEY_EINVAL, "is a condition, not a lock");
    check_fails(covey_condition_wait(other, 0), COVEY_EINVAL, "not a condition");
    check_fails(covey_condition_wait(NULL, 0), COVEY_EINVAL, "condition is NULL");
    check_fails(covey_condition_wait(&s->condition, 0), COVEY_ENOTHELD, "this process");
    check_fails(covey_condition_wait(&s->recursive, 0), COVEY_ENOTHELD, "this thread");
    check_fails(covey_condition_notify(&s->condition, 1), COVEY_ENOTHELD, "not held");
    take(s);
    check_fails(covey_condition_notify(&s->condition, -1), COVEY_EINVAL, "n is -1");
    check_fails(covey_condition_wait(&s->condition, (double)NAN), COVEY_EINVAL, "not a number");
    check_fails(
        covey_condition_wait_for(&s->condition, NULL, NULL, 1), COVEY_EINVAL, "is_true is NULL");
    leave(s);
    check_int(covey_lock_destroy(&s->lock), ==, 0);
    check_fails(covey_condition_wait(&s->condition, 0), COVEY_EINVAL, "lock of condition");
    check_int(covey_lock_init(&s->lock), ==, 0);
    check_int(covey_free(other), ==, 0);
    end(s);
}
