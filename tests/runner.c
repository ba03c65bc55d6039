/* SPDX-License-Identifier: MIT */
#include "runner.h"

#include <covey.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    DEADLINE_S = 20,
    GRACE_MS = 3000, /* for daemons to end after the test's process has */
    EXIT_SKIPPED = 77,
    CHILDREN_MAX = 4096,
};

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

static struct test *tests;
static bool old_kernel;
static const struct test *current;

void test_register(struct test *test)
{
    struct test **p = &tests;

    while (*p) /* keep the order of the file */
        p = &(*p)->next;
    *p = test;
}

void test_fail(const char *file, int line, const char *format, ...)
{
    va_list args;

    (void)fflush(stdout);
    (void)fprintf(stderr, "# %s:%d: ", file, line);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fprintf(stderr, " [last covey error: %s]\n", covey_error());
    _exit(1);
}

void test_check_str(const char *file, int line, const char *left, const char *right)
{
    if (strcmp(left, right) != 0)
        test_fail(file, line, "\"%s\" is not \"%s\"", left, right);
}

void test_check_has(const char *file, int line, const char *text, const char *part)
{
    if (!strstr(text, part))
        test_fail(file, line, "\"%s\" does not contain \"%s\"", text, part);
}

void test_skip(const char *format, ...)
{
    va_list args;

    (void)fprintf(stderr, "# skipped: ");
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fprintf(stderr, "\n");
    _exit(EXIT_SKIPPED);
}

void test_need_localhost(void)
{
    struct addrinfo *found;

    if (getaddrinfo("localhost", NULL, NULL, &found) != 0)
        test_skip("this machine does not know localhost");
    freeaddrinfo(found);
}

static void set_filter(struct sock_filter *filter, size_t n)
{
    struct sock_fprog program = {(unsigned short)n, filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        test_skip("system calls cannot be denied here: %s", strerror(errno));
}

void test_deny(long system_call, int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)system_call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };

    set_filter(filter, sizeof filter / sizeof *filter);
}

void test_deny_option(int level, int option, int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)SYS_setsockopt, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)level, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)option, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };

    set_filter(filter, sizeof filter / sizeof *filter);
}

void test_deny_processes(int error)
{
    test_deny(SYS_clone, error);
    test_deny(SYS_clone3, error);
#ifdef SYS_fork
    test_deny(SYS_fork, error);
    test_deny(SYS_vfork, error);
#endif
}

bool test_is_old_kernel(void)
{
    return old_kernel || (syscall(SYS_futex_waitv, NULL, 0, 0, NULL, 0) == -1 && errno == ENOSYS);
}

void test_ignore_deadlocks(void)
{
    check_int(covey_open(.deadlocks = COVEY_DEADLOCKS_IGNORE), ==, 0);
}

void test_reap(int pid, int status)
{
    int left = -1;
    int r;

    while ((r = waitpid(pid, &left, 0)) < 0 && errno == EINTR) {
    }
    if (r != pid || left != status)
        test_fail(__FILE__, __LINE__, "process %d left status 0x%x, not 0x%x (waitpid: %d)", pid,
            (unsigned)left, (unsigned)status, r);
}

void test_wait_for(bool (*condition)(void *), void *context, double seconds)
{
    double end = test_now_s() + seconds;

    while (!condition(context)) {
        if (test_now_s() > end)
            test_fail(__FILE__, __LINE__, "what was waited for did not happen in %g s", seconds);
        test_sleep_ms(1);
    }
}

/* In the test's process ********************************************************************** */

void test_check_nothing_is_left(unsigned descriptors)
{
    struct covey_stats stats = {.size = sizeof stats};
    siginfo_t child = {0};

    if (waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) == 0)
        test_fail(current->file, 0, "%s leaves %s", current->name,
            child.si_pid ? "a zombie" : "a child that is still running");
    if (covey_stats(&stats) != 0)
        test_fail(current->file, 0, "%s leaves a family that cannot be looked at", current->name);
    if (stats.blocks != 0 && !current->keeps_blocks)
        test_fail(current->file, 0, "%s leaves %zu blocks (%zu bytes) in the arena", current->name,
            stats.blocks, stats.bytes);
    if (covey_close() != 0)
        test_fail(current->file, 0, "%s leaves a family that cannot be closed", current->name);
    if (test_open_descriptors() != descriptors)
        test_fail(current->file, 0, "%s: %u descriptors were open before, %u are now",
            current->name, descriptors, test_open_descriptors());
}

static void run_in_child(const struct test *test)
{
    unsigned descriptors = test_open_descriptors();

    current = test;
    if (old_kernel) {
        test_deny(SYS_futex_waitv, ENOSYS);
        test_deny_option(SOL_SOCKET, SO_PASSRIGHTS, ENOPROTOOPT);
    }
    test->run();
    test_check_nothing_is_left(descriptors);
    (void)fflush(NULL);
    exit(0);
}

/* In the runner ****************************************************************************** */

/* The pids of this process's children: the test, and the descendants that it has left behind. */
static unsigned children(pid_t *pids)
{
    char path[64];
    FILE *file;
    unsigned n = 0;

    (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    file = fopen(path, "re");
    if (!file)
        return 0;
    while (n < CHILDREN_MAX && fscanf(file, "%d", &pids[n]) == 1)
        n++;
    (void)fclose(file);
    return n;
}

static void reap(void)
{
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

/* Kills what is left, generation by generation, for the orphans of the killed come here. */
static void kill_all(void)
{
    static pid_t pids[CHILDREN_MAX];
    unsigned n;

    while ((n = children(pids)) > 0) {
        while (n-- > 0)
            (void)kill(pids[n], SIGKILL);
        test_sleep_ms(1);
        reap();
    }
}

/* True if descendants are still there after the grace time; then they are killed. */
static bool left_descendants(void)
{
    static pid_t pids[CHILDREN_MAX];

    for (int ms = 0; ms < GRACE_MS; ms++) {
        reap();
        if (children(pids) == 0)
            return false;
        test_sleep_ms(1);
    }
    for (unsigned n = children(pids); n-- > 0;)
        (void)fprintf(stderr, "# process %d is still running\n", (int)pids[n]);
    kill_all();
    return true;
}

/* False at the deadline. Without pidfds (valgrind) it looks now and then. */
bool test_ends_within(int pid, double deadline_s)
{
    struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    double end_s = test_now_s() + deadline_s;
    siginfo_t info = {0};
    bool ended;

    if (p.fd >= 0) {
        ended = poll(&p, 1, (int)(deadline_s * 1000)) != 0;
        (void)close(p.fd);
        return ended;
    }
    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0 &&
           test_now_s() < end_s)
        test_sleep_ms(1);
    return info.si_pid != 0;
}

static bool has_pidfds(void)
{
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

    if (fd >= 0)
        (void)close(fd);
    return fd >= 0 || errno != ENOSYS;
}

/* Why the test cannot be run here; NULL: it can. */
static const char *why_not(const struct test *test)
{
    if (test->not_in_valgrind && getenv("COVEY_TEST_VALGRIND"))
        return test->not_in_valgrind;
    return test->needs_pidfds && !has_pidfds() ? "there are no pidfds here" : NULL;
}

/* 0 passed, 1 failed, EXIT_SKIPPED. */
static int run(const struct test *test)
{
    double deadline_s = test->deadline_s > 0 ? test->deadline_s : DEADLINE_S;
    const char *factor = getenv("COVEY_TEST_DEADLINE_FACTOR");
    int status = 0;
    pid_t pid;

    if (why_not(test)) {
        (void)fprintf(stderr, "# skipped: %s\n", why_not(test));
        return EXIT_SKIPPED;
    }
    if (factor)
        deadline_s *= strtod(factor, NULL);
    (void)fflush(NULL);
    pid = fork();
    if (pid < 0) {
        perror("# fork");
        return 1;
    }
    if (pid == 0)
        run_in_child(test);
    if (!test_ends_within(pid, deadline_s)) {
        (void)fprintf(stderr, "# %s: still running after %g s\n", test->name, deadline_s);
        kill_all();
        return 1;
    }
    (void)waitpid(pid, &status, 0);
    if (left_descendants()) {
        (void)fprintf(stderr, "# %s: left descendants\n", test->name);
        return 1;
    }
    if (WIFSIGNALED(status)) {
        (void)fprintf(stderr, "# %s: killed by signal %d\n", test->name, WTERMSIG(status));
        return 1;
    }
    return WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == EXIT_SKIPPED ? WEXITSTATUS(status)
                                                                           : 1;
}

static bool selected(const struct test *test, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strstr(test->name, argv[i]))
            return true;
    }
    return argc == 0;
}

int main(int argc, char **argv)
{
    unsigned total = 0;
    unsigned number = 0;
    unsigned failed = 0;
    unsigned part = 1; /* of so many, this one */
    unsigned parts = 1;
    unsigned seen = 0;

    covey_main(argc, argv);
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (const struct test *t = tests; t; t = t->next)
            (void)puts(t->name);
        return 0;
    }
    argc--;
    argv++;
    while (argc > 0 && strncmp(argv[0], "--", 2) == 0) {
        old_kernel |= strcmp(argv[0], "--old-kernel") == 0;
        (void)sscanf(argv[0], "--part=%u/%u", &part, &parts);
        argc--;
        argv++;
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (const struct test *t = tests; t; t = t->next)
        total += selected(t, argc, argv) && ++seen % parts == part % parts;
    (void)printf("1..%u\n", total);
    seen = 0;
    for (const struct test *t = tests; t; t = t->next) {
        int result;

        if (!selected(t, argc, argv) || ++seen % parts != part % parts)
            continue;
        result = run(t);
        number++;
        failed += result == 1;
        (void)printf("%s %u - %s%s\n", result == 1 ? "not ok" : "ok", number, t->name,
            result == EXIT_SKIPPED ? " # SKIP" : "");
    }
    return failed ? 1 : 0;
}
