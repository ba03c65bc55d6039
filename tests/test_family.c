/* SPDX-License-Identifier: MIT */
#include "arena/family.h"
#include "runner.h"

#include <covey.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static size_t members(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    check_int(covey_stats(&stats), ==, 0);
    return stats.members;
}

TEST(a_family_opens_by_itself_and_closes)
{
    void *block = covey_alloc(100);

    check(block != NULL);
    check_int(members(), ==, 1);
    check_int(covey_free(block), ==, 0);
    check_int(covey_close(), ==, 0);
    check_fails(covey_close(), COVEY_ESTATE, "no family");
    check(covey_alloc(1) != NULL); /* a new family */
    check_int(covey_close(), ==, 0);
}

TEST(as_many_closes_as_opens_end_it)
{
    void *block;

    check_int(covey_open(), ==, 0);
    check_int(covey_open(.memory_max = 64 << 20), ==, 0);
    block = covey_alloc(10);
    check_int(covey_close(), ==, 0);
    check_int(covey_usable_size(block), ==, 16);
    check_int(covey_close(), ==, 0);
    check_fails(covey_free(block), COVEY_EINVAL, "not the start of a block");
}

TEST(the_memory_limit_holds, .deadline_s = 60,
    .not_in_valgrind = "it needs more memory than there is")
{
    struct covey_stats stats = {.size = sizeof stats};
    void *blocks[64];
    int n = 0;

    check_fails(covey_open(.memory_max = 1000), COVEY_EINVAL, "1000");
    check_fails(covey_open(.memory_max = SIZE_MAX), COVEY_EINVAL, "more than there are addresses");
    check_int(covey_open(.memory_max = 32 << 20), ==, 0);
    check_int(covey_stats(&stats), ==, 0);
    check_int(stats.bytes_max, >=, 32 << 20);
    check_int(stats.bytes_max, <, 48 << 20);
    while (n < 64 && (blocks[n] = covey_alloc(1 << 20)))
        memset(blocks[n++], 1, 1 << 20);
    check_int(n, >=, 32);
    check_int(n, <, 48);
    check_int(covey_error_code(), ==, COVEY_ENOMEM);
    while (n-- > 0)
        check_int(covey_free(blocks[n]), ==, 0);
    check(covey_alloc(1 << 20) != NULL);
    check_int(covey_close(), ==, 0);
}

TEST(an_address_space_limit_makes_the_arena_smaller)
{
#if TEST_ASAN || TEST_TSAN
    test_skip("sanitizers reserve more address space than the limit");
#else
    struct rlimit limit = {256 << 20, 256 << 20};
    struct covey_stats stats = {.size = sizeof stats};
    void *block;

    check_int(setrlimit(RLIMIT_AS, &limit), ==, 0);
    check_int(covey_stats(&stats), ==, 0);
    check_int(stats.bytes_max, <=, 64 << 20);
    block = covey_alloc(10 << 20);
    check(block != NULL);
    memset(block, 1, 10 << 20);
    check_int(covey_free(block), ==, 0);
#endif
}

TEST(a_file_size_limit_makes_the_arena_smaller, .not_in_valgrind = "there is such a limit already")
{
    struct rlimit limit = {32 << 20, 32 << 20};
    struct covey_stats stats = {.size = sizeof stats};

    check_int(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
    check_int(covey_stats(&stats), ==, 0);
    check_int(stats.bytes_max, <=, 32 << 20);
}

TEST(no_room_in_the_address_space_is_an_error)
{
#if TEST_ASAN || TEST_TSAN
    test_skip("sanitizers reserve more address space than the limit");
#else
    struct rlimit before;
    struct rlimit limit;

    check_int(getrlimit(RLIMIT_AS, &before), ==, 0);
    limit = before;
    limit.rlim_cur = 8 << 20;
    check_int(setrlimit(RLIMIT_AS, &limit), ==, 0);
    check_fails(covey_open(), COVEY_ENOMEM, "no room");
    check_int(setrlimit(RLIMIT_AS, &before), ==, 0);
    check_int(covey_open(), ==, 0);
#endif
}

TEST(no_descriptor_left_is_an_error)
{
    struct rlimit before;
    struct rlimit limit;

    check_int(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
    limit = before;
    limit.rlim_cur = 3;
    check_int(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    check_fails(covey_open(), COVEY_ELIMIT, "memfd_create");
    check_int(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
    check_int(covey_open(), ==, 0);
}

/* Opening a family fails where @system_call fails with @error, and leaves nothing. */
static void check_open_fails(long system_call, int error, int code, const char *message)
{
    pid_t pid = fork();

    if (pid == 0) {
        unsigned descriptors = test_open_descriptors();

        test_deny(system_call, error);
        check_fails(covey_open(), code, message);
        check(covey_alloc(1) == NULL);
        check_int(covey_error_code(), ==, code);
        check_int(test_open_descriptors(), ==, descriptors);
        _exit(0);
    }
    test_reap(pid, 0);
}

TEST(a_kernel_that_refuses_is_an_error)
{
    check_open_fails(SYS_memfd_create, EPERM, COVEY_ESYS, "memfd_create");
    check_open_fails(SYS_memfd_create, ENOSYS, COVEY_ESYS, "memfd_create");
    check_open_fails(SYS_memfd_create, ENFILE, COVEY_ELIMIT, "memfd_create");
    check_open_fails(SYS_ftruncate, EPERM, COVEY_ESYS, "ftruncate");
    check_open_fails(SYS_fallocate, ENOSPC, COVEY_ENOMEM, "memory");
    check_open_fails(SYS_madvise, EINVAL, COVEY_ESYS, "wipe");
}

TEST(an_empty_family_uses_less_than_a_mebibyte, .not_in_valgrind = "it measures memory")
{
    long before = test_status_of(getpid(), "VmRSS");

    if (TEST_TSAN)
        test_skip("its shadow counts, too");
    check_int(covey_open(), ==, 0);
    check_int(test_status_of(getpid(), "VmRSS") - before, <, 1024);
}

/* A program may be started without them, and whatever comes there is what it prints to. */
TEST(no_descriptor_of_ours_is_a_standard_one)
{
    pid_t pid = fork();

    if (pid == 0) {
        struct stat status;

        for (int fd = 0; fd < 3; fd++)
            (void)close(fd);
        if (covey_open() != 0)
            _exit(1);
        for (int fd = 0; fd < 3; fd++) {
            if (fstat(fd, &status) == 0)
                _exit(2);
        }
        _exit(0);
    }
    test_reap(pid, 0);
}

static size_t used_of_shared_memory(void)
{
    struct stat status;

    check_int(fstat(cv_arena.memory.file.fd, &status), ==, 0);
    return (size_t)status.st_blocks * 512;
}

static void remove_all(const char *directory)
{
    pid_t pid = fork();

    if (pid == 0) {
        (void)execlp("rm", "rm", "-rf", directory, NULL);
        _exit(1);
    }
    test_reap(pid, 0);
}

TEST(a_core_dump_does_not_fill_the_arena)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    char directory[] = "/tmp/covey-core-XXXXXX";
    size_t before;
    pid_t pid;
    int status;

    check(mkdtemp(directory) != NULL);
    check_int(covey_open(.memory_max = 64 << 20), ==, 0);
    before = used_of_shared_memory();
    pid = fork();
    if (pid == 0) {
        (void)setrlimit(RLIMIT_CORE, &limit);
        (void)chdir(directory);
        (void)signal(SIGABRT, SIG_DFL);
        abort();
    }
    check_int(waitpid(pid, &status, 0), ==, pid);
    check(WIFSIGNALED(status));
    if (!WCOREDUMP(status))
        test_skip("this machine writes no core dumps");
    check_int(used_of_shared_memory(), ==, before);
    remove_all(directory);
}

TEST(the_mapping_is_not_inherited_by_other_programs)
{
    char path[64];
    bool found = false;

    check_int(covey_open(), ==, 0);
    for (int fd = 0; fd < 64; fd++) {
        char target[64] = "";

        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (readlink(path, target, sizeof target - 1) < 0 || !strstr(target, "memfd:covey"))
            continue;
        found = true;
        check(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        check_int(ftruncate(fd, 0), ==, -1); /* sealed */
    }
    check(found);
}

/* Members *********************************************************************************** */

TEST(a_plain_fork_makes_a_member_at_its_first_use)
{
    int *word = covey_calloc(1, sizeof *word);
    pid_t pid = fork();

    if (pid == 0) {
        int *mine = covey_alloc(sizeof *mine);

        *mine = 42;
        *word = (int)members();
        check_int(covey_owner(mine), ==, 0);
        check_int(covey_free(mine), ==, 0);
        _exit(0);
    }
    check_int(waitpid(pid, NULL, 0), ==, pid);
    check_int(*word, ==, 2);
    check_int(members(), ==, 1);
    check_int(covey_free(word), ==, 0);
}

TEST(a_fork_past_the_c_library_makes_a_member_too)
{
    int *word = covey_calloc(1, sizeof *word);
    int *pipe_like = covey_calloc(1, sizeof *pipe_like);
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

    if (pid == 0) {
        void *mine = covey_alloc(100);

        check_int(covey_own(mine), ==, 0);
        *word = covey_owner(mine) == getpid() && members() == 2 ? 1 : 2;
        for (;;)
            (void)pause();
    }
    while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == 0)
        test_sleep_ms(1);
    check_int(*word, ==, 1);
    check_int(kill(pid, SIGKILL), ==, 0);
    check_int(waitpid(pid, NULL, 0), ==, pid);
    check_int(members(), ==, 1); /* buries it, and frees what it owned */
    check_int(covey_free(word), ==, 0);
    check_int(covey_free(pipe_like), ==, 0);
}

TEST(what_is_wrong_with_stats_is_named)
{
    struct covey_stats stats = {0};

    check_fails(covey_stats(NULL), COVEY_EINVAL, "stats is NULL");
    check_fails(covey_stats(&stats), COVEY_EINVAL, "size is 0");
}

static struct {
    covey_queue *queue;
    int puts[3];
} handlers;

/* Leaves the queue empty, of which its descriptor has to know. */
static void use_in(int which)
{
    int item = which;

    if (!handlers.queue)
        return;
    handlers.puts[which] += covey_queue_put(handlers.queue, &item, sizeof item, 0) == 0;
    while (covey_queue_get(handlers.queue, &item, sizeof item, NULL, 0) == 0)
        continue;
}

static void use_before(void)
{
    use_in(0);
}

static void use_after(void)
{
    use_in(1);
}

static void use_in_child(void)
{
    use_in(2);
}

TEST(the_programs_handlers_of_forks_may_use_covey)
{
    covey_queue *queue;
    pid_t pid;

    check_int(pthread_atfork(use_before, use_after, use_in_child), ==, 0);
    check_int(covey_queue_open(&queue, .items = 4), ==, 0);
    check_int(covey_queue_fd(queue), >=, 0);
    handlers.queue = queue;
    pid = fork();
    handlers.queue = NULL;
    if (pid == 0)
        _exit(handlers.puts[2] != 1 || members() != 2);
    test_reap(pid, 0);
    check_int(handlers.puts[0], ==, 1);
    check_int(handlers.puts[1], ==, 1);
    check_int(members(), ==, 1);
    check_int(covey_queue_free(queue), ==, 0);
}

TEST(what_a_killed_process_owned_is_freed)
{
    struct covey_stats stats = {.size = sizeof stats};
    size_t before;
    pid_t pid;

    check_int(covey_stats(&stats), ==, 0);
    before = stats.blocks;
    pid = fork();
    if (pid == 0) {
        for (size_t size = 1; size < 4 << 20; size = size * 3 + 1) {
            void *block = covey_alloc(size);

            check(block != NULL);
            check_int(covey_own(block), ==, 0);
            check_int(covey_owner(block), ==, getpid());
        }
        check_int(kill(getpid(), SIGKILL), ==, 0);
    }
    check_int(waitpid(pid, NULL, 0), ==, pid);
    check_int(covey_stats(&stats), ==, 0);
    check_int(stats.blocks, ==, before);
}

TEST(what_was_shared_survives_its_maker)
{
    char **place = covey_calloc(1, sizeof *place);
    pid_t pid = fork();

    if (pid == 0) {
        char *text = covey_alloc(6);

        check_int(covey_own(text), ==, 0);
        memcpy(text, "hello", 6);
        *place = text;
        check_int(covey_share(text), ==, 0);
        check_int(kill(getpid(), SIGKILL), ==, 0);
    }
    check_int(waitpid(pid, NULL, 0), ==, pid);
    check_int(members(), ==, 1);
    check_str(*place, "hello");
    check_int(covey_owner(*place), ==, 0);
    check_int(covey_free(*place), ==, 0);
    check_int(covey_free(place), ==, 0);
}

TEST(a_process_that_calls_exec_has_left_the_family)
{
    size_t *ready = covey_calloc(1, sizeof *ready);
    pid_t pid = fork();

    if (pid == 0) {
        check_int(covey_own(covey_alloc(100)), ==, 0);
        check_int(covey_own(covey_alloc(1 << 20)), ==, 0);
        __atomic_store_n(ready, 1, __ATOMIC_SEQ_CST);
        (void)execlp("sleep", "sleep", "1000", (char *)NULL);
        _exit(127);
    }
    while (__atomic_load_n(ready, __ATOMIC_SEQ_CST) == 0)
        test_sleep_ms(1);
    for (int ms = 0; members() > 1; ms++) {
        check_int(ms, <, 5000);
        test_sleep_ms(1);
    }
    check_int(kill(pid, SIGKILL), ==, 0);
    check_int(waitpid(pid, NULL, 0), ==, pid);
    check_int(covey_free(ready), ==, 0);
}

/* Threads *********************************************************************************** */

static void *join_the_family(void *context)
{
    (void)context;
    check_int(members(), ==, 1);
    return NULL;
}

TEST(a_member_lives_on_when_the_thread_that_joined_ends)
{
    pthread_t thread;
    pid_t pid;

    check_int(pthread_create(&thread, NULL, join_the_family, NULL), ==, 0);
    check_int(pthread_join(thread, NULL), ==, 0);
    check_int(members(), ==, 1);
    pid = fork();
    if (pid == 0) {
        check_int(members(), ==, 2); /* the parent lives, for others too */
        _exit(0);
    }
    check_int(waitpid(pid, NULL, 0), ==, pid);
    check_int(members(), ==, 1);
}

static void *join_and_leave_a_word(void *context)
{
    int *ready = context;

    check_int(covey_own(covey_alloc(64)), ==, 0);
    __atomic_store_n(ready, (int)getpid(), __ATOMIC_SEQ_CST);
    return NULL;
}

static void *sleep_long(void *context)
{
    test_sleep_ms(300);
    __atomic_store_n((int *)context, -1, __ATOMIC_SEQ_CST);
    return NULL;
}

TEST(a_process_whose_first_thread_has_ended_is_alive_and_ends)
{
    int *ready = covey_calloc(1, sizeof *ready);
    int status = -1;
    pid_t pid;

    if (TEST_TSAN)
        test_skip("its own thread keeps any program from ending with its last one");
#ifndef __GLIBC__
    test_skip("in musl 1.2.3 the last thread of any forked process hangs when the first has ended");
#endif
    pid = fork();
    if (pid == 0) {
        pthread_t joiner;
        pthread_t last;

        check_int(pthread_create(&joiner, NULL, join_and_leave_a_word, ready), ==, 0);
        check_int(pthread_join(joiner, NULL), ==, 0);
        check_int(pthread_create(&last, NULL, sleep_long, ready), ==, 0);
        pthread_exit(NULL); /* the process goes on, kept by "last" alone */
    }
    while (__atomic_load_n(ready, __ATOMIC_SEQ_CST) == 0)
        test_sleep_ms(1);
    test_sleep_ms(50);
    if (__atomic_load_n(ready, __ATOMIC_SEQ_CST) > 0)
        check_int(members(), ==, 2);
    /* The keeper thread must not keep the process from ending with its last own thread. */
    check_int(waitpid(pid, &status, 0), ==, pid);
    check_int(status, ==, 0);
    check_int(__atomic_load_n(ready, __ATOMIC_SEQ_CST), ==, -1);
    check_int(members(), ==, 1);
    check_int(covey_free(ready), ==, 0);
}

static void *fork_and_join(void *context)
{
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            check(covey_own(covey_alloc(50)) == 0);
            _exit(0);
        }
        check_int(waitpid(pid, NULL, 0), ==, pid);
    }
    return context;
}

static void *open_and_close(void *unused)
{
    (void)unused;
    check_int(covey_open(), ==, 0);
    check_int(covey_close(), ==, 0);
    return NULL;
}

TEST(a_thread_that_joined_and_left_may_end)
{
    pthread_t thread;

    for (int i = 0; i < 3; i++) {
        check_int(pthread_create(&thread, NULL, open_and_close, NULL), ==, 0);
        check_int(pthread_join(thread, NULL), ==, 0);
    }
}

TEST(threads_may_fork_members_at_once, .not_in_valgrind = "it takes too long")
{
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        check_int(pthread_create(&threads[i], NULL, fork_and_join, NULL), ==, 0);
    for (int i = 0; i < 4; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
    check_int(members(), ==, 1);
}

TEST(closing_from_another_thread_keeps_the_membership)
{
    pthread_t thread;

    check_int(pthread_create(&thread, NULL, join_the_family, NULL), ==, 0);
    check_int(pthread_join(thread, NULL), ==, 0);
    check_int(covey_close(), ==, 0);
    check_int(members(), ==, 1);
}

TEST(many_members_come_and_go, .not_in_valgrind = "it takes too long")
{
    check_int(members(), ==, 1);
    for (int round = 0; round < 20; round++) {
        pid_t pids[50];

        for (int i = 0; i < 50; i++) {
            pids[i] = fork();
            if (pids[i] == 0) {
                check_int(covey_own(covey_alloc(100)), ==, 0);
                _exit(0);
            }
        }
        for (int i = 0; i < 50; i++)
            check_int(waitpid(pids[i], NULL, 0), ==, pids[i]);
    }
    check_int(cv_arena.family->slots_used, <=, 128); /* slots are used again */
    check_int(members(), ==, 1);
}

TEST(the_cpu_count_respects_the_affinity_mask)
{
    cpu_set_t one;

    check_int(covey_cpu_count(), >=, 1);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        cpu_set_t now;

        check_int(sched_getaffinity(0, sizeof now, &now), ==, 0);
        if (!CPU_ISSET(cpu, &now))
            continue;
        CPU_SET(cpu, &one);
        break;
    }
    check_int(sched_setaffinity(0, sizeof one, &one), ==, 0);
    check_int(covey_cpu_count(), ==, 1);
}
