/* SPDX-License-Identifier: MIT */
#include "arena/family.h"

#include "base/atomic.h"
#include "base/error.h"
#include "base/options.h"
#include "os/cpu.h"
#include "os/mutex.h"

#include <covey/family.h>
#include <covey/memory.h>

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define MAGIC 0x7965766f63u /* "covey" */

enum {
    ABI = 1, /* layout of all that lies in the arena; a spawned member must agree */
    HEADER_BYTES = 8192,
    ARENA_MIN = 4 << 20,
    MEMORY_MIN = 1 << 20,
    BYTES_PER_MEMBER = 256 << 10, /* small arenas have fewer members */
    SIZE_STEP = 1 << 20,
};

#ifdef CV_DEBUG
#define DETECTS_BY_DEFAULT true
#else
#define DETECTS_BY_DEFAULT false
#endif

_Static_assert(sizeof(struct cv_family) <= HEADER_BYTES, "the header has its own pages");

struct cv_arena cv_arena = {.memory = {.file = {.fd = -1}}};

/* Who has it is opening or closing. What a fork in mid-opening leaves in the child is to be made anew. */
static uint32_t opening;

static int make_self(void)
{
    return cv_wipe_on_fork(&cv_self, sizeof cv_self,
        offsetof(struct cv_self, room) + sizeof cv_self.room, &cv_self.forking);
}

static void publish(void)
{
    struct cv_family *family = (struct cv_family *)(void *)cv_arena.memory.base;

    cv_arena.members = (struct cv_member *)(void *)(cv_arena.memory.base + family->members_offset);
    cv_store_release(&cv_arena.family, family);
}

static uint32_t slots_for(uint64_t size)
{
    uint64_t slots = size / BYTES_PER_MEMBER;

    return slots > CV_MEMBERS_MAX ? CV_MEMBERS_MAX : (uint32_t)slots;
}

/* The new mapping reads as zero; this writes what is not. */
static int lay_out(const struct covey_options *options)
{
    struct cv_memory *memory = &cv_arena.memory;
    struct cv_family *family = (struct cv_family *)(void *)memory->base;

    if (cv_memory_claim(memory, memory->base, HEADER_BYTES + 2 * sizeof(struct cv_member)) != 0)
        return covey_error_code();
    family->abi = ABI;
    family->base = (uintptr_t)memory->base;
    family->size = memory->size;
    family->memory_max = options->memory_max;
    family->detects = options->deadlocks == COVEY_DEADLOCKS_DETECT ||
                      (options->deadlocks == COVEY_DEADLOCKS_DEFAULT && DETECTS_BY_DEFAULT);
    family->slots = slots_for(memory->size);
    family->slots_used = 2;
    family->members_offset = HEADER_BYTES;
    family->waiters = family->slots * CV_WAITERS_PER_MEMBER;
    family->waiters_offset = HEADER_BYTES + family->slots * sizeof(struct cv_member);
    if (!cv_heap_layout(&family->heap,
            family->waiters_offset + (uint64_t)family->waiters * CV_WAITER_BYTES, memory->size))
        return cv_fail(COVEY_ENOMEM, "an arena of %zu bytes has no room for a page", memory->size);
    family->magic = MAGIC;
    return 0;
}

/* Address space for @memory_max bytes of blocks: their tags take up to a quarter more. */
static size_t size_for(uint64_t memory_max)
{
    uint64_t size = memory_max + memory_max / 3 + ARENA_MIN;

    return (size_t)(size / SIZE_STEP * SIZE_STEP);
}

static int open_locked(const struct covey_options *options)
{
    struct covey_options o = options ? *options : (struct covey_options){0};
    int r = make_self();

    if (r != 0)
        return r;
    if (!o.memory_max)
        o.memory_max = 4 * cv_memory_of_machine();
    r = cv_memory_create(&cv_arena.memory, size_for(o.memory_max), ARENA_MIN);
    if (r != 0)
        return r;
    r = lay_out(&o);
    if (r != 0) {
        cv_memory_unmap(&cv_arena.memory);
        return r;
    }
    publish();
    return 0;
}

int cv_family_open(const struct covey_options *options)
{
    int r = 0;

    if (cv_load_acquire(&cv_arena.family))
        return 0;
    (void)cv_mutex_lock(&opening);
    if (!cv_arena.family)
        r = open_locked(options);
    cv_mutex_unlock(&opening);
    return r;
}

int cv_family_attach(int fd, char *base, size_t size)
{
    struct cv_family *family;
    int r = make_self();

    if (r != 0)
        return r;
    r = cv_memory_attach(&cv_arena.memory, fd, base, size);
    if (r != 0)
        return r;
    family = (struct cv_family *)(void *)base;
    if (family->magic != MAGIC || family->abi != ABI || family->base != (uintptr_t)base ||
        family->size != size) {
        r = cv_fail(
            COVEY_ECORRUPT, "descriptor %d is not the memory of a family of this version", fd);
        return r;
    }
    publish();
    return 0;
}

/* Public ************************************************************************************* */

int covey_open_with(const struct covey_options *options)
{
    struct covey_options wanted = {0};
    int r = options ? cv_options_read(&wanted, sizeof wanted, options, "covey_options") : 0;

    if (r != 0)
        return r;
    if (wanted.memory_max && wanted.memory_max < MEMORY_MIN)
        return cv_fail(COVEY_EINVAL, "memory_max is %zu bytes: at least %d are needed",
            wanted.memory_max, MEMORY_MIN);
    if (wanted.memory_max > PTRDIFF_MAX / 2)
        return cv_fail(COVEY_EINVAL, "memory_max is %zu bytes: more than there are addresses",
            wanted.memory_max);
    if (wanted.deadlocks < COVEY_DEADLOCKS_DEFAULT || wanted.deadlocks > COVEY_DEADLOCKS_IGNORE)
        return cv_fail(
            COVEY_EINVAL, "deadlocks is %d: no enum covey_deadlocks", (int)wanted.deadlocks);
    r = cv_family_open(&wanted);
    return r == 0 ? cv_member_join(true) : r;
}

int covey_close(void)
{
    if (!cv_arena.family || !cv_self.tag)
        return cv_fail(COVEY_ESTATE, "this process is in no family");
    if (cv_load_relaxed(&cv_self.opens) > 1) {
        __atomic_fetch_sub(&cv_self.opens, 1, __ATOMIC_SEQ_CST);
        return 0;
    }
    cv_store_relaxed(&cv_self.opens, 0);
    if (!cv_member_leave())
        return 0;
    (void)cv_mutex_lock(&opening);
    cv_store_release(&cv_arena.family, NULL);
    cv_memory_unmap(&cv_arena.memory);
    cv_mutex_unlock(&opening);
    return 0;
}

unsigned covey_cpu_count(void)
{
    return cv_cpu_usable();
}

int covey_stats(struct covey_stats *stats)
{
    struct covey_stats now = {0};
    struct cv_heap_use use;
    int r;

    if (!stats)
        return cv_fail(COVEY_EINVAL, "stats is NULL");
    if (stats->size < sizeof stats->size)
        return cv_fail(
            COVEY_EINVAL, "stats->size is %zu: set it to sizeof(struct covey_stats)", stats->size);
    r = cv_enter();
    if (r != 0)
        return r;
    now.size = stats->size < sizeof now ? stats->size : sizeof now;
    now.members = cv_member_bury_all();
    cv_heap_count(&use);
    now.blocks = use.blocks;
    now.bytes = use.bytes;
    now.bytes_claimed = use.claimed;
    now.bytes_max = (size_t)cv_arena.family->heap.pages * CV_PAGE_BYTES;
    memcpy(stats, &now, now.size);
    return 0;
}
