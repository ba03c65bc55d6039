/* SPDX-License-Identifier: MIT */
#include "children.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

struct shared {
    covey_rwlock lock;
    int step;
    int go;
    int readers;
    int most;
    long left;
    long right;
};

static struct shared *make(void)
{
    struct shared *s = covey_calloc(1, sizeof *s);

    check_int(covey_rwlock_init(&s->lock), ==, 0);
    return s;
}

static void end(struct shared *s)
{
    check_int(covey_rwlock_destroy(&s->lock), ==, 0);
    check_int(covey_free(s), ==, 0);
}

static void try_both(void *context)
{
    struct shared *s = context;

    word_set(&s->step, (covey_rwlock_acquire_read(&s->lock, 0) == 0) * 2 +
                           (covey_rwlock_acquire_write(&s->lock, 0) == 0));
}

/* What a process that holds nothing can get: 1 for writing, 2 for reading. */
static int free_for(struct shared *s)
{
    word_set(&s->step, -1);
    test_reap(child_fork(try_both, s), 0);
    return word_get(&s->step);
}

TEST(readers_share_and_a_writer_excludes)
{
    struct shared *s;
    double start;

    test_ignore_deadlocks();
    s = make();
    check_int(free_for(s), ==, 2);
    check_int(covey_rwlock_acquire_read(&s->lock, COVEY_FOREVER), ==, 0);
    check_int(covey_rwlock_acquire_read(&s->lock, COVEY_FOREVER), ==, 0);
    check_int(free_for(s), ==, 2);
    check_fails(
        covey_rwlock_acquire_write(&s->lock, 0.01), COVEY_ETIMEDOUT, "held by this process");
    check_fails(covey_rwlock_destroy(&s->lock), COVEY_ESTATE, "held");
    check_int(covey_rwlock_release(&s->lock), ==, 0);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
    check_fails(covey_rwlock_release(&s->lock), COVEY_ENOTHELD, "not held");
    check_int(covey_rwlock_acquire_write(&s->lock, COVEY_FOREVER), ==, 0);
    check_int(free_for(s), ==, 0);
    start = test_now_s();
    check_int(covey_rwlock_acquire_read(&s->lock, 0.05), ==, COVEY_ETIMEDOUT);
    check_int(covey_rwlock_acquire_write(&s->lock, 0.05), ==, COVEY_ETIMEDOUT);
    check(test_now_s() - start >= 0.1);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
    check_int(covey_rwlock_release(&s->lock), ==, COVEY_ENOTHELD);
    check_int(free_for(s), ==, 2);
    end(s);
}

static void release_it(void *context)
{
    struct shared *s = context;

    check_fails(covey_rwlock_release(&s->lock), COVEY_ENOTHELD, "not held by this process");
}

TEST(only_the_holding_process_releases_an_rwlock)
{
    struct shared *s = make();

    check_int(covey_rwlock_acquire_write(&s->lock, 0), ==, 0);
    test_reap(child_fork(release_it, s), 0);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
    check_int(covey_rwlock_acquire_read(&s->lock, 0), ==, 0);
    test_reap(child_fork(release_it, s), 0);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
    end(s);
}

static void hold_read(void *context)
{
    struct shared *s = context;

    check_int(covey_rwlock_acquire_read(&s->lock, COVEY_FOREVER), ==, 0);
    word_add(&s->step, 1);
    for (;;)
        (void)pause();
}

static void hold_write(void *context)
{
    struct shared *s = context;

    check_int(covey_rwlock_acquire_write(&s->lock, COVEY_FOREVER), ==, 0);
    word_add(&s->step, 1);
    for (;;)
        (void)pause();
}

TEST(a_dead_reader_holds_nobody_up)
{
    struct shared *s = make();
    pid_t pids[3];

    for (int i = 0; i < 3; i++)
        pids[i] = child_fork(hold_read, s);
    word_await(&s->step, 3);
    check_int(covey_rwlock_acquire_write(&s->lock, 0.01), ==, COVEY_ETIMEDOUT);
    for (int i = 0; i < 3; i++)
        child_kill(pids[i]);
    check_int(covey_rwlock_acquire_write(&s->lock, 0), ==, 0);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
    end(s);
}

TEST(the_death_of_a_writer_is_told_up_to_the_next_writer)
{
    struct shared *s = make();
    char name[32];

    for (int round = 0; round < 4; round++) {
        pid_t pid = child_fork(hold_write, s);

        word_await(&s->step, round + 1);
        (void)snprintf(name, sizeof name, "pid %d", (int)pid);
        child_kill(pid);
        for (int i = 0; i < round; i++)
            check_fails(covey_rwlock_acquire_read(&s->lock, 5), COVEY_EOWNERDEAD, name);
        for (int i = 0; i < round; i++)
            check_int(covey_rwlock_release(&s->lock), ==, 0);
        check_fails(covey_rwlock_acquire_write(&s->lock, 5), COVEY_EOWNERDEAD, name);
        check_int(covey_rwlock_release(&s->lock), ==, 0);
        check_int(covey_rwlock_acquire_read(&s->lock, 0), ==, 0);
        check_int(covey_rwlock_release(&s->lock), ==, 0);
        check_int(covey_rwlock_acquire_write(&s->lock, 0), ==, 0);
        check_int(covey_rwlock_release(&s->lock), ==, 0);
    }
    end(s);
}

static void read_once(void *context)
{
    struct shared *s = context;
    int r = covey_rwlock_acquire_read(&s->lock, COVEY_FOREVER);

    check(r == 0 || r == COVEY_EOWNERDEAD);
    word_add(&s->readers, 1);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
}

static void write_once(void *context)
{
    struct shared *s = context;
    int r = covey_rwlock_acquire_write(&s->lock, COVEY_FOREVER);

    if (r == COVEY_EOWNERDEAD)
        word_add(&s->most, 1);
    else
        check_int(r, ==, 0);
    word_add(&s->readers, 1);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
}

static void read_after_death(void *context)
{
    struct shared *s = context;

    check_int(covey_rwlock_acquire_read(&s->lock, COVEY_FOREVER), ==, COVEY_EOWNERDEAD);
    word_add(&s->step, 1);
    for (;;)
        (void)pause();
}

TEST(a_reader_that_was_told_and_dies_takes_nothing_along)
{
    struct shared *s = make();
    pid_t writer = child_fork(hold_write, s);
    pid_t reader;
    char name[32];

    word_await(&s->step, 1);
    (void)snprintf(name, sizeof name, "pid %d", (int)writer);
    child_kill(writer);
    reader = child_fork(read_after_death, s);
    word_await(&s->step, 2);
    child_kill(reader);
    check_fails(covey_rwlock_acquire_write(&s->lock, 5), COVEY_EOWNERDEAD, name);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
    end(s);
}

TEST(sleepers_learn_of_a_writers_death)
{
    struct shared *s = make();
    pid_t writer = child_fork(hold_write, s);
    pid_t pids[8];

    word_await(&s->step, 1);
    for (int i = 0; i < 8; i++)
        pids[i] = child_fork(i % 2 ? read_once : write_once, s);
    test_sleep_ms(100);
    check_int(kill(writer, SIGKILL), ==, 0);
    for (int i = 0; i < 8; i++)
        test_reap(pids[i], 0);
    test_reap(writer, SIGKILL);
    check_int(s->most, ==, 1);
    check_int(s->readers, ==, 8);
    end(s);
}

TEST(a_writer_that_waits_keeps_new_readers_out_until_it_dies)
{
    struct shared *s = make();
    pid_t writer;

    check_int(covey_rwlock_acquire_read(&s->lock, 0), ==, 0);
    writer = child_fork(write_once, s);
    child_await_sleep(writer);
    check_int(free_for(s), ==, 0);
    child_kill(writer);
    check_int(free_for(s), ==, 2);
    writer = child_fork(write_once, s);
    child_await_sleep(writer);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
    test_reap(writer, 0);
    check_int(free_for(s), ==, 2);
    end(s);
}

static double seconds_of(const struct rusage *used)
{
    return (double)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) +
           1e-6 * (double)(used->ru_utime.tv_usec + used->ru_stime.tv_usec);
}

static void write_told(void *context)
{
    struct shared *s = context;

    check_int(covey_rwlock_acquire_write(&s->lock, COVEY_FOREVER), ==, COVEY_EOWNERDEAD);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
}

static void write_and_stay(void *context)
{
    struct shared *s = context;

    check_int(covey_rwlock_acquire_write(&s->lock, COVEY_FOREVER), ==, 0);
    word_add(&s->step, 1);
    for (;;)
        (void)pause();
}

/* What the dead writer held is the stopped one's, who has the gate. */
TEST(a_reader_sleeps_behind_a_stopped_writer_though_another_has_died)
{
    struct shared *s = make();
    pid_t holder = child_fork(write_and_stay, s);
    pid_t writer;
    struct rusage used;
    double before;

    word_await(&s->step, 1);
    writer = child_fork(write_told, s);
    child_await_sleep(writer);
    check_int(kill(writer, SIGSTOP), ==, 0);
    check_int(waitpid(writer, NULL, WUNTRACED), ==, writer);
    child_kill(holder);
    check_int(getrusage(RUSAGE_SELF, &used), ==, 0);
    before = seconds_of(&used);
    check_int(covey_rwlock_acquire_read(&s->lock, 0.5), ==, COVEY_ETIMEDOUT);
    check_int(getrusage(RUSAGE_SELF, &used), ==, 0);
    check(seconds_of(&used) - before < 0.1);
    check_int(kill(writer, SIGCONT), ==, 0);
    test_reap(writer, 0);
    check_int(covey_rwlock_acquire_read(&s->lock, 0), ==, 0);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
    end(s);
}

static void read_and_stay(void *context)
{
    struct shared *s = context;

    check_int(covey_rwlock_acquire_read(&s->lock, COVEY_FOREVER), ==, 0);
    word_add(&s->step, 1);
    word_await(&s->go, 1);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
    word_add(&s->step, 1);
    for (;;)
        (void)pause();
}

TEST(a_writer_learns_of_the_death_of_any_of_very_many_readers, .deadline_s = 60,
    .not_in_valgrind = "it needs more memory than there is")
{
    enum {
        READERS = 100 /* more than a sleeper watches the lives of */
    };
    struct shared *s = make();
    pid_t pids[READERS];
    pid_t writer;

    for (int i = 0; i < READERS; i++) {
        pids[i] = child_fork(read_and_stay, s);
        word_await(&s->step, i + 1);
    }
    writer = child_fork(write_once, s);
    child_await_sleep(writer);
    child_kill(pids[READERS - 1]);
    word_set(&s->go, 1);
    word_await(&s->step, 2 * READERS - 1);
    test_reap(writer, 0);
    for (int i = 0; i < READERS - 1; i++)
        child_kill(pids[i]);
    end(s);
}

static void write_in_vain(void *context)
{
    struct shared *s = context;

    check_int(covey_rwlock_acquire_write(&s->lock, 0.2), ==, COVEY_ETIMEDOUT);
}

TEST(a_writer_that_gives_up_lets_the_readers_in)
{
    struct shared *s = make();
    pid_t writer;
    pid_t reader;

    check_int(covey_rwlock_acquire_read(&s->lock, 0), ==, 0);
    writer = child_fork(write_in_vain, s);
    child_await_sleep(writer);
    reader = child_fork(read_once, s);
    test_reap(reader, 0);
    test_reap(writer, 0);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
    end(s);
}

TEST(as_many_as_can_read_and_then_one_for_each_that_ends)
{
    enum {
        READERS = 32766
    };
    struct shared *s = make();
    pid_t reader;

    for (int i = 0; i < READERS; i++)
        check_int(covey_rwlock_acquire_read(&s->lock, 0), ==, 0);
    check_fails(covey_rwlock_acquire_read(&s->lock, 0), COVEY_ETIMEDOUT, "was not free");
    check_int(free_for(s), ==, 0);
    reader = child_fork(read_once, s);
    child_await_sleep(reader);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
    test_reap(reader, 0);
    check_int(free_for(s), ==, 2);
    for (int i = 1; i < READERS; i++)
        check_int(covey_rwlock_release(&s->lock), ==, 0);
    check_int(free_for(s), ==, 2);
    end(s);
}

static void do_nothing(int signal)
{
    (void)signal;
}

static int give_up(void *context)
{
    (void)context;
    return 1;
}

static void write_until_interrupted(void *context)
{
    struct sigaction action = {.sa_handler = do_nothing};
    struct shared *s = context;

    check_int(sigaction(SIGUSR1, &action, NULL), ==, 0);
    covey_on_interrupt(give_up, NULL);
    check_fails(covey_rwlock_acquire_write(&s->lock, COVEY_FOREVER), COVEY_EINTR, "interrupted");
}

/* As with Ctrl-C, which ends some of a family, and is handled by others. */
TEST(a_signal_that_comes_with_a_death_interrupts_as_well,
    .not_in_valgrind = "it sleeps for reasons of its own")
{
    struct shared *s = make();
    pid_t reader;
    pid_t writer;

    check_int(covey_rwlock_acquire_read(&s->lock, 0), ==, 0);
    reader = child_fork(hold_read, s);
    word_await(&s->step, 1);
    writer = child_fork(write_until_interrupted, s);
    child_await_sleep(writer);
    check_int(kill(writer, SIGSTOP), ==, 0);
    while (test_state_of(writer) != 'T')
        test_sleep_ms(1);
    child_kill(reader);
    check_int(kill(writer, SIGUSR1), ==, 0);
    check_int(kill(writer, SIGCONT), ==, 0);
    test_reap(writer, 0);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
    end(s);
}

static void use(struct shared *s, int rounds, int writes)
{
    for (int i = 0; i < rounds; i++) {
        if (i % 10 < writes) {
            check_int(covey_rwlock_acquire_write(&s->lock, COVEY_FOREVER), ==, 0);
            s->left++;
            s->right++;
        } else {
            check_int(covey_rwlock_acquire_read(&s->lock, COVEY_FOREVER), ==, 0);
            check_int(s->left, ==, s->right);
        }
        check_int(covey_rwlock_release(&s->lock), ==, 0);
    }
}

static int use_as_child(void *argument)
{
    use(*(struct shared **)argument, 10000, 3);
    return 0;
}

TEST_METHODS(readers_see_what_writers_leave, 120, .not_in_valgrind = "it takes too long")
{
    struct shared *s = make();
    covey_process *children[6];

    for (int i = 0; i < 6; i++)
        children[i] = child_start(use_as_child, s, method);
    for (int i = 0; i < 6; i++)
        child_join(children[i], 0);
    check_int(s->left, ==, 6 * 3000);
    end(s);
    check_int(covey_close(), ==, 0);
}

static void *use_in_thread(void *context)
{
    use(context, 10000, 3);
    return NULL;
}

TEST(threads_of_one_process_share_an_rwlock, .deadline_s = 120)
{
    struct shared *s = make();
    pthread_t threads[5];

    for (int i = 0; i < 5; i++)
        check_int(pthread_create(&threads[i], NULL, use_in_thread, s), ==, 0);
    for (int i = 0; i < 5; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
    check_int(s->left, ==, 5 * 3000);
    check_int(s->right, ==, 5 * 3000);
    end(s);
}

static void use_until_killed(void *context)
{
    struct shared *s = context;

    for (unsigned i = 0;; i++) {
        int r = i % 4 ? covey_rwlock_acquire_read(&s->lock, COVEY_FOREVER)
                      : covey_rwlock_acquire_write(&s->lock, COVEY_FOREVER);

        check(r == 0 || r == COVEY_EOWNERDEAD);
        if (i % 4 == 0) {
            __atomic_store_n(&s->left, s->left + 1, __ATOMIC_RELAXED);
            __atomic_store_n(&s->right, s->left, __ATOMIC_RELAXED);
        } else if (r == 0) {
            check(__atomic_load_n(&s->left, __ATOMIC_RELAXED) >= 0);
        }
        check_int(covey_rwlock_release(&s->lock), ==, 0);
        word_add(&s->go, 1);
    }
}

TEST(an_rwlock_outlives_random_kills, .deadline_s = 60, .not_in_valgrind = "it takes too long")
{
    struct shared *s = make();
    pid_t pids[4];

    for (int i = 0; i < 4; i++)
        pids[i] = child_fork(use_until_killed, s);
    for (int i = 0; i < 200; i++) {
        int before = word_get(&s->go);

        child_kill(pids[i % 4]);
        pids[i % 4] = child_fork(use_until_killed, s);
        word_await(&s->go, before + 20);
    }
    for (int i = 0; i < 4; i++)
        child_kill(pids[i]);
    (void)covey_rwlock_acquire_write(&s->lock, 0);
    check_int(covey_rwlock_release(&s->lock), ==, 0);
    check_int(free_for(s), ==, 2);
    end(s);
}

TEST(misuse_of_an_rwlock_is_named)
{
    struct shared *s = make();
    covey_rwlock outside;

    check_fails(covey_rwlock_init(&outside), COVEY_EINVAL, "not in the family's arena");
    check_fails(covey_rwlock_acquire_read(NULL, 1), COVEY_EINVAL, "rwlock is NULL");
    check_fails(covey_rwlock_acquire_write(&outside, 1), COVEY_EINVAL, "not an rwlock");
    check_fails(covey_rwlock_release(NULL), COVEY_EINVAL, "rwlock is NULL");
    check_fails(covey_rwlock_destroy(NULL), COVEY_EINVAL, "rwlock is NULL");
    check_fails(covey_rwlock_acquire_read(&s->lock, (double)NAN), COVEY_EINVAL, "not a number");
    check_int(covey_rwlock_destroy(&s->lock), ==, 0);
    check_fails(covey_rwlock_acquire_read(&s->lock, 0), COVEY_EINVAL, "not an rwlock");
    check_int(covey_free(s), ==, 0);
}
