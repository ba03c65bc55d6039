/* SPDX-License-Identifier: MIT */
/*
 * A chain: items in the order in which they were put, between a tail and a head.
 *
 * Its memory is segments, each a ring of cells; most chains have the same one for ever.
 *
 *   cell      a head of 8 bytes, then the item's bytes, rounded up to 8
 *   head      low half: kind and size; high half: the item's number
 *
 *     ...  | ITEM 7 |  bytes  | ITEM 8 | bytes | EMPTY |  ...
 *            ^ head                              ^ tail
 *
 * A place is a position, which only grows, and in its upper bits the slot of its segment in a table; the
 * table has the segment's address and size. A position modulo the size is where it is in the segment.
 *
 * The cell head at the tail is EMPTY, of no kind. In the place of a size it has the number of the item to
 * come: so it is another each time the ring has gone around, and who sleeps until it changes cannot miss
 * that. A cell does not go around a ring's end: where one would, there
 * is a WRAP, and the cell is at the ring's start. A NEXT, the last cell of a segment, names the slot of
 * the one that it goes on in. An END, at the tail, is never taken. The cell of a large item has its
 * address instead of its bytes: a BLOCK.
 *
 * Tail and head are each guarded by a lock of the user's.
 *
 *   append   write the bytes, write the EMPTY behind them, then store the cell's head: that is the commit,
 *            for who takes looks nowhere else. Of a batch all cells are written, and the first cell's
 *            head is stored last. (With a WRAP or a NEXT, what is behind it is written first, and it is
 *            that head.) Then the tail's words follow.
 *   take     copy the bytes out, then store the head's place: that is the commit.
 *
 *   a kill   before a commit leaves nothing: bytes that the next one overwrites, or an item that stays.
 *            After it the tail's words are behind: who has the lock next finds a cell head at the tail
 *            that is not EMPTY, and moves on over it (cv_chain_mend()). The number tells what count must be.
 *            Who takes may have gone over a NEXT at the tail, and left its segment, whose slot is 0 then: so
 *            where the chain goes on must be known without it. (If the slot is the same after a look at
 *            the cell, what was read was the chain's.)
 *
 * Who has no lock may look at the head's cell: if the head's place is the same afterwards, what it has
 * read was the chain's; else it was memory of the arena. (Or the segment was left, and its slot is 0.)
 */
#ifndef CV_CHAIN_H
#define CV_CHAIN_H

#include "base/atomic.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CV_CELL_HEAD = 8,
    CV_SEGMENT_MIN = 128, /* bytes */
    CV_SEGMENT_ALIGNMENT = 64,
    CV_SLOT_SHIFT = 58,
    CV_SLOTS = 1 << (64 - CV_SLOT_SHIFT),
};

#define CV_POSITION_MASK ((UINT64_C(1) << CV_SLOT_SHIFT) - 1)

/* Kinds: the bits of a cell head above the size. */
#define CV_CELL_ITEM     UINT32_C(0x80000000)
#define CV_CELL_WRAP     UINT32_C(0x40000000)
#define CV_CELL_END      UINT32_C(0x20000000)
#define CV_CELL_NEXT     UINT32_C(0x10000000) /* its size is a slot */
#define CV_CELL_BLOCK    UINT32_C(0x08000000) /* beside ITEM: its bytes are a struct cv_block */
#define CV_CELL_KINDS    UINT32_C(0xf8000000) /* all of these */
#define CV_CELL_SIZE_MAX ((size_t)0x07ffffff)

struct cv_block {
    uint64_t address;
    uint64_t size;  /* bytes of the item */
    uint64_t bytes; /* of this one and all blocks before it that ever were in the chain */
};

/* The words of who appends. */
struct cv_tail {
    uint64_t place;
    uint64_t limit; /* hint: a position up to which there is room */
    uint64_t count; /* items ever put */
    uint64_t start; /* the first position of its segment */
    uint64_t bytes; /* of all blocks ever put */
};

static inline uint64_t cv_cell_make(uint32_t kind, size_t size, uint64_t number)
{
    return number << 32 | kind | (uint32_t)size;
}

static inline uint64_t cv_cell_empty(uint64_t number)
{
    return number & CV_CELL_SIZE_MAX;
}

static inline bool cv_cell_is_there(uint64_t head)
{
    return head & CV_CELL_KINDS;
}

static inline size_t cv_cell_size(uint64_t head)
{
    return head & CV_CELL_SIZE_MAX;
}

static inline uint32_t cv_cell_number(uint64_t head)
{
    return (uint32_t)(head >> 32);
}

static inline uint64_t cv_cell_bytes(size_t size)
{
    return CV_CELL_HEAD + (size + 7) / 8 * 8;
}

static inline unsigned cv_place_slot(uint64_t place)
{
    return (unsigned)(place >> CV_SLOT_SHIFT);
}

static inline uint64_t cv_place_position(uint64_t place)
{
    return place & CV_POSITION_MASK;
}

static inline uint64_t cv_segment_make(const void *cells, unsigned log)
{
    return (uintptr_t)cells | log;
}

static inline uint64_t cv_segment_bytes(uint64_t segment)
{
    return UINT64_C(1) << (segment & (CV_SEGMENT_ALIGNMENT - 1));
}

static inline uint64_t *cv_segment_cell(uint64_t segment, uint64_t place)
{
    return (uint64_t *)(uintptr_t)((segment & ~(uint64_t)(CV_SEGMENT_ALIGNMENT - 1)) +
                                   (place & (cv_segment_bytes(segment) - 1)));
}

static inline uint64_t cv_segment_address(uint64_t segment)
{
    return segment & ~(uint64_t)(CV_SEGMENT_ALIGNMENT - 1);
}

/* How far it is from there to the end of the ring. */
static inline uint64_t cv_segment_left(uint64_t segment, uint64_t place)
{
    return cv_segment_bytes(segment) - (place & (cv_segment_bytes(segment) - 1));
}

/* Appending, by the holder of the tail's lock ************************************************ */

/* The position behind a cell of @bytes, and the EMPTY that follows it, which were to begin at @place. */
static inline uint64_t cv_chain_end(uint64_t segment, uint64_t place, uint64_t bytes)
{
    uint64_t left = cv_segment_left(segment, place);

    bytes += CV_CELL_HEAD;
    return cv_place_position(place) + bytes + (left < bytes ? left : 0);
}

/* May an item of @size bytes be appended, as far as is known? */
static inline bool cv_chain_fits(const struct cv_tail *tail, uint64_t segment, size_t size)
{
    return cv_chain_end(segment, tail->place, cv_cell_bytes(size)) <= tail->limit;
}

/* Items that are written and not committed yet. */
struct cv_batch {
    uint64_t segment;
    uint64_t place; /* behind the last one */
    uint64_t count; /* of items ever put, with these */
    uint64_t bytes; /* of all blocks ever put, if there is one among these; 0: there is none */
    uint64_t *at;   /* the cell whose head is the commit; NULL: none yet */
    uint64_t head;  /* that head */
};

static inline struct cv_batch cv_batch_begin(const struct cv_tail *tail, uint64_t segment)
{
    return (struct cv_batch){.segment = segment, .place = tail->place, .count = tail->count};
}

static inline bool cv_batch_fits(
    const struct cv_batch *batch, const struct cv_tail *tail, size_t size)
{
    return cv_chain_end(batch->segment, batch->place, cv_cell_bytes(size)) <= tail->limit;
}

/* The next item's cell, for which there is room: where its bytes go. */
static inline void *cv_batch_add(struct cv_batch *batch, uint32_t kind, size_t size)
{
    uint64_t bytes = cv_cell_bytes(size);
    uint64_t left = cv_segment_left(batch->segment, batch->place);
    uint64_t *first = cv_segment_cell(batch->segment, batch->place);
    uint64_t *cell = first;
    uint64_t head = cv_cell_make(kind, size, batch->count);

    if (left < bytes + CV_CELL_HEAD) {
        batch->place += left;
        cell = cv_segment_cell(batch->segment, batch->place);
        cv_store_relaxed(cell, head);
        head = cv_cell_make(CV_CELL_WRAP, 0, batch->count);
    }
    batch->place += bytes;
    batch->count++;
    cv_store_relaxed(cv_segment_cell(batch->segment, batch->place), cv_cell_empty(batch->count));
    if (batch->at) {
        cv_store_relaxed(first, head);
    } else {
        batch->at = first;
        batch->head = head;
    }
    return cell + 1;
}

/* The last item, of @from bytes, has only @to of them. */
static inline void cv_batch_shrink(struct cv_batch *batch, size_t from, size_t to)
{
    uint64_t *cell = cv_segment_cell(batch->segment, batch->place - cv_cell_bytes(from));
    uint64_t head = cv_cell_make(CV_CELL_ITEM, to, batch->count - 1);

    batch->place -= cv_cell_bytes(from) - cv_cell_bytes(to);
    cv_store_relaxed(cv_segment_cell(batch->segment, batch->place), cv_cell_empty(batch->count));
    if (batch->at == cell)
        batch->head = head;
    else
        cv_store_relaxed(cell, head);
}

static inline void cv_batch_commit(const struct cv_batch *batch, struct cv_tail *tail)
{
    cv_store_release(batch->at, batch->head);
    cv_store_relaxed(&tail->count, batch->count);
    if (batch->bytes)
        cv_store_relaxed(&tail->bytes, batch->bytes);
    cv_store_release(&tail->place, batch->place); /* the last: until then it is mended */
}

/* Goes on in the segment that is in @slot of the table, and of which nobody knows yet. */
void cv_chain_continue(struct cv_tail *tail, const uint64_t *segments, unsigned slot);

/* After a death: over what was committed. @slot: where the chain went on, if it did. */
void cv_chain_mend(struct cv_tail *tail, const uint64_t *segments, unsigned slot);

/* Taking, by the holder of the head's lock *************************************************** */

/* The place behind the NEXT that is @head at @place. */
static inline uint64_t cv_chain_next(uint64_t place, uint64_t head)
{
    return (uint64_t)cv_cell_size(head) << CV_SLOT_SHIFT |
           (cv_place_position(place) + CV_CELL_HEAD);
}

/*
 * For everybody else: the head of the first cell, and where it is. EMPTY: there is none. Behind a NEXT, which may
 * be there long before the item is: as long as nobody has gone over it, its segment stays.
 */
static inline uint64_t cv_chain_look(
    const uint64_t *place, const uint64_t *segments, uint64_t **cell)
{
    for (;;) {
        uint64_t first = cv_load_acquire(place);
        uint64_t at = first;
        uint64_t segment;

        while ((segment = cv_load_acquire(&segments[cv_place_slot(at)])) != 0) {
            uint64_t head;

            *cell = cv_segment_cell(segment, at);
            head = cv_load_acquire(*cell);
            if (cv_load_acquire(place) != first)
                break;
            if (!(head & CV_CELL_NEXT))
                return head;
            at = cv_chain_next(at, head);
        }
    }
}

#endif
