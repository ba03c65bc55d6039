/* SPDX-License-Identifier: MIT */
/*
 * Watches: descriptors that poll() and its kind can wait for, in the place of objects.
 *
 * The kernel's poll() does not know what happens in the arena. So a process that asks for an object's
 * descriptor has a thread for that object, which waits as any other waiter does, and a pipe, of which it
 * is given the end to read: that is readable when there is a byte in it.
 *
 *   ARMED    the pipe is empty; the thread waits until the object is ready
 *   READY    a byte is in the pipe; the thread waits until the state is another
 *   ENDING   the thread ends
 *
 *   ARMED -> READY    the thread, when it has found the object ready, or gone: it writes the byte
 *   READY -> ARMED    who has found nothing there (cv_watch_arm()): he takes the byte out
 *        -> ENDING    who closes the watch: he waits for the thread, and then closes the pipe
 *
 * Byte and state change together, under the lock. No wake-up is lost: the thread looks at the object after
 * it has seen ARMED, so it sees all that came after the look that has found nothing. And nothing is
 * done for an object that is ready, and that nobody looks at: no sleeper is there for whoever rings its
 * bell.
 *
 * All of this is the process's own. A child made by a fork has neither the thread nor, therefore, any use
 * of the pipe, and closes it; after a kind of fork that the C library does not see, when it first comes
 * here. (The C library's fork() waits for the lock.)
 *
 * An object that another process frees wakes the thread, too, if the bell is still there to be rung. Its
 * memory stays mapped; the thread looks at the signature before all else, and finds that the object is
 * gone: then the descriptor is readable, so that its user looks, too.
 *
 * What the program has closed behind covey's back is not written to or read from.
 */
#ifndef CV_WATCH_H
#define CV_WATCH_H

#include "base/atomic.h"
#include "sync/any.h"

#include <stdint.h>

extern uint32_t
    cv_watches; /* how many this process has; in a new child perhaps those of its parent */

/* The descriptor of the object, armed; made if there is none. Or a code. */
int cv_watch_open(void *object, const struct cv_any_kind *kind);

/* Who has asked for @fd so often has no use for it: it is closed, unless others have asked for it, too. */
void cv_watch_give_back(int fd, uint64_t asked);

/* The thread ends, and the descriptor is closed: 1; 0 if there was none. */
int cv_watch_close(const void *object);

void cv_watch_arm_slowly(const void *object);

/* There was nothing just now: the descriptor, if there is one, is not readable until there is. */
static inline void cv_watch_arm(const void *object)
{
    if (__builtin_expect(cv_load_relaxed(&cv_watches) != 0, 0))
        cv_watch_arm_slowly(object);
}

#endif
