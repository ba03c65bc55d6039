/* SPDX-License-Identifier: MIT */
/*
 * The program: which worlds there are, many at a time, and what came of them.
 *
 *   sweep [OPTION...] [WORD...]   the operations whose names contain one of the words; all without
 *   --quick            only points before and after a system call or a change of the arena (default)
 *   --full             every instruction
 *   --times N          N times as many of them
 *   --kill --stall --rescue   only these passes
 *   --list             the operations
 *   --jobs N           worlds at a time; default: as many as there are CPUs
 *   --deadline S       seconds that a world may take, twice as many where that is slow
 *   --minutes M        that long for all operations together, which share it evenly
 *   --operation NAME --at K [--asleep] [--stall | --late | --second K2 [--second-asleep]]   one world
 *   --mutations        which steps of the recovery can be missing and nobody notices
 *   --without STEP     one step is missing
 *   --naps             waiters nap before they sleep (sync/wait.h)
 */
#include "world.h"

#include "../mutations.h"

#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    JOBS_MAX = 64,
    ROUNDS = 3,         /* for a world that misses its point */
    MISSED_PER = 4,     /* more than one in so many is too much */
    FAILURES_SHOWN = 3, /* of an operation */
    MUTATION_TIMES = 6,
    MUTATION_DEADLINE_S = 3, /* a world that hangs has noticed that something is missing */
    /* In the quick mode, spread evenly: */
    KILLS_QUICK = 80,
    STALLS_QUICK = 16,
    STATES_QUICK = 2,
    RESCUES_QUICK = 30,
    SLOW_QUICK = 12, /* where a world is slow */
};

static struct operation *operations;

static struct {
    bool full;
    bool kill, stall, rescue; /* the passes */
    unsigned jobs;
    double deadline_s;
    double until_s;
    bool quiet;     /* failures are expected */
    bool stop_soon; /* at the first of them */
    unsigned times; /* so many times as many worlds as usual in the quick mode */
} options = {.times = 1, .kill = true, .stall = true, .rescue = true, .deadline_s = 10};

static struct trace *victim_trace;
static struct trace *rescuer_traces[JOBS_MAX]; /* from different states */

/* One world to be made, and what came of it. */
struct job {
    struct plan plan;
    enum verdict verdict;
    bool has_missed;
    uint64_t state;
};

struct jobs {
    struct job *list;
    size_t count;
    size_t room;
};

/* A place for a world that is running. */
static struct slot {
    struct world *world;
    struct job *job; /* NULL: free */
    pid_t pid;
    int pidfd;
    double end_s;
} slots[JOBS_MAX];

/* What came of an operation. */
struct tally {
    const struct operation *operation;
    uint32_t instructions;
    size_t states;
    size_t kills;
    size_t missed;
    size_t failures;
    double start_s;
    double until_s;                  /* 0: no limit */
    char first[MESSAGE_BYTES + 200]; /* failure */
};

void sweep_register(struct operation *operation)
{
    struct operation **p = &operations;

    while (*p && strcmp((*p)->file, operation->file) <= 0)
        p = &(*p)->next;
    operation->next = *p;
    *p = operation;
}

static void *shared(size_t size)
{
    void *p =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED) {
        perror("sweep: mmap");
        exit(2);
    }
    return p;
}

static double now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Saying what was wrong ********************************************************************** */

/* The output of addr2line, which knows static functions, too: "function at file:line". */
static bool symbol_by_tool(const Dl_info *info, uintptr_t pc, char *text, size_t size)
{
    char command[512];
    FILE *tool;

    (void)snprintf(command, sizeof command, "addr2line -fspe '%s' %#lx 2>/dev/null",
        info->dli_fname, (unsigned long)(pc - (uintptr_t)info->dli_fbase));
    tool = popen(command, "r");
    if (!tool || !fgets(text, (int)size, tool))
        text[0] = '?';
    if (tool)
        (void)pclose(tool);
    text[strcspn(text, "\n")] = '\0';
    return text[0] != '?';
}

static void symbol(uintptr_t pc, char *text, size_t size)
{
    Dl_info info;

    if (!dladdr((void *)pc, &info))
        (void)snprintf(text, size, "%#lx", (unsigned long)pc);
    else if (!symbol_by_tool(&info, pc, text, size))
        (void)snprintf(
            text, size, "%s in %s", info.dli_sname ? info.dli_sname : "?", info.dli_fname);
}

static void describe(const struct job *job, const struct world *w, char *text, size_t size)
{
    const struct plan *p = &job->plan;
    char where[300] = "";
    char more[128] = "";

    if (p->pass != PASS_RECORD)
        symbol(victim_trace->step[p->first].pc, where, sizeof where);
    if (p->pass == PASS_STALL || p->pass == PASS_LATE)
        (void)snprintf(more, sizeof more, p->pass == PASS_STALL ? " --stall" : " --late");
    if (p->pass == PASS_KILL_RESCUER)
        (void)snprintf(more, sizeof more, " --second %u%s", p->second,
            p->second_asleep ? " --second-asleep" : "");
    (void)snprintf(text, size, "--operation %s --at %u%s%s: [%s] %s: %s", p->operation->name,
        p->first, p->is_asleep ? " --asleep" : "", more, where, w->stage ? w->stage : "",
        w->message);
}

static void note_failure(struct tally *t, const struct job *job, const struct world *w)
{
    char text[sizeof t->first];

    describe(job, w, text, sizeof text);
    if (t->failures++ == 0)
        memcpy(t->first, text, sizeof text);
    if (!options.quiet && t->failures <= FAILURES_SHOWN)
        (void)printf("# %s\n", text);
}

/* Worlds ************************************************************************************* */

static void pin(unsigned number)
{
    cpu_set_t mine;
    cpu_set_t one;
    int n;

    if (sched_getaffinity(0, sizeof mine, &mine) != 0)
        return;
    n = (int)(number % (unsigned)CPU_COUNT(&mine));
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &mine) || n-- > 0)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        (void)sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

static void start(struct slot *s, struct job *job)
{
    memset(s->world, 0, sizeof *s->world);
    s->world->plan = job->plan;
    s->job = job;
    s->pid = fork();
    if (s->pid == 0) {
        (void)setpgid(0, 0);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin((unsigned)(s - slots));
        world_run(s->world, victim_trace, rescuer_traces[job->plan.trace]);
    }
    (void)setpgid(s->pid, s->pid);
    s->pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0);
    s->end_s = now_s() + options.deadline_s;
    if (job->plan.operation->is_slow && !options.stop_soon)
        s->end_s += options.deadline_s;
    if (s->pid < 0 || s->pidfd < 0) {
        perror("sweep: fork");
        exit(2);
    }
}

/* The world has ended, or its time is over: what came of it, and no process of it is left. */
static void finish(struct slot *s, bool late, struct tally *tally)
{
    struct world *w = s->world;
    struct job *job = s->job;
    int status = 0;

    (void)kill(-s->pid, SIGKILL);
    (void)waitpid(s->pid, &status, 0);
    (void)close(s->pidfd);
    while (waitpid(-s->pid, NULL, 0) > 0 || errno == EINTR) {
    }
    s->job = NULL;
    if (w->verdict == VERDICT_NONE) {
        w->verdict = VERDICT_WRONG;
        if (late)
            (void)snprintf(w->message, sizeof w->message, "hangs");
        else
            (void)snprintf(w->message, sizeof w->message, "the world left status %#x", status);
    }
    job->verdict = (enum verdict)w->verdict;
    job->has_missed = w->has_missed;
    job->state = w->state;
    tally->kills++;
    tally->missed += w->has_missed;
    if (job->verdict == VERDICT_WRONG)
        note_failure(tally, job, w);
}

/* Until at least one world has ended. */
static void wait_for_worlds(struct tally *tally)
{
    struct pollfd fds[JOBS_MAX];
    struct slot *of[JOBS_MAX];
    double first_s = 1e18;
    nfds_t n = 0;
    int left_ms;

    for (unsigned i = 0; i < options.jobs; i++) {
        if (!slots[i].job)
            continue;
        fds[n] = (struct pollfd){slots[i].pidfd, POLLIN, 0};
        of[n++] = &slots[i];
        if (slots[i].end_s < first_s)
            first_s = slots[i].end_s;
    }
    left_ms = (int)((first_s - now_s()) * 1000) + 1;
    (void)poll(fds, n, left_ms > 0 ? left_ms : 0);
    for (nfds_t i = 0; i < n; i++) {
        bool late = now_s() > of[i]->end_s;

        if (fds[i].revents || late)
            finish(of[i], late, tally);
    }
}

static bool is_any_running(void)
{
    for (unsigned i = 0; i < options.jobs; i++) {
        if (slots[i].job)
            return true;
    }
    return false;
}

static bool is_over(const struct tally *tally)
{
    return (tally->until_s > 0 && now_s() > tally->until_s) ||
           (options.stop_soon && tally->failures > 0);
}

/* The next one; or, in later rounds, the next that has missed its point. NULL: there is none. */
static struct job *take_job(const struct jobs *jobs, size_t *next, int round, struct tally *tally)
{
    while (*next < jobs->count) {
        struct job *job = &jobs->list[(*next)++];

        if (round > 0 && !job->has_missed)
            continue;
        tally->missed -= job->has_missed;
        return job;
    }
    return NULL;
}

static void run_round(const struct jobs *jobs, int round, struct tally *tally)
{
    struct job *job;
    size_t next = 0;

    do {
        for (unsigned i = 0; i < options.jobs; i++) {
            job = slots[i].job || is_over(tally) ? NULL : take_job(jobs, &next, round, tally);
            if (job)
                start(&slots[i], job);
        }
        if (is_any_running())
            wait_for_worlds(tally);
    } while (is_any_running() || (next < jobs->count && !is_over(tally)));
}

/* A victim does not always make as many instructions: where it has missed, it is sent again. */
static void run(const struct jobs *jobs, struct tally *tally)
{
    for (int round = 0; round < ROUNDS; round++)
        run_round(jobs, round, tally);
}

/* Points ************************************************************************************* */

static void add(struct jobs *jobs, const struct plan *plan)
{
    if (jobs->count == jobs->room) {
        jobs->room = jobs->room ? 2 * jobs->room : 1024;
        jobs->list = realloc(jobs->list, jobs->room * sizeof *jobs->list);
        if (!jobs->list) {
            perror("sweep");
            exit(2);
        }
    }
    jobs->list[jobs->count++] = (struct job){.plan = *plan};
}

static void add_point(struct jobs *jobs, struct plan plan, uint32_t at, bool asleep)
{
    if (plan.pass == PASS_KILL_RESCUER) {
        plan.second = at;
        plan.second_asleep = asleep;
    } else {
        plan.first = at;
        plan.is_asleep = asleep;
    }
    add(jobs, &plan);
}

/* Of an instruction that repeats itself, the first and last times and the one in the middle. */
static bool is_remarkable(const struct trace *trace, uint32_t i)
{
    uint32_t first = i;
    uint32_t last = i;

    if (!(trace->step[i].what & (STEP_CALLS | STEP_CHANGES)))
        return false;
    while (first > 0 && trace->step[first - 1].pc == trace->step[i].pc)
        first--;
    while (last < trace->count && trace->step[last + 1].pc == trace->step[i].pc)
        last++;
    return i - first < 2 || last - i < 2 || i == first + (last - first) / 2;
}

/* A job for each point of the trace that counts in this mode. */
static void add_points(struct jobs *jobs, const struct plan *plan, const struct trace *trace)
{
    for (uint32_t i = 0; i <= trace->count; i++) {
        bool here = i < trace->count && is_remarkable(trace, i);
        bool before = i > 0 && is_remarkable(trace, i - 1);

        if (options.full || here || before || i == 0 || i == trace->count)
            add_point(jobs, *plan, i, false);
        if ((trace->step[i].what & STEP_SLEEPS) && plan->pass != PASS_STALL &&
            plan->pass != PASS_LATE)
            add_point(jobs, *plan, i, true);
    }
}

/* So that a part of them, if there is no time for more, is spread over all. */
static void shuffle(struct jobs *jobs)
{
    for (size_t i = jobs->count; i > 1; i--) {
        size_t k = (size_t)random() % i;
        struct job job = jobs->list[k];

        jobs->list[k] = jobs->list[i - 1];
        jobs->list[i - 1] = job;
    }
}

/* Leaves @most of them, evenly; the sleeping and the last ones stay. */
static void thin(struct jobs *jobs, size_t most)
{
    size_t n = 0;

    most *= options.times;
    if (options.full)
        shuffle(jobs);
    if (options.full || jobs->count <= most)
        return;
    for (size_t i = 0; i < jobs->count; i++) {
        const struct plan *p = &jobs->list[i].plan;

        if (i * most / jobs->count != (i + 1) * most / jobs->count || p->is_asleep ||
            p->second_asleep)
            jobs->list[n++] = jobs->list[i];
    }
    jobs->count = n;
}

static size_t quick(const struct operation *o, size_t most)
{
    return o->is_slow && most > SLOW_QUICK ? SLOW_QUICK : most;
}

/* Passes ************************************************************************************* */

/* One world that writes a trace. */
static bool record(const struct plan *plan, struct tally *tally)
{
    struct job job = {.plan = *plan};
    struct jobs one = {&job, 1, 1};

    run(&one, tally);
    return job.verdict == VERDICT_RIGHT;
}

/* One job of each state, behind each other; how many there are. */
static size_t distinct(struct jobs *jobs)
{
    size_t n = 0;

    for (size_t i = 0; i < jobs->count; i++) {
        size_t k = 0;

        if (jobs->list[i].verdict != VERDICT_RIGHT)
            continue;
        while (k < n && jobs->list[k].state != jobs->list[i].state)
            k++;
        if (k == n)
            jobs->list[n++] = jobs->list[i];
    }
    jobs->count = n;
    return n;
}

/* From a few states at the same time: the rescuer's traces, and then its deaths. */
static void rescue_from(const struct jobs *states, struct tally *tally)
{
    struct jobs jobs = {0};

    for (unsigned i = 0; i < states->count; i++) {
        states->list[i].plan.pass = PASS_RECORD_RESCUER;
        states->list[i].plan.trace = i;
    }
    run(states, tally);
    for (unsigned i = 0; i < states->count; i++) {
        struct plan plan = states->list[i].plan;

        if (states->list[i].verdict != VERDICT_RIGHT)
            continue;
        plan.pass = PASS_KILL_RESCUER;
        jobs.count = 0;
        add_points(&jobs, &plan, rescuer_traces[i]);
        thin(&jobs, quick(tally->operation, RESCUES_QUICK));
        run(&jobs, tally);
    }
    free(jobs.list);
}

static void rescue_pass(struct jobs *states, struct tally *tally)
{
    if (!options.full)
        thin(states, STATES_QUICK);
    for (size_t i = 0; i < states->count && !is_over(tally); i += options.jobs) {
        struct jobs some = {&states->list[i],
            states->count - i < options.jobs ? states->count - i : options.jobs, 0};

        rescue_from(&some, tally);
    }
}

static void stall_pass(const struct operation *o, struct tally *tally)
{
    static const enum pass passes[] = {PASS_STALL, PASS_LATE};
    struct jobs jobs = {0};

    for (int i = 0; i < 2; i++) {
        struct plan plan = {.operation = o, .pass = passes[i]};

        jobs.count = 0;
        add_points(&jobs, &plan, victim_trace);
        thin(&jobs, quick(o, STALLS_QUICK));
        run(&jobs, tally);
    }
    free(jobs.list);
}

static void sweep(const struct operation *o, struct tally *tally)
{
    struct plan plan = {.operation = o, .pass = PASS_RECORD};
    struct jobs kills = {0};

    tally->operation = o;
    if (!record(&plan, tally))
        return;
    tally->instructions = victim_trace->count;
    if (options.kill || options.rescue) {
        plan.pass = PASS_KILL;
        add_points(&kills, &plan, victim_trace);
        thin(&kills, quick(o, KILLS_QUICK));
        run(&kills, tally);
        tally->states = distinct(&kills);
    }
    if (options.stall && !o->only_kill && !o->no_stall && !is_over(tally))
        stall_pass(o, tally);
    if (options.rescue && o->rescue && !o->only_kill && !o->no_rescue &&
        o->when != RESCUE_SLEEPS_FIRST && !is_over(tally))
        rescue_pass(&kills, tally);
    free(kills.list);
}

/* Tables ************************************************************************************* */

static bool is_wanted(const struct operation *o, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strstr(o->name, argv[i]))
            return true;
    }
    return argc == 0;
}

static void print_row(const struct tally *t)
{
    char result[32] = "ok";

    if (t->failures)
        (void)snprintf(result, sizeof result, "%zu FAILED", t->failures);
    else if (t->missed * MISSED_PER > t->kills)
        (void)snprintf(result, sizeof result, "MISSED");
    (void)printf("%-26s %8u %7zu %6zu %7zu %6.1f   %s\n", t->operation->name, t->instructions,
        t->states, t->kills, t->missed, now_s() - t->start_s, result);
}

static int sweep_all(int argc, char **argv)
{
    struct tally all = {0};
    double start_s = now_s();
    unsigned left = 0;
    bool missed = false;

    (void)printf("%-26s %8s %7s %6s %7s %6s   %s\n", "operation", "instr.", "states", "kills",
        "missed", "s", "result");
    for (const struct operation *o = operations; o; o = o->next)
        left += is_wanted(o, argc, argv);
    for (const struct operation *o = operations; o; o = o->next) {
        struct tally t = {.start_s = now_s()};

        if (!is_wanted(o, argc, argv))
            continue;
        if (options.until_s > 0)
            t.until_s = t.start_s + (options.until_s - t.start_s) / left--;
        sweep(o, &t);
        print_row(&t);
        all.kills += t.kills;
        all.failures += t.failures;
        missed |= t.missed * MISSED_PER > t.kills;
    }
    (void)printf("%zu kills, %zu failures, %.0f s\n", all.kills, all.failures, now_s() - start_s);
    return all.failures || missed || all.kills == 0;
}

/* One world ********************************************************************************** */

static struct operation *find_operation(const char *name)
{
    for (struct operation *o = operations; o; o = o->next) {
        if (strcmp(o->name, name) == 0)
            return o;
    }
    (void)fprintf(stderr, "sweep: there is no operation %s (see --list)\n", name);
    exit(2);
}

static int run_one(const struct plan *wanted)
{
    struct plan plan = {.operation = wanted->operation, .pass = PASS_RECORD};
    struct tally t = {.operation = wanted->operation};
    struct job job = {.plan = *wanted};
    struct jobs one = {&job, 1, 1};
    char where[300];

    if (!record(&plan, &t))
        return 1;
    if (wanted->pass == PASS_KILL_RESCUER) {
        plan = *wanted;
        plan.pass = PASS_RECORD_RESCUER;
        if (!record(&plan, &t))
            return 1;
    }
    run(&one, &t);
    if (wanted->pass == PASS_KILL_RESCUER) {
        symbol(rescuer_traces[0]->step[wanted->second].pc, where, sizeof where);
        (void)printf("the rescuer at %s\n", where);
    }
    symbol(victim_trace->step[wanted->first].pc, where, sizeof where);
    (void)printf("%s of %u at %s: state %llx%s, %s\n", wanted->operation->name, victim_trace->count,
        where, (unsigned long long)job.state, job.has_missed ? ", missed" : "",
        t.failures ? "FAILED" : "ok");
    return t.failures != 0;
}

/* Mutations ********************************************************************************** */

/* Is the operation to be tried without this step? It names the steps that it is meant for. */
static bool concerns(const struct operation *o, const char *step)
{
    size_t n = strlen(step);

    for (const char *p = o->proves; p && (p = strstr(p, step)); p += n) {
        if ((p == o->proves || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0'))
            return true;
    }
    return false;
}

/* True if some operation fails without the step. */
static bool try_without(size_t step)
{
    struct tally t = {0};
    double start_s = now_s();
    size_t kills = 0;

    mutation_set((enum cv_mutation)(step + 1));
    for (const struct operation *o = operations; o && !t.failures; o = o->next) {
        if (!concerns(o, mutation_steps[step].name))
            continue;
        memset(&t, 0, sizeof t);
        sweep(o, &t);
        kills += t.kills;
    }
    mutation_set(CV_MUTATION_none);
    (void)printf("%-24s %-26s %6zu %5.1f s  %s\n", mutation_steps[step].name,
        t.failures ? t.operation->name : "NOBODY", kills, now_s() - start_s,
        t.failures ? t.first : "");
    return t.failures != 0;
}

static int try_mutations(int argc, char **argv)
{
    size_t caught = 0;
    size_t tried = 0;

    options.quiet = true;
    options.stop_soon = true;
    options.times = MUTATION_TIMES;
    (void)printf("%-24s %-26s %6s %7s  %s\n", "without", "caught by", "kills", "", "at");
    for (size_t i = 0; i < MUTATION_STEPS; i++) {
        bool wanted = argc == 0;

        for (int k = 0; k < argc; k++)
            wanted |= strstr(mutation_steps[i].name, argv[k]) != NULL;
        if (!wanted)
            continue;
        tried++;
        caught += try_without(i);
    }
    (void)printf("%zu of %zu steps cannot be missing\n", caught, tried);
    return caught != tried;
}

/* Arguments ********************************************************************************** */

/* All images have the same addresses: the kernel is asked not to choose them at random. */
static void be_predictable(char **argv)
{
    int now = personality(0xffffffff);

    if (now == -1 || (now & ADDR_NO_RANDOMIZE))
        return;
    if (personality((unsigned long)now | ADDR_NO_RANDOMIZE) != -1)
        (void)execv("/proc/self/exe", argv);
}

static void make_slots(void)
{
    for (unsigned i = 0; i < options.jobs; i++)
        slots[i].world = shared(sizeof *slots[i].world);
    for (unsigned i = 0; i < options.jobs; i++)
        rescuer_traces[i] = shared(sizeof *rescuer_traces[i]);
    victim_trace = shared(sizeof *victim_trace);
}

enum option_name {
    QUICK,
    FULL,
    TIMES,
    KILL,
    STALL,
    RESCUE,
    LATE,
    LIST,
    JOBS,
    DEADLINE,
    MINUTES,
    NAME,
    AT,
    ASLEEP,
    SECOND,
    SECOND_ASLEEP,
    MUTATIONS,
    WITHOUT,
    NAPS,
};

static const struct option known[] = {
    {"quick", no_argument, NULL, QUICK},
    {"full", no_argument, NULL, FULL},
    {"times", required_argument, NULL, TIMES},
    {"kill", no_argument, NULL, KILL},
    {"stall", no_argument, NULL, STALL},
    {"rescue", no_argument, NULL, RESCUE},
    {"late", no_argument, NULL, LATE},
    {"list", no_argument, NULL, LIST},
    {"jobs", required_argument, NULL, JOBS},
    {"deadline", required_argument, NULL, DEADLINE},
    {"minutes", required_argument, NULL, MINUTES},
    {"operation", required_argument, NULL, NAME},
    {"at", required_argument, NULL, AT},
    {"asleep", no_argument, NULL, ASLEEP},
    {"second", required_argument, NULL, SECOND},
    {"second-asleep", no_argument, NULL, SECOND_ASLEEP},
    {"mutations", no_argument, NULL, MUTATIONS},
    {"without", required_argument, NULL, WITHOUT},
    {"naps", no_argument, NULL, NAPS},
    {0},
};

/* What is asked for beside @options. */
struct request {
    struct plan one; /* with an operation: only this world */
    bool list;
    bool mutations;
    bool passes; /* some were named */
    bool has_deadline;
};

/* The first pass that is named takes the others away. */
static void choose_pass(struct request *r, bool *pass)
{
    if (!r->passes)
        options.kill = options.stall = options.rescue = false;
    r->passes = true;
    *pass = true;
}

static void read_number(struct request *r, int c)
{
    double value = strtod(optarg, NULL);

    switch (c) {
    case JOBS:
        options.jobs = value < 1 ? 1 : value > JOBS_MAX ? JOBS_MAX : (unsigned)value;
        break;
    case TIMES:
        options.times = value < 1 ? 1 : (unsigned)value;
        break;
    case DEADLINE:
        options.deadline_s = value;
        r->has_deadline = true;
        break;
    case MINUTES:
        options.until_s = now_s() + value * 60;
        break;
    case AT:
        r->one.first = (uint32_t)value;
        break;
    default:
        r->one.second = (uint32_t)value;
        r->one.pass = PASS_KILL_RESCUER;
        break;
    }
}

static void read_option(struct request *r, int c)
{
    switch (c) {
    case QUICK:
        break;
    case FULL:
        options.full = true;
        break;
    case KILL:
        choose_pass(r, &options.kill);
        break;
    case STALL:
        choose_pass(r, &options.stall);
        r->one.pass = PASS_STALL;
        break;
    case RESCUE:
        choose_pass(r, &options.rescue);
        break;
    case LATE:
        r->one.pass = PASS_LATE;
        break;
    case LIST:
        r->list = true;
        break;
    case NAME:
        r->one.operation = find_operation(optarg);
        break;
    case ASLEEP:
        r->one.is_asleep = true;
        break;
    case SECOND_ASLEEP:
        r->one.second_asleep = true;
        break;
    case MUTATIONS:
        r->mutations = true;
        break;
    case WITHOUT:
        mutation_set(mutation_find(optarg));
        break;
    case NAPS:
        naps_set(true);
        break;
    default:
        read_number(r, c);
        break;
    }
}

int main(int argc, char **argv)
{
    struct request r = {.one.pass = PASS_KILL};
    int c;

    if (!getenv(NAPS_VARIABLE))
        naps_set(false);
    mutation_inherit();
    covey_main(argc, argv);
    be_predictable(argv);
    options.jobs = covey_cpu_count() < JOBS_MAX ? covey_cpu_count() : JOBS_MAX;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == '?')
            return 2;
        read_option(&r, c);
    }
    if (r.list) {
        for (const struct operation *o = operations; o; o = o->next)
            (void)puts(o->name);
        return 0;
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    make_slots();
    if (r.one.operation)
        return run_one(&r.one);
    if (r.mutations) {
        if (!r.has_deadline)
            options.deadline_s = MUTATION_DEADLINE_S;
        return try_mutations(argc - optind, argv + optind);
    }
    return sweep_all(argc - optind, argv + optind);
}
