/* SPDX-License-Identifier: MIT */
/*
 * The share: permits, and how many of them each process holds.
 *
 * What a semaphore and a reader/writer lock have in common: a number of permits is free, the others
 * are held, and those of a process that dies are free again. One word changes with every operation,
 * by one compare-exchange, and that is the commit:
 *
 *   bits 0-14   free: permits that nobody holds
 *   bits 15-29  held: permits that the process of the cell @current holds
 *   bit 30      died: the holder of all permits has died, and the next one is to be told (only if
 *               that was asked for); then @current is its cell
 *   bits 31-40  current: number of a cell, from 1 on; 0: none yet
 *   bits 41-63  version: one more with each change
 *
 * Each process that uses the share has a cell (sync/cells.h); the low half of its value is what it
 * holds, the high half a version. The cell at
 * @current does not count: what its process holds stands in the word. So a process that operates
 * again and again changes the word alone.
 *
 * Another process first makes its own cell the current one: it saves "held" into the current cell,
 * reads its own cell, and changes the word, with "held" its own and @current its own, together with
 * what it wants to do. Whoever saves first reads the cell, then
 * sees that the word has not changed, then exchanges the cell; always, even if it says the same, so
 * that those who meant to save an older word miss. A late saver of the same word writes the same.
 * So whenever the word changes its @current, the cell that was current is right and stays so.
 *
 *   a kill   before the word changes leaves a saved cell, which did not count; after it nothing. The
 *            permits of the dead stand in its cell or in the word. Who needs permits and finds none
 *            makes a dead process's cell the current one, and then, in one change of the word, all
 *            it held free; at last the cell nobody's (mark -> 0). Each of these is a commit that
 *            leaves the share right, so anybody can be killed in between and anybody can go on.
 *
 * The version has 23 bits: a process that is stopped between looking at the word and changing it
 * can be deceived if there are exactly a multiple of 8 million changes until it goes on, and the rest
 * of the word is the same then.
 */
#ifndef CV_SHARE_H
#define CV_SHARE_H

#include "arena/member.h"
#include "base/atomic.h"
#include "sync/cells.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    CV_SHARE_MAX = 32767, /* permits in all; what POSIX promises of its semaphores, too */
};

struct cv_share {
    uint64_t word;
    struct cv_cells cells;
};

static inline uint32_t cv_share_free(uint64_t word)
{
    return (uint32_t)word & 0x7fff;
}

static inline uint32_t cv_share_held(uint64_t word)
{
    return (uint32_t)word >> 15 & 0x7fff;
}

static inline bool cv_share_died(uint64_t word)
{
    return word >> 30 & 1;
}

static inline uint32_t cv_share_current(uint64_t word)
{
    return (uint32_t)(word >> 31) & 0x3ff;
}

/* What waiters sleep on: it changes whenever permits become free. */
static inline uint32_t *cv_share_low(struct cv_share *share)
{
    return (uint32_t *)(void *)&share->word;
}

/* Takes @n, or with a negative @n gives them back; @w was loaded and is this process's. */
static inline uint64_t cv_share_taken(uint64_t w, int32_t n)
{
    return w - (uint64_t)(int64_t)n + ((uint64_t)(int64_t)n << 15) + (UINT64_C(1) << 41);
}

/* Is the current cell, one of the first, this process's? */
static inline bool cv_share_is_mine(const struct cv_share *share, uint64_t w)
{
    uint32_t i = cv_share_current(w) - 1;

    return i < CV_CELLS_FIRST && cv_load_relaxed(&share->cells.cell[i].mark) == cv_self->mark;
}

/* True when @n permits were taken; false: not, or not that easily. */
static inline bool cv_share_try(struct cv_share *share, uint32_t n)
{
    uint64_t w = cv_load_relaxed(&share->word);

    return cv_share_is_mine(share, w) && cv_share_free(w) >= n &&
           cv_cas64(&share->word, w, cv_share_taken(w, (int32_t)n));
}

/* The same for giving back. */
static inline bool cv_share_try_give(struct cv_share *share, uint32_t n)
{
    uint64_t w = cv_load_relaxed(&share->word);

    return cv_share_is_mine(share, w) && cv_share_held(w) >= n &&
           cv_cas64(&share->word, w, cv_share_taken(w, -(int32_t)n));
}

void cv_share_init(struct cv_share *share, uint32_t free);

enum cv_share_result {
    CV_SHARE_DONE = 0,
    CV_SHARE_NOT = 1, /* not so many are free; held */
};

/*
 * Takes @n permits; with *@dead the mark of the process that died with all of them, 0 if none did
 * (NULL: nobody wants to know). CV_SHARE_DONE, CV_SHARE_NOT with *@seen the word that said so; or a
 * code, with a message, when there are too many processes that use it.
 */
int cv_share_take(struct cv_share *share, uint32_t n, uint64_t *dead, uint64_t *seen);

/*
 * Gives back @n permits that this process holds; or, if it does not hold so many and @anybodys, of
 * any one process. CV_SHARE_NOT: there are no such permits.
 */
int cv_share_give(struct cv_share *share, uint32_t n, bool anybodys);

/* Makes @n new permits. CV_SHARE_NOT: too many. */
int cv_share_add(struct cv_share *share, uint32_t n);

/*
 * Makes what the dead hold free: true if that was anything. With @tell, if they are all permits,
 * the next one to take some is to be told.
 */
bool cv_share_reap(struct cv_share *share, bool tell);

struct cv_holding {
    uint64_t mark;
    uint32_t permits;
};

/* Who holds how many, at some instant: up to @max of them. Returns how many there are. */
unsigned cv_share_holdings(struct cv_share *share, struct cv_holding *holdings, unsigned max);

/* The tags of who holds permits, 0 for those whose slot is another's: they are dead. Up to @max. */
unsigned cv_share_holders(struct cv_share *share, uint64_t *tags, unsigned max);

#endif
