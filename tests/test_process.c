/* SPDX-License-Identifier: MIT */
#include "runner.h"

#include <covey.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const enum covey_method methods[] = {COVEY_FORK, COVEY_SPAWN, COVEY_FORKSERVER};

struct shared {
    int step;
    int pid;
    int grandchild;
    int value;
};

static struct shared *make(void)
{
    struct shared *s = covey_calloc(1, sizeof *s);

    check(s != NULL);
    return s;
}

static void set(int *word, int value)
{
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static int see(int *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void await(int *word, int value)
{
    double end = test_now_s() + 10;

    while (see(word) != value) {
        check(test_now_s() < end);
        test_sleep_ms(1);
    }
}

static bool pid_runs(pid_t pid)
{
    char path[64];
    char state = 'Z';
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (!file)
        return false;
    if (fscanf(file, "%*d %*[^)]) %c", &state) != 1)
        state = 'Z';
    (void)fclose(file);
    return state != 'Z' && state != 'X';
}

static bool has_ended(void *pid)
{
    return !pid_runs(*(int *)pid);
}

static int end_with(void *argument)
{
    int how = *(int *)argument;

    switch (how) {
    case 1000:
        exit(7);
    case 1001:
        _exit(8);
    case 1002: {
        struct rlimit none = {0, 0};

        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGABRT, SIG_DFL);
        abort();
    }
    case 1003:
        (void)signal(SIGSEGV, SIG_DFL);
        (void)raise(SIGSEGV);
        return 0;
    case 1004:
        (void)kill(getpid(), SIGKILL);
        return 0;
    default:
        return how;
    }
}

static int exit_code_of(enum covey_method method, int how)
{
    covey_process *p;
    int code = 9999;

    check_int(covey_process_start(&p, end_with, COVEY_ARGUMENT(how), .method = method), ==, 0);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(p, &code), ==, 0);
    check_int(covey_process_is_alive(p), ==, 0);
    check_int(covey_process_close(p), ==, 0);
    return code;
}

static int run_for_ever(void *argument)
{
    (void)argument;
    for (;;)
        (void)pause();
    return 0;
}

/* The fork server would be a child that is left. */
static void end_server(void)
{
    check_int(covey_close(), ==, 0);
}

TEST_METHODS(exit_codes_are_right, 60)
{
    check_int(exit_code_of(method, 0), ==, 0);
    check_int(exit_code_of(method, 42), ==, 42);
    check_int(exit_code_of(method, 255), ==, 255);
    check_int(exit_code_of(method, 256), ==, 0);
    check_int(exit_code_of(method, -1), ==, 255);
    check_int(exit_code_of(method, 1000), ==, 7);
    check_int(exit_code_of(method, 1001), ==, 8);
    check_int(exit_code_of(method, 1002), ==, -SIGABRT);
    check_int(exit_code_of(method, 1003), ==, -SIGSEGV);
    check_int(exit_code_of(method, 1004), ==, -SIGKILL);
    end_server();
}

struct message {
    struct shared *shared;
    char text[2000];
};

static int look_at_argument(void *argument)
{
    struct message *m = argument;
    covey_process *me = covey_process_current();

    check_str(m->text, "from the parent");
    memset(m->text, 'x', sizeof m->text);
    check_str(covey_process_name(me), "reader");
    check_int(covey_process_pid(me), ==, getpid());
    check_int(covey_process_is_daemon(me), ==, 0);
    check_int(covey_process_pid(covey_process_parent()), ==, m->shared->pid);
    check_int(covey_process_is_alive(covey_process_parent()), ==, 1);
    check_int(covey_active_children(NULL, 0), ==, 0);
    m->shared->value = getpid();
    return 3;
}

TEST_METHODS(a_process_gets_a_copy_of_its_argument, 30)
{
    struct message m = {make(), "from the parent"};
    covey_process *p;
    int code;

    m.shared->pid = getpid();
    check_int(covey_process_start(
                  &p, look_at_argument, COVEY_ARGUMENT(m), .name = "reader", .method = method),
        ==, 0);
    check_str(covey_process_name(p), "reader");
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(p, &code), ==, 0);
    check_int(code, ==, 3);
    check_str(m.text, "from the parent");
    check_int(m.shared->value, ==, covey_process_pid(p));
    check_int(covey_process_close(p), ==, 0);
    check_int(covey_free(m.shared), ==, 0);
    end_server();
}

static int do_nothing(void *argument)
{
    (void)argument;
    return 0;
}

static int write_a_byte(void *argument)
{
    return write(*(int *)argument, "x", 1) == 1 ? 0 : 1;
}

static int wait_for_step(void *argument)
{
    struct shared *s = *(struct shared **)argument;

    set(&s->pid, getpid());
    await(&s->step, 1);
    return 5;
}

TEST_METHODS(a_running_process_can_be_watched, 30, .not_in_valgrind = "it needs pidfds")
{
    struct shared *s = make();
    covey_process *children[4];
    covey_process *p;
    struct pollfd poll_fd;
    int code;

    check_int(covey_process_start(&p, wait_for_step, COVEY_ARGUMENT(s), .method = method), ==, 0);
    check_fails(covey_process_exit_code(p, &code), COVEY_ESTATE, "running");
    check_fails(covey_process_close(p), COVEY_ESTATE, "running");
    check_fails(covey_process_join(p, 0), COVEY_ETIMEDOUT, "has not ended");
    check_int(covey_process_join(p, 0.05), ==, COVEY_ETIMEDOUT);
    check_int(covey_process_is_alive(p), ==, 1);
    check_int(covey_active_children(children, 4), ==, 1);
    check(children[0] == p);
    check(covey_process_find(covey_process_pid(p)) == p);
    poll_fd = (struct pollfd){.fd = covey_process_fd(p), .events = POLLIN};
    check(poll_fd.fd >= 0);
    check_int(poll(&poll_fd, 1, 20), ==, 0);
    while (!see(&s->pid))
        test_sleep_ms(1);
    check_int(s->pid, ==, covey_process_pid(p));
    set(&s->step, 1);
    check_int(poll(&poll_fd, 1, 10000), ==, 1);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_active_children(children, 4), ==, 0);
    check_int(covey_process_exit_code(p, &code), ==, 0);
    check_int(code, ==, 5);
    check_int(covey_process_close(p), ==, 0);
    check_fails(covey_process_join(p, 0), COVEY_EINVAL, "not a process");
    check_fails(covey_process_close(p), COVEY_EINVAL, "not a process");
    check_int(covey_free(s), ==, 0);
    end_server();
}

TEST_METHODS(a_process_can_be_terminated_and_killed, 30)
{
    for (int i = 0; i < 3; i++) {
        struct shared *s = make();
        covey_process *p;
        int code;

        check_int(
            covey_process_start(&p, wait_for_step, COVEY_ARGUMENT(s), .method = method), ==, 0);
        while (!see(&s->pid))
            test_sleep_ms(1);
        check_fails(covey_process_signal(p, 1000), COVEY_EINVAL, "1000");
        check_int(covey_process_signal(p, 0), ==, 0);
        check_int(i == 0   ? covey_process_terminate(p)
                  : i == 1 ? covey_process_kill(p)
                           : covey_process_signal(p, SIGUSR1),
            ==, 0);
        check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
        check_int(covey_process_kill(p), ==, 0); /* to the dead: no error, and nobody else */
        check_int(covey_process_exit_code(p, &code), ==, 0);
        check_int(code, ==, i == 0 ? -SIGTERM : i == 1 ? -SIGKILL : -SIGUSR1);
        check_int(covey_process_close(p), ==, 0);
        check_int(covey_free(s), ==, 0);
    }
    end_server();
}

static int own_blocks_and_wait(void *argument)
{
    struct shared *s = *(struct shared **)argument;

    check_int(covey_own(covey_alloc(1000)), ==, 0);
    check_int(covey_own(covey_alloc(1000000)), ==, 0);
    set(&s->pid, getpid());
    await(&s->step, 1);
    return 0;
}

static size_t blocks(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    check_int(covey_stats(&stats), ==, 0);
    return stats.blocks;
}

TEST_METHODS(a_joined_process_has_left_nothing, 30)
{
    struct shared *s = make();
    size_t before = blocks();
    covey_process *p;

    check_int(
        covey_process_start(&p, own_blocks_and_wait, COVEY_ARGUMENT(s), .method = method), ==, 0);
    while (!see(&s->pid))
        test_sleep_ms(1);
    check_int(blocks(), ==, before + 2);
    check_int(covey_process_kill(p), ==, 0);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(blocks(), ==, before);
    check_int(covey_process_close(p), ==, 0);
    check_int(covey_free(s), ==, 0);
    end_server();
}

/* Daemons ************************************************************************************ */

static int sleep_for_ever(void *argument)
{
    set(&(*(struct shared **)argument)->grandchild, getpid());
    for (;;)
        test_sleep_ms(1000);
    return 0;
}

/* As daemons do; and then opens others under the same numbers. */
static int close_all_and_sleep_for_ever(void *argument)
{
    for (int fd = 3; fd < 100; fd++)
        (void)close(fd);
    for (int i = 0; i < 20; i++)
        check_int(open("/dev/null", O_RDWR | O_CLOEXEC), >=, 0);
    return sleep_for_ever(argument);
}

struct order {
    struct shared *shared;
    enum covey_method method;
    bool from_thread;
    bool closes_all;
};

static void *start_a_daemon(void *argument)
{
    struct order *o = argument;
    covey_process *p;

    check_int(covey_process_start(&p, o->closes_all ? close_all_and_sleep_for_ever : sleep_for_ever,
                  COVEY_ARGUMENT(o->shared), .daemon = true, .method = o->method),
        ==, 0);
    check_int(covey_process_is_daemon(p), ==, 1);
    return NULL;
}

/* A child that starts a daemon, and is then killed or returns. */
static int have_a_daemon(void *argument)
{
    struct order *o = argument;
    pthread_t thread;

    if (o->from_thread) {
        check_int(pthread_create(&thread, NULL, start_a_daemon, o), ==, 0);
        check_int(pthread_join(thread, NULL), ==, 0);
        test_sleep_ms(100); /* the daemon must survive the thread that started it */
    } else {
        (void)start_a_daemon(o);
    }
    while (!see(&o->shared->grandchild))
        test_sleep_ms(1);
    check(pid_runs(o->shared->grandchild));
    set(&o->shared->pid, getpid());
    await(&o->shared->step, 1);
    return 0;
}

static void daemon_ends_with_parent(enum covey_method method, bool from_thread, bool kill_it)
{
    struct order o = {.shared = make(), .method = method, .from_thread = from_thread};
    covey_process *p;

    check_int(covey_process_start(&p, have_a_daemon, COVEY_ARGUMENT(o), .method = method), ==, 0);
    while (!see(&o.shared->pid))
        test_sleep_ms(1);
    check(pid_runs(o.shared->grandchild));
    if (kill_it)
        check_int(covey_process_kill(p), ==, 0);
    else
        set(&o.shared->step, 1);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    test_wait_for(has_ended, &o.shared->grandchild, 10);
    check_int(covey_process_close(p), ==, 0);
    check_int(covey_free(o.shared), ==, 0);
}

TEST_METHODS(a_daemon_ends_with_its_parent, 60)
{
    daemon_ends_with_parent(method, false, false);
    daemon_ends_with_parent(method, false, true);
    daemon_ends_with_parent(method, true, false);
    daemon_ends_with_parent(method, true, true);
    end_server();
}

TEST_METHODS(a_daemon_ends_with_its_parent_without_pidfds, 60)
{
    test_deny(SYS_pidfd_open, ENOSYS);
    daemon_ends_with_parent(method, true, false);
    end_server();
}

/* What it watches its parent by is closed, and the kernel looks there again after a stop. */
TEST_METHODS(a_daemon_that_closes_all_descriptors_survives_a_stop, 60)
{
    struct order o = {.shared = make(), .method = method, .from_thread = true, .closes_all = true};
    covey_process *p;

    check_int(covey_process_start(&p, have_a_daemon, COVEY_ARGUMENT(o), .method = method), ==, 0);
    while (!see(&o.shared->pid))
        test_sleep_ms(1);
    check_int(kill(o.shared->grandchild, SIGSTOP), ==, 0);
    test_sleep_ms(50);
    check_int(kill(o.shared->grandchild, SIGCONT), ==, 0);
    test_sleep_ms(300);
    check(pid_runs(o.shared->grandchild));
    check_int(covey_process_kill(p), ==, 0);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    test_wait_for(has_ended, &o.shared->grandchild, 10);
    check_int(covey_process_close(p), ==, 0);
    check_int(covey_free(o.shared), ==, 0);
    end_server();
}

struct household {
    struct shared *shared;
    void *block;
};

static int have_daemons_and_memory(void *argument)
{
    struct household *h = *(struct household **)argument;
    covey_process *p;

    for (int i = 0; i < 4; i++)
        check_int(
            covey_process_start(&p, sleep_for_ever, COVEY_ARGUMENT(h->shared), .daemon = true), ==,
            0);
    h->block = covey_alloc(1000000);
    check_int(covey_own(h->block), ==, 0);
    set(&h->shared->step, 1);
    return run_for_ever(NULL);
}

/* Its daemons, which need a moment to end, may have been writing to it until then. */
TEST(the_memory_of_a_killed_process_with_daemons_is_free_when_it_is_joined,
    .not_in_valgrind = "it measures time")
{
    int freed = 0;

    for (int round = 0; round < 20; round++) {
        struct household *h = covey_calloc(1, sizeof *h);
        covey_process *p;

        h->shared = make();
        check_int(covey_process_start(&p, have_daemons_and_memory, COVEY_ARGUMENT(h)), ==, 0);
        await(&h->shared->step, 1);
        check(covey_owner(h->block) == covey_process_pid(p));
        check_int(covey_process_kill(p), ==, 0);
        check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
        freed += covey_owner(h->block) == COVEY_EINVAL;
        check_int(covey_process_close(p), ==, 0);
        check_int(covey_free(h->shared), ==, 0);
        check_int(covey_free(h), ==, 0);
    }
    check_int(freed, >=, 15); /* a machine that is very busy may keep one waiting */
}

static int be_a_daemon_with_a_daemon(void *argument)
{
    struct order *o = argument;
    covey_process *p;

    check_int(covey_process_start(&p, sleep_for_ever, COVEY_ARGUMENT(o->shared), .daemon = true,
                  .method = o->method),
        ==, 0);
    set(&o->shared->pid, getpid());
    for (;;)
        test_sleep_ms(1000);
    return 0;
}

static int have_daemons_below(void *argument)
{
    struct order *o = argument;
    covey_process *p;

    check_int(covey_process_start(&p, be_a_daemon_with_a_daemon, COVEY_ARGUMENT(*o), .daemon = true,
                  .method = o->method),
        ==, 0);
    for (;;)
        test_sleep_ms(1000);
    return 0;
}

TEST_METHODS(daemons_of_daemons_end_too, 60)
{
    struct order o = {.shared = make(), .method = method};
    covey_process *p;

    check_int(
        covey_process_start(&p, have_daemons_below, COVEY_ARGUMENT(o), .method = method), ==, 0);
    while (!see(&o.shared->pid) || !see(&o.shared->grandchild))
        test_sleep_ms(1);
    check_int(covey_process_kill(p), ==, 0);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    test_wait_for(has_ended, &o.shared->pid, 10);
    test_wait_for(has_ended, &o.shared->grandchild, 10);
    check_int(covey_process_close(p), ==, 0);
    check_int(covey_free(o.shared), ==, 0);
    end_server();
}

/* Many, and in parallel ********************************************************************** */

static int sleep_300_ms(void *argument)
{
    (void)argument;
    test_sleep_ms(300);
    return 0;
}

TEST_METHODS(
    joins_cost_the_longest_child_and_not_the_sum, 60, .not_in_valgrind = "it measures time")
{
    covey_process *p[10];
    double start;

    check_int(exit_code_of(method, 0), ==, 0); /* the server is there */
    start = test_now_s();
    for (int i = 0; i < 10; i++)
        check_int(covey_process_start(&p[i], sleep_300_ms, .method = method), ==, 0);
    for (int i = 0; i < 10; i++) {
        check_int(covey_process_join(p[i], COVEY_FOREVER), ==, 0);
        check_int(covey_process_close(p[i]), ==, 0);
    }
    check(test_now_s() - start >= 0.3);
    check(test_now_s() - start < 2.9);
    end_server();
}

static void *start_many(void *argument)
{
    enum covey_method method = *(enum covey_method *)argument;

    for (int i = 0; i < 15; i++)
        check_int(exit_code_of(method, i), ==, i);
    return NULL;
}

TEST_METHODS(threads_may_start_processes_at_once, 120,
    .not_in_valgrind = "what a thread has allocated is lost when another one forks")
{
    pthread_t threads[4];

    check_int(exit_code_of(method, 0), ==, 0);
    for (int i = 0; i < 4; i++)
        check_int(pthread_create(&threads[i], NULL, start_many, &method), ==, 0);
    for (int i = 0; i < 4; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
    end_server();
}

static int count_up(void *argument)
{
    __atomic_fetch_add(&(*(struct shared **)argument)->value, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static bool all_counted(void *argument)
{
    return see(&((struct shared *)argument)->value) == 30;
}

static bool no_children(void *unused)
{
    siginfo_t info = {0};

    (void)unused;
    (void)covey_active_children(NULL, 0);
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 && errno == ECHILD;
}

TEST(detached_processes_leave_no_zombies)
{
    struct shared *s = make();

    for (int i = 0; i < 30; i++)
        check_int(covey_process_start(NULL, count_up, COVEY_ARGUMENT(s)), ==, 0);
    test_wait_for(all_counted, s, 10);
    test_wait_for(no_children, NULL, 10);
    check_int(covey_free(s), ==, 0);
}

TEST_METHODS(a_process_may_start_processes, 30)
{
    struct order o = {.shared = make(), .method = method};
    covey_process *p;

    check_int(covey_process_start(&p, have_a_daemon, COVEY_ARGUMENT(o), .method = method), ==, 0);
    while (!see(&o.shared->pid))
        test_sleep_ms(1);
    set(&o.shared->step, 1);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_process_close(p), ==, 0);
    check_int(covey_free(o.shared), ==, 0);
    end_server();
}

/* Others look ******************************************************************************** */

struct pair {
    struct shared *shared;
    covey_process *watched;
};

static int watch_a_sibling(void *argument)
{
    struct pair *pair = argument;
    int code = 0;

    check_int(covey_process_is_alive(pair->watched), ==, 1);
    check_fails(covey_process_fd(pair->watched), COVEY_ENOTOWNER, "not started by this process");
    check_fails(covey_process_close(pair->watched), COVEY_ENOTOWNER, "not started by this process");
    check_int(covey_process_join(pair->watched, 0.05), ==, COVEY_ETIMEDOUT);
    check_int(covey_process_kill(pair->watched), ==, 0);
    check_int(covey_process_join(pair->watched, COVEY_FOREVER), ==, 0);
    check_int(covey_process_is_alive(pair->watched), ==, 0);
    if (covey_process_exit_code(pair->watched, &code) == 0)
        check_int(code, ==, -SIGKILL);
    return 0;
}

TEST_METHODS(any_member_may_join_and_kill_another, 30, .not_in_valgrind = "it needs pidfds")
{
    struct pair pair = {make(), NULL};
    covey_process *watcher;
    int code;

    check_int(covey_process_start(
                  &pair.watched, wait_for_step, COVEY_ARGUMENT(pair.shared), .method = method),
        ==, 0);
    while (!see(&pair.shared->pid))
        test_sleep_ms(1);
    check_int(
        covey_process_start(&watcher, watch_a_sibling, COVEY_ARGUMENT(pair), .method = method), ==,
        0);
    check_int(covey_process_join(watcher, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(watcher, &code), ==, 0);
    check_int(code, ==, 0);
    check_int(covey_process_join(pair.watched, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(pair.watched, &code), ==, 0);
    check_int(code, ==, -SIGKILL);
    check_int(covey_process_close(watcher), ==, 0);
    check_int(covey_process_close(pair.watched), ==, 0);
    check_int(covey_free(pair.shared), ==, 0);
    end_server();
}

static void *join_from_thread(void *process)
{
    int code = 0;

    check_int(covey_process_join(process, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(process, &code), ==, 0);
    check_int(code, ==, 5);
    return NULL;
}

TEST_METHODS(several_threads_may_join_one_process, 30)
{
    struct shared *s = make();
    pthread_t threads[4];
    covey_process *p;

    check_int(covey_process_start(&p, wait_for_step, COVEY_ARGUMENT(s), .method = method), ==, 0);
    for (int i = 0; i < 4; i++)
        check_int(pthread_create(&threads[i], NULL, join_from_thread, p), ==, 0);
    test_sleep_ms(20);
    set(&s->step, 1);
    for (int i = 0; i < 4; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
    check_int(covey_process_close(p), ==, 0);
    check_int(covey_free(s), ==, 0);
    end_server();
}

struct race {
    covey_process *process;
    pthread_barrier_t *start;
};

/* The kernel gives the status to one of them; none may take it for lost. */
static void *see_the_kill(void *argument)
{
    struct race *race = argument;
    int code = 0;

    (void)pthread_barrier_wait(race->start);
    check_int(covey_process_join(race->process, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(race->process, &code), ==, 0);
    check_int(code, ==, -SIGKILL);
    return NULL;
}

TEST(threads_that_join_a_killed_process_at_once_all_see_its_signal, 60)
{
    pthread_barrier_t start;

    check_int(pthread_barrier_init(&start, NULL, 3), ==, 0);
    for (int round = 0; round < 500; round++) {
        struct race race = {.start = &start};
        pthread_t threads[3];

        check_int(covey_process_start(&race.process, run_for_ever), ==, 0);
        for (int i = 0; i < 3; i++)
            check_int(pthread_create(&threads[i], NULL, see_the_kill, &race), ==, 0);
        check_int(covey_process_kill(race.process), ==, 0);
        for (int i = 0; i < 3; i++)
            check_int(pthread_join(threads[i], NULL), ==, 0);
        check_int(covey_process_close(race.process), ==, 0);
    }
    (void)pthread_barrier_destroy(&start);
}

/* A child of the program's own that has @pid and has ended; skips the test where none can be had. */
static void have_a_zombie(pid_t pid)
{
    for (int i = 0; i < 1000; i++) {
        FILE *file = fopen("/proc/sys/kernel/ns_last_pid", "we");
        pid_t child;

        if (!file)
            test_skip("the next pid cannot be chosen here");
        (void)fprintf(file, "%d", (int)pid - 1);
        (void)fclose(file);
        child = fork();
        if (child == 0)
            _exit(3);
        check_int(waitid(P_PID, (id_t)child, &(siginfo_t){0}, WEXITED | WNOWAIT), ==, 0);
        if (child == pid)
            return;
        test_reap(child, 3 << 8);
    }
    test_skip("pid %d did not come back", (int)pid);
}

/* The program has taken the status of ours, and then has a child with the same number. */
TEST(another_child_with_a_pid_of_ours_is_left_alone, .not_in_valgrind = "it needs pidfds")
{
    covey_process *p;
    pid_t pid;

    check_int(covey_process_start(&p, run_for_ever, .method = COVEY_FORK), ==, 0);
    pid = covey_process_pid(p);
    check_int(kill(pid, SIGKILL), ==, 0);
    check_int(waitpid(-1, NULL, 0), ==, pid);
    have_a_zombie(pid);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_process_close(p), ==, 0);
    test_reap(pid, 3 << 8);
}

/* What kills and closing leave ************************************************************* */

TEST_METHODS(a_parent_that_closes_all_descriptors_keeps_its_child, 30)
{
    bool is_the_programs[100];
    struct shared *s;
    covey_process *p;
    int code = -1;

    for (int fd = 0; fd < 100; fd++)
        is_the_programs[fd] = fcntl(fd, F_GETFD) >= 0;
    s = make();
    check_int(covey_process_start(&p, wait_for_step, COVEY_ARGUMENT(s), .method = method), ==, 0);
    while (!see(&s->pid))
        test_sleep_ms(1);
    for (int fd = 0; fd < 100; fd++) {
        if (!is_the_programs[fd])
            (void)close(fd);
    }
    check_int(covey_process_is_alive(p), ==, 1);
    check_int(covey_process_join(p, 0.05), ==, COVEY_ETIMEDOUT);
    set(&s->step, 1);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(p, &code), ==, 0);
    check_int(code, ==, 5);
    check_int(covey_process_close(p), ==, 0);
    check_int(covey_free(s), ==, 0);
    end_server();
}

/* That of a process that has ended is not one of the kinds that all have one inode. */
TEST(closing_a_process_closes_no_descriptor_of_the_programs, .not_in_valgrind = "it needs pidfds")
{
    struct pollfd fd = {.events = POLLIN};
    covey_process *p;

    check_int(covey_process_start(&p, do_nothing, .method = COVEY_FORK), ==, 0);
    check_int(close(covey_process_fd(p)), ==, 0);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    fd.fd = covey_process_fd(p);
    check_int(poll(&fd, 1, 0), ==, 1);
    check_int(fd.revents & POLLIN, ==, POLLIN);
    check_int(close(fd.fd), ==, 0);
    check_int(epoll_create1(EPOLL_CLOEXEC), ==, fd.fd);
    check_int(covey_process_close(p), ==, 0);
    check_int(close(fd.fd), ==, 0);
}

TEST(joining_a_child_of_a_dead_fork_server_keeps_its_timeout)
{
    struct shared *s = make();
    struct rusage before;
    struct rusage after;
    covey_process *p;
    double start;

    check_int(covey_process_start(&p, wait_for_step, COVEY_ARGUMENT(s), .method = COVEY_FORKSERVER),
        ==, 0);
    while (!see(&s->pid))
        test_sleep_ms(1);
    check_int(kill((pid_t)test_status_of(see(&s->pid), "PPid"), SIGKILL), ==, 0);
    test_sleep_ms(100);
    start = test_now_s();
    check_int(getrusage(RUSAGE_SELF, &before), ==, 0);
    check_int(covey_process_join(p, 0.5), ==, COVEY_ETIMEDOUT);
    check_int(getrusage(RUSAGE_SELF, &after), ==, 0);
    check(test_now_s() - start < 5);
    check_int(after.ru_utime.tv_usec + after.ru_stime.tv_usec, <,
        before.ru_utime.tv_usec + before.ru_stime.tv_usec + 200000);
    set(&s->step, 1);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_process_close(p), ==, 0);
    check_int(covey_free(s), ==, 0);
    end_server();
}

static int count_one(void *argument)
{
    struct shared *s = *(struct shared **)argument;

    (void)__atomic_fetch_add(&s->value, 1, __ATOMIC_SEQ_CST);
    return 0;
}

TEST_METHODS(
    what_was_started_runs_though_its_parent_ends, 60, .not_in_valgrind = "it takes too long")
{
    struct shared *s = make();

    for (int i = 0; i < 30; i++) {
        pid_t parent = fork();

        if (parent == 0) {
            check_int(
                covey_process_start(NULL, count_one, COVEY_ARGUMENT(s), .method = method), ==, 0);
            _exit(0);
        }
        test_reap(parent, 0);
        check(covey_active_children(NULL, 0) == 0);
        check_int(covey_stats(&(struct covey_stats){.size = sizeof(struct covey_stats)}), ==, 0);
    }
    await(&s->value, 30);
    check_int(covey_free(s), ==, 0);
}

TEST_METHODS(what_was_started_runs_though_its_parent_leaves_the_family, 60,
    .not_in_valgrind = "it takes too long")
{
    int ends[2];
    char byte;

    check_int(pipe(ends), ==, 0);
    for (int i = 0; i < 20; i++) {
        covey_process *p;

        check_int(covey_process_start(&p, write_a_byte, COVEY_ARGUMENT(ends[1]), .method = method),
            ==, 0);
        check_int(covey_close(), ==, 0);
    }
    for (int i = 0; i < 20; i++)
        check_int(read(ends[0], &byte, 1), ==, 1);
    while (waitpid(-1, NULL, 0) > 0) {
    }
    check_int(close(ends[0]), ==, 0);
    check_int(close(ends[1]), ==, 0);
}

struct detaching {
    enum covey_method method;
    int stop;
};

static void *start_detached(void *argument)
{
    struct detaching *d = argument;

    while (!see(&d->stop))
        check_int(covey_process_start(NULL, do_nothing, .method = d->method), ==, 0);
    return NULL;
}

TEST_METHODS(threads_that_start_detached_processes_disturb_no_handle, 60,
    .not_in_valgrind = "it takes too long")
{
    struct detaching d = {.method = method};
    pthread_t threads[3];
    double end = test_now_s() + 3;

    check_int(covey_open(), ==, 0); /* for who opens it is the one to close it */
    for (int i = 0; i < 3; i++)
        check_int(pthread_create(&threads[i], NULL, start_detached, &d), ==, 0);
    while (test_now_s() < end) {
        int ends[2];
        covey_process *p;

        check_int(pipe(ends), ==, 0);
        check_int(covey_process_start(&p, do_nothing, .method = method), ==, 0);
        check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
        check_int(covey_process_close(p), ==, 0);
        check_int(close(ends[0]), ==, 0); /* nobody else has closed them */
        check_int(close(ends[1]), ==, 0);
    }
    set(&d.stop, 1);
    for (int i = 0; i < 3; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
    if (method == COVEY_FORKSERVER)
        end_server();
    while (waitid(P_ALL, 0, &(siginfo_t){0}, WEXITED | WNOHANG | WNOWAIT) == 0) {
        check_int(covey_active_children(NULL, 0), ==, 0); /* takes the zombies away */
        test_sleep_ms(1);
    }
}

static int use_a_library(void *argument)
{
    (void)argument;
    check_int(covey_open(), ==, 0); /* as a library does that does not know of others */
    check_int(covey_close(), ==, 0);
    return covey_process_current() ? 6 : 1;
}

TEST_METHODS(a_library_that_opens_and_closes_does_not_end_the_membership, 30)
{
    covey_process *p;
    int code = 0;

    check_int(covey_process_start(&p, use_a_library, .method = method), ==, 0);
    check_int(use_a_library(NULL), ==, 6);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(p, &code), ==, 0);
    check_int(code, ==, 6);
    check_int(covey_process_close(p), ==, 0);
    end_server();
}

static int leave(void *argument)
{
    (void)argument;
    return covey_close() == 0 ? 7 : 1;
}

TEST_METHODS(a_child_may_leave_the_family, 30)
{
    covey_process *p;
    int code = 0;

    check_int(covey_process_start(&p, leave, .method = method), ==, 0);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(p, &code), ==, 0);
    check_int(code, ==, 7);
    check_int(covey_process_close(p), ==, 0);
    end_server();
}

/* A guest ************************************************************************************ */

TEST_METHODS(a_program_that_ignores_sigchld_can_join, 30)
{
    covey_process *p;
    int how = 6;
    int code = 0;
    int r;

    (void)signal(SIGCHLD, SIG_IGN);
    check_int(covey_process_start(&p, end_with, COVEY_ARGUMENT(how), .method = method), ==, 0);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    r = covey_process_exit_code(p, &code);
    check_int(r, ==, 0); /* what the function returned is known in any case */
    check_int(code, ==, 6);
    check_int(covey_process_close(p), ==, 0);
    end_server();
}

TEST(a_program_that_waits_for_any_child_can_join)
{
    struct shared *s = make();
    covey_process *p;
    int code = 0;
    int r;

    check_int(covey_process_start(&p, wait_for_step, COVEY_ARGUMENT(s)), ==, 0);
    check_int(covey_process_kill(p), ==, 0);
    check_int(waitpid(-1, NULL, 0), ==, covey_process_pid(p));
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    r = covey_process_exit_code(p, &code);
    check(r == COVEY_EDIED || (r == 0 && code == -SIGKILL)); /* by the kernel's version */
    check_int(covey_process_close(p), ==, 0);
    check_int(covey_free(s), ==, 0);
}

TEST_METHODS(starting_changes_nothing_of_the_programs, 30)
{
    struct sigaction before[65];
    sigset_t mask_before;
    sigset_t mask;

    memset(&mask_before, 0, sizeof mask_before);
    memset(&mask, 0, sizeof mask);
    (void)sigprocmask(SIG_SETMASK, NULL, &mask_before);
    for (int i = 1; i < 65; i++)
        (void)sigaction(i, NULL, &before[i]);
    check_int(exit_code_of(method, 1), ==, 1);
    for (int i = 1; i < 65; i++) {
        struct sigaction now;

        if (sigaction(i, NULL, &now) == 0)
            check(now.sa_handler == before[i].sa_handler);
    }
    (void)sigprocmask(SIG_SETMASK, NULL, &mask);
    check(memcmp(&mask, &mask_before, sizeof mask) == 0);
    end_server();
}

static int look_at_signals(void *argument)
{
    sigset_t mask;
    struct sigaction action;

    (void)argument;
    (void)sigprocmask(SIG_SETMASK, NULL, &mask);
    (void)sigaction(SIGINT, NULL, &action);
    return sigismember(&mask, SIGCHLD) == 0 && action.sa_handler == SIG_DFL ? 0 : 1;
}

TEST_METHODS(children_have_the_signals_that_they_would_have, 30,
    .not_in_valgrind = "valgrind has a signal of its own")
{
    covey_process *p;
    int code = 9;

    check_int(covey_process_start(&p, look_at_signals, .method = method), ==, 0);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(p, &code), ==, 0);
    check_int(code, ==, 0);
    check_int(covey_process_close(p), ==, 0);
    end_server();
}

/* covey_fork ********************************************************************************* */

TEST(fork_returns_twice)
{
    struct shared *s = make();
    int n = 100;
    pid_t parent = getpid();
    covey_process *p;
    pid_t pid = covey_fork();
    int code;

    if (pid == 0) {
        n = 0;         /* a copy */
        s->value = 77; /* shared */
        check_int(getppid(), ==, parent);
        check_int(covey_process_pid(covey_process_parent()), ==, parent);
        await(&s->step, 1);
        _exit(11);
    }
    check_int(pid, >, 0);
    p = covey_process_find(pid);
    check(p != NULL);
    set(&s->step, 1);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(p, &code), ==, 0);
    check_int(code, ==, 11);
    check_int(n, ==, 100);
    check_int(s->value, ==, 77);
    check_int(covey_process_close(p), ==, 0);
    check(covey_process_find(pid) == NULL);
    check_int(covey_error_code(), ==, COVEY_EINVAL);
    check_int(covey_free(s), ==, 0);
}

static void *take_detached_away(void *stop)
{
    while (!see(stop))
        check_int(covey_active_children(NULL, 0), >=, 0);
    return NULL;
}

/* While another thread looks whether it has ended. */
TEST(
    a_running_forked_child_is_always_found, .not_in_valgrind = "it needs more memory than there is")
{
    covey_process *children[100];
    pthread_t thread;
    int stop = 0;

    check_int(covey_open(), ==, 0);
    check_int(pthread_create(&thread, NULL, take_detached_away, &stop), ==, 0);
    for (int i = 0; i < 100; i++) {
        pid_t pid = covey_fork();

        if (pid == 0)
            (void)run_for_ever(NULL);
        test_sleep_ms(1);
        children[i] = covey_process_find(pid);
        check(children[i] != NULL);
    }
    set(&stop, 1);
    check_int(pthread_join(thread, NULL), ==, 0);
    for (int i = 0; i < 100; i++) {
        check_int(covey_process_kill(children[i]), ==, 0);
        check_int(covey_process_join(children[i], COVEY_FOREVER), ==, 0);
        check_int(covey_process_close(children[i]), ==, 0);
    }
}

TEST(forked_children_leave_no_zombies)
{
    for (int i = 0; i < 30; i++) {
        pid_t pid = covey_fork();

        if (pid == 0)
            _exit(0);
        check_int(pid, >, 0);
    }
    test_wait_for(no_children, NULL, 10);
}

TEST(a_forked_child_may_be_waited_for_by_hand)
{
    pid_t pid = covey_fork();

    if (pid == 0)
        _exit(3);
    test_reap(pid, 3 << 8);
    check(no_children(NULL));
}

/* The fork server **************************************************************************** */

static pid_t server_pid(void)
{
    char path[64];
    pid_t pid = 0;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    file = fopen(path, "re");
    check(file != NULL);
    check_int(fscanf(file, "%d", &pid), ==, 1);
    (void)fclose(file);
    return pid;
}

TEST(a_killed_fork_server_is_replaced_and_its_children_live_on, .deadline_s = 60)
{
    struct shared *s = make();
    covey_process *p;
    pid_t server;
    int code = 0;

    check_int(covey_process_start(&p, wait_for_step, COVEY_ARGUMENT(s), .method = COVEY_FORKSERVER),
        ==, 0);
    while (!see(&s->pid))
        test_sleep_ms(1);
    server = server_pid();
    check_int(kill(server, SIGKILL), ==, 0);
    while (test_state_of(server) != 'Z')
        test_sleep_ms(1);
    check_int(exit_code_of(COVEY_FORKSERVER, 4), ==, 4);
    check(server_pid() != server);
    check_int(covey_process_is_alive(p), ==, 1);
    set(&s->step, 1);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(p, &code), ==, 0);
    check_int(code, ==, 5);
    check_int(covey_process_close(p), ==, 0);
    check_int(covey_free(s), ==, 0);
    end_server();
}

TEST(killing_the_fork_server_at_any_time_fails_nothing, .deadline_s = 120,
    .not_in_valgrind = "it takes too long")
{
    for (int i = 0; i < 30; i++) {
        int how = i;
        covey_process *p;
        int code = -1;
        pid_t killer;

        check_int(exit_code_of(COVEY_FORKSERVER, 1), ==, 1);
        killer = server_pid();
        if (fork() == 0) {
            struct timespec t = {0, i * 20000};

            (void)nanosleep(&t, NULL);
            (void)kill(killer, SIGKILL);
            _exit(0);
        }
        check_int(
            covey_process_start(&p, end_with, COVEY_ARGUMENT(how), .method = COVEY_FORKSERVER), ==,
            0);
        check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
        if (covey_process_exit_code(p, &code) == 0)
            check_int(code, ==, how);
        check_int(covey_process_close(p), ==, 0);
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
    }
    end_server();
    while (waitpid(-1, NULL, 0) > 0) {
    }
}

static void *wait_for_any_child(void *argument)
{
    for (;;) {
        if (waitpid(-1, NULL, 0) < 0)
            test_sleep_ms(1);
    }
    return argument;
}

/* As of a library that is loaded with the program, hence also in the fork server. */
__attribute__((constructor)) static void take_the_servers_children(void)
{
    pthread_t thread;
    sigset_t all;
    sigset_t before;

    if (!getenv("COVEY_TEST_THIEF"))
        return;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    check_int(pthread_create(&thread, NULL, wait_for_any_child, NULL), ==, 0);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

TEST(children_whose_status_the_fork_server_never_gets_can_be_joined,
    .not_in_valgrind = "it needs pidfds")
{
    covey_process *p;
    int code = 0;

    check_int(setenv("COVEY_TEST_THIEF", "1", 1), ==, 0);
    for (int i = 0; i < 10; i++)
        check_int(exit_code_of(COVEY_FORKSERVER, 42), ==, 42);
    check_int(covey_process_start(&p, run_for_ever, .method = COVEY_FORKSERVER), ==, 0);
    check_int(covey_process_kill(p), ==, 0);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    (void)covey_process_exit_code(p, &code);
    check(code == 0 || code == -SIGKILL);
    check_int(covey_process_close(p), ==, 0);
    end_server();
}

static int touch_nothing(void *argument)
{
    (void)argument;
    return prctl(PR_GET_DUMPABLE) >= 0 ? 0 : 1;
}

TEST(the_fork_server_has_one_thread_and_no_memory_of_ours, .not_in_valgrind = "it measures memory")
{
    size_t size = (size_t)64 << 20;
    char *memory = malloc(size);
    covey_process *p;

    memset(memory, 1, size);
    check_int(covey_process_start(&p, touch_nothing, .method = COVEY_FORKSERVER), ==, 0);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(test_status_of(server_pid(), "Threads"), <=, TEST_TSAN ? 2 : 1);
    if (!TEST_ASAN && !TEST_TSAN)
        check_int(test_status_of(server_pid(), "VmRSS"), <, 32 << 10);
    check_int(covey_process_close(p), ==, 0);
    free(memory);
    end_server();
}

/* Errors ************************************************************************************* */

TEST(misuse_of_processes_is_named)
{
    static char long_name[100];
    covey_process *p;
    int x = 0;

    memset(long_name, 'n', sizeof long_name - 1);
    check_fails(covey_process_start(&p, NULL), COVEY_EINVAL, "function is NULL");
    check_fails(covey_process_start(&p, end_with, NULL, 5), COVEY_EINVAL, "argument is NULL");
    check_fails(
        covey_process_start(&p, end_with, &x, (size_t)2 << 30), COVEY_ETOOBIG, "2147483648");
    check_fails(covey_process_start(&p, end_with, .name = long_name), COVEY_EINVAL, "63");
    check_fails(covey_process_start(&p, end_with, .method = (enum covey_method)9), COVEY_EINVAL,
        "9 is not");
    check_fails(covey_set_start_method((enum covey_method)9), COVEY_EINVAL, "9 is not");
    check_fails(covey_process_join(NULL, 0), COVEY_EINVAL, "process is NULL");
    check_fails(covey_process_pid((covey_process *)(void *)&x), COVEY_EINVAL, "not a process");
    check(covey_process_name(NULL) == NULL);
    check_int(covey_process_close(NULL), ==, 0);
    check(covey_process_parent() == NULL);
    check_fails(covey_active_children(NULL, 5), COVEY_EINVAL, "children is NULL");
    check_int(covey_active_children(NULL, 0), ==, 0);
}

TEST(a_function_in_no_module_cannot_travel)
{
    static unsigned char data[16];
    covey_process *p;
    covey_function *nowhere;
    void *address = data;

    memcpy(&nowhere, &address, sizeof nowhere);
    for (int i = 1; i < 3; i++)
        check_fails(covey_process_start(&p, nowhere, .method = methods[i]), COVEY_EINVAL,
            "no loadable module");
    end_server();
}

/* The header of the arena: its magic number, then the version of what lies in it. */
static uint32_t *version_of_arena(void)
{
    FILE *file = fopen("/proc/self/maps", "re");
    char line[256];
    uintptr_t base = 0;

    check(file != NULL);
    while (!base && fgets(line, sizeof line, file)) {
        if (strstr(line, "memfd:covey"))
            base = (uintptr_t)strtoull(line, NULL, 16);
    }
    (void)fclose(file);
    check(base != 0);
    return (uint32_t *)(base + sizeof(uint64_t));
}

/* As when the library was replaced while the program runs. */
TEST(an_image_of_another_version_says_so)
{
    uint32_t *version;
    covey_process *p;

    check_int(covey_open(), ==, 0);
    version = version_of_arena();
    ++*version;
    check_int(covey_process_start(&p, do_nothing, .method = COVEY_SPAWN), ==, 0);
    check_fails(covey_process_join(p, COVEY_FOREVER), COVEY_ECORRUPT, "of this version");
    --*version;
    check_int(covey_process_close(p), ==, 0);
    check_int(covey_close(), ==, 0);
}

TEST(no_descriptor_left_is_an_error_and_leaves_nothing,
    .not_in_valgrind = "valgrind has descriptors of its own")
{
    struct rlimit before;
    struct rlimit limit;

    check_int(covey_open(), ==, 0);
    check_int(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
    limit = before;
    limit.rlim_cur = test_open_descriptors() + 1 - 3; /* ".", ".." and the directory itself */
    check_int(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    for (int i = 0; i < 3; i++) {
        covey_process *p;
        int how = 0;

        check_fails(covey_process_start(&p, end_with, COVEY_ARGUMENT(how), .method = methods[i]),
            COVEY_ELIMIT, i == 2 ? "no socket for the fork server" : "no descriptor for a process");
    }
    check_int(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
    check_int(exit_code_of(COVEY_FORK, 2), ==, 2);
    check_int(covey_close(), ==, 0);
}

TEST_METHODS(no_process_left_is_an_error_and_leaves_nothing, 30)
{
    covey_process *p;
    int how = 0;

    test_deny_processes(EAGAIN);
    check_fails(covey_process_start(&p, end_with, COVEY_ARGUMENT(how), .method = method),
        COVEY_ELIMIT, "cannot");
    check_int(covey_active_children(NULL, 0), ==, 0);
}

TEST_METHODS(no_memory_for_a_process_is_an_error_and_leaves_nothing, 30)
{
    covey_process *p;
    int how = 0;

    test_deny_processes(ENOMEM);
    check_fails(covey_process_start(&p, end_with, COVEY_ARGUMENT(how), .method = method),
        COVEY_ENOMEM, "cannot");
    check_int(covey_active_children(NULL, 0), ==, 0);
}

/* Some emulators know no pidfd. */
TEST(processes_work_without_pidfds)
{
    covey_process *p;
    int code = 0;

    test_deny(SYS_pidfd_open, ENOSYS);
    check_int(exit_code_of(COVEY_FORK, 3), ==, 3);
    check_int(exit_code_of(COVEY_SPAWN, 4), ==, 4);
    check_int(covey_process_start(&p, run_for_ever), ==, 0);
    check_int(covey_process_join(p, 0.01), ==, COVEY_ETIMEDOUT);
    check_int(covey_process_is_alive(p), ==, 1);
    check(covey_process_fd(p) < 0);
    check_int(covey_process_kill(p), ==, 0);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_process_exit_code(p, &code), ==, 0);
    check_int(code, ==, -SIGKILL);
    check_int(covey_process_close(p), ==, 0);
}

TEST(the_default_start_method_can_be_set)
{
    check_int(covey_start_method(), ==, COVEY_FORK);
    check_int(covey_set_start_method(COVEY_SPAWN), ==, 0);
    check_int(covey_start_method(), ==, COVEY_SPAWN);
    check_int(exit_code_of(COVEY_DEFAULT_METHOD, 6), ==, 6);
}

TEST(what_the_parent_has_not_written_yet_is_written_once)
{
    FILE *file = tmpfile();
    covey_process *p;

    check(file != NULL);
    check(fputs("once\n", file) >= 0);
    check_int(covey_process_start(&p, do_nothing, .method = COVEY_FORK), ==, 0);
    check_int(covey_process_join(p, COVEY_FOREVER), ==, 0);
    check_int(covey_process_close(p), ==, 0);
    check_int(fflush(file), ==, 0);
    check_int(fseek(file, 0, SEEK_END), ==, 0);
    check_int(ftell(file), ==, 5);
    check_int(fclose(file), ==, 0);
}
