/* SPDX-License-Identifier: MIT */
/* Printing who waits for what, and who holds it: for people. */
#include "base/error.h"
#include "os/clock.h"
#include "os/descriptor.h"
#include "sync/holders.h"
#include "sync/lock.h"
#include "sync/waiter.h"

#include <covey/family.h>

#include <stdarg.h>
#include <stdio.h>

enum {
    LINE_BYTES = 512,
    HOLDERS_MAX = 16,
};

struct out {
    int fd;
    bool failed;
    char line[LINE_BYTES];
    size_t length;
};

__attribute__((format(printf, 2, 3))) static void add(struct out *o, const char *format, ...)
{
    size_t room = sizeof o->line - o->length;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(o->line + o->length, room, format, args);
    va_end(args);
    if (n > 0)
        o->length += (size_t)n < room ? (size_t)n : room - 1;
}

static void end_line(struct out *o)
{
    add(o, "\n");
    o->line[o->length - 1] = '\n';
    o->failed |= !cv_descriptor_write(o->fd, o->line, o->length);
    o->length = 0;
}

static void add_object(struct out *o, const void *object, enum cv_kind kind)
{
    if (kind == CV_PROCESS)
        add(o, "the end of process %d", (int)cv_member_pid(cv_member_tag_at(object)));
    else
        add(o, "%s %p", cv_object_name(kind), object);
}

static void add_holders(struct out *o, void *object, enum cv_kind kind)
{
    struct cv_hold holds[HOLDERS_MAX];
    unsigned n = cv_holders_of(object, kind, holds, HOLDERS_MAX);

    for (unsigned i = 0; i < n; i++) {
        uint64_t tag = cv_member_marked(holds[i].mark);

        add(o, "%s process %d", i == 0 ? " held by" : ",", (int)cv_lock_pid(holds[i].mark));
        if (holds[i].tid)
            add(o, " thread %u", holds[i].tid);
        if (holds[i].permits)
            add(o, " (%u)", holds[i].permits);
        if (!tag || cv_member_is_dead(tag, 0))
            add(o, " (dead)");
    }
}

static bool print_waiter(struct cv_waiter *w, void *context)
{
    struct out *o = context;
    uint64_t object = cv_load_seq(&w->object);
    uint64_t owner = cv_load_acquire(&w->owner);

    if (!object || (object & CV_WAITER_AWAKE) || !owner)
        return true;
    add(o, "process %d thread %u waits for ", (int)cv_member_pid(owner), cv_load_relaxed(&w->tid));
    add_object(o, cv_waiter_address(object), cv_waiter_kind(object));
    add_holders(o, cv_waiter_address(object), cv_waiter_kind(object));
    add(o, ", for %.3f s", (double)(cv_clock_now() - cv_load_relaxed(&w->since_ns)) / CV_NS_PER_S);
    end_line(o);
    return true;
}

static void print_held(void *object, enum cv_kind kind, void *context)
{
    struct out *o = context;
    struct cv_hold hold;

    if (!cv_holders_of(object, kind, &hold, 1))
        return;
    add_object(o, object, kind);
    add_holders(o, object, kind);
    end_line(o);
}

int covey_waits_print(int fd)
{
    struct out o = {.fd = fd};
    int r = cv_enter();

    if (r != 0)
        return r;
    cv_waiter_each(UINT64_MAX, print_waiter, &o);
    cv_object_each(print_held, &o);
    return o.failed ? cv_fail_errno("descriptor %d cannot be written to", fd) : 0;
}
