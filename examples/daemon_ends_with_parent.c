/* SPDX-License-Identifier: MIT */
/*
 * A daemon ends with the process that started it, even if that is killed. A child starts a daemon
 * that would sleep for ever, and is killed with SIGKILL. Both have the write end of a pipe; its
 * read end is at end of file when neither of them lives. Prints a line for each step.
 */
#include <covey.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int ends[2];

static void check(int result)
{
    if (result < 0) {
        (void)fprintf(stderr, "%s\n", covey_error());
        exit(EXIT_FAILURE);
    }
}

static int sleep_for_ever(void *argument)
{
    (void)argument;
    (void)!write(ends[1], "!", 1);
    for (;;)
        (void)pause();
    return 0;
}

static int start_a_daemon(void *argument)
{
    covey_process *sleeper;

    (void)argument;
    check(covey_process_start(&sleeper, sleep_for_ever, .daemon = true, .method = COVEY_FORK));
    check(covey_process_join(sleeper, COVEY_FOREVER));
    return 0;
}

/* The bytes that came within 10 s: 0 at end of file, -1 when nothing happened. */
static int read_pipe(void)
{
    struct pollfd reader = {.fd = ends[0], .events = POLLIN};
    char byte;

    return poll(&reader, 1, 10000) == 1 ? (int)read(ends[0], &byte, 1) : -1;
}

int main(int argc, char **argv)
{
    covey_process *child;
    int code;

    covey_main(argc, argv);
    if (pipe(ends) != 0) {
        perror("pipe");
        return EXIT_FAILURE;
    }
    check(covey_process_start(&child, start_a_daemon, .method = COVEY_FORK));
    (void)close(ends[1]);
    (void)printf("the daemon runs: %s\n", read_pipe() == 1 ? "yes" : "no");

    check(covey_process_kill(child));
    check(covey_process_join(child, COVEY_FOREVER));
    check(covey_process_exit_code(child, &code));
    check(covey_process_close(child));
    (void)printf("the child ended with %d\n", code);
    (void)printf("the daemon has ended, too: %s\n", read_pipe() == 0 ? "yes" : "no");
    (void)close(ends[0]);
    return EXIT_SUCCESS;
}
