/* SPDX-License-Identifier: MIT */
/*
 * Another process, stopped between any two of its instructions.
 *
 * A *trace* is what a process executes from its sweep_begin() to its sweep_end(), instruction by
 * instruction. It is recorded once, by single steps. To stop a later process (a fork of the same
 * image, with the same addresses) at point k of it, a breakpoint brings it to some instruction
 * before, and single steps do the rest. In a loop the kernel counts how often the breakpoint is
 * reached, where it can (perf_event_open(2)), which costs far less than to stop each time.
 *
 * An instruction that repeats itself (rep movs) is a point for each repetition. Breakpoints are
 * only put where it is reached from elsewhere; from there it is made to do as many repetitions as
 * if these were all, and gets the others back.
 *
 * On x86-64, breakpoints are debug registers, which children of the traced process do not inherit.
 * On AArch64 they are BRK instructions, and the library must be built with LSE atomics
 * (-march=armv8.1-a): a single step between load-exclusive and store-exclusive loses the
 * reservation, so that a loop around them would never end.
 */
#ifndef SWEEP_TRACE_H
#define SWEEP_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    STEP_CALLS = 1,   /* a system call */
    STEP_CHANGES = 2, /* it has changed the arena */
    STEP_SLEEPS = 4,  /* a system call that slept until it was woken */
};

struct step {
    uintptr_t pc;
    uint32_t arrival; /* the how-manieth at this address, from 1; 0: a repetition, or the start */
    uint32_t what;
};

enum {
    TRACE_MAX = 1 << 20
};

struct trace {
    uint32_t count; /* of steps; the points are 0 to count */
    struct step step[TRACE_MAX + 1];
};

enum tracee_state {
    TRACEE_STOPPED,
    TRACEE_ASLEEP, /* running, and sleeping in the kernel: see @asleep */
    TRACEE_GONE,
};

struct tracee {
    pid_t pid;
    uintptr_t pc;
    int signal; /* to be delivered when it goes on */
    enum tracee_state state;
    bool slept; /* in its last system call */

    /* Called, more than once perhaps, when it sleeps: true to wait until it goes on. */
    bool (*asleep)(void);
};

/* Does the process sleep in a system call, for some milliseconds already? */
bool trace_is_asleep(pid_t pid);

/* Takes hold of a process that is running or sleeping; it dies with the tracer. */
bool trace_seize(struct tracee *t, pid_t pid);

/* Lets it run until it is at @pc, or at @end. */
bool trace_run_to_address(struct tracee *t, uintptr_t pc, uintptr_t end);

/* One instruction. False if it does not come to the next one: see the state. */
bool trace_step(struct tracee *t);

/*
 * Records up to @end, or to where @asleep says no. @changed tells whether a step has changed the
 * arena; its argument, that it was a system call.
 */
bool trace_record(
    struct tracee *t, struct trace *trace, uintptr_t end, bool (*changed)(bool after_call));

/* Brings it to point @at. False: it is not there, but stopped somewhere, asleep or gone. */
bool trace_run_to(struct tracee *t, const struct trace *trace, uint32_t at, uintptr_t end);

/* Kills it and waits for that; a child of this process is left a zombie. */
void trace_kill(struct tracee *t);

#endif
