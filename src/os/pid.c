/* SPDX-License-Identifier: MIT */
#include "os/pid.h"

#include "base/error.h"
#include "os/clock.h"
#include "os/thread.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Since Linux 5.3, 5.1 and 5.4; the headers of the build machine may be older. */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
enum {
    WAIT_PIDFD = 3
};

enum {
    THREAD_LINKS = 2 /* that /proc/PID/task has besides those of the threads: "." and ".." */
};

/* PIDFD_GET_INFO: since Linux 6.13, with exit codes since 6.15. */
struct pidfd_info {
    uint64_t mask;
    uint64_t cgroup;
    uint32_t ids[11];
    int32_t exit_code;
};

#define GET_INFO _IOWR(0xFF, 11, struct pidfd_info)

enum {
    INFO_EXIT = 1 << 3
};

_Static_assert(sizeof(struct pidfd_info) == 64, "the kernel's first version of it");

int cv_pid_open(pid_t pid, struct cv_descriptor *pidfd)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    int r;

    *pidfd = CV_NO_DESCRIPTOR;
    if (fd < 0)
        return errno == ESRCH ? cv_fail(COVEY_EDIED, "process %d has ended", (int)pid)
                              : cv_fail_errno("no descriptor for process %d", (int)pid);
    r = cv_descriptor_take(pidfd, fd);
    pidfd->is_pidfd = 1;
    return r;
}

int cv_pid_signal(int pidfd, int signal)
{
    if (syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) == 0)
        return 0;
    return errno == ESRCH ? COVEY_EDIED : cv_fail_errno("cannot send signal %d", signal);
}

int cv_pid_signal_child(pid_t pid, int signal)
{
    if (kill(pid, signal) == 0)
        return 0;
    return errno == ESRCH ? COVEY_EDIED
                          : cv_fail_errno("cannot send signal %d to process %d", signal, (int)pid);
}

int cv_pid_wait(int pidfd, uint64_t deadline_ns)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int r = cv_descriptor_poll(&p, 1, deadline_ns);

    return r > 0 ? 0 : r;
}

/* One file of /proc/PID, as far as @size goes; the number of bytes read, negative if there is none.
 */
static ssize_t read_proc(pid_t pid, const char *name, char *text, size_t size)
{
    char path[64];
    ssize_t n;
    int fd;

    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    n = read(fd, text, size - 1);
    (void)close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n;
}

/* State letter and start time (since boot) of @pid. The name, in (), may hold any character. */
static bool read_stat(pid_t pid, char *state, uint64_t *start_ns)
{
    char text[1024];
    unsigned long long ticks;
    const char *p;

    if (read_proc(pid, "stat", text, sizeof text) <= 0 || !(p = strrchr(text, ')')))
        return false;
    if (sscanf(p + 1,
            " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
            state, &ticks) != 2)
        return false;
    *start_ns = ticks * (CV_NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
    return true;
}

static bool started_after(pid_t pid, uint64_t seen_ns)
{
    uint64_t start_ns;
    char state;

    return read_stat(pid, &state, &start_ns) && start_ns > seen_ns;
}

/*
 * Has @pid another program image now, without @memory? /proc/PID/maps has a line per mapping, with
 * the device as its fourth word and the inode as its fifth. An empty file says nothing: the memory
 * of a process that is ending, or whose first thread has ended before the others, does not show
 * there.
 */
static bool has_called_exec(pid_t pid, const struct cv_descriptor *memory)
{
    char path[64];
    char line[512];
    bool found = false;
    bool read; /* all of it */
    unsigned lines = 0;
    FILE *file;

    if (!memory)
        return false;
    (void)snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    file = fopen(path, "re");
    if (!file)
        return false;
    while (!found && fgets(line, sizeof line, file)) {
        unsigned device[2];
        uint64_t inode;

        lines++;
        if (sscanf(line, "%*s %*s %*s %x:%x %" SCNu64, &device[0], &device[1], &inode) == 3)
            found = inode == memory->inode && device[0] == major(memory->device) &&
                    device[1] == minor(memory->device);
    }
    read = !ferror(file);
    (void)fclose(file);
    return read && lines > 0 && !found;
}

static bool is_zombie_child(pid_t pid)
{
    siginfo_t info = {0};

    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid == pid;
}

/* How many threads /proc knows of; 0: it does not know the process. The first thread of a process may be
 * a zombie while others run. */
static unsigned long threads_of(pid_t pid)
{
    char path[64];
    struct stat task;

    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    return stat(path, &task) == 0 ? task.st_nlink - THREAD_LINKS : 0;
}

/*
 * For who has no descriptor free: a zombie has no program image any more, and no thread but itself. Where
 * there is no /proc, or it hides other users' processes, who is there at all is alive.
 */
static bool lives_by_name(pid_t pid)
{
    char path[64];
    char image[1];

    (void)snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    if (readlink(path, image, sizeof image) < 0 && errno == ENOENT && threads_of(pid) == 1)
        return false;
    return kill(pid, 0) == 0 || errno != ESRCH;
}

/* Where there are no pidfds (valgrind, emulators, filters older than they), /proc tells nearly the
 * same, but only by looking. */
static bool lives_by_proc(
    pid_t pid, uint64_t seen_ns, const struct cv_descriptor *memory, uint64_t patience_ns)
{
    uint64_t end_ns = cv_clock_now() + patience_ns;
    uint64_t start_ns;
    char state;

    for (;;) {
        if (!read_stat(pid, &state, &start_ns))
            return lives_by_name(pid);
        if (start_ns > seen_ns || has_called_exec(pid, memory) ||
            ((state == 'Z' || state == 'X') && threads_of(pid) <= 1))
            return false;
        if (cv_clock_now() >= end_ns)
            return true;
        cv_clock_sleep(CV_NS_PER_MS);
    }
}

bool cv_pid_lives(
    pid_t pid, uint64_t seen_ns, const struct cv_descriptor *memory, uint64_t patience_ns)
{
    bool lives;
    int fd;

    if (is_zombie_child(pid))
        return false;
    fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) /* the latter from a filter (seccomp) */
        return lives_by_proc(pid, seen_ns, memory, patience_ns);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE))
        return lives_by_name(pid);
    if (fd < 0)
        return errno != ESRCH;
    lives = cv_pid_wait(fd, 0) != 0 && !started_after(pid, seen_ns) &&
            !has_called_exec(pid, memory) &&
            (!patience_ns || cv_pid_wait(fd, cv_clock_now() + patience_ns) != 0);
    (void)close(fd);
    return lives;
}

static int status_of(const siginfo_t *info)
{
    return info->si_code == CLD_EXITED ? (info->si_status & 0xff) << 8 : info->si_status & 0x7f;
}

/* Its number may be that of another child by now, which is somebody else's to wait for. */
static bool is_gone(int pidfd)
{
    return syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) != 0 && errno == ESRCH;
}

/* The descriptor may have been closed, or be another library's by now: then the pid decides, which
 * stays the child's until it is reaped. */
int cv_pid_look(pid_t pid, int pidfd, int *status)
{
    const int options = WEXITED | WNOHANG | WNOWAIT;
    siginfo_t info = {0};

    if (pidfd < 0 || waitid((idtype_t)WAIT_PIDFD, (id_t)pidfd, &info, options) != 0 ||
        (info.si_pid && info.si_pid != pid)) {
        if (pidfd >= 0 && is_gone(pidfd))
            return COVEY_ESTATE;
        info.si_pid = 0;
        if (waitid(P_PID, (id_t)pid, &info, options) != 0)
            return errno == ECHILD ? COVEY_ESTATE : 0;
    }
    if (info.si_pid == 0)
        return 0;
    *status = status_of(&info);
    return 1;
}

void cv_pid_reap(pid_t pid)
{
    siginfo_t info;

    (void)waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG);
}

bool cv_pid_exit_info(int pidfd, int *status)
{
    struct pidfd_info info = {.mask = INFO_EXIT};

    if (syscall(SYS_ioctl, pidfd, GET_INFO, &info) != 0 || !(info.mask & INFO_EXIT))
        return false;
    *status = info.exit_code;
    return true;
}

/* Names of threads are read as the kernel has them, with a line feed. */
static bool is_helper(pid_t pid, uint32_t tid)
{
    char path[64];
    char name[32] = "";
    int fd;
    ssize_t n;

    (void)snprintf(path, sizeof path, "/proc/%d/task/%u/comm", (int)pid, tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, name, sizeof name - 1);
    (void)close(fd);
    return n > 0 && strcmp(name, CV_THREAD_NAME "\n") == 0;
}

unsigned cv_pid_threads(pid_t pid, uint32_t *tids, unsigned max)
{
    char path[32];
    struct dirent *entry;
    unsigned n = 0;
    DIR *tasks;

    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    tasks = opendir(path);
    if (!tasks)
        return 0;
    while ((entry = readdir(tasks))) {
        uint32_t tid = (uint32_t)strtoul(entry->d_name, NULL, 10); /* 0: "." and ".." */

        if (tid == 0 || is_helper(pid, tid))
            continue;
        if (n < max)
            tids[n] = tid;
        n++;
    }
    (void)closedir(tasks);
    return n;
}
