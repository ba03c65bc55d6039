/* SPDX-License-Identifier: MIT */
/**
 * covey/memory.h - memory that all members of the family share
 *
 * Blocks from here lie at the same address in every member, so structures of plain pointers can be
 * built in them and handed around. A block belongs to the family: it stays until somebody frees it
 * or the last member ends, whoever may die before. A block can instead be tied to the life of one
 * process by covey_alloc_own() or covey_own(): then it is freed when that process dies.
 *
 * Memory is claimed from the kernel before it is handed out, so using it never fails; when the
 * machine has none, allocating does (COVEY_ENOMEM). Freed memory is kept for the next block up to 1/64 of
 * the machine's memory, and 16 MiB at least; what is more goes back to the kernel at once, and covey_trim()
 * gives back all of it.
 *
 * No function here ever waits, for a lock or for another process; each is safe in any thread and
 * after any fork. A process that is killed inside one of them leaves no block lost and none broken.
 */
#ifndef COVEY_MEMORY_H
#define COVEY_MEMORY_H

#include <covey/family.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * covey_alloc() - allocate a block of the arena
 * @size: its size in bytes; 0 gives a block that can be freed and nothing else
 *
 * Returns the block, aligned for any type, its contents undefined; NULL with COVEY_ENOMEM, or with
 * the codes of covey_open_with().
 */
COVEY_API void *covey_alloc(size_t size);

/**
 * covey_alloc_own() - allocate a block that is tied to the life of the calling process
 * @size: as for covey_alloc()
 *
 * It is covey_alloc() and covey_own() in one: a kill between these two would leave a block of the
 * family's, of which nobody knows.
 *
 * Returns as covey_alloc().
 */
COVEY_API void *covey_alloc_own(size_t size);

/**
 * covey_alloc_aligned() - allocate a block at a multiple of @alignment
 * @alignment: in bytes, a power of two up to 1 GiB
 * @size: in bytes
 *
 * As covey_alloc(); also NULL with COVEY_EINVAL for another alignment.
 */
COVEY_API void *covey_alloc_aligned(size_t alignment, size_t size);

/** covey_calloc() - as covey_alloc(), for @count times @size bytes, all zero */
COVEY_API void *covey_calloc(size_t count, size_t size);

/**
 * covey_realloc() - make a block larger or smaller
 * @block: the block, or NULL to allocate a new one
 * @size: the size wanted, in bytes
 *
 * The block may move: then the old one is freed, and whoever else points to it must not look there
 * any more. The contents are kept up to the smaller of both sizes, the owner is kept; if that has
 * died, it is the caller.
 *
 * Returns the block; NULL, with the old one as it was, as covey_alloc() or with COVEY_EINVAL when
 * @block is not one.
 */
COVEY_API void *covey_realloc(void *block, size_t size);

/**
 * covey_free() - free a block
 * @block: from any of the functions above, in any member; NULL does nothing
 *
 * Returns 0; COVEY_EINVAL when @block is not the start of a block or is free already, with nothing
 * changed.
 */
COVEY_API int covey_free(void *block);

/** covey_usable_size() - how many bytes of @block may be used; 0 when it is not a block */
COVEY_API size_t covey_usable_size(const void *block);

/**
 * covey_own() - tie a block to the life of the calling process
 * @block: any block
 *
 * If this process ends, in whatever way, without having freed or shared it, the block is freed.
 *
 * Returns 0; COVEY_EINVAL when @block is not a block.
 */
COVEY_API int covey_own(void *block);

/** covey_share() - undo covey_own(): the block belongs to the whole family again */
COVEY_API int covey_share(void *block);

/**
 * covey_owner() - whose a block is
 * @block: any block
 *
 * Returns the pid of the process that owns it, 0 when it is the family's, COVEY_EINVAL when it is
 * not a block.
 */
COVEY_API pid_t covey_owner(const void *block);

/** covey_trim() - give all free memory back to the kernel, also what is kept for reuse; returns 0
 */
COVEY_API int covey_trim(void);

#ifdef __cplusplus
}
#endif

#endif
