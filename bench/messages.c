/* SPDX-License-Identifier: MIT */
/*
 * How fast messages are: one measurement of one channel in each run of this program. Prints lines
 * "QUESTION VALUE"; bench/messages.py asks.
 *
 *   messages CHANNEL QUESTION stream SIZE PRODUCERS CONSUMERS MANY   thousands of items in a second
 *   messages CHANNEL QUESTION each SIZE PRODUCERS CONSUMERS          microseconds for each of them
 *   messages CHANNEL QUESTION round SIZE       microseconds of a round trip of two that both run: the
 *                                              median, and as QUESTION_p99 what one in 100 takes
 *   messages CHANNEL QUESTION asleep SIZE      the same, both asleep before each message
 *   messages CHANNEL QUESTION one_cpu SIZE CPU     the same, both on that CPU
 */
#include "messages.h"

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    FIRST_BYTES = 4096,
    TRIPS_MAX = 200000,
    TRIPS_ASLEEP = 300,
    WARM_TRIPS = 100,
};

#define ENOUGH_S 0.02 /* of a first try, to say how many items are wanted */
#define STREAM_S 0.4
#define ROUND_S  0.5
#define ASLEEP_S 0.002

static struct plan plan;
static const struct channel *channel;
static const char *question;
static bool asks_each;

void fail_if(bool failed, const char *what)
{
    if (!failed)
        return;
    (void)fprintf(stderr, "bench/messages: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static double now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Streams ************************************************************************************ */

/* Each producer puts, and each consumer gets, its part of @n items: the sum of their first bytes. */
static uint64_t stream_part(unsigned me, uint64_t n, unsigned char *items)
{
    uint64_t batch = plan.many;
    uint64_t sum = 0;

    if (me < plan.producers) {
        for (uint64_t i = 0; i < n / plan.producers / batch; i++)
            channel->put(0, items);
        return 0;
    }
    for (uint64_t i = 0; i < n / plan.consumers / batch; i++) {
        channel->get(0, items);
        for (uint64_t k = 0; k < batch; k++)
            sum += items[k * plan.size];
    }
    return sum;
}

/* In rounds of more and more items, until one takes long enough to tell how many the last is to have. */
static void stream(unsigned me)
{
    unsigned crew = plan.producers + plan.consumers;
    uint64_t parts = (uint64_t)plan.producers * plan.consumers * plan.many;
    unsigned char *items = malloc(plan.size * plan.many);
    uint64_t n = FIRST_BYTES / (plan.size * plan.many) + 1;
    bool last = false;

    fail_if(!items || crew > CREW_MAX, "memory");
    memset(items, 1, plan.size * plan.many);
    if (channel->enter)
        channel->enter(me);
    for (;;) {
        double took_s;
        uint64_t sum;

        (void)crew_meet(0);
        took_s = now_s();
        sum = stream_part(me, n * parts, items);
        fail_if(me >= plan.producers && sum != n * parts / plan.consumers, "items have changed");
        (void)crew_meet(0);
        took_s = crew_meet(now_s() - took_s);
        if (last) {
            if (crew_speaks())
                (void)printf("%s %.4f\n", question,
                    asks_each ? took_s * 1e6 / (double)(n * parts)
                              : (double)(n * parts) / took_s / 1e3);
            break;
        }
        last = took_s >= ENOUGH_S;
        n = last ? (uint64_t)((double)n * STREAM_S / took_s) + 1 : n * 4;
    }
    if (channel->leave)
        channel->leave();
    free(items);
}

/* Round trips ******************************************************************************** */

static double sleep_s; /* before each trip */
static unsigned trips_wanted = TRIPS_MAX;

static int compare(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;

    return (*x > *y) - (*x < *y);
}

static double trip(unsigned me, void *item)
{
    double start_s = now_s();

    if (me == 0)
        channel->put(0, item);
    channel->get(me == 0, item);
    if (me != 0)
        channel->put(1, item);
    return now_s() - start_s;
}

static void sleep_for(double seconds)
{
    struct timespec t = {.tv_nsec = (long)(seconds * 1e9)};

    if (seconds > 0)
        (void)nanosleep(&t, NULL);
}

static void round_trips(unsigned me)
{
    double *took_s = malloc(TRIPS_MAX * sizeof *took_s);
    unsigned char *item = malloc(plan.size);
    unsigned n = trips_wanted;
    double each_s = 0;

    fail_if(!took_s || !item, "memory");
    memset(item, 1, plan.size);
    if (channel->enter)
        channel->enter(me);
    (void)crew_meet(0);
    for (unsigned i = 0; i < WARM_TRIPS; i++)
        each_s = trip(me, item);
    each_s = crew_meet(each_s);
    if (n * each_s > ROUND_S && n > TRIPS_ASLEEP)
        n = ROUND_S / each_s > TRIPS_ASLEEP ? (unsigned)(ROUND_S / each_s) : (unsigned)TRIPS_ASLEEP;
    for (unsigned i = 0; i < n; i++) {
        if (me == 0)
            sleep_for(sleep_s);
        took_s[i] = trip(me, item);
    }
    (void)crew_meet(0);
    if (crew_speaks()) {
        qsort(took_s, n, sizeof *took_s, compare);
        (void)printf("%s %.4f\n%s_p99 %.4f\n", question, took_s[n / 2] * 1e6, question,
            took_s[n - 1 - n / 100] * 1e6);
    }
    if (channel->leave)
        channel->leave();
    free(took_s);
    free(item);
}

/* What is asked ****************************************************************************** */

/* Said by number, since a launcher may have put each process on another one. */
static void stay_on(unsigned long cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    fail_if(sched_setaffinity(0, sizeof set, &set) != 0, "one CPU");
}

static unsigned long number(int argc, char **argv, int i, unsigned long otherwise)
{
    return i < argc ? strtoul(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    const char *how = argc > 3 ? argv[3] : "";
    bool streams = strcmp(how, "stream") == 0 || strcmp(how, "each") == 0;

    if (strcmp(how, "one_cpu") == 0)
        stay_on(number(argc, argv, 5, 0));
    crew_begin(&argc, &argv);
    for (channel = channels; channel->name; channel++) {
        if (argc > 1 && strcmp(channel->name, argv[1]) == 0)
            break;
    }
    if (argc < 4 || !channel->name)
        return EXIT_FAILURE;
    question = argv[2];
    asks_each = strcmp(how, "each") == 0;
    plan.size = number(argc, argv, 4, 8);
    plan.ways = streams ? 1 : 2;
    plan.producers = streams ? (unsigned)number(argc, argv, 5, 1) : 1;
    plan.consumers = streams ? (unsigned)number(argc, argv, 6, 1) : 1;
    plan.many = streams ? (unsigned)number(argc, argv, 7, 1) : 1;
    if (strcmp(how, "asleep") == 0) {
        sleep_s = ASLEEP_S;
        trips_wanted = TRIPS_ASLEEP;
    }
    channel->make(&plan);
    crew_work(plan.producers + plan.consumers, streams ? stream : round_trips);
    crew_end();
    return 0;
}
