/* SPDX-License-Identifier: MIT */
/* ZeroMQ's ipc: each consumer has an end, to which each producer has one of its own: so all get
 * as much. */
#include "messages.h"

#include <zmq.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct plan *plan;
static char folder[] = "/tmp/bench-messages-XXXXXX";
static void *context;
static struct {
    void *end[CREW_MAX];
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

static void *open_end(unsigned way, int kind)
{
    void *end = zmq_socket(context, kind);

    fail_if(!end, "zmq_socket");
    ways[way].end[ways[way].n++] = end;
    return end;
}

static void pull(unsigned way, unsigned me)
{
    char name[128];

    name_end(name, sizeof name, way, me);
    fail_if(zmq_bind(open_end(way, ZMQ_PULL), name) != 0, "zmq_bind");
}

static void push(unsigned way, unsigned first, unsigned n)
{
    char name[128];

    for (unsigned i = first; i < first + n; i++) {
        name_end(name, sizeof name, way, i);
        fail_if(zmq_connect(open_end(way, ZMQ_PUSH), name) != 0, "zmq_connect");
    }
}

static void enter(unsigned me)
{
    context = zmq_ctx_new();
    fail_if(!context, "zmq_ctx_new");
    if (me >= plan->producers)
        pull(0, me);
    else
        push(0, plan->producers, plan->consumers);
    if (plan->ways == 2 && me == 0)
        pull(1, 0);
    else if (plan->ways == 2)
        push(1, 0, 1);
    (void)usleep(200000); /* until all have found each other */
}

static void put(unsigned way, const void *items)
{
    void *end = ways[way].end[ways[way].next];

    ways[way].next = (ways[way].next + 1) % ways[way].n;
    fail_if(zmq_send(end, items, plan->size, 0) < 0, "zmq_send");
}

static void get(unsigned way, void *items)
{
    fail_if(zmq_recv(ways[way].end[0], items, plan->size, 0) < 0, "zmq_recv");
}

static void leave(void)
{
    int none = 0;

    for (unsigned i = 0; i < plan->ways; i++) {
        for (unsigned k = 0; k < ways[i].n; k++) {
            (void)zmq_setsockopt(ways[i].end[k], ZMQ_LINGER, &none, sizeof none);
            (void)zmq_close(ways[i].end[k]);
        }
    }
    (void)zmq_ctx_term(context);
    (void)rmdir(folder); /* by the last */
}

const struct channel channels[] = {
    {.name = "zeromq", .make = make, .enter = enter, .put = put, .get = get, .leave = leave},
    {0},
};
