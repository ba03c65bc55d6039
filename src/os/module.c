/* SPDX-License-Identifier: MIT */
#include "os/module.h"

#include "base/error.h"

#include <dlfcn.h>
#include <elf.h>
#include <inttypes.h>
#include <link.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRAM_LINK "/proc/self/exe"

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
static bool read_build_id(const struct dl_phdr_info *info, unsigned char *id)
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
                return true;
            }
            note = content + (n.n_descsz + 3) / 4 * 4;
        }
    }
    return false;
}

/* The inode of the file that is mapped at @address; 0 if it has been deleted, or is not known. */
static uint64_t mapped_inode(uintptr_t address)
{
    char line[CV_MODULE_PATH_MAX + 128];
    uint64_t inode = 0;
    FILE *file = fopen("/proc/self/maps", "re");

    if (!file)
        return 0;
    while (fgets(line, sizeof line, file)) {
        uintptr_t start;
        uintptr_t end;
        uint64_t n;

        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*s %*s %*s %" SCNu64, &start, &end, &n) != 3 ||
            address < start || address >= end)
            continue;
        if (!strstr(line, " (deleted)\n"))
            inode = n;
        break;
    }
    (void)fclose(file);
    return inode;
}

/* Inode, time and size: a file that has replaced it has others. */
static void identify_file(const char *path, uintptr_t address, unsigned char *id)
{
    struct stat status;
    struct {
        uint64_t inode;
        uint64_t changed_ns;
        uint32_t size;
    } what;

    if (stat(*path ? path : PROGRAM_LINK, &status) != 0 ||
        (*path && mapped_inode(address) != (uint64_t)status.st_ino)) {
        memset(id, 0xff, CV_BUILD_ID_MAX); /* the file that is loaded is there no more */
        return;
    }
    memset(&what, 0, sizeof what);
    what.inode = (uint64_t)status.st_ino;
    what.changed_ns =
        (uint64_t)status.st_mtim.tv_sec * 1000000000 + (uint64_t)status.st_mtim.tv_nsec;
    what.size = (uint32_t)status.st_size;
    memcpy(id, &what, CV_BUILD_ID_MAX);
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
    if (!read_build_id(info, s->found->id))
        identify_file(path, info->dlpi_addr + info->dlpi_phdr[0].p_vaddr, s->found->id);
    return (size_t)snprintf(s->found->path, sizeof s->found->path, "%s", path) <
           sizeof s->found->path;
}

bool cv_module_at(uintptr_t address, struct cv_module *module)
{
    struct search s = {address, NULL, module, true};

    return dl_iterate_phdr(look, &s) != 0;
}

/*
 * The link leads to the very file, whatever has its name by now. But valgrind runs programs in a file of
 * its own, and there only the name in the link is the program's.
 */
const char *cv_module_program(char name[CV_MODULE_PATH_MAX])
{
    ssize_t n = readlink(PROGRAM_LINK, name, CV_MODULE_PATH_MAX - 1);
    struct stat linked;
    struct stat named;

    name[n > 0 ? n : 0] = '\0';
    if (stat(PROGRAM_LINK, &linked) != 0 || stat(name, &named) != 0 ||
        (linked.st_ino == named.st_ino && linked.st_dev == named.st_dev))
        return PROGRAM_LINK;
    return mapped_inode(getauxval(AT_PHDR)) == (uint64_t)named.st_ino ? name : PROGRAM_LINK;
}

void cv_module_keep(const struct cv_module *module)
{
    if (!module->main)
        (void)dlopen(module->path, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
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
