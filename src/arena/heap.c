/* SPDX-License-Identifier: MIT */
#include "arena/heap.h"

#include "arena/family.h"
#include "arena/object.h"
#include "base/atomic.h"
#include "base/error.h"
#include "base/mutation.h"
#include "os/fault.h"

#include <covey/memory.h>

#include <string.h>

enum page_kind {
    FREE,
    CLAIM,
    RUN,
    BODY,
    SLAB,
    SHUT,
};

enum {
    /* Memory is claimed from the kernel in sixteenths of a page; of its tags, in quarters. */
    UNIT_BYTES = CV_PAGE_BYTES / 16,
    TAG_BYTES_PER_PAGE = CV_TAGS_PER_PAGE * (int)sizeof(uint32_t),
    TAG_UNIT_BYTES = TAG_BYTES_PER_PAGE / 4,
    SLAB_CLAIM_UNITS = 4, /* a slab grows by so much at a time */
    READY_STEP = 512,     /* pages whose words and notes are claimed at a time */
    KEPT_PER_RAM = 64,    /* free memory is kept up to this part of the machine's */
    KEPT_MIN = 16 << 20,
    ALIGNMENT_MAX = 1 << 30,
    PAGES_MAX = (1 << 28) - 1,
    EMPTY_SLABS_KEPT = 2, /* of each class */
    RECOUNTS = 4,         /* slabs counted anew before there is one more */
};

#define NO_PAGE UINT32_MAX

static struct cv_heap *heap(void)
{
    return &cv_arena.family->heap;
}

static uint64_t *word_of(uint32_t page)
{
    return (uint64_t *)(void *)(cv_arena.memory.base + heap()->words_offset) + page;
}

static struct cv_page_note *note_of(uint32_t page)
{
    return (struct cv_page_note *)(void *)(cv_arena.memory.base + heap()->notes_offset) + page;
}

static uint32_t *tags_of(uint32_t page)
{
    return (uint32_t *)(void *)(cv_arena.memory.base + heap()->tags_offset) +
           (size_t)page * CV_TAGS_PER_PAGE;
}

static char *start_of(uint32_t page)
{
    return cv_arena.memory.base + heap()->pages_offset + (size_t)page * CV_PAGE_BYTES;
}

static uint64_t word_make(enum page_kind kind, uint32_t n, uint32_t owner)
{
    return (uint64_t)owner << 32 | (uint64_t)n << 4 | kind;
}

static enum page_kind kind_of(uint64_t word)
{
    return (enum page_kind)(word & 15);
}

static uint32_t n_of(uint64_t word)
{
    return (uint32_t)word >> 4;
}

static uint32_t owner_of(uint64_t word)
{
    return (uint32_t)(word >> 32);
}

/*
 * This process's tag, as the caller is about to write it: from now on its death asks for a sweep.
 * (0 in a process that only makes room for itself, by a burial, before it joins.)
 */
static uint32_t my_tag(void)
{
    uint64_t tag = cv_self.tag;

    if (CV_RECOVERS(member_owns) && tag && !(cv_load_relaxed(&cv_self.slot->owns) & CV_OWNS))
        cv_member_note_owning(tag);
    return cv_tag_short(tag);
}

bool cv_heap_layout(struct cv_heap *h, uint64_t start, uint64_t end)
{
    uint64_t per_page =
        sizeof(uint64_t) + sizeof(struct cv_page_note) + TAG_BYTES_PER_PAGE + CV_PAGE_BYTES;
    uint64_t gaps = 4 * CV_PAGE_BYTES; /* each part starts at a page */
    uint64_t pages = end > start + gaps ? (end - start - gaps) / per_page : 0;

    if (pages > PAGES_MAX)
        pages = PAGES_MAX;
#define AFTER(offset, bytes)                                                                       \
    (((offset) + (bytes) + CV_PAGE_BYTES - 1) / CV_PAGE_BYTES * CV_PAGE_BYTES)
    h->words_offset = AFTER(start, 0);
    h->notes_offset = AFTER(h->words_offset, pages * sizeof(uint64_t));
    h->tags_offset = AFTER(h->notes_offset, pages * sizeof(struct cv_page_note));
    h->pages_offset = AFTER(h->tags_offset, pages * TAG_BYTES_PER_PAGE);
#undef AFTER
    h->pages = (uint32_t)pages;
    h->kept_max = (int64_t)(cv_memory_of_machine() / KEPT_PER_RAM);
    if (h->kept_max < KEPT_MIN)
        h->kept_max = KEPT_MIN;
    return pages > 0;
}

/* Size classes ******************************************************************************* */

/* 16, 32, ... 128, then four to each doubling, up to 32 KiB. */
static uint32_t class_size(uint32_t sclass)
{
    if (sclass < 8)
        return (sclass + 1) * CV_GRAIN_BYTES;
    if (sclass == CV_CLASS_LASTING)
        return CV_LASTING_BYTES;
    return (5 + sclass % 4) << (5 + (sclass - 8) / 4);
}

static uint32_t class_for(size_t size)
{
    uint32_t doubling;

    if (size <= 128)
        return size ? (uint32_t)(size - 1) / CV_GRAIN_BYTES : 0;
    doubling = 63 - (uint32_t)__builtin_clzll(size - 1); /* 2^doubling < size <= 2^(doubling+1) */
    return 8 + (doubling - 7) * 4 + (uint32_t)((size - 1) >> (doubling - 2) & 3);
}

static uint32_t blocks_in_slab(uint32_t sclass)
{
    return CV_PAGE_BYTES / class_size(sclass);
}

/* Memory from the kernel ********************************************************************* */

/* Words and notes of the pages below @end. */
static int make_ready(uint32_t end)
{
    struct cv_heap *h = heap();
    uint32_t ready = cv_load_acquire(&h->ready);
    uint32_t more;

    if (end <= ready)
        return 0;
    more = (end + READY_STEP - 1) / READY_STEP * READY_STEP;
    if (more > h->pages)
        more = h->pages;
    if (cv_memory_claim(&cv_arena.memory, (char *)word_of(ready),
            (size_t)(more - ready) * sizeof(uint64_t)) != 0 ||
        cv_memory_claim(&cv_arena.memory, (char *)note_of(ready),
            (size_t)(more - ready) * sizeof(struct cv_page_note)) != 0)
        return covey_error_code();
    while (ready < more && !cv_cas(&h->ready, &ready, more)) {
    }
    return 0;
}

/* The first @bytes of the run of pages that starts at @page; this process has claimed the run. */
static int claim_pages(uint32_t page, size_t bytes)
{
    size_t units = (bytes + UNIT_BYTES - 1) / UNIT_BYTES;
    uint32_t pages = (uint32_t)((units + 15) / 16);
    bool missing = false;

    for (uint32_t i = 0; i < pages; i++) {
        struct cv_page_note *note = note_of(page + i);
        size_t need = units - 16 * (size_t)i > 16 ? 16 : units - 16 * (size_t)i;
        size_t have = cv_load_relaxed(&note->pages_claimed);

        missing |= have < need;
        cv_add_relaxed(&heap()->kept, -(int64_t)(have * UNIT_BYTES));
    }
    if (missing && cv_memory_claim(&cv_arena.memory, start_of(page), bytes) != 0)
        return covey_error_code();
    for (uint32_t i = 0; i < pages; i++) {
        struct cv_page_note *note = note_of(page + i);
        size_t need = units - 16 * (size_t)i > 16 ? 16 : units - 16 * (size_t)i;

        if (cv_load_relaxed(&note->pages_claimed) < need)
            cv_store_release(&note->pages_claimed, (uint8_t)need);
    }
    return 0;
}

static size_t claimed_bytes(uint32_t page, uint32_t n)
{
    size_t units = 0;

    for (uint32_t i = 0; i < n; i++)
        units += cv_load_relaxed(&note_of(page + i)->pages_claimed);
    return units * UNIT_BYTES;
}

/* Marked as gone before it goes: a kill in between costs a claim of what is there already. */
static void return_pages(uint32_t page, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        cv_store_seq(&note_of(page + i)->pages_claimed, 0);
    cv_memory_return(start_of(page), (size_t)n * CV_PAGE_BYTES);
}

/* Runs of pages ****************************************************************************** */

static void lower_to(uint32_t *hint, uint32_t page)
{
    if (cv_load_relaxed(hint) > page)
        cv_store_relaxed(hint, page);
}

/* How far from @page, which is not free, a search may jump. */
static uint32_t beyond(uint32_t page)
{
    uint64_t word = cv_load_relaxed(word_of(page));
    uint32_t head = page;

    if (kind_of(word) == BODY && n_of(word) <= page) {
        head = page - n_of(word);
        word = cv_load_relaxed(word_of(head));
    }
    if ((kind_of(word) == RUN || kind_of(word) == CLAIM) && head + n_of(word) > page)
        return head + n_of(word);
    return page + 1;
}

/* Gives back what this process has claimed: the pages behind @page first. */
static void release_run(uint32_t page, uint32_t n)
{
    for (uint32_t i = n; i-- > 1;)
        (void)cv_cas64(word_of(page + i), word_make(BODY, i, 0), FREE);
    cv_store_seq(word_of(page), FREE);
    lower_to(&heap()->low, page);
}

static bool claim_run(uint32_t page, uint32_t n)
{
    if (!cv_cas64(word_of(page), FREE, word_make(CLAIM, n, my_tag())))
        return false;
    for (uint32_t i = 1; i < n; i++) {
        if (!cv_cas64(word_of(page + i), FREE, word_make(BODY, i, 0))) {
            release_run(page, i);
            return false;
        }
    }
    return true;
}

/* The next place at or after @page where a run may start; only its absolute address is aligned. */
static uint32_t aligned_page(uint32_t page, size_t alignment)
{
    size_t over = (uintptr_t)start_of(page) % alignment;

    return over ? page + (uint32_t)((alignment - over) / CV_PAGE_BYTES) : page;
}

/* Claims @n free pages from @from on, or gives NO_PAGE with a message. */
static uint32_t search_run(uint32_t from, uint32_t n, size_t alignment)
{
    struct cv_heap *h = heap();
    uint32_t page = aligned_page(from, alignment);

    while (page < h->pages && n <= h->pages - page) {
        uint32_t taken = n;

        if (make_ready(page + n) != 0)
            return NO_PAGE;
        /* From the end: what is taken there lets the search jump farthest. */
        while (taken > 0 && cv_load_relaxed(word_of(page + taken - 1)) == FREE)
            taken--;
        if (taken == 0 && claim_run(page, n))
            return page;
        page = aligned_page(taken ? beyond(page + taken - 1) : page + 1, alignment);
    }
    (void)cv_fail(COVEY_ENOMEM, "no room for %zu bytes in a row: the arena (memory_max) has %zu",
        (size_t)n * CV_PAGE_BYTES, (size_t)h->pages * CV_PAGE_BYTES);
    return NO_PAGE;
}

static uint32_t find_run(uint32_t n, size_t alignment)
{
    struct cv_heap *h = heap();
    uint32_t low = cv_load_relaxed(&h->low);
    uint32_t page = search_run(low, n, alignment);

    if (page == NO_PAGE && low > 0)
        page = search_run(0, n, alignment);
    if (page == NO_PAGE)
        return NO_PAGE;
    if (page == low)
        cv_store_relaxed(&h->low, page + n);
    return page;
}

/* So many of the @n pages of this claim, which its owner did not finish, are really its own. */
static uint32_t claimed_length(uint32_t page, uint32_t n)
{
    uint32_t i = 1;

    while (i < n && cv_load_acquire(word_of(page + i)) == word_make(BODY, i, 0))
        i++;
    return CV_RECOVERS(heap_length) ? i : n;
}

/* What this process has claimed becomes free; above the limit, its memory goes to the kernel. */
static void free_claimed(uint32_t page, uint32_t n)
{
    size_t bytes = claimed_bytes(page, n);

    if (cv_load_relaxed(&heap()->kept) + (int64_t)bytes > heap()->kept_max)
        return_pages(page, n);
    else
        cv_add_relaxed(&heap()->kept, (int64_t)bytes);
    release_run(page, n);
}

static void *alloc_run(size_t size, size_t alignment, uint32_t owner)
{
    size_t pages = size / CV_PAGE_BYTES + (size % CV_PAGE_BYTES != 0);
    uint32_t page;

    if (pages > heap()->pages) {
        (void)cv_fail(COVEY_ENOMEM, "%zu bytes are more than the arena can hold (%zu)", size,
            (size_t)heap()->pages * CV_PAGE_BYTES);
        return NULL;
    }
    page = find_run((uint32_t)pages, alignment > CV_PAGE_BYTES ? alignment : CV_PAGE_BYTES);
    if (page == NO_PAGE)
        return NULL;
    if (claim_pages(page, size) != 0) {
        release_run(page, (uint32_t)pages);
        return NULL;
    }
    cv_store_release(word_of(page), word_make(RUN, (uint32_t)pages, owner));
    return start_of(page);
}

static int free_run(uint32_t page, uint64_t word)
{
    if (!cv_cas64(word_of(page), word, word_make(CLAIM, n_of(word), my_tag())))
        return cv_fail(COVEY_EINVAL, "block %p is free already", (void *)start_of(page));
    free_claimed(page, n_of(word));
    return 0;
}

/* Slabs ************************************************************************************** */

static int claim_tags(uint32_t page, uint32_t sclass)
{
    struct cv_page_note *note = note_of(page);
    size_t bytes = blocks_in_slab(sclass) * sizeof(uint32_t);
    size_t need = (bytes + TAG_UNIT_BYTES - 1) / TAG_UNIT_BYTES;

    if (note->tags_claimed >= need)
        return 0;
    if (cv_memory_claim(&cv_arena.memory, (char *)tags_of(page), need * TAG_UNIT_BYTES) != 0)
        return covey_error_code();
    cv_store_release(&note->tags_claimed, (uint8_t)need);
    return 0;
}

/* Marks that the dead left on this page when it had another use; the living take theirs away. */
static void clear_dead_tags(uint32_t page)
{
    uint32_t *tags = tags_of(page);
    uint32_t n = (uint32_t)note_of(page)->tags_claimed * (TAG_UNIT_BYTES / sizeof(uint32_t));

    for (uint32_t i = 0; i < n; i++) {
        uint32_t tag = cv_load_relaxed(&tags[i]);

        if (CV_RECOVERS(heap_stale_tags) && tag && cv_member_short_is_past(tag))
            (void)cv_cas32(&tags[i], tag, 0);
    }
}

static int new_slab(uint32_t sclass, uint32_t *page)
{
    *page = find_run(1, CV_PAGE_BYTES);
    if (*page == NO_PAGE)
        return covey_error_code();
    if (claim_tags(*page, sclass) != 0) {
        release_run(*page, 1);
        return covey_error_code();
    }
    clear_dead_tags(*page);
    cv_store_relaxed(&note_of(*page)->used, 0);
    cv_add_relaxed(&heap()->kept, -(int64_t)claimed_bytes(*page, 1));
    cv_add_relaxed(&heap()->class_empty[sclass], 1);
    cv_store_release(word_of(*page), word_make(SLAB, sclass, 0));
    lower_to(&heap()->class_low[sclass], *page);
    return 0;
}

/* Makes the slab's first @bytes exist. Others may be doing the same; all of it is idempotent. */
static int grow_slab(uint32_t page, size_t bytes)
{
    struct cv_page_note *note = note_of(page);
    size_t units = cv_load_acquire(&note->pages_claimed);

    if (units * UNIT_BYTES >= bytes)
        return 0;
    units = (bytes + UNIT_BYTES - 1) / UNIT_BYTES;
    units = (units + SLAB_CLAIM_UNITS - 1) / SLAB_CLAIM_UNITS * SLAB_CLAIM_UNITS;
    if (cv_memory_claim(&cv_arena.memory, start_of(page), units * UNIT_BYTES) != 0)
        return covey_error_code();
    cv_store_release(&note->pages_claimed, (uint8_t)units);
    return 0;
}

static bool has_room(uint32_t page, uint32_t sclass)
{
    return cv_load_acquire(word_of(page)) == word_make(SLAB, sclass, 0) &&
           cv_load_relaxed(&note_of(page)->used) < blocks_in_slab(sclass);
}

static bool is_process(uint32_t owner)
{
    return !(owner >> 31);
}

static uint64_t seen_bit(uint32_t tag)
{
    return UINT64_C(1) << cv_tag_slot(tag) % 64;
}

/* Before the tag appears on the page. */
static void mark_seen(uint32_t page, uint32_t tag)
{
    struct cv_page_note *note = note_of(page);

    if (!(cv_load_relaxed(&note->seen) & seen_bit(tag)))
        (void)cv_fetch_or(&note->seen, seen_bit(tag));
}

/* The index of the block taken; blocks_in_slab() when there is none to be had on this page. */
static uint32_t take_block(uint32_t page, uint32_t sclass, uint32_t start)
{
    struct cv_page_note *note = note_of(page);
    uint32_t *tags = tags_of(page);
    uint32_t n = blocks_in_slab(sclass);
    uint32_t used = cv_load_relaxed(&note->used);

    mark_seen(page, my_tag());
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = start + k < n ? start + k : start + k - n;

        if (cv_load_relaxed(&tags[i]) != 0 || !cv_cas32(&tags[i], 0, my_tag()))
            continue;
        if (cv_load_seq(word_of(page)) == word_make(SLAB, sclass, 0))
            return i;
        (void)cv_cas32(&tags[i], my_tag(), 0);
        return n;
    }
    (void)cv_cas32(&note->used, used, n); /* the hint was wrong */
    return n;
}

static void recount(uint32_t page, uint32_t sclass)
{
    uint32_t used = cv_load_relaxed(&note_of(page)->used);
    uint32_t n = 0;

    for (uint32_t i = 0; i < blocks_in_slab(sclass); i++)
        n += cv_load_relaxed(&tags_of(page)[i]) != 0;
    if (n != used)
        (void)cv_cas32(&note_of(page)->used, used, n);
}

/* Before there is one slab more: some that are said to be full, in turn, may not be. */
static uint32_t find_miscounted(uint32_t sclass)
{
    uint32_t ready = cv_load_acquire(&heap()->ready);
    uint32_t page = cv_load_relaxed(&cv_self.slab[sclass].recounted);
    uint32_t found = NO_PAGE;
    uint32_t left = RECOUNTS;

    for (uint32_t i = 0; i < ready && left > 0 && found == NO_PAGE; i++, page++) {
        if (page >= ready)
            page = 0;
        if (cv_load_acquire(word_of(page)) != word_make(SLAB, sclass, 0))
            continue;
        left--;
        recount(page, sclass);
        if (has_room(page, sclass))
            found = page;
    }
    cv_store_relaxed(&cv_self.slab[sclass].recounted, page);
    return found;
}

/* A slab of the class that has room, this process's latest first; NO_PAGE with a message. */
static uint32_t find_slab(uint32_t sclass)
{
    uint32_t ready = cv_load_acquire(&heap()->ready);
    uint32_t low = cv_load_relaxed(&heap()->class_low[sclass]);
    uint32_t latest = cv_load_relaxed(&cv_self.slab[sclass].page);
    uint32_t page;

    if (latest < ready && has_room(latest, sclass))
        return latest;
    for (page = low; page < ready; page++) {
        if (has_room(page, sclass))
            break;
    }
    (void)cv_cas32(&heap()->class_low[sclass], low, page);
    if (page < ready)
        return page;
    page = find_miscounted(sclass);
    if (page != NO_PAGE || new_slab(sclass, &page) == 0)
        return page;
    return NO_PAGE;
}

static void *alloc_small(uint32_t sclass, uint32_t owner)
{
    uint32_t n = blocks_in_slab(sclass);

    for (;;) {
        uint32_t page = find_slab(sclass);
        uint32_t start;
        uint32_t i;

        if (page == NO_PAGE)
            return NULL;
        start = cv_load_relaxed(&cv_self.slab[sclass].next);
        i = take_block(page, sclass, start < n ? start : 0);
        if (i == n)
            continue;
        if (grow_slab(page, (size_t)(i + 1) * class_size(sclass)) != 0) {
            (void)cv_cas32(&tags_of(page)[i], my_tag(), 0);
            return NULL;
        }
        cv_store_relaxed(&cv_self.slab[sclass].page, page);
        cv_store_relaxed(&cv_self.slab[sclass].next, i + 1);
        if (__atomic_fetch_add(&note_of(page)->used, 1, __ATOMIC_RELAXED) == 0)
            cv_add_relaxed(&heap()->class_empty[sclass], -1);
        if (owner != my_tag())
            cv_store_release(&tags_of(page)[i], owner);
        return start_of(page) + (size_t)i * class_size(sclass);
    }
}

/* Gives an empty slab back, unless a block of it is in use after all. */
static void shut_slab(uint32_t page, uint32_t sclass)
{
    uint64_t slab = word_make(SLAB, sclass, 0);
    uint32_t n = blocks_in_slab(sclass);

    if (!cv_cas64(word_of(page), slab, word_make(SHUT, sclass, my_tag())))
        return;
    for (uint32_t i = 0; i < n; i++) {
        if (cv_load_seq(&tags_of(page)[i]) != 0) {
            cv_store_seq(word_of(page), slab);
            return;
        }
    }
    cv_add_relaxed(&heap()->class_empty[sclass], -1);
    cv_store_seq(word_of(page), word_make(CLAIM, 1, my_tag()));
    free_claimed(page, 1);
}

static int free_small(uint32_t page, uint32_t sclass, uint32_t i)
{
    struct cv_heap *h = heap();

    if (cv_exchange(&tags_of(page)[i], 0) == 0)
        return cv_fail(COVEY_EINVAL, "block %p is free already",
            (void *)(start_of(page) + (size_t)i * class_size(sclass)));
    if (__atomic_fetch_sub(&note_of(page)->used, 1, __ATOMIC_RELAXED) == 1 &&
        __atomic_fetch_add(&h->class_empty[sclass], 1, __ATOMIC_RELAXED) >= EMPTY_SLABS_KEPT &&
        sclass != CV_CLASS_LASTING)
        shut_slab(page, sclass);
    else
        lower_to(&h->class_low[sclass], page);
    return 0;
}

/* Any block ********************************************************************************** */

/* CV_CLASSES: it is a run of pages. */
static uint32_t class_of_block(size_t size, size_t alignment)
{
    /* A block whose size is a power of two lies at a multiple of it. */
    size_t power = size > alignment ? size : alignment;

    if (alignment <= CV_GRAIN_BYTES && size <= CV_SMALL_MAX)
        return class_for(size);
    if (power <= CV_SMALL_MAX)
        return class_for((size_t)1 << (64 - __builtin_clzll(power - 1)));
    return CV_CLASSES;
}

/* What the dead have left, and what is kept for no use, is given back before there is none. */
static void *alloc_any(uint32_t sclass, size_t size, size_t alignment, uint32_t owner)
{
    void *block = NULL;

    for (int attempt = 0; !block && attempt < 2; attempt++) {
        if (attempt > 0) {
            if (covey_error_code() != COVEY_ENOMEM)
                break;
            (void)cv_member_bury_all();
            cv_heap_trim();
        }
        block = sclass < CV_CLASSES ? alloc_small(sclass, owner)
                                    : alloc_run(size ? size : 1, alignment, owner);
    }
    return block;
}

static void *alloc_block(uint32_t sclass, size_t size, size_t alignment, uint32_t owner)
{
    if (CV_RECOVERS(member_owns) && !cv_load_relaxed(&cv_self.slot->owns))
        cv_store_seq(&cv_self.slot->owns, 1);
    return CV_MAY_FAIL(alloc_any(sclass, size, alignment, owner),
        ((void)cv_fail_errno("no memory for a block of %zu bytes", size), NULL), ENOMEM);
}

void *cv_heap_alloc(size_t size, size_t alignment, uint32_t owner)
{
    return alloc_block(class_of_block(size, alignment), size, alignment, owner);
}

void *cv_heap_alloc_lasting(uint32_t owner)
{
    return alloc_block(CV_CLASS_LASTING, CV_LASTING_BYTES, CV_GRAIN_BYTES, owner);
}

struct place {
    uint32_t page;
    uint64_t word;
    uint32_t index; /* of a small block */
    uint32_t owner; /* 0: there is no block here */
    size_t size;
};

/* What lies at @block; its owner is 0 when that is not the start of a block in use. */
static struct place place_of(const void *block)
{
    struct cv_heap *h = heap();
    uint64_t offset = (uint64_t)((const char *)block - cv_arena.memory.base);
    struct place p = {0};
    uint32_t size;

    if (!cv_arena_has(block, 1, CV_GRAIN_BYTES) || offset < h->pages_offset)
        return p;
    offset -= h->pages_offset;
    if (offset / CV_PAGE_BYTES >= cv_load_acquire(&h->ready))
        return p;
    p.page = (uint32_t)(offset / CV_PAGE_BYTES);
    offset %= CV_PAGE_BYTES;
    p.word = cv_load_acquire(word_of(p.page));
    switch (kind_of(p.word)) {
    case RUN:
        p.owner = offset == 0 ? owner_of(p.word) : 0;
        p.size = (size_t)n_of(p.word) * CV_PAGE_BYTES;
        break;
    case SLAB:
    case SHUT:
        size = class_size(n_of(p.word));
        p.index = (uint32_t)offset / size;
        p.size = size;
        if (offset % size == 0 && p.index < blocks_in_slab(n_of(p.word)))
            p.owner = cv_load_acquire(&tags_of(p.page)[p.index]);
        break;
    default:
        break;
    }
    return p;
}

int cv_heap_free(void *block)
{
    struct place p = place_of(block);

    if (!p.owner)
        return cv_fail(COVEY_EINVAL, "%p is not the start of a block in use", block);
    return kind_of(p.word) == RUN ? free_run(p.page, p.word)
                                  : free_small(p.page, n_of(p.word), p.index);
}

static bool change_tag(const struct place *p, uint32_t from, uint32_t to)
{
    if (kind_of(p->word) == RUN)
        return cv_cas64(word_of(p->page), word_make(RUN, n_of(p->word), from),
            word_make(RUN, n_of(p->word), to));
    return cv_cas32(&tags_of(p->page)[p->index], from, to);
}

bool cv_heap_give(void *block, uint32_t from, uint32_t to)
{
    struct place p = place_of(block);

    if (p.owner != from || !from)
        return false;
    if (is_process(to))
        cv_member_note_owning(to);
    if (is_process(to) && kind_of(p.word) != RUN)
        mark_seen(p.page, to);
    if (!change_tag(&p, from, to))
        return false;
    /* Its sweep may have passed; if the block cannot be had back, it has come just now. */
    return !is_process(to) || to == my_tag() || !CV_RECOVERS(heap_give) || cv_member_takes(to) ||
           !change_tag(&p, to, from);
}

uint32_t cv_heap_owner(const void *block, size_t *size)
{
    struct place p = place_of(block);

    if (size)
        *size = p.owner ? p.size : 0;
    return p.owner;
}

/* Burial ************************************************************************************* */

/*
 * What is the dead process's: it carries its tag, or, for it may have died just when it gave that
 * away, that of a process which had been swept by then.
 */
static bool is_of(uint32_t owner, uint32_t dead)
{
    return owner == dead || (CV_RECOVERS(heap_given) && owner && is_process(owner) &&
                                cv_member_short_is_gone(owner));
}

static size_t existing(uint32_t page, size_t offset, size_t size)
{
    size_t end = (size_t)cv_load_acquire(&note_of(page)->pages_claimed) * UNIT_BYTES;

    return end > offset + size ? size : end > offset ? end - offset : 0;
}

/* Its first bytes may not be there: its owner may have died just when it had taken it. */
static enum cv_ending end_small(uint32_t page, size_t offset, uint32_t owner)
{
    return existing(page, offset, sizeof(uint64_t)) == sizeof(uint64_t)
               ? cv_object_end_of_dead(start_of(page) + offset, owner)
               : CV_END_ORDINARY;
}

static bool sweep_slab(uint32_t page, uint32_t sclass, uint32_t tag)
{
    uint32_t n = blocks_in_slab(sclass);
    uint32_t used = 0;
    bool done = true;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t here = cv_load_seq(&tags_of(page)[i]);
        enum cv_ending how = CV_END_DONE;

        if (is_of(here, tag) && CV_RECOVERS(heap_tags))
            how = end_small(page, (size_t)i * class_size(sclass), here);
        else
            used += here != 0;
        if (how == CV_END_ORDINARY)
            (void)cv_cas32(&tags_of(page)[i], here, 0);
        done &= how != CV_END_NOT_NOW;
    }
    cv_store_relaxed(&note_of(page)->used, used);
    return done;
}

/* The hints that kills have made wrong, anew; races with the living make them a little wrong. */
static void refresh_hints(void)
{
    struct cv_heap *h = heap();
    uint32_t ready = cv_load_acquire(&h->ready);
    uint32_t empty[CV_CLASSES] = {0};
    int64_t kept = 0;

    for (uint32_t page = 0; page < ready; page++) {
        uint64_t word = cv_load_relaxed(word_of(page));

        if (kind_of(word) == FREE)
            kept += (int64_t)claimed_bytes(page, 1);
        else if (kind_of(word) == SLAB && cv_load_relaxed(&note_of(page)->used) == 0)
            empty[n_of(word)]++;
    }
    cv_store_relaxed(&h->kept, kept);
    cv_store_relaxed(&h->low, 0);
    for (uint32_t sclass = 0; sclass < CV_CLASSES; sclass++) {
        cv_store_relaxed(&h->class_empty[sclass], (int32_t)empty[sclass]);
        cv_store_relaxed(&h->class_low[sclass], 0);
    }
}

static bool sweep_run(uint32_t page, uint64_t word)
{
    uint32_t n = n_of(word);
    enum cv_ending how = CV_END_ORDINARY;

    if ((!CV_RECOVERS(heap_claim) && kind_of(word) == CLAIM) ||
        (!CV_RECOVERS(heap_run) && kind_of(word) != CLAIM))
        return true;
    if (!cv_self.tag)
        return false;
    if (kind_of(word) == RUN)
        how = cv_object_end_of_dead(start_of(page), owner_of(word));
    if (how != CV_END_ORDINARY)
        return how == CV_END_DONE;
    if (cv_cas64(word_of(page), word, word_make(CLAIM, n, my_tag())))
        free_claimed(page, claimed_length(page, n));
    return true;
}

/* What it looks at it loads in sequential order, for giving (above) relies on that. */
bool cv_heap_sweep(uint64_t tag)
{
    uint32_t dead = cv_tag_short(tag);
    uint32_t ready = cv_load_acquire(&heap()->ready);
    bool done = true;

    for (uint32_t page = 0; page < ready; page++) {
        uint64_t word = cv_load_seq(word_of(page));
        uint32_t n = n_of(word);

        switch (kind_of(word)) {
        case CLAIM:
        case RUN:
            if (is_of(owner_of(word), dead))
                done &= sweep_run(page, word);
            break;
        case SHUT:
        case SLAB:
            if (kind_of(word) == SHUT && owner_of(word) == dead && CV_RECOVERS(heap_shut))
                (void)cv_cas64(word_of(page), word, word_make(SLAB, n, 0));
            if (cv_load_seq(&note_of(page)->seen) & seen_bit(dead))
                done &= sweep_slab(page, n, dead);
            break;
        default:
            break;
        }
    }
    refresh_hints();
    return done;
}

static void visit_slab(uint32_t page, uint32_t sclass, cv_heap_visit *visit, void *context)
{
    size_t size = class_size(sclass);

    for (uint32_t i = 0; i < blocks_in_slab(sclass); i++) {
        uint32_t owner = cv_load_acquire(&tags_of(page)[i]);

        if (owner)
            visit(start_of(page) + i * size, existing(page, i * size, size), owner, context);
    }
}

void cv_heap_each(cv_heap_visit *visit, void *context)
{
    uint32_t ready = cv_load_acquire(&heap()->ready);

    for (uint32_t page = 0; page < ready; page++) {
        uint64_t word = cv_load_acquire(word_of(page));

        if (kind_of(word) == SLAB || kind_of(word) == SHUT) {
            visit_slab(page, n_of(word), visit, context);
        } else if (kind_of(word) == RUN) {
            size_t size = 0;

            for (uint32_t i = 0; i < n_of(word); i++)
                size += existing(page + i, 0, CV_PAGE_BYTES);
            visit(start_of(page), size, owner_of(word), context);
        }
    }
}

void cv_heap_count(struct cv_heap_use *use)
{
    uint32_t ready = cv_load_acquire(&heap()->ready);

    *use = (struct cv_heap_use){0};
    for (uint32_t page = 0; page < ready; page++) {
        uint64_t word = cv_load_acquire(word_of(page));

        use->claimed += claimed_bytes(page, 1);
        if (kind_of(word) == RUN && owner_of(word) != (uint32_t)CV_OWNER_INTERNAL) {
            use->blocks++;
            use->bytes += claimed_bytes(page, n_of(word));
        } else if (kind_of(word) == SLAB || kind_of(word) == SHUT) {
            for (uint32_t i = 0; i < blocks_in_slab(n_of(word)); i++) {
                uint32_t tag = cv_load_relaxed(&tags_of(page)[i]);

                if (tag && tag != (uint32_t)CV_OWNER_INTERNAL) {
                    use->blocks++;
                    use->bytes += class_size(n_of(word));
                }
            }
        }
    }
}

void cv_heap_trim(void)
{
    uint32_t ready = cv_load_acquire(&heap()->ready);

    for (uint32_t page = 0; page < ready; page++) {
        uint64_t word = cv_load_acquire(word_of(page));

        if (kind_of(word) == SLAB) {
            recount(page, n_of(word));
            if (cv_load_relaxed(&note_of(page)->used) == 0 && n_of(word) != CV_CLASS_LASTING)
                shut_slab(page, n_of(word));
        }
        if (cv_load_relaxed(&note_of(page)->pages_claimed) > 0 && claim_run(page, 1)) {
            return_pages(page, 1);
            release_run(page, 1);
        }
    }
    refresh_hints();
}

/* Public ************************************************************************************* */

static void *alloc(size_t alignment, size_t size)
{
    return cv_enter() == 0 ? cv_heap_alloc(size, alignment, (uint32_t)CV_OWNER_FAMILY) : NULL;
}

void *covey_alloc(size_t size)
{
    return alloc(1, size);
}

void *covey_alloc_own(size_t size)
{
    return cv_enter() == 0 ? cv_heap_alloc(size, 1, my_tag()) : NULL;
}

void *covey_alloc_aligned(size_t alignment, size_t size)
{
    if (alignment == 0 || (alignment & (alignment - 1)) || alignment > ALIGNMENT_MAX) {
        (void)cv_fail(
            COVEY_EINVAL, "alignment %zu is not a power of two up to %d", alignment, ALIGNMENT_MAX);
        return NULL;
    }
    return alloc(alignment, size);
}

void *covey_calloc(size_t count, size_t size)
{
    void *block;

    if (size && count > SIZE_MAX / size) {
        (void)cv_fail(
            COVEY_ENOMEM, "%zu times %zu bytes are more than there are addresses", count, size);
        return NULL;
    }
    block = alloc(1, count * size);
    return block ? memset(block, 0, count * size) : NULL;
}

/* The owner of a block that users may free and give away; 0 with a message if it is none. */
static uint32_t user_owner(const void *block, size_t *size)
{
    uint32_t owner = cv_heap_owner(block, size);

    if (!owner || owner == (uint32_t)CV_OWNER_INTERNAL)
        (void)cv_fail(COVEY_EINVAL, "%p is not the start of a block in use", block);
    else if (owner >= CV_OWNER_QUEUE)
        (void)cv_fail(COVEY_EINVAL, "block %p lies in a queue", block);
    else if (owner == (uint32_t)CV_OWNER_OBJECT || owner == (uint32_t)CV_OWNER_CELLS ||
             cv_object_ends(block))
        (void)cv_fail(COVEY_EINVAL, "%p is a covey object: its own function frees it", block);
    else
        return owner;
    return 0;
}

void *covey_realloc(void *block, size_t size)
{
    size_t before;
    uint32_t owner;
    void *moved;

    if (!block)
        return covey_alloc(size);
    if (cv_enter() != 0)
        return NULL;
    owner = user_owner(block, &before);
    if (!owner)
        return NULL;
    if (size <= before && size >= before / 2)
        return block;
    moved = cv_heap_alloc(size, 1, my_tag()); /* this process's own, should it die in between */
    if (!moved)
        return NULL;
    memcpy(moved, block, size < before ? size : before);
    (void)cv_heap_free(block);
    (void)cv_heap_give(moved, my_tag(), owner); /* it stays this process's if that has died */
    return moved;
}

int covey_free(void *block)
{
    int r;

    if (!block)
        return 0;
    r = cv_enter();
    if (r != 0)
        return r;
    return user_owner(block, NULL) ? cv_heap_free(block) : COVEY_EINVAL;
}

size_t covey_usable_size(const void *block)
{
    size_t size = 0;

    if (block && cv_enter() == 0)
        (void)cv_heap_owner(block, &size);
    return size;
}

static int change_owner(void *block, uint32_t to)
{
    int r = cv_enter();
    uint32_t from;

    if (r != 0)
        return r;
    do {
        from = user_owner(block, NULL);
        if (!from)
            return COVEY_EINVAL;
    } while (!cv_heap_give(block, from, to));
    return 0;
}

int covey_own(void *block)
{
    int r = cv_enter();

    return r != 0 ? r : change_owner(block, my_tag());
}

int covey_share(void *block)
{
    return change_owner(block, (uint32_t)CV_OWNER_FAMILY);
}

pid_t covey_owner(const void *block)
{
    int r = cv_enter();
    uint32_t owner;

    if (r != 0)
        return r;
    owner = cv_heap_owner(block, NULL);
    if (!owner)
        return cv_fail(COVEY_EINVAL, "%p is not the start of a block in use", block);
    return is_process(owner) ? cv_member_short_pid(owner) : 0;
}

int covey_trim(void)
{
    int r = cv_enter();

    if (r == 0)
        cv_heap_trim();
    return r;
}
