/* SPDX-License-Identifier: MIT */
#include "children.h"

#include <stdint.h>
#include <string.h>

struct point {
    int x;
    double y;
};

struct __attribute__((aligned(64))) line {
    char bytes[64];
};

TEST(values_are_initialised)
{
    int *n = covey_value(int, 5);
    double *d = covey_value(double, 0.5);
    struct point *p = covey_value(struct point, .x = 3, .y = 4);
    struct point *zero = covey_value(struct point, 0);

    check_int(*n, ==, 5);
    check(*d == 0.5);
    check(p->x == 3 && p->y == 4);
    check(zero->x == 0 && zero->y == 0);
    check_int(covey_array_length(n), ==, 1);
    check_int(covey_array_item_size(p), ==, sizeof *p);
    check_int(covey_array_free(n), ==, 0);
    check_int(covey_array_free(d), ==, 0);
    check_int(covey_array_free(p), ==, 0);
    check_int(covey_array_free(zero), ==, 0);
    check_int(covey_array_free(NULL), ==, 0);
}

TEST(arrays_know_their_length)
{
    double *zeros = covey_array(double, 100000);
    int *primes = covey_array_of(int, 2, 3, 5, 7, 11);
    const int source[] = {4, 5, 6};
    int *copy = covey_array_copy(int, source, 2);
    char *none = covey_array(char, 0);

    check_int(covey_array_length(zeros), ==, 100000);
    for (int i = 0; i < 100000; i++)
        check(zeros[i] == 0);
    check_int(covey_array_length(primes), ==, 5);
    check_int(primes[4], ==, 11);
    check_int(covey_array_length(copy), ==, 2);
    check_int(copy[1], ==, 5);
    check_int(covey_array_length(none), ==, 0);
    check_int(covey_array_item_size(none), ==, 1);
    check_int(covey_array_free(none), ==, 0);
    check_int(covey_array_free(copy), ==, 0);
    check_int(covey_array_free(primes), ==, 0);
    check_int(covey_array_free(zeros), ==, 0);
}

TEST(types_are_known_at_run_time)
{
    void *arrays[] = {covey_value(_Bool, 1), covey_value(char, 'a'), covey_value(int8_t, 1),
        covey_value(uint8_t, 1), covey_value(int16_t, 1), covey_value(uint16_t, 1),
        covey_value(int32_t, 1), covey_value(uint32_t, 1), covey_value(int64_t, 1),
        covey_value(uint64_t, 1), covey_value(float, 1), covey_value(double, 1),
        covey_value(struct point, .x = 1), covey_value(void *, NULL), covey_value(long long, 1)};
    const int types[] = {COVEY_BOOL, COVEY_CHAR, COVEY_INT8, COVEY_UINT8, COVEY_INT16, COVEY_UINT16,
        COVEY_INT32, COVEY_UINT32, COVEY_INT64, COVEY_UINT64, COVEY_FLOAT, COVEY_DOUBLE,
        COVEY_OTHER, COVEY_OTHER, COVEY_INT64};

    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        check_int(covey_array_type(arrays[i]), ==, types[i]);
        check_int(covey_array_free(arrays[i]), ==, 0);
    }
}

TEST(items_are_aligned)
{
    struct line *lines = covey_array(struct line, 3);
    struct line *locked = covey_array_locked(struct line, 3);
    char *pages = covey_array_new_with(&(struct covey_array_options){
        .size = sizeof(struct covey_array_options),
        .item_size = 1,
        .count = 10,
        .alignment = 4096,
        .locked = true,
    });

    check_int((uintptr_t)lines % 64, ==, 0);
    check_int((uintptr_t)locked % 64, ==, 0);
    check_int((uintptr_t)pages % 4096, ==, 0);
    check_int(covey_rlock_acquire(covey_array_lock(pages), 0), ==, 0);
    check_int(covey_rlock_release(covey_array_lock(pages)), ==, 0);
    check_int(covey_array_free(lines), ==, 0);
    check_int(covey_array_free(locked), ==, 0);
    check_int(covey_array_free(pages), ==, 0);
}

struct shared {
    struct point *point;
    int *plain;
    uint8_t *byte;
    int64_t *wide;
};

static int change(void *argument)
{
    struct shared *s = *(struct shared **)argument;

    for (int i = 0; i < 5000; i++) {
        uint8_t seen = covey_load(s->byte);

        check_int(covey_rlock_acquire(covey_array_lock(s->point), COVEY_FOREVER), ==, 0);
        s->point->x++;
        s->point->y++;
        check_int(covey_rlock_release(covey_array_lock(s->point)), ==, 0);
        covey_fetch_add(s->plain, 2);
        covey_fetch_sub(s->plain, 1);
        covey_fetch_add(s->wide, INT64_C(1) << 33);
        while (!covey_compare_exchange(s->byte, &seen, (uint8_t)(seen + 1))) {
        }
    }
    return 0;
}

TEST_METHODS(all_members_change_a_value, 60)
{
    struct shared *s = covey_calloc(1, sizeof *s);
    covey_process *children[4];

    s->point = covey_value_locked(struct point, .x = 10);
    s->plain = covey_value(int, 7);
    s->byte = covey_value(uint8_t, 0);
    s->wide = covey_value(int64_t, -1);
    for (int i = 0; i < 4; i++)
        children[i] = child_start(change, s, method);
    for (int i = 0; i < 4; i++)
        child_join(children[i], 0);
    check_int(s->point->x, ==, 20010);
    check(s->point->y == 20000);
    check_int(covey_load(s->plain), ==, 20007);
    check_int(covey_load(s->byte), ==, 20000 % 256);
    check_int(covey_load(s->wide), ==, (INT64_C(20000) << 33) - 1);
    check_int(covey_exchange(s->plain, 3), ==, 20007);
    covey_store(s->plain, 4);
    check_int(*s->plain, ==, 4);
    check_int(covey_array_free(s->point), ==, 0);
    check_int(covey_array_free(s->plain), ==, 0);
    check_int(covey_array_free(s->byte), ==, 0);
    check_int(covey_array_free(s->wide), ==, 0);
    check_int(covey_free(s), ==, 0);
    check_int(covey_close(), ==, 0);
}

static void hold(void *context)
{
    check_int(covey_rlock_acquire(covey_array_lock(context), COVEY_FOREVER), ==, 0);
    (void)raise(SIGKILL);
}

TEST(the_lock_of_a_value_outlives_its_holder)
{
    int *n = covey_value_locked(int, 1);
    int *many = covey_array_of_locked(int, 1, 2, 3);
    int *copied = covey_array_copy_locked(int, many, 2);

    test_reap(child_fork(hold, n), SIGKILL);
    check_int(covey_rlock_acquire(covey_array_lock(n), 5), ==, COVEY_EOWNERDEAD);
    check_fails(covey_array_free(n), COVEY_ESTATE, "held");
    check_int(*n, ==, 1);
    check_int(covey_rlock_release(covey_array_lock(n)), ==, 0);
    check_int(covey_array_free(n), ==, 0);
    check_int(many[2], ==, 3);
    check(copied[1] == 2 && covey_array_length(copied) == 2);
    check_int(covey_rlock_acquire(covey_array_lock(copied), 0), ==, 0);
    check_int(covey_rlock_release(covey_array_lock(copied)), ==, 0);
    check_int(covey_array_free(copied), ==, 0);
    check_int(covey_array_free(many), ==, 0);
}

static void *make(struct covey_array_options o)
{
    o.size = sizeof o;
    return covey_array_new_with(&o);
}

TEST(misuse_of_values_and_arrays_is_named)
{
    int *n = covey_value(int, 5);
    long outside = 3;
    int *block = covey_calloc(10, sizeof *block);

    check(!make((struct covey_array_options){.count = 3}));
    check_has(covey_error(), "item_size is 0");
    check(!make((struct covey_array_options){
        .item_size = 4, .count = 1, .initial = &outside, .initial_count = 2}));
    check_has(covey_error(), "2 initial items for 1");
    check(!make((struct covey_array_options){.item_size = 4, .count = 2, .initial_count = 2}));
    check_has(covey_error(), "initial is NULL");
    check(!make((struct covey_array_options){.item_size = 4, .count = 1, .alignment = 24}));
    check_has(covey_error(), "alignment 24");
    check(!make((struct covey_array_options){.item_size = SIZE_MAX / 2, .count = 3}));
    check_int(covey_error_code(), ==, COVEY_ENOMEM);
    check(!covey_array_lock(n));
    check_has(covey_error(), "without a lock");
    check(!covey_array_lock(NULL));
    check_has(covey_error(), "array is NULL");
    check_int(covey_array_length(&outside), ==, 0);
    check_has(covey_error(), "is not an array");
    check_fails(covey_array_type(block + 1), COVEY_EINVAL, "is not an array");
    check_fails(covey_array_free(block), COVEY_EINVAL, "is not an array");
    check_int(covey_free(block), ==, 0);
    check_int(covey_array_free(n), ==, 0);
    check_fails(covey_array_free(n), COVEY_EINVAL, "is not an array");
}
