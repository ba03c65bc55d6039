/* SPDX-License-Identifier: MIT */
/* Steps of the recovery (base/mutation.h) by name, and leaving one out in all processes of a tool. */
#ifndef MUTATIONS_H
#define MUTATIONS_H

#include "base/mutation.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    const char *what;
} mutation_steps[] = {
#define X(name, what) {#name, what},
    CV_MUTATIONS(X)
#undef X
};

enum {
    MUTATION_STEPS = sizeof mutation_steps / sizeof *mutation_steps,
};

/* For fresh images, too: the number of the step that is missing. */
#define MUTATION_VARIABLE "COVEY_TEST_WITHOUT"
#define NAPS_VARIABLE     "COVEY_TEST_NAPS"

static inline void mutation_set(enum cv_mutation step)
{
    char number[16];

    (void)snprintf(number, sizeof number, "%d", (int)step);
    (void)setenv(MUTATION_VARIABLE, number, 1);
    cv_mutation = step;
}

static inline void naps_set(bool naps)
{
    (void)setenv(NAPS_VARIABLE, naps ? "1" : "0", 1);
    cv_naps = naps;
}

/* At the top of main(), before covey_main(). */
static inline void mutation_inherit(void)
{
    const char *without = getenv(MUTATION_VARIABLE);
    const char *naps = getenv(NAPS_VARIABLE);

    if (naps)
        cv_naps = strcmp(naps, "0") != 0;
    if (without)
        cv_mutation = (enum cv_mutation)strtol(without, NULL, 10);
}

static inline enum cv_mutation mutation_find(const char *name)
{
    for (size_t i = 0; i < MUTATION_STEPS; i++) {
        if (strcmp(mutation_steps[i].name, name) == 0)
            return (enum cv_mutation)(i + 1);
    }
    (void)fprintf(stderr, "there is no step %s (see src/base/mutation.h)\n", name);
    exit(2);
}

#endif
