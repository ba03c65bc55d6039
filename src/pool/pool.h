/* SPDX-License-Identifier: MIT */
/*
 * The pool: tasks in a table in the arena, which workers take from by themselves.
 *
 * Tasks stand in *entries*, in the order of submission; entries in segments of SEGMENT_ENTRIES; and
 * a directory leads from an entry's number to its segment. Only the owner process adds entries,
 * segments and directories; all three are freed with the pool only, and an entry's memory is never
 * anything else: so a worker that was stopped while it looked at one reads an entry, perhaps of a
 * later task, and its compare-exchange takes that one rightly or fails.
 *
 * State of an entry (the low half of @state; the high half is the worker's incarnation):
 *
 *   EMPTY --> READY --> CLAIMED by w --> DONE --> FREED --> (EMPTY, when its segment is used again)
 *               ^          |
 *               +----------+   w died: the task that it ran has failed, the chunk has others left
 *
 *   READY    published by the owner; all other fields were written before.
 *   CLAIMED  the commit of taking: compare-exchange by worker w, who has put the entry's address
 *            into worker[w].current before. From now on only w writes the entry. A kill leaves
 *            CLAIMED, with a worker and an incarnation that are no more: the owner, who learns of
 *            the death, finds in worker[w].current the one entry that it can concern.
 *   DONE     the commit of finishing: exchange by w (or by the owner for a dead w), after result and
 *            outcome are written.
 *   FREED    by the owner's covey_future_free().
 *
 * SLEEPER, a flag beside READY or CLAIMED: somebody in the owner sleeps on this word; whoever makes
 * it DONE wakes him.
 *
 * @head is where to look for the next READY entry: a number, and above it a version. Workers move
 * it over entries that are not READY. When an entry before it becomes READY again, the owner first
 * sets the state and then head with a new version, so that a worker that has seen the entry
 * otherwise cannot move head over it. A kill leaves head behind, and the next worker moves it on.
 *
 * The queue ends at @tail, which the owner raises after the entry is READY: only for numbers below
 * it, read before, does the directory hold what it says. (A number below @first may find another
 * entry, or none; the owner has moved head on by then, so the worker cannot.) A worker that has
 * nothing to do sleeps on @published, with the bell @work: the owner counts it up after whatever
 * there is to see, a task, one to be done again, or the pool's being closed.
 *
 * Deaths of workers are found by the owner: in any call of the pool, and while it waits, for it
 * watches the lives of all workers then. The owner's death ends all: workers are its daemons, and
 * the pool's memory carries its tag.
 */
#ifndef CV_POOL_H
#define CV_POOL_H

#include "base/atomic.h"
#include "proc/process.h"
#include "sync/wait.h"

#include <covey/pool.h>

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CV_POOL_MAGIC = 0x6c6f6f70, /* "pool" */
    CV_SEGMENT_ENTRIES = 256,
    CV_DIRECTORY_FIRST = 64, /* segments in the first directory; doubled as needed */
    CV_WORKERS_MAX = 1024,
    CV_INLINE_BYTES = 24,
    CV_POOL_BELLS = 2,
    CV_LINE = 64,
};

enum cv_entry_phase {
    CV_ENTRY_EMPTY,
    CV_ENTRY_READY,
    CV_ENTRY_CLAIMED,
    CV_ENTRY_DONE,
    CV_ENTRY_FREED,
};

/* The state word: phase (4 bits), worker (27 bits), SLEEPER; above, the incarnation. */
#define CV_ENTRY_SLEEPER UINT64_C(0x80000000)

static inline uint64_t cv_entry_claimed(uint32_t worker, uint32_t incarnation)
{
    return (uint64_t)incarnation << 32 | (uint64_t)worker << 4 | CV_ENTRY_CLAIMED;
}

static inline enum cv_entry_phase cv_entry_phase(uint64_t state)
{
    return (enum cv_entry_phase)(state & 15);
}

/* A task, or a chunk of the items of an array. */
struct covey_future {
    uint64_t state;
    struct covey_pool *pool;
    uint64_t function;    /* proc/function.h */
    const char *argument; /* of the first item; in the arena */
    char *result;         /* likewise */
    uint32_t argument_size;
    uint32_t result_size;
    uint32_t count;      /* items */
    uint32_t progress;   /* index of the item that is running; written by the worker before it */
    uint64_t number;     /* its place in the order of submission */
    uint64_t timeout_ns; /* for each item; 0: none */
    struct covey_outcome *outcomes; /* of the items, in the arena; NULL: not wanted */
    struct covey_outcome outcome;   /* of the first item that failed, */
    uint32_t failed;                /* which is this one; only if outcome.code is not 0 */
    uint16_t has_block;             /* 1: @block is to be freed with the entry */
    uint16_t is_abandoned;          /* 1: the future was freed before it was DONE; the owner's */
    union {
        char *block;                 /* result and argument, if they do not fit here: */
        char bytes[CV_INLINE_BYTES]; /* result and argument */
    };
};

_Static_assert(sizeof(struct covey_future) == 2 * CV_LINE, "an entry has two cache lines");

struct cv_segment {
    struct covey_future entry[CV_SEGMENT_ENTRIES];
};

struct cv_directory {
    uint64_t size; /* a power of two */
    struct cv_segment *segment[];
};

struct cv_worker {
    uint64_t tag;         /* of its process; written by the owner */
    uint32_t incarnation; /* how many there were before; written by the owner */
    uint32_t claims;      /* entries that this incarnation has taken; written by the worker */
    struct covey_future *current; /* the entry that it has taken, or was about to; by the worker */
    uint64_t started_ns;          /* when the item that is running was begun, if it has a timeout */
    uint64_t looked;              /* 1: it has come as far as looking for tasks; by the worker */
    uint64_t unused[3];
};

_Static_assert(sizeof(struct cv_worker) == CV_LINE, "each worker has its own cache line");

enum cv_pool_phase {
    CV_POOL_OPEN,
    CV_POOL_CLOSED,     /* no more submissions; workers end when nothing is READY */
    CV_POOL_TERMINATED, /* the workers are dead */
};

struct covey_pool {
    /* Written once, when the pool is made. */
    uint32_t magic;
    uint32_t workers;
    uint64_t owner;                 /* its tag */
    struct cv_pool_own *private;    /* in the owner's own memory */
    struct cv_directory *directory; /* replaced by the owner, by a larger one */

    struct {
        uint64_t head; /* version (24 bits) and number (40 bits) of an entry; see above */
    } take __attribute__((aligned(CV_LINE)));

    struct {
        uint64_t tail;      /* number of the next entry; written by the owner */
        uint32_t published; /* counts what idle workers should look at; written by the owner */
        uint32_t phase;     /* enum cv_pool_phase; written by the owner */
        uint32_t alarm[2];
        uint32_t work[2]; /* CV_POOL_BELLS: of idle workers */
        uint32_t done[2]; /* of the owner's threads that wait for several things (covey_wait()) */
    } give __attribute__((aligned(CV_LINE)));

    struct cv_worker worker[] __attribute__((aligned(CV_LINE)));
};

#define CV_HEAD_NUMBER ((UINT64_C(1) << 40) - 1)

/* The entry with that number, NULL if it is not there yet (or not any more). */
static inline struct covey_future *cv_pool_entry(const covey_pool *pool, uint64_t number)
{
    struct cv_directory *d = cv_load_acquire(&pool->directory);
    struct cv_segment *s =
        cv_load_acquire(&d->segment[number / CV_SEGMENT_ENTRIES & (d->size - 1)]);

    return s ? &s->entry[number % CV_SEGMENT_ENTRIES] : NULL;
}

bool cv_entry_is_done(const struct covey_future *entry);

/* Makes a claimed entry DONE, and wakes who sleeps on it. The alarm is pending. */
void cv_entry_finish(struct covey_future *entry);

/* Notes that item @index of the entry has ended so. */
void cv_entry_note(struct covey_future *entry, uint32_t index, const struct covey_outcome *outcome);

/* What a worker process runs: its argument is a struct cv_worker_argument. */
struct cv_worker_argument {
    covey_pool *pool;
    uint32_t index;
    uint32_t incarnation;
};

int cv_worker_main(void *argument);

/* A growing array in the owner's own memory. */
struct cv_pointers {
    void **list;
    size_t count;
    size_t room;
};

/* False, with a message, when there is no memory. */
bool cv_pointers_add(struct cv_pointers *pointers, void *pointer);

/* The owner's own part. */
struct cv_pool_own {
    pthread_mutex_t lock; /* guards the rest, and whatever the owner writes in the pool */
    char name[COVEY_NAME_MAX + 1];
    enum covey_method method;
    uint64_t first;    /* number of the first entry of the oldest segment in use */
    uint64_t segments; /* that there have ever been */
    uint32_t *freed;   /* for each segment in the directory, by the same index: entries FREED */
    struct cv_segment *gone;  /* stands in the directory where a segment was taken out; all FREED */
    struct cv_pointers spare; /* segments that can be used again */
    struct cv_pointers abandoned; /* entries whose futures were freed before they were DONE */
    struct cv_pointers blocks;    /* to be freed with the pool: old directories, orphaned arrays */
    covey_process **process; /* of each worker; NULL: it has ended, and there will be no other */
    uint32_t tended;         /* which worker to look at next */
    uint64_t *begun_ns;      /* when each worker was started */
    unsigned deaths_early;   /* workers that died one after the other soon after their start */
    size_t abandoned_next;   /* which of the abandoned to look at next */
    int broken; /* the code of what keeps workers from being started, or 0; those that live go on */
    char message[CV_MESSAGE_BYTES];
};

/* For the owner, with the lock held: looks for deaths, fails what they took, replaces workers. */
void cv_pool_tend(covey_pool *pool);

/* The same for one worker, a different one each time. */
void cv_pool_tend_next(covey_pool *pool);

/* For the owner, with the lock held: does any worker live, or may it yet? */
bool cv_pool_has_workers(covey_pool *pool);

/* For the owner: 0, or COVEY_EINVAL, COVEY_ENOTOWNER. */
int cv_pool_check(const covey_pool *pool);

/* For the owner, before a sleep: the same, and the tags of the workers that live, of which there are *@n, to
 * be watched. 0; or the code of what is broken, with its message. */
int cv_pool_tend_and_list(covey_pool *pool, uint64_t *tags, unsigned *n);

/* For the owner: waits until the entry is DONE. COVEY_ETIMEDOUT, COVEY_EINTR, or what is broken. */
int cv_pool_await(struct covey_future *entry, struct cv_wait *wait);

/* For the owner, with the lock held: a new entry, EMPTY; NULL with a message. */
struct covey_future *cv_pool_new_entry(covey_pool *pool);
void cv_pool_publish(covey_pool *pool, struct covey_future *entry);
/* DONE: it can be used again. Not yet: as soon as it is. */
void cv_pool_free_entry(struct covey_future *entry);

/* Frees the abandoned that are DONE by now. */
void cv_pool_free_abandoned(covey_pool *pool);

#endif
