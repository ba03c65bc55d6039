/* SPDX-License-Identifier: MIT */
/*
 * A record that a lock guards, for whatever kind of lock.
 *
 * Its holder writes his number into it, changes one half, then the other, and takes his number away
 * before he releases the lock. So who gets the lock finds out whether somebody else is in there, and
 * whether somebody has died in there. A number that is still there, or halves that differ, are allowed
 * only to one who is told (COVEY_EOWNERDEAD); and he is told rightly if the pid is that of a life which
 * was killed, was at this lock then, and has not been told of before. (Readers are told of it, too, until
 * somebody has got the lock for writing.)
 *
 * Around each use: guard_approach, acquire, guard_enter with the result, guard_change, guard_leave,
 * release, guard_depart.
 */
#ifndef GUARD_H
#define GUARD_H

#include "soak.h"

struct guard {
    uint64_t left, right; /* equal, if there is no holder */
    uint32_t holder;      /* 0: none; else a life and 1 */
    struct {
        uint8_t is_near; /* between approach and departure */
        uint8_t is_told; /* somebody who can mend was told of its death */
    } of[LIVES_MAX + 1]; /* the last is the killer */
};

void guard_approach(struct guard *g);
void guard_enter(struct guard *g, int result, const struct scenario *scenario);
void guard_change(struct guard *g);
void guard_leave(struct guard *g);
void guard_depart(struct guard *g);

/* For readers: acquire, read with the result, release. False: a writer must mend it. */
bool guard_read(struct guard *g, int result, const struct scenario *scenario);

#endif
