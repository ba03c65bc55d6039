/* SPDX-License-Identifier: MIT */
/*
 * A process is killed while it holds a lock, in the middle of a transfer: the money has left one account
 * and not come to the other. The next one that takes the lock gets it, is told, and repairs what the
 * lock guards with what the dead one has noted; the one after it notices nothing. Does so with each
 * start method.
 */
#include <covey.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bank {
    covey_lock lock;
    long accounts[2];
    long before[2];  /* noted before they are changed, */
    int is_changing; /* and valid as long as this is set */
};

struct job {
    struct bank *bank;
    int is_killed;
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

static void say(const char *what)
{
    (void)printf("  %s: %s\n", covey_process_name(covey_process_current()), what);
    (void)fflush(stdout);
}

static void repair(struct bank *bank)
{
    for (int i = 0; i < 2 && bank->is_changing; i++)
        bank->accounts[i] = bank->before[i];
    bank->is_changing = 0;
}

static void acquire(struct bank *bank)
{
    int result = covey_lock_acquire(&bank->lock, COVEY_FOREVER);

    if (result == COVEY_EOWNERDEAD) {
        say(covey_error());
        repair(bank);
        say("repaired");
    } else {
        check(result);
        say("nothing to repair");
    }
}

static int transfer(void *argument)
{
    struct job *job = argument;
    struct bank *bank = job->bank;

    acquire(bank);
    memcpy(bank->before, bank->accounts, sizeof bank->before);
    bank->is_changing = 1;
    bank->accounts[0] -= 10;
    if (job->is_killed)
        (void)raise(SIGKILL);
    bank->accounts[1] += 10;
    bank->is_changing = 0;
    check(covey_lock_release(&bank->lock));
    return 0;
}

static void run(struct job job, const char *name, enum covey_method method)
{
    covey_process *process;

    check(covey_process_start(
        &process, transfer, COVEY_ARGUMENT(job), .name = name, .method = method));
    check(covey_process_join(process, COVEY_FOREVER));
    check(covey_process_close(process));
}

static void show(const struct bank *bank)
{
    (void)printf("  main: %ld and %ld\n", bank->accounts[0], bank->accounts[1]);
    (void)fflush(stdout);
}

static void run_three(const char *how, enum covey_method method)
{
    struct bank *bank = covey_calloc(1, sizeof *bank);

    if (!bank)
        fail();
    (void)printf("%s\n", how);
    (void)fflush(stdout);
    check(covey_lock_init(&bank->lock));
    bank->accounts[0] = 100;
    run((struct job){bank, 1}, "first", method);
    show(bank);
    run((struct job){bank, 0}, "second", method);
    run((struct job){bank, 0}, "third", method);
    show(bank);
    check(covey_lock_destroy(&bank->lock));
    check(covey_free(bank));
}

int main(int argc, char **argv)
{
    covey_main(argc, argv);
    run_three("fork", COVEY_FORK);
    run_three("spawn", COVEY_SPAWN);
    run_three("forkserver", COVEY_FORKSERVER);
    return EXIT_SUCCESS;
}
