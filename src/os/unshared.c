/* SPDX-License-Identifier: MIT */
#include "os/unshared.h"

#include "base/error.h"
#include "os/mutex.h"
#include "os/thread.h"
#include "os/wiped.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BLOCK = 1024, /* descriptors in a block of the table */
    BLOCKS = 1024,
};

static uint32_t lock;

/* Under the lock. */
static sigset_t signals; /* that its thread had blocked before */
static uint64_t
    *table[BLOCKS];  /* inodes; 0: nothing to close. Blocks are made as needed, and stay */
static int n_blocks; /* no more of them were ever needed */

void cv_unshared_lock(void)
{
    sigset_t before;

    if (cv_wiped_is_forking())
        return;
    before = cv_thread_block_signals();
    (void)cv_mutex_lock(&lock);
    signals = before;
}

void cv_unshared_unlock(void)
{
    sigset_t before;

    if (cv_wiped_is_forking())
        return;
    before = signals;
    cv_mutex_unlock(&lock);
    cv_thread_restore_signals(&before);
}

static bool is_socket(int fd, uint64_t inode)
{
    struct stat status;

    return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) && (uint64_t)status.st_ino == inode;
}

void cv_unshared_close(void)
{
    int saved_errno = errno;

    for (int block = 0; block < n_blocks; block++) {
        for (int i = 0; table[block] && i < BLOCK; i++) {
            uint64_t inode = table[block][i];

            table[block][i] = 0;
            if (inode && is_socket(block * BLOCK + i, inode))
                (void)close(block * BLOCK + i);
        }
    }
    cv_unshared_unlock();
    errno = saved_errno;
}

static uint64_t *word_of(int fd)
{
    uint64_t *block = fd >= 0 && fd < BLOCK * BLOCKS ? table[fd / BLOCK] : NULL;

    return block ? &block[fd % BLOCK] : NULL;
}

static int make_block(int fd)
{
    if (fd >= BLOCK * BLOCKS || word_of(fd))
        return 0;
    table[fd / BLOCK] = calloc(BLOCK, sizeof *table[0]);
    if (!table[fd / BLOCK])
        return cv_fail(COVEY_ENOMEM, "no memory for the list of sockets");
    if (n_blocks <= fd / BLOCK)
        n_blocks = fd / BLOCK + 1;
    return 0;
}

int cv_unshared_add(const struct cv_descriptor *socket)
{
    int r = cv_wiped_check();

    if (r == 0)
        r = make_block(socket->fd);
    if (r == 0 && word_of(socket->fd))
        *word_of(socket->fd) = socket->inode;
    return r;
}

void cv_unshared_remove(const struct cv_descriptor *socket)
{
    uint64_t *word = word_of(socket->fd);

    if (word && *word == socket->inode) /* the number may be another one's by now */
        *word = 0;
}
