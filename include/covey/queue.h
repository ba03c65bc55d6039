/* SPDX-License-Identifier: MIT */
/**
 * covey/queue.h - a queue between processes: many producers, many consumers, first in, first out
 *
 * Items are bytes, of any size up to a limit; they are copied in and copied out. The queue lies in
 * the arena: its pointer can be handed to any member of the family and used there.
 *
 * A process that is killed while it uses the queue takes nothing with it but an item that it had
 * not finished putting; an item that it was about to get stays. Nobody else is held up.
 *
 * A process that is *stopped* (SIGSTOP, a debugger) in the middle of putting holds up the others who
 * put, and one in the middle of getting those who get, until it goes on or is killed. Timeouts of
 * put and get hold even then, if they are longer than 50 ms; shorter ones, and 0, become 50 ms.
 *
 * All functions may be called by any thread of any member, at the same time.
 */
#ifndef COVEY_QUEUE_H
#define COVEY_QUEUE_H

#include <covey/family.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct covey_queue covey_queue;

/** struct covey_queue_options - how to open a queue; zero means the default */
struct covey_queue_options {
    size_t size;         /* sizeof(struct covey_queue_options) */
    covey_queue **queue; /* out: the new queue */
    size_t bytes; /* memory for items that wait, rounded up to a power of two of 128 at least and
                     1 TiB at most; default 64 KiB. An item takes its size + 8, rounded up to 8,
                     and can have half of it less 16: see covey_queue_item_max(). */
    size_t items; /* how many items may wait at most; default: as many as fit */
};

/**
 * covey_queue_open() - make a queue
 *
 *     covey_queue *queue;
 *     covey_queue_open(&queue, .items = 100);
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
 * can never fit; COVEY_EINTR (see covey_on_interrupt()); COVEY_EINVAL.
 */
COVEY_API int covey_queue_put(covey_queue *queue, const void *item, size_t size, double timeout_s);

/**
 * covey_queue_get() - take the oldest item, waiting for one
 * @queue: the queue
 * @item: where its bytes go
 * @room: how many bytes fit there
 * @size: set to the size of the item; NULL: not wanted
 * @timeout_s: how long to wait at most, in seconds; 0 or less: not at all; COVEY_FOREVER
 *
 * Returns 0; COVEY_EEMPTY when there was none in time; COVEY_ECLOSED when there is none and never
 * will be; COVEY_ETOOBIG when @room is too small: *size says what is needed, and the item stays
 * (another consumer may take it before the next call);
 * COVEY_EINTR (see covey_on_interrupt()); COVEY_EINVAL.
 */
COVEY_API int covey_queue_get(
    covey_queue *queue, void *item, size_t room, size_t *size, double timeout_s);

/**
 * covey_queue_close() - no more items
 * @queue: the queue
 *
 * From now on putting fails. Items that wait can still be taken; then getting fails, too, and those
 * who wait in it are told. Closing twice is no error. Does not wait, but for another's put that is
 * under way. Returns 0 or COVEY_EINVAL.
 */
COVEY_API int covey_queue_close(covey_queue *queue);

/**
 * covey_queue_free() - free the queue and all items in it
 * @queue: the queue, which nobody may be using; NULL does nothing
 *
 * Returns 0 or COVEY_EINVAL.
 */
COVEY_API int covey_queue_free(covey_queue *queue);

/**
 * covey_queue_size() - how many items wait
 *
 * Right at some instant during the call. Negative: COVEY_EINVAL.
 */
COVEY_API long covey_queue_size(covey_queue *queue);

/** covey_queue_is_empty() - 1 if no item waits, 0 if one does; COVEY_EINVAL */
COVEY_API int covey_queue_is_empty(covey_queue *queue);

/**
 * covey_queue_is_full() - 1 if an item of @size bytes would have to wait, 0 if not
 *
 * COVEY_ETOOBIG for an item that never fits; COVEY_EINVAL.
 */
COVEY_API int covey_queue_is_full(covey_queue *queue, size_t size);

/** covey_queue_is_closed() - 1 after covey_queue_close(), 0 before; COVEY_EINVAL */
COVEY_API int covey_queue_is_closed(covey_queue *queue);

/** covey_queue_item_max() - the largest item that the queue can hold, in bytes; 0 if not a queue */
COVEY_API size_t covey_queue_item_max(covey_queue *queue);

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
