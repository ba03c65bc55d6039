/* SPDX-License-Identifier: MIT */
/* Where a function lies: in which loaded file, and how far into it. */
#ifndef CV_MODULE_H
#define CV_MODULE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    CV_BUILD_ID_MAX = 20,
    CV_MODULE_PATH_MAX = 4096
};

struct cv_module {
    uintptr_t base;
    bool main;                         /* the program itself */
    unsigned char id[CV_BUILD_ID_MAX]; /* the linker's build id, cut or padded with zero; where
                                          there is none, what tells its file from others */
    char path[CV_MODULE_PATH_MAX];     /* "" for the program itself */
};

/* The loaded module whose code @address is in; false: none. */
bool cv_module_at(uintptr_t address, struct cv_module *module);

/* What to execute for a fresh image of this program: @name, or what needs no room. */
const char *cv_module_program(char name[CV_MODULE_PATH_MAX]);

/* From now on it stays loaded, so that its addresses stay what they are. */
void cv_module_keep(const struct cv_module *module);

/* The loaded module with that path ("": the program); loads it if need be. 0 or COVEY_EINVAL. */
int cv_module_load(const char *path, struct cv_module *module);

#endif
