/* SPDX-License-Identifier: MIT */
#include "os/timer.h"

#include "base/error.h"
#include "os/clock.h"

#include <signal.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

/* Timers are not inherited by the children of a fork. */
static timer_t timer;
static pid_t maker;

static int set(uint64_t ns)
{
    struct itimerspec t = {.it_value = {(time_t)(ns / CV_NS_PER_S), (long)(ns % CV_NS_PER_S)}};

    return timer_settime(timer, 0, &t, NULL) == 0 ? 0 : cv_fail_errno("cannot set a timer");
}

int cv_timer_kill_after(uint64_t ns)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};

    if (maker != getpid()) {
        if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0)
            return cv_fail_errno("no timer for the task's deadline");
        maker = getpid();
    }
    return set(ns ? ns : 1);
}

void cv_timer_stop(void)
{
    if (maker == getpid())
        (void)set(0);
}
