/* SPDX-License-Identifier: MIT */
/*
 * Values and arrays. In front of the first item lies a header with the signature, and in front of that
 * the lock, if there is one. The header is written once, before anybody else sees the array.
 *
 * The block is its maker's own until the array is whole, and then the family's: that is the commit. To
 * free it makes it the process's own first: a kill from there on frees it with the rest of what the
 * dead process owned.
 */
#include "arena/family.h"
#include "arena/object.h"
#include "base/error.h"
#include "base/options.h"
#include "sync/lock.h"

#include <covey/array.h>
#include <covey/memory.h>

#include <string.h>

enum {
    ALIGNMENT_MAX = 1 << 30,
    ALIGNMENT_MIN = 16,
};

struct header {
    uint64_t signature;
    uint64_t count;
    uint64_t item_size;
    uint32_t type;
    uint32_t locked;
    uint64_t offset; /* of the first item in the block */
    uint64_t unused;
};

_Static_assert(sizeof(struct header) % ALIGNMENT_MIN == 0, "the items behind it are aligned");

static struct header *header_of(const void *array)
{
    return (struct header *)((uintptr_t)array - sizeof(struct header));
}

static covey_rlock *lock_of(struct header *h)
{
    return (covey_rlock *)(void *)((char *)h - sizeof(covey_rlock));
}

/* The header; NULL with a message when there is none. */
static struct header *check(const void *array)
{
    if (!array)
        (void)cv_fail_object(NULL, "array");
    else if (cv_object_check(header_of(array), CV_ARRAY) == 0)
        return header_of(array);
    else if (covey_error_code() == COVEY_EINVAL)
        (void)cv_fail_object(array, "array");
    return NULL;
}

static int check_options(const struct covey_array_options *o)
{
    if (o->item_size == 0)
        return cv_fail(COVEY_EINVAL, "item_size is 0");
    if (o->initial_count > o->count)
        return cv_fail(COVEY_EINVAL, "%zu initial items for %zu", o->initial_count, o->count);
    if (o->initial_count && !o->initial)
        return cv_fail(COVEY_EINVAL, "initial is NULL, with %zu items", o->initial_count);
    if ((o->alignment & (o->alignment - 1)) || o->alignment > ALIGNMENT_MAX)
        return cv_fail(COVEY_EINVAL, "alignment %zu is not a power of two up to %d", o->alignment,
            ALIGNMENT_MAX);
    if (o->count > (PTRDIFF_MAX - ALIGNMENT_MAX) / o->item_size)
        return cv_fail(COVEY_ENOMEM, "%zu items of %zu bytes are more than there are addresses",
            o->count, o->item_size);
    return 0;
}

void *covey_array_new_with(const struct covey_array_options *options)
{
    struct covey_array_options o;
    size_t offset = sizeof(struct header);
    uint32_t mine;
    struct header *h;
    char *block;

    if (cv_options_read(&o, sizeof o, options, "covey_array_options") != 0 ||
        check_options(&o) != 0 || cv_enter() != 0)
        return NULL;
    mine = cv_tag_short(cv_self.tag);
    if (o.alignment < ALIGNMENT_MIN)
        o.alignment = ALIGNMENT_MIN;
    if (o.locked)
        offset += sizeof(covey_rlock);
    offset = (offset + o.alignment - 1) & ~(o.alignment - 1);
    block = cv_heap_alloc(offset + o.count * o.item_size, o.alignment, mine);
    if (!block)
        return NULL;
    h = header_of(block + offset);
    *h = (struct header){.count = o.count,
        .item_size = o.item_size,
        .type = o.type,
        .locked = o.locked,
        .offset = offset};
    if (o.locked)
        (void)covey_rlock_init(lock_of(h)); /* which cannot fail here */
    if (o.initial_count)
        memcpy(block + offset, o.initial, o.initial_count * o.item_size);
    memset(block + offset + o.initial_count * o.item_size, 0,
        (o.count - o.initial_count) * o.item_size);
    cv_object_begin(h, CV_ARRAY);
    (void)cv_heap_give(block, mine, (uint32_t)CV_OWNER_FAMILY);
    return block + offset;
}

int covey_array_free(void *array)
{
    struct header *h;
    char *block;
    int r;

    if (!array)
        return 0;
    h = check(array);
    if (!h)
        return covey_error_code();
    if (h->locked && cv_lock_holder(&lock_of(h)->lock_))
        return cv_fail(COVEY_ESTATE, "the lock of array %p is held", array);
    block = (char *)array - h->offset;
    r = covey_own(block);
    if (r != 0)
        return r;
    if (h->locked)
        cv_object_end(lock_of(h));
    cv_object_end(h);
    return cv_heap_free(block);
}

size_t covey_array_length(const void *array)
{
    const struct header *h = check(array);

    return h ? h->count : 0;
}

size_t covey_array_item_size(const void *array)
{
    const struct header *h = check(array);

    return h ? h->item_size : 0;
}

int covey_array_type(const void *array)
{
    const struct header *h = check(array);

    return h ? (int)h->type : covey_error_code();
}

covey_rlock *covey_array_lock(void *array)
{
    struct header *h = check(array);

    if (!h)
        return NULL;
    if (!h->locked) {
        (void)cv_fail(COVEY_EINVAL, "%p was made without a lock", array);
        return NULL;
    }
    return lock_of(h);
}
