/* SPDX-License-Identifier: MIT */
#include "os/clock.h"

#include "base/error.h"

#include <covey/family.h>

#include <time.h>

enum {
    YEARS_MAX = 200,
    SECONDS_PER_YEAR = 31557600
};

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;

    (void)clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * CV_NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t cv_clock_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t cv_clock_since_boot(void)
{
    return read_clock(CLOCK_BOOTTIME);
}

int cv_clock_deadline(double timeout_s, uint64_t *deadline_ns)
{
    if (timeout_s != timeout_s)
        return cv_fail(COVEY_EINVAL, "the timeout is not a number (NaN)");
    if (timeout_s <= 0)
        *deadline_ns = 0;
    else if (timeout_s > (double)YEARS_MAX * SECONDS_PER_YEAR)
        *deadline_ns = CV_FOREVER;
    else
        *deadline_ns = cv_clock_now() + (uint64_t)(timeout_s * CV_NS_PER_S);
    return 0;
}

double cv_clock_left(uint64_t deadline_ns)
{
    uint64_t now = deadline_ns == CV_FOREVER || deadline_ns == 0 ? 0 : cv_clock_now();

    if (deadline_ns == CV_FOREVER)
        return COVEY_FOREVER;
    return deadline_ns > now ? (double)(deadline_ns - now) / CV_NS_PER_S : 0;
}

void cv_clock_sleep(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / CV_NS_PER_S), (long)(ns % CV_NS_PER_S)};

    (void)nanosleep(&t, NULL);
}
