/* SPDX-License-Identifier: MIT */
/*
 * The program: what is asked for, and the guardian of the killer.
 *
 *   soak [OPTION...]
 *   --minutes M      as long as that (1)
 *   --kills N        and with so many kills at least
 *   --rate N         kills a second, about (60)
 *   --deadline S     seconds that an operation may take (30)
 *   --seed S         repeats the choices of a run, if not what came between; else it is a random one
 *   --focus NAME     most are at this scenario all the time
 *   --without STEP   one step of the recovery is missing (base/mutation.h)
 */
#include "killer.h"

#include "../mutations.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    GRACE_S = 10,
};

/* In this order they are checked. The heap is the last: what is left then is its. */
const struct scenario *const soak_scenarios[] = {
    &soak_lock,
    &soak_rlock,
    &soak_rwlock,
    &soak_semaphore,
    &soak_counter,
    &soak_condition,
    &soak_event,
    &soak_barrier,
    &soak_queue,
    &soak_claims,
    &soak_pipe,
    &soak_descriptor,
    &soak_wait,
#ifdef TEST_TLS
    &soak_connection,
#endif
    &soak_array,
    &soak_pool,
    &soak_heap,
};

uint64_t *killer_heartbeat;

static volatile sig_atomic_t is_interrupted;

unsigned soak_scenario_count(void)
{
    return sizeof soak_scenarios / sizeof *soak_scenarios;
}

/* The guardian ******************************************************************************* */

static void interrupt(int number)
{
    (void)number;
    is_interrupted = 1;
}

/* Is a process of the group left? Those that have ended are taken away. */
static bool is_any_left(pid_t group)
{
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
    return kill(-group, 0) == 0;
}

static int end_all(pid_t group, int status)
{
    double end_s = test_now_s() + GRACE_S;

    while (status == 0 && is_any_left(group)) {
        if (test_now_s() > end_s) {
            (void)printf("FAILED: processes are left that nobody has ended\n");
            status = 1;
        }
        test_sleep_ms(1);
    }
    (void)kill(-group, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
    }
    return status;
}

/* Orphans come here, too. Returns when the killer has ended, hangs, or is to end. */
static int watch(pid_t killer, double deadline_s)
{
    double beat_s = test_now_s();
    uint64_t beat = 0;
    int status;
    pid_t pid;

    while (!is_interrupted) {
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
            if (pid == killer)
                return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        }
        if (cv_load_seq(killer_heartbeat) != beat)
            beat_s = test_now_s();
        beat = cv_load_seq(killer_heartbeat);
        if (test_now_s() > beat_s + 2 * deadline_s) {
            (void)printf("FAILED: the killer hangs\n");
            killer_print_stack(killer);
            return 1;
        }
        test_sleep_ms(20);
    }
    return 2;
}

static int guard(const struct order *order)
{
    struct sigaction action = {.sa_handler = interrupt};
    pid_t killer;

    killer_heartbeat = mmap(
        NULL, sizeof *killer_heartbeat, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (killer_heartbeat == MAP_FAILED) {
        perror("soak: mmap");
        return 2;
    }
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    killer = fork();
    if (killer < 0) {
        perror("soak: fork");
        return 2;
    }
    (void)setpgid(killer, killer);
    if (killer == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        exit(killer_run(order));
    }
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    return end_all(killer, watch(killer, order->deadline_s));
}

/* Arguments ********************************************************************************** */

enum option_name {
    MINUTES,
    KILLS,
    RATE,
    DEADLINE,
    SEED,
    FOCUS,
    WITHOUT,
};

static const struct option known[] = {
    {"minutes", required_argument, NULL, MINUTES},
    {"kills", required_argument, NULL, KILLS},
    {"rate", required_argument, NULL, RATE},
    {"deadline", required_argument, NULL, DEADLINE},
    {"seed", required_argument, NULL, SEED},
    {"focus", required_argument, NULL, FOCUS},
    {"without", required_argument, NULL, WITHOUT},
    {0},
};

static unsigned find_scenario(const char *name)
{
    for (unsigned i = 0; i < soak_scenario_count(); i++) {
        if (strcmp(soak_scenarios[i]->name, name) == 0)
            return i;
    }
    (void)fprintf(stderr, "there is no scenario %s\n", name);
    exit(2);
}

static void read_option(struct order *order, int c)
{
    switch (c) {
    case MINUTES:
        order->end_s = test_now_s() + strtod(optarg, NULL) * 60;
        break;
    case KILLS:
        order->kills_min = strtoull(optarg, NULL, 10);
        break;
    case RATE:
        order->kills_per_s = strtod(optarg, NULL);
        break;
    case DEADLINE:
        order->deadline_s = strtod(optarg, NULL);
        break;
    case SEED:
        order->seed = strtoull(optarg, NULL, 0);
        break;
    case FOCUS:
        order->focus = find_scenario(optarg);
        break;
    default:
        mutation_set(mutation_find(optarg));
        break;
    }
}

int main(int argc, char **argv)
{
    struct order order = {
        .end_s = test_now_s() + 60, .kills_per_s = 60, .deadline_s = 30, .focus = SCENARIOS_MAX};
    int c;

    mutation_inherit();
    covey_main(argc, argv);
    (void)getrandom(&order.seed, 4, 0);
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == '?')
            return 2;
        read_option(&order, c);
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)printf("seed %llu\n", (unsigned long long)order.seed);
    return guard(&order);
}
