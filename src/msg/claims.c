/* SPDX-License-Identifier: MIT */
/* What a joinable queue has beside the others: items that are got and not yet done (see msg/queue.h). */
#include "msg/queue.h"

#include "base/error.h"
#include "base/mutation.h"

#include <string.h>

enum {
    LOOKS = 4 /* at other takers with each item that is got */
};

/* Guarded by get.lock. */
struct claim {
    uint64_t next;   /* address; 0: it is the last */
    uint64_t holder; /* the mark of the thread that has it; 0: nobody */
    uint64_t deaths; /* low 16 bits: so many have died with the item; above: the last of them */
    uint64_t place;  /* of the cell that the item was in */
    uint64_t block;  /* address of the item's bytes, and 1 if they are only lent; 0: see @bytes */
    uint64_t size;
    uint32_t number; /* of all claimings, the latest of this one */
    uint16_t lane;
    bool is_again;         /* it has come to its holder later than those behind it in the list */
    bool is_peeked;        /* its holder knows where the bytes are */
    unsigned char bytes[]; /* of a small item, if they are still needed */
};

/* The list *********************************************************************************** */

static struct claim *claim_at(uint64_t address)
{
    return (struct claim *)(uintptr_t)address;
}

static struct claim *first_claim(covey_queue *q)
{
    return claim_at(cv_queue_more(q)->claims);
}

static struct claim *next_claim(const struct claim *c)
{
    return claim_at(c->next);
}

/* The word in which its address stands: the one before it, if it is the list's. */
static uint64_t *link_to(covey_queue *q, const struct claim *c)
{
    uint64_t *link = &cv_queue_more(q)->claims;

    while (*link && *link != (uintptr_t)c)
        link = &claim_at(*link)->next;
    return link;
}

static void append(covey_queue *q, struct claim *c)
{
    struct cv_queue_more *more = cv_queue_more(q);
    struct claim *last = claim_at(more->claims_last);

    cv_store_release(last ? &last->next : &more->claims, (uintptr_t)c);
    cv_store_relaxed(&more->claims_last, (uintptr_t)c);
}

/* @link: to it. */
static void take_out(covey_queue *q, uint64_t *link, const struct claim *c)
{
    struct cv_queue_more *more = cv_queue_more(q);

    cv_store_release(&more->claims_ended, more->claims_ended + 1);
    cv_store_release(link, c->next);
    if (more->free_from == (uintptr_t)c)
        more->free_from = c->next;
    if (c->next)
        return;
    cv_store_relaxed(&more->claims_last,
        link == &more->claims ? 0 : (uintptr_t)link - offsetof(struct claim, next));
}

static bool is_held(const struct claim *c)
{
    return c->holder != 0;
}

static bool is_own_block(const struct claim *c)
{
    return c->block && !(c->block & 1);
}

static void *block_of(const struct claim *c)
{
    return (void *)(uintptr_t)(c->block & ~UINT64_C(1));
}

static void *bytes_of(struct claim *c)
{
    return c->block ? block_of(c) : c->bytes;
}

/* Making and ending ************************************************************************** */

/* Of the item at the head of a chain, by this thread; NULL with a message. */
static struct claim *make(covey_queue *q, unsigned lane, const struct cv_found *f, bool is_peeked)
{
    bool is_large = f->head & CV_CELL_BLOCK;
    size_t size = is_large ? cv_cell_block(f->cell)->size : cv_cell_size(f->head);
    size_t kept = (is_peeked || q->redelivers) && !is_large ? size : 0;
    struct claim *c = cv_heap_alloc(sizeof *c + kept, CV_GRAIN_BYTES, cv_my_short_tag());

    if (!c)
        return NULL;
    *c = (struct claim){.holder = cv_waiter_me(),
        .place = f->place,
        .size = size,
        .number = ++cv_queue_more(q)->claimings,
        .lane = (uint16_t)lane,
        .is_peeked = is_peeked};
    if (is_large)
        c->block = cv_cell_block(f->cell)->address;
    else if (kept)
        memcpy(c->bytes, f->cell + 1, kept);
    return c;
}

/* The item is its from here on. */
static void commit(covey_queue *q, struct claim *c, const struct cv_found *f)
{
    cv_store_release(&q->get.intent, (uintptr_t)c | CV_INTENT_CLAIM);
    (void)cv_heap_give(c, cv_my_short_tag(), cv_queue_outgoing(q));
    append(q, c);
    if (f->head & CV_CELL_BLOCK)
        cv_store_relaxed(&cv_queue_head(q, c->lane)->bytes, cv_cell_block(f->cell)->bytes);
    cv_queue_commit_take(q, c->lane, f->place + cv_cell_bytes(cv_cell_size(f->head)));
    (void)cv_heap_give(c, cv_queue_outgoing(q), cv_queue_owner(q));
    cv_store_release(&q->get.intent, 0);
}

/* Both are the queue's outgoing ones, and out of the list. */
static void free_outgoing(covey_queue *q, struct claim *c)
{
    void *block = is_own_block(c) ? block_of(c) : NULL;
    bool has_block = block && cv_heap_give(block, cv_queue_outgoing(q), cv_my_short_tag());

    (void)cv_heap_give(c, cv_queue_outgoing(q), cv_my_short_tag());
    cv_store_release(&q->get.intent, 0);
    if (has_block)
        (void)cv_heap_free(block); /* never an object: cv_queue_check_objects() */
    (void)cv_heap_free(c);
}

/* Its item is done, or @is_lost. */
static void end(covey_queue *q, uint64_t *link, struct claim *c, bool is_lost)
{
    struct cv_queue_more *more = cv_queue_more(q);

    cv_store_relaxed(&more->lost_before, more->lost);
    cv_store_release(
        &q->get.intent, (uintptr_t)c | CV_INTENT_CLAIM | (is_lost ? CV_INTENT_LOST : 0));
    (void)cv_heap_give(c, cv_queue_owner(q), cv_queue_outgoing(q));
    if (is_own_block(c))
        (void)cv_heap_give(block_of(c), cv_queue_owner(q), cv_queue_outgoing(q));
    if (is_lost)
        cv_store_release(&more->lost, more->lost_before + 1);
    take_out(q, link, c);
    free_outgoing(q, c);
}

/* It was on its way in or out. */
static void mend_claim(covey_queue *q, uint64_t intent)
{
    struct cv_queue_more *more = cv_queue_more(q);
    struct claim *c = cv_intended(intent);
    uint64_t *link = link_to(q, c);

    if (cv_heap_owner(c, NULL) != cv_queue_outgoing(q))
        return;
    if (*link &&
        cv_place_position(cv_queue_head(q, c->lane)->place) > cv_place_position(c->place)) {
        if (intent & CV_INTENT_LOST)
            cv_store_release(&more->lost, more->lost_before);
        if (is_own_block(c))
            (void)cv_heap_give(block_of(c), cv_queue_outgoing(q), cv_queue_owner(q));
        (void)cv_heap_give(c, cv_queue_outgoing(q), cv_queue_owner(q));
        return;
    }
    if (*link)
        take_out(q, link, c);
    free_outgoing(q, c);
}

void cv_queue_mend_claims(covey_queue *q, uint64_t intent)
{
    struct cv_queue_more *more = cv_queue_more(q);
    uint32_t n_free = 0;
    uint64_t last = 0;

    if ((intent & CV_INTENT_CLAIM) && CV_RECOVERS(queue_outgoing))
        mend_claim(q, intent);
    for (const struct claim *c = first_claim(q); c; c = next_claim(c)) {
        last = (uintptr_t)c;
        n_free += !is_held(c);
    }
    cv_store_relaxed(&more->claims_last, last);
    cv_store_relaxed(&more->free_from, 0);
    cv_store_release(&more->free_claims, n_free);
}

void cv_queue_end_claims(covey_queue *q)
{
    while (first_claim(q))
        end(q, &cv_queue_more(q)->claims, first_claim(q), false);
}

/* Looking ************************************************************************************ */

static bool has_unfinished(covey_queue *q)
{
    struct cv_found f;

    if (first_claim(q))
        return true;
    for (unsigned lane = 0; lane < q->lanes; lane++) {
        if (cv_queue_find_first(q, lane, &f) == 0)
            return true;
    }
    return false;
}

/* Which may come back. Those of this process do not, as long as anybody in it waits. */
static bool others_have_any(covey_queue *q)
{
    const struct claim *c = first_claim(q);

    while (c && (!is_held(c) || cv_mark_is_of(c->holder, cv_self.mark)))
        c = next_claim(c);
    return c != NULL;
}

/* The first one of @lane that is nobody's; NULL: there is none. */
static struct claim *find_free(covey_queue *q, unsigned lane)
{
    struct cv_queue_more *more = cv_queue_more(q);
    struct claim *c = claim_at(more->free_from ? more->free_from : more->claims);
    bool is_first = true;

    if (!more->free_claims)
        return NULL;
    for (; c; c = next_claim(c)) {
        if (!is_held(c) && is_first)
            more->free_from = (uintptr_t)c;
        if (!is_held(c) && c->lane == lane)
            break;
        is_first &= is_held(c);
    }
    return c;
}

/* Claiming *********************************************************************************** */

static bool fits(struct cv_getting *g, size_t size)
{
    cv_getting_note(g, size);
    return g->takes_block || cv_getting_fits(g, size);
}

static void give_out(struct cv_getting *g, void *bytes, size_t size)
{
    if (g->takes_block)
        g->block = bytes;
    else if (size)
        memcpy(g->items + g->done * g->room, bytes, size);
    g->done++;
}

static int claim_again(covey_queue *q, struct claim *c, struct cv_getting *g)
{
    if (!fits(g, c->size))
        return COVEY_ETOOBIG;
    c->number = ++cv_queue_more(q)->claimings;
    c->is_again = true;
    c->is_peeked = g->takes_block;
    cv_store_release(&c->holder, cv_waiter_me());
    cv_store_release(&cv_queue_more(q)->free_claims, cv_queue_more(q)->free_claims - 1);
    give_out(g, bytes_of(c), c->size);
    cv_queue_note_get(q);
    return 0;
}

static int claim_first(covey_queue *q, unsigned lane, struct cv_getting *g)
{
    struct cv_found f;
    struct claim *c;
    int r = cv_queue_find_first(q, lane, &f);

    if (r != 0)
        return r == COVEY_ECLOSED && q->redelivers && others_have_any(q) ? COVEY_EEMPTY : r;
    if (!fits(g, f.head & CV_CELL_BLOCK ? cv_cell_block(f.cell)->size : cv_cell_size(f.head)))
        return COVEY_ETOOBIG;
    c = make(q, lane, &f, g->takes_block);
    if (!c)
        return covey_error_code();
    if (g->takes_block || c->block)
        give_out(g, bytes_of(c), c->size);
    else
        give_out(g, f.cell + 1, c->size);
    commit(q, c, &f);
    return 0;
}

int cv_queue_claim(covey_queue *q, unsigned lane, struct cv_getting *g)
{
    size_t done = g->done;
    int r = 0;

    while (r == 0 && g->done < g->n) {
        struct claim *c = find_free(q, lane);

        r = c ? claim_again(q, c, g) : claim_first(q, lane, g);
    }
    return g->done == done ? r : 0;
}

int cv_queue_come_to_take(covey_queue *q)
{
    int r;

    cv_alarm_set(q->bell.alarm);
    r = cv_users_be(&cv_queue_more(q)->takers, CV_USER_HERE);
    if (r > 0) {
        cv_queue_wake_all(q);
        if (q->redelivers) /* this may be the cell of one who has died, which said that he had */
            (void)cv_queue_reap_claims(q, true, &(bool){false});
    }
    return r < 0 ? r : 0;
}

/* Ending a claim ***************************************************************************** */

/* What has come of claims. */
struct outcome {
    bool ended; /* some are done, or lost */
    bool freed; /* some are nobody's again */
};

static void give_back(covey_queue *q, struct claim *c, struct outcome *o)
{
    struct cv_queue_more *more = cv_queue_more(q);

    more->free_from = 0;
    cv_store_release(&more->free_claims, more->free_claims + 1);
    cv_store_release(&c->holder, 0);
    o->freed = true;
}

/* Leaves get.lock, and wakes those for whom there is something new. */
static void leave(covey_queue *q, struct outcome o)
{
    bool all_done = o.ended && !has_unfinished(q);

    if (o.ended || o.freed)
        cv_queue_note_get(q);
    cv_lock_exit(&q->get.lock);
    if (all_done)
        cv_bell_ring(q->bell.done, INT_MAX);
    if (all_done || o.freed) /* also those who wait for the end of a closed queue */
        cv_queue_ring_items(q, INT_MAX);
}

/* Counts the death of @holder with the item, once. */
static uint64_t count_death(struct claim *c)
{
    uint64_t who = (c->holder ^ c->holder >> 48) << 16;
    uint64_t n = c->deaths & UINT16_MAX;

    if ((c->deaths & ~(uint64_t)UINT16_MAX) == who)
        return n;
    n += n < UINT16_MAX;
    cv_store_relaxed(&c->deaths, who | n);
    return n;
}

/* Now that its holder has died: does the item go to another one? */
static bool goes_on(const covey_queue *q, struct claim *c)
{
    return q->redelivers && (!q->deliveries_max || count_death(c) < q->deliveries_max);
}

/* Does it live? If so, and it is another one's, that is *@claimed. */
static bool is_alive(uint64_t tag, bool *claimed)
{
    if (!tag || cv_member_is_dead(tag, 0))
        return false;
    *claimed |= tag != cv_self.tag;
    return true;
}

/* For the holder of get.lock. */
static void reap_all(covey_queue *q, bool *claimed, struct outcome *o)
{
    struct cv_queue_more *more = cv_queue_more(q);
    uint64_t dead = cv_users_dead(&more->takers);
    uint64_t *link = &more->claims;

    while (*link) {
        struct claim *c = claim_at(*link);
        uint64_t tag = is_held(c) ? cv_member_marked(c->holder) : 0;

        if (!is_held(c) || is_alive(tag, claimed) || !CV_RECOVERS(queue_claims)) {
            link = &c->next;
        } else if (goes_on(q, c)) {
            give_back(q, c, o);
        } else {
            cv_store_relaxed(&more->lost_pid, cv_member_pid(tag));
            end(q, link, c, true);
            o->ended = true;
        }
    }
    cv_store_relaxed(&more->dead, dead);
}

static bool enter_soon(covey_queue *q, bool waits)
{
    if (waits)
        return cv_queue_enter_get(q, 0) == 0;
    cv_alarm_set(q->bell.alarm);
    cv_queue_mend_get(q, 0); /* if it is one who has died */
    return cv_lock_try(&q->get.lock);
}

enum cv_reaped cv_queue_reap_claims(covey_queue *q, bool waits, bool *claimed)
{
    struct outcome o = {false, false};

    if (!enter_soon(q, waits)) {
        *claimed = true; /* who knows */
        return CV_REAPED_LATER;
    }
    reap_all(q, claimed, &o);
    leave(q, o);
    return o.freed || o.ended ? CV_REAPED_SOME : CV_REAPED_NONE;
}

void cv_queue_look_for_dead(covey_queue *q)
{
    struct cv_queue_more *more = cv_queue_more(q);
    uint32_t next = cv_load_relaxed(&more->look_next);
    bool any = cv_users_find_dead(&more->takers, &next, LOOKS);

    cv_store_relaxed(&more->look_next, next);
    if (any && cv_users_dead(&more->takers) != cv_load_relaxed(&more->dead))
        (void)cv_queue_reap_claims(q, false, &(bool){false});
}

static bool is_own(const struct claim *c, bool thread)
{
    return thread ? c->holder == cv_waiter_me()
                  : is_held(c) && cv_mark_is_of(c->holder, cv_self.mark);
}

/* The link to the oldest claim of this thread, or of its process; @at: only to the one with its bytes there. NULL:
 * there is none. */
static uint64_t *find_own(covey_queue *q, bool thread, const void *at)
{
    uint64_t *found = NULL;

    for (uint64_t *link = &cv_queue_more(q)->claims; *link; link = &claim_at(*link)->next) {
        struct claim *c = claim_at(*link);

        if (!is_own(c, thread) || (at && !(c->is_peeked && bytes_of(c) == at)))
            continue;
        if (!found || (int32_t)(c->number - claim_at(*found)->number) < 0)
            found = link;
        if (!c->is_again) /* those behind it are younger */
            break;
    }
    return found;
}

/* Ends the claim of this process on the item @at, or on its oldest: it is done, or nobody's again. */
int cv_queue_end_claim(covey_queue *q, const void *at, bool done)
{
    struct outcome o = {false, false};
    uint64_t *cell;
    uint64_t *link;
    bool closed;

    (void)cv_queue_enter_get(q, CV_FOREVER);
    link = find_own(q, true, at);
    if (!link)
        link = find_own(q, false, at);
    closed = cv_queue_look(q, 0, &cell) & CV_CELL_END;
    if (link && done) {
        end(q, link, claim_at(*link), false);
        o.ended = true;
    } else if (link) {
        give_back(q, claim_at(*link), &o);
    }
    leave(q, o);
    if (link && q->redelivers && closed) /* who waits may have only his own left */
        cv_queue_ring_items(q, INT_MAX);
    cv_alarm_clear();
    if (link)
        return 0;
    if (at)
        return cv_fail(
            COVEY_ESTATE, "%p is no item of queue %p that this process has", at, (void *)q);
    return cv_fail(
        COVEY_ESTATE, "this process has no item of queue %p that is not done", (void *)q);
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
    struct cv_futex_watch ended;
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
    uint64_t holder = 0;
    long n = 0;

    if (!enter_soon(q, false)) {
        holder = cv_load_relaxed(&q->get.lock) & ~CV_LOCK_SLEEPERS;
        cv_alarm_clear();
        return holder ? cv_fail(COVEY_ETIMEDOUT,
                            "queue %p was not done within %g s, and process %d was at work in it",
                            (void *)q, timeout_s, (int)cv_lock_pid(holder))
                      : cv_fail(COVEY_ETIMEDOUT, "queue %p was not done within %g s", (void *)q,
                            timeout_s);
    }
    for (const struct claim *c = first_claim(q); c; c = next_claim(c)) {
        n++;
        holder = holder ? holder : c->holder;
    }
    n += cv_queue_count(q);
    cv_lock_exit(&q->get.lock);
    cv_alarm_clear();
    return holder ? cv_fail(COVEY_ETIMEDOUT,
                        "%ld items of queue %p were not done within %g s: process %d has one", n,
                        (void *)q, timeout_s, (int)cv_lock_pid(holder))
                  : cv_fail(COVEY_ETIMEDOUT, "%ld items of queue %p were not done within %g s", n,
                        (void *)q, timeout_s);
}

/* 1: not yet. */
static int try_join(covey_queue *q, struct joining *j, uint64_t deadline_ns)
{
    struct cv_queue_more *more = cv_queue_more(q);
    struct outcome o = {false, false};
    int r = cv_queue_enter_get(q, cv_lock_until(deadline_ns));

    if (r != 0)
        return r;
    j->n_tags = 0;
    cv_users_watch(&more->takers, j->tags, CV_WAIT_TAGS_MAX, &j->n_tags);
    reap_all(q, &(bool){false}, &o);
    j->ended = (struct cv_futex_watch){&more->claims_ended, more->claims_ended};
    r = has_unfinished(q);
    if (r == 0 && more->lost)
        r = report_lost(more);
    leave(q, o);
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
        if (cv_wait_spin(&wait, j.ended.word, j.ended.seen))
            continue;
        armed = cv_bell_arm(queue->bell.done);
        if ((r = try_join(queue, &j, wait.deadline_ns)) <= 0) {
            cv_bell_disarm(&armed);
            break;
        }
        waited =
            cv_wait_sleep_armed(&wait, queue->bell.alarm, armed, &j.ended, 1, j.tags, j.n_tags);
    }
    cv_alarm_clear();
    if (r > 0)
        r = waited < 0 ? waited : COVEY_ETIMEDOUT;
    if (r == COVEY_ETIMEDOUT)
        r = fail_unfinished(queue, timeout_s);
    cv_wait_end(&wait); /* the last: who frees the queue waits for it */
    return r;
}
