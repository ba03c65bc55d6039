/* SPDX-License-Identifier: MIT */
/* Boost.Interprocess's message queue, and no robust one. */
#include "messages.h"

#include <boost/interprocess/ipc/message_queue.hpp>

#include <algorithm>
#include <cstdio>
#include <unistd.h>

namespace ipc = boost::interprocess;

namespace {

constexpr std::size_t bytes_max = 1 << 20;
constexpr std::size_t items_min = 4;

const plan *the_plan;
ipc::message_queue *queue[WAYS_MAX];

void make(const plan *p)
{
    the_plan = p;
    for (unsigned i = 0; i < p->ways; i++) {
        char name[64];

        std::snprintf(name, sizeof name, "bench-messages-%d-%u", static_cast<int>(getpid()), i);
        queue[i] = new ipc::message_queue(ipc::create_only, name,
            std::max(bytes_max / (p->size + 16), items_min), p->size);
        ipc::message_queue::remove(name);
    }
}

void put(unsigned way, const void *items)
{
    queue[way]->send(items, the_plan->size, 0);
}

void get(unsigned way, void *items)
{
    ipc::message_queue::size_type size;
    unsigned priority;

    queue[way]->receive(items, the_plan->size, size, priority);
}

} // namespace

extern "C" const channel channels[] = {
    {"boost", false, make, nullptr, put, get, nullptr},
    {nullptr, false, nullptr, nullptr, nullptr, nullptr, nullptr},
};
