/* SPDX-License-Identifier: MIT */
/*
 * Cells: what each process has to do with an object.
 *
 * An object that must know the processes that use it (how many permits each of them holds, which of
 * them are expected at a barrier) has a cell for each: the process's mark, and one word whose meaning
 * is the object's. Cells have numbers, from 1 on.
 *
 *   mark   0: the cell is nobody's. Claimed by compare-exchange; given back (mark -> 0) when its
 *          process is dead and the object owes nothing to it, or in the object's own way. A process
 *          whose threads come at the same time may have two cells.
 *   value  stays when a cell is given back. It changes by the object's protocol
 *
 * Four cells lie in the object, the others in blocks, each three times as large as all before it. A
 * block is allocated as its maker's own, linked (0 -> address, by compare-exchange), given to the
 * family as CV_OWNER_CELLS, and the link marked SETTLED. A kill after the linking leaves a link that
 * is not SETTLED: whoever meets it does the rest, if the block is still what its maker left; if the
 * maker's burial has freed it, he takes the link back. Only settled blocks are used.
 */
#ifndef CV_CELLS_H
#define CV_CELLS_H

#include <stdint.h>

enum {
    CV_CELLS_FIRST = 4,
    CV_CELL_BLOCKS = 4, /* of 12, 48, 192 and 768 cells */
    CV_CELLS_MAX = 1023,
};

struct cv_cell {
    uint64_t mark;
    uint64_t value;
};

struct cv_cells {
    struct cv_cell cell[CV_CELLS_FIRST];
    uint64_t more[CV_CELL_BLOCKS]; /* addresses of blocks, with SETTLED; 0: none yet */
};

void cv_cells_init(struct cv_cells *cells);

/* Frees the blocks. Nobody uses the object any more. */
void cv_cells_end(struct cv_cells *cells);

/* Cell number @i; NULL: there are not so many. */
struct cv_cell *cv_cells_at(struct cv_cells *cells, uint32_t i);

/* The number of this process's cell, claimed if need be from those that are free; 0: none is. */
uint32_t cv_cells_claim(struct cv_cells *cells);

/* The same for process @mark. */
uint32_t cv_cells_claim_for(struct cv_cells *cells, uint64_t mark);

/* Makes block @k, if there is none: for one who has found no free cell in those before. 0; COVEY_ELIMIT or
 * COVEY_ENOMEM with a message. */
unsigned cv_cells_blocks(struct cv_cells *cells);
int cv_cells_extend(struct cv_cells *cells, unsigned k);

/* The same in two steps, the second of which cannot fail: the block, of this process's own; NULL with a message. */
void *cv_cells_allocate(unsigned k);
void cv_cells_add(struct cv_cells *cells, unsigned k, void *block);

/* The cell of this process, one of those that are made for it if need be; 0: the message says why. */
uint32_t cv_cells_claim_or_extend(struct cv_cells *cells);

#endif
