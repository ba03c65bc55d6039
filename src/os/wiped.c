/* SPDX-License-Identifier: MIT */
#include "os/wiped.h"

#include "base/atomic.h"
#include "base/error.h"
#include "os/mutex.h"
#include "os/robust.h"
#include "os/thread.h"
#include "os/unshared.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* since Linux 4.14 */
#endif

enum {
    PRIVATES_MAX = 2
};

static void *variable;
static uint32_t *fork_word; /* in it: 1 while this process forks; 0 in a child: the kernel wipes */
static size_t used_bytes;
static struct cv_private *privates[PRIVATES_MAX];
static unsigned n_privates;

static int not_followed; /* why forks are not: an errno */

/* Under the lock of os/unshared.h. */
static sigset_t signals; /* what who forks had blocked before */
static uint32_t forker;  /* the thread that forks, while it has all locks; 0: none */

/* Then it is a handler of the program's that forks call within covey's: it has all the locks. */
bool cv_wiped_is_forking(void)
{
    uint32_t thread = cv_load_relaxed(&forker);

    return thread && thread == (uint32_t)cv_thread_id();
}

static void take(struct cv_private *p)
{
    if (cv_mutex_lock(p->lock))
        p->forget();
}

void cv_private_add(struct cv_private *p)
{
    privates[n_privates++] = p;
}

void cv_private_lock(struct cv_private *p)
{
    sigset_t before;

    if (cv_wiped_is_forking())
        return;
    before = cv_thread_block_signals();
    take(p);
    p->signals = before;
}

void cv_private_unlock(struct cv_private *p)
{
    sigset_t before;

    if (cv_wiped_is_forking())
        return;
    before = p->signals;
    cv_mutex_unlock(p->lock);
    cv_thread_restore_signals(&before);
}

static void before_fork(void)
{
    sigset_t before = cv_thread_block_signals();

    for (unsigned i = 0; i < n_privates; i++)
        take(privates[i]);
    cv_unshared_lock();
    signals = before;
    if (variable)
        cv_store_relaxed(fork_word, 1);
    cv_store_relaxed(&forker, (uint32_t)cv_thread_id());
}

static void after_fork(void)
{
    sigset_t before = signals;

    cv_store_relaxed(&forker, 0);
    if (variable)
        cv_store_relaxed(fork_word, 0);
    cv_unshared_unlock();
    for (unsigned i = 0; i < n_privates; i++)
        cv_mutex_unlock(privates[i]->lock);
    cv_thread_restore_signals(&before);
}

/* A fork leaves only the calling thread. That may have used covey already, where the kernel has wiped: in a handler
 * that was registered before covey was loaded. Emulators take the advice and do nothing. */
static void in_child(void)
{
    sigset_t before = signals;

    cv_store_relaxed(&forker, 0);
    cv_unshared_close();
    if (variable && cv_load_relaxed(fork_word))
        memset(variable, 0, used_bytes);
    cv_robust_head = NULL; /* musl's children must register anew */
    for (unsigned i = 0; i < n_privates; i++) {
        cv_mutex_reset(privates[i]->lock); /* if there was nothing to wipe */
        take(privates[i]);
        cv_mutex_unlock(privates[i]->lock);
    }
    cv_thread_restore_signals(&before);
}

/* Before any other constructor: of the handlers for what comes before a fork, the first that was registered is called
 * last, and of those for what comes after it first. So no other one runs under covey's locks. */
__attribute__((constructor(101))) static void follow_forks(void)
{
    not_followed = pthread_atfork(before_fork, after_fork, in_child);
}

int cv_wiped_check(void)
{
    errno = not_followed;
    return errno == 0 ? 0 : cv_fail_errno("a fork cannot be followed");
}

/* Under the lock: a fork has all of it, or nothing. */
int cv_wipe_on_fork(void *p, size_t size, size_t used, uint32_t *forking)
{
    int r = cv_wiped_check();

    if (r != 0)
        return r;
    cv_unshared_lock();
    if (!variable && madvise(p, size, MADV_WIPEONFORK) != 0)
        r = cv_fail_errno("the kernel does not wipe memory on fork");
    if (r == 0) {
        used_bytes = used;
        fork_word = forking;
        variable = p;
    }
    cv_unshared_unlock();
    return r;
}
