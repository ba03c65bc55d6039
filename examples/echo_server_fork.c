/* SPDX-License-Identifier: MIT */
/*
 * A TCP server with one process per connection: whatever a client sends comes back in capitals.
 *
 *     echo_server_fork PORT
 *
 * It listens on 127.0.0.1; with 0 for PORT on any that is free. Prints "listening on PORT" and
 * serves until SIGTERM or SIGINT. Its children are daemons, and so end with it.
 */
#include "echo_service.h"

#include <covey.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int listener;

static int serve(void *argument)
{
    (void)close(listener);
    release_signals();
    echo_in_capitals(*(int *)argument);
    return 0;
}

/* When there is no process left to have, the connection is dropped and the server goes on. */
static void serve_in_a_child(int connection)
{
    int result = covey_process_start(
        NULL, serve, COVEY_ARGUMENT(connection), .daemon = true, .method = COVEY_FORK);

    if (result != 0)
        (void)fprintf(stderr, "dropped a connection: %s\n", covey_error());
    (void)close(connection);
}

static void run(int signals)
{
    struct pollfd fds[] = {{signals, POLLIN, 0}, {listener, POLLIN, 0}};

    for (;;) {
        int connection = -1;

        (void)poll(fds, 2, -1);
        if (is_told_to_end(signals))
            return;
        (void)covey_active_children(NULL, 0); /* takes away those that have ended */
        if (fds[1].revents)
            connection = accept_connection(listener);
        if (connection >= 0)
            serve_in_a_child(connection);
    }
}

int main(int argc, char **argv)
{
    int signals;

    covey_main(argc, argv);
    if (argc != 2) {
        (void)fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return EXIT_FAILURE;
    }
    signals = catch_signals();
    listener = listen_on(argv[1]);
    if (signals < 0 || listener < 0)
        return EXIT_FAILURE;
    run(signals);
    (void)close(listener);
    (void)close(signals);
    return EXIT_SUCCESS;
}
