/* SPDX-License-Identifier: MIT */
/*
 * A server for programs of other families and machines that have its key: whatever a client sends comes
 * back in capitals. The connection is encrypted, and nobody without the key gets as far as that.
 *
 *     head -c 32 /dev/urandom >key && chmod 600 key
 *     echo_with_key serve ADDRESS key     prints "listening at ADDRESS", serves until SIGTERM or SIGINT
 *     echo_with_key ask ADDRESS key       sends each line of its input, prints the answers
 *
 * ADDRESS is such as tcp:127.0.0.1:7000, unix:/tmp/echo or unix:@echo; with port 0 the server takes one
 * that is free. Each connection has a thread of the server.
 */
#include <covey.h>

#include <ctype.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_BYTES = 32,
    LINE_BYTES = 65536,
};

#define TIMEOUT_S 10

static covey_listener *listener;

static int fail(void)
{
    (void)fprintf(stderr, "%s\n", covey_error());
    return 1;
}

/* The server ******************************************************************************** */

static void answer(covey_connection *connection, char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)toupper((unsigned char)bytes[i]);
    if (covey_connection_send(connection, bytes, size, TIMEOUT_S) != 0)
        (void)fail();
}

/* To the end that the client has made, or until it has died. */
static void *serve_one(void *argument)
{
    covey_connection *connection = argument;
    void *bytes;
    size_t size;
    int r;

    while ((r = covey_connection_receive_alloc(connection, &bytes, &size, COVEY_FOREVER)) == 0) {
        answer(connection, bytes, size);
        free(bytes);
    }
    if (r != COVEY_ECLOSED)
        (void)fail();
    (void)covey_connection_close(connection);
    return NULL;
}

static void serve_in_thread(covey_connection *connection)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, serve_one, connection) == 0) {
        (void)pthread_detach(thread);
        return;
    }
    (void)fprintf(stderr, "no thread for %s\n", covey_connection_peer(connection));
    (void)covey_connection_close(connection);
}

static void tell_refusal(const char *peer, int code, const char *why, void *context)
{
    (void)code;
    (void)context;
    (void)fprintf(stderr, "turned away %s: %s\n", peer, why);
}

static void end(int signal_number)
{
    (void)signal_number;
    (void)covey_listener_stop(listener);
}

static int serve(const char *address, const void *key)
{
    struct sigaction action = {.sa_handler = end};
    covey_connection *connection;
    int r;

    if (covey_listener_open(&listener, .address = address, .key = key, .key_size = KEY_BYTES,
            .refused = tell_refusal) != 0)
        return fail();
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    (void)printf("listening at %s\n", covey_listener_address(listener));
    (void)fflush(stdout);
    while ((r = covey_listener_accept(listener, &connection, COVEY_FOREVER)) != COVEY_ECLOSED) {
        if (r == 0)
            serve_in_thread(connection);
        else
            (void)fail(); /* no memory or descriptor now: those who come have to wait */
    }
    return covey_listener_close(listener) == 0 ? 0 : fail();
}

/* The client ******************************************************************************** */

static int exchange(covey_connection *connection, const char *line)
{
    void *bytes;
    size_t size;
    int r = covey_connection_send(connection, line, strlen(line), TIMEOUT_S);

    if (r == 0)
        r = covey_connection_receive_alloc(connection, &bytes, &size, TIMEOUT_S);
    if (r != 0)
        return r;
    (void)fwrite(bytes, 1, size, stdout);
    (void)fflush(stdout);
    free(bytes);
    return 0;
}

static int ask(const char *address, const void *key)
{
    static char line[LINE_BYTES];
    covey_connection *connection;
    int r = covey_connection_open(
        &connection, .address = address, .key = key, .key_size = KEY_BYTES, .timeout_s = TIMEOUT_S);

    if (r != 0)
        return fail();
    while (r == 0 && fgets(line, sizeof line, stdin))
        r = exchange(connection, line);
    if (r != 0)
        (void)fail();
    return covey_connection_close(connection) != 0 || r != 0;
}

static int read_key(unsigned char key[KEY_BYTES], const char *path)
{
    FILE *file = fopen(path, "re");
    size_t n = file ? fread(key, 1, KEY_BYTES, file) : 0;

    if (file)
        (void)fclose(file);
    if (n != KEY_BYTES)
        (void)fprintf(stderr, "%s: no key of %d bytes\n", path, KEY_BYTES);
    return n == KEY_BYTES ? 0 : -1;
}

int main(int argc, char **argv)
{
    unsigned char key[KEY_BYTES];

    covey_main(argc, argv);
    if (argc != 4 || (strcmp(argv[1], "serve") != 0 && strcmp(argv[1], "ask") != 0)) {
        (void)fprintf(stderr, "usage: %s serve|ask ADDRESS KEYFILE\n", argv[0]);
        return 2;
    }
    if (read_key(key, argv[3]) != 0)
        return 1;
    return argv[1][0] == 's' ? serve(argv[2], key) : ask(argv[2], key);
}
