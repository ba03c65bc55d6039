/* SPDX-License-Identifier: MIT */
#include "msg/openssl.h"

#include "base/error.h"
#include "os/descriptor.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#ifdef CV_TLS_LINKED

int cv_openssl_load(struct cv_openssl *ssl)
{
#define TAKE(name) ssl->name = (name);
    CV_OPENSSL_FUNCTIONS(TAKE)
#undef TAKE
    ssl->library = NULL;
    return 0;
}

void cv_openssl_unload(struct cv_openssl *ssl)
{
    (void)ssl;
}

#else

#define TEXT_(number) #number
#define TEXT(number)  TEXT_(number)
#define LIBRARY       "libssl.so." TEXT(OPENSSL_SHLIB_VERSION)

/* @function: a pointer to a function, of whatever type. libssl brings libcrypto's along. */
static bool find(void *library, const char *name, void *function)
{
    void *address = dlsym(library, name);

    memcpy(function, &address, sizeof address);
    return address != NULL;
}

int cv_openssl_load(struct cv_openssl *ssl)
{
    const char *missing = NULL;

    ssl->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!ssl->library && !cv_descriptor_is_left())
        return cv_fail_errno("connections need OpenSSL, which cannot be loaded");
    if (!ssl->library)
        return cv_fail(
            COVEY_ESTATE, "connections need OpenSSL, which cannot be loaded: %s", dlerror());
#define FIND(name)                                                                                 \
    if (!find(ssl->library, #name, &ssl->name))                                                    \
        missing = #name;
    CV_OPENSSL_FUNCTIONS(FIND)
#undef FIND
    if (!missing)
        return 0;
    cv_openssl_unload(ssl);
    return cv_fail(COVEY_ESTATE, LIBRARY " has no function %s", missing);
}

void cv_openssl_unload(struct cv_openssl *ssl)
{
    (void)dlclose(ssl->library);
}

#endif
