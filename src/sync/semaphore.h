/* SPDX-License-Identifier: MIT */
/*
 * The semaphore: a share (sync/share.h) with a bell; or, as a counter of events, one word: how many.
 *
 * Acquiring commits with the change of the word, releasing as well, and then the bell is rung once.
 * Of those who sleep, each watches the lives of all who hold permits, and takes them back when one
 * has died.
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
