/* SPDX-License-Identifier: MIT */
/*
 * The share: permits, and how many of them each process holds.
 *
 * What a semaphore and a reader/writer lock have in common: a number of permits is free, the others
 * are held, and those of a process that dies are free again. One word changes with every operation,
 * by one compare-exchange, and that is the commit:
 *
 *   bits 0-9    current: number of a cell, from 1 on; 0: none yet
 *   bit 10      sleepers: the user's; operations leave it as it is
 *   bit 11      died: a holder of all permits has died (only if that was asked for); until somebody
 *               takes all of them again
 *   bits 16-30  free: permits that nobody holds
 *   bits 31-45  held: permits that the process of the cell @current holds
 *   bits 46-63  version: one more with each operation
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
 * The version has 18 bits: a process that is stopped between looking at the word and changing it
 * could be deceived if there were exactly a multiple of 262,144 operations until it goes on, the rest
 * of the word were the same then, and another thread of its own had used the share meanwhile. One that is
 * stopped for as many while it falls asleep does not watch who holds permits then; the alarm and the next
 * wake reach it all the same.
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

#define CV_SHARE_SLEEPERS (UINT64_C(1) << 10)
#define CV_SHARE_DIED     (UINT64_C(1) << 11)

enum {
    CV_SHARE_FREE = 16, /* where they begin */
    CV_SHARE_HELD = 31,
    CV_SHARE_VERSION = 46,
};

static inline uint32_t cv_share_current(uint64_t word)
{
    return word & CV_CELLS_MAX;
}

static inline uint32_t cv_share_free(uint64_t word)
{
    return (uint32_t)word >> CV_SHARE_FREE & CV_SHARE_MAX;
}

static inline uint32_t cv_share_held(uint64_t word)
{
    return (uint32_t)(word >> CV_SHARE_HELD) & CV_SHARE_MAX;
}

/* Takes @n, or with a negative @n gives them back; @w was loaded and is this process's. */
static inline uint64_t cv_share_taken(uint64_t w, int32_t n)
{
    uint64_t permits = (uint64_t)(int64_t)n;

    return w - (permits << CV_SHARE_FREE) + (permits << CV_SHARE_HELD) +
           (UINT64_C(1) << CV_SHARE_VERSION);
}

/*
 * The number of this process's cell, if that is one of the first; else 0. Of two, one.
 *
 * What comes first is the short way, and made to be short: the processor looks for the cell while the
 * word is still on its way from the last compare-exchange, and what is asked of the word when it has
 * come takes one instruction each. So the low 16 bits are @current alone in the usual case.
 */
static inline uint16_t cv_share_mine(const struct cv_share *share)
{
    uint64_t mark = cv_load_own(&cv_self.mark);

    if (__builtin_expect(cv_load_own(&share->cells.cell[0].mark) == mark, 1))
        return 1;
    for (unsigned i = 1; i < CV_CELLS_FIRST; i++) {
        if (cv_load_own(&share->cells.cell[i].mark) == mark)
            return (uint16_t)(i + 1);
    }
    return 0;
}

/* True when @n permits were taken, of at least @of that were free; false: not, or not that easily. */
static inline bool cv_share_try(struct cv_share *share, uint32_t n, uint32_t of)
{
    uint16_t mine = cv_share_mine(share);
    uint64_t w = cv_load_seq(&share->word);

    return __builtin_expect(
               mine && ((uint16_t)w == mine || (uint16_t)w == (mine | CV_SHARE_SLEEPERS)) &&
                   cv_share_free(w) >= of,
               1) &&
           cv_cas64(&share->word, w, cv_share_taken(w, (int32_t)n));
}

/* The same for giving back, while there are no sleepers. */
static inline bool cv_share_try_give(struct cv_share *share, uint32_t n)
{
    uint16_t mine = cv_share_mine(share);
    uint64_t w = cv_load_seq(&share->word);

    return __builtin_expect(mine && (uint16_t)w == mine && cv_share_held(w) >= n, 1) &&
           cv_cas64(&share->word, w, cv_share_taken(w, -(int32_t)n));
}

void cv_share_init(struct cv_share *share, uint32_t free);

enum cv_share_result {
    CV_SHARE_DONE = 0,
    CV_SHARE_NOT = 1,  /* not so many are free; held */
    CV_SHARE_TOLD = 2, /* done, and one who held all has died */
};

/*
 * Takes @n permits if at least @of are free. @died: where the mark is kept of the last one who died with
 * all permits; NULL: nobody is to be told. CV_SHARE_DONE; CV_SHARE_TOLD; CV_SHARE_NOT with *@seen the
 * word that said so; or a code, with a message, when there are too many processes that use it.
 */
int cv_share_take(struct cv_share *share, uint32_t n, uint32_t of, uint64_t *died, uint64_t *seen);

/*
 * Gives back @n permits that this process holds; or, if it does not hold so many and @anybodys, of
 * any one process. CV_SHARE_NOT: there are no such permits.
 */
int cv_share_give(struct cv_share *share, uint32_t n, bool anybodys);

/* Makes @n new permits. CV_SHARE_NOT: too many. */
int cv_share_add(struct cv_share *share, uint32_t n);

/* Makes what the dead hold free: true if that was anything. @died: as above. */
bool cv_share_reap(struct cv_share *share, uint64_t *died);

struct cv_holding {
    uint64_t mark;
    uint32_t permits;
};

/* Who holds how many, at some instant: up to @max of them. Returns how many there are. */
unsigned cv_share_holdings(struct cv_share *share, struct cv_holding *holdings, unsigned max);

/* The tags of who holds permits, 0 for those whose slot is another's: they are dead. Up to @max. */
unsigned cv_share_holders(struct cv_share *share, uint64_t *tags, unsigned max);

#endif
