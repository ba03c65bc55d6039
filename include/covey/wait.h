/* SPDX-License-Identifier: MIT */
/**
 * covey/wait.h - wait for the first of several things
 *
 *     struct covey_waited things[] = {COVEY_WAITED(queue), COVEY_WAITED(child), COVEY_WAITED(socket)};
 *     if (covey_wait(things, 3, 1.0) > 0 && things[0].ready)
 *         covey_queue_get(queue, ...);
 *
 * Nothing is taken by waiting: when it is over, another process may have been faster.
 */
#ifndef COVEY_WAIT_H
#define COVEY_WAIT_H

#include <covey/connection.h>
#include <covey/event.h>
#include <covey/listener.h>
#include <covey/pipe.h>
#include <covey/pool.h>
#include <covey/process.h>
#include <covey/queue.h>

#ifdef __cplusplus
extern "C" {
#endif

/** enum covey_waitable - what can be waited for, and until when */
enum covey_waitable {
    COVEY_WAIT_DESCRIPTOR = 1, /* until poll() says so */
    COVEY_WAIT_QUEUE,          /* until there is an item to get, or the queue is closed */
    COVEY_WAIT_PIPE,       /* until there is a message to receive, or nobody holds the other end */
    COVEY_WAIT_EVENT,      /* until it is set */
    COVEY_WAIT_PROCESS,    /* until it has ended */
    COVEY_WAIT_CONNECTION, /* until there is a message to receive, or never will be one */
    COVEY_WAIT_LISTENER,   /* until there is a connection to accept, or that fails */
    COVEY_WAIT_FUTURE,     /* until its task has ended, or never will */
};

/** struct covey_waited - one of them */
struct covey_waited {
    enum covey_waitable kind;
    int descriptor; /* of COVEY_WAIT_DESCRIPTOR */
    void *object;   /* of the others */
    short events;   /* for a descriptor: as in struct pollfd; 0: POLLIN */
    short ready;    /* out: what came of it: 0 nothing; else as revents in struct pollfd, or 1 */
};

/**
 * covey_wait() - wait until at least one is ready
 * @waited: @n of them; their @ready is set
 * @n: how many, up to 1,024; with 0 of them it sleeps
 * @timeout_s: how long to wait at most, in seconds; 0 or less: only look; COVEY_FOREVER
 *
 * The same thing may be there more than once. To wait for a pipe is to hold that end (covey/pipe.h). An
 * event that is set, and cleared at once, may be missed.
 *
 * To wait for a listener is to let in and to turn away, as covey_listener_accept() does; a connection or
 * failure that comes of it stays for that. Connections and listeners cannot be closed while a thread waits for them; their
 * stop() ends the wait. Where another thread receives from the same connection, or accepts, a message or
 * connection that it leaves may be noticed up to 20 ms late.
 *
 * If there are others than queues, pipes, events and futures among them, or more than 14 things, then each
 * of these is waited for by its descriptor (covey_queue_fd() tells what that takes), which stays
 * for the next time: so each such queue, pipe, event and future takes two descriptors and a thread of this
 * process, until it is freed or closed, or its covey_queue_fd_close(), covey_pipe_fd_close() ... is called. For
 * 1,024 of them that is more than the usual limit of 1,024 descriptors (RLIMIT_NOFILE): COVEY_ELIMIT, and what
 * this call has opened is closed again.
 *
 * If there are none of these, no descriptor and no thread is needed. But where there are then several (of the
 * futures of one pool any number counts as one), the thread that waits wakes ten times a second to see whether
 * somebody has died in the middle of a put, which it may notice 0.1 s late, and sleeps again. Who wants not even
 * that waits for their descriptors by poll(), or has a descriptor among the things.
 *
 * A pipe tells of the death of who holds its other end by itself: the process need not be among the things
 * only for that. There is no waiting for room: to put or send with a timeout of 0 tells whether there is some.
 *
 * Should another process free an object meanwhile, that ends the wait with COVEY_EINVAL.
 *
 * Returns how many are ready; COVEY_ETIMEDOUT; COVEY_EINTR (see covey_on_interrupt()); COVEY_EINVAL for
 * what is no such object, which the message tells; COVEY_ENOTOWNER for another process's connection,
 * listener or future; COVEY_ESTATE when the program has closed its descriptor; COVEY_ELIMIT; COVEY_ENOMEM.
 */
COVEY_API int covey_wait(struct covey_waited *waited, size_t n, double timeout_s);

#ifndef __cplusplus
/* COVEY_WAITED(what) - an initializer for a struct covey_waited: @what is a descriptor, or a pointer to an
 * object that covey_wait() waits for */
#define COVEY_WAITED(what_)                                                                        \
    {                                                                                              \
        .kind = _Generic((what_), covey_queue *                                                    \
                         : COVEY_WAIT_QUEUE, covey_pipe *                                          \
                         : COVEY_WAIT_PIPE, covey_event *                                          \
                         : COVEY_WAIT_EVENT, covey_process *                                       \
                         : COVEY_WAIT_PROCESS, covey_connection *                                  \
                         : COVEY_WAIT_CONNECTION, covey_listener *                                 \
                         : COVEY_WAIT_LISTENER, covey_future *                                     \
                         : COVEY_WAIT_FUTURE, int                                                  \
                         : COVEY_WAIT_DESCRIPTOR),                                                 \
        .descriptor = _Generic((what_), int                                                        \
                               : (what_), default                                                  \
                               : -1),                                                              \
        .object = _Generic((what_), int                                                            \
                           : NULL, default                                                         \
                           : (what_))                                                              \
    }
#endif

#ifdef __cplusplus
}
#endif

#endif
