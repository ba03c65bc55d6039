/* SPDX-License-Identifier: MIT */
#include "arena/object.h"

#include "arena/family.h"
#include "base/error.h"
#include "base/mutation.h"
#include "os/robust.h"

static const char *const names[CV_KINDS] = {
    [0] = "object",
    [CV_LOCK] = "lock",
    [CV_RLOCK] = "rlock",
    [CV_RWLOCK] = "rwlock",
    [CV_SEMAPHORE] = "semaphore",
    [CV_COUNTER] = "semaphore",
    [CV_CONDITION] = "condition",
    [CV_EVENT] = "event",
    [CV_BARRIER] = "barrier",
    [CV_ARRAY] = "array",
    [CV_QUEUE] = "queue",
    [CV_PIPE] = "pipe",
    [CV_ENDED_PIPE] = "pipe that nobody holds",
    [CV_TICKET] = "end of a pipe",
    [CV_DESCRIPTOR] = "descriptor",
    [CV_PROCESS] = "process",
    [CV_FUTURE] = "task",
    [CV_POOL] = "pool",
};

const char *cv_object_name(enum cv_kind kind)
{
    return names[kind < CV_KINDS ? kind : 0];
}

enum cv_kind cv_object_kind(const void *p)
{
    uint64_t signature = cv_load_relaxed((const uint64_t *)p);
    uint64_t kind = (signature >> CV_ADDRESS_BITS) & 0xff;

    return kind && kind < CV_KINDS && signature == cv_object_signature(p, (enum cv_kind)kind)
               ? (enum cv_kind)kind
               : 0;
}

static cv_object_end_fn *ends[CV_KINDS];
static cv_object_inherit_fn *inherits[CV_KINDS];

void cv_object_set_end(enum cv_kind kind, cv_object_end_fn *end)
{
    ends[kind] = end;
}

void cv_object_set_inherit(enum cv_kind kind, cv_object_inherit_fn *inherit)
{
    inherits[kind] = inherit;
}

bool cv_object_ends(const void *block)
{
    enum cv_kind kind = cv_object_kind(block);

    return ends[kind] || inherits[kind];
}

void cv_object_free(void *block)
{
    enum cv_kind kind = cv_object_kind(block);

    if (ends[kind])
        ends[kind](block);
    else
        (void)cv_heap_free(block);
}

static enum cv_ending end_of_dead(void *block, enum cv_kind kind, uint32_t owner)
{
    if (inherits[kind])
        return inherits[kind](block, owner);
    if (cv_heap_give(block, owner, cv_tag_short(cv_self.tag)))
        ends[kind](block);
    return CV_END_DONE;
}

enum cv_ending cv_object_end_of_dead(void *block, uint32_t owner)
{
    enum cv_kind kind = cv_object_kind(block);
    struct robust_list *pending;
    enum cv_ending ending;

    if (!(ends[kind] || inherits[kind]) || !CV_RECOVERS(object_end))
        return CV_END_ORDINARY;
    if (!cv_self.tag) /* this process is no member yet */
        return CV_END_NOT_NOW;
    pending = cv_robust_save(); /* of the operation in which the burial is */
    ending = end_of_dead(block, kind, owner);
    cv_robust_restore(pending);
    return ending;
}

int cv_object_check_slowly(const void *p, enum cv_kind kind)
{
    int r = cv_enter();
    enum cv_kind other;

    if (r != 0 || cv_object_is(p, kind))
        return r;
    if (!cv_arena_has(p, sizeof(uint64_t), CV_OBJECT_ALIGNMENT) || !(other = cv_object_kind(p)))
        return cv_fail_object(p, cv_object_name(kind));
    return cv_fail(COVEY_EINVAL, "%p is %s %s, not %s %s", p, cv_article(cv_object_name(other)),
        cv_object_name(other), cv_article(cv_object_name(kind)), cv_object_name(kind));
}

int cv_object_place(const void *p, size_t size, enum cv_kind kind)
{
    int r = cv_enter();

    if (r != 0)
        return r;
    if (!p)
        return cv_fail_object(p, cv_object_name(kind));
    if (!cv_arena_has(p, size, 1))
        return cv_fail(COVEY_EINVAL,
            "%p is not in the family's arena, where covey_alloc() has memory for %s %s", p,
            cv_article(cv_object_name(kind)), cv_object_name(kind));
    if ((uintptr_t)p % CV_OBJECT_ALIGNMENT)
        return cv_fail(COVEY_EINVAL, "%p is not aligned to %d bytes", p, CV_OBJECT_ALIGNMENT);
    return 0;
}

struct search {
    void (*visit)(void *object, enum cv_kind kind, void *context);
    void *context;
};

static void search_block(char *block, size_t size, uint32_t owner, void *context)
{
    const struct search *s = context;

    (void)owner;

    for (size_t i = 0; i + sizeof(uint64_t) <= size; i += CV_OBJECT_ALIGNMENT) {
        enum cv_kind kind = cv_object_kind(block + i);

        if (kind)
            s->visit(block + i, kind, s->context);
    }
}

void cv_object_each(void (*visit)(void *object, enum cv_kind kind, void *context), void *context)
{
    struct search s = {visit, context};

    cv_heap_each(search_block, &s);
}
