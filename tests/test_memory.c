/* SPDX-License-Identifier: MIT */
#include "arena/family.h"
#include "runner.h"

#include <covey.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct covey_stats use(void)
{
    struct covey_stats stats = {.size = sizeof stats};

    check_int(covey_stats(&stats), ==, 0);
    return stats;
}

TEST(blocks_of_every_size_are_usable_and_aligned, .deadline_s = 60)
{
    for (size_t size = 0; size < 8 << 20; size += size / 7 + 1) {
        unsigned char *block = covey_alloc(size);

        check(block != NULL);
        check_int((uintptr_t)block % 16, ==, 0);
        check_int(covey_usable_size(block), >=, size);
        memset(block, 0xa5, size);
        check_int(covey_free(block), ==, 0);
        check_int(covey_usable_size(block), ==, 0);
    }
}

TEST(blocks_do_not_overlap)
{
    enum {
        N = 2000
    };
    static unsigned char *blocks[N];
    static size_t sizes[N];
    unsigned seed = 1;

    for (int i = 0; i < N; i++) {
        sizes[i] = (size_t)rand_r(&seed) % (i % 50 ? 700 : 200000);
        blocks[i] = covey_alloc(sizes[i]);
        check(blocks[i] != NULL);
        memset(blocks[i], i & 0xff, sizes[i]);
    }
    for (int i = 0; i < N; i++) {
        for (size_t k = 0; k < sizes[i]; k++)
            check(blocks[i][k] == (i & 0xff));
        check_int(covey_free(blocks[i]), ==, 0);
    }
}

TEST(every_alignment_is_kept, .not_in_valgrind = "it needs more memory than there is")
{
    for (size_t alignment = 1; alignment <= 64 << 20; alignment *= 2) {
        for (size_t size = 1; size < 200000; size = size * 5 + 3) {
            void *block = covey_alloc_aligned(alignment, size);

            check(block != NULL);
            check_int((uintptr_t)block % alignment, ==, 0);
            check_int(covey_usable_size(block), >=, size);
            memset(block, 1, size);
            check_int(covey_free(block), ==, 0);
        }
    }
    check(covey_alloc_aligned(0, 8) == NULL);
    check_int(covey_error_code(), ==, COVEY_EINVAL);
    check(covey_alloc_aligned((size_t)2 << 30, 8) == NULL);
    check_int(covey_error_code(), ==, COVEY_EINVAL);
}

TEST(calloc_is_zero_and_refuses_overflow)
{
    char *dirty = covey_alloc(1000);
    char *clean;

    memset(dirty, 1, 1000);
    check_int(covey_free(dirty), ==, 0);
    clean = covey_calloc(10, 100);
    for (int i = 0; i < 1000; i++)
        check(clean[i] == 0);
    check_int(covey_free(clean), ==, 0);
    check(covey_calloc(SIZE_MAX / 2, 3) == NULL);
    check_int(covey_error_code(), ==, COVEY_ENOMEM);
    check_has(covey_error(), "more than there are addresses");
}

TEST(realloc_keeps_contents_and_owner)
{
    char *p = covey_realloc(NULL, 10);

    memcpy(p, "123456789", 10);
    check_int(covey_own(p), ==, 0);
    for (size_t size = 10; size < 3 << 20; size *= 3) {
        p = covey_realloc(p, size);
        check(p != NULL);
        check_str(p, "123456789");
        check_int(covey_owner(p), ==, getpid());
    }
    p = covey_realloc(p, 10);
    check_str(p, "123456789");
    check_int(covey_usable_size(p), ==, 16);
    check(covey_realloc(p + 1, 10) == NULL);
    check_int(covey_error_code(), ==, COVEY_EINVAL);
    check(covey_realloc(p, (size_t)1 << 60) == NULL);
    check_int(covey_error_code(), ==, COVEY_ENOMEM);
    check_str(p, "123456789");
    check_int(covey_free(p), ==, 0);
}

TEST(a_block_is_its_makers_own)
{
    char *small = covey_alloc_own(100);
    char *large = covey_alloc_own(1 << 20);

    check_int(covey_owner(small), ==, getpid());
    check_int(covey_owner(large), ==, getpid());
    small[99] = large[(1 << 20) - 1] = 1;
    check(covey_alloc_own((size_t)1 << 60) == NULL);
    check_int(covey_error_code(), ==, COVEY_ENOMEM);
    check_int(covey_share(small), ==, 0);
    check_int(covey_owner(small), ==, 0);
    check_int(covey_free(small), ==, 0);
    check_int(covey_free(large), ==, 0);
}

TEST(what_is_no_block_is_refused)
{
    char *small = covey_alloc(100);
    char *large = covey_alloc(200000);
    int local = 0;

    check_int(covey_free(NULL), ==, 0);
    check_fails(covey_free(&local), COVEY_EINVAL, "not the start of a block");
    check_fails(covey_free(small + 16), COVEY_EINVAL, "not the start of a block");
    check_fails(covey_free(small + 1), COVEY_EINVAL, "not the start of a block");
    check_fails(covey_free(large + 65536), COVEY_EINVAL, "not the start of a block");
    check_fails(covey_free(large + 16), COVEY_EINVAL, "not the start of a block");
    check_fails(covey_own(&local), COVEY_EINVAL, "not the start of a block");
    check_fails(covey_share(&local), COVEY_EINVAL, "not the start of a block");
    check_fails(covey_owner(&local), COVEY_EINVAL, "not the start of a block");
    check_int(covey_usable_size(&local), ==, 0);
    check_int(covey_free(small), ==, 0);
    check_fails(covey_free(small), COVEY_EINVAL, "not the start of a block");
    check_int(covey_free(large), ==, 0);
    check_fails(covey_free(large), COVEY_EINVAL, "not the start of a block");
}

TEST(more_than_the_arena_holds_is_an_error)
{
    check_int(covey_open(.memory_max = 64 << 20), ==, 0);
    check(covey_alloc((size_t)1 << 40) == NULL);
    check_int(covey_error_code(), ==, COVEY_ENOMEM);
    check(covey_alloc(SIZE_MAX) == NULL);
    check_int(covey_error_code(), ==, COVEY_ENOMEM);
}

/* As with a full /dev/shm, or a limit of the control group on such memory. */
TEST(a_full_machine_is_an_error_and_no_signal)
{
    char *small = covey_alloc(100);
    static char *more[10000];
    size_t n = 0;

    test_deny(SYS_fallocate, ENOSPC);
    check(covey_alloc(1 << 20) == NULL);
    check_int(covey_error_code(), ==, COVEY_ENOMEM);
    check(covey_realloc(small, 1 << 20) == NULL);
    check_int(covey_error_code(), ==, COVEY_ENOMEM);
    while (n < 10000 && (more[n] = covey_alloc(1000))) /* what has been claimed already */
        memset(more[n++], 1, 1000);
    check_int(n, <, 10000);
    check_int(covey_error_code(), ==, COVEY_ENOMEM);
    while (n > 0)
        check_int(covey_free(more[--n]), ==, 0);
    check_int(covey_free(small), ==, 0);
}

TEST(freed_memory_goes_back_to_the_kernel, .not_in_valgrind = "it needs more memory than there is")
{
    struct covey_stats before = use();
    struct covey_stats after;
    size_t size = (size_t)1 << 30;
    char *large = covey_alloc(size);

    check(large != NULL);
    for (size_t i = 0; i < size; i += 4096)
        large[i] = 1;
    check_int(use().bytes_claimed, >=, size);
    check_int(covey_free(large), ==, 0);
    check_int(use().bytes_claimed - before.bytes_claimed, <, size / 2);
    check_int(covey_trim(), ==, 0);
    after = use();
    check_int(after.blocks, ==, before.blocks);
    check_int(after.bytes_claimed, <=, before.bytes_claimed + 4 * 65536);
    large = covey_calloc(1, 1 << 20); /* and can be had again */
    check(large != NULL);
    check_int(covey_free(large), ==, 0);
}

TEST(freed_small_blocks_go_back_to_the_kernel,
    .not_in_valgrind = "it needs more memory than there is")
{
    enum {
        N = 100000
    };
    static void *blocks[N];

    for (int i = 0; i < N; i++)
        check((blocks[i] = covey_alloc(300)) != NULL);
    check_int(use().bytes_claimed, >=, N * 300);
    for (int i = 0; i < N; i++)
        check_int(covey_free(blocks[i]), ==, 0);
    check_int(covey_trim(), ==, 0);
    check_int(use().bytes_claimed, <, 4 * 65536);
}

TEST(a_process_may_free_what_another_allocated)
{
    void **place = covey_calloc(64, sizeof *place);
    pid_t pid = fork();

    if (pid == 0) {
        for (int i = 0; i < 64; i++)
            check((place[i] = covey_alloc((size_t)1 << (i % 20))) != NULL);
        _exit(0);
    }
    check_int(waitpid(pid, NULL, 0), ==, pid);
    for (int i = 0; i < 64; i++)
        check_int(covey_free(place[i]), ==, 0);
    check_int(covey_free(place), ==, 0);
}

struct node {
    struct node *next;
    int value;
};

TEST(linked_structures_are_the_same_in_every_member)
{
    struct node **list = covey_calloc(1, sizeof *list);
    int sum = 0;

    for (int i = 1; i <= 3; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            struct node *node = covey_alloc(sizeof *node);

            *node = (struct node){*list, i};
            *list = node;
            _exit(0);
        }
        check_int(waitpid(pid, NULL, 0), ==, pid);
    }
    while (*list) {
        struct node *node = *list;

        sum = sum * 10 + node->value;
        *list = node->next;
        check_int(covey_free(node), ==, 0);
    }
    check_int(sum, ==, 321);
    check_int(covey_free(list), ==, 0);
}

/* Allocates and frees at random, with the contents checked. */
static void churn(unsigned seed, int rounds)
{
    enum {
        N = 200
    };
    struct {
        unsigned char *p;
        size_t size;
        unsigned char fill;
    } blocks[N] = {{0}};

    for (int round = 0; round < rounds; round++) {
        int i = rand_r(&seed) % N;

        if (blocks[i].p) {
            for (size_t k = 0; k < blocks[i].size; k += 97)
                check_int(blocks[i].p[k], ==, blocks[i].fill);
            check_int(covey_free(blocks[i].p), ==, 0);
            blocks[i].p = NULL;
            continue;
        }
        blocks[i].size = (size_t)rand_r(&seed) % (round % 20 ? 2000 : 300000) + 1;
        blocks[i].fill = (unsigned char)rand_r(&seed);
        blocks[i].p = covey_alloc(blocks[i].size);
        check(blocks[i].p != NULL);
        memset(blocks[i].p, blocks[i].fill, blocks[i].size);
    }
    for (int i = 0; i < N; i++)
        check_int(covey_free(blocks[i].p), ==, 0);
}

TEST(processes_may_allocate_at_once, .deadline_s = 120)
{
    pid_t pids[4];

    check_int(covey_open(), ==, 0);
    for (unsigned i = 0; i < 4; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            churn(i, 20000);
            _exit(0);
        }
    }
    for (int i = 0; i < 4; i++) {
        int status = -1;

        check_int(waitpid(pids[i], &status, 0), ==, pids[i]);
        check_int(status, ==, 0);
    }
}

static void *churn_in_thread(void *context)
{
    churn((unsigned)(uintptr_t)context, 10000);
    return NULL;
}

TEST(threads_may_allocate_at_once, .deadline_s = 120)
{
    pthread_t threads[4];

    for (uintptr_t i = 0; i < 4; i++)
        check_int(pthread_create(&threads[i], NULL, churn_in_thread, (void *)i), ==, 0);
    for (int i = 0; i < 4; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
}

static uint64_t *page_word(const char *block)
{
    struct cv_heap *h = &cv_arena.family->heap;
    size_t page = (size_t)(block - cv_arena.memory.base - h->pages_offset) / CV_PAGE_BYTES;

    return (uint64_t *)(void *)(cv_arena.memory.base + h->words_offset) + page;
}

/* As a kill in mid-claim leaves it: eight pages are wanted, two are marked, others have the rest. */
TEST(an_unfinished_claim_takes_only_its_own_pages_along)
{
    enum {
        CLAIM = 1,
        BODY = 3,
        PAGES = 4
    };
    char *first = covey_alloc(PAGES * CV_PAGE_BYTES);
    char *others = covey_alloc(PAGES * CV_PAGE_BYTES);
    pid_t pid;

    check(others == first + PAGES * CV_PAGE_BYTES);
    memset(others, 7, PAGES * CV_PAGE_BYTES);
    check_int(covey_free(first), ==, 0);
    cv_arena.family->heap.kept_max = 0; /* what is freed goes to the kernel at once */
    pid = fork();
    if (pid == 0) {
        check_int(covey_own(covey_alloc(1)), ==, 0); /* a member that owns something */
        page_word(first)[1] = 1 << 4 | BODY;
        page_word(first)[0] = (uint64_t)cv_tag_short(cv_self.tag) << 32 | 2 * PAGES << 4 | CLAIM;
        (void)kill(getpid(), SIGKILL);
    }
    test_reap(pid, SIGKILL);
    check_int(use().members, ==, 1); /* buries it */
    for (int i = 0; i < PAGES * CV_PAGE_BYTES; i++)
        check(others[i] == 7);
    check(covey_alloc(PAGES * CV_PAGE_BYTES) == first);
    check_int(covey_free(first), ==, 0);
    check_int(covey_free(others), ==, 0);
}

TEST(realloc_of_anothers_block_leaves_it_to_him)
{
    struct {
        char *block;
        int step;
    } *shared = covey_calloc(1, sizeof *shared);
    char *moved;
    pid_t pid = fork();

    if (pid == 0) {
        shared->block = covey_alloc(100);
        check_int(covey_own(shared->block), ==, 0);
        __atomic_store_n(&shared->step, 1, __ATOMIC_SEQ_CST);
        for (;;)
            (void)pause();
    }
    while (!__atomic_load_n(&shared->step, __ATOMIC_SEQ_CST))
        test_sleep_ms(1);
    moved = covey_realloc(shared->block, 10000);
    check(moved && moved != shared->block);
    check_int(covey_owner(moved), ==, pid);
    check_int(kill(pid, SIGKILL), ==, 0);
    test_reap(pid, SIGKILL);
    check_int(use().blocks, ==, 1);
    check_int(covey_free(shared), ==, 0);
}

static void *use_and_free(void *stop)
{
    char *blocks[40] = {NULL};

    for (unsigned i = 0; !__atomic_load_n((int *)stop, __ATOMIC_SEQ_CST); i = (i + 1) % 40) {
        check_int(covey_free(blocks[i]), ==, 0);
        blocks[i] = covey_alloc(30000);
        check(blocks[i] != NULL);
    }
    for (int i = 0; i < 40; i++)
        check_int(covey_free(blocks[i]), ==, 0);
    return NULL;
}

/* What it was given while it left is not lost with it, and not free for who has given it. */
TEST(realloc_while_the_owner_leaves_loses_nothing, .deadline_s = 60,
    .not_in_valgrind = "it takes too long")
{
    struct {
        void *block;
        int step;
    } *s = covey_calloc(1, sizeof *s);

    for (int round = 0; round < 300; round++) {
        pid_t pid = fork();
        char *moved;

        if (pid == 0) {
            s->block = covey_alloc(100000);
            check_int(covey_own(s->block), ==, 0);
            __atomic_store_n(&s->step, 1, __ATOMIC_SEQ_CST);
            while (__atomic_load_n(&s->step, __ATOMIC_SEQ_CST) != 2)
                (void)sched_yield();
            check_int(covey_close(), ==, 0);
            _exit(0);
        }
        while (__atomic_load_n(&s->step, __ATOMIC_SEQ_CST) != 1)
            (void)sched_yield();
        __atomic_store_n(&s->step, 2, __ATOMIC_SEQ_CST);
        for (volatile int i = 0; i < round * 30; i++) {
        }
        moved = covey_realloc(s->block, 300);
        test_reap(pid, 0);
        if (moved && covey_owner(moved) == getpid())
            check_int(covey_free(moved), ==, 0);
    }
    check_int(covey_free(s), ==, 0);
}

TEST(trimming_gives_back_all_that_is_free, .deadline_s = 60)
{
    pthread_t threads[6];
    int stop = 0;

    for (int i = 0; i < 6; i++)
        check_int(pthread_create(&threads[i], NULL, use_and_free, &stop), ==, 0);
    test_sleep_ms(1000);
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 6; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
    check_int(use().blocks, ==, 0);
    check_int(covey_trim(), ==, 0);
    check_int(use().bytes_claimed, ==, 0);
}

/* Nor do those of one that has never allocated anything. */
TEST(kills_in_mid_trimming_lose_nothing, .deadline_s = 60, .not_in_valgrind = "it takes too long")
{
    const size_t size = (size_t)48 << 20;

    check_int(covey_open(.memory_max = 64 << 20), ==, 0);
    for (int round = 0; round < 20; round++) {
        char *block = covey_alloc(size);
        pid_t pid;

        check(block != NULL);
        memset(block, 1, size);
        check_int(covey_free(block), ==, 0);
        pid = fork();
        if (pid == 0) {
            check_int(covey_trim(), ==, 0);
            (void)pause();
        }
        test_sleep_ms(1 + (unsigned)round % 4);
        check_int(kill(pid, SIGKILL), ==, 0);
        test_reap(pid, SIGKILL);
        check_int(covey_stats(&(struct covey_stats){.size = sizeof(struct covey_stats)}), ==, 0);
    }
    check_int(covey_close(), ==, 0);
}

TEST(kills_in_mid_allocation_lose_nothing, .deadline_s = 120, .keeps_blocks = true)
{
    size_t before = use().blocks;

    for (int round = 0; round < 100; round++) {
        pid_t pid = fork();

        if (pid == 0) {
            for (unsigned i = 0;; i++) {
                void *block = covey_alloc(i % 5 ? 100 + i % 1000 : 100000);

                (void)covey_own(block);
                (void)covey_free(block);
            }
        }
        test_sleep_ms(1 + round % 3);
        check_int(kill(pid, SIGKILL), ==, 0);
        check_int(waitpid(pid, NULL, 0), ==, pid);
    }
    /* Only a block that was the family's for an instant, before covey_own(), may remain. */
    check_int(use().blocks - before, <=, 100);
    churn(1, 5000);
}

TEST(blocks_are_in_what_is_claimed)
{
    void *block = covey_alloc(65536 + 1);

    check(block != NULL);
    check_int(use().bytes, >, 65536);
    check_int(use().bytes, <=, use().bytes_claimed);
    check_int(covey_free(block), ==, 0);
}
