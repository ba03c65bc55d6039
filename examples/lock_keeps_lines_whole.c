/* SPDX-License-Identifier: MIT */
/*
 * Nine processes, started in all three ways, print a line each, word by word. They do so under a lock:
 * the lines come in any order, and each is whole.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    PROCESSES = 9,
};

struct job {
    covey_lock *lock;
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

static void say(const char *word)
{
    (void)printf("%s ", word);
    (void)fflush(stdout);
    (void)usleep(1000);
}

static int greet(void *argument)
{
    struct job *job = argument;

    check(covey_lock_acquire(job->lock, COVEY_FOREVER));
    say("hello");
    say("world");
    say("from");
    (void)printf("%d\n", job->number);
    (void)fflush(stdout);
    check(covey_lock_release(job->lock));
    return 0;
}

int main(int argc, char **argv)
{
    covey_process *processes[PROCESSES];
    covey_lock *lock;

    covey_main(argc, argv);
    lock = covey_alloc(sizeof *lock);
    if (!lock)
        fail();
    check(covey_lock_init(lock));
    for (int i = 0; i < PROCESSES; i++)
        check(covey_process_start(&processes[i], greet, COVEY_ARGUMENT((struct job){lock, i}),
            .method = (enum covey_method)(COVEY_FORK + i % 3)));
    for (int i = 0; i < PROCESSES; i++) {
        check(covey_process_join(processes[i], COVEY_FOREVER));
        check(covey_process_close(processes[i]));
    }
    check(covey_lock_destroy(lock));
    check(covey_free(lock));
    return EXIT_SUCCESS;
}
