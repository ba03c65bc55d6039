/* SPDX-License-Identifier: MIT */
#include "proc/process.h"

#include "arena/family.h"
#include "base/atomic.h"
#include "base/error.h"
#include "base/mutation.h"
#include "os/clock.h"
#include "os/pid.h"
#include "proc/start.h"
#include "sync/any.h"

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
    REAPER_PATIENCE_NS = 500 * CV_NS_PER_MS,
};

/* What a process knows *********************************************************************** */

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
    covey_process *p = cv_process_record(cv_self.tag);

    if (cv_load_acquire(&p->magic) != MAGIC) {
        p->pid = (uint32_t)getpid();
        cv_store_relaxed(&p->tag, cv_self.tag);
        p->pidfd = CV_NO_DESCRIPTOR;
        p->started = 1;
        p->ended = cv_process_running(cv_self.tag);
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
        return cv_fail_object(p, "process");
    return 0;
}

/* A handle that this process may give back: it has started the process, and not closed it. */
static bool is_mine(const covey_process *p)
{
    return cv_load_relaxed(&p->parent) == cv_self.tag;
}

/* To the kernel, too. */
static bool is_my_child(const covey_process *p)
{
    return cv_load_acquire(&p->reaper) == cv_self.tag;
}

/* Before the start ************************************************************************** */

int cv_process_prepare(const struct covey_process_options *options, covey_process **process)
{
    uint64_t tag = cv_member_reserve(options->method != COVEY_FORK);
    covey_process *p;

    if (!tag)
        return covey_error_code();
    (void)own_record(); /* the child will want to know its parent */
    p = cv_process_record(tag);
    cv_store_relaxed(&p->tag, tag);
    cv_store_relaxed(&p->parent, cv_self.tag);
    cv_store_relaxed(&p->daemon, (uint8_t)options->daemon);
    cv_store_relaxed(
        &p->detached, cv_process_handle(tag, options->process ? CV_ATTACHED : CV_STARTING));
    cv_store_relaxed(&p->ended, cv_process_running(tag));
    p->pidfd = CV_NO_DESCRIPTOR;
    cv_alarm_init(p->alarm, 1);
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
    cv_descriptor_close(&p->pidfd);
    cv_member_cancel(tag);
}

void cv_process_set_started(covey_process *p, pid_t pid)
{
    cv_member_hand_over(p->tag, pid);
    (void)cv_pid_open(pid, &p->pidfd);
    cv_store_relaxed(&p->pid, (uint32_t)pid);
    cv_process_name(p, pid);
    cv_store_release(&p->reaper, cv_self.tag);
    cv_store_release(&p->started, 1);
}

void cv_process_detach(covey_process *p)
{
    uint32_t detached = cv_process_handle(p->tag, CV_DETACHED);

    __atomic_fetch_add(&cv_process_own()->children, 1, __ATOMIC_RELAXED);
    cv_store_release(&p->detached, detached);
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

bool cv_process_set_ended(covey_process *p, uint64_t tag, uint32_t kind, int wait_status)
{
    int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -WTERMSIG(wait_status);
    uint32_t running = cv_process_running(tag);
    bool first;

    cv_alarm_set(p->alarm);
    first = cv_cas32(&p->ended, running, (uint32_t)code << 16 | running | kind);
    cv_bell_ring(p->bell, INT_MAX);
    cv_alarm_clear();
    bury(tag);
    return first;
}

/* Its descriptor, if the program has not closed it; for the process that started it. */
static int pidfd_of(const covey_process *p)
{
    return is_mine(p) && cv_descriptor_is_ours(&p->pidfd) ? p->pidfd.fd : -1;
}

void cv_process_set_lost(covey_process *p, uint64_t tag)
{
    uint32_t own_exit = cv_load_acquire(&p->own_exit);
    int pidfd = pidfd_of(p);
    int wait_status = 0;

    if (!CV_RECOVERS(process_lost))
        return;
    if (pidfd >= 0 && cv_pid_exit_info(pidfd, &wait_status))
        (void)cv_process_set_ended(p, tag, CV_ENDED, wait_status);
    else if (own_exit & CV_RETURNED)
        (void)cv_process_set_ended(p, tag, CV_ENDED, (int)(own_exit & 0xff) << 8);
    else
        (void)cv_process_set_ended(p, tag, CV_ENDED_LOST, 0);
}

/*
 * Looks at a child of this process: true when it has ended. The zombie goes last. Should another
 * thread give the record up meanwhile, and a third start a process in it, then what is seen here of
 * that one is not written, for the tag was read first.
 */
static bool look_at_child(covey_process *p)
{
    uint64_t tag = cv_load_acquire(&p->tag);
    pid_t pid = (pid_t)cv_load_acquire(&p->pid);
    int status = 0;
    int r = cv_pid_look(pid, pidfd_of(p), &status);

    if (r == 0)
        return false;
    if (r < 0)
        cv_process_set_lost(p, tag);
    else if (cv_process_set_ended(p, tag, CV_ENDED, status))
        cv_pid_reap(pid);
    return true;
}

static int wait_for_child(covey_process *p, uint64_t deadline_ns)
{
    struct cv_wait wait = {.object = cv_waiter_object(p, CV_PROCESS)};
    int r = 0;

    while (r == 0 && !cv_process_has_ended(p) && !look_at_child(p)) {
        uint64_t now = cv_clock_now();
        int pidfd = pidfd_of(p);

        if (deadline_ns <= now) {
            r = COVEY_ETIMEDOUT;
        } else if ((r = cv_wait_show(&wait)) != 0) {
            /* it waits for this process */
        } else if (pidfd >= 0) {
            r = cv_pid_wait(pidfd, deadline_ns);
        } else { /* no descriptor was left when it was started, or the program has closed it */
            cv_clock_sleep(
                deadline_ns - now < LOST_PIDFD_SLICE_NS ? deadline_ns - now : LOST_PIDFD_SLICE_NS);
            r = 0;
        }
        cv_wait_hide(&wait);
        if (r == COVEY_EINTR)
            r = cv_wait_interrupted(NULL);
        else if (r == COVEY_ETIMEDOUT && cv_clock_now() < deadline_ns)
            r = 0;
    }
    cv_wait_end(&wait);
    return cv_process_has_ended(p) ? 0 : r;
}

/*
 * For all but its parent to the kernel: the member's life, and, where that is a fork server, what
 * it will soon write.
 */
static int wait_for_other(covey_process *p, uint64_t deadline_ns)
{
    struct cv_wait wait = {.deadline_ns = deadline_ns, .object = cv_waiter_object(p, CV_PROCESS)};
    uint64_t reaper = is_mine(p) ? cv_load_acquire(&p->reaper) : 0;
    uint32_t running = cv_process_running(p->tag);
    struct cv_futex_watch ended = {&p->ended, running};
    bool patient = false;
    bool dead = false;
    int r = 0;

    while (!cv_process_has_ended(p)) {
        uint64_t lives[2];
        unsigned n = 0;

        if (CV_RECOVERS(process_reaper) && reaper && cv_member_is_dead(reaper, 0))
            reaper = 0;
        dead = cv_member_is_dead(p->tag, 0);
        if (dead && !reaper) {
            if (is_mine(p))
                cv_process_set_lost(p, p->tag);
            break;
        }
        if (r < 0)
            break;
        if (!dead)
            lives[n++] = p->tag;
        else if (!patient && wait.deadline_ns < cv_clock_now() + REAPER_PATIENCE_NS)
            wait.deadline_ns = cv_clock_now() + REAPER_PATIENCE_NS; /* any moment now */
        patient = dead;
        if (reaper)
            lives[n++] = reaper;
        r = cv_wait_sleep_armed(&wait, p->alarm, cv_bell_arm(p->bell), &ended, 1, lives, n);
    }
    cv_wait_end(&wait);
    return r < 0 && !cv_process_has_ended(p) && (!dead || reaper) ? r : 0;
}

/* A detached child of the fork server has ended when that says so, or can no longer say it. */
static bool served_has_ended(covey_process *p)
{
    return cv_process_has_ended(p) ||
           (cv_member_is_dead(p->tag, 0) && cv_member_is_dead(cv_load_acquire(&p->reaper), 0));
}

/* Changes what handle the process of @tag has; false if another thread has done so before. */
static bool change_handle(covey_process *p, uint64_t tag, uint32_t from, uint32_t to)
{
    return cv_cas32(&p->detached, cv_process_handle(tag, from), cv_process_handle(tag, to));
}

static void reap_detached(covey_process *p)
{
    uint64_t tag = cv_load_acquire(&p->tag);

    if (cv_load_acquire(&p->magic) != MAGIC || !is_mine(p) ||
        !change_handle(p, tag, CV_DETACHED, CV_TAKING))
        return;
    if (!(is_my_child(p) ? look_at_child(p) : served_has_ended(p))) {
        (void)change_handle(p, tag, CV_TAKING, CV_DETACHED);
        return;
    }
    cv_descriptor_close(&p->pidfd);
    __atomic_fetch_sub(&cv_process_own()->children, 1, __ATOMIC_RELAXED);
    cv_store_release(&p->magic, 0);
    cv_member_forget(p->tag);
}

void cv_process_reap_detached(void)
{
    struct cv_own *own = cv_process_own();
    uint32_t used;

    if (!cv_load_relaxed(&own->children))
        return;
    used = cv_load_acquire(&cv_arena.family->slots_used);
    for (uint32_t i = 0; i < used; i++)
        reap_detached((covey_process *)(void *)cv_arena.members[i].room);
}

struct sweep {
    uint64_t dead;
    uint64_t deadline_ns; /* for its daemons to end */
    bool done;
};

/*
 * What the dead process's daemons may still be writing to must not be given to others. A process
 * that has been killed looks alive until it runs again: its descriptor tells when it has ended.
 */
static bool end_daemon(uint64_t tag, uint64_t deadline_ns)
{
    struct cv_descriptor pidfd;

    if (cv_pid_open(cv_member_pid(tag), &pidfd) == 0) {
        if (!cv_member_is_dead(tag, 0)) { /* still: so that descriptor is its own */
            (void)cv_pid_signal(pidfd.fd, SIGKILL);
            while (cv_pid_wait(pidfd.fd, deadline_ns) == COVEY_EINTR) {
            }
        }
        cv_descriptor_close(&pidfd);
    }
    return cv_member_is_dead(tag, 0);
}

/* This process is leaving the family: no handle of it is valid any more. */
static void let_go(covey_process *p)
{
    if (is_my_child(p))
        (void)look_at_child(p);
    cv_descriptor_close(&p->pidfd);
}

/*
 * The process floor's part of a burial, for one slot: if it is a daemon of the dead process, it
 * must end first; and nobody needs its record any more.
 */
static bool sweep_child(uint64_t tag, enum cv_phase phase, const struct sweep *s)
{
    covey_process *p = cv_process_record(tag);

    if (cv_load_acquire(&p->magic) != MAGIC || cv_load_relaxed(&p->parent) != s->dead)
        return true;
    cv_member_forget(tag);
    if (CV_RECOVERS(process_daemons) && phase == CV_ALIVE && cv_load_relaxed(&p->daemon) &&
        !cv_member_is_dead(tag, 0) && !end_daemon(tag, s->deadline_ns))
        return false;
    if (s->dead == cv_self.tag)
        let_go(p);
    return true;
}

static bool visit_for_sweep(uint64_t tag, enum cv_phase phase, void *context)
{
    struct sweep *s = context;

    if (tag != s->dead)
        s->done &= sweep_child(tag, phase, s);
    return true;
}

static bool sweep(uint64_t tag)
{
    struct sweep s = {tag, cv_clock_now() + DAEMON_PATIENCE_NS, true};

    cv_member_each(visit_for_sweep, &s);
    if (tag == cv_self.tag) { /* leaving, not dead */
        cv_server_forget();
        cv_process_own()->parent.magic = 0;
    }
    return s.done;
}

__attribute__((constructor)) static void register_sweep(void)
{
    cv_member_set_sweep(CV_SWEEP_PROCESSES, sweep);
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
    if (process->tag == cv_self.tag)
        return cv_fail(COVEY_EINVAL, "a process cannot wait for its own end");
    if (!cv_process_has_ended(process))
        r = is_my_child(process) ? wait_for_child(process, deadline_ns)
                                 : wait_for_other(process, deadline_ns);
    if (r == COVEY_ETIMEDOUT)
        return cv_fail(r, "%s (pid %d) has not ended within %g s", process->name, (int)process->pid,
            timeout_s);
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
    if (cv_process_has_ended(process))
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
        return cv_fail(COVEY_ESTATE, "%s is running", process->name);
    if (is_mine(process) && !is_my_child(process))
        (void)wait_for_other(process, 0); /* until the fork server has said how */
    ended = cv_load_acquire(&process->ended);
    switch (ended & 0xff) {
    case CV_ENDED:
        *code = (int16_t)(ended >> 16);
        return 0;
    case CV_ENDED_LOST:
        return cv_fail(COVEY_EDIED,
            "process %s has ended, and its status is lost: somebody else in its parent has taken "
            "it, or its fork server died",
            process->name);
    default:
        return cv_fail(COVEY_ESTATE, "process %s has ended, and its parent has not yet asked how",
            process->name);
    }
}

/* Who has ended needs no signal. */
static int signal_sent(int r)
{
    return r == COVEY_EDIED ? 0 : r;
}

int covey_process_signal(covey_process *process, int signal)
{
    int alive = covey_process_is_alive(process);
    struct cv_descriptor pidfd;
    int r;

    if (alive < 0)
        return alive;
    if (signal < 0 || signal > SIGRTMAX)
        return cv_fail(COVEY_EINVAL, "%d is not a signal", signal);
    if (process->pidfd.is_pidfd && pidfd_of(process) >= 0) /* though dead to the family, by exec */
        return signal_sent(cv_pid_signal(process->pidfd.fd, signal));
    if (!alive)
        return 0;
    if (is_my_child(process))
        return signal_sent(cv_pid_signal_child((pid_t)process->pid, signal));
    r = cv_pid_open((pid_t)process->pid, &pidfd);
    if (r == 0 && covey_process_is_alive(process) == 1) /* so it is this very process's */
        r = cv_pid_signal(pidfd.fd, signal);
    cv_descriptor_close(&pidfd);
    return signal_sent(r);
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
        return cv_fail(COVEY_ENOTOWNER, "%s was not started by this process", process->name);
    return r;
}

int covey_process_fd(covey_process *process)
{
    int r = check_mine(process);

    if (r != 0)
        return r;
    if (pidfd_of(process) >= 0)
        return process->pidfd.fd;
    r = cv_pid_open((pid_t)process->pid, &process->pidfd);
    if (r != 0 && r != COVEY_EDIED)
        return r;
    /* Perhaps another process has that pid by now. */
    if (r == COVEY_EDIED || (!is_my_child(process) && covey_process_is_alive(process) != 1)) {
        cv_descriptor_close(&process->pidfd);
        r = cv_descriptor_readable(&process->pidfd);
    }
    return r == 0 ? process->pidfd.fd : r;
}

/* For others that wait *********************************************************************** */

static int check_for_any(void *object)
{
    const covey_process *p = object;
    int r = check(p);

    return r == 0 && p->tag == cv_self.tag
               ? cv_fail(COVEY_EINVAL, "a process cannot wait for its own end")
               : r;
}

static int look_for_any(
    void *object, bool arm, struct cv_target *target, struct cv_watched_lives *lives)
{
    int alive = covey_process_is_alive(object);

    (void)arm;
    (void)target;
    (void)lives;
    return alive < 0 ? alive : !alive;
}

/* Of one that others have started: if it still runs then, the descriptor is its own. */
static int descriptor(void *object, struct cv_descriptor *own)
{
    covey_process *p = object;
    int r;

    if (is_mine(p))
        return covey_process_fd(p);
    r = cv_pid_open((pid_t)p->pid, own);
    if (r != 0 && r != COVEY_EDIED)
        return r;
    if (r == COVEY_EDIED || covey_process_is_alive(p) != 1) {
        cv_descriptor_close(own);
        r = cv_descriptor_readable(own);
    }
    return r == 0 ? own->fd : r;
}

__attribute__((constructor)) static void register_kind(void)
{
    static const struct cv_any_kind kind = {check_for_any, look_for_any, descriptor, CV_ANY_READY};

    cv_any_set(COVEY_WAIT_PROCESS, &kind);
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
    if (process->is_worker)
        return cv_fail(COVEY_ESTATE, "%s is a pool's worker", process->name);
    alive = covey_process_is_alive(process);
    if (alive)
        return alive < 0 ? alive : cv_fail(COVEY_ESTATE, "%s is running", process->name);
    cv_descriptor_close(&process->pidfd);
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
    struct cv_own *own = cv_process_own();

    if (cv_enter() != 0 || own->parent.magic != MAGIC)
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
    if (cv_load_acquire(&p->magic) != MAGIC || !is_mine(p) || cv_process_is_detached(p) ||
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
    uint64_t tag;
    covey_process *found;
};

static bool visit_to_find(uint64_t tag, enum cv_phase phase, void *context)
{
    covey_process *p = cv_process_record(tag);
    struct find *f = context;

    (void)phase;
    if (cv_load_acquire(&p->magic) == MAGIC && is_mine(p) && cv_load_acquire(&p->started) &&
        (pid_t)p->pid == f->pid && !cv_process_has_ended(p))
        f->found = p;
    f->tag = tag;
    return !f->found;
}

/*
 * Gives the process of @tag a handle; false if it has been taken away. Another thread that is just
 * starting it, or looking at it, has done in a moment.
 */
static bool attach(covey_process *p, uint64_t tag)
{
    while (cv_load_acquire(&p->magic) == MAGIC) {
        uint32_t now = cv_load_acquire(&p->detached);

        if (now == cv_process_handle(tag, CV_ATTACHED))
            return true;
        if (change_handle(p, tag, CV_DETACHED, CV_ATTACHED)) {
            __atomic_fetch_sub(&cv_process_own()->children, 1, __ATOMIC_RELAXED);
            return true;
        }
        if (now >> 8 != cv_process_handle(tag, 0) >> 8)
            return false;
        cv_clock_sleep(CV_NS_PER_MS);
    }
    return false;
}

covey_process *covey_process_find(pid_t pid)
{
    struct find f = {.pid = pid};

    if (cv_enter() != 0)
        return NULL;
    cv_member_each(visit_to_find, &f);
    if (f.found && !attach(f.found, f.tag))
        f.found = NULL;
    if (!f.found)
        (void)cv_fail(COVEY_EINVAL, "pid %d is not a child of this process", (int)pid);
    return f.found;
}
