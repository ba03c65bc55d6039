/* SPDX-License-Identifier: MIT */
/* A queue as a whole. */
#include "msg/queue.h"

#include "arena/family.h"
#include "base/error.h"
#include "base/mutation.h"
#include "base/options.h"
#include "sync/watch.h"

#include <string.h>

#define ITEMS_MAX ((size_t)1 << 40)
#define BYTES_MAX ((size_t)1 << 40)

enum {
    BYTES_MIN = 64,                    /* room for some item */
    HOME_BYTES = 32 * 1024,            /* of a first segment, at most */
    ITEM_USUAL = 64,                   /* bytes of a cell, if nobody says */
    BLOCK_MIN = 4 * 1024,              /* items from here on are not copied into segments */
    CELLS_DEFAULT_LOG = 20,            /* bytes that may wait in segments, if nobody says, */
    BLOCKS_DEFAULT = 16 * 1024 * 1024, /* and with those in blocks */
    UNLIMITED_LOG = 63,
    AGAIN_NS = CV_NS_PER_MS,
};

#define LEAVE_NS ((uint64_t)CV_NS_PER_S)

static int check(const covey_queue *q)
{
    return cv_object_check(q, CV_QUEUE);
}

/* Opening ************************************************************************************ */

static size_t cell_usual(const struct covey_queue_options *o)
{
    return o->item_size ? cv_cell_bytes(o->item_size) : ITEM_USUAL;
}

/* Of each first segment: as much as may wait, if that is not much. */
static size_t home_bytes(const struct covey_queue_options *o, size_t wanted)
{
    size_t bytes = CV_SEGMENT_MIN;

    if (o->bytes && o->bytes < wanted)
        wanted = o->bytes;
    if (o->items && o->items < wanted / cell_usual(o))
        wanted = o->items * cell_usual(o) + CV_CELL_HEAD;
    while (bytes < wanted)
        bytes *= 2;
    return bytes;
}

static int check_options(const struct covey_queue_options *o)
{
    if (o->items > ITEMS_MAX)
        return cv_fail(COVEY_EINVAL, "items is %zu: more than %zu", o->items, ITEMS_MAX);
    if (o->bytes > BYTES_MAX)
        return cv_fail(COVEY_EINVAL, "bytes is %zu: more than %zu", o->bytes, BYTES_MAX);
    if (o->bytes && o->bytes < BYTES_MIN)
        return cv_fail(COVEY_EINVAL, "bytes is %zu: less than %d", o->bytes, BYTES_MIN);
    if (o->item_size >= UINT32_MAX)
        return cv_fail(
            COVEY_EINVAL, "item_size is %zu: more than %u", o->item_size, UINT32_MAX - 1);
    if (o->priorities > CV_QUEUE_PRIORITIES_MAX)
        return cv_fail(
            COVEY_EINVAL, "priorities is %u: more than %d", o->priorities, CV_QUEUE_PRIORITIES_MAX);
    if (o->deliveries && (!o->redeliver || o->deliveries > UINT16_MAX))
        return cv_fail(COVEY_EINVAL,
            o->redeliver ? "deliveries is %u: more than 65535"
                         : "deliveries is %u, but not redeliver",
            o->deliveries);
    if (o->producers > CV_CELLS_MAX)
        return cv_fail(COVEY_EINVAL, "producers is %u: more than %d", o->producers, CV_CELLS_MAX);
    if (o->unbounded && (o->bytes || o->items))
        return cv_fail(
            COVEY_EINVAL, "unbounded, but bytes is %zu and items is %zu", o->bytes, o->items);
    return 0;
}

/* A number that no other queue has, as long as this one lives, as an owner of blocks. */
static uint32_t new_id(void)
{
    uint32_t n = cv_fetch_add(&cv_arena.family->queues, 1);

    return CV_OWNER_QUEUE | (n << 1 & ~CV_OWNER_QUEUE);
}

/* Of the body: the tables, the other chains, what only some have, the segments. */
struct layout {
    size_t more;
    size_t segments;
    size_t end;
};

static bool has_more(const covey_queue *q)
{
    return q->has_claims || q->has_writers || q->has_readers;
}

static struct layout lay_out(const covey_queue *q, size_t home)
{
    struct layout l;

    l.more = cv_queue_tables_bytes(q) + (q->lanes - 1U) * sizeof(struct cv_lane);
    l.segments = l.more + (has_more(q) ? sizeof(struct cv_queue_more) : 0);
    l.end = l.segments + q->lanes * home;
    return l;
}

size_t cv_queue_body_bytes(const covey_queue *q, size_t home)
{
    return lay_out(q, home).end;
}

void cv_queue_make(covey_queue *q, void *body, const covey_queue *like, size_t home)
{
    struct layout l = lay_out(like, home);
    char *p = body;

    memset(p, 0, l.segments);
    memcpy(q, like, offsetof(covey_queue, bell));
    q->id = new_id();
    q->put.items_limit = q->items_max;
    q->segments = (uintptr_t)p;
    q->more = has_more(q) ? (uintptr_t)p + l.more : 0;
    for (unsigned lane = 0; lane < q->lanes; lane++) {
        char *segment = p + l.segments + lane * home;

        memset(segment, 0, CV_CELL_HEAD);
        cv_queue_segments(q, lane)[0] = cv_segment_make(segment, (unsigned)__builtin_ctzll(home));
    }
    cv_object_begin(q, CV_QUEUE);
}

/* Whatever it is for. */
static size_t room_max(const covey_queue *q)
{
    size_t cell = cv_cell_bytes(sizeof(struct cv_block));

    return q->is_exact ? q->bytes_max - cell : BYTES_MAX;
}

static size_t item_max(const covey_queue *q)
{
    return q->item_size != UINT32_MAX ? q->item_size : room_max(q);
}

int cv_queue_read_options(
    covey_queue *q, const struct covey_queue_options *o, size_t home_max, size_t *home)
{
    int r = check_options(o);

    *home = home_bytes(o, home_max);
    q->items_max = o->items ? o->items : UINT64_MAX;
    q->bytes_max = o->bytes ? o->bytes : o->unbounded || o->items ? UINT64_MAX : BLOCKS_DEFAULT;
    q->is_exact = o->bytes != 0;
    q->block_min = *home / 4 < BLOCK_MIN ? (uint32_t)(*home / 4) : BLOCK_MIN;
    q->lanes = (uint16_t)(o->priorities ? o->priorities : 1);
    q->cells_log = o->bytes || o->unbounded || o->items ? UNLIMITED_LOG : CELLS_DEFAULT_LOG;
    q->grows = !o->bytes || o->bytes > *home;
    q->has_claims = o->joinable || o->redeliver;
    q->redelivers = o->redeliver;
    q->deliveries_max = (uint16_t)o->deliveries;
    q->is_plain = q->lanes == 1 && !q->has_claims;
    q->item_size = o->item_size ? (uint32_t)o->item_size : UINT32_MAX;
    if (r == 0 && o->item_size > room_max(q))
        r = cv_fail(COVEY_EINVAL, "item_size is %zu: with so many bytes, up to %zu", o->item_size,
            room_max(q));
    return r;
}

int covey_queue_open_with(const struct covey_queue_options *options)
{
    struct covey_queue_options o;
    covey_queue like = {0};
    covey_queue *q;
    void *body;
    size_t home;
    int r = cv_options_read(&o, sizeof o, options, "covey_queue_options");

    if (r == 0 && !o.queue)
        r = cv_fail(COVEY_EINVAL, "queue is NULL: there is no place for the new queue");
    if (r == 0)
        r = cv_queue_read_options(&like, &o, HOME_BYTES, &home);
    if (r == 0)
        r = cv_enter();
    if (r != 0)
        return r;
    like.has_writers = o.producers != 0;
    body = cv_heap_alloc(cv_queue_body_bytes(&like, home), CV_QUEUE_LINE, cv_my_short_tag());
    q = body ? cv_heap_alloc_lasting(cv_my_short_tag()) : NULL;
    if (!q) {
        r = covey_error_code();
        if (body)
            (void)cv_heap_free(body);
        return r;
    }
    cv_alarm_init_again(q->bell.alarm, CV_QUEUE_BELLS);
    cv_queue_make(q, body, &like, home);
    if (o.producers) {
        cv_queue_more(q)->producers.needed = o.producers;
        cv_queue_more(q)->writers = (uintptr_t)&cv_queue_more(q)->producers;
    }
    (void)cv_heap_give(body, cv_my_short_tag(), cv_queue_owner(q));
    (void)cv_heap_give(q, cv_my_short_tag(), (uint32_t)CV_OWNER_OBJECT);
    *o.queue = q;
    return 0;
}

/* Freeing ************************************************************************************ */

/* Everything out of the chain, and out of all segments but the first one. */
static void drain(covey_queue *q, unsigned lane)
{
    struct cv_lane_head *head = cv_queue_head(q, lane);

    while (cv_queue_drop_first(q, lane)) {
    }
    if (cv_place_slot(head->place) != 0) {
        uint64_t home = cv_place_position(head->place) + CV_CELL_HEAD;

        cv_store_relaxed(cv_queue_cell(q, lane, home), 0); /* should this be done once more: */
        cv_store_relaxed(&cv_queue_tail(q, lane)->place, home);
        cv_queue_leave_segment(q, lane, home);
    }
}

static void end_users(struct cv_queue_more *more)
{
    cv_cells_end(&more->producers.cells);
    cv_cells_end(&more->takers.cells);
}

void cv_queue_drain(covey_queue *q)
{
    (void)cv_queue_enter_put(q, CV_FOREVER);
    (void)cv_queue_enter_get(q, CV_FOREVER);
    for (unsigned lane = 0; lane < q->lanes; lane++)
        drain(q, lane);
    if (q->has_claims)
        cv_queue_end_claims(q);
    if (q->more)
        end_users(cv_queue_more(q));
    cv_alarm_clear();
}

void cv_queue_end(covey_queue *q)
{
    cv_store_seq(&q->put.lock, 0); /* no queue that comes here begins with this process's mark */
    cv_store_seq(&q->get.lock, 0);
    cv_object_end(q);
    cv_bell_ring(q->bell.watch, INT_MAX); /* others' watches */
}

/* A queue that is this process's own; its body may be freed already, or be this process's own, too. */
static void end(covey_queue *q)
{
    void *body = (void *)(uintptr_t)q->segments;

    if (cv_heap_owner(body, NULL) == cv_queue_owner(q)) {
        cv_queue_drain(q);
        cv_store_seq(&q->put.lock, 0); /* nobody is to mend this when the body is gone */
        cv_store_seq(&q->get.lock, 0);
        (void)cv_heap_give(body, cv_queue_owner(q), cv_my_short_tag());
        (void)cv_heap_free(body);
    }
    cv_queue_end(q);
    (void)cv_heap_free(q);
}

int cv_queue_check_objects(const covey_queue *q)
{
    if (q->has_claims)
        return cv_fail(
            COVEY_ESTATE, "queue %p is joinable: its items stay its own", (const void *)q);
    if (q->item_size != UINT32_MAX)
        return cv_fail(COVEY_ESTATE,
            "queue %p is for items of %u bytes: ends of pipes and descriptors have another size",
            (const void *)q, q->item_size);
    return 0;
}

static int check_not_of_pipe(const covey_queue *q)
{
    return q->has_readers ? cv_fail(COVEY_ESTATE, "queue %p is that of a pipe, and ends with it",
                                (const void *)q)
                          : 0;
}

static struct cv_waiter *waiter_for(const covey_queue *q)
{
    return cv_waiter_for(cv_waiter_object(q, CV_QUEUE));
}

/* Somebody sleeps in it: he is told that it is closed, and goes. Who is about to sleep is not seen. */
static int send_away(covey_queue *q)
{
    uint64_t end_ns = cv_clock_now() + LEAVE_NS;
    struct cv_waiter *w = waiter_for(q);

    if (w) {
        (void)cv_queue_close(q, CV_FOREVER);
        cv_alarm_clear();
    }
    for (; w; w = waiter_for(q)) {
        int pid = (int)cv_member_pid(cv_load_acquire(&w->owner));

        if (cv_clock_now() >= end_ns)
            return cv_fail(COVEY_ESTATE, "process %d waits in queue %p", pid, (void *)q);
        cv_clock_sleep(AGAIN_NS);
    }
    return 0;
}

/* Then nobody begins to look at it any more who waits for others, too; those that do so just now go first. */
static int make_own(covey_queue *q)
{
    int r;

    if (!cv_heap_give(q, (uint32_t)CV_OWNER_OBJECT, cv_my_short_tag()))
        return cv_fail_object(q, "queue");
    r = send_away(q);
    if (r != 0)
        (void)cv_heap_give(q, cv_my_short_tag(), (uint32_t)CV_OWNER_OBJECT);
    return r;
}

int covey_queue_free(covey_queue *queue)
{
    int r;

    if (!queue)
        return 0;
    r = check(queue);
    if (r == 0)
        r = check_not_of_pipe(queue);
    if (r == 0)
        r = cv_queue_check_put(queue);
    if (r == 0)
        r = cv_queue_check_get(queue);
    if (r == 0)
        r = send_away(queue);
    if (r != 0)
        return r;
    (void)cv_watch_close(queue);
    r = make_own(queue);
    if (r != 0)
        return r;
    end(queue);
    return 0;
}

static void end_of_dead(void *block)
{
    end(block);
}

__attribute__((constructor)) static void register_end(void)
{
    cv_object_set_end(CV_QUEUE, end_of_dead);
}

/* Closing and looking ************************************************************************ */

int covey_queue_close(covey_queue *queue)
{
    int r = check(queue);

    if (r == 0)
        r = check_not_of_pipe(queue);
    if (r == 0)
        r = cv_queue_check_put(queue);
    if (r != 0)
        return r;
    (void)cv_queue_close(queue, CV_FOREVER);
    cv_alarm_clear();
    return 0;
}

static int check_producers(covey_queue *q)
{
    int r = check(q);

    return r == 0 && !(q->has_writers && cv_queue_writers(q) == &cv_queue_more(q)->producers)
               ? cv_fail(COVEY_ESTATE, "queue %p does not end with its producers", (void *)q)
               : r;
}

int cv_queue_add_producer(covey_queue *q, uint64_t tag)
{
    uint64_t mark = cv_users_process(tag);
    int r = check_producers(q);

    if (r != 0)
        return r;
    cv_alarm_set(q->bell.alarm);
    if (tag) {
        r = cv_users_reserve(cv_queue_writers(q), mark);
        cv_queue_wake_all(q); /* who is about to sleep has to watch it, before it counts */
        if (r == 0)
            r = cv_users_give(cv_queue_writers(q), mark);
        cv_queue_wake_all(q);
    } else {
        r = cv_queue_change_writer(q, CV_USER_HERE);
    }
    cv_alarm_clear();
    if (r >= 0 && !tag && covey_queue_is_closed(q) == 1)
        r = cv_queue_fail_closed(q);
    return r < 0 ? r : 0;
}

int covey_queue_leave(covey_queue *queue)
{
    int r = check_producers(queue);

    if (r == 0)
        r = cv_queue_check_put(queue);
    if (r != 0)
        return r;
    r = cv_queue_change_writer(queue, CV_USER_LEFT);
    cv_alarm_clear();
    return r < 0 ? r : 0;
}

/* It was no queue's: the word is as it was; who has begun to sleep by this process's life looks again. */
static void undo_take_over(uint64_t *lock, uint64_t word)
{
    uint64_t now = cv_load_relaxed(lock);

    do {
        if ((now & ~CV_LOCK_SLEEPERS) != cv_self.mark)
            return;
    } while (!cv_cas(lock, &now, word | (now & CV_LOCK_SLEEPERS)));
    if (now & CV_LOCK_SLEEPERS)
        cv_lock_wake(lock);
}

bool cv_queue_take_over(covey_queue *q, uint64_t *lock, uint64_t mark)
{
    uint64_t word = cv_load_acquire(lock);
    uint64_t holder = word & ~CV_LOCK_SLEEPERS;
    uint64_t owner = holder ? cv_member_marked(holder) : 0;
    uint64_t mine = cv_self.mark | (word & CV_LOCK_SLEEPERS);

    if (!holder || (!owner && mark && holder != mark) || (owner && !cv_member_is_dead(owner, 0)) ||
        !cv_cas64(lock, word, mine))
        return false;
    if (cv_object_is(q, CV_QUEUE))
        return true;
    undo_take_over(lock, word);
    return false;
}

void cv_queue_mend_after(covey_queue *q, uint64_t mark)
{
    cv_queue_mend_put(q, mark);
    cv_queue_mend_get(q, mark);
}

/* Where all chains are: the heads only go on, and so do the counts of the tails. */
struct position {
    uint64_t head[CV_QUEUE_PRIORITIES_MAX];
    uint64_t count[CV_QUEUE_PRIORITIES_MAX];
    uint64_t free_claims;
};

static struct position position_of(covey_queue *q)
{
    struct position p = {.free_claims = 0};

    for (unsigned lane = 0; lane < q->lanes; lane++) {
        p.head[lane] = cv_load_acquire(&cv_queue_head(q, lane)->place);
        p.count[lane] = cv_load_acquire(&cv_queue_tail(q, lane)->count);
    }
    if (q->has_claims)
        p.free_claims = cv_load_acquire(&cv_queue_more(q)->free_claims);
    return p;
}

/* Of a chain, if that has not moved in the meantime. */
static long count_lane(covey_queue *q, unsigned lane)
{
    uint64_t *cell;
    uint64_t first = cv_queue_look(q, lane, &cell);
    int32_t waiting;

    if (!cv_cell_is_there(first) || (first & CV_CELL_END))
        return 0;
    waiting = (int32_t)((uint32_t)cv_load_acquire(&cv_queue_tail(q, lane)->count) -
                        cv_cell_number(first));
    if (waiting < 1) /* committed, and not yet counted */
        waiting = 1;
    return waiting;
}

long cv_queue_count(covey_queue *q)
{
    long n = 0;

    for (unsigned lane = 0; lane < q->lanes; lane++)
        n += count_lane(q, lane);
    return n;
}

/* If nothing has moved, there was an instant when all of it was so. */
static long count_at_once(covey_queue *q)
{
    struct position before;
    struct position after = position_of(q);
    long n;

    do {
        before = after;
        n = cv_queue_count(q);
        after = position_of(q);
    } while (memcmp(&before, &after, sizeof before) != 0);
    return n + (long)after.free_claims;
}

long covey_queue_size(covey_queue *queue)
{
    long size = check(queue);

    if (size != 0)
        return size;
    cv_alarm_set(queue->bell.alarm);
    if (queue->redelivers)
        (void)cv_queue_reap_claims(queue, true, &(bool){false});
    if (CV_RECOVERS(
            queue_count)) /* one that died between its commit and its count left it behind */
        cv_queue_mend_after(queue, 0);
    size = count_at_once(queue);
    cv_alarm_clear();
    return size;
}

int covey_queue_is_empty(covey_queue *queue)
{
    long size = covey_queue_size(queue);

    return size < 0 ? (int)size : size == 0;
}

/* False: somebody has reserved an item, or is stopped in putting one. */
static bool enter_put_soon(covey_queue *q)
{
    if (cv_queue_enter_put(q, 0) == 0)
        return true;
    cv_alarm_clear();
    return false;
}

/* Is there some for a large item? */
static int check_memory(size_t size)
{
    void *block = cv_heap_alloc(size, 1, cv_my_short_tag());

    if (!block)
        return covey_error_code();
    (void)cv_heap_free(block);
    return 0;
}

int cv_queue_fail_closed(const covey_queue *q)
{
    return cv_fail(COVEY_ECLOSED,
        q->has_writers ? "queue %p has ended: it was closed, or all its producers have gone"
                       : "queue %p is closed",
        (const void *)q);
}

int covey_queue_is_full(covey_queue *queue, size_t size)
{
    int r = check(queue);

    if (r == 0)
        r = cv_queue_check_size(queue, size);
    if (r == 0)
        r = cv_queue_check_put(queue);
    if (r != 0)
        return r;
    if (!enter_put_soon(queue)) /* so would who puts */
        return cv_queue_looks_closed(queue) ? cv_queue_fail_closed(queue) : 1;
    r = cv_queue_is_closed(queue) ? cv_queue_fail_closed(queue)
                                  : cv_queue_make_room(queue, 0, size);
    cv_lock_exit(&queue->put.lock);
    cv_alarm_clear();
    return r == 0 && size >= queue->block_min ? check_memory(size) : r;
}

/*
 * Nobody can be between an END and the tail's words. Who is there with a NEXT may be stopped, and its segment
 * have been left; and what is read counts only if both are as they were.
 */
bool cv_queue_looks_closed(covey_queue *q)
{
    for (;;) {
        uint64_t place = cv_load_acquire(&q->put.tail.place);
        uint64_t *slot = &cv_queue_segments(q, 0)[cv_place_slot(place)];
        uint64_t segment = cv_load_acquire(slot);
        uint64_t head = segment ? cv_load_acquire(cv_segment_cell(segment, place)) : 0;

        if (cv_load_acquire(&q->put.tail.place) == place && cv_load_acquire(slot) == segment)
            return head & CV_CELL_END;
    }
}

int covey_queue_is_closed(covey_queue *queue)
{
    int r = check(queue);

    return r != 0 ? r : cv_queue_looks_closed(queue);
}

size_t covey_queue_item_max(covey_queue *queue)
{
    return check(queue) == 0 ? item_max(queue) : 0;
}
