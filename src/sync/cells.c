/* SPDX-License-Identifier: MIT */
#include "sync/cells.h"

#include "arena/family.h"
#include "base/error.h"
#include "base/mutation.h"

#include <string.h>

enum {
    SETTLED = 1 /* in a link to a block */
};

struct block {
    uint64_t home;  /* address of the link to it */
    uint64_t maker; /* tag of who has allocated it */
    struct cv_cell cell[];
};

/* Cells number 4^(k+1)+1 to 4^(k+2) are in block k. */
static uint32_t first_of(unsigned k)
{
    return CV_CELLS_FIRST << (2 * k);
}

/* Puts the link right that says that @b is block @k; true if it is. */
static bool settle(struct cv_cells *cells, unsigned k, struct block *b)
{
    uint64_t *link = &cells->more[k];
    uint32_t owner = cv_heap_owner(b, NULL);

    if (owner == (uint32_t)CV_OWNER_CELLS && cv_load_acquire(&b->home) == (uintptr_t)link) {
        (void)cv_cas64(link, (uintptr_t)b, (uintptr_t)b | SETTLED);
    } else if (owner && cv_load_acquire(&b->home) == (uintptr_t)link &&
               owner == cv_tag_short(cv_load_relaxed(&b->maker))) {
        if (!CV_RECOVERS(cells_settle) && owner != cv_tag_short(cv_self.tag))
            return true;
        (void)cv_heap_give(b, owner, (uint32_t)CV_OWNER_CELLS);
        return settle(cells, k, b);
    } else if (CV_RECOVERS(cells_dangling)) {
        (void)cv_cas64(link, (uintptr_t)b, 0);
    }
    return cv_load_acquire(link) == ((uintptr_t)b | SETTLED);
}

/* Block @k; NULL: there is none yet. */
static struct block *block_at(struct cv_cells *cells, unsigned k)
{
    uint64_t link;

    while ((link = cv_load_acquire(&cells->more[k])) && !(link & SETTLED))
        (void)settle(cells, k, (struct block *)(uintptr_t)link);
    return (struct block *)(uintptr_t)(link & ~(uint64_t)SETTLED);
}

struct cv_cell *cv_cells_at(struct cv_cells *cells, uint32_t i)
{
    struct block *b;
    unsigned k;

    if (i <= CV_CELLS_FIRST)
        return &cells->cell[i - 1];
    if (i > CV_CELLS_MAX)
        return NULL;
    k = (31 - (unsigned)__builtin_clz(i - 1)) / 2 - 1;
    b = block_at(cells, k);
    return b ? &b->cell[i - 1 - first_of(k)] : NULL;
}

unsigned cv_cells_blocks(struct cv_cells *cells)
{
    unsigned k = 0;

    while (k < CV_CELL_BLOCKS && block_at(cells, k))
        k++;
    return k;
}

void *cv_cells_allocate(unsigned k)
{
    size_t size;
    struct block *b;

    if (k == CV_CELL_BLOCKS) {
        (void)cv_fail(COVEY_ELIMIT, "%d processes use it, as many as can", CV_CELLS_MAX);
        return NULL;
    }
    size = sizeof *b + (size_t)first_of(k) * 3 * sizeof *b->cell;
    b = cv_heap_alloc(size, 1, cv_tag_short(cv_self.tag));
    if (b)
        memset(b, 0, size);
    return b;
}

void cv_cells_add(struct cv_cells *cells, unsigned k, void *block)
{
    struct block *b = block;

    cv_store_relaxed(&b->maker, cv_self.tag);
    cv_store_release(&b->home, (uintptr_t)&cells->more[k]);
    /* A link to it may be what a dead process has left, who had the same memory. */
    if (cv_cas64(&cells->more[k], 0, (uintptr_t)b) ||
        cv_load_acquire(&cells->more[k]) == (uintptr_t)b)
        (void)block_at(cells, k);
    else
        (void)cv_heap_free(b);
}

int cv_cells_extend(struct cv_cells *cells, unsigned k)
{
    void *b;

    if (k < CV_CELL_BLOCKS && block_at(cells, k))
        return 0;
    b = cv_cells_allocate(k);
    if (!b)
        return covey_error_code();
    cv_cells_add(cells, k, b);
    return 0;
}

void cv_cells_end(struct cv_cells *cells)
{
    for (unsigned k = 0; k < CV_CELL_BLOCKS; k++) {
        struct block *b = block_at(cells, k);

        if (!b)
            continue;
        cv_store_seq(&cells->more[k], (uintptr_t)b); /* not settled: a kill leaves it to others */
        (void)cv_heap_free(b);
        cv_store_seq(&cells->more[k], 0);
    }
}

void cv_cells_init(struct cv_cells *cells)
{
    *cells = (struct cv_cells){0};
}

/* 0: it has none. */
static uint32_t find(struct cv_cells *cells, uint64_t mark)
{
    struct cv_cell *cell;

    for (uint32_t i = 1; (cell = cv_cells_at(cells, i)); i++) {
        if (cv_load_relaxed(&cell->mark) == mark)
            return i;
    }
    return 0;
}

uint32_t cv_cells_claim_for(struct cv_cells *cells, uint64_t mark)
{
    uint32_t found = find(cells, mark);
    struct cv_cell *cell;

    for (uint32_t i = 1; !found && (cell = cv_cells_at(cells, i)); i++) {
        if (cv_load_relaxed(&cell->mark) == 0 && cv_cas64(&cell->mark, 0, mark))
            found = i;
    }
    return found;
}

uint32_t cv_cells_claim(struct cv_cells *cells)
{
    return cv_cells_claim_for(cells, cv_self.mark);
}

uint32_t cv_cells_claim_or_extend(struct cv_cells *cells)
{
    unsigned blocks;
    uint32_t mine;

    do {
        blocks = cv_cells_blocks(cells);
        mine = cv_cells_claim(cells);
    } while (!mine && cv_cells_extend(cells, blocks) == 0);
    return mine;
}
