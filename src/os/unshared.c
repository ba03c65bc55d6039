/* SPDX-License-Identifier: MIT */
#include "os/unshared.h"

#include "base/atomic.h"
#include "base/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BLOCK = 1024, /* descriptors in a block of the table */
    BLOCKS = 1024,
};

static uint64_t
    *table[BLOCKS]; /* inodes; 0: nothing to close. Blocks are made as needed, and stay */
static uint32_t is_followed;

static bool is_socket(int fd, uint64_t inode)
{
    struct stat status;

    return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) && (uint64_t)status.st_ino == inode;
}

static void close_in_child(void)
{
    int saved_errno = errno;

    for (int block = 0; block < BLOCKS; block++) {
        for (int i = 0; table[block] && i < BLOCK; i++) {
            uint64_t inode = table[block][i];

            table[block][i] = 0;
            if (inode && is_socket(block * BLOCK + i, inode))
                (void)close(block * BLOCK + i);
        }
    }
    errno = saved_errno;
}

static uint64_t *word_of(int fd)
{
    uint64_t *block = fd >= 0 && fd < BLOCK * BLOCKS ? cv_load_acquire(&table[fd / BLOCK]) : NULL;

    return block ? &block[fd % BLOCK] : NULL;
}

/* Two threads may come at once: one's block is kept. */
static int make_block(int fd)
{
    uint64_t *none = NULL;
    uint64_t *block;

    if (fd >= BLOCK * BLOCKS || word_of(fd))
        return 0;
    block = calloc(BLOCK, sizeof *block);
    if (!block)
        return cv_fail(COVEY_ENOMEM, "no memory for the list of sockets");
    if (!cv_cas(&table[fd / BLOCK], &none, block))
        free(block);
    return 0;
}

/* Twice does no harm. */
static int follow_forks(void)
{
    if (cv_load_acquire(&is_followed))
        return 0;
    errno = pthread_atfork(NULL, NULL, close_in_child);
    if (errno != 0)
        return cv_fail_errno("a fork cannot be followed");
    cv_store_release(&is_followed, 1);
    return 0;
}

int cv_unshared_add(const struct cv_descriptor *socket)
{
    int r = follow_forks();

    if (r == 0)
        r = make_block(socket->fd);
    if (r == 0 && word_of(socket->fd))
        cv_store_release(word_of(socket->fd), socket->inode);
    return r;
}

void cv_unshared_remove(const struct cv_descriptor *socket)
{
    uint64_t *word = word_of(socket->fd);

    if (word) /* the number may be another one's by now */
        (void)cv_cas64(word, socket->inode, 0);
}
