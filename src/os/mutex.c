/* SPDX-License-Identifier: MIT */
#include "os/mutex.h"

#include "base/atomic.h"
#include "os/clock.h"
#include "os/futex.h"

#include <errno.h>
#include <unistd.h>

#define TAKEN   UINT32_C(0x80000000)
#define AWAITED UINT32_C(0x40000000) /* somebody may sleep */

static void sleep_while(uint32_t *word, uint32_t seen)
{
    struct cv_futex_watch watch = {word, seen};
    int error = errno;
    unsigned woken;

    (void)cv_futex_wait(&watch, 1, CV_FOREVER, &woken);
    errno = error;
}

/* Who has slept cannot know whether others do. */
bool cv_mutex_lock(uint32_t *word)
{
    uint32_t self = (uint32_t)getpid();
    uint32_t taken = self | TAKEN;
    uint32_t now = cv_load_relaxed(word);

    for (;;) {
        if ((now | AWAITED) != (self | TAKEN | AWAITED)) {
            if (cv_cas(word, &now, taken))
                return now != self;
        } else if ((now & AWAITED) || cv_cas(word, &now, now | AWAITED)) {
            taken = self | TAKEN | AWAITED;
            sleep_while(word, taken);
            now = cv_load_relaxed(word);
        }
    }
}

void cv_mutex_unlock(uint32_t *word)
{
    if (cv_fetch_and(word, ~(TAKEN | AWAITED)) & AWAITED)
        (void)cv_futex_wake(word, 1);
}

void cv_mutex_reset(uint32_t *word)
{
    if (cv_load_relaxed(word) & TAKEN)
        cv_store_relaxed(word, 0);
}
