/* SPDX-License-Identifier: MIT */
/*
 * The soak: a family at work, and a killer among it.
 *
 * Eight workers, members of one family, do at random whatever can be done with shared objects, while
 * their parent, the killer, kills them at random moments, stops them for a while, and puts others in
 * their places, started in every way there is. The kill sweep (../sweep/) tries each instruction of one
 * operation by itself; this tries what nobody has thought of: many operations at the same time,
 * several deaths at once, slots and memory used for the thousandth time.
 *
 * What is proved rests on notes. A life (one process, from its start to its death) says in shared memory
 * what it is about to do and what it has done, on both sides of each operation; so the killer and the
 * other workers know of each dead process what it had for certain, and what perhaps, and the checks can
 * be exact: no "a few may be lost". Each scenario's file says which they are. In general:
 *
 *   - nobody waits for ever, neither at work nor in the end (the deadline);
 *   - what a life had done before it was killed counts, what it was doing counts wholly or not at all;
 *   - a death is told once, with the right pid, to the right one, and only if there was one;
 *   - nobody dies who was not killed.
 *
 * Time goes by in rounds of a few seconds. At the end of each all workers leave, some of them killed on
 * their way; nobody comes in their place, so a wake-up that was lost is missed now. Those who wait for
 * what nobody would ever do are helped, but only then. Then every scenario is checked and its objects
 * are destroyed, and the family must be as it was before the round: no member, no block, no child, no
 * descriptor more.
 *
 * A scenario is described in a few lines:
 *
 *     static void *set_up(void) { ... }       // in the killer: its shared objects and notes
 *     static void work(void *state) { ... }   // in a worker: one operation or two
 *     static void finish(void *state) { ... } // in the killer: all are gone. Checks, destroys
 *
 *     const struct scenario soak_event = {"event", .set_up = set_up, .work = work, ...};
 *
 * Choices come from the seed and the number of the life. When they meet is up to the machine.
 */
#ifndef SOAK_H
#define SOAK_H

#include "../runner.h"

#include "base/atomic.h"
#include "os/clock.h"

#include <covey.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    WORKERS = 8,
    GIVER = WORKERS, /* the place of one more, who never waits for others, and gives */
    PLACES,
    SCENARIOS_MAX = 17,
    LIVES_MAX = 1024,   /* in a round */
    KILLS_NOTED = 1024, /* the last ones */
};

struct scenario {
    const char *name;
    void *(*set_up)(void);
    void (*work)(void *state);
    /* In the giver, and in the end in the killer: what somebody may be waiting for and nobody else need
     * do. Only if he waits rightly; and without waiting for others. */
    void (*give)(void *state);
    void (*finish)(void *state);
    /* In the killer: a process that works for @life, who is no worker himself; 0: none. */
    pid_t (*helper)(void *state, uint32_t life);
    bool is_slow; /* and so chosen less often */
};

extern const struct scenario soak_lock, soak_rlock, soak_rwlock, soak_semaphore, soak_counter,
    soak_condition, soak_event, soak_barrier, soak_queue, soak_claims, soak_pipe, soak_descriptor,
    soak_wait, soak_connection, soak_array, soak_heap, soak_pool;

extern const struct scenario *const soak_scenarios[];
unsigned soak_scenario_count(void);

/* One process of the family, from its start to its end. */
struct life {
    uint32_t pid;
    uint32_t doomed;   /* it is going to be killed now, or has been, as number so and so */
    uint32_t begun;    /* by one process, as it should be */
    uint32_t scenario; /* what it is at; SCENARIOS_MAX: nothing */
    uint32_t place;
    uint64_t since_ns; /* since when */
    uint64_t number;   /* of all lives of this run */
};

/* What all share. It lies in the arena, where fresh images of the program find it, too. */
struct run {
    uint64_t seed;
    double deadline_s; /* what takes longer hangs */
    uint32_t round;
    uint32_t failures;  /* found by anybody */
    uint32_t failed_at; /* the first of them: the scenario */
    uint32_t closing;   /* the round: leave */
    uint32_t focus;     /* the scenario that most are at just now */

    uint32_t lives;
    struct life life[LIVES_MAX + 1]; /* the last is the killer's */
    uint32_t at_place[PLACES];       /* which life */

    uint32_t kills; /* of helpers, whose pids are here */
    uint32_t killed[KILLS_NOTED];

    void *state[SCENARIOS_MAX];
    uint64_t operations[PLACES][SCENARIOS_MAX];
    uint64_t deaths[SCENARIOS_MAX]; /* that somebody was told of */
};

extern struct run *run;

/* In a worker: its life, by number; in the killer LIVES_MAX. */
extern uint32_t soak_me;

/* What a worker does, and how it ends. */
int soak_worker(void *argument);

/* One death was told, in this scenario. */
void soak_told(const struct scenario *scenario);

/* A random number below @n, and something that happens once in @n times. */
uint64_t soak_random(uint64_t n);
bool soak_chance(uint64_t n);
void soak_seed(uint64_t seed);

/* Lets some time go by, mostly little, sometimes enough for others to fall asleep. */
void soak_dawdle(void);

/* The life that had this pid; LIVES_MAX: none. */
uint32_t soak_life_of(pid_t pid);

/* Is the life dead, or going to be before it does anything else that counts? */
bool soak_is_doomed(uint32_t life);

/* Has the killer killed this helper? */
bool soak_was_killed(pid_t pid);

/* The pid that the last message of this thread names: "... (pid 4711) ...", "process 4711 ..." */
pid_t soak_pid_named(void);

/* Who waits for what, what each one is at, and the stacks. */
void soak_report(void);

/* A pattern that goes with the seed. */
void soak_fill(void *p, size_t size, uint64_t seed);
bool soak_is_filled(const void *p, size_t size, uint64_t seed);

#endif
