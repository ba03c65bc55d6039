/* SPDX-License-Identifier: MIT */
/**
 * covey/process.h - processes: start them, wait for them, end them
 *
 * A process runs one function with a copy of an argument, and ends with what the function returns
 * as its exit code. There are three ways to start one:
 *
 *   fork        A copy of this process, made at once. All memory is copied (not shared) when
 *               written. In a process with threads the child has only the calling one; locks that
 *               others hold at that moment (malloc's aside) stay locked in the child for ever.
 *   spawn       A fresh image of this program. Nothing is inherited but the environment, the
 *               working directory and descriptors without close-on-exec; safe with threads.
 *   forkserver  A fork of a clean helper process, itself a fresh image of the program with one
 *               thread, which is started when it is first needed: as safe as spawn, faster than
 *               fork, and independent of how much memory this process uses. Environment, working
 *               directory, umask and descriptors without close-on-exec are those that this process
 *               had when the helper was started; what it opens or changes later is not seen. The
 *               helper is a child of this process and ends with it: who waits for any child, until
 *               there is none, waits for the helper, too.
 *
 * spawn and forkserver need covey_main() at the top of main(), and a function that lies in the
 * program or in a shared library.
 *
 * A covey_process pointer belongs to the process that started it. Other members may use it as well,
 * until it is closed, except where a function says that only the starter may.
 *
 * When a process ends, its daemons end with it; its other children go on, and nothing waits for them.
 */
#ifndef COVEY_PROCESS_H
#define COVEY_PROCESS_H

#include <covey/family.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct covey_process covey_process;

/**
 * covey_function - what a process runs
 * @argument: a copy of the argument, aligned as by malloc(), the child's own; NULL if there is none
 *
 * Returns the exit code, of which the system keeps the low 8 bits.
 */
typedef int covey_function(void *argument);

/** enum covey_method - how to start a process */
enum covey_method {
    COVEY_DEFAULT_METHOD = 0, /* what covey_set_start_method() has set, or else fork */
    COVEY_FORK,
    COVEY_SPAWN,
    COVEY_FORKSERVER,
};

enum {
    COVEY_NAME_MAX = 63, /* bytes in the name of a process */
};

/** struct covey_process_options - what to start; zero means the default */
struct covey_process_options {
    size_t size;              /* sizeof(struct covey_process_options) */
    covey_process **process;  /* out: the process; NULL: detached, nobody will join it */
    covey_function *function; /* what it runs */
    const void *argument;     /* copied to it, */
    size_t argument_size;     /* this many bytes, up to 1 GiB; see COVEY_ARGUMENT() */
    const char *name;         /* up to COVEY_NAME_MAX bytes; default: "process-PID" */
    enum covey_method method;
    bool daemon; /* it is killed when this process ends, in whatever way */
};

/**
 * covey_main() - let this program be started as a child
 * @argc: main's
 * @argv: main's
 *
 * Call it first in main(). In the program proper it returns. In a process that covey has started
 * by spawn (or for the fork server) it does that process's work, and exits.
 */
COVEY_API void covey_main(int argc, char **argv);

/**
 * covey_process_start() - start a process
 *
 *     covey_process *child;
 *     covey_process_start(&child, work, COVEY_ARGUMENT(input), .name = "worker", .daemon = true);
 *
 * stdout and stderr are flushed before a fork, so that nothing is written twice. In a child made by
 * fork or forkserver the function's return is followed by a flush of these two and _exit(): so the
 * parent's exit handlers do not run there, and what other streams of the parent still held is not
 * written again; a stream that the child has opened is for the child to close. A spawned child
 * calls exit().
 *
 * A daemon gets SIGKILL when the process that started it ends, even if that is killed itself; so do
 * the daemon's own daemons. (Started with fork or spawn from the first thread of a process, it ends
 * with that thread, should that one end alone by pthread_exit(). Started otherwise, it is no daemon
 * any more when it has called exec.)
 *
 * Waits for nothing with fork and spawn; with forkserver until the server has forked.
 *
 * Until it is joined or taken away, each child started by fork or spawn takes a descriptor here.
 * A child made by fork has the signal mask and the handlers of the calling thread; by spawn, the
 * mask and what is ignored; by forkserver, those with which the program was started.
 *
 * Detached processes that have ended are taken away whenever this process starts another one or
 * calls covey_active_children().
 *
 * Returns 0; COVEY_EINVAL for a bad option, or a function that lies in no loadable module;
 * COVEY_ETOOBIG for an argument of more than 1 GiB; COVEY_ESTATE when covey_main() was not called;
 * COVEY_ELIMIT without a free descriptor, process or member; COVEY_ENOMEM; COVEY_ESYS.
 */
COVEY_API int covey_process_start_with(const struct covey_process_options *options);

/**
 * covey_process_join() - wait until a process has ended
 * @process: the process
 * @timeout_s: how long at most, in seconds; 0 or less: only look; COVEY_FOREVER
 *
 * In the process that started it this also takes away the zombie, and the exit code is known
 * afterwards. May be called again, and by several threads.
 *
 * Returns 0 when it has ended; COVEY_ETIMEDOUT; COVEY_EINTR (see covey_on_interrupt()); COVEY_EDEADLK
 * when it waits for what this one holds, if the family looks for deadlocks (see covey_open());
 * COVEY_EINVAL; what kept a spawned process from running its function, when something did.
 */
COVEY_API int covey_process_join(covey_process *process, double timeout_s);

/**
 * covey_process_exit_code() - how a process has ended
 * @process: the process
 * @code: set to its exit code, 0 to 255, or to the negative number of the signal that killed it
 *
 * Returns 0; COVEY_ESTATE when it has not ended, or its parent does not yet know how; COVEY_EDIED
 * when it has ended and nobody can know how: somebody else took its status (the program ignores
 * SIGCHLD or waits for any child) and the kernel is older than 6.15; COVEY_EINVAL.
 */
COVEY_API int covey_process_exit_code(covey_process *process, int *code);

/** covey_process_is_alive() - 1 while it runs, 0 when it has ended; COVEY_EINVAL */
COVEY_API int covey_process_is_alive(covey_process *process);

/**
 * covey_process_signal() - send a signal to a process
 *
 * Never hits another process that has got its pid. Returns 0, also when it has ended already;
 * COVEY_EINVAL for a process or signal that is none; COVEY_ELIMIT; COVEY_ESYS without permission, or for
 * one that this process has not forked or spawned itself where there are no pidfds (in some sandboxes).
 */
COVEY_API int covey_process_signal(covey_process *process, int signal);

/** covey_process_terminate() - covey_process_signal() with SIGTERM */
COVEY_API int covey_process_terminate(covey_process *process);

/** covey_process_kill() - covey_process_signal() with SIGKILL */
COVEY_API int covey_process_kill(covey_process *process);

/** covey_process_pid() - its process id; COVEY_EINVAL */
COVEY_API pid_t covey_process_pid(covey_process *process);

/** covey_process_name() - its name, valid until it is closed; NULL with COVEY_EINVAL */
COVEY_API const char *covey_process_name(covey_process *process);

/** covey_process_is_daemon() - 1 or 0; COVEY_EINVAL */
COVEY_API int covey_process_is_daemon(covey_process *process);

/**
 * covey_process_fd() - a descriptor that becomes readable when the process ends
 *
 * For poll() and its kind; it stays covey's, until the process is closed: do not read or close it.
 * Only in the process that started it.
 *
 * Returns the descriptor; COVEY_ENOTOWNER; COVEY_ELIMIT without a free one; COVEY_EINVAL;
 * COVEY_ESYS.
 */
COVEY_API int covey_process_fd(covey_process *process);

/**
 * covey_process_close() - give a process that has ended back
 * @process: the process, which must not be used any more; NULL does nothing
 *
 * Returns 0; COVEY_ESTATE while it runs, or when it is the worker of a pool; COVEY_ENOTOWNER;
 * COVEY_EINVAL.
 */
COVEY_API int covey_process_close(covey_process *process);

/** covey_process_current() - this process; NULL with the codes of covey_open_with() */
COVEY_API covey_process *covey_process_current(void);

/** covey_process_parent() - the process that started this one through covey; NULL: none did */
COVEY_API covey_process *covey_process_parent(void);

/**
 * covey_active_children() - the processes that this one has started, has not closed, and that live
 * @children: filled with up to @room of them; may be NULL when @room is 0
 * @room: how many fit
 *
 * Joins those that have ended. The workers of pools are among them, detached processes are not.
 * Returns how many live, which may be more than @room, or a negative code.
 */
COVEY_API int covey_active_children(covey_process **children, size_t room);

/** covey_set_start_method() - what COVEY_DEFAULT_METHOD means in this process; 0 or COVEY_EINVAL */
COVEY_API int covey_set_start_method(enum covey_method method);

/** covey_start_method() - what COVEY_DEFAULT_METHOD means now */
COVEY_API enum covey_method covey_start_method(void);

/**
 * covey_fork() - fork(), with the child a member of the family at once
 *
 * Returns twice: 0 in the child, the child's pid in the parent. Memory is copied, not shared; what
 * lies in the arena is shared. The child goes on from here, and ends as any process does.
 *
 * The parent need not wait for the child: those that have ended are taken away whenever this process
 * starts another one, calls covey_active_children() or ends, so they do not pile up as zombies. A
 * parent that wants to know how a child ends calls covey_process_find() before that, and joins it;
 * or waits by waitpid() before it starts another one.
 *
 * Returns a negative code in the parent when it fails: COVEY_ELIMIT, COVEY_ENOMEM, COVEY_ESYS.
 */
COVEY_API pid_t covey_fork(void);

/**
 * covey_process_find() - a child of this process by its pid
 * @pid: what covey_fork() has returned
 *
 * Found as long as it runs, and after that until it is taken away as a zombie. The handle is to be
 * closed, like that of a started process.
 *
 * Returns the process; NULL with COVEY_EINVAL.
 */
COVEY_API covey_process *covey_process_find(pid_t pid);

#ifndef __cplusplus
/* COVEY_ARGUMENT(value) - an argument for covey_process_start() and covey_pool_submit(): a variable or a
 * compound literal such as (int){5}, of which all is copied. A pointer into the arena is copied itself: the
 * function finds it as *(struct tree **)argument. */
#define COVEY_ARGUMENT(...)                                                                        \
    .argument = &(__VA_ARGS__), .argument_size = sizeof(__typeof__(__VA_ARGS__))

/* covey_process_start(&process, function, COVEY_ARGUMENT(variable), .OPTION = VALUE, ...) */
#define covey_process_start(...)                                                                   \
    covey_process_start_with(&(struct covey_process_options){                                      \
        .size = sizeof(struct covey_process_options), .process = __VA_ARGS__})
#endif

#ifdef __cplusplus
}
#endif

#endif
