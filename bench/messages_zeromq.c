/* SPDX-License-Identifier: MIT */
/* ZeroMQ's ipc: each consumer has an end that all producers push to. */
#include "messages.h"

#include <zmq.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct plan *plan;
static char folder[] = "/tmp/bench-messages-XXXXXX";
static void *context;
static void *end[WAYS_MAX];

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
    char name[128];

    end[way] = zmq_socket(context, ZMQ_PULL);
    name_end(name, sizeof name, way, me);
    fail_if(!end[way] || zmq_bind(end[way], name) != 0, "zmq_bind");
}

static void push(unsigned way, unsigned first, unsigned n)
{
    char name[128];

    end[way] = zmq_socket(context, ZMQ_PUSH);
    fail_if(!end[way], "zmq_socket");
    for (unsigned i = first; i < first + n; i++) {
        name_end(name, sizeof name, way, i);
        fail_if(zmq_connect(end[way], name) != 0, "zmq_connect");
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
    fail_if(zmq_send(end[way], items, plan->size, 0) < 0, "zmq_send");
}

static void get(unsigned way, void *items)
{
    fail_if(zmq_recv(end[way], items, plan->size, 0) < 0, "zmq_recv");
}

static void leave(void)
{
    int none = 0;

    for (unsigned i = 0; i < plan->ways; i++) {
        (void)zmq_setsockopt(end[i], ZMQ_LINGER, &none, sizeof none);
        (void)zmq_close(end[i]);
    }
    (void)zmq_ctx_term(context);
    (void)rmdir(folder); /* by the last */
}

const struct channel channels[] = {
    {.name = "zeromq", .make = make, .enter = enter, .put = put, .get = get, .leave = leave},
    {0},
};
