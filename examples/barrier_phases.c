/* SPDX-License-Identifier: MIT */
/*
 * A computation in phases. Three processes, started in the three ways, have four cells each of a row of
 * twelve; in every phase a cell becomes the sum of itself and its neighbours. Nobody may begin a phase
 * before all have finished the last: that is what the barrier is for. Between two phases one of them,
 * while the others wait, prints the row and lets all go from the old row to the new one.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>

enum {
    PROCESSES = 3,
    CELLS_EACH = 4,
    CELLS = PROCESSES * CELLS_EACH,
    PHASES = 4,
};

struct computation {
    covey_barrier barrier;
    int *old; /* both with a cell more at each end, which stays 0 */
    int *new;
};

struct job {
    struct computation *computation;
    int number;
};

static _Noreturn void fail(void)
{
    (void)fprintf(stderr, "%s\n", covey_error());
    exit(EXIT_FAILURE);
}

static void check(int result)
{
    if (result < 0)
        fail();
}

static int finish_phase(void *context)
{
    struct computation *c = context;
    int *old = c->old;

    c->old = c->new;
    c->new = old;
    for (int i = 1; i <= CELLS; i++)
        (void)printf("%3d", c->old[i]);
    (void)printf("\n");
    return fflush(stdout);
}

static int compute(void *argument)
{
    struct job *job = argument;
    struct computation *c = job->computation;
    int first = 1 + job->number * CELLS_EACH;

    for (int phase = 0; phase < PHASES; phase++) {
        for (int i = first; i < first + CELLS_EACH; i++)
            c->new[i] = c->old[i - 1] + c->old[i] + c->old[i + 1];
        check(covey_barrier_wait_then(&c->barrier, finish_phase, c, COVEY_FOREVER));
    }
    return 0;
}

int main(int argc, char **argv)
{
    covey_process *processes[PROCESSES];
    struct computation *c;

    covey_main(argc, argv);
    c = covey_alloc(sizeof *c);
    if (!c)
        fail();
    c->old = covey_array(int, CELLS + 2);
    c->new = covey_array(int, CELLS + 2);
    if (!c->old || !c->new)
        fail();
    c->old[CELLS / 2] = 1;
    check(covey_barrier_init(&c->barrier, PROCESSES));
    for (int i = 0; i < PROCESSES; i++)
        check(covey_process_start(&processes[i], compute, COVEY_ARGUMENT((struct job){c, i}),
            .method = (enum covey_method)(COVEY_FORK + i)));
    for (int i = 0; i < PROCESSES; i++) {
        check(covey_process_join(processes[i], COVEY_FOREVER));
        check(covey_process_close(processes[i]));
    }
    check(covey_barrier_destroy(&c->barrier));
    check(covey_array_free(c->old));
    check(covey_array_free(c->new));
    check(covey_free(c));
    return EXIT_SUCCESS;
}
