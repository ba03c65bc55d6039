/* SPDX-License-Identifier: MIT */
#include "msg/users.h"

#include "arena/heap.h"
#include "arena/member.h"
#include "base/atomic.h"
#include "base/error.h"
#include "base/mutation.h"
#include "msg/pipe.h"
#include "sync/wait.h"

#define COUNT  (UINT64_C(1) << 32)
#define TICKET (UINT64_C(1) << 31) /* in the mark; it is 0 in those of processes */

static enum cv_user what_is(uint64_t value)
{
    return (enum cv_user)(value & (COUNT - 1));
}

bool cv_users_is_ticket(uint64_t mark)
{
    return mark & TICKET;
}

uint64_t cv_users_ticket(const void *block)
{
    uint64_t n = (uintptr_t)block / CV_GRAIN_BYTES;

    return n >> 31 << 32 | TICKET | (n & (TICKET - 1));
}

void *cv_users_ticket_block(uint64_t mark)
{
    return (void *)(uintptr_t)((mark >> 32 << 31 | (mark & (TICKET - 1))) * CV_GRAIN_BYTES);
}

uint64_t cv_users_process(uint64_t tag)
{
    return cv_tag_mark(tag, 0);
}

bool cv_users_is_dead(uint64_t mark)
{
    uint64_t tag = cv_users_is_ticket(mark) ? 0 : cv_member_marked(mark);

    return !cv_users_is_ticket(mark) && CV_RECOVERS(users_dead) &&
           (!tag || cv_member_is_dead(tag, 0));
}

bool cv_users_can_hold(uint64_t mark)
{
    return !cv_users_is_dead(mark) && cv_member_takes((uint32_t)mark);
}

static bool has_been(const struct cv_cell *cell)
{
    return what_is(cv_load_acquire(&cell->value)) > CV_USER_EXPECTED;
}

/* Threads that came at the same time count as one. */
static bool is_first(struct cv_users *users, uint64_t mark, const struct cv_cell *cell)
{
    struct cv_cell *other;

    for (uint32_t i = 1; (other = cv_cells_at(&users->cells, i)) && other != cell; i++) {
        if (cv_load_acquire(&other->mark) == mark && has_been(other))
            return false;
    }
    return true;
}

/* Have as many been here as are needed? From then on none is needed any more. */
static bool were_enough(struct cv_users *users)
{
    uint32_t needed = cv_load_relaxed(&users->needed);
    uint32_t been = 0;
    struct cv_cell *cell;

    for (uint32_t i = 1; been < needed && (cell = cv_cells_at(&users->cells, i)); i++) {
        uint64_t mark = cv_load_acquire(&cell->mark);

        been += mark && has_been(cell) && is_first(users, mark, cell);
    }
    if (been < needed)
        return false;
    if (needed)
        cv_store_release(&users->needed, 0);
    return true;
}

/* Cells of the dead are free again: true if there are any. */
static bool recycle(struct cv_users *users)
{
    bool any = false;
    struct cv_cell *cell;

    if (!were_enough(users) || (users->other && !cv_load_seq(&users->used)))
        return false; /* each of them counts, or its children do */
    for (uint32_t i = 1; (cell = cv_cells_at(&users->cells, i)); i++) {
        uint64_t value = cv_load_acquire(&cell->value); /* first: no later one's */
        uint64_t mark = cv_load_acquire(&cell->mark);

        if (!mark || !cv_users_is_dead(mark))
            continue;
        (void)cv_cas64(&cell->value, value, (value / COUNT + 1) * COUNT);
        any |= cv_cas64(&cell->mark, mark, 0);
    }
    return any;
}

/* A cell that is free, or was a dead process's; 0: there is none. */
static uint32_t claim_old(struct cv_users *users, uint64_t mark)
{
    uint32_t i;

    do {
        i = cv_cells_claim_for(&users->cells, mark);
    } while (!i && recycle(users));
    return i ? i
             : cv_cells_claim_for(&users->cells, mark); /* another one may have made them free */
}

bool cv_users_claim(struct cv_users *users, uint64_t mark)
{
    return claim_old(users, mark) != 0;
}

static struct cv_cell *claim(struct cv_users *users, uint64_t mark)
{
    unsigned blocks;
    uint32_t i;

    do {
        blocks = cv_cells_blocks(&users->cells);
        i = claim_old(users, mark);
    } while (!i && cv_cells_extend(&users->cells, blocks) == 0);
    return i ? cv_cells_at(&users->cells, i) : NULL;
}

/* Of a cell whose value was @value. */
static uint64_t next_value(uint64_t value, enum cv_user what)
{
    return (value / COUNT + (what == CV_USER_HERE)) * COUNT + what;
}

/* False: it is that already. */
static bool become(struct cv_cell *cell, enum cv_user what)
{
    uint64_t value = cv_load_relaxed(&cell->value);

    do {
        if (what_is(value) == what)
            return false;
    } while (!cv_cas(&cell->value, &value, next_value(value, what)));
    return true;
}

/* In all cells that it has. One by which it is here is the last, for who sees that all have left may free them. */
static bool leave(struct cv_users *users, struct cv_cell *last)
{
    uint64_t mark = cv_users_process(cv_self.tag);
    struct cv_cell *cell;
    bool is_new = false;

    for (uint32_t i = 1; (cell = cv_cells_at(&users->cells, i)); i++) {
        if (cv_load_seq(&cell->mark) == mark &&
            what_is(cv_load_relaxed(&cell->value)) == CV_USER_HERE)
            last = cell;
    }
    for (uint32_t i = 1; (cell = cv_cells_at(&users->cells, i)); i++) {
        if (cell != last && cv_load_seq(&cell->mark) == mark)
            is_new |= become(cell, CV_USER_LEFT);
    }
    return become(last, CV_USER_LEFT) || is_new;
}

int cv_users_reserve(struct cv_users *users, uint64_t mark)
{
    return claim(users, mark) ? 0 : covey_error_code();
}

int cv_users_be(struct cv_users *users, enum cv_user what)
{
    struct cv_cell *cell = claim(users, cv_users_process(cv_self.tag));
    bool is_new;

    if (!cell)
        return covey_error_code();
    if (what == CV_USER_LEFT)
        return leave(users, cell);
    is_new = become(cell, what);
    if (what == CV_USER_HERE && is_new)
        cv_store_seq(&users->used, 1);
    return is_new;
}

/* Has it another one than @cell? */
static bool has_another(struct cv_users *users, uint64_t mark, const struct cv_cell *cell)
{
    struct cv_cell *other;

    for (uint32_t i = 1; (other = cv_cells_at(&users->cells, i)); i++) {
        if (other != cell && cv_load_seq(&other->mark) == mark)
            return true;
    }
    return false;
}

/* Until the process itself has said more. Who recycles the cell late may change the value once more, but only to
 * one that is NONE, too. */
static void name(struct cv_users *users, struct cv_cell *cell, uint64_t mark, enum cv_user what)
{
    uint64_t value = cv_load_relaxed(&cell->value);

    while (what_is(value) < what && what_is(value) <= CV_USER_EXPECTED &&
           !has_another(users, mark, cell) &&
           !cv_cas(&cell->value, &value, next_value(value, what))) {
    }
}

int cv_users_expect(struct cv_users *users, uint64_t mark)
{
    struct cv_cell *cell = claim(users, mark);

    if (!cell)
        return covey_error_code();
    name(users, cell, mark, CV_USER_EXPECTED);
    return 0;
}

int cv_users_give(struct cv_users *users, uint64_t mark)
{
    struct cv_cell *cell = claim(users, mark);

    if (!cell)
        return covey_error_code();
    if (what_is(cv_load_relaxed(&cell->value)) > CV_USER_EXPECTED)
        return 0;
    name(users, cell, mark, CV_USER_HERE);
    cv_store_seq(&users->used, 1);
    return 0;
}

bool cv_users_drop(struct cv_users *users, uint64_t mark)
{
    struct cv_cell *cell;

    for (uint32_t i = 1; (cell = cv_cells_at(&users->cells, i)); i++) {
        if (cv_load_relaxed(&cell->mark) == mark) {
            uint64_t value = cv_load_relaxed(&cell->value);

            (void)cv_cas64(&cell->value, value, (value / COUNT + 1) * COUNT);
            (void)cv_cas64(&cell->mark, mark, 0);
            return true;
        }
    }
    return false;
}

enum cv_user cv_users_own(struct cv_users *users)
{
    enum cv_user own = CV_USER_NONE;
    struct cv_cell *cell;

    for (uint32_t i = 1; own != CV_USER_HERE && (cell = cv_cells_at(&users->cells, i)); i++) {
        enum cv_user what = what_is(cv_load_relaxed(&cell->value));

        if (what != CV_USER_NONE && cv_load_relaxed(&cell->mark) == cv_users_process(cv_self.tag))
            own = what;
    }
    return own;
}

uint64_t cv_users_comings(struct cv_users *users)
{
    uint64_t n = 0;
    struct cv_cell *cell;

    for (uint32_t i = 1; (cell = cv_cells_at(&users->cells, i)); i++)
        n += cv_load_seq(&cell->value) / COUNT;
    return n;
}

/* The mark of one who was here when it ended; 0: the cell has none. */
static uint64_t dead_in(const struct cv_cell *cell)
{
    uint64_t mark = cv_load_acquire(&cell->mark);

    return mark && what_is(cv_load_acquire(&cell->value)) == CV_USER_HERE && cv_users_is_dead(mark)
               ? mark
               : 0;
}

bool cv_users_find_dead(struct cv_users *users, uint32_t *next, unsigned looks)
{
    bool any = false;

    for (unsigned n = 0; n < looks; n++) {
        const struct cv_cell *cell = *next ? cv_cells_at(&users->cells, *next) : NULL;

        *next = cell ? *next + 1 : 1;
        any |= cell && dead_in(cell);
    }
    return any;
}

uint64_t cv_users_dead(struct cv_users *users)
{
    uint64_t sum = 0;
    struct cv_cell *cell;

    for (uint32_t i = 1; (cell = cv_cells_at(&users->cells, i)); i++)
        sum += dead_in(cell);
    return sum;
}

pid_t cv_users_lost(struct cv_users *users)
{
    struct cv_cell *cell;
    pid_t pid;

    for (uint32_t i = 1; (cell = cv_cells_at(&users->cells, i)); i++) {
        uint64_t mark = dead_in(cell);

        if (mark && (pid = cv_member_pid(cv_member_marked(mark))))
            return pid;
    }
    return 0;
}

/* Who is gone, and who is not. */
struct survey {
    struct cv_users *users;
    uint64_t *tags;
    unsigned max;
    unsigned *n;
    bool any;
    uint64_t next; /* of those that are here, the first by rank(); 0: none */
};

static void watch(struct survey *s, uint64_t tag)
{
    if (tag != cv_self.tag && *s->n < s->max)
        s->tags[(*s->n)++] = tag;
}

/* @tag: to be watched, if it is not this process's. */
static void add(struct survey *s, uint64_t tag)
{
    s->any = true;
    watch(s, tag);
}

/* Another order for each process: so whoever they are, not all choose the same one. */
static uint32_t rank(uint64_t tag)
{
    uint32_t pair = cv_tag_slot(tag) << 14 ^ cv_tag_slot(cv_self.tag);

    pair = (pair ^ pair >> 16) * 0x45d9f3bU;
    return (pair ^ pair >> 16) * 0x45d9f3bU;
}

/* As long as it stays here, not all are gone; so who waits watches one, and others watch others. */
static void add_here(struct survey *s, uint64_t tag)
{
    s->any = true;
    if (!s->next || rank(tag) < rank(s->next))
        s->next = tag;
}

/* It holds nothing if it is over, or if who has it has died; but for one that he was putting into a queue, or
 * taking out: his own cell may be another's by now. (One who gives it away just now is here, or has been since
 * this look began: that tells.) Nobody's life tells of one that is over. */
static void add_ticket(struct survey *s, void *ticket)
{
    uint64_t tag = cv_pipe_ticket_holder(ticket);

    if (cv_pipe_ticket_is_over(ticket) ||
        (tag && CV_RECOVERS(users_bury) && cv_member_is_dead(tag, 0)))
        return;
    if (!tag && CV_RECOVERS(users_settle))
        cv_pipe_settle(ticket);
    if (tag)
        watch(s, tag);
    add(s, CV_WAIT_POLL);
}

static void add_tickets(struct survey *s)
{
    struct cv_cell *cell;

    for (uint32_t i = 1; !s->any && (cell = cv_cells_at(&s->users->cells, i)); i++) {
        uint64_t mark = cv_load_acquire(&cell->mark);

        if (cv_users_is_ticket(mark) && what_is(cv_load_acquire(&cell->value)) == CV_USER_HERE)
            add_ticket(s, cv_users_ticket_block(mark));
    }
}

/* Of a process; 0: it is none, or dead. */
static uint64_t tag_of(uint64_t mark)
{
    return mark && !cv_users_is_ticket(mark) ? cv_member_marked(mark) : 0;
}

static bool is_at(struct cv_cells *cells, uint64_t tag, enum cv_user what)
{
    struct cv_cell *cell;

    for (uint32_t i = 1; (cell = cv_cells_at(cells, i)); i++) {
        if (cv_load_acquire(&cell->mark) == cv_users_process(tag) &&
            what_is(cv_load_acquire(&cell->value)) == what)
            return true;
    }
    return false;
}

static bool is_at_other_end(const struct cv_users *users, uint64_t tag)
{
    struct cv_users *other = (struct cv_users *)(uintptr_t)users->other;

    return other && is_at(&other->cells, tag, CV_USER_HERE);
}

/* Was it made by the fork of one who has a cell, when the end was there, and has not shown since whether it
 * has the end? */
static bool may_have_it(struct cv_users *users, uint64_t tag, enum cv_phase phase)
{
    const struct cv_member *m = cv_member_of(tag);
    uint64_t parent = cv_load_acquire(&m->parent);
    uint64_t joined_ns = cv_load_relaxed(&m->joined_ns);
    struct cv_cell *cell;

    if ((phase != CV_BORN && phase != CV_ALIVE) || !parent || m->fresh ||
        !cv_member_takes(cv_tag_short(tag)) || (joined_ns && joined_ns < users->since_ns) ||
        is_at(&users->cells, tag, CV_USER_LEFT) || is_at_other_end(users, tag))
        return false;
    for (uint32_t i = 1; (cell = cv_cells_at(&users->cells, i)); i++) {
        if (cv_load_acquire(&cell->mark) == cv_users_process(parent))
            return !cv_member_is_dead(tag, 0);
    }
    return false;
}

static bool add_child(uint64_t tag, enum cv_phase phase, void *context)
{
    struct survey *s = context;

    if (tag != cv_self.tag && may_have_it(s->users, tag, phase))
        add(s, tag);
    return true;
}

static bool are_gone(struct cv_users *users, bool used, uint64_t *tags, unsigned max, unsigned *n)
{
    struct survey s = {users, tags, max, n, false, 0};
    bool tickets = false;
    struct cv_cell *cell;

    for (uint32_t i = 1; (cell = cv_cells_at(&users->cells, i)); i++) {
        uint64_t mark = cv_load_acquire(&cell->mark);
        uint64_t tag = tag_of(mark); /* while it lives, if it does */
        enum cv_user what = what_is(cv_load_acquire(&cell->value));

        if (mark && what == CV_USER_NONE && cv_load_relaxed(&users->needed) &&
            !cv_users_is_dead(mark))
            watch(&s, tag); /* it is about to come */
        if (!mark || !(what == CV_USER_HERE || (what == CV_USER_EXPECTED && !used)))
            continue;
        if (cv_users_is_ticket(mark))
            tickets = true;
        else if (!cv_users_is_dead(mark))
            (used ? add_here : add)(&s, tag);
    }
    if (s.next)
        watch(&s, s.next);
    if (tickets && !s.any)
        add_tickets(&s);
    if (!were_enough(users))
        return false;
    if (!used && users->other)
        cv_member_each(add_child, &s);
    return !s.any;
}

bool cv_users_are_gone(struct cv_users *users, uint64_t *tags, unsigned max, unsigned *n)
{
    uint64_t comings;
    unsigned before = *n;
    bool used;
    bool gone;

    do {
        used = cv_load_seq(&users->used);
        comings = cv_users_comings(users);
        *n = before;
        gone = are_gone(users, used, tags, max, n);
    } while ((gone || !used) &&
             (cv_users_comings(users) != comings || cv_load_seq(&users->used) != used));
    return gone;
}

uint64_t cv_users_holder(struct cv_users *users, uint32_t first)
{
    uint64_t found = 0;
    struct cv_cell *cell;

    for (uint32_t i = 1; (cell = cv_cells_at(&users->cells, i)); i++) {
        uint64_t mark = cv_load_seq(&cell->mark);
        enum cv_user what = what_is(cv_load_seq(&cell->value));

        if (!mark || (what != CV_USER_HERE && what != CV_USER_EXPECTED) ||
            !(cv_users_is_ticket(mark) || cv_users_can_hold(mark)))
            continue;
        if ((uint32_t)mark == first && !cv_users_is_ticket(mark))
            return mark;
        if (!found || cv_users_is_ticket(found))
            found = mark;
    }
    return found;
}

struct heir {
    struct cv_users *users;
    uint64_t mark; /* 0: none */
};

static bool find_heir(uint64_t tag, enum cv_phase phase, void *context)
{
    struct heir *h = context;

    if (may_have_it(h->users, tag, phase))
        h->mark = cv_users_process(tag);
    return !h->mark;
}

uint64_t cv_users_heir(struct cv_users *users)
{
    struct heir h = {.users = users};

    if (CV_RECOVERS(users_heir) && !cv_load_seq(&users->used))
        cv_member_each(find_heir, &h);
    return h.mark;
}

void cv_users_watch(struct cv_users *users, uint64_t *tags, unsigned max, unsigned *n)
{
    struct survey s = {users, tags, max, n, false, 0};
    struct cv_cell *cell;

    for (uint32_t i = 1; (cell = cv_cells_at(&users->cells, i)); i++) {
        uint64_t mark = cv_load_acquire(&cell->mark);
        uint64_t tag = tag_of(mark);

        if (mark && what_is(cv_load_acquire(&cell->value)) == CV_USER_HERE &&
            !cv_users_is_dead(mark))
            watch(&s, tag);
    }
}

bool cv_users_are_here(const struct cv_users *own)
{
    uint64_t own_one = cv_users_process(cv_self.tag);
    bool here = false;

    for (unsigned i = 0; i < CV_CELLS_FIRST && !here; i++) {
        const struct cv_cell *cell = &own->cells.cell[i];

        here = cv_load_relaxed(&cell->mark) == own_one &&
               what_is(cv_load_relaxed(&cell->value)) == CV_USER_HERE;
    }
    return here;
}

bool cv_users_see(struct cv_users *own, struct cv_users *others)
{
    bool here = cv_users_are_here(own);
    bool there = false;

    for (unsigned i = 0; here && i < CV_CELLS_FIRST; i++) {
        const struct cv_cell *cell = &others->cells.cell[i];
        uint64_t mark = cv_load_relaxed(&cell->mark);

        there |= !there && mark && what_is(cv_load_relaxed(&cell->value)) == CV_USER_HERE &&
                 !cv_users_is_dead(mark);
    }
    return here && there;
}
