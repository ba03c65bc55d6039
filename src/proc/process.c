/* SPDX-License-Identifier: MIT */
#include "proc/process.h"

#include "arena/family.h"
#include "base/atomic.h"
#include "base/error.h"
#include "os/clock.h"
#include "os/pid.h"
#include "proc/start.h"
#include "sync/wait.h"

#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MAGIC = 0x636f7270, /* "proc" */
    LOST_PIDFD_SLICE_NS = 5 * CV_NS_PER_MS,
    DAEMON_PATIENCE_NS = 100 * CV_NS_PER_MS,
};

/* What a process knows *********************************************************************** */

struct cv_own *cv_process_own(void)
{
    static struct cv_own *own; /* the page stays where it is in the children of a fork */
    struct cv_own *now = cv_load_acquire(&own);
    struct cv_own *none = NULL;

    if (now)
        return now;
    now = cv_wiped_alloc(sizeof *now);
    if (now && !cv_cas(&own, &none, now))
        return none; /* another thread was first; its bytes stay unused */
    return now;
}

covey_process *cv_process_record(uint64_t tag)
{
    return (covey_process *)(void *)cv_member_of(tag)->room;
}

/* By hand: what a child of a fork does not call, it need not have the kernel map for it. */
void cv_process_name(covey_process *p, pid_t pid)
{
    static const char prefix[] = "process-";
    char digits[16];
    char *end = p->name + sizeof prefix - 1;
    size_t n = 0;

    if (p->name[0])
        return;
    do {
        digits[n++] = (char)('0' + pid % 10);
        pid /= 10;
    } while (pid);
    memcpy(p->name, prefix, sizeof prefix - 1);
    while (n)
        *end++ = digits[--n];
}

/* A process that nobody has started through covey writes its own record, at its first use of it. */
static covey_process *own_record(void)
{
    covey_process *p = cv_process_record(cv_self->tag);

    if (cv_load_acquire(&p->magic) != MAGIC) {
        p->pid = (uint32_t)getpid();
        p->tag = cv_self->tag;
        p->pidfd = -1;
        p->started = 1;
        cv_process_name(p, getpid());
        cv_store_release(&p->magic, MAGIC);
    }
    return p;
}

static bool is_record(const covey_process *p)
{
    uintptr_t offset = (uintptr_t)p - (uintptr_t)cv_arena.members;
    uint32_t used = cv_load_acquire(&cv_arena.family->slots_used);

    return offset / sizeof(struct cv_member) < used &&
           offset % sizeof(struct cv_member) == offsetof(struct cv_member, room);
}

static int check(const covey_process *p)
{
    int r = cv_enter();

    if (r != 0)
        return r;
    if (!p || (p != &cv_process_own()->parent && !is_record(p)) ||
        cv_load_acquire(&p->magic) != MAGIC)
        return cv_fail(COVEY_EINVAL, "%p is not a process of this family", (const void *)p);
    return 0;
}

/* A handle that this process may give back: it has started the process, and not closed it. */
static bool is_mine(const covey_process *p)
{
    return cv_load_relaxed(&p->parent) == cv_self->tag;
}

/* To the kernel, too. */
static bool is_my_child(const covey_process *p)
{
    return cv_load_acquire(&p->reaper) == cv_self->tag;
}

/* Before the start ************************************************************************** */

int cv_process_prepare(const struct covey_process_options *options, covey_process **process)
{
    uint64_t tag = cv_member_reserve();
    covey_process *p;

    if (!tag)
        return covey_error_code();
    (void)own_record(); /* the child will want to know its parent */
    p = cv_process_record(tag);
    cv_store_relaxed(&p->tag, tag);
    cv_store_relaxed(&p->parent, cv_self->tag);
    cv_store_relaxed(&p->daemon, (uint8_t)options->daemon);
    cv_store_relaxed(&p->detached, (uint8_t)(options->process == NULL));
    p->pidfd = -1;
    p->bell = CV_BELL_QUIET;
    p->method = (uint8_t)options->method;
    if (options->name)
        memcpy(p->name, options->name, strlen(options->name) + 1);
    cv_store_release(&p->magic, MAGIC);
    *process = p;
    return 0;
}

void cv_process_cancel(covey_process *p)
{
    uint64_t tag = p->tag;

    cv_store_release(&p->magic, 0);
    if (p->pidfd >= 0)
        (void)close(p->pidfd);
    cv_member_cancel(tag);
}

/* The end ************************************************************************************ */

/* The caller knows that the process is dead. */
static void bury(uint64_t tag)
{
    if (!cv_member_end_born(tag)) {
        cv_member_set_dead(tag);
        (void)cv_member_bury(tag);
    }
}

void cv_process_set_ended(covey_process *p, uint32_t kind, int wait_status)
{
    int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -WTERMSIG(wait_status);
    uint64_t tag = p->tag;

    cv_alarm_set(&p->alarm);
    (void)cv_cas32(&p->ended, CV_RUNNING, (uint32_t)code << 16 | kind);
    cv_bell_ring(&p->bell, INT_MAX);
    cv_alarm_clear();
    bury(tag);
}

/* The status has been taken away by somebody else. What is left to know? */
static void set_ended_lost(covey_process *p)
{
    uint32_t own_exit = cv_load_acquire(&p->own_exit);
    int wait_status = 0;

    if (p->pidfd >= 0 && is_mine(p) && cv_pid_exit_info(p->pidfd, &wait_status))
        cv_process_set_ended(p, CV_ENDED, wait_status);
    else if (own_exit & CV_RETURNED)
        cv_process_set_ended(p, CV_ENDED, (int)(own_exit & 0xff) << 8);
    else
        cv_process_set_ended(p, CV_ENDED_LOST, 0);
}

/* Looks at a child of this process: true when it has ended. The zombie goes last. */
static bool look_at_child(covey_process *p)
{
    pid_t pid = (pid_t)p->pid;
    int status = 0;
    int r = cv_pid_reap(pid, p->pidfd, true, &status);

    if (r == 0)
        return false;
    if (r > 0) {
        cv_process_set_ended(p, CV_ENDED, status);
        (void)cv_pid_reap(pid, p->pidfd, false, &status);
    } else {
        set_ended_lost(p);
    }
    return true;
}

static int wait_for_child(covey_process *p, uint64_t deadline_ns)
{
    while (!cv_load_acquire(&p->ended) && !look_at_child(p)) {
        uint64_t now = cv_clock_now();
        int r;

        if (deadline_ns <= now)
            return COVEY_ETIMEDOUT;
        if (p->pidfd >= 0) {
            r = cv_pid_wait(p->pidfd, deadline_ns);
        } else { /* there was no descriptor left when it was started */
            cv_clock_sleep(
                deadline_ns - now < LOST_PIDFD_SLICE_NS ? deadline_ns - now : LOST_PIDFD_SLICE_NS);
            r = 0;
        }
        if (r == COVEY_EINTR)
            r = cv_wait_interrupted();
        if (r < 0 && r != COVEY_ETIMEDOUT)
            return r;
    }
    return 0;
}

/*
 * For all but its parent to the kernel: the member's life, and, where that is a fork server, what
 * it will soon write.
 */
static int wait_for_other(covey_process *p, uint64_t deadline_ns)
{
    struct cv_wait wait = {.deadline_ns = deadline_ns};
    uint64_t reaper = cv_load_acquire(&p->reaper);
    bool is_served = is_mine(p);
    int r = 0;

    while (!cv_load_acquire(&p->ended)) {
        uint64_t lives[2] = {p->tag, reaper};
        struct cv_futex_watch words[] = {{&p->bell, CV_BELL_ARMED}, {&p->ended, CV_RUNNING}};
        unsigned first = 0;

        if (cv_member_is_dead(p->tag, 0)) {
            if (!is_served)
                break;
            if (!reaper || cv_member_is_dead(reaper, 0)) {
                set_ended_lost(p);
                break;
            }
            first = 1;
        }
        if (r < 0)
            break;
        cv_bell_arm(&p->bell);
        r = cv_wait_sleep(
            &wait, &p->alarm, words, 2, lives + first, is_served && reaper ? 2 - first : 1);
    }
    cv_wait_end(&wait);
    return r < 0 && !cv_load_acquire(&p->ended) && !cv_member_is_dead(p->tag, 0) ? r : 0;
}

void cv_process_reap_detached(void)
{
    struct cv_own *own = cv_process_own();
    uint32_t used;

    if (!own || !cv_load_relaxed(&own->children))
        return;
    used = cv_load_acquire(&cv_arena.family->slots_used);
    for (uint32_t i = 0; i < used; i++) {
        covey_process *p = (covey_process *)(void *)cv_arena.members[i].room;

        if (cv_load_acquire(&p->magic) != MAGIC || !is_mine(p) || !cv_load_relaxed(&p->detached) ||
            !is_my_child(p) || !look_at_child(p))
            continue;
        if (p->pidfd >= 0)
            (void)close(p->pidfd);
        __atomic_fetch_sub(&own->children, 1, __ATOMIC_RELAXED);
        cv_store_release(&p->magic, 0);
        cv_member_forget(p->tag);
    }
}

/* What the dead process's daemons may still be writing to must not be given to others. */
static bool end_daemon(uint64_t tag)
{
    int pidfd;

    if (cv_pid_open(cv_member_pid(tag), &pidfd) == 0) {
        if (!cv_member_is_dead(tag, 0)) /* still: so that descriptor is its own */
            (void)cv_pid_signal(pidfd, SIGKILL);
        (void)close(pidfd);
    }
    return cv_member_is_dead(tag, DAEMON_PATIENCE_NS);
}

/* This process is leaving the family: no handle of it is valid any more. */
static void let_go(covey_process *p)
{
    if (is_my_child(p))
        (void)look_at_child(p);
    if (p->pidfd >= 0)
        (void)close(p->pidfd);
    p->pidfd = -1;
}

/*
 * The process floor's part of a burial, for one slot: if it is a daemon of the dead process, it
 * must end first; and nobody needs its record any more.
 */
static bool sweep_child(uint64_t tag, enum cv_phase phase, uint64_t dead)
{
    covey_process *p = cv_process_record(tag);

    if (cv_load_acquire(&p->magic) != MAGIC || cv_load_relaxed(&p->parent) != dead)
        return true;
    cv_member_forget(tag);
    if (phase == CV_ALIVE && cv_load_relaxed(&p->daemon) && !cv_member_is_dead(tag, 0) &&
        !end_daemon(tag))
        return false;
    if (dead == cv_self->tag)
        let_go(p);
    return true;
}

struct sweep {
    uint64_t dead;
    bool done;
};

static bool visit_for_sweep(uint64_t tag, enum cv_phase phase, void *context)
{
    struct sweep *s = context;

    if (tag != s->dead)
        s->done &= sweep_child(tag, phase, s->dead);
    return true;
}

static bool sweep(uint64_t tag)
{
    struct sweep s = {tag, true};

    cv_member_each(visit_for_sweep, &s);
    if (tag == cv_self->tag) /* leaving, not dead */
        cv_server_forget();
    return s.done;
}

__attribute__((constructor)) static void register_sweep(void)
{
    cv_member_add_sweep(sweep);
}

/* Public ************************************************************************************* */

int covey_process_join(covey_process *process, double timeout_s)
{
    uint64_t deadline_ns;
    int r = check(process);

    if (r == 0)
        r = cv_clock_deadline(timeout_s, &deadline_ns);
    if (r != 0)
        return r;
    if (!cv_load_acquire(&process->ended))
        r = is_my_child(process) ? wait_for_child(process, deadline_ns)
                                 : wait_for_other(process, deadline_ns);
    if (r == COVEY_ETIMEDOUT)
        return cv_fail(r, "process %s (pid %d) has not ended within %g s", process->name,
            (int)process->pid, timeout_s);
    if (r == 0 && cv_load_acquire(&process->failure))
        return cv_fail(
            process->failure, "process %s could not start: %s", process->name, process->message);
    return r;
}

int covey_process_is_alive(covey_process *process)
{
    int r = check(process);

    if (r != 0)
        return r;
    if (cv_load_acquire(&process->ended))
        return 0;
    return is_my_child(process) ? !look_at_child(process) : !cv_member_is_dead(process->tag, 0);
}

int covey_process_exit_code(covey_process *process, int *code)
{
    int alive = covey_process_is_alive(process);
    uint32_t ended;

    if (alive < 0)
        return alive;
    if (!code)
        return cv_fail(COVEY_EINVAL, "code is NULL");
    if (alive)
        return cv_fail(COVEY_ESTATE, "process %s is running", process->name);
    ended = cv_load_acquire(&process->ended);
    switch (ended & 0xffff) {
    case CV_ENDED:
        *code = (int16_t)(ended >> 16);
        return 0;
    case CV_ENDED_LOST:
        return cv_fail(COVEY_EDIED,
            "process %s has ended, and its status went to somebody else in its parent",
            process->name);
    default:
        return cv_fail(COVEY_ESTATE, "process %s has ended, and its parent has not yet asked how",
            process->name);
    }
}

int covey_process_signal(covey_process *process, int signal)
{
    int alive = covey_process_is_alive(process);
    int pidfd;
    int r;

    if (alive < 0)
        return alive;
    if (signal < 0 || signal > SIGRTMAX)
        return cv_fail(COVEY_EINVAL, "%d is not a signal", signal);
    if (!alive)
        return 0;
    if (is_mine(process) && process->pidfd >= 0) {
        r = cv_pid_signal(process->pidfd, signal);
        return r == COVEY_EDIED ? 0 : r;
    }
    if (is_my_child(process)) {
        r = cv_pid_signal_child((pid_t)process->pid, signal);
        return r == COVEY_EDIED ? 0 : r;
    }
    r = cv_pid_open((pid_t)process->pid, &pidfd);
    if (r != 0)
        return r == COVEY_EDIED ? 0 : r;
    if (covey_process_is_alive(process) == 1) /* so the descriptor is of this very process */
        r = cv_pid_signal(pidfd, signal);
    (void)close(pidfd);
    return r == COVEY_EDIED ? 0 : r;
}

int covey_process_terminate(covey_process *process)
{
    return covey_process_signal(process, SIGTERM);
}

int covey_process_kill(covey_process *process)
{
    return covey_process_signal(process, SIGKILL);
}

pid_t covey_process_pid(covey_process *process)
{
    int r = check(process);

    return r != 0 ? r : (pid_t)process->pid;
}

const char *covey_process_name(covey_process *process)
{
    return check(process) == 0 ? process->name : NULL;
}

int covey_process_is_daemon(covey_process *process)
{
    int r = check(process);

    return r != 0 ? r : process->daemon;
}

static int check_mine(const covey_process *process)
{
    int r = check(process);

    if (r == 0 && !is_mine(process))
        return cv_fail(COVEY_ENOTOWNER, "process %s was not started by this one", process->name);
    return r;
}

int covey_process_fd(covey_process *process)
{
    int r = check_mine(process);

    if (r != 0)
        return r;
    if (process->pidfd < 0) {
        r = cv_pid_open((pid_t)process->pid, &process->pidfd);
        if (r != 0)
            return r;
    }
    return process->pidfd;
}

int covey_process_close(covey_process *process)
{
    int alive;
    int r;

    if (!process)
        return 0;
    r = check_mine(process);
    if (r != 0)
        return r;
    alive = covey_process_is_alive(process);
    if (alive)
        return alive < 0 ? alive : cv_fail(COVEY_ESTATE, "process %s is running", process->name);
    if (process->pidfd >= 0)
        (void)close(process->pidfd);
    cv_store_release(&process->magic, 0);
    cv_member_forget(process->tag);
    return 0;
}

covey_process *covey_process_current(void)
{
    return cv_enter() == 0 ? own_record() : NULL;
}

covey_process *covey_process_parent(void)
{
    struct cv_own *own;

    if (cv_enter() != 0 || !(own = cv_process_own()) || own->parent.magic != MAGIC)
        return NULL;
    return &own->parent;
}

struct children {
    covey_process **list;
    size_t room;
    int count;
};

static bool visit_child(uint64_t tag, enum cv_phase phase, void *context)
{
    covey_process *p = cv_process_record(tag);
    struct children *c = context;

    (void)phase;
    if (cv_load_acquire(&p->magic) != MAGIC || !is_mine(p) || cv_load_relaxed(&p->detached) ||
        !cv_load_acquire(&p->started) || covey_process_is_alive(p) != 1)
        return true;
    if ((size_t)c->count < c->room)
        c->list[c->count] = p;
    c->count++;
    return true;
}

int covey_active_children(covey_process **children, size_t room)
{
    struct children c = {children, room, 0};
    int r = cv_enter();

    if (r != 0)
        return r;
    if (!children && room)
        return cv_fail(COVEY_EINVAL, "children is NULL, with room for %zu", room);
    cv_process_reap_detached();
    cv_member_each(visit_child, &c);
    return c.count;
}

struct find {
    pid_t pid;
    covey_process *found;
};

static bool visit_to_find(uint64_t tag, enum cv_phase phase, void *context)
{
    covey_process *p = cv_process_record(tag);
    struct find *f = context;

    (void)phase;
    if (cv_load_acquire(&p->magic) == MAGIC && is_mine(p) && cv_load_acquire(&p->started) &&
        (pid_t)p->pid == f->pid && !cv_load_acquire(&p->ended))
        f->found = p;
    return !f->found;
}

covey_process *covey_process_find(pid_t pid)
{
    struct find f = {pid, NULL};

    if (cv_enter() != 0)
        return NULL;
    cv_member_each(visit_to_find, &f);
    if (!f.found)
        (void)cv_fail(COVEY_EINVAL, "pid %d is not a running child of this process", (int)pid);
    else if (cv_exchange(&f.found->detached, 0)) {
        __atomic_fetch_sub(&cv_process_own()->children, 1, __ATOMIC_RELAXED);
    }
    return f.found;
}
