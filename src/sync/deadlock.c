/* SPDX-License-Identifier: MIT */
#include "sync/deadlock.h"

#include "base/error.h"
#include "os/clock.h"
#include "os/pid.h"
#include "sync/holders.h"
#include "sync/rwlock.h"
#include "sync/semaphore.h"

#include <stdio.h>
#include <string.h>

enum {
    DEPTH_MAX = 32, /* of the walk: a longer chain is no deadlock for us */
    SEEN_MAX = 128, /* waits looked at */
    HOLDERS_MAX = 64,
    THREADS_MAX = 256,
    TEXT_BYTES = 300,
    END_BYTES = 40,               /* of it, for how a circle ends that does not fit */
    ENDS_NS = 100 * CV_NS_PER_MS, /* for a process to be dead that has begun to die */
};

struct seen {
    struct cv_waiter *waiter;
    uint64_t number;
    uint64_t object;
};

struct walk {
    struct cv_waiter *me;
    uint64_t number;              /* my wait's */
    struct seen stack[DEPTH_MAX]; /* from me to where the walk is */
    unsigned depth;
    struct seen seen[SEEN_MAX]; /* all, in order */
    unsigned n;
    bool closed; /* a chain has come back to me: */
    struct seen circle[DEPTH_MAX];
    unsigned circle_length;
};

static bool is_stuck(struct walk *k, struct cv_waiter *w);

static bool is_thread_stuck(struct walk *k, uint64_t tag, uint32_t tid)
{
    struct cv_waiter *w = cv_waiter_of(tag, tid);

    return w && is_stuck(k, w);
}

static bool is_process_stuck(struct walk *k, uint64_t tag)
{
    uint32_t tids[THREADS_MAX];
    unsigned n = cv_pid_threads(cv_member_pid(tag), tids, THREADS_MAX);
    bool stuck = n > 0 && n <= THREADS_MAX;

    for (unsigned i = 0; stuck && i < n; i++)
        stuck = is_thread_stuck(k, tag, tids[i]);
    return stuck;
}

static bool is_dead(uint64_t tag)
{
    return cv_member_is_dead(tag, ENDS_NS);
}

static bool is_holder_stuck(struct walk *k, const struct cv_hold *hold)
{
    uint64_t tag = cv_member_marked(hold->mark);

    if (!tag || is_dead(tag))
        return false;
    return hold->tid ? is_thread_stuck(k, tag, hold->tid) : is_process_stuck(k, tag);
}

/* Do all holders wait (for a semaphore), or any (for an rwlock)? Of too many, who knows of all? */
static bool are_holders_stuck(struct walk *k, void *object, enum cv_kind kind)
{
    struct cv_hold holds[HOLDERS_MAX];
    unsigned n = cv_holders_of(object, kind, holds, HOLDERS_MAX);
    bool any_is_enough = kind == CV_RWLOCK;

    if (n == HOLDERS_MAX && !any_is_enough)
        return false;
    for (unsigned i = 0; i < n; i++) {
        if (is_holder_stuck(k, &holds[i]) == any_is_enough)
            return any_is_enough;
    }
    return n > 0 && !any_is_enough;
}

/* With a permit free, the waiter has been woken for it, and need only go on. */
static bool is_semaphore_stuck(struct walk *k, covey_semaphore *s)
{
    const uint64_t *word = &cv_semaphore_share(s)->word;
    bool is_used_as_such = cv_object_is(s, CV_SEMAPHORE) && !cv_load_relaxed(&s->signals_);
    uint64_t before = is_used_as_such ? cv_load_seq(word) : 0;

    return before && cv_share_free(before) == 0 && are_holders_stuck(k, s, CV_SEMAPHORE) &&
           ((cv_load_seq(word) ^ before) & ~CV_SHARE_SLEEPERS) == 0;
}

static bool is_gate_stuck(struct walk *k, covey_rwlock *lock, uint64_t waiter)
{
    uint64_t gate = cv_object_is(lock, CV_RWLOCK) ? cv_rwlock_gate(lock) : 0;

    return gate && gate != waiter && is_process_stuck(k, gate);
}

/* Readers that nobody keeps out but the writer at the gate do not wait for other readers. */
static bool is_rwlock_stuck(struct walk *k, covey_rwlock *lock, uint64_t waiter)
{
    bool waits_for_holders = cv_object_is(lock, CV_RWLOCK) &&
                             (cv_rwlock_gate(lock) == waiter ||
                                 cv_share_free(cv_load_seq(&cv_rwlock_share(lock)->word)) == 0);

    return is_gate_stuck(k, lock, waiter) ||
           (waits_for_holders && are_holders_stuck(k, lock, CV_RWLOCK));
}

static bool is_object_stuck(struct walk *k, uint64_t object, uint64_t waiter)
{
    void *p = cv_waiter_address(object);
    struct cv_hold hold;

    switch (cv_waiter_kind(object)) {
    case CV_LOCK:
    case CV_RLOCK:
        return cv_holders_of(p, cv_waiter_kind(object), &hold, 1) && hold.tid &&
               is_holder_stuck(k, &hold);
    case CV_RWLOCK:
        return is_rwlock_stuck(k, p, waiter);
    case CV_SEMAPHORE:
        return is_semaphore_stuck(k, p);
    case CV_PROCESS:
        return is_process_stuck(k, cv_member_tag_at(p));
    default:
        return false;
    }
}

static bool is_on_stack(struct walk *k, const struct cv_waiter *w)
{
    for (unsigned i = 0; i < k->depth; i++) {
        if (k->stack[i].waiter == w)
            return true;
    }
    return false;
}

static bool is_stuck(struct walk *k, struct cv_waiter *w)
{
    struct seen s = {w, cv_load_seq(&w->number), cv_load_seq(&w->object)};
    bool stuck;

    if (w == k->me && k->depth > 0 && !k->closed) {
        k->closed = true;
        k->circle_length = k->depth;
        memcpy(k->circle, k->stack, sizeof k->circle);
    }
    if (is_on_stack(k, w))
        return true;
    if (!s.object || s.number == 0 || k->depth == DEPTH_MAX || k->n == SEEN_MAX)
        return false;
    if (w != k->me && (s.number >= k->number || is_dead(cv_load_acquire(&w->owner))))
        return false;
    k->seen[k->n++] = s;
    k->stack[k->depth++] = s;
    stuck = is_object_stuck(k, s.object, cv_load_acquire(&w->owner));
    k->depth--;
    return stuck;
}

static bool is_same(const struct walk *a, const struct walk *b)
{
    if (a->n != b->n)
        return false;
    for (unsigned i = 0; i < a->n; i++) {
        if (a->seen[i].waiter != b->seen[i].waiter || a->seen[i].number != b->seen[i].number ||
            a->seen[i].object != b->seen[i].object)
            return false;
    }
    return true;
}

static bool walk(struct walk *k, struct cv_waiter *me)
{
    *k = (struct walk){.me = me, .number = cv_load_seq(&me->number)};
    return is_stuck(k, me) && k->closed;
}

/* What the one at @i waits for, and who has it; returns how long that is. */
static size_t name_link(const struct walk *k, unsigned i, char *text, size_t room)
{
    const struct seen *next = &k->circle[(i + 1) % k->circle_length];
    enum cv_kind kind = cv_waiter_kind(k->circle[i].object);
    const char *who = i == 0 ? "this thread" : ", which";
    pid_t pid = cv_member_pid(cv_load_acquire(&next->waiter->owner));
    uint32_t tid = cv_load_relaxed(&next->waiter->tid);

    if (kind == CV_PROCESS)
        return (size_t)snprintf(
            text, room, "%s waits for the end of process %d (thread %u)", who, (int)pid, tid);
    return (size_t)snprintf(text, room, "%s waits for %s %p, held by process %d (thread %u)", who,
        cv_object_name(kind), cv_waiter_address(k->circle[i].object), (int)pid, tid);
}

static int fail_naming(const struct walk *k)
{
    char text[TEXT_BYTES];
    size_t length = 0;

    for (unsigned i = 0; i < k->circle_length; i++) {
        size_t n = name_link(k, i, text + length, sizeof text - length);
        size_t end = i + 1 < k->circle_length ? END_BYTES : 1;

        if (length + n + end > sizeof text) {
            (void)snprintf(text + length, sizeof text - length, ", and so on: %u threads in all",
                k->circle_length);
            break;
        }
        length += n;
    }
    return cv_fail(COVEY_EDEADLK, "deadlock: %s%s", text,
        k->circle_length == 1 ? ", which is this thread itself" : "");
}

/* Do all others that were seen still wait? */
static bool others_wait(const struct walk *k)
{
    for (unsigned i = 1; i < k->n; i++) {
        if (cv_load_seq(&k->seen[i].waiter->number) != k->seen[i].number ||
            cv_load_seq(&k->seen[i].waiter->object) != k->seen[i].object)
            return false;
    }
    return true;
}

int cv_deadlock_check(struct cv_waiter *waiter)
{
    uint64_t object = cv_load_relaxed(&waiter->object);
    struct walk first;
    struct walk second;

    while (walk(&first, waiter) && walk(&second, waiter) && is_same(&first, &second)) {
        cv_waiter_hide(waiter);
        if (others_wait(&second))
            return fail_naming(&second);
        cv_waiter_show(waiter, object);
    }
    return 0;
}
