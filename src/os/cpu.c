/* SPDX-License-Identifier: MIT */
#include "os/cpu.h"

#include "base/atomic.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CPUS_MAX = 1 << 16,
    CACHE_MIN = 128 * 1024,
    CACHE_USUAL = 1024 * 1024,
    CACHE_MAX = 4 * 1024 * 1024,
};

unsigned cv_cpu_affinity(void)
{
    for (int cpus = 1024; cpus <= CPUS_MAX; cpus *= 2) {
        size_t size = CPU_ALLOC_SIZE(cpus);
        cpu_set_t *set = malloc(size);
        int count = 0;
        int r;

        if (!set)
            break;
        r = sched_getaffinity(0, size, set);
        if (r == 0)
            count = CPU_COUNT_S(size, set);
        free(set);
        if (r == 0)
            return count > 0 ? (unsigned)count : 1;
        if (errno != EINVAL) /* EINVAL: the machine has more CPUs than the mask */
            break;
    }
    return 1;
}

static size_t ask_for_cache(void)
{
    long bytes = -1;

#ifdef _SC_LEVEL2_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return bytes >= CACHE_MIN && bytes <= CACHE_MAX ? (size_t)bytes : CACHE_USUAL;
}

/* To ask takes microseconds. */
size_t cv_cpu_cache(void)
{
    static size_t known;
    size_t bytes = cv_load_relaxed(&known);

    if (bytes == 0) {
        bytes = ask_for_cache();
        cv_store_relaxed(&known, bytes);
    }
    return bytes;
}

/* The first line of a file without its newline; false if there is none. */
static bool read_line(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "re");
    bool read;

    if (!file)
        return false;
    read = fgets(line, (int)size, file) != NULL;
    (void)fclose(file);
    if (read)
        line[strcspn(line, "\n")] = '\0';
    return read;
}

static unsigned ceil_of(double quota, double period)
{
    double cpus = quota / period;
    unsigned whole = (unsigned)cpus;

    return cpus > whole ? whole + 1 : whole;
}

/* The quota that the files of one group set, in CPUs; UINT_MAX for none. */
static unsigned quota_of_group(const char *directory)
{
    char path[PATH_MAX + 32];
    char line[128];
    double quota;
    double period;

    (void)snprintf(path, sizeof path, "%s/cpu.max", directory); /* version 2: "QUOTA PERIOD" */
    if (read_line(path, line, sizeof line))
        return sscanf(line, "%lf %lf", &quota, &period) == 2 && period > 0 ? ceil_of(quota, period)
                                                                           : UINT_MAX;
    (void)snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", directory); /* version 1 */
    if (!read_line(path, line, sizeof line) || sscanf(line, "%lf", &quota) != 1 || quota <= 0)
        return UINT_MAX;
    (void)snprintf(path, sizeof path, "%s/cpu.cfs_period_us", directory);
    if (!read_line(path, line, sizeof line) || sscanf(line, "%lf", &period) != 1 || period <= 0)
        return UINT_MAX;
    return ceil_of(quota, period);
}

/* A group is limited by each group above it, too: walk from @group up to the mount's root. */
static unsigned quota_of_path(const char *mount, const char *group)
{
    char directory[PATH_MAX];
    size_t root = strlen(mount);
    unsigned cpus = UINT_MAX;

    if ((size_t)snprintf(directory, sizeof directory, "%s%s", mount, group) >= sizeof directory)
        return UINT_MAX;
    for (;;) {
        unsigned here = quota_of_group(directory);
        char *slash = strrchr(directory + root, '/');

        if (here < cpus)
            cpus = here;
        if (!slash)
            return cpus;
        *slash = '\0';
    }
}

static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = list; (p = strstr(p, word)); p += n) {
        if ((p == list || p[-1] == ',') && (p[n] == ',' || p[n] == '\0'))
            return true;
    }
    return false;
}

/* Where the hierarchy that rules the CPU is mounted, and which of its directories is mounted. */
static bool find_mount(bool version2, char *mount, char *root)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    char line[3 * PATH_MAX];
    bool found = false;

    if (!file)
        return false;
    while (!found && fgets(line, sizeof line, file)) {
        char type[64];
        char options[1024];
        char *tail = strstr(line, " - ");

        if (!tail || sscanf(tail, " - %63s %*s %1023s", type, options) != 2 ||
            sscanf(line, "%*s %*s %*s %4095s %4095s", root, mount) != 2)
            continue;
        found = version2 ? strcmp(type, "cgroup2") == 0
                         : strcmp(type, "cgroup") == 0 && has_word(options, "cpu");
    }
    (void)fclose(file);
    return found;
}

/* Seen from within a container, the group's path may begin with the part that is mounted as root.
 */
static unsigned quota_under_mount(bool version2, const char *group)
{
    char mount[PATH_MAX];
    char root[PATH_MAX];
    size_t n;

    if (!find_mount(version2, mount, root))
        return UINT_MAX;
    n = strlen(root);
    if (n > 1 && strncmp(group, root, n) == 0)
        group += n;
    return quota_of_path(mount, strcmp(group, "/") == 0 ? "" : group);
}

/* /proc/self/cgroup: "0::/path" for version 2, "N:controllers:/path" for version 1. */
static unsigned quota_cpus(void)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    char line[PATH_MAX + 256];
    unsigned cpus = UINT_MAX;

    if (!file)
        return UINT_MAX;
    while (fgets(line, sizeof line, file)) {
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        unsigned here = UINT_MAX;

        if (!group)
            continue;
        controllers++;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        if (*controllers == '\0' || has_word(controllers, "cpu"))
            here = quota_under_mount(*controllers == '\0', group);
        if (here < cpus)
            cpus = here;
    }
    (void)fclose(file);
    return cpus;
}

unsigned cv_cpu_usable(void)
{
    unsigned affinity = cv_cpu_affinity();
    unsigned quota = quota_cpus();
    unsigned cpus = quota < affinity ? quota : affinity;

    return cpus > 0 ? cpus : 1;
}

void cv_cpu_yield(void)
{
    (void)sched_yield();
}
