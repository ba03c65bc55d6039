/* SPDX-License-Identifier: MIT */
/*
 * A bank whose every operation takes its lock, also those that are made of others: a transfer takes it,
 * and so do the withdrawal and the deposit within. So the lock is an rlock. Three processes transfer
 * money to and fro; at each moment that one can see, the sum is the same.
 */
#include <covey.h>

#include <stdio.h>
#include <stdlib.h>

enum {
    PROCESSES = 3,
    TRANSFERS = 1000, /* of each */
};

struct bank {
    covey_rlock lock;
    long accounts[2];
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

static void deposit(struct bank *bank, int account, long amount)
{
    check(covey_rlock_acquire(&bank->lock, COVEY_FOREVER));
    bank->accounts[account] += amount;
    check(covey_rlock_release(&bank->lock));
}

static void transfer(struct bank *bank, int from, int to, long amount)
{
    check(covey_rlock_acquire(&bank->lock, COVEY_FOREVER));
    deposit(bank, from, -amount);
    deposit(bank, to, amount);
    check(covey_rlock_release(&bank->lock));
}

static long sum(struct bank *bank)
{
    long sum;

    check(covey_rlock_acquire(&bank->lock, COVEY_FOREVER));
    sum = bank->accounts[0] + bank->accounts[1];
    check(covey_rlock_release(&bank->lock));
    return sum;
}

/* Ends with how often the sum was wrong. */
static int work(void *argument)
{
    struct bank *bank = *(struct bank **)argument;
    int wrong = 0;

    for (int i = 0; i < TRANSFERS; i++) {
        transfer(bank, i % 2, (i + 1) % 2, i);
        wrong += sum(bank) != 2000;
    }
    return wrong > 255 ? 255 : wrong;
}

int main(int argc, char **argv)
{
    covey_process *processes[PROCESSES];
    struct bank *bank;

    covey_main(argc, argv);
    bank = covey_alloc(sizeof *bank);
    if (!bank)
        fail();
    check(covey_rlock_init(&bank->lock));
    bank->accounts[0] = bank->accounts[1] = 1000;
    for (int i = 0; i < PROCESSES; i++)
        check(covey_process_start(&processes[i], work, COVEY_ARGUMENT(bank)));
    for (int i = 0; i < PROCESSES; i++) {
        int wrong;

        check(covey_process_join(processes[i], COVEY_FOREVER));
        check(covey_process_exit_code(processes[i], &wrong));
        check(covey_process_close(processes[i]));
        (void)printf("process %d has seen a wrong sum %d times\n", i + 1, wrong);
    }
    (void)printf("the sum is %ld\n", sum(bank));
    check(covey_rlock_destroy(&bank->lock));
    check(covey_free(bank));
    return EXIT_SUCCESS;
}
