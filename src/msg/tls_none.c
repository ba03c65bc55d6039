/* SPDX-License-Identifier: MIT */
/* In the place of tls.c where covey is built without TLS: nothing can be opened, so the rest is never
 * called. */
#include "msg/tls.h"

#include "base/error.h"

static int fail(void)
{
    return cv_fail(COVEY_ESTATE, "covey was built without TLS, which connections need");
}

int cv_tls_derive(unsigned char psk[CV_TLS_KEY_BYTES], const void *key, size_t size)
{
    (void)psk, (void)key, (void)size;
    return fail();
}

int cv_tls_open(struct cv_tls **result, bool is_server, const unsigned char psk[CV_TLS_KEY_BYTES])
{
    (void)result, (void)is_server, (void)psk;
    return fail();
}

void cv_tls_free(struct cv_tls *tls)
{
    (void)tls;
}

int cv_tls_put(struct cv_tls *tls, const void *bytes, size_t size)
{
    (void)tls, (void)bytes, (void)size;
    return fail();
}

size_t cv_tls_output(struct cv_tls *tls, const void **bytes)
{
    (void)tls, (void)bytes;
    return 0;
}

void cv_tls_sent(struct cv_tls *tls, size_t size)
{
    (void)tls, (void)size;
}

int cv_tls_handshake(struct cv_tls *tls)
{
    (void)tls;
    return fail();
}

bool cv_tls_is_known(const struct cv_tls *tls)
{
    (void)tls;
    return false;
}

int cv_tls_write(struct cv_tls *tls, const void *bytes, size_t size)
{
    (void)tls, (void)bytes, (void)size;
    return fail();
}

int cv_tls_read(struct cv_tls *tls, void *bytes, size_t room, size_t *size)
{
    (void)tls, (void)bytes, (void)room, (void)size;
    return fail();
}

int cv_tls_end(struct cv_tls *tls)
{
    (void)tls;
    return fail();
}
