/* SPDX-License-Identifier: MIT */
/*
 * Three runners, started in the three ways, wait for the start signal, an event, as long as it takes. A
 * fourth waits for a tenth of a second only, and goes home; then the signal is given.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>

enum {
    RUNNERS = 3,
};

enum how {
    RAN,
    WENT_HOME,
};

struct job {
    covey_event *signal;
    double patience_s;
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

static int take_part(void *argument)
{
    struct job *job = argument;
    int result = covey_event_wait(job->signal, job->patience_s);

    if (result == COVEY_ETIMEDOUT)
        return WENT_HOME;
    check(result);
    return RAN;
}

static void tell(covey_process *runner)
{
    int how;

    check(covey_process_join(runner, COVEY_FOREVER));
    check(covey_process_exit_code(runner, &how));
    (void)printf("%s %s\n", covey_process_name(runner), how == RAN ? "ran" : "went home");
    check(covey_process_close(runner));
}

int main(int argc, char **argv)
{
    static const char *const names[RUNNERS] = {"anna", "bert", "cleo"};
    covey_process *runners[RUNNERS];
    covey_process *impatient;
    covey_event *signal;

    covey_main(argc, argv);
    signal = covey_alloc(sizeof *signal);
    if (!signal)
        fail();
    check(covey_event_init(signal));
    for (int i = 0; i < RUNNERS; i++)
        check(covey_process_start(&runners[i], take_part,
            COVEY_ARGUMENT((struct job){signal, COVEY_FOREVER}), .name = names[i],
            .method = (enum covey_method)(COVEY_FORK + i)));
    check(covey_process_start(
        &impatient, take_part, COVEY_ARGUMENT((struct job){signal, 0.1}), .name = "dora"));
    tell(impatient);
    (void)printf("go!\n");
    check(covey_event_set(signal));
    for (int i = 0; i < RUNNERS; i++)
        tell(runners[i]);
    check(covey_event_destroy(signal));
    check(covey_free(signal));
    return EXIT_SUCCESS;
}
