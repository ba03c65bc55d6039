/* SPDX-License-Identifier: MIT */
#include "os/wiped.h"

#include "base/atomic.h"
#include "base/error.h"
#include "os/robust.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* since Linux 4.14 */
#endif

enum {
    AREAS_MAX = 8
};

static struct {
    void *start;
    size_t size;
} areas[AREAS_MAX];

static unsigned area_count;

/* For emulators that take the advice and do nothing. A fork leaves only the calling thread. */
static void wipe_in_child(void)
{
    unsigned n = cv_load_acquire(&area_count);

    for (unsigned i = 0; i < n && i < AREAS_MAX; i++) {
        if (areas[i].start)
            memset(areas[i].start, 0, areas[i].size);
    }
    cv_robust_head = NULL; /* musl's children must register anew */
}

static void register_fork_handler(void)
{
    (void)pthread_atfork(NULL, NULL, wipe_in_child);
}

void *cv_wiped_alloc(size_t size)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    unsigned slot;
    void *p;

    (void)pthread_once(&once, register_fork_handler);
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        (void)cv_fail_errno("no private memory (%zu bytes)", size);
        return NULL;
    }
    if (madvise(p, size, MADV_WIPEONFORK) != 0) {
        (void)cv_fail_errno("the kernel does not wipe memory on fork");
        (void)munmap(p, size);
        return NULL;
    }
    slot = __atomic_fetch_add(&area_count, 1, __ATOMIC_SEQ_CST);
    if (slot < AREAS_MAX) {
        areas[slot].size = size;
        areas[slot].start = p;
    }
    return p;
}
