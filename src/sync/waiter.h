/* SPDX-License-Identifier: MIT */
/*
 * Waiters: who waits for what.
 *
 * A thread that is about to sleep has a record in a table of the arena, in which everybody can see
 * what it waits for: to find deadlocks, to print them, and for those objects that must know their
 * waiters one by one (the condition and the barrier). A record is 64 bytes and its memory is never
 * anything else, so a late look or a late compare-exchange hits no other data.
 *
 *   owner    tag of the process; 0: free. The commit of taking is 0 -> tag. The thread gives it back
 *            (tag -> 0); if its process dies, the sweep does. Until then the others count as what
 *            the dead one left: that is how its debts are found.
 *   tid      the thread; stored after owner, 0 until then
 *   object   what it sleeps for, an address with its kind above; with AWAKE: what it has slept for, and is
 *            still in a call for; 0: neither
 *   number   of this wait: 0 when the object is stored, and then the next of the family's numbers,
 *            stored before the family's count says that it is taken: so whoever has a higher one sees
 *            it. Of several waits the highest number is that of who looked last
 *   since_ns when it first slept for it, on the monotonic clock; 0: not yet
 *   place    the condition that it has come to; 0: none. It stays while the thread sleeps
 *            for the condition's lock
 *   gong     always 0; what the thread is woken by when it sleeps for a signal
 *   away     1: it is in an interrupt hook, where it may have another alarm than that of the place
 *   turn     one of the family's numbers: who has come to the place before whom
 *   signal   sync/condition.c: the low bits say what has come of it; those above count the waits at
 *            conditions and are never set back, so that who comes late with a signal for an
 *            earlier wait misses
 *
 * All but owner are written by the thread alone, except signal.
 *
 * A thread keeps its first record until it ends; a wait inside of another one (an interrupt hook
 * that waits for a lock) takes a second.
 */
#ifndef CV_WAITER_H
#define CV_WAITER_H

#include "arena/family.h"
#include "arena/object.h"

#include <stdbool.h>
#include <stdint.h>

struct cv_waiter {
    uint64_t owner;
    uint32_t tid;
    uint32_t signal;
    uint64_t object;
    uint64_t number;
    uint64_t since_ns;
    uint64_t place;
    uint64_t turn;
    uint32_t gong;
    uint32_t away;
};

_Static_assert(sizeof(struct cv_waiter) == CV_WAITER_BYTES, "the table's step");

#define CV_WAITER_AWAKE (UINT64_C(1) << 63)

/* What lies in @object of a record, but for AWAKE. */
static inline uint64_t cv_waiter_object(const void *object, enum cv_kind kind)
{
    return (uintptr_t)object | (uint64_t)kind << CV_ADDRESS_BITS;
}

static inline enum cv_kind cv_waiter_kind(uint64_t object)
{
    return (enum cv_kind)(object >> CV_ADDRESS_BITS);
}

static inline void *cv_waiter_address(uint64_t object)
{
    return (void *)(uintptr_t)(object & ((UINT64_C(1) << CV_ADDRESS_BITS) - 1));
}

/* What a thread knows of itself. A fork copies it to the child, a new family leaves it behind. */
struct cv_thread {
    uint64_t nonce; /* the rest is true if this is cv_self.nonce */
    uint64_t mark;  /* its process's, with its own id in the place of the pid: what locks have */
    bool busy;      /* a wait is using @record */
    struct cv_waiter *record;
};

extern _Thread_local struct cv_thread cv_thread CV_TLS_FAST;

uint64_t cv_waiter_identify(void);

/* The calling thread's mark, in a member. */
static inline uint64_t cv_waiter_me(void)
{
    return __builtin_expect(cv_thread.nonce == cv_self.nonce, 1) ? cv_thread.mark
                                                                 : cv_waiter_identify();
}

/* A record for this thread; NULL with a message (COVEY_ELIMIT, COVEY_ENOMEM) if none is free. */
struct cv_waiter *cv_waiter_take(void);
void cv_waiter_drop(struct cv_waiter *waiter);

/* From now on everybody can see that it waits for @object (as of cv_waiter_object()). */
void cv_waiter_show(struct cv_waiter *waiter, uint64_t object);
void cv_waiter_hide(struct cv_waiter *waiter);

/* Or that it is in a call that may wait for it. */
void cv_waiter_stay(struct cv_waiter *waiter, uint64_t object);

/* Another thread, of a process that lives, that sleeps for @object, or has and is still in that call, or stays in
 * one; NULL: there is none. */
struct cv_waiter *cv_waiter_for(uint64_t object);

/* The next of the family's numbers. */
uint64_t cv_waiter_turn(void);

/* Where in the table it is, modulo 64, as one bit: what a place knows of who has come to it. */
uint64_t cv_waiter_bit(const struct cv_waiter *waiter);

/* Where in the table. */
uint32_t cv_waiter_index(const struct cv_waiter *waiter);
struct cv_waiter *cv_waiter_at(uint32_t index);

/* Calls @visit for the records in use that have one of the bits @among, until it returns false. */
void cv_waiter_each(
    uint64_t among, bool (*visit)(struct cv_waiter *waiter, void *context), void *context);

/* The record by which that thread waits for something; NULL: it does not. */
struct cv_waiter *cv_waiter_of(uint64_t tag, uint32_t tid);

#endif
