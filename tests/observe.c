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
