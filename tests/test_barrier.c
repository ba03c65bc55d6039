/* SPDX-License-Identifier: MIT */
#include "children.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>

struct shared {
    covey_barrier barrier;
    int step;
    int results[32];
    int indexes[32];
    int acted;
    int rounds;
    int broken;
};

static struct shared *make(unsigned parties)
{
    struct shared *s = covey_calloc(1, sizeof *s);

    check_int(covey_barrier_init(&s->barrier, parties), ==, 0);
    return s;
}

static void end(struct shared *s)
{
    check_int(covey_barrier_destroy(&s->barrier), ==, 0);
    check_int(covey_free(s), ==, 0);
}

static void wait_once(void *context)
{
    struct shared *s = context;
    int r = covey_barrier_wait(&s->barrier, COVEY_FOREVER);

    if (r >= 0)
        word_add(&s->indexes[r], 1);
    else
        check_int(r, ==, COVEY_EBROKEN);
    word_add(&s->step, 1);
    if (r < 0)
        word_add(&s->broken, 1);
}

static void await_waiting(struct shared *s, int n)
{
    while (covey_barrier_waiting(&s->barrier) != n)
        test_sleep_ms(1);
}

TEST(all_go_on_when_all_have_come)
{
    struct shared *s = make(4);
    pid_t pids[4];

    for (int i = 0; i < 3; i++) {
        pids[i] = child_fork(wait_once, s);
        await_waiting(s, i + 1);
    }
    test_sleep_ms(20);
    check_int(s->step, ==, 0);
    check_int(covey_barrier_parties(&s->barrier), ==, 4);
    check_fails(covey_barrier_destroy(&s->barrier), COVEY_ESTATE, "3 wait");
    check_int(covey_barrier_wait(&s->barrier, 0), ==, 3); /* the last one does not wait */
    for (int i = 0; i < 3; i++)
        test_reap(pids[i], 0);
    for (int i = 0; i < 3; i++)
        check_int(s->indexes[i], ==, 1);
    check_int(covey_barrier_waiting(&s->barrier), ==, 0);
    check_int(covey_barrier_is_broken(&s->barrier), ==, 0);
    end(s);
}

static int take_part(void *argument)
{
    struct shared *s = *(struct shared **)argument;

    for (int i = 0; i < 2000; i++) {
        int before;

        word_add(&s->step, 1);
        check_int(covey_barrier_wait(&s->barrier, COVEY_FOREVER), >=, 0);
        before = word_get(&s->step);
        check(before >= 4 * (i + 1) && before < 4 * (i + 2));
        check_int(covey_barrier_wait(&s->barrier, COVEY_FOREVER), >=, 0);
    }
    return 0;
}

TEST_METHODS(rounds_do_not_mix, 120, .not_in_valgrind = "it takes too long")
{
    struct shared *s = make(4);
    covey_process *children[4];

    for (int i = 0; i < 4; i++)
        children[i] = child_start(take_part, s, method);
    for (int i = 0; i < 4; i++)
        child_join(children[i], 0);
    end(s);
    check_int(covey_close(), ==, 0);
}

static void *take_part_in_thread(void *context)
{
    (void)take_part(&context);
    return NULL;
}

TEST(threads_are_parties_too, .deadline_s = 60)
{
    struct shared *s = make(4);
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        check_int(pthread_create(&threads[i], NULL, take_part_in_thread, s), ==, 0);
    for (int i = 0; i < 4; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
    end(s);
}

static int act(void *context)
{
    struct shared *s = context;

    check_int(covey_barrier_waiting(&s->barrier), ==, 3);
    check_int(word_get(&s->step), ==, 0);
    return s->acted++ == 0 ? 0 : 5;
}

static void wait_with_action(void *context)
{
    struct shared *s = context;
    int r = covey_barrier_wait_then(&s->barrier, act, s, COVEY_FOREVER);

    word_add(&s->step, 1);
    if (r == COVEY_ETASK)
        word_add(&s->results[0], 1);
    else if (r == COVEY_EBROKEN)
        word_add(&s->results[1], 1);
    else
        check_int(r, >=, 0);
}

TEST(one_party_acts_before_all_go_on_and_can_fail)
{
    struct shared *s = make(3);
    pid_t pids[3];

    for (int round = 0; round < 2; round++) {
        s->step = 0;
        for (int i = 0; i < 3; i++)
            pids[i] = child_fork(wait_with_action, s);
        for (int i = 0; i < 3; i++)
            test_reap(pids[i], 0);
        check_int(s->acted, ==, round + 1);
    }
    check_int(s->results[0], ==, 1);
    check_int(s->results[1], ==, 2);
    check_int(covey_barrier_is_broken(&s->barrier), ==, 1);
    check_fails(covey_barrier_wait(&s->barrier, 1), COVEY_EBROKEN, "failed in its action");
    end(s);
}

static int act_until_released(void *context)
{
    struct shared *s = context;

    word_set(&s->acted, 1);
    word_await(&s->rounds, 1);
    return 0;
}

static void wait_until_released(void *context)
{
    struct shared *s = context;

    check_int(covey_barrier_wait_then(&s->barrier, act_until_released, s, COVEY_FOREVER), >=, 0);
    word_add(&s->step, 1);
}

static void do_nothing(int signal)
{
    (void)signal;
}

/* The round in whose action this one was too many is over before the hook says that it gives up. */
static int give_up_late(void *context)
{
    struct shared *s = context;

    word_set(&s->rounds, 1);
    word_await(&s->step, 2);
    return 1;
}

static void wait_until_interrupted(void *context)
{
    struct shared *s = context;
    struct sigaction action = {.sa_handler = do_nothing};

    check_int(sigaction(SIGUSR1, &action, NULL), ==, 0);
    covey_on_interrupt(give_up_late, s);
    check_fails(covey_barrier_wait(&s->barrier, COVEY_FOREVER), COVEY_EINTR, "interrupted");
    check_int(covey_barrier_waiting(&s->barrier), ==, 0);
}

static void wait_for_a_while(void *context)
{
    struct shared *s = context;

    check_fails(covey_barrier_wait(&s->barrier, 0.05), COVEY_ETIMEDOUT, "all 2 had come");
}

TEST(one_party_too_many_gives_up_without_having_come)
{
    struct shared *s = make(2);
    pid_t pids[2];
    pid_t interrupted;

    for (int i = 0; i < 2; i++)
        pids[i] = child_fork(wait_until_released, s);
    word_await(&s->acted, 1);
    test_reap(child_fork(wait_for_a_while, s), 0);
    interrupted = child_fork(wait_until_interrupted, s);
    child_await_sleep(interrupted);
    while (word_get(&s->rounds) == 0) { /* it may sleep on its way there */
        check_int(kill(interrupted, SIGUSR1), ==, 0);
        test_sleep_ms(10);
    }
    test_reap(interrupted, 0);
    for (int i = 0; i < 2; i++)
        test_reap(pids[i], 0);
    check_int(covey_barrier_is_broken(&s->barrier), ==, 0);
    check_fails(covey_barrier_wait(&s->barrier, 0), COVEY_ETIMEDOUT, "1 of 2 had come");
    end(s);
}

static int act_and_die(void *context)
{
    test_sleep_ms(50);
    (void)context;
    (void)raise(SIGKILL);
    return 0;
}

static void wait_and_die_acting(void *context)
{
    struct shared *s = context;

    (void)covey_barrier_wait_then(&s->barrier, act_and_die, NULL, COVEY_FOREVER);
}

TEST(a_barrier_breaks_when_its_party_dies_in_the_action)
{
    struct shared *s = make(3);
    pid_t pids[3];

    for (int i = 0; i < 2; i++)
        pids[i] = child_fork(wait_once, s);
    await_waiting(s, 2);
    pids[2] = child_fork(wait_and_die_acting, s);
    test_reap(pids[2], SIGKILL);
    for (int i = 0; i < 2; i++)
        test_reap(pids[i], 0);
    check_int(s->broken, ==, 2);
    end(s);
}

/* Two rounds of one party each; the first is reset while its action runs, and that of the second, too. */
static int act_first(void *context)
{
    struct shared *s = context;

    word_set(&s->step, 1);
    word_await(&s->step, 3);
    return 0;
}

static void be_first(void *context)
{
    struct shared *s = context;

    check_int(covey_barrier_wait_then(&s->barrier, act_first, s, COVEY_FOREVER), ==, COVEY_EBROKEN);
    word_set(&s->step, 4);
}

static int act_second(void *context)
{
    struct shared *s = context;

    word_set(&s->step, 3);
    word_await(&s->step, 4);
    return 0;
}

static void be_second(void *context)
{
    struct shared *s = context;

    check_int(covey_barrier_wait_then(&s->barrier, act_second, s, COVEY_FOREVER), ==, 0);
}

TEST(an_action_that_ends_after_a_reset_does_not_end_the_next_round)
{
    struct shared *s = make(1);
    pid_t first = child_fork(be_first, s);
    pid_t second;

    word_await(&s->step, 1);
    check_int(covey_barrier_reset(&s->barrier), ==, 0);
    second = child_fork(be_second, s);
    test_reap(first, 0);
    test_reap(second, 0);
    end(s);
}

TEST(a_barrier_breaks_when_one_that_waits_is_killed)
{
    struct shared *s = make(4);
    pid_t pids[3];
    char name[32];

    for (int i = 0; i < 3; i++) {
        pids[i] = child_fork(wait_once, s);
        await_waiting(s, i + 1);
    }
    child_await_sleep(pids[0]);
    child_kill(pids[1]);
    test_reap(pids[0], 0);
    test_reap(pids[2], 0);
    check_int(s->broken, ==, 2);
    check_int(covey_barrier_is_broken(&s->barrier), ==, 1);
    (void)snprintf(name, sizeof name, "process %d is needed", (int)pids[1]);
    check_fails(covey_barrier_wait(&s->barrier, 0), COVEY_EBROKEN, name);
    end(s);
}

TEST(the_last_to_come_finds_that_one_has_died)
{
    struct shared *s = make(2);
    pid_t pid = child_fork(wait_once, s);

    await_waiting(s, 1);
    child_kill(pid);
    check_fails(covey_barrier_wait(&s->barrier, 0), COVEY_EBROKEN, "has died");
    check_int(covey_barrier_reset(&s->barrier), ==, 0);
    pid = child_fork(wait_once, s);
    check_int(covey_barrier_wait(&s->barrier, COVEY_FOREVER), >=, 0);
    test_reap(pid, 0);
    end(s);
}

static void wait_again_and_again(void *context)
{
    struct shared *s = context;

    while (covey_barrier_wait(&s->barrier, COVEY_FOREVER) >= 0)
        word_add(&s->rounds, 1);
    check_int(covey_error_code(), ==, COVEY_EBROKEN);
    check_has(covey_error(), "has died");
}

static void wait_once_and_stay(void *context)
{
    struct shared *s = context;

    check_int(covey_barrier_wait(&s->barrier, COVEY_FOREVER), >=, 0);
    word_set(&s->step, 1);
    for (;;)
        (void)pause();
}

TEST(a_barrier_breaks_when_one_that_is_expected_dies_elsewhere)
{
    struct shared *s = make(3);
    pid_t waiters[2];
    pid_t victim = child_fork(wait_once_and_stay, s);

    for (int i = 0; i < 2; i++)
        waiters[i] = child_fork(wait_again_and_again, s);
    word_await(&s->step, 1);
    await_waiting(s, 2);
    child_await_sleep(waiters[1]);
    child_kill(victim);
    for (int i = 0; i < 2; i++)
        test_reap(waiters[i], 0);
    check_int(s->rounds, ==, 2);
    end(s);
}

/* A member at once, so the slot that has been given back last is its. */
static pid_t fork_member(void (*run)(void *), void *context)
{
    pid_t pid = covey_fork();

    check_int(pid, >=, 0);
    if (pid == 0) {
        if (run)
            run(context);
        exit(0);
    }
    return pid;
}

static void use_slots_again(unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        test_reap(fork_member(NULL, NULL), 0);
}

TEST(a_barrier_breaks_also_if_the_slot_of_the_dead_is_another_s_by_now, .deadline_s = 60)
{
    for (unsigned times = 1; times <= 401; times += 400) {
        struct shared *s = make(2);
        pid_t victim = fork_member(wait_once_and_stay, s);

        check_int(covey_barrier_wait(&s->barrier, COVEY_FOREVER), >=, 0);
        word_await(&s->step, 1);
        child_kill(victim);
        use_slots_again(times);
        check_fails(covey_barrier_wait(&s->barrier, 60), COVEY_EBROKEN, "has died");
        end(s);
    }
}

TEST(who_has_ended_in_order_is_not_expected_also_if_its_slot_is_another_s_by_now)
{
    for (unsigned times = 1; times <= 401; times += 400) {
        struct shared *s = make(2);
        pid_t pid = fork_member(wait_once, s);

        check_int(covey_barrier_wait(&s->barrier, COVEY_FOREVER), >=, 0);
        test_reap(pid, 0);
        use_slots_again(times);
        check_fails(covey_barrier_wait(&s->barrier, 0.05), COVEY_ETIMEDOUT, "1 of 2");
        end(s);
    }
}

static void wait_twice(void *context)
{
    struct shared *s = context;

    for (int i = 0; i < 2; i++)
        check_int(covey_barrier_wait(&s->barrier, COVEY_FOREVER), >=, 0);
}

/* Their places are taken by others. */
static void come(void *context)
{
    struct shared *s = context;

    check_int(covey_barrier_wait(&s->barrier, COVEY_FOREVER), >=, 0);
    word_add(&s->step, 1);
}

static void come_and_stay(void *context)
{
    come(context);
    for (;;)
        (void)pause();
}

static void come_twice(void *context)
{
    struct shared *s = context;

    come(s);
    check_fails(covey_barrier_wait(&s->barrier, COVEY_FOREVER), COVEY_EBROKEN, "has died");
}

TEST(a_barrier_breaks_when_any_of_very_many_that_are_expected_dies, .deadline_s = 60,
    .not_in_valgrind = "it needs more memory than there is")
{
    enum {
        PARTIES = 101 /* more than a sleeper watches the lives of */
    };
    struct shared *s = make(PARTIES);
    pid_t pids[PARTIES];

    pids[0] = child_fork(come_twice, s);
    await_waiting(s, 1);
    for (int i = 1; i < PARTIES; i++) {
        pids[i] = child_fork(come_and_stay, s);
        if (i < PARTIES - 1)
            await_waiting(s, i + 1);
    }
    word_await(&s->step, PARTIES);
    await_waiting(s, 1);
    child_await_sleep(pids[0]);
    child_kill(pids[PARTIES - 1]);
    test_reap(pids[0], 0);
    for (int i = 1; i < PARTIES - 1; i++)
        child_kill(pids[i]);
    end(s);
}

TEST(who_has_ended_in_order_or_left_is_not_expected)
{
    struct shared *s = make(3);
    pid_t stays = child_fork(wait_twice, s);
    pid_t ends = child_fork(wait_once, s);
    pid_t leaves = fork();

    if (leaves == 0) {
        check_int(covey_barrier_wait(&s->barrier, COVEY_FOREVER), >=, 0);
        check_int(covey_barrier_leave(&s->barrier), ==, 0);
        (void)raise(SIGKILL);
    }
    test_reap(ends, 0);
    test_reap(leaves, SIGKILL);
    ends = child_fork(wait_once, s);
    child_await_sleep(ends);
    check_int(covey_barrier_wait(&s->barrier, COVEY_FOREVER), ==, 2);
    test_reap(ends, 0);
    test_reap(stays, 0);
    end(s);
}

static void *wait_in_thread(void *context)
{
    wait_once(context);
    return NULL;
}

/* One process that waits in one thread, and says in the other that it need not be expected. */
static void leave_while_waiting(void *context)
{
    struct shared *s = context;
    pthread_t thread;

    check_int(pthread_create(&thread, NULL, wait_in_thread, s), ==, 0);
    await_waiting(s, 1);
    check_int(covey_barrier_leave(&s->barrier), ==, 0);
    word_add(&s->step, 1);
    for (;;)
        (void)pause();
}

TEST(who_has_left_and_still_waits_is_missed)
{
    struct shared *s = make(3);
    pid_t pid = child_fork(leave_while_waiting, s);
    pid_t other;

    word_await(&s->step, 1);
    other = child_fork(wait_once, s);
    await_waiting(s, 2);
    child_await_sleep(other);
    child_kill(pid);
    test_reap(other, 0);
    check_int(word_get(&s->broken), ==, 1);
    end(s);
}

static void come_in_vain(void *context)
{
    struct shared *s = context;

    check_fails(covey_barrier_wait(&s->barrier, 0), COVEY_EBROKEN, "aborted");
}

static void come_alone(void *context)
{
    struct shared *s = context;

    check_fails(covey_barrier_wait(&s->barrier, 0), COVEY_ETIMEDOUT, "1 of 2 had come");
}

TEST(a_broken_barrier_does_not_fill_with_those_who_came_in_vain, .deadline_s = 120,
    .not_in_valgrind = "it takes too long")
{
    struct shared *s = make(2);

    check_int(covey_barrier_abort(&s->barrier), ==, 0);
    for (int i = 0; i < 1100; i++)
        test_reap(child_fork(come_in_vain, s), 0);
    check_int(covey_barrier_reset(&s->barrier), ==, 0);
    test_reap(child_fork(come_alone, s), 0);
    end(s);
}

TEST(time_out_and_abort_break_a_barrier_for_all)
{
    struct shared *s = make(3);
    pid_t pid = child_fork(wait_once, s);

    await_waiting(s, 1);
    check_fails(covey_barrier_wait(&s->barrier, 0.02), COVEY_ETIMEDOUT, "within 0.02 s");
    test_reap(pid, 0);
    check_int(s->broken, ==, 1);
    check_fails(covey_barrier_wait(&s->barrier, 1), COVEY_EBROKEN, "waited as long");
    check_int(covey_barrier_reset(&s->barrier), ==, 0);
    check_int(covey_barrier_is_broken(&s->barrier), ==, 0);
    check_int(covey_barrier_wait(&s->barrier, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_barrier_reset(&s->barrier), ==, 0);
    pid = child_fork(wait_once, s);
    await_waiting(s, 1);
    check_int(covey_barrier_abort(&s->barrier), ==, 0);
    test_reap(pid, 0);
    check_int(s->broken, ==, 2);
    check_int(covey_barrier_abort(&s->barrier), ==, 0);
    check_fails(covey_barrier_wait(&s->barrier, 1), COVEY_EBROKEN, "aborted");
    end(s);
}

static void meet_anybody(void *context)
{
    struct shared *s = context;

    while (word_get(&s->step) == 0) {
        int r = covey_barrier_wait(&s->barrier, 10);

        if (word_get(&s->step) == 0)
            check_int(r, >=, 0);
    }
}

/* Who is slow comes back when many rounds have passed: they were completed all the same. */
TEST(more_processes_than_parties_meet, .deadline_s = 60)
{
    struct shared *s = make(2);
    pid_t pids[8];

    for (int i = 0; i < 8; i++)
        pids[i] = child_fork(meet_anybody, s);
    test_sleep_ms(500);
    word_set(&s->step, 1);
    check_int(covey_barrier_abort(&s->barrier), ==, 0);
    for (int i = 0; i < 8; i++)
        test_reap(pids[i], 0);
    end(s);
}

TEST(a_party_that_is_stopped_for_long_is_told_of_a_reset_in_between)
{
    struct shared *s = make(2);
    pid_t first = child_fork(wait_once, s);

    await_waiting(s, 1);
    child_await_sleep(first);
    check_int(kill(first, SIGSTOP), ==, 0);
    for (int i = 0; i < 50; i++)
        check_int(covey_barrier_reset(&s->barrier), ==, 0);
    check_int(kill(first, SIGCONT), ==, 0);
    test_reap(first, 0);
    check_int(s->broken, ==, 1);
    end(s);
}

TEST(who_waits_when_a_barrier_is_reset_is_told)
{
    struct shared *s = make(3);
    pid_t pid = child_fork(wait_once, s);

    await_waiting(s, 1);
    child_await_sleep(pid);
    check_int(covey_barrier_reset(&s->barrier), ==, 0);
    test_reap(pid, 0);
    check_int(s->broken, ==, 1);
    check_int(covey_barrier_waiting(&s->barrier), ==, 0);
    check_int(covey_barrier_is_broken(&s->barrier), ==, 0);
    end(s);
}

/* A party that sleeps through its round and the next ones still learns how its own has ended. */
TEST(a_stopped_party_is_told_of_its_own_round)
{
    struct shared *s = make(2);
    pid_t first = child_fork(wait_once, s);

    await_waiting(s, 1);
    child_await_sleep(first);
    check_int(kill(first, SIGSTOP), ==, 0);
    check_int(covey_barrier_wait(&s->barrier, 0), ==, 1);
    for (int i = 0; i < 5; i++)
        check_int(covey_barrier_reset(&s->barrier), ==, 0);
    check_int(kill(first, SIGCONT), ==, 0);
    test_reap(first, 0);
    check_int(s->broken, ==, 0);
    check_int(s->indexes[0], ==, 1);
    end(s);
}

TEST(many_parties_meet, .deadline_s = 60)
{
    enum {
        PARTIES = 30
    };
    struct shared *s = make(PARTIES);
    pid_t pids[PARTIES];

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < PARTIES; i++)
            pids[i] = child_fork(wait_once, s);
        for (int i = 0; i < PARTIES; i++)
            test_reap(pids[i], 0);
        for (int i = 0; i < PARTIES; i++)
            check_int(s->indexes[i], ==, round + 1);
    }
    end(s);
}

TEST(a_barrier_of_one_never_waits)
{
    struct shared *s = make(1);

    for (int i = 0; i < 100; i++)
        check_int(covey_barrier_wait(&s->barrier, 0), ==, 0);
    end(s);
}

TEST(misuse_of_a_barrier_is_named)
{
    struct shared *s = make(2);
    covey_barrier *other = covey_calloc(1, sizeof *other);
    covey_barrier outside;

    check_fails(covey_barrier_init(&outside, 2), COVEY_EINVAL, "not in the family's arena");
    check_fails(covey_barrier_init(other, 0), COVEY_EINVAL, "parties is 0");
    check_fails(covey_barrier_init(other, 16384), COVEY_EINVAL, "1 to 16383");
    check_fails(covey_barrier_wait(other, 0), COVEY_EINVAL, "not a barrier");
    check_fails(covey_barrier_wait(NULL, 0), COVEY_EINVAL, "barrier is NULL");
    check_fails(covey_barrier_wait(&s->barrier, (double)NAN), COVEY_EINVAL, "not a number");
    check_int(covey_barrier_destroy(&s->barrier), ==, 0);
    check_fails(covey_barrier_reset(&s->barrier), COVEY_EINVAL, "not a barrier");
    check_fails(covey_barrier_waiting(&s->barrier), COVEY_EINVAL, "not a barrier");
    check_int(covey_free(other), ==, 0);
    check_int(covey_free(s), ==, 0);
}
