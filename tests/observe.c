/* SPDX-License-Identifier: MIT */
#include "observe.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void test_sleep_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

    while (nanosleep(&t, &t) != 0 && errno == EINTR) {
    }
}

double test_now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

char test_state_of(int pid)
{
    char path[64];
    char state = 0;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    file = fopen(path, "re");
    if (!file)
        return 0;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = 0;
    (void)fclose(file);
    return state;
}

long test_status_of(int pid, const char *field)
{
    char path[64];
    char line[256];
    long value = -1;
    size_t n = strlen(field);
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%d/status", pid);
    file = fopen(path, "re");
    if (!file)
        return -1;
    while (value < 0 && fgets(line, sizeof line, file)) {
        if (strncmp(line, field, n) == 0 && line[n] == ':')
            value = strtol(line + n + 1, NULL, 10);
    }
    (void)fclose(file);
    return value;
}

/* Calls @visit for each of the threads that covey has made. */
static void each_helper(void (*visit)(int tid, long *sum), long *sum)
{
    DIR *dir = opendir("/proc/self/task");
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        char path[300];
        char name[32] = "";
        FILE *file;

        (void)snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        file = fopen(path, "re");
        if (!file)
            continue;
        if (fgets(name, sizeof name, file) && strcmp(name, "covey:helper\n") == 0)
            visit((int)strtol(entry->d_name, NULL, 10), sum);
        (void)fclose(file);
    }
    if (dir)
        (void)closedir(dir);
}

static void add_one(int tid, long *sum)
{
    (void)tid;
    ++*sum;
}

unsigned test_helper_threads(void)
{
    long n = 0;

    each_helper(add_one, &n);
    return (unsigned)n;
}

static void add_switches(int tid, long *sum)
{
    *sum += test_status_of(tid, "voluntary_ctxt_switches");
}

long test_helper_switches(void)
{
    long n = 0;

    each_helper(add_switches, &n);
    return n;
}

/* Without the family's own: a process whose joining thread has ended keeps it until it ends. */
unsigned test_open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;
    unsigned n = 0;

    if (!dir)
        return 0;
    while ((entry = readdir(dir))) {
        char target[64] = "";

        if (readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1) > 0)
            n += strncmp(target, "/memfd:covey", 12) != 0;
    }
    (void)closedir(dir);
    return n;
}
