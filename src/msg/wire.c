/* SPDX-License-Identifier: MIT */
#include "msg/wire.h"

#include "base/error.h"

#include <inttypes.h>
#include <string.h>

enum {
    MAGIC_BYTES = 8,
    AT_SIZE = 8,
    AT_LOWEST = 10,
    AT_HIGHEST = 12,
    AT_MESSAGE_MAX = 16,
    AT_RECORD_SIZE = 3,
    RECORD_HANDSHAKE = 22, /* the type of a record */
    RECORD_VERSION = 3,    /* its first byte, of all TLS */
};

/* No text begins so. */
static const unsigned char magic[MAGIC_BYTES] = {0xc0, 'c', 'o', 'v', 'e', 'y', '\r', '\n'};

static void write_number(unsigned char *bytes, unsigned n, uint64_t value)
{
    for (unsigned i = 0; i < n; i++)
        bytes[i] = (unsigned char)(value >> 8 * (n - 1 - i));
}

static uint64_t read_number(const unsigned char *bytes, unsigned n)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < n; i++)
        value = value << 8 | bytes[i];
    return value;
}

void cv_wire_write_hello(unsigned char bytes[CV_WIRE_HELLO_BYTES], uint64_t message_max)
{
    memset(bytes, 0, CV_WIRE_HELLO_BYTES);
    memcpy(bytes, magic, sizeof magic);
    write_number(bytes + AT_SIZE, 2, CV_WIRE_HELLO_BYTES);
    write_number(bytes + AT_LOWEST, 2, CV_WIRE_VERSION);
    write_number(bytes + AT_HIGHEST, 2, CV_WIRE_VERSION);
    write_number(bytes + AT_MESSAGE_MAX, 8, message_max);
}

int cv_wire_read_hello(struct cv_wire_hello *hello, const unsigned char bytes[CV_WIRE_HELLO_BYTES])
{
    unsigned lowest = (unsigned)read_number(bytes + AT_LOWEST, 2);
    unsigned highest = (unsigned)read_number(bytes + AT_HIGHEST, 2);

    hello->size = (unsigned)read_number(bytes + AT_SIZE, 2);
    hello->version = CV_WIRE_VERSION;
    hello->message_max = read_number(bytes + AT_MESSAGE_MAX, 8);
    if (memcmp(bytes, magic, sizeof magic) != 0)
        return cv_fail(
            COVEY_EAUTH, "the other side has the key, but does not speak covey's protocol");
    if (hello->size < CV_WIRE_HELLO_BYTES || hello->size > CV_WIRE_HELLO_MAX)
        return cv_fail(COVEY_EAUTH, "the other side's hello has %u bytes: from %d to %d can be",
            hello->size, CV_WIRE_HELLO_BYTES, CV_WIRE_HELLO_MAX);
    if (lowest > CV_WIRE_VERSION || highest < CV_WIRE_VERSION)
        return cv_fail(COVEY_EAUTH,
            "the other side speaks versions %u to %u of covey's protocol, this one %d", lowest,
            highest, CV_WIRE_VERSION);
    return 0;
}

int cv_wire_read_first(size_t *size, const unsigned char bytes[CV_WIRE_FIRST_BYTES])
{
    *size = (size_t)read_number(bytes + AT_RECORD_SIZE, 2);
    if (bytes[0] == RECORD_HANDSHAKE && bytes[1] == RECORD_VERSION && *size > 0 &&
        *size <= CV_WIRE_FIRST_MAX)
        return 0;
    return cv_fail(COVEY_EAUTH,
        "the other side does not speak covey's protocol: it began with %02x %02x %02x %02x %02x",
        bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]);
}

void cv_wire_write_head(unsigned char bytes[CV_WIRE_HEAD_BYTES], uint64_t size)
{
    write_number(bytes, CV_WIRE_HEAD_BYTES, size);
}

int cv_wire_read_head(
    size_t *size, const unsigned char bytes[CV_WIRE_HEAD_BYTES], uint64_t message_max)
{
    uint64_t value = read_number(bytes, CV_WIRE_HEAD_BYTES);

    if (value > message_max || value > SIZE_MAX)
        return cv_fail(COVEY_ECORRUPT,
            "the other side announced a message of %" PRIu64
            " bytes: this one accepts up to %" PRIu64,
            value, message_max);
    *size = (size_t)value;
    return 0;
}
