/* SPDX-License-Identifier: MIT */
#include "os/poller.h"

#include "base/error.h"
#include "os/clock.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int take(struct cv_descriptor *d, int fd, const char *what)
{
    *d = CV_NO_DESCRIPTOR;
    return fd < 0 ? cv_fail_errno("no %s for a listener", what) : cv_descriptor_take(d, fd);
}

int cv_poller_open(struct cv_poller *p)
{
    int r;

    *p = (struct cv_poller){CV_NO_DESCRIPTOR, CV_NO_DESCRIPTOR, CV_FOREVER};
    r = take(&p->events, epoll_create1(EPOLL_CLOEXEC), "epoll");
    if (r == 0)
        r = take(&p->timer, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timer");
    if (r == 0)
        r = cv_poller_add(p, p->timer.fd, CV_POLLER_READ, p);
    if (r != 0)
        cv_poller_close(p);
    return r;
}

void cv_poller_close(struct cv_poller *p)
{
    cv_descriptor_close(&p->timer);
    cv_descriptor_close(&p->events);
}

static int control(struct cv_poller *p, int operation, int fd, enum cv_poller_what what, void *who)
{
    static const uint32_t events[] = {
        [CV_POLLER_NOTHING] = 0,
        [CV_POLLER_READ] = EPOLLIN,
        [CV_POLLER_WRITE] = EPOLLOUT,
    };
    struct epoll_event event = {.events = events[what], .data.ptr = who};

    if (epoll_ctl(p->events.fd, operation, fd, &event) == 0)
        return 0;
    return cv_fail_errno("cannot watch descriptor %d", fd);
}

int cv_poller_add(struct cv_poller *p, int fd, enum cv_poller_what what, void *who)
{
    return control(p, EPOLL_CTL_ADD, fd, what, who);
}

int cv_poller_change(struct cv_poller *p, int fd, enum cv_poller_what what, void *who)
{
    return control(p, EPOLL_CTL_MOD, fd, what, who);
}

void cv_poller_remove(struct cv_poller *p, int fd)
{
    (void)epoll_ctl(p->events.fd, EPOLL_CTL_DEL, fd, NULL);
}

/* 0 stops a timer, and is long over. */
int cv_poller_set_timer(struct cv_poller *p, uint64_t at_ns)
{
    struct itimerspec at = {0};

    if (at_ns == p->timer_ns)
        return 0;
    if (at_ns != CV_FOREVER) {
        uint64_t ns = at_ns ? at_ns : 1;

        at.it_value = (struct timespec){(time_t)(ns / CV_NS_PER_S), (long)(ns % CV_NS_PER_S)};
    }
    if (timerfd_settime(p->timer.fd, TFD_TIMER_ABSTIME, &at, NULL) != 0)
        return cv_fail_errno("cannot set a timer");
    p->timer_ns = at_ns;
    return 0;
}

/* Reading it makes it quiet. */
static void timer_has_come(struct cv_poller *p)
{
    uint64_t times;

    if (read(p->timer.fd, &times, sizeof times) == sizeof times)
        p->timer_ns = CV_FOREVER;
}

int cv_poller_next(struct cv_poller *p, uint64_t deadline_ns, void **who)
{
    for (;;) {
        struct epoll_event event;
        int n = epoll_wait(p->events.fd, &event, 1, 0);
        int r;

        if (n < 0 && errno != EINTR)
            return cv_fail_errno("cannot wait for connections");
        if (n > 0 && event.data.ptr == p)
            timer_has_come(p);
        if (n > 0) {
            *who = event.data.ptr == p ? NULL : event.data.ptr;
            return 0;
        }
        r = cv_descriptor_wait(p->events.fd, false, deadline_ns);
        if (r != 0)
            return r;
    }
}
