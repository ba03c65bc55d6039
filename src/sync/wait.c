/* SPDX-License-Identifier: MIT */
#include "sync/wait.h"

#include "base/error.h"
#include "base/mutation.h"
#include "os/cpu.h"

#include <covey/family.h>

#include <limits.h>
#include <string.h>

enum {
    SPIN_MAX_NS = 40 * 1000, /* about what sleeping and being woken cost together */
    SPIN_MIN_NS = 500,
    SHORT_WAIT_NS = 100 * 1000,  /* waits that a longer spin would have made shorter */
    SPIN_ROUND = 32,             /* looks at the word between two looks at the clock */
    POLL_NS = 20 * CV_NS_PER_MS, /* between looks at lives that the kernel does not tell of */
};

/* How long this process spins, by what its waits were like lately. Any thread; a hint. */
static uint32_t spin_ns = SPIN_MAX_NS / 2;

static struct {
    int (*call)(void *context);
    void *context;
} interrupt_hook;

void covey_on_interrupt(int (*hook)(void *context), void *context)
{
    interrupt_hook.call = hook;
    interrupt_hook.context = context;
}

int cv_wait_begin(struct cv_wait *wait, double timeout_s)
{
    *wait = (struct cv_wait){0};
    return cv_clock_deadline(timeout_s, &wait->deadline_ns);
}

static bool one_cpu(void)
{
    static unsigned cpus; /* of this process when it first waited */

    if (cv_load_relaxed(&cpus) == 0)
        cv_store_relaxed(&cpus, cv_cpu_affinity());
    return cv_load_relaxed(&cpus) == 1;
}

bool cv_wait_spin(struct cv_wait *wait, const uint32_t *word, uint32_t seen)
{
    uint64_t end;

    if (wait->deadline_ns == 0 || wait->since_ns || one_cpu()) /* no time, or has spun already */
        return cv_load_acquire(word) != seen;
    wait->since_ns = cv_clock_now();
    end = wait->since_ns + cv_load_relaxed(&spin_ns);
    do {
        for (int i = 0; i < SPIN_ROUND; i++) {
            if (cv_load_acquire(word) != seen)
                return true;
            cv_relax();
        }
    } while (cv_clock_now() < end);
    return false;
}

struct watched {
    struct cv_futex_watch watch[CV_WAIT_WORDS_MAX + CV_WAIT_LIVES_MAX + 1];
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
        if (i < CV_WAIT_LIVES_MAX)
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
        if (cv_member_is_dead(tags[i], 0))
            return true;
    }
    return false;
}

int cv_wait_interrupted(void)
{
    if (interrupt_hook.call && interrupt_hook.call(interrupt_hook.context) != 0)
        return cv_fail(COVEY_EINTR, "interrupted by a signal");
    return 0;
}

int cv_wait_sleep(struct cv_wait *wait, uint32_t *alarm, const struct cv_futex_watch *words,
    unsigned n_words, const uint64_t *tags, unsigned n_tags)
{
    struct watched w = {.n = n_words};
    enum cv_futex_result result = CV_FUTEX_RETRY;
    uint64_t until = wait->deadline_ns;
    unsigned woken = 0;

    if (wait->deadline_ns == 0)
        return any_is_dead(tags, n_tags) ? CV_WAIT_DEATH : COVEY_ETIMEDOUT;
    if (CV_RECOVERS(wait_alarm_asleep))
        cv_alarm_set(alarm);
    wait->alarm = alarm;
    memcpy(w.watch, words, n_words * sizeof *words);
    if (watch_lives(&w, tags, n_tags)) {
        if (w.poll && cv_clock_now() + POLL_NS < until)
            until = cv_clock_now() + POLL_NS;
        w.watch[w.n] = (struct cv_futex_watch){alarm, 0};
        result = cv_futex_wait(w.watch, w.n + 1, until, &woken);
        /* Somebody died owing a wake; who knows to whom. */
        if (CV_RECOVERS(wait_alarm_all) && result == CV_FUTEX_WOKEN && woken == w.n)
            (void)cv_futex_wake(alarm, INT_MAX);
    }
    for (unsigned i = 0; i < w.n_lives; i++)
        cv_member_unwatch(&w.lives[i]);
    if (any_is_dead(tags, n_tags))
        return CV_WAIT_DEATH;
    if (result == CV_FUTEX_EINTR)
        return cv_wait_interrupted();
    return result == CV_FUTEX_TIMEDOUT && until == wait->deadline_ns ? COVEY_ETIMEDOUT
                                                                     : CV_WAIT_AGAIN;
}

/* Waits that were short ask for longer spins, long ones for shorter. */
static void learn(const struct cv_wait *wait)
{
    uint32_t now = cv_load_relaxed(&spin_ns);

    if (cv_clock_now() - wait->since_ns < SHORT_WAIT_NS)
        now += (SPIN_MAX_NS - now) / 4;
    else if (now > SPIN_MIN_NS)
        now -= now / 4;
    cv_store_relaxed(&spin_ns, now);
}

void cv_wait_end(struct cv_wait *wait)
{
    if (wait->alarm)
        cv_alarm_clear();
    if (wait->since_ns)
        learn(wait);
}

void cv_bell_ring_armed(uint32_t *bell, int sleepers)
{
    if (cv_futex_wake(bell, sleepers) > 0)
        return;
    cv_store_seq(bell, CV_BELL_QUIET);
    (void)cv_futex_wake(bell, INT_MAX);
}
