/* SPDX-License-Identifier: MIT */
/*
 * What locks and their kin cost: one measurement of one contender in each run of this program. Prints
 * a line "QUESTION VALUE", the question being its first argument; bench/locks.py asks for them.
 *
 *   locks QUESTION free KIND       nanoseconds of acquire + release, by one process
 *   locks QUESTION shared KIND N   millions of acquire + release in a second, by N processes together
 *   locks QUESTION round KIND      microseconds of a round trip between two processes that both run
 *   locks QUESTION meet KIND N     microseconds of a meeting of N processes at a barrier
 *
 * All in one arena, or in anonymous shared memory for those that are not covey's.
 */
#include <covey.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    FREE_ROUNDS = 2000000,
    REPEATS = 5, /* of which the best counts: nothing but the machine can make it worse */
    ROUND_TRIPS = 200000,
    MEETINGS = 20000,
    LINE = 64,
};

#define SHARED_S 0.25

struct word {
    uint64_t value;
} __attribute__((aligned(LINE)));

static struct shared {
    union {
        covey_lock lock;
        covey_rlock rlock;
        covey_rwlock rwlock;
        covey_semaphore semaphore;
        covey_barrier barrier;
        pthread_mutex_t mutex;
        pthread_rwlock_t pthread_rwlock;
        sem_t sem;
        pthread_barrier_t pthread_barrier;
        unsigned char room[4 * LINE];
    } u __attribute__((aligned(LINE)));
    struct word guarded;
    struct word go;
    struct word total;
    struct word turn;
    union {
        covey_event event[2];
        covey_semaphore semaphore[2];
        sem_t sem[2];
        struct {
            covey_lock lock;
            covey_condition condition;
        } covey;
        struct {
            pthread_mutex_t mutex;
            pthread_cond_t condition;
        } pthread;
    } pair __attribute__((aligned(LINE)));
} * s;

static void check(int r, const char *what)
{
    if (r == 0)
        return;
    (void)fprintf(stderr, "bench/locks: %s: %d %s\n", what, r, covey_error());
    exit(EXIT_FAILURE);
}

static const char *question;

static void answer_with(double value)
{
    (void)printf("%s %.4f\n", question, value);
}

static double now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Kinds ************************************************************************************** */

static void make_mutex(pthread_mutex_t *mutex, int type, int robust)
{
    pthread_mutexattr_t a;

    check(pthread_mutexattr_init(&a), "attributes");
    check(pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED), "process-shared");
    check(pthread_mutexattr_settype(&a, type), "type");
    check(pthread_mutexattr_setrobust(&a, robust), "robust");
    check(pthread_mutex_init(mutex, &a), "mutex");
}

static void make_lock(void)
{
    check(covey_lock_init(&s->u.lock), "lock");
}

static void make_rlock(void)
{
    check(covey_rlock_init(&s->u.rlock), "rlock");
}

static void make_rwlock(void)
{
    check(covey_rwlock_init(&s->u.rwlock), "rwlock");
}

static void make_semaphore(void)
{
    check(covey_semaphore_init(&s->u.semaphore, 1, COVEY_SEMAPHORE), "semaphore");
}

static void make_events(void)
{
    check(covey_semaphore_init(&s->u.semaphore, 1, COVEY_EVENTS), "events");
}

static void make_plain(void)
{
    make_mutex(&s->u.mutex, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED);
}

static void make_robust(void)
{
    make_mutex(&s->u.mutex, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST);
}

static void make_recursive(void)
{
    make_mutex(&s->u.mutex, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_STALLED);
}

static void make_robust_recursive(void)
{
    make_mutex(&s->u.mutex, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ROBUST);
}

static void make_sem(void)
{
    check(sem_init(&s->u.sem, 1, 1), "sem_t");
}

static void make_pthread_rwlock(void)
{
    pthread_rwlockattr_t a;

    check(pthread_rwlockattr_init(&a), "attributes");
    check(pthread_rwlockattr_setpshared(&a, PTHREAD_PROCESS_SHARED), "process-shared");
    check(pthread_rwlock_init(&s->u.pthread_rwlock, &a), "rwlock");
}

/* name, how it is made, acquire, release: each gets loops of its own, without indirect calls */
#define KINDS(KIND)                                                                                \
    KIND(lock, make_lock(), covey_lock_acquire(&s->u.lock, COVEY_FOREVER),                         \
        covey_lock_release(&s->u.lock))                                                            \
    KIND(rlock, make_rlock(), covey_rlock_acquire(&s->u.rlock, COVEY_FOREVER),                     \
        covey_rlock_release(&s->u.rlock))                                                          \
    KIND(semaphore, make_semaphore(), covey_semaphore_acquire(&s->u.semaphore, COVEY_FOREVER),     \
        covey_semaphore_release(&s->u.semaphore))                                                  \
    KIND(events, make_events(), covey_semaphore_acquire(&s->u.semaphore, COVEY_FOREVER),           \
        covey_semaphore_release(&s->u.semaphore))                                                  \
    KIND(read, make_rwlock(), covey_rwlock_acquire_read(&s->u.rwlock, COVEY_FOREVER),              \
        covey_rwlock_release(&s->u.rwlock))                                                        \
    KIND(write, make_rwlock(), covey_rwlock_acquire_write(&s->u.rwlock, COVEY_FOREVER),            \
        covey_rwlock_release(&s->u.rwlock))                                                        \
    KIND(                                                                                          \
        pthread, make_plain(), pthread_mutex_lock(&s->u.mutex), pthread_mutex_unlock(&s->u.mutex)) \
    KIND(pthread_robust, make_robust(), pthread_mutex_lock(&s->u.mutex),                           \
        pthread_mutex_unlock(&s->u.mutex))                                                         \
    KIND(pthread_recursive, make_recursive(), pthread_mutex_lock(&s->u.mutex),                     \
        pthread_mutex_unlock(&s->u.mutex))                                                         \
    KIND(pthread_robust_recursive, make_robust_recursive(), pthread_mutex_lock(&s->u.mutex),       \
        pthread_mutex_unlock(&s->u.mutex))                                                         \
    KIND(pthread_read, make_pthread_rwlock(), pthread_rwlock_rdlock(&s->u.pthread_rwlock),         \
        pthread_rwlock_unlock(&s->u.pthread_rwlock))                                               \
    KIND(pthread_write, make_pthread_rwlock(), pthread_rwlock_wrlock(&s->u.pthread_rwlock),        \
        pthread_rwlock_unlock(&s->u.pthread_rwlock))                                               \
    KIND(sem_t, make_sem(), sem_wait(&s->u.sem), sem_post(&s->u.sem))

struct kind {
    const char *name;
    void (*make)(void);
    void (*free_loop)(void);
    uint64_t (*shared_loop)(void);
};

/* The guarded word is read and written, as what a lock guards is. */
#define LOOPS(kind_name, make_it, acquire, release)                                                \
    static void kind_name##_make(void)                                                             \
    {                                                                                              \
        make_it;                                                                                   \
    }                                                                                              \
    static void kind_name##_free(void)                                                             \
    {                                                                                              \
        for (int i = 0; i < FREE_ROUNDS; i++) {                                                    \
            (void)(acquire);                                                                       \
            (void)(release);                                                                       \
        }                                                                                          \
    }                                                                                              \
    static uint64_t kind_name##_shared(void)                                                       \
    {                                                                                              \
        uint64_t n = 0;                                                                            \
                                                                                                   \
        while (__atomic_load_n(&s->go.value, __ATOMIC_RELAXED) == 1) {                             \
            (void)(acquire);                                                                       \
            __atomic_store_n(&s->guarded.value, s->guarded.value + 1, __ATOMIC_RELAXED);           \
            (void)(release);                                                                       \
            n++;                                                                                   \
        }                                                                                          \
        return n;                                                                                  \
    }

KINDS(LOOPS)

#define ENTRY(kind_name, ...) {#kind_name, kind_name##_make, kind_name##_free, kind_name##_shared},

static const struct kind kinds[] = {KINDS(ENTRY)};

/* Processes ********************************************************************************** */

static pid_t start(void (*run)(void))
{
    pid_t pid = fork();

    if (pid == 0) {
        run();
        _exit(0);
    }
    return pid;
}

static void reap(pid_t pid)
{
    int status;

    check(waitpid(pid, &status, 0) != pid || status != 0, "a child");
}

static const struct kind *kind;

static void free_of_others(void)
{
    double best = 1e9;

    kind->make();
    kind->free_loop();
    for (int i = 0; i < REPEATS; i++) {
        double start_s = now_s();

        kind->free_loop();
        if (now_s() - start_s < best)
            best = now_s() - start_s;
    }
    answer_with(best * 1e9 / FREE_ROUNDS);
}

static void share(void)
{
    uint64_t n;

    while (__atomic_load_n(&s->go.value, __ATOMIC_ACQUIRE) == 0)
        (void)usleep(100);
    n = kind->shared_loop();
    (void)__atomic_fetch_add(&s->total.value, n, __ATOMIC_SEQ_CST);
}

static void shared(int n)
{
    pid_t pids[64];
    double start_s;

    kind->make();
    for (int i = 0; i < n; i++)
        pids[i] = start(share);
    (void)usleep(20000);
    start_s = now_s();
    __atomic_store_n(&s->go.value, 1, __ATOMIC_SEQ_CST);
    (void)usleep((useconds_t)(SHARED_S * 1e6));
    __atomic_store_n(&s->go.value, 2, __ATOMIC_SEQ_CST);
    for (int i = 0; i < n; i++)
        reap(pids[i]);
    answer_with((double)s->total.value / (now_s() - start_s) / 1e6);
}

/* Round trips ******************************************************************************** */

static void spin_turn(uint64_t mine)
{
    while (__atomic_load_n(&s->turn.value, __ATOMIC_ACQUIRE) != mine) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    __atomic_store_n(&s->turn.value, !mine, __ATOMIC_RELEASE);
}

static void event_turn(uint64_t mine)
{
    check(covey_event_wait(&s->pair.event[mine], COVEY_FOREVER), "event");
    check(covey_event_clear(&s->pair.event[mine]), "event");
    check(covey_event_set(&s->pair.event[!mine]), "event");
}

static void events_turn(uint64_t mine)
{
    check(covey_semaphore_acquire(&s->pair.semaphore[mine], COVEY_FOREVER), "semaphore");
    check(covey_semaphore_release(&s->pair.semaphore[!mine]), "semaphore");
}

static void sem_turn(uint64_t mine)
{
    while (sem_wait(&s->pair.sem[mine]) != 0) {
    }
    check(sem_post(&s->pair.sem[!mine]), "sem_t");
}

static void condition_turn(uint64_t mine)
{
    check(covey_lock_acquire(&s->pair.covey.lock, COVEY_FOREVER), "lock");
    while (s->turn.value != mine)
        check(covey_condition_wait(&s->pair.covey.condition, COVEY_FOREVER), "condition");
    s->turn.value = !mine;
    check(covey_condition_notify(&s->pair.covey.condition, 1), "condition");
    check(covey_lock_release(&s->pair.covey.lock), "lock");
}

static void pthread_condition_turn(uint64_t mine)
{
    check(pthread_mutex_lock(&s->pair.pthread.mutex), "mutex");
    while (s->turn.value != mine)
        check(pthread_cond_wait(&s->pair.pthread.condition, &s->pair.pthread.mutex), "condition");
    s->turn.value = !mine;
    check(pthread_cond_signal(&s->pair.pthread.condition), "condition");
    check(pthread_mutex_unlock(&s->pair.pthread.mutex), "mutex");
}

static void make_pair(const char *name)
{
    pthread_condattr_t a;

    if (strcmp(name, "event") == 0) {
        for (int i = 0; i < 2; i++)
            check(covey_event_init(&s->pair.event[i]), "event");
        check(covey_event_set(&s->pair.event[0]), "event");
    } else if (strcmp(name, "events") == 0) {
        for (int i = 0; i < 2; i++)
            check(covey_semaphore_init(&s->pair.semaphore[i], i == 0, COVEY_EVENTS), "semaphore");
    } else if (strcmp(name, "sem_t") == 0) {
        for (unsigned i = 0; i < 2; i++)
            check(sem_init(&s->pair.sem[i], 1, i == 0), "sem_t");
    } else if (strcmp(name, "condition") == 0) {
        check(covey_lock_init(&s->pair.covey.lock), "lock");
        check(covey_condition_init(&s->pair.covey.condition, &s->pair.covey.lock), "condition");
    } else if (strcmp(name, "pthread_condition") == 0) {
        make_mutex(&s->pair.pthread.mutex, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED);
        check(pthread_condattr_init(&a), "attributes");
        check(pthread_condattr_setpshared(&a, PTHREAD_PROCESS_SHARED), "process-shared");
        check(pthread_cond_init(&s->pair.pthread.condition, &a), "condition");
    }
}

static const struct {
    const char *name;
    void (*turn)(uint64_t mine);
} turns[] = {
    {"spin", spin_turn},
    {"event", event_turn},
    {"events", events_turn},
    {"sem_t", sem_turn},
    {"condition", condition_turn},
    {"pthread_condition", pthread_condition_turn},
};

static void (*turn)(uint64_t mine);

static void take_turns(void)
{
    for (int i = 0; i < ROUND_TRIPS; i++)
        turn(1);
}

static void round_trips(const char *name)
{
    double start_s;
    pid_t pid;

    make_pair(name);
    pid = start(take_turns);
    turn(0);
    start_s = now_s();
    for (int i = 1; i < ROUND_TRIPS; i++)
        turn(0);
    answer_with((now_s() - start_s) * 1e6 / (ROUND_TRIPS - 1));
    reap(pid);
}

/* Barriers *********************************************************************************** */

static bool of_pthread;

static void meet(void)
{
    for (int i = 0; i < MEETINGS; i++) {
        if (of_pthread) {
            int r = pthread_barrier_wait(&s->u.pthread_barrier);

            check(r != 0 && r != PTHREAD_BARRIER_SERIAL_THREAD, "barrier");
        } else {
            check(covey_barrier_wait(&s->u.barrier, COVEY_FOREVER) < 0, "barrier");
        }
    }
}

static void meetings(const char *name, int n)
{
    pthread_barrierattr_t a;
    pid_t pids[64];
    double start_s;

    of_pthread = strcmp(name, "pthread") == 0;
    if (of_pthread) {
        check(pthread_barrierattr_init(&a), "attributes");
        check(pthread_barrierattr_setpshared(&a, PTHREAD_PROCESS_SHARED), "process-shared");
        check(pthread_barrier_init(&s->u.pthread_barrier, &a, (unsigned)n), "barrier");
    } else {
        check(covey_barrier_init(&s->u.barrier, (unsigned)n), "barrier");
    }
    for (int i = 1; i < n; i++)
        pids[i] = start(meet);
    start_s = now_s();
    meet();
    answer_with((now_s() - start_s) * 1e6 / MEETINGS);
    for (int i = 1; i < n; i++)
        reap(pids[i]);
}

int main(int argc, char **argv)
{
    int n = argc > 4 ? atoi(argv[4]) : 0;

    if (argc < 4)
        return EXIT_FAILURE;
    question = argv[1];
    argv++;
    s = covey_alloc_aligned(LINE, sizeof *s);
    check(!s, "memory");
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, argv[2]) == 0)
            kind = &kinds[i];
    }
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
        if (strcmp(turns[i].name, argv[2]) == 0)
            turn = turns[i].turn;
    }
    if (strcmp(argv[1], "free") == 0 && kind)
        free_of_others();
    else if (strcmp(argv[1], "shared") == 0 && kind && n > 0 && n <= 64)
        shared(n);
    else if (strcmp(argv[1], "round") == 0 && turn)
        round_trips(argv[2]);
    else if (strcmp(argv[1], "meet") == 0 && n > 0 && n <= 64)
        meetings(argv[2], n);
    else
        return EXIT_FAILURE;
    return 0;
}
