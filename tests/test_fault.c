/* SPDX-License-Identifier: MIT */
/*
 * Every call that can fail fails once (os/fault.h), in every operation.
 *
 * An operation is done in a process of its own with its first opportunity failing, then in another
 * one with its second, and so on until it has no more. Each time it must succeed, or fail with the
 * code and the reason that fit; nothing may be left; and done again it must succeed. There are such
 * walks for a call that fails once and for one that fails from then on, in the process itself, in its
 * children and in theirs.
 */
#include "runner.h"

#include "arena/family.h"
#include "msg/handles.h"
#include "os/fault.h"
#include "os/thread.h"
#include "pool/pool.h"
#include "sync/waiter.h"

#include <covey.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    HANGS_S = 10,       /* an operation that takes so long */
    SOON_S = 5,         /* what happens at once */
    WAITS_MS = 10,      /* for an operation that is to wait */
    ROUNDED_BYTES = 64, /* that malloc() may add to what OpenSSL keeps for the thread */
};

#define LINGERS_S 0.05
#define ACCEPTS_S 1.0

/* What an operation does returns 0 or a code. It begins with the faults between storm() and calm()
 * that it is to meet; outside of these nothing fails. */
typedef int operation(void);

static uint32_t armed; /* which opportunity fails in the next storm */

static void storm(void)
{
    if (cv_fault_plan)
        cv_fault_plan->n = armed;
    armed = 0;
}

static void calm(void)
{
    if (cv_fault_plan)
        cv_fault_plan->n = 0;
}

static bool has_hit(void)
{
    return cv_load_acquire(&cv_fault_plan->hit) == 2;
}

/* For children that nobody waits for: time to meet their fault. */
static void linger(void)
{
    double end_s = test_now_s() + LINGERS_S;

    while (cv_fault_plan->who && cv_fault_plan->n && !has_hit() && test_now_s() < end_s)
        test_sleep_ms(1);
}

/* 0, or the code of a call that gives a pointer. */
static int code_of(const void *pointer)
{
    return pointer ? 0 : covey_error_code();
}

/* One process, one fault ********************************************************************* */

static int code_of_errno(int error)
{
    switch (error) {
    case ENOMEM:
    case ENOSPC:
    case ENOBUFS:
        return COVEY_ENOMEM;
    case EMFILE:
    case ENFILE:
    case EAGAIN:
        return COVEY_ELIMIT;
    default:
        return COVEY_ESYS;
    }
}

/* What a child or the fork server has taken along. */
static bool is_of_the_dead(const char *message)
{
    return strstr(message, "fork server died") || strstr(message, "died with its worker");
}

/* A failure of the process itself is told by its reason; that of a child may have many faces. */
static void check_named(int r)
{
    const struct cv_fault_plan *plan = cv_fault_plan;

    if (r == 0)
        return;
    check_int(r, <, 0);
    check_int(covey_error_code(), ==, r);
    check(covey_error()[0] != '\0');
    check(has_hit());
    check_int(r, !=, COVEY_EINVAL);
    if (plan->who) {
        check(r != COVEY_EDIED || strstr(covey_error(), strerror(plan->error)) ||
              is_of_the_dead(covey_error()));
        return;
    }
    check_int(r, ==, code_of_errno(plan->error));
    check(strstr(covey_error(), strerror(plan->error)) || strstr(covey_error(), "no memory for") ||
          strstr(covey_error(), "was closed"));
}

/* All but this process and its fork server. */
static bool visit_slot(uint64_t tag, enum cv_phase phase, void *context)
{
    bool is_server = strcmp(cv_process_record(tag)->name, "forkserver") == 0;
    unsigned *others = context;

    if (phase == CV_ALIVE)
        *others += tag != cv_self.tag && !is_server;
    else
        *others += phase != CV_GONE || cv_member_of(tag)->kept;
    return true;
}

/* The family is as it was: no blocks, no slots in use. */
static bool is_whole(void *context)
{
    struct covey_stats stats = {.size = sizeof stats};
    unsigned others = 0;

    (void)context;
    check_int(covey_active_children(NULL, 0), ==, 0);
    check_int(covey_stats(&stats), ==, 0);
    cv_member_each(visit_slot, &others);
    return stats.blocks == 0 && others == 0;
}

struct use {
    size_t private; /* bytes from malloc() */
    size_t mapped;
};

/* Stack and heap grow as they like. */
static struct use use_now(void)
{
    FILE *file = fopen("/proc/self/maps", "re");
    struct use use = {mallinfo2().uordblks, 0};
    char line[512];

    check(file != NULL);
    while (fgets(line, sizeof line, file)) {
        size_t start;
        size_t end;

        if (sscanf(line, "%zx-%zx", &start, &end) == 2 && !strstr(line, "[heap]") &&
            !strstr(line, "[stack]"))
            use.mapped += end - start;
    }
    (void)fclose(file);
    return use;
}

/* What a process has used that did the operation, and closed the family. */
static struct use use_of(operation *run, bool twice)
{
    unsigned descriptors = test_open_descriptors();
    struct use before = use_now();
    struct use after;
    int r = run();

    calm();
    check_named(r);
    if (twice)
        check_int(run(), ==, 0);
    test_wait_for(is_whole, NULL, SOON_S);
    check(cv_robust_list()->list_op_pending == NULL); /* no wake is owed */
    check_int(covey_close(), ==, 0);
    test_check_nothing_is_left(descriptors);
    after = use_now();
    return (struct use){after.private - before.private, after.mapped - before.mapped};
}

/* Sanitizers use memory as they like; malloc() counts exactly when it has no cache for the thread. */
static void check_use(struct use use, struct use normal)
{
    size_t slack = strcmp(cv_fault_plan->call, "OpenSSL") == 0 ? ROUNDED_BYTES : 0;

    if (TEST_ASAN || TEST_TSAN)
        return;
    if (getenv("GLIBC_TUNABLES") && strcmp(cv_fault_plan->call, "dlopen") != 0)
        check_int(use.private, <=, normal.private + slack);
    if (strcmp(cv_fault_plan->call, "munmap") != 0)
        check_int(use.mapped, <=, normal.mapped);
}

/* The walk *********************************************************************************** */

/* Calls @body(context) in a process of its own; false when that fails, or hangs. */
static bool in_child(void (*body)(void *context), void *context)
{
    int status = -1;
    bool ended;
    pid_t pid;

    (void)fflush(NULL);
    pid = fork();
    check(pid >= 0);
    if (pid == 0) {
        body(context);
        _exit(0);
    }
    ended = test_ends_within(pid, HANGS_S);
    if (!ended) {
        (void)fprintf(stderr, "# still running after %d s\n", HANGS_S);
        (void)kill(pid, SIGKILL);
    }
    check_int(waitpid(pid, &status, 0), ==, pid);
    if (WIFSIGNALED(status) && ended)
        (void)fprintf(stderr, "# killed by signal %d\n", WTERMSIG(status));
    return ended && status == 0;
}

struct walk {
    operation *run;
    struct use *normal; /* shared with the processes that find out */
    uint32_t who;       /* as in the plan */
    bool again;
    uint32_t n;
};

static void plan(const struct walk *w)
{
    *cv_fault_plan =
        (struct cv_fault_plan){.pid = (uint32_t)getpid(), .who = w->who, .again = w->again};
    armed = w->n;
}

static void see_normal(void *context)
{
    struct walk *w = context;

    plan(w);
    *w->normal = use_of(w->run, true);
}

static void see_fault(void *context)
{
    struct walk *w = context;

    plan(w);
    check_use(use_of(w->run, true), *w->normal);
}

/* How many opportunities there are. */
static unsigned walk(struct walk *w)
{
    static const char *const who[] = {"the process", "a child", "a child's child"};

    for (w->n = 1;; w->n++) {
        bool passed = in_child(see_fault, w);

        if (!passed)
            test_fail(__FILE__, __LINE__, "opportunity %u of %s, %s: %s() in %s(): %s", w->n,
                who[w->who], w->again ? "again and again" : "once", cv_fault_plan->call,
                cv_fault_plan->where, strerror(cv_fault_plan->error));
        if (!has_hit())
            return w->n - 1;
    }
}

enum walks {
    ONCE = 1,  /* in the process, a single fault */
    ALONE = 2, /* that, and the same again and again */
    WITH_CHILDREN = 6,
};

static void walk_all(const char *name, operation *run, enum walks walks)
{
    struct walk w = {.run = run};
    unsigned n[3] = {0, 0, 0};
    int fd = cv_fault_make_plan();

    check_int(fd, >=, 0);
    w.normal =
        mmap(NULL, sizeof *w.normal, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(w.normal != MAP_FAILED);
    w.n = 0;
    check(in_child(see_normal, &w));
    for (unsigned i = 0; i < (unsigned)walks; i++) {
        w.who = i / 2;
        w.again = i % 2;
        n[w.who] += walk(&w);
    }
    (void)close(fd);
    (void)printf("# %s: %u faults in the process, %u in its children, %u in theirs\n", name, n[0],
        n[1], n[2]);
}

/* The body is an operation, whose faults are walked in a test of that name. */
#define FAULTS(name, walks)                                                                        \
    static int do_##name(void);                                                                    \
    TEST(every_fault_in_##name##_is_named, .deadline_s = 120)                                      \
    {                                                                                              \
        walk_all(#name, do_##name, walks);                                                         \
    }                                                                                              \
    static int do_##name(void)

/* The same for each start method. */
#define FAULTS_METHODS(name)                                                                       \
    static int name(enum covey_method method);                                                     \
    FAULTS(name##_by_fork, WITH_CHILDREN)                                                          \
    {                                                                                              \
        return name(COVEY_FORK);                                                                   \
    }                                                                                              \
    FAULTS(name##_by_spawn, WITH_CHILDREN)                                                         \
    {                                                                                              \
        return name(COVEY_SPAWN);                                                                  \
    }                                                                                              \
    FAULTS(name##_by_forkserver, WITH_CHILDREN)                                                    \
    {                                                                                              \
        return name(COVEY_FORKSERVER);                                                             \
    }                                                                                              \
    static int name(enum covey_method method)

/* The family ********************************************************************************* */

FAULTS(open, ALONE)
{
    int r;

    storm();
    r = covey_open();
    calm();
    if (r == 0)
        check_int(covey_close(), ==, 0);
    return r;
}

/* The family's memory must not become descriptor 0. */
FAULTS(open_without_stdin, ALONE)
{
    int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
    int r;

    check_int(saved, >=, 0);
    (void)close(STDIN_FILENO);
    storm();
    r = covey_open();
    calm();
    if (r == 0)
        check_int(covey_close(), ==, 0);
    check_int(dup2(saved, STDIN_FILENO), ==, STDIN_FILENO);
    (void)close(saved);
    return r;
}

/* Where the arena goes by preference, something else is. */
FAULTS(open_elsewhere, ALONE)
{
    const uintptr_t places[] = {0x100000000000, 0x7e9000000000, 0xe9000000000, 0x2000000000};
    int r;

    for (int i = 0; i < 4; i++) /* the second time they are there */
        (void)mmap((void *)places[i], 4096, PROT_NONE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    storm();
    r = covey_open();
    calm();
    if (r == 0)
        check_int(covey_close(), ==, 0);
    return r;
}

static void *open_and_end(void *result)
{
    int r = covey_open();

    check_named(r);
    *(int *)result = r;
    return NULL;
}

/* By a thread that ends; its process lives on. */
FAULTS(open_in_a_thread, ALONE)
{
    struct covey_stats stats = {.size = sizeof stats};
    pthread_t thread;
    int r = 0;
    pid_t pid = fork();

    if (pid == 0) {
        cv_fault_plan->pid = (uint32_t)getpid();
        storm();
        check_int(pthread_create(&thread, NULL, open_and_end, &r), ==, 0);
        check_int(pthread_join(thread, NULL), ==, 0);
        calm();
        check_int(covey_stats(&stats), ==, 0);
        check_int(stats.members, ==, 1);
        if (r != 0)
            check_int(covey_open(), ==, 0);
        _exit(0);
    }
    test_reap(pid, 0);
    armed = 0;
    return 0;
}

/* What others keep for their threads is not touched. */
FAULTS(open_beside_keys, ALONE)
{
    pthread_key_t key;
    int r;

    check_int(pthread_key_create(&key, NULL), ==, 0);
    check_int(pthread_setspecific(key, &armed), ==, 0);
    storm();
    r = covey_open();
    calm();
    if (r == 0)
        check_int(covey_close(), ==, 0);
    check(pthread_getspecific(key) == &armed);
    check_int(pthread_key_delete(key), ==, 0);
    return r;
}

FAULTS(close, ALONE)
{
    int r;

    check_int(covey_open(), ==, 0);
    check(covey_own(covey_alloc(100000)) == 0);
    storm();
    r = covey_close();
    calm();
    return r;
}

FAULTS(cpu_count, ALONE)
{
    unsigned cpus;

    storm();
    cpus = covey_cpu_count();
    calm();
    check_int(cpus, >=, 1);
    return 0;
}

/* A member that is killed, and nobody has noticed. */
FAULTS(stats, ALONE)
{
    struct covey_stats stats = {.size = sizeof stats};
    int status;
    int r;
    pid_t pid;

    check_int(covey_open(), ==, 0);
    pid = fork();
    if (pid == 0) {
        (void)covey_own(covey_alloc(1000));
        (void)kill(getpid(), SIGKILL);
    }
    check_int(waitpid(pid, &status, 0), ==, pid);
    storm();
    r = covey_stats(&stats);
    calm();
    check_int(covey_close(), ==, 0);
    return r;
}

/* Its life words say nothing; the kernel must be asked, also for what it has mapped: something that
 * comes before the arena, and the arena. */
FAULTS(looking_at_a_living_member, ALONE)
{
    struct covey_stats stats = {.size = sizeof stats};
    int ready[2];
    char byte;
    int r;
    pid_t pid;

    check_int(covey_open(), ==, 0);
    check_int(pipe(ready), ==, 0);
    pid = fork();
    if (pid == 0) {
        check_int(covey_open(), ==, 0);
        cv_thread_release(cv_self.slot->life, CV_LIVES);
        check(mmap((void *)(1 << 28), 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
              (void *)(1 << 28));
        check_int(write(ready[1], "!", 1), ==, 1);
        (void)pause();
    }
    check_int(read(ready[0], &byte, 1), ==, 1);
    (void)close(ready[0]);
    (void)close(ready[1]);
    storm();
    r = covey_stats(&stats);
    calm();
    if (r == 0)
        check_int(stats.members, ==, 2);
    (void)kill(pid, SIGKILL);
    test_reap(pid, SIGKILL);
    check_int(covey_close(), ==, 0);
    return r;
}

/* Memory ************************************************************************************* */

static int use_block(void *block, size_t size)
{
    int r = code_of(block);

    calm();
    if (block)
        memset(block, 'x', size);
    check_int(covey_free(block), ==, 0);
    return r;
}

FAULTS(first_alloc, ALONE)
{
    storm();
    return use_block(covey_alloc(100), 100);
}

FAULTS(alloc_small, ALONE)
{
    check_int(covey_open(), ==, 0);
    storm();
    return use_block(covey_alloc(5000), 5000);
}

FAULTS(alloc_large, ALONE)
{
    check_int(covey_open(), ==, 0);
    storm();
    return use_block(covey_alloc(3 << 20), 3 << 20);
}

FAULTS(alloc_aligned, ALONE)
{
    check_int(covey_open(), ==, 0);
    storm();
    return use_block(covey_alloc_aligned(1 << 20, 4096), 4096);
}

FAULTS(calloc, ALONE)
{
    check_int(covey_open(), ==, 0);
    storm();
    return use_block(covey_calloc(300, 1000), 300 * 1000);
}

/* The program has closed the descriptor. */
FAULTS(alloc_without_descriptor, ALONE)
{
    check_int(covey_open(), ==, 0);
    (void)close(cv_arena.memory.file.fd);
    storm();
    return use_block(covey_alloc(3 << 20), 3 << 20);
}

FAULTS(realloc, ALONE)
{
    char *block = covey_alloc(100);
    char *larger;
    int r;

    check(block != NULL);
    (void)strcpy(block, "as it was");
    storm();
    larger = covey_realloc(block, 1 << 20);
    r = code_of(larger);
    calm();
    check_str(larger ? larger : block, "as it was");
    check_int(covey_free(larger ? larger : block), ==, 0);
    return r;
}

FAULTS(trim, ALONE)
{
    int r;

    check_int(covey_free(covey_alloc(1 << 20)), ==, 0);
    storm();
    r = covey_trim();
    calm();
    return r;
}

FAULTS(alloc_own, ALONE)
{
    void *block;

    storm();
    block = covey_alloc_own(100);
    calm();
    return block ? covey_free(block) : covey_error_code();
}

FAULTS(own_and_share, ALONE)
{
    void *block = covey_alloc(100);
    int r;

    storm();
    r = covey_own(block);
    if (r == 0)
        r = covey_share(block);
    if (r == 0)
        r = covey_free(block);
    calm();
    if (r != 0)
        check_int(covey_free(block), ==, 0);
    return r;
}

/* Others that do something while this process waits ******************************************* */

struct others {
    covey_lock lock;
    covey_rlock rlock;
    covey_rwlock rwlock;
    covey_semaphore semaphore;
    covey_condition condition;
    covey_event event;
    covey_barrier barrier;
    covey_queue *queue;
    int step;
};

static struct others *make_others(void)
{
    struct others *o = covey_calloc(1, sizeof *o);

    check(o != NULL);
    return o;
}

/* A process that runs @body: it says by @step when it has begun. */
static pid_t start_other(struct others *o, void (*body)(struct others *))
{
    double end_s = test_now_s() + SOON_S;
    pid_t pid;

    (void)fflush(NULL);
    o->step = 0;
    pid = fork();
    check(pid >= 0);
    if (pid == 0) {
        body(o);
        _exit(0);
    }
    while (!__atomic_load_n(&o->step, __ATOMIC_SEQ_CST)) {
        check(test_now_s() < end_s);
        test_sleep_ms(1);
    }
    return pid;
}

static void begin(struct others *o)
{
    __atomic_store_n(&o->step, 1, __ATOMIC_SEQ_CST);
}

/* Locks ************************************************************************************** */

FAULTS(lock, ALONE)
{
    struct others *o = make_others();
    int r;

    storm();
    r = covey_lock_init(&o->lock);
    if (r == 0)
        r = covey_lock_acquire(&o->lock, 1);
    if (r == 0)
        r = covey_lock_release(&o->lock);
    if (r == 0)
        r = covey_lock_destroy(&o->lock);
    calm();
    check_int(covey_free(o), ==, 0);
    return r;
}

static void hold_for_a_while(struct others *o)
{
    check_int(covey_lock_acquire(&o->lock, 0), ==, 0);
    begin(o);
    test_sleep_ms(WAITS_MS);
    check_int(covey_lock_release(&o->lock), ==, 0);
}

FAULTS(lock_contended, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_lock_init(&o->lock), ==, 0);
    pid = start_other(o, hold_for_a_while);
    storm();
    r = covey_lock_acquire(&o->lock, SOON_S);
    if (r == 0)
        r = covey_lock_release(&o->lock);
    calm();
    test_reap(pid, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

static void hold_and_die(struct others *o)
{
    check_int(covey_lock_acquire(&o->lock, 0), ==, 0);
    begin(o);
    test_sleep_ms(WAITS_MS);
    (void)kill(getpid(), SIGKILL);
}

FAULTS(lock_of_the_dead, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_lock_init(&o->lock), ==, 0);
    pid = start_other(o, hold_and_die);
    storm();
    r = covey_lock_acquire(&o->lock, SOON_S);
    calm();
    check_int(r, ==, COVEY_EOWNERDEAD);
    check_int(covey_lock_release(&o->lock), ==, 0);
    test_reap(pid, SIGKILL);
    check_int(covey_free(o), ==, 0);
    return 0;
}

static void wait_for_lock(struct others *o)
{
    begin(o);
    check_int(covey_lock_acquire(&o->lock, SOON_S), ==, 0);
    check_int(covey_lock_release(&o->lock), ==, 0);
}

FAULTS(lock_release_to_a_sleeper, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_lock_init(&o->lock), ==, 0);
    check_int(covey_lock_acquire(&o->lock, 0), ==, 0);
    pid = start_other(o, wait_for_lock);
    test_sleep_ms(WAITS_MS);
    storm();
    r = covey_lock_release(&o->lock);
    calm();
    test_reap(pid, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

FAULTS(rlock, ALONE)
{
    struct others *o = make_others();
    int r;

    check_int(covey_rlock_init(&o->rlock), ==, 0);
    storm();
    r = covey_rlock_acquire(&o->rlock, 0);
    if (r == 0)
        r = covey_rlock_acquire(&o->rlock, 0);
    if (r == 0)
        r = covey_rlock_release(&o->rlock);
    if (r == 0)
        r = covey_rlock_release(&o->rlock);
    calm();
    check_int(covey_rlock_destroy(&o->rlock), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

static void write_for_a_while(struct others *o)
{
    check_int(covey_rwlock_acquire_write(&o->rwlock, 0), ==, 0);
    begin(o);
    test_sleep_ms(WAITS_MS);
    check_int(covey_rwlock_release(&o->rwlock), ==, 0);
}

FAULTS(rwlock_waiting, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_rwlock_init(&o->rwlock), ==, 0);
    pid = start_other(o, write_for_a_while);
    storm();
    r = covey_rwlock_acquire_read(&o->rwlock, SOON_S);
    if (r == 0)
        r = covey_rwlock_release(&o->rwlock);
    if (r == 0)
        r = covey_rwlock_acquire_write(&o->rwlock, SOON_S);
    if (r == 0)
        r = covey_rwlock_release(&o->rwlock);
    calm();
    test_reap(pid, 0);
    check_int(covey_rwlock_destroy(&o->rwlock), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

static void use_permit_for_a_while(struct others *o)
{
    check_int(covey_semaphore_acquire(&o->semaphore, 0), ==, 0);
    begin(o);
    test_sleep_ms(WAITS_MS);
    check_int(covey_semaphore_release(&o->semaphore), ==, 0);
}

FAULTS(semaphore_waiting, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_semaphore_init(&o->semaphore, 1, COVEY_SEMAPHORE), ==, 0);
    pid = start_other(o, use_permit_for_a_while);
    storm();
    r = covey_semaphore_acquire(&o->semaphore, SOON_S);
    if (r == 0)
        r = covey_semaphore_release(&o->semaphore);
    calm();
    test_reap(pid, 0);
    check_int(covey_semaphore_value(&o->semaphore), ==, 1);
    check_int(covey_semaphore_destroy(&o->semaphore), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

static void notify_later(struct others *o)
{
    begin(o);
    test_sleep_ms(WAITS_MS);
    check_int(covey_lock_acquire(&o->lock, SOON_S), ==, 0);
    check_int(covey_condition_notify_all(&o->condition), >=, 0);
    check_int(covey_lock_release(&o->lock), ==, 0);
}

/* Whatever comes of it, the lock is held again. */
FAULTS(condition_waiting, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_lock_init(&o->lock), ==, 0);
    check_int(covey_condition_init(&o->condition, &o->lock), ==, 0);
    check_int(covey_lock_acquire(&o->lock, 0), ==, 0);
    pid = start_other(o, notify_later);
    storm();
    r = covey_condition_wait(&o->condition, SOON_S);
    calm();
    check_int(covey_lock_release(&o->lock), ==, 0);
    test_reap(pid, 0);
    check_int(covey_condition_destroy(&o->condition), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

static void set_later(struct others *o)
{
    begin(o);
    test_sleep_ms(WAITS_MS);
    check_int(covey_event_set(&o->event), ==, 0);
}

FAULTS(event_waiting, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_event_init(&o->event), ==, 0);
    pid = start_other(o, set_later);
    storm();
    r = covey_event_wait(&o->event, SOON_S);
    calm();
    test_reap(pid, 0);
    check_int(covey_event_destroy(&o->event), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

/* A party that fails to come breaks the barrier for the other one, or leaves it waiting. */
static void come_later(struct others *o)
{
    begin(o);
    test_sleep_ms(WAITS_MS);
    (void)covey_barrier_wait(&o->barrier, SOON_S);
}

FAULTS(barrier_waiting, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_barrier_init(&o->barrier, 2), ==, 0);
    pid = start_other(o, come_later);
    storm();
    r = covey_barrier_wait(&o->barrier, SOON_S);
    calm();
    if (r < 0)
        check_int(covey_barrier_abort(&o->barrier), ==, 0);
    test_reap(pid, 0);
    check_int(covey_barrier_destroy(&o->barrier), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r < 0 ? r : 0;
}

/* More processes than an object has cells of its own ****************************************** */

enum {
    CROWD = 4
};

static void touch_semaphore(struct others *o)
{
    check_int(covey_semaphore_acquire(&o->semaphore, 0), ==, 0);
    check_int(covey_semaphore_release(&o->semaphore), ==, 0);
    begin(o);
    (void)pause();
}

static void touch_rwlock(struct others *o)
{
    check_int(covey_rwlock_acquire_read(&o->rwlock, 0), ==, 0);
    check_int(covey_rwlock_release(&o->rwlock), ==, 0);
    begin(o);
    (void)pause();
}

/* They use it, and live on. */
static void start_crowd(struct others *o, void (*touch)(struct others *), pid_t *pids)
{
    for (int i = 0; i < CROWD; i++)
        pids[i] = start_other(o, touch);
}

static void end_crowd(const pid_t *pids)
{
    for (int i = 0; i < CROWD; i++) {
        (void)kill(pids[i], SIGKILL);
        test_reap(pids[i], SIGKILL);
    }
}

FAULTS(semaphore_growth, ALONE)
{
    struct others *o = make_others();
    pid_t pids[CROWD];
    int r;

    check_int(covey_semaphore_init(&o->semaphore, 1, COVEY_BOUNDED), ==, 0);
    start_crowd(o, touch_semaphore, pids);
    storm();
    r = covey_semaphore_acquire(&o->semaphore, SOON_S);
    calm();
    check_int(covey_semaphore_value(&o->semaphore), ==, r == 0 ? 0 : 1);
    if (r != 0) /* there are no more cells, but it can be used as ever */
        check_int(covey_semaphore_acquire(&o->semaphore, 0), ==, 0);
    check_int(covey_semaphore_release(&o->semaphore), ==, 0);
    end_crowd(pids);
    check_int(covey_semaphore_destroy(&o->semaphore), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

static int grow_rwlock(int (*acquire)(covey_rwlock *, double))
{
    struct others *o = make_others();
    pid_t pids[CROWD];
    int r;

    check_int(covey_rwlock_init(&o->rwlock), ==, 0);
    start_crowd(o, touch_rwlock, pids);
    storm();
    r = acquire(&o->rwlock, SOON_S);
    calm();
    if (r == 0)
        check_int(covey_rwlock_release(&o->rwlock), ==, 0);
    check_int(covey_rwlock_acquire_write(&o->rwlock, 0), ==, 0); /* the gate is open */
    check_int(covey_rwlock_release(&o->rwlock), ==, 0);
    end_crowd(pids);
    check_int(covey_rwlock_destroy(&o->rwlock), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

FAULTS(rwlock_growth_by_reader, ALONE)
{
    return grow_rwlock(covey_rwlock_acquire_read);
}

FAULTS(rwlock_growth_by_writer, ALONE)
{
    return grow_rwlock(covey_rwlock_acquire_write);
}

static void stay_at_barrier(struct others *o)
{
    check_int(covey_barrier_wait(&o->barrier, 0), ==, 0);
    begin(o);
    (void)pause();
}

FAULTS(barrier_growth, ALONE)
{
    struct others *o = make_others();
    pid_t pids[CROWD];
    int r;

    check_int(covey_barrier_init(&o->barrier, 1), ==, 0);
    start_crowd(o, stay_at_barrier, pids);
    storm();
    r = covey_barrier_wait(&o->barrier, SOON_S);
    calm();
    check_int(covey_barrier_is_broken(&o->barrier), ==, 0);
    check_int(covey_barrier_wait(&o->barrier, 0), ==, 0);
    end_crowd(pids);
    check_int(covey_barrier_destroy(&o->barrier), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

/* More waiters than there are records ********************************************************* */

enum {
    RECORDS = 64 /* that the table has at first */
};

static struct cv_waiter *records[RECORDS];

static void take_records(void)
{
    for (int i = 0; i < RECORDS; i++) {
        records[i] = cv_waiter_take();
        check(records[i] != NULL);
    }
}

static void drop_records(void)
{
    for (int i = 0; i < RECORDS; i++)
        cv_waiter_drop(records[i]);
}

/* Without a record it waits unseen. */
FAULTS(lock_waiter_growth, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_lock_init(&o->lock), ==, 0);
    take_records();
    pid = start_other(o, hold_for_a_while);
    storm();
    r = covey_lock_acquire(&o->lock, SOON_S);
    calm();
    check_int(r, ==, 0);
    check_int(covey_lock_release(&o->lock), ==, 0);
    drop_records();
    test_reap(pid, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

/* Without one nobody could notify it: so it does not wait, and holds the lock. */
FAULTS(condition_waiter_growth, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_lock_init(&o->lock), ==, 0);
    check_int(covey_condition_init(&o->condition, &o->lock), ==, 0);
    check_int(covey_lock_acquire(&o->lock, 0), ==, 0);
    take_records();
    pid = start_other(o, notify_later);
    storm();
    r = covey_condition_wait(&o->condition, SOON_S);
    calm();
    drop_records();
    check_int(covey_lock_release(&o->lock), ==, 0);
    test_reap(pid, 0);
    check_int(covey_condition_destroy(&o->condition), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

/* More ways to wait *************************************************************************** */

static void hold_rlock_for_a_while(struct others *o)
{
    check_int(covey_rlock_acquire(&o->rlock, 0), ==, 0);
    begin(o);
    test_sleep_ms(WAITS_MS);
    check_int(covey_rlock_release(&o->rlock), ==, 0);
}

FAULTS(rlock_contended, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_rlock_init(&o->rlock), ==, 0);
    pid = start_other(o, hold_rlock_for_a_while);
    storm();
    r = covey_rlock_acquire(&o->rlock, SOON_S);
    if (r == 0)
        r = covey_rlock_acquire(&o->rlock, 0);
    calm();
    check_int(r, ==, 0);
    check_int(covey_rlock_release(&o->rlock), ==, 0);
    check_int(covey_rlock_release(&o->rlock), ==, 0);
    test_reap(pid, 0);
    check_int(covey_rlock_destroy(&o->rlock), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

static void read_for_a_while(struct others *o)
{
    check_int(covey_rwlock_acquire_read(&o->rwlock, 0), ==, 0);
    begin(o);
    test_sleep_ms(WAITS_MS);
    check_int(covey_rwlock_release(&o->rwlock), ==, 0);
}

FAULTS(rwlock_at_the_gate, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_rwlock_init(&o->rwlock), ==, 0);
    pid = start_other(o, read_for_a_while);
    storm();
    r = covey_rwlock_acquire_write(&o->rwlock, SOON_S);
    if (r == 0)
        r = covey_rwlock_release(&o->rwlock);
    calm();
    test_reap(pid, 0);
    check_int(covey_rwlock_acquire_read(&o->rwlock, 0), ==, 0);
    check_int(covey_rwlock_release(&o->rwlock), ==, 0);
    check_int(covey_rwlock_destroy(&o->rwlock), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

static void write_and_die(struct others *o)
{
    check_int(covey_rwlock_acquire_write(&o->rwlock, 0), ==, 0);
    begin(o);
    test_sleep_ms(WAITS_MS);
    (void)kill(getpid(), SIGKILL);
}

FAULTS(rwlock_of_the_dead, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_rwlock_init(&o->rwlock), ==, 0);
    pid = start_other(o, write_and_die);
    storm();
    r = covey_rwlock_acquire_read(&o->rwlock, SOON_S);
    calm();
    check_int(r, ==, COVEY_EOWNERDEAD);
    check_int(covey_rwlock_release(&o->rwlock), ==, 0);
    test_reap(pid, SIGKILL);
    check_int(covey_rwlock_destroy(&o->rwlock), ==, 0);
    check_int(covey_free(o), ==, 0);
    return 0;
}

static void count_later(struct others *o)
{
    begin(o);
    test_sleep_ms(WAITS_MS);
    check_int(covey_semaphore_release_many(&o->semaphore, 2), ==, 0);
}

FAULTS(semaphore_of_events, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_semaphore_init(&o->semaphore, 0, COVEY_EVENTS), ==, 0);
    pid = start_other(o, count_later);
    storm();
    r = covey_semaphore_acquire(&o->semaphore, SOON_S);
    if (r == 0)
        r = covey_semaphore_release_many(&o->semaphore, 1);
    calm();
    test_reap(pid, 0);
    check_int(covey_semaphore_value(&o->semaphore), ==, 2);
    check_int(covey_semaphore_destroy(&o->semaphore), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

static int is_step_two(void *context)
{
    return __atomic_load_n(&((struct others *)context)->step, __ATOMIC_SEQ_CST) == 2;
}

static void notify_when_true(struct others *o)
{
    begin(o);
    test_sleep_ms(WAITS_MS);
    check_int(covey_lock_acquire(&o->lock, SOON_S), ==, 0);
    __atomic_store_n(&o->step, 2, __ATOMIC_SEQ_CST);
    check_int(covey_condition_notify(&o->condition, 1), ==, 0);
    check_int(covey_lock_release(&o->lock), ==, 0);
}

FAULTS(condition_wait_for, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_lock_init(&o->lock), ==, 0);
    check_int(covey_condition_init(&o->condition, &o->lock), ==, 0);
    check_int(covey_lock_acquire(&o->lock, 0), ==, 0);
    pid = start_other(o, notify_when_true);
    storm();
    r = covey_condition_wait_for(&o->condition, is_step_two, o, SOON_S);
    calm();
    check_int(covey_lock_release(&o->lock), ==, 0);
    test_reap(pid, 0);
    check_int(covey_condition_destroy(&o->condition), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

static void wait_at_condition(struct others *o)
{
    check_int(covey_lock_acquire(&o->lock, SOON_S), ==, 0);
    begin(o);
    check_int(covey_condition_wait(&o->condition, SOON_S), ==, 0);
    check_int(covey_lock_release(&o->lock), ==, 0);
}

FAULTS(condition_notify, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_lock_init(&o->lock), ==, 0);
    check_int(covey_condition_init(&o->condition, &o->lock), ==, 0);
    pid = start_other(o, wait_at_condition);
    check_int(covey_lock_acquire(&o->lock, SOON_S), ==, 0);
    test_sleep_ms(WAITS_MS);
    storm();
    r = covey_condition_notify(&o->condition, 1);
    if (r == 0)
        r = covey_lock_release(&o->lock);
    calm();
    check_int(r, ==, 0);
    test_reap(pid, 0);
    check_int(covey_condition_destroy(&o->condition), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

static void wait_for_event(struct others *o)
{
    begin(o);
    check_int(covey_event_wait(&o->event, SOON_S), ==, 0);
}

FAULTS(event_set, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_event_init(&o->event), ==, 0);
    pid = start_other(o, wait_for_event);
    test_sleep_ms(WAITS_MS);
    storm();
    r = covey_event_set(&o->event);
    if (r == 0)
        r = covey_event_clear(&o->event);
    calm();
    check_int(r, ==, 0);
    test_reap(pid, 0);
    check_int(covey_event_destroy(&o->event), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

static int act(void *context)
{
    (void)context;
    return 0;
}

static void come_first(struct others *o)
{
    begin(o);
    (void)covey_barrier_wait(&o->barrier, SOON_S);
}

FAULTS(barrier_action, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_barrier_init(&o->barrier, 2), ==, 0);
    pid = start_other(o, come_first);
    test_sleep_ms(WAITS_MS);
    storm();
    r = covey_barrier_wait_then(&o->barrier, act, NULL, SOON_S);
    calm();
    if (r < 0)
        check_int(covey_barrier_abort(&o->barrier), ==, 0);
    test_reap(pid, 0);
    check_int(covey_barrier_destroy(&o->barrier), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r < 0 ? r : 0;
}

/* The alarm comes while it waits. */
static void come_and_die(struct others *o)
{
    begin(o);
    (void)ualarm(WAITS_MS * 1000, 0);
    (void)covey_barrier_wait(&o->barrier, SOON_S);
}

FAULTS(barrier_of_the_dead, ALONE)
{
    struct others *o = make_others();
    int r;
    pid_t pid;

    check_int(covey_barrier_init(&o->barrier, 3), ==, 0);
    pid = start_other(o, come_and_die);
    storm();
    r = covey_barrier_wait(&o->barrier, SOON_S);
    calm();
    check_fails(r, COVEY_EBROKEN, "died");
    test_reap(pid, SIGALRM);
    check_int(covey_barrier_reset(&o->barrier), ==, 0);
    check_int(covey_barrier_destroy(&o->barrier), ==, 0);
    check_int(covey_free(o), ==, 0);
    return 0;
}

/* Deadlocks *********************************************************************************** */

static void hold_permit_and_wait(struct others *o)
{
    check_int(covey_semaphore_acquire(&o->semaphore, 0), ==, 0);
    begin(o);
    (void)covey_lock_acquire(&o->lock, 10 * WAITS_MS / 1000.0);
    check_int(covey_semaphore_release(&o->semaphore), ==, 0);
    _exit(0);
}

/* If it cannot be looked for, there is a wait like any other. */
FAULTS(deadlock, ALONE)
{
    struct others *o;
    int r;
    pid_t pid;

    check_int(covey_open(.deadlocks = COVEY_DEADLOCKS_DETECT), ==, 0);
    o = make_others();
    check_int(covey_lock_init(&o->lock), ==, 0);
    check_int(covey_semaphore_init(&o->semaphore, 1, COVEY_BOUNDED), ==, 0);
    check_int(covey_lock_acquire(&o->lock, 0), ==, 0);
    pid = start_other(o, hold_permit_and_wait);
    test_sleep_ms(WAITS_MS);
    storm();
    r = covey_semaphore_acquire(&o->semaphore, SOON_S);
    calm();
    check(r == 0 || r == COVEY_EDEADLK);
    if (r == 0)
        check_int(covey_semaphore_release(&o->semaphore), ==, 0);
    test_reap(pid, 0);
    check_int(covey_lock_release(&o->lock), ==, 0);
    check_int(covey_semaphore_destroy(&o->semaphore), ==, 0);
    check_int(covey_free(o), ==, 0);
    return 0;
}

FAULTS(waits_print, ALONE)
{
    struct others *o = make_others();
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int r;

    check_int(fd, >=, 0);
    check_int(covey_lock_init(&o->lock), ==, 0);
    check_int(covey_lock_acquire(&o->lock, 0), ==, 0);
    storm();
    r = covey_waits_print(fd);
    calm();
    (void)close(fd);
    check_int(covey_lock_release(&o->lock), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

/* Values and arrays *************************************************************************** */

static int make_and_free(double *array)
{
    int r = code_of(array);

    calm();
    if (array)
        array[1] = 2;
    check_int(covey_array_free(array), ==, 0);
    return r;
}

FAULTS(array, ALONE)
{
    storm();
    return make_and_free(covey_array(double, 1000));
}

FAULTS(array_large, ALONE)
{
    check_int(covey_open(), ==, 0);
    storm();
    return make_and_free(covey_array_locked(double, 1000000));
}

FAULTS(array_freed, ALONE)
{
    double *array = covey_array_locked(double, 100000);
    int r;

    check(array != NULL);
    storm();
    r = covey_array_free(array);
    calm();
    if (r != 0)
        check_int(covey_array_free(array), ==, 0);
    return r;
}

/* Queues ************************************************************************************* */

FAULTS(queue_open, ALONE)
{
    covey_queue *queue = NULL;
    int r;

    storm();
    r = covey_queue_open(&queue);
    calm();
    check_int(covey_queue_free(queue), ==, 0);
    return r;
}

FAULTS(queue, ALONE)
{
    covey_queue *queue;
    int item = 5;
    int r;

    check_int(covey_queue_open(&queue, .items = 1), ==, 0);
    storm();
    r = covey_queue_put(queue, &item, sizeof item, 0);
    if (r == 0)
        check_int(covey_queue_put(queue, &item, sizeof item, 0.001), ==, COVEY_EFULL);
    if (r == 0)
        r = covey_queue_get(queue, &item, sizeof item, NULL, 0);
    if (r == 0)
        check_int(covey_queue_get(queue, &item, sizeof item, NULL, 0.001), ==, COVEY_EEMPTY);
    if (r == 0)
        r = covey_queue_close(queue);
    if (r == 0)
        r = covey_queue_free(queue);
    calm();
    if (r != 0)
        check_int(covey_queue_free(queue), ==, 0);
    return r;
}

static void get_later(struct others *o)
{
    int item = 0;

    begin(o);
    test_sleep_ms(WAITS_MS);
    check_int(covey_queue_get(o->queue, &item, sizeof item, NULL, SOON_S), ==, 0);
    check_int(item, ==, 1);
}

FAULTS(queue_put_waiting, ALONE)
{
    struct others *o = make_others();
    int item = 1;
    int r;
    pid_t pid;

    check_int(covey_queue_open(&o->queue, .items = 1), ==, 0);
    check_int(covey_queue_put(o->queue, &item, sizeof item, 0), ==, 0);
    pid = start_other(o, get_later);
    item = 2;
    storm();
    r = covey_queue_put(o->queue, &item, sizeof item, SOON_S);
    calm();
    test_reap(pid, 0);
    if (r == 0)
        check_int(covey_queue_get(o->queue, &item, sizeof item, NULL, 0), ==, 0);
    check_int(item, ==, 2);
    check_int(covey_queue_free(o->queue), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

static void put_later(struct others *o)
{
    int item = 3;

    begin(o);
    test_sleep_ms(WAITS_MS);
    check_int(covey_queue_put(o->queue, &item, sizeof item, SOON_S), ==, 0);
}

FAULTS(queue_get_waiting, ALONE)
{
    struct others *o = make_others();
    int item = 0;
    int r;
    pid_t pid;

    check_int(covey_queue_open(&o->queue), ==, 0);
    pid = start_other(o, put_later);
    storm();
    r = covey_queue_get(o->queue, &item, sizeof item, NULL, SOON_S);
    calm();
    test_reap(pid, 0);
    if (r != 0)
        check_int(covey_queue_get(o->queue, &item, sizeof item, NULL, 0), ==, 0);
    check_int(item, ==, 3);
    check_int(covey_queue_free(o->queue), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

/* A large item is a block; it goes in and out again. */
FAULTS(queue_large, ALONE)
{
    static char large[20000];
    covey_queue *queue;
    size_t size;
    int r;

    check_int(covey_queue_open(&queue), ==, 0);
    storm();
    r = covey_queue_put(queue, large, sizeof large, 0);
    if (r == 0)
        r = covey_queue_get(queue, large, sizeof large, &size, 0);
    calm();
    check_int(covey_queue_free(queue), ==, 0);
    return r;
}

/* What has gone wrong with an item says the call that begins with it. */
FAULTS(queue_grow, ALONE)
{
    static char items[200][100];
    covey_queue *queue;
    long n;
    int r = 0;

    check_int(covey_queue_open(&queue, .unbounded = true, .item_size = 100), ==, 0);
    storm();
    for (long put = 0; put < 1000 && r == 0; put += n) {
        n = covey_queue_put_many(queue, items, sizeof items[0], NULL, 200, 0);
        check(n != 0);
        r = n < 0 ? (int)n : 0;
    }
    calm();
    check_int(covey_queue_free(queue), ==, 0);
    return r;
}

FAULTS(queue_block, ALONE)
{
    covey_queue *queue;
    void *block = covey_alloc(100);
    size_t size;
    int r;

    check_int(covey_own(block), ==, 0);
    check_int(covey_queue_open(&queue), ==, 0);
    storm();
    r = covey_queue_put_block(queue, block, 100, 0);
    if (r == 0)
        r = covey_queue_get_block(queue, &block, &size, 0);
    if (r == 0)
        r = covey_queue_put(queue, "small", 6, 0);
    if (r == 0) {
        check_int(covey_free(block), ==, 0);
        block = NULL;
        r = covey_queue_get_block(queue, &block, &size, 0);
    }
    calm();
    check_int(covey_free(block), ==, 0);
    check_int(covey_queue_free(queue), ==, 0);
    return r;
}

FAULTS(queue_in_place, ALONE)
{
    static const size_t sizes[] = {100, 10000};
    covey_queue *queue;
    int r = 0;

    check_int(covey_queue_open(&queue), ==, 0);
    storm();
    for (int i = 0; i < 2 && r == 0; i++) {
        void *item;
        const void *seen;

        r = covey_queue_reserve(queue, sizes[i], &item, 0);
        if (r == 0)
            r = covey_queue_cancel(queue, item);
        if (r == 0)
            r = covey_queue_reserve(queue, sizes[i], &item, 0);
        if (r == 0)
            r = covey_queue_commit(queue, item, sizes[i]);
        if (r == 0)
            r = covey_queue_peek(queue, &seen, NULL, 0);
        if (r == 0)
            r = covey_queue_release(queue, seen);
    }
    calm();
    check_int(covey_queue_free(queue), ==, 0);
    return r;
}

FAULTS(queue_joinable, ALONE)
{
    covey_queue *queue;
    int item = 3;
    bool is_in;
    int r;

    check_int(covey_queue_open(&queue, .items = 4, .redeliver = true, .priorities = 2), ==, 0);
    storm();
    r = covey_queue_put_at(queue, 1, &item, sizeof item, 0);
    is_in = r == 0;
    if (r == 0)
        r = covey_queue_get(queue, &item, sizeof item, NULL, 0);
    is_in = is_in && r != 0;
    if (r == 0)
        check_int(covey_queue_join(queue, 0.001), ==, COVEY_ETIMEDOUT);
    if (r == 0)
        r = covey_queue_task_done(queue);
    if (r == 0)
        r = covey_queue_join(queue, 0);
    calm();
    if (is_in) { /* there was no memory for the claim */
        item = 0;
        check_int(covey_queue_get(queue, &item, sizeof item, NULL, 0), ==, 0);
        check_int(item, ==, 3);
    }
    check_int(covey_queue_free(queue), ==, 0);
    return r;
}

static void work_later(struct others *o)
{
    int item;

    check_int(covey_queue_get(o->queue, &item, sizeof item, NULL, 0), ==, 0);
    begin(o);
    test_sleep_ms(WAITS_MS);
    check_int(covey_queue_task_done(o->queue), ==, 0);
}

FAULTS(queue_join_waiting, ALONE)
{
    struct others *o = make_others();
    int item = 1;
    int r;
    pid_t pid;

    check_int(covey_queue_open(&o->queue, .joinable = true), ==, 0);
    check_int(covey_queue_put(o->queue, &item, sizeof item, 0), ==, 0);
    pid = start_other(o, work_later);
    storm();
    r = covey_queue_join(o->queue, SOON_S);
    calm();
    test_reap(pid, 0);
    check_int(covey_queue_free(o->queue), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

static void claim_and_die(struct others *o)
{
    int item;

    check_int(covey_queue_get(o->queue, &item, sizeof item, NULL, 0), ==, 0);
    begin(o);
    test_sleep_ms(WAITS_MS);
    (void)kill(getpid(), SIGKILL);
}

/* What a dead process had got comes again. */
FAULTS(queue_redelivered, ALONE)
{
    struct others *o = make_others();
    int item = 4;
    int r;
    pid_t pid;

    check_int(covey_queue_open(&o->queue, .redeliver = true), ==, 0);
    check_int(covey_queue_put(o->queue, &item, sizeof item, 0), ==, 0);
    pid = start_other(o, claim_and_die);
    item = 0;
    storm();
    r = covey_queue_get(o->queue, &item, sizeof item, NULL, SOON_S);
    calm();
    test_reap(pid, SIGKILL);
    if (r != 0)
        check_int(covey_queue_get(o->queue, &item, sizeof item, NULL, SOON_S), ==, 0);
    check_int(item, ==, 4);
    check_int(covey_queue_free(o->queue), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

static void put_once(struct others *o)
{
    int item = 1;

    check_int(covey_queue_put(o->queue, &item, sizeof item, 0), ==, 0);
    begin(o);
}

/* So many processes have put that the queue needs more room for what it knows of them. */
FAULTS(queue_producers, ALONE)
{
    struct others *o = make_others();
    int item = 2;
    int r;

    check_int(covey_queue_open(&o->queue, .producers = 5), ==, 0);
    for (int i = 0; i < 4; i++)
        test_reap(start_other(o, put_once), 0);
    storm();
    r = covey_queue_put(o->queue, &item, sizeof item, 0);
    if (r == 0)
        r = covey_queue_leave(o->queue);
    calm();
    for (int n = r == 0 ? 5 : 4; n > 0; n--)
        check_int(covey_queue_get(o->queue, &item, sizeof item, NULL, SOON_S), ==, 0);
    if (r == 0)
        check_int(covey_queue_get(o->queue, &item, sizeof item, NULL, SOON_S), ==, COVEY_ECLOSED);
    check_int(covey_queue_free(o->queue), ==, 0);
    check_int(covey_free(o), ==, 0);
    return r;
}

/* Pipes ************************************************************************************** */

FAULTS(pipe, ALONE)
{
    covey_pipe *here;
    covey_pipe *there;
    char bytes[10];
    int r;
    int closed;

    storm();
    r = covey_pipe_open(&here, &there);
    if (r != 0)
        return r;
    r = covey_pipe_send(here, "message", 8, 0);
    if (r == 0)
        r = covey_pipe_receive(there, bytes, sizeof bytes, NULL, 0);
    if (r == 0)
        check_int(covey_pipe_poll(there, 0.001), ==, 0);
    closed = covey_pipe_close(here);
    calm();
    if (closed != 0)
        check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    return r;
}

FAULTS(pipe_passed_on, ALONE)
{
    covey_pipe *here;
    covey_pipe *there;
    covey_pipe *got = NULL;
    covey_queue *queue;
    int r;

    check_int(covey_queue_open(&queue), ==, 0);
    check_int(covey_pipe_open(&here, &there), ==, 0);
    storm();
    r = covey_pipe_put(queue, there, 0);
    if (r == 0)
        r = covey_pipe_get(queue, &got, 0);
    calm();
    if (r == 0)
        check(got == there);
    check_int(covey_queue_free(queue), ==, 0);
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(there), ==, 0);
    return r;
}

struct talk {
    covey_pipe *end;
};

static int answer(void *argument)
{
    struct talk *talk = argument;

    return covey_pipe_send(talk->end, "here", 5, COVEY_FOREVER) ? 1 : 0;
}

/* To a process that is started with its end, or is not. */
FAULTS_METHODS(pipe_to_a_child)
{
    struct talk talk;
    covey_pipe *here;
    covey_process *process = NULL;
    char bytes[10];
    int r;

    check_int(covey_pipe_open(&here, &talk.end), ==, 0);
    storm();
    r = covey_process_start(
        &process, answer, COVEY_ARGUMENT(talk), .method = method, .name = "answer");
    if (r == 0)
        r = covey_pipe_receive(here, bytes, sizeof bytes, NULL, SOON_S);
    calm();
    if (process) {
        check(covey_process_join(process, COVEY_FOREVER) == 0 || has_hit());
        check_int(covey_process_close(process), ==, 0);
    }
    check_int(covey_pipe_close(here), ==, 0);
    check_int(covey_pipe_close(talk.end), ==, 0);
    return r == COVEY_ECLOSED && has_hit() ? 0 : r;
}

/* Waiting for several things, and descriptors ************************************************ */

static int wait_for_item(bool by_poll)
{
    struct others *o = make_others();
    struct covey_waited things[3] = {{.kind = COVEY_WAIT_DESCRIPTOR}};
    covey_queue *silent;
    int ends[2];
    int r;
    pid_t pid;

    check_int(pipe2(ends, O_CLOEXEC), ==, 0);
    check_int(covey_queue_open(&o->queue), ==, 0);
    check_int(covey_queue_open(&silent), ==, 0);
    things[0].descriptor = ends[0];
    things[1] = (struct covey_waited)COVEY_WAITED(silent);
    things[2] = (struct covey_waited)COVEY_WAITED(o->queue);
    pid = start_other(o, put_later);
    storm();
    r = covey_wait(things + !by_poll, 2 + by_poll, SOON_S);
    calm();
    test_reap(pid, 0);
    if (r > 0)
        check_int(things[2].ready, ==, 1);
    check_int(covey_queue_free(o->queue), ==, 0);
    check_int(covey_queue_free(silent), ==, 0);
    check_int(covey_free(o), ==, 0);
    (void)close(ends[0]);
    (void)close(ends[1]);
    return r > 0 ? 0 : r;
}

FAULTS(waiting_for_objects, ALONE)
{
    return wait_for_item(false);
}

FAULTS(waiting_for_objects_and_a_descriptor, ALONE)
{
    return wait_for_item(true);
}

FAULTS(waiting_for_the_process_of_another, ALONE)
{
    covey_process *parent;
    struct covey_waited thing;
    int r = 0;
    pid_t pid = covey_fork();

    if (pid == 0) {
        cv_fault_plan->pid = (uint32_t)getpid();
        parent = covey_process_parent();
        thing = (struct covey_waited)COVEY_WAITED(parent);
        storm();
        r = covey_wait(&thing, 1, 0.01);
        calm();
        check_named(r == COVEY_ETIMEDOUT ? 0 : r);
        _exit(0);
    }
    test_reap(pid, 0);
    armed = 0;
    return 0;
}

/* A few times, for the thread has its opportunities, too. */
static int use_descriptor(covey_queue *queue)
{
    int item = 1;

    for (int i = 0; i < 3; i++) {
        struct pollfd p = {.fd = covey_queue_fd(queue), .events = POLLIN};

        if (p.fd < 0)
            return p.fd;
        check_int(covey_queue_put(queue, &item, sizeof item, 0), ==, 0);
        check_int(poll(&p, 1, SOON_S * 1000), ==, 1);
        check_int(covey_queue_get(queue, &item, sizeof item, NULL, 0), ==, 0);
        check_int(covey_queue_get(queue, &item, sizeof item, NULL, 0), ==, COVEY_EEMPTY);
    }
    return covey_queue_fd_close(queue);
}

FAULTS(queue_fd, ALONE)
{
    covey_queue *queue;
    int r;

    check_int(covey_queue_open(&queue), ==, 0);
    storm();
    r = use_descriptor(queue);
    calm();
    check_int(covey_queue_free(queue), ==, 0);
    return r;
}

FAULTS(descriptor_put, ALONE)
{
    covey_queue *queue;
    int r;

    check_int(covey_queue_open(&queue), ==, 0);
    storm();
    r = covey_descriptor_put(queue, STDERR_FILENO, 0);
    calm();
    check_int(covey_queue_free(queue), ==, 0);
    return r;
}

/* Once: what the sender's thread cannot do at all, the receiver cannot name. */
FAULTS(descriptor_get, ONCE)
{
    covey_queue *queue;
    int fd = -1;
    int r;

    check_int(covey_queue_open(&queue), ==, 0);
    check_int(covey_descriptor_put(queue, STDERR_FILENO, 0), ==, 0);
    storm();
    r = covey_descriptor_get(queue, &fd, SOON_S);
    calm();
    if (r == 0)
        check_int(close(fd), ==, 0);
    check_int(covey_queue_free(queue), ==, 0);
    return r;
}

/* Processes ********************************************************************************** */

static int give_back(void *argument)
{
    return *(int *)argument;
}

static int pause_for_ever(void *argument)
{
    (void)argument;
    (void)pause(); /* no handler ever returns here */
    return 0;
}

/* Without faults: whatever became of it, it can be ended and closed. */
static void end(covey_process *p)
{
    if (!p)
        return;
    check_int(covey_process_kill(p), ==, 0);
    (void)covey_process_join(p, SOON_S);
    check_int(covey_process_close(p), ==, 0);
}

FAULTS_METHODS(process)
{
    covey_process *p = NULL;
    int value = 7;
    int code = -1;
    int r;

    storm();
    r = covey_process_start(&p, give_back, COVEY_ARGUMENT(value), .method = method);
    if (r == 0)
        r = covey_process_join(p, SOON_S);
    if (r == 0)
        r = covey_process_exit_code(p, &code);
    if (r == 0)
        check_int(code, ==, 7);
    if (r == 0)
        r = covey_process_close(p);
    calm();
    if (r != 0)
        end(p);
    return r;
}

FAULTS_METHODS(process_terminate)
{
    covey_process *p = NULL;
    covey_process *list[2];
    int code = -1;
    int r;

    check_int(covey_process_start(&p, pause_for_ever, .method = method), ==, 0);
    check_has(covey_process_name(p), "process-");
    storm();
    r = covey_active_children(list, 2);
    if (r > 0) {
        check_int(r, ==, 1);
        check(list[0] == p);
        r = covey_process_terminate(p);
    }
    if (r == 0)
        r = covey_process_join(p, SOON_S);
    if (r == 0)
        r = covey_process_exit_code(p, &code);
    if (r == 0)
        check_int(code, ==, -SIGTERM);
    calm();
    end(p);
    return r;
}

FAULTS_METHODS(process_fd)
{
    covey_process *p = NULL;
    int r;

    storm();
    r = covey_process_start(&p, pause_for_ever, .method = method);
    if (r == 0)
        r = covey_process_fd(p);
    calm();
    end(p);
    return r < 0 ? r : 0;
}

/* The program has closed the descriptor that covey had of the process. */
FAULTS(process_without_descriptor, ALONE)
{
    covey_process *p = NULL;
    int code;
    int r;

    check_int(covey_process_start(&p, pause_for_ever), ==, 0);
    (void)close(p->pidfd.fd);
    storm();
    r = covey_process_terminate(p);
    if (r == 0)
        r = covey_process_join(p, SOON_S);
    if (r == 0)
        r = covey_process_exit_code(p, &code);
    if (r == 0)
        check_int(code, ==, -SIGTERM);
    if (r == 0)
        r = covey_process_fd(p);
    calm();
    end(p);
    return r < 0 ? r : 0;
}

/* The program wants no zombies, so only the kernel or the process itself can say how it ended. */
FAULTS(process_without_zombie, ALONE)
{
    covey_process *p = NULL;
    int value = 3;
    int code = 0;
    int r;

    (void)signal(SIGCHLD, SIG_IGN);
    check_int(covey_process_start(&p, give_back, COVEY_ARGUMENT(value)), ==, 0);
    storm();
    r = covey_process_join(p, SOON_S);
    if (r == 0)
        r = covey_process_exit_code(p, &code);
    if (r == 0)
        check_int(code, ==, 3);
    calm();
    end(p);
    (void)signal(SIGCHLD, SIG_DFL);
    return r;
}

FAULTS_METHODS(process_detached)
{
    int value = 0;
    int r;

    storm();
    r = covey_process_start(NULL, give_back, COVEY_ARGUMENT(value), .method = method);
    if (r == 0)
        r = covey_active_children(NULL, 0);
    linger();
    calm();
    return r;
}

/* Another member than the one that has started it. */
FAULTS(process_of_another, ALONE)
{
    covey_process *p = NULL;
    int r;
    pid_t pid;

    check_int(covey_process_start(&p, pause_for_ever, .method = COVEY_FORK), ==, 0);
    pid = fork();
    if (pid == 0) {
        check_int(covey_open(), ==, 0);
        cv_fault_plan->pid = (uint32_t)getpid();
        storm();
        r = covey_process_signal(p, SIGTERM);
        if (r == 0)
            r = covey_process_join(p, SOON_S);
        calm();
        check_named(r);
        if (r != 0)
            check_int(covey_process_signal(p, SIGTERM), ==, 0);
        _exit(0);
    }
    check_int(covey_process_join(p, SOON_S), ==, 0);
    test_reap(pid, 0);
    armed = 0;
    end(p);
    return 0;
}

FAULTS(forked, WITH_CHILDREN)
{
    covey_process *p;
    int r = 0;
    pid_t pid;

    check_int(covey_open(), ==, 0);
    storm();
    pid = covey_fork();
    if (pid == 0)
        _exit(covey_process_parent() ? 0 : 1);
    if (pid < 0)
        r = pid;
    p = r == 0 ? covey_process_find(pid) : NULL;
    if (r == 0)
        r = code_of(p);
    if (p)
        r = covey_process_join(p, SOON_S);
    calm();
    end(p);
    return r;
}

/* The middle process starts a daemon and ends, as well as it can. */
struct family {
    enum covey_method method;
    int daemon;
    int lives;
    int code;
    char message[200];
};

static int be_daemon(void *argument)
{
    __atomic_store_n(&(*(struct family **)argument)->lives, 1, __ATOMIC_SEQ_CST);
    return pause_for_ever(NULL);
}

static int start_daemon(void *argument)
{
    struct family *f = *(struct family **)argument;
    covey_process *p = NULL;

    f->code =
        covey_process_start(&p, be_daemon, COVEY_ARGUMENT(f), .method = f->method, .daemon = true);
    (void)snprintf(f->message, sizeof f->message, "%s", covey_error());
    f->daemon = f->code == 0 ? covey_process_pid(p) : 0;
    for (int ms = 0; ms < 50 && f->daemon && !__atomic_load_n(&f->lives, __ATOMIC_SEQ_CST); ms++)
        test_sleep_ms(covey_process_is_alive(p) == 1);
    return 0;
}

FAULTS_METHODS(process_daemon)
{
    struct family *f = covey_calloc(1, sizeof *f);
    covey_process *p = NULL;
    int r;

    check(f != NULL);
    check_int(prctl(PR_SET_CHILD_SUBREAPER, 1), ==, 0);
    f->method = method;
    storm();
    r = covey_process_start(&p, start_daemon, COVEY_ARGUMENT(f));
    if (r == 0)
        check_int(waitpid(covey_process_pid(p), NULL, 0), >, 0);
    if (f->daemon) /* before covey finds out, which would end it, too */
        check(kill(f->daemon, 0) != 0 || test_ends_within(f->daemon, SOON_S));
    if (r == 0)
        r = covey_process_join(p, SOON_S);
    calm();
    end(p);
    while (waitpid(-1, NULL, 0) > 0) { /* the daemon, and the fork server */
    }
    if (r == 0 && f->code != 0) {
        check(f->message[0] != '\0');
        check_int(f->code, !=, COVEY_EINVAL);
    }
    check_int(covey_free(f), ==, 0);
    return r;
}

/* A function in a library that a fresh image has not loaded. */
FAULTS(function_of_a_library, WITH_CHILDREN)
{
    covey_function *function;
    void *library = dlopen("libm.so.6", RTLD_NOW);
    covey_process *p = NULL;
    int r;

    check(library != NULL);
    function = (covey_function *)(uintptr_t)dlsym(library, "ilogb");
    check(function != NULL);
    storm();
    r = covey_process_start(&p, function, .method = COVEY_SPAWN);
    if (r == 0)
        r = covey_process_join(p, SOON_S);
    calm();
    end(p);
    if (r == COVEY_EINVAL && strcmp(cv_fault_plan->call, "dlopen") == 0)
        r = 0; /* as documented: the library cannot be loaded */
    return r;
}

#ifdef TEST_TLS

/* Connections ******************************************************************************** */

static const char key[32] = "0123456789abcdef0123456789abcde";

/* The other side is in a child, where nothing fails. */
struct elsewhere {
    char address[300];
    pid_t pid;
};

static void echo(const struct elsewhere *e, int ready)
{
    covey_listener *l = NULL;
    covey_connection *c;

    check_int(
        covey_listener_open(&l, .address = e->address, .key = key, .key_size = sizeof key), ==, 0);
    check_int(write(ready, covey_listener_address(l), sizeof e->address), >, 0);
    for (;;) {
        void *bytes;
        size_t size;

        check_int(covey_listener_accept(l, &c, COVEY_FOREVER), ==, 0);
        while (covey_connection_receive_alloc(c, &bytes, &size, SOON_S) == 0) {
            (void)covey_connection_send(c, bytes, size, SOON_S);
            free(bytes);
        }
        check_int(covey_connection_close(c), ==, 0);
    }
}

/* Again and again: the one that was in the making when something failed is lost. */
static void knock(const struct elsewhere *e)
{
    for (;;) {
        covey_connection *c;
        char bytes[8];

        if (covey_connection_open(&c, .address = e->address, .key = key, .key_size = sizeof key,
                .timeout_s = 1) == 0) {
            (void)covey_connection_send(c, "knocking", 8, SOON_S);
            (void)covey_connection_receive(c, bytes, sizeof bytes, NULL, SOON_S);
            check_int(covey_connection_close(c), ==, 0);
        }
        test_sleep_ms(1);
    }
}

static void start_echo(struct elsewhere *e, const char *address)
{
    int ready[2];

    (void)snprintf(e->address, sizeof e->address, "%s", address);
    check_int(pipe(ready), ==, 0);
    e->pid = fork();
    if (e->pid == 0)
        echo(e, ready[1]);
    check_int(read(ready[0], e->address, sizeof e->address), >, 0);
    (void)close(ready[0]);
    (void)close(ready[1]);
}

static void stop_elsewhere(struct elsewhere *e)
{
    check_int(kill(e->pid, SIGKILL), ==, 0);
    check_int(waitpid(e->pid, NULL, 0), ==, e->pid);
}

/* As documented: OpenSSL cannot be loaded. */
static int without_dlopen(int r)
{
    return r == COVEY_ESTATE && cv_fault_plan && strcmp(cv_fault_plan->call, "dlopen") == 0 ? 0 : r;
}

static void check_not_corrupt(covey_connection *c)
{
    void *came = NULL;
    size_t n;
    int r = covey_connection_receive_alloc(c, &came, &n, SOON_S);

    check(r == 0 || r == COVEY_ENOMEM);
    free(came);
}

static int connect_and_talk(const char *address, size_t size)
{
    struct elsewhere e;
    covey_connection *c = NULL;
    char *bytes = calloc(1, size);
    void *came = NULL;
    size_t n = 0;
    int r;

    check(bytes != NULL);
    start_echo(&e, address);
    storm();
    r = covey_connection_open(&c, .address = e.address, .key = key, .key_size = sizeof key);
    if (r == 0)
        r = covey_connection_send(c, bytes, size, SOON_S);
    if (r == 0) {
        r = covey_connection_poll(c, SOON_S) == 1 ? 0 : covey_error_code();
        if (r == 0)
            r = covey_connection_receive_alloc(c, &came, &n, SOON_S);
        if (r == COVEY_ENOMEM) /* what came then is not taken for something else now */
            check_not_corrupt(c);
    }
    if (r == 0)
        check_int(n, ==, size);
    if (c)
        check_int(covey_connection_close(c), ==, 0);
    calm();
    free(came);
    free(bytes);
    stop_elsewhere(&e);
    return without_dlopen(r);
}

static void note_code(const char *peer, int code, const char *why, void *context)
{
    check(peer[0] && why[0]);
    *(int *)context = code;
}

/* What fails for each of those who come is told as the reason why they were turned away. */
static int open_and_accept(const char *address, bool waits)
{
    struct elsewhere e = {.pid = -1};
    covey_listener *l = NULL;
    covey_connection *c = NULL;
    char bytes[8];
    bool is_refused = false;
    int refused = 0;
    int r;

    storm();
    r = covey_listener_open(&l, .address = address, .key = key, .key_size = sizeof key,
        .refused = note_code, .context = &refused);
    if (r == 0) {
        (void)snprintf(e.address, sizeof e.address, "%s", covey_listener_address(l));
        e.pid = fork();
        if (e.pid == 0)
            knock(&e);
        if (waits)
            r = covey_wait(&(struct covey_waited)COVEY_WAITED(l), 1, ACCEPTS_S);
        if (r >= 0)
            r = covey_listener_accept(l, &c, ACCEPTS_S);
        is_refused = r == COVEY_ETIMEDOUT && refused == code_of_errno(cv_fault_plan->error);
    }
    if (r == 0 && waits)
        r = covey_wait(&(struct covey_waited)COVEY_WAITED(c), 1, SOON_S);
    if (r >= 0)
        r = covey_connection_receive(c, bytes, sizeof bytes, NULL, SOON_S);
    if (r == 0)
        r = covey_connection_send(c, bytes, sizeof bytes, SOON_S);
    check_int(covey_connection_close(c), ==, 0);
    check_int(covey_listener_close(l), ==, 0);
    calm();
    if (e.pid > 0)
        stop_elsewhere(&e);
    return is_refused ? 0 : without_dlopen(r);
}

static int open_listener(void)
{
    covey_listener *l = NULL;
    int r;

    storm();
    r = covey_listener_open(&l, .address = "tcp:127.0.0.1:0", .key = key, .key_size = sizeof key);
    calm();
    check_int(covey_listener_close(l), ==, 0);
    return without_dlopen(r);
}

/* What OpenSSL makes for the process and keeps is there before, so that the rest can be counted. */
#define FAULTS_LATER(name, walks)   FAULTS_WITH(name, walks, (void)0)
#define FAULTS_BY_NAME(name, walks) FAULTS_WITH(name, walks, test_need_localhost())
#define FAULTS_WITH(name, walks, need)                                                             \
    static int do_##name(void);                                                                    \
    TEST(every_fault_in_##name##_is_named, .deadline_s = 120)                                      \
    {                                                                                              \
        need;                                                                                      \
        check_int(connect_and_talk("tcp:127.0.0.1:0", 3), ==, 0);                                  \
        check_int(open_and_accept("tcp:127.0.0.1:0", false), ==, 0);                               \
        walk_all(#name, do_##name, walks);                                                         \
    }                                                                                              \
    static int do_##name(void)

FAULTS(first_listener, ALONE)
{
    return open_listener();
}

/* As many as need a second table. */
FAULTS(many_handles, ALONE)
{
    static char memory[100][16] __attribute__((aligned(16)));
    int r = 0;

    storm();
    for (int i = 0; i < 100 && r == 0; i++)
        r = cv_handle_add(memory[i], CV_HANDLE_LISTENER);
    calm();
    for (int i = 0; i < 100; i++)
        cv_handle_remove(memory[i], CV_HANDLE_LISTENER);
    return r;
}

FAULTS_LATER(connection, ALONE)
{
    return connect_and_talk("tcp:127.0.0.1:0", 3);
}

FAULTS_BY_NAME(connection_by_name, ALONE)
{
    return connect_and_talk("tcp:localhost:0", 3);
}

FAULTS_LATER(connection_with_large_messages, ALONE)
{
    char address[64];

    (void)snprintf(address, sizeof address, "unix:@covey-fault-%d", (int)getpid());
    return connect_and_talk(address, 150000);
}

FAULTS_LATER(listener, ALONE)
{
    return open_and_accept("tcp:127.0.0.1:0", false);
}

FAULTS_LATER(listener_that_is_waited_for, ALONE)
{
    return open_and_accept("tcp:127.0.0.1:0", true);
}

FAULTS_BY_NAME(listener_at_name, ALONE)
{
    return open_and_accept("tcp:localhost:0", false);
}

/* There is one that a killed listener has left behind. Only if the path cannot be removed does it stay. */
FAULTS_LATER(listener_at_path, ALONE)
{
    struct elsewhere e;
    char address[64];
    int r;

    (void)snprintf(address, sizeof address, "unix:/tmp/covey-fault-%d", (int)getpid());
    start_echo(&e, address);
    stop_elsewhere(&e);
    r = open_and_accept(address, false);
    if (unlink(address + strlen("unix:")) == 0 && r == 0)
        check(strcmp(cv_fault_plan->call, "unlink") == 0 ||
              strcmp(cv_fault_plan->call, "dlopen") == 0);
    return r;
}

/* OpenSSL's own memory ************************************************************************ */

static bool memory_fails(void)
{
    return cv_fault("OpenSSL", "OpenSSL", (const int[]){ENOMEM, 0});
}

static void *openssl_malloc(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return memory_fails() ? NULL : malloc(size);
}

static void *openssl_realloc(void *p, size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return memory_fails() ? NULL : realloc(p, size);
}

static void openssl_free(void *p, const char *file, int line)
{
    (void)file, (void)line;
    free(p);
}

/* It may call what it cannot make whatever it likes: but there must be a name, and nothing left. */
static int name_any(int r)
{
    check(r == 0 || (r < 0 && r == covey_error_code() && covey_error()[0]));
    return 0;
}

static int connect_without_memory(void)
{
    return name_any(connect_and_talk("tcp:127.0.0.1:0", 30000));
}

static int accept_without_memory(void)
{
    return name_any(open_and_accept("tcp:127.0.0.1:0", false));
}

static void walk_openssl(const char *name, operation *run)
{
    void *library = dlopen("libcrypto.so.3", RTLD_NOW);
    int (*set)(void *(*)(size_t, const char *, int), void *(*)(void *, size_t, const char *, int),
        void (*)(void *, const char *, int));
    void *address = library ? dlsym(library, "CRYPTO_set_mem_functions") : NULL;

    if (!address)
        test_skip("there is no OpenSSL");
    memcpy(&set, &address, sizeof address);
    check_int(set(openssl_malloc, openssl_realloc, openssl_free), ==, 1);
    check_int(connect_and_talk("tcp:127.0.0.1:0", 3), ==, 0);
    check_int(open_and_accept("tcp:127.0.0.1:0", false), ==, 0);
    walk_all(name, run, ONCE);
}

TEST(connecting_without_memory_for_openssl_is_named, .deadline_s = 300)
{
    walk_openssl("OpenSSL that connects", connect_without_memory);
}

TEST(accepting_without_memory_for_openssl_is_named, .deadline_s = 300)
{
    walk_openssl("OpenSSL that accepts", accept_without_memory);
}

#endif

/* Pools ************************************************************************************** */

static int square(const void *argument, void *result)
{
    int n = *(const int *)argument;

    *(int *)result = n * n;
    return 0;
}

static int sleep_for_ever(const void *argument, void *result)
{
    (void)argument;
    (void)result;
    (void)pause(); /* no handler ever returns here */
    return 0;
}

/* The argument needs a block of its own. */
static int submit_and_get(covey_pool *pool)
{
    covey_future *future = NULL;
    int value[20] = {6};
    int square_of = 0;
    int r = covey_pool_submit(
        pool, &future, square, COVEY_ARGUMENT(value), .result_size = sizeof square_of);

    if (r == 0)
        r = covey_future_get(future, &square_of, SOON_S);
    if (r == 0)
        check_int(square_of, ==, 36);
    return r;
}

FAULTS_METHODS(pool_open)
{
    covey_pool *pool = NULL;
    int r;

    storm();
    r = covey_pool_open(&pool, .workers = 2, .method = method);
    if (r == 0)
        r = submit_and_get(pool);
    calm();
    check_int(covey_pool_free(pool), ==, 0);
    return r;
}

FAULTS_METHODS(pool_submit)
{
    covey_pool *pool = NULL;
    int r;

    check_int(covey_pool_open(&pool, .workers = 2, .method = method), ==, 0);
    storm();
    r = submit_and_get(pool);
    calm();
    if (r != 0 && !cv_fault_plan->who)
        check_int(submit_and_get(pool), ==, 0);
    check_int(covey_pool_free(pool), ==, 0);
    return r;
}

static int nap(const void *argument, void *result)
{
    (void)argument;
    (void)result;
    test_sleep_ms(5);
    return 0;
}

static int wait_for_future(bool by_poll)
{
    covey_pool *pool = NULL;
    covey_future *future = NULL;
    struct covey_waited things[2] = {{.kind = COVEY_WAIT_FUTURE}};
    int ends[2];
    int r;

    check_int(pipe2(ends, O_CLOEXEC), ==, 0);
    check_int(covey_pool_open(&pool, .workers = 2), ==, 0);
    check_int(covey_pool_submit(pool, &future, nap), ==, 0);
    things[0].object = future;
    things[1] = (struct covey_waited)COVEY_WAITED(ends[0]);
    storm();
    r = covey_wait(things, 1 + by_poll, SOON_S);
    calm();
    check_int(covey_future_fd_close(future), ==, 0); /* its thread would see to the workers' ends */
    check_int(covey_pool_free(pool), ==, 0);
    (void)close(ends[0]);
    (void)close(ends[1]);
    return r > 0 ? 0 : r;
}

FAULTS(waiting_for_a_future, ALONE)
{
    return wait_for_future(false);
}

FAULTS(waiting_for_a_future_and_a_descriptor, ALONE)
{
    return wait_for_future(true);
}

/* So many that the pool's directory is full with them; then some are given back. */
FAULTS(pool_growth, ALONE)
{
    enum {
        FULL = CV_DIRECTORY_FIRST * CV_SEGMENT_ENTRIES
    };
    covey_future **futures = calloc(FULL, sizeof(covey_future *));
    covey_pool *pool = NULL;
    int value = 1;
    int r;

    check(futures != NULL);
    check_int(covey_pool_open(&pool, .workers = 2), ==, 0);
    for (int i = 0; i < FULL; i++)
        check_int(covey_pool_submit(pool, &futures[i], square, COVEY_ARGUMENT(value),
                      .result_size = sizeof value),
            ==, 0);
    check_int(covey_future_get(futures[FULL - 1], NULL, SOON_S), ==, 0);
    storm();
    r = submit_and_get(pool);
    for (int i = 0; i < FULL && r == 0; i++)
        r = covey_future_free(futures[i]);
    calm();
    if (r != 0)
        check_int(submit_and_get(pool), ==, 0);
    check_int(covey_pool_free(pool), ==, 0);
    free(futures);
    return r;
}

/* Nobody wants the result any more. */
FAULTS(pool_abandoned, ALONE)
{
    covey_future *future = NULL;
    covey_pool *pool = NULL;
    int r;

    check_int(covey_pool_open(&pool, .workers = 1), ==, 0);
    check_int(covey_pool_submit(pool, &future, sleep_for_ever, .result_size = 1000), ==, 0);
    storm();
    r = covey_future_free(future);
    calm();
    check_int(covey_pool_free(pool), ==, 0);
    return r;
}

/* In this process's own memory, so everything is copied. */
FAULTS_METHODS(pool_map)
{
    covey_pool *pool = NULL;
    int numbers[100];
    int squares[100];
    struct covey_outcome outcomes[100];
    int r;

    for (int i = 0; i < 100; i++)
        numbers[i] = i;
    check_int(covey_pool_open(&pool, .workers = 2, .method = method), ==, 0);
    storm();
    r = covey_pool_map(pool, square, numbers, squares, 100, .outcomes = outcomes, .chunk = 10);
    calm();
    if (r != 0 && !cv_fault_plan->who)
        check_int(covey_pool_map(pool, square, numbers, squares, 100, .chunk = 10), ==, 0);
    for (int i = 0; i < 100 && (r == 0 || !cv_fault_plan->who); i++)
        check_int(squares[i], ==, i * i);
    check_int(covey_pool_free(pool), ==, 0);
    return r;
}

FAULTS_METHODS(pool_deadline)
{
    covey_future *future = NULL;
    covey_pool *pool = NULL;
    int r;

    check_int(covey_pool_open(&pool, .workers = 1, .method = method), ==, 0);
    storm();
    r = covey_pool_submit(pool, &future, sleep_for_ever, .timeout_s = 0.01);
    if (r == 0)
        r = covey_future_get(future, NULL, SOON_S);
    calm();
    check_int(r, !=, 0);
    check_int(covey_pool_free(pool), ==, 0);
    return r == COVEY_EDEADLINE ? 0 : r;
}

/* Its worker is killed while it is idle, and another one takes its place. */
FAULTS_METHODS(pool_replacement)
{
    covey_process *workers[1];
    covey_pool *pool = NULL;
    int r;

    check_int(covey_pool_open(&pool, .workers = 1, .method = method), ==, 0);
    check_int(submit_and_get(pool), ==, 0);
    check_int(covey_active_children(workers, 1), ==, 1);
    check_int(covey_process_kill(workers[0]), ==, 0);
    storm();
    r = submit_and_get(pool);
    calm();
    check_int(covey_pool_free(pool), ==, 0);
    return r;
}

static int become_another_program(const void *argument, void *result)
{
    (void)argument;
    (void)result;
    return execl("/bin/sleep", "sleep", "1000", (char *)NULL);
}

/* Its worker calls exec, and is killed for that. (Nobody can find out about it as long as there are
 * no descriptors.) */
FAULTS(pool_with_exec, ONCE)
{
    covey_future *future = NULL;
    covey_process *worker = NULL;
    covey_pool *pool = NULL;
    siginfo_t info;
    int r;
    pid_t pid;

    check_int(covey_pool_open(&pool, .workers = 1), ==, 0);
    check_int(covey_active_children(&worker, 1), ==, 1);
    pid = covey_process_pid(worker);
    check_int(covey_pool_submit(pool, &future, become_another_program), ==, 0);
    storm();
    r = covey_future_get(future, NULL, SOON_S);
    if (r == COVEY_EDIED)
        r = submit_and_get(pool);
    calm();
    check_int(covey_pool_free(pool), ==, 0);
    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0) /* it could not be */
        (void)kill(pid, SIGKILL);
    return r;
}

FAULTS_METHODS(pool_end)
{
    covey_pool *pool = NULL;
    int r;

    check_int(covey_pool_open(&pool, .workers = 2, .method = method), ==, 0);
    storm();
    r = covey_pool_close(pool);
    if (r == 0)
        r = covey_pool_join(pool, SOON_S);
    if (r == 0)
        r = covey_pool_free(pool);
    calm();
    if (r != 0)
        check_int(covey_pool_free(pool), ==, 0);
    return r;
}

FAULTS_METHODS(pool_terminate)
{
    covey_future *future = NULL;
    covey_pool *pool = NULL;
    int r;

    check_int(covey_pool_open(&pool, .workers = 2, .method = method), ==, 0);
    check_int(covey_pool_submit(pool, &future, sleep_for_ever), ==, 0);
    storm();
    r = covey_pool_terminate(pool);
    if (r == 0)
        r = covey_pool_free(pool);
    calm();
    if (r != 0)
        check_int(covey_pool_free(pool), ==, 0);
    return r;
}
