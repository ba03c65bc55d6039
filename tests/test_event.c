/* SPDX-License-Identifier: MIT */
#include "children.h"

#include <math.h>

struct shared {
    covey_event event;
    covey_event answer;
    int step;
};

static struct shared *make(void)
{
    struct shared *s = covey_calloc(1, sizeof *s);

    check_int(covey_event_init(&s->event), ==, 0);
    check_int(covey_event_init(&s->answer), ==, 0);
    return s;
}

static void end(struct shared *s)
{
    check_int(covey_event_destroy(&s->event), ==, 0);
    check_int(covey_event_destroy(&s->answer), ==, 0);
    check_int(covey_free(s), ==, 0);
}

TEST(an_event_is_set_and_cleared)
{
    struct shared *s = make();
    double start = test_now_s();

    check_int(covey_event_is_set(&s->event), ==, 0);
    check_fails(covey_event_wait(&s->event, 0), COVEY_ETIMEDOUT, "not set");
    check_int(covey_event_wait(&s->event, 0.05), ==, COVEY_ETIMEDOUT);
    check(test_now_s() - start >= 0.05);
    check_int(covey_event_set(&s->event), ==, 0);
    check_int(covey_event_set(&s->event), ==, 0);
    check_int(covey_event_is_set(&s->event), ==, 1);
    check_int(covey_event_wait(&s->event, -1), ==, 0);
    check_int(covey_event_wait(&s->event, COVEY_FOREVER), ==, 0);
    check_int(covey_event_clear(&s->event), ==, 0);
    check_int(covey_event_clear(&s->event), ==, 0);
    check_int(covey_event_is_set(&s->event), ==, 0);
    end(s);
}

static void wait_once(void *context)
{
    struct shared *s = context;

    word_add(&s->step, 1);
    check_int(covey_event_wait(&s->event, COVEY_FOREVER), ==, 0);
}

TEST(all_who_wait_go_on_though_the_event_is_cleared_at_once, .not_in_valgrind = "it takes too long")
{
    struct shared *s = make();

    for (int round = 1; round <= 20; round++) {
        pid_t pids[5];

        for (int i = 0; i < 5; i++)
            pids[i] = child_fork(wait_once, s);
        word_await(&s->step, 5 * round);
        for (int i = 0; i < 5; i++)
            child_await_sleep(pids[i]);
        check_int(covey_event_set(&s->event), ==, 0);
        check_int(covey_event_clear(&s->event), ==, 0);
        for (int i = 0; i < 5; i++)
            test_reap(pids[i], 0);
    }
    end(s);
}

TEST(a_killed_waiter_keeps_nobody_from_waking)
{
    struct shared *s = make();
    pid_t pids[4];

    for (int i = 0; i < 4; i++)
        pids[i] = child_fork(wait_once, s);
    word_await(&s->step, 4);
    child_await_sleep(pids[3]);
    child_kill(pids[0]);
    check_int(kill(pids[1], SIGSTOP), ==, 0);
    check_int(covey_event_set(&s->event), ==, 0);
    test_reap(pids[2], 0);
    test_reap(pids[3], 0);
    child_kill(pids[1]);
    end(s);
}

static int answer(void *argument)
{
    struct shared *s = *(struct shared **)argument;

    for (int i = 0; i < 2000; i++) {
        check_int(covey_event_wait(&s->event, COVEY_FOREVER), ==, 0);
        check_int(covey_event_clear(&s->event), ==, 0);
        check_int(covey_event_set(&s->answer), ==, 0);
    }
    return 0;
}

TEST_METHODS(two_processes_take_turns_by_events, 60)
{
    struct shared *s = make();
    covey_process *child = child_start(answer, s, method);

    for (int i = 0; i < 2000; i++) {
        check_int(covey_event_set(&s->event), ==, 0);
        check_int(covey_event_wait(&s->answer, COVEY_FOREVER), ==, 0);
        check_int(covey_event_clear(&s->answer), ==, 0);
    }
    child_join(child, 0);
    end(s);
    check_int(covey_close(), ==, 0);
}

TEST(misuse_of_an_event_is_named)
{
    struct shared *s = make();
    covey_event outside;

    check_fails(covey_event_init(&outside), COVEY_EINVAL, "not in the family's arena");
    check_fails(covey_event_set(NULL), COVEY_EINVAL, "event is NULL");
    check_fails(covey_event_wait((covey_event *)(void *)&s->step, 0), COVEY_EINVAL, "not an event");
    check_fails(covey_event_wait(&s->event, (double)NAN), COVEY_EINVAL, "not a number");
    check_int(covey_event_destroy(&s->event), ==, 0);
    check_fails(covey_event_is_set(&s->event), COVEY_EINVAL, "not an event");
    check_fails(covey_event_destroy(&s->event), COVEY_EINVAL, "not an event");
    check_int(covey_event_init(&s->event), ==, 0);
    end(s);
}
