/* SPDX-License-Identifier: MIT */
/* Values and arrays. */
#include "sweep.h"

enum {
    ITEMS = 3,
    OFFSET = 80, /* of the first item in the block, behind the lock */
};

static int *array;

static void make(void)
{
    array = covey_array_of_locked(int, 1, 2, 3);
    check(array != NULL);
}

static void expect_whole(int *a)
{
    check_int(covey_array_length(a), ==, ITEMS);
    check_int(covey_array_item_size(a), ==, sizeof *a);
    check_int(covey_array_type(a), ==, COVEY_INT32);
    for (int i = 0; i < ITEMS; i++)
        check_int(a[i], ==, i + 1);
}

/* Making ************************************************************************************* */

/* What V has left is nothing, or an array. */
static void find_array(void)
{
    char *block = sweep_stray();
    int *a = (int *)(void *)(block + OFFSET);

    check(block != NULL || !sweep_victim_finished());
    if (!block)
        return;
    expect_whole(a);
    check_int(covey_rlock_acquire(covey_array_lock(a), 0), ==, 0);
    check_int(covey_rlock_release(covey_array_lock(a)), ==, 0);
    check_int(covey_array_free(a), ==, 0);
}

static void make_and_free(void)
{
    make();
    check_int(covey_array_free(array), ==, 0);
}

OPERATION(array_make, .victim = make, .rescue = make_and_free, .verify = find_array);

/* Freeing ************************************************************************************ */

static void free_array(void)
{
    check_int(covey_array_free(array), ==, 0);
}

/* If V has not begun to, W does. */
static void free_what_is_left(void)
{
    int r = covey_array_free(array);

    check(r == 0 || r == COVEY_EINVAL);
    check(r == COVEY_EINVAL || !sweep_victim_finished());
}

OPERATION(array_free, .setup = make, .victim = free_array, .rescue = sweep_use_heap,
    .verify = free_what_is_left);

/* The lock *********************************************************************************** */

static void take_twice(void)
{
    covey_rlock *lock = covey_array_lock(array);

    check_int(covey_rlock_acquire(lock, COVEY_FOREVER), ==, 0);
    check_int(covey_rlock_acquire(lock, COVEY_FOREVER), ==, 0);
}

static void use(void)
{
    covey_rlock *lock = covey_array_lock(array);
    int r = covey_rlock_acquire(lock, sweep_patience());

    if (r == COVEY_ETIMEDOUT && sweep_was_stalled())
        return;
    check(r == 0 || r == COVEY_EOWNERDEAD);
    expect_whole(array);
    check_int(covey_rlock_release(lock), ==, 0);
    check_int(covey_rlock_release(lock), ==, COVEY_ENOTHELD);
}

static void done(void)
{
    int r = covey_rlock_acquire(covey_array_lock(array), 1);

    check(r == 0 || r == COVEY_EOWNERDEAD);
    check_int(covey_array_free(array), ==, COVEY_ESTATE);
    expect_whole(array);
    check_int(covey_rlock_release(covey_array_lock(array)), ==, 0);
    check_int(covey_array_free(array), ==, 0);
}

OPERATION(array_lock, .setup = make, .victim = take_twice, .rescue = use, .verify = done,
    .proves = "lock_takeover rlock_count");
