/* SPDX-License-Identifier: MIT */
#include "os/descriptor.h"

#include "base/error.h"
#include "os/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Since Linux 5.1; the headers of the build machine may be older. */
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

int cv_descriptor_take(struct cv_descriptor *d, int fd)
{
    struct stat status;
    int moved = fd;

    *d = CV_NO_DESCRIPTOR;
    if (fd <= STDERR_FILENO) {
        moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        (void)close(fd);
    }
    if (moved < 0 || fstat(moved, &status) != 0) {
        (void)cv_fail_errno("cannot keep descriptor %d", fd);
        if (moved >= 0)
            (void)close(moved);
        return covey_error_code();
    }
    *d = (struct cv_descriptor){moved, 0, (uint64_t)status.st_dev, (uint64_t)status.st_ino};
    return 0;
}

/* Takes both, or closes both. */
static int take_pair(struct cv_descriptor pair[2], const int fds[2])
{
    int r = cv_descriptor_take(&pair[0], fds[0]);

    pair[1] = CV_NO_DESCRIPTOR;
    if (r == 0)
        r = cv_descriptor_take(&pair[1], fds[1]);
    else
        (void)close(fds[1]);
    if (r != 0)
        cv_descriptor_close(&pair[0]);
    return r;
}

/* An eventfd would do, but has no inode of its own. */
int cv_descriptor_pipe(struct cv_descriptor pair[2])
{
    int fds[2];

    pair[0] = pair[1] = CV_NO_DESCRIPTOR;
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0)
        return cv_fail_errno("no descriptor");
    return take_pair(pair, fds);
}

/* A pipe with a byte in it and nobody to write more. */
int cv_descriptor_readable(struct cv_descriptor *d)
{
    struct cv_descriptor pair[2];
    int r = cv_descriptor_pipe(pair);

    *d = CV_NO_DESCRIPTOR;
    if (r == 0)
        r = write(pair[1].fd, "", 1) == 1 ? 0 : cv_fail_errno("no byte for a pipe");
    cv_descriptor_close(&pair[1]);
    if (r == 0)
        *d = pair[0];
    else
        cv_descriptor_close(&pair[0]);
    return r;
}

static bool is_pidfd(int fd)
{
    return syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) == 0 || errno != EBADF;
}

int cv_descriptor_pair(struct cv_descriptor pair[2], const char *whom)
{
    int fds[2];

    pair[0] = pair[1] = CV_NO_DESCRIPTOR;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
        return cv_fail_errno("no socket for %s", whom);
    return take_pair(pair, fds);
}

int cv_descriptor_check_room(const struct cv_descriptor *any)
{
    int fd = fcntl(any->fd, F_DUPFD_CLOEXEC, 0);

    if (fd < 0 && (errno == EMFILE || errno == ENFILE))
        return cv_fail_errno("no descriptor for a process");
    if (fd >= 0)
        (void)close(fd);
    return 0;
}

bool cv_descriptor_is_left(void)
{
    int fd = open("/", O_PATH | O_CLOEXEC);

    if (fd < 0)
        return errno != EMFILE && errno != ENFILE;
    (void)close(fd);
    return true;
}

bool cv_descriptor_is_ours(const struct cv_descriptor *d)
{
    struct stat status;

    return d->fd >= 0 && fstat(d->fd, &status) == 0 && (uint64_t)status.st_dev == d->device &&
           (uint64_t)status.st_ino == d->inode && (!d->is_pidfd || is_pidfd(d->fd));
}

int cv_descriptor_wait(int fd, bool for_writing, uint64_t deadline_ns)
{
    struct pollfd p = {.fd = fd, .events = for_writing ? POLLOUT : POLLIN};
    uint64_t now = deadline_ns == CV_FOREVER || deadline_ns == 0 ? 0 : cv_clock_now();
    uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    struct timespec t = {(time_t)(left / CV_NS_PER_S), (long)(left % CV_NS_PER_S)};
    int r = ppoll(&p, 1, deadline_ns == CV_FOREVER ? NULL : &t, NULL);

    if (r > 0)
        return 0;
    if (r == 0)
        return COVEY_ETIMEDOUT;
    return errno == EINTR ? COVEY_EINTR : cv_fail_errno("cannot wait for descriptor %d", fd);
}

void cv_descriptor_close(struct cv_descriptor *d)
{
    if (cv_descriptor_is_ours(d))
        (void)close(d->fd);
    *d = CV_NO_DESCRIPTOR;
}

void cv_descriptor_replace(const struct cv_descriptor *d, const struct cv_descriptor *by)
{
    if (cv_descriptor_is_ours(d) && cv_descriptor_is_ours(by))
        (void)dup3(by->fd, d->fd, O_CLOEXEC);
}

bool cv_descriptor_write(int fd, const void *bytes, size_t size)
{
    const char *p = bytes;

    while (size > 0) {
        ssize_t n = write(fd, p, size);

        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            p += n;
            size -= (size_t)n;
        }
    }
    return true;
}

int cv_descriptor_poll(struct pollfd *fds, size_t n, uint64_t deadline_ns)
{
    uint64_t now = deadline_ns == CV_FOREVER || deadline_ns == 0 ? 0 : cv_clock_now();
    uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    struct timespec t = {(time_t)(left / CV_NS_PER_S), (long)(left % CV_NS_PER_S)};
    int r = ppoll(fds, n, deadline_ns == CV_FOREVER ? NULL : &t, NULL);

    if (r >= 0)
        return r > 0 ? r : COVEY_ETIMEDOUT;
    if (errno == EINVAL)
        return cv_fail(COVEY_ELIMIT,
            "cannot wait for %zu descriptors: more than a process may have (RLIMIT_NOFILE)", n);
    return errno == EINTR ? COVEY_EINTR : cv_fail_errno("cannot wait for descriptors");
}
