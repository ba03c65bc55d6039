/* SPDX-License-Identifier: MIT */
/*
 * The arena: one mapping, at one address in every member, from open to the last member's end.
 *
 *   +--------+---------+---------+-------------------------------+------------------+
 *   | header | members | waiters | heap: page words, notes, tags | heap: the pages  |
 *   +--------+---------+---------+-------------------------------+------------------+
 *
 * All of it is address space without memory; each part is claimed from the kernel as it grows into
 * use. The header is written once, by the process that opens the family, before anybody else can
 * see it; the fields that change later are heap hints, @slots_used, @waiters_used, @wait_count and
 * @root, each with its comment.
 */
#ifndef CV_FAMILY_H
#define CV_FAMILY_H

#include "arena/heap.h"
#include "arena/member.h"
#include "os/memory.h"

#include <covey/family.h>

#include <stdint.h>

enum {
    CV_ROOT_COUNT = 256,
    CV_WAITER_BYTES = 64,
    CV_WAITERS_PER_MEMBER = 16,
    CV_PIPE_LOCKS = 64,
};

struct cv_family {
    uint64_t magic;
    uint32_t abi;
    uint32_t slots; /* length of the member table */
    uint64_t base;  /* where it is mapped, everywhere */
    uint64_t size;
    uint64_t memory_max;
    uint64_t members_offset;

    uint32_t detects; /* 1: deadlocks are looked for (sync/deadlock.h) */

    /* Threads that wait: records of the sync floor (sync/waiter.h). */
    uint32_t waiters; /* length of the table */
    uint64_t waiters_offset;
    uint32_t waiters_used; /* as slots_used */
    uint64_t wait_count;   /* numbers the waits; fetch-and-add */
    uint32_t queues;       /* and the queues */
    uint32_t has_pipes;    /* 1: there is one, or has been */

    /* Slots below this have been claimed from the kernel and may be in use. Only grows, by CAS
     * after the claim. */
    uint32_t slots_used;
    /* Where the next search for a free slot starts, so that slots rest before they are reused. */
    uint32_t slot_rover;

    /* Blocks of the process floor (proc/function.h), 0 until one is made; each set once, by CAS. */
    uint64_t root[CV_ROOT_COUNT];

    struct cv_heap heap;

    /* Of the lives of pipes (msg/pipe.h). */
    struct {
        uint64_t word;
        uint32_t alarm[2];
    } __attribute__((aligned(64))) pipe_lock[CV_PIPE_LOCKS];
};

/* This process's view, the same in all its forks; @family is set last and cleared first. */
struct cv_arena {
    struct cv_memory memory;
    struct cv_family *family;
    struct cv_member *members;
    uint32_t epoch; /* how often this process, and those it was forked from, have joined one */
};

extern struct cv_arena cv_arena;

/* Opens a family if this process has none yet; NULL: with the default options. */
int cv_family_open(const struct covey_options *options);

/* In a fresh program image: maps the family of another process. */
int cv_family_attach(int fd, char *base, size_t size);

/* Is [@p, @p + @size) in the arena, with @p aligned to @alignment? */
static inline bool cv_arena_has(const void *p, size_t size, size_t alignment)
{
    uintptr_t offset = (uintptr_t)p - (uintptr_t)cv_arena.memory.base;

    return cv_arena.family && offset < cv_arena.memory.size &&
           size <= cv_arena.memory.size - offset && offset % alignment == 0;
}

#endif
