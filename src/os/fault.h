/* SPDX-License-Identifier: MIT */
/*
 * Failures on purpose, for the tests of what covey does when the machine has nothing left.
 *
 * With the build option `testing`, CV_MAY_FAIL(call, failed, errno...) is an opportunity for each
 * errno: the call is made, unless this is the moment for it to fail; then errno is set, and @failed
 * is evaluated instead. Without the option it is the call and nothing else. The calls of the C
 * library have their opportunities from os/fault_calls.h, which is then put before each source file.
 *
 * The plan lies in memory that is shared by all processes concerned: those that fork from each
 * other, and fresh images, which find its descriptor in their environment. Each process counts its
 * own opportunities from the moment when @n is set; the first one to reach it fails, and notes that.
 */
#ifndef CV_FAULT_H
#define CV_FAULT_H

#ifndef CV_TESTING
#define CV_MAY_FAIL(call, failed, ...) (call)
#else
#define CV_MAY_FAIL(call, failed, ...)                                                             \
    (cv_fault(#call, __func__, (const int[]){__VA_ARGS__, 0}) ? (failed) : (call))

#include <stdbool.h>
#include <stdint.h>

struct cv_fault_plan {
    uint32_t n;     /* which opportunity; 0: none */
    uint32_t pid;   /* of the process that has made the plan */
    uint32_t who;   /* fails: 0 that process, 1 one of its children, 2 one of theirs */
    uint32_t again; /* 1: that call fails with that errno ever after, wherever it is made */
    uint32_t hit;   /* 0: not yet; 1: it is just being noted; 2: noted */
    int32_t error;  /* the errno that was given */
    char call[48];  /* the call that has failed, */
    char where[48]; /* and the function that has made it */
};

/* NULL: nobody has made one. */
extern struct cv_fault_plan *cv_fault_plan;

/* Makes the plan, for this process and all that will come from it. Its descriptor, or -1. */
int cv_fault_make_plan(void);

/* Is this the moment? @errors ends with 0. */
bool cv_fault(const char *call, const char *where, const int *errors);

/* The same for syscall(). */
bool cv_fault_syscall(const char *call, const char *where, long number);

#endif
#endif
