/* SPDX-License-Identifier: MIT */
/*
 * One world of the sweep: a family in which one thing is tried.
 *
 * It lives in a process of its own and in those that this one forks. What they tell each other, and
 * how it ended, is in memory that is shared with the sweep.
 */
#ifndef SWEEP_WORLD_H
#define SWEEP_WORLD_H

#include "sweep.h"
#include "trace.h"

enum {
    RESCUERS_MAX = 4,
    KEPT_MAX = 96,
    MESSAGE_BYTES = 400,
};

enum pass {
    PASS_RECORD, /* V's trace; it is killed at the end of it */
    PASS_KILL,
    PASS_STALL, /* V is stopped, goes on later, and is killed at the end */
    PASS_LATE,  /* V is stopped, goes on later for one change of the arena, and is killed */
    PASS_RECORD_RESCUER,
    PASS_KILL_RESCUER, /* the rescuer, too, is killed */
};

/* What one world is for. */
struct plan {
    const struct operation *operation;
    enum pass pass;
    uint32_t first;  /* V's point */
    bool is_asleep;  /* V is killed in the system call at that point, asleep */
    uint32_t second; /* the rescuer's point */
    bool second_asleep;
    unsigned trace; /* which of the rescuers' traces */
};

enum verdict {
    VERDICT_NONE,
    VERDICT_RIGHT,
    VERDICT_WRONG,
};

struct party {
    uint32_t pid; /* set when it is ready to begin */
    uint32_t go;
    uint32_t done;
};

struct kept {
    void *block; /* NULL: not any more */
    size_t size;
    uint32_t owner;
};

struct world {
    struct plan plan;

    /* How it ended. */
    uint32_t verdict;
    bool has_missed; /* V was not at the point where it should be */
    uint64_t state;  /* hash of the arena after V's death */
    const char *stage;
    char message[MESSAGE_BYTES];

    /* Among its processes. */
    struct party victim;
    struct party rescuer[RESCUERS_MAX];
    bool victim_dead;
    bool victim_finished;
    bool rescuer_finished;
    bool stalled;
    bool was_stalled;
    uint64_t told[SWEEP_TOLD_MAX];
    uint32_t n_kept;
    struct kept kept[KEPT_MAX];
};

/* In a fork of the sweep: plays @world->plan, with these traces to write or to go by. */
__attribute__((noreturn)) void world_run(
    struct world *world, struct trace *victim, struct trace *rescuer);

#endif
