/* SPDX-License-Identifier: MIT */
/*
 * What the kernel does for the dead.
 *
 * Every thread has a list of words that it "holds"; its head (struct robust_list_head of
 * linux/futex.h) is registered with the kernel by the C library, for robust mutexes. When the
 * thread ends, in whatever way, or calls exec, the kernel walks the list. Two of its acts are used:
 *
 *  - A *held* word that contains the thread's id gets FUTEX_OWNER_DIED in its place, and one
 *    sleeper on it is woken if FUTEX_WAITERS was set. covey's life words are held this way for as
 *    long as a member lives.
 *
 *  - The *pending* word: if it is 0, one sleeper on it is woken. A thread that is about to commit
 *    and then to wake, and a waiter that may have taken a wake for itself, declare their word
 *    pending; should they die in between, the kernel passes the wake on. So a wake is never lost
 *    with its carrier, and declaring it costs one store to private memory.
 *
 * Held nodes are linked at the tail of the list, behind those of the C library, which inserts at
 * the head. The C library may write the 8 bytes before a node (its "prev" pointer); covey never
 * reads them. Nothing else is assumed of it.
 */
#ifndef CV_ROBUST_H
#define CV_ROBUST_H

#include "base/atomic.h"

#include <linux/futex.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * One held word. The node that the kernel follows lies futex_offset bytes from it, a distance that
 * the C library chose (32 bytes behind the word in glibc, 28 in musl): hence the room. Other
 * processes read and mark @word; @room belongs to the holding thread and its kernel.
 */
struct cv_held {
    uint32_t word;
    uint32_t unused;
    unsigned char room[56];
};

_Static_assert(sizeof(struct cv_held) == 64, "a held word fills a cache line");

/* initial-exec is a plain load; musl does not allow it in libraries that are loaded later. */
#if defined(__GLIBC__)
#define CV_TLS_FAST __attribute__((tls_model("initial-exec")))
#else
#define CV_TLS_FAST
#endif

extern _Thread_local struct robust_list_head *cv_robust_head CV_TLS_FAST;

/* Finds this thread's list head; a stand-in that nobody reads where there is none. */
struct robust_list_head *cv_robust_attach(void);

static inline struct robust_list_head *cv_robust_list(void)
{
    struct robust_list_head *head = cv_robust_head;

    return head ? head : cv_robust_attach();
}

/* From here until cv_robust_done(): if this thread dies while *word is 0, a sleeper is woken. @head is
 * this thread's cv_robust_list(). */
static inline void cv_robust_pend_on(struct robust_list_head *head, uint32_t *word)
{
    cv_store_relaxed(
        &head->list_op_pending, (struct robust_list *)(void *)((char *)word - head->futex_offset));
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* before what follows in this thread's program */
}

static inline void cv_robust_done_on(struct robust_list_head *head)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    cv_store_relaxed(&head->list_op_pending, NULL);
}

static inline void cv_robust_pend(uint32_t *word)
{
    cv_robust_pend_on(cv_robust_list(), word);
}

static inline void cv_robust_done(void)
{
    cv_robust_done_on(cv_robust_list());
}

/* For what may come in between. */
static inline struct robust_list *cv_robust_save(void)
{
    return cv_load_relaxed(&cv_robust_list()->list_op_pending);
}

static inline void cv_robust_restore(struct robust_list *pending)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    cv_store_relaxed(&cv_robust_list()->list_op_pending, pending);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline bool cv_robust_is_pending(void)
{
    return cv_load_relaxed(&cv_robust_list()->list_op_pending) != NULL;
}

/*
 * Holds @n words for as long as this thread lives, with its thread id in them. False if the kernel
 * will not tell of this thread's death (no such list: emulators); the words are set all the same.
 */
bool cv_robust_hold(struct cv_held *held, unsigned n);

/* The same in a thread that is not the C library's (os/thread.h): the list is covey's own. */
void cv_robust_hold_raw(struct cv_held *held, unsigned n);

/* Is this the thread that holds? */
bool cv_robust_holds(const struct cv_held *held);

/* Lets go of them, and wakes all who watch; false, doing nothing, in another thread than held. */
bool cv_robust_release(struct cv_held *held, unsigned n);

#endif
