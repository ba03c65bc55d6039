/* SPDX-License-Identifier: MIT */
/* Items that are written and read where they lie. */
#include "msg/queue.h"

#include "base/error.h"

static int check(const covey_queue *q)
{
    return cv_object_check(q, CV_QUEUE);
}

static bool is_mine(uint64_t *lock)
{
    return (cv_load_relaxed(lock) & ~CV_LOCK_SLEEPERS) == cv_self.mark;
}

int cv_queue_check_put(covey_queue *q)
{
    return cv_load_relaxed(&q->grow.reserver) == cv_waiter_me()
               ? cv_fail(COVEY_ESTATE,
                     "this thread has reserved an item in queue %p, and not yet put it", (void *)q)
               : 0;
}

int cv_queue_check_get(covey_queue *q)
{
    return cv_load_relaxed(&q->get.peeker) == cv_waiter_me()
               ? cv_fail(COVEY_ESTATE,
                     "this thread looks at an item of queue %p, and has not yet released it",
                     (void *)q)
               : 0;
}

/* Writing ************************************************************************************ */

static unsigned char *reserve_cell(covey_queue *q, size_t size)
{
    struct cv_batch batch = cv_batch_begin(&q->put.tail, cv_queue_segment(q, 0, q->put.tail.place));

    return cv_batch_add(&batch, CV_CELL_ITEM, size);
}

int covey_queue_reserve(covey_queue *queue, size_t size, void **item, double timeout_s)
{
    int r = check(queue);
    void *bytes;

    if (r == 0 && !item)
        return cv_fail(COVEY_EINVAL, "item is NULL: there is no place for the address");
    if (r == 0)
        r = cv_queue_check_size(queue, size);
    if (r == 0)
        r = cv_queue_hold_put(queue, size, timeout_s);
    if (r != 0)
        return r;
    bytes = size < queue->block_min ? reserve_cell(queue, size)
                                    : cv_heap_alloc(size, 1, cv_my_short_tag());
    if (!bytes) {
        cv_lock_exit(&queue->put.lock);
        return covey_error_code();
    }
    cv_store_relaxed(&queue->grow.reserved_size, size);
    cv_store_relaxed(&queue->grow.reserver, cv_waiter_me());
    cv_store_relaxed(&queue->grow.reserved, (uintptr_t)bytes);
    *item = bytes;
    return 0;
}

static int check_reserved(covey_queue *q, const void *item)
{
    int r = check(q);

    if (r == 0 && !item)
        r = cv_fail(COVEY_EINVAL, "item is NULL");
    if (r != 0)
        return r;
    return is_mine(&q->put.lock) && q->grow.reserved == (uintptr_t)item
               ? 0
               : cv_fail(COVEY_ESTATE, "%p is not reserved in queue %p by this process", item,
                     (void *)q);
}

static bool is_block(const covey_queue *q)
{
    return q->grow.reserved_size >= q->block_min;
}

static void leave_put(covey_queue *q)
{
    cv_store_relaxed(&q->grow.reserver, 0);
    cv_store_relaxed(&q->grow.reserved, 0);
    cv_lock_exit(&q->put.lock);
}

/* The cell is made for all that was reserved, and then as much shorter as there is less. */
static void commit_cell(covey_queue *q, size_t size)
{
    struct cv_tail *tail = &q->put.tail;
    struct cv_batch batch = cv_batch_begin(tail, cv_queue_segment(q, 0, tail->place));

    (void)cv_batch_add(&batch, CV_CELL_ITEM, q->grow.reserved_size);
    cv_batch_shrink(&batch, q->grow.reserved_size, size);
    cv_batch_commit(&batch, tail);
    cv_queue_note_put(q);
}

int covey_queue_commit(covey_queue *queue, void *item, size_t size)
{
    struct cv_putting p = {.size = size, .n = 1, .block = item};
    int r = check_reserved(queue, item);

    if (r != 0)
        return r;
    if (size > queue->grow.reserved_size ||
        (queue->item_size != UINT32_MAX && size != queue->item_size))
        return cv_fail(COVEY_EINVAL, "size is %zu: %llu bytes are reserved", size,
            (unsigned long long)queue->grow.reserved_size);
    cv_alarm_set(queue->bell.alarm);
    if (is_block(queue))
        r = cv_queue_append_block(queue, &p);
    else
        commit_cell(queue, size);
    leave_put(queue);
    if (r == 0)
        cv_queue_ring_items(queue, 1);
    cv_alarm_clear();
    return r;
}

int covey_queue_cancel(covey_queue *queue, void *item)
{
    int r = check_reserved(queue, item);

    if (r != 0)
        return r;
    cv_alarm_set(queue->bell.alarm);
    if (is_block(queue))
        (void)cv_heap_free(item);
    leave_put(queue);
    cv_bell_ring(queue->bell.room, 1);
    cv_alarm_clear();
    return 0;
}

/* Reading ************************************************************************************ */

static void note_look(covey_queue *q, const void *item, uint64_t thread)
{
    cv_store_relaxed(&q->get.peeker, thread);
    cv_store_relaxed(&q->get.peeked, (uintptr_t)item);
}

int covey_queue_peek(covey_queue *queue, const void **item, size_t *size, double timeout_s)
{
    struct cv_getting g = {.n = 1, .takes_block = true};
    int r = check(queue);

    if (r == 0 && !item)
        return cv_fail(COVEY_EINVAL, "item is NULL: there is no place for the address");
    if (r != 0)
        return r;
    if (queue->has_claims) {
        r = cv_queue_get(queue, &g, timeout_s);
    } else {
        r = cv_queue_hold_get(queue, &g, timeout_s);
        if (r == 0)
            note_look(queue, g.block, cv_waiter_me());
    }
    if (r != 0)
        return r;
    *item = g.block;
    if (size)
        *size = g.size;
    return 0;
}

/* Ends it: @taken, or the item stays. */
static int end_peek(covey_queue *q, const void *item, bool taken)
{
    struct cv_getting g = {0};
    unsigned lane = q->lanes;

    if (!is_mine(&q->get.lock) || q->get.peeked != (uintptr_t)item)
        return cv_fail(COVEY_ESTATE, "%p is not an item of queue %p that this process looks at",
            item, (void *)q);
    cv_alarm_set(q->bell.alarm);
    note_look(q, NULL, 0);
    do {
        (void)cv_queue_first(q, --lane, &g);
    } while (lane > 0 && g.block != item);
    if (taken)
        (void)cv_queue_drop_first(q, lane);
    cv_lock_exit(&q->get.lock);
    if (taken)
        cv_bell_ring(q->bell.room, 1);
    else
        cv_queue_ring_items(q, 1);
    cv_alarm_clear();
    return 0;
}

static int release(covey_queue *q, const void *item, bool taken)
{
    int r = check(q);

    if (r == 0 && !item)
        r = cv_fail(COVEY_EINVAL, "item is NULL");
    if (r != 0)
        return r;
    return q->has_claims ? cv_queue_end_claim(q, item, taken) : end_peek(q, item, taken);
}

int covey_queue_release(covey_queue *queue, const void *item)
{
    return release(queue, item, true);
}

int covey_queue_unpeek(covey_queue *queue, const void *item)
{
    return release(queue, item, false);
}
