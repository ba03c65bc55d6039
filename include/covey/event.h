/* SPDX-License-Identifier: MIT */
/**
 * covey/event.h - a flag that processes wait for
 *
 * An event lies in the arena, alone or inside of a structure. It is set or not, not set at first;
 * waiting ends when it is set. Whoever waits when it is set goes on, even if it is cleared again at
 * once. It belongs to nobody: a death changes nothing.
 *
 * All functions may be called by any thread of any member, at the same time, except where they say
 * otherwise.
 */
#ifndef COVEY_EVENT_H
#define COVEY_EVENT_H

#include <covey/family.h>

#ifdef __cplusplus
extern "C" {
#endif

/** covey_event - 32 bytes of the arena; all of it is covey's */
typedef struct covey_event {
    uint64_t signature_;
    uint64_t word_;
    uint32_t alarm_[2];
    uint32_t bell_[2];
} covey_event;

/**
 * covey_event_init() - make an event, which is not set
 * @event: 32 bytes in the arena, aligned to 8
 *
 * Nobody may be using the memory as an event. Returns 0; COVEY_EINVAL when @event does not lie in the
 * arena or is not aligned; the codes of covey_open_with().
 */
COVEY_API int covey_event_init(covey_event *event);

/**
 * covey_event_set() - set it: all who wait go on, and nobody waits until it is cleared
 * @event: the event
 *
 * Never waits. Setting it twice is no error. Returns 0; COVEY_EINVAL when @event is not an event.
 */
COVEY_API int covey_event_set(covey_event *event);

/** covey_event_clear() - from now on waiting waits; never waits itself; 0 or COVEY_EINVAL */
COVEY_API int covey_event_clear(covey_event *event);

/** covey_event_is_set() - 1 if it is set, 0 if not; COVEY_EINVAL */
COVEY_API int covey_event_is_set(covey_event *event);

/**
 * covey_event_wait() - wait until the event is set
 * @event: the event
 * @timeout_s: how long to wait at most, in seconds; 0 or less: not at all; COVEY_FOREVER
 *
 * Returns 0; COVEY_ETIMEDOUT; COVEY_EINTR (see covey_on_interrupt()); COVEY_EINVAL when @event is not
 * an event or the timeout not a number.
 */
COVEY_API int covey_event_wait(covey_event *event, double timeout_s);

/**
 * covey_event_fd() - a descriptor for poll(), epoll and the like
 * @event: the event
 *
 * It is readable when the event may be set: from a setting on, until this process finds it not set, or
 * clears it. All else is as with covey_queue_fd().
 *
 * Returns the descriptor; COVEY_ELIMIT, COVEY_ENOMEM; COVEY_EINVAL.
 */
COVEY_API int covey_event_fd(covey_event *event);

/** covey_event_fd_close() - close it; done by covey_event_destroy(), too; returns 0 or COVEY_EINVAL */
COVEY_API int covey_event_fd_close(covey_event *event);

/**
 * covey_event_destroy() - make it plain memory again
 * @event: the event, which nobody waits for
 *
 * Calls with it then return COVEY_EINVAL. Frees nothing. Returns 0 or COVEY_EINVAL.
 */
COVEY_API int covey_event_destroy(covey_event *event);

#ifdef __cplusplus
}
#endif

#endif
