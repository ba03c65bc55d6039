/* SPDX-License-Identifier: MIT */
/* The heap. What V leaves is looked for after each operation (world.c): here is what is special. */
#include "sweep.h"

#include "arena/family.h"

#include <sched.h>
#include <signal.h>

enum {
    SMALL = 200,  /* there are others of its class */
    OTHER = 6000, /* there are none */
    MIDDLE = 500,
    PAGES = 3 * CV_PAGE_BYTES - 100,
    MANY_PAGES = 40 * CV_PAGE_BYTES,
    OTHERS_TAG = 0, /* told */
};

static unsigned char *block;
static size_t size;
static pid_t other;

static struct cv_heap *heap(void)
{
    return &cv_arena.family->heap;
}

/* Allocating ************************************************************************************ */

static void allocate(size_t bytes)
{
    block = covey_alloc(bytes);
    check(block != NULL);
    block[0] = block[bytes - 1] = 1;
}

static void alloc_small(void)
{
    allocate(SMALL);
}

OPERATION(heap_alloc_small, .victim = alloc_small, .rescue = sweep_use_heap,
    .proves = "heap_tags member_owns member_burial");

static void alloc_first(void)
{
    allocate(OTHER);
}

OPERATION(heap_alloc_first, .victim = alloc_first, .rescue = sweep_use_heap,
    .proves = "heap_claim heap_tags");

static void alloc_large(void)
{
    allocate(PAGES);
}

/* Leaves a free page before one that is not: just where a victim that was stopped wanted to have
 * three. */
static void use_pages(void)
{
    void *first = covey_alloc(CV_PAGE_BYTES);

    check(first != NULL);
    (void)sweep_keep(CV_PAGE_BYTES);
    sweep_use_heap();
    check_int(covey_free(first), ==, 0);
}

OPERATION(heap_alloc_large, .victim = alloc_large, .rescue = use_pages,
    .proves = "heap_claim heap_length");

static void alloc_aligned(void)
{
    block = covey_alloc_aligned(2 * CV_PAGE_BYTES, PAGES);
    check_int((uintptr_t)block % (2 * CV_PAGE_BYTES), ==, 0);
}

OPERATION(heap_alloc_aligned, .victim = alloc_aligned, .rescue = use_pages);

static void alloc_aligned_small(void)
{
    block = covey_alloc_aligned(1024, 100);
    check_int((uintptr_t)block % 1024, ==, 0);
}

OPERATION(heap_alloc_aligned_small, .victim = alloc_aligned_small, .rescue = sweep_use_heap);

static void alloc_zeroed(void)
{
    block = covey_calloc(10, MIDDLE / 10);
    for (int i = 0; i < MIDDLE; i++)
        check_int(block[i], ==, 0);
}

OPERATION(heap_calloc, .victim = alloc_zeroed, .rescue = sweep_use_heap);

/* There is room only when a dead process's block is freed. */
static void own_many_pages(void)
{
    check_int(covey_own(covey_alloc(MANY_PAGES)), ==, 0);
}

static void set_up_full(void)
{
    sweep_kill(sweep_fork(own_many_pages));
}

static void alloc_many_pages(void)
{
    block = covey_alloc(MANY_PAGES);
    check(block || sweep_was_stalled()); /* others may have taken the room */
    check_int(covey_free(block), ==, 0);
}

OPERATION(heap_alloc_in_full, .setup = set_up_full, .victim = alloc_many_pages,
    .rescue = sweep_use_heap, .is_slow = true, .proves = "heap_run");

/* An empty slab is there, of which V takes a block when it is not a slab any more. */
static void set_up_empty_slab(void)
{
    check_int(covey_free(covey_alloc(OTHER)), ==, 0);
}

static void trim(void)
{
    check_int(covey_trim(), ==, 0);
}

/* The page is a slab again: there are no other marks on it than these blocks'. */
static void use_slab_again(void)
{
    void *blocks[10];

    for (int i = 0; i < 10; i++) {
        blocks[i] = covey_alloc(OTHER);
        check(blocks[i] != NULL);
    }
    for (int i = 0; i < 10; i++)
        check_int(covey_free(blocks[i]), ==, 0);
}

OPERATION(heap_alloc_from_trimmed, .setup = set_up_empty_slab, .victim = alloc_first,
    .rescue = trim, .verify = use_slab_again, .proves = "heap_stale_tags");

/* Freeing *************************************************************************************** */

static void set_up(size_t bytes)
{
    size = bytes;
    block = covey_alloc(bytes);
    sweep_fill(block, bytes, 0);
}

static void set_up_small(void)
{
    set_up(SMALL);
}

static void set_up_large(void)
{
    set_up(PAGES);
}

static void set_up_page(void)
{
    set_up(CV_PAGE_BYTES);
}

/* The last block of a slab that is not needed. */
static void set_up_last(void)
{
    set_up(OTHER);
    for (int i = 0; i < CV_CLASSES; i++)
        heap()->class_empty[i] = 100;
}

static void free_block(void)
{
    check_int(covey_free(block), ==, 0);
}

/* A block that was the family's when V died is as it was. */
static void check_block(bool may_be_left)
{
    if (sweep_owner_at_death(block) != (uint32_t)CV_OWNER_FAMILY)
        return;
    check(may_be_left);
    check_int(covey_owner(block), ==, 0);
    check(sweep_is_filled(block, size, 0));
    check_int(covey_free(block), ==, 0);
}

static void is_freed(void)
{
    check_block(!sweep_victim_finished());
}

OPERATION(heap_free_small, .setup = set_up_small, .victim = free_block, .rescue = sweep_use_heap,
    .verify = is_freed);

OPERATION(heap_free_last, .setup = set_up_last, .victim = free_block, .rescue = sweep_use_heap,
    .verify = is_freed, .proves = "heap_shut heap_claim");

OPERATION(heap_free_large, .setup = set_up_large, .victim = free_block, .rescue = use_pages,
    .verify = is_freed, .proves = "heap_claim");

/* Free memory of all kinds, which is kept until V trims. */
static void set_up_trim(void)
{
    void *blocks[] = {covey_alloc(OTHER), covey_alloc(PAGES), covey_alloc(MIDDLE)};

    heap()->kept_max = 1 << 30;
    for (int i = 0; i < 3; i++)
        check_int(covey_free(blocks[i]), ==, 0);
}

OPERATION(heap_trim, .setup = set_up_trim, .victim = trim, .rescue = sweep_use_heap,
    .proves = "heap_shut heap_claim");

/* Owning **************************************************************************************** */

static void own(void)
{
    check_int(covey_own(block), ==, 0);
}

static void share(void)
{
    check_int(covey_share(block), ==, 0);
}

static void is_owned(void)
{
    check_block(!sweep_victim_finished());
}

static void is_shared(void)
{
    if (sweep_victim_finished())
        check_int(sweep_owner_at_death(block), ==, (uint32_t)CV_OWNER_FAMILY);
    check_block(true);
}

OPERATION(heap_own_small, .setup = set_up_small, .victim = own, .rescue = sweep_use_heap,
    .verify = is_owned, .proves = "heap_tags member_burial");

OPERATION(heap_own_large, .setup = set_up_large, .victim = own, .rescue = sweep_use_heap,
    .verify = is_owned, .proves = "heap_run");

OPERATION(heap_share_small, .setup = set_up_small, .warm = own, .victim = share,
    .rescue = sweep_use_heap, .verify = is_shared);

OPERATION(heap_share_large, .setup = set_up_large, .warm = own, .victim = share,
    .rescue = sweep_use_heap, .verify = is_shared);

/* It was never the family's. */
static void nothing_is_left(void)
{
    check(!sweep_stray());
}

static void alloc_own_small(void)
{
    check(covey_alloc_own(SMALL) != NULL);
}

OPERATION(heap_own_new_small, .victim = alloc_own_small, .rescue = sweep_use_heap,
    .verify = nothing_is_left, .proves = "heap_tags member_owns member_burial");

static void alloc_own_large(void)
{
    check(covey_alloc_own(PAGES) != NULL);
}

OPERATION(heap_own_new_large, .victim = alloc_own_large, .rescue = use_pages,
    .verify = nothing_is_left, .proves = "heap_run");

/* Growing *************************************************************************************** */

static void grow(void)
{
    check(covey_realloc(block, 3 * size) != NULL);
}

/* Unless its owner has died before. */
static void grow_if_there(void)
{
    check(covey_realloc(block, 3 * size) != NULL || sweep_was_stalled());
}

/*
 * The old block, or the new one, has what was in it. Between the freeing of the old one and the
 * giving away of the new one there is none: nobody else could know where it is.
 */
static void has_grown(void)
{
    bool old = sweep_owner_at_death(block) == (uint32_t)CV_OWNER_FAMILY;

    check(!(old && sweep_stray()));
    if (sweep_stray())
        check(sweep_is_filled(sweep_stray(), size, 0));
    check(!sweep_victim_finished() || sweep_stray());
    check_block(true);
}

OPERATION(heap_realloc_small, .setup = set_up_small, .victim = grow, .rescue = sweep_use_heap,
    .verify = has_grown, .proves = "heap_tags");

OPERATION(heap_realloc_large, .setup = set_up_page, .victim = grow, .rescue = sweep_use_heap,
    .verify = has_grown, .is_slow = true, .proves = "heap_run");

/* The block of a process that dies meanwhile: it goes with it. */
static void set_up_others(void)
{
    set_up(MIDDLE);
    other = sweep_fork(own);
    sweep_tell(OTHERS_TAG, cv_heap_owner(block, NULL));
}

static void bury_other(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    check_int(kill(other, SIGKILL), ==, 0);
    while (covey_stats(&stats) == 0 && stats.members > 2u + sweep_is_stalled())
        (void)sched_yield();
}

static void count_others(char *b, size_t bytes, uint32_t owner, void *context)
{
    (void)b;
    (void)bytes;
    *(unsigned *)context += owner == sweep_told(OTHERS_TAG);
}

/* Who gave a block to the dead has freed it himself. */
static void see_nothing_given(void)
{
    unsigned n = 0;

    if (sweep_was_stalled() && sweep_victim_finished())
        cv_heap_each(count_others, &n);
    check_int(n, ==, 0);
}

static void is_gone(void)
{
    sweep_kill(other);
}

OPERATION(heap_realloc_of_another, .setup = set_up_others, .victim = grow_if_there,
    .rescue = bury_other, .look = see_nothing_given, .verify = is_gone,
    .proves = "heap_give heap_given");

/* Burying *************************************************************************************** */

static void own_much(void)
{
    check_int(covey_own(covey_alloc(SMALL)), ==, 0);
    check_int(covey_own(covey_alloc(OTHER)), ==, 0);
    check_int(covey_own(covey_alloc(PAGES)), ==, 0);
    check_int(covey_own(covey_alloc(CV_PAGE_BYTES)), ==, 0);
}

static void set_up_dead(void)
{
    sweep_kill(sweep_fork(own_much));
}

static void bury(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    check_int(covey_stats(&stats), ==, 0);
}

static void bury_and_use(void)
{
    bury();
    sweep_use_heap();
}

OPERATION(heap_burial, .setup = set_up_dead, .victim = bury, .rescue = bury_and_use,
    .proves = "heap_run heap_tags heap_claim member_burial");
