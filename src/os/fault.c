/* SPDX-License-Identifier: MIT */
#include "os/fault.h"

#include "base/atomic.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The calls here are real ones: a name in parentheses is no macro. */

#define ENVIRONMENT "COVEY_FAULT_PLAN"

struct cv_fault_plan *cv_fault_plan;

static uint32_t counting; /* the process that these are of */
static uint32_t who;
static uint32_t count; /* opportunities */

static struct cv_fault_plan *map(int fd)
{
    void *p = (mmap)(NULL, sizeof *cv_fault_plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* Open in children as well. */
int cv_fault_make_plan(void)
{
    int fd = memfd_create("faults", 0);
    char number[16];

    (void)snprintf(number, sizeof number, "%d", fd);
    if (fd < 0 || (ftruncate)(fd, sizeof *cv_fault_plan) != 0 || !(cv_fault_plan = map(fd)) ||
        setenv(ENVIRONMENT, number, 1) != 0)
        return -1;
    cv_fault_plan->pid = (uint32_t)getpid();
    return fd;
}

/* In a fresh image, before main(). */
__attribute__((constructor)) static void find_plan(void)
{
    const char *number = getenv(ENVIRONMENT);

    if (number)
        cv_fault_plan = map((int)strtol(number, NULL, 10));
}

static bool has(const int *errors, int error)
{
    while (*errors && *errors != error)
        errors++;
    return *errors != 0;
}

/* "mmap(NULL, ..." and "SYS_futex, word, ...": up to the name's end. */
static size_t name_length(const char *call)
{
    size_t n = strcspn(call, "(,");

    return n < sizeof cv_fault_plan->call ? n : sizeof cv_fault_plan->call - 1;
}

static bool is_same(const char *call, const char *failed)
{
    size_t n = name_length(call);

    return strlen(failed) == n && memcmp(call, failed, n) == 0;
}

static void note(struct cv_fault_plan *plan, const char *call, const char *where, int error)
{
    (void)snprintf(plan->call, sizeof plan->call, "%.*s", (int)name_length(call), call);
    (void)snprintf(plan->where, sizeof plan->where, "%s", where);
    plan->error = error;
    cv_store_release(&plan->hit, 2);
}

/* A signal comes once. */
static bool goes_on(const struct cv_fault_plan *plan, const char *call, const int *errors)
{
    return plan->again && cv_load_acquire(&plan->hit) == 2 && plan->error != EINTR &&
           has(errors, plan->error) && is_same(call, plan->call);
}

/* After a fork. That process may end before its children, so they find out at once. */
static void begin_counting(const struct cv_fault_plan *plan, uint32_t me)
{
    if (cv_exchange(&counting, me) == me)
        return;
    cv_store_seq(&count, 0);
    cv_store_seq(&who, me == plan->pid ? 0 : (uint32_t)getppid() == plan->pid ? 1 : 2);
}

bool cv_fault(const char *call, const char *where, const int *errors)
{
    struct cv_fault_plan *plan = cv_fault_plan;
    uint32_t n = plan ? cv_load_acquire(&plan->n) : 0;

    if (!n)
        return false;
    begin_counting(plan, (uint32_t)getpid());
    if (cv_load_seq(&who) != plan->who)
        return false;
    if (goes_on(plan, call, errors)) {
        errno = plan->error;
        return true;
    }
    for (; *errors; errors++) {
        if (cv_fetch_add(&count, 1) + 1 == n && cv_cas32(&plan->hit, 0, 1)) {
            note(plan, call, where, *errors);
            errno = *errors;
            return true;
        }
    }
    return false;
}

/* In any thread, also one that has no thread-local memory of its own, as long as it cannot fail. */
__attribute__((no_sanitize("address", "thread", "undefined"))) bool cv_fault_syscall(
    const char *call, const char *where, long number)
{
    switch (number) {
    case SYS_memfd_create: /* EINVAL: an old kernel, for a flag */
        return cv_fault(call, where, (const int[]){ENOMEM, EMFILE, ENFILE, EPERM, EINVAL, 0});
    case SYS_pidfd_open:
        return cv_fault(call, where, (const int[]){EMFILE, ENFILE, ENOMEM, ENOSYS, 0});
    case SYS_pidfd_send_signal:
        return cv_fault(call, where, (const int[]){EPERM, 0});
    case SYS_futex_waitv:
        return cv_fault(call, where, (const int[]){ENOSYS, EPERM, ENOMEM, EINTR, 0});
    case SYS_futex: /* waiting; to wake cannot fail */
        return !strstr(call, "FUTEX_WAKE,") && cv_fault(call, where, (const int[]){EINTR, 0});
    case SYS_get_robust_list: /* an emulator */
        return cv_fault(call, where, (const int[]){ENOSYS, 0});
    case SYS_ioctl: /* an old kernel */
        return cv_fault(call, where, (const int[]){ENOTTY, 0});
    default:
        return false;
    }
}
