/* SPDX-License-Identifier: MIT */
/* Who holds what: the same question to all kinds of locks. */
#ifndef CV_HOLDERS_H
#define CV_HOLDERS_H

#include "arena/object.h"

#include <stdint.h>

struct cv_hold {
    uint64_t mark;    /* of the process */
    uint32_t tid;     /* of its thread; 0: any, or unknown */
    uint32_t permits; /* of a semaphore or, for reading, of an rwlock; 0: all of it */
};

/* Up to @max of those that hold it, dead or alive; how many that are. None for what is not held. */
unsigned cv_holders_of(void *object, enum cv_kind kind, struct cv_hold *holds, unsigned max);

#endif
