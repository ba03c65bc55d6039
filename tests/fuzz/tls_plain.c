/* SPDX-License-Identifier: MIT */
/* In the place of tls.c: passes bytes on as they are, so that what is behind it can be reached. */
#include "tls_plain.h"

#include "fuzz.h"
#include "msg/tls.h"

#include <covey/error.h>

enum {
    BUFFER_BYTES = 1 << 16
};

struct buffer {
    unsigned char bytes[BUFFER_BYTES];
    size_t begin;
    size_t end;
};

struct cv_tls {
    struct buffer in;
    struct buffer out;
};

size_t tls_plain_end;

static void add(struct buffer *b, const void *bytes, size_t size)
{
    fuzz_check(size <= sizeof b->bytes - b->end);
    memcpy(b->bytes + b->end, bytes, size);
    b->end += size;
}

int cv_tls_derive(unsigned char psk[CV_TLS_KEY_BYTES], const void *key, size_t size)
{
    (void)psk, (void)key, (void)size;
    return 0;
}

int cv_tls_open(struct cv_tls **result, bool is_server, const unsigned char psk[CV_TLS_KEY_BYTES])
{
    struct cv_tls *tls = malloc(sizeof *tls);

    (void)is_server, (void)psk;
    fuzz_check(tls != NULL);
    tls->in.begin = tls->in.end = tls->out.begin = tls->out.end = 0;
    *result = tls;
    return 0;
}

void cv_tls_free(struct cv_tls *tls)
{
    free(tls);
}

int cv_tls_put(struct cv_tls *tls, const void *bytes, size_t size)
{
    add(&tls->in, bytes, size);
    return 0;
}

size_t cv_tls_output(struct cv_tls *tls, const void **bytes)
{
    *bytes = tls->out.bytes + tls->out.begin;
    return tls->out.end - tls->out.begin;
}

void cv_tls_sent(struct cv_tls *tls, size_t size)
{
    tls->out.begin += size;
}

int cv_tls_handshake(struct cv_tls *tls)
{
    (void)tls;
    return 0;
}

bool cv_tls_is_known(const struct cv_tls *tls)
{
    (void)tls;
    return true;
}

int cv_tls_write(struct cv_tls *tls, const void *bytes, size_t size)
{
    add(&tls->out, bytes, size);
    return 0;
}

int cv_tls_read(struct cv_tls *tls, void *bytes, size_t room, size_t *size)
{
    size_t n = tls->in.end - tls->in.begin;

    if (n == 0)
        return tls->in.end == tls_plain_end ? COVEY_ECLOSED : CV_TLS_WANT;
    *size = n < room ? n : room;
    memcpy(bytes, tls->in.bytes + tls->in.begin, *size);
    tls->in.begin += *size;
    return 0;
}

int cv_tls_end(struct cv_tls *tls)
{
    (void)tls;
    return 0;
}
