/* SPDX-License-Identifier: MIT */
#include "killer.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    ROUND_S = 3,
    AT_ONCE_MAX = 4,
    LIVES_SPARE = AT_ONCE_MAX + PLACES,
    STOP_MS_MAX = 30,
    CHILDREN_MAX = 64,
    PROGRESS_S = 60,
    GIVE_MS = 5,
    LOST = 1000, /* no exit code */

    /* Of so many moments, one: */
    STOP_ONCE_IN = 10,
    MANY_ONCE_IN = 20,
    SERVER_ONCE_IN = 100,
    HELPER_ONCE_IN = 5,
    FOCUS_ONCE_IN = 4,
};

static struct place {
    covey_process *process; /* NULL: forked without covey */
    pid_t pid;              /* 0: nobody is there */
    uint32_t life;
    bool is_of_server;
    uint64_t servers_before; /* that the killer had killed when this one was started */
    double stopped_until_s;  /* 0: it is not */
} places[PLACES];

static struct {
    double start_s;
    double progress_s;
    uint64_t lives;
    uint64_t kills;
    uint64_t servers;               /* among them */
    uint64_t at[SCENARIOS_MAX + 1]; /* kills; the last: between operations, or a fork server */
} total;

static size_t blocks_before;
static uint32_t dooms;

/* Reports ************************************************************************************ */

static void print_file(pid_t pid, const char *name)
{
    char path[64];
    char line[256];
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        (void)printf("  %s: %s", name, line);
    if (file)
        (void)fclose(file);
}

/* By the debugger, if there is one; else what the kernel says. */
void killer_print_stack(pid_t pid)
{
    char command[160];

    (void)printf("process %d:\n", (int)pid);
    print_file(pid, "syscall");
    print_file(pid, "stack");
    (void)fflush(stdout);
    (void)snprintf(command, sizeof command,
        "timeout 30 gdb -nx -batch -p %d -ex 'thread apply all backtrace' 2>/dev/null | grep '^#'",
        (int)pid);
    (void)system(command);
}

static const char *scenario_name(uint32_t scenario)
{
    return scenario < soak_scenario_count() ? soak_scenarios[scenario]->name : "nothing";
}

static uint64_t operations_at(unsigned scenario)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < PLACES; i++)
        n += cv_load_seq(&run->operations[i][scenario]);
    return n;
}

static uint64_t operations(void)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < soak_scenario_count(); i++)
        n += operations_at(i);
    return n;
}

static void print_progress(void)
{
    double s = test_now_s() - total.start_s;

    (void)printf("%5.1f min, %u rounds: %llu kills, %llu operations, %.0f operations/s\n", s / 60,
        run->round, (unsigned long long)total.kills, (unsigned long long)operations(),
        (double)operations() / s);
}

/* With what has failed: a scenario; SCENARIOS_MAX: nothing, or what is none. */
static void print_table(uint32_t failed, bool is_ok)
{
    double s = test_now_s() - total.start_s;

    (void)printf("%-12s %12s %8s %8s   %s\n", "scenario", "operations", "kills", "told", "result");
    for (unsigned i = 0; i < soak_scenario_count(); i++)
        (void)printf("%-12s %12llu %8llu %8llu   %s\n", soak_scenarios[i]->name,
            (unsigned long long)operations_at(i), (unsigned long long)total.at[i],
            (unsigned long long)run->deaths[i], i == failed ? "FAILED" : "ok");
    (void)printf(
        "%-12s %12s %8llu\n", "elsewhere", "", (unsigned long long)total.at[SCENARIOS_MAX]);
    (void)printf("%llu operations, %llu kills (%.0f a second), %u rounds, %.0f s: %s\n",
        (unsigned long long)operations(), (unsigned long long)total.kills, (double)total.kills / s,
        run->round, s, is_ok ? "ok" : "FAILED");
}

/* Called once: by the killer's own failure, or when it finds that of another. */
void soak_report(void)
{
    (void)covey_waits_print(STDOUT_FILENO);
    for (unsigned i = 0; i < PLACES; i++) {
        const struct life *life = &run->life[places[i].life];

        if (!places[i].pid)
            continue;
        (void)printf("process %d, life %llu, is at %s for %.3f s%s\n", (int)places[i].pid,
            (unsigned long long)life->number, scenario_name(life->scenario),
            (double)(cv_clock_now() - life->since_ns) / CV_NS_PER_S,
            life->doomed ? ", and doomed" : "");
        killer_print_stack(places[i].pid);
    }
    print_table(run->failed_at, false);
    (void)fflush(stdout);
}

/* Starting *********************************************************************************** */

struct argument {
    struct run *run;
    uint64_t life;
};

__attribute__((noreturn)) static void be_forked(struct argument *argument)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    exit(soak_worker(argument));
}

static void start_by_fork(struct place *p, struct argument *argument)
{
    (void)fflush(stdout);
    p->pid = fork();
    check_int(p->pid, >=, 0);
    if (p->pid == 0)
        be_forked(argument);
}

static void start_by_covey_fork(struct place *p, struct argument *argument)
{
    (void)fflush(stdout);
    p->pid = covey_fork();
    check_int(p->pid, >=, 0);
    if (p->pid == 0)
        be_forked(argument);
    p->process = covey_process_find(p->pid);
    check(p->process != NULL);
}

static void start_process(struct place *p, struct argument *argument, enum covey_method method)
{
    check_int(covey_process_start(&p->process, soak_worker, COVEY_ARGUMENT(*argument),
                  .method = method, .daemon = true),
        ==, 0);
    p->pid = covey_process_pid(p->process);
    p->is_of_server = method == COVEY_FORKSERVER;
    p->servers_before = total.servers;
}

static void start(unsigned i)
{
    struct place *p = &places[i];
    uint64_t dice = soak_random(16);
    uint32_t life = run->lives;
    struct argument argument = {run, life};

    check_int(life, <, LIVES_MAX);
    memset(p, 0, sizeof *p);
    p->life = life;
    run->life[life] = (struct life){
        .number = total.lives++, .place = i, .scenario = SCENARIOS_MAX, .since_ns = cv_clock_now()};
    cv_store_seq(&run->lives, life + 1);
    cv_store_seq(&run->at_place[i], life);
    if (dice < 3)
        start_by_fork(p, &argument);
    else if (dice < 5)
        start_by_covey_fork(p, &argument);
    else
        start_process(p, &argument,
            dice < 11   ? COVEY_FORK
            : dice < 14 ? COVEY_FORKSERVER
                        : COVEY_SPAWN);
    cv_store_seq(&run->life[life].pid, (uint32_t)p->pid);
}

/* Ending ************************************************************************************* */

static void send(struct place *p, int number)
{
    if (p->process)
        check_int(covey_process_signal(p->process, number), ==, 0);
    else
        check_int(kill(p->pid, number), ==, 0); /* a child, of which nobody else takes the zombie */
}

static void let_go_on(struct place *p)
{
    if (p->stopped_until_s > 0)
        send(p, SIGCONT);
    p->stopped_until_s = 0;
}

static bool has_ended(const struct place *p)
{
    siginfo_t info = {0};

    if (p->process)
        return covey_process_is_alive(p->process) == 0;
    check_int(waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT), ==, 0);
    return info.si_pid != 0;
}

/* Nobody knows how it has ended if its fork server was killed. */
static bool is_lost(const struct place *p, int result)
{
    return result == COVEY_EDIED && p->is_of_server && p->servers_before < total.servers;
}

/* Of one that has ended, or is about to, its exit code, or LOST; its place is free then. */
static int take_away(struct place *p)
{
    int code = LOST;
    int status;
    char state;

    if (p->process) {
        int r;

        check_int(covey_process_join(p->process, run->deadline_s), ==, 0);
        r = covey_process_exit_code(p->process, &code);
        if (!is_lost(p, r))
            check_int(r, ==, 0);
        check_int(covey_process_close(p->process), ==, 0);
    } else {
        check_int(waitpid(p->pid, &status, 0), ==, p->pid);
        code = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    }
    state = test_state_of(p->pid);
    if (state && state != 'Z' && state != 'X')
        test_fail(__FILE__, __LINE__, "process %d has ended (%d), but is in state %c", (int)p->pid,
            code, state);
    p->pid = 0;
    return code;
}

static void take_away_orderly(struct place *p)
{
    int code = take_away(p);

    check(code == 0 || code == LOST);
}

static void doom(struct place *p)
{
    cv_store_seq(&run->life[p->life].doomed, ++dooms);
    send(p, SIGKILL);
}

/* It has been doomed. Only when all are leaving it may have been too late. */
static void count_dead(struct place *p)
{
    int code = take_away(p);

    if (code == 0 && cv_load_seq(&run->closing))
        return;
    check(code == -SIGKILL || code == LOST);
    total.kills++;
    total.at[run->life[p->life].scenario]++;
}

static void kill_some(unsigned n, bool replace)
{
    struct place *dead[AT_ONCE_MAX];
    unsigned count = 0;

    for (unsigned tries = 0; tries < n; tries++) {
        struct place *p = &places[soak_random(PLACES)];

        if (!p->pid || soak_is_doomed(p->life) || (!replace && has_ended(p)))
            continue;
        doom(p);
        dead[count++] = p;
    }
    for (unsigned i = 0; i < count; i++)
        count_dead(dead[i]);
    for (unsigned i = 0; i < count && replace; i++)
        start((unsigned)(dead[i] - places));
}

static void stop_one(void)
{
    struct place *p = &places[soak_random(PLACES)];

    if (p->stopped_until_s > 0)
        return;
    send(p, SIGSTOP);
    p->stopped_until_s = test_now_s() + (double)soak_random(STOP_MS_MAX) / 1000;
}

/* Helpers and fork servers ******************************************************************* */

static pid_t parent_of(pid_t pid)
{
    return pid > 0 ? (pid_t)test_status_of(pid, "PPid") : 0;
}

/* Of a worker's pool: a child of the worker, or of its fork server; whose pid may be another's by now. */
static void kill_helper(void)
{
    const struct place *p = &places[soak_random(PLACES)];
    uint32_t scenario = cv_load_seq(&run->life[p->life].scenario);
    pid_t pid;
    pid_t parent;
    int pidfd;

    if (scenario >= soak_scenario_count() || !soak_scenarios[scenario]->helper)
        return;
    pid = soak_scenarios[scenario]->helper(run->state[scenario], p->life);
    pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (pidfd < 0)
        return;
    parent = parent_of(pid);
    if (parent == p->pid || (parent > 1 && parent_of(parent) == p->pid)) {
        cv_store_seq(&run->killed[run->kills % KILLS_NOTED], (uint32_t)pid);
        cv_store_seq(&run->kills, run->kills + 1);
        if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) == 0) {
            total.kills++;
            total.at[scenario]++;
        }
    }
    (void)close(pidfd);
}

static bool is_at_place(pid_t pid)
{
    for (unsigned i = 0; i < PLACES; i++) {
        if (places[i].pid == pid)
            return true;
    }
    return false;
}

/* A child that is no worker; of those that live there is one at most. */
static pid_t fork_server(void)
{
    char path[64];
    int pid = 0;
    pid_t server = 0;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    file = fopen(path, "re");
    while (file && fscanf(file, "%d", &pid) == 1) {
        if (!is_at_place(pid) && test_state_of(pid) != 'Z')
            server = pid;
    }
    if (file)
        (void)fclose(file);
    return server;
}

static void kill_server(void)
{
    pid_t pid = fork_server();

    if (pid == 0 || kill(pid, SIGKILL) != 0)
        return;
    total.kills++;
    total.servers++;
    total.at[SCENARIOS_MAX]++;
}

/* Looking after them ************************************************************************* */

static void check_life(struct place *p)
{
    const struct life *life = &run->life[p->life];
    uint64_t since_ns = cv_load_seq(&life->since_ns);

    if (p->stopped_until_s > 0 && test_now_s() > p->stopped_until_s)
        let_go_on(p);
    if (cv_load_seq(&life->scenario) < SCENARIOS_MAX &&
        since_ns + (uint64_t)(run->deadline_s * CV_NS_PER_S) < cv_clock_now()) {
        run->life[LIVES_MAX].scenario = life->scenario;
        test_fail(__FILE__, __LINE__, "process %d hangs at %s", (int)p->pid,
            scenario_name(life->scenario));
    }
    if (!cv_load_seq(&run->closing) && has_ended(p))
        test_fail(__FILE__, __LINE__, "process %d, at %s, has ended by itself", (int)p->pid,
            scenario_name(life->scenario));
}

static void look_after_all(void)
{
    cv_store_seq(killer_heartbeat, *killer_heartbeat + 1);
    if (cv_load_seq(&run->failures)) {
        soak_report();
        _exit(1);
    }
    for (unsigned i = 0; i < PLACES; i++) {
        if (places[i].pid)
            check_life(&places[i]);
    }
    if (test_now_s() > total.progress_s) {
        print_progress();
        total.progress_s += PROGRESS_S;
    }
}

/* Rounds ************************************************************************************* */

static unsigned focus;

static void choose_focus(void)
{
    uint64_t any = soak_random(soak_scenario_count());

    cv_store_seq(&run->focus, (uint32_t)(focus < SCENARIOS_MAX ? focus : any));
}

/* Set up first, and finished last, is the last one: the heap. */
static void set_up_all(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    check_int(covey_stats(&stats), ==, 0);
    blocks_before = stats.blocks;
    run->round++;
    run->closing = 0;
    run->lives = 0;
    for (unsigned i = 0; i < PLACES; i++)
        run->at_place[i] = LIVES_MAX;
    choose_focus();
    for (unsigned i = soak_scenario_count(); i-- > 0;)
        run->state[i] = soak_scenarios[i]->set_up();
}

/* Daemons of the dead may take a moment to end. */
static void check_family(void)
{
    struct covey_stats stats = {.size = sizeof stats};
    double end_s = test_now_s() + run->deadline_s;

    for (;;) {
        unsigned expected = 1 + (fork_server() != 0);

        check_int(covey_stats(&stats), ==, 0);
        if (stats.members == expected)
            return;
        if (test_now_s() > end_s)
            test_fail(__FILE__, __LINE__, "%zu members are left, of which %u should be",
                stats.members, expected);
        cv_store_seq(killer_heartbeat, *killer_heartbeat + 1);
        test_sleep_ms(1);
    }
}

static void finish_all(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    check_family();
    for (unsigned i = 0; i < soak_scenario_count(); i++) {
        run->life[LIVES_MAX].scenario = i;
        soak_scenarios[i]->finish(run->state[i]);
    }
    run->life[LIVES_MAX].scenario = SCENARIOS_MAX;
    check_int(covey_stats(&stats), ==, 0);
    check_int(stats.blocks, ==, blocks_before);
}

static void give_all(void)
{
    for (unsigned i = 0; i < soak_scenario_count(); i++) {
        if (soak_scenarios[i]->give)
            soak_scenarios[i]->give(run->state[i]);
    }
}

/* True if somebody is still there. */
static bool await_some(void)
{
    bool any = false;

    for (unsigned i = 0; i < PLACES; i++) {
        if (!places[i].pid)
            continue;
        if (has_ended(&places[i]))
            take_away_orderly(&places[i]);
        else
            any = true;
    }
    return any;
}

static void close_round(void)
{
    cv_store_seq(&run->closing, 1);
    for (unsigned i = 0; i < PLACES; i++)
        let_go_on(&places[i]);
    kill_some((unsigned)soak_random(AT_ONCE_MAX + 1), false);
    while (await_some()) {
        look_after_all();
        give_all();
        test_sleep_ms(GIVE_MS);
    }
}

/* Between two of these, some time. */
static void act(void)
{
    if (soak_chance(FOCUS_ONCE_IN))
        choose_focus();
    if (soak_chance(STOP_ONCE_IN))
        stop_one();
    if (soak_chance(HELPER_ONCE_IN))
        kill_helper();
    if (soak_chance(SERVER_ONCE_IN))
        kill_server();
    kill_some(soak_chance(MANY_ONCE_IN) ? 2 + (unsigned)soak_random(AT_ONCE_MAX - 1) : 1, true);
}

static void play_round(const struct order *order)
{
    double end_s = test_now_s() + ROUND_S;

    set_up_all();
    for (unsigned i = 0; i < PLACES; i++)
        start(i);
    while (test_now_s() < end_s && run->lives < LIVES_MAX - LIVES_SPARE) {
        double pause_us = 2e6 / order->kills_per_s;

        (void)usleep((useconds_t)soak_random((uint64_t)pause_us + 1));
        look_after_all();
        act();
    }
    close_round();
    finish_all();
}

static void open_family(const struct order *order)
{
    soak_seed(order->seed);
    check_int(
        covey_open(.deadlocks = soak_chance(2) ? COVEY_DEADLOCKS_DETECT : COVEY_DEADLOCKS_IGNORE),
        ==, 0);
    run = covey_calloc(1, sizeof *run);
    check(run != NULL);
    run->seed = order->seed;
    run->deadline_s = order->deadline_s;
    run->life[LIVES_MAX].pid = (uint32_t)getpid();
    run->life[LIVES_MAX].place = PLACES;
    run->life[LIVES_MAX].scenario = SCENARIOS_MAX;
    run->life[LIVES_MAX].number = UINT64_MAX;
}

static int close_family(unsigned descriptors)
{
    struct covey_stats stats = {.size = sizeof stats};

    check_int(covey_free(run), ==, 0);
    check_int(covey_stats(&stats), ==, 0);
    if (stats.blocks != 0 || covey_close() != 0 || fork_server() != 0 ||
        test_open_descriptors() != descriptors) {
        (void)printf("FAILED: in the end %zu blocks, child %d, and %u descriptors are left "
                     "(before: %u)\n",
            stats.blocks, (int)fork_server(), test_open_descriptors(), descriptors);
        return 1;
    }
    return 0;
}

int killer_run(const struct order *order)
{
    unsigned descriptors = test_open_descriptors();

    total.start_s = test_now_s();
    total.progress_s = total.start_s + PROGRESS_S;
    open_family(order);
    focus = order->focus;
    do {
        play_round(order);
    } while (test_now_s() < order->end_s || total.kills < order->kills_min);
    print_table(SCENARIOS_MAX, true);
    return close_family(descriptors);
}
