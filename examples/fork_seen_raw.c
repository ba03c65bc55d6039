/* SPDX-License-Identifier: MIT */
/*
 * covey_fork() returns twice, as fork() does: 0 in the child, the child's pid in the parent. Both
 * print what they got and who they are; the child ends with 7, and the parent prints that, too.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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

static int join(pid_t pid)
{
    covey_process *child = covey_process_find(pid);
    int code;

    if (!child)
        fail();
    check(covey_process_join(child, COVEY_FOREVER));
    check(covey_process_exit_code(child, &code));
    check(covey_process_close(child));
    return code;
}

int main(int argc, char **argv)
{
    pid_t pid;
    int code;

    covey_main(argc, argv);
    (void)printf("before: pid %d\n", (int)getpid());
    pid = covey_fork();
    check(pid);
    if (pid == 0) {
        (void)printf("child: got 0, pid %d, parent %d\n", (int)getpid(), (int)getppid());
        return 7;
    }
    code = join(pid);
    (void)printf("parent: got %d, pid %d\n", (int)pid, (int)getpid());
    (void)printf("parent: the child ended with %d\n", code);
    return EXIT_SUCCESS;
}
