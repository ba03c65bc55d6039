/* SPDX-License-Identifier: MIT */
#include "os/descriptor.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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

/* A pipe with a byte in it and nobody to write more: an eventfd has no inode of its own. */
int cv_descriptor_readable(struct cv_descriptor *d)
{
    int ends[2];
    int r;

    *d = CV_NO_DESCRIPTOR;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return cv_fail_errno("no descriptor");
    r = write(ends[1], "", 1) == 1 ? 0 : cv_fail_errno("no byte for a pipe");
    (void)close(ends[1]);
    if (r == 0)
        return cv_descriptor_take(d, ends[0]);
    (void)close(ends[0]);
    return r;
}

static bool is_pidfd(int fd)
{
    return syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) == 0 || errno != EBADF;
}

int cv_descriptor_pair(struct cv_descriptor pair[2], const char *whom)
{
    int fds[2];
    int r;

    pair[0] = pair[1] = CV_NO_DESCRIPTOR;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
        return cv_fail_errno("no socket for %s", whom);
    r = cv_descriptor_take(&pair[0], fds[0]);
    if (r == 0)
        r = cv_descriptor_take(&pair[1], fds[1]);
    else
        (void)close(fds[1]);
    if (r != 0)
        cv_descriptor_close(&pair[0]);
    return r;
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

bool cv_descriptor_is_ours(const struct cv_descriptor *d)
{
    struct stat status;

    return d->fd >= 0 && fstat(d->fd, &status) == 0 && (uint64_t)status.st_dev == d->device &&
           (uint64_t)status.st_ino == d->inode && (!d->is_pidfd || is_pidfd(d->fd));
}

void cv_descriptor_close(struct cv_descriptor *d)
{
    if (cv_descriptor_is_ours(d))
        (void)close(d->fd);
    *d = CV_NO_DESCRIPTOR;
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
