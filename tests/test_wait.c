/* SPDX-License-Identifier: MIT */
/* Waiting for the first of several things, and the descriptors of objects. */
#include "children.h"
#include "os/clock.h"
#include "os/futex.h"
#include "runner.h"

#include <covey.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum {
    MANY = 100,
};

static bool is_readable_within(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int r = poll(&p, 1, ms);

    check_int(r, >=, 0);
    return r == 1;
}

static bool is_readable(int fd)
{
    return is_readable_within(fd, 0);
}

static void put_int(covey_queue *queue, int value)
{
    check_int(covey_queue_put_value(queue, value, COVEY_FOREVER), ==, 0);
}

static int get_int(covey_queue *queue)
{
    int value = -1;

    check_int(covey_queue_get_value(queue, &value, COVEY_FOREVER), ==, 0);
    return value;
}

static void check_is_empty(covey_queue *queue)
{
    check_int(covey_queue_get(queue, &(int){0}, sizeof(int), NULL, 0), ==, COVEY_EEMPTY);
}

static covey_event *new_event(void)
{
    covey_event *e = covey_calloc(1, sizeof *e);

    check_int(covey_event_init(e), ==, 0);
    return e;
}

static void free_event(covey_event *e)
{
    check_int(covey_event_destroy(e), ==, 0);
    check_int(covey_free(e), ==, 0);
}

static bool has_threads(void *n)
{
    return test_helper_threads() == *(const unsigned *)n;
}

/* A thread begins, and ends, a moment after the calls by which it does. */
static void check_threads(unsigned n)
{
    test_wait_for(has_threads, &n, 5);
}

/* Waiting for what is ready already ********************************************************** */

TEST(waiting_tells_which_things_are_ready)
{
    covey_queue *full, *empty, *closed;
    covey_pipe *here, *there;
    covey_event *set = new_event();
    covey_event *unset = new_event();

    check_int(covey_queue_open(&full), ==, 0);
    check_int(covey_queue_open(&empty), ==, 0);
    check_int(covey_queue_open(&closed), ==, 0);
    check_int(covey_pipe_open(&here, &there), ==, 0);
    put_int(full, 1);
    check_int(covey_queue_close(closed), ==, 0);
    check_int(covey_event_set(set), ==, 0);
    check_int(covey_pipe_send(there, "x", 1, 0), ==, 0);
    {
        struct covey_waited things[] = {COVEY_WAITED(full), COVEY_WAITED(empty),
            COVEY_WAITED(closed), COVEY_WAITED(here), COVEY_WAITED(there), COVEY_WAITED(set),
            COVEY_WAITED(unset), COVEY_WAITED(full)};

        check_int(covey_wait(things, 8, COVEY_FOREVER), ==, 5);
        for (int i = 0; i < 8; i++)
            check_int(things[i].ready, ==, i != 1 && i != 4 && i != 6);
        check_int(covey_wait(things + 1, 1, 0), ==, COVEY_ETIMEDOUT);
        check_fails(covey_wait(things + 1, 1, 0.01), COVEY_ETIMEDOUT, "within 0.01 s");
        check_int(things[1].ready, ==, 0);
    }
    check_threads(0);
    check_int(covey_pipe_close(there), ==, 0);
    check_int(covey_pipe_receive(here, (char[1]){0}, 1, NULL, 0), ==, 0);
    {
        struct covey_waited broken[] = {COVEY_WAITED(here)};

        check_int(covey_wait(broken, 1, COVEY_FOREVER), ==, 1);
    }
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_queue_free(full), ==, 0);
    check_int(covey_queue_free(empty), ==, 0);
    check_int(covey_queue_free(closed), ==, 0);
    free_event(set);
    free_event(unset);
}

TEST(waiting_names_what_cannot_be_waited_for)
{
    covey_queue *queue;
    covey_pipe *receiver, *sender;
    covey_process *self = covey_process_current();
    struct covey_waited thing, three[3];

    check_int(covey_queue_open(&queue), ==, 0);
    check_int(covey_pipe_open(&receiver, &sender, .one_way = true), ==, 0);
    thing = (struct covey_waited)COVEY_WAITED(queue);
    check_fails(covey_wait(NULL, 1, 0), COVEY_EINVAL, "NULL");
    check_fails(covey_wait(&thing, 1025, 0), COVEY_EINVAL, "up to 1024");
    check_fails(covey_wait(NULL, 1, 0), COVEY_EINVAL, "at NULL");
    check_fails(covey_wait(NULL, 0, 0.01), COVEY_ETIMEDOUT, "none of 0 things");
    check_fails(
        covey_wait(&(struct covey_waited){0}, 1, 0), COVEY_EINVAL, "thing 0: there is no kind 0");
    check_fails(covey_wait(&thing, 1, 0.0 / 0.0), COVEY_EINVAL, "number");
    thing.kind = (enum covey_waitable)99;
    check_fails(covey_wait(&thing, 1, 0), COVEY_EINVAL, "thing 0: there is no kind 99");
    thing = (struct covey_waited)COVEY_WAITED(-1);
    check_fails(covey_wait(&thing, 1, 0), COVEY_EINVAL, "thing 0: -1 is no descriptor");
    thing = (struct covey_waited){.kind = COVEY_WAIT_QUEUE};
    check_fails(covey_wait(&thing, 1, 0), COVEY_EINVAL, "thing 0: queue is NULL");
    thing = (struct covey_waited){.kind = COVEY_WAIT_QUEUE, .object = receiver};
    check_fails(covey_wait(&thing, 1, 0), COVEY_EINVAL, "is a pipe, not a queue");
    check_has(covey_error(), "thing 0: ");
    thing = (struct covey_waited)COVEY_WAITED(sender);
    check_fails(covey_wait(&thing, 1, 0), COVEY_ESTATE, "only sends");
    check_has(covey_error(), "thing 0: ");
    thing = (struct covey_waited)COVEY_WAITED(self);
    check_fails(
        covey_wait(&thing, 1, 0), COVEY_EINVAL, "thing 0: a process cannot wait for its own end");
    for (size_t i = 0; i < 3; i++)
        three[i] = (struct covey_waited)COVEY_WAITED(queue);
    three[2] = (struct covey_waited){.kind = COVEY_WAIT_PROCESS, .object = queue};
    check_fails(covey_wait(three, 3, 0), COVEY_EINVAL, "is not a process");
    check_has(covey_error(), "thing 2: ");
    check_int(covey_pipe_close(receiver), ==, 0);
    check_int(covey_pipe_close(sender), ==, 0);
    check_int(covey_queue_free(queue), ==, 0);
    check_fails(covey_wait(three, 3, 0), COVEY_EINVAL, "of this family");
    check_has(covey_error(), "thing 0: ");
    check_int(covey_queue_fd(queue), ==, COVEY_EINVAL);
    check_int(covey_queue_fd_close(queue), ==, COVEY_EINVAL);
    check_int(covey_pipe_fd(NULL), ==, COVEY_EINVAL);
    check_int(covey_event_fd(NULL), ==, COVEY_EINVAL);
}

/* Waiting for others ************************************************************************* */

struct many {
    covey_queue *queue[MANY];
    covey_event *event;
    covey_pipe *here;
    covey_pipe *there;
    int stop;
};

static struct many *open_many(int n)
{
    struct many *m = covey_calloc(1, sizeof *m);

    for (int i = 0; i < n; i++)
        check_int(covey_queue_open(&m->queue[i]), ==, 0);
    check_int(covey_pipe_open(&m->here, &m->there), ==, 0);
    m->event = new_event();
    return m;
}

static void free_many(struct many *m)
{
    for (int i = 0; i < MANY && m->queue[i]; i++)
        check_int(covey_queue_free(m->queue[i]), ==, 0);
    check_int(covey_pipe_close(m->here), ==, 0);
    check_int(covey_pipe_close(m->there), ==, 0);
    free_event(m->event);
    check_int(covey_free(m), ==, 0);
}

static void sort_out_server(enum covey_method method)
{
    if (method == COVEY_FORKSERVER)
        check_int(covey_close(), ==, 0);
}

/* Puts into each queue when the one before has been emptied; then sends; then sets. */
static int feed(void *argument)
{
    struct many *m = *(struct many **)argument;

    for (int i = 0; i < MANY && m->queue[i]; i++) {
        put_int(m->queue[i], i);
        while (covey_queue_is_empty(m->queue[i]) == 0)
            test_sleep_ms(1);
    }
    check_int(covey_pipe_send(m->there, "x", 1, COVEY_FOREVER), ==, 0);
    while (!word_get(&m->stop))
        test_sleep_ms(1);
    check_int(covey_event_set(m->event), ==, 0);
    return 0;
}

static void see_feeding(struct many *m, enum covey_method method, int n, bool with_process)
{
    covey_process *child = child_start(feed, m, method);
    struct covey_waited things[MANY + 3] = {COVEY_WAITED(child)};
    struct covey_waited *first = with_process ? things : things + 1;
    size_t count = (size_t)n + 2 + with_process;

    for (int i = 0; i < n; i++)
        things[1 + i] = (struct covey_waited)COVEY_WAITED(m->queue[i]);
    things[1 + n] = (struct covey_waited)COVEY_WAITED(m->here);
    things[2 + n] = (struct covey_waited)COVEY_WAITED(m->event);
    for (int i = 0; i < n; i++) {
        check_int(covey_wait(first, count, COVEY_FOREVER), ==, 1);
        check_int(things[1 + i].ready, ==, 1);
        check_int(get_int(m->queue[i]), ==, i);
    }
    check_int(covey_wait(first, count, COVEY_FOREVER), ==, 1);
    check_int(things[1 + n].ready, ==, 1);
    check_int(covey_pipe_receive(m->here, (char[1]){0}, 1, NULL, 0), ==, 0);
    check_int(covey_wait(first, count - 2, 0.02), ==, COVEY_ETIMEDOUT);
    word_set(&m->stop, 1);
    check_int(covey_wait(first, count, COVEY_FOREVER), >=, 1);
    check_int(things[2 + n].ready, ==, 1);
    check_int(covey_event_clear(m->event), ==, 0);
    if (with_process) {
        check_int(covey_wait(first, 1, COVEY_FOREVER), ==, 1);
        check_int(things[0].ready, ==, 1);
    }
    child_join(child, 0);
}

TEST_METHODS(a_few_objects_are_waited_for_without_a_thread, 30)
{
    struct many *m = open_many(5);

    see_feeding(m, method, 5, false);
    check_threads(0);
    free_many(m);
    sort_out_server(method);
}

TEST_METHODS(objects_are_waited_for_beside_a_process, 30, .not_in_valgrind = "it has no pidfds")
{
    struct many *m = open_many(5);
    unsigned descriptors = test_open_descriptors();

    see_feeding(m, method, 5, true);
    free_many(m);
    check_threads(0);
    if (method != COVEY_FORKSERVER) /* which stays */
        check_int(test_open_descriptors(), ==, descriptors);
    sort_out_server(method);
}

TEST_METHODS(many_objects_are_waited_for, 60, .not_in_valgrind = "it has no pidfds")
{
    struct many *m = open_many(MANY);

    see_feeding(m, method, MANY, true);
    free_many(m);
    check_threads(0);
    sort_out_server(method);
}

TEST(a_thousand_things_are_waited_for, .deadline_s = 60)
{
    static struct covey_waited things[1024];
    covey_queue *queue;
    int ends[2];

    check_int(covey_queue_open(&queue), ==, 0);
    check_int(pipe2(ends, O_CLOEXEC), ==, 0);
    for (int i = 0; i < 1024; i++)
        things[i] = i % 2 ? (struct covey_waited)COVEY_WAITED(queue)
                          : (struct covey_waited)COVEY_WAITED(ends[0]);
    check_int(covey_wait(things, 1024, 0.01), ==, COVEY_ETIMEDOUT);
    check_threads(1);
    put_int(queue, 1);
    check_int(covey_wait(things, 1024, COVEY_FOREVER), ==, 512);
    check_int(write(ends[1], "x", 1), ==, 1);
    check_int(covey_wait(things, 1024, COVEY_FOREVER), ==, 1024);
    check_int(things[0].ready, ==, POLLIN);
    (void)close(ends[0]);
    (void)close(ends[1]);
    check_int(covey_wait(things, 1, COVEY_FOREVER), ==, 1);
    check_int(things[0].ready, ==, POLLNVAL);
    check_int(covey_queue_free(queue), ==, 0);
    check_threads(0);
}

static int wait_for_parent(void *argument)
{
    covey_process *parent = covey_process_parent();
    struct covey_waited things[] = {COVEY_WAITED(parent)};
    int *word = *(int **)argument;

    check_int(covey_wait(things, 1, 0), ==, COVEY_ETIMEDOUT);
    word_set(word, 1);
    check_int(covey_wait(things, 1, COVEY_FOREVER), ==, 1);
    word_set(word, 2);
    return 0;
}

static void start_and_die(void *word)
{
    covey_process *p = NULL;

    check_int(covey_process_start(&p, wait_for_parent, COVEY_ARGUMENT(word)), ==, 0);
    word_await(word, 1);
    raise(SIGKILL);
}

TEST(no_more_descriptors_are_waited_for_than_a_process_may_have,
    .not_in_valgrind = "it needs some itself")
{
    struct covey_waited things[100];
    struct rlimit old;

    for (int i = 0; i < 100; i++)
        things[i] = (struct covey_waited)COVEY_WAITED(STDERR_FILENO);
    check_int(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
    check_int(setrlimit(RLIMIT_NOFILE, &(struct rlimit){99, old.rlim_max}), ==, 0);
    check_fails(covey_wait(things, 100, 0), COVEY_ELIMIT, "100 descriptors");
    check_int(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
}

TEST(waiting_for_more_than_there_are_descriptors_leaves_none,
    .not_in_valgrind = "it needs some itself")
{
    static struct covey_waited things[101];
    static covey_queue *queues[100];
    struct pollfd p = {.events = POLLIN};
    unsigned before;
    struct rlimit old;

    for (int i = 0; i < 100; i++) {
        check_int(covey_queue_open(&queues[i]), ==, 0);
        things[i] = (struct covey_waited)COVEY_WAITED(queues[i]);
    }
    things[100] = things[99]; /* one that is there twice, and may be the first that fails */
    things[99] = things[0];
    p.fd = covey_queue_fd(queues[1]);
    check_int(p.fd, >=, 0);
    before = test_open_descriptors();
    check_int(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
    check_int(setrlimit(RLIMIT_NOFILE, &(struct rlimit){110, old.rlim_max}), ==, 0);
    check_fails(covey_wait(things, 101, 0), COVEY_ELIMIT, "no descriptor");
    check_int(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
    check_int(test_open_descriptors(), ==, before);
    check_threads(1);
    put_int(queues[1], 1);
    check_int(poll(&p, 1, 10000), ==, 1);
    check_int(covey_wait(things, 101, 0), ==, 1); /* which keeps them */
    check_threads(100);
    check_int(get_int(queues[1]), ==, 1);
    for (int i = 0; i < 100; i++)
        check_int(covey_queue_free(queues[i]), ==, 0);
    check_threads(0);
}

TEST(a_process_that_others_have_started_is_waited_for, .needs_pidfds = true)
{
    int *word = covey_calloc(1, sizeof *word);

    test_reap(child_fork(start_and_die, word), SIGKILL);
    word_await(word, 2);
    check_int(covey_free(word), ==, 0);
}

/* Deaths ************************************************************************************* */

static int put_and_pause(void *argument)
{
    struct many *m = *(struct many **)argument;
    void *item;

    check_int(covey_queue_reserve(m->queue[0], 8, &item, COVEY_FOREVER), ==, 0);
    word_set(&m->stop, 1);
    pause();
    return 0;
}

static int put_one(void *argument)
{
    put_int(*(covey_queue **)argument, 1);
    return 0;
}

/* The end comes from the death alone. */
static void see_death(enum covey_method method, bool by_poll)
{
    struct many *m = covey_calloc(1, sizeof *m);
    covey_queue *queue;
    covey_process *victim, *other;
    struct covey_waited things[2];

    check_int(covey_queue_open(&queue, .producers = 2), ==, 0);
    m->queue[0] = queue;
    other = child_start(put_one, queue, method);
    child_join(other, 0);
    check_int(get_int(queue), ==, 1);
    victim = child_start(put_and_pause, m, method);
    word_await(&m->stop, 1);
    things[0] = (struct covey_waited)COVEY_WAITED(queue);
    things[1] = (struct covey_waited)COVEY_WAITED(victim);
    check_int(covey_wait(things, 1 + by_poll, 0.1), ==, COVEY_ETIMEDOUT);
    check_int(covey_process_kill(victim), ==, 0);
    check_int(covey_wait(things, 1, COVEY_FOREVER), ==, 1);
    check_int(covey_queue_get(queue, NULL, 0, NULL, 0), ==, COVEY_ECLOSED);
    if (by_poll) {
        check_int(covey_wait(things + 1, 1, COVEY_FOREVER), ==, 1);
        check(is_readable_within(covey_queue_fd(queue), 5000));
    }
    child_join(victim, -SIGKILL);
    check_int(covey_queue_free(queue), ==, 0);
    check_int(covey_free(m), ==, 0);
    sort_out_server(method);
}

TEST_METHODS(a_death_in_the_middle_of_a_put_ends_the_wait, 30)
{
    see_death(method, false);
}

TEST_METHODS(a_death_in_the_middle_of_a_put_is_seen_beside_a_process, 30,
    .not_in_valgrind = "it has no pidfds")
{
    see_death(method, true);
}

static int hold_until_killed(void *argument)
{
    check_int(covey_pipe_hold(*(covey_pipe **)argument), ==, 0);
    pause();
    return 0;
}

TEST_METHODS(a_broken_pipe_is_readable, 30)
{
    covey_pipe *here, *there;
    covey_process *child;
    int fd;

    check_int(covey_pipe_open(&here, &there), ==, 0);
    child = child_start(hold_until_killed, there, method);
    fd = covey_pipe_fd(here);
    check_int(fd, >=, 0);
    check_int(covey_pipe_poll(here, 0), ==, 0);
    check(!is_readable_within(fd, 50));
    check_int(covey_process_kill(child), ==, 0);
    check(is_readable_within(fd, 10000));
    check_int(covey_pipe_receive(here, NULL, 0, NULL, 0), ==, COVEY_ECLOSED);
    check(is_readable(fd));
    child_join(child, -SIGKILL);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    sort_out_server(method);
}

/* Descriptors ******************************************************************************** */

TEST(a_queue_is_readable_until_it_was_found_empty)
{
    covey_queue *queue;
    unsigned before = test_open_descriptors();
    int fd;

    check_int(covey_queue_open(&queue), ==, 0);
    fd = covey_queue_fd(queue);
    check_int(fd, >=, 3);
    check_int(covey_queue_fd(queue), ==, fd);
    check_int(fcntl(fd, F_GETFD), ==, FD_CLOEXEC);
    check_threads(1);
    for (int i = 0; i < 500; i++) {
        check(!is_readable(fd));
        put_int(queue, i);
        put_int(queue, i + 1);
        check(is_readable_within(fd, 5000));
        check_int(get_int(queue), ==, i);
        check(is_readable(fd));
        check_int(get_int(queue), ==, i + 1);
        check(is_readable(fd));
        check_is_empty(queue);
    }
    check(!is_readable_within(fd, 20));
    check_int(covey_queue_close(queue), ==, 0);
    check(is_readable_within(fd, 5000));
    check_int(covey_queue_get(queue, NULL, 0, NULL, 0), ==, COVEY_ECLOSED);
    check(is_readable(fd));
    check_int(covey_queue_fd_close(queue), ==, 0);
    check_threads(0);
    check_int(test_open_descriptors(), ==, before);
    check_int(covey_queue_fd_close(queue), ==, 0);
    check(is_readable_within(covey_queue_fd(queue), 5000));
    check_int(covey_queue_free(queue), ==, 0);
    check_threads(0);
}

TEST(an_event_is_readable_until_it_is_cleared)
{
    covey_event *e = new_event();
    int fd = covey_event_fd(e);

    check_int(fd, >=, 3);
    for (int i = 0; i < 200; i++) {
        check(!is_readable(fd));
        check_int(covey_event_set(e), ==, 0);
        check(is_readable_within(fd, 5000));
        check_int(covey_event_is_set(e), ==, 1);
        check(is_readable(fd));
        check_int(covey_event_clear(e), ==, 0);
    }
    check_int(covey_event_set(e), ==, 0);
    check(is_readable_within(fd, 5000));
    free_event(e);
    check_threads(0);
}

/* Each change is told once: whoever empties the queue then misses nothing. */
TEST(a_queue_tells_of_changes, .deadline_s = 60)
{
    enum {
        N = 3000
    };

    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    covey_queue *queue;
    int got = 0;
    pid_t pid;

    check_int(covey_queue_open(&queue), ==, 0);
    check_int(epoll_ctl(epoll, EPOLL_CTL_ADD, covey_queue_fd(queue), &event), ==, 0);
    pid = covey_fork();
    if (pid == 0) {
        for (int i = 0; i < N; i++) {
            put_int(queue, i);
            if (i % 7 == 0)
                test_sleep_ms(i % 3 == 0);
        }
        _exit(0);
    }
    while (got < N) {
        int value;

        check_int(epoll_wait(epoll, &event, 1, 10000), ==, 1);
        while (covey_queue_get_value(queue, &value, 0) == 0)
            check_int(value, ==, got++);
        check_int(covey_error_code(), ==, COVEY_EEMPTY);
    }
    test_reap(pid, 0);
    (void)close(epoll);
    check_int(covey_queue_free(queue), ==, 0);
}

static void *take_a_share(void *argument)
{
    covey_queue *queue = *(covey_queue **)argument;
    long got = 0;
    int value;
    int r;

    for (;;) {
        struct pollfd p = {.fd = covey_queue_fd(queue), .events = POLLIN};

        check_int(poll(&p, 1, 10000), ==, 1);
        while ((r = covey_queue_get_value(queue, &value, 0)) == 0)
            got++;
        if (r == COVEY_ECLOSED)
            return (void *)(intptr_t)got;
        check_int(r, ==, COVEY_EEMPTY);
    }
}

TEST(several_threads_and_processes_share_a_queue_by_descriptor, .deadline_s = 60)
{
    enum {
        N = 2000
    };

    pthread_t threads[3];
    covey_queue *queue;
    long *count = covey_calloc(1, sizeof *count);
    pid_t pid;

    check_int(covey_queue_open(&queue), ==, 0);
    if (!TEST_TSAN) { /* which cannot follow threads into a fork */
        check_int(covey_queue_fd(queue), >=, 0);
        check_threads(1); /* other sanitizers cannot while they begin */
    }
    pid = covey_fork();
    if (pid == 0) {
        check_threads(0);
        *count = (intptr_t)take_a_share(&queue);
        _exit(0);
    }
    for (int i = 0; i < 3; i++)
        check_int(pthread_create(&threads[i], NULL, take_a_share, &queue), ==, 0);
    for (int i = 0; i < N; i++) {
        put_int(queue, i);
        if (i % 50 == 0)
            test_sleep_ms(1);
    }
    check_int(covey_queue_close(queue), ==, 0);
    test_reap(pid, 0);
    for (int i = 0; i < 3; i++) {
        void *got;

        check_int(pthread_join(threads[i], &got), ==, 0);
        *count += (intptr_t)got;
    }
    check_int(*count, ==, N);
    check_int(covey_free(count), ==, 0);
    check_int(covey_queue_free(queue), ==, 0);
}

/* A while in which they do nothing: it may take them a moment to fall asleep. */
static bool are_idle(void *unused)
{
    long before = test_helper_switches();

    (void)unused;
    test_sleep_ms(400);
    return test_helper_switches() == before;
}

TEST(what_waits_uses_no_time, .not_in_valgrind = "it counts context switches")
{
    struct many *m = open_many(2);
    struct covey_waited things[] = {COVEY_WAITED(m->queue[0]), COVEY_WAITED(m->here),
        COVEY_WAITED(m->event), {.kind = COVEY_WAIT_DESCRIPTOR}};
    int ends[2];
    long before;

    if (test_is_old_kernel())
        test_skip("the kernel cannot wait for several words");
    check_int(pipe2(ends, O_CLOEXEC), ==, 0);
    things[3].descriptor = ends[0];
    check_int(covey_wait(things, 4, 0.05), ==, COVEY_ETIMEDOUT);
    check_threads(3);
    put_int(m->queue[0], 1); /* this one waits to be armed again */
    check_int(covey_wait(things, 4, COVEY_FOREVER), ==, 1);
    test_wait_for(are_idle, NULL, 5);
    check_int(get_int(m->queue[0]), ==, 1);
    before = test_status_of((int)syscall(SYS_gettid), "voluntary_ctxt_switches");
    check_int(covey_wait(things, 1, 0.4), ==, COVEY_ETIMEDOUT);
    check_int(test_status_of((int)syscall(SYS_gettid), "voluntary_ctxt_switches"), <=, before + 1);
    (void)close(ends[0]);
    (void)close(ends[1]);
    free_many(m);
}

/* Forks, and what the program does behind covey's back *************************************** */

TEST(a_forked_child_has_no_descriptor_and_asks_for_its_own)
{
    covey_queue *queue;
    pid_t pid;
    int fd;

    if (TEST_TSAN)
        test_skip("it cannot follow threads into a fork");
    check_int(covey_queue_open(&queue), ==, 0);
    fd = covey_queue_fd(queue);
    check_threads(1);
    for (int raw = 0; raw < 2; raw++) {
        pid = raw ? (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) : fork();
        if (pid == 0) {
            unsigned before = test_open_descriptors();

            check(raw || fcntl(fd, F_GETFD) == -1);
            check_int(covey_queue_fd(queue), >=, 3);
            check_int(test_open_descriptors(), ==, raw ? before : before + 2);
            check(is_readable_within(covey_queue_fd(queue), 5000));
            check_int(get_int(queue), ==, 1);
            check_int(covey_queue_fd_close(queue), ==, 0);
            _exit(0);
        }
        check_int(pid, >, 0);
        put_int(queue, 1);
        test_reap(pid, 0);
        check_is_empty(queue);
        check(!is_readable_within(fd, 20));
    }
    put_int(queue, 1);
    check(is_readable_within(fd, 5000));
    check_int(covey_queue_free(queue), ==, 0);
}

TEST(a_descriptor_that_the_program_has_closed_is_made_again)
{
    covey_queue *queue;
    unsigned before = test_open_descriptors();
    int other[2];
    int fd;

    check_int(covey_queue_open(&queue), ==, 0);
    fd = covey_queue_fd(queue);
    (void)close(fd);
    (void)close(fd + 1);
    check_int(pipe2(other, O_CLOEXEC), ==, 0);
    check_int(other[0], ==, fd);
    put_int(queue, 1);
    test_sleep_ms(20);
    check(!is_readable(other[0])); /* nothing was written to it */
    fd = covey_queue_fd(queue);
    check(fd != other[0]);
    check(is_readable_within(fd, 5000));
    check_int(fcntl(other[0], F_GETFD), ==, FD_CLOEXEC);
    (void)close(other[0]);
    (void)close(other[1]);
    check_int(covey_queue_free(queue), ==, 0);
    check_int(test_open_descriptors(), ==, before);
}

TEST(leaving_the_family_ends_the_threads)
{
    struct many *m = open_many(3);
    unsigned before = test_open_descriptors();

    for (int i = 0; i < 3; i++)
        check_int(covey_queue_fd(m->queue[i]), >=, 0);
    check_threads(3);
    free_many(m);
    check_int(covey_close(), ==, 0);
    check_threads(0);
    check_int(test_open_descriptors(), <=, before);
}

/* Objects that are freed ********************************************************************* */

static void free_queue(void *queue)
{
    check_int(covey_queue_free(queue), ==, 0);
}

TEST(a_queue_that_another_process_has_freed_is_readable)
{
    covey_queue *queue, *next;
    int fd;

    check_int(covey_queue_open(&queue), ==, 0);
    fd = covey_queue_fd(queue);
    test_sleep_ms(20);
    test_reap(child_fork(free_queue, queue), 0);
    check(is_readable_within(fd, 5000));
    check_int(covey_queue_get(queue, NULL, 0, NULL, 0), ==, COVEY_EINVAL);
    if (!TEST_TSAN) { /* which does not see what other processes do in between */
        check_int(covey_queue_open(&next), ==, 0); /* perhaps at the same place */
        check_int(covey_queue_fd(next), >=, 0);
        put_int(next, 1);
        check(is_readable_within(covey_queue_fd(next), 5000));
        check_int(covey_queue_free(next), ==, 0);
    }
    (void)covey_queue_fd_close(queue);
    check_threads(0);
}

static void *free_soon(void *queue)
{
    test_sleep_ms(30);
    free_queue(queue);
    return NULL;
}

TEST(a_queue_that_is_freed_ends_the_wait)
{
    covey_queue *queue;
    pthread_t thread;
    struct covey_waited thing;

    if (TEST_TSAN)
        test_skip("it is a race, of the kind that nobody should have");
    check_int(covey_queue_open(&queue), ==, 0);
    thing = (struct covey_waited)COVEY_WAITED(queue);
    check_int(pthread_create(&thread, NULL, free_soon, queue), ==, 0);
    check_fails(covey_wait(&thing, 1, COVEY_FOREVER), COVEY_EINVAL, "thing 0: ");
    check_int(pthread_join(thread, NULL), ==, 0);
}

/* Interrupts ********************************************************************************* */

static int interrupts;

static void on_signal(int signal)
{
    (void)signal;
}

/* Gives up the second time. */
static int on_interrupt(void *context)
{
    (void)context;
    return word_add(&interrupts, 1) >= 2;
}

static void *send_signals(void *thread)
{
    for (int i = 1; i <= 2; i++) {
        test_sleep_ms(30);
        while (word_get(&interrupts) < i) {
            (void)pthread_kill(*(pthread_t *)thread, SIGUSR1);
            test_sleep_ms(5);
        }
    }
    return NULL;
}

static void be_interrupted(struct covey_waited *things, size_t n)
{
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t self = pthread_self();
    pthread_t thread;

    word_set(&interrupts, 0);
    check_int(sigaction(SIGUSR1, &action, NULL), ==, 0);
    covey_on_interrupt(on_interrupt, NULL);
    check_int(pthread_create(&thread, NULL, send_signals, &self), ==, 0);
    check_int(covey_wait(things, n, COVEY_FOREVER), ==, COVEY_EINTR);
    check_int(pthread_join(thread, NULL), ==, 0);
    check_int(word_get(&interrupts), ==, 2);
    covey_on_interrupt(NULL, NULL);
}

TEST(an_interrupt_ends_the_wait)
{
    struct many *m = open_many(2);
    struct covey_waited things[] = {
        COVEY_WAITED(m->queue[0]), COVEY_WAITED(m->queue[1]), {.kind = COVEY_WAIT_DESCRIPTOR}};
    int ends[2];

    check_int(pipe2(ends, O_CLOEXEC), ==, 0);
    things[2].descriptor = ends[0];
    be_interrupted(things, 1);
    be_interrupted(things, 2);
    be_interrupted(things, 3);
    (void)close(ends[0]);
    (void)close(ends[1]);
    free_many(m);
}

struct ending {
    covey_queue *queue;
    int word;
};

static void *leave(void *queue)
{
    check_int(covey_queue_leave(queue), ==, 0);
    return NULL;
}

/* It stays in the lock, and has left the queue. */
static void hold_end(void *argument)
{
    struct ending *e = argument;
    pthread_t thread;
    void *item;

    check_int(covey_queue_reserve(e->queue, 8, &item, 0), ==, 0);
    check_int(pthread_create(&thread, NULL, leave, e->queue), ==, 0);
    check_int(pthread_join(thread, NULL), ==, 0);
    word_set(&e->word, 1);
    pause();
}

TEST(an_interrupt_is_heard_where_the_end_is_held_up, .deadline_s = 60)
{
    struct ending *e = covey_calloc(1, sizeof *e);
    int ends[2];
    pid_t pid;

    check_int(covey_queue_open(&e->queue, .items = 10, .producers = 1), ==, 0);
    pid = child_fork(hold_end, e);
    word_await(&e->word, 1);
    check_int(pipe2(ends, O_CLOEXEC), ==, 0);
    for (int i = 0; i < 5; i++) {
        struct covey_waited things[] = {
            COVEY_WAITED(e->queue), {.kind = COVEY_WAIT_DESCRIPTOR, .descriptor = ends[0]}};

        be_interrupted(things, 1);
        be_interrupted(things, 2);
    }
    child_kill(pid);
    (void)close(ends[0]);
    (void)close(ends[1]);
    check_int(covey_queue_free(e->queue), ==, 0);
    check_int(covey_free(e), ==, 0);
}

/* Futures ************************************************************************************ */

/* Goes on when the event is set; a negative number: dies of that signal. */
struct delayed {
    covey_event *event;
    int number;
};

static int do_when_set(const void *argument, void *result)
{
    const struct delayed *d = argument;

    check_int(covey_event_wait(d->event, COVEY_FOREVER), ==, 0);
    if (d->number < 0)
        raise(-d->number);
    *(int *)result = d->number;
    return 0;
}

static covey_future *submit_delayed(covey_pool *pool, covey_event *event, int number)
{
    struct delayed d = {event, number};
    covey_future *future = NULL;

    check_int(covey_pool_submit(
                  pool, &future, do_when_set, COVEY_ARGUMENT(d), .result_size = sizeof(int)),
        ==, 0);
    return future;
}

struct later {
    covey_event *event;
    pthread_t thread;
};

static void *set_after_a_while(void *event)
{
    test_sleep_ms(30);
    check_int(covey_event_set(event), ==, 0);
    return NULL;
}

static struct later set_later(covey_event *event)
{
    struct later l = {.event = event};

    check_int(pthread_create(&l.thread, NULL, set_after_a_while, event), ==, 0);
    return l;
}

static void check_result(covey_future *future, int number)
{
    int result = -1;
    int r = covey_future_get(future, &result, 0);

    if (number < 0)
        check_int(r, ==, COVEY_EDIED);
    else
        check(r == 0 && result == number);
}

/* The second of two that wait is told of its end, by a result or by a death; @n things: with a descriptor
 * among them. */
static void wait_for_second(covey_pool *pool, int number, size_t n)
{
    covey_event *first = new_event();
    covey_event *second = new_event();
    covey_future *futures[2] = {
        submit_delayed(pool, first, 1), submit_delayed(pool, second, number)};
    int ends[2];
    struct covey_waited things[] = {
        COVEY_WAITED(futures[0]), COVEY_WAITED(futures[1]), COVEY_WAITED(first), COVEY_WAITED(0)};
    struct later later;

    check_int(pipe2(ends, O_CLOEXEC), ==, 0);
    things[3].descriptor = ends[0];
    check_int(covey_wait(things, n, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_wait(things, n, 0.01), ==, COVEY_ETIMEDOUT);
    later = set_later(second);
    check_int(covey_wait(things, n, COVEY_FOREVER), ==, 1);
    check_int(things[0].ready, ==, 0);
    check_int(things[1].ready, ==, 1);
    check_result(futures[1], number);
    check_int(pthread_join(later.thread, NULL), ==, 0);
    later = set_later(first);
    check_int(covey_wait(things, 1, COVEY_FOREVER), ==, 1);
    check_int(pthread_join(later.thread, NULL), ==, 0);
    check_result(futures[0], 1);
    check_int(covey_wait(things, n, COVEY_FOREVER), ==, n < 3 ? (int)n : 3);
    for (int i = 0; i < 2; i++) {
        check_int(covey_future_free(futures[i]), ==, 0);
        (void)close(ends[i]);
    }
    free_event(first);
    free_event(second);
    check_threads(0);
}

TEST_METHODS(futures_are_waited_for, 60)
{
    covey_pool *pool = NULL;

    check_int(covey_pool_open(&pool, .workers = 2, .method = method), ==, 0);
    for (size_t n = 2; n <= 4; n++) {
        wait_for_second(pool, 7, n);
        wait_for_second(pool, -SIGKILL, n);
    }
    check_int(covey_pool_free(pool), ==, 0);
    check_int(covey_close(), ==, 0);
}

static int use_others_future(void *argument)
{
    covey_future *future = *(covey_future **)argument;
    struct covey_waited thing = COVEY_WAITED(future);

    check_fails(covey_wait(&thing, 1, 0), COVEY_ENOTOWNER, "thing 0: the pool is of pid");
    check_int(covey_future_fd(future), ==, COVEY_ENOTOWNER);
    check_int(covey_future_fd_close(future), ==, COVEY_ENOTOWNER);
    return 0;
}

TEST(a_future_is_readable_when_its_task_has_ended)
{
    covey_pool *pool = NULL;
    covey_event *event = new_event();
    covey_future *future;
    struct pollfd p = {.events = POLLIN};

    check_int(covey_pool_open(&pool, .workers = 1), ==, 0);
    future = submit_delayed(pool, event, 5);
    p.fd = covey_future_fd(future);
    check_int(p.fd, >=, 0);
    check_int(covey_future_fd(future), ==, p.fd);
    check_threads(1);
    check_int(poll(&p, 1, 20), ==, 0);
    check_int(covey_event_set(event), ==, 0);
    check_int(poll(&p, 1, -1), ==, 1);
    check_result(future, 5);
    check_int(poll(&p, 1, 0), ==, 1);
    child_join(child_start(use_others_future, future, COVEY_FORK), 0);
    check_int(covey_future_fd_close(future), ==, 0);
    check_threads(0);
    check_int(covey_future_fd(future), >=, 0); /* freeing it closes this one */
    check_int(covey_future_free(future), ==, 0);
    check_threads(0);
    check_int(covey_future_fd(future), ==, COVEY_EINVAL);
    check_int(covey_event_clear(event), ==, 0);
    future = submit_delayed(pool, event, -SIGKILL);
    p.fd = covey_future_fd(future);
    check_int(covey_event_set(event), ==, 0);
    check_int(poll(&p, 1, -1), ==, 1);
    check_result(future, -SIGKILL);
    check_int(covey_event_clear(event), ==, 0);
    future = submit_delayed(pool, event, 1);
    check_int(covey_future_fd(future), >=, 0);
    check_int(covey_pool_free(pool), ==, 0); /* and this */
    check_threads(0);
    free_event(event);
}

/* The worker dies, and there can be no other. */
/* The task tells who does it, and waits for its end. */
struct hanging {
    pid_t *pid;
    covey_event *never;
};

static int hang(const void *argument, void *result)
{
    const struct hanging *h = argument;

    (void)result;
    __atomic_store_n(h->pid, getpid(), __ATOMIC_SEQ_CST);
    return covey_event_wait(h->never, COVEY_FOREVER);
}

enum {
    WORKERS = 40,
};

/* One after the other, whose worker may be any. */
TEST(the_death_of_any_of_many_workers_ends_a_wait, .deadline_s = 60,
    .not_in_valgrind = "it has too many processes")
{
    covey_pool *pool = NULL;
    covey_event *never = new_event();
    covey_future *futures[WORKERS];
    pid_t *pids = covey_calloc(WORKERS, sizeof *pids);

    check_int(covey_pool_open(&pool, .workers = WORKERS), ==, 0);
    for (int i = 0; i < WORKERS; i++) {
        const struct hanging h = {&pids[i], never};

        check_int(covey_pool_submit(pool, &futures[i], hang, COVEY_ARGUMENT(h)), ==, 0);
    }
    for (int i = 0; i < WORKERS; i++) {
        struct covey_waited things[] = {COVEY_WAITED(futures[i])};

        word_await(&pids[i], 1);
        check_int(covey_wait(things, 1, 0.01), ==, COVEY_ETIMEDOUT);
        check_int(kill(pids[i], SIGKILL), ==, 0);
        check_int(covey_wait(things, 1, COVEY_FOREVER), ==, 1);
    }
    check_int(covey_pool_free(pool), ==, 0);
    check_int(covey_free(pids), ==, 0);
    free_event(never);
}

/* The futures of a pool have one alarm, and the same workers. */
TEST(who_waits_for_futures_uses_no_time, .not_in_valgrind = "it counts context switches")
{
    covey_pool *pool = NULL;
    covey_event *event = new_event();
    covey_future *futures[3];
    struct covey_waited things[3];
    long before;

    if (test_is_old_kernel())
        test_skip("the kernel cannot wait for several words");
    check_int(covey_pool_open(&pool, .workers = 3), ==, 0);
    for (int i = 0; i < 3; i++) {
        futures[i] = submit_delayed(pool, event, i);
        things[i] = (struct covey_waited)COVEY_WAITED(futures[i]);
    }
    check_int(covey_wait(things, 3, 0.1), ==, COVEY_ETIMEDOUT);
    before = test_status_of((int)syscall(SYS_gettid), "voluntary_ctxt_switches");
    check_int(covey_wait(things, 3, 0.5), ==, COVEY_ETIMEDOUT);
    check_int(test_status_of((int)syscall(SYS_gettid), "voluntary_ctxt_switches"), <=, before + 1);
    check_int(covey_event_set(event), ==, 0);
    check_int(covey_wait(things, 3, COVEY_FOREVER), >=, 1);
    check_int(covey_pool_free(pool), ==, 0);
    free_event(event);
}

TEST(a_future_whose_task_nobody_will_do_is_ready)
{
    covey_pool *pool = NULL;
    covey_event *event = new_event();
    covey_future *futures[2];
    struct covey_waited thing = {.kind = COVEY_WAIT_FUTURE};

    check_int(covey_pool_open(&pool, .workers = 1), ==, 0);
    futures[0] = submit_delayed(pool, event, -SIGKILL);
    futures[1] = submit_delayed(pool, event, 1);
    test_deny_processes(EAGAIN);
    check_int(covey_event_set(event), ==, 0);
    thing.object = futures[1];
    check_int(covey_wait(&thing, 1, COVEY_FOREVER), ==, 1);
    check_fails(covey_future_get(futures[1], NULL, COVEY_FOREVER), COVEY_ELIMIT, "broken");
    check_result(futures[0], -SIGKILL);
    check_int(covey_pool_free(pool), ==, 0);
    free_event(event);
}

/* Ordinary threads and urgent ones *********************************************************** */

struct shared_cpu {
    covey_queue *queue;
    cpu_set_t cpu;
    int over;
};

static void *ask_always(void *argument)
{
    struct shared_cpu *s = argument;

    check_int(sched_setaffinity(0, sizeof s->cpu, &s->cpu), ==, 0);
    while (!word_get(&s->over))
        check_int(covey_queue_fd(s->queue), >=, 0);
    return NULL;
}

/* It is there whenever the other one has the CPU, and so often has the lock, too. */
static void *ask_urgently(void *argument)
{
    struct shared_cpu *s = argument;
    double start_s = test_now_s();

    check_int(sched_setaffinity(0, sizeof s->cpu, &s->cpu), ==, 0);
    for (int i = 0; i < 200; i++) {
        test_sleep_ms(1);
        check_int(covey_queue_fd(s->queue), >=, 0);
    }
    check(test_now_s() - start_s < 5);
    word_set(&s->over, 1);
    return NULL;
}

static bool start_urgently(pthread_t *thread, struct shared_cpu *s)
{
    struct sched_param priority = {.sched_priority = 1};
    pthread_attr_t attributes;
    int error;

    check_int(pthread_attr_init(&attributes), ==, 0);
    check_int(pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED), ==, 0);
    check_int(pthread_attr_setschedpolicy(&attributes, SCHED_FIFO), ==, 0);
    check_int(pthread_attr_setschedparam(&attributes, &priority), ==, 0);
    error = pthread_create(thread, &attributes, ask_urgently, s);
    check_int(pthread_attr_destroy(&attributes), ==, 0);
    return error == 0;
}

static void choose_cpu(cpu_set_t *cpus)
{
    int cpu = 0;

    check_int(sched_getaffinity(0, sizeof *cpus, cpus), ==, 0);
    while (!CPU_ISSET(cpu, cpus))
        cpu++;
    CPU_ZERO(cpus);
    CPU_SET(cpu, cpus);
}

TEST(a_real_time_thread_lets_who_has_a_lock_give_it_back,
    .not_in_valgrind = "it has one CPU for all threads")
{
    struct shared_cpu s = {.over = 0};
    pthread_t ordinary, urgent;

    choose_cpu(&s.cpu);
    check_int(covey_queue_open(&s.queue), ==, 0);
    check_int(covey_queue_fd(s.queue), >=, 0);
    if (!start_urgently(&urgent, &s))
        test_skip("it may have no real-time threads");
    check_int(pthread_create(&ordinary, NULL, ask_always, &s), ==, 0);
    check_int(pthread_join(urgent, NULL), ==, 0);
    check_int(pthread_join(ordinary, NULL), ==, 0);
    check_int(covey_queue_free(s.queue), ==, 0);
}

/* Nobody wakes it: so it is who waits that finds what a waker has left who died before he could. */
TEST(a_nap_ends_by_itself)
{
    uint32_t words[2] = {0, 0};
    struct cv_futex_watch watch[2] = {{&words[0], 0}, {&words[1], 0}};

    check_int(cv_futex_nap(watch, 2, CV_FOREVER), ==, CV_FUTEX_RETRY);
    check_int(cv_futex_nap(watch, 2, cv_clock_now() + CV_NS_PER_MS), ==, CV_FUTEX_TIMEDOUT);
    words[1] = 1; /* only looked at, before */
    check_int(cv_futex_nap(watch, 2, 1), ==, CV_FUTEX_RETRY);
    check_int(cv_futex_nap(watch, 1, 1), ==, CV_FUTEX_TIMEDOUT);
    words[0] = 1;
    check_int(cv_futex_nap(watch, 1, 1), ==, CV_FUTEX_RETRY);
}
