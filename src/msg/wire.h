/* SPDX-License-Identifier: MIT */
/*
 * What goes through a connection once it is encrypted (docs/wire.md): a hello from each side, then
 * messages, each behind its head. Numbers are big endian. Nothing here asks anybody or takes memory.
 *
 *   hello   8 bytes   magic
 *           2         size of the whole hello: what is behind the known fields is left unread
 *           2         the lowest version that this side speaks
 *           2         the highest
 *           2         0
 *           8         the largest message that this side accepts, in bytes
 *
 *   head    8 bytes   the size of the message that follows
 */
#ifndef CV_WIRE_H
#define CV_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum {
    CV_WIRE_VERSION = 1,
    CV_WIRE_HELLO_BYTES = 24,
    CV_WIRE_HELLO_MAX = 1024, /* of later versions */
    CV_WIRE_HEAD_BYTES = 8,
    CV_WIRE_FIRST_BYTES = 5,  /* what a listener looks at before it makes anything for a stranger */
    CV_WIRE_FIRST_MAX = 4096, /* of a client's first record, behind these */
};

struct cv_wire_hello {
    unsigned size;    /* of the whole, CV_WIRE_HELLO_BYTES or more */
    unsigned version; /* the highest that both speak */
    uint64_t message_max;
};

void cv_wire_write_hello(unsigned char bytes[CV_WIRE_HELLO_BYTES], uint64_t message_max);

/* COVEY_EAUTH for what is none, or of versions that are not spoken here. */
int cv_wire_read_hello(struct cv_wire_hello *hello, const unsigned char bytes[CV_WIRE_HELLO_BYTES]);

void cv_wire_write_head(unsigned char bytes[CV_WIRE_HEAD_BYTES], uint64_t size);

/* How a client's first record of TLS begins: *size is how many bytes are behind that. COVEY_EAUTH for
 * what is none. */
int cv_wire_read_first(size_t *size, const unsigned char bytes[CV_WIRE_FIRST_BYTES]);

/* COVEY_ECORRUPT for a message of more than @message_max bytes. */
int cv_wire_read_head(
    size_t *size, const unsigned char bytes[CV_WIRE_HEAD_BYTES], uint64_t message_max);

#endif
