/* SPDX-License-Identifier: MIT */
/* A crew of processes made by fork(). */
#include "messages.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    pthread_barrier_t barrier;
    double value;
} * shared;

static unsigned me;

void crew_begin(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
}

void crew_work(unsigned n, void (*work)(unsigned me))
{
    pthread_barrierattr_t a;
    pid_t pids[CREW_MAX];

    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fail_if(shared == MAP_FAILED, "shared memory");
    fail_if(pthread_barrierattr_init(&a) != 0, "barrier");
    fail_if(pthread_barrierattr_setpshared(&a, PTHREAD_PROCESS_SHARED) != 0, "barrier");
    fail_if(pthread_barrier_init(&shared->barrier, &a, n) != 0, "barrier");
    for (unsigned i = 1; i < n; i++) {
        pids[i] = fork();
        fail_if(pids[i] < 0, "fork");
        if (pids[i] == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            me = i;
            work(i);
            exit(EXIT_SUCCESS);
        }
    }
    work(0);
    for (unsigned i = 1; i < n; i++) {
        int status;

        fail_if(waitpid(pids[i], &status, 0) != pids[i] || status != 0, "a child");
    }
}

double crew_meet(double value)
{
    double of_0;

    if (me == 0)
        shared->value = value;
    (void)pthread_barrier_wait(&shared->barrier);
    of_0 = shared->value;
    (void)pthread_barrier_wait(&shared->barrier);
    return of_0;
}

bool crew_speaks(void)
{
    return me == 0;
}

void crew_end(void) {}
