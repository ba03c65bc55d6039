/* SPDX-License-Identifier: MIT */
/**
 * covey/family.h - the family: a process, all that it starts, and the memory they share
 *
 * A program has one family. It is opened by the first covey call that needs it, or by covey_open()
 * to set its options; all processes that the program then starts through covey, or forks by any
 * other means, are members of it. (A child that was forked before belongs to no family yet, and
 * opens one of its own.) They share one arena of memory, mapped at the same address in each, so a
 * pointer into it means the same to all: that is what every covey object is.
 *
 * So any function may be a process's first, which makes it a member, and then also fail with the codes of
 * covey_open_with(), or with COVEY_ELIMIT when the family has as many members as it can have.
 *
 * Nothing of a family has a name in any file system or namespace. When its last member ends, in
 * whatever way, the kernel frees all of it.
 *
 * All of covey's functions are safe to call from any thread, at the same time, except where they say
 * otherwise; none may be called from a signal handler, nor in the child of vfork(), and a thread
 * must not be cancelled (pthread_cancel) while it is in one.
 *
 * A program's own handlers of forks (pthread_atfork()) may use covey as any function may. Only of those that
 * were registered before covey was loaded, by dlopen(), this is true in part: they must not open, close or
 * free anything.
 */
#ifndef COVEY_FAMILY_H
#define COVEY_FAMILY_H

#include <covey/error.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* COVEY_FOREVER - no time limit, wherever a timeout in seconds is asked for */
#define COVEY_FOREVER __builtin_inf()

/** enum covey_deadlocks - what happens to a call that would wait for ever */
enum covey_deadlocks {
    COVEY_DEADLOCKS_DEFAULT, /* as DETECT if covey was built for debugging, else as IGNORE */
    COVEY_DEADLOCKS_DETECT,  /* a call that would close a circle of processes that wait for what
                                the next one holds (locks of all kinds and permits), or for its
                                end, fails at once with COVEY_EDEADLK, and its message names the
                                circle, also if some of them wait with a timeout; taking a lock
                                costs a little more */
    COVEY_DEADLOCKS_IGNORE,  /* it waits */
};

/** struct covey_options - how to open the family; zero means the default */
struct covey_options {
    size_t size;       /* sizeof(struct covey_options) */
    size_t memory_max; /* this much can be allocated, if the machine has it, and a few MiB more;
                          default: four times the RAM */
    enum covey_deadlocks deadlocks; /* see covey_waits_print(), too */
};

/**
 * covey_open() - open the family with options
 * @options: what is wanted, or NULL for the defaults
 *
 * Not needed unless an option is: every other function opens the family when there is none. In a
 * process that is a member already this only counts, so that libraries can open and close
 * independently of each other; the options of the first call hold. So who wants an option calls this
 * before anything else of covey's but covey_main(); one that comes too late has no effect.
 *
 * The address space for the arena is reserved, no memory is used: an empty family takes a few
 * pages. Where the address space is limited (ulimit -v) the arena becomes smaller, a quarter of the
 * limit at most. A program that locks its memory should do so before (mlockall(MCL_CURRENT) later
 * would make the whole arena exist), or with MCL_ONFAULT. Core dumps do not contain the arena.
 *
 * Valgrind keeps account of the whole arena, and reads all of it when it looks for leaks: there, set
 * memory_max (or ulimit -f) to as little as will do, such as 16 MiB.
 *
 * Returns 0; COVEY_EINVAL for a memory_max that is less than 1 MiB or more than half of all
 * addresses; COVEY_ENOMEM when there is no room in the address space; COVEY_ELIMIT without a free
 * descriptor; COVEY_ESYS when the kernel does not allow a memfd.
 */
COVEY_API int covey_open_with(const struct covey_options *options);

/**
 * covey_close() - leave the family
 *
 * Undoes one covey_open(); becoming a member in any other way (by using covey, by being started)
 * counts as one, too. So a library that opens and closes does not take the family from a program
 * that was a member before; one that uses covey only after such a library has opened it should call
 * covey_open() itself. The last one gives back what this process holds and unmaps the arena: every
 * covey pointer of this process is then invalid, and no other thread may be using one. The other
 * members go on, also those that this process has started. There is no need to call this before the
 * process ends.
 *
 * Called by another thread than the one whose call joined the family, it unmaps nothing: this
 * process stays a member, in name only, until it ends.
 *
 * Returns 0; COVEY_ESTATE when this process is in no family.
 */
COVEY_API int covey_close(void);

/**
 * covey_on_interrupt() - decide what a signal does to calls that wait
 * @hook: called in a waiting thread after a signal handler has run in it; NULL: none
 * @context: passed to @hook
 *
 * Without a hook, and when it returns 0, the wait goes on with the time that is left. Otherwise the
 * call gives up and returns COVEY_EINTR. For language bindings, whose own handlers run here, and
 * for programs that stop at a signal. One hook for the whole process; children of a fork keep it.
 *
 * The handler must be set by sigaction() without SA_RESTART: with it, as signal() sets one, the kernel
 * may go on with the wait by itself, and then the hook is not called. One that has run in the moment before
 * the thread sleeps ends nothing, as with any call that waits: who must not miss it sends the signal again, or
 * waits with timeouts.
 *
 * The hook may use covey, and fork. But a child that was forked in it, or in a signal handler that
 * interrupts a wait, must not return from there: the wait is its parent's.
 */
COVEY_API void covey_on_interrupt(int (*hook)(void *context), void *context);

/**
 * covey_cpu_count() - how many CPUs this process may use
 *
 * The smaller of its affinity mask and the CPU quota of its control group (rounded up). At least 1.
 */
COVEY_API unsigned covey_cpu_count(void);

/**
 * covey_waits_print() - print who waits for what, and who holds what
 * @fd: a descriptor to write to, such as 2
 *
 * One line for each thread of the family that sleeps in a call of covey (but covey_wait(), and those of
 * connections and listeners; who waits in a pipe is shown with the queue of its way), and one for each lock,
 * rlock, rwlock and semaphore that is held:
 *
 *     process 4711 thread 4711 waits for lock 0x100000412340 held by process 4712, for 3.201 s
 *     lock 0x100000412340 held by process 4712
 *
 * Threads that hold a lock are named where the family looks for deadlocks. A number in brackets says
 * how many permits of a semaphore a process has, or how often it holds an rwlock for reading. All is
 * read without stopping anybody, so the lines need not be of the same instant. It walks over all memory
 * in use, which takes a while in a large family. Any member can call it at any time, also from a
 * debugger.
 *
 * Returns 0; COVEY_ESYS when @fd cannot be written to; the codes of covey_open().
 */
COVEY_API int covey_waits_print(int fd);

/** struct covey_stats - what a family uses, at about one instant */
struct covey_stats {
    size_t size;   /* in: sizeof(struct covey_stats) */
    size_t blocks; /* allocated by covey_alloc() and its kin, and by objects */
    size_t bytes;  /* in those blocks, as rounded up by the heap */
    size_t
        bytes_claimed; /* of memory that the kernel has given to the heap, free blocks included */
    size_t bytes_max;  /* that the heap can hold at most */
    size_t members;    /* live processes, fork servers included */
};

/**
 * covey_stats() - count what the family uses
 * @stats: filled; its field size must be set
 *
 * Finds and buries dead members first. Walks the whole heap: for tests and monitors.
 *
 * Returns 0; COVEY_EINVAL when stats is NULL or its size not set; the codes of covey_open().
 */
COVEY_API int covey_stats(struct covey_stats *stats);

#ifndef __cplusplus
/* covey_open(.OPTION = VALUE, ...) */
#define covey_open(...)                                                                            \
    covey_open_with(&(struct covey_options){.size = sizeof(struct covey_options), __VA_ARGS__})
#endif

#ifdef __cplusplus
}
#endif

#endif
