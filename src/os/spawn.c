/* SPDX-License-Identifier: MIT */
#include "os/spawn.h"

#include "base/error.h"
#include "os/module.h"

#include <errno.h>
#include <spawn.h>
#include <unistd.h>

int cv_spawn_self(char *const *argv, const int *fds, unsigned n, pid_t *pid)
{
    char name[CV_MODULE_PATH_MAX];
    const char *program = cv_module_program(name);
    posix_spawn_file_actions_t actions;
    int error = posix_spawn_file_actions_init(&actions);

    if (error == 0) {
        for (unsigned i = 0; i < n && error == 0; i++) /* onto itself: clears close-on-exec there */
            error = posix_spawn_file_actions_adddup2(&actions, fds[i], fds[i]);
        if (error == 0)
            error = posix_spawn(pid, program, &actions, NULL, argv, environ);
        (void)posix_spawn_file_actions_destroy(&actions);
    }
    errno = error;
    return error ? cv_fail_errno("cannot start a fresh image of this program (%s)", program) : 0;
}
