/* SPDX-License-Identifier: MIT */
/*
 * A value and an array that processes share. A child sets the value and turns the sign of each item of
 * the array; then four children count in a value that has a lock. Does so with each start method, and
 * prints what there is afterwards.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>

enum {
    COUNTERS = 4,
    COUNTS = 1000, /* of each */
};

struct state {
    double *number;
    int *numbers;
    int *counter;
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

static int change(void *argument)
{
    struct state *state = argument;

    *state->number = 3.1415927;
    for (size_t i = 0; i < covey_array_length(state->numbers); i++)
        state->numbers[i] = -state->numbers[i];
    return 0;
}

static int count(void *argument)
{
    int *counter = ((struct state *)argument)->counter;

    for (int i = 0; i < COUNTS; i++) {
        check(covey_rlock_acquire(covey_array_lock(counter), COVEY_FOREVER));
        *counter += 1;
        check(covey_rlock_release(covey_array_lock(counter)));
    }
    return 0;
}

static covey_process *start(covey_function *function, struct state state)
{
    covey_process *process;

    check(covey_process_start(&process, function, COVEY_ARGUMENT(state)));
    return process;
}

static void join(covey_process *process)
{
    check(covey_process_join(process, COVEY_FOREVER));
    check(covey_process_close(process));
}

static void share(void)
{
    struct state state = {
        .number = covey_value(double, 0.0),
        .numbers = covey_array_of(int, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
        .counter = covey_value_locked(int, 0),
    };
    covey_process *counters[COUNTERS];

    if (!state.number || !state.numbers || !state.counter)
        fail();
    join(start(change, state));
    for (int i = 0; i < COUNTERS; i++)
        counters[i] = start(count, state);
    for (int i = 0; i < COUNTERS; i++)
        join(counters[i]);

    (void)printf("  %.7f\n ", *state.number);
    for (size_t i = 0; i < covey_array_length(state.numbers); i++)
        (void)printf(" %d", state.numbers[i]);
    (void)printf("\n  %d\n", *state.counter);
    check(covey_array_free(state.number));
    check(covey_array_free(state.numbers));
    check(covey_array_free(state.counter));
}

int main(int argc, char **argv)
{
    covey_main(argc, argv);
    (void)printf("fork\n");
    check(covey_set_start_method(COVEY_FORK));
    share();
    (void)printf("spawn\n");
    check(covey_set_start_method(COVEY_SPAWN));
    share();
    (void)printf("forkserver\n");
    check(covey_set_start_method(COVEY_FORKSERVER));
    share();
    return EXIT_SUCCESS;
}
