/* SPDX-License-Identifier: MIT */
/*
 * A program that loads the library when it already has handlers of forks (pthread_atfork()), as a binding of
 * another language may. The C library calls these while covey has its locks.
 */
#include <covey.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static __typeof__(covey_queue_put) *put;
static __typeof__(covey_queue_get) *get;
static __typeof__(covey_stats) *stats;
static covey_queue *queue;
static int failures;

static void use(void)
{
    int item = 42;

    if (!queue)
        return;
    failures += put(queue, &item, sizeof item, 0) != 0;
    while (get(queue, &item, sizeof item, NULL, 0) == 0)
        continue;
}

static int count_members(void)
{
    struct covey_stats now = {.size = sizeof now};

    return stats(&now) == 0 ? (int)now.members : -1;
}

int main(int argc, char **argv)
{
    void *library;
    __typeof__(covey_queue_open_with) *open_queue;
    __typeof__(covey_queue_fd) *get_fd;
    __typeof__(covey_queue_free) *free_queue;
    int status = -1;
    pid_t pid;

    (void)alarm(20);
    if (pthread_atfork(use, use, use) != 0 || argc < 2)
        return 1;
    library = dlopen(argv[1], RTLD_NOW);
    if (!library) {
        (void)fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    *(void **)&put = dlsym(library, "covey_queue_put");
    *(void **)&get = dlsym(library, "covey_queue_get");
    *(void **)&stats = dlsym(library, "covey_stats");
    *(void **)&open_queue = dlsym(library, "covey_queue_open_with");
    *(void **)&get_fd = dlsym(library, "covey_queue_fd");
    *(void **)&free_queue = dlsym(library, "covey_queue_free");
    if (open_queue(&(struct covey_queue_options){
            .size = sizeof(struct covey_queue_options), .queue = &queue, .items = 4}) != 0 ||
        get_fd(queue) < 0)
        return 1;
    pid = fork();
    if (pid == 0)
        _exit(failures || count_members() != 2);
    if (waitpid(pid, &status, 0) != pid || status != 0 || failures || count_members() != 1) {
        (void)fprintf(stderr, "the child: 0x%x; failures: %d, members: %d\n", (unsigned)status,
            failures, count_members());
        return 1;
    }
    return free_queue(queue) != 0;
}
