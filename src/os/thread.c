/* SPDX-License-Identifier: MIT */
#include "os/thread.h"

#include "base/error.h"
#include "os/clock.h"
#include "os/fault.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NOT_INSTRUMENTED __attribute__((no_sanitize("address", "thread", "undefined")))

enum {
    STACK_BYTES = 16 * 1024,
    ORDINARY_STACK_BYTES = 256 * 1024,
    LIKE_A_THREAD =
        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM,
    FALLBACK_SLICE_NS = 200 * CV_NS_PER_MS,
};

/* ThreadSanitizer takes a call of clone() for a fork. */
#if defined(__GLIBC__)
int __clone(int (*run)(void *), void *stack, int flags, void *argument, ...);
#define clone __clone
#endif

sigset_t cv_thread_block_signals(void)
{
    sigset_t all;
    sigset_t before;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    return before;
}

/* Leaves errno as it is, for who restores them after a failure. */
void cv_thread_restore_signals(const sigset_t *before)
{
    int error = errno;

    (void)pthread_sigmask(SIG_SETMASK, before, NULL);
    errno = error;
}

/* The stack is never freed: the thread lives as long as its process. */
static int start(int (*run)(void *), void *argument)
{
    sigset_t before;
    char *stack = mmap(
        NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    int tid;

    if (stack == MAP_FAILED)
        return cv_fail_errno("no stack for a thread");
    before = cv_thread_block_signals();
    tid = CV_MAY_FAIL(clone(run, stack + STACK_BYTES, LIKE_A_THREAD, argument), -1, EAGAIN, ENOMEM);
    cv_thread_restore_signals(&before);
    if (tid >= 0)
        return 0;
    (void)cv_fail_errno("no thread");
    (void)munmap(stack, STACK_BYTES);
    return covey_error_code();
}

pid_t cv_thread_id(void)
{
    return (pid_t)syscall(SYS_gettid);
}

NOT_INSTRUMENTED void cv_thread_name(void)
{
    (void)syscall(SYS_prctl, PR_SET_NAME, CV_THREAD_NAME, 0, 0, 0);
}

static int create(pthread_t *thread, size_t stack, void *(*run)(void *), void *argument)
{
    pthread_attr_t attributes;
    int error;

    (void)pthread_attr_init(&attributes);
    if (stack)
        (void)pthread_attr_setstacksize(&attributes, stack);
    error = pthread_create(thread, &attributes, run, argument);
    (void)pthread_attr_destroy(&attributes);
    return error;
}

/* Where libraries have much thread-local memory, which is on the stack, that may be too small. */
int cv_thread_start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    sigset_t before = cv_thread_block_signals();

    errno = create(thread, ORDINARY_STACK_BYTES, run, argument);
    if (errno == EINVAL)
        errno = create(thread, 0, run, argument);
    cv_thread_restore_signals(&before);
    return errno == 0 ? 0 : cv_fail_errno("no thread");
}

/* The keeper ********************************************************************************* */

struct keeper {
    struct cv_held *held;
    unsigned n;
    int ready;
};

static pthread_key_t key;
static bool has_key; /* without one, watchers ask the kernel when the thread has ended */
static struct keeper thread_to_keeper; /* handed over while the old thread waits */

NOT_INSTRUMENTED static int keep(void *argument)
{
    struct keeper *k = argument;

    cv_thread_name();
    cv_robust_hold_raw(k->held, k->n);
    __atomic_store_n(&k->ready, 1, __ATOMIC_SEQ_CST);
    for (;;)
        (void)syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0); /* for ever */
    return 0;
}

/* The destructor of the key: runs when the holding thread ends, not when its process does. */
static void pass_on(void *value)
{
    struct keeper *mine = value;

    /* In the child of a fork the words are the parent's: they do not hold this thread's id. */
    if (!cv_robust_release(mine->held, mine->n))
        return;
    cv_store_relaxed(&mine->ready, 0);
    if (start(keep, mine) != 0)
        return; /* the words stay 0: watchers poll */
    while (!__atomic_load_n(&mine->ready, __ATOMIC_SEQ_CST))
        (void)sched_yield();
}

static void make_key(void)
{
    has_key = pthread_key_create(&key, pass_on) == 0;
}

bool cv_thread_hold(struct cv_held *held, unsigned n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    bool told = cv_robust_hold(held, n);

    (void)pthread_once(&once, make_key);
    cv_store_relaxed(&thread_to_keeper.held, held);
    cv_store_relaxed(&thread_to_keeper.n, n);
    if (has_key)
        (void)pthread_setspecific(key, &thread_to_keeper);
    return told;
}

void cv_thread_release(struct cv_held *held, unsigned n)
{
    if (has_key)
        (void)pthread_setspecific(key, NULL); /* no pass_on() at the end of this thread */
    (void)cv_robust_release(held, n);
}

/* Ending with another process **************************************************************** */

bool cv_thread_is_first(void)
{
    return (pid_t)syscall(SYS_gettid) == getpid();
}

/* Some sandboxes do not allow it. */
bool cv_thread_end_with_maker(void)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
}

static struct cv_descriptor awaited;
static pid_t awaited_pid;
static bool awaited_is_parent; /* to the kernel, too */

/* POLLNVAL first: a call that fails would write errno, which is another thread's here. */
NOT_INSTRUMENTED static bool is_still_awaited(short revents)
{
    struct stat now;

    return !(revents & POLLNVAL) && syscall(SYS_fstat, awaited.fd, &now) == 0 &&
           (uint64_t)now.st_dev == awaited.device && (uint64_t)now.st_ino == awaited.inode;
}

/* By number alone. A parent is one until it ends; of others, a zombie still runs. */
NOT_INSTRUMENTED static bool awaited_runs(void)
{
    return awaited_is_parent ? syscall(SYS_getppid) == awaited_pid
                             : syscall(SYS_getpgid, awaited_pid) >= 0;
}

/*
 * If the program closes the descriptor, the call that is under way does not mind; but one that the
 * kernel restarts (after SIGSTOP and SIGCONT) would, or would look at what the program has opened
 * under that number.
 */
NOT_INSTRUMENTED static int wait_and_end(void *argument)
{
    struct pollfd p = {.fd = awaited.fd, .events = POLLIN};
    struct timespec slice = {0, FALLBACK_SLICE_NS};

    (void)argument;
    cv_thread_name();
    while (p.fd >= 0 && !p.revents)
        (void)syscall(SYS_ppoll, &p, 1, NULL, NULL, 0);
    if (p.fd < 0 || !is_still_awaited(p.revents)) {
        while (awaited_runs())
            (void)syscall(SYS_nanosleep, &slice, NULL);
    }
    for (;;)
        (void)syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    return 0;
}

int cv_thread_end_with(const struct cv_descriptor *pidfd, pid_t pid)
{
    awaited = *pidfd;
    awaited_pid = pid;
    awaited_is_parent = getppid() == pid;
    return start(wait_and_end, NULL);
}
