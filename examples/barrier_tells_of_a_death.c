/* SPDX-License-Identifier: MIT */
/*
 * Three processes meet at a barrier. After the first round one of them is killed: the other two, who
 * would wait for it for ever, are told who has died. The barrier stays broken until it is reset.
 */
#include <covey.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PARTIES = 3,
    UNLUCKY = 1, /* this one is killed */
};

struct meeting {
    covey_barrier barrier;
    char told[PARTIES][120];
};

struct job {
    struct meeting *meeting;
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

static int meet(void *argument)
{
    struct job *job = argument;
    struct meeting *m = job->meeting;

    check(covey_barrier_wait(&m->barrier, COVEY_FOREVER));
    if (job->number == UNLUCKY)
        (void)raise(SIGKILL);
    if (covey_barrier_wait(&m->barrier, COVEY_FOREVER) == COVEY_EBROKEN)
        (void)snprintf(m->told[job->number], sizeof m->told[0], "%s", covey_error());
    return 0;
}

int main(int argc, char **argv)
{
    covey_process *processes[PARTIES];
    struct meeting *m;

    covey_main(argc, argv);
    m = covey_calloc(1, sizeof *m);
    if (!m)
        fail();
    check(covey_barrier_init(&m->barrier, PARTIES));
    for (int i = 0; i < PARTIES; i++)
        check(covey_process_start(&processes[i], meet, COVEY_ARGUMENT((struct job){m, i})));
    for (int i = 0; i < PARTIES; i++) {
        int code;

        check(covey_process_join(processes[i], COVEY_FOREVER));
        check(covey_process_exit_code(processes[i], &code));
        (void)printf("party %d (pid %d) ended with %d; it was told: %s\n", i,
            (int)covey_process_pid(processes[i]), code, *m->told[i] ? m->told[i] : "nothing");
        check(covey_process_close(processes[i]));
    }
    (void)printf("broken: %s\n", covey_barrier_is_broken(&m->barrier) ? "yes" : "no");
    check(covey_barrier_reset(&m->barrier));
    (void)printf("broken after a reset: %s\n", covey_barrier_is_broken(&m->barrier) ? "yes" : "no");
    check(covey_barrier_destroy(&m->barrier));
    check(covey_free(m));
    return EXIT_SUCCESS;
}
