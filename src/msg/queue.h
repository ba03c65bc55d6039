/* SPDX-License-Identifier: MIT */
/*
 * The queue: a chain (msg/chain.h) for each priority, between two ends, each end under a robust lock of
 * its own.
 *
 * Put, under put.lock: append to a chain. Get, under get.lock: take from the first chain that is not
 * empty. What a kill leaves of these, the next one who enters that end mends.
 *
 * Blocks. Large items, and blocks that are given away, go by their address; and a chain that may grow
 * goes on in segments that are blocks, too. In the meantime they belong to the queue: their owner is
 * a number that is the queue's alone, or, while one is on its way out, a second such number.
 *
 *   in     @put.intent says which block, and @grow.at where the tail is; the block becomes the queue's;
 *          its cell is committed (of a segment: the NEXT that leads to it); @put.intent is cleared.
 *          A kill: who mends frees the block if it is the queue's and the tail is still there.
 *   out    @get.intent says which block; it becomes the queue's outgoing one; the head moves over its
 *          cell (of a segment: over the NEXT that leads out of it), and that is the commit; the block
 *          becomes the taker's own; @get.intent is cleared.
 *          A kill: who mends finds the block, if it is still the outgoing one, either before the head:
 *          then it is the queue's again; or behind it: then he frees it. (Were it the queue's again
 *          by then, somebody would have put it there once more.)
 *
 * A slot of the table of segments is 0 while it is free: the producer who finds it writes it, before the
 * commit; the consumer who leaves that segment makes it 0 again.
 *
 * Claims. An item that is got from a joinable queue becomes a claim: a block of the queue's, in a list,
 * with the mark of the thread that has it, and what it takes to give it out again. To get, under get.lock:
 *
 *   in     the claim is written; @get.intent says which; it becomes an outgoing block; it goes to the end
 *          of the list; the head moves over the item's cell, and that is the commit; the claim becomes the
 *          queue's; @get.intent is cleared. (A block that holds the item's bytes stays the queue's.)
 *          A kill: who mends finds it still an outgoing one, and frees it, out of the list if it is there
 *          already, unless the head is behind its cell: then it is the queue's.
 *   out    @get.intent says which; it becomes an outgoing block, and its bytes' one, too; it goes out of
 *          the list, and that is the commit; both become the process's own; @get.intent is cleared.
 *          A kill: who mends finds it in the list: then both are the queue's again; or not: he frees them.
 *          (If its item is lost, that is counted before the commit, and what was counted before, and
 *          is again after such a kill, is noted first.)
 *
 * The claims of a dead process are made nobody's or, if nobody is to have the item a second time, end: by who
 * finds nothing to get, or joins; and, for there may always be something, by who gets: he looks at a few of
 * those who have claimed something each time. Nobody's are got first. @free_claims says how many there are; who mends counts
 * anew. @claims_ended is counted before one goes out of the list.
 *
 * Users. A queue that ends with its producers, or is half of a pipe, knows who they are (msg/users.h). Who
 * finds nothing to get, and all who could put gone, closes it; so does who would put, and finds all gone
 * that could get.
 *
 * Closing puts an END into the first chain. It is never taken, and says so for all of them.
 *
 * Who waits for what: a consumer sleeps while the first cells of all chains are as seen, that is EMPTY; with
 * claims, also while @free_claims and @claims_ended are. A producer sleeps while the places of all heads are as
 * seen and there is no END; who joins, while @claims_ended is. So each of them compares what the other side
 * commits. Each side has a bell; the alarm is pending during every operation. Who waits for what claims hold back
 * watches the lives of all who have ever claimed, and who waits for users to go watches theirs: one that
 * comes later comes by one of these, or rings before it does anything else.
 *
 * Reserving and peeking. An item is written, or read, in its cell while its end's lock is held; so the
 * wake that came with it is passed on first: whoever has it waits for the lock, and watches the holder.
 *
 * Freeing sends all away who are seen to wait, makes the queue the process's own, and does so again for who came meanwhile:
 * if one of them does not go, it gives the queue back. (A kill: who buries the process frees it.) Then its blocks are taken out, one by one, as by a consumer; who
 * buries the process after a kill makes it his own, and does the same, until the queue's body, which has
 * all that lies behind its own lines, is the queue's no more. Who has put or taken an item may be on his
 * way to a bell then, or die with the alarm pending. So the lines are memory that is never anything else, and
 * no one who opens a queue there changes what bells have counted.
 *
 * Pace. Where both ends are at work at once, a cache line that both touch costs more than all else. So a
 * consumer that finds nothing, but has found several items one after the other before, leaves the line
 * alone for a moment, for more to come.
 */
#ifndef CV_QUEUE_H
#define CV_QUEUE_H

#include "arena/heap.h"
#include "arena/object.h"
#include "base/mutation.h"
#include "msg/chain.h"
#include "msg/users.h"
#include "sync/lock.h"
#include "sync/wait.h"

#include <covey/queue.h>

#include <limits.h>

enum {
    CV_QUEUE_LINE = 64,
    CV_QUEUE_PRIORITIES_MAX = 16,
    CV_QUEUE_BELLS = 4,
    CV_QUEUE_FULL = 1, /* beside the codes */
};

/* What the producers, and the consumers, know of a chain. */
struct cv_lane_head {
    uint64_t place; /* the commit of taking; read by all without the lock */
    uint64_t bytes; /* of all blocks ever taken */
};

/* What the producers know of a chain's segments. */
struct cv_growth {
    uint64_t home_left; /* the position behind the cell by which it last left its first segment */
    /* Hints: */
    uint32_t since_us; /* from then on there was a look at how much goes through, */
    uint32_t from;     /* a position then, in units of a line */
    bool is_fast;      /* it was much, the last time */
};

/* A chain beside the first one; in the body. */
struct cv_lane {
    struct cv_tail tail __attribute__((aligned(CV_QUEUE_LINE)));
    struct cv_growth growth;
    struct cv_lane_head head __attribute__((aligned(CV_QUEUE_LINE)));
};

struct covey_queue {
    uint64_t signature; /* arena/object.h */
    /* Written once, when the queue is made. */
    uint64_t items_max;
    uint64_t bytes_max;
    uint64_t segments;  /* address of the body, where the chains' tables come first */
    uint32_t block_min; /* items of as many bytes go as blocks */
    uint32_t id;        /* the owner of its blocks */
    uint32_t item_size; /* of all items; UINT32_MAX: of any */
    uint16_t lanes;
    bool is_plain; /* one chain, and no claims */
    bool grows;
    bool is_exact; /* bytes_max holds for single items, too */
    bool has_claims;
    bool redelivers;         /* what a dead process had claimed */
    bool has_writers;        /* it ends with them, */
    bool has_readers;        /* and nothing can be put without them */
    uint8_t cells_log;       /* so many bytes of cells may wait, as a power of 2 */
    uint16_t deliveries_max; /* 0: any number */
    uint64_t more;           /* address of a struct cv_queue_more; 0: it has none */

    struct {
        uint64_t lock; /* sync/lock.h; guards the rest, @grow, and the cells from the tails on */
        uint64_t items_limit; /* hint: a count up to which there is room for items */
        uint64_t intent;      /* see above; 0: none */
        struct cv_tail tail;  /* of the first chain */
    } put __attribute__((aligned(CV_QUEUE_LINE)));

    struct {
        uint64_t lock; /* guards the rest, and the heads */
        uint64_t intent;
        struct cv_lane_head head; /* of the first chain */
        uint32_t events;          /* takes, if it is not plain; and the like */
        uint32_t run;             /* hint: items taken since nothing was there */
        uint32_t unused[2];
        uint64_t peeker; /* the thread that holds the lock until it has read; 0: none; */
        uint64_t peeked; /* and the bytes that it reads */
    } get __attribute__((aligned(CV_QUEUE_LINE)));

    struct {
        uint64_t at;             /* belongs to put.intent */
        struct cv_growth growth; /* of the first chain */
        uint64_t reserver;       /* the thread that holds put.lock until it has written; 0: none; */
        uint64_t reserved;       /* the bytes that it writes, */
        uint64_t reserved_size;  /* and how many */
        uint32_t events;         /* puts, if it is not plain; and the like */
        uint32_t unused;
    } grow __attribute__((aligned(CV_QUEUE_LINE)));

    struct {
        uint32_t alarm[2];
        uint32_t items[2]; /* CV_QUEUE_BELLS: of the consumers */
        uint32_t room[2];  /* of the producers */
        uint32_t done[2];  /* of those who join */
        uint32_t watch[2]; /* of those who wait for items, and for others (covey_wait()) */
    } bell __attribute__((aligned(CV_QUEUE_LINE)));
};

/* What only some queues have. */
struct cv_queue_more {
    struct cv_users producers;
    struct cv_users takers; /* all who have claimed something */
    uint64_t claims;        /* the first one's address; guarded by get.lock, as is */
    uint64_t claims_last;   /* the last one's, where another one goes on: mended with the rest */
    uint64_t free_from;     /* before that one in the list none is nobody's; 0: who knows */
    uint32_t claimings;     /* so often something was claimed */
    uint32_t free_claims;   /* so many are nobody's; words that are slept by, as is */
    uint32_t claims_ended;  /* how many have */
    uint64_t writers;       /* addresses of a struct cv_users */
    uint64_t readers;
    uint64_t lost;        /* items that dead processes had claimed, and nobody gets again; */
    uint64_t lost_before; /* and before the latest; */
    int32_t
        lost_pid; /* of the last of these processes, 0 if nobody knows; all guarded by get.lock */
    uint64_t
        dead; /* which takers were dead when their claims were last looked at: their marks' sum */
    uint32_t look_next; /* hint: of the takers, which to look at next, whether it has died */
} __attribute__((aligned(CV_QUEUE_LINE)));

_Static_assert(offsetof(struct covey_queue, put) == CV_QUEUE_LINE &&
                   offsetof(struct covey_queue, get) == 2 * CV_QUEUE_LINE &&
                   offsetof(struct covey_queue, grow) == 3 * CV_QUEUE_LINE,
    "an end is a cache line");
_Static_assert(sizeof(struct covey_queue) == CV_LASTING_BYTES, "it is such a block");

static inline struct cv_queue_more *cv_queue_more(const covey_queue *q)
{
    return (struct cv_queue_more *)(uintptr_t)q->more;
}

static inline struct cv_users *cv_queue_writers(const covey_queue *q)
{
    return (struct cv_users *)(uintptr_t)cv_queue_more(q)->writers;
}

static inline struct cv_users *cv_queue_readers(const covey_queue *q)
{
    return (struct cv_users *)(uintptr_t)cv_queue_more(q)->readers;
}

/* Chains ************************************************************************************* */

static inline unsigned cv_queue_slots(const covey_queue *q)
{
    return q->grows ? CV_SLOTS : 1;
}

static inline size_t cv_to_line(size_t bytes)
{
    return (bytes + CV_QUEUE_LINE - 1) / CV_QUEUE_LINE * CV_QUEUE_LINE;
}

static inline size_t cv_queue_tables_bytes(const covey_queue *q)
{
    return cv_to_line((size_t)q->lanes * cv_queue_slots(q) * sizeof(uint64_t));
}

/* Of a chain beside the first one. */
static inline struct cv_lane *cv_queue_lane(const covey_queue *q, unsigned lane)
{
    return (struct cv_lane *)(uintptr_t)(q->segments + cv_queue_tables_bytes(q)) + lane - 1;
}

static inline struct cv_tail *cv_queue_tail(covey_queue *q, unsigned lane)
{
    return lane ? &cv_queue_lane(q, lane)->tail : &q->put.tail;
}

static inline struct cv_lane_head *cv_queue_head(covey_queue *q, unsigned lane)
{
    return lane ? &cv_queue_lane(q, lane)->head : &q->get.head;
}

static inline struct cv_growth *cv_queue_growth(covey_queue *q, unsigned lane)
{
    return lane ? &cv_queue_lane(q, lane)->growth : &q->grow.growth;
}

static inline uint64_t *cv_queue_segments(const covey_queue *q, unsigned lane)
{
    return (uint64_t *)(uintptr_t)q->segments + (size_t)lane * cv_queue_slots(q);
}

static inline uint64_t cv_queue_segment(const covey_queue *q, unsigned lane, uint64_t place)
{
    return cv_queue_segments(q, lane)[cv_place_slot(place)];
}

static inline uint64_t *cv_queue_cell(const covey_queue *q, unsigned lane, uint64_t place)
{
    return cv_segment_cell(cv_queue_segment(q, lane, place), place);
}

/* Without a lock: the head of the first cell; EMPTY: there is none. */
static inline uint64_t cv_queue_look(covey_queue *q, unsigned lane, uint64_t **cell)
{
    struct cv_lane_head *head = cv_queue_head(q, lane);

    return cv_chain_look(&head->place, cv_queue_segments(q, lane), cell);
}

/* An item, all of it in its cell. */
static inline bool cv_cell_is_small(uint64_t head)
{
    return (head & (CV_CELL_ITEM | CV_CELL_BLOCK)) == CV_CELL_ITEM;
}

/* The cell at @*place or, behind a WRAP, at the ring's start; its head in *@head. */
static inline uint64_t *cv_queue_find(uint64_t segment, uint64_t *place, uint64_t *head)
{
    uint64_t *cell = cv_segment_cell(segment, *place);

    *head = cv_load_acquire(cell);
    if (__builtin_expect((*head & CV_CELL_WRAP) != 0, 0)) {
        *place += cv_segment_left(segment, *place);
        cell = cv_segment_cell(segment, *place);
        *head = cv_load_relaxed(cell);
    }
    return cell;
}

static inline struct cv_block *cv_cell_block(uint64_t *cell)
{
    return (struct cv_block *)(void *)(cell + 1);
}

/* A cell at a head, behind a WRAP if there was one. */
struct cv_found {
    uint64_t place;
    uint64_t head;
    uint64_t *cell;
};

/* Blocks ************************************************************************************* */

#define CV_INTENT_ADDRESS ((UINT64_C(1) << CV_ADDRESS_BITS) - 1)
#define CV_INTENT_SEGMENT (UINT64_C(1) << CV_ADDRESS_BITS) /* the slot is where a place has it */

#define CV_INTENT_LANE  (UINT64_C(2) << CV_ADDRESS_BITS) /* times the number of the chain */
#define CV_INTENT_CLAIM (UINT64_C(32) << CV_ADDRESS_BITS)
#define CV_INTENT_LOST  (UINT64_C(64) << CV_ADDRESS_BITS) /* the claim's item */

static inline uint64_t cv_intend(const void *block, unsigned lane)
{
    return (uintptr_t)block | lane * CV_INTENT_LANE;
}

static inline uint64_t cv_intend_segment(uint64_t segment, unsigned lane, unsigned slot)
{
    return cv_segment_address(segment) | CV_INTENT_SEGMENT | lane * CV_INTENT_LANE |
           (uint64_t)slot << CV_SLOT_SHIFT;
}

static inline void *cv_intended(uint64_t intent)
{
    return (void *)(uintptr_t)(intent & CV_INTENT_ADDRESS);
}

static inline unsigned cv_intended_lane(uint64_t intent)
{
    return intent / CV_INTENT_LANE & (CV_QUEUE_PRIORITIES_MAX - 1);
}

/* The two owners of what is in the queue. */
static inline uint32_t cv_queue_owner(const covey_queue *q)
{
    return q->id;
}

static inline uint32_t cv_queue_outgoing(const covey_queue *q)
{
    return q->id | 1;
}

static inline uint32_t cv_my_short_tag(void)
{
    return cv_tag_short(cv_self.tag);
}

/* What was intended, and is @owner's still: with what goes with it, if it is such an object. */
static inline void cv_free_intended(uint64_t intent, uint32_t owner)
{
    void *block = cv_intended(intent);

    if (!cv_heap_give(block, owner, cv_my_short_tag()))
        return;
    if ((intent & CV_INTENT_SEGMENT) || !CV_RECOVERS(queue_intended))
        (void)cv_heap_free(block);
    else
        cv_object_free(block);
}

/* Not while this thread itself holds the end, for an item in place: 0, or COVEY_ESTATE. */
int cv_queue_check_put(covey_queue *q);
int cv_queue_check_get(covey_queue *q);

/* May ends of pipes and descriptors go through it? 0, or a code with its message. */
int cv_queue_check_objects(const covey_queue *q);

/* Ends *************************************************************************************** */

/* With the alarm set: 0, COVEY_ETIMEDOUT or COVEY_EINTR, as cv_lock_enter(); what there was is mended. */
int cv_queue_enter_put(covey_queue *q, uint64_t deadline_ns);
int cv_queue_enter_get(covey_queue *q, uint64_t deadline_ns);

/*
 * Takes the lock of one who has died. With a @mark, by one who does not use the queue, which may be freed and
 * something else by now: only if who it is is known, or it is that one; and once more it looks for the queue.
 */
bool cv_queue_take_over(covey_queue *q, uint64_t *lock, uint64_t mark);

/* Mends the end in which he has died. */
void cv_queue_mend_put(covey_queue *q, uint64_t mark);
void cv_queue_mend_get(covey_queue *q, uint64_t mark);

/* Both, for one who does not use the queue, after the death of who has @mark, or who has mended after that. */
void cv_queue_mend_after(covey_queue *q, uint64_t mark);

/* COVEY_ECLOSED, with its message. */
int cv_queue_fail_closed(const covey_queue *q);

/* For the holder of put.lock. */
static inline bool cv_queue_is_closed(covey_queue *q)
{
    return cv_load_relaxed(cv_queue_cell(q, 0, q->put.tail.place)) & CV_CELL_END;
}

/* Items that wait in the chain, or more if some are being taken now. For the holder of put.lock. */
static inline uint32_t cv_queue_waiting(covey_queue *q, unsigned lane)
{
    uint64_t *cell;
    uint64_t first = cv_queue_look(q, lane, &cell);

    return cv_cell_is_there(first) ? (uint32_t)cv_queue_tail(q, lane)->count - cv_cell_number(first)
                                   : 0;
}

/* For everybody else. */
bool cv_queue_looks_closed(covey_queue *q);

/* Items that wait in the chains, at some instant. For everybody. */
long cv_queue_count(covey_queue *q);

/* No more items. False: somebody is stopped in a put; with CV_FOREVER he is waited for. */
bool cv_queue_close(covey_queue *q, uint64_t deadline_ns);

/* For the holder of get.lock: what happens there that others wait for, beside takes of a plain queue. */
static inline void cv_queue_note_get(covey_queue *q)
{
    if (!q->is_plain)
        (void)cv_fetch_add(&q->get.events, 1);
}

static inline void cv_queue_note_put(covey_queue *q)
{
    if (!q->is_plain)
        (void)cv_fetch_add(&q->grow.events, 1);
}

int cv_queue_check_size(covey_queue *q, size_t size);

/* Room: msg/room.c, for the holder of put.lock ************************************************ */

/* Items ever put, in all chains. */
uint64_t cv_queue_count_put(covey_queue *q);

/* For @n more items, as far as is known. */
static inline bool cv_queue_has_room_for(covey_queue *q, uint64_t n)
{
    return (q->lanes == 1 ? q->put.tail.count : cv_queue_count_put(q)) + n <= q->put.items_limit;
}

/* For an item of @size bytes, or for a block of so many: 0; CV_QUEUE_FULL; or a code with its message. */
int cv_queue_make_room(covey_queue *q, unsigned lane, size_t size);
int cv_queue_make_room_for_block(covey_queue *q, unsigned lane, size_t size);

/* Putting ************************************************************************************ */

/* What is to be put: one item, or many. */
struct cv_putting {
    const unsigned char *items;
    size_t size;         /* of each, and how far it is to the next one */
    const size_t *sizes; /* of each, if they are not all as large; or NULL */
    size_t n;
    size_t done;
    unsigned lane;
    bool is_lent; /* only the address of */
    void *block;  /* this one, which is put instead */
};

/* Its block, for which there is room. 0, or COVEY_EINVAL. */
int cv_queue_append_block(covey_queue *q, struct cv_putting *p);

/* Waits for room for @size bytes, and stays in the lock: 0, or a code with its message. */
int cv_queue_hold_put(covey_queue *q, size_t size, double timeout_s);

/* What is to be got: one item, or many. */
struct cv_getting {
    unsigned char *items;
    size_t room;   /* for each */
    size_t *sizes; /* out, of each; or NULL */
    size_t n;
    size_t done;
    size_t size;                /* out: of the last, or of the one for which there is no room */
    bool exactly;               /* items of @room bytes, no more and no less */
    bool takes_block;           /* a large item is not to be copied */
    bool is_lent;               /* out: @block is not this process's */
    void *block;                /* out: of a large item */
    enum cv_kind kind;          /* only a block that is such an object; 0: only bytes */
    int (*accept)(void *block); /* before it is taken: 0, or a code with its message; or NULL */
};

static inline void cv_getting_note(struct cv_getting *g, size_t size)
{
    g->size = size;
    if (g->sizes)
        g->sizes[g->done] = size;
}

static inline bool cv_getting_fits(const struct cv_getting *g, size_t size)
{
    return g->exactly ? size == g->room : size <= g->room;
}

/* For the holder of get.lock: the first item, over a NEXT that was before it: 0, COVEY_EEMPTY or COVEY_ECLOSED. */
int cv_queue_find_first(covey_queue *q, unsigned lane, struct cv_found *f);

/* The head moves to @place: what was before it is taken. */
void cv_queue_commit_take(covey_queue *q, unsigned lane, uint64_t place);

/* For the holder of get.lock: over the first cell, and what it has. False: there is none. */
bool cv_queue_drop_first(covey_queue *q, unsigned lane);
void cv_queue_leave_segment(covey_queue *q, unsigned lane, uint64_t next);

/* The chain's first item, which stays where it is, in @g->block: 0, COVEY_EEMPTY or COVEY_ECLOSED. */
int cv_queue_first(covey_queue *q, unsigned lane, struct cv_getting *g);

/* Waits until there is something, or never will be: 1; 0 when the time is over; or a code. */
int cv_queue_poll(covey_queue *q, double timeout_s);

/* For covey_wait(): as struct cv_any_kind has it; and its descriptor. */
struct cv_watched_lives;
int cv_queue_look_for_any(
    covey_queue *q, bool arm, struct cv_target *target, struct cv_watched_lives *lives);
int cv_queue_watch(covey_queue *q);

/* The block of this process, or of the family, whatever lies in it: 0, or a code with its message. */
int cv_queue_put_block(covey_queue *q, void *block, size_t size, double timeout_s);

/* For a queue that knows its users: true when the item is in; false: ask covey_queue_put(). */
bool cv_queue_send_quickly(covey_queue *q, const void *item, size_t size);

/* Waits for an item, and stays in the lock; its bytes are @g->block: 0, or a code with its message. */
int cv_queue_hold_get(covey_queue *q, struct cv_getting *g, double timeout_s);

/* Waits for an item: 0, or a code with its message. */
int cv_queue_get(covey_queue *q, struct cv_getting *g, double timeout_s);

/* Claims: msg/claims.c *********************************************************************** */

/* For the holder of get.lock: 0, COVEY_EEMPTY, COVEY_ECLOSED, COVEY_ETOOBIG, or a code with its message. */
int cv_queue_claim(covey_queue *q, unsigned lane, struct cv_getting *g);

/* Before the first one: those who wait for claims to end, or to go on, must watch this process, too. */
int cv_queue_come_to_take(covey_queue *q);

enum cv_reaped {
    CV_REAPED_NONE,
    CV_REAPED_SOME,
    CV_REAPED_LATER, /* somebody is in the lock, or this was interrupted: to be tried again */
};

/* What the dead have claimed; *@claimed is set if others that live have some, or may have. It @waits a moment for the lock,
 * or not at all. */
enum cv_reaped cv_queue_reap_claims(covey_queue *q, bool waits, bool *claimed);

/* The same, if one of a few has died, others each time: for who may find items for a long time. */
void cv_queue_look_for_dead(covey_queue *q);

/* This process's claim on the item @at, or on its oldest: that is done, or nobody's again. */
int cv_queue_end_claim(covey_queue *q, const void *at, bool done);

/* After a death: the claim that was on its way in or out, if one was, and what all of them are. */
void cv_queue_mend_claims(covey_queue *q, uint64_t intent);

/* Frees all, for who frees the queue. */
void cv_queue_end_claims(covey_queue *q);

/* After a commit: there are @n items more. */
static inline void cv_queue_ring_items(covey_queue *q, int n)
{
    cv_bell_ring(q->bell.items, n);
    cv_bell_ring(q->bell.watch, INT_MAX);
}

/* Wakes all who watch the users of the ends. */
void cv_queue_wake_all(covey_queue *q);

/* This process is now that, as one who puts; the alarm stays set. 1 or 0, or a code with its message. */
int cv_queue_change_writer(covey_queue *q, enum cv_user what);

/* A consumer has found nothing: may leave the queue alone for a moment (pace.c). */
void cv_queue_pace(covey_queue *q);

/* The queue as a whole *********************************************************************** */

/*
 * Makes @q, which has its bells already, of @like, of which only what is written once counts; with a body of
 * cv_queue_body_bytes() at a multiple of a line.
 */
int cv_queue_read_options(
    covey_queue *q, const struct covey_queue_options *o, size_t home_max, size_t *home);
size_t cv_queue_body_bytes(const covey_queue *q, size_t home);
void cv_queue_make(covey_queue *q, void *body, const covey_queue *like, size_t home);

/* The process with that tag is one; 0: this process is. 0, or a code with its message. */
int cv_queue_add_producer(covey_queue *q, uint64_t tag);

/* Frees all that is in it: it is this process's own, and nobody else uses it. */
void cv_queue_drain(covey_queue *q);

/* Then: it is no queue any more. */
void cv_queue_end(covey_queue *q);

#endif
