/* SPDX-License-Identifier: MIT */
#include "world.h"

#include "arena/family.h"
#include "arena/object.h"
#include "os/clock.h"
#include "os/futex.h"
#include "proc/process.h"
#include "sync/cells.h"
#include "sync/waiter.h"

#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MEMORY_MAX = 1 << 20,
    LOOK_MS = 20,      /* at whether somebody who is waited for has died */
    STALL_MS = 60,     /* for rescuers to do what they can while V is stopped */
    LATE_STEPS = 4000, /* that V may take until it changes something */
    BLOCKS_MAX = 4096,
    FILL_TRACED = 64, /* bytes of a block that get the pattern where that is traced */
    PATTERN_MAX = 4 * CV_PAGE_BYTES,
    SEEDS = 16381, /* a prime: blocks lie at round addresses */
    RANGES_MAX = 64,
    PIDS_MAX = 64,
    HELPERS_MAX = 8,
    PID_MASK = 0x3fffff,
};

static struct world *world;
static const struct operation *op;
static struct trace *victim_trace;
static struct trace *rescuer_trace;
static unsigned my_number; /* of a rescuer */

/* Failing ************************************************************************************ */

/* In any process of the world; the first to fail says why. */
void test_fail(const char *file, int line, const char *format, ...)
{
    const char *base = strrchr(file, '/');
    uint32_t none = VERDICT_NONE;
    va_list args;
    int n;

    if (cv_cas(&world->verdict, &none, (uint32_t)VERDICT_WRONG)) {
        n = snprintf(
            world->message, sizeof world->message, "%s:%d: ", base ? base + 1 : file, line);
        va_start(args, format);
        n += vsnprintf(world->message + n, sizeof world->message - (size_t)n, format, args);
        va_end(args);
        if (n < MESSAGE_BYTES && covey_error_code())
            (void)snprintf(world->message + n, sizeof world->message - (size_t)n,
                " [last covey error: %s]", covey_error());
    }
    _exit(1);
}

static void stage(const char *what)
{
    cv_store_seq(&world->stage, what);
}

/* Telling ************************************************************************************ */

void sweep_tell(unsigned i, uint64_t value)
{
    cv_store_seq(&world->told[i], value);
}

uint64_t sweep_told(unsigned i)
{
    return cv_load_seq(&world->told[i]);
}

bool sweep_victim_finished(void)
{
    return world->victim_finished;
}

bool sweep_rescuer_finished(void)
{
    return world->rescuer_finished;
}

bool sweep_is_stalled(void)
{
    return cv_load_seq(&world->stalled);
}

bool sweep_was_stalled(void)
{
    return world->was_stalled;
}

bool sweep_will_be_stalled(void)
{
    return world->plan.pass == PASS_STALL || world->plan.pass == PASS_LATE;
}

double sweep_patience(void)
{
    return sweep_is_stalled() ? 0.01 : COVEY_FOREVER;
}

bool sweep_is_fine(int result)
{
    return result == 0 ||
           (sweep_was_stalled() &&
               (result == COVEY_ETIMEDOUT || result == COVEY_EFULL || result == COVEY_EEMPTY));
}

unsigned sweep_rescuer(void)
{
    return my_number;
}

bool sweep_is_dead(void)
{
    return cv_load_seq(&world->victim_dead);
}

void sweep_wait_for_death(void)
{
    while (!sweep_is_dead())
        cv_clock_sleep(CV_NS_PER_MS);
}

pid_t sweep_victim_pid(void)
{
    return (pid_t)world->victim.pid;
}

pid_t sweep_rescuer_pid(unsigned i)
{
    return (pid_t)world->rescuer[i].pid;
}

/* Beginning and ending *********************************************************************** */

/* Where traces begin and end: not to be merged, and not empty for the compiler. */
__attribute__((noinline)) static void trace_begins(void)
{
    __asm__ volatile("nop" ::: "memory");
}

__attribute__((noinline)) static void trace_ends(void)
{
    __asm__ volatile("nop\n\tnop" ::: "memory");
}

/* Ready, and waiting for the word to go. */
static void begin(struct party *me)
{
    struct cv_futex_watch watch = {&me->go, 0};
    unsigned woken;

    cv_store_seq(&me->pid, (uint32_t)getpid());
    (void)cv_futex_wake(&me->pid, INT_MAX);
    while (!cv_load_seq(&me->go))
        (void)cv_futex_wait(&watch, 1, CV_FOREVER, &woken);
    trace_begins();
}

static void end(struct party *me)
{
    trace_ends();
    cv_store_seq(&me->done, 1);
    (void)cv_futex_wake(&me->done, INT_MAX);
}

void sweep_begins(void)
{
    begin(&world->victim);
}

void sweep_ends(void)
{
    end(&world->victim);
}

static void has_died(pid_t pid)
{
    siginfo_t info = {0};

    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid)
        test_fail(__FILE__, __LINE__, "process %d has ended (%d, %d)", (int)pid, info.si_code,
            info.si_status);
}

/* In W: until *@word is not 0; @pid is who sets it. False when @ns have passed. */
static bool await(uint32_t *word, pid_t pid, uint64_t ns)
{
    struct cv_futex_watch watch = {word, 0};
    uint64_t until = ns == CV_FOREVER ? ns : cv_clock_now() + ns;
    unsigned woken;

    while (!cv_load_seq(word)) {
        uint64_t now = cv_clock_now();
        uint64_t look = now + LOOK_MS * CV_NS_PER_MS;

        if (now >= until)
            return false;
        (void)cv_futex_wait(&watch, 1, look < until ? look : until, &woken);
        if (!cv_load_seq(word) && pid > 0)
            has_died(pid);
    }
    return true;
}

static bool rescuer_is_traced(void)
{
    return world->plan.pass >= PASS_RECORD_RESCUER;
}

/* Kept blocks ******************************************************************************** */

/* The pattern of a seed is what begins at some place of this; so no block has another's. */
static unsigned char patterns[PATTERN_MAX + SEEDS];

__attribute__((constructor)) static void make_patterns(void)
{
    for (size_t i = 0; i < sizeof patterns; i++)
        patterns[i] = (unsigned char)(i * UINT64_C(0x9e3779b97f4a7c15) >> 56);
}

void sweep_fill(void *p, size_t size, uint64_t seed)
{
    check(size <= PATTERN_MAX);
    memcpy(p, patterns + seed % SEEDS, size);
}

bool sweep_is_filled(const void *p, size_t size, uint64_t seed)
{
    return size <= PATTERN_MAX && memcmp(p, patterns + seed % SEEDS, size) == 0;
}

void sweep_keep_block(void *block, size_t size)
{
    uint32_t i = cv_fetch_add(&world->n_kept, 1);

    check(block != NULL);
    check(i < KEPT_MAX);
    if (rescuer_is_traced() && getpid() == sweep_rescuer_pid(0) && size > FILL_TRACED)
        size = FILL_TRACED;
    sweep_fill(block, size, (uintptr_t)block);
    world->kept[i].size = size;
    world->kept[i].owner = cv_heap_owner(block, NULL);
    cv_store_seq(&world->kept[i].block, block);
}

void *sweep_keep(size_t size)
{
    void *block = covey_alloc(size);

    sweep_keep_block(block, size);
    return block;
}

static struct kept *kept_of(const void *block)
{
    for (uint32_t i = 0; i < cv_load_seq(&world->n_kept) && i < KEPT_MAX; i++) {
        if (block && cv_load_seq(&world->kept[i].block) == block)
            return &world->kept[i];
    }
    return NULL;
}

void sweep_unkeep(const void *block)
{
    struct kept *k = kept_of(block);

    check(k != NULL);
    cv_store_seq(&k->block, NULL);
}

static void check_kept(void)
{
    for (uint32_t i = 0; i < world->n_kept; i++) {
        struct kept *k = &world->kept[i];

        if (!k->block)
            continue;
        if (cv_heap_owner(k->block, NULL) != k->owner)
            test_fail(__FILE__, __LINE__, "block %p of %zu bytes was %#x's and is %#x's", k->block,
                k->size, k->owner, cv_heap_owner(k->block, NULL));
        if (!sweep_is_filled(k->block, k->size, (uintptr_t)k->block))
            test_fail(
                __FILE__, __LINE__, "block %p of %zu bytes is not as it was", k->block, k->size);
    }
}

void sweep_use_heap(void)
{
    static const size_t sizes[] = {
        200, 200, 500, 3000, 6000, CV_PAGE_BYTES - 64, 2 * CV_PAGE_BYTES - 64, 6000, 200};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *block = sweep_keep(sizes[i]);

        if (i % 3 == 2) {
            sweep_unkeep(block);
            check_int(covey_free(block), ==, 0);
        }
    }
}

/* Census ************************************************************************************* */

struct census {
    unsigned n;
    struct {
        void *block;
        uint32_t owner;
    } of[BLOCKS_MAX];
};

static struct census at_begin;
static struct census at_victims_death;
static struct census at_rescuers_death;

/* Blocks that the dead had committed, and told nobody of. */
static struct census strays;
static unsigned strays_of_victim;

static void count_one(char *block, size_t size, uint32_t owner, void *context)
{
    struct census *c = context;

    (void)size;
    check(c->n < BLOCKS_MAX);
    c->of[c->n].block = block;
    c->of[c->n++].owner = owner;
}

static void take_census(struct census *c)
{
    c->n = 0;
    cv_heap_each(count_one, c);
}

/* The owner of @block then; 0: it was not there. */
static uint32_t owner_in(const struct census *c, const void *block)
{
    for (unsigned i = 0; i < c->n; i++) {
        if (c->of[i].block == block)
            return c->of[i].owner;
    }
    return 0;
}

/* Somebody has just died: what is there now, and was not before, is what he has made. */
static void find_strays(const struct census *before, struct census *now)
{
    take_census(now);
    for (unsigned i = 0; i < now->n; i++) {
        uint32_t owner = now->of[i].owner;

        if ((owner == (uint32_t)CV_OWNER_FAMILY || owner == (uint32_t)CV_OWNER_OBJECT) &&
            owner_in(before, now->of[i].block) != owner && !kept_of(now->of[i].block))
            strays.of[strays.n++] = now->of[i];
    }
}

void *sweep_stray(void)
{
    return strays_of_victim ? strays.of[0].block : NULL;
}

uint32_t sweep_owner_at_death(const void *block)
{
    return kept_of(block) ? 0 : owner_in(&at_victims_death, block);
}

struct find {
    pid_t pid;
    uint64_t tag;
};

static bool find_tag(uint64_t tag, enum cv_phase phase, void *context)
{
    struct find *f = context;

    if (phase != CV_FREE && phase != CV_BORN && cv_member_pid(tag) == f->pid)
        f->tag = tag;
    return true;
}

/* The short tag of a member, dead or alive. */
static uint32_t tag_of(pid_t pid)
{
    struct find f = {pid, 0};

    cv_member_each(find_tag, &f);
    return cv_tag_short(f.tag);
}

uint32_t sweep_victim_tag(void)
{
    return tag_of(sweep_victim_pid());
}

static void check_nothing_of(char *block, size_t size, uint32_t owner, void *context)
{
    if (owner == *(uint32_t *)context)
        test_fail(__FILE__, __LINE__, "block %p of %zu bytes is still the dead process's",
            (void *)block, size);
}

/* After the dead are buried: what was theirs is not, and what they had committed is there. */
static void check_census(void)
{
    uint32_t tags[] = {sweep_victim_tag(), rescuer_is_traced() ? tag_of(sweep_rescuer_pid(0)) : 0};

    for (int i = 0; i < 2; i++) {
        if (tags[i])
            cv_heap_each(check_nothing_of, &tags[i]);
    }
    for (unsigned i = 0; i < strays.n; i++) {
        uint32_t now = cv_heap_owner(strays.of[i].block, NULL);

        if (now != strays.of[i].owner)
            test_fail(__FILE__, __LINE__,
                "block %p, which the dead process had allocated, is %#x's", strays.of[i].block,
                now);
    }
}

static void free_strays(void)
{
    for (unsigned i = 0; i < strays.n; i++) {
        if (cv_heap_give(strays.of[i].block, strays.of[i].owner, cv_tag_short(cv_self.tag)))
            cv_object_free(strays.of[i].block);
    }
}

/* Looking at the arena *********************************************************************** */

/* The parts of it that exist. */
static struct {
    size_t start;
    size_t size;
} range[RANGES_MAX];
static unsigned ranges;
static char *shadow;

/* Without the large blocks that are kept, from the @i-th on: they only cost time. */
static void add_range(size_t start, size_t end, uint32_t i)
{
    for (; i < world->n_kept && i < KEPT_MAX && start < end; i++) {
        const struct kept *k = &world->kept[i];
        size_t at = (size_t)((char *)k->block - cv_arena.memory.base);

        if (!k->block || k->size < CV_PAGE_BYTES || at >= end || at + k->size <= start)
            continue;
        add_range(at + k->size, end, i + 1);
        end = at;
    }
    if (start < end && ranges < RANGES_MAX) {
        range[ranges].start = start;
        range[ranges++].size = end - start;
    }
}

static void find_ranges(void)
{
    int fd = cv_arena.memory.file.fd;
    off_t end = 0;
    off_t start;

    ranges = 0;
    while ((start = lseek(fd, end, SEEK_DATA)) >= 0) {
        end = lseek(fd, start, SEEK_HOLE);
        add_range((size_t)start, (size_t)end, 0);
    }
}

/* Since the last call; only system calls make or remove parts. */
static bool has_changed(bool after_call)
{
    const char *base = cv_arena.memory.base;
    bool changed = false;

    if (after_call)
        find_ranges();
    for (unsigned i = 0; i < ranges; i++) {
        if (memcmp(shadow + range[i].start, base + range[i].start, range[i].size) == 0)
            continue;
        memcpy(shadow + range[i].start, base + range[i].start, range[i].size);
        changed = true;
    }
    return changed;
}

static void start_comparing(void)
{
    shadow = calloc(1, cv_arena.memory.size);
    check(shadow != NULL);
    (void)has_changed(true);
}

/* Processes that the operation has forked. */
static pid_t helpers[HELPERS_MAX];
static unsigned n_helpers;

/* Process ids are other ones in each world: the hash has the number of the slot instead, and of helpers,
 * whose slot may be another's already, a number of their own. */
static struct {
    uint32_t pid;
    uint32_t name;
} names[PIDS_MAX];
static unsigned n_names;

static void name_pid(uint32_t pid, uint32_t name)
{
    if (n_names == PIDS_MAX)
        return;
    names[n_names].pid = pid;
    names[n_names++].name = name;
}

static void name_pids(void)
{
    n_names = 0;
    for (uint32_t i = 0; i < cv_arena.family->slots_used; i++) {
        name_pid(cv_arena.members[i].pid, i);
        name_pid((uint32_t)cv_arena.members[i].state & PID_MASK, i);
    }
    for (unsigned i = 0; i < n_helpers; i++)
        name_pid((uint32_t)helpers[i], PID_MASK - i);
}

static uint32_t without_pid(uint32_t word)
{
    uint32_t pid = word & PID_MASK;

    for (unsigned i = 0; pid && i < n_names; i++) {
        if (names[i].pid == pid)
            return (word & ~(uint32_t)PID_MASK) | names[i].name;
    }
    return word;
}

static uint64_t hash_words(uint64_t hash, const void *p, size_t size)
{
    const char *bytes = p;
    uint32_t word;

    for (size_t i = 0; i + sizeof word <= size; i += sizeof word) {
        memcpy(&word, bytes + i, sizeof word);
        hash = (hash ^ without_pid(word)) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* Without times, names that contain a pid, and inodes. */
static uint64_t hash_members(uint64_t hash)
{
    for (uint32_t i = 0; i < cv_arena.family->slots_used; i++) {
        struct cv_member m = cv_arena.members[i];
        struct covey_process *p = (struct covey_process *)(void *)m.room;

        m.joined_ns = 0;
        memset(&p->pidfd, 0, sizeof p->pidfd);
        memset(p->name, 0, sizeof p->name);
        memset(p->message, 0, sizeof p->message);
        hash = hash_words(hash, &m, sizeof m);
    }
    return hash;
}

/* Without times. */
static uint64_t hash_waiters(uint64_t hash)
{
    for (uint32_t i = 0; i < cv_arena.family->waiters_used; i++) {
        struct cv_waiter w = *cv_waiter_at(i);

        w.since_ns = w.since_ns != 0;
        hash = hash_words(hash, &w, sizeof w);
    }
    return hash;
}

static uint64_t hash_arena(void)
{
    size_t tables = cv_arena.family->members_offset;
    size_t tables_end =
        cv_arena.family->waiters_offset + cv_arena.family->waiters * sizeof(struct cv_waiter);
    uint64_t hash;

    find_ranges();
    name_pids();
    hash = hash_waiters(hash_members(UINT64_C(0xcbf29ce484222325)));
    for (unsigned i = 0; i < ranges; i++) {
        size_t start = range[i].start;
        size_t stop = start + range[i].size;

        hash = hash_words(hash, &range[i], sizeof range[i]);
        if (start < tables)
            hash = hash_words(
                hash, cv_arena.memory.base + start, (stop < tables ? stop : tables) - start);
        if (start < tables_end)
            start = tables_end;
        if (start < stop)
            hash = hash_words(hash, cv_arena.memory.base + start, stop - start);
    }
    return hash;
}

/* The others ********************************************************************************* */

unsigned sweep_rescuers(void)
{
    unsigned n = op->rescuers ? op->rescuers : op->rescue != NULL;

    return world->plan.pass >= PASS_RECORD_RESCUER && n > 1 ? 1 : n;
}

/* A child that ends with this process. */
static pid_t fork_child(void)
{
    pid_t parent = getpid();
    pid_t pid = fork();

    check(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
    }
    return pid;
}

__attribute__((noreturn)) static void sleep_for_ever(void)
{
    for (;;)
        (void)pause();
}

__attribute__((noreturn)) static void be_rescuer(unsigned i)
{
    my_number = i;
    check_int(covey_open(), ==, 0);
    if (op->prepare)
        op->prepare();
    begin(&world->rescuer[i]);
    op->rescue();
    end(&world->rescuer[i]);
    sleep_for_ever();
}

__attribute__((noreturn)) static void be_victim(void)
{
    if (!op->is_stranger)
        check_int(covey_open(), ==, 0);
    if (op->warm)
        op->warm();
    sweep_begins();
    op->victim();
    sweep_ends();
    sleep_for_ever();
}

static bool is_known(pid_t pid)
{
    bool known = pid == sweep_victim_pid();

    for (unsigned i = 0; i < sweep_rescuers(); i++)
        known |= pid == sweep_rescuer_pid(i);
    for (unsigned i = 0; i < n_helpers; i++)
        known |= pid == helpers[i];
    return known;
}

pid_t sweep_orphan(void)
{
    char path[64];
    int pid = 0;
    bool found = false;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    file = fopen(path, "re");
    while (file && !found && fscanf(file, "%d", &pid) == 1)
        found = !is_known(pid);
    if (file)
        (void)fclose(file);
    return found ? pid : 0;
}

static pid_t fork_helper(void (*what)(void))
{
    struct party *party = &world->rescuer[RESCUERS_MAX - 1];
    pid_t pid;

    party->done = 0;
    pid = fork_child();
    if (pid == 0) {
        what();
        cv_store_seq(&party->done, 1);
        (void)cv_futex_wake(&party->done, INT_MAX);
        sleep_for_ever();
    }
    check(n_helpers < HELPERS_MAX);
    helpers[n_helpers++] = pid;
    return pid;
}

pid_t sweep_fork(void (*what)(void))
{
    pid_t pid = fork_helper(what);

    (void)await(&world->rescuer[RESCUERS_MAX - 1].done, pid, CV_FOREVER);
    return pid;
}

pid_t sweep_fork_asleep(void (*what)(void))
{
    pid_t pid = fork_helper(what);

    sweep_wait_asleep(pid);
    return pid;
}

void sweep_kill(pid_t pid)
{
    check_int(kill(pid, SIGKILL), ==, 0);
    check_int(waitpid(pid, NULL, 0), ==, pid);
}

static pid_t crowd[CV_CELLS_FIRST];

void sweep_gather(void (*what)(void))
{
    for (int i = 0; i < CV_CELLS_FIRST; i++)
        crowd[i] = sweep_fork(what);
}

void sweep_disperse(void)
{
    for (int i = 0; i < CV_CELLS_FIRST; i++)
        sweep_kill(crowd[i]);
}

void sweep_wait_asleep(pid_t pid)
{
    while (!trace_is_asleep(pid))
        has_died(pid);
}

static void start_rescuers(void)
{
    for (unsigned i = 0; i < sweep_rescuers(); i++) {
        pid_t pid = fork_child();

        if (pid == 0)
            be_rescuer(i);
        (void)await(&world->rescuer[i].pid, pid, CV_FOREVER);
    }
}

static void let_go(struct party *party)
{
    cv_store_seq(&party->go, 1);
    (void)cv_futex_wake(&party->go, INT_MAX);
}

static bool rescue_has_begun; /* but for the one that is traced */
static bool is_unblocked;

static void begin_rescue(bool to_sleep)
{
    if (rescue_has_begun || rescuer_is_traced())
        return;
    rescue_has_begun = true;
    for (unsigned i = 0; i < sweep_rescuers(); i++) {
        let_go(&world->rescuer[i]);
        while (
            to_sleep && !world->rescuer[i].done && !trace_is_asleep((pid_t)world->rescuer[i].pid))
            has_died((pid_t)world->rescuer[i].pid);
    }
}

/* V sleeps, or is dead, or stopped. */
static void unblock(void)
{
    if (is_unblocked)
        return;
    if (op->when == RESCUE_SLEEPS_LATE)
        begin_rescue(true);
    is_unblocked = !op->unblock || op->unblock();
}

static bool finish_rescue(uint64_t ns)
{
    uint64_t until = ns == CV_FOREVER ? ns : cv_clock_now() + ns;
    bool all = true;

    for (unsigned i = 0; i < sweep_rescuers() && all && !rescuer_is_traced(); i++) {
        uint64_t now = cv_clock_now();

        all = await(&world->rescuer[i].done, (pid_t)world->rescuer[i].pid,
            ns == CV_FOREVER ? ns
            : until > now    ? until - now
                             : 0);
    }
    return all;
}

/* The victim ********************************************************************************* */

static struct tracee victim;
static struct tracee rescuer;

/* When the victim, or the rescuer, falls asleep on its way. */
static bool unblock_sleeper(void)
{
    if (op->ends_asleep && is_unblocked)
        return false;
    if (!is_unblocked)
        unblock();
    else if ((world->was_stalled || rescuer_is_traced()) && op->after)
        /* what it waits for was taken by others */
        op->after();
    return true;
}

static bool stay_asleep(void)
{
    return false;
}

static void start_victim(void)
{
    pid_t pid = op->begin ? op->begin() : fork_child();

    if (pid == 0)
        be_victim();
    if (op->is_running)
        world->victim.pid = (uint32_t)pid;
    else
        (void)await(&world->victim.pid, op->begin ? 0 : pid, CV_FOREVER);
    victim.asleep = unblock_sleeper;
    check(trace_seize(&victim, (pid_t)world->victim.pid));
}

static void bring_to_begin(struct tracee *t, struct party *party)
{
    cv_store_seq(&party->go, 1);
    check(trace_run_to_address(t, (uintptr_t)trace_begins, (uintptr_t)trace_ends));
}

/* To point @at, and asleep there if wanted. */
static void bring_to(struct tracee *t, const struct trace *trace, uint32_t at, bool asleep)
{
    bool there = trace_run_to(t, trace, at, (uintptr_t)trace_ends);

    if (there && asleep) {
        t->asleep = stay_asleep;
        (void)trace_step(t);
        there = t->state == TRACEE_ASLEEP;
    }
    check(t->state != TRACEE_GONE);
    world->has_missed |= !there;
}

static void record(struct tracee *t, struct trace *trace)
{
    start_comparing();
    check(trace_record(t, trace, (uintptr_t)trace_ends, has_changed));
}

static void bring_victim(void)
{
    if (!op->is_running)
        bring_to_begin(&victim, &world->victim);
    if (world->plan.pass == PASS_RECORD)
        record(&victim, victim_trace);
    else
        bring_to(&victim, victim_trace, world->plan.first, world->plan.is_asleep);
}

static void kill_victim(void)
{
    world->victim_finished = op->ends_asleep ? victim.state == TRACEE_ASLEEP && is_unblocked
                                             : victim.pc == (uintptr_t)trace_ends;
    if (op->look)
        op->look();
    find_strays(&at_begin, &at_victims_death);
    strays_of_victim = strays.n;
    trace_kill(&victim);
    cv_store_seq(&world->victim_dead, true);
}

/* Stopped, the victim is alive; the others do what they can. */
static void stall_victim(void)
{
    stage("the others work while the victim is stopped");
    world->was_stalled = true;
    cv_store_seq(&world->stalled, true);
    unblock();
    begin_rescue(false);
    (void)finish_rescue(STALL_MS * CV_NS_PER_MS);
    cv_store_seq(&world->stalled, false);
    stage("the victim goes on");
    if (world->plan.pass == PASS_STALL) {
        if (victim.pc != (uintptr_t)trace_ends)
            (void)trace_run_to_address(&victim, (uintptr_t)trace_ends, (uintptr_t)trace_ends);
        check(victim.state != TRACEE_GONE);
        return;
    }
    start_comparing();
    for (int i = 0; i < LATE_STEPS && victim.pc != (uintptr_t)trace_ends; i++) {
        if (!trace_step(&victim) || has_changed(true))
            break;
    }
}

/* The rescuer that is traced. */
static void bring_rescuer(void)
{
    stage("the rescuer is traced");
    rescuer.asleep = unblock_sleeper;
    check(trace_seize(&rescuer, (pid_t)world->rescuer[0].pid));
    bring_to_begin(&rescuer, &world->rescuer[0]);
    if (world->plan.pass == PASS_RECORD_RESCUER)
        record(&rescuer, rescuer_trace);
    else
        bring_to(&rescuer, rescuer_trace, world->plan.second, world->plan.second_asleep);
    world->rescuer_finished = rescuer.pc == (uintptr_t)trace_ends;
    find_strays(&at_victims_death, &at_rescuers_death);
    trace_kill(&rescuer);
}

/* The end ************************************************************************************ */

static bool check_slot(uint64_t tag, enum cv_phase phase, void *context)
{
    (void)context;
    if (phase != CV_ALIVE && phase != CV_GONE)
        test_fail(__FILE__, __LINE__, "slot %u is in phase %d", cv_tag_slot(tag), (int)phase);
    return true;
}

/* The dead wait for nothing. */
static bool check_waiter(struct cv_waiter *w, void *context)
{
    uint64_t owner = cv_load_acquire(&w->owner);

    (void)context;
    if (cv_member_is_dead(owner, 0))
        test_fail(__FILE__, __LINE__, "record %u of the waiters is still the dead process %d's",
            cv_waiter_index(w), (int)cv_member_pid(owner));
    return true;
}

static void count_pages(char *block, size_t size, uint32_t owner, void *context)
{
    char *pages = context;
    size_t first = ((size_t)(block - cv_arena.memory.base) - cv_arena.family->heap.pages_offset) /
                   CV_PAGE_BYTES;

    (void)owner;
    memset(pages + first, 1, (size + CV_PAGE_BYTES - 1) / CV_PAGE_BYTES);
}

/* The word of a slab whose blocks last; it is never given back. */
static bool is_lasting(uint64_t word)
{
    return (uint32_t)word >> 4 == CV_CLASS_LASTING;
}

/* Every other page that has no block in it is FREE: its word is 0. */
static void check_pages(void)
{
    const struct cv_heap *heap = &cv_arena.family->heap;
    const uint64_t *words =
        (const uint64_t *)(const void *)(cv_arena.memory.base + heap->words_offset);
    static char used[1024];

    check(heap->ready <= sizeof used);
    check_int(covey_trim(), ==, 0);
    cv_heap_each(count_pages, used);
    for (uint32_t i = 0; i < heap->ready; i++) {
        if (words[i] != 0 && !used[i] && !is_lasting(words[i]))
            test_fail(
                __FILE__, __LINE__, "page %u is not free: %#llx", i, (unsigned long long)words[i]);
    }
}

static void check_no_block(char *block, size_t size, uint32_t owner, void *context)
{
    (void)context;
    if (owner != (uint32_t)CV_OWNER_INTERNAL)
        test_fail(__FILE__, __LINE__, "block %p of %zu bytes of %#x's is left (V is %#x, S %#x)",
            (void *)block, size, owner, sweep_victim_tag(),
            sweep_rescuers() ? tag_of(sweep_rescuer_pid(0)) : 0);
}

static void check_end(void)
{
    struct covey_stats stats = {.size = sizeof stats};
    int members = 1 + (int)sweep_rescuers() - rescuer_is_traced() + op->more_members;

    stage("the end");
    check_kept();
    for (uint32_t i = 0; i < world->n_kept; i++) {
        if (world->kept[i].block)
            check_int(covey_free(world->kept[i].block), ==, 0);
    }
    free_strays();
    check_int(covey_stats(&stats), ==, 0);
    cv_heap_each(check_no_block, NULL);
    check_int(stats.members, ==, members);
    cv_member_each(check_slot, NULL);
    cv_waiter_each(UINT64_MAX, check_waiter, NULL);
    check_pages();
}

static void keep_around(void)
{
    static const size_t sizes[] = {200, 500, 3000, 200, CV_PAGE_BYTES};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && !op->walks; i++)
        (void)sweep_keep(sizes[i]);
}

static void set_up(void)
{
    stage("setup");
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    check_int(covey_open(.memory_max = MEMORY_MAX,
                  .deadlocks = op->detects ? COVEY_DEADLOCKS_DETECT : COVEY_DEADLOCKS_IGNORE),
        ==, 0);
    cv_arena.family->heap.kept_max = 0; /* freed pages go back: too many of them would show */
    keep_around();
    if (op->setup)
        op->setup();
    keep_around();
    start_rescuers();
    start_victim();
    take_census(&at_begin);
}

void world_run(struct world *w, struct trace *of_victim, struct trace *of_rescuer)
{
    struct covey_stats stats = {.size = sizeof stats};
    uint32_t none = VERDICT_NONE;

    world = w;
    op = w->plan.operation;
    victim_trace = of_victim;
    rescuer_trace = of_rescuer;
    set_up();
    stage("the victim runs");
    if (op->when == RESCUE_SLEEPS_FIRST)
        begin_rescue(true);
    bring_victim();
    if (sweep_will_be_stalled())
        stall_victim();
    kill_victim();
    world->state = hash_arena();
    if (rescuer_is_traced())
        bring_rescuer();
    stage("the rescuers");
    begin_rescue(op->when == RESCUE_SLEEPS_LATE);
    unblock();
    if (op->after)
        op->after();
    (void)finish_rescue(CV_FOREVER);
    w->rescuer_finished |= !rescuer_is_traced();
    stage("the checks");
    check_int(covey_stats(&stats), ==, 0);
    check_census();
    check_kept();
    if (op->verify)
        op->verify();
    check_end();
    (void)cv_cas(&w->verdict, &none, (uint32_t)VERDICT_RIGHT);
    _exit(0);
}
