/* SPDX-License-Identifier: MIT */
/*
 * The heap: no locks, and nothing to repair but what the dead have claimed.
 *
 * It is an array of pages of 64 KiB. Each page has a *word* that says what it is; a large block is
 * a run of pages, a page of small blocks (a slab) has a *tag* for each of its blocks. Words and
 * tags lie outside of the pages and are never used as anything else, so a late look or a late
 * compare-exchange by a process that was stopped for an hour cannot hit anybody's data.
 *
 * Page word: kind (4 bits), then 28 bits (a length in pages, a distance or a size class), then the
 * short tag of the owner (32 bits).
 *
 *   FREE            anybody may claim it by compare-exchange
 *   CLAIM n owner   first page of n that @owner is taking or giving back; only he writes it
 *   RUN n owner     first page of a block of n pages; @owner is a process, or the family
 *   BODY d          belongs to the CLAIM or RUN that starts d pages before
 *   SLAB c          blocks of size class c
 *   SHUT c owner    a slab that @owner is trying to give back; no allocation from it counts
 *
 *   allocate a run  FREE -> CLAIM on the first page, FREE -> BODY on the others; if one is taken,
 *                   they are given back; memory is claimed from the kernel; the commit is
 *                   CLAIM -> RUN with the owner wanted.
 *   free a run      the commit is RUN -> CLAIM; then BODY -> FREE, and last CLAIM -> FREE. Of two
 *                   that free the same block, one fails.
 *   a kill          leaves CLAIM with a dead owner: the sweep takes it over (CLAIM -> CLAIM, its own
 *                   tag), so that one process gives the pages back. Which they are, the words say:
 *                   pages are marked from the first on and let go from the last on, so the claim has
 *                   those that follow it without a gap and are BODY at the right distance. What
 *                   lies behind was not taken yet, or is somebody else's by now. The sweeper may be
 *                   killed or stopped: then the claim is his.
 *
 *   allocate small  the commit is 0 -> own tag on the block's tag. Then the page word must still be
 *                   the SLAB that was meant, else the tag is put back (page and tags may have
 *                   changed use between finding and taking). Last, the tag becomes the owner wanted.
 *   free small      the commit is tag -> 0.
 *   shut a slab     SLAB -> SHUT, then look at all tags: none is set: -> FREE; else -> SLAB. Either
 *                   the allocator's check of the word sees SHUT or this look sees its tag, for both
 *                   write first (a full barrier) and then look.
 *   a kill          leaves tags of the dead: the sweep clears them; SHUT: the sweep makes it SLAB. A
 *                   tag put on a page that is no slab any more is found when it is one again.
 *
 *   give to another the tag (or the owner of a RUN) is exchanged. If the new owner has died or is
 *                   leaving by then, its sweep may have passed: so the giver looks, and takes the
 *                   block back. (One that leaves says so before it sweeps: of the two, one sees what
 *                   the other has written.) A kill before that leaves a block of a process that is
 *                   GONE: the sweep of the giver frees these, too.
 *
 * Blocks of one more class have a fixed size, and its slabs are never given back. So what has once been such a
 * block is never anything else, and who is late may write there too.
 *
 * @seen has a bit for each slot modulo 64, set before a tag of that slot appears on the page and
 * never cleared, so that a sweep need not look at every slab.
 *
 * Everything else is a hint, read and written without order, wrong after a kill or a race and then
 * only costing time, until it is counted anew: the lowest free page, the count of used blocks.
 */
#ifndef CV_HEAP_H
#define CV_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CV_PAGE_BYTES = 64 * 1024,
    CV_GRAIN_BYTES = 16, /* smallest block, and the alignment of all */
    CV_SMALL_MAX = 32 * 1024,
    CV_CLASS_LASTING = 40, /* behind those of sizes */
    CV_CLASSES,
    CV_LASTING_BYTES = 320,
    CV_TAGS_PER_PAGE = CV_PAGE_BYTES / CV_GRAIN_BYTES,
};

/* Owners that are no process. */
enum {
    CV_OWNER_FAMILY = INT32_MIN + 1,   /* freed by somebody who knows it */
    CV_OWNER_INTERNAL = INT32_MIN + 2, /* lives as long as the family; not counted */
    CV_OWNER_OBJECT = INT32_MIN + 3,   /* a covey object, freed by its own function */
    CV_OWNER_CELLS = INT32_MIN + 4,    /* part of one (sync/share.h) */
};

/* A queue's blocks have an owner that is all its own: this, and below it a number (msg/queue.h). */
#define CV_OWNER_QUEUE UINT32_C(0xc0000000)

struct cv_page_note {
    uint64_t seen;         /* see above; written by those who make owners (OR) */
    uint32_t used;         /* hint: blocks in use */
    uint8_t pages_claimed; /* so many sixteenths of the page exist; raised after the claim */
    uint8_t tags_claimed;  /* so many quarters of its tags exist */
    uint16_t unused;
};

/* In the family's header. Offsets are from the arena's base and never change. */
struct cv_heap {
    uint64_t words_offset;
    uint64_t notes_offset;
    uint64_t tags_offset;
    uint64_t pages_offset;
    uint32_t pages; /* length of the array */
    uint32_t ready; /* words and notes below this exist; only grows, CAS after the claim */
    uint32_t low;   /* hint: no page below is free */
    uint32_t unused;
    int64_t kept;                    /* hint: bytes claimed from the kernel in free pages */
    int64_t kept_max;                /* above this, freed pages go back to the kernel */
    uint32_t class_low[CV_CLASSES];  /* hint: no slab of the class below has a free block */
    int32_t class_empty[CV_CLASSES]; /* hint: so many slabs of the class have no block in use */
};

/* Lays the heap out in [@start, @end) of a new arena (offsets). False: too small for a page. */
bool cv_heap_layout(struct cv_heap *heap, uint64_t start, uint64_t end);

/*
 * @size bytes at a multiple of @alignment (a power of two), owned by @owner (a short tag or one of
 * the above). NULL with a message. Never waits.
 */
void *cv_heap_alloc(size_t size, size_t alignment, uint32_t owner);

/*
 * The same for CV_LASTING_BYTES, at a multiple of 64, in memory that is never used for anything but such blocks. It is
 * as the last one left it, or of any content.
 */
void *cv_heap_alloc_lasting(uint32_t owner);

/* 0, or COVEY_EINVAL with a message, when @block is not the start of a block in use. */
int cv_heap_free(void *block);

/*
 * Hands @block from owner @from to @to; false when it is not a block of @from's, or @to is a process
 * that has died: then it stays @from's.
 */
bool cv_heap_give(void *block, uint32_t from, uint32_t to);

/* The owner of @block, 0 when it is no block; its usable size in *@size (may be NULL). */
uint32_t cv_heap_owner(const void *block, size_t *size);

/*
 * The part of a burial that gives blocks back. False in a process that is no member yet, and so has
 * no tag to claim with, if there are large ones.
 */
bool cv_heap_sweep(uint64_t tag);

struct cv_heap_use {
    size_t blocks;
    size_t bytes;
    size_t claimed;
};

/* Calls @visit for each block in use, with as much of it as exists. */
typedef void cv_heap_visit(char *block, size_t size, uint32_t owner, void *context);
void cv_heap_each(cv_heap_visit *visit, void *context);

void cv_heap_count(struct cv_heap_use *use);
void cv_heap_trim(void);

#endif
