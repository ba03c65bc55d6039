/* SPDX-License-Identifier: MIT */
#include "os/descriptor.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

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

int cv_descriptor_readable(struct cv_descriptor *d)
{
    int fd = eventfd(1, EFD_CLOEXEC);

    *d = CV_NO_DESCRIPTOR;
    return fd < 0 ? cv_fail_errno("no descriptor") : cv_descriptor_take(d, fd);
}

bool cv_descriptor_is_ours(const struct cv_descriptor *d)
{
    struct stat status;

    return d->fd >= 0 && fstat(d->fd, &status) == 0 && (uint64_t)status.st_dev == d->device &&
           (uint64_t)status.st_ino == d->inode;
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
