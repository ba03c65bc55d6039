/* SPDX-License-Identifier: MIT */
/*
 * A program that uses memory and a lock, and nothing else of the static library: so the linker leaves out
 * what starts processes, and a death and leaving the family must do without.
 */
#include <covey/lock.h>
#include <covey/memory.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int failed;

static int fail(const char *what)
{
    (void)fprintf(stderr, "%s: %s\n", what, covey_error());
    return 1;
}

/* Forks with the signal blocked, or not, which must stay so here and in the children. */
static void *fork_often(void *blocks)
{
    sigset_t mask;
    sigset_t now;
    int n = getenv("COVEY_TEST_VALGRIND") ? 20 : 300;
    int status = 0;

    (void)sigemptyset(&mask);
    if (blocks)
        (void)sigaddset(&mask, SIGUSR1);
    (void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
    for (int i = 0; i < n && status == 0; i++) {
        pid_t pid = fork();

        (void)pthread_sigmask(SIG_SETMASK, NULL, &now);
        status = sigismember(&now, SIGUSR1) != (blocks != NULL) || sigismember(&now, SIGUSR2);
        if (pid == 0)
            (void)syscall(SYS_exit_group, status); /* sanitizers would miss the other thread */
        if (status == 0)
            (void)waitpid(pid, &status, 0);
    }
    return status == 0 ? NULL : &failed;
}

static int fork_in_two_threads(void)
{
    pthread_t thread;
    void *bad = NULL;
    void *also_bad;

    (void)pthread_create(&thread, NULL, fork_often, &failed);
    also_bad = fork_often(NULL);
    (void)pthread_join(thread, &bad);
    return bad || also_bad;
}

int main(void)
{
    covey_lock *lock = covey_alloc(sizeof *lock);
    int status;
    pid_t pid;

    if (!lock || covey_lock_init(lock) != 0)
        return fail("a lock");
    pid = fork();
    if (pid == 0)
        _exit(covey_own(covey_alloc(100)) || covey_lock_acquire(lock, COVEY_FOREVER));
    if (waitpid(pid, &status, 0) != pid || status != 0)
        return fail("the child");
    if (covey_lock_acquire(lock, COVEY_FOREVER) != COVEY_EOWNERDEAD)
        return fail("the lock of the dead");
    if (fork_in_two_threads())
        return fail("a thread's signals after a fork");
    if (covey_lock_release(lock) || covey_lock_destroy(lock) || covey_free(lock) || covey_close())
        return fail("the end");
    return 0;
}
