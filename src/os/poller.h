/* SPDX-License-Identifier: MIT */
/*
 * Many descriptors and one point in time, behind one descriptor: it is readable when any of them is
 * ready or the time has come. Not for two threads at once.
 */
#ifndef CV_POLLER_H
#define CV_POLLER_H

#include "os/descriptor.h"

#include <stdbool.h>
#include <stdint.h>

struct cv_poller {
    struct cv_descriptor events; /* an epoll */
    struct cv_descriptor timer;
    uint64_t timer_ns; /* when it goes off; CV_FOREVER: never */
};

enum cv_poller_what {
    CV_POLLER_NOTHING, /* stays, and is not looked at */
    CV_POLLER_READ,
    CV_POLLER_WRITE,
};

int cv_poller_open(struct cv_poller *poller);
void cv_poller_close(struct cv_poller *poller);

/* @who: not NULL, what cv_poller_next() says when it is ready. */
int cv_poller_add(struct cv_poller *poller, int fd, enum cv_poller_what what, void *who);
int cv_poller_change(struct cv_poller *poller, int fd, enum cv_poller_what what, void *who);

/* Before it is closed: a child of a fork may keep the file open. */
void cv_poller_remove(struct cv_poller *poller, int fd);

/* When the time is to come, as of cv_clock_now(). */
int cv_poller_set_timer(struct cv_poller *poller, uint64_t at_ns);

/* Who is ready, each in turn; NULL: the time has come. 0, COVEY_ETIMEDOUT or COVEY_EINTR, as
 * cv_descriptor_wait(). */
int cv_poller_next(struct cv_poller *poller, uint64_t deadline_ns, void **who);

#endif
