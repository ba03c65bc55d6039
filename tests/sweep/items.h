/* SPDX-License-Identifier: MIT */
/*
 * Items that go through a queue. Each has a number, and bytes that go with it, so that a torn one would
 * show; who gets an item tells so. In the end every number must have been got once, but for those that
 * went with a process that was killed while it was getting.
 */
#ifndef SWEEP_ITEMS_H
#define SWEEP_ITEMS_H

#include "sweep.h"

enum {
    ITEM_SMALL = 24,
    ITEM_LARGE = 3000, /* the C library copies it by rep movsb, where that is fast */
    ITEM_BLOCK = 5000, /* goes as a block */
    ITEM_MAX = 8192,

    /* Numbers; of the first items: 1, 2, ... */
    OF_VICTIM = 10,
    OF_VICTIM_MAX = 3,
    OF_RESCUER = 13,
    OF_WORLD = 16,
    NUMBERS = 24,

    /* Also told: what V is doing, and which rescuers have put their item. */
    VICTIM_PUTS = 24, /* so many items */
    VICTIM_GETS,
    VICTIM_GOT, /* so many bytes */
    PUT_BY_RESCUERS,
    QUEUE_FREED = 31,
};

/* Set by setup. */
extern struct items {
    covey_queue *queue;
    unsigned first;        /* so many are in it */
    size_t size;           /* of those that are put later */
    size_t victims_size;   /* of those that V puts */
    unsigned char *buffer; /* in the arena: what V puts, or has got */
    unsigned by_world;     /* so many have been put by W */
    bool any_order;        /* items come in any order */
    bool is_split;         /* V's go in by several commits */
} items;

void items_fill(unsigned char *item, unsigned number, size_t size);

/* The number, if all bytes go with it. */
int items_read(const unsigned char *item, size_t size);
void items_tell(int number);

int items_put(unsigned number, size_t size, double timeout_s);

/* The number, which is told, or a code. Items come in order: those of the beginning first. */
int items_get(double timeout_s);

/* For a queue that is open: a buffer with V's item, and @n first items. */
void items_begin(size_t size, unsigned n);

/* V. */
void items_victim_puts(void);
void items_victim_gets(void);

/* A rescuer. */
void items_rescuer_puts(void);
void items_rescuer_gets(void);

/* All that is in it, as many as it says; then one in and out again. */
void items_rescuer_empties(void);

/* W: an item of its own. */
int items_world_puts(void);

/* W: gets what is left, checks that nothing is missing, closes the queue and finds it so. */
void items_check(void);

/* The same; then it frees the queue. */
void items_done(void);

/*
 * A rescuer: frees the queue, while V may be on its way from the commit to the wake. What that looks at
 * and changes must not be memory that is somebody else's by now. W: frees what is left.
 */
void items_free_at_once(void);
void items_freed(void);

#endif
