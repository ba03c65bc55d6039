/* SPDX-License-Identifier: MIT */
/* A fresh image of this program. */
#ifndef CV_SPAWN_H
#define CV_SPAWN_H

#include <sys/types.h>

enum {
    CV_SPAWN_FDS_MAX = 4
};

/*
 * Starts this program's own file with @argv (NULL-terminated); the file itself, even if another one
 * has its name by now. The @n descriptors of @fds are open in it, with the same numbers.
 */
int cv_spawn_self(char *const *argv, const int *fds, unsigned n, pid_t *pid);

#endif
