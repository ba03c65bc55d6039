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
 * change there is a bell, of two words: its state says whether anybody may be sleeping; the gong,
 * which is always 0, is what sleepers are woken by.
 *
 *   waiter                                 waker
 *     bell := CV_BELL_ARMED                  commit (store to the word)
 *     (full barrier)                         (full barrier)
 *     sleep while the words are as seen      if the bell is CV_BELL_ARMED: wake one sleeper
 *           and the bell is CV_BELL_ARMED      nobody slept: bell := CV_BELL_QUIET, wake all
 *
 * Either the waker sees the bell armed or the waiter's sleep sees the word changed. The second wake
 * is for waiters that armed the bell before it was made quiet and fell asleep in between; those
 * that come later find it quiet and do not sleep. So the bell stays armed as long as anybody
 * sleeps, and only a waker that has found it armed for nothing makes it quiet.
 *
 * The alarm. Each object has a word that is always 0, and everybody who sleeps on the object
 * sleeps on it as well. During an operation it is declared pending (os/robust.h): by a waker from
 * before its commit until after its wakes, by a waiter from before it sleeps until it has taken
 * what it was woken for. If a process dies in between, whatever it still owed to others, the kernel
 * wakes one sleeper on the alarm; that one rallies all others, and each looks for itself. (If it dies
 * first, it is the kernel's turn again.) They sleep on a second word for that: were it the alarm
 * itself, those who are rallied would take it for the kernel's call, and rally in turn, for ever. (An
 * object with a single gong has that there: to rally its sleepers is to strike the gong.) So no wake
 * is lost with a waker and none is swallowed by a waiter. A thread has one pending word,
 * hence one alarm for all that an operation touches.
 *
 * The order of the words. The kernel lies the sleeper down on one word after the other, comparing each
 * as it comes to it. First come those by which he is woken: the gong, the rally, the lives that he
 * watches, and the alarm; then those that are only compared. So what is committed before the
 * comparison is seen, and what is committed after it finds him lying on the gong and on the alarm.
 * And the kernel names the last word by which he was woken: the alarm, if that was one of them.
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
    CV_BELL_ARMED = 0, /* what zeroed memory has; the first waker corrects it */
    CV_BELL_QUIET = 1,
    CV_WAIT_WORDS_MAX = 4,
    CV_WAIT_LIVES_MAX = 96,
    CV_WAIT_TAGS_MAX = CV_WAIT_LIVES_MAX + 1, /* what a caller has room for: so many make it poll */
};

struct cv_wait {
    uint64_t deadline_ns;
    uint64_t since_ns;   /* when it began to wait, 0: not yet */
    uint32_t *alarm;     /* pending since this wait slept; NULL: it has not */
    uint64_t dead_owner; /* the mark of who held the lock that was taken over (COVEY_EOWNERDEAD) */
    uint64_t object;     /* what for, as others see it (sync/waiter.h); 0: they do not */
    struct cv_waiter *waiter; /* this thread's record, when it has slept or come to a place */
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
 * The alarm stays pending until cv_wait_end().
 *
 * CV_WAIT_AGAIN, CV_WAIT_DEATH, COVEY_ETIMEDOUT (without a message), COVEY_EINTR, or COVEY_EDEADLK.
 */
int cv_wait_sleep(struct cv_wait *wait, uint32_t *alarm, struct cv_futex_watch gong,
    const struct cv_futex_watch *words, unsigned n_words, const uint64_t *tags, unsigned n_tags);

/*
 * Lets others see what this thread waits for, while it sleeps and only then: whoever is seen to wait
 * has not got it yet. Done by the above; COVEY_EDEADLK.
 */
int cv_wait_show(struct cv_wait *wait);
void cv_wait_hide(struct cv_wait *wait);

/* A signal handler has run in this thread: 0 to go on waiting, or COVEY_EINTR. */
int cv_wait_interrupted(uint32_t *alarm);

/* Makes both new; @bell starts armed. */
void cv_wait_init(uint32_t *alarm, uint32_t *bell);

/* What was waited for has been taken, or will not be. Not needed if nothing was waited for. */
void cv_wait_end(struct cv_wait *wait);

/* An alarm: two words, the alarm itself and the rally. */
static inline void cv_alarm_init(uint32_t *alarm)
{
    cv_store_relaxed(&alarm[0], 0);
    cv_store_relaxed(&alarm[1], 0);
}

static inline struct cv_futex_watch cv_alarm_gong(uint32_t *alarm)
{
    return (struct cv_futex_watch){&alarm[1], 0};
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

/* A bell: two words, the state and the gong. */
static inline void cv_bell_arm(uint32_t *bell)
{
    cv_store_seq(bell, CV_BELL_ARMED);
}

/* To sleep on an armed bell: by what to be woken, and what to compare. */
static inline struct cv_futex_watch cv_bell_gong(uint32_t *bell)
{
    return (struct cv_futex_watch){&bell[1], 0};
}

static inline struct cv_futex_watch cv_bell_armed(uint32_t *bell)
{
    return (struct cv_futex_watch){bell, CV_BELL_ARMED};
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

void cv_bell_ring_armed(uint32_t *bell, int sleepers);

/* After a commit by an exchange or a store of sequential order, before which nothing may be seen. */
static inline void cv_bell_ring(uint32_t *bell, int sleepers)
{
    if (cv_load_seq(bell) == CV_BELL_ARMED)
        cv_bell_ring_armed(bell, sleepers);
}

#endif
