/* SPDX-License-Identifier: MIT */
/*
 * The semaphore: a share (sync/share.h); or, as a counter of events, one word:
 *
 *   bits 0-30   how many have been counted and not taken
 *   bit 31      sleepers
 *
 * Acquiring and releasing commit with the change of the word. Each has a bit that says whether
 * anybody may be sleeping, which is the state of a bell (sync/wait.h) in the word itself:
 *
 *   waiter      sets the bit, in the word that had nothing for it, and sleeps while the word, with
 *               the bit, is the same
 *   releaser    that finds the bit not set, and changes a word without it, owes nobody a wake, and
 *               so needs no alarm either. Else he wakes one; if there was none, he takes the bit
 *               away, and wakes all who had fallen asleep meanwhile
 *
 * Each of those who sleep watches the lives of all who hold permits by the word that it has seen, and
 * takes them back when one has died. So it sleeps only if the whole word is still the same: the half
 * with the bit may come back to what it was with another holder, who is not watched.
 */
#ifndef CV_SEMAPHORE_H
#define CV_SEMAPHORE_H

#include "sync/share.h"

#include <covey/semaphore.h>

_Static_assert(sizeof(struct cv_share) == sizeof((covey_semaphore *)0)->share_, "a share fits");

static inline struct cv_share *cv_semaphore_share(covey_semaphore *semaphore)
{
    return (struct cv_share *)(void *)semaphore->share_;
}

#endif
