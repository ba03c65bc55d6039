/* SPDX-License-Identifier: MIT */
/**
 * covey/array.h - typed values and arrays that all members of the family share
 *
 *     int *counter = covey_value(int, 5);
 *     double *grid = covey_array(double, 1000000);
 *     int *primes = covey_array_of(int, 2, 3, 5, 7, 11);
 *     struct point *p = covey_value_locked(struct point, .x = 1, .y = 2);
 *
 * What these give is an ordinary pointer into the arena, and there is nothing else: it can be used,
 * stored and handed to other members like any pointer, and its length, its type and its lock are
 * found by it. All macros give NULL when there is no memory, with a message, as covey_alloc(). What
 * they give belongs to the family and stays, whoever dies, until it is freed by covey_array_free().
 *
 * A value with a lock has a covey_rlock of its own, which nobody takes for you; who changes several
 * fields takes it:
 *
 *     covey_rlock_acquire(covey_array_lock(p), COVEY_FOREVER);
 *     p->x++, p->y++;
 *     covey_rlock_release(covey_array_lock(p));
 *
 * Single integers, here and anywhere else in the arena, can be changed without a lock:
 *
 *     covey_fetch_add(counter, 1);
 *
 * These macros take integers only, no bool, no floating point and no pointer, and all members see what
 * they do in one order (as memory_order_seq_cst of C). Where some change an integer by them, others
 * read it by covey_load().
 *
 * All functions may be called by any thread of any member, at the same time.
 */
#ifndef COVEY_ARRAY_H
#define COVEY_ARRAY_H

#include <covey/rlock.h>

#ifdef __cplusplus
extern "C" {
#endif

/** enum covey_type - what an item is, to those who do not see the source (other languages) */
enum covey_type {
    COVEY_OTHER, /* a structure, a pointer, or anything else */
    COVEY_BOOL,
    COVEY_CHAR,
    COVEY_INT8,
    COVEY_INT16,
    COVEY_INT32,
    COVEY_INT64,
    COVEY_UINT8,
    COVEY_UINT16,
    COVEY_UINT32,
    COVEY_UINT64,
    COVEY_FLOAT,
    COVEY_DOUBLE,
};

/** struct covey_array_options - what to make; zero means the default */
struct covey_array_options {
    size_t size;          /* sizeof(struct covey_array_options) */
    size_t item_size;     /* in bytes */
    size_t count;         /* how many items */
    size_t alignment;     /* of the first item, a power of two up to 1 GiB; default: 16 */
    const void *initial;  /* the first items are copied from here; NULL: all are zero */
    size_t initial_count; /* so many of them; the others are zero */
    enum covey_type type;
    bool locked; /* with a lock */
};

/**
 * covey_array_new_with() - make an array, or a value, which is an array of one
 * @options: what is wanted; the macros below fill it in
 *
 * Returns its first item; NULL with COVEY_EINVAL for an item_size of 0, more initial items than there
 * are, or an alignment that is no power of two; COVEY_ENOMEM; the codes of covey_open_with().
 */
COVEY_API void *covey_array_new_with(const struct covey_array_options *options);

/**
 * covey_array_free() - free a value or an array
 * @array: what one of the macros gave; NULL does nothing
 *
 * Not by covey_free(): the pointer is not the start of its block. Returns 0; COVEY_EINVAL when it is
 * neither; COVEY_ESTATE when its lock is held.
 */
COVEY_API int covey_array_free(void *array);

/** covey_array_length() - how many items; 1 for a value; 0 when it is neither, with COVEY_EINVAL */
COVEY_API size_t covey_array_length(const void *array);

/** covey_array_item_size() - bytes of an item; 0 when it is no value and no array */
COVEY_API size_t covey_array_item_size(const void *array);

/** covey_array_type() - an enum covey_type; COVEY_EINVAL when it is no value and no array */
COVEY_API int covey_array_type(const void *array);

/**
 * covey_array_lock() - the lock of a value or an array
 * @array: made by one of the macros that end with _locked
 *
 * Returns the lock, which lives as long as the array; NULL with COVEY_EINVAL when @array has none.
 */
COVEY_API covey_rlock *covey_array_lock(void *array);

#ifndef __cplusplus

#define COVEY_TYPE_OF_(item)                                                                       \
    _Generic((item), _Bool                                                                         \
             : COVEY_BOOL, char                                                                    \
             : COVEY_CHAR, signed char                                                             \
             : COVEY_INT8, unsigned char                                                           \
             : COVEY_UINT8, short                                                                  \
             : COVEY_INT16, unsigned short                                                         \
             : COVEY_UINT16, int                                                                   \
             : COVEY_INT32, unsigned                                                               \
             : COVEY_UINT32, long                                                                  \
             : sizeof(long) == 8 ? COVEY_INT64 : COVEY_INT32, unsigned long                        \
             : sizeof(long) == 8 ? COVEY_UINT64 : COVEY_UINT32, long long                          \
             : COVEY_INT64, unsigned long long                                                     \
             : COVEY_UINT64, float                                                                 \
             : COVEY_FLOAT, double                                                                 \
             : COVEY_DOUBLE, default                                                               \
             : COVEY_OTHER)

#define COVEY_ARRAY_(item_type, with_lock, n, first, n_first)                                      \
    ((item_type *)covey_array_new_with(                                                            \
        &(struct covey_array_options){.size = sizeof(struct covey_array_options),                  \
            .item_size = sizeof(item_type),                                                        \
            .count = (n),                                                                          \
            .alignment = _Alignof(item_type) > 16 ? _Alignof(item_type) : 16,                      \
            .initial = (first),                                                                    \
            .initial_count = (n_first),                                                            \
            .type = COVEY_TYPE_OF_(*(item_type *)0),                                               \
            .locked = (with_lock)}))

#define COVEY_COUNT_(item_type, ...) (sizeof((item_type[]){__VA_ARGS__}) / sizeof(item_type))

/* covey_value(type, initial value) - a pointer to a shared value */
#define covey_value(item_type, ...) COVEY_ARRAY_(item_type, 0, 1, (&(item_type){__VA_ARGS__}), 1)

/* covey_value_locked(type, initial value) - a pointer to a shared value with a lock */
#define covey_value_locked(item_type, ...)                                                         \
    COVEY_ARRAY_(item_type, 1, 1, (&(item_type){__VA_ARGS__}), 1)

/* covey_array(type, count) - a shared array of @count items, all zero */
#define covey_array(item_type, n) COVEY_ARRAY_(item_type, 0, n, NULL, 0)

/* covey_array_locked(type, count) - a shared array of @count items, all zero, with a lock */
#define covey_array_locked(item_type, n) COVEY_ARRAY_(item_type, 1, n, NULL, 0)

/* covey_array_of(type, items...) - a shared array of these items */
#define covey_array_of(item_type, ...)                                                             \
    COVEY_ARRAY_(item_type, 0, COVEY_COUNT_(item_type, __VA_ARGS__), ((item_type[]){__VA_ARGS__}), \
        COVEY_COUNT_(item_type, __VA_ARGS__))

/* covey_array_of_locked(type, items...) - a shared array of these items, with a lock */
#define covey_array_of_locked(item_type, ...)                                                      \
    COVEY_ARRAY_(item_type, 1, COVEY_COUNT_(item_type, __VA_ARGS__), ((item_type[]){__VA_ARGS__}), \
        COVEY_COUNT_(item_type, __VA_ARGS__))

/* covey_array_copy(type, items, count) - a shared array of @count items, copied from @items */
#define covey_array_copy(item_type, items, n)                                                      \
    COVEY_ARRAY_(item_type, 0, n, 1 ? (items) : (const item_type *)0, n)

/* covey_array_copy_locked(type, items, count) - a shared array copied from @items, with a lock */
#define covey_array_copy_locked(item_type, items, n)                                               \
    COVEY_ARRAY_(item_type, 1, n, 1 ? (items) : (const item_type *)0, n)

/* Nothing but integers, of any width that the machine changes at once. */
#define COVEY_INTEGER_(pointer)                                                                    \
    _Generic(*(pointer), char                                                                      \
             : (pointer), signed char                                                              \
             : (pointer), unsigned char                                                            \
             : (pointer), short                                                                    \
             : (pointer), unsigned short                                                           \
             : (pointer), int                                                                      \
             : (pointer), unsigned                                                                 \
             : (pointer), long                                                                     \
             : (pointer), unsigned long                                                            \
             : (pointer), long long                                                                \
             : (pointer), unsigned long long                                                       \
             : (pointer))

/* covey_load(pointer) - read an integer of the arena that others may be changing */
#define covey_load(pointer) __atomic_load_n(COVEY_INTEGER_(pointer), __ATOMIC_SEQ_CST)

/* covey_store(pointer, value) - write an integer of the arena that others may be using */
#define covey_store(pointer, value)                                                                \
    __atomic_store_n(COVEY_INTEGER_(pointer), (value), __ATOMIC_SEQ_CST)

/* covey_fetch_add(pointer, n) - add to an integer at once; gives what it was before */
#define covey_fetch_add(pointer, n)                                                                \
    __atomic_fetch_add(COVEY_INTEGER_(pointer), (n), __ATOMIC_SEQ_CST)

/* covey_fetch_sub(pointer, n) - subtract from an integer at once; gives what it was before */
#define covey_fetch_sub(pointer, n)                                                                \
    __atomic_fetch_sub(COVEY_INTEGER_(pointer), (n), __ATOMIC_SEQ_CST)

/* covey_exchange(pointer, value) - store a value at once; gives what was there before */
#define covey_exchange(pointer, value)                                                             \
    __atomic_exchange_n(COVEY_INTEGER_(pointer), (value), __ATOMIC_SEQ_CST)

/* covey_compare_exchange(pointer, expected, value) - store the value if *expected is what is there: true;
 * else false, and *expected is what is there */
#define covey_compare_exchange(pointer, expected, value)                                           \
    __atomic_compare_exchange_n(                                                                   \
        COVEY_INTEGER_(pointer), (expected), (value), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

#endif

#ifdef __cplusplus
}
#endif

#endif
