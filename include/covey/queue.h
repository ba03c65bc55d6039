/* SPDX-License-Identifier: MIT */
/**
 * covey/queue.h - a queue between processes: many producers, many consumers, first in, first out
 *
 *     covey_queue *queue;
 *     covey_queue_open(&queue, .items = 100);
 *     ...
 *     covey_queue_put_value(queue, number, COVEY_FOREVER);      // in one process
 *     covey_queue_get_value(queue, &number, COVEY_FOREVER);     // in another
 *
 * Items are bytes, any number of them. The queue lies in the arena: its pointer can be handed to any
 * member of the family and used there. It is bounded, by a number of items or of bytes, or grows. The
 * items of each producer come out in the order in which he has put them (those of one priority, if
 * there are several).
 *
 * Items of up to 4 KiB are copied in and out. Larger ones go as blocks of the arena: they are copied in,
 * without holding up anybody, and out; or not at all (covey_queue_put_block(), covey_queue_get_block(),
 * covey_queue_reserve(), covey_queue_peek()).
 *
 * Deaths. A process that is killed while it uses the queue takes nothing with it but an item that it had
 * not finished putting; an item that it was about to get stays, one that it has got is gone with it,
 * unless the queue is opened with redeliver: then others get it, before those of its priority that wait.
 * Nobody else is held up.
 *
 * A process that is *stopped* (SIGSTOP, a debugger) in the middle of putting holds up the others who
 * put, and one in the middle of getting those who get, until it goes on or is killed. Timeouts of
 * put and get hold even then, if they are longer than 50 ms; shorter ones, and 0, become 50 ms.
 *
 * All functions may be called by any thread of any member, at the same time. Those with a timeout may
 * block for so long; the others only for others' calls that are under way.
 */
#ifndef COVEY_QUEUE_H
#define COVEY_QUEUE_H

#include <covey/family.h>
#include <covey/process.h>

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct covey_queue covey_queue;

/** struct covey_queue_options - how to open a queue; zero means the default */
struct covey_queue_options {
    size_t size;         /* sizeof(struct covey_queue_options) */
    covey_queue **queue; /* out: the new queue */
    size_t items;        /* how many items may wait at most, up to 2^40; default: as many as the
                            bytes allow */
    size_t
        bytes; /* how many bytes may wait at most, from 64 to 1 TiB. An item counts its size, rounded
                            up to 8, and 8 more, or 32 if it is larger than 4 KiB (or than a quarter of
                            @bytes); and room that is left where the memory ends, up to as much as an
                            item takes, counts as well: for a number of items there is @items.
                            Default: any number, if @items or @unbounded is given; else 1 MiB
                            of small items, and with large ones 16 MiB, or one of any size. */
    bool unbounded;      /* the queue grows as long as there is memory: putting never waits */
    size_t item_size;    /* all items have so many bytes; default: any number of them */
    unsigned priorities; /* up to 16: an item may have a priority below this; default: 1. @items and
                            @bytes are for all of them: a queue that is full has no room for an urgent
                            item either */
    bool joinable;  /* an item is unfinished until covey_queue_task_done(); from when it is got it
                            waits no more, and takes 64 bytes of the arena, and those of its own that are
                            still needed: large ones, and all with redeliver */
    bool redeliver; /* joinable, and a dead process's unfinished items are given to others */
    unsigned
        deliveries; /* with redeliver: when so many have died with it, an item is lost as without;
                            up to 65,535; default: as many as there may be. A death counts for all items
                            that the process had: get one by one what may kill */
    unsigned
        producers; /* the queue closes itself when so many processes, or more, have put something or
                            were added, and all of these have left it or died; up to 1,023; default: it
                            does not. Who puts but one item, such as a last one, is one of them from then on
                            and has to leave, too. That a producer died is not told: a stream that must be
                            complete ends with an item that says so */
};

/**
 * covey_queue_open() - make a queue
 *
 *     covey_queue *queue;
 *     covey_queue_open(&queue, .items = 100);
 *
 * A queue takes little memory: what its items need, if they are few (with .items = 100 of 4 bytes 4 KiB in all),
 * or 64 KiB; with priorities so much for each. It takes more when more than that waits; and twice as much as a
 * CPU has as a cache of its own, such as 2 MiB, while more than 100 MB go through in a second, if it is for
 * 1 MiB and 16,384 items at least, and the arena for 64 times as much: that is several times as fast. It gives
 * it back when little waits again, or less goes through, and some more has been put.
 *
 * Returns 0 with the queue in *queue; COVEY_EINVAL; COVEY_ENOMEM; the codes of covey_open().
 */
COVEY_API int covey_queue_open_with(const struct covey_queue_options *options);

/**
 * covey_queue_put() - append an item, waiting for room
 * @queue: the queue
 * @item: its bytes; NULL is allowed for an item of no bytes
 * @size: how many
 * @timeout_s: how long to wait at most, in seconds; 0 or less: not at all; COVEY_FOREVER
 *
 * Returns 0; COVEY_EFULL when there was no room in time; COVEY_ECLOSED; COVEY_ETOOBIG when the item
 * can never fit; COVEY_ENOMEM or COVEY_ELIMIT when a queue cannot grow, or a large item has no room in
 * the arena: at once, for nobody knows when there will be some (.bytes holds producers back before); COVEY_EINTR
 * (see covey_on_interrupt()); COVEY_EINVAL, also for another size than the item_size that the queue was opened
 * with.
 */
COVEY_API int covey_queue_put(covey_queue *queue, const void *item, size_t size, double timeout_s);

/**
 * covey_queue_put_at() - the same, with a priority
 * @priority: from 0 to one less than the queue's priorities; items of a higher one are got first
 *
 * All else that puts (covey_queue_put(), _put_many(), _put_block(), _reserve(), ends of pipes, descriptors) uses
 * priority 0.
 */
COVEY_API int covey_queue_put_at(
    covey_queue *queue, unsigned priority, const void *item, size_t size, double timeout_s);

/**
 * covey_queue_put_many() - append items, as many as there is room for in time
 * @queue: the queue
 * @items: their bytes, those of each item @size behind those of the one before
 * @size: how many bytes each has, or may have
 * @sizes: how many it really has, @n of them; NULL: @size
 * @n: how many items
 * @timeout_s: how long to wait at most for all of them
 *
 * Much cheaper than one by one. Consumers may get the first before the last is in, and items of other
 * producers may come between.
 *
 * Returns how many were put, the first ones; if that would be 0, the codes of covey_queue_put(), and 0
 * only for an @n of 0. For a wrong size none is put.
 */
COVEY_API long covey_queue_put_many(covey_queue *queue, const void *items, size_t size,
    const size_t *sizes, size_t n, double timeout_s);

/**
 * covey_queue_put_block() - append a block of the arena, without copying it
 * @queue: the queue
 * @block: what covey_alloc() has returned
 * @size: how many bytes of it are the item
 * @timeout_s: how long to wait at most
 *
 * A block that is this process's own (covey_own()) is the queue's from here on, and then belongs to who
 * gets it; a copy is got of it by covey_queue_get(), and then it is freed. One of the family's (as it comes
 * from covey_alloc()) stays that: only its address goes through the queue, and nobody frees it: it must be there,
 * and as it is, until its item has been got, with redeliver until it is done, or what is got is garbage. Either way
 * it counts all its bytes, as a copy would: a queue for blocks is best bounded by @items. On failure nothing has
 * changed.
 *
 * Returns the codes of covey_queue_put(), and COVEY_EINVAL for what is no block, or another process's.
 */
COVEY_API int covey_queue_put_block(covey_queue *queue, void *block, size_t size, double timeout_s);

/**
 * covey_queue_reserve() - room for an item that is written where it will lie
 * @queue: the queue
 * @size: how many bytes it may have
 * @item: set to where they go, at a multiple of 8
 * @timeout_s: how long to wait for room at most
 *
 * From here to covey_queue_commit() or covey_queue_cancel(), by the same thread, others who put or close the
 * queue wait, with a timeout of 0 for 50 ms; for this thread to put once more, to close or to free it is COVEY_ESTATE. If this process
 * dies in between, it is as if it had not begun; if only the thread ends, the others wait on, until another
 * thread of the process commits or cancels.
 *
 * Returns 0 or the codes of covey_queue_put().
 */
COVEY_API int covey_queue_reserve(covey_queue *queue, size_t size, void **item, double timeout_s);

/**
 * covey_queue_commit() - the reserved item is written
 * @item: what covey_queue_reserve() has set
 * @size: how many bytes it has; at most as many as were reserved
 *
 * Returns 0; COVEY_ESTATE when it is not reserved by this process; COVEY_EINVAL for a wrong size (it is
 * reserved still).
 */
COVEY_API int covey_queue_commit(covey_queue *queue, void *item, size_t size);

/** covey_queue_cancel() - there is no item after all; returns 0, COVEY_ESTATE or COVEY_EINVAL */
COVEY_API int covey_queue_cancel(covey_queue *queue, void *item);

/**
 * covey_queue_get() - take the oldest item of the highest priority, waiting for one
 * @queue: the queue
 * @item: where its bytes go
 * @room: how many bytes fit there
 * @size: set to the size of the item; NULL: not wanted
 * @timeout_s: how long to wait at most, in seconds; 0 or less: not at all; COVEY_FOREVER
 *
 * Returns 0; COVEY_EEMPTY when there was none in time; COVEY_ECLOSED when there is none and never
 * will be; COVEY_ETOOBIG when @room is too small: *size says what is needed, and the item stays
 * (another consumer may take it before the next call); from a joinable queue COVEY_ENOMEM and COVEY_ELIMIT, if
 * there is no memory to note who has it, and it stays; COVEY_EINVAL, also when it is an end of a pipe or a
 * descriptor, which covey_pipe_get() or covey_descriptor_get() take; COVEY_EINTR (see covey_on_interrupt()).
 */
COVEY_API int covey_queue_get(
    covey_queue *queue, void *item, size_t room, size_t *size, double timeout_s);

/** covey_queue_get_exactly() - the same for an item of @size bytes; another is COVEY_ETOOBIG, too */
COVEY_API int covey_queue_get_exactly(
    covey_queue *queue, void *item, size_t size, double timeout_s);

/**
 * covey_queue_get_many() - take the items that are there, waiting for one
 * @queue: the queue
 * @items: where their bytes go, those of each item @room behind those of the one before
 * @room: how many bytes fit there for each
 * @sizes: set to their sizes; room for @n; NULL: not wanted
 * @n: how many at most
 * @timeout_s: how long to wait for the first
 *
 * Returns how many were taken: at least 1, and not always all that are there (a large item comes alone, and all
 * have one priority).
 * Else the codes of covey_queue_get(), where COVEY_ETOOBIG comes with the size in sizes[0]; 0 only for an
 * @n of 0. If this process is killed, the items that it was about to get are all gone or all there; of a
 * joinable queue each is its own.
 */
COVEY_API long covey_queue_get_many(
    covey_queue *queue, void *items, size_t room, size_t *sizes, size_t n, double timeout_s);

/**
 * covey_queue_get_block() - take an item as a block of the arena
 * @queue: the queue, which is not joinable
 * @block: set to the block; NULL for an item of no bytes
 * @size: set to the size of the item; NULL: not wanted
 * @timeout_s: how long to wait at most
 *
 * A large item, or a block that was put as such, is not copied. The block is this process's own, to be
 * freed, shared or put again; covey_owner() tells: but for a block of the family's that was put, which
 * stays that.
 *
 * Returns 0; COVEY_ESTATE for a joinable queue; COVEY_ENOMEM; or the codes of covey_queue_get().
 */
COVEY_API int covey_queue_get_block(
    covey_queue *queue, void **block, size_t *size, double timeout_s);

/**
 * covey_queue_peek() - read the oldest item where it lies
 * @queue: the queue
 * @item: set to where it is, at a multiple of 8
 * @size: set to its size; NULL: not wanted
 * @timeout_s: how long to wait for one at most
 *
 * From here to covey_queue_release() or covey_queue_unpeek(), by the same thread, others who get wait, with
 * a timeout of 0 for 50 ms, while covey_wait() and poll() say that there is an item: for long looks and several
 * consumers a joinable queue is better. For this thread to get once more, or to free the queue, is COVEY_ESTATE.
 * If this process dies in between, the item stays; if only the thread ends, the others wait on, until another
 * thread of the process releases it.
 *
 * In a joinable queue nobody waits: the item is this thread's until it is done, as one that it has got, and
 * covey_queue_task_done() counts it, too; anybody can get the next ones. It stays with redeliver only. A small
 * item is copied once, to where it stays.
 *
 * Returns 0 or the codes of covey_queue_get().
 */
COVEY_API int covey_queue_peek(
    covey_queue *queue, const void **item, size_t *size, double timeout_s);

/**
 * covey_queue_release() - the item is taken, and its memory the queue's again
 * @item: what covey_queue_peek() has set
 *
 * In a joinable queue it is done, as by covey_queue_task_done().
 *
 * Returns 0; COVEY_ESTATE when this process does not look at it; COVEY_EINVAL.
 */
COVEY_API int covey_queue_release(covey_queue *queue, const void *item);

/** covey_queue_unpeek() - the item stays, for the next one who gets; returns as covey_queue_release() */
COVEY_API int covey_queue_unpeek(covey_queue *queue, const void *item);

/**
 * covey_queue_task_done() - an item that was got from a joinable queue is done
 * @queue: the queue
 *
 * Of the items that this thread has got or peeked at, and that are not done, it is the one it got first; if there
 * is none, of those that this process has. Takes the longer, the more items others have got and not done.
 *
 * Returns 0; COVEY_ESTATE when there is none, or the queue is not joinable; COVEY_EINVAL.
 */
COVEY_API int covey_queue_task_done(covey_queue *queue);

/**
 * covey_queue_join() - wait until all items are done
 * @queue: the queue
 * @timeout_s: how long to wait at most, in seconds; 0 or less: not at all; COVEY_FOREVER
 *
 * Items that a process had got and not done when it died are lost, and nobody waits for them; with
 * redeliver others get them.
 *
 * Returns 0; COVEY_EOWNERDEAD when all are done but some that were lost since somebody was last told;
 * COVEY_ETIMEDOUT; COVEY_EINTR; COVEY_ESTATE when the queue is not joinable; COVEY_EINVAL.
 */
COVEY_API int covey_queue_join(covey_queue *queue, double timeout_s);

/**
 * covey_queue_fd() - a descriptor for poll(), epoll and the like
 * @queue: the queue
 *
 *     struct pollfd p = {.fd = covey_queue_fd(queue), .events = POLLIN};
 *     while (poll(&p, 1, -1) == 1) {
 *         while (covey_queue_get_value(queue, &number, 0) == 0)
 *             use(number);
 *     }
 *
 * It is readable when there may be an item to get, or the queue is closed: from then on, until something
 * that gets, in this process, returns COVEY_EEMPTY. So get with a timeout of 0, once or until that. Who
 * is told only of changes (EPOLLET) must go on until COVEY_EEMPTY. Other processes may be faster.
 *
 * The first call makes a pipe of the kernel's and a thread in the background, for this queue and this
 * process, which sleeps until there is something and nobody knows of it yet; from then on each call
 * returns the same descriptor. It is close-on-exec, and covey's: not to be read, and to be closed by
 * covey_queue_fd_close() only. A process that is forked has none of this, and asks for its own.
 *
 * Before another process frees the queue, this one must close the descriptor.
 *
 * Returns the descriptor; COVEY_ELIMIT, COVEY_ENOMEM; COVEY_EINVAL.
 */
COVEY_API int covey_queue_fd(covey_queue *queue);

/** covey_queue_fd_close() - close it; done by covey_queue_free(), too; returns 0 or COVEY_EINVAL */
COVEY_API int covey_queue_fd_close(covey_queue *queue);

/**
 * covey_queue_add_producer() - a process is one of those with whom the queue ends
 * @queue: a queue that was opened with producers
 * @process: a child, or another process of the family; NULL: this process itself
 *
 * It is from here on, without having put anything: should it die before it does, it has been there and is
 * gone. Else the queue would wait for it for ever.
 *
 *     for (int i = 0; i < 4; i++) {
 *         covey_process_start(&child[i], produce, COVEY_ARGUMENT(queue));
 *         covey_queue_add_producer(queue, child[i]);
 *     }
 *
 * If their number is not known when the queue is opened: .producers = 1, and this process is one itself
 * (NULL) until it has started and added all, and then leaves (covey_queue_leave()). One that is added twice,
 * or has ended, counts once.
 *
 * Returns 0; COVEY_ECLOSED for this process itself, when the queue has ended already; COVEY_ESTATE for another
 * queue; COVEY_ELIMIT, COVEY_ENOMEM; COVEY_EINVAL.
 */
COVEY_API int covey_queue_add_producer(covey_queue *queue, covey_process *process);

/**
 * covey_queue_leave() - this process puts no more
 * @queue: a queue that was opened with producers
 *
 * A process that has never put anything counts as one of them from here on. One that puts again has come
 * back. Returns 0; COVEY_ESTATE for another queue, or while this thread has reserved an item; COVEY_ELIMIT,
 * COVEY_ENOMEM; COVEY_EINVAL.
 */
COVEY_API int covey_queue_leave(covey_queue *queue);

/**
 * covey_queue_close() - no more items
 * @queue: the queue
 *
 * From now on putting fails. Items that wait can still be taken; then getting fails, too, and those
 * who wait in it are told: with redeliver, when no other process has items that are not done, for these may
 * come back. Closing twice is no error. Does not wait, but for another's put that is
 * under way, or item that is reserved: should that process be stopped, until it goes on or is killed.
 * Returns 0; COVEY_ESTATE for the queue of a pipe, or while this thread has reserved an item; COVEY_EINVAL.
 */
COVEY_API int covey_queue_close(covey_queue *queue);

/**
 * covey_queue_free() - free the queue and all items in it
 * @queue: the queue, which nobody uses any more; NULL does nothing
 *
 * Those who still sleep in it, waiting for items or for room, are told that it is closed, and are waited for. But
 * one that comes now is seen too late, and finds no queue, or another one. Who has put or taken an item, has done
 * it, left or closed the queue does not use it any more, even if that call has not returned: so who gets the last item,
 * or has joined, may free it at once. Waits, without a limit, for an item that another thread, of any process, has
 * reserved or looks at.
 *
 * The 320 bytes that each queue takes beside its items are used for other queues only, and not given back.
 *
 * Returns 0; COVEY_ESTATE for the queue of a pipe, while this thread has reserved an item or, but for a joinable
 * queue, looks at one, or when somebody waits in it still after 1 s: because he is stopped, waits in
 * covey_queue_join(), or for items that others have got and may come back (the queue is closed then, and can be
 * freed later); COVEY_EINVAL.
 */
COVEY_API int covey_queue_free(covey_queue *queue);

/**
 * covey_queue_size() - how many items wait
 *
 * Right at some instant during the call; without those that were got and are not done. Negative:
 * COVEY_EINVAL.
 */
COVEY_API long covey_queue_size(covey_queue *queue);

/** covey_queue_is_empty() - 1 if no item waits, 0 if one does; COVEY_EINVAL */
COVEY_API int covey_queue_is_empty(covey_queue *queue);

/**
 * covey_queue_is_full() - 1 if an item of @size bytes would have to wait, 0 if not
 *
 * It would also while another process has reserved an item, or is stopped in putting one.
 *
 * COVEY_ECLOSED; COVEY_ETOOBIG for an item that never fits; COVEY_ENOMEM and COVEY_ELIMIT as
 * covey_queue_put(); COVEY_ESTATE while this thread has reserved an item; COVEY_EINVAL.
 */
COVEY_API int covey_queue_is_full(covey_queue *queue, size_t size);

/**
 * covey_queue_is_closed() - 1 after covey_queue_close(), 0 before
 *
 * A queue that ends with its producers is closed by who next looks for an item. COVEY_EINVAL.
 */
COVEY_API int covey_queue_is_closed(covey_queue *queue);

/**
 * covey_queue_item_max() - the largest item that the queue can hold, in bytes; 0 if not a queue
 *
 * By its own bounds: there may be less room in the arena (struct covey_stats).
 */
COVEY_API size_t covey_queue_item_max(covey_queue *queue);

/* covey_queue_put_value(queue, value, timeout_s) - put a variable: of an array all of it, of a pointer only that */
#define covey_queue_put_value(queue_, value_, timeout_s_)                                          \
    covey_queue_put((queue_), &(value_), sizeof(value_), (timeout_s_))

/* covey_queue_get_value(queue, &value, timeout_s) - get a variable, whose size the item must have */
#define covey_queue_get_value(queue_, pointer_, timeout_s_)                                        \
    covey_queue_get_exactly((queue_), (pointer_), sizeof *(pointer_), (timeout_s_))

#ifndef __cplusplus
/* covey_queue_open(&queue, .OPTION = VALUE, ...) */
#define covey_queue_open(...)                                                                      \
    covey_queue_open_with(&(struct covey_queue_options){                                           \
        .size = sizeof(struct covey_queue_options), .queue = __VA_ARGS__})
#endif

#ifdef __cplusplus
}
#endif

#endif
