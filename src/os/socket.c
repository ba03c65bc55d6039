/* SPDX-License-Identifier: MIT */
#include "os/socket.h"

#include "base/atomic.h"
#include "base/error.h"
#include "os/clock.h"
#include "os/futex.h"
#include "os/thread.h"
#include "os/unshared.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* Since Linux 6.15. */
#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44
#endif

/* Since Linux 6.16. */
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

/* Since Linux 5.9; the headers of the build machine may be older. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
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
    HOLD_NS = 200 * CV_NS_PER_MS,
    SINK_BYTES = 4096,
    SINK_MAX = 1 << 20,
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

/* 1: descriptors can come along with what comes to a Unix socket. */
static uint32_t lets_rights_in;

/* What is accepted has this from the listening socket. */
static void keep_rights_out(int fd)
{
    if (setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &(int){0}, sizeof(int)) != 0)
        cv_store_relaxed(&lets_rights_in, 1);
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
    if (r == 0 && family == AF_UNIX)
        keep_rights_out(d->fd);
    return r;
}

/* Closing *********************************************************************************** */

static void forget(const struct cv_descriptor *d)
{
    cv_unshared_lock();
    cv_unshared_remove(d);
    cv_unshared_unlock();
}

/* Without the lock: it may take long. Whatever has the number after that is another socket to who looks there for
 * this one. */
void cv_socket_leave(struct cv_descriptor *d)
{
    struct cv_descriptor left = *d;

    cv_descriptor_close(d);
    forget(&left);
}

static int option_of(int fd, int option)
{
    int value = 0;

    (void)getsockopt(fd, SOL_SOCKET, option, &value, &(socklen_t){sizeof value});
    return value;
}

bool cv_socket_lets_rights_in(int fd)
{
    return cv_load_relaxed(&lets_rights_in) && option_of(fd, SO_DOMAIN) == AF_UNIX;
}

/* Who is still to be accepted would be closed with the listening socket. */
static bool accept_all(int listening)
{
    struct cv_descriptor d;
    int r;

    while ((r = cv_socket_accept(&d, listening)) == 0)
        cv_socket_close(&d);
    return r != COVEY_ELIMIT && r != COVEY_ENOMEM;
}

/* Drops what has come, up to where a descriptor came along: false if there is one, or perhaps. */
static bool drop_all(int fd)
{
    char sink[SINK_BYTES];
    int r = 0;

    for (size_t n = 0, all = 0; r == 0 && all < SINK_MAX; all += n)
        r = cv_socket_receive(fd, true, sink, sizeof sink, &n);
    return r == CV_SOCKET_PENDING || r == COVEY_EDIED;
}

/* Can it be closed without having to wait? Nothing more comes. */
static bool is_free_of_rights(int fd)
{
    struct cv_error before;
    bool is_free;

    if (!cv_socket_lets_rights_in(fd))
        return true;
    cv_error_save(&before);
    (void)shutdown(fd, SHUT_RD);
    is_free = option_of(fd, SO_ACCEPTCONN) ? accept_all(fd) : drop_all(fd);
    cv_error_restore(&before);
    return is_free;
}

/*
 * A thread for the end of a socket that has descriptors in its queue, maybe sockets that have some, too. What is
 * closed because a thread ends does not linger. So this one gets a table of descriptors of its own, with the socket
 * in it, and ends when that is closed here, and by children that were just being forked. Where it cannot have a
 * table, it closes the socket itself, and lingers instead of the caller. A child that is forked meanwhile keeps a copy,
 * for it would linger, too; it is of a socket that is shut down.
 */
struct closer {
    struct cv_descriptor socket;
    uint32_t state;
};

enum {
    BEGUN,
    HOLDS,
    CLOSES,
};

/* It may be gone from here on. */
static void set_state(struct closer *c, uint32_t state)
{
    cv_store_seq(&c->state, state);
    (void)cv_futex_wake(&c->state, 1);
}

static uint32_t await_state(struct closer *c)
{
    struct cv_futex_watch watch = {&c->state, BEGUN};
    unsigned woken;

    while (cv_load_seq(&c->state) == BEGUN)
        (void)cv_futex_wait(&watch, 1, CV_FOREVER, &woken);
    return cv_load_seq(&c->state);
}

/* A table for this thread, of @fd only. What is above it is not even copied. */
static bool keep_only(int fd)
{
    if (syscall(SYS_close_range, (unsigned)fd + 1, UINT_MAX, CLOSE_RANGE_UNSHARE) != 0)
        return false;
    (void)syscall(SYS_close_range, 0U, (unsigned)fd - 1, 0U);
    return true;
}

static void *hold_or_close(void *context)
{
    struct closer *c = context;
    struct cv_descriptor d = c->socket;

    if (keep_only(d.fd)) {
        set_state(c, HOLDS);
        cv_clock_sleep(HOLD_NS);
    } else {
        set_state(c, CLOSES);
        forget(&d);
        cv_clock_sleep(HOLD_NS);
        cv_descriptor_close(&d);
    }
    return NULL;
}

/* False: there is no thread, and it is not closed. A signal handler that forks must not find this half done. */
static bool close_by_thread(struct cv_descriptor *d)
{
    sigset_t before = cv_thread_block_signals();
    struct closer c = {*d, BEGUN};
    struct cv_error error;
    pthread_t thread;
    bool is_begun;

    cv_socket_cut(d->fd);
    cv_error_save(&error);
    is_begun = cv_thread_start(&thread, hold_or_close, &c) == 0;
    cv_error_restore(&error);
    if (is_begun) {
        (void)pthread_detach(thread);
        if (await_state(&c) == HOLDS)
            cv_socket_leave(d);
        *d = CV_NO_DESCRIPTOR;
    }
    cv_thread_restore_signals(&before);
    return is_begun;
}

void cv_socket_close(struct cv_descriptor *d)
{
    if (!cv_descriptor_is_ours(d) || is_free_of_rights(d->fd) || !close_by_thread(d))
        cv_socket_leave(d);
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

/* Bytes, or why there are none. */
static int judge(ssize_t came, size_t *n)
{
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

/* How much could be received, and with nothing along. Without room for them the kernel says that there are
 * descriptors, and leaves them where they are. */
static int look(int fd, void *bytes, size_t room, size_t *n)
{
    struct iovec data = {bytes, room};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    ssize_t came;

    do
        came = recvmsg(fd, &message, MSG_DONTWAIT | MSG_PEEK);
    while (came < 0 && errno == EINTR);
    if (came >= 0 && (message.msg_flags & MSG_CTRUNC))
        return cv_fail(COVEY_ECORRUPT, "the other side sends descriptors along");
    return judge(came, n);
}

int cv_socket_receive(int fd, bool wary, void *bytes, size_t room, size_t *n)
{
    ssize_t came;
    int r = wary ? look(fd, bytes, room, &room) : 0;

    if (r != 0)
        return r;
    do
        came = recv(fd, bytes, room, MSG_DONTWAIT);
    while (came < 0 && errno == EINTR);
    return judge(came, n);
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
