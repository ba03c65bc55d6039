/* SPDX-License-Identifier: MIT */
/* What a joinable queue has beside the others: items that are got and not yet done. */
#include "msg/queue.h"

#include "base/error.h"
#include "base/mutation.h"

#include <string.h>

/*
 * Who has an item: the mark of a thread; 0: nobody has it, and it is to be got; or
 * it is done. A mark has other low bits.
 */
#define DONE UINT64_C(1)

enum {
    LOOKS = 4 /* at other takers with each item that is got */
};

/* Walking ************************************************************************************ */

/* An item of a chain, or where there is none. */
struct item {
    unsigned lane;
    uint64_t place; /* of the cell */
    uint64_t head;
    uint64_t *cell;
};

/* The item at @item->place or behind a NEXT that is there; false: there is none. */
static bool settle(covey_queue *q, struct item *item)
{
    for (;;) {
        item->cell =
            cv_queue_find(cv_queue_segment(q, item->lane, item->place), &item->place, &item->head);
        if (!(item->head & CV_CELL_NEXT))
            return cv_cell_is_there(item->head) && !(item->head & CV_CELL_END);
        item->place = cv_chain_next(item->place, item->head);
    }
}

static bool first_item(covey_queue *q, unsigned lane, struct item *item)
{
    *item = (struct item){.lane = lane, .place = cv_queue_head(q, lane)->place};
    return settle(q, item);
}

static bool next_item(covey_queue *q, struct item *item)
{
    item->place += cv_cell_bytes(cv_cell_size(item->head));
    return settle(q, item);
}

static struct cv_claim *claim_on(const struct item *item)
{
    return (struct cv_claim *)(void *)(item->cell + 1);
}

static uint64_t holder_of(const struct item *item)
{
    return cv_load_acquire(&claim_on(item)->holder);
}

static void set_holder(const struct item *item, uint64_t holder)
{
    cv_store_release(&claim_on(item)->holder, holder);
}

static bool is_claimed(const struct item *item)
{
    return holder_of(item) > DONE;
}

/* Claiming *********************************************************************************** */

static size_t size_of(const covey_queue *q, const struct item *item)
{
    return item->head & CV_CELL_BLOCK ? cv_queue_block(q, item->cell)->size
                                      : cv_cell_size(item->head) - cv_queue_prefix(q);
}

/* Where its bytes are, until it is done. */
static unsigned char *bytes_of(const covey_queue *q, const struct item *item)
{
    if (item->head & CV_CELL_BLOCK)
        return (unsigned char *)(uintptr_t)(cv_queue_block(q, item->cell)->address & ~UINT64_C(1));
    return (unsigned char *)(claim_on(item) + 1);
}

static bool has_unfinished(covey_queue *q)
{
    struct item item;

    for (unsigned lane = 0; lane < q->lanes; lane++) {
        if (first_item(q, lane, &item))
            return true;
    }
    return false;
}

/* Which may come back. Those of this process do not, as long as anybody in it waits. */
static bool others_have_any(covey_queue *q)
{
    struct item item;

    for (unsigned lane = 0; lane < q->lanes; lane++) {
        for (bool there = first_item(q, lane, &item); there; there = next_item(q, &item)) {
            if (is_claimed(&item) && !cv_mark_is_of(holder_of(&item), cv_self.mark))
                return true;
        }
    }
    return false;
}

/* Moves @next up to the first item that is nobody's: that, or 0 and the reason. */
static int find_free(covey_queue *q, unsigned lane, struct item *item)
{
    struct cv_lane_head *head = cv_queue_head(q, lane);
    bool there;

    *item = (struct item){.lane = lane, .place = head->next};
    for (there = settle(q, item); there && holder_of(item); there = next_item(q, item)) {
    }
    cv_store_release(&head->next, item->place);
    if (there)
        return 0;
    if (cv_cell_is_there(item->head) && !(q->redelivers && others_have_any(q)))
        return COVEY_ECLOSED;
    return COVEY_EEMPTY;
}

int cv_queue_claim(covey_queue *q, unsigned lane, struct cv_getting *g)
{
    struct cv_lane_head *head = cv_queue_head(q, lane);
    size_t done = g->done;
    struct item item;
    int r = 0;

    while (g->done < g->n && (r = find_free(q, lane, &item)) == 0) {
        size_t size = size_of(q, &item);

        cv_getting_note(g, size);
        if (!g->takes_block && !cv_getting_fits(g, size)) {
            r = COVEY_ETOOBIG;
            break;
        }
        if (g->takes_block)
            g->block = bytes_of(q, &item);
        else if (size)
            memcpy(g->items + g->done * g->room, bytes_of(q, &item), size);
        set_holder(&item, cv_waiter_me());
        g->done++;
        cv_store_release(&head->next, item.place + cv_cell_bytes(cv_cell_size(item.head)));
    }
    if (g->done == done)
        return r;
    cv_queue_note_get(q);
    return 0;
}

int cv_queue_come_to_take(covey_queue *q)
{
    int r;

    cv_alarm_set(q->bell.alarm);
    r = cv_users_be(&cv_queue_more(q)->takers, CV_USER_HERE);
    if (r > 0) {
        cv_queue_wake_all(q);
        if (q->redelivers) /* this may be the cell of one who has died, which said that he had */
            (void)cv_queue_reap_claims(q, &(bool){false}, NULL, NULL);
    }
    return r < 0 ? r : 0;
}

/* Ending a claim ***************************************************************************** */

/* Nobody looks for free items before @place any more, where cells will be written anew. */
static void raise_next(covey_queue *q, unsigned lane, uint64_t place)
{
    struct cv_lane_head *head = cv_queue_head(q, lane);

    if (cv_place_position(head->next) < cv_place_position(place))
        cv_store_release(&head->next, place);
}

/* Over the first items that are done; returns whether there were any. */
static bool advance(covey_queue *q)
{
    bool any = false;
    struct item item;

    for (unsigned lane = 0; lane < q->lanes; lane++) {
        while (first_item(q, lane, &item) && holder_of(&item) == DONE) {
            raise_next(q, lane, item.place + cv_cell_bytes(cv_cell_size(item.head)));
            any |= cv_queue_drop_first(q, lane);
        }
    }
    return any;
}

/* Leaves get.lock, and wakes those for whom there is something new. */
static void leave(covey_queue *q, bool advanced, bool freed)
{
    bool all_done = advanced && !has_unfinished(q);

    if (advanced || freed)
        cv_queue_note_get(q);
    cv_lock_exit(&q->get.lock);
    if (freed)
        cv_queue_ring_items(q, INT_MAX);
    if (advanced)
        cv_bell_ring(q->bell.room, INT_MAX);
    if (all_done) {
        cv_bell_ring(q->bell.done, INT_MAX);
        cv_queue_ring_items(q, INT_MAX); /* those who wait for the end of a closed queue */
    }
}

/* Counts the death of @holder with the item, once. */
static uint64_t count_death(struct cv_claim *claim, uint64_t holder)
{
    uint64_t who = (holder ^ holder >> 48) << 16;
    uint64_t n = claim->deaths & UINT16_MAX;

    if ((claim->deaths & ~(uint64_t)UINT16_MAX) == who)
        return n;
    n += n < UINT16_MAX;
    cv_store_relaxed(&claim->deaths, who | n);
    return n;
}

/* Now that @holder has died with it: does it go to another one? */
static bool goes_on(const covey_queue *q, const struct item *item, uint64_t holder)
{
    return q->redelivers &&
           (!q->deliveries_max || count_death(claim_on(item), holder) < q->deliveries_max);
}

/* If it is a dead process's: true. */
static bool reap(covey_queue *q, const struct item *item, bool *claimed)
{
    uint64_t mark = holder_of(item);
    uint64_t tag = is_claimed(item) ? cv_member_marked(mark) : 0;
    struct cv_lane_head *head = cv_queue_head(q, item->lane);

    if (!is_claimed(item) || !CV_RECOVERS(queue_claims))
        return false;
    if (tag && !cv_member_is_dead(tag, 0)) {
        *claimed |= tag != cv_self.tag;
        return false;
    }
    if (goes_on(q, item, mark)) {
        cv_store_release(&head->next, head->place);
        set_holder(item, 0);
    } else {
        cv_store_relaxed(&cv_queue_more(q)->lost, cv_queue_more(q)->lost + 1);
        cv_store_relaxed(&cv_queue_more(q)->lost_pid, cv_member_pid(tag));
        set_holder(item, DONE);
    }
    return true;
}

/* For the holder of get.lock. */
static bool reap_all(covey_queue *q, bool *claimed)
{
    uint64_t dead = cv_users_dead(&cv_queue_more(q)->takers);
    bool any = false;
    struct item item;

    for (unsigned lane = 0; lane < q->lanes; lane++) {
        for (bool there = first_item(q, lane, &item); there; there = next_item(q, &item))
            any |= reap(q, &item, claimed);
    }
    cv_store_relaxed(&cv_queue_more(q)->dead, dead);
    return any;
}

bool cv_queue_reap_claims(covey_queue *q, bool *claimed, uint64_t *tags, unsigned *n_tags)
{
    bool freed;
    bool advanced;

    if (cv_queue_enter_get(q, 0) != 0) { /* somebody is stopped there: who knows */
        *claimed = true;
        if (tags && *n_tags < CV_WAIT_TAGS_MAX)
            tags[(*n_tags)++] = CV_WAIT_POLL;
        return false;
    }
    freed = reap_all(q, claimed);
    advanced = advance(q);
    leave(q, advanced, freed);
    return freed || advanced;
}

void cv_queue_look_for_dead(covey_queue *q)
{
    struct cv_queue_more *more = cv_queue_more(q);
    uint32_t next = cv_load_relaxed(&more->look_next);
    bool any = cv_users_find_dead(&more->takers, &next, LOOKS);

    cv_store_relaxed(&more->look_next, next);
    if (any && cv_users_dead(&more->takers) != cv_load_relaxed(&more->dead))
        (void)cv_queue_reap_claims(q, &(bool){false}, NULL, NULL);
}

/* The item of @lane that this thread has claimed, or its process; @at: only the one with its bytes there. */
static bool find_own(covey_queue *q, struct item *item, bool thread, const void *at)
{
    for (unsigned lane = 0; lane < q->lanes; lane++) {
        for (bool there = first_item(q, lane, item); there; there = next_item(q, item)) {
            uint64_t mark = holder_of(item);

            if (at && bytes_of(q, item) != at)
                continue;
            if (thread ? mark == cv_waiter_me()
                       : is_claimed(item) && cv_mark_is_of(mark, cv_self.mark))
                return true;
        }
    }
    return false;
}

/* Ends the claim of this process on the item @at, or on its oldest: it is done, or nobody's again. */
int cv_queue_end_claim(covey_queue *q, const void *at, bool done)
{
    struct item item;
    bool found;

    (void)cv_queue_enter_get(q, CV_FOREVER);
    found = find_own(q, &item, true, at) || find_own(q, &item, false, at);
    if (found && !done)
        cv_store_release(&cv_queue_head(q, item.lane)->next, cv_queue_head(q, item.lane)->place);
    if (found)
        set_holder(&item, done ? DONE : 0);
    leave(q, found && advance(q), found && !done);
    if (found && q->redelivers && cv_queue_is_closed(q)) /* who waits may have only his own left */
        cv_queue_ring_items(q, INT_MAX);
    cv_alarm_clear();
    if (found)
        return 0;
    if (at)
        return cv_fail(
            COVEY_ESTATE, "%p is no item of queue %p that this process has", at, (void *)q);
    return cv_fail(
        COVEY_ESTATE, "this process has no item of queue %p that is not done", (void *)q);
}

long cv_queue_unclaimed(covey_queue *q, unsigned lane)
{
    struct item item;
    long n = 0;

    for (bool there = first_item(q, lane, &item); there; there = next_item(q, &item))
        n += holder_of(&item) == 0;
    return n;
}

/* Public ************************************************************************************* */

static int check(covey_queue *q)
{
    int r = cv_object_check(q, CV_QUEUE);

    if (r == 0 && !q->has_claims)
        r = cv_fail(COVEY_ESTATE, "queue %p is not joinable", (void *)q);
    return r;
}

int covey_queue_task_done(covey_queue *queue)
{
    int r = check(queue);

    return r != 0 ? r : cv_queue_end_claim(queue, NULL, true);
}

/* What a thread sleeps by that joins. */
struct joining {
    struct cv_futex_watch events;
    struct cv_futex_watch words[CV_QUEUE_PRIORITIES_MAX];
    unsigned n_tags;
    uint64_t tags[CV_WAIT_TAGS_MAX];
};

static int report_lost(struct cv_queue_more *more)
{
    unsigned long long lost = more->lost;

    cv_store_relaxed(&more->lost, 0);
    return more->lost_pid ? cv_fail(COVEY_EOWNERDEAD,
                                "%llu items were not done when who had them ended, at last pid %d",
                                lost, (int)more->lost_pid)
                          : cv_fail(COVEY_EOWNERDEAD,
                                "%llu items were not done when who had them ended", lost);
}

/* How many, and who has the first one. */
static int fail_unfinished(covey_queue *q, double timeout_s)
{
    unsigned long n = 0;
    uint64_t holder = 0;
    struct item item;

    cv_alarm_set(q->bell.alarm);
    if (cv_lock_try(&q->get.lock)) {
        for (unsigned lane = 0; lane < q->lanes; lane++) {
            for (bool there = first_item(q, lane, &item); there; there = next_item(q, &item)) {
                n += holder_of(&item) != DONE;
                holder = holder || !is_claimed(&item) ? holder : holder_of(&item);
            }
        }
        cv_lock_exit(&q->get.lock);
    }
    cv_alarm_clear();
    return holder ? cv_fail(COVEY_ETIMEDOUT,
                        "%lu items of queue %p were not done within %g s: process %d has one", n,
                        (void *)q, timeout_s, (int)cv_lock_pid(holder))
                  : cv_fail(COVEY_ETIMEDOUT, "%lu items of queue %p were not done within %g s", n,
                        (void *)q, timeout_s);
}

/* 1: not yet. */
static int try_join(covey_queue *q, struct joining *j, uint64_t deadline_ns)
{
    struct cv_queue_more *more = cv_queue_more(q);
    int r = cv_queue_enter_get(q, deadline_ns);
    bool claimed = false;
    bool freed;
    bool advanced;

    if (r != 0)
        return r;
    j->n_tags = 0;
    cv_users_watch(&more->takers, j->tags, CV_WAIT_TAGS_MAX, &j->n_tags);
    freed = reap_all(q, &claimed);
    advanced = advance(q);
    for (unsigned lane = 0; lane < q->lanes; lane++) {
        uint64_t *place = &cv_queue_head(q, lane)->place;

        j->words[lane] = cv_word_low(place, *place);
    }
    j->events = (struct cv_futex_watch){&q->get.events, cv_load_acquire(&q->get.events)};
    r = has_unfinished(q);
    if (r == 0 && more->lost)
        r = report_lost(more);
    leave(q, advanced, freed);
    return r;
}

int covey_queue_join(covey_queue *queue, double timeout_s)
{
    struct cv_wait wait;
    struct joining j = {.n_tags = 0};
    int waited = 0;
    int r = check(queue);

    if (r == 0)
        r = cv_wait_begin(&wait, timeout_s, queue, CV_QUEUE);
    if (r != 0)
        return r;
    while ((r = try_join(queue, &j, wait.deadline_ns)) > 0) {
        struct cv_arming armed;

        if (waited < 0 || wait.deadline_ns == 0)
            break;
        if (cv_wait_spin(&wait, j.events.word, j.events.seen))
            continue;
        armed = cv_bell_arm(queue->bell.done);
        if ((r = try_join(queue, &j, wait.deadline_ns)) <= 0) {
            cv_bell_disarm(&armed);
            break;
        }
        waited = cv_wait_sleep_armed(
            &wait, queue->bell.alarm, armed, j.words, queue->lanes, j.tags, j.n_tags);
    }
    cv_wait_end(&wait);
    cv_alarm_clear();
    if (r > 0)
        r = waited < 0 ? waited : COVEY_ETIMEDOUT;
    return r == COVEY_ETIMEDOUT ? fail_unfinished(queue, timeout_s) : r;
}
