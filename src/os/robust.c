/* SPDX-License-Identifier: MIT */
#include "os/robust.h"

#include "base/mutation.h"
#include "os/futex.h"

#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

_Thread_local struct robust_list_head *cv_robust_head CV_TLS_FAST;

/* Pending words of threads without a list go here; nobody reads it. */
static struct robust_list_head nobody;

static struct robust_list_head *registered_head(void)
{
    struct robust_list_head *head = NULL;
    size_t size = 0;

    if (syscall(SYS_get_robust_list, 0, &head, &size) != 0)
        return NULL;
    return head;
}

/* musl registers a thread's list only when it first locks a robust mutex. */
static void make_libc_register(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutex_t mutex;

    (void)pthread_mutexattr_init(&attributes);
    (void)pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    (void)pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (pthread_mutex_init(&mutex, &attributes) == 0) {
        if (pthread_mutex_lock(&mutex) == 0)
            (void)pthread_mutex_unlock(&mutex);
        (void)pthread_mutex_destroy(&mutex);
    }
    (void)pthread_mutexattr_destroy(&attributes);
}

/*
 * The child of a fork that went past the C library (a clone system call): the kernel has forgotten
 * the list, and the copy of it in memory still names words that the parent holds.
 */
static struct robust_list_head *revive(struct robust_list_head *head)
{
    head->list.next = &head->list;
    head->list_op_pending = NULL;
    return syscall(SYS_set_robust_list, head, sizeof *head) == 0 ? head : NULL;
}

struct robust_list_head *cv_robust_attach(void)
{
    struct robust_list_head *before = cv_robust_head;
    struct robust_list_head *head = registered_head();

    if (!head) {
        make_libc_register();
        head = registered_head();
        /* In the child of a fork, musl leaves the parent's list in it; this thread holds none. */
        if (head)
            head->list.next = &head->list;
    }
    if (!head && before && before != &nobody)
        head = revive(before);
    cv_robust_head = head ? head : &nobody;
    return cv_robust_head;
}

/* Nodes may be unaligned (28 bytes behind a word), hence the copies. Bit 0 marks PI futexes. */
static char *next_of(const char *node)
{
    uintptr_t next;

    memcpy(&next, node, sizeof next);
    return (char *)(next & ~(uintptr_t)1);
}

static void set_next(char *node, const char *next)
{
    memcpy(node, &next, sizeof next);
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the kernel may walk the list at any time */
}

static char *node_of(struct robust_list_head *head, struct cv_held *held)
{
    return (char *)&held->word - head->futex_offset;
}

/* The node before @wanted (the list's end: head itself); NULL if it is not on the list. */
static char *node_before(struct robust_list_head *head, const char *wanted)
{
    char *node = (char *)&head->list;

    for (int i = 0; i < ROBUST_LIST_LIMIT; i++) {
        char *next = next_of(node);

        if (next == wanted)
            return node;
        if (next == (char *)&head->list || !next)
            return NULL;
        node = next;
    }
    return NULL;
}

static bool fits(struct robust_list_head *head)
{
    long distance = -(long)head->futex_offset;

    return distance >= (long)(sizeof(uint32_t) + sizeof(void *)) &&
           distance + (long)sizeof(void *) <= (long)sizeof(struct cv_held);
}

bool cv_robust_hold(struct cv_held *held, unsigned n)
{
    struct robust_list_head *head = cv_robust_attach();
    uint32_t tid = (uint32_t)syscall(SYS_gettid);
    char *last = NULL;

    if (head != &nobody && fits(head))
        last = node_before(head, (char *)&head->list);
    for (unsigned i = 0; i < n; i++) {
        cv_store_seq(&held[i].word, tid);
        if (last) {
            char *node = node_of(head, &held[i]);

            set_next(node, (char *)&head->list);
            set_next(last, node);
            last = node;
        }
    }
    return last != NULL;
}

/* No thread-local memory, no call that can fail. One such thread in a process at most. */
__attribute__((no_sanitize("address", "thread", "undefined"))) void cv_robust_hold_raw(
    struct cv_held *held, unsigned n)
{
    static struct robust_list_head own;
    uint32_t tid = (uint32_t)syscall(SYS_gettid);
    struct robust_list *last = &own.list;

    own = (struct robust_list_head){{&own.list}, -(long)offsetof(struct cv_held, room), NULL};
    (void)syscall(SYS_set_robust_list, &own, sizeof own);
    for (unsigned i = 0; i < n; i++) {
        struct robust_list *node = (struct robust_list *)(void *)held[i].room;

        __atomic_store_n(&held[i].word, tid, __ATOMIC_SEQ_CST);
        node->next = &own.list;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        last->next = node;
        last = node;
    }
}

bool cv_robust_holds(const struct cv_held *held)
{
    return (cv_load_seq(&held->word) & FUTEX_TID_MASK) == (uint32_t)syscall(SYS_gettid);
}

static void unlink_node(struct robust_list_head *head, char *node)
{
    char *before = node_before(head, node);

    if (before)
        set_next(before, next_of(node));
}

/*
 * The word goes first: as long as it has the thread's id it must be on the list. If the thread dies
 * between the word and the wake, the kernel wakes, for the word is pending.
 */
bool cv_robust_release(struct cv_held *held, unsigned n)
{
    struct robust_list_head *head = cv_robust_list();

    if (!cv_robust_holds(held))
        return false;
    for (unsigned i = 0; i < n; i++) {
        if (CV_RECOVERS(member_leaving))
            cv_robust_pend(&held[i].word);
        if (cv_exchange(&held[i].word, 0) & FUTEX_WAITERS)
            (void)cv_futex_wake(&held[i].word, INT_MAX);
        cv_robust_done();
        if (head != &nobody)
            unlink_node(head, node_of(head, &held[i]));
    }
    return true;
}
