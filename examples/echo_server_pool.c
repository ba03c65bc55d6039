/* SPDX-License-Identifier: MIT */
/*
 * A TCP server with workers that are there before the first connection: whatever a client sends
 * comes back in capitals.
 *
 *     echo_server_pool PORT [WORKERS]
 *
 * It listens on 127.0.0.1; with 0 for PORT on any that is free. Prints "listening on PORT" and
 * serves until SIGTERM or SIGINT. The connections' descriptors go into a queue, and whichever worker is
 * idle takes the next one out. A worker that dies is replaced, and takes with it no connection but the
 * one that it was serving.
 */
#include "echo_service.h"

#include <covey.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define RETRY_S 0.1 /* when a worker could not be started */

enum {
    WORKERS_MAX = 64,
};

static int listener = -1;
static covey_queue *connections;

static int work(void *unused)
{
    int connection;

    (void)unused;
    release_signals();
    if (listener >= 0)
        (void)close(listener);
    while (covey_descriptor_get(connections, &connection, COVEY_FOREVER) == 0) {
        echo_in_capitals(connection);
        (void)close(connection);
    }
    (void)fprintf(stderr, "no connection: %s\n", covey_error());
    return EXIT_FAILURE;
}

/* Starts those that are not there, and says how long to wait at most until this is tried again. */
static double start_missing(covey_process **workers, unsigned count)
{
    double retry_s = COVEY_FOREVER;

    for (unsigned i = 0; i < count; i++) {
        if (!workers[i] &&
            covey_process_start(&workers[i], work, .daemon = true, .method = COVEY_FORK) != 0) {
            (void)fprintf(stderr, "no worker: %s\n", covey_error());
            retry_s = RETRY_S;
        }
    }
    return retry_s;
}

static void bury(covey_process **worker)
{
    (void)covey_process_join(*worker, COVEY_FOREVER);
    (void)covey_process_close(*worker);
    *worker = NULL;
}

static void pass_on(int connection)
{
    if (connection < 0)
        return;
    if (covey_descriptor_put(connections, connection, 0) != 0)
        (void)fprintf(stderr, "dropped a connection: %s\n", covey_error());
    (void)close(connection); /* the queue has its own */
}

static int run(int signals, covey_process **workers, unsigned count)
{
    struct covey_waited things[2 + WORKERS_MAX] = {COVEY_WAITED(signals), COVEY_WAITED(listener)};
    covey_process **who[2 + WORKERS_MAX] = {NULL};

    for (;;) {
        double timeout_s = start_missing(workers, count);
        unsigned n = 2;

        for (unsigned i = 0; i < count; i++) {
            if (workers[i]) {
                who[n] = &workers[i];
                things[n++] = (struct covey_waited)COVEY_WAITED(workers[i]);
            }
        }
        if (covey_wait(things, n, timeout_s) < 0 && covey_error_code() != COVEY_ETIMEDOUT) {
            (void)fprintf(stderr, "%s\n", covey_error());
            return EXIT_FAILURE;
        }
        if (things[0].ready && is_told_to_end(signals))
            return EXIT_SUCCESS;
        if (things[1].ready)
            pass_on(accept_connection(listener));
        while (n-- > 2) {
            if (things[n].ready)
                bury(who[n]);
        }
    }
}

int main(int argc, char **argv)
{
    covey_process *workers[WORKERS_MAX] = {NULL};
    unsigned long count = 4;
    int signals;
    int status;

    covey_main(argc, argv);
    if (argc == 3)
        count = strtoul(argv[2], NULL, 10);
    if (argc < 2 || argc > 3 || count < 1 || count > WORKERS_MAX) {
        (void)fprintf(stderr, "usage: %s PORT [WORKERS]\n", argv[0]);
        return EXIT_FAILURE;
    }
    /* Nobody waits for room: what does not fit into this process's table of descriptors is dropped. */
    if (covey_queue_open(&connections, .unbounded = true) != 0) {
        (void)fprintf(stderr, "%s\n", covey_error());
        return EXIT_FAILURE;
    }
    signals = catch_signals();
    if (signals < 0)
        return EXIT_FAILURE;
    (void)start_missing(workers, (unsigned)count);
    listener = listen_on(argv[1]);
    if (listener < 0)
        return EXIT_FAILURE;
    status = run(signals, workers, (unsigned)count);
    (void)close(listener);
    (void)close(signals);
    return status;
}
