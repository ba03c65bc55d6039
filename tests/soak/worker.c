/* SPDX-License-Identifier: MIT */
/* What each process of the soak does and notes, and how it fails. */
#include "soak.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    AT_FOCUS = 2, /* of three operations, where most are: so that they meet */
    SLOW_ONCE_IN = 20,
    MESSAGE_BYTES = 1000,
};

struct run *run;
uint32_t soak_me = LIVES_MAX;

/* Failing ************************************************************************************ */

/* A worker that has failed stays as it is: its stack and what it holds say more than it could. */
void test_fail(const char *file, int line, const char *format, ...)
{
    const char *base = strrchr(file, '/');
    struct life *me = &run->life[soak_me];
    char text[MESSAGE_BYTES];
    va_list args;
    int n;

    n = snprintf(text, sizeof text, "FAILED: %s:%d: ", base ? base + 1 : file, line);
    va_start(args, format);
    n += vsnprintf(text + n, sizeof text - (size_t)n, format, args);
    va_end(args);
    if (n < MESSAGE_BYTES)
        (void)snprintf(text + n, sizeof text - (size_t)n,
            " [last covey error: %s] (seed %llu, round %u, process %d, life %llu)", covey_error(),
            (unsigned long long)run->seed, run->round, (int)getpid(),
            (unsigned long long)me->number);
    /* What others find after the first failure may come from that. */
    if (cv_fetch_add(&run->failures, 1) == 0) {
        cv_store_seq(&run->failed_at, cv_load_seq(&me->scenario));
        (void)printf("%s\n", text);
        (void)fflush(stdout);
    }
    if (soak_me == LIVES_MAX) {
        soak_report();
        _exit(1);
    }
    for (;;)
        (void)pause();
}

/* Random numbers ***************************************************************************** */

static uint64_t random_state;

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void soak_seed(uint64_t seed)
{
    random_state = mix(seed);
}

uint64_t soak_random(uint64_t n)
{
    random_state += UINT64_C(0x9e3779b97f4a7c15);
    return mix(random_state) % n;
}

bool soak_chance(uint64_t n)
{
    return soak_random(n) == 0;
}

void soak_fill(void *p, size_t size, uint64_t seed)
{
    uint64_t *word = p;

    for (size_t i = 0; i < size / sizeof *word; i++)
        word[i] = mix(seed + i);
}

bool soak_is_filled(const void *p, size_t size, uint64_t seed)
{
    const uint64_t *word = p;

    for (size_t i = 0; i < size / sizeof *word; i++) {
        if (word[i] != mix(seed + i))
            return false;
    }
    return true;
}

/* Notes ************************************************************************************** */

uint32_t soak_life_of(pid_t pid)
{
    for (uint32_t i = cv_load_seq(&run->lives); i-- > 0;) {
        if (pid > 0 && cv_load_seq(&run->life[i].pid) == (uint32_t)pid)
            return i;
    }
    return LIVES_MAX;
}

bool soak_is_doomed(uint32_t life)
{
    return cv_load_seq(&run->life[life].doomed);
}

bool soak_was_killed(pid_t pid)
{
    uint32_t n = cv_load_seq(&run->kills);

    for (uint32_t i = 0; i < KILLS_NOTED && i < n; i++) {
        if (cv_load_seq(&run->killed[(n - 1 - i) % KILLS_NOTED]) == (uint32_t)pid)
            return true;
    }
    return false;
}

pid_t soak_pid_named(void)
{
    const char *digits = strpbrk(covey_error(), "0123456789");

    return digits ? (pid_t)strtol(digits, NULL, 10) : 0;
}

void soak_told(const struct scenario *scenario)
{
    for (unsigned i = 0; i < soak_scenario_count(); i++) {
        if (soak_scenarios[i] == scenario)
            (void)cv_fetch_add(&run->deaths[i], 1);
    }
}

/* Working ************************************************************************************ */

void soak_dawdle(void)
{
    uint64_t dice = soak_random(64);

    if (dice == 0)
        (void)usleep((useconds_t)soak_random(1000));
    else
        for (uint64_t i = soak_random(dice < 8 ? 4000 : 100); i > 0; i--)
            cv_relax();
}

static void work_at(unsigned i, void (*work)(void *state))
{
    struct life *me = &run->life[soak_me];

    cv_store_seq(&me->since_ns, cv_clock_now());
    cv_store_seq(&me->scenario, i);
    work(run->state[i]);
    cv_store_seq(&me->scenario, (uint32_t)SCENARIOS_MAX);
    cv_add_relaxed(&run->operations[me->place][i], 1);
}

static unsigned choose(void)
{
    return soak_random(3) < AT_FOCUS ? cv_load_seq(&run->focus)
                                     : (unsigned)soak_random(soak_scenario_count());
}

static void work(void)
{
    unsigned i = choose();

    while (soak_scenarios[i]->is_slow && !soak_chance(SLOW_ONCE_IN))
        i = choose();
    work_at(i, soak_scenarios[i]->work);
}

static void give(void)
{
    for (unsigned i = 0; i < soak_scenario_count(); i++) {
        if (soak_scenarios[i]->give)
            work_at(i, soak_scenarios[i]->give);
    }
    (void)usleep((useconds_t)soak_random(1000));
}

int soak_worker(void *argument)
{
    uint64_t life;
    struct life *me;

    memcpy(&life, (char *)argument + sizeof run, sizeof life);
    memcpy(&run, argument, sizeof run);
    soak_me = (uint32_t)life;
    me = &run->life[soak_me];
    cv_store_seq(&me->pid, (uint32_t)getpid());
    check_int(cv_fetch_add(&me->begun, 1), ==, 0);
    soak_seed(run->seed ^ me->number << 20);
    while (!cv_load_seq(&run->closing)) {
        if (me->place == GIVER)
            give();
        else
            work();
    }
    return 0;
}
