/* SPDX-License-Identifier: MIT */
/*
 * Processes with a name and an argument. Each of three prints its name, its argument, its pid and
 * its parent's pid; the parent joins them and prints their exit codes.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void check(int result)
{
    if (result < 0) {
        (void)fprintf(stderr, "%s\n", covey_error());
        exit(EXIT_FAILURE);
    }
}

static int work(void *argument)
{
    int number = *(int *)argument;

    (void)printf("%s: number %d, pid %d, parent %d\n", covey_process_name(covey_process_current()),
        number, (int)getpid(), (int)covey_process_pid(covey_process_parent()));
    return 10 * number;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"anna", "bert", "cleo"};
    covey_process *workers[3];

    covey_main(argc, argv);
    (void)printf("main: pid %d\n", (int)getpid());
    for (int i = 0; i < 3; i++)
        check(covey_process_start(&workers[i], work, COVEY_ARGUMENT(i), .name = names[i]));
    for (int i = 0; i < 3; i++) {
        int code;

        check(covey_process_join(workers[i], COVEY_FOREVER));
        check(covey_process_exit_code(workers[i], &code));
        (void)printf("%s ended with %d\n", covey_process_name(workers[i]), code);
        check(covey_process_close(workers[i]));
    }
    return EXIT_SUCCESS;
}
