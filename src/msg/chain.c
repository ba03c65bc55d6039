/* SPDX-License-Identifier: MIT */
#include "msg/chain.h"

#include <string.h>

static void go_on(struct cv_tail *tail, uint64_t place)
{
    cv_store_relaxed(&tail->limit, 0);
    cv_store_relaxed(&tail->start, cv_place_position(place));
    cv_store_release(&tail->place, place);
}

/* The NEXT takes the place of the EMPTY at the tail, so there is always room for it. */
void cv_chain_continue(struct cv_tail *tail, const uint64_t *segments, unsigned slot)
{
    uint64_t *cell = cv_segment_cell(segments[cv_place_slot(tail->place)], tail->place);
    uint64_t head = cv_cell_make(CV_CELL_NEXT, slot, tail->count);
    uint64_t next = cv_chain_next(tail->place, head);

    cv_store_relaxed(cv_segment_cell(segments[slot], next), cv_cell_empty(tail->count));
    cv_store_release(cell, head);
    go_on(tail, next);
}

void cv_chain_mend(struct cv_tail *tail, const uint64_t *segments, unsigned slot)
{
    for (;;) {
        uint64_t place = tail->place;
        uint64_t segment = cv_load_acquire(&segments[cv_place_slot(place)]);
        uint64_t *cell = cv_segment_cell(segment, place);
        uint64_t head = segment ? cv_load_acquire(cell) : 0;

        if (!cv_load_acquire(
                &segments[cv_place_slot(place)])) /* nobody but who takes changes it now */
            head = cv_cell_make(CV_CELL_NEXT, slot, tail->count);
        if (!cv_cell_is_there(head) || (head & CV_CELL_END))
            return;
        if (head & CV_CELL_NEXT) {
            go_on(tail, cv_chain_next(place, head));
            continue;
        }
        if (head & CV_CELL_WRAP) {
            place += cv_segment_left(segment, place);
            cell = cv_segment_cell(segment, place);
            head = cv_load_relaxed(cell);
        }
        if (head & CV_CELL_BLOCK) {
            struct cv_block b;

            memcpy(&b, cell + 1, sizeof b);
            cv_store_relaxed(&tail->bytes, b.bytes);
        }
        if (cv_cell_number(head) == (uint32_t)tail->count)
            cv_store_relaxed(&tail->count, tail->count + 1);
        cv_store_release(&tail->place, place + cv_cell_bytes(cv_cell_size(head)));
    }
}
