/* SPDX-License-Identifier: MIT */
/* nng's ipc: each consumer has an end, to which each producer has one of its own: so all get
 * as much. */
#include "messages.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct plan *plan;
static char folder[] = "/tmp/bench-messages-XXXXXX";
static struct {
    nng_socket end[CREW_MAX];
    unsigned n;
    unsigned next;
} ways[WAYS_MAX];

static void make(const struct plan *p)
{
    plan = p;
    fail_if(!mkdtemp(folder), "mkdtemp");
}

static void name_end(char *name, size_t size, unsigned way, unsigned consumer)
{
    (void)snprintf(name, size, "ipc://%s/%u-%u", folder, way, consumer);
}

static void pull(unsigned way, unsigned me)
{
    nng_socket *end = &ways[way].end[ways[way].n++];
    char name[128];

    name_end(name, sizeof name, way, me);
    fail_if(nng_pull0_open(end) != 0, "nng_pull0_open");
    fail_if(nng_socket_set_size(*end, NNG_OPT_RECVMAXSZ, 0) != 0, "nng_socket_set_size");
    fail_if(nng_listen(*end, name, NULL, 0) != 0, "nng_listen");
}

static void push(unsigned way, unsigned first, unsigned n)
{
    char name[128];

    for (unsigned i = first; i < first + n; i++) {
        nng_socket *end = &ways[way].end[ways[way].n++];

        name_end(name, sizeof name, way, i);
        fail_if(nng_push0_open(end) != 0, "nng_push0_open");
        fail_if(nng_dial(*end, name, NULL, NNG_FLAG_NONBLOCK) != 0, "nng_dial");
    }
}

static void enter(unsigned me)
{
    if (me >= plan->producers)
        pull(0, me);
    else
        push(0, plan->producers, plan->consumers);
    if (plan->ways == 2 && me == 0)
        pull(1, 0);
    else if (plan->ways == 2)
        push(1, 0, 1);
    (void)usleep(500000); /* until all have found each other */
}

static void put(unsigned way, const void *items)
{
    nng_socket end = ways[way].end[ways[way].next];

    ways[way].next = (ways[way].next + 1) % ways[way].n;
    fail_if(nng_send(end, (void *)(size_t)items, plan->size, 0) != 0, "nng_send");
}

static void get(unsigned way, void *items)
{
    size_t size = plan->size;

    fail_if(nng_recv(ways[way].end[0], items, &size, 0) != 0, "nng_recv");
}

static void leave(void)
{
    for (unsigned i = 0; i < plan->ways; i++) {
        for (unsigned k = 0; k < ways[i].n; k++)
            (void)nng_close(ways[i].end[k]);
    }
    (void)rmdir(folder); /* by the last */
}

const struct channel channels[] = {
    {.name = "nng", .make = make, .enter = enter, .put = put, .get = get, .leave = leave},
    {0},
};
