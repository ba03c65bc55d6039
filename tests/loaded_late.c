/* SPDX-License-Identifier: MIT */
/*
 * A program that loads the library when it already has handlers of forks (pthread_atfork()), as a binding of
 * another language may. The C library calls these while covey has its locks. And it gives the library back while
 * a thread that has used it still runs: what covey does at the end of a thread must be there.
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
static pthread_barrier_t has_waited, is_closed;

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

static void *wait_and_end(void *argument)
{
    int item;

    failures += get(queue, &item, sizeof item, NULL, 0.001) != COVEY_EEMPTY;
    (void)pthread_barrier_wait(&has_waited);
    (void)pthread_barrier_wait(&is_closed);
    return argument;
}

static int close_before_a_thread_ends(void *library)
{
    __typeof__(covey_queue_free) *free_queue;
    __typeof__(covey_close) *close_family;
    pthread_t thread;

    *(void **)&free_queue = dlsym(library, "covey_queue_free");
    *(void **)&close_family = dlsym(library, "covey_close");
    if (pthread_barrier_init(&has_waited, NULL, 2) != 0 ||
        pthread_barrier_init(&is_closed, NULL, 2) != 0 ||
        pthread_create(&thread, NULL, wait_and_end, NULL) != 0)
        return 1;
    (void)pthread_barrier_wait(&has_waited);
    failures += free_queue(queue) != 0;
    queue = NULL;
    failures += close_family() != 0;
    failures += dlclose(library) != 0;
    (void)pthread_barrier_wait(&is_closed);
    (void)pthread_join(thread, NULL);
    return failures;
}

int main(int argc, char **argv)
{
    void *library;
    __typeof__(covey_queue_open_with) *open_queue;
    __typeof__(covey_queue_fd) *get_fd;
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
    return close_before_a_thread_ends(library) != 0;
}
