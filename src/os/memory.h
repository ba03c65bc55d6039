/* SPDX-License-Identifier: MIT */
/* The family's shared memory: one sparse, sealed memfd. */
#ifndef CV_MEMORY_H
#define CV_MEMORY_H

#include "os/descriptor.h"

#include <stddef.h>
#include <stdint.h>

struct cv_memory {
    struct cv_descriptor file;
    char *base; /* NULL: not mapped */
    size_t size;
};

size_t cv_memory_page(void);         /* the machine's page size in bytes */
uint64_t cv_memory_of_machine(void); /* its RAM in bytes */

/*
 * Makes a memfd of @size bytes of which none is used yet, sealed so that no member can shrink it,
 * and maps it. Tries smaller sizes, down to @size_min, under RLIMIT_AS and RLIMIT_FSIZE.
 */
int cv_memory_create(struct cv_memory *memory, size_t size, size_t size_min);

/* Maps @fd, of another process of the family, at the very address that it uses there. */
int cv_memory_attach(struct cv_memory *memory, int fd, char *base, size_t size);

/* Is the descriptor still there, and what it was? 0 or COVEY_ESYS. */
int cv_memory_check(const struct cv_memory *memory);

void cv_memory_unmap(struct cv_memory *memory);

/* Makes sure that the pages of [@start, @start + @size) exist, so that using them cannot fail. */
int cv_memory_claim(const struct cv_memory *memory, char *start, size_t size);

/* Gives the whole pages within the range back; they read as zero when they are next claimed. */
void cv_memory_return(char *start, size_t size);

#endif
