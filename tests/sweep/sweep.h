/* SPDX-License-Identifier: MIT */
/*
 * The kill sweep: every operation of covey, killed at every instruction.
 *
 * For each point of an operation there is a fresh *world*: a process W opens a small family and
 * sets the operation's objects up. The *victim* V, a member, is brought to that point (trace.h) and
 * killed. Then the *rescuers* S, members that are no relatives of V, use the objects, and W checks:
 *
 *   - nobody hangs (every world has a deadline);
 *   - what V had committed is there, what it had not is not, and all else is as it was: every block
 *     that existed keeps its owner, and those of the harness (all around) every byte;
 *   - nothing of V's is left: no block, no page, no lock, no slot. At the end of a world all
 *     blocks are freed, and every page of the heap must be free.
 *
 * Further passes: the rescuer is killed, too, at every point of *its* operation, for each state of
 * the arena that kills of V leave (their number is small: many points leave the same); V is
 * stopped instead of killed, and goes on when the others are done; or it goes on for one change of
 * the arena only, and is killed then.
 *
 * An operation is described in a few lines:
 *
 *     static covey_lock *lock;
 *
 *     static void set_up(void) { lock = covey_alloc(sizeof *lock); covey_lock_init(lock); }
 *     static void acquire(void) { check_int(covey_lock_acquire(lock, COVEY_FOREVER), ==, 0); }
 *     static void done(void) { ... covey_free(lock); }
 *
 *     OPERATION(lock_acquire, .setup = set_up, .victim = acquire, .rescue = ..., .verify = done)
 *
 * The functions use check() and its kind (../runner.h). Static variables that setup sets are the
 * same in all processes of the world; what V and S find out is told to W by sweep_tell().
 *
 * The whole world runs on one CPU: so waiters do not spin, which would take another number of
 * instructions each time.
 */
#ifndef SWEEP_H
#define SWEEP_H

#include "../runner.h"

#include <covey.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum sweep_rescue {
    RESCUE_AFTER,       /* rescuers act when V is dead (or stopped) */
    RESCUE_SLEEPS_LATE, /* they fall asleep in it when V sleeps or is dead; then comes unblock */
    RESCUE_SLEEPS_FIRST /* they sleep in it before V begins; after its death comes unblock */
};

struct operation {
    const char *name;
    /* In W: the objects, before there are others. */
    void (*setup)(void);
    /* In V: whatever should have happened before; and the operation. */
    void (*warm)(void);
    void (*victim)(void);
    /* In W, instead of @victim: returns a process that calls sweep_begins() and sweep_ends(). */
    pid_t (*begin)(void);
    /* In W, when V sleeps, or is dead: makes happen what it waits for. False: not now, because V is
     * stopped in the way. */
    bool (*unblock)(void);
    /* In W: V is about to be killed. */
    void (*look)(void);
    /* In W: V is dead, or sleeps again though others were unblocked: more of it if need be. */
    void (*after)(void);
    /* In S: before V begins; and what survivors do. */
    void (*prepare)(void);
    void (*rescue)(void);
    /* In W: all is right; frees the objects. */
    void (*verify)(void);

    const char *proves; /* the steps of the recovery (base/mutation.h) that it fails without */
    enum sweep_rescue when;
    unsigned rescuers; /* how many; 0: one, if there is @rescue */
    bool is_stranger;  /* V is no member before */
    bool is_running;   /* the process that begin returns is just seized where it is */
    bool ends_asleep;  /* V's operation ends where it sleeps for the second time */
    bool only_kill;    /* no other passes */
    bool no_stall;     /* V may not be stopped: the others wait for it */
    bool no_rescue;    /* the rescuer may not be killed: V waits for it */
    bool is_slow;      /* few points in the quick mode */
    bool detects;      /* the family looks for deadlocks */
    bool walks;        /* over all blocks, of which the harness then has none */

    int more_members; /* in the family at the end */
    const char *file;
    struct operation *next;
};

void sweep_register(struct operation *operation);

#define OPERATION(operation_name, ...)                                                             \
    __attribute__((constructor)) static void operation_name##_register(void)                       \
    {                                                                                              \
        static struct operation o = {.name = #operation_name, .file = __FILE__, __VA_ARGS__};      \
        sweep_register(&o);                                                                        \
    }                                                                                              \
    _Static_assert(1, "a semicolon follows")

/* Words by which the processes of a world tell each other something; 0 at first. */
enum {
    SWEEP_TOLD_MAX = 32
};

void sweep_tell(unsigned i, uint64_t value);
uint64_t sweep_told(unsigned i);

/* In W: has V ended its operation before it was killed? Has the (first) rescuer? */
bool sweep_victim_finished(void);
bool sweep_rescuer_finished(void);

/* In any process: is V dead? Is it alive, and stopped? Has it been? Will it be? */
bool sweep_is_dead(void);
bool sweep_is_stalled(void);
bool sweep_was_stalled(void);
bool sweep_will_be_stalled(void);

/* A timeout for what a stopped process may hold up, and the codes that are right then. */
double sweep_patience(void);
bool sweep_is_fine(int result);

/* In S: waits until V is dead. */
void sweep_wait_for_death(void);

/* In S: which rescuer it is. In W: how many there are; fewer if one of them is traced. */
unsigned sweep_rescuer(void);
unsigned sweep_rescuers(void);

/* In W: the owner that a block had when V was killed, 0 if it was not there or is kept (below); a block that it had
 * allocated, and told nobody of; V's short tag. */
uint32_t sweep_owner_at_death(const void *block);
void *sweep_stray(void);
uint32_t sweep_victim_tag(void);

/* The pid of V, and of rescuer @i. */
pid_t sweep_victim_pid(void);
pid_t sweep_rescuer_pid(unsigned i);

/* A process that plays V calls them around its operation. */
void sweep_begins(void);
void sweep_ends(void);

/* Blocks with a pattern in them, which must stay as they are until the end of the world. Others
 * than W may add them, too; @owned: they belong to the process that adds them. */
void *sweep_keep(size_t size);

/* The same for a block that is there already; @size bytes get the pattern. */
void sweep_keep_block(void *block, size_t size);

/* It is about to be freed, moved or changed. */
void sweep_unkeep(const void *block);

/* Has @size bytes of that pattern, which goes with @seed? */
void sweep_fill(void *p, size_t size, uint64_t seed);
bool sweep_is_filled(const void *p, size_t size, uint64_t seed);

/* In W: forks a process that does @what, tells when it is done, and sleeps until it is killed. */
pid_t sweep_fork(void (*what)(void));
/* The same, for one that falls asleep in @what. */
pid_t sweep_fork_asleep(void (*what)(void));
/* In W: kills it, and takes the zombie away. */
void sweep_kill(pid_t pid);
/* The same for a crowd: as many processes as fill the cells that an object has itself (sync/cells.h). */
void sweep_gather(void (*what)(void));
void sweep_disperse(void);

/* In W: a process that V had started, and that has become W's child with V's death; 0: none. */
pid_t sweep_orphan(void);

/* Waits until it sleeps. */
void sweep_wait_asleep(pid_t pid);

/* What rescuers and checks of the heap do: allocate all kinds of blocks, free some. */
void sweep_use_heap(void);

#endif
