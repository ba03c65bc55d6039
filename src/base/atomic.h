/* SPDX-License-Identifier: MIT */
/*
 * Atomic access to words of the arena.
 *
 * Words are plain fixed-width integers and every access to a shared one goes through these names,
 * so that the memory order stands where the access is. The names say what the *other* side may
 * conclude: whoever sees a value stored with _release sees all that was written before it, if it
 * loads with _acquire. Of all operations of sequential order (_seq, exchanges, compare-exchanges,
 * fetch_...) there is one order for all; but an exchange is no barrier to a relaxed load behind it:
 * "store here, then look there" needs the order on both.
 */
#ifndef CV_ATOMIC_H
#define CV_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#define cv_load_relaxed(p)     __atomic_load_n((p), __ATOMIC_RELAXED)
#define cv_load_acquire(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define cv_load_seq(p)         __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define cv_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define cv_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define cv_store_seq(p, v)     __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define cv_exchange(p, v)      __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define cv_fetch_add(p, v)     __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define cv_fetch_sub(p, v)     __atomic_fetch_sub((p), (v), __ATOMIC_SEQ_CST)
#define cv_fetch_or(p, v)      __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define cv_fetch_and(p, v)     __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST)
#define cv_add_relaxed(p, v)   ((void)__atomic_fetch_add((p), (v), __ATOMIC_RELAXED))
/* Of a word that is not expected to change: compilers make a load of its own of each atomic one. */
#if defined(__SANITIZE_THREAD__)
#define cv_load_own(p) cv_load_relaxed(p)
#else
#define cv_load_own(p) (*(p))
#endif

#define cv_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)

/* On failure *expected holds what was there. */
#define cv_cas(p, expected, desired)                                                               \
    __atomic_compare_exchange_n(                                                                   \
        (p), (expected), (desired), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

static inline bool cv_cas32(uint32_t *word, uint32_t expected, uint32_t desired)
{
    return cv_cas(word, &expected, desired);
}

static inline bool cv_cas64(uint64_t *word, uint64_t expected, uint64_t desired)
{
    return cv_cas(word, &expected, desired);
}

/* What comes after a fast path, and must not make it longer by being inlined. */
#define CV_SLOW __attribute__((noinline, cold))

/* In a spinning loop: lets the other hyper-thread work and saves power. */
static inline void cv_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

#endif
