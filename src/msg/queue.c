/* SPDX-License-Identifier: MIT */
/*
 * The queue: a ring of cells between two ends, each end under a robust lock of its own.
 *
 *   cell   a head of 8 bytes, then the item's bytes, rounded up to 8
 *   head   low half: kind and size; high half: the item's number. 0: nothing here yet
 *
 *     ...  | ITEM 7 |  bytes  | ITEM 8 | bytes | 0 |  ...
 *            ^ head                              ^ tail
 *
 * @tail and @get.head are positions that only grow; modulo the ring's size they are places in it.
 * The cell head at the tail is always 0. A cell does not go around the ring's end: where one would,
 * there is a WRAP, and the cell is at the ring's start. END, at the tail, closes the queue; it is
 * never taken.
 *
 * Put, under put.lock: write the bytes, write the 0 behind them, then store the cell's head: that
 * is the commit, for the consumer looks nowhere else. (With a WRAP, the item's whole cell is
 * written first, and storing the WRAP is the commit.) Then put.count and put.tail follow.
 *   A kill before the commit leaves nothing: bytes that the next put overwrites. A kill after it
 *   leaves count or tail behind: the next holder of the lock, who is told of the death, finds a
 *   cell head at the tail that is not 0, and moves on over it. The item's number tells what count
 *   must be.
 *
 * Get, under get.lock: copy the bytes out, then store get.head: that is the commit. A kill before
 * it leaves the item for others, after it nothing at all: there is nothing to mend.
 *
 * Who waits for what: a consumer sleeps while the cell head at the queue's head is 0 and put.count
 * is as seen (should the ring go once around while he falls asleep, the place may be 0 again, but
 * the count is not the same; a producer that dies before it raises the count has raised the cell's
 * head). A producer sleeps while get.head is as seen and there is no END at the tail. Each side has
 * a bell; the alarm is pending during every operation.
 *
 * Freeing makes the block the process's own first: a kill from there on frees it with the rest of
 * what the dead process owned.
 *
 * Producers keep @head_seen and @taken_seen, what they last saw of the other end, and look again
 * only when these say that there is no room.
 */
#include "arena/object.h"
#include "base/error.h"
#include "base/mutation.h"
#include "base/options.h"
#include "sync/lock.h"
#include "sync/wait.h"

#include <covey/queue.h>

#include <limits.h>
#include <string.h>

enum {
    CELL_HEAD = 8,
    BYTES_DEFAULT = 64 * 1024,
    BYTES_MIN = 128,
    LINE = 64,
};

#define BYTES_MAX     ((size_t)1 << 40)
#define ITEM_SIZE_MAX ((size_t)1 << 28)

/* Kinds: the bits of a cell head above the size. */
#define KIND_ITEM UINT32_C(0x80000000)
#define KIND_WRAP UINT32_C(0x40000000)
#define KIND_END  UINT32_C(0x20000000)

struct covey_queue {
    uint64_t signature; /* arena/object.h */
    /* Written once, when the queue is made. */
    uint64_t bytes; /* a power of two */
    uint64_t items_max;

    struct {
        uint64_t lock;       /* sync/lock.h; guards the rest and the cells from tail on */
        uint64_t tail;       /* written by the holder, after the commit */
        uint64_t count;      /* items ever put; written by the holder, after the commit */
        uint64_t head_seen;  /* hint: get.head, or less */
        uint64_t taken_seen; /* hint: items ever taken, or fewer */
    } put __attribute__((aligned(LINE)));

    struct {
        uint64_t lock; /* guards the rest */
        uint64_t head; /* the commit of get; read by producers without the lock */
    } get __attribute__((aligned(LINE)));

    struct {
        uint32_t alarm[2];
        uint32_t items[2]; /* of the consumers */
        uint32_t room[2];  /* of the producers */
    } bell __attribute__((aligned(LINE)));

    unsigned char ring[] __attribute__((aligned(LINE)));
};

_Static_assert(sizeof(struct covey_queue) == 4 * LINE, "each end has its own cache line");

/* Cells ************************************************************************************** */

static uint64_t *cell_at(covey_queue *q, uint64_t position)
{
    return (uint64_t *)(void *)&q->ring[position & (q->bytes - 1)];
}

static uint32_t *low_half(uint64_t *word)
{
    return (uint32_t *)(void *)word;
}

static uint64_t head_make(uint32_t kind, size_t size, uint64_t number)
{
    return number << 32 | kind | (uint32_t)size;
}

static size_t size_of(uint64_t head)
{
    return head & (ITEM_SIZE_MAX - 1);
}

static uint32_t number_of(uint64_t head)
{
    return (uint32_t)(head >> 32);
}

static uint64_t cell_bytes(size_t size)
{
    return CELL_HEAD + (size + 7) / 8 * 8;
}

static uint64_t to_ring_end(covey_queue *q, uint64_t position)
{
    return q->bytes - (position & (q->bytes - 1));
}

/* Where the cell is whose head, not 0, stands at @position: there, or behind a WRAP. */
static uint64_t skip_wrap(covey_queue *q, uint64_t position, uint64_t *head)
{
    if (!(*head & KIND_WRAP))
        return position;
    position += to_ring_end(q, position);
    *head = *cell_at(q, position);
    return position;
}

static size_t item_max(const covey_queue *q)
{
    size_t most = q->bytes / 2 - 2 * CELL_HEAD;

    return most < ITEM_SIZE_MAX ? most : ITEM_SIZE_MAX - 1;
}

/* The producers' end ************************************************************************* */

/* After a death: over what was committed. */
static void mend_put(covey_queue *q)
{
    uint64_t head;

    while ((head = cv_load_acquire(cell_at(q, q->put.tail))) && !(head & KIND_END)) {
        uint64_t position = skip_wrap(q, q->put.tail, &head);

        if (number_of(head) == (uint32_t)q->put.count)
            cv_store_relaxed(&q->put.count, q->put.count + 1);
        cv_store_relaxed(&q->put.tail, position + cell_bytes(size_of(head)));
    }
}

/* 0, COVEY_ETIMEDOUT or COVEY_EINTR, as cv_lock_enter(). */
static int enter_put_until(covey_queue *q, uint64_t deadline_ns)
{
    int r;

    cv_alarm_set(q->bell.alarm);
    r = cv_lock_enter(&q->put.lock, q->bell.alarm, deadline_ns);
    if (r == COVEY_EOWNERDEAD) {
        if (CV_RECOVERS(queue_mend))
            mend_put(q);
        r = 0;
    }
    return r;
}

static void enter_put(covey_queue *q)
{
    (void)enter_put_until(q, CV_FOREVER);
}

static bool is_closed(covey_queue *q)
{
    return *cell_at(q, q->put.tail) & KIND_END;
}

/* Items ever taken, or fewer if some are being taken now. For the holder of put.lock. */
static uint64_t taken(covey_queue *q)
{
    uint64_t position = cv_load_acquire(&q->get.head);
    uint64_t head = cv_load_acquire(cell_at(q, position));

    (void)skip_wrap(q, position, &head);
    return head ? q->put.count - (uint32_t)((uint32_t)q->put.count - number_of(head))
                : q->put.count;
}

/* May a cell that ends at @end be added? */
static bool has_room(covey_queue *q, uint64_t end)
{
    uint64_t needed = end + CELL_HEAD; /* the 0 behind it */

    if (needed - q->put.head_seen > q->bytes)
        q->put.head_seen = cv_load_acquire(&q->get.head);
    if (needed - q->put.head_seen > q->bytes)
        return false;
    if (q->put.count - q->put.taken_seen >= q->items_max)
        q->put.taken_seen = taken(q);
    return q->put.count - q->put.taken_seen < q->items_max;
}

/* Where the next cell goes: at the tail, or behind a WRAP at the ring's start. */
static uint64_t place_for(covey_queue *q, uint64_t bytes)
{
    uint64_t left = to_ring_end(q, q->put.tail);

    return left < bytes + CELL_HEAD ? q->put.tail + left : q->put.tail;
}

/* True when the item is in; false when there is no room. */
static bool append(covey_queue *q, const void *item, size_t size)
{
    uint64_t tail = q->put.tail;
    uint64_t bytes = cell_bytes(size);
    uint64_t position = place_for(q, bytes);
    uint64_t head = head_make(KIND_ITEM, size, q->put.count);

    if (!has_room(q, position + bytes))
        return false;
    if (size)
        memcpy(cell_at(q, position) + 1, item, size);
    cv_store_relaxed(cell_at(q, position + bytes), 0);
    if (position != tail) {
        cv_store_relaxed(cell_at(q, position), head);
        head = head_make(KIND_WRAP, 0, 0);
    }
    cv_store_release(cell_at(q, tail), head);
    cv_store_relaxed(&q->put.count, q->put.count + 1);
    cv_store_relaxed(&q->put.tail, position + bytes);
    return true;
}

static int wait_for_room(covey_queue *q, struct cv_wait *wait, uint64_t head, uint64_t tail)
{
    struct cv_futex_watch words[] = {
        cv_bell_armed(q->bell.room),
        {low_half(&q->get.head), (uint32_t)head},
        {low_half(cell_at(q, tail)), 0},
    };

    if (cv_wait_spin(wait, low_half(&q->get.head), (uint32_t)head))
        return CV_WAIT_AGAIN;
    cv_bell_arm(q->bell.room);
    return cv_wait_sleep(wait, q->bell.alarm, cv_bell_gong(q->bell.room), words, 3, NULL, 0);
}

/*
 * One wake comes with each item that is taken, but what that leaves may be room for several small
 * items, or not enough for the one that the woken producer has. So who was woken wakes the next one,
 * when it has put its item, when it finds that something was taken and there is still no room, or
 * when it gives up because it cannot enter.
 */
static int put(covey_queue *q, const void *item, size_t size, struct cv_wait *wait)
{
    uint64_t head_before = 0;
    int r = 0;

    for (;;) {
        bool closed;
        bool done = false;
        uint64_t head;
        uint64_t tail;
        int entered = enter_put_until(q, wait->deadline_ns);

        if (entered != 0) {
            if (wait->alarm)
                cv_bell_ring(q->bell.room, 1);
            return entered;
        }
        head = cv_load_acquire(&q->get.head);
        tail = q->put.tail;
        closed = is_closed(q);
        if (!closed)
            done = append(q, item, size);
        cv_lock_exit(&q->put.lock); /* between the commit and the bell */
        if (done)
            cv_bell_ring(q->bell.items, 1);
        if (wait->alarm && (done || head != head_before))
            cv_bell_ring(q->bell.room, 1);
        if (done)
            return 0;
        if (closed)
            return COVEY_ECLOSED;
        if (r < 0)
            return r;
        head_before = head;
        r = wait_for_room(q, wait, head, tail);
    }
}

/* The consumers' end ************************************************************************* */

struct taking {
    void *item;
    size_t room;
    size_t size; /* out */
};

/* For the holder of get.lock: 0, COVEY_EEMPTY, COVEY_ECLOSED or COVEY_ETOOBIG. */
static int take(covey_queue *q, struct taking *t)
{
    uint64_t position = q->get.head;
    uint64_t head = cv_load_acquire(cell_at(q, position));

    if (!head)
        return COVEY_EEMPTY;
    if (head & KIND_END)
        return COVEY_ECLOSED;
    position = skip_wrap(q, position, &head);
    t->size = size_of(head);
    if (t->size > t->room)
        return COVEY_ETOOBIG;
    if (t->size)
        memcpy(t->item, cell_at(q, position) + 1, t->size);
    cv_store_release(&q->get.head, position + cell_bytes(t->size));
    return 0;
}

/* An instant at which the queue was empty; false if there is something to take. */
static bool see_empty(covey_queue *q, struct cv_futex_watch *words)
{
    uint64_t head;

    do {
        words[2] = (struct cv_futex_watch){
            low_half(&q->put.count), (uint32_t)cv_load_acquire(&q->put.count)};
        head = cv_load_acquire(&q->get.head);
        words[1] = (struct cv_futex_watch){low_half(cell_at(q, head)), 0};
        if (cv_load_acquire(words[1].word) != 0)
            return false;
    } while (cv_load_acquire(&q->get.head) != head);
    return true;
}

static int wait_for_item(covey_queue *q, struct cv_wait *wait, struct cv_futex_watch *words)
{
    if (cv_wait_spin(wait, words[1].word, 0))
        return CV_WAIT_AGAIN;
    words[0] = cv_bell_armed(q->bell.items);
    cv_bell_arm(q->bell.items);
    return cv_wait_sleep(wait, q->bell.alarm, cv_bell_gong(q->bell.items), words, 3, NULL, 0);
}

static int get(covey_queue *q, struct taking *t, struct cv_wait *wait)
{
    struct cv_futex_watch words[3];
    int r = 0;

    for (;;) {
        if (see_empty(q, words)) {
            if (r < 0)
                return r;
            r = wait_for_item(q, wait, words);
        } else {
            int taken = cv_lock_enter(&q->get.lock, q->bell.alarm, wait->deadline_ns);

            if (taken != 0 && taken != COVEY_EOWNERDEAD) { /* a death leaves nothing to mend */
                if (wait->alarm) /* the wake that this thread has had is another's then */
                    cv_bell_ring(q->bell.items, 1);
                return taken;
            }
            taken = take(q, t);
            cv_lock_exit(&q->get.lock); /* between the commit and the bell */
            if (taken == 0)
                cv_bell_ring(q->bell.room, 1);
            if (taken == COVEY_ETOOBIG) /* the wake was for somebody with more room */
                cv_bell_ring(q->bell.items, 1);
            if (taken != COVEY_EEMPTY)
                return taken;
        }
    }
}

/* Public ************************************************************************************* */

static int check(const covey_queue *q)
{
    return cv_object_check(q, CV_QUEUE);
}

static int check_size(const covey_queue *q, size_t size)
{
    return size <= item_max(q)
               ? 0
               : cv_fail(COVEY_ETOOBIG, "an item of %zu bytes: the queue takes up to %zu", size,
                     item_max(q));
}

static size_t ring_bytes(size_t wanted)
{
    size_t bytes = BYTES_MIN;

    while (bytes < wanted)
        bytes *= 2;
    return bytes;
}

int covey_queue_open_with(const struct covey_queue_options *options)
{
    struct covey_queue_options o;
    covey_queue *q;
    int r = cv_options_read(&o, sizeof o, options, "covey_queue_options");

    if (r != 0)
        return r;
    if (!o.queue)
        return cv_fail(COVEY_EINVAL, "queue is NULL: there is no place for the new queue");
    if (o.bytes > BYTES_MAX)
        return cv_fail(COVEY_EINVAL, "bytes is %zu: more than %zu", o.bytes, BYTES_MAX);
    r = cv_enter();
    if (r != 0)
        return r;
    o.bytes = ring_bytes(o.bytes ? o.bytes : BYTES_DEFAULT);
    q = cv_heap_alloc(sizeof *q + o.bytes, LINE, (uint32_t)CV_OWNER_OBJECT);
    if (!q)
        return covey_error_code();
    memset(q, 0, sizeof *q + CELL_HEAD);
    q->bytes = o.bytes;
    q->items_max = o.items ? o.items : UINT64_MAX;
    cv_object_begin(q, CV_QUEUE);
    *o.queue = q;
    return 0;
}

int covey_queue_put(covey_queue *queue, const void *item, size_t size, double timeout_s)
{
    struct cv_wait wait;
    int r = check(queue);

    if (r == 0)
        r = cv_wait_begin(&wait, timeout_s, queue, CV_QUEUE);
    if (r != 0)
        return r;
    if (!item && size)
        return cv_fail(COVEY_EINVAL, "item is NULL, with a size of %zu bytes", size);
    r = check_size(queue, size);
    if (r != 0)
        return r;
    r = put(queue, item, size, &wait);
    cv_wait_end(&wait);
    cv_alarm_clear();
    if (r == COVEY_ETIMEDOUT)
        return cv_fail(
            COVEY_EFULL, "no room for an item of %zu bytes within %g s", size, timeout_s);
    return r == COVEY_ECLOSED ? cv_fail(r, "the queue is closed") : r;
}

int covey_queue_get(covey_queue *queue, void *item, size_t room, size_t *size, double timeout_s)
{
    struct taking t = {item, room, 0};
    struct cv_wait wait;
    int r = check(queue);

    if (r == 0)
        r = cv_wait_begin(&wait, timeout_s, queue, CV_QUEUE);
    if (r != 0)
        return r;
    if (!item && room)
        return cv_fail(COVEY_EINVAL, "item is NULL, with room for %zu bytes", room);
    cv_alarm_set(queue->bell.alarm);
    r = get(queue, &t, &wait);
    cv_wait_end(&wait);
    cv_alarm_clear();
    if (size && (r == 0 || r == COVEY_ETOOBIG))
        *size = t.size;
    switch (r) {
    case COVEY_ETIMEDOUT:
        return cv_fail_late(COVEY_EEMPTY, "queue", queue, "had no item", timeout_s);
    case COVEY_ETOOBIG:
        return cv_fail(r, "the item has %zu bytes: there is room for %zu", t.size, room);
    case COVEY_ECLOSED:
        return cv_fail(r, "the queue is closed, and empty");
    default:
        return r;
    }
}

int covey_queue_close(covey_queue *queue)
{
    int r = check(queue);

    if (r != 0)
        return r;
    enter_put(queue);
    if (!is_closed(queue))
        cv_store_release(cell_at(queue, queue->put.tail), head_make(KIND_END, 0, queue->put.count));
    cv_lock_exit(&queue->put.lock);
    cv_bell_ring(queue->bell.items, INT_MAX);
    cv_bell_ring(queue->bell.room, INT_MAX);
    cv_alarm_clear();
    return 0;
}

int covey_queue_free(covey_queue *queue)
{
    int r;

    if (!queue)
        return 0;
    r = check(queue);
    if (r != 0)
        return r;
    if (!cv_heap_give(queue, (uint32_t)CV_OWNER_OBJECT, cv_tag_short(cv_self.tag)))
        return cv_fail_object(queue, "queue");
    cv_object_end(queue);
    return cv_heap_free(queue);
}

/* A producer that died between its commit and count left count one behind. */
static void mend_count(covey_queue *q)
{
    uint64_t holder = cv_load_acquire(&q->put.lock) & ~CV_LOCK_SLEEPERS;
    uint64_t owner = holder ? cv_member_marked(holder) : 0;

    if (!holder || (owner && !cv_member_is_dead(owner, 0)) || !CV_RECOVERS(queue_count))
        return;
    enter_put(q);
    cv_lock_exit(&q->put.lock);
    cv_alarm_clear();
}

long covey_queue_size(covey_queue *queue)
{
    uint64_t position;
    int32_t waiting;
    int r = check(queue);

    if (r != 0)
        return r;
    mend_count(queue);
    do {
        uint64_t head;

        position = cv_load_acquire(&queue->get.head);
        head = cv_load_acquire(cell_at(queue, position));
        if (head & KIND_WRAP)
            (void)skip_wrap(queue, position, &head);
        waiting = 0;
        if (head & KIND_ITEM) {
            waiting = (int32_t)((uint32_t)cv_load_acquire(&queue->put.count) - number_of(head));
            if (waiting < 1) /* committed, and not yet counted */
                waiting = 1;
        }
    } while (cv_load_acquire(&queue->get.head) != position);
    return waiting;
}

int covey_queue_is_empty(covey_queue *queue)
{
    long size = covey_queue_size(queue);

    return size < 0 ? (int)size : size == 0;
}

int covey_queue_is_full(covey_queue *queue, size_t size)
{
    uint64_t bytes;
    int r = check(queue);

    if (r != 0)
        return r;
    r = check_size(queue, size);
    if (r != 0)
        return r;
    bytes = cell_bytes(size);
    enter_put(queue);
    r = !has_room(queue, place_for(queue, bytes) + bytes);
    cv_lock_exit(&queue->put.lock);
    cv_alarm_clear();
    return r;
}

int covey_queue_is_closed(covey_queue *queue)
{
    int r = check(queue);

    if (r != 0)
        return r;
    enter_put(queue);
    r = is_closed(queue);
    cv_lock_exit(&queue->put.lock);
    cv_alarm_clear();
    return r;
}

size_t covey_queue_item_max(covey_queue *queue)
{
    return check(queue) == 0 ? item_max(queue) : 0;
}
