/* SPDX-License-Identifier: MIT */
/*
 * What bench/messages.c asks of a channel: a way for items of one size from producers to consumers, as
 * fast as it can be had by what is measured; and of a crew: the processes that do it.
 */
#ifndef BENCH_MESSAGES_H
#define BENCH_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CREW_MAX = 64,
    WAYS_MAX = 2, /* there and back */
};

struct plan {
    size_t size;        /* of an item */
    unsigned producers; /* processes 0... */
    unsigned consumers; /* and those after them; both on each end of its own, with two ways */
    unsigned ways;
    unsigned many; /* items that are put and got together; 1: one by one */
};

/* Items of a way go from a put to a get, whole and once. What fails ends the program. */
struct channel {
    const char *name;
    bool only_many;                        /* batches are all it can do */
    void (*make)(const struct plan *plan); /* before the crew comes to life */
    void (*enter)(unsigned me);            /* by each of the crew, before its first item; or NULL */
    void (*put)(unsigned way, const void *items);
    void (*get)(unsigned way, void *items);
    void (*leave)(void); /* after the last item, by each; or NULL */
};

extern const struct channel channels[]; /* the last has no name */

/*
 * The crew: runs @work in @n processes at once, with numbers from 0, of which one is this. The others
 * come to life by it (messages_fork.c), or are there already (messages_mpi.c).
 */
void crew_begin(int *argc, char ***argv);
void crew_work(unsigned n, void (*work)(unsigned me));
/* Meets the others; returns the value of number 0. */
double crew_meet(double value);
/* Whether this process is to print. */
bool crew_speaks(void);
void crew_end(void);

void fail_if(bool failed, const char *what);

#ifdef __cplusplus
}
#endif

#endif
