/* SPDX-License-Identifier: MIT */
#include "trace.h"

#include <elf.h>
#include <errno.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    YIELDS = 100,     /* before there is a look at whether it sleeps */
    LOOK_NS = 300000, /* between two of these looks, */
    LOOKS = 4,        /* of which so many in a row make a sleep */
    /* Costs, in single steps: */
    HIT_COST = 2,  /* of a breakpoint */
    COUNT_MIN = 4, /* of more hits than these, which the kernel counts, so many at once, */
    COUNT_COST = 6,
    COUNTS_PER_STEP = 8, /* and one more for so many of them */
    REPEAT_COST = 6,     /* of any number of repetitions of an instruction at once */
};

/* The machine ******************************************************************************** */

static bool read_registers(pid_t pid, struct user_regs_struct *registers)
{
    struct iovec where = {registers, sizeof *registers};

    return ptrace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &where) == 0;
}

#if defined(__x86_64__)

enum {
    CALL_BYTES = 2
};

static bool write_registers(pid_t pid, struct user_regs_struct *registers)
{
    struct iovec where = {registers, sizeof *registers};

    return ptrace(PTRACE_SETREGSET, pid, (void *)NT_PRSTATUS, &where) == 0;
}

static uintptr_t read_pc(pid_t pid)
{
    struct user_regs_struct registers;

    return read_registers(pid, &registers) ? registers.rip : 0;
}

/* All images of the sweep have the same code at the same addresses. */
static bool is_system_call(uintptr_t pc)
{
    const unsigned char *code = (const unsigned char *)pc;

    return code[0] == 0x0f && code[1] == 0x05;
}

static void *debug_register(int n)
{
    return (void *)(offsetof(struct user, u_debugreg) + (size_t)n * sizeof(long));
}

/* Execution stops at either. The kernel sees to it that it goes on from there. */
static void set_breakpoints(pid_t pid, uintptr_t a, uintptr_t b)
{
    (void)ptrace(PTRACE_POKEUSER, pid, debug_register(0), (void *)a);
    (void)ptrace(PTRACE_POKEUSER, pid, debug_register(1), (void *)b);
    (void)ptrace(PTRACE_POKEUSER, pid, debug_register(7), (void *)(1L | 1L << 2));
}

static void clear_breakpoints(pid_t pid)
{
    (void)ptrace(PTRACE_POKEUSER, pid, debug_register(7), NULL);
}

static bool leave_breakpoint(struct tracee *t)
{
    (void)t;
    return true;
}

/*
 * Has the kernel count how often @pid comes to @pc, and stop it at the @n-th time, until the descriptor
 * that it returns is closed. -1: it will not.
 */
static int count_in_kernel(pid_t pid, uintptr_t pc, uint32_t n)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_BREAKPOINT,
        .size = sizeof attr,
        .sample_period = n,
        .exclude_kernel = 1,
        .exclude_hv = 1,
        .bp_type = HW_BREAKPOINT_X,
        .bp_addr = pc,
        .bp_len = sizeof(long),
        .remove_on_exec = 1,
        .sigtrap = 1,
    };

    return (int)syscall(SYS_perf_event_open, &attr, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

/* The bytes of the rep movs or rep stos at @pc; 0: it is another instruction. */
static size_t repeated_bytes(uintptr_t pc)
{
    const unsigned char *code = (const unsigned char *)pc;
    size_t n = 1;

    if (code[0] != 0xf3)
        return 0;
    if ((code[n] & 0xf8) == 0x48) /* REX.W */
        n++;
    return code[n] == 0xa4 || code[n] == 0xa5 || code[n] == 0xaa || code[n] == 0xab ? n + 1 : 0;
}

/*
 * So many repetitions, of more that it would do, without a stop: it does these as if they were all. False:
 * it has done nothing, or cannot go on.
 */
static bool repeat(struct tracee *t, uint32_t times, uintptr_t end)
{
    uintptr_t pc = t->pc;
    struct user_regs_struct registers;
    unsigned long long left;

    if (!read_registers(t->pid, &registers) || registers.rcx <= times)
        return false;
    left = registers.rcx - times;
    registers.rcx = times;
    if (!write_registers(t->pid, &registers) ||
        !trace_run_to_address(t, pc + repeated_bytes(pc), end) ||
        !read_registers(t->pid, &registers))
        return false;
    registers.rcx = left;
    registers.rip = pc;
    t->pc = pc;
    return write_registers(t->pid, &registers);
}

#elif defined(__aarch64__)

enum {
    CALL_BYTES = 4
};

static struct {
    uintptr_t at;
    long code;
} broken[2];

static uintptr_t read_pc(pid_t pid)
{
    struct user_regs_struct registers;

    return read_registers(pid, &registers) ? registers.pc : 0;
}

static bool is_system_call(uintptr_t pc)
{
    return *(const uint32_t *)pc == 0xd4000001;
}

static void set_breakpoints(pid_t pid, uintptr_t a, uintptr_t b)
{
    const uintptr_t at[2] = {a, b};

    for (int i = 0; i < 2; i++) {
        broken[i].at = at[i];
        broken[i].code = *(const long *)at[i];
        (void)ptrace(PTRACE_POKETEXT, pid, (void *)at[i],
            (void *)((broken[i].code & ~0xffffffffL) | 0xd4200000));
    }
}

static void clear_breakpoints(pid_t pid)
{
    for (int i = 2; i-- > 0;)
        (void)ptrace(PTRACE_POKETEXT, pid, (void *)broken[i].at, (void *)broken[i].code);
}

static int count_in_kernel(pid_t pid, uintptr_t pc, uint32_t n)
{
    (void)pid;
    (void)pc;
    (void)n;
    return -1;
}

/* No instruction repeats itself. */
static size_t repeated_bytes(uintptr_t pc)
{
    (void)pc;
    return 0;
}

static bool repeat(struct tracee *t, uint32_t times, uintptr_t end)
{
    (void)t;
    (void)times;
    (void)end;
    return false;
}

/* Over the instruction that the breakpoint stands for. */
static bool leave_breakpoint(struct tracee *t)
{
    bool r;

    clear_breakpoints(t->pid);
    r = trace_step(t);
    set_breakpoints(t->pid, broken[0].at, broken[1].at);
    return r;
}

#else
#error "the sweep does not know this machine's registers"
#endif

/* Waiting ************************************************************************************ */

static void pause_ns(long ns)
{
    (void)nanosleep(&(struct timespec){0, ns}, NULL);
}

/* The state's letter and the parent in /proc/PID/stat. */
static char read_state(pid_t pid, pid_t *parent)
{
    char path[64];
    char text[256];
    const char *p = NULL;
    FILE *file;

    *parent = 0;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (!file)
        return 'X';
    if (fgets(text, sizeof text, file))
        p = strrchr(text, ')');
    (void)fclose(file);
    if (!p)
        return 'X';
    *parent = (pid_t)strtol(p + 4, NULL, 10);
    return p[2];
}

bool trace_is_asleep(pid_t pid)
{
    pid_t parent;

    for (int i = 0; i < LOOKS; i++) {
        if (read_state(pid, &parent) != 'S')
            return false;
        pause_ns(LOOK_NS);
    }
    return true;
}

/* A status of the tracee; 0 while it sleeps. */
static int next_status(struct tracee *t, bool may_sleep)
{
    int status = 0;

    for (int i = 0;; i++) {
        pid_t r = waitpid(t->pid, &status, may_sleep ? __WALL | WNOHANG : __WALL);

        if (r == t->pid)
            return status;
        if (r < 0 && errno != EINTR)
            return W_EXITCODE(0, SIGKILL);
        if (!may_sleep)
            continue;
        if (i < YIELDS)
            (void)sched_yield();
        else if (!trace_is_asleep(t->pid))
            pause_ns(LOOK_NS);
        else if (waitpid(t->pid, &status, __WALL | WNOHANG) == t->pid)
            return status;
        else
            return 0;
    }
}

/* Waits until it stops: true at an instruction, false when it is asleep, gone, or has a signal. */
static bool settle(struct tracee *t, bool may_sleep)
{
    int status;

    t->state = TRACEE_STOPPED;
    t->slept = false;
    while ((status = next_status(t, may_sleep)) == 0) {
        t->slept = true;
        t->state = TRACEE_ASLEEP;
        if (!t->asleep())
            return false;
        t->state = TRACEE_STOPPED;
    }
    t->signal = 0;
    if (!WIFSTOPPED(status)) {
        t->state = TRACEE_GONE;
        return false;
    }
    t->pc = read_pc(t->pid);
    if (WSTOPSIG(status) == SIGTRAP)
        return true;
    t->signal = WSTOPSIG(status);
    return false;
}

/* Goes on, past signals that come for it. */
static bool resume(struct tracee *t, int how, bool may_sleep)
{
    for (;;) {
        if (ptrace(how, t->pid, NULL, (void *)(intptr_t)t->signal) != 0) {
            t->state = TRACEE_GONE;
            return false;
        }
        if (settle(t, may_sleep))
            return true;
        if (!t->signal)
            return false;
    }
}

bool trace_seize(struct tracee *t, pid_t pid)
{
    t->pid = pid;
    return ptrace(PTRACE_SEIZE, pid, NULL, (void *)(intptr_t)PTRACE_O_EXITKILL) == 0 &&
           ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0 && settle(t, false);
}

bool trace_run_to_address(struct tracee *t, uintptr_t pc, uintptr_t end)
{
    bool r;

    set_breakpoints(t->pid, pc, end);
    do {
        r = resume(t, PTRACE_CONT, true);
    } while (r && t->pc != pc && t->pc != end);
    if (t->state == TRACEE_STOPPED)
        clear_breakpoints(t->pid);
    return r && t->pc == pc;
}

/* Who was seized in a system call first makes that once more. */
bool trace_step(struct tracee *t)
{
    return resume(
        t, PTRACE_SINGLESTEP, is_system_call(t->pc) || is_system_call(t->pc - CALL_BYTES));
}

void trace_kill(struct tracee *t)
{
    siginfo_t info;
    pid_t parent;

    (void)kill(t->pid, SIGKILL);
    (void)waitid(P_PID, (id_t)t->pid, &info, WEXITED | WNOWAIT);
    (void)read_state(t->pid, &parent);
    if (parent != getpid())
        (void)waitpid(t->pid, NULL, __WALL); /* only now its parent learns of it */
    t->state = TRACEE_GONE;
}

/* Recording ********************************************************************************** */

/* How often each address was reached: a hash table, never full. */
static struct {
    uintptr_t pc;
    uint32_t count;
} arrivals[1 << 17];

static uint32_t count_arrival(uintptr_t pc)
{
    const size_t mask = sizeof arrivals / sizeof *arrivals - 1;
    size_t i = (pc * UINT64_C(0x9e3779b97f4a7c15)) >> 40 & mask;

    while (arrivals[i].pc && arrivals[i].pc != pc)
        i = (i + 1) & mask;
    arrivals[i].pc = pc;
    return ++arrivals[i].count;
}

bool trace_record(
    struct tracee *t, struct trace *trace, uintptr_t end, bool (*changed)(bool after_call))
{
    uint32_t n = 0;

    memset(arrivals, 0, sizeof arrivals);
    for (; n < TRACE_MAX; n++) {
        struct step *s = &trace->step[n];
        bool call = is_system_call(t->pc);
        bool stepped;

        s->pc = t->pc;
        s->arrival = n > 0 && trace->step[n - 1].pc != t->pc ? count_arrival(t->pc) : 0;
        s->what = call ? STEP_CALLS : 0;
        if (t->pc == end)
            break;
        stepped = trace_step(t);
        if (t->slept)
            s->what |= STEP_SLEEPS;
        if (t->state == TRACEE_GONE)
            return false;
        if (!stepped)
            break;
        if (changed(call))
            s->what |= STEP_CHANGES;
    }
    trace->count = n;
    return n < TRACE_MAX;
}

/* Reaching a point *************************************************************************** */

/* Are the steps from @i on to the next one repetitions of an instruction that can be made at once? */
static bool is_repeated(const struct trace *trace, uint32_t i)
{
    return trace->step[i].pc == trace->step[i + 1].pc && repeated_bytes(trace->step[i].pc);
}

static uint32_t cost_of_hits(uint32_t n)
{
    return n > COUNT_MIN ? COUNT_COST + n / COUNTS_PER_STEP : n * HIT_COST;
}

/* The cheapest step up to @at to have a breakpoint at; 0: none, go there step by step. */
static uint32_t best_anchor(const struct trace *trace, uint32_t at)
{
    uint32_t best = 0;
    uint32_t best_cost = UINT32_MAX;
    uint32_t steps = 0; /* from there to @at */
    uint32_t repetitions = 0;

    for (uint32_t i = at;; i--) {
        uint32_t cost;

        if (i < at && is_repeated(trace, i)) {
            repetitions++;
        } else if (i < at) {
            steps += 1 + (repetitions < REPEAT_COST ? repetitions : REPEAT_COST);
            repetitions = 0;
        }
        cost = steps + cost_of_hits(trace->step[i].arrival) +
               (repetitions < REPEAT_COST ? repetitions : REPEAT_COST);
        if ((trace->step[i].arrival || i == 0) && cost < best_cost) {
            best = i;
            best_cost = cost;
        }
        if (i == 0)
            return best;
    }
}

static bool run_to_arrival(struct tracee *t, const struct step *s, uintptr_t end)
{
    int counter = s->arrival > COUNT_MIN ? count_in_kernel(t->pid, s->pc, s->arrival) : -1;
    bool r = true;

    if (counter >= 0) {
        set_breakpoints(t->pid, end, end);
        r = resume(t, PTRACE_CONT, true);
        if (t->state == TRACEE_STOPPED)
            clear_breakpoints(t->pid);
        (void)close(counter);
        return r && t->pc == s->pc;
    }

    set_breakpoints(t->pid, s->pc, end);
    for (uint32_t i = 0; i < s->arrival && r; i++) {
        r = i == 0 || leave_breakpoint(t);
        while (r && (r = resume(t, PTRACE_CONT, true)) && t->pc != s->pc && t->pc != end) {
        }
        if (r && t->pc == end && t->pc != s->pc)
            break;
    }
    if (t->state == TRACEE_STOPPED)
        clear_breakpoints(t->pid);
    return r && t->pc == s->pc;
}

/* Repetitions from point @i on, at once, up to @at: how many; 0: it must go step by step. */
static uint32_t skip(
    struct tracee *t, const struct trace *trace, uint32_t i, uint32_t at, uintptr_t end)
{
    uint32_t n = 0;

    while (i + n < at && is_repeated(trace, i + n))
        n++;
    return n > REPEAT_COST && repeat(t, n, end) ? n : 0;
}

bool trace_run_to(struct tracee *t, const struct trace *trace, uint32_t at, uintptr_t end)
{
    uint32_t i = best_anchor(trace, at);

    if (i > 0 && !run_to_arrival(t, &trace->step[i], end))
        return false;
    while (i < at) {
        uint32_t n;

        if (t->pc != trace->step[i].pc || t->pc == end)
            return false;
        n = skip(t, trace, i, at, end);
        if (n == 0 && !trace_step(t))
            return false;
        i += n ? n : 1;
    }
    return t->pc == trace->step[at].pc;
}
