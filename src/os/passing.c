/* SPDX-License-Identifier: MIT */
#include "os/passing.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    KIND = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
    NAME_AT = offsetof(struct sockaddr_un, sun_path),
};

int cv_passing_open(void)
{
    return socket(AF_UNIX, KIND, 0);
}

/* An address without a path: the kernel finds one. */
static bool bind_and_listen(int fd, struct cv_passing_name *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t size = sizeof address;

    if (bind(fd, (struct sockaddr *)&address, sizeof address.sun_family) != 0 ||
        listen(fd, SOMAXCONN) != 0 || getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return false;
    memcpy(name->bytes, address.sun_path, sizeof name->bytes);
    return true;
}

int cv_passing_listen(struct cv_passing_name *name)
{
    int fd = cv_passing_open();
    int error;

    if (fd < 0 || bind_and_listen(fd, name))
        return fd;
    error = errno;
    (void)close(fd);
    errno = error;
    return -1;
}

int cv_passing_accept(int listener)
{
    return accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

bool cv_passing_connect(int fd, const struct cv_passing_name *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(address.sun_path, name->bytes, sizeof name->bytes);
    return connect(fd, (struct sockaddr *)&address, NAME_AT + sizeof name->bytes) == 0;
}

pid_t cv_passing_peer(int connection)
{
    struct ucred who = {.pid = 0};
    socklen_t size = sizeof who;

    return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 ? who.pid : 0;
}

/* Room for one descriptor. */
union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};

bool cv_passing_send(int connection, const void *bytes, size_t size, int passed)
{
    union control control = {.bytes = {0}};
    struct iovec data = {(void *)(uintptr_t)bytes, size};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    ssize_t n;

    if (passed >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof passed);
        memcpy(CMSG_DATA(&control.header), &passed, sizeof passed);
    }
    do {
        n = sendmsg(connection, &message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n >= 0;
}

/* If this process can have no more descriptors, the message comes without. */
ssize_t cv_passing_receive(int connection, void *bytes, size_t size, int *passed)
{
    union control control;
    struct iovec data = {bytes, size};
    struct msghdr message = {
        .msg_iov = &data,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = CMSG_LEN(sizeof *passed), /* with what it is padded to, for two */
    };
    const struct cmsghdr *header;
    ssize_t n;

    *passed = -1;
    do {
        n = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    header = n >= 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof *passed))
        memcpy(passed, CMSG_DATA(header), sizeof *passed);
    return n;
}
