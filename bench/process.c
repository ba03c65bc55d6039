/* SPDX-License-Identifier: MIT */
/*
 * What processes, an empty family and an idle pool cost: one measurement, and one contender, in
 * each run of this program. Prints lines "QUESTION VALUE"; bench/process.py asks for them.
 *
 *   process start HOW MIB [BUSY]   start and join a process that does nothing, from a parent with
 *                                  MIB of its own memory, beside BUSY processes that compute
 *   process pool METHOD            open a pool of 8 workers, and have a first result
 *   process family                 open an empty family
 *   process idle SECONDS           a pool of 8 workers that has nothing to do
 */
#include <covey.h>

#include <dirent.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    WORKERS = 8,
    WARM_UP = 3,
    REPEATS = 21, /* of which the median is one run's result */
    US_PER_S = 1000000,
};

static char *program;

static void die(const char *what)
{
    (void)fprintf(stderr, "bench/process: %s: %s\n", what, covey_error());
    exit(EXIT_FAILURE);
}

static double now_us(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * US_PER_S + (double)t.tv_nsec / 1000;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median_us(void (*run)(void))
{
    double us[REPEATS];

    for (int i = 0; i < WARM_UP; i++)
        run();
    for (int i = 0; i < REPEATS; i++) {
        double start = now_us();

        run();
        us[i] = now_us() - start;
    }
    qsort(us, REPEATS, sizeof *us, compare);
    return us[REPEATS / 2];
}

/* Start and join ***************************************************************************** */

static void bare_fork(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    if (pid < 0 || waitpid(pid, NULL, 0) != pid)
        die("fork");
}

static void bare_spawn(void)
{
    char *argv[] = {program, NULL};
    pid_t pid;

    if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ) != 0 ||
        waitpid(pid, NULL, 0) != pid)
        die("posix_spawn");
}

static int nothing(void *argument)
{
    (void)argument;
    return 0;
}

static void covey(enum covey_method method)
{
    covey_process *child;

    if (covey_process_start(&child, nothing, .method = method) != 0 ||
        covey_process_join(child, COVEY_FOREVER) != 0 || covey_process_close(child) != 0)
        die("covey");
}

static void covey_by_fork(void)
{
    covey(COVEY_FORK);
}

static void covey_by_spawn(void)
{
    covey(COVEY_SPAWN);
}

static void covey_by_forkserver(void)
{
    covey(COVEY_FORKSERVER);
}

static const struct {
    const char *name;
    void (*run)(void);
} hows[] = {
    {"bare-fork", bare_fork},
    {"bare-spawn", bare_spawn},
    {"fork", covey_by_fork},
    {"spawn", covey_by_spawn},
    {"forkserver", covey_by_forkserver},
};

/* Ordinary pages, as many small allocations have them. */
static void use_memory(size_t mib)
{
    size_t size = mib << 20;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        die("memory");
    (void)madvise(memory, size, MADV_NOHUGEPAGE);
    memset(memory, 1, size);
}

static void start_busy(int n)
{
    for (int i = 0; i < n; i++) {
        pid_t parent = getpid();
        pid_t pid = fork();

        if (pid == 0) {
            for (;;) {
                if (getppid() != parent)
                    _exit(0);
            }
        }
    }
}

static void measure_start(const char *how, size_t mib, int busy)
{
    use_memory(mib);
    start_busy(busy);
    for (size_t i = 0; i < sizeof hows / sizeof *hows; i++) {
        if (strcmp(hows[i].name, how) == 0)
            (void)printf("start_%zu%s %.1f\n", mib, busy ? "_busy" : "", median_us(hows[i].run));
    }
}

/* A pool's first result ********************************************************************** */

static int answer(const void *argument, void *result)
{
    (void)argument;
    *(int *)result = 1;
    return 0;
}

static void measure_pool(const char *name)
{
    enum covey_method method = strcmp(name, "fork") == 0    ? COVEY_FORK
                               : strcmp(name, "spawn") == 0 ? COVEY_SPAWN
                                                            : COVEY_FORKSERVER;
    double start = now_us();
    covey_future *future;
    covey_pool *pool;
    int result = 0;

    if (covey_pool_open(&pool, .workers = WORKERS, .method = method) != 0 ||
        covey_pool_submit(pool, &future, answer, .argument = "", .argument_size = 1,
            .result_size = sizeof result) != 0 ||
        covey_future_get(future, &result, COVEY_FOREVER) != 0 || result != 1)
        die("pool");
    (void)printf("first_result %.3f\n", (now_us() - start) / 1000);
    (void)covey_pool_free(pool);
}

/* An empty family **************************************************************************** */

/* In the file at @path, the number behind @key at the start of a line, summed over all such lines.
 */
static double number_in(const char *path, const char *key)
{
    char line[256];
    double sum = 0;
    FILE *file = fopen(path, "re");

    if (!file)
        die(path);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, key, strlen(key)) == 0)
            sum += strtod(line + strlen(key), NULL);
    }
    (void)fclose(file);
    return sum;
}

static double resident_kib(void)
{
    return number_in("/proc/self/smaps_rollup", "Rss:");
}

static void measure_family(void)
{
    double before_kib = (resident_kib(), resident_kib()); /* once for what looking itself takes */
    double start = now_us();
    double us;

    if (covey_open() != 0)
        die("covey_open");
    us = now_us() - start;
    (void)printf("open %.1f\nresident %.1f\n", us, resident_kib() - before_kib);
}

/* An idle pool ******************************************************************************* */

static void each_thread(pid_t pid, void (*visit)(const char *task, double *sum), double *sum)
{
    char path[64];
    char task[128];
    struct dirent *entry;
    DIR *dir;

    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    dir = opendir(path);
    if (!dir)
        die(path);
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(task, sizeof task, "%s/%.20s", path, entry->d_name);
        visit(task, sum);
    }
    (void)closedir(dir);
}

static void add_switches(const char *task, double *sum)
{
    char path[160];

    (void)snprintf(path, sizeof path, "%s/status", task);
    *sum += number_in(path, "voluntary_ctxt_switches:");
    *sum += number_in(path, "nonvoluntary_ctxt_switches:");
}

/* The first number of schedstat: nanoseconds on a CPU. */
static void add_cpu_us(const char *task, double *sum)
{
    char path[160];

    (void)snprintf(path, sizeof path, "%s/schedstat", task);
    *sum += number_in(path, "") / 1000;
}

static void add_up(const pid_t *members, int n, double *switches, double *us)
{
    *switches = *us = 0;
    for (int i = 0; i < n; i++) {
        each_thread(members[i], add_switches, switches);
        each_thread(members[i], add_cpu_us, us);
    }
}

/* The pool's own process: tells the pids of all members, and has nothing to do for ever. */
__attribute__((noreturn)) static void be_idle(int out)
{
    covey_process *workers[WORKERS];
    pid_t members[WORKERS + 1] = {getpid()};
    int numbers[100] = {0};
    int results[100];
    covey_pool *pool;

    if (covey_pool_open(&pool, .workers = WORKERS) != 0 ||
        covey_pool_map(pool, answer, numbers, results, 100) != 0 ||
        covey_active_children(workers, WORKERS) != WORKERS)
        die("pool");
    for (int i = 0; i < WORKERS; i++)
        members[i + 1] = covey_process_pid(workers[i]);
    if (write(out, members, sizeof members) != (ssize_t)sizeof members)
        die("pipe");
    for (;;)
        (void)pause();
}

/* Seen from outside: this process is no member. */
static void measure_idle(unsigned seconds)
{
    pid_t members[WORKERS + 1];
    double switches[2];
    double us[2];
    int ends[2];
    pid_t pid;

    if (pipe(ends) != 0)
        die("pipe");
    pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        be_idle(ends[1]);
    (void)close(ends[1]);
    if (read(ends[0], members, sizeof members) != (ssize_t)sizeof members)
        die("no pool");
    (void)sleep(1); /* until all of them have gone to sleep */
    add_up(members, WORKERS + 1, &switches[0], &us[0]);
    (void)sleep(seconds);
    add_up(members, WORKERS + 1, &switches[1], &us[1]);
    (void)printf("idle_switches %.0f\nidle_cpu %.3f\n", switches[1] - switches[0], us[1] - us[0]);
    (void)kill(pid, SIGKILL); /* and the workers end with it */
    (void)waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    program = argv[0];
    if (argc == 1)
        return EXIT_SUCCESS; /* the image that does nothing */
    covey_main(argc, argv);
    if (strcmp(what, "start") == 0 && argc >= 4)
        measure_start(argv[2], strtoul(argv[3], NULL, 10), argc > 4 ? atoi(argv[4]) : 0);
    else if (strcmp(what, "pool") == 0 && argc == 3)
        measure_pool(argv[2]);
    else if (strcmp(what, "family") == 0)
        measure_family();
    else if (strcmp(what, "idle") == 0 && argc == 3)
        measure_idle((unsigned)atoi(argv[2]));
    else
        return fprintf(stderr, "%s: see the top of bench/process.c\n", argv[0]), EXIT_FAILURE;
    return EXIT_SUCCESS;
}
