/* SPDX-License-Identifier: MIT */
#include "echo_service.h"

#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

static int bind_and_listen(int listener, in_port_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    socklen_t size = sizeof address;

    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) != 0 ||
        bind(listener, (struct sockaddr *)&address, size) != 0 ||
        listen(listener, SOMAXCONN) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        return -1;
    (void)printf("listening on %d\n", ntohs(address.sin_port));
    return fflush(stdout);
}

int listen_on(const char *text)
{
    char *end;
    unsigned long port = strtoul(text, &end, 10);
    int listener;

    if (*end || port > UINT16_MAX) {
        (void)fprintf(stderr, "%s is not a port\n", text);
        return -1;
    }
    /* Without waiting: a connection that poll() has seen may be gone when accept() comes. */
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener >= 0 && bind_and_listen(listener, (in_port_t)port) == 0)
        return listener;
    perror("cannot listen");
    if (listener >= 0)
        (void)close(listener);
    return -1;
}

int accept_connection(int listener)
{
    int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    /* Without a free descriptor or memory it stays in line, and poll() returns at once. For other
     * errors (EINTR, ECONNABORTED, ...) it is enough to ask poll() again. */
    if (connection < 0 &&
        (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
        (void)usleep(10000);
    return connection;
}

static bool send_all(int connection, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(connection, bytes, size, MSG_NOSIGNAL);

        if (sent < 0 && errno != EINTR)
            return false;
        if (sent > 0) {
            bytes += sent;
            size -= (size_t)sent;
        }
    }
    return true;
}

void echo_in_capitals(int connection)
{
    char bytes[16384];
    ssize_t size;

    while ((size = recv(connection, bytes, sizeof bytes, 0)) > 0 || (size < 0 && errno == EINTR)) {
        for (ssize_t i = 0; i < size; i++)
            bytes[i] = (char)toupper((unsigned char)bytes[i]);
        if (size > 0 && !send_all(connection, bytes, (size_t)size))
            break;
    }
}

static sigset_t caught_signals(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGCHLD);
    return set;
}

int catch_signals(void)
{
    sigset_t set = caught_signals();
    int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);

    if (signals < 0)
        perror("signalfd");
    else
        (void)sigprocmask(SIG_BLOCK, &set, NULL);
    return signals;
}

void release_signals(void)
{
    sigset_t set = caught_signals();

    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
}

bool is_told_to_end(int signals)
{
    struct signalfd_siginfo info;

    while (read(signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo != SIGCHLD)
            return true;
    }
    return false;
}
