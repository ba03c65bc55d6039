/* SPDX-License-Identifier: MIT */
/*
 * A TCP server with workers that are there before the first connection: whatever a client sends
 * comes back in capitals.
 *
 *     echo_server_pool PORT [WORKERS]
 *
 * It listens on 127.0.0.1; with 0 for PORT on any that is free. Prints "listening on PORT" and
 * serves until SIGTERM or SIGINT. A connection's descriptor goes to an idle worker through a Unix
 * socket; the worker answers with a byte when it is idle again. While none is, connections wait in
 * line. A worker that dies is replaced, and takes with it no connection but its own.
 */
#include "echo_service.h"

#include <covey.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    WORKERS_MAX = 64,
    RETRY_MS = 100, /* when a worker could not be started */
};

static struct worker {
    covey_process *process; /* NULL: there is none */
    int channel;
    bool idle;
} workers[WORKERS_MAX];

static int count = 4;
static int listener = -1;

/* A descriptor travels beside one byte, in a control message. */
union control {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr aligned;
};

static bool send_fd(int channel, int fd)
{
    union control control = {{0}};
    struct iovec byte = {"", 1};
    struct msghdr message = {.msg_iov = &byte,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    *(int *)(void *)CMSG_DATA(header) = fd;
    return sendmsg(channel, &message, MSG_NOSIGNAL) == 1;
}

static int receive_fd(int channel)
{
    union control control;
    char byte;
    struct iovec bytes = {&byte, 1};
    struct msghdr message = {.msg_iov = &bytes,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control};
    struct cmsghdr *header;

    if (recvmsg(channel, &message, MSG_CMSG_CLOEXEC) != 1)
        return -1;
    header = CMSG_FIRSTHDR(&message);
    return header ? *(int *)(void *)CMSG_DATA(header) : -1;
}

static int work(void *argument)
{
    int channel = *(int *)argument;
    int connection;

    (void)close(listener);
    release_signals();
    while ((connection = receive_fd(channel)) >= 0) {
        echo_in_capitals(connection);
        (void)close(connection);
        (void)send(channel, "", 1, MSG_NOSIGNAL);
    }
    return 0;
}

static void start(struct worker *w)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        perror("socketpair");
        return;
    }
    if (covey_process_start(
            &w->process, work, COVEY_ARGUMENT(pair[1]), .daemon = true, .method = COVEY_FORK) != 0)
        (void)fprintf(stderr, "no worker: %s\n", covey_error());
    (void)close(pair[1]);
    w->channel = pair[0];
    w->idle = w->process != NULL;
    if (!w->process)
        (void)close(pair[0]);
}

static void bury(struct worker *w)
{
    (void)covey_process_join(w->process, COVEY_FOREVER);
    (void)covey_process_close(w->process);
    (void)close(w->channel);
    *w = (struct worker){0};
}

static void hand_over(int connection)
{
    for (int i = 0; i < count; i++) {
        if (!workers[i].idle)
            continue;
        workers[i].idle = false;
        if (send_fd(workers[i].channel, connection))
            break;
    }
    (void)close(connection);
}
