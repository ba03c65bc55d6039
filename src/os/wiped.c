/* SPDX-License-Identifier: MIT */
#include "os/wiped.h"

#include "base/atomic.h"
#include "base/error.h"
#include "os/robust.h"
#include "os/thread.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* since Linux 4.14 */
#endif

enum {
    PRIVATES_MAX = 2
};

enum {
    NEW, /* wiped, or never locked */
    FREE,
    TAKEN
};

static void *variable;
static size_t used_bytes;
static struct cv_private *privates[PRIVATES_MAX];
static unsigned n_privates;

static void take(struct cv_private *p)
{
    uint32_t before;

    while ((before = cv_exchange(p->lock, TAKEN)) == TAKEN)
        (void)sched_yield();
    if (before == NEW)
        p->forget();
}

void cv_private_add(struct cv_private *p)
{
    privates[n_privates++] = p;
}

void cv_private_lock(struct cv_private *p)
{
    sigset_t before = cv_thread_block_signals();

    take(p);
    p->signals = before;
}

void cv_private_unlock(struct cv_private *p)
{
    sigset_t before = p->signals;

    cv_store_release(p->lock, FREE);
    cv_thread_restore_signals(&before);
}

static sigset_t signals; /* what who forks had blocked before */

static void before_fork(void)
{
    sigset_t before = cv_thread_block_signals();

    for (unsigned i = 0; i < n_privates; i++)
        take(privates[i]);
    signals = before;
}

static void after_fork(void)
{
    sigset_t before = signals;

    for (unsigned i = 0; i < n_privates; i++)
        cv_store_release(privates[i]->lock, FREE);
    cv_thread_restore_signals(&before);
}

/* Emulators take the advice and do nothing. A fork leaves only the calling thread. */
static void wipe_in_child(void)
{
    if (variable)
        memset(variable, 0, used_bytes);
    cv_robust_head = NULL; /* musl's children must register anew */
    for (unsigned i = 0; i < n_privates; i++)
        privates[i]->forget();
    cv_thread_restore_signals(&signals);
}

int cv_wipe_on_fork(void *p, size_t size, size_t used)
{
    if (cv_load_acquire(&variable))
        return 0;
    if (madvise(p, size, MADV_WIPEONFORK) != 0)
        return cv_fail_errno("the kernel does not wipe memory on fork");
    errno = pthread_atfork(before_fork, after_fork, wipe_in_child); /* twice does no harm */
    if (errno != 0)
        return cv_fail_errno("a fork cannot be followed");
    used_bytes = used;
    cv_store_release(&variable, p);
    return 0;
}
