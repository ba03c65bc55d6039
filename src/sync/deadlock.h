/* SPDX-License-Identifier: MIT */
/*
 * Deadlocks: circles of threads that wait for what the next one holds.
 *
 * Who is about to sleep has shown what for (sync/waiter.h), and numbered that. Then he looks from
 * there: who holds it; what these wait for; who holds that; and so on. A thread is *stuck* if it waits
 * for something that can only come from threads that are stuck:
 *
 *   lock, rlock   from the thread that holds it
 *   rwlock        from all processes that hold it, and from the writer at the gate: it is enough that
 *                 one is stuck
 *   semaphore     from any process that holds a permit: all must be stuck, and no permit free; and
 *                 nobody may ever have released one that he did not hold: others may do so, too
 *   process       its end, from itself
 *
 * A process is stuck if all its threads are. Whoever holds without waiting, or is dead, or unknown, is
 * not stuck; and nobody is for an event, a condition, a barrier, a queue: who knows who comes.
 *
 * A thread that finds itself again, stuck, has closed the circle, if no number in it is higher than
 * its own: else he with the highest will find it, for he looks after all have shown themselves. All
 * is read without locks, so it is read twice: a wait that has the same number both times has lasted
 * all the while, and a thread that waits takes and releases nothing. So if all is the same, then all
 * of it was true between the two. (A number that is not lower than its own may be one that its owner
 * has not got yet: he will look later.)
 *
 * The waits of a process that is about to end do not count: who looks waits for that a while.
 *
 * He who is woken for nothing looks again, with a new number, and may be the second one to find the
 * circle. So who has found it first shows that he waits no more, and then looks whether all others still
 * have the numbers that he has seen. If not, one of them may find it, too: he shows himself and looks
 * again. If so, they will see that he does not wait: one of a circle is told.
 */
#ifndef CV_DEADLOCK_H
#define CV_DEADLOCK_H

#include "sync/waiter.h"

/* 0; COVEY_EDEADLK, with a message that names the circle, if this thread's wait closes one: it is hidden
 * then. */
int cv_deadlock_check(struct cv_waiter *waiter);

#endif
