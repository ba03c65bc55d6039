/* SPDX-License-Identifier: MIT */
/*
 * A program that uses memory and a lock, and nothing else of the static library: so the linker leaves out
 * what starts processes, and a death and leaving the family must do without.
 */
#include <covey/lock.h>
#include <covey/memory.h>

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail(const char *what)
{
    (void)fprintf(stderr, "%s: %s\n", what, covey_error());
    return 1;
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
    if (covey_lock_release(lock) || covey_lock_destroy(lock) || covey_free(lock) || covey_close())
        return fail("the end");
    return 0;
}
