/* SPDX-License-Identifier: MIT */
/* The producers' end of a queue. */
#include "msg/queue.h"

#include "base/error.h"
#include "base/mutation.h"
#include "msg/pipe.h"

#include <string.h>

/* Entering *********************************************************************************** */

/* What was on its way in, and is not there. */
static void mend_incoming(covey_queue *q, uint64_t intent)
{
    unsigned lane = cv_intended_lane(intent);

    if (cv_queue_tail(q, lane)->place == q->grow.at) {
        if (intent & CV_INTENT_SEGMENT)
            cv_store_release(&cv_queue_segments(q, lane)[cv_place_slot(intent)], 0);
        cv_free_intended(intent, cv_queue_owner(q));
    }
    cv_store_release(&q->put.intent, 0);
}

/* Where the chain went on, if it did: in a new segment, or else in the first one. */
static unsigned slot_of_next(const covey_queue *q, unsigned lane)
{
    uint64_t intent = q->put.intent;

    return (intent & CV_INTENT_SEGMENT) && cv_intended_lane(intent) == lane ? cv_place_slot(intent)
                                                                            : 0;
}

CV_SLOW static void mend(covey_queue *q)
{
    if (CV_RECOVERS(queue_mend)) {
        for (unsigned lane = 0; lane < q->lanes; lane++)
            cv_chain_mend(
                cv_queue_tail(q, lane), cv_queue_segments(q, lane), slot_of_next(q, lane));
    }
    cv_bell_ring(q->bell.room, 1); /* whose wake this may be, should other alarms be set now */
    if (q->put.intent && CV_RECOVERS(queue_incoming))
        mend_incoming(q, q->put.intent);
    cv_store_relaxed(&q->grow.reserver, 0);
    cv_store_relaxed(&q->grow.reserved, 0);
    cv_queue_ring_items(
        q, INT_MAX); /* what was put, and not rung for, may not be the last thing put */
}

void cv_queue_mend_put(covey_queue *q, uint64_t mark)
{
    if (!cv_queue_take_over(q, &q->put.lock, mark))
        return;
    mend(q);
    cv_lock_exit(&q->put.lock);
}

int cv_queue_enter_put(covey_queue *q, uint64_t deadline_ns)
{
    int r;

    cv_alarm_set(q->bell.alarm);
    r = cv_lock_enter(&q->put.lock, q->bell.alarm, deadline_ns);
    if (r != COVEY_EOWNERDEAD)
        return r;
    mend(q);
    return 0;
}

/* Appending ********************************************************************************** */

static inline size_t next_size(const struct cv_putting *p)
{
    return p->sizes ? p->sizes[p->done] : p->size;
}

static inline const unsigned char *next_item(const struct cv_putting *p)
{
    return p->items + p->done * p->size;
}

static inline void add_item(struct cv_batch *batch, struct cv_putting *p, size_t size)
{
    unsigned char *bytes = cv_batch_add(batch, CV_CELL_ITEM, size);

    if (size)
        memcpy(bytes, next_item(p), size);
    p->done++;
}

/* As many as there is room for, up to the first large one, by one commit. */
static int append_items(covey_queue *q, struct cv_putting *p)
{
    struct cv_tail *tail = cv_queue_tail(q, p->lane);
    size_t size = next_size(p);
    struct cv_batch batch;

    if (!cv_queue_has_room_for(q, 1) ||
        !cv_chain_fits(tail, cv_queue_segment(q, p->lane, tail->place), size)) {
        int r = cv_queue_make_room(q, p->lane, size);

        if (r != 0)
            return r;
    }
    batch = cv_batch_begin(tail, cv_queue_segment(q, p->lane, tail->place));
    add_item(&batch, p, size);
    while (p->done < p->n) {
        size = next_size(p);
        if (size >= q->block_min || !cv_batch_fits(&batch, tail, size) ||
            !cv_queue_has_room_for(q, batch.count - tail->count + 1))
            break;
        add_item(&batch, p, size);
    }
    cv_batch_commit(&batch, tail);
    cv_queue_note_put(q);
    return 0;
}

int cv_queue_append_block(covey_queue *q, struct cv_putting *p)
{
    struct cv_tail *tail = cv_queue_tail(q, p->lane);
    struct cv_block b = {(uintptr_t)p->block | p->is_lent, p->size, tail->bytes + p->size};
    struct cv_batch batch;

    if (!p->is_lent) {
        cv_store_relaxed(&q->grow.at, tail->place);
        cv_store_release(&q->put.intent, cv_intend(p->block, p->lane));
        if (!cv_heap_give(p->block, cv_my_short_tag(), cv_queue_owner(q))) {
            cv_store_release(&q->put.intent, 0);
            return cv_fail(COVEY_EINVAL, "block %p is not this process's any more", p->block);
        }
    }
    batch = cv_batch_begin(tail, cv_queue_segment(q, p->lane, tail->place));
    memcpy(cv_batch_add(&batch, CV_CELL_ITEM | CV_CELL_BLOCK, sizeof b), &b, sizeof b);
    batch.bytes = b.bytes;
    cv_batch_commit(&batch, tail);
    cv_store_release(&q->put.intent, 0);
    cv_queue_note_put(q);
    p->done++;
    return 0;
}

static int append_block(covey_queue *q, struct cv_putting *p)
{
    int r = cv_queue_make_room_for_block(q, p->lane, p->size);

    return r != 0 ? r : cv_queue_append_block(q, p);
}

/* Putting ************************************************************************************ */

/* What a producer who has found no room sleeps by. */
struct fullness {
    struct cv_futex_watch takes; /* another word as soon as something was taken */
    unsigned n_words;
    struct cv_futex_watch words[CV_WAIT_WORDS_MAX];
};

/* Before there is a look whether there is room. */
static void see_takes(covey_queue *q, struct fullness *f)
{
    uint64_t *tail = cv_queue_cell(q, 0, q->put.tail.place);
    uint64_t *first = &cv_queue_head(q, 0)->place;

    if (q->is_plain)
        f->takes = cv_word_low(first, cv_load_acquire(first));
    else
        f->takes = (struct cv_futex_watch){&q->get.events, cv_load_acquire(&q->get.events)};
    f->words[0] = cv_word_low(tail, cv_load_relaxed(tail)); /* where an END would be */
    f->n_words = 1;
    for (unsigned lane = 0; lane < q->lanes; lane++) {
        uint64_t *place = &cv_queue_head(q, lane)->place;

        f->words[f->n_words++] = cv_word_low(place, cv_load_acquire(place));
    }
}

static int wait_for_room(covey_queue *q, struct cv_wait *wait, const struct fullness *f)
{
    uint64_t tags[CV_WAIT_TAGS_MAX];
    unsigned n_tags = 0;
    struct cv_arming armed;

    if (wait->deadline_ns == 0)
        return COVEY_ETIMEDOUT;
    if (cv_wait_spin(wait, f->takes.word, f->takes.seen))
        return CV_WAIT_AGAIN;
    armed = cv_bell_arm(q->bell.room);
    if (q->has_readers && cv_users_are_gone(cv_queue_readers(q), tags, CV_WAIT_TAGS_MAX, &n_tags)) {
        cv_bell_disarm(&armed);
        return cv_queue_close(q, 0) ? CV_WAIT_AGAIN : COVEY_ECLOSED;
    }
    return cv_wait_sleep_armed(wait, q->bell.alarm, armed, f->words, f->n_words, tags, n_tags);
}

static int as_sleepers(size_t n)
{
    return n < INT_MAX ? (int)n : INT_MAX;
}

/* A large item has to be made a block first. */
static bool can_append(const covey_queue *q, const struct cv_putting *p)
{
    return p->done < p->n && (p->block || next_size(p) < q->block_min);
}

/* Who sleeps in the lock waits for the queue, too. */
static int enter(covey_queue *q, struct cv_wait *wait)
{
    cv_alarm_set(q->bell.alarm);
    if (cv_lock_try(&q->put.lock))
        return 0;
    cv_wait_stay(wait);
    return cv_queue_enter_put(q, cv_lock_until(wait->deadline_ns));
}

/*
 * Puts all up to a large one, or as many as it can in time: 0, or why it stopped. With @hold, when there is room for
 * @p->size bytes it puts nothing, and stays in the lock.
 *
 * One wake comes with each item that is taken, but what that leaves may be room for several small
 * items, or not enough for the one that the woken producer has. So who was woken wakes the next one,
 * when it has put its item, when it finds that something was taken and there is still no room, or
 * when it gives up because it cannot enter.
 */
static int put(covey_queue *q, struct cv_putting *p, struct cv_wait *wait, bool hold)
{
    uint32_t seen_before = 0;
    int waited = 0;

    for (;;) {
        struct fullness f;
        size_t done = p->done;
        int r = enter(q, wait);

        if (r != 0) {
            if (wait->alarm)
                cv_bell_ring(q->bell.room, 1);
            return r;
        }
        see_takes(q, &f);
        if (cv_queue_is_closed(q))
            r = COVEY_ECLOSED;
        else if (hold)
            r = cv_queue_make_room(q, p->lane, p->size);
        while (r == 0 && !hold && can_append(q, p))
            r = p->block ? append_block(q, p) : append_items(q, p);
        if (hold && r == 0) {
            cv_bell_ring(q->bell.room, 1);
            return 0;
        }
        cv_lock_exit(&q->put.lock); /* between the commit and the bell */
        done = p->done - done;
        if (done)
            cv_queue_ring_items(q, as_sleepers(done));
        if (wait->alarm && (done || f.takes.seen != seen_before))
            cv_bell_ring(q->bell.room, 1);
        if (r != CV_QUEUE_FULL)
            return r;
        if (waited < 0)
            return waited;
        seen_before = f.takes.seen;
        waited = wait_for_room(q, wait, &f);
    }
}

/* The next item, which is large, as a block. */
static int put_copy(covey_queue *q, const struct cv_putting *p, struct cv_wait *wait)
{
    struct cv_putting copy = {.size = next_size(p), .n = 1, .lane = p->lane};
    int r;

    copy.block = cv_heap_alloc(copy.size, 1, cv_my_short_tag());
    if (!copy.block)
        return covey_error_code();
    memcpy(copy.block, next_item(p), copy.size);
    r = put(q, &copy, wait, false);
    if (r != 0)
        (void)cv_heap_free(copy.block);
    return r;
}

void cv_queue_wake_all(covey_queue *q)
{
    (void)cv_fetch_add(&q->grow.events, 1);
    (void)cv_fetch_add(&q->get.events, 1);
    cv_queue_ring_items(q, INT_MAX);
    cv_bell_ring(q->bell.room, INT_MAX);
    cv_bell_ring(q->bell.done, INT_MAX);
}

/*
 * The first time, all who wait for items must come to know of one more whose life they are to watch. They may
 * be about to fall asleep; so he has a cell, and tells them, before he counts.
 */
int cv_queue_change_writer(covey_queue *q, enum cv_user what)
{
    struct cv_users *writers = cv_queue_writers(q);
    int r;

    cv_alarm_set(q->bell.alarm);
    if (cv_users_own(writers) == CV_USER_NONE) {
        r = cv_users_reserve(writers, cv_users_process(cv_self.tag));
        if (r != 0)
            return r;
        cv_queue_wake_all(q);
    }
    r = cv_users_be(writers, what);
    if (r > 0)
        cv_queue_wake_all(q);
    return r;
}

static int come(covey_queue *q)
{
    int r;

    if (!q->has_writers)
        return 0;
    r = cv_queue_change_writer(q, CV_USER_HERE);
    if (r >= 0 && q->has_readers && !cv_users_see(cv_queue_writers(q), cv_queue_readers(q)) &&
        cv_users_are_gone(cv_queue_readers(q), NULL, 0, &(unsigned){0}))
        return cv_queue_close(q, 0) ? 0 : COVEY_ECLOSED;
    return r < 0 ? r : 0;
}

static int put_all(covey_queue *q, struct cv_putting *p, struct cv_wait *wait)
{
    int r = come(q);

    while (r == 0 && p->done < p->n) {
        if (p->block || next_size(p) < q->block_min) {
            r = put(q, p, wait, false);
        } else {
            r = put_copy(q, p, wait);
            p->done += r == 0;
        }
    }
    return r;
}

static int fail_full(const covey_queue *q, size_t size, double timeout_s)
{
    uint64_t holder = cv_load_relaxed(&q->put.lock) & ~CV_LOCK_SLEEPERS;

    if (holder && cv_load_relaxed(&q->grow.reserved))
        return cv_fail(COVEY_EFULL,
            "process %d has reserved an item (thread %d), not put into queue %p within %g s",
            (int)cv_lock_pid(holder), (int)cv_mark_pid(cv_load_relaxed(&q->grow.reserver)),
            (const void *)q, timeout_s);
    if (q->has_readers)
        return cv_fail(COVEY_EFULL,
            "pipe end %p had no room for a message of %zu bytes within %g s",
            (void *)cv_pipe_of_users(cv_queue_writers(q)), size, timeout_s);
    return cv_fail(COVEY_EFULL, "queue %p had no room for an item of %zu bytes within %g s",
        (const void *)q, size, timeout_s);
}

/* While others see that this thread is here, for who frees the queue waits for that. */
static int end_put(covey_queue *q, struct cv_wait *wait, int r, size_t size, double timeout_s)
{
    cv_alarm_clear();
    if (r == COVEY_ECLOSED || (r == COVEY_ETIMEDOUT && cv_queue_looks_closed(q)))
        r = cv_queue_fail_closed(q);
    else if (r == COVEY_ETIMEDOUT)
        r = fail_full(q, size, timeout_s);
    cv_wait_end(wait);
    return r;
}

/* The number of items put; if there is none, the code. */
static long put_within(covey_queue *q, struct cv_putting *p, double timeout_s)
{
    struct cv_wait wait;
    int r = cv_wait_begin(&wait, timeout_s, q, CV_QUEUE);

    if (r == 0)
        r = cv_queue_check_put(q);
    if (r != 0)
        return r;
    r = put_all(q, p, &wait);
    if (p->done == p->n)
        r = 0;
    r = end_put(q, &wait, r, r == 0 ? 0 : next_size(p), timeout_s);
    return p->done ? (long)p->done : r;
}

int cv_queue_hold_put(covey_queue *q, size_t size, double timeout_s)
{
    struct cv_putting p = {.size = size};
    struct cv_wait wait;
    int r = cv_wait_begin(&wait, timeout_s, q, CV_QUEUE);

    if (r == 0)
        r = cv_queue_check_put(q);
    if (r == 0)
        r = come(q);
    if (r == 0)
        r = put(q, &p, &wait, true);
    return end_put(q, &wait, r, size, timeout_s);
}

bool cv_queue_close(covey_queue *q, uint64_t deadline_ns)
{
    if (cv_queue_enter_put(q, deadline_ns) != 0)
        return false;
    if (!cv_queue_is_closed(q))
        cv_store_release(cv_queue_cell(q, 0, q->put.tail.place),
            cv_cell_make(CV_CELL_END, 0, q->put.tail.count));
    cv_lock_exit(&q->put.lock);
    cv_queue_ring_items(q, INT_MAX);
    cv_bell_ring(q->bell.room, INT_MAX);
    return true;
}

/* Public ************************************************************************************* */

static int check(const covey_queue *q)
{
    return cv_object_check(q, CV_QUEUE);
}

int cv_queue_check_size(covey_queue *q, size_t size)
{
    if (q->item_size != UINT32_MAX && size != q->item_size)
        return cv_fail(COVEY_EINVAL, "an item of %zu bytes: queue %p is for items of %u", size,
            (void *)q, q->item_size);
    if (size > covey_queue_item_max(q))
        return cv_fail(COVEY_ETOOBIG, "an item of %zu bytes: queue %p takes up to %zu", size,
            (void *)q, covey_queue_item_max(q));
    return 0;
}

static int put_slowly(
    covey_queue *q, unsigned priority, const void *item, size_t size, double timeout_s)
{
    struct cv_putting p = {.items = item, .size = size, .n = 1, .lane = priority};
    int r = check(q);
    long done;

    if (r == 0 && priority >= q->lanes)
        r = cv_fail(COVEY_EINVAL, "priority is %u: the queue has 0 to %u", priority, q->lanes - 1U);
    if (r == 0 && !item && size)
        r = cv_fail(COVEY_EINVAL, "item is NULL, with a size of %zu bytes", size);
    if (r == 0)
        r = cv_queue_check_size(q, size);
    if (r != 0)
        return r;
    done = put_within(q, &p, timeout_s);
    return done < 0 ? (int)done : 0;
}

/* Where nothing is in the way: true when it is in. */
static inline bool put_quickly(covey_queue *q, const void *item, size_t size)
{
    struct cv_tail *tail = &q->put.tail;
    struct cv_batch batch;
    uint64_t segment;

    cv_alarm_set(q->bell.alarm);
    if (!cv_lock_try(&q->put.lock)) {
        cv_alarm_clear();
        return false;
    }
    segment = cv_queue_segment(q, 0, tail->place);
    if (tail->count >= q->put.items_limit || !cv_chain_fits(tail, segment, size) ||
        cv_queue_is_closed(q)) {
        cv_lock_exit(&q->put.lock);
        cv_alarm_clear();
        return false;
    }
    batch = cv_batch_begin(tail, segment);
    memcpy(cv_batch_add(&batch, CV_CELL_ITEM, size), item, size);
    cv_batch_commit(&batch, tail);
    cv_lock_exit(&q->put.lock); /* between the commit and the bell */
    cv_queue_ring_items(q, 1);
    cv_alarm_clear();
    return true;
}

bool cv_queue_send_quickly(covey_queue *q, const void *item, size_t size)
{
    return item && size < q->block_min && cv_users_see(cv_queue_writers(q), cv_queue_readers(q)) &&
           put_quickly(q, item, size);
}

int covey_queue_put(covey_queue *queue, const void *item, size_t size, double timeout_s)
{
    if (cv_object_is(queue, CV_QUEUE) && item && size < queue->block_min && queue->is_plain &&
        (queue->item_size == UINT32_MAX || queue->item_size == size) && !queue->has_writers &&
        timeout_s == timeout_s && put_quickly(queue, item, size))
        return 0;
    return put_slowly(queue, 0, item, size, timeout_s);
}

int covey_queue_put_at(
    covey_queue *queue, unsigned priority, const void *item, size_t size, double timeout_s)
{
    return put_slowly(queue, priority, item, size, timeout_s);
}

static int check_sizes(covey_queue *q, size_t size, const size_t *sizes, size_t n)
{
    int r = sizes || n == 0 ? 0 : cv_queue_check_size(q, size);

    for (size_t i = 0; r == 0 && sizes && i < n; i++) {
        r = sizes[i] <= size
                ? cv_queue_check_size(q, sizes[i])
                : cv_fail(COVEY_EINVAL, "item %zu has %zu bytes: more than %zu", i, sizes[i], size);
    }
    return r;
}

long covey_queue_put_many(covey_queue *queue, const void *items, size_t size, const size_t *sizes,
    size_t n, double timeout_s)
{
    struct cv_putting p = {.items = items, .size = size, .sizes = sizes, .n = n};
    int r = check(queue);

    if (r == 0 && !items && size && n)
        r = cv_fail(COVEY_EINVAL, "items is NULL, for %zu items of %zu bytes", n, size);
    if (r == 0 && n > LONG_MAX)
        r = cv_fail(COVEY_EINVAL, "n is %zu: more than %ld", n, LONG_MAX);
    if (r == 0)
        r = check_sizes(queue, size, sizes, n);
    return r != 0 ? r : put_within(queue, &p, timeout_s);
}

int cv_queue_put_block(covey_queue *q, void *block, size_t size, double timeout_s)
{
    struct cv_putting p = {.size = size, .n = 1, .block = block};
    int r = cv_queue_check_size(q, size);
    long done;

    if (r != 0)
        return r;
    p.is_lent = cv_heap_owner(block, NULL) == (uint32_t)CV_OWNER_FAMILY;
    done = put_within(q, &p, timeout_s);
    return done < 0 ? (int)done : 0;
}

static int check_block(const void *block, size_t size)
{
    size_t usable = 0;
    uint32_t owner = cv_heap_owner(block, &usable);

    if (!block)
        return cv_fail(COVEY_EINVAL, "block is NULL");
    if (owner >= CV_OWNER_QUEUE)
        return cv_fail(COVEY_EINVAL, "block %p lies in a queue already", block);
    if (cv_member_of_short(owner) && owner != cv_my_short_tag())
        return cv_fail(COVEY_EINVAL, "block %p is the own one of process %d", block,
            (int)cv_member_short_pid(owner));
    if (owner != cv_my_short_tag() && owner != (uint32_t)CV_OWNER_FAMILY)
        return cv_fail(COVEY_EINVAL, "%p is not the start of a block in use", block);
    if (cv_object_ends(block))
        return cv_fail(COVEY_EINVAL, "%p is a covey object: its own function puts it", block);
    if (size > usable)
        return cv_fail(COVEY_EINVAL, "size is %zu: the block has %zu bytes", size, usable);
    return 0;
}

int covey_queue_put_block(covey_queue *queue, void *block, size_t size, double timeout_s)
{
    int r = check(queue);

    if (r == 0)
        r = check_block(block, size);
    return r != 0 ? r : cv_queue_put_block(queue, block, size, timeout_s);
}
