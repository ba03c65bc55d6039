/* SPDX-License-Identifier: MIT */
/*
 * Members: who is in the family, and who has died.
 *
 * Each process has a slot in a table of the arena, for as long as it lives. Its *tag* names it for
 * ever: the slot and the slot's generation. Whatever a process holds in the arena carries its tag,
 * written by the same atomic operation that takes it; so anybody can tell what a dead process held,
 * and a tag of the past never names a process of the present.
 *
 * State of a slot (one word, changed by compare-exchange only):
 *
 *   FREE --> BORN --> ALIVE --> DEAD --> GONE --> (BORN of the next generation)
 *              |                  ^
 *              +------------------+  the child never came to life
 *
 *   BORN   Reserved by the process @who (a pid): for a child that it is about to start, or for
 *          itself. As soon as there is a child, that is @who: put there by the process that has
 *          made it or by the child, whoever is first. Until then only the reserver writes the slot;
 *          blocks may carry its tag: what is meant for the child. A kill leaves BORN, for whoever
 *          finds that the process @who has ended.
 *   ALIVE  Set by the process itself, after pid, joined_ns and the life words are in place. Only
 *          now may anything carry its tag.
 *   DEAD   Set by whoever has proved the death (below), or by the process when it leaves.
 *   GONE   Set after all that carried the tag has been given back, by the sweeps of all floors.
 *          Sweeps are idempotent and each step is atomic, so several processes may bury the same
 *          member at once, and a burial may stop anywhere: the slot stays DEAD and somebody else
 *          goes on. The slot is used again as soon as nobody needs its record (@kept is 0, or the
 *          parent has died as well).
 *
 * Proof of death. The slot's life words are held (os/robust.h) by one thread of the member: the one
 * that joined, or the keeper that takes over when that thread ends. The kernel marks them when the
 * thread ends; until then the member lives, without a system call to find out. A marked or empty
 * life word is a reason to ask the kernel about the process itself (os/pid.h), whose answer counts.
 *
 * Watching a life. The kernel wakes one sleeper for each life word. So each watcher claims a life
 * word of its own by putting its tag into @watcher; claims of the dead are taken over. When all are
 * claimed, or the kernel marks no words for this member, a watcher polls.
 */
#ifndef CV_MEMBER_H
#define CV_MEMBER_H

#include "arena/heap.h"
#include "base/atomic.h"
#include "os/futex.h"
#include "os/robust.h"
#include "os/wiped.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum cv_phase {
    CV_FREE,
    CV_BORN,
    CV_ALIVE,
    CV_DEAD,
    CV_GONE,
};

enum {
    CV_LIVES = 16,          /* life words of a member: how many can watch it without polling */
    CV_MEMBERS_MAX = 16383, /* a tag has 14 bits for it */
    CV_MEMBER_ROOM = 832,   /* bytes of a slot that are the process floor's */
    CV_SELF_ROOM = 960,     /* and of what a process knows of itself */
};

enum cv_owns {
    CV_OWNS = 1,    /* the heap may have the tag; set by who writes it there, before */
    CV_LEAVING = 2, /* nothing is to be given to it any more; set by itself, before it sweeps */
};

struct cv_member {
    uint64_t state;     /* phase, generation, pid of @who; see above */
    uint64_t joined_ns; /* boot clock, when pid was this process; written while BORN */
    uint32_t pid;       /* written while BORN */
    uint32_t told;      /* 1: the kernel marks the life words; written while BORN */
    uint64_t parent;    /* tag of the process that started it, 0: none; written while BORN */
    uint32_t kept;      /* 1: the parent still needs the record; cleared by the parent's process */
    uint32_t owns;      /* flags of cv_owns; OR */
    uint64_t orderly;   /* a bit for each of the last 64 generations; see below */
    uint64_t disorder;  /* the last generation before those that did not end in order; only grows */
    uint32_t fresh; /* 1: a new image, with nothing of its parent's memory; written while BORN */
    uint32_t unused;
    uint64_t watcher[CV_LIVES]; /* tag of who watches life[i], 0: nobody; compare-exchange */
    struct cv_held life[CV_LIVES];
    uint64_t room[CV_MEMBER_ROOM / 8] __attribute__((aligned(64)));
};

_Static_assert(sizeof(struct cv_member) == 2048, "two slots fill a page");

/*
 * Tags. The low half, also called the short tag, is
 *
 *   bits 0-13   slot + 1
 *   bits 14-28  generation, bits 0-14
 *   bit 29      1: so a word that holds a tag is never 0, and never looks like a thread id (at most
 *               22 bits) to the kernel when it is pending (os/robust.h)
 *   bit 30      generation, bit 15
 *   bit 31      0: a lock word keeps a flag there
 *
 * and the high half is the rest of the generation. The short tag alone names a process where all
 * that carries it is swept when that process dies: it comes back only after 65,536 more generations
 * of its slot.
 *
 * A mark is a tag for words that are not swept: the short tag, above it the pid (22 bits), and bits
 * 16-25 of the generation.
 */
static inline uint64_t cv_tag_make(uint32_t slot, uint64_t generation)
{
    return generation >> 16 << 32 | (generation & 0x8000) << 15 | UINT64_C(1) << 29 |
           (generation & 0x7fff) << 14 | (slot + 1);
}

static inline uint32_t cv_tag_slot(uint64_t tag)
{
    return (uint32_t)(tag & 0x3fff) - 1;
}

static inline uint64_t cv_tag_generation(uint64_t tag)
{
    return tag >> 32 << 16 | (tag >> 15 & 0x8000) | (tag >> 14 & 0x7fff);
}

static inline uint32_t cv_tag_short(uint64_t tag)
{
    return (uint32_t)tag;
}

static inline uint64_t cv_tag_mark(uint64_t tag, pid_t pid)
{
    return (tag >> 32 & 0x3ff) << 54 | (uint64_t)pid << 32 | (uint32_t)tag;
}

static inline pid_t cv_mark_pid(uint64_t mark)
{
    return (pid_t)(mark >> 32 & 0x3fffff);
}

/* The same process's, with perhaps another pid, which may be the id of a thread? */
static inline bool cv_mark_is_of(uint64_t mark, uint64_t process)
{
    return ((mark ^ process) & ~(UINT64_C(0x3fffff) << 32)) == 0;
}

/* Bits 0-25. */
static inline uint64_t cv_mark_generation(uint64_t mark)
{
    return cv_tag_generation((mark >> 54 << 32) | (uint32_t)mark);
}

/* The tag that @mark was made of, if that process's slot is still its own; else 0. */
uint64_t cv_member_marked(uint64_t mark);

/* What a process knows of itself (os/wiped.h). */
struct __attribute__((aligned(CV_WIPED_ALIGNMENT))) cv_self {
    uint64_t tag;   /* 0: not a member yet */
    uint64_t mark;  /* the tag as locks have it (sync/lock.h) */
    uint64_t base;  /* of the arena: objects may start less than @span bytes from here */
    uint64_t span;  /* 0: not a member yet */
    uint64_t nonce; /* names this process's membership; what a thread has cached is true under it */
    uint64_t detects; /* 1: the family looks for deadlocks */
    struct cv_member *slot;
    uint32_t joining;
    uint32_t opens;    /* calls of covey_open() not yet undone */
    uint32_t watching; /* locks: of sync/watch.c, */
    uint32_t passing;  /* and of msg/descriptor.c */
    uint32_t forking;  /* os/wiped.c's */
    uint32_t unused;
    struct { /* where this process has last allocated from, by size class */
        uint32_t page;
        uint32_t next;
        uint32_t recounted; /* where it has last looked for wrong counts */
    } slab[CV_CLASSES];
    uint64_t room[CV_SELF_ROOM / 8]; /* what it knows on the floor above; the last */
};

extern struct cv_self cv_self;

/*
 * Makes this process a member, and opens the family if there is none. That counts as one opening;
 * @count: count one more if it is a member already. 0 or an error code.
 */
int cv_member_join(bool count);

static inline int cv_enter(void)
{
    return __builtin_expect(cv_load_acquire(&cv_self.tag) != 0, 1) ? 0 : cv_member_join(false);
}

struct cv_member *cv_member_of(uint64_t tag);

/* The tag of the process in whose slot @p lies. */
uint64_t cv_member_tag_at(const void *p);

/* Reserves a slot for a child to be: its tag, or 0 with a message. The child's @kept is set, and @fresh. */
uint64_t cv_member_reserve(bool fresh);

/* Undoes it: there is no child. */
void cv_member_cancel(uint64_t tag);

/* Takes the slot back before a child has made it its own: true; false when one has. */
bool cv_member_withdraw(uint64_t tag);

/* The slot is process @pid's now: that has just been made for it, and has not yet come to life. */
void cv_member_hand_over(uint64_t tag, pid_t pid);

/* What has become of the slot; CV_GONE when it is another's. */
enum cv_phase cv_member_phase(uint64_t tag);

/* The caller has proof that the process is dead. */
void cv_member_set_dead(uint64_t tag);

/* Buries a slot that is BORN and whose process is known to be dead. */
bool cv_member_end_born(uint64_t tag);

/* In a child of this process's or another's making: become the member that was reserved. */
int cv_member_become(uint64_t tag);

/* Does the slot of @tag say that it is dead? A load or two; may say no for a while after a death.
 */
bool cv_member_is_past(uint64_t tag);

/* Has its end begun, if it has not ended? The words are marked before the kernel calls it dead. */
bool cv_member_is_ending(uint64_t tag);

/* Whose short tag that is; 0: nobody's, or of one whose slot is another's. */
uint64_t cv_member_of_short(uint32_t short_tag);

/* cv_member_is_past() for a short tag, and the pid of the living. */
bool cv_member_short_is_past(uint32_t short_tag);
bool cv_member_short_is_gone(uint32_t short_tag); /* and all that it had is given back */
/* For the heap: before a block gets the tag; and after it: may the process have it? */
void cv_member_note_owning(uint64_t tag);
bool cv_member_takes(uint32_t short_tag);
pid_t cv_member_short_pid(uint32_t short_tag);

/* The pid that belongs to the tag, also after death; 0 when the slot has been used again, or for 0.
 */
pid_t cv_member_pid(uint64_t tag);

/*
 * Is it dead? Asks the kernel where the life words give reason to, waiting up to @patience_ns for a
 * process that is about to end, and about those that have not come to life yet. On yes the slot is
 * DEAD at least.
 */
bool cv_member_is_dead(uint64_t tag, uint64_t patience_ns);

/* This process is about to end, and has nothing left to do: nobody need wait for it in vain. */
void cv_member_end_orderly(void);

/*
 * Did the dead process say so? The bit of its generation is 1 before it comes to life and from here on.
 * No, too, if nobody knows any more: of those before the last 64 one has not, and this one is no later.
 */
bool cv_member_was_orderly(uint64_t mark);

/* Gives back all that a dead member held. False: not yet possible; somebody must try again. */
bool cv_member_bury(uint64_t tag);

/* Proves and buries all that have died; returns how many live. */
unsigned cv_member_bury_all(void);

/* Calls @visit for each slot that is not FREE, until it returns false. */
void cv_member_each(bool (*visit)(uint64_t tag, enum cv_phase phase, void *context), void *context);

/* The record of a GONE child is not needed any more. */
void cv_member_forget(uint64_t tag);

/* A floor's part of a burial, in this order: idempotent, killable anywhere; false: not yet possible,
 * and those after it wait. */
enum cv_sweep {
    CV_SWEEP_WATCHES, /* these two end the threads of a process that leaves */
    CV_SWEEP_DESCRIPTORS,
    CV_SWEEP_WAITERS,
    CV_SWEEP_PROCESSES,
    CV_SWEEPS,
};

typedef bool cv_sweep_fn(uint64_t tag);
void cv_member_set_sweep(enum cv_sweep sweep, cv_sweep_fn *fn);

enum cv_life_state {
    CV_LIFE_WATCHED, /* *watch is set; call cv_member_unwatch() after the sleep */
    CV_LIFE_POLL,    /* the kernel will not tell this watcher: look again after a while */
    CV_LIFE_OVER,    /* dead */
};

struct cv_life {
    uint64_t tag;
    unsigned index;
};

enum cv_life_state cv_member_watch(
    uint64_t tag, struct cv_life *life, struct cv_futex_watch *watch);
void cv_member_unwatch(const struct cv_life *life);

/* Leaves the family; false when another thread than the joining one calls (nothing is done). */
bool cv_member_leave(void);

#endif
