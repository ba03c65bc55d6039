/* SPDX-License-Identifier: MIT */
/*
 * A bare ring, of Concurrency Kit: the bound. It spins, and whoever dies in it leaves it so. One of
 * a single producer and a single consumer, or of many. And, for large items, what it takes to copy them
 * in and out, by one process.
 */
#include "messages.h"

#include <ck_pr.h>
#include <ck_ring.h>

#include <string.h>
#include <sys/mman.h>

#define RING_BYTES ((size_t)1 << 20)

struct i8 {
    char bytes[8];
};
struct i64 {
    char bytes[64];
};
struct i800 {
    char bytes[800];
};
struct i1024 {
    char bytes[1024];
};
struct i6400 {
    char bytes[6400];
};
struct i65536 {
    char bytes[65536];
};

CK_RING_PROTOTYPE(i8, i8)
CK_RING_PROTOTYPE(i64, i64)
CK_RING_PROTOTYPE(i800, i800)
CK_RING_PROTOTYPE(i1024, i1024)
CK_RING_PROTOTYPE(i6400, i6400)
CK_RING_PROTOTYPE(i65536, i65536)

static struct {
    ck_ring_t ring;
    void *items;
} * way_of[WAYS_MAX];

static const struct plan *plan;

static void make(const struct plan *p)
{
    size_t size = p->size * p->many; /* a batch is an item */
    unsigned n = 16;

    plan = p;
    while (n * size < RING_BYTES)
        n *= 2;
    for (unsigned i = 0; i < p->ways; i++) {
        way_of[i] = mmap(NULL, sizeof *way_of[i] + n * size + 64, PROT_READ | PROT_WRITE,
            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        fail_if(way_of[i] == MAP_FAILED, "shared memory");
        way_of[i]->items = (void *)(way_of[i] + 1);
        ck_ring_init(&way_of[i]->ring, n);
    }
}

#define TYPE_OPERATIONS(type)                                                                      \
    static void put_##type(unsigned way, const void *item)                                         \
    {                                                                                              \
        ck_ring_t *ring = &way_of[way]->ring;                                                      \
        struct type *items = way_of[way]->items;                                                   \
        struct type copy;                                                                          \
                                                                                                   \
        memcpy(&copy, item, sizeof copy);                                                          \
        if (plan->producers == 1 && plan->consumers == 1) {                                        \
            while (!CK_RING_ENQUEUE_SPSC(type, ring, items, &copy))                                \
                ck_pr_stall();                                                                     \
        } else {                                                                                   \
            while (!CK_RING_ENQUEUE_MPMC(type, ring, items, &copy))                                \
                ck_pr_stall();                                                                     \
        }                                                                                          \
    }                                                                                              \
    static void get_##type(unsigned way, void *item)                                               \
    {                                                                                              \
        ck_ring_t *ring = &way_of[way]->ring;                                                      \
        struct type *items = way_of[way]->items;                                                   \
                                                                                                   \
        if (plan->producers == 1 && plan->consumers == 1) {                                        \
            while (!CK_RING_DEQUEUE_SPSC(type, ring, items, item))                                 \
                ck_pr_stall();                                                                     \
        } else {                                                                                   \
            while (!CK_RING_DEQUEUE_MPMC(type, ring, items, item))                                 \
                ck_pr_stall();                                                                     \
        }                                                                                          \
    }

TYPE_OPERATIONS(i8)
TYPE_OPERATIONS(i64)
TYPE_OPERATIONS(i800)
TYPE_OPERATIONS(i1024)
TYPE_OPERATIONS(i6400)
TYPE_OPERATIONS(i65536)

static void put(unsigned way, const void *items)
{
    switch (plan->size * plan->many) {
    case 8:
        put_i8(way, items);
        break;
    case 64:
        put_i64(way, items);
        break;
    case 800:
        put_i800(way, items);
        break;
    case 1024:
        put_i1024(way, items);
        break;
    case 6400:
        put_i6400(way, items);
        break;
    default:
        put_i65536(way, items);
        break;
    }
}

static void get(unsigned way, void *items)
{
    switch (plan->size * plan->many) {
    case 8:
        get_i8(way, items);
        break;
    case 64:
        get_i64(way, items);
        break;
    case 800:
        get_i800(way, items);
        break;
    case 1024:
        get_i1024(way, items);
        break;
    case 6400:
        get_i6400(way, items);
        break;
    default:
        get_i65536(way, items);
        break;
    }
}

static char *copy_in;
static char *copy_out;

static void make_copies(const struct plan *p)
{
    plan = p;
    copy_in = mmap(
        NULL, p->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    copy_out = mmap(
        NULL, p->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    fail_if(copy_in == MAP_FAILED || copy_out == MAP_FAILED, "memory");
}

static void put_copies(unsigned way, const void *items)
{
    (void)way;
    memcpy(copy_in, items, plan->size);
    memcpy(copy_out, copy_in, plan->size);
}

static void get_copies(unsigned way, void *items)
{
    (void)way;
    memset(items, 1, 1);
}

const struct channel channels[] = {
    {.name = "copies", .make = make_copies, .put = put_copies, .get = get_copies},
    {.name = "ring", .make = make, .put = put, .get = get},
    {0},
};
