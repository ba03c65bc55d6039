/* SPDX-License-Identifier: MIT */
/*
 * SHA-256 of every file below a directory, by a pool of processes.
 *
 *     hashtree [--workers N] [--method fork|spawn|forkserver] [--output FILE] [--poison N] [DIR]
 *
 * Shows futures, results of fixed size, a deadline for a task, and what is left of a run in which
 * workers die: --poison N makes N of the tasks kill their own worker, each in another way. All
 * other files are hashed, and those N are reported, each with its reason.
 *
 * The output is that of sha256sum, in the order of the names.
 */
#include <covey.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    WINDOW = 4096, /* tasks submitted ahead of those collected */
    READ_BYTES = 128 * 1024,
    DIGEST_BYTES = 32,
};

#define DEADLINE_S 0.5 /* of the poisoned task that never ends */

/* What a file is to be killed by; FINE for almost all. */
enum poison {
    FINE,
    SEGFAULT,
    ABORT,
    KILL,
    EXIT,
    LOOP,
    POISONS
};

struct job {
    enum poison poison;
    char path[];
};

struct answer {
    unsigned char digest[DIGEST_BYTES];
    uint64_t bytes;
};

/* In the workers ***************************************************************************** */

static void take_poison(enum poison poison)
{
    struct rlimit no_core = {0, 0};

    (void)setrlimit(RLIMIT_CORE, &no_core);
    switch (poison) {
    case SEGFAULT:
        (void)signal(SIGSEGV, SIG_DFL);
        (void)raise(SIGSEGV);
        break;
    case ABORT:
        (void)signal(SIGABRT, SIG_DFL);
        abort();
    case KILL:
        (void)raise(SIGKILL);
        break;
    case EXIT:
        _exit(0);
    case LOOP:
        for (;;) {
        }
    default:
        break;
    }
}

/* 0 or errno. */
static int hash_descriptor(int fd, struct answer *answer)
{
    static unsigned char buffer[READ_BYTES];
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    ssize_t n = -1;
    int error = ENOMEM;

    if (context && EVP_DigestInit_ex(context, EVP_sha256(), NULL)) {
        while ((n = read(fd, buffer, sizeof buffer)) > 0) {
            (void)EVP_DigestUpdate(context, buffer, (size_t)n);
            answer->bytes += (uint64_t)n;
        }
        error = n < 0 ? errno : 0;
        (void)EVP_DigestFinal_ex(context, answer->digest, NULL);
    }
    EVP_MD_CTX_free(context);
    return error;
}

static int hash_file(const void *argument, void *result)
{
    const struct job *job = argument;
    int error;
    int fd;

    if (job->poison != FINE)
        take_poison(job->poison);
    fd = open(job->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    error = hash_descriptor(fd, result);
    (void)close(fd);
    return error;
}

/* The files ********************************************************************************** */

static struct {
    char **path;
    size_t count;
    size_t room;
    size_t unreadable; /* directories */
} files;

static int add_file(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)where;
    if (type == FTW_DNR || type == FTW_NS) {
        (void)fprintf(stderr, "hashtree: %s: cannot be read\n", path);
        files.unreadable++;
        return 0;
    }
    if (type != FTW_F || !S_ISREG(status->st_mode))
        return 0;
    if (files.count == files.room) {
        size_t room = files.room ? 2 * files.room : 1024;
        char **list = realloc(files.path, room * sizeof *list);

        if (!list)
            return -1;
        files.path = list;
        files.room = room;
    }
    files.path[files.count] = strdup(path);
    return files.path[files.count++] ? 0 : -1;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int find_files(const char *directory)
{
    if (nftw(directory, add_file, 64, FTW_PHYS) != 0) {
        (void)fprintf(stderr, "hashtree: %s: %s\n", directory, strerror(errno));
        return -1;
    }
    if (files.count > 0)
        qsort(files.path, files.count, sizeof *files.path, by_name);
    return 0;
}

/* The run ************************************************************************************ */

struct run {
    covey_pool *pool;
    covey_future *future[WINDOW]; /* of file i, at i % WINDOW */
    FILE *output;                 /* NULL: none */
    size_t poisons;
    size_t failed;
    size_t failed_by_poison;
    uint64_t bytes;
    double start_s;
    double shown_s;
};

static double now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The poisoned files lie evenly among all. */
static enum poison poison_of(const struct run *run, size_t i)
{
    size_t step = run->poisons ? files.count / run->poisons : 0;

    if (step == 0 || i % step != step / 2 || i / step >= run->poisons)
        return FINE;
    return (enum poison)(1 + i / step % (POISONS - 1));
}

static int submit(struct run *run, size_t i)
{
    size_t bytes = sizeof(struct job) + strlen(files.path[i]) + 1;
    struct job *job = malloc(bytes);
    int r = COVEY_ENOMEM;

    if (!job)
        return r;
    job->poison = poison_of(run, i);
    memcpy(job->path, files.path[i], bytes - sizeof *job);
    r = covey_pool_submit(run->pool, &run->future[i % WINDOW], hash_file, job, bytes,
        .result_size = sizeof(struct answer), .timeout_s = job->poison == LOOP ? DEADLINE_S : 0);
    free(job);
    return r;
}

/* As sha256sum does it: names with a backslash or a line break are escaped, and marked. */
static void print_digest(FILE *output, const struct answer *answer, const char *path)
{
    if (strpbrk(path, "\\\n\r"))
        (void)fputc('\\', output);
    for (int i = 0; i < DIGEST_BYTES; i++)
        (void)fprintf(output, "%02x", answer->digest[i]);
    (void)fputs("  ", output);
    for (; *path; path++) {
        if (*path == '\\')
            (void)fputs("\\\\", output);
        else if (*path == '\n')
            (void)fputs("\\n", output);
        else if (*path == '\r')
            (void)fputs("\\r", output);
        else
            (void)fputc(*path, output);
    }
    (void)fputc('\n', output);
}

static void report_failure(struct run *run, size_t i, int code, const struct covey_outcome *outcome)
{
    run->failed++;
    if (code == COVEY_ETASK) {
        (void)fprintf(stderr, "hashtree: %s: %s\n", files.path[i], strerror(outcome->value));
        return;
    }
    (void)fprintf(stderr, "hashtree: %s: %s\n", files.path[i], covey_error());
    run->failed_by_poison += poison_of(run, i) != FINE;
}

static void show_progress(struct run *run, size_t done)
{
    enum {
        WIDTH = 40
    };
    int filled = (int)(done * WIDTH / files.count);

    if (now_s() - run->shown_s < 0.1 && done < files.count)
        return;
    run->shown_s = now_s();
    (void)fprintf(stderr, "\r[%.*s%*s] %zu/%zu", filled, "########################################",
        WIDTH - filled, "", done, files.count);
    if (done == files.count)
        (void)fputc('\n', stderr);
}

static int collect(struct run *run, size_t i)
{
    covey_future *future = run->future[i % WINDOW];
    struct covey_outcome outcome;
    struct answer answer;
    int r = covey_future_get(future, &answer, COVEY_FOREVER);

    if (r == 0) {
        run->bytes += answer.bytes;
        if (run->output)
            print_digest(run->output, &answer, files.path[i]);
    } else if (covey_future_outcome(future, &outcome) == 0) {
        report_failure(run, i, r, &outcome);
    } else {
        return r; /* not the task's failure but the pool's */
    }
    return covey_future_free(future);
}

static int hash_all(struct run *run)
{
    bool terminal = isatty(STDERR_FILENO);
    size_t submitted = 0;
    int r = 0;

    for (size_t i = 0; i < files.count && r == 0; i++) {
        while (submitted < files.count && submitted < i + WINDOW && r == 0)
            r = submit(run, submitted++);
        if (r == 0)
            r = collect(run, i);
        if (terminal && r == 0)
            show_progress(run, i + 1);
    }
    return r;
}

static void print_summary(const struct run *run)
{
    double seconds = now_s() - run->start_s;

    (void)printf("%zu files, %" PRIu64 " bytes, %zu failed, %.2f s, %.0f files/s, %d workers\n",
        files.count, run->bytes, run->failed, seconds, (double)files.count / seconds,
        covey_pool_workers(run->pool));
}

/* The command line *************************************************************************** */

struct options {
    const char *directory;
    const char *output;
    unsigned workers;
    size_t poisons;
    enum covey_method method;
};

static const char usage[] =
    "usage: hashtree [--workers N] [--method fork|spawn|forkserver] [--output FILE]\n"
    "                [--poison N] [DIR]\n";

static int read_method(const char *name, enum covey_method *method)
{
    static const char *const names[] = {"fork", "spawn", "forkserver"};

    for (int i = 0; i < 3; i++) {
        if (strcmp(name, names[i]) == 0) {
            *method = (enum covey_method)(COVEY_FORK + i);
            return 0;
        }
    }
    (void)fprintf(stderr, "hashtree: %s is not a start method\n", name);
    return -1;
}

static int read_number(const char *text, size_t *number)
{
    char *end;
    unsigned long n;

    errno = 0;
    n = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno) {
        (void)fprintf(stderr, "hashtree: %s is not a number\n", text);
        return -1;
    }
    *number = n;
    return 0;
}

static int read_options(int argc, char **argv, struct options *o)
{
    static const struct option known[] = {{"workers", required_argument, NULL, 'w'},
        {"method", required_argument, NULL, 'm'}, {"output", required_argument, NULL, 'o'},
        {"poison", required_argument, NULL, 'p'}, {"help", no_argument, NULL, 'h'}, {0}};
    size_t workers = 0;
    int c;
    int r = 0;

    *o = (struct options){.directory = "/usr/share"};
    while (r == 0 && (c = getopt_long(argc, argv, "w:m:o:p:h", known, NULL)) != -1) {
        if (c == 'w')
            r = read_number(optarg, &workers);
        else if (c == 'm')
            r = read_method(optarg, &o->method);
        else if (c == 'o')
            o->output = optarg;
        else if (c == 'p')
            r = read_number(optarg, &o->poisons);
        else
            r = -1;
    }
    if (r != 0 || argc - optind > 1) {
        (void)fputs(usage, stderr);
        return -1;
    }
    o->workers = workers > 100000 ? 100000 : (unsigned)workers;
    if (optind < argc)
        o->directory = argv[optind];
    return 0;
}

static int run_with(const struct options *o, struct run *run)
{
    int r =
        covey_pool_open(&run->pool, .workers = o->workers, .method = o->method, .name = "hashtree");

    if (r != 0) {
        (void)fprintf(stderr, "hashtree: %s\n", covey_error());
        return EXIT_FAILURE;
    }
    r = hash_all(run);
    if (r != 0)
        (void)fprintf(stderr, "hashtree: %s\n", covey_error());
    else
        print_summary(run);
    (void)covey_pool_free(run->pool);
    if (r != 0 || run->failed != run->failed_by_poison || run->failed != run->poisons)
        return EXIT_FAILURE;
    return files.unreadable ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static struct run run;
    struct options o;
    int status;

    covey_main(argc, argv);
    if (read_options(argc, argv, &o) != 0 || find_files(o.directory) != 0)
        return EXIT_FAILURE;
    run.start_s = now_s();
    run.poisons = o.poisons < files.count ? o.poisons : files.count;
    if (o.output && !(run.output = fopen(o.output, "we"))) {
        (void)fprintf(stderr, "hashtree: %s: %s\n", o.output, strerror(errno));
        return EXIT_FAILURE;
    }
    status = run_with(&o, &run);
    if (run.output && fclose(run.output) != 0) {
        (void)fprintf(stderr, "hashtree: %s: %s\n", o.output, strerror(errno));
        status = EXIT_FAILURE;
    }
    for (size_t i = 0; i < files.count; i++)
        free(files.path[i]);
    free(files.path);
    return status;
}
