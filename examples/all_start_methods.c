/* SPDX-License-Identifier: MIT */
/*
 * One function, run in a process that is started in each of the three ways: as a copy of this one,
 * as a fresh image of the program, and as a copy of a clean helper process. Prints one line each.
 * What main() has written to the variable is there only in the copy of this process.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>

static const char *variable = "as it was at first";

static void check(int result)
{
    if (result < 0) {
        (void)fprintf(stderr, "%s\n", covey_error());
        exit(EXIT_FAILURE);
    }
}

static int look(void *argument)
{
    (void)printf("%-10s  the variable is %s, the argument is %d\n",
        covey_process_name(covey_process_current()), variable, *(int *)argument);
    return 0;
}

static void run(const char *name, enum covey_method method)
{
    covey_process *process;
    int argument = 100;

    check(covey_process_start(
        &process, look, COVEY_ARGUMENT(argument), .name = name, .method = method));
    check(covey_process_join(process, COVEY_FOREVER));
    check(covey_process_close(process));
}

int main(int argc, char **argv)
{
    covey_main(argc, argv);
    variable = "what main() has made it";
    run("fork", COVEY_FORK);
    run("spawn", COVEY_SPAWN);
    run("forkserver", COVEY_FORKSERVER);
    return EXIT_SUCCESS;
}
