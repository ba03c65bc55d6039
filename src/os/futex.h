/* SPDX-License-Identifier: MIT */
/* Sleeping in the kernel until a word of the arena changes. */
#ifndef CV_FUTEX_H
#define CV_FUTEX_H

#include <stdint.h>

struct cv_futex_watch {
    uint32_t *word;
    uint32_t seen; /* sleep only while *word is this */
};

enum cv_futex_result {
    CV_FUTEX_WOKEN,    /* a wake came */
    CV_FUTEX_RETRY,    /* a word is not as seen, or perhaps a wake came: look again */
    CV_FUTEX_TIMEDOUT, /* the deadline has passed */
    CV_FUTEX_EINTR,    /* a signal handler has run */
};

enum {
    CV_FUTEX_WATCH_MAX = 128
};

/*
 * Sleeps until one of @n words is woken, or is not as seen at entry. The words may lie in memory
 * shared with other processes. Wakers must wake watch[0].word: on kernels without futex_waitv
 * (before 5.16) each sleep is but a nap.
 *
 * *woken is set with CV_FUTEX_WOKEN: the index of the word whose wake was taken, the highest one if
 * there were several.
 */
enum cv_futex_result cv_futex_wait(
    const struct cv_futex_watch *watch, unsigned n, uint64_t deadline_ns, unsigned *woken);

/*
 * The same for a short time, at a lower price: one look at all words, then up to 20 ms of sleep on watch[0] alone.
 * Never CV_FUTEX_WOKEN; CV_FUTEX_RETRY when the time is over.
 */
enum cv_futex_result cv_futex_nap(
    const struct cv_futex_watch *watch, unsigned n, uint64_t deadline_ns);

/* Wakes up to @n sleepers; returns how many. Never fails: the word is in the arena. */
int cv_futex_wake(uint32_t *word, int n);

#endif
