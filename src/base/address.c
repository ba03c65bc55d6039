/* SPDX-License-Identifier: MIT */
#include "base/address.h"

#include "base/error.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define TCP  "tcp:"
#define UNIX "unix:"

enum {
    PORT_MAX = 65535,
    PORT_DIGITS_MAX = 5,
};

struct cv_address_said cv_address_say(const char *text)
{
    struct cv_address_said said;

    (void)snprintf(said.text, sizeof said.text, "%.*s%s", CV_ADDRESS_SAID_MAX, text,
        strlen(text) > CV_ADDRESS_SAID_MAX ? "..." : "");
    return said;
}

static int read_port(uint16_t *port, const char *digits, const char *text)
{
    size_t n = strspn(digits, "0123456789");
    unsigned value = 0;

    if (n == 0 || n > PORT_DIGITS_MAX || digits[n])
        return cv_fail(COVEY_EINVAL, "%s: the port is not a number from 0 to 65535",
            cv_address_say(text).text);
    for (size_t i = 0; i < n; i++)
        value = value * 10 + (unsigned)(digits[i] - '0');
    if (value > PORT_MAX)
        return cv_fail(
            COVEY_EINVAL, "%s: port %u is more than 65535", cv_address_say(text).text, value);
    *port = (uint16_t)value;
    return 0;
}

/* What is before the port's colon: HOST, or [HOST] for one with colons in it. */
static int read_tcp(struct cv_address *a, const char *rest, const char *text)
{
    const char *colon = strrchr(rest, ':');
    const char *host = rest;
    size_t size;

    if (!colon)
        return cv_fail(
            COVEY_EINVAL, "%s has no port: tcp:HOST:PORT is wanted", cv_address_say(text).text);
    size = (size_t)(colon - rest);
    if (size >= 2 && host[0] == '[' && host[size - 1] == ']') {
        host++;
        size -= 2;
    } else if (memchr(host, ':', size)) {
        return cv_fail(COVEY_EINVAL, "%s: an address of IPv6 is put in brackets: [::1]",
            cv_address_say(text).text);
    }
    if (size == 0 || size > CV_ADDRESS_HOST_MAX)
        return cv_fail(COVEY_EINVAL, "%s: a machine's name of %zu bytes: from 1 to %d can be",
            cv_address_say(text).text, size, CV_ADDRESS_HOST_MAX);
    if (memchr(host, '[', size) || memchr(host, ']', size) || memchr(host, '/', size))
        return cv_fail(COVEY_EINVAL, "%s: this is no name of a machine", cv_address_say(text).text);
    a->kind = CV_ADDRESS_TCP;
    memcpy(a->host, host, size);
    return read_port(&a->port, colon + 1, text);
}

static int read_unix(struct cv_address *a, const char *rest, const char *text)
{
    size_t most = CV_ADDRESS_PATH_MAX;
    size_t size;

    a->kind = CV_ADDRESS_UNIX;
    if (rest[0] == '@') {
        a->kind = CV_ADDRESS_ABSTRACT;
        most--;
        rest++;
    }
    size = strlen(rest);
    if (size == 0 || size > most)
        return cv_fail(COVEY_EINVAL, "%s: a path or name of %zu bytes: from 1 to %zu can be",
            cv_address_say(text).text, size, most);
    memcpy(a->path, rest, size);
    return 0;
}

int cv_address_read(struct cv_address *address, const char *text)
{
    memset(address, 0, sizeof *address);
    if (!text)
        return cv_fail(COVEY_EINVAL, "address is NULL");
    if (strncmp(text, TCP, strlen(TCP)) == 0)
        return read_tcp(address, text + strlen(TCP), text);
    if (strncmp(text, UNIX, strlen(UNIX)) == 0)
        return read_unix(address, text + strlen(UNIX), text);
    return cv_fail(COVEY_EINVAL, "\"%s\" is not an address: tcp:HOST:PORT, unix:PATH or unix:@NAME",
        cv_address_say(text).text);
}

bool cv_address_is_any(const struct cv_address *a)
{
    return a->kind == CV_ADDRESS_TCP && strcmp(a->host, "*") == 0;
}

void cv_address_write(const struct cv_address *a, char text[CV_ADDRESS_TEXT_MAX])
{
    bool has_colons = strchr(a->host, ':') != NULL;

    if (a->kind == CV_ADDRESS_TCP)
        (void)snprintf(text, CV_ADDRESS_TEXT_MAX, TCP "%s%s%s:%u", has_colons ? "[" : "", a->host,
            has_colons ? "]" : "", (unsigned)a->port);
    else
        (void)snprintf(text, CV_ADDRESS_TEXT_MAX, UNIX "%s%s",
            a->kind == CV_ADDRESS_ABSTRACT ? "@" : "", a->path);
}
