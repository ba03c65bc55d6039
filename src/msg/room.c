/* SPDX-License-Identifier: MIT */
/*
 * Room in a queue: how much may wait, and the segments that it waits in.
 *
 * A chain begins in its first segment. Where that is full, and more may wait, it goes on in another one, twice
 * as large; when little waits again, it comes home. (What becomes of a segment if its producer is killed: see
 * msg/queue.h.)
 *
 * Where much goes through, it goes around in a wide segment, even if little waits. Both ends are at work at
 * once then; and a cache line that one of them touches lies in the other one's cache. To get it from there costs
 * more than all else, unless so much was touched in between that it has left that cache.
 */
#include "msg/queue.h"

#include "arena/family.h"
#include "base/error.h"
#include "os/clock.h"
#include "os/cpu.h"

enum {
    LOOK_BYTES =
        32 * 1024, /* after so many there is a look whether another segment would be better */
    SEGMENT_MAX_LOG = 30, /* segments are twice as large as those before, up to this */

    /* It is much: */
    FLOW_BYTES = 1024 * 1024,
    FLOW_US = 10 * 1000,
    WIDE_ITEMS_MIN =
        16 * 1024,   /* what must be allowed to wait, for a wide segment, beside FLOW_BYTES */
    WIDE_SHARE = 64, /* of the arena, as a fraction, it is at most */
};

uint64_t cv_queue_count_put(covey_queue *q)
{
    uint64_t count = 0;

    for (unsigned lane = 0; lane < q->lanes; lane++)
        count += cv_queue_tail(q, lane)->count;
    return count;
}

static bool look_for_room(covey_queue *q)
{
    uint64_t waiting = 0;

    for (unsigned lane = 0; lane < q->lanes; lane++)
        waiting += cv_queue_waiting(q, lane);
    cv_store_relaxed(&q->put.items_limit,
        cv_queue_count_put(q) + (waiting < q->items_max ? q->items_max - waiting : 0));
    return waiting < q->items_max;
}

/* Bytes that wait, in cells and in blocks, or more if some are being taken now. */
struct waiting {
    uint64_t cells;
    uint64_t blocks;
};

static struct waiting bytes_waiting(covey_queue *q)
{
    struct waiting w = {0};

    for (unsigned lane = 0; lane < q->lanes; lane++) {
        const struct cv_tail *tail = cv_queue_tail(q, lane);
        const struct cv_lane_head *head = cv_queue_head(q, lane);

        w.blocks += tail->bytes - cv_load_acquire(&head->bytes);
        if (cv_queue_waiting(q, lane)) /* else there is a NEXT at most */
            w.cells +=
                cv_place_position(tail->place) - cv_place_position(cv_load_acquire(&head->place));
    }
    return w;
}

/* How many bytes of cells more may wait, if there are so many of blocks. */
static uint64_t cells_left(const covey_queue *q, struct waiting w)
{
    uint64_t cells_max = UINT64_C(1) << q->cells_log;
    uint64_t of_all = q->bytes_max > w.cells + w.blocks ? q->bytes_max - w.cells - w.blocks : 0;
    uint64_t of_cells = cells_max > w.cells ? cells_max - w.cells : 0;

    return of_all < of_cells ? of_all : of_cells;
}

static uint64_t head_position(covey_queue *q, unsigned lane)
{
    return cv_place_position(cv_load_acquire(&cv_queue_head(q, lane)->place));
}

static void continue_in(covey_queue *q, unsigned lane, unsigned slot)
{
    struct cv_tail *tail = cv_queue_tail(q, lane);

    if (cv_place_slot(tail->place) == 0)
        cv_store_relaxed(
            &cv_queue_growth(q, lane)->home_left, cv_place_position(tail->place) + CV_CELL_HEAD);
    cv_chain_continue(tail, cv_queue_segments(q, lane), slot);
}

/* Has much gone through lately? */
static bool flows(covey_queue *q, unsigned lane)
{
    struct cv_growth *g = cv_queue_growth(q, lane);
    uint32_t at = (uint32_t)(cv_place_position(cv_queue_tail(q, lane)->place) / CV_QUEUE_LINE);
    uint64_t bytes = (uint64_t)(at - g->from) * CV_QUEUE_LINE;
    uint32_t now_us, time_us;

    if (bytes < LOOK_BYTES)
        return g->is_fast;
    now_us = (uint32_t)(cv_clock_now() / CV_NS_PER_US);
    time_us = now_us - g->since_us;
    if (bytes >= FLOW_BYTES || time_us > FLOW_US) {
        g->is_fast = bytes * FLOW_US >= (uint64_t)time_us * FLOW_BYTES;
        g->from = at;
        g->since_us = now_us;
    }
    return g->is_fast;
}

/* The first segment is out of use, and would be enough for all that waits. */
static bool can_go_home(covey_queue *q, unsigned lane, uint64_t bytes)
{
    const struct cv_tail *tail = cv_queue_tail(q, lane);
    uint64_t head = head_position(q, lane);
    uint64_t room = cv_segment_bytes(cv_queue_segments(q, lane)[0]);

    return cv_place_slot(tail->place) != 0 && head >= cv_queue_growth(q, lane)->home_left &&
           cv_place_position(tail->place) - head <= room / 2 && bytes <= room / 4;
}

static int add_segment(covey_queue *q, unsigned lane, unsigned log)
{
    uint64_t *segments = cv_queue_segments(q, lane);
    uint64_t segment;
    unsigned slot = 1;
    void *block;

    while (slot < CV_SLOTS && cv_load_acquire(&segments[slot]) != 0)
        slot++;
    if (slot == CV_SLOTS)
        return cv_fail(COVEY_ELIMIT, "queue %p has grown to %d segments", (void *)q, CV_SLOTS);
    block = cv_heap_alloc((size_t)1 << log, CV_SEGMENT_ALIGNMENT, cv_my_short_tag());
    if (!block)
        return covey_error_code();
    segment = cv_segment_make(block, log);
    cv_store_relaxed(&q->grow.at, cv_queue_tail(q, lane)->place);
    cv_store_release(&q->put.intent, cv_intend_segment(segment, lane, slot));
    cv_store_release(&segments[slot], segment);
    (void)cv_heap_give(block, cv_my_short_tag(), cv_queue_owner(q));
    continue_in(q, lane, slot);
    cv_store_release(&q->put.intent, 0);
    return 0;
}

/* A segment where a cell of @bytes fits; a smaller one, if there is no memory for a large one. */
static int grow(covey_queue *q, unsigned lane, uint64_t bytes)
{
    uint64_t segment = cv_queue_segment(q, lane, cv_queue_tail(q, lane)->place);
    unsigned log = (unsigned)__builtin_ctzll(cv_segment_bytes(segment)) + 1;
    unsigned least = 64 - (unsigned)__builtin_clzll(2 * bytes);
    int r;

    if (log > SEGMENT_MAX_LOG)
        log = SEGMENT_MAX_LOG;
    if (log < least)
        log = least;
    while ((r = add_segment(q, lane, log)) == COVEY_ENOMEM && log > least)
        log--;
    return r;
}

/* Into a wide segment; not where less may wait than that is for, or there is little memory. */
static bool widen(covey_queue *q, unsigned lane)
{
    uint64_t bytes = cv_segment_bytes(cv_queue_segment(q, lane, cv_queue_tail(q, lane)->place));
    uint64_t enough = (uint64_t)2 * cv_cpu_cache();

    if (!q->grows || q->items_max < WIDE_ITEMS_MIN || q->bytes_max < FLOW_BYTES ||
        bytes >= enough || enough > cv_arena.memory.size / WIDE_SHARE)
        return false;
    if (add_segment(q, lane, 64 - (unsigned)__builtin_clzll(enough - 1)) == 0)
        return true;
    cv_queue_growth(q, lane)->is_fast = false; /* so it is not tried again at once */
    return false;
}

/* How far the tail may go in its segment, as things are now. */
static uint64_t ring_limit(covey_queue *q, unsigned lane)
{
    const struct cv_tail *tail = cv_queue_tail(q, lane);
    uint64_t head = head_position(q, lane);

    return (head > tail->start ? head : tail->start) +
           cv_segment_bytes(cv_queue_segment(q, lane, tail->place));
}

/* The same, for who looks for nothing else before he gets there: @more bytes may be put. */
static void set_limit(covey_queue *q, unsigned lane, uint64_t limit, uint64_t more)
{
    struct cv_tail *tail = cv_queue_tail(q, lane);
    uint64_t position = cv_place_position(tail->place) + CV_CELL_HEAD;

    if (cv_place_slot(tail->place) != 0 && more > LOOK_BYTES)
        more = LOOK_BYTES;
    cv_store_relaxed(&tail->limit, limit - position > more ? position + more : limit);
}

/* For a cell of @bytes, and a block of @block bytes besides. */
CV_SLOW static int make_room(covey_queue *q, unsigned lane, uint64_t bytes, uint64_t block)
{
    struct cv_tail *tail = cv_queue_tail(q, lane);
    struct waiting waiting = bytes_waiting(q);
    bool is_empty = waiting.cells + waiting.blocks == 0;
    bool is_fast = flows(q, lane);

    if (!cv_queue_has_room_for(q, 1) && !look_for_room(q))
        return CV_QUEUE_FULL;
    waiting.blocks += block;
    if (bytes > cells_left(q, waiting) && (q->is_exact || !is_empty))
        return CV_QUEUE_FULL;
    for (;;) {
        uint64_t limit = ring_limit(q, lane);
        int r;

        if (!is_fast && can_go_home(q, lane, bytes)) {
            continue_in(q, lane, 0);
            continue;
        }
        if (is_fast && widen(q, lane))
            continue;
        if (cv_chain_end(cv_queue_segment(q, lane, tail->place), tail->place, bytes) <= limit) {
            set_limit(q, lane, limit, q->lanes == 1 ? cells_left(q, waiting) : bytes);
            return 0;
        }
        if (!q->grows)
            return CV_QUEUE_FULL;
        r = grow(q, lane, bytes);
        if (r != 0)
            return r;
    }
}

int cv_queue_make_room_for_block(covey_queue *q, unsigned lane, size_t size)
{
    return make_room(q, lane, cv_cell_bytes(sizeof(struct cv_block)), size);
}

int cv_queue_make_room(covey_queue *q, unsigned lane, size_t size)
{
    if (size >= q->block_min)
        return cv_queue_make_room_for_block(q, lane, size);
    return make_room(q, lane, cv_cell_bytes(size), 0);
}
