/* SPDX-License-Identifier: MIT */
#include "msg/pipe.h"

#include "arena/family.h"
#include "base/error.h"
#include "base/mutation.h"
#include "base/options.h"
#include "os/clock.h"
#include "sync/any.h"
#include "sync/watch.h"

#include <string.h>

enum {
    HOME_BYTES = 16 * 1024, /* of each way, at most */
    IMPATIENCE_NS = 10 * CV_LOCK_PATIENCE_NS,
};

static int check(const covey_pipe *end)
{
    return cv_object_check(end, CV_PIPE);
}

static covey_pipe *other_end(const covey_pipe *end)
{
    return (covey_pipe *)(uintptr_t)end->other;
}

static covey_queue *queue_at(uint64_t address)
{
    return (covey_queue *)(uintptr_t)address;
}

static struct cv_pipe *pipe_of(covey_pipe *end)
{
    covey_pipe *other = other_end(end);

    return (struct cv_pipe *)(end < other ? end : other);
}

/* Opening ************************************************************************************ */

static size_t queue_bytes(const covey_queue *q, size_t home)
{
    return sizeof *q + cv_queue_body_bytes(q, home);
}

static void make(struct cv_pipe *p, const covey_queue *q, size_t home, bool one_way)
{
    char *memory = (char *)p + cv_to_line(sizeof *p);

    memset(p, 0, sizeof *p);
    for (int i = 0; i < 2; i++) { /* into the second end and out of the first, and the other way */
        covey_pipe *writer = &p->end[1 - i];
        covey_pipe *reader = &p->end[i];
        covey_queue *queue = (covey_queue *)(void *)memory;

        reader->other = (uintptr_t)writer;
        if (one_way && i == 1)
            continue;
        cv_alarm_init(queue->bell.alarm, CV_QUEUE_BELLS);
        cv_queue_make(queue, queue + 1, q, home);
        cv_queue_more(queue)->writers = (uintptr_t)&writer->users;
        cv_queue_more(queue)->readers = (uintptr_t)&reader->users;
        writer->outgoing = (uintptr_t)queue;
        reader->incoming = (uintptr_t)queue;
        p->queue[i] = (uintptr_t)queue;
        memory += queue_bytes(q, home);
    }
    p->end[0].users.since_ns = p->end[1].users.since_ns = cv_clock_since_boot();
    p->end[0].users.other = (uintptr_t)&p->end[1].users;
    p->end[1].users.other = (uintptr_t)&p->end[0].users;
    (void)cv_users_be(&p->end[0].users, CV_USER_EXPECTED);
    (void)cv_users_be(&p->end[1].users, CV_USER_EXPECTED);
    cv_object_begin(&p->end[1], CV_PIPE);
    cv_object_begin(&p->end[0], CV_PIPE);
}

int covey_pipe_open_with(const struct covey_pipe_options *options)
{
    struct covey_pipe_options o;
    struct covey_queue_options qo = {0};
    covey_queue q = {.has_writers = true, .has_readers = true};
    struct cv_pipe *p;
    size_t home;
    int r = cv_options_read(&o, sizeof o, options, "covey_pipe_options");

    if (r == 0 && (!o.first || !o.second))
        return cv_fail(COVEY_EINVAL, "%s is NULL: there is no place for that end",
            o.first ? "second" : "first");
    if (r == 0 && o.first == o.second)
        return cv_fail(COVEY_EINVAL, "first and second are one place, for two ends");
    qo.bytes = o.bytes;
    if (r == 0)
        r = cv_queue_read_options(&q, &qo, HOME_BYTES, &home);
    if (r == 0)
        r = cv_enter();
    if (r != 0)
        return r;
    p = cv_heap_alloc(cv_to_line(sizeof *p) + (o.one_way ? 1 : 2) * queue_bytes(&q, home),
        CV_QUEUE_LINE, cv_my_short_tag());
    if (!p)
        return covey_error_code();
    make(p, &q, home, o.one_way);
    cv_store_relaxed(&cv_arena.family->has_pipes, 1);
    *o.first = &p->end[0];
    *o.second = &p->end[1];
    return 0;
}

/* Ending ************************************************************************************* */

/* For certain only in the lock. */
static bool is_there(covey_pipe *end)
{
    return cv_object_is(end, CV_PIPE) && cv_object_is(&pipe_of(end)->end[0], CV_PIPE);
}

static void let_go(const struct cv_pipe *p)
{
    cv_lock_exit(&cv_arena.family->pipe_lock[cv_pipe_lock(p)].word);
    cv_alarm_clear();
}

/* Its alarm stays pending until let_go(). */
static int take_lock(unsigned i, uint64_t until_ns)
{
    uint64_t *word = &cv_arena.family->pipe_lock[i].word;
    uint32_t *alarm = cv_arena.family->pipe_lock[i].alarm;
    struct cv_wait wait = {.deadline_ns = until_ns};
    int r;

    cv_alarm_set(alarm);
    do {
        r = cv_lock_try(word) ? 0 : cv_lock_take_slowly(word, cv_self.mark, alarm, &wait);
    } while (r == COVEY_EINTR && until_ns == CV_FOREVER);
    wait.alarm = NULL;
    cv_wait_end(&wait);
    if (r == COVEY_EOWNERDEAD)
        r = 0;
    if (r != 0)
        cv_alarm_clear();
    return r;
}

/* Into the lock of the pipe that has the end: 0; or, without a message, COVEY_EINVAL: there is none any more; or
 * COVEY_ETIMEDOUT: others had it until then; with a message COVEY_EINTR, but not with CV_FOREVER. */
static int enter(covey_pipe *end, uint64_t until_ns, struct cv_pipe **pipe)
{
    struct cv_pipe *p = pipe_of(end);
    int r = take_lock(cv_pipe_lock(p), until_ns);

    if (r != 0)
        return r;
    if (is_there(end) && pipe_of(end) == p) {
        *pipe = p;
        return 0;
    }
    let_go(p);
    return COVEY_EINVAL;
}

/* For what can be left to others, of which there may be much: who has waited in vain does not wait again for a
 * while. */
static int enter_soon(covey_pipe *end, struct cv_pipe **pipe)
{
    static uint64_t impatient_until_ns; /* any thread */
    int r = enter(end, 0, pipe);

    if (r != COVEY_ETIMEDOUT || cv_clock_now() < cv_load_relaxed(&impatient_until_ns))
        return r;
    r = enter(end, cv_clock_now() + CV_LOCK_PATIENCE_NS, pipe);
    if (r == COVEY_ETIMEDOUT)
        cv_store_relaxed(&impatient_until_ns, cv_clock_now() + IMPATIENCE_NS);
    return r;
}

static int name_limit(const covey_pipe *end, int r)
{
    return r == COVEY_ELIMIT
               ? cv_fail(r,
                     "end %p of a pipe has %d holders, on their way or not, as many as can be",
                     (const void *)end, CV_CELLS_MAX)
               : r;
}

/* The same, when the user @mark has a cell of the end; COVEY_EINVAL and others with a message. */
static int enter_with_cell(covey_pipe *end, uint64_t mark, uint64_t until_ns, struct cv_pipe **pipe)
{
    int r;

    *pipe = NULL;
    while ((r = enter(end, until_ns, pipe)) == 0 && !cv_users_claim(&end->users, mark)) {
        unsigned blocks = cv_cells_blocks(&end->users.cells);
        void *more;

        let_go(*pipe);
        more = cv_cells_allocate(blocks);
        if (!more)
            return name_limit(end, covey_error_code());
        r = enter(end, until_ns, pipe);
        if (r != 0) {
            (void)cv_heap_free(more);
            break;
        }
        cv_cells_add(&end->users.cells, blocks, more);
        let_go(*pipe);
    }
    return r == COVEY_EINVAL ? cv_fail_object(end, "pipe") : r;
}

/* The users of an end have changed. */
static void tell(const covey_pipe *end)
{
    if (end->incoming)
        cv_queue_wake_all(queue_at(end->incoming));
    if (end->outgoing)
        cv_queue_wake_all(queue_at(end->outgoing));
}

/*
 * It is a process's own, or the queue's. As long as it has a cell, it is there; it is dropped and freed in the
 * pipe's lock.
 *
 * Its owner ends it by @over: 1 is the commit, and stays. From then on it holds nothing for those who wait, its
 * owner does not touch it any more, and whoever leaves the lock takes it, whosever it is, drops and frees it. So
 * its owner then enters the lock, and leaves it. If others have that for too long, he leaves the ticket to the next
 * one who leaves. There may be none, but it is his own still: it ends when he does, at the latest.
 *
 * A dead owner's has a cell or not, and is over or not. Who buries him takes it in the lock, drops and frees it; or
 * leaves it to him, if he cannot have the lock. Until then it holds nothing for those who wait (msg/users.c), for
 * nobody can get it any more.
 *
 * For who decides in the lock whether the pipe ends, each ticket that has a cell counts: somebody is still about to
 * end it. Before he drops one himself, he makes the pipe's block his own: should he die before he has found a holder,
 * who buries him looks for one. The other way round a kill would leave a pipe that nobody looks after.
 *
 * Who is stopped before the commit holds the end still; after it, the others go on; in the lock, he holds up who
 * waits for that (msg/pipe.h).
 */
struct ticket {
    uint64_t signature;
    uint64_t end;        /* addresses */
    uint64_t queue;      /* through which it goes */
    struct ticket *next; /* of those that this thread has to end */
    uint64_t over;       /* by its owner, once */
    uint64_t user; /* the mark of who has last begun to put it into the queue, or to take it out */
};

static covey_pipe *end_of(const struct ticket *t)
{
    return (covey_pipe *)(uintptr_t)cv_load_acquire(&t->end);
}

static void free_ticket(struct ticket *t)
{
    cv_object_end(t);
    (void)cv_heap_free(t);
}

bool cv_pipe_ticket_is_over(const void *ticket)
{
    return cv_load_seq(&((const struct ticket *)ticket)->over);
}

/* In the lock: a ticket of this process's. */
static void end_in_lock(struct cv_pipe *p, struct ticket *t)
{
    covey_pipe *end = end_of(t);

    if (CV_RECOVERS(pipe_keep))
        (void)cv_heap_give(p, cv_heap_owner(p, NULL), cv_my_short_tag());
    (void)cv_users_drop(&end->users, cv_users_ticket(t));
    tell(end);
    free_ticket(t);
}

static void end_those_over(struct cv_pipe *p, struct cv_cells *cells)
{
    const struct cv_cell *cell;

    for (uint32_t i = 1; (cell = cv_cells_at(cells, i)); i++) {
        uint64_t mark = cv_load_acquire(&cell->mark);
        struct ticket *t = cv_users_is_ticket(mark) ? cv_users_ticket_block(mark) : NULL;

        if (t && cv_pipe_ticket_is_over(t) &&
            cv_heap_give(t, cv_heap_owner(t, NULL), cv_my_short_tag()))
            end_in_lock(p, t);
    }
}

static void end_queue(covey_queue *q)
{
    cv_queue_drain(q);
    cv_queue_end(q);
}

/* Of a pipe that nobody holds, and whose block is this process's own. */
static void end_rest(void *block)
{
    struct cv_pipe *p = block;

    for (int i = 0; i < 2; i++) {
        if (p->queue[i] && cv_object_is(queue_at(p->queue[i]), CV_QUEUE))
            end_queue(queue_at(p->queue[i]));
    }
    cv_cells_end(&p->end[0].users.cells);
    cv_cells_end(&p->end[1].users.cells);
    cv_object_end(&p->end[1]);
    cv_object_end(&p->end[0]);
    (void)cv_heap_free(p);
}

static uint64_t count_comings(struct cv_pipe *p)
{
    return cv_users_comings(&p->end[0].users) + cv_users_comings(&p->end[1].users);
}

static uint64_t look_for_holder(struct cv_pipe *p, uint32_t first)
{
    uint64_t mark = cv_users_holder(&p->end[0].users, first);
    uint64_t other = cv_users_holder(&p->end[1].users, first);

    if (!mark || cv_users_is_ticket(mark) || (other && (uint32_t)other == first))
        mark = other ? other : mark;
    if (!mark)
        mark = cv_users_heir(&p->end[0].users);
    return mark ? mark : cv_users_heir(&p->end[1].users);
}

/* Who holds an end: the process with the tag @first, another one, or a ticket. For the holder of the lock:
 * nobody leaves meanwhile, but one may die that has just given an end away. */
static uint64_t find_holder(struct cv_pipe *p, uint32_t first)
{
    uint64_t comings;
    uint64_t mark;

    do {
        comings = count_comings(p);
        mark = look_for_holder(p, first);
    } while (!mark && count_comings(p) != comings);
    return mark;
}

/* Leaves the lock; or ends the pipe, if nobody holds an end. */
static void leave(struct cv_pipe *p)
{
    for (;;) {
        uint32_t owner;
        uint64_t mark;
        uint32_t next;
        bool is_ticket;

        end_those_over(p, &p->end[0].users.cells);
        end_those_over(p, &p->end[1].users.cells);
        owner = cv_heap_owner(p, NULL);
        mark = find_holder(p, owner);
        is_ticket = cv_users_is_ticket(mark);
        next = !mark ? cv_my_short_tag() : is_ticket ? (uint32_t)CV_OWNER_OBJECT : (uint32_t)mark;
        if (owner != next && !cv_heap_give(p, owner, next))
            continue;
        if (mark && !is_ticket && !cv_users_can_hold(mark)) /* its burial may have asked before */
            continue;
        if (!mark)
            cv_object_begin(&p->end[0], CV_ENDED_PIPE);
        let_go(p);
        if (!mark)
            end_rest(p);
        return;
    }
}

/* Somebody who had the block has died. */
static enum cv_ending inherit(void *block, uint32_t owner)
{
    struct cv_pipe *p;
    int r = enter_soon(block, &p);

    if (r != 0)
        return r == COVEY_EINVAL ? CV_END_DONE : CV_END_NOT_NOW;
    if (cv_heap_give(p, owner, cv_my_short_tag()))
        leave(p);
    else
        let_go(p);
    return CV_END_DONE;
}

__attribute__((constructor)) static void register_end(void)
{
    cv_object_set_inherit(CV_PIPE, inherit);
    cv_object_set_end(CV_ENDED_PIPE, end_rest);
}

/*
 * What this process holds, as far as it remembers; so it need not look at what may be no pipe any more. Private
 * memory: a word is written by a thread that begins to hold an end, and by one that closes it, each time whole; what is
 * there from before a fork, or another family, has another nonce in it.
 *
 * One that is lost is found again in the end itself, without the lock: a cell that says there that this process is
 * here is true, for until it says something else, which only this process can make it do, the pipe does not end. (A cell
 * that does not lie in the end need not be there.)
 */
enum {
    MEMORIES = 64
};

static uint64_t memories[MEMORIES];

static uint64_t *memory_of(const covey_pipe *end)
{
    return &memories[cv_hash((uintptr_t)end) % MEMORIES];
}

static uint64_t as_held(const covey_pipe *end)
{
    return (uintptr_t)end ^ cv_self.nonce * CV_HASH;
}

static bool remembers(const covey_pipe *end)
{
    return cv_load_relaxed(memory_of(end)) == as_held(end);
}

static void remember(const covey_pipe *end)
{
    cv_store_relaxed(memory_of(end), as_held(end));
}

static bool holds(const covey_pipe *end)
{
    if (!remembers(end) && cv_users_are_here(&end->users))
        remember(end);
    return remembers(end);
}

static void forget(const covey_pipe *end)
{
    if (remembers(end))
        cv_store_relaxed(memory_of(end), 0);
}

static int check_nothing_in_hand(const covey_pipe *end)
{
    int r = end->outgoing ? cv_queue_check_put(queue_at(end->outgoing)) : 0;

    return r == 0 && end->incoming ? cv_queue_check_get(queue_at(end->incoming)) : r;
}

int covey_pipe_close(covey_pipe *pipe)
{
    struct cv_pipe *p;
    int r = pipe ? check(pipe) : 0;
    bool held = r == 0 && pipe && holds(pipe);

    if (held)
        r = check_nothing_in_hand(pipe);
    if (!pipe || r != 0)
        return r;
    if (held && pipe->incoming)
        (void)cv_watch_close(queue_at(pipe->incoming));
    r = enter_with_cell(pipe, cv_users_process(cv_self.tag), CV_FOREVER, &p);
    if (r != 0)
        return r;
    if (!held && cv_users_own(&pipe->users) == CV_USER_HERE) { /* which could not be seen */
        remember(pipe);
        let_go(p);
        return covey_pipe_close(pipe);
    }
    forget(pipe);
    (void)cv_users_be(&pipe->users, CV_USER_LEFT);
    tell(pipe);
    leave(p);
    return 0;
}

/* Using ************************************************************************************** */

/* This process holds the end from here on: 0, or a code with its message. */
static int be_here(covey_pipe *end)
{
    int r = cv_users_be(&end->users, CV_USER_HERE);

    if (r > 0)
        tell(end);
    return r < 0 ? r : 0;
}

/* For the first time: others who hold it may go meanwhile. COVEY_ETIMEDOUT without a message. */
CV_SLOW static int come_first(covey_pipe *end, uint64_t until_ns)
{
    struct cv_pipe *p;
    bool has_left;
    int r = enter_with_cell(end, cv_users_process(cv_self.tag), until_ns, &p);

    if (r != 0)
        return r;
    has_left = cv_users_own(&end->users) == CV_USER_LEFT;
    if (!has_left) {
        (void)be_here(end);
        remember(end);
    }
    let_go(p);
    return has_left ? cv_fail(COVEY_ESTATE, "this process has closed end %p of a pipe", (void *)end)
                    : 0;
}

static int come(covey_pipe *end)
{
    return holds(end) ? 0 : come_first(end, CV_FOREVER);
}

/* Others are in the lock: as long as with a queue's own. What is left then of the time is for what comes after it. */
CV_SLOW static int come_late(covey_pipe *end, double *timeout_s, uint64_t deadline_ns)
{
    uint64_t until_ns = cv_clock_now() + CV_LOCK_PATIENCE_NS;
    uint64_t now;
    int r;

    if (deadline_ns > until_ns)
        until_ns = cv_lock_until(deadline_ns);
    r = come_first(end, until_ns);
    now = cv_clock_now();
    if (r == 0 && deadline_ns != CV_FOREVER)
        *timeout_s = deadline_ns > now ? (double)(deadline_ns - now) / CV_NS_PER_S : 0;
    return r;
}

/* The same, or @late if others were in the lock for all the time. */
static int come_in_time(covey_pipe *end, double *timeout_s, int late)
{
    uint64_t deadline_ns;
    int r;

    if (holds(end))
        return 0;
    r = cv_clock_deadline(*timeout_s, &deadline_ns);
    if (r == 0)
        r = come_first(end, 0);
    if (r == COVEY_ETIMEDOUT)
        r = come_late(end, timeout_s, deadline_ns);
    return r == COVEY_ETIMEDOUT
               ? cv_fail(late,
                     "end %p of a pipe could not be begun to use within %g s: others do that, too",
                     (void *)end, *timeout_s)
               : r;
}

int covey_pipe_hold(covey_pipe *pipe)
{
    int r = check(pipe);

    return r != 0 ? r : come(pipe);
}

static int check_way(const covey_pipe *end, uint64_t queue, const char *does)
{
    return queue
               ? 0
               : cv_fail(COVEY_ESTATE, "end %p of a one-way pipe only %s", (const void *)end, does);
}

static int name_end(const covey_pipe *end, int r)
{
    pid_t lost = r == COVEY_ECLOSED ? cv_users_lost(&other_end(end)->users) : 0;

    if (r != COVEY_ECLOSED)
        return r;
    return lost ? cv_fail(r, "nobody holds the other end of pipe %p: process %d has ended",
                      (const void *)end, (int)lost)
                : cv_fail(r, "nobody holds the other end of pipe %p", (const void *)end);
}

int covey_pipe_send(covey_pipe *pipe, const void *message, size_t size, double timeout_s)
{
    int r = check(pipe);

    if (r == 0)
        r = check_way(pipe, pipe->outgoing, "receives");
    if (r != 0)
        return r;
    if (timeout_s == timeout_s && remembers(pipe) &&
        cv_queue_send_quickly(queue_at(pipe->outgoing), message, size))
        return 0;
    r = come_in_time(pipe, &timeout_s, COVEY_EFULL);
    return r != 0 ? r
                  : name_end(
                        pipe, covey_queue_put(queue_at(pipe->outgoing), message, size, timeout_s));
}

static int check_receives(const covey_pipe *pipe)
{
    int r = check(pipe);

    return r != 0 ? r : check_way(pipe, pipe->incoming, "sends");
}

static int begin_to_receive(covey_pipe *pipe, double *timeout_s)
{
    int r = check_receives(pipe);

    return r != 0 ? r : come_in_time(pipe, timeout_s, COVEY_EEMPTY);
}

static int hold_to_receive(covey_pipe *pipe)
{
    int r = check_receives(pipe);

    return r != 0 ? r : come(pipe);
}

int covey_pipe_receive(covey_pipe *pipe, void *message, size_t room, size_t *size, double timeout_s)
{
    int r = begin_to_receive(pipe, &timeout_s);

    return r != 0 ? r
                  : name_end(pipe,
                        covey_queue_get(queue_at(pipe->incoming), message, room, size, timeout_s));
}

int covey_pipe_receive_exactly(covey_pipe *pipe, void *message, size_t size, double timeout_s)
{
    int r = begin_to_receive(pipe, &timeout_s);

    return r != 0 ? r
                  : name_end(pipe, covey_queue_get_exactly(
                                       queue_at(pipe->incoming), message, size, timeout_s));
}

int covey_pipe_poll(covey_pipe *pipe, double timeout_s)
{
    int r = begin_to_receive(pipe, &timeout_s);

    if (r == COVEY_EEMPTY)
        return 0;
    return r != 0 ? r : cv_queue_poll(queue_at(pipe->incoming), timeout_s);
}

covey_queue *covey_pipe_outgoing(covey_pipe *pipe)
{
    return check(pipe) == 0 && check_way(pipe, pipe->outgoing, "receives") == 0 && come(pipe) == 0
               ? queue_at(pipe->outgoing)
               : NULL;
}

covey_queue *covey_pipe_incoming(covey_pipe *pipe)
{
    return hold_to_receive(pipe) == 0 ? queue_at(pipe->incoming) : NULL;
}

/* For others that wait *********************************************************************** */

/* Nobody waits here for the lock: the others do not wait for that. */
static int try_to_come(covey_pipe *pipe)
{
    return holds(pipe) ? 0 : come_first(pipe, 0);
}

static int check_for_any(void *object)
{
    int r = check_receives(object);

    if (r == 0)
        r = try_to_come(object);
    return r == COVEY_ETIMEDOUT ? 0 : r;
}

/* Others are in the lock: it is to be looked at soon. No wake is for who waits for it here. */
static int look_later(covey_pipe *end, struct cv_target *target, struct cv_watched_lives *lives)
{
    unsigned i = cv_pipe_lock(pipe_of(end));
    uint64_t *word = &cv_arena.family->pipe_lock[i].word;

    target->alarm = cv_arena.family->pipe_lock[i].alarm;
    target->armed = (struct cv_arming){.gong = cv_alarm_gong(target->alarm)};
    target->words[0] = cv_word_low(word, cv_load_relaxed(word));
    target->n_words = 1;
    cv_watched_lives_add(lives, &(uint64_t){CV_WAIT_POLL}, 1);
    return 0;
}

static int look_for_any(
    void *object, bool arm, struct cv_target *target, struct cv_watched_lives *lives)
{
    covey_pipe *pipe = object;
    int r = check(pipe);

    if (r == 0)
        r = try_to_come(pipe);
    if (r == COVEY_ETIMEDOUT)
        return look_later(pipe, target, lives);
    return r != 0 ? r : cv_queue_look_for_any(queue_at(pipe->incoming), arm, target, lives);
}

static int descriptor(void *object, struct cv_descriptor *own)
{
    const covey_pipe *pipe = object;

    (void)own;
    return holds(pipe) ? cv_queue_watch(queue_at(pipe->incoming)) : COVEY_ETIMEDOUT;
}

__attribute__((constructor)) static void register_kind(void)
{
    static const struct cv_any_kind kind = {check_for_any, look_for_any, descriptor, CV_ANY_SECOND};

    cv_any_set(COVEY_WAIT_PIPE, &kind);
}

int covey_pipe_fd(covey_pipe *pipe)
{
    int r = hold_to_receive(pipe);

    return r != 0 ? r : cv_queue_watch(queue_at(pipe->incoming));
}

int covey_pipe_fd_close(covey_pipe *pipe)
{
    int r = check(pipe);

    if (r == 0)
        (void)cv_watch_close(queue_at(pipe->incoming));
    return r;
}

/* Passing on ********************************************************************************* */

static void end_one(struct ticket *t)
{
    covey_pipe *end = end_of(t);
    struct cv_pipe *p;

    cv_store_seq(&t->over, 1);
    if (enter_soon(end, &p) == 0)
        leave(p);
}

/* With a ticket a pipe may end, and with that the tickets in it: one after the other, not one in the other. A
 * kill leaves them to who buries this process, whose own they are. What a fork in a hook has come into does not
 * count: it is the parent's. */
static void end_ticket(void *block)
{
    static _Thread_local struct ticket *waiting;
    static _Thread_local uint64_t ending;           /* the nonce of the process that does */
    struct robust_list *pending = cv_robust_save(); /* of the operation that this is part of */
    bool first = ending != cv_self.nonce;
    struct ticket *t = block;

    t->next = first ? NULL : waiting;
    waiting = t;
    if (!first)
        return;
    ending = cv_self.nonce;
    while ((t = waiting)) {
        waiting = t->next;
        end_one(t);
    }
    ending = 0;
    cv_robust_restore(pending);
}

/* Its owner has died. Where it is said to end counts only as long as it is his still. */
static enum cv_ending inherit_ticket(void *block, uint32_t owner)
{
    struct ticket *t = block;
    covey_pipe *end = end_of(t);
    struct cv_pipe *p;
    int r;

    if (cv_heap_owner(t, NULL) != owner)
        return CV_END_DONE;
    r = enter_soon(end, &p);
    if (r != 0 && r != COVEY_EINVAL)
        return CV_END_NOT_NOW;
    if (cv_heap_give(t, owner, cv_my_short_tag())) {
        if (r == 0)
            end_in_lock(p, t);
        else
            free_ticket(t);
    }
    if (r == 0)
        leave(p);
    return CV_END_DONE;
}

__attribute__((constructor)) static void register_end_of_ticket(void)
{
    cv_object_set_end(CV_TICKET, end_ticket);
    cv_object_set_inherit(CV_TICKET, inherit_ticket);
}

static int check_queue(const covey_queue *q)
{
    int r = cv_object_check(q, CV_QUEUE);

    return r == 0 ? cv_queue_check_objects(q) : r;
}

/* Nobody could get it but who has it, and it would stay there for ever. */
static int check_not_own(const covey_queue *q, const covey_pipe *end)
{
    uint64_t address = (uintptr_t)q;

    return address == end->incoming || address == end->outgoing
               ? cv_fail(COVEY_EINVAL, "end %p of a pipe cannot go through its own pipe",
                     (const void *)end)
               : 0;
}

int covey_pipe_put(covey_queue *queue, covey_pipe *pipe, double timeout_s)
{
    struct ticket *t;
    int r = check(pipe);

    if (r == 0)
        r = check_queue(queue);
    if (r == 0)
        r = check_not_own(queue, pipe);
    if (r == 0)
        r = come_in_time(pipe, &timeout_s, COVEY_EFULL);
    if (r != 0)
        return r;
    t = cv_heap_alloc(sizeof *t, CV_GRAIN_BYTES, cv_my_short_tag());
    if (!t)
        return covey_error_code();
    t->end = (uintptr_t)pipe;
    t->queue = (uintptr_t)queue;
    t->over = 0;
    t->user = cv_self.mark;
    cv_object_begin(t, CV_TICKET);
    r = name_limit(pipe, cv_users_give(&pipe->users, cv_users_ticket(t)));
    if (r != 0) { /* it has no cell */
        free_ticket(t);
        return r;
    }
    r = cv_queue_put_block(queue, t, sizeof *t, timeout_s);
    if (r != 0)
        end_ticket(t);
    return r;
}

static uint64_t owner_of(const void *block)
{
    return cv_member_of_short(cv_heap_owner(block, NULL));
}

void cv_pipe_settle(void *ticket)
{
    struct ticket *t = ticket;
    covey_queue *q = queue_at(cv_load_relaxed(&t->queue));

    if (cv_object_is(t, CV_TICKET) && cv_object_is(q, CV_QUEUE))
        cv_queue_mend_after(q, cv_load_acquire(&t->user));
}

uint64_t cv_pipe_ticket_holder(void *ticket)
{
    struct ticket *t = ticket;
    uint64_t tag = owner_of(t);

    return tag ? tag : owner_of(queue_at(cv_load_relaxed(&t->queue)));
}

/* The ticket is in the queue still: should this process die here, nothing has changed. */
static int hold_end(void *ticket)
{
    struct ticket *t = ticket;

    cv_store_release(&t->user, cv_self.mark);
    return be_here(end_of(t));
}

int covey_pipe_get(covey_queue *queue, covey_pipe **pipe, double timeout_s)
{
    struct cv_getting g = {.n = 1, .takes_block = true, .kind = CV_TICKET, .accept = hold_end};
    int r = check_queue(queue);

    if (r == 0 && !pipe)
        return cv_fail(COVEY_EINVAL, "pipe is NULL: there is no place for the end");
    if (r == 0)
        r = cv_queue_get(queue, &g, timeout_s);
    if (r != 0)
        return r;
    *pipe = end_of(g.block);
    end_ticket(g.block);
    return 0;
}

/* Calls @visit for each end whose address is in the argument, until that fails. */
static int each_end(
    uint64_t mark, const void *argument, size_t size, int (*visit)(covey_pipe *end, uint64_t mark))
{
    const char *p = argument;
    int r = 0;

    /* An argument has gaps that were never written: where there are no pipes, nothing depends on them. */
    if (!cv_load_relaxed(&cv_arena.family->has_pipes))
        return 0;
    for (size_t i = 0; r == 0 && i + sizeof(uint64_t) <= size; i += sizeof(uint64_t)) {
        uint64_t address;

        memcpy(&address, p + i, sizeof address);
        if (cv_object_is((void *)(uintptr_t)address, CV_PIPE))
            r = visit((covey_pipe *)(uintptr_t)address, mark);
    }
    return r;
}

/* Should nobody hold it any more, it is no pipe. */
static int expect(covey_pipe *end, uint64_t mark)
{
    struct cv_pipe *p;
    int r = enter_with_cell(end, mark, CV_FOREVER, &p);

    if (r != 0)
        return r == COVEY_EINVAL ? 0 : r;
    (void)cv_users_expect(&end->users, mark);
    let_go(p);
    return 0;
}

static int withdraw(covey_pipe *end, uint64_t mark)
{
    struct cv_pipe *p;

    if (enter(end, CV_FOREVER, &p) == 0) {
        (void)cv_users_drop(&end->users, mark);
        tell(end);
        leave(p);
    }
    return 0;
}

/* Its cell may be another's, if it has died already. */
static int give(covey_pipe *end, uint64_t mark)
{
    struct cv_pipe *p;

    if (enter_with_cell(end, mark, CV_FOREVER, &p) == 0) {
        (void)cv_users_give(&end->users, mark);
        tell(end); /* whom to watch, too */
        let_go(p);
    }
    return 0;
}

int cv_pipe_expect(uint64_t tag, const void *argument, size_t size)
{
    return each_end(cv_users_process(tag), argument, size, expect);
}

void cv_pipe_withdraw(uint64_t tag, const void *argument, size_t size)
{
    (void)each_end(cv_users_process(tag), argument, size, withdraw);
}

void cv_pipe_hand_over(uint64_t tag, const void *argument, size_t size)
{
    (void)each_end(cv_users_process(tag), argument, size, give);
}
