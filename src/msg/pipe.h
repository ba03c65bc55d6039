/* SPDX-License-Identifier: MIT */
/*
 * The pipe: two ends, and for each way a queue between them, all in one block.
 *
 * An end knows its users (msg/users.h): the processes that hold it. A queue knows those of the end that
 * puts into it, as its writers, and of the other, as its readers.
 *
 * The block is the own one of some process that holds an end, or nobody's while an end is only on its way.
 * Who stops holding one does so under the pipe's lock, in which he then looks: if nobody holds an end, he
 * takes the block, and the pipe is ended; if its owner does not, it is given to one who does, or who may have an end
 * by a fork and has not used it yet. For a process that dies, who buries it does that. One that is leaving the
 * family counts as gone.
 *
 * Whoever holds an end can be sure of the block. All others cannot: who may have an end and has not used it
 * yet, who starts a process with one, who inherits the block or has a ticket that was dropped already. So the lock
 * is not in the block, but one of the family's, which are never anything else; and who enters it looks whether
 * there is that pipe still, before he touches it. It is held for moments: nothing is allocated in it, nobody
 * buried, and no other lock of a pipe entered. A kill in the lock leaves nothing half done.
 *
 * Who ends the pipe changes its signature in the lock, and does the rest behind it: it is his own, and if he
 * dies, who buries him goes on.
 *
 * An end on its way through a queue is a *ticket*: a block of the sender's, then the queue's, then the
 * receiver's, with the addresses of the end and the queue in it. Until it is over, it counts as a
 * holder. Who puts it and who takes it is a user, so that others watch his life. His mark is in the ticket: if he
 * dies in the queue, they mend that. They do not use it, and it may be freed at any time: so they look for nothing
 * there but a lock with the mark of one who has died, and then whether it is a queue still. When it is taken, it
 * is over, dropped, all are woken, and it is freed.
 *
 * The lock may be a stopped process's, and others must go on: so who ends a ticket, or buries who had one or
 * the block, waits for it a moment only, and not for each. The dead one keeps what is his, and his burial is tried
 * again. A ticket that is over who next leaves the lock for that pipe ends instead of its owner. (If there is
 * none, what is left of the pipe ends with that owner. How is said where the ticket is declared, in msg/pipe.c.)
 *
 * A user who comes or goes tells the sleepers of both queues, without their alarms: should he die in that,
 * they watch his life, or need not know of him.
 */
#ifndef CV_PIPE_H
#define CV_PIPE_H

#include "msg/queue.h"
#include "msg/users.h"

#include <covey/pipe.h>

struct covey_pipe {
    uint64_t signature; /* arena/object.h */
    /* Written once. */
    uint64_t other;    /* address of the other end */
    uint64_t incoming; /* addresses of the queues; 0: there is none */
    uint64_t outgoing;
    struct cv_users users;
};

/* What the block begins with; then the queues. */
struct cv_pipe {
    struct covey_pipe end[2];
    uint64_t queue[2]; /* addresses; 0: there is none */
};

/* Of numbers that have much in common, others that have little. (Knuth, The Art of Computer Programming, 6.4.) */
#define CV_HASH UINT64_C(0x9e3779b97f4a7c15)

static inline uint64_t cv_hash(uint64_t n)
{
    return n * CV_HASH >> 32;
}

/* Of cv_family.pipe_lock, that of this one. */
static inline unsigned cv_pipe_lock(const struct cv_pipe *p)
{
    return cv_hash((uintptr_t)p) % CV_PIPE_LOCKS;
}

static inline covey_pipe *cv_pipe_of_users(struct cv_users *users)
{
    return (covey_pipe *)(void *)((char *)users - offsetof(covey_pipe, users));
}

/* A process is to be started with that argument: with the ends whose addresses are in it. 0, or a code with
 * its message. */
int cv_pipe_expect(uint64_t tag, const void *argument, size_t size);
/* It is not, whether all were expected or not. */
void cv_pipe_withdraw(uint64_t tag, const void *argument, size_t size);
/* It was: they are its own, too. */
void cv_pipe_hand_over(uint64_t tag, const void *argument, size_t size);

/* A user of the end has died, who may have been putting that ticket into a queue, or taking it out. */
void cv_pipe_settle(void *ticket);

/* The tag of the process that has the ticket, or frees the queue where it lies; 0: it lies in a queue. */
uint64_t cv_pipe_ticket_holder(void *ticket);

/* It holds nothing any more for those who wait, and is not dropped yet. */
bool cv_pipe_ticket_is_over(const void *ticket);

#endif
