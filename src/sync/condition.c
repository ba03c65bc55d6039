/* SPDX-License-Identifier: MIT */
#include "sync/condition.h"

#include "base/error.h"
#include "base/mutation.h"
#include "sync/lock.h"
#include "sync/wait.h"

#include <limits.h>

/* The signal of a record: one of these, the flag, and above it the count of waits. */
enum {
    NOTHING,
    WAITING,
    NOTIFIED,
    PHASES = 3, /* the bits */
    SLEEPS = 4,
    ONE_WAIT = 8,
    INDEX_BITS = 18, /* of a record */
    COUNT_MASK = (1 << (32 - INDEX_BITS)) - 1,
};

_Static_assert(CV_MEMBERS_MAX *CV_WAITERS_PER_MEMBER <= 1 << INDEX_BITS, "a record has a number");

static covey_lock *lock_of(const covey_condition *c)
{
    return (covey_lock *)(uintptr_t)c->lock_;
}

/* The lock's kind, if this thread or process holds it; 0 with a message. */
static enum cv_kind held_kind(const covey_condition *c)
{
    const covey_lock *lock = lock_of(c);
    enum cv_kind kind = cv_object_is(lock, CV_LOCK)    ? CV_LOCK
                        : cv_object_is(lock, CV_RLOCK) ? CV_RLOCK
                                                       : 0;
    uint64_t holder = kind ? cv_lock_holder(lock) : 0;
    bool held =
        kind == CV_RLOCK ? holder == cv_waiter_me() : kind && cv_mark_is_of(holder, cv_self.mark);

    if (!kind)
        (void)cv_fail(COVEY_EINVAL, "the lock of condition %p was destroyed", (const void *)c);
    else if (!held)
        (void)cv_fail(COVEY_ENOTHELD, "the lock of condition %p is not held by this %s",
            (const void *)c, kind == CV_RLOCK ? "thread" : "process");
    return held ? kind : 0;
}

/* Notifying ********************************************************************************** */

/* The condition's word: the number of the last notification, and above it for whom that was. */
static uint64_t word_make(uint32_t number, const struct cv_waiter *w, uint32_t signal)
{
    return (uint64_t)((signal / ONE_WAIT & COUNT_MASK) << INDEX_BITS | cv_waiter_index(w)) << 32 |
           number;
}

/* Does what is left of the last notification, this thread's or another's. */
static void complete(covey_condition *c, bool begun_here)
{
    uint64_t word = cv_load_seq(&c->word_);
    struct cv_waiter *w;
    uint32_t signal;

    if (!word || (!CV_RECOVERS(condition_complete) && !begun_here))
        return;
    w = cv_waiter_at((uint32_t)(word >> 32) & ((1U << INDEX_BITS) - 1));
    signal = cv_load_seq(&w->signal);
    while ((signal & PHASES) == WAITING && word_make((uint32_t)word, w, signal) == word &&
           cv_load_seq(&w->place) == (uintptr_t)c && cv_load_seq(&c->word_) == word) {
        if (!cv_cas(&w->signal, &signal, (signal & ~(uint32_t)PHASES) | NOTIFIED))
            continue;
        if (signal & SLEEPS)
            (void)cv_futex_wake(&w->gong, 1);
        /* His death might not ring: the others must watch his life. */
        if (CV_RECOVERS(condition_away) && cv_load_seq(&w->away))
            (void)cv_futex_wake(cv_alarm_gong(lock_of(c)->alarm_).word, INT_MAX);
    }
}

struct search {
    uint64_t place;
    struct cv_waiter *oldest; /* of those that are WAITING */
    uint32_t signal;          /* its */
    uint64_t turn;
    uint64_t owner;
    bool is_ending;     /* chosen only if all are */
    uint64_t *notified; /* tags of those that are NOTIFIED, and live */
    unsigned n_notified;
    bool found_living;
    bool found_dead;
};

/* For a while one that has been killed is not dead yet, and its death has rung already. */
static bool is_ending(uint64_t owner)
{
    return CV_RECOVERS(condition_dead) && (!owner || cv_member_is_ending(owner));
}

static bool look_at(struct cv_waiter *w, void *context)
{
    struct search *s = context;
    uint32_t signal = cv_load_seq(&w->signal);
    uint64_t turn = cv_load_relaxed(&w->turn);
    uint64_t owner = cv_load_acquire(&w->owner);
    bool ending;

    if ((signal & PHASES) == NOTHING || cv_load_acquire(&w->place) != s->place)
        return true;
    ending = is_ending(owner);
    if (owner && CV_RECOVERS(condition_dead) && cv_member_is_dead(owner, 0)) {
        s->found_dead = true;
        return true;
    }
    s->found_living |= owner != 0;
    if ((signal & PHASES) == NOTIFIED) {
        if (s->notified && s->n_notified < CV_WAIT_TAGS_MAX && owner != cv_self.tag)
            s->notified[s->n_notified++] = owner;
    } else if (!s->oldest || (ending == s->is_ending ? turn < s->turn : !ending)) {
        s->oldest = w;
        s->signal = signal;
        s->turn = turn;
        s->owner = owner;
        s->is_ending = ending;
    }
    return true;
}

static struct search look(const covey_condition *c, uint64_t *notified)
{
    struct search s = {.place = (uintptr_t)c, .notified = notified};

    cv_waiter_each(cv_load_acquire(&c->came_), look_at, &s);
    return s;
}

/* Has the waiter not given up before it was notified? (It may have gone on, if the lock is not held.) */
static bool is_notified(const struct search *s)
{
    uint32_t now = cv_load_seq(&s->oldest->signal);

    return now / ONE_WAIT == s->signal / ONE_WAIT && (now & PHASES) == NOTIFIED;
}

/*
 * The one who was notified has begun to end since. Others may have looked at him before, for his death has
 * rung, and will not look again; or he was buried as one who waits. So the next one is notified, too.
 */
static bool is_wasted(const struct search *s)
{
    return !s->is_ending && (cv_load_seq(&s->oldest->owner) != s->owner || is_ending(s->owner));
}

/* False when nobody waits. */
static bool notify_one(covey_condition *c)
{
    for (;;) {
        uint64_t word = cv_load_seq(&c->word_);
        uint32_t number = (uint32_t)word == UINT32_MAX ? 1 : (uint32_t)word + 1;
        struct search s;

        complete(c, false);
        s = look(c, NULL);
        if (!s.oldest)
            return false;
        if (!cv_cas64(&c->word_, word, word_make(number, s.oldest, s.signal)))
            continue;
        complete(c, true);
        if (is_notified(&s) && !is_wasted(&s))
            return true;
    }
}

static void pass_on(covey_condition *c, struct cv_waiter *dead, uint64_t tag)
{
    uint32_t signal;

    do {
        if (c)
            complete(c, false); /* perhaps it was the last one to be notified */
        signal = cv_load_seq(&dead->signal);
        if ((signal & PHASES) == NOTHING || cv_load_seq(&dead->owner) != tag)
            return;
        if (c && (signal & PHASES) == NOTIFIED)
            (void)notify_one(c);
    } while (CV_RECOVERS(condition_record) &&
             !cv_cas32(&dead->signal, signal, signal & ~(uint32_t)PHASES));
}

/* Whoever it notifies would sleep on if it were killed before it wakes him. */
void cv_condition_pass_on(struct cv_waiter *dead, uint64_t tag)
{
    covey_condition *c = (covey_condition *)(uintptr_t)cv_load_acquire(&dead->place);
    bool is_there = c && CV_RECOVERS(condition_pass_on) && cv_object_kind(c) == CV_CONDITION;
    bool alarms = is_there && CV_RECOVERS(condition_pass_on_alarm) && !cv_alarm_is_set();

    if (alarms)
        cv_alarm_set(lock_of(c)->alarm_);
    pass_on(is_there ? c : NULL, dead, tag);
    if (alarms)
        cv_alarm_clear();
}

static bool bury(struct cv_waiter *w, void *context)
{
    uint64_t place = *(uint64_t *)context;
    uint64_t owner = cv_load_acquire(&w->owner);

    if (cv_load_acquire(&w->place) == place && owner && cv_member_is_dead(owner, 0))
        (void)cv_member_bury(owner);
    return true;
}

/* Waiting ************************************************************************************ */

static void come(covey_condition *c, struct cv_waiter *w)
{
    uint32_t before = cv_load_relaxed(&w->signal) & ~(uint32_t)(ONE_WAIT - 1);
    uint32_t signal = before + ONE_WAIT + (uint32_t)WAITING;
    uint64_t word = cv_load_seq(&c->word_);

    if (word_make((uint32_t)word, w, signal) == word)
        signal += ONE_WAIT; /* that was for a wait of this record long ago */
    cv_store_relaxed(&w->turn, cv_waiter_turn());
    cv_store_relaxed(&w->signal, signal);
    if (!(cv_load_relaxed(&c->came_) & cv_waiter_bit(w)))
        (void)cv_fetch_or(&c->came_, cv_waiter_bit(w));
    cv_store_seq(&w->place, (uintptr_t)c);
}

/*
 * Sleeps unless somebody is notified meanwhile; then it must know who that is, for if he dies before he
 * goes on, it is perhaps this one's turn.
 */
static int sleep_at(covey_condition *c, struct cv_wait *wait, uint32_t signal)
{
    uint32_t number = (uint32_t)cv_load_seq(&c->word_);
    uint64_t notified[CV_WAIT_TAGS_MAX];
    struct cv_futex_watch gong = {&wait->waiter->gong, 0};
    struct cv_futex_watch words[] = {
        {&wait->waiter->signal, signal}, cv_word_low(&c->word_, number)};
    struct search s;

    complete(c, false);
    s = look(c, notified);
    if (s.found_dead) {
        cv_waiter_each(cv_load_acquire(&c->came_), bury, &s.place);
        return CV_WAIT_AGAIN;
    }
    return cv_wait_sleep(wait, lock_of(c)->alarm_, gong, words, 2, notified, s.n_notified);
}

/* Until it is notified, or gives up: 0, or the reason. */
static int wait_for_signal(covey_condition *c, struct cv_wait *wait)
{
    uint32_t *signal = &wait->waiter->signal;
    int r = 0;

    for (;;) {
        uint32_t now = cv_load_seq(signal);

        if ((now & PHASES) == NOTIFIED)
            return 0;
        if (r < 0 && cv_cas32(signal, now, now & ~(uint32_t)PHASES))
            return r;
        if (r < 0 || cv_wait_spin(wait, signal, now))
            continue;
        if (wait->deadline_ns == 0) {
            complete(c, false);
            r = COVEY_ETIMEDOUT;
        } else if ((now & SLEEPS) || cv_cas32(signal, now, now | SLEEPS)) {
            r = sleep_at(c, wait, now | SLEEPS);
        }
    }
}

/* 0, COVEY_EOWNERDEAD (both: held) or COVEY_EDEADLK. A signal does not keep it from that. */
static int take_lock_again(covey_condition *c, enum cv_kind kind, struct cv_wait *wait)
{
    int r;

    wait->since_ns = 0;
    wait->deadline_ns = CV_FOREVER;
    wait->object = cv_waiter_object(lock_of(c), kind);
    do {
        r = cv_lock_acquire_until(lock_of(c), kind, wait);
    } while (r == COVEY_EINTR);
    return r;
}

static int wait_until(covey_condition *c, double timeout_s, uint64_t deadline_ns)
{
    struct cv_wait wait = {.deadline_ns = deadline_ns, .object = cv_waiter_object(c, CV_CONDITION)};
    enum cv_kind kind = held_kind(c);
    uint32_t count = lock_of(c)->count_;
    int signalled;
    int r;

    if (!kind || !(wait.waiter = cv_waiter_take()))
        return covey_error_code();
    lock_of(c)->count_ = 0;
    cv_alarm_set(lock_of(c)->alarm_);
    come(c, wait.waiter);
    cv_lock_exit(&lock_of(c)->word_);
    signalled = wait_for_signal(c, &wait);
    r = take_lock_again(c, kind, &wait);
    if (r != COVEY_EDEADLK)
        lock_of(c)->count_ = count;
    cv_store_release(
        &wait.waiter->signal, cv_load_relaxed(&wait.waiter->signal) & ~(uint32_t)(ONE_WAIT - 1));
    cv_wait_end(&wait);
    cv_alarm_clear();
    if (r == COVEY_EOWNERDEAD)
        return cv_lock_report_death(&wait);
    if (r == 0 && signalled == COVEY_ETIMEDOUT)
        return cv_fail_late(COVEY_ETIMEDOUT, "condition", c, "was not notified", timeout_s);
    return r != 0 ? r : signalled;
}

/* Public ************************************************************************************* */

int covey_condition_init(covey_condition *condition, void *lock)
{
    int r = cv_object_place(condition, sizeof *condition, CV_CONDITION);

    if (r != 0)
        return r;
    if (!cv_object_is(lock, CV_RLOCK))
        r = cv_object_check(lock, CV_LOCK);
    if (r != 0)
        return r;
    condition->lock_ = (uintptr_t)lock;
    cv_store_relaxed(&condition->came_, 0);
    cv_store_relaxed(&condition->word_, 0);
    cv_object_begin(condition, CV_CONDITION);
    return 0;
}

int covey_condition_wait(covey_condition *condition, double timeout_s)
{
    int r = cv_object_check(condition, CV_CONDITION);
    uint64_t deadline_ns;

    if (r == 0)
        r = cv_clock_deadline(timeout_s, &deadline_ns);
    return r == 0 ? wait_until(condition, timeout_s, deadline_ns) : r;
}

int covey_condition_wait_for(
    covey_condition *condition, int (*is_true)(void *context), void *context, double timeout_s)
{
    int r = cv_object_check(condition, CV_CONDITION);
    uint64_t deadline_ns;

    if (r == 0)
        r = cv_clock_deadline(timeout_s, &deadline_ns);
    if (r != 0)
        return r;
    if (!is_true)
        return cv_fail(COVEY_EINVAL, "is_true is NULL");
    if (!held_kind(condition))
        return covey_error_code();
    while (r == 0 && !is_true(context))
        r = wait_until(condition, timeout_s, deadline_ns);
    if (r != COVEY_ETIMEDOUT)
        return r;
    return is_true(context)
               ? 0
               : cv_fail(r, "not true within %g s, at condition %p", timeout_s, (void *)condition);
}

int covey_condition_notify(covey_condition *condition, long n)
{
    int r = cv_object_check(condition, CV_CONDITION);

    if (r != 0)
        return r;
    if (n < 0)
        return cv_fail(COVEY_EINVAL, "n is %ld: negative", n);
    if (!held_kind(condition))
        return covey_error_code();
    if (!cv_load_acquire(&condition->came_)) /* nobody ever */
        return 0;
    cv_alarm_set(lock_of(condition)->alarm_);
    while (n-- > 0 && notify_one(condition)) {
    }
    cv_alarm_clear();
    return 0;
}

int covey_condition_notify_all(covey_condition *condition)
{
    return covey_condition_notify(condition, LONG_MAX);
}

int covey_condition_destroy(covey_condition *condition)
{
    int r = cv_object_check(condition, CV_CONDITION);

    if (r != 0)
        return r;
    if (look(condition, NULL).found_living)
        return cv_fail(COVEY_ESTATE, "somebody waits at condition %p", (void *)condition);
    cv_object_end(condition);
    return 0;
}
