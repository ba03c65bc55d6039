/* SPDX-License-Identifier: MIT */
/*
 * The condition: who waits at it, its waiters' records say (sync/waiter.h).
 *
 * A waiter, holding the lock, takes a record, sets its signal to WAITING, stores the condition's
 * address as its place and a turn, the next of the family's numbers, and adds its bit to @came (which
 * only grows). Then it releases the lock, and sleeps on its own signal, with the flag SLEEPS set in it.
 *
 *   notify   of those WAITING whose processes live, the one with the lowest turn is chosen. The commit
 *            is the condition's word: a number, one more than before, and which wait of which record
 *            is meant (by 14 bits of its count: a waiter passes over the one that the word still
 *            names when it comes). Anybody completes it: WAITING -> NOTIFIED, and wakes the thread if
 *            SLEEPS was set. The next one does before he changes the word.
 *   give up  WAITING -> NOTHING, by the waiter, at its deadline. Whichever is first counts; who finds
 *            that the one he has chosen had given up chooses another.
 *   go on    the lock is taken again, and only then NOTIFIED -> NOTHING.
 *
 * During all of it the alarm is pending, that of the lock: the waiters of a condition and those of its
 * lock sleep on the same.
 *
 *   a kill   of who notifies leaves some notified and others not; and the lock, whose next holder is
 *            told. Of a waiter it leaves a record that says WAITING, which is passed over, or NOTIFIED:
 *            that notification is then another's, and those who wait find out: who sleeps already, by
 *            the alarm; who is about to, because he watches the lives of those that are NOTIFIED, and
 *            does not fall asleep if the word's number has changed since he looked. They bury the
 *            dead, and the burial (cv_condition_pass_on()) notifies the next one, and then sets the
 *            signal to NOTHING, before it frees the record: who takes that is not to be seen to wait.
 *            Where a burial was killed in between, or two were at it, or the next one has gone on before
 *            the burier could see that he was notified, that is one notification too many.
 *            The burier, too, has the alarm pending: whom it notifies and cannot wake any more would be
 *            passed over by all others. (Not where it buries in the middle of another object's operation,
 *            for a thread has one alarm. Then, if it is killed as well, that may be so.)
 *
 * In an interrupt hook (sync/wait.h) a waiter's alarm may be another one. If it is notified meanwhile, all
 * who sleep are rallied, and find it among those that are NOTIFIED; if it was before, they are by itself.
 *
 * A process that is killed rings when its end begins; only when that is over it is dead for the kernel.
 * If it is notified in between, those who sleep have looked already, and will not look again. So one
 * who is ending is notified only if there is nobody else; and if it began to end while it was being
 * notified, the next one is notified as well (which again may be one too many).
 */
#ifndef CV_CONDITION_H
#define CV_CONDITION_H

#include "sync/waiter.h"

#include <covey/condition.h>

/* The record's process @tag is dead: what it was notified of, another one is; and it waits no more. */
void cv_condition_pass_on(struct cv_waiter *dead, uint64_t tag);

#endif
