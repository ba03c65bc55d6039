/* SPDX-License-Identifier: MIT */
/* Addresses of listeners as text: read and written here, without asking anybody. */
#ifndef CV_ADDRESS_H
#define CV_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CV_ADDRESS_HOST_MAX = 253, /* bytes in the name of a machine */
    CV_ADDRESS_PATH_MAX = 107, /* of a Unix socket; an abstract name can have one less */
    CV_ADDRESS_TEXT_MAX = 288, /* of the whole, with its 0 */
    CV_ADDRESS_SAID_MAX = 120, /* of any text, in a message: a Unix socket's is whole */
};

enum cv_address_kind {
    CV_ADDRESS_TCP = 1,
    CV_ADDRESS_UNIX,     /* a path */
    CV_ADDRESS_ABSTRACT, /* a name, without the @ */
};

struct cv_address {
    enum cv_address_kind kind;
    uint16_t port;
    char host[CV_ADDRESS_HOST_MAX + 1];
    char path[CV_ADDRESS_PATH_MAX + 1];
};

/* For a message: what is longer ends with "...". */
struct cv_address_said {
    char text[CV_ADDRESS_SAID_MAX + sizeof "..."];
};

struct cv_address_said cv_address_say(const char *text);

/* COVEY_EINVAL, and says what is wrong with @text. */
int cv_address_read(struct cv_address *address, const char *text);

/* All that the machine has: for listeners only. */
bool cv_address_is_any(const struct cv_address *address);

/* As it would be read. */
void cv_address_write(const struct cv_address *address, char text[CV_ADDRESS_TEXT_MAX]);

#endif
