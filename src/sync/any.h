/* SPDX-License-Identifier: MIT */
/*
 * The first of several objects: what each kind has to say for it.
 *
 * There are two ways. Up to CV_TARGETS_MAX objects are waited for as one is alone: asleep on the words
 * of all of them. Where something is among them that only a descriptor tells of, or where there are more,
 * poll() waits for descriptors, and the objects have theirs (sync/watch.h).
 */
#ifndef CV_ANY_H
#define CV_ANY_H

#include "os/descriptor.h"
#include "sync/wait.h"

#include <covey/wait.h>

/* Those whose lives are to be watched. */
struct cv_watched_lives {
    unsigned n;
    uint64_t tags[CV_WAIT_TAGS_MAX];
};

/* What the descriptor of an object is for. */
enum cv_any_descriptor {
    CV_ANY_SECOND,   /* poll() only: the object's words tell, too */
    CV_ANY_READY,    /* only it tells: readable, the object is ready */
    CV_ANY_READABLE, /* only it tells: readable, the object may be ready */
};

enum {
    CV_ANY_BUSY = 2, /* another thread of this process has it just now */
};

struct cv_any_kind {
    /* May it be waited for? 0, or a code with its message. */
    int (*check)(void *object);
    /* 1: it is ready; else 0, and by what that will be known to have changed; CV_ANY_BUSY: whether it is
     * will be known later. Or a code. With @arm and for a sleep, its bell is armed first, and not quiet
     * again but for 0. Where only a descriptor tells, nothing is set. */
    int (*look)(void *object, bool arm, struct cv_target *target, struct cv_watched_lives *lives);
    /* A descriptor that will be readable when it is ready, or a code; COVEY_ETIMEDOUT, without a message: there is
     * none yet, but will be soon. If it is only for this once, it is *@own. */
    int (*descriptor)(void *object, struct cv_descriptor *own);
    enum cv_any_descriptor by_descriptor;
};

void cv_any_set(enum covey_waitable kind, const struct cv_any_kind *functions);

/* What is called when nobody waits any more: once for each check() that has allowed it. */
void cv_any_set_end(enum covey_waitable kind, void (*end)(void *object));

/* Each is watched once. */
void cv_watched_lives_add(struct cv_watched_lives *lives, const uint64_t *tags, unsigned n);

#endif
