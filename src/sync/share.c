/* SPDX-License-Identifier: MIT */
#include "sync/share.h"

#include "base/error.h"
#include "base/mutation.h"

/* The one after @w. @flags: what of CV_SHARE_SLEEPERS and CV_SHARE_DIED stays as it is. */
static uint64_t word_after(
    uint64_t w, uint64_t flags, uint32_t free, uint32_t held, uint32_t current)
{
    uint64_t version = (w >> CV_SHARE_VERSION) + 1;

    return version << CV_SHARE_VERSION | (uint64_t)held << CV_SHARE_HELD |
           (uint64_t)free << CV_SHARE_FREE | (w & flags) | current;
}

enum {
    FLAGS = CV_SHARE_SLEEPERS | CV_SHARE_DIED,
};

void cv_share_init(struct cv_share *share, uint32_t free)
{
    cv_cells_init(&share->cells);
    cv_store_release(&share->word, word_after(0, 0, free, 0, 0));
}

/* What the process of cell @i holds, when the word is @w. */
static uint32_t held_by(const struct cv_cell *cell, uint32_t i, uint64_t w)
{
    return i == cv_share_current(w) ? cv_share_held(w) : (uint32_t)cv_load_acquire(&cell->value);
}

static bool is_still(struct cv_share *share, uint64_t w)
{
    return cv_load_seq(&share->word) == w;
}

/* Makes the current cell right; false when the word is not @w any more. */
static bool save(struct cv_share *share, uint64_t w)
{
    uint32_t current = cv_share_current(w);
    struct cv_cell *cell;
    uint64_t before;

    if (!current)
        return true;
    cell = cv_cells_at(&share->cells, current);
    before = cv_load_seq(&cell->value);
    return is_still(share, w) &&
           cv_cas64(&cell->value, before, ((before >> 32) + 1) << 32 | cv_share_held(w));
}

/* Makes cell @i the current one; false when the word is not @w any more. */
static bool move(struct cv_share *share, uint64_t w, const struct cv_cell *cell, uint32_t i)
{
    uint32_t held;

    if (!save(share, w))
        return false;
    held = held_by(cell, i, w);
    return cv_cas64(&share->word, w, word_after(w, FLAGS, cv_share_free(w), held, i));
}

/* This process's cell, claimed if need be; 0 with a message. */
static uint32_t own_cell(struct cv_share *share, uint64_t *died)
{
    uint32_t mine = cv_cells_claim(&share->cells);

    if (!mine && CV_RECOVERS(share_cells)) {
        (void)cv_share_reap(share, died); /* also cells of those who held nothing */
        mine = cv_cells_claim(&share->cells);
    }
    return mine ? mine : cv_cells_claim_or_extend(&share->cells);
}

/* Operations ********************************************************************************* */

int cv_share_take(struct cv_share *share, uint32_t n, uint32_t of, uint64_t *died, uint64_t *seen)
{
    uint64_t stay = n == CV_SHARE_MAX ? CV_SHARE_SLEEPERS : FLAGS;
    uint32_t mine = 0;

    for (;;) {
        uint64_t w = cv_load_seq(&share->word);
        uint32_t held;

        if (cv_share_free(w) < of) {
            if (cv_share_reap(share, died))
                continue;
            *seen = w;
            return CV_SHARE_NOT;
        }
        if (!mine && !(mine = own_cell(share, died)))
            return covey_error_code();
        if (mine != cv_share_current(w) && !save(share, w))
            continue;
        held = held_by(cv_cells_at(&share->cells, mine), mine, w);
        if (cv_cas64(&share->word, w, word_after(w, stay, cv_share_free(w) - n, held + n, mine)))
            return w & CV_SHARE_DIED ? CV_SHARE_TOLD : CV_SHARE_DONE;
    }
}

/* A cell of @mark (0: of anybody) with @n permits, when the word is @w; 0: none. */
static uint32_t find_holder(struct cv_share *share, uint64_t w, uint64_t mark, uint32_t n)
{
    struct cv_cell *cell;

    for (uint32_t i = 1; (cell = cv_cells_at(&share->cells, i)); i++) {
        uint64_t whose = cv_load_relaxed(&cell->mark);

        if (whose && (whose == mark || !mark) && held_by(cell, i, w) >= n)
            return i;
    }
    return 0;
}

int cv_share_give(struct cv_share *share, uint32_t n, bool anybodys)
{
    for (;;) {
        uint64_t w = cv_load_seq(&share->word);
        uint32_t i = find_holder(share, w, cv_self.mark, n);

        if (!i && anybodys)
            i = find_holder(share, w, 0, n);
        if (!is_still(share, w))
            continue;
        if (!i)
            return CV_SHARE_NOT;
        if (i != cv_share_current(w))
            (void)move(share, w, cv_cells_at(&share->cells, i), i);
        else if (cv_cas64(&share->word, w, cv_share_taken(w, -(int32_t)n)))
            return CV_SHARE_DONE;
    }
}

int cv_share_add(struct cv_share *share, uint32_t n)
{
    for (;;) {
        uint64_t w = cv_load_seq(&share->word);
        uint64_t all = (uint64_t)cv_share_free(w) + n;
        struct cv_cell *cell;

        for (uint32_t i = 1; (cell = cv_cells_at(&share->cells, i)); i++)
            all += held_by(cell, i, w);
        if (!is_still(share, w))
            continue;
        if (all > CV_SHARE_MAX)
            return CV_SHARE_NOT;
        if (cv_cas64(&share->word, w,
                word_after(w, FLAGS, cv_share_free(w) + n, cv_share_held(w), cv_share_current(w))))
            return CV_SHARE_DONE;
    }
}

/* The dead ********************************************************************************** */

static bool is_dead(uint64_t mark)
{
    uint64_t tag = cv_member_marked(mark);

    return !tag || cv_member_is_dead(tag, 0);
}

/* The dead process @mark held all permits: the word's flag for it. */
static uint64_t note_death(uint64_t *died, uint64_t mark)
{
    if (!died || !CV_RECOVERS(rwlock_told))
        return 0;
    cv_store_release(died, mark);
    return CV_SHARE_DIED;
}

/* Cell @i is the dead process @mark's: true if anything came free. */
static bool reap_cell(
    struct cv_share *share, struct cv_cell *cell, uint32_t i, uint64_t mark, uint64_t *died)
{
    bool freed = false;

    while (cv_load_seq(&cell->mark) == mark) {
        uint64_t w = cv_load_seq(&share->word);
        uint32_t held = held_by(cell, i, w);
        uint64_t flag;

        if (!is_still(share, w))
            continue;
        if (held == 0) {
            (void)cv_cas64(&cell->mark, mark, 0);
        } else if (i != cv_share_current(w)) {
            (void)move(share, w, cell, i);
        } else {
            flag = held == CV_SHARE_MAX ? note_death(died, mark) : 0;
            freed |= cv_cas64(
                &share->word, w, word_after(w, FLAGS, cv_share_free(w) + held, 0, i) | flag);
        }
    }
    return freed;
}

bool cv_share_reap(struct cv_share *share, uint64_t *died)
{
    struct cv_cell *cell;
    bool freed = false;

    for (uint32_t i = 1; (cell = cv_cells_at(&share->cells, i)); i++) {
        uint64_t mark = cv_load_acquire(&cell->mark);

        if (mark && CV_RECOVERS(share_reap) && is_dead(mark))
            freed |= reap_cell(share, cell, i, mark, died);
    }
    return freed;
}

unsigned cv_share_holdings(struct cv_share *share, struct cv_holding *holdings, unsigned max)
{
    struct cv_cell *cell;
    unsigned n = 0;
    uint64_t w;

    do {
        n = 0;
        w = cv_load_seq(&share->word);
        for (uint32_t i = 1; (cell = cv_cells_at(&share->cells, i)); i++) {
            uint64_t mark = cv_load_relaxed(&cell->mark);
            uint32_t held = held_by(cell, i, w);

            if (!mark || !held)
                continue;
            if (n < max)
                holdings[n] = (struct cv_holding){mark, held};
            n++;
        }
    } while (!is_still(share, w));
    return n;
}

unsigned cv_share_holders(struct cv_share *share, uint64_t *tags, unsigned max)
{
    uint64_t w = cv_load_seq(&share->word);
    struct cv_cell *cell;
    unsigned n = 0;

    for (uint32_t i = 1; n < max && (cell = cv_cells_at(&share->cells, i)); i++) {
        uint64_t mark = cv_load_relaxed(&cell->mark);

        if (mark && held_by(cell, i, w))
            tags[n++] = cv_member_marked(mark);
    }
    return n;
}
