/* SPDX-License-Identifier: MIT */
/* The consumers' end of a queue. */
#include "msg/queue.h"

#include "base/error.h"
#include "base/mutation.h"
#include "msg/pipe.h"
#include "sync/any.h"
#include "sync/watch.h"

#include <string.h>

/* Blocks ************************************************************************************* */

/* What was on its way out. */
static void mend_outgoing(covey_queue *q, uint64_t intent)
{
    unsigned lane = cv_intended_lane(intent);
    void *block = cv_intended(intent);
    uint64_t *segment = &cv_queue_segments(q, lane)[cv_place_slot(intent)];
    uint64_t place = cv_queue_head(q, lane)->place;
    bool is_in = cv_place_slot(place) == cv_place_slot(intent);
    uint64_t first;
    uint64_t *cell;

    if (cv_heap_owner(block, NULL) != cv_queue_outgoing(q))
        return;
    if (!(intent & CV_INTENT_SEGMENT)) {
        cell = cv_queue_find(cv_queue_segment(q, lane, place), &place, &first);
        is_in = (first & CV_CELL_BLOCK) && cv_cell_block(cell)->address == (uintptr_t)block;
    }
    if (is_in) {
        (void)cv_heap_give(block, cv_queue_outgoing(q), cv_queue_owner(q));
        return;
    }
    if ((intent & CV_INTENT_SEGMENT) && cv_segment_address(*segment) == (uintptr_t)block)
        cv_store_release(segment, 0);
    cv_free_intended(intent, cv_queue_outgoing(q));
}

/* A block that is still there counts, even if its bytes were taken off. */
static void mend_bytes(covey_queue *q, unsigned lane)
{
    struct cv_lane_head *head = cv_queue_head(q, lane);
    uint64_t place = head->place;
    uint64_t first;
    uint64_t *cell = cv_queue_find(cv_queue_segment(q, lane, place), &place, &first);

    if (first & CV_CELL_BLOCK) {
        const struct cv_block *b = cv_cell_block(cell);

        cv_store_relaxed(&head->bytes, b->bytes - b->size);
    }
}

CV_SLOW static void mend(covey_queue *q)
{
    cv_bell_ring(q->bell.items, 1); /* whose wake this may be, should other alarms be set now */
    if (q->get.intent && !(q->get.intent & CV_INTENT_CLAIM) && CV_RECOVERS(queue_outgoing))
        mend_outgoing(q, q->get.intent);
    if (q->has_claims)
        cv_queue_mend_claims(q, q->get.intent);
    cv_store_release(&q->get.intent, 0);
    cv_store_relaxed(&q->get.peeker, 0);
    cv_store_relaxed(&q->get.peeked, 0);
    for (unsigned lane = 0; lane < q->lanes; lane++) {
        mend_bytes(q, lane);
    }
}

void cv_queue_mend_get(covey_queue *q, uint64_t mark)
{
    if (!cv_queue_take_over(q, &q->get.lock, mark))
        return;
    mend(q);
    cv_lock_exit(&q->get.lock);
}

int cv_queue_enter_get(covey_queue *q, uint64_t deadline_ns)
{
    int r;

    cv_alarm_set(q->bell.alarm);
    r = cv_lock_enter(&q->get.lock, q->bell.alarm, deadline_ns);
    if (r != COVEY_EOWNERDEAD)
        return r;
    mend(q);
    return 0;
}

void cv_queue_commit_take(covey_queue *q, unsigned lane, uint64_t place)
{
    cv_store_release(&cv_queue_head(q, lane)->place, place);
    cv_queue_note_get(q);
}

void cv_queue_leave_segment(covey_queue *q, unsigned lane, uint64_t next)
{
    struct cv_lane_head *head = cv_queue_head(q, lane);
    uint64_t *segment = &cv_queue_segments(q, lane)[cv_place_slot(head->place)];
    void *block = (void *)(uintptr_t)cv_segment_address(*segment);
    uint64_t intent = cv_intend_segment(*segment, lane, cv_place_slot(head->place));

    if (cv_place_slot(head->place) == 0) {
        cv_store_release(&head->place, next);
        return;
    }
    cv_store_release(&q->get.intent, intent);
    (void)cv_heap_give(block, cv_queue_owner(q), cv_queue_outgoing(q));
    cv_store_release(&head->place, next);
    cv_store_release(segment, 0);
    cv_free_intended(intent, cv_queue_outgoing(q));
    cv_store_release(&q->get.intent, 0);
}

/* The block at the head is this process's then, unless it is only lent. */
static void take_block(covey_queue *q, unsigned lane, uint64_t place, const struct cv_block *b)
{
    struct cv_lane_head *head = cv_queue_head(q, lane);
    void *block = (void *)(uintptr_t)b->address;
    bool is_lent = b->address & 1;

    if (!is_lent) {
        cv_store_release(&q->get.intent, cv_intend(block, lane));
        (void)cv_heap_give(block, cv_queue_owner(q), cv_queue_outgoing(q));
    }
    cv_store_relaxed(
        &head->bytes, b->bytes); /* before the commit, so that nobody waits for it in vain */
    cv_queue_commit_take(q, lane, place + cv_cell_bytes(sizeof *b));
    if (!is_lent) {
        (void)cv_heap_give(block, cv_queue_outgoing(q), cv_my_short_tag());
        cv_store_release(&q->get.intent, 0);
    }
}

bool cv_queue_drop_first(covey_queue *q, unsigned lane)
{
    struct cv_lane_head *head = cv_queue_head(q, lane);
    uint64_t place = head->place;
    uint64_t first;
    uint64_t *cell = cv_queue_find(cv_queue_segment(q, lane, place), &place, &first);

    if (!cv_cell_is_there(first) || (first & CV_CELL_END))
        return false;
    if (first & CV_CELL_NEXT) {
        cv_queue_leave_segment(q, lane, cv_chain_next(place, first));
    } else if (first & CV_CELL_BLOCK) {
        const struct cv_block b = *cv_cell_block(cell);

        take_block(q, lane, place, &b);
        cv_bell_ring(q->bell.room, 1); /* before other alarms are set */
        if (!(b.address & 1))
            cv_object_free((void *)(uintptr_t)b.address);
    } else {
        cv_queue_commit_take(q, lane, place + cv_cell_bytes(cv_cell_size(first)));
    }
    return true;
}

/* Taking ************************************************************************************* */

/* The first item is small: that, and those behind it, by one commit. */
static void take_small(covey_queue *q, unsigned lane, uint64_t place, struct cv_getting *g)
{
    uint64_t segment = cv_queue_segment(q, lane, place);
    size_t done = g->done;
    uint64_t first;
    uint64_t *cell = cv_queue_find(segment, &place, &first);

    do {
        cv_getting_note(g, cv_cell_size(first));
        if (g->size)
            memcpy(g->items + g->done * g->room, cell + 1, g->size);
        place += cv_cell_bytes(g->size);
        g->done++;
        if (g->done == g->n)
            break;
        cell = cv_queue_find(segment, &place, &first);
    } while (cv_cell_is_small(first) && cv_getting_fits(g, cv_cell_size(first)));
    cv_queue_commit_take(q, lane, place);
    cv_store_relaxed(&q->get.run, cv_load_relaxed(&q->get.run) + (uint32_t)(g->done - done));
}

/* What only its own function gets. */
static enum cv_kind ticket_kind(const struct cv_block *b)
{
    enum cv_kind kind = b->address & 1 ? 0 : cv_object_kind((void *)(uintptr_t)b->address);

    return kind == CV_TICKET || kind == CV_DESCRIPTOR ? kind : 0;
}

static int get_block(
    covey_queue *q, unsigned lane, uint64_t place, const struct cv_block *b, struct cv_getting *g)
{
    cv_getting_note(g, b->size);
    if (ticket_kind(b) != g->kind)
        return COVEY_EINVAL;
    if (!g->takes_block && !cv_getting_fits(g, b->size))
        return COVEY_ETOOBIG;
    if (g->accept) {
        int r = g->accept((void *)(uintptr_t)b->address);

        if (r != 0)
            return r;
    }
    take_block(q, lane, place, b);
    g->block = (void *)(uintptr_t)(b->address & ~UINT64_C(1));
    g->is_lent = b->address & 1;
    g->done++;
    return 0;
}

int cv_queue_find_first(covey_queue *q, unsigned lane, struct cv_found *f)
{
    for (;;) {
        f->place = cv_queue_head(q, lane)->place;
        f->cell = cv_queue_find(cv_queue_segment(q, lane, f->place), &f->place, &f->head);
        if (!cv_cell_is_there(f->head))
            return COVEY_EEMPTY;
        if (f->head & CV_CELL_END)
            return COVEY_ECLOSED;
        if (!(f->head & CV_CELL_NEXT))
            return 0;
        cv_queue_leave_segment(q, lane, cv_chain_next(f->place, f->head));
    }
}

/* For the holder of get.lock: 0, COVEY_EEMPTY, COVEY_ECLOSED or COVEY_ETOOBIG. */
static int take(covey_queue *q, unsigned lane, struct cv_getting *g)
{
    struct cv_found f;
    int r = cv_queue_find_first(q, lane, &f);

    if (r != 0)
        return r;
    if (f.head & CV_CELL_BLOCK) {
        const struct cv_block b = *cv_cell_block(f.cell);

        return get_block(q, lane, f.place, &b, g);
    }
    if (g->kind)
        return COVEY_EINVAL;
    if (!cv_getting_fits(g, cv_cell_size(f.head))) {
        cv_getting_note(g, cv_cell_size(f.head));
        return COVEY_ETOOBIG;
    }
    take_small(q, lane, f.place, g);
    return 0;
}

static int take_first(covey_queue *q, struct cv_getting *g)
{
    int r = COVEY_EEMPTY;

    for (unsigned lane = q->lanes; lane-- > 0 && r == COVEY_EEMPTY;)
        r = q->has_claims ? cv_queue_claim(q, lane, g) : take(q, lane, g);
    return r;
}

int cv_queue_first(covey_queue *q, unsigned lane, struct cv_getting *g)
{
    struct cv_found f;
    int r = cv_queue_find_first(q, lane, &f);

    if (r != 0)
        return r;
    g->size = cv_cell_size(f.head);
    g->block = f.cell + 1;
    if (f.head & CV_CELL_BLOCK) {
        const struct cv_block *b = cv_cell_block(f.cell);

        if (ticket_kind(b))
            return COVEY_EINVAL;
        g->size = b->size;
        g->block = (void *)(uintptr_t)(b->address & ~UINT64_C(1));
    }
    return 0;
}

static int find_first(covey_queue *q, struct cv_getting *g)
{
    int r = COVEY_EEMPTY;

    for (unsigned lane = q->lanes; lane-- > 0 && r == COVEY_EEMPTY;)
        r = cv_queue_first(q, lane, g);
    return r;
}

/* Waiting ************************************************************************************ */

/* What a consumer who has found nothing sleeps by. */
struct emptiness {
    bool hurries; /* somebody was stopped in the lock: he waits no more for him, but for the rest */
    struct cv_futex_watch next; /* first of all, he spins on this */
    unsigned n_words;
    unsigned n_tags;
    struct cv_futex_watch words[CV_WAIT_WORDS_MAX];
    uint64_t tags[CV_WAIT_TAGS_MAX];
};

static void look_again(struct emptiness *e)
{
    if (e->n_tags < CV_WAIT_TAGS_MAX)
        e->tags[e->n_tags++] = CV_WAIT_POLL;
}

/* Has anything come of the deaths of others? If not, whose lives are to be watched. Of who could put, that
 * matters until the queue has @ended. */
static bool look_at_others(covey_queue *q, struct emptiness *e, bool ended, bool *claimed)
{
    bool any = false;

    if (q->redelivers) {
        /* First whom to watch: one that dies after it was looked at in vain must be among them. */
        cv_users_watch(&cv_queue_more(q)->takers, e->tags, CV_WAIT_TAGS_MAX, &e->n_tags);
        switch (cv_queue_reap_claims(q, !e->hurries, claimed)) {
        case CV_REAPED_NONE:
            break;
        case CV_REAPED_SOME:
            any = true;
            break;
        case CV_REAPED_LATER:
            e->hurries = true;
            look_again(e);
            break;
        }
    }
    if (q->has_writers && !ended &&
        cv_users_are_gone(cv_queue_writers(q), e->tags, CV_WAIT_TAGS_MAX, &e->n_tags)) {
        if (cv_queue_close(q, 0))
            any = true;
        else
            look_again(e);
    }
    return any;
}

/* False: there may be one that is nobody's. */
static bool see_no_claims(covey_queue *q, struct emptiness *e)
{
    struct cv_queue_more *more = cv_queue_more(q);

    e->words[e->n_words++] =
        (struct cv_futex_watch){&more->claims_ended, cv_load_acquire(&more->claims_ended)};
    e->words[e->n_words++] = (struct cv_futex_watch){&more->free_claims, 0};
    return !cv_load_acquire(&more->free_claims);
}

/* The queue was empty; false if there is something to look at. */
static bool see_empty(covey_queue *q, struct emptiness *e)
{
    bool claimed = false;
    bool ended = false;

    e->next = (struct cv_futex_watch){&q->grow.events, cv_load_acquire(&q->grow.events)};
    e->n_words = 0;
    e->n_tags = 0;
    if (q->has_claims && !see_no_claims(q, e))
        return false;
    for (unsigned lane = q->lanes; lane-- > 0;) {
        uint64_t *cell;
        uint64_t first = cv_queue_look(q, lane, &cell);

        ended |= (first & CV_CELL_END) != 0;
        if (cv_cell_is_there(first) && !(q->redelivers && ended))
            return false;
        if (q->is_plain)
            e->next = cv_word_low(cell, first);
        e->words[e->n_words++] = cv_word_low(cell, first);
    }
    return !((q->redelivers || q->has_writers) && look_at_others(q, e, ended, &claimed)) &&
           !(ended && !claimed);
}

/* What is looked at before the bell is armed may have changed by then, so it is looked at again. */
static int wait_for_item(covey_queue *q, struct cv_wait *wait, struct emptiness *e)
{
    struct cv_arming armed;

    if (wait->deadline_ns == 0)
        return COVEY_ETIMEDOUT;
    cv_queue_pace(q);
    if (cv_wait_spin(wait, e->next.word, e->next.seen))
        return CV_WAIT_AGAIN;
    armed = cv_bell_arm(q->bell.items);
    if (!see_empty(q, e)) {
        cv_bell_disarm(&armed);
        return CV_WAIT_AGAIN;
    }
    return cv_wait_sleep_armed(
        wait, q->bell.alarm, armed, e->words, e->n_words, e->tags, e->n_tags);
}

/* Who sleeps in the lock waits for the queue, too. */
static int enter(covey_queue *q, struct cv_wait *wait)
{
    cv_alarm_set(q->bell.alarm);
    if (cv_lock_try(&q->get.lock))
        return 0;
    cv_wait_stay(wait);
    return cv_queue_enter_get(q, cv_lock_until(wait->deadline_ns));
}

/* Takes at least one, and as many as are there. With @hold it takes nothing and stays in the lock. */
static int get(covey_queue *q, struct cv_getting *g, struct cv_wait *wait, bool hold)
{
    struct emptiness e;
    int waited = 0;

    e.hurries = false;
    cv_alarm_set(q->bell.alarm);
    for (;;) {
        int r;

        if (see_empty(q, &e)) {
            if (waited < 0)
                return waited;
            waited = wait_for_item(q, wait, &e);
            continue;
        }
        r = enter(q, wait);
        if (r == 0) {
            r = hold ? find_first(q, g) : take_first(q, g);
            if (hold && r == 0) {
                cv_bell_ring(q->bell.items, 1);
                return 0;
            }
            cv_lock_exit(&q->get.lock); /* between the commit and the bell */
        }
        if (r == 0)
            cv_bell_ring(q->bell.room, g->done < INT_MAX ? (int)g->done : INT_MAX);
        else if (r == COVEY_ETOOBIG || r == COVEY_EINVAL || (r != COVEY_EEMPTY && wait->alarm))
            cv_bell_ring(q->bell.items, 1); /* the wake was another's */
        if (r != COVEY_EEMPTY)
            return r;
    }
}

static int fail_empty(const covey_queue *q, double timeout_s)
{
    uint64_t holder = cv_load_relaxed(&q->get.lock) & ~CV_LOCK_SLEEPERS;

    if (holder && cv_load_relaxed(&q->get.peeked))
        return cv_fail(COVEY_EEMPTY,
            "process %d looks at an item (thread %d), not released to queue %p within %g s",
            (int)cv_lock_pid(holder), (int)cv_mark_pid(cv_load_relaxed(&q->get.peeker)),
            (const void *)q, timeout_s);
    if (q->has_readers)
        return cv_fail_late(COVEY_EEMPTY, "pipe end", cv_pipe_of_users(cv_queue_readers(q)),
            "had no message", timeout_s);
    return cv_fail_late(COVEY_EEMPTY, "queue", q, "had no item", timeout_s);
}

/* The code, with its message. */
static int explain(covey_queue *q, const struct cv_getting *g, int r, double timeout_s)
{
    switch (r) {
    case COVEY_ETIMEDOUT:
        cv_watch_arm(q);
        return fail_empty(q, timeout_s);
    case COVEY_ETOOBIG:
        return cv_fail(r, "the next %s has %zu bytes: there %s %zu",
            q->has_readers ? "message" : "item", g->size, g->exactly ? "should be" : "is room for",
            g->room);
    case COVEY_ECLOSED:
        return cv_queue_fail_closed(q);
    case COVEY_EINVAL:
        return g->kind ? cv_fail(r, "the next item of queue %p is no %s", (void *)q,
                             cv_object_name(g->kind))
                       : cv_fail(r,
                             "the next item of queue %p is no bytes: see covey_pipe_get(), "
                             "covey_descriptor_get()",
                             (void *)q);
    default:
        return r;
    }
}

static int get_in(
    covey_queue *q, struct cv_getting *g, struct cv_wait *wait, double timeout_s, bool hold)
{
    int r = cv_queue_check_get(q);

    if (r != 0)
        return r;
    if (q->has_claims)
        r = cv_queue_come_to_take(q);
    if (r == 0 && q->redelivers)
        cv_queue_look_for_dead(q);
    if (r == 0)
        r = get(q, g, wait, hold);
    cv_alarm_clear();
    return explain(q, g, r, timeout_s);
}

static int get_within(covey_queue *q, struct cv_getting *g, double timeout_s, bool hold)
{
    struct cv_wait wait;
    int r = cv_wait_begin(&wait, timeout_s, q, CV_QUEUE);

    if (r == 0)
        r = get_in(q, g, &wait, timeout_s, hold);
    cv_wait_end(&wait); /* the last: who frees the queue waits for it */
    return r;
}

int cv_queue_poll(covey_queue *q, double timeout_s)
{
    struct emptiness e;
    struct cv_wait wait;
    int waited = 0;
    int r = cv_wait_begin(&wait, timeout_s, q, CV_QUEUE);

    if (r != 0)
        return r;
    e.hurries = false;
    cv_alarm_set(q->bell.alarm);
    while ((r = !see_empty(q, &e)) == 0 && waited >= 0)
        waited = wait_for_item(q, &wait, &e);
    if (wait.alarm) /* the wake that came was for one who gets */
        cv_bell_ring(q->bell.items, 1);
    cv_alarm_clear();
    if (waited == COVEY_ETIMEDOUT && r == 0)
        cv_watch_arm(q);
    cv_wait_end(&wait);
    return waited < 0 && waited != COVEY_ETIMEDOUT ? waited : r;
}

int cv_queue_hold_get(covey_queue *q, struct cv_getting *g, double timeout_s)
{
    return get_within(q, g, timeout_s, true);
}

int cv_queue_get(covey_queue *q, struct cv_getting *g, double timeout_s)
{
    return get_within(q, g, timeout_s, false);
}

/* For others that wait *********************************************************************** */

static int check(const covey_queue *q)
{
    return cv_object_check(q, CV_QUEUE);
}

/* While others see this thread: who frees the queue makes it his own first, and then waits for who looks. */
static int check_alive(const covey_queue *q)
{
    int r = check(q);

    return r == 0 && !q->has_readers && cv_heap_owner(q, NULL) != (uint32_t)CV_OWNER_OBJECT
               ? cv_fail_object(q, "queue")
               : r;
}

static int check_queue(void *object)
{
    return check(object);
}

int cv_queue_look_for_any(
    covey_queue *q, bool arm, struct cv_target *target, struct cv_watched_lives *lives)
{
    struct cv_wait here = {.object = cv_waiter_object(q, CV_QUEUE)};
    struct emptiness e;
    int r;

    cv_wait_stay(&here);
    r = check_alive(q);
    if (r != 0) {
        cv_wait_end(&here);
        return r;
    }
    e.hurries = true;
    cv_alarm_set(q->bell.alarm);
    if (arm) {
        target->armed = cv_bell_arm(q->bell.watch);
        r = check(q); /* who frees it rings only for those that have come before */
    }
    if (r == 0) {
        r = !see_empty(q, &e);
        if (r != 0 && arm)
            cv_bell_disarm(&target->armed);
    }
    cv_alarm_clear();
    cv_wait_end(&here);
    if (r != 0)
        return r;
    target->alarm = q->bell.alarm;
    target->n_words = e.n_words;
    memcpy(target->words, e.words, e.n_words * sizeof *e.words);
    cv_watched_lives_add(lives, e.tags, e.n_tags);
    return 0;
}

static int look_for_any(
    void *object, bool arm, struct cv_target *target, struct cv_watched_lives *lives)
{
    return cv_queue_look_for_any(object, arm, target, lives);
}

static int descriptor(void *object, struct cv_descriptor *own)
{
    (void)own;
    return cv_queue_watch(object);
}

static const struct cv_any_kind kind = {check_queue, look_for_any, descriptor, CV_ANY_SECOND};

int cv_queue_watch(covey_queue *q)
{
    return cv_watch_open(q, &kind);
}

__attribute__((constructor)) static void register_kind(void)
{
    cv_any_set(COVEY_WAIT_QUEUE, &kind);
}

/* Public ************************************************************************************* */

int covey_queue_fd(covey_queue *queue)
{
    int r = check(queue);

    return r != 0 ? r : cv_queue_watch(queue);
}

int covey_queue_fd_close(covey_queue *queue)
{
    return cv_watch_close(queue) ? 0 : check(queue);
}

/* Of a large item, which is this process's now, or lent: to where the caller wants it. */
static void copy_block(const struct cv_getting *g)
{
    memcpy(g->items + (g->done - 1) * g->room, g->block, g->size);
    if (!g->is_lent)
        cv_object_free(g->block);
}

static int get_slowly(covey_queue *q, struct cv_getting *g, size_t *size, double timeout_s)
{
    int r = check(q);

    if (r == 0 && !g->items && g->room)
        r = cv_fail(COVEY_EINVAL, "item is NULL, with room for %zu bytes", g->room);
    if (r != 0)
        return r;
    r = get_within(q, g, timeout_s, false);
    if (size && (r == 0 || r == COVEY_ETOOBIG))
        *size = g->size;
    if (g->block)
        copy_block(g);
    return r;
}

/* Where nothing is in the way: true when it is out. */
static inline bool get_quickly(covey_queue *q, void *item, size_t room, size_t *size)
{
    uint64_t place = cv_load_relaxed(&q->get.head.place);
    uint64_t segment = cv_load_acquire(&cv_queue_segments(q, 0)[cv_place_slot(place)]);
    uint64_t *cell;
    uint64_t first;
    size_t bytes;

    if (!segment || !cv_cell_is_small(cv_load_acquire(cv_segment_cell(segment, place))))
        return false;
    cv_alarm_set(q->bell.alarm);
    if (!cv_lock_try(&q->get.lock)) {
        cv_alarm_clear();
        return false;
    }
    place = q->get.head.place;
    cell = cv_queue_cell(q, 0, place);
    first = cv_load_acquire(cell);
    bytes = cv_cell_size(first);
    if (!cv_cell_is_small(first) || bytes > room) {
        cv_lock_exit(&q->get.lock);
        cv_alarm_clear();
        return false;
    }
    memcpy(item, cell + 1, bytes);
    cv_store_release(&q->get.head.place, place + cv_cell_bytes(bytes));
    cv_store_relaxed(&q->get.run, cv_load_relaxed(&q->get.run) + 1);
    cv_lock_exit(&q->get.lock); /* between the commit and the bell */
    cv_bell_ring(q->bell.room, 1);
    cv_alarm_clear();
    if (size)
        *size = bytes;
    return true;
}

int covey_queue_get(covey_queue *queue, void *item, size_t room, size_t *size, double timeout_s)
{
    struct cv_getting g;

    if (cv_object_is(queue, CV_QUEUE) && item && queue->is_plain && timeout_s == timeout_s &&
        get_quickly(queue, item, room, size))
        return 0;
    g = (struct cv_getting){.items = item, .room = room, .n = 1};
    return get_slowly(queue, &g, size, timeout_s);
}

int covey_queue_get_exactly(covey_queue *queue, void *item, size_t size, double timeout_s)
{
    struct cv_getting g = {.items = item, .room = size, .n = 1, .exactly = true};

    return get_slowly(queue, &g, NULL, timeout_s);
}

long covey_queue_get_many(
    covey_queue *queue, void *items, size_t room, size_t *sizes, size_t n, double timeout_s)
{
    struct cv_getting g = {.items = items, .room = room, .sizes = sizes, .n = n};
    int r = check(queue);

    if (r == 0 && !items && room && n)
        r = cv_fail(COVEY_EINVAL, "items is NULL, for %zu items of %zu bytes", n, room);
    if (r == 0 && n > LONG_MAX)
        r = cv_fail(COVEY_EINVAL, "n is %zu: more than %ld", n, LONG_MAX);
    if (r != 0 || n == 0)
        return r;
    r = get_within(queue, &g, timeout_s, false);
    if (g.block)
        copy_block(&g);
    return r == 0 ? (long)g.done : r;
}

int covey_queue_get_block(covey_queue *queue, void **block, size_t *size, double timeout_s)
{
    struct cv_getting g = {.n = 1, .takes_block = true};
    struct cv_wait wait;
    int r = check(queue);

    if (r == 0 && !block)
        r = cv_fail(COVEY_EINVAL, "block is NULL: there is no place for the block");
    if (r == 0 && queue->has_claims)
        r = cv_fail(COVEY_ESTATE, "queue %p is joinable: its items stay its own", (void *)queue);
    if (r == 0)
        r = cv_wait_begin(&wait, timeout_s, queue, CV_QUEUE);
    if (r != 0)
        return r;
    do {
        r = get_in(queue, &g, &wait, timeout_s, false);
        if (r == 0 && !g.block) {
            g.block = g.items;
            g.items = NULL;
        }
        if (r != COVEY_ETOOBIG)
            break;
        if (g.items)
            (void)cv_heap_free(g.items);
        g.room = g.size;
        g.items = cv_heap_alloc(g.size, 1, cv_my_short_tag());
        r = g.items ? 0 : covey_error_code();
    } while (r == 0);
    cv_wait_end(&wait);
    if (g.items)
        (void)cv_heap_free(g.items);
    if (r != 0)
        return r;
    *block = g.block;
    if (size)
        *size = g.size;
    return 0;
}
