/* SPDX-License-Identifier: MIT */
/*
 * Objects that users place in the arena: what is at this address?
 *
 * An object begins with its signature: its own address, and its kind in the 16 bits that no address
 * has. So a pointer to something else, to a copy, to an object that was destroyed or to memory that
 * never was one is told apart by one comparison; and a walk over the arena finds all objects, without
 * a list of them. It is written when all else is in place, and wiped first.
 */
#ifndef CV_OBJECT_H
#define CV_OBJECT_H

#include "arena/member.h"
#include "base/atomic.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum cv_kind {
    CV_LOCK = 1,
    CV_RLOCK,
    CV_RWLOCK,
    CV_SEMAPHORE,
    CV_COUNTER, /* a semaphore that counts events */
    CV_CONDITION,
    CV_EVENT,
    CV_BARRIER,
    CV_ARRAY,
    CV_QUEUE,
    CV_PIPE,
    CV_ENDED_PIPE, /* what is left of one that nobody holds */
    CV_TICKET,     /* an end of a pipe on its way, */
    CV_DESCRIPTOR, /* and a descriptor */
    CV_PROCESS,    /* those from here on are waited for, too, but are no objects of this sort */
    CV_FUTURE,
    CV_POOL,
    CV_KINDS,
};

enum {
    CV_OBJECT_ALIGNMENT = 8,
    CV_OBJECT_MAX = 512, /* bytes of the largest that has a fixed size */
};

#define CV_ADDRESS_BITS 48

static inline uint64_t cv_object_signature(const void *object, enum cv_kind kind)
{
    return (uintptr_t)object | (UINT64_C(0xc500) | kind) << CV_ADDRESS_BITS;
}

/* What stands there, aligned or not. */
static inline uint64_t cv_object_word(const void *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof word);
    return word;
}

/* The kind of the object that begins at @p, which is 8 readable bytes; 0: none. */
enum cv_kind cv_object_kind(const void *p);

/* "lock" */
const char *cv_object_name(enum cv_kind kind);

/*
 * Is it? No, also as long as this process is no member. A pointer into the arena is all it takes to be
 * safe to look.
 */
static inline bool cv_object_is(const void *p, enum cv_kind kind)
{
    return __builtin_expect(
        (uintptr_t)p - cv_load_own(&cv_self.base) < cv_load_acquire(&cv_self.span) &&
            cv_object_word(p) == cv_object_signature(p, kind),
        1);
}

/* Joins the family if need be. 0; COVEY_EINVAL with a message; the codes of covey_open(). */
int cv_object_check_slowly(const void *p, enum cv_kind kind);

static inline int cv_object_check(const void *p, enum cv_kind kind)
{
    return cv_object_is(p, kind) ? 0 : cv_object_check_slowly(p, kind);
}

/* May an object of that kind and of @size bytes be made at @p? Joins. 0, COVEY_EINVAL, or as above. */
int cv_object_place(const void *p, size_t size, enum cv_kind kind);

/* From now on it is one. */
static inline void cv_object_begin(void *p, enum cv_kind kind)
{
    cv_store_release((uint64_t *)p, cv_object_signature(p, kind));
}

static inline void cv_object_end(void *p)
{
    cv_store_seq((uint64_t *)p, 0);
}

/*
 * Some objects are a process's own, for a while or always, and have others that go with them. If it dies,
 * @end has the block as this process's own, and frees it, or gives it to somebody else.
 */
typedef void cv_object_end_fn(void *block);
void cv_object_set_end(enum cv_kind kind, cv_object_end_fn *end);

/* The same, but the block is the dead one's still, whose tag @owner is: @inherit takes it, or says that it cannot
 * now. */
enum cv_ending {
    CV_END_ORDINARY, /* it is none of these */
    CV_END_DONE,
    CV_END_NOT_NOW, /* to be tried again */
};

typedef enum cv_ending cv_object_inherit_fn(void *block, uint32_t owner);
void cv_object_set_inherit(enum cv_kind kind, cv_object_inherit_fn *inherit);

/* Does more than its block end with such an object? */
bool cv_object_ends(const void *block);

/* Frees a block of this process's own, with what goes with it if it is such an object. */
void cv_object_free(void *block);

/* A block of a dead process, to which its tag @owner says that it belongs. */
enum cv_ending cv_object_end_of_dead(void *block, uint32_t owner);

/* Calls @visit for every object in the arena, at about one instant. Reads all of it: takes time. */
void cv_object_each(void (*visit)(void *object, enum cv_kind kind, void *context), void *context);

#endif
