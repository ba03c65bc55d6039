/* SPDX-License-Identifier: MIT */
#include "os/wiped.h"

#include "base/atomic.h"
#include "base/error.h"
#include "os/memory.h"
#include "os/robust.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* since Linux 4.14 */
#endif

/* One page, the same in all processes that fork from each other; it begins with this. */
struct area {
    uint64_t mark; /* 1 in the process that has set it, 0 where the kernel has wiped it */
    unsigned char bytes[] __attribute__((aligned(16)));
};

static struct area *area;
static size_t used; /* of @bytes */

/* Emulators take the advice and do nothing. A fork leaves only the calling thread. */
static void wipe_in_child(void)
{
    if (!area)
        return;
    if (area->mark)
        memset(area, 0, cv_memory_page());
    area->mark = 1;
    cv_robust_head = NULL; /* musl's children must register anew */
}

static struct area *make_area(void)
{
    size_t size = cv_memory_page();
    struct area *none = NULL;
    struct area *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        (void)cv_fail_errno("no private memory (%zu bytes)", size);
        return NULL;
    }
    if (madvise(p, size, MADV_WIPEONFORK) != 0) {
        (void)cv_fail_errno("the kernel does not wipe memory on fork");
        (void)munmap(p, size);
        return NULL;
    }
    (void)pthread_atfork(NULL, NULL, wipe_in_child); /* twice does no harm */
    p->mark = 1;
    if (!cv_cas(&area, &none, p)) { /* another thread was first */
        (void)munmap(p, size);
        return none;
    }
    return p;
}

void *cv_wiped_alloc(size_t size)
{
    struct area *p = cv_load_acquire(&area);
    size_t rounded = (size + 15) / 16 * 16;
    size_t start;

    if (!p && !(p = make_area()))
        return NULL;
    start = __atomic_fetch_add(&used, rounded, __ATOMIC_SEQ_CST);
    if (start + rounded > cv_memory_page() - sizeof *p) {
        (void)cv_fail(COVEY_ENOMEM, "no room for %zu bytes in the page that forks wipe", size);
        return NULL;
    }
    return p->bytes + start;
}
