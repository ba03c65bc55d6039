/* SPDX-License-Identifier: MIT */
#include "os/memory.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* since Linux 6.3 */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* since Linux 5.14 */
#endif

/*
 * Where to map, best first: far from where programs, heaps, stacks and libraries are put, so that
 * spawned members find the place free. The others are for address spaces of 39 bits and for the
 * few ranges that sanitizers and valgrind leave to applications.
 */
static const uintptr_t places[] = {
    0x100000000000, /* 17.6 TB */
    0x7e9000000000, /* ThreadSanitizer on x86-64 */
    0xe9000000000,  /* valgrind */
    0x2000000000,   /* 39 bits */
};

enum {
    ALIGNMENT = 2 << 20
}; /* of the base */

size_t cv_memory_page(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

uint64_t cv_memory_of_machine(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * cv_memory_page();
}

static size_t size_under_limit(size_t size, int resource, unsigned share)
{
    struct rlimit limit;

    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
        limit.rlim_cur / share >= size)
        return size;
    size = limit.rlim_cur / share;
    return size - size % cv_memory_page();
}

static int create_memfd(struct cv_descriptor *file)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = (int)syscall(SYS_memfd_create, "covey", flags | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL)
        fd = (int)syscall(SYS_memfd_create, "covey", flags);
    return fd < 0 ? cv_fail_errno("no shared memory for the family (memfd_create)")
                  : cv_descriptor_take(file, fd);
}

/*
 * Nothing may make all of it exist. A core dump would read every page, hence MADV_DONTDUMP. A
 * program that has locked its memory, that to come as well, would have the kernel fill every new
 * mapping; but not one without access, and giving access fills nothing that is shared.
 *
 * NULL with errno: EEXIST when something else is there.
 */
static char *map_at(uintptr_t place, size_t size, int fd)
{
    void *wanted = (void *)place;
    void *p = mmap(wanted, size, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    int error = EEXIST;

    if (p == MAP_FAILED)
        return NULL;
    if (p != wanted || mprotect(p, size, PROT_READ | PROT_WRITE) != 0) {
        if (p == wanted)
            error = errno;
        (void)munmap(p, size);
        errno = error;
        return NULL;
    }
    (void)madvise(p, size, MADV_DONTDUMP);
    return p;
}

/* Where the kernel would put it, rounded up; 0 where there is no such place. */
static uintptr_t place_of_kernel(size_t size)
{
    void *p =
        mmap(NULL, size + ALIGNMENT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return 0;
    (void)munmap(p, size + ALIGNMENT);
    return ((uintptr_t)p + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static char *map_somewhere(size_t size, int fd)
{
    uintptr_t place;
    char *base = NULL;

    for (size_t i = 0; i < sizeof places / sizeof *places && !base; i++)
        base = map_at(places[i], size, fd);
    if (!base && (place = place_of_kernel(size)) != 0)
        base = map_at(place, size, fd);
    return base;
}

/* As large as the file system and the address space allow. */
static int size_and_map(struct cv_memory *memory, size_t size, size_t size_min)
{
    errno = ENOMEM; /* if a limit leaves not even that */
    for (; size >= size_min; size /= 2) {
        if (ftruncate(memory->file.fd, (off_t)size) != 0) {
            if (errno == EFBIG || errno == EINVAL)
                continue;
            return cv_fail_errno("cannot make the family's memory %zu bytes (ftruncate)", size);
        }
        memory->size = size;
        memory->base = map_somewhere(size, memory->file.fd);
        if (memory->base)
            return 0;
    }
    if (errno == EEXIST) /* at all places */
        errno = ENOMEM;
    return cv_fail_errno(
        "no room for the family's arena in the address space: less than %zu bytes", size_min);
}

int cv_memory_create(struct cv_memory *memory, size_t size, size_t size_min)
{
    int error;

    /* A quarter of the address space at most: the rest is the program's. */
    size = size_under_limit(size, RLIMIT_AS, 4);
    size = size_under_limit(size, RLIMIT_FSIZE, 1); /* past it, ftruncate raises SIGXFSZ */
    memory->base = NULL;
    error = create_memfd(&memory->file);
    if (error == 0)
        error = size_and_map(memory, size, size_min);
    if (error == 0 &&
        fcntl(memory->file.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        error = cv_fail_errno("cannot seal the family's memory");
    if (error != 0)
        cv_memory_unmap(memory);
    return error;
}

int cv_memory_attach(struct cv_memory *memory, int fd, char *base, size_t size)
{
    int error = cv_descriptor_take(&memory->file, fd);

    if (error != 0)
        return error;
    memory->size = size;
    memory->base = map_at((uintptr_t)base, size, memory->file.fd);
    if (memory->base)
        return 0;
    if (errno == EEXIST)
        return cv_fail(COVEY_ENOMEM,
            "cannot map the family's arena at %p (%zu bytes): something else is there",
            (void *)base, size);
    return cv_fail_errno("cannot map the family's arena at %p (%zu bytes)", (void *)base, size);
}

int cv_memory_check(const struct cv_memory *memory)
{
    return cv_descriptor_is_ours(&memory->file)
               ? 0
               : cv_fail(
                     COVEY_ESYS, "descriptor %d, the family's memory, was closed", memory->file.fd);
}

void cv_memory_unmap(struct cv_memory *memory)
{
    if (memory->base)
        (void)munmap(memory->base, memory->size);
    memory->base = NULL;
    cv_descriptor_close(&memory->file);
}

/*
 * fallocate() takes the pages without mapping them. The program may have closed the descriptor
 * (daemons close all) or have another file under its number now; then the pages are made by
 * touching them through the mapping, which fails with an error where a plain store would be SIGBUS.
 */
int cv_memory_claim(const struct cv_memory *memory, char *start, size_t size)
{
    bool ours = cv_descriptor_is_ours(&memory->file);
    int r;

    do {
        if (ours)
            r = fallocate(memory->file.fd, 0, start - memory->base, (off_t)size);
        else
            r = madvise(start, size, MADV_POPULATE_WRITE);
    } while (r != 0 && errno == EINTR);
    if (r == 0)
        return 0;
    if (!ours && errno == EINVAL) /* the kernel is too old for the other way */
        return cv_memory_check(memory);
    if (errno == EFAULT) /* what MADV_POPULATE_WRITE says instead of SIGBUS */
        errno = ENOMEM;
    return cv_fail_errno("no memory for %zu more bytes of the family's arena", size);
}

void cv_memory_return(char *start, size_t size)
{
    size_t page = cv_memory_page();
    uintptr_t head = (uintptr_t)start % page ? page - (uintptr_t)start % page : 0;

    if (size < head + page)
        return;
    start += head;
    size -= head;
    (void)madvise(start, size - size % page, MADV_REMOVE);
}
