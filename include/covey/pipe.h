/* SPDX-License-Identifier: MIT */
/**
 * covey/pipe.h - a pair of connected ends: what goes into one comes out of the other
 *
 *     covey_pipe *here, *there;
 *     covey_pipe_open(&here, &there);
 *     covey_process_start(&child, work, COVEY_ARGUMENT(there));
 *     covey_pipe_send(here, "hello", 6, COVEY_FOREVER);
 *     covey_pipe_receive(here, answer, sizeof answer, &size, COVEY_FOREVER);
 *
 * Messages are bytes, any number of them, and stay whole. Both ends send and receive; of a one-way pipe the
 * first end receives and the second one sends. Each way holds back who sends when 1 MiB of small messages,
 * or 16 MiB with large ones, have not been received yet; or as many bytes as the pipe was opened for.
 *
 * Who holds an end. A process does, until it closes it, leaves the family or dies, if
 *
 *   - it uses it: sends, receives, polls, puts it into a queue, or calls covey_pipe_hold();
 *   - its address, at a multiple of 8, was in the argument that it was started with (covey_process_start());
 *   - it has taken it out of a queue or another pipe (covey_pipe_get());
 *   - nobody has held that end in one of these ways yet, and it has opened the pipe, or is a child of one that may have
 *     the end, made by a fork since, has used covey, and does not hold the other end.
 *
 * So several may hold the same end: each message goes to one of those who receive. A process that has closed an
 * end may use it again only when it is given it by a queue.
 *
 * The end of a pipe. When nobody holds the other end any more, receiving fails, after all messages that
 * still were there, with COVEY_ECLOSED, and sending fails at once. So a parent need not close the end that
 * it has opened for a child, for the child's death to be noticed; unless the child was made by fork() or
 * covey_fork(), or finds the end by a pointer in the arena: should that die before it has used the end, the
 * parent would wait for itself. It should close it all the same: the memory of a pipe, some 64 KiB, is given
 * back when nobody holds it, nor may hold it from a fork and has not used it yet, and who opened it has closed
 * both ends.
 *
 * A parent that uses the child's end even once, to send a first message or to poll, holds it like any other, and
 * is told of the child's death only if it then closes it.
 *
 * Whether who held the other end closed it or was killed makes no difference: COVEY_ECLOSED. A stream that must be
 * complete ends with a message that says so; the process itself tells how it ended (covey_process_exit_code()).
 *
 * Give a child only the end that it uses. One that is given both, and closes one, leaves that to nobody until
 * somebody else holds it, which the parent may do (covey_pipe_hold()). An address of an end within an item or
 * a message holds nothing: ends go by covey_pipe_put(). So to ask for an answer, put the request into a new
 * pipe, and then the pipe's other end into the queue: should who takes it die, one is told.
 *
 * A process that is killed while it sends or receives takes nothing with it but the message that it had
 * not finished sending, or had already received. One that is stopped (SIGSTOP, a debugger) while it sends or
 * receives holds up others as in a queue; and one that is stopped at the moment when it uses an end for the first
 * time, or gives it up, others that do the same, with this pipe or another: those that have no timeout
 * (covey_pipe_hold(), covey_pipe_close(), covey_pipe_fd(), a process that is started with an end) until it goes on
 * or is killed. (Where more than four processes have used an end, one that uses many ends may have to do that
 * again as if for the first time.)
 *
 * All functions may be called by any thread of any member, at the same time, as long as the process
 * holds the end.
 */
#ifndef COVEY_PIPE_H
#define COVEY_PIPE_H

#include <covey/family.h>
#include <covey/queue.h>

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/** covey_pipe - an end of a pipe; it lies in the arena, and its pointer is the same in all members */
typedef struct covey_pipe covey_pipe;

/** struct covey_pipe_options - how to open a pipe; zero means the default */
struct covey_pipe_options {
    size_t size;         /* sizeof(struct covey_pipe_options) */
    covey_pipe **first;  /* out: an end */
    covey_pipe **second; /* out: the other */
    bool one_way;        /* the first only receives, and the second only sends */
    size_t bytes;        /* how many bytes may be under way each way: as in covey_queue_options */
};

/**
 * covey_pipe_open() - make a pipe
 *
 *     covey_pipe *receiver, *sender;
 *     covey_pipe_open(&receiver, &sender, .one_way = true);
 *
 * Returns 0 with the ends in *first and *second; COVEY_EINVAL; COVEY_ENOMEM; the codes of covey_open().
 */
COVEY_API int covey_pipe_open_with(const struct covey_pipe_options *options);

/**
 * covey_pipe_send() - send a message to the other end
 * @pipe: an end
 * @message: its bytes; NULL is allowed for a message of no bytes
 * @size: how many
 * @timeout_s: how long to wait for room at most, in seconds; 0 or less: not at all; COVEY_FOREVER
 *
 * Returns 0; COVEY_EFULL when there was no room in time; COVEY_ECLOSED when nobody holds the other end;
 * COVEY_ESTATE when this end only receives, or this process has closed it; COVEY_ETOOBIG; COVEY_ENOMEM; COVEY_ELIMIT when more than
 * 1,023 processes hold the end; COVEY_EINTR (see covey_on_interrupt()); COVEY_EINVAL.
 */
COVEY_API int covey_pipe_send(covey_pipe *pipe, const void *message, size_t size, double timeout_s);

/**
 * covey_pipe_receive() - take the next message from the other end
 * @pipe: an end
 * @message: where its bytes go
 * @room: how many bytes fit there
 * @size: set to the size of the message; NULL: not wanted
 * @timeout_s: how long to wait for one at most
 *
 * Returns 0; COVEY_EEMPTY when there was none in time; COVEY_ECLOSED when there is none and nobody holds
 * the other end; COVEY_ETOOBIG when @room is too small: *size says what is needed, and the message stays;
 * COVEY_ESTATE when this end only sends, or is closed; and the others of covey_pipe_send().
 */
COVEY_API int covey_pipe_receive(
    covey_pipe *pipe, void *message, size_t room, size_t *size, double timeout_s);

/** covey_pipe_receive_exactly() - the same for a message of @size bytes; another is COVEY_ETOOBIG, too */
COVEY_API int covey_pipe_receive_exactly(
    covey_pipe *pipe, void *message, size_t size, double timeout_s);

/**
 * covey_pipe_poll() - wait until there is something to receive
 *
 * Returns 1 when there is a message, or nobody holds the other end; 0 when the time was over; the codes
 * of covey_pipe_receive().
 */
COVEY_API int covey_pipe_poll(covey_pipe *pipe, double timeout_s);

/**
 * covey_pipe_fd() - a descriptor for poll(), epoll and the like
 * @pipe: an end, which this process then holds
 *
 * It is readable when there may be something to receive, or nobody holds the other end any more: from
 * then on, until covey_pipe_receive() returns COVEY_EEMPTY, or covey_pipe_poll() 0, in this process. All
 * else is as with covey_queue_fd().
 *
 * Returns the descriptor; COVEY_ELIMIT, COVEY_ENOMEM; COVEY_ESTATE when this end only sends; COVEY_EINVAL.
 */
COVEY_API int covey_pipe_fd(covey_pipe *pipe);

/** covey_pipe_fd_close() - close it; done by covey_pipe_close(), too; returns 0 or COVEY_EINVAL */
COVEY_API int covey_pipe_fd_close(covey_pipe *pipe);

/**
 * covey_pipe_outgoing() - the queue into which an end sends
 * covey_pipe_incoming() - the queue from which it receives
 *
 * For what queues can do: many at once, blocks, reserve and commit, peek and release, sizes. From here on
 * this process holds the end, and may use the queue until it closes that. The queue ends with the pipe and
 * must not be closed or freed. NULL, with a message, when there is none.
 */
COVEY_API covey_queue *covey_pipe_outgoing(covey_pipe *pipe);
COVEY_API covey_queue *covey_pipe_incoming(covey_pipe *pipe);

/**
 * covey_pipe_hold() - this process holds the end
 *
 * For a process that was made by a plain fork(), or knows the end from shared memory, and does not use
 * it yet. Returns 0; COVEY_ESTATE when it has closed it; COVEY_ELIMIT, COVEY_ENOMEM; COVEY_EINVAL.
 */
COVEY_API int covey_pipe_hold(covey_pipe *pipe);

/**
 * covey_pipe_close() - this process does not hold the end any more
 * @pipe: the end; NULL does nothing
 *
 * Other processes that hold it go on. When nobody holds either end, and who has opened the pipe has closed
 * both or ended, it is freed with all that is in it. No thread of this process may be using the end.
 * Returns 0, also when this process had closed it, as long as there is the pipe; COVEY_ESTATE while this thread
 * has reserved a message, or looks at one; COVEY_ELIMIT, COVEY_ENOMEM; COVEY_EINVAL.
 */
COVEY_API int covey_pipe_close(covey_pipe *pipe);

/**
 * covey_pipe_put() - put an end into a queue, or the outgoing queue of a pipe
 * @queue: the queue
 * @pipe: the end, which this process holds, and goes on to hold
 * @timeout_s: how long to wait for room at most
 *
 * On its way the end is held. Who gets it by covey_pipe_get() holds it. If it is never got, because the
 * queue is freed or who was getting it dies, it is held no more; in a queue that is only closed it is still on
 * its way. The queue is neither joinable nor for items of one size, and none of the pipe's own. (Two pipes that lie in each other, and that no process holds any more,
 * stay in the arena as long as the family.)
 *
 * Returns 0; COVEY_EINVAL for the pipe's own queue; COVEY_ELIMIT when it has 1,023 holders already, on their ways
 * or not; COVEY_ESTATE for a joinable queue, or one of items of one size; the codes of covey_queue_put().
 */
COVEY_API int covey_pipe_put(covey_queue *queue, covey_pipe *pipe, double timeout_s);

/**
 * covey_pipe_get() - take an end out of a queue, or the incoming queue of a pipe
 * @queue: the queue
 * @pipe: set to the end, which this process then holds
 * @timeout_s: how long to wait for an item at most
 *
 * Returns 0; COVEY_EINVAL when the next item is no end of a pipe: it stays; the codes of
 * covey_queue_get().
 */
COVEY_API int covey_pipe_get(covey_queue *queue, covey_pipe **pipe, double timeout_s);

#ifndef __cplusplus
/* covey_pipe_open(&first, &second, .OPTION = VALUE, ...) */
#define covey_pipe_open(first_, ...)                                                               \
    covey_pipe_open_with(&(struct covey_pipe_options){                                             \
        .size = sizeof(struct covey_pipe_options), .first = (first_), .second = __VA_ARGS__})
#endif

/* covey_pipe_send_value(pipe, value, timeout_s) - send a variable: of an array all of it, of a pointer only that */
#define covey_pipe_send_value(pipe_, value_, timeout_s_)                                           \
    covey_pipe_send((pipe_), &(value_), sizeof(value_), (timeout_s_))

/* covey_pipe_receive_value(pipe, &value, timeout_s) - receive into a variable, whose size the message must have */
#define covey_pipe_receive_value(pipe_, pointer_, timeout_s_)                                      \
    covey_pipe_receive_exactly((pipe_), (pointer_), sizeof *(pointer_), (timeout_s_))

#ifdef __cplusplus
}
#endif

#endif
