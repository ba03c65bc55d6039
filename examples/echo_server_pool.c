/* SPDX-License-Identifier: MIT */
/*
 * A TCP server with workers that are there before the first connection: whatever a client sends
 * comes back in capitals.
 *
 *     echo_server_pool PORT [WORKERS]
 *
 * It listens on 127.0.0.1; with 0 for PORT on any that is free. Prints "listening on PORT" and
 * serves until SIGTERM or SIGINT. The connections' descriptors go into a Unix socket, and whichever
 * worker is idle takes the next one out. A worker that dies is replaced, and takes with it no
 * connection but the one that it was serving.
 */
#include "echo_service.h"

#include <covey.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    WORKERS_MAX = 64,
    RETRY_MS = 100, /* when a worker could not be started */
};

static int listener = -1;
static int channel[2]; /* descriptors go into the first end and out of the second */

/* A descriptor travels beside a byte, in a control message. */
struct parcel {
    struct msghdr message;
    struct iovec bytes;
    char byte;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
};

static struct cmsghdr *prepare(struct parcel *p)
{
    *p = (struct parcel){.bytes = {&p->byte, 1}};
    p->message.msg_iov = &p->bytes;
    p->message.msg_iovlen = 1;
    p->message.msg_control = p->control;
    p->message.msg_controllen = sizeof p->control;
    return CMSG_FIRSTHDR(&p->message);
}

static bool send_fd(int fd)
{
    struct parcel p;
    struct cmsghdr *header = prepare(&p);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return sendmsg(channel[0], &p.message, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

static int receive_fd(void)
{
    struct parcel p;
    struct cmsghdr *header = prepare(&p);
    int fd = -1;

    while (recvmsg(channel[1], &p.message, MSG_CMSG_CLOEXEC) < 0 && errno == EINTR) {
    }
    if (p.message.msg_controllen >= CMSG_LEN(sizeof fd)) /* 0 when this process is at its limit */
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

static int work(void *unused)
{
    (void)unused;
    release_signals();
    if (listener >= 0)
        (void)close(listener);
    for (;;) {
        int connection = receive_fd();

        if (connection < 0)
            return EXIT_FAILURE;
        echo_in_capitals(connection);
        (void)close(connection);
    }
}

/* Starts those that are not there, and says how long to wait at most until this is tried again. */
static int start_missing(covey_process **workers, unsigned count)
{
    int retry_ms = -1;

    for (unsigned i = 0; i < count; i++) {
        if (!workers[i] &&
            covey_process_start(&workers[i], work, .daemon = true, .method = COVEY_FORK) != 0) {
            (void)fprintf(stderr, "no worker: %s\n", covey_error());
            retry_ms = RETRY_MS;
        }
    }
    return retry_ms;
}

static void bury(covey_process **worker)
{
    (void)covey_process_join(*worker, COVEY_FOREVER);
    (void)covey_process_close(*worker);
    *worker = NULL;
}

static void run(int signals, covey_process **workers, unsigned count)
{
    struct pollfd fds[3 + WORKERS_MAX] = {{signals, POLLIN, 0}};
    int connection = -1; /* accepted, and not yet handed over */

    for (;;) {
        int timeout_ms = start_missing(workers, count);

        fds[1] = (struct pollfd){connection < 0 ? listener : -1, POLLIN, 0};
        fds[2] = (struct pollfd){connection < 0 ? -1 : channel[0], POLLOUT, 0};
        for (unsigned i = 0; i < count; i++)
            fds[3 + i] = (struct pollfd){workers[i] ? covey_process_fd(workers[i]) : -1, POLLIN, 0};
        if (poll(fds, 3 + count, timeout_ms) < 0)
            continue;
        if (is_told_to_end(signals))
            return;
        for (unsigned i = 0; i < count; i++) {
            if (fds[3 + i].revents)
                bury(&workers[i]);
        }
        if (fds[1].revents)
            connection = accept_connection(listener);
        if (connection >= 0 && (send_fd(connection) || errno != EAGAIN)) {
            (void)close(connection);
            connection = -1;
        }
    }
}

int main(int argc, char **argv)
{
    covey_process *workers[WORKERS_MAX] = {NULL};
    unsigned long count = 4;
    int signals;

    covey_main(argc, argv);
    if (argc == 3)
        count = strtoul(argv[2], NULL, 10);
    if (argc < 2 || argc > 3 || count < 1 || count > WORKERS_MAX) {
        (void)fprintf(stderr, "usage: %s PORT [WORKERS]\n", argv[0]);
        return EXIT_FAILURE;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) != 0) {
        perror("socketpair");
        return EXIT_FAILURE;
    }
    signals = catch_signals();
    if (signals < 0)
        return EXIT_FAILURE;
    (void)start_missing(workers, (unsigned)count);
    listener = listen_on(argv[1]);
    if (listener < 0)
        return EXIT_FAILURE;
    run(signals, workers, (unsigned)count);
    (void)close(listener);
    (void)close(signals);
    return EXIT_SUCCESS;
}
