/* SPDX-License-Identifier: MIT */
#include "os/socket.h"

#include "base/error.h"
#include "os/clock.h"
#include "os/unshared.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Since Linux 6.15. */
#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44
#endif

enum {
    ALIVE_IDLE_S =
        30, /* after so long in silence the kernel asks whether the other machine is there, */
    ALIVE_EVERY_S = 10, /* and asks again, */
    ALIVE_TIMES = 6,    /* so many times */
    REPEAT_MAX_MS =
        8000, /* what it does not confirm is sent again after so long at most, 15 times */
    GUARD_TRIES = 100,
    GUARD_NS = 10 * CV_NS_PER_MS,
};

/* Where ************************************************************************************* */

static int find_path(struct cv_socket_targets *t, const struct cv_address *a)
{
    struct sockaddr_un *un = (struct sockaddr_un *)(void *)&t->target[0].address;
    bool is_abstract = a->kind == CV_ADDRESS_ABSTRACT;
    size_t size = strlen(a->path);

    memset(t, 0, sizeof *t);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path + is_abstract, a->path, size);
    t->target[0].size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + 1);
    t->n = 1;
    return 0;
}

static int fail_to_find(const struct cv_address *a, int error)
{
    if (error == EAI_MEMORY)
        return cv_fail(COVEY_ENOMEM, "no memory for the address of %s", a->host);
    if (error == EAI_SYSTEM || !cv_descriptor_is_left())
        return cv_fail_errno("cannot look for %s", a->host);
    return cv_fail(COVEY_ESYS, "cannot find %s: %s", a->host, gai_strerror(error));
}

int cv_socket_find(struct cv_socket_targets *t, const struct cv_address *a, bool to_listen)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = to_listen ? AI_PASSIVE : 0};
    struct addrinfo *found = NULL;
    char port[8];
    int error;

    if (a->kind != CV_ADDRESS_TCP)
        return find_path(t, a);
    memset(t, 0, sizeof *t);
    (void)snprintf(port, sizeof port, "%u", (unsigned)a->port);
    error = getaddrinfo(to_listen && cv_address_is_any(a) ? NULL : a->host, port, &hints, &found);
    if (error != 0)
        return fail_to_find(a, error);
    for (const struct addrinfo *i = found; i && t->n < CV_SOCKET_TARGETS_MAX; i = i->ai_next) {
        if ((i->ai_family != AF_INET && i->ai_family != AF_INET6) ||
            i->ai_addrlen > sizeof t->target[0].address)
            continue;
        memcpy(&t->target[t->n].address, i->ai_addr, i->ai_addrlen);
        t->target[t->n++].size = i->ai_addrlen;
    }
    freeaddrinfo(found);
    return t->n ? 0 : cv_fail(COVEY_ESYS, "%s has no address of IPv4 or IPv6", a->host);
}

static const struct sockaddr *target_at(const struct cv_socket_targets *t, unsigned i)
{
    return (const struct sockaddr *)(const void *)&t->target[i].address;
}

static void set(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof value);
}

/* Nothing waits for more to be sent, and a machine that is gone is noticed. There is no TCP_USER_TIMEOUT:
 * it would also end the connection to one that is there, and does not read. */
static void set_up(int fd, int family)
{
    if (family == AF_UNIX)
        return;
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, ALIVE_IDLE_S);
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, ALIVE_EVERY_S);
    set(fd, IPPROTO_TCP, TCP_KEEPCNT, ALIVE_TIMES);
    set(fd, IPPROTO_TCP, TCP_RTO_MAX_MS, REPEAT_MAX_MS);
}

/* @fd: what has just been opened, under the lock. */
static int take(struct cv_descriptor *d, int fd)
{
    int r = cv_descriptor_take(d, fd);

    if (r == 0)
        r = cv_unshared_add(d);
    if (r != 0)
        cv_descriptor_close(d);
    return r;
}

static int make(struct cv_descriptor *d, int family)
{
    int fd;
    int r;

    *d = CV_NO_DESCRIPTOR;
    cv_unshared_lock();
    fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    r = fd < 0 ? cv_fail_errno("no socket") : take(d, fd);
    cv_unshared_unlock();
    return r;
}

void cv_socket_close(struct cv_descriptor *d)
{
    cv_unshared_lock();
    cv_unshared_remove(d);
    cv_descriptor_close(d);
    cv_unshared_unlock();
}

/* Connecting ******************************************************************************** */

static int fail_to_connect(int error)
{
    errno = error;
    if (error == ECONNREFUSED || error == ENOENT)
        return cv_fail(COVEY_EREFUSED, "nobody listens there: %s", strerror(error));
    if (error == ETIMEDOUT)
        return cv_fail(COVEY_ETIMEDOUT, "the machine does not answer: %s", strerror(error));
    return cv_fail_errno("cannot connect");
}

int cv_socket_connect(struct cv_descriptor *d, const struct cv_socket_targets *t, unsigned i)
{
    int family = target_at(t, i)->sa_family;
    int error;
    int r = make(d, family);

    if (r != 0)
        return r;
    set_up(d->fd, family);
    if (connect(d->fd, target_at(t, i), t->target[i].size) == 0)
        return 0;
    if (errno == EINPROGRESS || errno == EINTR)
        return CV_SOCKET_PENDING;
    error = errno;
    r = family == AF_UNIX && error == EAGAIN ? CV_SOCKET_BUSY : fail_to_connect(error);
    cv_socket_close(d);
    return r;
}

int cv_socket_connected(int fd)
{
    int error = 0;
    socklen_t size = sizeof error;

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    return error ? fail_to_connect(error) : 0;
}

/* Listening ********************************************************************************* */

static int fail_to_listen(int error)
{
    errno = error;
    if (error == EADDRINUSE)
        return cv_fail(COVEY_ESTATE, "somebody else listens there: %s", strerror(error));
    return cv_fail_errno("cannot listen there");
}

static int try_to_listen(
    struct cv_descriptor *d, const struct cv_socket_targets *t, unsigned i, int backlog)
{
    int family = target_at(t, i)->sa_family;
    int r = make(d, family);

    if (r != 0)
        return r;
    if (family != AF_UNIX)
        set(d->fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (family == AF_INET6)
        set(d->fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (bind(d->fd, target_at(t, i), t->target[i].size) == 0 && listen(d->fd, backlog) == 0)
        return 0;
    r = fail_to_listen(errno);
    cv_socket_close(d);
    return r;
}

static void read_address(struct cv_address *a, const struct sockaddr_storage *s, socklen_t size)
{
    char port[8] = "0";

    a->host[0] = 0;
    (void)getnameinfo((const struct sockaddr *)(const void *)s, size, a->host, sizeof a->host, port,
        sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    a->kind = CV_ADDRESS_TCP;
    a->port = (uint16_t)strtoul(port, NULL, 10);
}

int cv_socket_listen(struct cv_descriptor *d, const struct cv_socket_targets *t,
    struct cv_address *address, int backlog)
{
    struct sockaddr_storage own;
    socklen_t size = sizeof own;
    int r = COVEY_ESYS;

    for (unsigned i = 0; i < t->n; i++) {
        r = try_to_listen(d, t, i, backlog);
        if (r == 0)
            break;
    }
    if (r != 0 || address->kind != CV_ADDRESS_TCP)
        return r;
    if (getsockname(d->fd, (struct sockaddr *)(void *)&own, &size) == 0) {
        read_address(address, &own, size);
        return 0;
    }
    r = cv_fail_errno("cannot find out the port");
    cv_socket_close(d);
    return r;
}

/*
 * A path belongs to a file that outlives its listener. To take it over is to find that nobody listens,
 * to remove it and to make it anew; if two did that at once, one could remove what the other has just
 * made. So whoever makes or removes one locks the directory meanwhile. That may be held by a stranger
 * for ever: after a second it is done without.
 */
static int guard_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    char directory[CV_ADDRESS_PATH_MAX + 2] = ".";
    int fd;

    if (slash)
        (void)snprintf(
            directory, sizeof directory, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; fd >= 0 && i < GUARD_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && errno != EINTR))
            break;
        cv_clock_sleep(GUARD_NS);
    }
    return fd;
}

/* A child that was forked meanwhile has a copy, so to close it is not enough. */
static void unguard(int fd)
{
    if (fd < 0)
        return;
    (void)flock(fd, LOCK_UN);
    (void)close(fd);
}

static struct cv_socket_file file_at(const char *path)
{
    struct stat s;

    if (lstat(path, &s) != 0 || !S_ISSOCK(s.st_mode))
        return (struct cv_socket_file){false, 0, 0};
    return (struct cv_socket_file){true, (uint64_t)s.st_dev, (uint64_t)s.st_ino};
}

/* Only a refusal says that nobody listens. 0: it is gone; COVEY_ESTATE, or why that cannot be told. */
static int remove_stale(const struct cv_socket_targets *t, const char *path)
{
    struct cv_descriptor d;
    int r;

    if (!file_at(path).exists)
        return cv_fail(COVEY_ESTATE, "there is a file, and it is no socket");
    r = make(&d, AF_UNIX);
    if (r != 0)
        return r;
    if (connect(d.fd, target_at(t, 0), t->target[0].size) == 0 || errno == EAGAIN)
        r = fail_to_listen(EADDRINUSE);
    else if (errno != ECONNREFUSED)
        r = cv_fail_errno("cannot find out whether somebody listens there");
    else if (unlink(path) != 0)
        r = cv_fail_errno("nobody listens there, but the path cannot be removed");
    cv_socket_close(&d);
    return r;
}

/* Nobody can connect before it listens, so the permissions are set in time. */
static int listen_at_path(struct cv_descriptor *d, const struct cv_socket_targets *t,
    const char *path, int backlog, unsigned mode)
{
    int error;
    int r = make(d, AF_UNIX);

    if (r != 0)
        return r;
    if (bind(d->fd, target_at(t, 0), t->target[0].size) != 0) {
        r = fail_to_listen(errno);
        cv_socket_close(d);
        return r;
    }
    if (chmod(path, (mode_t)mode) == 0 && listen(d->fd, backlog) == 0)
        return 0;
    error = errno;
    (void)unlink(path);
    r = fail_to_listen(error);
    cv_socket_close(d);
    return r;
}

int cv_socket_listen_at_path(struct cv_descriptor *d, const struct cv_socket_targets *t,
    const struct cv_address *a, int backlog, unsigned mode, struct cv_socket_file *file)
{
    int guard = guard_directory(a->path);
    int r = listen_at_path(d, t, a->path, backlog, mode);

    if (r == COVEY_ESTATE)
        r = remove_stale(t, a->path);
    if (r == 0 && d->fd < 0)
        r = listen_at_path(d, t, a->path, backlog, mode);
    *file = file_at(a->path);
    unguard(guard);
    return r;
}

void cv_socket_remove_path(const char *path, const struct cv_socket_file *file)
{
    int guard = guard_directory(path);
    struct cv_socket_file now = file_at(path);

    if (file->exists && now.exists && now.device == file->device && now.inode == file->inode)
        (void)unlink(path);
    unguard(guard);
}

/* On Linux a new connection's own errors come from accept(); it is not the listener's matter. */
static int fail_to_accept(int error)
{
    switch (error) {
    case EAGAIN:
    case EINTR:
    case ECONNABORTED:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETUNREACH:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EPROTO:
    case ETIMEDOUT:
        return CV_SOCKET_PENDING;
    default:
        errno = error;
        return cv_fail_errno("cannot accept a connection");
    }
}

int cv_socket_accept(struct cv_descriptor *d, int listening)
{
    struct sockaddr_storage from = {0};
    socklen_t size = sizeof from;
    int fd;
    int r;

    *d = CV_NO_DESCRIPTOR;
    cv_unshared_lock();
    fd = accept4(listening, (struct sockaddr *)(void *)&from, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    r = fd < 0 ? fail_to_accept(errno) : take(d, fd);
    cv_unshared_unlock();
    if (r == 0)
        set_up(d->fd, from.ss_family);
    return r;
}

/* A connection ****************************************************************************** */

void cv_socket_peer(int fd, const struct cv_address *address, char text[CV_SOCKET_PEER_MAX])
{
    struct cv_address a = *address;
    struct sockaddr_storage peer;
    struct ucred who = {0};
    socklen_t size = sizeof peer;
    socklen_t who_size = sizeof who;

    if (a.kind == CV_ADDRESS_TCP && getpeername(fd, (struct sockaddr *)(void *)&peer, &size) == 0)
        read_address(&a, &peer, size);
    cv_address_write(&a, text);
    if (a.kind == CV_ADDRESS_TCP || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &who_size) != 0)
        return;
    size = (socklen_t)strlen(text);
    (void)snprintf(text + size, CV_SOCKET_PEER_MAX - size, " (process %d of user %u)", (int)who.pid,
        (unsigned)who.uid);
}

int cv_socket_send(int fd, const void *bytes, size_t size, size_t *n)
{
    ssize_t sent;

    do
        sent = send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        *n = (size_t)sent;
        return 0;
    }
    switch (errno) {
    case EAGAIN:
        return CV_SOCKET_PENDING;
    case ENOBUFS:
    case ENOMEM:
        return cv_fail_errno("cannot send");
    default:
        return cv_fail(COVEY_EDIED, "the other side is gone: %s", strerror(errno));
    }
}

int cv_socket_receive(int fd, void *bytes, size_t room, size_t *n)
{
    ssize_t came;

    do
        came = recv(fd, bytes, room, MSG_DONTWAIT);
    while (came < 0 && errno == EINTR);
    if (came > 0) {
        *n = (size_t)came;
        return 0;
    }
    if (came == 0)
        return cv_fail(COVEY_EDIED, "the other side is gone without a word");
    switch (errno) {
    case EAGAIN:
        return CV_SOCKET_PENDING;
    case ENOBUFS:
    case ENOMEM:
        return cv_fail_errno("cannot receive");
    default:
        return cv_fail(COVEY_EDIED, "the other side is gone: %s", strerror(errno));
    }
}

void cv_socket_end(int fd)
{
    (void)shutdown(fd, SHUT_WR);
}

bool cv_socket_is_sending(int fd)
{
    int protocol = 0;
    int bytes = 0;

    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &(socklen_t){sizeof protocol}) == 0 &&
           protocol == IPPROTO_TCP && ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

void cv_socket_cut(int fd)
{
    (void)shutdown(fd, SHUT_RDWR);
}
