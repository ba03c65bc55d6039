/* SPDX-License-Identifier: MIT */
/* The process that starts the workers and kills them, and its guardian, who sees it hang. */
#ifndef KILLER_H
#define KILLER_H

#include "soak.h"

struct order {
    uint64_t seed;
    double end_s;       /* not before, */
    uint64_t kills_min; /* nor with fewer kills; but soon after */
    double kills_per_s; /* about */
    double deadline_s;  /* for each operation */
    unsigned focus;     /* the scenario that most are at; SCENARIOS_MAX: now one, now another */
};

/* In shared memory: grows as long as the killer is well. */
extern uint64_t *killer_heartbeat;

/* Kills until the order is carried out, and prints what came of it: the exit status. */
int killer_run(const struct order *order);

/* Prints the stack of a process, as far as that can be seen. */
void killer_print_stack(pid_t pid);

#endif
