/* SPDX-License-Identifier: MIT */
#include "os/module.h"

#include "base/error.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct search {
    uintptr_t address; /* 0: by path */
    const char *path;
    struct cv_module *found;
    bool first; /* the program comes first */
};

static bool contains(const struct dl_phdr_info *info, uintptr_t address)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];

        if (p->p_type == PT_LOAD && (p->p_flags & PF_X) &&
            address - info->dlpi_addr - p->p_vaddr < p->p_memsz)
            return true;
    }
    return false;
}

/* Notes are name and description, each padded to 4 bytes, behind three words of sizes and type. */
static void read_build_id(const struct dl_phdr_info *info, unsigned char *id)
{
    memset(id, 0, CV_BUILD_ID_MAX);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        const char *note;
        const char *end;

        if (p->p_type != PT_NOTE)
            continue;
        note = (const char *)(info->dlpi_addr + p->p_vaddr);
        end = note + p->p_memsz;
        while (end - note > (ptrdiff_t)sizeof(ElfW(Nhdr))) {
            ElfW(Nhdr) n;
            const char *name = note + sizeof n;
            const char *content;

            memcpy(&n, note, sizeof n);
            content = name + (n.n_namesz + 3) / 4 * 4;
            if (n.n_type == NT_GNU_BUILD_ID && n.n_namesz == 4 && memcmp(name, "GNU", 4) == 0) {
                memcpy(id, content, n.n_descsz < CV_BUILD_ID_MAX ? n.n_descsz : CV_BUILD_ID_MAX);
                return;
            }
            note = content + (n.n_descsz + 3) / 4 * 4;
        }
    }
}

static int look(struct dl_phdr_info *info, size_t size, void *context)
{
    struct search *s = context;
    bool is_main = s->first;
    const char *path = is_main ? "" : info->dlpi_name;

    (void)size;
    s->first = false;
    if (s->address ? !contains(info, s->address) : strcmp(path, s->path) != 0)
        return 0;
    s->found->base = info->dlpi_addr;
    s->found->main = is_main;
    read_build_id(info, s->found->id);
    return (size_t)snprintf(s->found->path, sizeof s->found->path, "%s", path) <
           sizeof s->found->path;
}

bool cv_module_at(uintptr_t address, struct cv_module *module)
{
    struct search s = {address, NULL, module, true};

    return dl_iterate_phdr(look, &s) != 0;
}

int cv_module_load(const char *path, struct cv_module *module)
{
    struct search s = {0, path, module, true};

    if (dl_iterate_phdr(look, &s) != 0)
        return 0;
    if (!dlopen(path, RTLD_NOW))
        return cv_fail(COVEY_EINVAL, "cannot load %s: %s", path, dlerror());
    s.first = true;
    return dl_iterate_phdr(look, &s) != 0
               ? 0
               : cv_fail(COVEY_EINVAL, "%s is loaded under another name", path);
}
