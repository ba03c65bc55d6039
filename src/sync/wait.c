/* SPDX-License-Identifier: MIT */
#include "sync/wait.h"

#include "base/error.h"
#include "base/mutation.h"
#include "os/cpu.h"
#include "sync/deadlock.h"

#include <covey/family.h>

#include <limits.h>

enum {
    SPIN_MAX_NS = 40 * 1000, /* about what sleeping and being woken cost together */
    SPIN_MIN_NS = 120,
    PAUSE_NS = 30,
    SPIN_CLOSE = 32,      /* looks in quick succession; after that, who holds the word's cache */
    SPIN_PAUSES_MAX = 64, /* line is left alone for longer and longer, up to about 2 us */
    YIELDS = 2,           /* on the only CPU, */
    YIELD_TRUST = 4,      /* until so many waits in a row were in vain */
    TRIAL_MIN = 64,       /* after so many waits, one spins as long as possible; */
    TRIAL_MAX = 1024,     /* if that was in vain, after twice as many, up to this */
    TARGET_WORDS = 3,     /* of each of several targets */
    POLL_NS = 20 * CV_NS_PER_MS,  /* between looks at lives that the kernel does not tell of */
    LOOK_NS = 100 * CV_NS_PER_MS, /* between looks for deaths that another alarm tells of */
};

/* How long this process spins, and how often it has. Any thread; hints. */
static uint32_t spin_ns = SPIN_MAX_NS / 2;
static uint32_t spins;
static uint32_t trial_at = TRIAL_MIN; /* the spin that is one */
static uint32_t trial_gap = TRIAL_MIN;

static struct {
    int (*call)(void *context);
    void *context;
} interrupt_hook;

/* The hook has given up since the thread's latest wait began: if that goes on, it ends where it sleeps next. */
static _Thread_local bool gave_up CV_TLS_FAST;

void covey_on_interrupt(int (*hook)(void *context), void *context)
{
    interrupt_hook.call = hook;
    interrupt_hook.context = context;
}

int cv_wait_begin(struct cv_wait *wait, double timeout_s, const void *object, enum cv_kind kind)
{
    *wait = (struct cv_wait){.object = cv_waiter_object(object, kind), .hears = true};
    gave_up = false;
    return cv_clock_deadline(timeout_s, &wait->deadline_ns);
}

static bool one_cpu(void)
{
    static unsigned cpus; /* of this process when it first waited */

    if (cv_load_relaxed(&cpus) == 0)
        cv_store_relaxed(&cpus, cv_cpu_affinity());
    return cv_load_relaxed(&cpus) == 1;
}

/*
 * Each success gives a little of what could be had, each failure takes half: so one that spins in vain
 * a tenth of the time still has a fifth, and where there are more processes than CPUs, and spinning only
 * keeps the others from working, hardly anything is left. What took long and was a success, in a
 * trial, is worth as long again.
 */
static void learn(bool success, uint64_t took_ns)
{
    uint32_t now = cv_load_relaxed(&spin_ns);
    uint32_t next = success ? now + (SPIN_MAX_NS - now) / 64 : now - now / 2;

    if (next < 2 * took_ns)
        next = 2 * took_ns < SPIN_MAX_NS ? (uint32_t)(2 * took_ns) : SPIN_MAX_NS;
    if (next >= SPIN_MIN_NS && next != now)
        cv_store_relaxed(&spin_ns, next);
}

static void plan_trial(uint32_t n, uint32_t gap)
{
    cv_store_relaxed(&trial_gap, gap);
    cv_store_relaxed(&trial_at, n + gap);
}

/* On the only CPU, whoever is waited for has to run first; if that is all it takes, it is cheap. */
static bool give_way(const uint32_t *word, uint32_t seen)
{
    static uint32_t trust = YIELD_TRUST; /* any thread; a hint */
    uint32_t now = cv_load_relaxed(&trust);
    uint32_t n = cv_load_relaxed(&spins) + 1;

    cv_store_relaxed(&spins, n);
    if (now == 0 && n % TRIAL_MIN != 0)
        return false;
    for (int i = 0; i < YIELDS; i++) {
        cv_cpu_yield();
        if (cv_load_acquire(word) != seen) {
            if (now != YIELD_TRUST)
                cv_store_relaxed(&trust, YIELD_TRUST);
            return true;
        }
    }
    if (now != 0)
        cv_store_relaxed(&trust, now - 1);
    return false;
}

bool cv_wait_spin(struct cv_wait *wait, const uint32_t *word, uint32_t seen)
{
    uint32_t n;
    bool trial;
    uint64_t end;
    unsigned close;

    if (wait->deadline_ns == 0 || wait->since_ns) /* no time, or has spun already */
        return cv_load_acquire(word) != seen;
    if (one_cpu())
        return cv_load_acquire(word) != seen || give_way(word, seen);
    n = cv_load_relaxed(&spins) + 1;
    cv_store_relaxed(&spins, n);
    wait->since_ns = cv_clock_now();
    trial = (int32_t)(n - cv_load_relaxed(&trial_at)) >= 0;
    end = wait->since_ns + (trial ? (uint32_t)SPIN_MAX_NS : cv_load_relaxed(&spin_ns));
    close = end - wait->since_ns < SPIN_CLOSE * PAUSE_NS
                ? (unsigned)((end - wait->since_ns) / PAUSE_NS)
                : (unsigned)SPIN_CLOSE;
    for (unsigned looks = 0, pauses = 1; looks < close || cv_clock_now() < end; looks++) {
        if (cv_load_acquire(word) != seen) {
            learn(true, looks < close ? 0 : cv_clock_now() - wait->since_ns);
            if (trial)
                plan_trial(n, TRIAL_MIN);
            return true;
        }
        for (unsigned i = 0; i < pauses; i++)
            cv_relax();
        if (looks >= close && pauses < SPIN_PAUSES_MAX)
            pauses *= 2;
    }
    learn(false, 0);
    if (trial) {
        uint32_t gap = cv_load_relaxed(&trial_gap);

        plan_trial(n, gap < TRIAL_MAX ? gap * 2 : TRIAL_MAX);
    }
    return cv_load_acquire(word) != seen;
}

struct watched {
    struct cv_futex_watch watch[CV_WAIT_WORDS_MAX + CV_WAIT_LIVES_MAX + 3];
    struct cv_life lives[CV_WAIT_LIVES_MAX];
    unsigned n; /* of watch */
    unsigned n_lives;
    bool poll; /* there are lives that the kernel will not tell of */
};

/* False if one of them is over already. */
static bool watch_lives(struct watched *w, const uint64_t *tags, unsigned n_tags)
{
    for (unsigned i = 0; i < n_tags; i++) {
        enum cv_life_state state = CV_LIFE_POLL;

        if (!CV_RECOVERS(wait_lives))
            continue;
        if (i < CV_WAIT_LIVES_MAX && tags[i] != CV_WAIT_POLL)
            state = cv_member_watch(tags[i], &w->lives[w->n_lives], &w->watch[w->n]);
        if (state == CV_LIFE_OVER)
            return false;
        if (state == CV_LIFE_POLL) {
            w->poll = true;
            continue;
        }
        w->n_lives++;
        w->n++;
    }
    return true;
}

static bool any_is_dead(const uint64_t *tags, unsigned n_tags)
{
    for (unsigned i = 0; i < n_tags; i++) {
        if (tags[i] != CV_WAIT_POLL && cv_member_is_dead(tags[i], 0))
            return true;
    }
    return false;
}

static int strike(uint32_t *bell, int sleepers)
{
    uint32_t *gong = &bell[1];

    (void)cv_fetch_add(gong, 1);
    return cv_futex_wake(gong, sleepers);
}

/* All who sleep on the object have to look for themselves. */
static void rally(uint32_t *alarm)
{
    struct cv_futex_watch others = cv_alarm_gong(alarm);

    for (uint32_t i = 0; i < others.seen; i++)
        (void)strike(&alarm[2 + 2 * i], INT_MAX);
    (void)cv_futex_wake(others.word, INT_MAX);
}

static int fail_interrupted(void)
{
    return cv_fail(COVEY_EINTR, "interrupted by a signal");
}

int cv_wait_hear(void)
{
    return gave_up ? fail_interrupted() : 0;
}

int cv_wait_interrupted(uint32_t *alarm)
{
    bool before = gave_up; /* the hook may wait, too */
    bool give_up = false;

    if (interrupt_hook.call) {
        /* In the hook another alarm may be pending: who must know of a death in it watches this life. */
        if (alarm && CV_RECOVERS(wait_hook))
            rally(alarm);
        if (alarm)
            cv_alarm_clear();
        give_up = interrupt_hook.call(interrupt_hook.context) != 0;
    }
    if (alarm && CV_RECOVERS(wait_hook_alarm))
        cv_alarm_set(alarm); /* the hook may have used other objects */
    gave_up = before || give_up;
    return give_up ? fail_interrupted() : 0;
}

/* Without a record it waits unseen. */
int cv_wait_show(struct cv_wait *wait)
{
    if (!wait->object)
        return 0;
    if (!wait->waiter)
        wait->waiter = cv_waiter_take();
    if (!wait->waiter)
        return 0;
    cv_waiter_show(wait->waiter, wait->object);
    return cv_self.detects ? cv_deadlock_check(wait->waiter) : 0;
}

void cv_wait_hide(struct cv_wait *wait)
{
    if (wait->waiter)
        cv_waiter_hide(wait->waiter);
}

void cv_wait_stay(struct cv_wait *wait)
{
    if (!wait->waiter)
        wait->waiter = cv_waiter_take();
    if (wait->waiter)
        cv_waiter_stay(wait->waiter, wait->object);
}

static bool is_rallied_by(const uint32_t *gong, uint32_t *alarm)
{
    return gong > alarm && gong < alarm + 2 + 2 * (size_t)cv_alarm_gong(alarm).seen;
}

/* False if there is a death to be looked at first. */
static bool gather(struct watched *w, uint32_t *alarm, struct cv_futex_watch gong,
    const struct cv_futex_watch *words, unsigned n_words, const uint64_t *tags, unsigned n_tags)
{
    w->watch[w->n++] = gong;
    if (!is_rallied_by(gong.word, alarm))
        w->watch[w->n++] = cv_alarm_gong(alarm);
    if (!watch_lives(w, tags, n_tags))
        return false;
    w->watch[w->n++] = (struct cv_futex_watch){alarm, 0};
    for (unsigned i = 0; i < n_words; i++)
        w->watch[w->n++] = words[i];
    return true;
}

static int be_interrupted(struct cv_wait *wait, uint32_t *alarm)
{
    int r;

    if (wait->waiter)
        cv_store_seq(&wait->waiter->away, 1);
    r = cv_wait_interrupted(alarm);
    if (wait->waiter)
        cv_store_seq(&wait->waiter->away, 0);
    return r;
}

/* @naps: whatever it waits for, unless by a death, strikes the gong. */
static int sleep_on(struct cv_wait *wait, uint32_t *alarm, struct cv_futex_watch gong,
    const struct cv_futex_watch *words, unsigned n_words, const uint64_t *tags, unsigned n_tags,
    bool naps)
{
    struct watched w = {.n = 0};
    enum cv_futex_result result = CV_FUTEX_RETRY;
    uint64_t until = wait->deadline_ns;
    unsigned woken = 0;

    if (wait->deadline_ns == 0)
        return any_is_dead(tags, n_tags) ? CV_WAIT_DEATH : COVEY_ETIMEDOUT;
    if (wait->hears && cv_wait_hear() != 0)
        return COVEY_EINTR;
    if (cv_wait_show(wait) != 0)
        return COVEY_EDEADLK;
    if (CV_RECOVERS(wait_alarm_asleep))
        cv_alarm_set(alarm);
    wait->alarm = alarm;
    if (gather(&w, alarm, gong, words, n_words, tags, n_tags)) {
        if (w.poll && cv_clock_now() + POLL_NS < until)
            until = cv_clock_now() + POLL_NS;
        result =
            naps ? cv_futex_nap(w.watch, w.n, until) : cv_futex_wait(w.watch, w.n, until, &woken);
        /* Somebody died owing a wake; who knows to whom. */
        if (CV_RECOVERS(wait_alarm_all) && result == CV_FUTEX_WOKEN && w.watch[woken].word == alarm)
            rally(alarm);
    }
    for (unsigned i = 0; i < w.n_lives; i++)
        cv_member_unwatch(&w.lives[i]);
    cv_wait_hide(wait);
    if (result == CV_FUTEX_EINTR && be_interrupted(wait, alarm) != 0)
        return COVEY_EINTR;
    if (any_is_dead(tags, n_tags))
        return CV_WAIT_DEATH;
    return result == CV_FUTEX_TIMEDOUT && until == wait->deadline_ns ? COVEY_ETIMEDOUT
                                                                     : CV_WAIT_AGAIN;
}

int cv_wait_sleep(struct cv_wait *wait, uint32_t *alarm, struct cv_futex_watch gong,
    const struct cv_futex_watch *words, unsigned n_words, const uint64_t *tags, unsigned n_tags)
{
    return sleep_on(wait, alarm, gong, words, n_words, tags, n_tags, false);
}

int cv_wait_sleep_armed(struct cv_wait *wait, uint32_t *alarm, struct cv_arming armed,
    const struct cv_futex_watch *words, unsigned n_words, const uint64_t *tags, unsigned n_tags)
{
    bool naps = CV_NAPS && !wait->alarm && n_tags == 0; /* it has not slept yet */
    int r = sleep_on(wait, alarm, armed.gong, words, n_words, tags, n_tags, naps);

    cv_bell_disarm(&armed);
    return r;
}

static uint64_t sooner(uint64_t until, uint64_t ns)
{
    return cv_clock_now() + ns < until ? cv_clock_now() + ns : until;
}

/* Of all of them (the futures of one pool have one); NULL: there are several. */
static uint32_t *alarm_of(const struct cv_target *targets, unsigned n)
{
    for (unsigned i = 1; i < n; i++) {
        if (targets[i].alarm != targets[0].alarm)
            return NULL;
    }
    return n > 0 ? targets[0].alarm : NULL;
}

/* In the order that wait.h demands. */
static bool gather_any(struct watched *w, const struct cv_wait *wait,
    const struct cv_target *targets, unsigned n, const uint64_t *tags, unsigned n_tags)
{
    for (unsigned i = 0; i < n; i++) {
        w->watch[w->n++] = targets[i].armed.gong;
    }
    if (wait->stop.word)
        w->watch[w->n++] = wait->stop;
    if (!watch_lives(w, tags, n_tags))
        return false;
    if (wait->alarm)
        w->watch[w->n++] = (struct cv_futex_watch){wait->alarm, 0};
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < targets[i].n_words && (n == 1 || k < TARGET_WORDS); k++)
            w->watch[w->n++] = targets[i].words[k];
    }
    return true;
}

int cv_wait_sleep_any(struct cv_wait *wait, const struct cv_target *targets, unsigned n,
    const uint64_t *tags, unsigned n_tags)
{
    struct watched w = {.n = 0};
    enum cv_futex_result result = CV_FUTEX_RETRY;
    uint64_t until = wait->deadline_ns;
    unsigned slept_on = n < CV_TARGETS_MAX ? n : CV_TARGETS_MAX;
    unsigned lives = n > 1 ? CV_TARGETS_LIVES : CV_WAIT_LIVES_MAX;
    unsigned woken = 0;

    if (wait->deadline_ns == 0)
        return any_is_dead(tags, n_tags) ? CV_WAIT_DEATH : COVEY_ETIMEDOUT;
    if (wait->hears && cv_wait_hear() != 0)
        return COVEY_EINTR;
    wait->alarm = alarm_of(targets, n);
    if (wait->alarm)
        cv_alarm_set(wait->alarm);
    if (n > slept_on || n_tags > lives)
        until = sooner(until, POLL_NS);
    else if (!wait->alarm)
        until = sooner(until, LOOK_NS);
    if (gather_any(&w, wait, targets, slept_on, tags, n_tags < lives ? n_tags : lives)) {
        if (w.poll)
            until = sooner(until, POLL_NS);
        result = cv_futex_wait(w.watch, w.n, until, &woken);
        if (result == CV_FUTEX_WOKEN && wait->alarm && w.watch[woken].word == wait->alarm)
            rally(wait->alarm);
    }
    for (unsigned i = 0; i < w.n_lives; i++)
        cv_member_unwatch(&w.lives[i]);
    for (unsigned i = 0; i < slept_on; i++)
        cv_bell_disarm(&targets[i].armed);
    if (result == CV_FUTEX_EINTR && cv_wait_interrupted(wait->alarm) != 0)
        return COVEY_EINTR;
    if (any_is_dead(tags, n_tags))
        return CV_WAIT_DEATH;
    return result == CV_FUTEX_TIMEDOUT && until == wait->deadline_ns ? COVEY_ETIMEDOUT
                                                                     : CV_WAIT_AGAIN;
}

void cv_wait_end(struct cv_wait *wait)
{
    if (wait->waiter)
        cv_waiter_drop(wait->waiter);
    if (wait->alarm)
        cv_alarm_clear();
}

void cv_bell_ring_armed(uint32_t *bell, uint32_t state, int sleepers)
{
    if (strike(bell, sleepers) == 0)
        (void)cv_cas(bell, &state, state & ~(uint32_t)CV_BELL_ARMED);
}
