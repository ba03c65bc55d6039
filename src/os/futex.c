/* SPDX-License-Identifier: MIT */
#include "os/futex.h"

#include "base/atomic.h"
#include "os/clock.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Since Linux 5.16; the headers of the build machine may be older. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

enum {
    WAITV_SIZE_U32 = 2, /* FUTEX_32: a 32-bit word, shared between processes */
    NAP_NS = 20 * CV_NS_PER_MS,
};

struct waitv {
    uint64_t value;
    uint64_t address;
    uint32_t flags;
    uint32_t reserved;
};

static bool without_waitv; /* the kernel said ENOSYS once */

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){(time_t)(ns / CV_NS_PER_S), (long)(ns % CV_NS_PER_S)};
}

static enum cv_futex_result result_of(long r)
{
    if (r >= 0)
        return CV_FUTEX_WOKEN;
    if (errno == ETIMEDOUT)
        return CV_FUTEX_TIMEDOUT;
    return errno == EINTR ? CV_FUTEX_EINTR : CV_FUTEX_RETRY;
}

enum cv_futex_result cv_futex_nap(
    const struct cv_futex_watch *watch, unsigned n, uint64_t deadline_ns)
{
    uint64_t end = cv_clock_now() + NAP_NS;
    bool last = end >= deadline_ns;
    struct timespec t = timespec_of(last ? deadline_ns : end);
    enum cv_futex_result result;

    for (unsigned i = 1; i < n; i++) {
        if (cv_load_seq(watch[i].word) != watch[i].seen)
            return CV_FUTEX_RETRY;
    }
    /* FUTEX_WAIT would take the deadline as relative. */
    result = result_of(syscall(
        SYS_futex, watch->word, FUTEX_WAIT_BITSET, watch->seen, &t, NULL, FUTEX_BITSET_MATCH_ANY));
    return result == CV_FUTEX_EINTR || (result == CV_FUTEX_TIMEDOUT && last) ? result
                                                                             : CV_FUTEX_RETRY;
}

enum cv_futex_result cv_futex_wait(
    const struct cv_futex_watch *watch, unsigned n, uint64_t deadline_ns, unsigned *woken)
{
    struct waitv v[CV_FUTEX_WATCH_MAX];
    struct timespec t = timespec_of(deadline_ns);
    long r;

    if (cv_load_relaxed(&without_waitv))
        return cv_futex_nap(watch, n, deadline_ns);
    for (unsigned i = 0; i < n; i++)
        v[i] = (struct waitv){watch[i].seen, (uintptr_t)watch[i].word, WAITV_SIZE_U32, 0};
    r = syscall(SYS_futex_waitv, v, n, 0, deadline_ns == CV_FOREVER ? NULL : &t, CLOCK_MONOTONIC);
    if (r < 0 && (errno == ENOSYS || errno == EPERM)) /* EPERM: an old seccomp filter */
        cv_store_relaxed(&without_waitv, true);
    if (r < 0 && (errno == ENOSYS || errno == EPERM || errno == ENOMEM))
        return cv_futex_nap(watch, n, deadline_ns);
    if (r >= 0)
        *woken = (unsigned)r;
    return result_of(r);
}

int cv_futex_wake(uint32_t *word, int n)
{
    long woken = syscall(SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0);

    return woken < 0 ? 0 : (int)woken;
}
