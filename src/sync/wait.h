/* SPDX-License-Identifier: MIT */
/*
 * Waiting and waking: what every blocking call of covey is built on.
 *
 * A waiter waits until a 32-bit word differs from the value that it saw when it found nothing to
 * do. That word must be where the other side *commits*: publishing and changing the word are one
 * store, so nothing can be published and not be seen. First the waiter spins for as long as waits
 * have lately been worth it, then it sleeps in the kernel, which compares the words once more.
 *
 * The bell. Wakers must not make a system call unless somebody sleeps. So beside the words that
 * change there is a bell, of two words: its state says whether it is armed, and counts how often it was;
 * the gong counts how often it was struck, and is what sleepers are woken by.
 *
 *   waiter                                 waker
 *     see the gong                           commit (store to the word)
 *     state: armed, count + 1                (full barrier)
 *     (full barrier)                         if the state is armed: gong + 1, wake one
 *     sleep while the words and the gong       nobody slept: state: quiet, if it is as it was
 *           are as seen
 *     state: quiet, if it is as he left it and was quiet before
 *
 * Either the waker sees the bell armed or the waiter's sleep sees the word changed. If the waker finds nobody,
 * all who had armed the bell when he looked at it are awake, or will see that the gong is another; and
 * should one arm it after that, its state is another, too. So it stays armed as long as anybody sleeps. What
 * the last of several leaves, or who was killed, a waker mends who finds it armed for nothing. What a waiter
 * looks at after he has armed the bell he need not compare, as long as the waker lives: all that
 * changes it strikes the gong.
 *
 * The alarm. Each object has a word that is always 0, and everybody who sleeps on the object
 * sleeps on it as well. During an operation it is declared pending (os/robust.h): by a waker from
 * before its commit until after its wakes, by a waiter from before it sleeps until it has taken
 * what it was woken for. If a process dies in between, whatever it still owed to others, the kernel
 * wakes one sleeper on the alarm; that one rallies all others, and each looks for itself. (If it dies
 * first, it is the kernel's turn again.) It does so by other words than the alarm: were they rallied by
 * that, they would take it for the kernel's call, and rally in turn, for ever. One such word is beside the
 * alarm: it says how many bells lie behind it, never changes, and is what those sleep on who have no bell
 * there; the bells are struck. So no wake is lost with a waker and none is swallowed by a waiter. A thread
 * has one pending word, hence one alarm for all that an operation touches.
 *
 * The order of the words. The kernel lies the sleeper down on one word after the other, comparing each
 * as it comes to it. First come those by which he is woken: the gong, the rally, the lives that he
 * watches, and the alarm; then those that are only compared. So what is committed before the
 * comparison is seen, and what is committed after it finds him lying on the gong and on the alarm.
 * And the kernel names the last word by which he was woken: the alarm, if that was one of them.
 *
 * The nap. The kernel takes about half as long again to lay a sleeper down on three words and to take him off
 * them as it takes with one, and most sleeps are short. So the first sleep of a wait on a bell is on the gong alone, and ends
 * after 20 ms if nobody strikes it: if a waker died, the sleeper finds what was committed when he looks again.
 * That is as if he had been late: the kernel's call finds nobody on the alarm, and what he looks at before he
 * lies down for long has changed. Who watches lives does not nap: a death is what he may wait for.
 *
 * A hook that runs in an interrupted wait may use other objects, and with them their alarms. So before
 * it, all sleepers are rallied, and find that process among those that they watch the lives of; after
 * it, the alarm is declared pending again.
 *
 * A waiter that waits for a certain process (the holder of a lock) also watches its life.
 */
#ifndef CV_WAIT_H
#define CV_WAIT_H

#include "arena/member.h"
#include "base/atomic.h"
#include "base/mutation.h"
#include "os/clock.h"
#include "os/futex.h"
#include "os/robust.h"
#include "sync/waiter.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    CV_BELL_ARMED = 1,
    CV_BELL_ONCE = 2,
    CV_WAIT_WORDS_MAX = 33,
    CV_WAIT_LIVES_MAX = 88,
    CV_WAIT_TAGS_MAX = CV_WAIT_LIVES_MAX + 1, /* what a caller has room for: so many make it poll */
};

/* In the place of a tag: see cv_wait_sleep(). */
#define CV_WAIT_POLL UINT64_MAX

struct cv_wait {
    uint64_t deadline_ns;
    uint64_t since_ns;   /* when it began to wait, 0: not yet */
    uint32_t *alarm;     /* pending since this wait slept; NULL: it has not */
    uint64_t dead_owner; /* the mark of who held the lock that was taken over (COVEY_EOWNERDEAD) */
    uint64_t object;     /* what for, as others see it (sync/waiter.h); 0: they do not */
    struct cv_waiter *waiter;   /* this thread's record, when it has slept or come to a place */
    struct cv_futex_watch stop; /* a word by which others end a sleep on any; NULL: none */
    bool hears; /* its sleep ends if a shorter one, for a lock within it, was interrupted */
};

enum {
    CV_WAIT_AGAIN = 0, /* something may have changed: try again */
    CV_WAIT_DEATH = 1, /* one of the lives is over */
};

/* For @object; COVEY_EINVAL for a timeout that is not a number. */
int cv_wait_begin(struct cv_wait *wait, double timeout_s, const void *object, enum cv_kind kind);

/* Spins until *word is not @seen: true. False when it is time to sleep, or there is no time. */
bool cv_wait_spin(struct cv_wait *wait, const uint32_t *word, uint32_t seen);

/*
 * Sleeps while all words are as seen. @gong is what wakers wake, and must not be among the @words, of
 * which there are CV_WAIT_WORDS_MAX at most. @tags: processes whose lives to watch; of more than
 * CV_WAIT_LIVES_MAX the others are looked at every 20 ms, so the caller names one more if there are.
 * CV_WAIT_POLL among them: there is something else to be looked at as often.
 * The alarm stays pending until cv_wait_end().
 *
 * CV_WAIT_AGAIN, CV_WAIT_DEATH, COVEY_ETIMEDOUT (without a message), COVEY_EINTR, or COVEY_EDEADLK.
 */
int cv_wait_sleep(struct cv_wait *wait, uint32_t *alarm, struct cv_futex_watch gong,
    const struct cv_futex_watch *words, unsigned n_words, const uint64_t *tags, unsigned n_tags);

/* A bell: two words, the state and the gong. How it was armed: */
struct cv_arming {
    uint32_t *bell;
    uint32_t state;             /* what was made of it then; */
    bool alone;                 /* it was quiet before */
    struct cv_futex_watch gong; /* as seen before: to sleep on */
};

/* The same on a bell, which it disarms. */
int cv_wait_sleep_armed(struct cv_wait *wait, uint32_t *alarm, struct cv_arming armed,
    const struct cv_futex_watch *words, unsigned n_words, const uint64_t *tags, unsigned n_tags);

/*
 * One of several objects of which the first is waited for. The bell is one that wakes all: so nobody else
 * misses the wake that comes here.
 */
struct cv_target {
    uint32_t *alarm;
    struct cv_arming armed; /* the bell */
    unsigned n_words; /* of several targets only the first few count: these look by themselves */
    struct cv_futex_watch words[CV_WAIT_WORDS_MAX];
};

enum {
    CV_TARGETS_MAX = 14, /* those after them are looked at every 20 ms */
    CV_TARGETS_LIVES = 32,
};

/*
 * Sleeps on the bells, which it disarms, while the words of all targets are as seen. A thread can have
 * one alarm pending, not several: so if the targets have several, it does not sleep on these, for to
 * be woken by one and die would leave others asleep. The sleepers on the alarm rally it; should there be
 * none, it looks by itself, every 100 ms.
 */
int cv_wait_sleep_any(struct cv_wait *wait, const struct cv_target *targets, unsigned n,
    const uint64_t *tags, unsigned n_tags);

/*
 * Lets others see what this thread waits for, while it sleeps and only then: whoever is seen to wait
 * has not got it yet. Done by the above; COVEY_EDEADLK.
 */
int cv_wait_show(struct cv_wait *wait);
void cv_wait_hide(struct cv_wait *wait);

/* From now on, until cv_wait_end(), others see that it is in this call, though it does not sleep for it: whoever frees
 * the object waits for that. */
void cv_wait_stay(struct cv_wait *wait);

/* A signal handler has run in this thread: 0 to go on waiting, or COVEY_EINTR. Should the caller go on after that, his
 * next sleep for what he waits for ends at once with it. */
int cv_wait_interrupted(uint32_t *alarm);

/* For who waits by something else: has that been since cv_wait_begin()? COVEY_EINTR with its message, or 0. */
int cv_wait_hear(void);

/* What was waited for has been taken, or will not be. Not needed if nothing was waited for. */
void cv_wait_end(struct cv_wait *wait);

/* An alarm: two words, and then so many bells, of which there may be late users: what they have counted goes on. */
static inline void cv_alarm_init_again(uint32_t *alarm, unsigned bells)
{
    cv_store_relaxed(&alarm[0], 0);
    cv_store_relaxed(&alarm[1], bells);
}

/* All new, and quiet. */
static inline void cv_alarm_init(uint32_t *alarm, unsigned bells)
{
    cv_alarm_init_again(alarm, bells);
    for (unsigned i = 0; i < 2 * bells; i++)
        cv_store_relaxed(&alarm[2 + i], 0);
}

/* For who has no bell there. */
static inline struct cv_futex_watch cv_alarm_gong(uint32_t *alarm)
{
    return (struct cv_futex_watch){&alarm[1], cv_load_relaxed(&alarm[1])};
}

static inline void cv_alarm_set(uint32_t *alarm)
{
    if (CV_RECOVERS(wait_alarm))
        cv_robust_pend(alarm);
}

/* Any that is not yet cleared? */
static inline bool cv_alarm_is_set(void)
{
    return cv_robust_is_pending();
}

static inline void cv_alarm_clear(void)
{
    cv_robust_done();
}

static inline struct cv_arming cv_bell_arm(uint32_t *bell)
{
    struct cv_arming a = {.bell = bell, .gong = {&bell[1], cv_load_acquire(&bell[1])}};
    uint32_t now = cv_load_acquire(bell);

    do {
        a.alone = !(now & CV_BELL_ARMED);
        a.state = ((now | CV_BELL_ARMED) + CV_BELL_ONCE);
    } while (!cv_cas(bell, &now, a.state));
    return a;
}

/* After the sleep, or if there is to be none. */
static inline void cv_bell_disarm(const struct cv_arming *a)
{
    uint32_t now = a->state;

    if (a->alone && cv_load_relaxed(a->bell) == now)
        (void)cv_cas(a->bell, &now, now & ~(uint32_t)CV_BELL_ARMED);
}

/* The halves of a word of 64 bits. */
static inline struct cv_futex_watch cv_word_low(uint64_t *word, uint64_t seen)
{
    return (struct cv_futex_watch){(uint32_t *)(void *)word, (uint32_t)seen};
}

static inline struct cv_futex_watch cv_word_high(uint64_t *word, uint64_t seen)
{
    return (struct cv_futex_watch){(uint32_t *)(void *)word + 1, (uint32_t)(seen >> 32)};
}

/* If it is its own bell: woken by the upper half, compared by the lower. */
static inline struct cv_futex_watch cv_word_gong(uint64_t *word, uint64_t seen)
{
    return cv_word_high(word, seen);
}

void cv_bell_ring_armed(uint32_t *bell, uint32_t state, int sleepers);

/* After a commit by an exchange or a store of sequential order, before which nothing may be seen. */
static inline void cv_bell_ring(uint32_t *bell, int sleepers)
{
    uint32_t state = cv_load_seq(bell);

    if (state & CV_BELL_ARMED)
        cv_bell_ring_armed(bell, state, sleepers);
}

#endif
