/* SPDX-License-Identifier: MIT */
/**
 * covey/descriptor.h - file descriptors from process to process
 *
 *     int client = accept(listener, NULL, NULL);
 *     covey_descriptor_put(queue, client, COVEY_FOREVER);       // in one process
 *     close(client);
 *     ...
 *     covey_descriptor_get(queue, &client, COVEY_FOREVER);      // in another
 *
 * A descriptor of any file goes through a queue like an item, in its place among the others, to any member
 * of the family: parent, child, or neither. It goes through a pipe, too, by the queues of its ends
 * (covey_pipe_outgoing(), covey_pipe_incoming()).
 *
 * Until it is got, the process that has put it keeps a copy of it, which ends when it is got, when the
 * item is gone some other way, or with that process. So who puts a descriptor must live until it is got.
 * If a process is killed while it gets one, the copy ends a moment later (about 0.1 s).
 */
#ifndef COVEY_DESCRIPTOR_H
#define COVEY_DESCRIPTOR_H

#include <covey/queue.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * covey_descriptor_put() - put a descriptor into a queue
 * @queue: the queue, which is not joinable, and in which items of any size may be
 * @fd: the descriptor, which stays this process's own and can be closed at once
 * @timeout_s: how long to wait for room at most, in seconds; 0 or less: not at all; COVEY_FOREVER
 *
 * The first one that a process puts starts a thread in the background, which sleeps until somebody gets
 * one. A process that is forked has neither the thread nor the copies.
 *
 * Returns 0; COVEY_EINVAL when @fd is not open; COVEY_ELIMIT when this process can have no more
 * descriptors or threads; COVEY_ESTATE for a joinable queue; the codes of covey_queue_put().
 */
COVEY_API int covey_descriptor_put(covey_queue *queue, int fd, double timeout_s);

/**
 * covey_descriptor_get() - take a descriptor out of a queue
 * @queue: the queue
 * @fd: set to a descriptor of the same open file, close-on-exec, which is this process's own
 * @timeout_s: how long to wait for an item at most
 *
 * The process that has put it hands it over, which takes a moment. Should it be stopped, this takes as
 * long as the timeout says, but a second at least, also with a timeout of 0.
 *
 * Returns 0; COVEY_EINVAL when the next item is no descriptor: it stays; COVEY_ELIMIT when this process
 * can have no more descriptors (it takes three for a moment); COVEY_ESTATE for a joinable queue; the codes
 * of covey_queue_get(). After these the item is gone: COVEY_EDIED when the process that has put it has
 * ended, or left the family; COVEY_ETIMEDOUT when it has not handed it over in time; COVEY_EINTR, if that
 * came then; COVEY_ESYS.
 */
COVEY_API int covey_descriptor_get(covey_queue *queue, int *fd, double timeout_s);

#ifdef __cplusplus
}
#endif

#endif
