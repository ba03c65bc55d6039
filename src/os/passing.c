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
    FLAGS = SOCK_CLOEXEC | SOCK_NONBLOCK,
    NAME_AT = offsetof(struct sockaddr_un, sun_path),
};

int cv_passing_open(void)
{
    return socket(AF_UNIX, SOCK_DGRAM | FLAGS, 0);
}

static bool say_whose(int fd)
{
    return setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)) == 0;
}

/* An address without a path: the kernel finds one. */
static bool bind_name(int fd, struct cv_passing_name *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t size = sizeof address;

    if (!say_whose(fd) || bind(fd, (struct sockaddr *)&address, sizeof address.sun_family) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return false;
    memcpy(name->bytes, address.sun_path, sizeof name->bytes);
    return true;
}

static void close_quietly(int fd)
{
    int error = errno;

    (void)close(fd);
    errno = error;
}

int cv_passing_listen(struct cv_passing_name *name)
{
    int fd = cv_passing_open();

    if (fd < 0 || bind_name(fd, name))
        return fd;
    close_quietly(fd);
    return -1;
}

bool cv_passing_pair(int fds[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | FLAGS, 0, fds) == 0) {
        if (say_whose(fds[0]))
            return true;
        close_quietly(fds[0]);
        close_quietly(fds[1]);
    }
    fds[0] = fds[1] = -1;
    return false;
}

/* Room for whose a message is, and one descriptor. */
union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
};

enum {
    CONTROL_BYTES =
        CMSG_SPACE(sizeof(struct ucred)) +
        CMSG_LEN(sizeof(int)), /* with what that is padded to, there were room for two */
};

static bool send_message(int fd, struct msghdr message, int passed)
{
    union control control = {.bytes = {0}};
    ssize_t n;

    if (passed >= 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof passed);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof passed);
        memcpy(CMSG_DATA(&control.header), &passed, sizeof passed);
    }
    do {
        n = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n >= 0;
}

bool cv_passing_ask(
    int fd, const struct cv_passing_name *name, const void *bytes, size_t size, int passed)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct iovec data = {(void *)(uintptr_t)bytes, size};
    struct msghdr message = {.msg_name = &address,
        .msg_namelen = NAME_AT + sizeof name->bytes,
        .msg_iov = &data,
        .msg_iovlen = 1};

    memcpy(address.sun_path, name->bytes, sizeof name->bytes);
    return send_message(fd, message, passed);
}

bool cv_passing_answer(int fd, const void *bytes, size_t size, int passed)
{
    struct iovec data = {(void *)(uintptr_t)bytes, size};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};

    return send_message(fd, message, passed);
}

static void read_control(struct msghdr *message, struct cv_passed *passed)
{
    struct ucred who = {.pid = 0};

    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len == CMSG_LEN(sizeof who))
            memcpy(&who, CMSG_DATA(c), sizeof who);
        else if (c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof passed->fd))
            memcpy(&passed->fd, CMSG_DATA(c), sizeof passed->fd);
    }
    passed->sender = who.pid;
    passed->no_room = passed->fd < 0 && (message->msg_flags & MSG_CTRUNC);
}

static ssize_t peek(int fd, void *bytes, size_t size, struct cv_passed *passed, socklen_t room)
{
    union control control;
    struct iovec data = {bytes, size};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control};
    ssize_t n;

    *passed = (struct cv_passed){.fd = -1};
    do {
        message.msg_controllen = room;
        n = recvmsg(fd, &message, MSG_PEEK | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n >= 0)
        read_control(&message, passed);
    return n;
}

ssize_t cv_passing_look(int fd, void *bytes, size_t size, struct cv_passed *passed)
{
    return peek(fd, bytes, size, passed, CONTROL_BYTES);
}

ssize_t cv_passing_look_first(int fd, void *bytes, size_t size, struct cv_passed *passed)
{
    return peek(fd, bytes, size, passed, CMSG_SPACE(sizeof(struct ucred)));
}

void cv_passing_take(int fd)
{
    (void)recv(fd, &(char){0}, 1, 0);
}
