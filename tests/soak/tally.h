/* SPDX-License-Identifier: MIT */
/*
 * How often each life has done something, kept so that a kill leaves one doubt at most.
 *
 * A word for each life: twice the times that it has done it for certain, and 1 while it is doing it once
 * more. Each change is one store. So of all the dead together it is known that it was done @least times,
 * and how many more it may be.
 */
#ifndef TALLY_H
#define TALLY_H

#include "soak.h"

struct tally {
    uint64_t of[LIVES_MAX + 1];
};

static inline void tally_begin(struct tally *t)
{
    cv_store_seq(&t->of[soak_me], t->of[soak_me] | 1);
}

static inline void tally_end(struct tally *t)
{
    cv_store_seq(&t->of[soak_me], (t->of[soak_me] | 1) + 1);
}

/* It has not been done, after all. */
static inline void tally_undo(struct tally *t)
{
    cv_store_seq(&t->of[soak_me], t->of[soak_me] & ~UINT64_C(1));
}

static inline bool tally_is_busy(struct tally *t, uint32_t life)
{
    return cv_load_seq(&t->of[life]) & 1;
}

static inline uint64_t tally_least(const struct tally *t)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i <= LIVES_MAX; i++)
        n += t->of[i] / 2;
    return n;
}

static inline uint64_t tally_doubts(const struct tally *t)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i <= LIVES_MAX; i++)
        n += t->of[i] & 1;
    return n;
}

#endif
