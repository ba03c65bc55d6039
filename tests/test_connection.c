/* SPDX-License-Identifier: MIT */
#include "children.h"

#include "msg/connection.h"
#include "msg/handles.h"
#include "msg/tls.h"
#include "msg/wire.h"
#include "os/socket.h"

#ifdef TEST_TLS
#include "msg/openssl.h"
#endif

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* since Linux 6.16 */
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define ANY "tcp:127.0.0.1:0"

enum {
    KEY_BYTES = 32,
    MIB = 1 << 20,
    SOON_S = 60, /* what happens at once; longer than a test may take */
};

static const char key[KEY_BYTES] = "0123456789abcdef0123456789abcde";
static const char other_key[KEY_BYTES] = "0123456789abcdef0123456789abcdE";

/* Both sides in this process **************************************************************** */

/* The last one that was refused. */
struct refusals {
    int n;
    int code;
    char why[200];
};

static void note_refusal(const char *peer, int code, const char *why, void *context)
{
    struct refusals *refusals = context;

    check(peer[0] != 0);
    refusals->n++;
    refusals->code = code;
    (void)snprintf(refusals->why, sizeof refusals->why, "%s", why);
}

/* listen_at(ADDRESS, .OPTION = VALUE, ...) */
#define listen_at(...)                                                                             \
    listen_with(&(struct covey_listener_options){.size = sizeof(struct covey_listener_options),    \
        .key = key,                                                                                \
        .key_size = sizeof key,                                                                    \
        .address = __VA_ARGS__})

static covey_listener *listen_with(struct covey_listener_options *o)
{
    covey_listener *l = NULL;
    int r;

    o->listener = &l;
    r = covey_listener_open_with(o);
    if (r == COVEY_ESTATE && strstr(covey_error(), "without TLS"))
        test_skip("built without TLS");
    if (r == COVEY_ESTATE && strstr(covey_error(), "cannot be loaded"))
        test_skip("there is no OpenSSL");
    if (r != 0)
        test_fail(__FILE__, __LINE__, "%s: %s", o->address, covey_error());
    return l;
}

/* A thread that connects. */
struct client {
    char address[300];
    const char *key;
    size_t message_max;
    double timeout_s;
    pthread_t thread;
    covey_connection *c;
    int r;
    char why[300];
};

static void *client_run(void *context)
{
    struct client *client = context;

    client->r = covey_connection_open(&client->c, .address = client->address, .key = client->key,
        .key_size = KEY_BYTES, .message_max = client->message_max, .timeout_s = client->timeout_s);
    (void)snprintf(client->why, sizeof client->why, "%s", covey_error());
    return NULL;
}

static void client_start(struct client *client, const char *address)
{
    if (!client->key)
        client->key = key;
    (void)snprintf(client->address, sizeof client->address, "%s", address);
    check_int(pthread_create(&client->thread, NULL, client_run, client), ==, 0);
}

static void client_join(struct client *client)
{
    check_int(pthread_join(client->thread, NULL), ==, 0);
}

struct pair {
    covey_listener *listener;
    covey_connection *client;
    covey_connection *server;
};

static void pair_connect(struct pair *p, size_t client_max)
{
    struct client client = {.message_max = client_max};

    client_start(&client, covey_listener_address(p->listener));
    check_int(covey_listener_accept(p->listener, &p->server, SOON_S), ==, 0);
    client_join(&client);
    if (client.r != 0)
        test_fail(__FILE__, __LINE__, "%s", client.why);
    p->client = client.c;
}

static struct pair pair_open(const char *address)
{
    struct pair p = {.listener = listen_at(address, .message_max = 32 * MIB)};

    pair_connect(&p, 0);
    return p;
}

static void pair_close(struct pair *p)
{
    check_int(covey_connection_close(p->client), ==, 0);
    check_int(covey_connection_close(p->server), ==, 0);
    check_int(covey_listener_close(p->listener), ==, 0);
}

/* A thread that sends one message. */
struct sender {
    covey_connection *c;
    const void *bytes;
    const struct iovec *parts; /* if not NULL, @size of them */
    size_t size;
    double timeout_s;
    pthread_t thread;
    int r;
};

static void *sender_run(void *context)
{
    struct sender *s = context;

    s->r = s->parts ? covey_connection_send_parts(s->c, s->parts, s->size, s->timeout_s)
                    : covey_connection_send(s->c, s->bytes, s->size, s->timeout_s);
    return NULL;
}

static void sender_start(struct sender *s)
{
    check_int(pthread_create(&s->thread, NULL, sender_run, s), ==, 0);
}

static int sender_join(struct sender *s)
{
    check_int(pthread_join(s->thread, NULL), ==, 0);
    return s->r;
}

static unsigned char *make_bytes(size_t size, unsigned seed)
{
    unsigned char *bytes = malloc(size + 1);

    check(bytes != NULL);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)((i * 31 + i / 251 + seed) & 0xff);
    return bytes;
}

static void pass(covey_connection *from, covey_connection *to, size_t size)
{
    unsigned char *bytes = make_bytes(size, (unsigned)size + 7);
    struct sender s = {.c = from, .bytes = bytes, .size = size, .timeout_s = COVEY_FOREVER};
    void *came = NULL;
    size_t n = 1;

    sender_start(&s);
    check_int(covey_connection_receive_alloc(to, &came, &n, SOON_S), ==, 0);
    check_int(sender_join(&s), ==, 0);
    check_int(n, ==, size);
    check(memcmp(came, bytes, size) == 0);
    free(came);
    free(bytes);
}

static void pass_all_sizes(const char *address)
{
    static const size_t sizes[] = {0, 1, 16375, 16376, 16377, 16384, 32760, 65536, 65537, 16 * MIB};
    struct pair p = pair_open(address);
    char byte;

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        pass(p.client, p.server, sizes[i]);
        pass(p.server, p.client, sizes[i]);
    }
    check_int(covey_connection_close(p.client), ==, 0);
    check_fails(
        covey_connection_receive(p.server, &byte, 1, NULL, SOON_S), COVEY_ECLOSED, "closed");
    check_fails(covey_connection_receive(p.server, &byte, 1, NULL, 0), COVEY_ECLOSED, "closed");
    p.client = NULL;
    pair_close(&p);
}

TEST(passes_over_ipv4, .not_in_valgrind = "a path will do there")
{
    pass_all_sizes(ANY);
}

TEST(passes_over_ipv6, .not_in_valgrind = "a path will do there")
{
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)(void *)&a, sizeof a) == 0;

    if (fd >= 0)
        (void)close(fd);
    if (!has)
        test_skip("this machine has no IPv6");
    pass_all_sizes("tcp:[::1]:0");
}

TEST(passes_by_a_name, .not_in_valgrind = "a path will do there")
{
    test_need_localhost();
    pass_all_sizes("tcp:localhost:0");
}

static const char *abstract_address(char address[64])
{
    (void)snprintf(address, 64, "unix:@covey-test-%d", (int)getpid());
    return address;
}

TEST(passes_over_an_abstract_socket, .not_in_valgrind = "a path will do there")
{
    char address[64];

    pass_all_sizes(abstract_address(address));
}

static const char *path_address(char address[64])
{
    (void)snprintf(address, 64, "unix:/tmp/covey-test-%d", (int)getpid());
    return address;
}

TEST(passes_over_a_path)
{
    char address[64];

    pass_all_sizes(path_address(address));
    check_int(access(address + strlen("unix:"), F_OK), ==, -1);
}

TEST(messages_come_whole_and_in_order)
{
    struct pair p = pair_open(ANY);

    for (int i = 0; i < 100; i++) {
        check_int(covey_connection_send(p.client, &i, sizeof i, 0), ==, 0);
        check_int(covey_connection_send(p.client, "", 0, 0), ==, 0);
    }
    for (int i = 0; i < 100; i++) {
        size_t size = 9;
        int n = -1;

        check_int(covey_connection_receive(p.server, &n, sizeof n, &size, SOON_S), ==, 0);
        check_int(n, ==, i);
        check_int(size, ==, sizeof n);
        check_int(covey_connection_receive(p.server, NULL, 0, &size, SOON_S), ==, 0);
        check_int(size, ==, 0);
    }
    check_fails(
        covey_connection_receive(p.server, NULL, 0, NULL, 0), COVEY_ETIMEDOUT, "within 0 s");
    pair_close(&p);
}

TEST(too_little_room_leaves_the_message)
{
    struct pair p = pair_open(ANY);
    char bytes[8] = "";
    size_t size = 0;

    check_int(covey_connection_send(p.client, "seven!", 7, 1), ==, 0);
    check_fails(
        covey_connection_receive(p.server, bytes, 3, &size, SOON_S), COVEY_ETOOBIG, "7 bytes");
    check_int(size, ==, 7);
    check_int(covey_connection_poll(p.server, 0), ==, 1);
    check_int(covey_connection_receive(p.server, bytes, 8, &size, 0), ==, 0);
    check_str(bytes, "seven!");
    check_int(covey_connection_poll(p.server, 0), ==, 0);
    pair_close(&p);
}

TEST(limits_hold_both_ways)
{
    struct pair p = {.listener = listen_at(ANY, .message_max = 1000)};
    char bytes[3000] = "";

    pair_connect(&p, 2000);
    check_int(covey_connection_message_max(p.client), ==, 1000);
    check_int(covey_connection_message_max(p.server), ==, 2000);
    check_fails(covey_connection_send(p.client, bytes, 1001, 1), COVEY_ETOOBIG, "up to 1000");
    check_fails(covey_connection_send(p.server, bytes, 2001, 1), COVEY_ETOOBIG, "up to 2000");
    pass(p.client, p.server, 1000);
    pass(p.server, p.client, 2000);
    pair_close(&p);
}

TEST(parts_arrive_as_one_message)
{
    static char bytes[100000];
    struct pair p = pair_open(ANY);
    size_t cuts[] = {0, 0, 1, 16, 16375, 16376, 16377, 50000, 50000, 83000, 99999, sizeof bytes};
    enum {
        PARTS = sizeof cuts / sizeof *cuts - 1
    };
    struct iovec parts[PARTS];
    struct sender s = {.c = p.client, .parts = parts, .size = PARTS, .timeout_s = SOON_S};
    void *came;
    size_t n;

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 7 + i / 1000);
    for (int i = 0; i < PARTS; i++)
        parts[i] = (struct iovec){bytes + cuts[i], cuts[i + 1] - cuts[i]};
    parts[0].iov_base = NULL;
    sender_start(&s);
    check_int(covey_connection_receive_alloc(p.server, &came, &n, SOON_S), ==, 0);
    check_int(sender_join(&s), ==, 0);
    check_int(n, ==, sizeof bytes);
    check(memcmp(came, bytes, n) == 0);
    free(came);
    check_int(covey_connection_send_parts(p.client, NULL, 0, 1), ==, 0);
    check_int(covey_connection_send_parts(p.client, parts, 2, 1), ==, 0);
    check_int(covey_connection_receive(p.server, bytes, 0, &n, SOON_S), ==, 0);
    check_int(n, ==, 0);
    check_fails(covey_connection_receive(p.server, NULL, 0, &n, SOON_S), COVEY_ETOOBIG, "1 bytes");
    check_int(covey_connection_receive(p.server, bytes, 1, &n, 0), ==, 0);
    check_fails(covey_connection_send_parts(p.client, NULL, 1, 1), COVEY_EINVAL, "parts is NULL");
    parts[1] = (struct iovec){NULL, 1};
    check_fails(covey_connection_send_parts(p.client, parts, 2, 1), COVEY_EINVAL, "part 1 is NULL");
    parts[0] = parts[1] = (struct iovec){bytes, SIZE_MAX};
    check_fails(covey_connection_send_parts(p.client, parts, 2, 1), COVEY_ETOOBIG, "than there");
    check_fails(covey_connection_send_parts(p.client, parts, 1, 1), COVEY_ETOOBIG, "up to");
    pair_close(&p);
}

/* A build for testing takes a new key every 100 records. */
TEST(keys_wear_out_unnoticed)
{
    struct pair p = pair_open(ANY);

    for (int i = 0; i < 250; i++) {
        check_int(covey_connection_send(p.client, &i, sizeof i, SOON_S), ==, 0);
        check_int(covey_connection_send(p.server, &i, sizeof i, SOON_S), ==, 0);
    }
    for (int i = 0; i < 250; i++) {
        int a = -1;
        int b = -1;

        check_int(covey_connection_receive(p.client, &a, sizeof a, NULL, SOON_S), ==, 0);
        check_int(covey_connection_receive(p.server, &b, sizeof b, NULL, SOON_S), ==, 0);
        check(a == i && b == i);
    }
    pass(p.client, p.server, 5 * MIB);
    pair_close(&p);
}

TEST(poll_and_descriptor_tell_of_messages)
{
    struct pair p = pair_open(ANY);
    struct pollfd fd = {covey_connection_fd(p.server), POLLIN, 0};

    check_int(fd.fd, >, 2);
    check_int(fcntl(fd.fd, F_GETFD), ==, FD_CLOEXEC);
    check_int(poll(&fd, 1, 0), ==, 0);
    check_int(covey_connection_poll(p.server, 0.01), ==, 0);
    check_int(covey_connection_send(p.client, "a", 1, 1), ==, 0);
    check_int(covey_connection_send(p.client, "b", 1, 1), ==, 0);
    check_int(poll(&fd, 1, SOON_S * 1000), ==, 1);
    check_int(covey_connection_poll(p.server, SOON_S), ==, 1);
    check_has(covey_connection_peer(p.server), "tcp:127.0.0.1:");
    check_str(covey_connection_peer(p.client), covey_listener_address(p.listener));
    pair_close(&p);
}

/* Who is let in ***************************************************************************** */

static void check_refused(covey_listener *l, struct refusals *refusals, int code, const char *why)
{
    covey_connection *c = NULL;

    for (double end_s = test_now_s() + SOON_S; refusals->n == 0 && test_now_s() < end_s;)
        check_int(covey_listener_accept(l, &c, 0.05), ==, COVEY_ETIMEDOUT);
    check_int(refusals->n, ==, 1);
    check_int(refusals->code, ==, code);
    check_has(refusals->why, why);
    refusals->n = 0;
}

TEST(another_key_is_refused)
{
    struct refusals refusals = {0};
    covey_listener *l = listen_at(ANY, .refused = note_refusal, .context = &refusals);
    struct client client = {.key = other_key};

    client_start(&client, covey_listener_address(l));
    check_refused(l, &refusals, COVEY_EAUTH, "another key");
    client_join(&client);
    check_int(client.r, ==, COVEY_EAUTH);
    check_has(client.why, "refused the key");
    check_int(covey_listener_close(l), ==, 0);
}

/* A peer that is made by hand: a plain socket, and TLS where it is asked for. */
struct raw {
    int fd;
    struct cv_tls *tls;
    unsigned char psk[CV_TLS_KEY_BYTES];
    unsigned char log[65536]; /* what it has sent */
    size_t logged;
    size_t most; /* it vanishes after so many bytes; 0: it does not */
    size_t sent;
};

static int connect_socket(const char *text)
{
    struct cv_socket_targets targets;
    struct cv_address address;
    const struct sockaddr *to = (const struct sockaddr *)(const void *)&targets.target[0].address;
    int fd;

    check_int(cv_address_read(&address, text), ==, 0);
    check_int(cv_socket_find(&targets, &address, false), ==, 0);
    fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check_int(fd, >=, 0);
    if (address.kind == CV_ADDRESS_TCP)
        check_int(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)), ==, 0);
    if (connect(fd, to, targets.target[0].size) != 0)
        test_fail(__FILE__, __LINE__, "connect: %s", strerror(errno));
    return fd;
}

static void raw_connect(struct raw *raw, covey_listener *l)
{
    raw->fd = connect_socket(covey_listener_address(l));
}

static void raw_close(struct raw *raw)
{
    cv_tls_free(raw->tls);
    (void)close(raw->fd);
}

static bool raw_has_vanished(const struct raw *raw)
{
    return raw->most && raw->sent == raw->most;
}

static void raw_send(struct raw *raw, const void *bytes, size_t size)
{
    size_t n = raw->most && raw->most - raw->sent < size ? raw->most - raw->sent : size;

    if (n)
        check_int(send(raw->fd, bytes, n, MSG_NOSIGNAL), ==, n);
    raw->sent += n;
    if (raw_has_vanished(raw))
        (void)shutdown(raw->fd, SHUT_WR);
}

static void raw_flush(struct raw *raw)
{
    const void *bytes;
    size_t n;

    while ((n = cv_tls_output(raw->tls, &bytes)) > 0) {
        check(raw->logged + n <= sizeof raw->log);
        memcpy(raw->log + raw->logged, bytes, n);
        raw->logged += n;
        raw_send(raw, bytes, n);
        cv_tls_sent(raw->tls, n);
    }
}

static size_t raw_seal(struct raw *raw, const void *bytes, size_t size, unsigned char *record)
{
    const void *output;
    size_t n;

    check_int(cv_tls_write(raw->tls, bytes, size), ==, 0);
    n = cv_tls_output(raw->tls, &output);
    memcpy(record, output, n);
    cv_tls_sent(raw->tls, n);
    return n;
}

/* Sends what is encrypted, in the way of a client that has the key. */
static void raw_write(struct raw *raw, const void *bytes, size_t size)
{
    check_int(cv_tls_write(raw->tls, bytes, size), ==, 0);
    raw_flush(raw);
}

static void raw_handshake(struct raw *raw, covey_listener *l)
{
    covey_connection *c = NULL;
    char bytes[4096];

    check_int(cv_tls_derive(raw->psk, key, sizeof key), ==, 0);
    check_int(cv_tls_open(&raw->tls, false, raw->psk), ==, 0);
    while (cv_tls_handshake(raw->tls) == CV_TLS_WANT) {
        ssize_t n;

        raw_flush(raw);
        if (raw_has_vanished(raw))
            return;
        do {
            check_int(covey_listener_accept(l, &c, 0.001), ==, COVEY_ETIMEDOUT);
            n = recv(raw->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        } while (n < 0 && errno == EAGAIN);
        check_int(n, >, 0);
        check_int(cv_tls_put(raw->tls, bytes, (size_t)n), ==, 0);
    }
    raw_flush(raw);
}

static covey_connection *raw_open(struct raw *raw, covey_listener *l)
{
    unsigned char hello[CV_WIRE_HELLO_BYTES];
    covey_connection *c = NULL;

    raw_connect(raw, l);
    raw_handshake(raw, l);
    cv_wire_write_hello(hello, MIB);
    raw_write(raw, hello, sizeof hello);
    check_int(covey_listener_accept(l, &c, SOON_S), ==, 0);
    return c;
}

static void check_bytes_are_refused(const void *bytes, size_t size, const char *why)
{
    struct refusals refusals = {0};
    covey_listener *l = listen_at(ANY, .refused = note_refusal, .context = &refusals);
    struct raw raw = {0};

    raw_connect(&raw, l);
    raw_send(&raw, bytes, size);
    check_refused(l, &refusals, COVEY_EAUTH, why);
    raw_close(&raw);
    pair_close(&(struct pair){.listener = l});
}

TEST(other_protocols_are_refused)
{
    static const char http[] = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";
    unsigned char *bytes = make_bytes(5000, 99);

    check_bytes_are_refused(http, sizeof http - 1, "does not speak");
    check_bytes_are_refused(bytes, 5000, "does not speak");
    bytes[0] = 22; /* a handshake of TLS, so far */
    bytes[1] = 3;
    bytes[2] = 1;
    bytes[3] = 2;
    check_bytes_are_refused(bytes, 5000, "does not speak");
    free(bytes);
}

/* A server of something else, and where it is. */
static int listen_plainly(char address[64])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    check_int(bind(fd, (struct sockaddr *)(void *)&a, sizeof a), ==, 0);
    check_int(listen(fd, 1), ==, 0);
    check_int(getsockname(fd, (struct sockaddr *)(void *)&a, &size), ==, 0);
    (void)snprintf(address, 64, "tcp:127.0.0.1:%d", ntohs(a.sin_port));
    return fd;
}

#ifdef TEST_TLS

/* TLS as others speak it, without covey's key. */
static void check_tls_is_refused(int version, const char *why)
{
    struct cv_openssl ssl;
    char *bytes = NULL;
    SSL_CTX *settings;
    BIO *out;
    SSL *state;
    long n;

    check_int(cv_openssl_load(&ssl), ==, 0);
    settings = ssl.SSL_CTX_new(ssl.TLS_method());
    check_int(ssl.SSL_CTX_ctrl(settings, SSL_CTRL_SET_MAX_PROTO_VERSION, version, NULL), ==, 1);
    state = ssl.SSL_new(settings);
    out = ssl.BIO_new(ssl.BIO_s_mem());
    ssl.SSL_set_bio(state, ssl.BIO_new(ssl.BIO_s_mem()), out);
    ssl.SSL_set_connect_state(state);
    check_int(ssl.SSL_do_handshake(state), ==, -1);
    n = ssl.BIO_ctrl(out, BIO_CTRL_INFO, 0, &bytes);
    check_int(n, >, 50);
    check_bytes_are_refused(bytes, (size_t)n, why);
    ssl.SSL_free(state);
    ssl.SSL_CTX_free(settings);
    cv_openssl_unload(&ssl);
}

TEST(tls_without_the_key_is_refused)
{
    pair_close(&(struct pair){.listener = listen_at(ANY)}); /* may skip */
    check_tls_is_refused(TLS1_3_VERSION, "has no key");
    check_tls_is_refused(TLS1_2_VERSION, "does not speak");
}

/* What only a server of that kind needs. */
static void find_function(const struct cv_openssl *ssl, const char *name, void *function)
{
    void *address = dlsym(ssl->library ? ssl->library : RTLD_DEFAULT, name);

    check(address != NULL);
    memcpy(function, &address, sizeof address);
}

static SSL_CTX *settings_with_certificate(const struct cv_openssl *ssl)
{
    __typeof__(EVP_PKEY_Q_keygen) *generate;
    __typeof__(X509_new) *new_certificate;
    __typeof__(X509_set_pubkey) *set_key;
    __typeof__(X509_sign) *sign;
    __typeof__(X509_getm_notBefore) *begin;
    __typeof__(X509_getm_notAfter) *end;
    __typeof__(X509_gmtime_adj) *set_time;
    __typeof__(SSL_CTX_use_certificate) *use_certificate;
    __typeof__(SSL_CTX_use_PrivateKey) *use_key;
    __typeof__(X509_free) *free_certificate;
    __typeof__(EVP_PKEY_free) *free_key;
    SSL_CTX *settings = ssl->SSL_CTX_new(ssl->TLS_method());
    X509 *certificate;
    EVP_PKEY *pair;

    find_function(ssl, "EVP_PKEY_Q_keygen", &generate);
    find_function(ssl, "X509_new", &new_certificate);
    find_function(ssl, "X509_set_pubkey", &set_key);
    find_function(ssl, "X509_sign", &sign);
    find_function(ssl, "X509_getm_notBefore", &begin);
    find_function(ssl, "X509_getm_notAfter", &end);
    find_function(ssl, "X509_gmtime_adj", &set_time);
    find_function(ssl, "SSL_CTX_use_certificate", &use_certificate);
    find_function(ssl, "SSL_CTX_use_PrivateKey", &use_key);
    find_function(ssl, "X509_free", &free_certificate);
    find_function(ssl, "EVP_PKEY_free", &free_key);
    pair = generate(NULL, NULL, "ED25519");
    certificate = new_certificate();
    check(pair && certificate && set_key(certificate, pair) == 1);
    check(set_time(begin(certificate), -1000) && set_time(end(certificate), 1000));
    check_int(sign(certificate, pair, NULL), >, 0);
    check_int(use_certificate(settings, certificate), ==, 1);
    check_int(use_key(settings, pair), ==, 1);
    free_certificate(certificate);
    free_key(pair);
    return settings;
}

/* One that has no key, but something to show that a careless client would be content with. */
TEST(a_server_with_a_certificate_is_refused)
{
    struct cv_openssl ssl;
    struct client client = {0};
    covey_listener *l = listen_at(ANY); /* may skip */
    char address[64];
    char bytes[8192];
    char *output = NULL;
    int fd = listen_plainly(address);
    SSL_CTX *settings;
    BIO *in;
    BIO *out;
    SSL *state;
    ssize_t n;
    int peer;

    check_int(covey_listener_close(l), ==, 0);
    check_int(cv_openssl_load(&ssl), ==, 0);
    settings = settings_with_certificate(&ssl);
    state = ssl.SSL_new(settings);
    in = ssl.BIO_new(ssl.BIO_s_mem());
    out = ssl.BIO_new(ssl.BIO_s_mem());
    ssl.SSL_set_bio(state, in, out);
    ssl.SSL_set_accept_state(state);
    client_start(&client, address);
    peer = accept(fd, NULL, NULL);
    n = recv(peer, bytes, sizeof bytes, 0);
    check_int(n, >, 0);
    check_int(ssl.BIO_write(in, bytes, (int)n), ==, n);
    check_int(ssl.SSL_do_handshake(state), ==, -1); /* it has said all of its own */
    n = ssl.BIO_ctrl(out, BIO_CTRL_INFO, 0, &output);
    check_int(n, >, 300);
    check_int(send(peer, output, (size_t)n, MSG_NOSIGNAL), ==, n);
    client_join(&client);
    check_int(client.r, ==, COVEY_EAUTH);
    check_has(client.why, "has no key");
    (void)close(peer);
    (void)close(fd);
    ssl.SSL_free(state);
    ssl.SSL_CTX_free(settings);
    cv_openssl_unload(&ssl);
}

#endif

/* A server that answers all with the same bytes. */
static void check_server_is_refused(const char *answer, int code, const char *why)
{
    struct client client = {0};
    char address[64];
    char bytes[4096];
    int fd = listen_plainly(address);
    int peer;

    client_start(&client, address);
    peer = accept(fd, NULL, NULL);
    check_int(recv(peer, bytes, sizeof bytes, 0), >, 0);
    check_int(send(peer, answer, strlen(answer), MSG_NOSIGNAL), ==, strlen(answer));
    (void)close(peer);
    client_join(&client);
    (void)close(fd);
    check_int(client.r, ==, code);
    check_has(client.why, why);
    check_has(client.why, address);
}

TEST(a_server_of_something_else_is_refused)
{
    pair_close(&(struct pair){.listener = listen_at(ANY)}); /* may skip */
    check_server_is_refused("HTTP/1.1 400 Bad Request\r\n\r\n", COVEY_EAUTH, "does not speak");
    check_server_is_refused("", COVEY_EDIED, "without a word");
}

/* What takes memory is not made for one who only begins to say that he has the key. */
TEST(first_words_that_go_on_are_refused)
{
    unsigned char words[5 + CV_WIRE_FIRST_MAX] = {
        22, 3, 1, CV_WIRE_FIRST_MAX >> 8, 0, 1, 0, 0x80, 0, 3, 3}; /* of a ClientHello of 32 KiB */

    check_bytes_are_refused(words, sizeof words, "first words");
}

/* The listener's machine is set up for another group than the client proposes: one more question. */
TEST(groups_may_differ)
{
    char path[] = "/tmp/covey-test-XXXXXX";
    static const char settings[] = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\n"
                                   "system_default = c\n[c]\nGroups = P-384\n";
    struct refusals refusals = {0};
    covey_connection *c = NULL;
    char address[64];
    int fd = mkstemp(path);
    covey_listener *l;
    pid_t pid;
    int r;

    (void)abstract_address(address);
    pid = fork();
    if (pid == 0) { /* without these settings */
        do
            r = covey_connection_open(
                &c, .address = address, .key = key, .key_size = sizeof key, .timeout_s = SOON_S);
        while (r == COVEY_EREFUSED);
        check_int(r == COVEY_ESTATE ? 0 : r, ==, 0);
        _exit(covey_connection_close(c));
    }
    check_int(write(fd, settings, sizeof settings - 1), ==, sizeof settings - 1);
    check_int(setenv("OPENSSL_CONF", path, 1), ==, 0);
    l = listen_at(address, .refused = note_refusal, .context = &refusals);
    check_int(covey_listener_accept(l, &c, SOON_S), ==, 0);
    check_int(refusals.n, ==, 0);
    test_reap(pid, 0);
    check_int(covey_connection_close(c), ==, 0);
    check_int(covey_listener_close(l), ==, 0);
    (void)close(fd);
    (void)unlink(path);
}

TEST(keys_are_checked)
{
    covey_connection *c;
    covey_listener *l = NULL;

    check_fails(covey_listener_open(&l, .address = ANY), COVEY_EINVAL, "key is NULL");
    check_fails(covey_listener_open(&l, .address = ANY, .key = key, .key_size = 15), COVEY_EINVAL,
        "key_size is 15");
    check_fails(
        covey_connection_open(&c, .address = "tcp:127.0.0.1:1"), COVEY_EINVAL, "key is NULL");
    check_fails(covey_connection_open(&c, .address = "tcp:127.0.0.1:1", .key = key, .key_size = 1),
        COVEY_EINVAL, "key_size is 1");
}

TEST(a_handshake_that_stops_is_dropped)
{
    for (size_t cut = 1; cut < 200; cut += 66) {
        struct refusals refusals = {0};
        covey_listener *l = listen_at(
            ANY, .refused = note_refusal, .context = &refusals, .handshake_timeout_s = 0.2);
        struct raw raw = {0};
        const void *bytes;

        raw_connect(&raw, l);
        check_int(cv_tls_derive(raw.psk, key, sizeof key), ==, 0);
        check_int(cv_tls_open(&raw.tls, false, raw.psk), ==, 0);
        check_int(cv_tls_handshake(raw.tls), ==, CV_TLS_WANT);
        check_int(cv_tls_output(raw.tls, &bytes), >, cut);
        raw_send(&raw, bytes, cut);
        check_refused(l, &refusals, COVEY_ETIMEDOUT, "within 0.2 s");
        raw_close(&raw);
        raw = (struct raw){0};
        raw_connect(&raw, l);
        raw_send(&raw, "\26\3\1", 3);
        raw_close(&raw);
        check_refused(l, &refusals, COVEY_EDIED, "without a word");
        check_int(covey_listener_close(l), ==, 0);
    }
}

TEST(a_recorded_handshake_is_refused)
{
    struct refusals refusals = {0};
    covey_listener *l = listen_at(ANY, .refused = note_refusal, .context = &refusals);
    struct raw raw = {0};
    struct raw again = {0};

    check_int(covey_connection_close(raw_open(&raw, l)), ==, 0);
    raw_connect(&again, l);
    raw_send(&again, raw.log, raw.logged);
    check_refused(l, &refusals, COVEY_EAUTH, "does not speak");
    raw_close(&again);
    raw_close(&raw);
    check_int(covey_listener_close(l), ==, 0);
}

/* The whole of a client's side, cut after each of its bytes: it hangs up there, and others are let in. */
TEST(a_client_may_vanish_at_any_byte, .deadline_s = 60)
{
    struct refusals refusals = {0};
    covey_listener *l = listen_at(ANY, .refused = note_refusal, .context = &refusals);
    size_t step = getenv("COVEY_TEST_VALGRIND") ? 17 : 1;
    unsigned char hello[CV_WIRE_HELLO_BYTES];
    unsigned outcomes[3] = {0, 0, 0};
    bool is_whole = false;

    cv_wire_write_hello(hello, MIB);
    for (size_t cut = 1; !is_whole; cut += step) {
        struct raw raw = {.most = cut};
        covey_connection *c = NULL;
        char byte = 0;

        raw_connect(&raw, l);
        raw_handshake(&raw, l);
        if (!raw_has_vanished(&raw))
            raw_write(&raw, hello, sizeof hello);
        if (!raw_has_vanished(&raw))
            raw_write(&raw, "\0\0\0\0\0\0\0\1x", 9);
        is_whole = !raw_has_vanished(&raw);
        while (!c && refusals.n == 0)
            (void)covey_listener_accept(l, &c, 0.01);
        raw_close(&raw);
        if (!c) {
            check_int(refusals.code, ==, COVEY_EDIED);
            outcomes[0]++;
        } else if (covey_connection_receive(c, &byte, 1, NULL, SOON_S) == 0) {
            check_int(byte, ==, 'x');
            check_int(covey_connection_receive(c, &byte, 1, NULL, SOON_S), ==, COVEY_EDIED);
            outcomes[2]++;
        } else {
            check_int(covey_error_code(), ==, COVEY_EDIED);
            outcomes[1]++;
        }
        check_int(covey_connection_close(c), ==, 0);
        refusals.n = 0;
    }
    check(outcomes[0] > 200 / step && outcomes[1] > 20 / step && outcomes[2] >= 1);
    check_int(covey_listener_close(l), ==, 0);
}

TEST(a_wrong_hello_is_refused)
{
    struct refusals refusals = {0};
    covey_listener *l = listen_at(ANY, .refused = note_refusal, .context = &refusals);
    static const struct {
        unsigned at;
        unsigned char byte;
        const char *why;
    } wrong[] = {{0, 'c', "does not speak"}, {9, 23, "23 bytes"}, {8, 255, "bytes: from"},
        {11, 2, "versions 2 to 1"}, {13, 0, "versions 1 to 0"}};

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        unsigned char hello[CV_WIRE_HELLO_BYTES];
        struct raw raw = {0};

        raw_connect(&raw, l);
        raw_handshake(&raw, l);
        cv_wire_write_hello(hello, MIB);
        hello[wrong[i].at] = wrong[i].byte;
        raw_write(&raw, hello, sizeof hello);
        check_refused(l, &refusals, COVEY_EAUTH, wrong[i].why);
        raw_close(&raw);
    }
    check_int(covey_listener_close(l), ==, 0);
}

TEST(a_longer_hello_is_understood)
{
    unsigned char hello[CV_WIRE_HELLO_BYTES + 100] = "";
    covey_listener *l = listen_at(ANY);
    covey_connection *c = NULL;
    struct raw raw = {0};
    char byte;

    raw_connect(&raw, l);
    raw_handshake(&raw, l);
    cv_wire_write_hello(hello, MIB);
    hello[9] = (unsigned char)sizeof hello;
    hello[13] = 77; /* speaks that version, too */
    raw_write(&raw, hello, sizeof hello);
    raw_write(&raw, "\0\0\0\0\0\0\0\1x", 9);
    check_int(covey_listener_accept(l, &c, SOON_S), ==, 0);
    check_int(covey_connection_receive(c, &byte, 1, NULL, SOON_S), ==, 0);
    check_int(byte, ==, 'x');
    check_int(covey_connection_close(c), ==, 0);
    raw_close(&raw);
    check_int(covey_listener_close(l), ==, 0);
}

/* What comes later ************************************************************************** */

TEST(a_message_that_is_too_large_is_no_message)
{
    covey_listener *l = listen_at(ANY, .message_max = 100);
    struct raw raw = {0};
    covey_connection *c = raw_open(&raw, l);
    char bytes[100];

    raw_write(&raw, "\0\0\0\0\0\0\0\145", 8);
    check_fails(covey_connection_receive(c, bytes, sizeof bytes, NULL, SOON_S), COVEY_ECORRUPT,
        "101 bytes");
    check_fails(covey_connection_receive(c, bytes, sizeof bytes, NULL, SOON_S), COVEY_ECORRUPT,
        "101 bytes");
    check_fails(covey_connection_send(c, "x", 1, 0), COVEY_ECORRUPT, "101 bytes");
    check_int(covey_connection_poll(c, 0), ==, 1);
    check_int(covey_connection_close(c), ==, 0);
    raw_close(&raw);
    check_int(covey_listener_close(l), ==, 0);
}

TEST(memory_comes_with_the_message_only)
{
    covey_listener *l = listen_at(ANY, .message_max = (size_t)1 << 40);
    struct raw raw = {0};
    covey_connection *c = raw_open(&raw, l);
    long before = test_status_of(getpid(), "VmSize");
    void *bytes = NULL;
    size_t size = 0;

    raw_write(&raw, "\0\0\0\100\0\0\0\0x", 9); /* 256 GiB are announced */
    check_fails(covey_connection_receive_alloc(c, &bytes, &size, 0.1), COVEY_ETIMEDOUT, "no whole");
    check_int(test_status_of(getpid(), "VmSize") - before, <, 1024);
    check_int(covey_connection_close(c), ==, 0);
    raw_close(&raw);
    check_int(covey_listener_close(l), ==, 0);
}

TEST(garbage_after_the_handshake_is_corrupt)
{
    covey_listener *l = listen_at(ANY);
    struct raw raw = {0};
    covey_connection *c = raw_open(&raw, l);
    unsigned char *bytes = make_bytes(300, 5);

    bytes[0] = 23; /* data of TLS, so far */
    bytes[1] = bytes[2] = 3;
    bytes[3] = 0;
    bytes[4] = 100;
    raw_send(&raw, bytes, 300);
    check_fails(covey_connection_receive(c, bytes, 1, NULL, SOON_S), COVEY_ECORRUPT, "encrypted");
    check_fails(covey_connection_send(c, "x", 1, 0), COVEY_ECORRUPT, "encrypted");
    check_int(covey_connection_close(c), ==, 0);
    raw_close(&raw);
    free(bytes);
    check_int(covey_listener_close(l), ==, 0);
}

/* Each byte of a record: no message comes of it, and the connection is over at the latest with its end. */
TEST(a_changed_byte_is_no_message)
{
    covey_listener *l = listen_at(ANY);
    size_t size = 1;

    for (size_t at = 0; at < size; at++) {
        struct raw raw = {0};
        covey_connection *c = raw_open(&raw, l);
        unsigned char record[100];
        char byte;
        int r;

        size = raw_seal(&raw, "\0\0\0\0\0\0\0\1x", 9, record);
        record[at] ^= 0x10;
        raw_send(&raw, record, size);
        raw_close(&raw);
        r = covey_connection_receive(c, &byte, 1, NULL, SOON_S);
        check(r == COVEY_ECORRUPT || (r == COVEY_EDIED && (at == 3 || at == 4)));
        check_int(covey_connection_receive(c, &byte, 1, NULL, SOON_S), ==, r);
        check_int(covey_connection_close(c), ==, 0);
    }
    check_int(size, >, 20);
    check_int(covey_listener_close(l), ==, 0);
}

TEST(records_repeated_left_out_or_exchanged_are_corrupt)
{
    static const int orders[][3] = {{0, 0, -1}, {1, -1, -1}, {0, 2, -1}, {1, 0, -1}};
    covey_listener *l = listen_at(ANY);

    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        unsigned char records[3][100];
        struct raw raw = {0};
        covey_connection *c = raw_open(&raw, l);
        size_t size = 0;
        char byte;
        int r = 0;

        for (int n = 0; n < 3; n++)
            size = raw_seal(&raw, "\0\0\0\0\0\0\0\1x", 9, records[n]);
        for (int n = 0; orders[i][n] >= 0; n++)
            raw_send(&raw, records[orders[i][n]], size);
        for (int n = 0; n < 2 && r == 0; n++)
            r = covey_connection_receive(c, &byte, 1, NULL, SOON_S);
        check_int(r, ==, COVEY_ECORRUPT);
        check_int(covey_connection_close(c), ==, 0);
        raw_close(&raw);
    }
    check_int(covey_listener_close(l), ==, 0);
}

TEST(sizes_above_the_limit_are_corrupt)
{
    covey_listener *l = listen_at(ANY, .message_max = 100);

    for (int bit = 7; bit < 64; bit++) {
        unsigned char head[CV_WIRE_HEAD_BYTES];
        struct raw raw = {0};
        covey_connection *c = raw_open(&raw, l);
        void *bytes;
        size_t size;

        cv_wire_write_head(head, UINT64_C(1) << bit);
        raw_write(&raw, head, sizeof head);
        check_fails(
            covey_connection_receive_alloc(c, &bytes, &size, SOON_S), COVEY_ECORRUPT, "up to 100");
        check_int(covey_connection_close(c), ==, 0);
        raw_close(&raw);
    }
    check_int(covey_listener_close(l), ==, 0);
}

#ifdef TEST_TLS

struct begin_of_tls { /* msg/tls.c */
    const struct cv_openssl *ssl;
    SSL *state;
};

/* A message of no bytes, and before that the wish for a new key. */
static size_t raw_ask(struct raw *raw, unsigned char *record)
{
    struct begin_of_tls *tls = (struct begin_of_tls *)(void *)raw->tls;

    check_int(tls->ssl->SSL_key_update(tls->state, SSL_KEY_UPDATE_REQUESTED), ==, 1);
    return raw_seal(raw, "\0\0\0\0\0\0\0\0", 8, record);
}

/* A new key, and no data. */
static size_t raw_renew(struct raw *raw, int asked, unsigned char *record)
{
    struct begin_of_tls *tls = (struct begin_of_tls *)(void *)raw->tls;
    const void *output;
    size_t n;

    check_int(tls->ssl->SSL_key_update(tls->state, asked), ==, 1);
    check_int(tls->ssl->SSL_do_handshake(tls->state), ==, 1);
    n = cv_tls_output(raw->tls, &output);
    memcpy(record, output, n);
    cv_tls_sent(raw->tls, n);
    return n;
}

/* A thread that sends, faster than it is read. */
struct flood {
    struct raw *raw;
    unsigned char *bytes;
    size_t size;
    pthread_t thread;
};

static void *flood_run(void *context)
{
    struct flood *f = context;
    size_t sent = 0;
    ssize_t n = 1;

    for (; n > 0 && sent < f->size; sent += (size_t)n)
        n = send(f->raw->fd, f->bytes + sent, f->size - sent, MSG_NOSIGNAL);
    return NULL;
}

/* So many new keys; behind each @every of them a byte of data, if that is not 0. */
static void flood_start(struct flood *f, struct raw *raw, int times, int asked, int every)
{
    f->raw = raw;
    f->bytes = malloc((size_t)times * 64);
    check(f->bytes != NULL);
    for (int i = 1; i <= times; i++) {
        f->size += raw_renew(raw, asked, f->bytes + f->size);
        if (every && i % every == 0)
            f->size += raw_seal(raw, "x", 1, f->bytes + f->size);
    }
    check_int(pthread_create(&f->thread, NULL, flood_run, f), ==, 0);
}

static void flood_join(struct flood *f)
{
    (void)shutdown(f->raw->fd, SHUT_RDWR);
    check_int(pthread_join(f->thread, NULL), ==, 0);
    free(f->bytes);
}

enum {
    KEYS_OF_A_SECOND = 60000 /* it takes about that long to read them */
};

static void check_flood_gains_no_time(int every)
{
    char address[64];
    covey_listener *l = listen_at(abstract_address(address));
    struct flood flood = {0};
    struct raw raw = {0};
    covey_connection *c = raw_open(&raw, l);
    char byte;

    raw_write(&raw, "\0\0\0\0\0\1\0\0", 8); /* it will not be whole */
    flood_start(&flood, &raw, KEYS_OF_A_SECOND, SSL_KEY_UPDATE_NOT_REQUESTED, every);
    check_int(covey_connection_receive(c, &byte, 1, NULL, 0.1), ==, COVEY_ETIMEDOUT);
    check_int(covey_connection_poll(c, 0), ==, 0);
    check_int(c->came, <, flood.size);
    flood_join(&flood);
    check_int(covey_connection_close(c), ==, 0);
    raw_close(&raw);
    check_int(covey_listener_close(l), ==, 0);
}

/* TLS allows any number of them, also without a byte of data in between. */
TEST(new_keys_without_end_gain_no_time, .deadline_s = 60, .not_in_valgrind = "it takes too long")
{
    check_flood_gains_no_time(0);
    check_flood_gains_no_time(300);
}

/* So many would be read until the hello comes. */
TEST(
    new_keys_before_the_hello_are_limited, .deadline_s = 60, .not_in_valgrind = "it takes too long")
{
    char address[64];
    struct refusals refusals = {0};
    covey_listener *l = listen_at(abstract_address(address), .refused = note_refusal,
        .context = &refusals, .handshake_timeout_s = SOON_S);
    struct pair p = {.listener = l};
    struct flood flood = {0};
    struct raw raw = {0};

    raw_connect(&raw, l);
    raw_handshake(&raw, l);
    flood_start(&flood, &raw, KEYS_OF_A_SECOND, SSL_KEY_UPDATE_NOT_REQUESTED, 0);
    check_refused(l, &refusals, COVEY_EAUTH, "more than 131072 bytes");
    pair_connect(&p, 0); /* others are let in */
    flood_join(&flood);
    raw_close(&raw);
    pair_close(&p);
}

/* They are looked at also while there is more to read. */
TEST(answers_to_a_flood_are_limited, .deadline_s = 60, .not_in_valgrind = "it takes too long")
{
    char address[64];
    covey_listener *l = listen_at(abstract_address(address));
    struct flood flood = {0};
    struct raw raw = {0};
    covey_connection *c = raw_open(&raw, l);
    char byte;

    flood_start(&flood, &raw, KEYS_OF_A_SECOND, SSL_KEY_UPDATE_REQUESTED, 0);
    check_fails(covey_connection_receive(c, &byte, 1, NULL, 10), COVEY_ECORRUPT, "does not take");
    check_int(c->came, <, KEYS_OF_A_SECOND * 27);
    flood_join(&flood);
    check_int(covey_connection_close(c), ==, 0);
    raw_close(&raw);
    check_int(covey_listener_close(l), ==, 0);
}

/* One that asks for a new key again and again, and takes none of the answers. */
TEST(
    answers_that_nobody_takes_are_limited, .deadline_s = 60, .not_in_valgrind = "it takes too long")
{
    char address[64];
    covey_listener *l = listen_at(abstract_address(address));
    static unsigned char asking[32768];
    struct raw raw = {0};
    covey_connection *c = raw_open(&raw, l);
    char bytes[8];
    int r = COVEY_ETIMEDOUT;

    for (int i = 0; i < 2000 && r == COVEY_ETIMEDOUT; i++) {
        size_t n = 0;

        while (n + 100 < sizeof asking)
            n += raw_ask(&raw, asking + n);
        raw_send(&raw, asking, n);
        while ((r = covey_connection_receive(c, bytes, sizeof bytes, NULL, 0)) == 0) {
        }
    }
    check_fails(r, COVEY_ECORRUPT, "does not take");
    check_int(covey_connection_close(c), ==, 0);
    raw_close(&raw);
    check_int(covey_listener_close(l), ==, 0);
}

/* The other side asks for new keys, and the answers cannot be sent any more. */
TEST(receiving_goes_on_after_a_broken_message, .not_in_valgrind = "it takes too long")
{
    char address[64];
    covey_listener *l = listen_at(abstract_address(address));
    static unsigned char asking[32768];
    struct raw raw = {0};
    covey_connection *c = raw_open(&raw, l);
    unsigned char *bytes = make_bytes(MIB, 1);

    check_int(covey_connection_send(c, bytes, MIB, 0.01), ==, COVEY_EBROKEN);
    for (int i = 0; i < 40; i++) {
        size_t n = 0;
        int r;

        while (n + 100 < sizeof asking)
            n += raw_ask(&raw, asking + n);
        raw_send(&raw, asking, n);
        while ((r = covey_connection_receive(c, bytes, 8, NULL, 0)) == 0) {
        }
        check_int(r, ==, COVEY_ETIMEDOUT);
    }
    check_int(covey_connection_close(c), ==, 0);
    raw_close(&raw);
    check_int(covey_listener_close(l), ==, 0);
    free(bytes);
}

#endif

/* The end in all the places where it is not in order. */
TEST(an_end_without_a_word_is_a_death)
{
    static const struct {
        const char *bytes;
        size_t size;
        bool ends; /* by TLS */
        int code;
    } cases[] = {{"", 0, false, COVEY_EDIED}, {"\0\0\0", 3, false, COVEY_EDIED},
        {"\0\0\0\0\0\0\0\11half", 12, false, COVEY_EDIED}, {"\0\0\0", 3, true, COVEY_EDIED},
        {"\0\0\0\0\0\0\0\11half", 12, true, COVEY_EDIED}, {"", 0, true, COVEY_ECLOSED}};
    covey_listener *l = listen_at(ANY);
    char bytes[16];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct raw raw = {0};
        covey_connection *c = raw_open(&raw, l);

        if (cases[i].size)
            raw_write(&raw, cases[i].bytes, cases[i].size);
        if (cases[i].ends)
            check_int(cv_tls_end(raw.tls), ==, 0);
        raw_flush(&raw);
        if (cases[i].ends)
            check_int(covey_connection_receive(c, bytes, 16, NULL, SOON_S), ==, cases[i].code);
        raw_close(&raw);
        check_int(covey_connection_receive(c, bytes, 16, NULL, SOON_S), ==, cases[i].code);
        check_int(covey_connection_receive(c, bytes, 16, NULL, SOON_S), ==, cases[i].code);
        check_int(covey_connection_close(c), ==, 0);
    }
    check_int(covey_listener_close(l), ==, 0);
}

static void send_without_end(void *context)
{
    static char bytes[8 * MIB];
    covey_connection *c = NULL;

    check_int(
        covey_connection_open(&c, .address = context, .key = key, .key_size = sizeof key), ==, 0);
    check_int(covey_connection_send(c, "begun", 6, COVEY_FOREVER), ==, 0);
    (void)covey_connection_send(c, bytes, sizeof bytes, COVEY_FOREVER);
}

TEST(a_peer_killed_in_a_message_is_told)
{
    covey_listener *l = listen_at(ANY);
    char address[64];
    covey_connection *c = NULL;
    void *bytes = NULL;
    size_t size = 0;
    pid_t pid;

    (void)snprintf(address, sizeof address, "%s", covey_listener_address(l));
    pid = child_fork(send_without_end, address);
    check_int(covey_listener_accept(l, &c, SOON_S), ==, 0);
    check_int(covey_connection_receive_alloc(c, &bytes, &size, SOON_S), ==, 0);
    free(bytes);
    child_await_sleep(pid);
    child_kill(pid);
    check_fails(covey_connection_receive_alloc(c, &bytes, &size, SOON_S), COVEY_EDIED, "gone");
    check_int(covey_connection_close(c), ==, 0);
    check_int(covey_listener_close(l), ==, 0);
}

/* The kernel would take one that does not read for so long for gone, and 90 s are too long for a test. */
TEST(who_does_not_receive_is_not_dead)
{
    struct pair p = pair_open(ANY);
    int fds[] = {covey_connection_fd(p.client), covey_connection_fd(p.server)};

    for (int i = 0; i < 2; i++) {
        int ms = -1;

        check_int(
            getsockopt(fds[i], IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &(socklen_t){sizeof ms}), ==, 0);
        check_int(ms, ==, 0);
    }
    pair_close(&p);
}

static void *close_one(void *context)
{
    check_int(covey_connection_close(context), ==, 0);
    return NULL;
}

/* The other side is just sending much, and takes what it was sent only then. */
TEST(closing_loses_nothing_that_was_sent, .not_in_valgrind = "it takes longer than one waits")
{
    enum {
        MOST = 200,
        BYTES = 100000
    };
    char address[64];
    const char *const addresses[] = {ANY, abstract_address(address)};

    for (int i = 0; i < 2; i++) {
        struct pair p = pair_open(addresses[i]);
        unsigned char *bytes = make_bytes(16 * MIB, 1);
        struct sender s = {
            .c = p.client, .bytes = bytes, .size = 16 * MIB, .timeout_s = COVEY_FOREVER};
        pthread_t thread;
        void *came;
        size_t size;
        int sent = 0;
        int r;

        sender_start(&s);
        test_sleep_ms(50);
        while (sent < MOST && covey_connection_send(p.server, bytes, BYTES, 0.05) == 0)
            sent++;
        check_int(pthread_create(&thread, NULL, close_one, p.server), ==, 0);
        test_sleep_ms(50);
        while ((r = covey_connection_receive_alloc(p.client, &came, &size, SOON_S)) == 0) {
            check_int(size, ==, BYTES);
            free(came);
            sent--;
        }
        check_int(pthread_join(thread, NULL), ==, 0);
        (void)sender_join(&s);
        check_int(sent, ==, 0);
        p.server = NULL;
        pair_close(&p);
        free(bytes);
    }
}

/* Which one of many it was. */
TEST(failures_name_the_peer)
{
    struct pair p = pair_open("tcp:*:0");
    covey_connection *c = NULL;
    char peer[64];
    char byte;

    (void)snprintf(peer, sizeof peer, "%s: ", covey_connection_peer(p.client));
    check_has(peer, strrchr(covey_listener_address(p.listener), ':'));
    check_fails(covey_connection_receive(p.client, &byte, 1, NULL, 0), COVEY_ETIMEDOUT, peer);
    check_fails(covey_connection_send(p.client, "", SIZE_MAX, 0), COVEY_ETOOBIG, peer);
    check_fails(covey_listener_accept(p.listener, &c, 0), COVEY_ETIMEDOUT,
        covey_listener_address(p.listener));
    check_int(covey_connection_close(p.server), ==, 0);
    p.server = NULL;
    check_fails(covey_connection_receive(p.client, &byte, 1, NULL, SOON_S), COVEY_ECLOSED, peer);
    check_fails(covey_connection_send(p.client, "x", 1, SOON_S), COVEY_EDIED, peer);
    pair_close(&p);
}

TEST(sending_to_nobody_is_a_death)
{
    struct pair p = pair_open(ANY);
    int r = 0;

    check_int(covey_connection_close(p.server), ==, 0);
    p.server = NULL;
    for (int i = 0; i < 1000 && r == 0; i++) {
        r = covey_connection_send(p.client, "x", 1, 1);
        test_sleep_ms(1);
    }
    check_int(r, ==, COVEY_EDIED);
    check_fails(covey_connection_send(p.client, "x", 1, 1), COVEY_EDIED, "gone");
    pair_close(&p);
}

/* The system would still take it. */
TEST(what_nobody_can_receive_is_not_sent)
{
    char address[64];
    const char *const addresses[] = {ANY, abstract_address(address)};

    for (int i = 0; i < 2; i++) {
        struct pair p = pair_open(addresses[i]);
        struct raw raw = {0};
        covey_connection *c = raw_open(&raw, p.listener);
        char byte;

        check_int(covey_connection_close(p.server), ==, 0);
        p.server = NULL;
        check_int(covey_connection_receive(p.client, &byte, 1, NULL, SOON_S), ==, COVEY_ECLOSED);
        check_fails(covey_connection_send(p.client, "x", 1, 0), COVEY_EDIED, "has closed");
        check_fails(covey_connection_send(p.client, "x", 1, SOON_S), COVEY_EDIED, "has closed");
        check_int(shutdown(raw.fd, SHUT_WR), ==, 0);
        check_int(covey_connection_poll(c, SOON_S), ==, 1);
        check_fails(covey_connection_send(c, "x", 1, 0), COVEY_EDIED, "gone");
        check_int(covey_connection_close(c), ==, 0);
        raw_close(&raw);
        pair_close(&p);
    }
}

/* Time ************************************************************************************** */

TEST(waits_are_as_long_as_asked_for)
{
    struct pair p = pair_open(ANY);
    covey_connection *c = NULL;
    double start_s = test_now_s();
    char byte;

    check_fails(covey_connection_receive(p.server, &byte, 1, NULL, 0.1), COVEY_ETIMEDOUT, "0.1 s");
    check(test_now_s() - start_s >= 0.1);
    start_s = test_now_s();
    check_fails(covey_listener_accept(p.listener, &c, 0.1), COVEY_ETIMEDOUT, "no connection");
    check(test_now_s() - start_s >= 0.1);
    check_int(covey_listener_accept(p.listener, &c, -1), ==, COVEY_ETIMEDOUT);
    check_int(covey_connection_poll(p.server, -1), ==, 0);
    pair_close(&p);
}

/* In steps, so that it is never in the middle of one. */
TEST(a_message_that_was_not_begun_can_be_sent_later)
{
    struct pair p = pair_open(ANY);
    char bytes[1000] = "";
    int sent = 0;
    int r;

    while ((r = covey_connection_send(p.client, bytes, sizeof bytes, 0)) == 0)
        sent++;
    check_fails(r, COVEY_ETIMEDOUT, "no room");
    check_int(sent, >, 10);
    for (int i = 0; i < sent; i++)
        check_int(covey_connection_receive(p.server, bytes, sizeof bytes, NULL, SOON_S), ==, 0);
    check_int(covey_connection_send(p.client, bytes, sizeof bytes, SOON_S), ==, 0);
    check_int(covey_connection_receive(p.server, bytes, sizeof bytes, NULL, SOON_S), ==, 0);
    pair_close(&p);
}

TEST(a_message_out_of_time_breaks_the_connection)
{
    struct pair p = pair_open(ANY);
    unsigned char *bytes = make_bytes(30 * MIB, 1);
    void *came = NULL;
    size_t size = 0;

    check_fails(
        covey_connection_send(p.client, bytes, 30 * MIB, 0.1), COVEY_EBROKEN, "out of time");
    check_has(covey_error(), "close this connection, and connect anew");
    check_fails(covey_connection_send(p.client, "x", 1, SOON_S), COVEY_EBROKEN, "out of time");
    check_int(covey_connection_send(p.server, "y", 1, SOON_S), ==, 0);
    check_int(covey_connection_receive(p.client, bytes, 1, NULL, SOON_S), ==, 0);
    check_int(covey_connection_close(p.client), ==, 0);
    p.client = NULL;
    check_int(covey_connection_receive_alloc(p.server, &came, &size, SOON_S), ==, COVEY_EDIED);
    free(bytes);
    pair_close(&p);
}

static void ignore_signal(int number)
{
    (void)number;
}

/* So that little is under way, and that always the same. */
static void keep_little(const struct pair *p)
{
    int fds[] = {covey_connection_fd(p->client), covey_connection_fd(p->server)};

    for (int i = 0; i < 2; i++) {
        check_int(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &(int){65536}, sizeof(int)), ==, 0);
        check_int(setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &(int){65536}, sizeof(int)), ==, 0);
    }
}

/* Who waits for the message is told, and not only when the sender closes; what it says still comes. */
TEST(a_broken_message_is_told_at_once)
{
    char address[64];
    const char *const addresses[] = {ANY, abstract_address(address)};
    unsigned char *bytes = make_bytes(30 * MIB, 1);

    for (int i = 0; i < 2; i++) {
        struct pair p = pair_open(addresses[i]);
        void *came = NULL;
        size_t size = 0;

        check_int(covey_connection_send(p.server, "before", 6, SOON_S), ==, 0);
        check_int(covey_connection_send(p.client, bytes, 30 * MIB, 0.05), ==, COVEY_EBROKEN);
        check_int(covey_connection_send(p.server, "after", 5, SOON_S), ==, 0);
        check_fails(covey_connection_receive_alloc(p.server, &came, &size, SOON_S), COVEY_EDIED,
            "in the middle of a message");
        check_int(covey_connection_receive(p.client, bytes, 6, NULL, SOON_S), ==, 0);
        check_int(covey_connection_receive(p.client, bytes, 5, NULL, SOON_S), ==, 0);
        check_fails(covey_connection_send(p.client, "x", 1, 0), COVEY_EBROKEN, "in its middle");
        pair_close(&p);
    }
    free(bytes);
}

/* What was told of a message, that is what comes. The sender receives meanwhile, which sends what TLS still
 * has to send. */
static void check_told(const struct pair *p, int told, size_t size)
{
    int r = COVEY_ETIMEDOUT;
    void *came = NULL;
    size_t n = 0;

    check(told == 0 || told == COVEY_EBROKEN);
    for (double end_s = test_now_s() + SOON_S; r == COVEY_ETIMEDOUT && test_now_s() < end_s;) {
        r = covey_connection_receive_alloc(p->server, &came, &n, 0.001);
        check_int(covey_connection_poll(p->client, 0), ==, 0);
    }
    check_int(r, ==, told == 0 ? 0 : COVEY_EDIED);
    check_int(n, ==, told == 0 ? size : 0);
    free(came);
}

static int send_hastily(struct pair *p, const unsigned char *bytes, size_t size)
{
    return covey_connection_send(p->client, bytes, size, 0.005);
}

/* The other side takes what has come, and the sender's process sends what is left of the last record. */
static int go_on_and_give_up(void *context)
{
    struct pair *p = context;
    char byte;

    check_int(covey_connection_receive(p->server, &byte, 1, NULL, 0), <, 0);
    check_int(covey_connection_poll(p->client, 0), ==, 0);
    return 1;
}

static int send_interrupted(struct pair *p, const unsigned char *bytes, size_t size)
{
    struct sigaction action = {.sa_handler = ignore_signal};
    int r;

    check_int(sigaction(SIGALRM, &action, NULL), ==, 0);
    covey_on_interrupt(go_on_and_give_up, p);
    (void)ualarm(5000, 5000);
    r = covey_connection_send(p->client, bytes, size, COVEY_FOREVER);
    (void)ualarm(0, 0);
    covey_on_interrupt(NULL, NULL);
    return r;
}

/* Of sizes about that which the system takes, so that often only the last record has no room. */
static void send_too_much(int (*send)(struct pair *, const unsigned char *, size_t))
{
    char address[64];
    const char *const addresses[] = {ANY, abstract_address(address)};
    unsigned char *bytes = make_bytes(MIB, 1);

    for (int i = 0; i < 2; i++) {
        size_t size = 16384;

        for (int broken = 0; broken < 10; size += 4096) {
            struct pair p = pair_open(addresses[i]);
            int r;

            keep_little(&p);
            r = send(&p, bytes, size);
            check_told(&p, r, size);
            broken += r != 0;
            pair_close(&p);
        }
        check(size > 20 * 4096 && size < MIB);
    }
    free(bytes);
}

TEST(a_broken_message_never_comes, .deadline_s = 60)
{
    send_too_much(send_hastily);
}

TEST(a_message_that_comes_is_not_broken, .deadline_s = 60)
{
    send_too_much(send_interrupted);
}

TEST(connecting_has_its_time)
{
    covey_listener *l = listen_at(ANY); /* and does not accept */
    covey_connection *c = NULL;
    double start_s = test_now_s();

    check_fails(covey_connection_open(&c, .address = covey_listener_address(l), .key = key,
                    .key_size = sizeof key, .timeout_s = 0.1),
        COVEY_ETIMEDOUT, "has not answered within 0.1 s");
    check(test_now_s() - start_s >= 0.1);
    check_int(covey_listener_close(l), ==, 0);
}

#ifdef __GLIBC__

/* In the place of the C library's: a name with two addresses, and nobody answers at the first. */
int getaddrinfo(const char *restrict name, const char *restrict port,
    const struct addrinfo *restrict hints, struct addrinfo **restrict found)
{
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    void *address = dlsym(RTLD_NEXT, "getaddrinfo");
    struct addrinfo *last;
    int r;

    memcpy(&next, &address, sizeof address);
    if (!name || strcmp(name, "two.test") != 0)
        return next(name, port, hints, found);
    r = next("127.0.0.2", port, hints, found);
    for (last = *found; r == 0 && last->ai_next;)
        last = last->ai_next;
    return r == 0 ? next("127.0.0.1", port, hints, &last->ai_next) : r;
}

TEST(an_address_that_does_not_answer_leaves_time_for_the_next)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK + 1)}};
    struct pair p = {.listener = listen_at(ANY)};
    const char *port = strrchr(covey_listener_address(p.listener), ':') + 1;
    struct client client = {.timeout_s = 2};
    char address[64];
    int deaf = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int full;

    a.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
    check_int(bind(deaf, (struct sockaddr *)(void *)&a, sizeof a), ==, 0);
    check_int(listen(deaf, 0), ==, 0);
    (void)snprintf(address, sizeof address, "tcp:127.0.0.2:%s", port);
    full = connect_socket(address);
    (void)snprintf(address, sizeof address, "tcp:two.test:%s", port);
    client_start(&client, address);
    check_int(covey_listener_accept(p.listener, &p.server, SOON_S), ==, 0);
    client_join(&client);
    check_int(client.r, ==, 0);
    p.client = client.c;
    pass(p.client, p.server, 100);
    pair_close(&p);
    (void)close(full);
    (void)close(deaf);
}

#endif

/* A Unix socket whose backlog is full: the kernel does not say when that is over. */
TEST(connecting_to_a_full_backlog_has_its_time)
{
    char address[64];
    covey_listener *l = listen_at(path_address(address), .backlog = 1);
    covey_connection *c = NULL;

    for (int i = 0; i < 4; i++)
        check_fails(covey_connection_open(&c, .address = address, .key = key,
                        .key_size = sizeof key, .timeout_s = 0.1),
            COVEY_ETIMEDOUT, "has not answered within 0.1 s");
    check_int(covey_listener_close(l), ==, 0);
}

static int give_up(void *context)
{
    ++*(int *)context;
    return 1;
}

TEST(a_signal_may_end_a_wait)
{
    struct sigaction action = {.sa_handler = ignore_signal};
    struct pair p = pair_open(ANY);
    covey_connection *c = NULL;
    int calls = 0;
    char byte;

    check_int(sigaction(SIGALRM, &action, NULL), ==, 0);
    covey_on_interrupt(give_up, &calls);
    (void)ualarm(20000, 0);
    check_int(covey_connection_receive(p.server, &byte, 1, NULL, COVEY_FOREVER), ==, COVEY_EINTR);
    (void)ualarm(20000, 0);
    check_int(covey_listener_accept(p.listener, &c, COVEY_FOREVER), ==, COVEY_EINTR);
    check_int(calls, ==, 2);
    covey_on_interrupt(NULL, NULL);
    (void)ualarm(20000, 0);
    check_int(covey_connection_receive(p.server, &byte, 1, NULL, 0.1), ==, COVEY_ETIMEDOUT);
    pair_close(&p);
}

/* Descriptors that come along *************************************************************** */

enum {
    LINGERS_S = 4
};

/* A descriptor that a peer sends along: who closes it last waits for LINGERS_S. */
struct burden {
    int fd;
    int other; /* reads nothing */
};

static int send_along(int to, const char *byte, int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof fd)];
    } control = {.bytes = {0}};
    struct iovec data = {(void *)(uintptr_t)byte, 1};
    struct msghdr message = {.msg_iov = &data,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control.bytes};

    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    return sendmsg(to, &message, MSG_NOSIGNAL) == 1 ? 0 : errno;
}

static struct burden make_burden(void)
{
    static const char bytes[65536];
    struct linger linger = {1, LINGERS_S};
    struct burden b;
    char address[64];
    int listening = listen_plainly(address);

    b.fd = connect_socket(address);
    b.other = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    check_int(b.other, >=, 0);
    check_int(close(listening), ==, 0);
    for (int i = 0; i < 10; i++) {
        while (send(b.fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
            continue;
        test_sleep_ms(10);
    }
    check_int(setsockopt(b.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), ==, 0);
    return b;
}

/* The same, inside of another socket. */
static struct burden make_wrapped_burden(void)
{
    struct burden b = make_burden();
    int pair[2];

    check_int(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    check_int(send_along(pair[0], "x", b.fd), ==, 0);
    check_int(close(pair[0]), ==, 0);
    check_int(close(b.fd), ==, 0);
    b.fd = pair[1];
    return b;
}

/* From here on there is no other copy. Newer kernels do not let it through, and then the byte comes alone. */
static void burden_send(struct burden *b, int to)
{
    int error = send_along(to, "x", b->fd);

    if (error == EPERM) {
        check_int(send(to, "x", 1, MSG_NOSIGNAL), ==, 1);
        return;
    }
    check_int(error, ==, 0);
    check_int(close(b->fd), ==, 0);
    b->fd = -1;
}

static void burden_end(struct burden *b)
{
    (void)close(b->other); /* after that nothing lingers */
    if (b->fd >= 0)
        (void)close(b->fd);
}

/* Another thread that forks all the time. */
struct forker {
    pthread_t thread;
    double worst_s;
    double begin_s;
    int over;
};

static void *forker_run(void *context)
{
    struct forker *f = context;

    while (!word_get(&f->over)) {
        double begin_s = test_now_s();
        pid_t pid = fork();

        if (pid == 0)
            _exit(0);
        if (test_now_s() - begin_s > f->worst_s)
            f->worst_s = test_now_s() - begin_s;
        test_reap(pid, 0);
        test_sleep_ms(5);
    }
    return NULL;
}

/* No signal may end early what takes long, not even one of those that are ignored in the end. */
static void forker_start(struct forker *f)
{
    sigset_t all;

    (void)sigfillset(&all);
    check_int(pthread_create(&f->thread, NULL, forker_run, f), ==, 0);
    check_int(pthread_sigmask(SIG_SETMASK, &all, NULL), ==, 0);
    f->begin_s = test_now_s();
}

/* Nobody was held up. */
static void forker_end(struct forker *f)
{
    double took_s = test_now_s() - f->begin_s;

    word_set(&f->over, 1);
    check_int(pthread_join(f->thread, NULL), ==, 0);
    check(took_s < LINGERS_S / 2.);
    check(f->worst_s < LINGERS_S / 2.);
}

/* Along with a first byte, behind what is refused, and to a listener that lets nobody in any more. */
static void check_burdens_of_strangers(struct burden (*make)(void))
{
    enum {
        N = 3
    };
    char address[64];
    struct refusals refusals = {0};
    covey_listener *l =
        listen_at(abstract_address(address), .refused = note_refusal, .context = &refusals);
    struct burden burdens[N] = {make(), make(), make()};
    covey_connection *c = NULL;
    struct forker forker = {0};
    int fds[N];

    fds[0] = connect_socket(address);
    burden_send(&burdens[0], fds[0]);
    (void)send(fds[0], "xxxxxxxxx", 9, MSG_NOSIGNAL);
    fds[1] = connect_socket(address);
    check_int(send(fds[1], "xxxxxxxxx", 9, MSG_NOSIGNAL), ==, 9);
    burden_send(&burdens[1], fds[1]);
    forker_start(&forker);
    while (refusals.n < 2) {
        check_int(covey_listener_accept(l, &c, 0.05), ==, COVEY_ETIMEDOUT);
        check(refusals.n == 0 || refusals.code == COVEY_EAUTH);
    }
    fds[2] = connect_socket(address);
    burden_send(&burdens[2], fds[2]);
    check_int(covey_listener_close(l), ==, 0);
    forker_end(&forker);
    for (int i = 0; i < N; i++) {
        burden_end(&burdens[i]);
        (void)close(fds[i]);
    }
}

struct squatter {
    struct burden burden;
    int listening;
    int fd;
    pthread_t thread;
};

static void *squatter_run(void *context)
{
    struct squatter *s = context;

    s->fd = accept4(s->listening, NULL, NULL, SOCK_CLOEXEC);
    burden_send(&s->burden, s->fd);
    return NULL;
}

static void check_burden_of_a_server(struct burden burden)
{
    struct squatter squatter = {
        .burden = burden, .listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    covey_connection *c = NULL;
    struct forker forker = {0};
    char address[64];
    size_t size = strlen(abstract_address(address)) + 1 - strlen("unix:@");

    memcpy(a.sun_path + 1, address + strlen("unix:@"), size);
    size += offsetof(struct sockaddr_un, sun_path) + 1;
    check_int(bind(squatter.listening, (struct sockaddr *)(void *)&a, (socklen_t)size - 1), ==, 0);
    check_int(listen(squatter.listening, 1), ==, 0);
    check_int(pthread_create(&squatter.thread, NULL, squatter_run, &squatter), ==, 0);
    forker_start(&forker);
    check(covey_connection_open(
              &c, .address = address, .key = key, .key_size = sizeof key, .timeout_s = 0.3) != 0);
    forker_end(&forker);
    check_int(pthread_join(squatter.thread, NULL), ==, 0);
    burden_end(&squatter.burden);
    (void)close(squatter.fd);
    (void)close(squatter.listening);
}

static void check_burden_of_a_peer(struct burden burden, bool receives)
{
    char address[64];
    covey_listener *l = listen_at(abstract_address(address));
    struct raw raw = {0};
    covey_connection *c = raw_open(&raw, l);
    struct forker forker = {0};
    char byte;

    raw_write(&raw, "\0\0\0\0\0\0\0\1x", 9);
    burden_send(&burden, raw.fd);
    forker_start(&forker);
    if (receives) {
        int r = covey_connection_receive(c, &byte, 1, NULL, 0.1);

        if (r == 0)
            r = covey_connection_receive(c, &byte, 1, NULL, 0.1);
        check(r == (burden.fd < 0 ? COVEY_ECORRUPT : COVEY_ETIMEDOUT));
    }
    check_int(covey_connection_close(c), ==, 0);
    check_int(covey_listener_close(l), ==, 0);
    forker_end(&forker);
    burden_end(&burden);
    raw_close(&raw);
}

static void check_all_burdens(void)
{
    check_burdens_of_strangers(make_burden);
    check_burdens_of_strangers(make_wrapped_burden);
    check_burden_of_a_server(make_burden());
    check_burden_of_a_server(make_wrapped_burden());
    check_burden_of_a_peer(make_burden(), true);
    check_burden_of_a_peer(make_wrapped_burden(), false);
}

TEST(descriptors_that_come_along_hold_up_nobody, .deadline_s = 60,
    .not_in_valgrind = "it measures time")
{
    check_all_burdens();
}

/* Linux before 6.16. */
TEST(descriptors_that_are_not_kept_out_hold_up_nobody, .deadline_s = 60,
    .not_in_valgrind = "it measures time")
{
    test_deny_option(SOL_SOCKET, SO_PASSRIGHTS, ENOPROTOOPT);
    check_all_burdens();
}

static bool has_descriptors(void *context)
{
    return test_open_descriptors() == *(const unsigned *)context;
}

/* In a sandbox, a thread has no table of its own. */
TEST(descriptors_that_are_not_kept_out_of_a_sandbox_hold_up_nobody, .deadline_s = 60,
    .not_in_valgrind = "it measures time")
{
    unsigned descriptors = test_open_descriptors();

    test_deny_option(SOL_SOCKET, SO_PASSRIGHTS, ENOPROTOOPT);
    test_deny(SYS_close_range, ENOSYS);
    check_all_burdens();
    test_wait_for(has_descriptors, &descriptors, 10);
}

/* Crowds ************************************************************************************ */

static void connect_among(covey_listener *l, int times)
{
    for (int i = 0; i < times; i++) {
        struct pair p = {.listener = l};

        pair_connect(&p, 0);
        pass(p.client, p.server, 10);
        check_int(covey_connection_close(p.client), ==, 0);
        check_int(covey_connection_close(p.server), ==, 0);
    }
}

TEST(slow_peers_hold_up_nobody, .deadline_s = 60)
{
    enum {
        CROWD = 300
    };
    static struct raw crowd[CROWD];
    struct refusals refusals = {0};
    covey_listener *l = listen_at(ANY, .half_open_max = 32, .refused = note_refusal,
        .context = &refusals, .backlog = CROWD, .handshake_timeout_s = 30);

    for (int i = 0; i < CROWD; i++) {
        raw_connect(&crowd[i], l);
        raw_send(&crowd[i], "\26", (size_t)i % 2);
        if (i % 60 == 59)
            connect_among(l, 2);
    }
    connect_among(l, 2);
    check_int(refusals.n, >=, CROWD - 32);
    check_int(refusals.code, ==, COVEY_ELIMIT);
    check_has(refusals.why, "others came");
    for (int i = 0; i < CROWD; i++)
        raw_close(&crowd[i]);
    check_int(covey_listener_close(l), ==, 0);
}

/* The time is for all of the handshake: who says a byte now and then gets no more of it. */
TEST(slow_words_gain_no_time)
{
    struct refusals refusals = {0};
    covey_listener *l =
        listen_at(ANY, .refused = note_refusal, .context = &refusals, .handshake_timeout_s = 0.5);
    covey_connection *c = NULL;
    const unsigned char *words;
    struct raw raw = {0};
    const void *bytes;
    double start_s;

    check_int(cv_tls_derive(raw.psk, key, sizeof key), ==, 0);
    check_int(cv_tls_open(&raw.tls, false, raw.psk), ==, 0);
    check_int(cv_tls_handshake(raw.tls), ==, CV_TLS_WANT);
    check_int(cv_tls_output(raw.tls, &bytes), >, 100);
    words = bytes;
    raw_connect(&raw, l);
    start_s = test_now_s();
    for (size_t i = 0; refusals.n == 0; i++) {
        raw_send(&raw, words + i, 1);
        check_int(covey_listener_accept(l, &c, 0.02), ==, COVEY_ETIMEDOUT);
    }
    check_int(refusals.code, ==, COVEY_ETIMEDOUT);
    check(test_now_s() - start_s >= 0.45);
    check(test_now_s() - start_s < 2);
    connect_among(l, 1);
    raw_close(&raw);
    check_int(covey_listener_close(l), ==, 0);
}

static void *say_slowly(void *context)
{
    int *ends = context;

    for (int i = 0; word_get(&ends[1]) == 0; i++) {
        (void)send(ends[0], i == 0 ? "\26" : i < 3 ? "\3" : "\1", 1, MSG_NOSIGNAL);
        test_sleep_ms(20);
    }
    return NULL;
}

/* The same from a server. */
TEST(slow_answers_gain_no_time)
{
    char address[64];
    int fd = listen_plainly(address);
    struct client client = {.timeout_s = 0.4};
    double start_s = test_now_s();
    int ends[2] = {0, 0};
    pthread_t thread;

    pair_close(&(struct pair){.listener = listen_at(ANY)}); /* may skip */
    client_start(&client, address);
    ends[0] = accept(fd, NULL, NULL);
    check_int(pthread_create(&thread, NULL, say_slowly, ends), ==, 0);
    client_join(&client);
    word_set(&ends[1], 1);
    check_int(pthread_join(thread, NULL), ==, 0);
    (void)close(ends[0]);
    (void)close(fd);
    check_int(client.r, ==, COVEY_ETIMEDOUT);
    check(test_now_s() - start_s < 3);
}

/* TLS ignores this, however often it comes. */
TEST(a_handshake_without_end_is_refused)
{
    enum {
        TIMES = 100,
        RECORD_BYTES = 5 + 16384
    };
    static const unsigned char hello_requests[RECORD_BYTES] = {22, 3, 3, 0x40};
    struct client client = {.timeout_s = SOON_S};
    char address[64];
    char bytes[4096];
    int fd = listen_plainly(address);
    int peer;

    pair_close(&(struct pair){.listener = listen_at(ANY)}); /* may skip */
    client_start(&client, address);
    peer = accept(fd, NULL, NULL);
    check_int(recv(peer, bytes, sizeof bytes, 0), >, 0);
    for (int i = 0; i < TIMES; i++) {
        if (send(peer, hello_requests, sizeof hello_requests, MSG_NOSIGNAL) < 0)
            break;
    }
    client_join(&client);
    (void)close(peer);
    (void)close(fd);
    check_int(client.r, ==, COVEY_EAUTH);
    check_has(client.why, "more than 131072 bytes");
}

/* One that has shown its key, and then waits, is not pushed out by those who have not. */
TEST(strangers_do_not_push_out_who_has_the_key)
{
    enum {
        CROWD = 100
    };
    struct refusals refusals = {0};
    covey_listener *l =
        listen_at(ANY, .half_open_max = 8, .refused = note_refusal, .context = &refusals);
    int crowd[CROWD];
    struct raw raw = {0};
    unsigned char hello[CV_WIRE_HELLO_BYTES];
    covey_connection *c = NULL;
    char byte;

    raw_connect(&raw, l);
    raw_handshake(&raw, l);
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = connect_socket(covey_listener_address(l));
        check_int(send(crowd[i], "\26\3\1", 3, MSG_NOSIGNAL), ==, 3);
        check_int(covey_listener_accept(l, &c, 0), ==, COVEY_ETIMEDOUT);
    }
    cv_wire_write_hello(hello, MIB);
    raw_write(&raw, hello, sizeof hello);
    raw_write(&raw, "\0\0\0\0\0\0\0\1x", 9);
    check_int(covey_listener_accept(l, &c, SOON_S), ==, 0);
    check_int(covey_connection_receive(c, &byte, 1, NULL, SOON_S), ==, 0);
    check_int(refusals.n, >=, CROWD - 8);
    for (int i = 0; i < CROWD; i++)
        (void)close(crowd[i]);
    raw_close(&raw);
    check_int(covey_connection_close(c), ==, 0);
    check_int(covey_listener_close(l), ==, 0);
}

/* As many as the hard limit of descriptors allows: half of it on each side. */
enum {
    HALF_OPEN_WANTED = 10000,
    SPARE = 100
};

static int raise_limit(void)
{
    struct rlimit limit;
    rlim_t wanted = HALF_OPEN_WANTED + SPARE;

    check_int(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    if (limit.rlim_cur < wanted)
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    check_int(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    return limit.rlim_cur < wanted ? (int)limit.rlim_cur - SPARE : HALF_OPEN_WANTED;
}

struct horde {
    char address[64];
    int n;
    int *connected; /* shared */
};

static void besiege(void *context)
{
    struct horde *h = context;

    for (int i = 0; i < h->n; i++) {
        int fd = connect_socket(h->address);

        if (i % 3)
            check_int(send(fd, "\26\3\1\1\0\1", i % 3 == 1 ? 1 : 6, MSG_NOSIGNAL), >, 0);
        word_set(h->connected, i + 1);
    }
    (void)pause();
}

static void check_siege(unsigned half_open_max, bool all_stay)
{
    struct refusals refusals = {0};
    struct horde horde = {.n = raise_limit()};
    covey_listener *l = listen_at(ANY, .half_open_max = half_open_max, .backlog = 4096,
        .handshake_timeout_s = 600, .refused = note_refusal, .context = &refusals);
    long before = test_status_of(getpid(), "VmRSS");
    covey_connection *c = NULL;
    pid_t pid;

    horde.connected = covey_calloc(1, sizeof *horde.connected);
    (void)snprintf(horde.address, sizeof horde.address, "%s", covey_listener_address(l));
    pid = child_fork(besiege, &horde);
    while (word_get(horde.connected) < horde.n)
        check_int(covey_listener_accept(l, &c, 0.01), ==, COVEY_ETIMEDOUT);
    connect_among(l, 20);
    if (all_stay)
        check_int(refusals.n, ==, 0);
    else
        check_int(refusals.n, >=, horde.n - (int)half_open_max - 20);
    (void)printf("# %d half open: %ld KiB, %d refused\n", horde.n,
        test_status_of(getpid(), "VmRSS") - before, refusals.n);
    check_int(covey_free(horde.connected), ==, 0);
    check_int(covey_listener_close(l), ==, 0);
    child_kill(pid);
}

TEST(ten_thousand_half_open_keep_nobody_out, .deadline_s = 120,
    .not_in_valgrind = "it has too many descriptors")
{
    check_siege(20000, true);
}

TEST(ten_thousand_at_a_small_listener_keep_nobody_out, .deadline_s = 120,
    .not_in_valgrind = "it has too many descriptors")
{
    check_siege(100, false);
}

TEST(silent_peers_are_dropped_in_time)
{
    struct refusals refusals = {0};
    covey_listener *l =
        listen_at(ANY, .refused = note_refusal, .context = &refusals, .handshake_timeout_s = 0.3);
    covey_connection *c = NULL;
    struct raw silent[5] = {0};
    struct pollfd fd = {covey_listener_fd(l), POLLIN, 0};

    for (int i = 0; i < 5; i++)
        raw_connect(&silent[i], l);
    check_int(poll(&fd, 1, SOON_S * 1000), ==, 1);
    check_int(covey_listener_accept(l, &c, 0), ==, COVEY_ETIMEDOUT);
    check_int(poll(&fd, 1, 0), ==, 0);
    check_int(poll(&fd, 1, SOON_S * 1000), ==, 1); /* the time is over */
    check_int(covey_listener_accept(l, &c, 0.05), ==, COVEY_ETIMEDOUT);
    check_int(refusals.n, ==, 5);
    check_int(refusals.code, ==, COVEY_ETIMEDOUT);
    for (int i = 0; i < 5; i++)
        raw_close(&silent[i]);
    check_int(covey_listener_close(l), ==, 0);
}

static double cpu_s(void)
{
    struct rusage use;

    check_int(getrusage(RUSAGE_SELF, &use), ==, 0);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
}

TEST(without_descriptors_others_wait, .not_in_valgrind = "it has a limit of its own")
{
    covey_listener *l = listen_at(ANY);
    struct rlimit before;
    struct rlimit none;
    struct raw raw = {0};
    covey_connection *c = NULL;
    double start_s;
    double busy_s;

    check_int(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
    raw_connect(&raw, l);
    none = before;
    none.rlim_cur = (rlim_t)raw.fd + 1;
    check_int(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
    check_fails(covey_listener_accept(l, &c, SOON_S), COVEY_ELIMIT, strerror(EMFILE));
    start_s = test_now_s();
    busy_s = cpu_s();
    for (int i = 0; i < 3; i++)
        check_int(covey_listener_accept(l, &c, SOON_S), ==, COVEY_ELIMIT);
    check(test_now_s() - start_s >= 0.25); /* tried now and then only */
    check(cpu_s() - busy_s < 0.1);
    check_int(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
    connect_among(l, 2);
    raw_close(&raw);
    check_int(covey_listener_close(l), ==, 0);
}

#ifdef TEST_TLS

/* Neither the loader nor the resolver says why it fails. */
static void open_without_descriptors(void *context)
{
    static const char *const addresses[] = {"tcp:127.0.0.1:9", "tcp:localhost:9"};
    struct rlimit none;
    covey_connection *c;
    covey_listener *l;

    (void)context;
    check_int(getrlimit(RLIMIT_NOFILE, &none), ==, 0);
    none.rlim_cur = (rlim_t)dup(STDOUT_FILENO);
    check_int(close((int)none.rlim_cur), ==, 0);
    check_int(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
    for (int i = 0; i < 2; i++) {
        check_fails(
            covey_connection_open(&c, .address = addresses[i], .key = key, .key_size = sizeof key),
            COVEY_ELIMIT, strerror(EMFILE));
        check_fails(
            covey_listener_open(&l, .address = addresses[i], .key = key, .key_size = sizeof key),
            COVEY_ELIMIT, strerror(EMFILE));
    }
}

TEST(opening_without_descriptors_is_named, .not_in_valgrind = "it has a limit of its own")
{
    test_reap(child_fork(open_without_descriptors, NULL), 0); /* OpenSSL is not loaded yet, */
    pair_close(&(struct pair){.listener = listen_at(ANY)});   /* may skip */
    test_reap(child_fork(open_without_descriptors, NULL), 0); /* and now it is */
}

#endif

/* Silent ones have taken all descriptors. */
TEST(strangers_give_their_descriptors_to_others, .not_in_valgrind = "it has a limit of its own")
{
    struct refusals refusals = {0};
    covey_listener *l = listen_at(ANY, .refused = note_refusal, .context = &refusals);
    struct rlimit before;
    struct rlimit few;
    covey_connection *c = NULL;
    int silent[20];
    pid_t pid;

    check_int(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
    for (int i = 0; i < 20; i++)
        silent[i] = connect_socket(covey_listener_address(l));
    few = before;
    few.rlim_cur = (rlim_t)silent[19] + 8;
    check_int(setrlimit(RLIMIT_NOFILE, &few), ==, 0);
    check_int(covey_listener_accept(l, &c, 0.05), ==, COVEY_ETIMEDOUT);
    check_int(refusals.n, >=, 12);
    check_int(refusals.code, ==, COVEY_ELIMIT);
    check_has(refusals.why, strerror(EMFILE));
    pid = fork();
    if (pid == 0) {
        check_int(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
        check_int(covey_connection_open(
                      &c, .address = covey_listener_address(l), .key = key, .key_size = sizeof key),
            ==, 0);
        _exit(covey_connection_close(c));
    }
    check_int(covey_listener_accept(l, &c, SOON_S), ==, 0);
    test_reap(pid, 0);
    check_int(covey_connection_close(c), ==, 0);
    check_int(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
    for (int i = 0; i < 20; i++)
        (void)close(silent[i]);
    check_int(covey_listener_close(l), ==, 0);
}

/* Waiting for several things **************************************************************** */

static int wait_for(struct covey_waited thing, double timeout_s)
{
    int r = covey_wait(&thing, 1, timeout_s);

    check_int(thing.ready, ==, r == 1);
    return r;
}

#define wait_for(thing, timeout_s) wait_for((struct covey_waited)COVEY_WAITED(thing), timeout_s)

TEST(a_connection_is_waited_for)
{
    struct pair p = pair_open(ANY);
    struct pollfd fd = {covey_connection_fd(p.server), POLLIN, 0};
    char byte;

    check_fails(wait_for(p.server, 0.02), COVEY_ETIMEDOUT, "none of 1 things");
    check_int(wait_for(p.server, -1), ==, COVEY_ETIMEDOUT);
    for (int i = 0; i < 3; i++)
        check_int(covey_connection_send(p.client, "x", 1, 1), ==, 0);
    test_sleep_ms(20);
    for (int i = 0; i < 3; i++) { /* the others are in TLS by now */
        check_int(wait_for(p.server, i ? 0 : SOON_S), ==, 1);
        check_int(poll(&fd, 1, 0), ==, 0);
        check_int(covey_connection_receive(p.server, &byte, 1, NULL, 0), ==, 0);
    }
    check_int(wait_for(p.server, 0), ==, COVEY_ETIMEDOUT);
    check_int(covey_connection_send(p.client, "", 0, 1), ==, 0);
    check_int(wait_for(p.server, SOON_S), ==, 1); /* a message of no bytes */
    check_int(covey_connection_receive(p.server, &byte, 1, NULL, 0), ==, 0);
    check_int(covey_connection_close(p.client), ==, 0);
    p.client = NULL;
    for (int i = 0; i < 2; i++) {
        check_int(wait_for(p.server, SOON_S), ==, 1);
        check_int(covey_connection_receive(p.server, &byte, 1, NULL, 0), ==, COVEY_ECLOSED);
    }
    pair_close(&p);
}

TEST(half_a_message_is_nothing_to_receive)
{
    covey_listener *l = listen_at(ANY);
    struct raw raw = {0};
    covey_connection *c = raw_open(&raw, l);
    double busy_s;
    char bytes[4];

    raw_write(&raw, "\0\0\0\0\0\0\0\4ab", 10);
    busy_s = cpu_s();
    check_int(wait_for(c, 0.2), ==, COVEY_ETIMEDOUT);
    check(cpu_s() - busy_s < 0.1);
    raw_write(&raw, "cd", 2);
    check_int(wait_for(c, SOON_S), ==, 1);
    check_int(covey_connection_receive(c, bytes, sizeof bytes, NULL, 0), ==, 0);
    check(memcmp(bytes, "abcd", 4) == 0);
    raw_close(&raw);
    check_int(wait_for(c, SOON_S), ==, 1);
    check_int(covey_connection_receive(c, bytes, sizeof bytes, NULL, 0), ==, COVEY_EDIED);
    check_int(covey_connection_close(c), ==, 0);
    check_int(covey_listener_close(l), ==, 0);
}

TEST(who_waits_for_a_listener_turns_away_too)
{
    struct refusals refusals = {0};
    covey_listener *l =
        listen_at(ANY, .refused = note_refusal, .context = &refusals, .handshake_timeout_s = 0.1);
    struct raw silent = {0};
    double busy_s = cpu_s();

    raw_connect(&silent, l);
    check_int(wait_for(l, 0.3), ==, COVEY_ETIMEDOUT);
    check(cpu_s() - busy_s < 0.1);
    check_int(refusals.n, ==, 1);
    check_int(refusals.code, ==, COVEY_ETIMEDOUT);
    raw_close(&silent);
    check_int(covey_listener_close(l), ==, 0);
}

TEST(a_listener_is_waited_for)
{
    covey_listener *l = listen_at(ANY);
    struct pollfd fd = {covey_listener_fd(l), POLLIN, 0};
    struct client clients[3] = {{.key = NULL}};
    covey_connection *c = NULL;

    for (int i = 0; i < 3; i++)
        client_start(&clients[i], covey_listener_address(l));
    for (int i = 0; i < 3; i++) {
        check_int(wait_for(l, SOON_S), ==, 1);
        check_int(wait_for(l, 0), ==, 1);
        check_int(poll(&fd, 1, 0), ==, 1); /* what is complete is seen there, too */
        if (i == 2)
            break;
        check_int(covey_listener_accept(l, &c, 0), ==, 0);
        check_int(covey_connection_close(c), ==, 0);
    }
    for (int i = 0; i < 3; i++) {
        client_join(&clients[i]);
        check_int(clients[i].r, ==, 0);
    }
    check_int(covey_listener_stop(l), ==, 0);
    check_int(wait_for(l, SOON_S), ==, 1);
    check_fails(covey_listener_accept(l, &c, SOON_S), COVEY_ECLOSED, "stopped");
    check_int(covey_listener_close(l), ==, 0); /* with one that nobody has accepted */
    for (int i = 0; i < 3; i++)
        check_int(covey_connection_close(clients[i].c), ==, 0);
    check_int(wait_for((covey_listener *)NULL, 0), ==, COVEY_EINVAL);
    check_int(wait_for((covey_connection *)NULL, 0), ==, COVEY_EINVAL);
}

TEST(who_waits_for_a_listener_is_told_why_it_fails, .not_in_valgrind = "it has a limit of its own")
{
    covey_listener *l = listen_at(ANY);
    struct rlimit before;
    struct rlimit none;
    struct client client = {0};
    covey_connection *c = NULL;
    struct raw raw = {0};
    double start_s;
    double busy_s;

    check_int(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
    raw_connect(&raw, l);
    none = before;
    none.rlim_cur = (rlim_t)raw.fd + 1;
    check_int(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
    start_s = test_now_s();
    busy_s = cpu_s();
    for (int i = 0; i < 3; i++) {
        check_int(wait_for(l, SOON_S), ==, 1);
        check_fails(covey_listener_accept(l, &c, 0), COVEY_ELIMIT, strerror(EMFILE));
    }
    check(test_now_s() - start_s >= 0.15); /* tried now and then only */
    check(cpu_s() - busy_s < 0.1);
    check_int(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
    client_start(&client, covey_listener_address(l));
    check_int(wait_for(l, SOON_S), ==, 1);
    check_int(covey_listener_accept(l, &c, 0), ==, 0);
    client_join(&client);
    check_int(covey_connection_close(c), ==, 0);
    check_int(covey_connection_close(client.c), ==, 0);
    raw_close(&raw);
    check_int(covey_listener_close(l), ==, 0);
}

static void *wait_until_stopped(void *context)
{
    struct pair *p = context;
    struct covey_waited things[] = {
        COVEY_WAITED(p->server), COVEY_WAITED(p->listener), COVEY_WAITED(p->server)};

    check_int(covey_wait(things, 3, COVEY_FOREVER), ==, 2);
    check_int(covey_wait(things + 1, 1, COVEY_FOREVER), ==, 1);
    return NULL;
}

TEST(closing_what_is_waited_for_is_refused)
{
    struct pair p = pair_open(ANY);
    pthread_t thread;
    char byte;

    check_int(pthread_create(&thread, NULL, wait_until_stopped, &p), ==, 0);
    test_sleep_ms(100);
    check_fails(covey_connection_close(p.server), COVEY_ESTATE, "waits");
    check_fails(covey_listener_close(p.listener), COVEY_ESTATE, "waits");
    check_int(covey_connection_stop(p.server), ==, 0);
    test_sleep_ms(50);
    check_int(covey_listener_stop(p.listener), ==, 0);
    check_int(pthread_join(thread, NULL), ==, 0);
    check_int(covey_connection_receive(p.server, &byte, 1, NULL, 0), ==, COVEY_ECLOSED);
    check_int(wait_for(-1, 0), ==, COVEY_EINVAL);
    pair_close(&p);
}

static void *receive_one_later(void *context)
{
    char byte;

    check_int(covey_connection_receive(context, &byte, 1, NULL, COVEY_FOREVER), ==, 0);
    return NULL;
}

/* Another thread has the turn, and leaves a message within. */
TEST(a_connection_is_waited_for_beside_a_receiver)
{
    struct pair p = pair_open(ANY);
    const struct iovec two[] = {{(char[1]){0}, 1}};
    pthread_t thread;
    char byte;

    check_int(pthread_create(&thread, NULL, receive_one_later, p.server), ==, 0);
    test_sleep_ms(50);
    check_int(wait_for(p.server, 0.1), ==, COVEY_ETIMEDOUT);
    for (int i = 0; i < 2; i++)
        check_int(covey_connection_send_parts(p.client, two, 1, 1), ==, 0);
    check_int(wait_for(p.server, SOON_S), ==, 1);
    check_int(pthread_join(thread, NULL), ==, 0);
    check_int(wait_for(p.server, SOON_S), ==, 1);
    check_int(covey_connection_receive(p.server, &byte, 1, NULL, 0), ==, 0);
    pair_close(&p);
}

enum {
    GUESTS = 4,
    GUEST_MESSAGES = 50
};

static int visit(void *argument)
{
    const char *address = *(const char **)argument;
    covey_connection *c = NULL;
    char answer;

    check_int(
        covey_connection_open(&c, .address = address, .key = key, .key_size = sizeof key), ==, 0);
    for (int i = 0; i < GUEST_MESSAGES; i++)
        check_int(covey_connection_send(c, &i, sizeof i, SOON_S), ==, 0);
    check_int(wait_for(c, SOON_S), ==, 1);
    check_int(covey_connection_receive(c, &answer, 1, NULL, 0), ==, 0);
    check_int(covey_connection_close(c), ==, 0);
    return 0;
}

/* Those that are done are no more among the things. */
struct party {
    covey_listener *listener;
    covey_process *guests[GUESTS];
    covey_connection *connections[GUESTS];
    int came;
    int left;
    int ended;
};

static void serve_guest(covey_connection **c, struct party *p)
{
    int number;

    switch (covey_connection_receive(*c, &number, sizeof number, NULL, 0)) {
    case 0:
        if (number == GUEST_MESSAGES - 1)
            check_int(covey_connection_send(*c, "!", 1, SOON_S), ==, 0);
        break;
    case COVEY_ECLOSED:
        check_int(covey_connection_close(*c), ==, 0);
        *c = NULL;
        p->left++;
        break;
    default:
        test_fail(__FILE__, __LINE__, "%s", covey_error());
    }
}

static void serve_party(struct party *p)
{
    struct covey_waited things[1 + 2 * GUESTS] = {COVEY_WAITED(p->listener)};
    size_t n = 1;

    for (int i = 0; i < GUESTS; i++) {
        if (p->guests[i])
            things[n++] = (struct covey_waited)COVEY_WAITED(p->guests[i]);
        if (p->connections[i])
            things[n++] = (struct covey_waited)COVEY_WAITED(p->connections[i]);
    }
    check_int(covey_wait(things, n, SOON_S), >, 0);
    if (things[0].ready)
        check_int(covey_listener_accept(p->listener, &p->connections[p->came++], 0), ==, 0);
    for (int i = 0; i < GUESTS; i++) {
        for (size_t k = 1; k < n; k++) {
            if (things[k].ready && things[k].object == p->connections[i] && p->connections[i])
                serve_guest(&p->connections[i], p);
            if (things[k].ready && things[k].object == p->guests[i] && p->guests[i]) {
                child_join(p->guests[i], 0);
                p->guests[i] = NULL;
                p->ended++;
            }
        }
    }
}

TEST_METHODS(connections_are_waited_for_beside_processes, 60, .not_in_valgrind = "it has no pidfds")
{
    struct party p = {.listener = listen_at(ANY)};
    char *address = covey_alloc(64);

    (void)snprintf(address, 64, "%s", covey_listener_address(p.listener));
    for (int i = 0; i < GUESTS; i++)
        p.guests[i] = child_start(visit, address, method);
    while (p.left < GUESTS || p.ended < GUESTS)
        serve_party(&p);
    check_int(p.came, ==, GUESTS);
    check_int(covey_listener_close(p.listener), ==, 0);
    check_int(covey_free(address), ==, 0);
    if (method == COVEY_FORKSERVER)
        check_int(covey_close(), ==, 0);
}

/* Threads and processes ********************************************************************* */

struct stream {
    covey_connection *c;
    int messages;
    size_t size;
};

static void *stream_out(void *context)
{
    struct stream *s = context;
    unsigned char *bytes = make_bytes(s->size, 3);

    for (int i = 0; i < s->messages; i++)
        check_int(covey_connection_send(s->c, bytes, s->size, COVEY_FOREVER), ==, 0);
    free(bytes);
    return NULL;
}

static void *stream_in(void *context)
{
    struct stream *s = context;
    unsigned char *expected = make_bytes(s->size, 3);
    unsigned char *bytes = make_bytes(s->size, 4);

    for (int i = 0; i < s->messages; i++) {
        check_int(covey_connection_receive(s->c, bytes, s->size, NULL, COVEY_FOREVER), ==, 0);
        check(memcmp(bytes, expected, s->size) == 0);
    }
    free(expected);
    free(bytes);
    return NULL;
}

/* Two that send and two that receive at each end. */
TEST(threads_send_and_receive_at_once, .deadline_s = 60)
{
    struct pair p = pair_open(ANY);
    struct stream client = {p.client, 100, 100000};
    struct stream server = {p.server, 100, 100000};
    pthread_t threads[8];

    for (int i = 0; i < 8; i++)
        check_int(pthread_create(&threads[i], NULL, i % 4 < 2 ? stream_out : stream_in,
                      i % 2 ? &client : &server),
            ==, 0);
    for (int i = 0; i < 8; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
    pair_close(&p);
}

static int receiving;
static int fd_of_parent;
static int fd_of_listener;

static void *receive_one(void *context)
{
    char byte;

    word_set(&receiving, 1);
    check_int(covey_connection_receive(context, &byte, 1, NULL, COVEY_FOREVER), ==, 0);
    return NULL;
}

TEST(closing_under_a_receiver_is_refused)
{
    struct pair p = pair_open(ANY);
    pthread_t thread;
    char byte;

    check_int(pthread_create(&thread, NULL, receive_one, p.server), ==, 0);
    while (!word_get(&receiving))
        test_sleep_ms(1);
    test_sleep_ms(50);
    check_fails(covey_connection_close(p.server), COVEY_ESTATE, "is receiving");
    check_int(covey_connection_send(p.server, "a", 1, 1), ==, 0); /* is not in the way */
    check_int(covey_connection_receive(p.client, &byte, 1, NULL, SOON_S), ==, 0);
    check_int(covey_connection_send(p.client, "b", 1, 1), ==, 0);
    check_int(pthread_join(thread, NULL), ==, 0);
    pair_close(&p);
}

static void *receive_until_stopped(void *context)
{
    char byte;

    word_add(&receiving, 1);
    check_fails(
        covey_connection_receive(context, &byte, 1, NULL, COVEY_FOREVER), COVEY_ECLOSED, "stopped");
    return NULL;
}

static void *send_until_stopped(void *context)
{
    static char bytes[32 * MIB];

    word_add(&receiving, 1);
    check_int(
        covey_connection_send(context, bytes, sizeof bytes, COVEY_FOREVER), ==, COVEY_ECLOSED);
    return NULL;
}

static void *accept_until_stopped(void *context)
{
    covey_connection *c;

    word_add(&receiving, 1);
    check_int(covey_listener_accept(context, &c, COVEY_FOREVER), ==, COVEY_ECLOSED);
    return NULL;
}

TEST(stopping_ends_what_others_wait_for)
{
    struct pair p = pair_open(ANY);
    pthread_t threads[5];
    char byte;

    for (int i = 0; i < 2; i++)
        check_int(pthread_create(&threads[i], NULL, receive_until_stopped, p.server), ==, 0);
    word_await(&receiving, 2);
    test_sleep_ms(50);
    check_fails(covey_connection_close(p.server), COVEY_ESTATE, "is receiving");
    check_int(covey_connection_stop(p.server), ==, 0);
    check_int(covey_connection_stop(p.server), ==, 0);
    for (int i = 0; i < 2; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
    check_fails(covey_connection_send(p.server, "x", 1, 1), COVEY_ECLOSED, "ended");
    check_int(covey_connection_poll(p.server, 0), ==, 1);
    check_fails(
        covey_connection_receive(p.client, &byte, 1, NULL, SOON_S), COVEY_ECLOSED, "closed");
    pair_close(&p);
}

TEST(stopping_ends_senders_and_those_who_accept)
{
    char address[64];
    const char *const addresses[] = {ANY, abstract_address(address)};

    for (int i = 0; i < 2; i++) {
        struct pair p = pair_open(addresses[i]);
        pthread_t threads[3];
        void *bytes;
        size_t size;

        word_set(&receiving, 0);
        check_int(pthread_create(&threads[0], NULL, send_until_stopped, p.client), ==, 0);
        for (int n = 1; n < 3; n++)
            check_int(pthread_create(&threads[n], NULL, accept_until_stopped, p.listener), ==, 0);
        word_await(&receiving, 3);
        test_sleep_ms(100);
        check_fails(covey_listener_close(p.listener), COVEY_ESTATE, "is accepting");
        check_int(covey_connection_stop(p.client), ==, 0);
        check_int(covey_listener_stop(p.listener), ==, 0);
        for (int n = 0; n < 3; n++)
            check_int(pthread_join(threads[n], NULL), ==, 0);
        check_int(covey_connection_receive_alloc(p.server, &bytes, &size, SOON_S), ==, COVEY_EDIED);
        pair_close(&p);
    }
}

/* Eight that connect, each many times, and three that accept. */
struct service {
    covey_listener *l;
    int served;
};

static void *serve(void *context)
{
    struct service *s = context;
    covey_connection *c;
    int r;

    while ((r = covey_listener_accept(s->l, &c, COVEY_FOREVER)) == 0) {
        char bytes[8];

        check_int(covey_connection_receive(c, bytes, sizeof bytes, NULL, SOON_S), ==, 0);
        check_int(covey_connection_send(c, bytes, sizeof bytes, SOON_S), ==, 0);
        check_int(covey_connection_close(c), ==, 0);
        word_add(&s->served, 1);
    }
    check_int(r, ==, COVEY_ECLOSED);
    return NULL;
}

static void *connect_often(void *context)
{
    struct service *s = context;

    for (int i = 0; i < 20; i++) {
        covey_connection *c = NULL;
        char bytes[8] = "abcdefg";

        check_int(covey_connection_open(
                      &c, .address = covey_listener_address(s->l), .key = key, .key_size = 32),
            ==, 0);
        check_int(covey_connection_send(c, bytes, sizeof bytes, SOON_S), ==, 0);
        memset(bytes, 0, sizeof bytes);
        check_int(covey_connection_receive(c, bytes, sizeof bytes, NULL, SOON_S), ==, 0);
        check_str(bytes, "abcdefg");
        check_int(covey_connection_close(c), ==, 0);
    }
    return NULL;
}

TEST(many_threads_connect_and_accept, .deadline_s = 60)
{
    struct service s = {.l = listen_at(ANY)};
    pthread_t threads[11];

    for (int i = 0; i < 11; i++)
        check_int(pthread_create(&threads[i], NULL, i < 3 ? serve : connect_often, &s), ==, 0);
    for (int i = 3; i < 11; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
    check_int(covey_listener_stop(s.l), ==, 0);
    for (int i = 0; i < 3; i++)
        check_int(pthread_join(threads[i], NULL), ==, 0);
    check_int(s.served, ==, 160);
    check_int(covey_listener_close(s.l), ==, 0);
}

/* A loop as somebody else's would be: it knows descriptors only. */
TEST(one_thread_serves_many_by_their_descriptors)
{
    enum {
        CLIENTS = 5,
        MESSAGES = 20
    };
    covey_listener *l = listen_at(ANY);
    covey_connection *servers[CLIENTS];
    struct client clients[CLIENTS] = {{.key = NULL}};
    struct pollfd fds[CLIENTS + 1] = {{covey_listener_fd(l), POLLIN, 0}};
    int n = 0;
    int received = 0;

    for (int i = 0; i < CLIENTS; i++)
        client_start(&clients[i], covey_listener_address(l));
    while (n < CLIENTS) {
        check_int(poll(fds, 1, SOON_S * 1000), ==, 1);
        n += covey_listener_accept(l, &servers[n], 0) == 0;
    }
    for (int i = 0; i < CLIENTS; i++) {
        client_join(&clients[i]);
        check_int(clients[i].r, ==, 0);
        fds[i + 1] = (struct pollfd){covey_connection_fd(servers[i]), POLLIN, 0};
        for (int k = 0; k < MESSAGES; k++)
            check_int(covey_connection_send(clients[i].c, &k, sizeof k, SOON_S), ==, 0);
    }
    while (received < CLIENTS * MESSAGES) {
        check_int(poll(fds + 1, CLIENTS, SOON_S * 1000), >, 0);
        for (int i = 0; i < CLIENTS; i++) {
            while (fds[i + 1].revents && covey_connection_poll(servers[i], 0) == 1) {
                int k;

                check_int(covey_connection_receive(servers[i], &k, sizeof k, NULL, 0), ==, 0);
                received++;
            }
        }
    }
    for (int i = 0; i < CLIENTS; i++) {
        check_int(covey_connection_close(clients[i].c), ==, 0);
        check_int(covey_connection_close(servers[i]), ==, 0);
    }
    check_int(covey_listener_close(l), ==, 0);
}

static void use_in_child(void *context)
{
    struct pair *p = context;
    covey_connection *c = NULL;
    char byte;

    check_int(fcntl(fd_of_parent, F_GETFD), ==, -1); /* closed at the fork */
    check_int(fcntl(fd_of_listener, F_GETFD), ==, FD_CLOEXEC);
    check_fails(covey_connection_send(p->client, "x", 1, 1), COVEY_ENOTOWNER, "process");
    check_fails(covey_connection_receive(p->client, &byte, 1, NULL, 1), COVEY_ENOTOWNER, "process");
    check_int(covey_connection_poll(p->client, 0), ==, COVEY_ENOTOWNER);
    check_int(wait_for(p->client, 0), ==, COVEY_ENOTOWNER);
    check_int(wait_for(p->listener, 0), ==, COVEY_ENOTOWNER);
    check_int(covey_connection_fd(p->client), ==, COVEY_ENOTOWNER);
    check_fails(covey_listener_accept(p->listener, &c, 0), COVEY_ENOTOWNER, "process");
    check_int(covey_listener_fd(p->listener), ==, COVEY_ENOTOWNER);
    pair_close(p);
}

TEST(a_connection_is_not_the_childs)
{
    char address[64];
    struct pair p = pair_open(path_address(address));
    struct raw half_open[2] = {{.fd = -1}, {.fd = -1}};
    covey_connection *c = NULL;

    raw_connect(&half_open[0], p.listener);
    check_int(covey_listener_accept(p.listener, &c, 0), ==, COVEY_ETIMEDOUT);
    raw_connect(&half_open[1], p.listener);
    raw_handshake(&half_open[1], p.listener);
    fd_of_parent = covey_connection_fd(p.client);
    fd_of_listener = covey_listener_fd(p.listener);
    test_reap(child_fork(use_in_child, &p), 0);
    check_int(access(address + strlen("unix:"), F_OK), ==, 0);
    pass(p.client, p.server, 1000);
    pass(p.server, p.client, 1000);
    connect_among(p.listener, 1);
    raw_close(&half_open[0]);
    raw_close(&half_open[1]);
    pair_close(&p);
}

/* A server that leaves a child when it is killed. */
struct bereaved {
    char address[64];
    int ready; /* the pid of that child */
};

static void be_orphaned(void *context)
{
    struct bereaved *b = context;

    word_set(&b->ready, getpid());
    for (;;)
        (void)pause();
}

static void serve_and_leave_a_child(void *context)
{
    struct bereaved *b = context;
    covey_listener *l = listen_at(b->address);
    covey_connection *c = NULL;

    (void)snprintf(b->address, sizeof b->address, "%s", covey_listener_address(l));
    word_set(&b->ready, 1);
    check_int(covey_listener_accept(l, &c, SOON_S), ==, 0);
    (void)child_fork(be_orphaned, b);
    for (;;)
        (void)pause();
}

static void check_bereaved(const char *address)
{
    struct bereaved *b = covey_calloc(1, sizeof *b);
    covey_connection *c = NULL;
    covey_listener *l;
    char byte;
    pid_t pid;

    (void)snprintf(b->address, sizeof b->address, "%s", address);
    pid = child_fork(serve_and_leave_a_child, b);
    word_await(&b->ready, 1);
    check_int(covey_connection_open(&c, .address = b->address, .key = key, .key_size = sizeof key),
        ==, 0);
    word_await(&b->ready, 2);
    child_kill(pid);
    check_fails(covey_connection_receive(c, &byte, 1, NULL, SOON_S), COVEY_EDIED, "gone");
    check_int(covey_connection_close(c), ==, 0);
    check_fails(
        covey_connection_open(&c, .address = b->address, .key = key, .key_size = sizeof key),
        COVEY_EREFUSED, "nobody");
    l = listen_at(b->address); /* the address is free as well */
    check_int(covey_listener_close(l), ==, 0);
    check_int(kill(b->ready, SIGKILL), ==, 0);
    check_int(covey_free(b), ==, 0);
}

TEST(a_child_keeps_nothing_open)
{
    char address[64];

    pair_close(&(struct pair){.listener = listen_at(ANY)}); /* may skip */
    check_bereaved(ANY);
    check_bereaved(path_address(address));
    check_bereaved(abstract_address(address));
}

static void has_no_socket(void *context)
{
    (void)context;
    for (int fd = 0; fd < 64; fd++) {
        struct stat status;
        bool is_socket = fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);

        check(!is_socket || (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0);
    }
}

/* A fork may come before the other side has answered. The test's own sockets are not close-on-exec here. */
TEST(a_child_keeps_nothing_that_connects,
    .not_in_valgrind = "a child does not free what another thread of its parent had")
{
    struct client client = {.timeout_s = 0.5};
    char address[64];
    int fd = listen_plainly(address); /* has room for two */
    int full[2];

    pair_close(&(struct pair){.listener = listen_at(ANY)}); /* may skip */
    check_int(fcntl(fd, F_SETFD, 0), ==, 0);
    for (int i = 0; i < 2; i++) {
        full[i] = connect_socket(address);
        check_int(fcntl(full[i], F_SETFD, 0), ==, 0);
    }
    client_start(&client, address);
    test_sleep_ms(100);
    test_reap(child_fork(has_no_socket, NULL), 0);
    client_join(&client);
    check_int(client.r, ==, COVEY_ETIMEDOUT);
    for (int i = 0; i < 2; i++)
        (void)close(full[i]);
    (void)close(fd);
}

static int coming_and_going;

static void *come_and_go(void *context)
{
    struct pair *p = context;

    while (word_get(&coming_and_going)) {
        pair_connect(p, 0);
        check_int(covey_connection_close(p->client), ==, 0);
        check_int(covey_connection_close(p->server), ==, 0);
    }
    p->client = p->server = NULL;
    return NULL;
}

/* A fork may come while another thread opens or closes one. */
TEST(a_child_keeps_nothing_that_comes_or_goes, .deadline_s = 60,
    .not_in_valgrind = "a child does not free what another thread of its parent had")
{
    char address[64];
    struct pair p = {.listener = listen_at(abstract_address(address))};
    double end_s = test_now_s() + 5; /* sanitizers make forks slow */
    pthread_t thread;

    word_set(&coming_and_going, 1);
    check_int(pthread_create(&thread, NULL, come_and_go, &p), ==, 0);
    for (int i = 0; i < 3000 && test_now_s() < end_s; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            has_no_socket(NULL);
            _exit(0);
        }
        test_reap(pid, 0);
    }
    word_set(&coming_and_going, 0);
    check_int(pthread_join(thread, NULL), ==, 0);
    pair_close(&p);
}

/* Opens a socket and closes it, without TLS and memory: as a child of several threads may, and a handler. */
static void knock_in_vain(void)
{
    struct cv_address address = {.kind = CV_ADDRESS_ABSTRACT, .path = "covey-nobody"};
    struct cv_socket_targets targets;
    struct cv_descriptor socket;

    check_int(cv_socket_find(&targets, &address, false), ==, 0);
    check_int(cv_socket_connect(&socket, &targets, 0), ==, COVEY_EREFUSED);
}

static volatile sig_atomic_t forked;

static void fork_in_handler(int number)
{
    pid_t pid = fork();

    if (pid == 0) {
        has_no_socket(NULL);
        _exit(0);
    }
    (void)number;
    test_reap(pid, 0);
    forked++;
}

TEST(a_fork_in_a_signal_handler_keeps_nothing_open)
{
    struct sigaction action = {.sa_handler = fork_in_handler};

    if (TEST_TSAN || getenv("COVEY_TEST_VALGRIND"))
        test_skip("it does not fork in handlers");
    knock_in_vain(); /* takes memory */
    check_int(sigaction(SIGALRM, &action, NULL), ==, 0);
    while (forked < 500) {
        int before = forked;

        (void)ualarm(100, 0);
        while (forked == before)
            knock_in_vain();
    }
}

static void *knock_often(void *context)
{
    (void)context;
    while (word_get(&coming_and_going))
        knock_in_vain();
    return NULL;
}

/* As a container's runtime does it. What another thread of the parent was about to do is nobody's there. */
TEST(a_child_made_past_the_c_library_waits_for_nobody)
{
    pthread_t thread;

    if (TEST_TSAN || getenv("COVEY_TEST_VALGRIND"))
        test_skip("it does not know that this is a fork");
    knock_in_vain(); /* what memory it takes is there: in such a child another thread may have malloc()'s lock */
    word_set(&coming_and_going, 1);
    check_int(pthread_create(&thread, NULL, knock_often, NULL), ==, 0);
    for (int i = 0; i < 300; i++) {
        pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

        if (pid == 0) {
            knock_in_vain();
            _exit(0);
        }
        test_reap(pid, 0);
    }
    word_set(&coming_and_going, 0);
    check_int(pthread_join(thread, NULL), ==, 0);
}

/* Addresses ********************************************************************************* */

TEST(nobody_there_is_told)
{
    covey_listener *l = listen_at(ANY);
    covey_connection *c = NULL;
    char address[64];

    (void)snprintf(address, sizeof address, "%s", covey_listener_address(l));
    check_int(covey_listener_close(l), ==, 0);
    check_fails(covey_connection_open(&c, .address = address, .key = key, .key_size = sizeof key),
        COVEY_EREFUSED, address);
    check_fails(covey_connection_open(
                    &c, .address = "unix:/nowhere/at/all", .key = key, .key_size = sizeof key),
        COVEY_EREFUSED, "No such file");
    check_fails(covey_connection_open(
                    &c, .address = "unix:@covey-nobody", .key = key, .key_size = sizeof key),
        COVEY_EREFUSED, "nobody listens");
}

static void listen_and_die(void *context)
{
    static covey_listener *volatile kept; /* to leak it would be found fault with */

    kept = listen_at(context, .mode = 0640);
    (void)kept;
    (void)kill(getpid(), SIGKILL);
}

TEST(a_stale_path_is_taken_over)
{
    char address[64];
    const char *path = path_address(address) + strlen("unix:");
    struct stat status;
    covey_listener *l;
    covey_listener *second = NULL;

    pair_close(&(struct pair){.listener = listen_at(ANY)}); /* may skip */
    test_reap(child_fork(listen_and_die, address), SIGKILL);
    check_int(stat(path, &status), ==, 0);
    check_int(status.st_mode & 07777, ==, 0640);
    l = listen_at(address);
    check_int(stat(path, &status), ==, 0);
    check_int(status.st_mode & 07777, ==, 0600);
    check_int(status.st_uid, ==, geteuid());
    check_fails(
        covey_listener_open(&second, .address = address, .key = key, .key_size = sizeof key),
        COVEY_ESTATE, "somebody else");
    connect_among(l, 1);
    check_int(unlink(path), ==, 0);
    second = listen_at(address);
    check_int(covey_listener_close(l), ==, 0); /* the path is not its own any more */
    connect_among(second, 1);
    check_int(covey_listener_close(second), ==, 0);
    check_int(access(path, F_OK), ==, -1);
}

static void connect_as_nobody(void *context)
{
    covey_connection *c;

    check_int(setgid(65534), ==, 0);
    check_int(setuid(65534), ==, 0);
    check_fails(covey_connection_open(&c, .address = context, .key = key, .key_size = sizeof key),
        COVEY_ESYS, strerror(EACCES));
}

TEST(another_user_may_not_connect_to_a_path, .not_in_valgrind = "its files would be root's")
{
    char address[64];
    covey_listener *l = listen_at(path_address(address));

    if (geteuid() != 0)
        test_skip("only root can become somebody else");
    test_reap(child_fork(connect_as_nobody, address), 0);
    check_int(covey_listener_close(l), ==, 0);
}

/* Whoever is first has it; the other is told. */
static void *listen_at_once(void *context)
{
    covey_listener *l = NULL;
    int r = covey_listener_open(&l, .address = context, .key = key, .key_size = sizeof key);

    check(r == 0 || r == COVEY_ESTATE);
    return l;
}

TEST(a_stale_path_has_one_successor)
{
    char address[64];

    pair_close(&(struct pair){.listener = listen_at(path_address(address))}); /* may skip */
    for (int round = 0; round < 20; round++) {
        pthread_t threads[4];
        covey_listener *only = NULL;

        test_reap(child_fork(listen_and_die, address), SIGKILL);
        for (int i = 0; i < 4; i++)
            check_int(pthread_create(&threads[i], NULL, listen_at_once, address), ==, 0);
        for (int i = 0; i < 4; i++) {
            void *l;

            check_int(pthread_join(threads[i], &l), ==, 0);
            check(!l || !only);
            only = l ? l : only;
        }
        check(only != NULL);
        connect_among(only, 1);
        check_int(covey_listener_close(only), ==, 0);
    }
}

static void wait_to_be_killed(void *context)
{
    (void)context;
    for (;;)
        (void)pause();
}

/* That may be forked while another thread looks at a path, and has all that is open then. */
TEST(a_child_does_not_keep_the_directory_locked)
{
    char directory[] = "/tmp/covey-test-XXXXXX";
    char address[64];
    pthread_t thread;
    void *l;
    pid_t pid;
    int fd;

    pair_close(&(struct pair){.listener = listen_at(ANY)}); /* may skip */
    check(mkdtemp(directory) != NULL);
    (void)snprintf(address, sizeof address, "unix:%s/s", directory);
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    check_int(
        flock(fd, LOCK_EX), ==, 0); /* so that the thread has to wait with its directory open */
    check_int(pthread_create(&thread, NULL, listen_at_once, address), ==, 0);
    test_sleep_ms(200);
    pid = child_fork(wait_to_be_killed, NULL);
    check_int(flock(fd, LOCK_UN), ==, 0);
    check_int(pthread_join(thread, &l), ==, 0);
    check(l != NULL);
    check_int(flock(fd, LOCK_EX | LOCK_NB), ==, 0);
    check_int(flock(fd, LOCK_UN), ==, 0);
    child_kill(pid);
    check_int(covey_listener_close(l), ==, 0);
    check_int(rmdir(directory), ==, 0);
    (void)close(fd);
}

TEST(a_file_at_the_path_stays)
{
    char address[64];
    const char *path = path_address(address) + strlen("unix:");
    covey_listener *l = NULL;
    int fd;

    pair_close(&(struct pair){.listener = listen_at(ANY)}); /* may skip */
    fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    check_int(fd, >=, 0);
    (void)close(fd);
    check_fails(covey_listener_open(&l, .address = address, .key = key, .key_size = sizeof key),
        COVEY_ESTATE, "it is no socket");
    check_int(unlink(path), ==, 0);
}

TEST(a_port_that_is_taken_is_told)
{
    covey_listener *l = listen_at(ANY);
    covey_listener *second = NULL;

    check_fails(covey_listener_open(&second, .address = covey_listener_address(l), .key = key,
                    .key_size = sizeof key),
        COVEY_ESTATE, "somebody else");
    check_has(covey_error(), covey_listener_address(l));
    check_int(covey_listener_close(l), ==, 0);
}

TEST(success_leaves_the_last_failure)
{
    char address[64];
    struct pair p;

    pair_close(&(struct pair){.listener = listen_at(ANY)}); /* may skip */
    (void)path_address(address);
    test_reap(child_fork(listen_and_die, address), SIGKILL);
    check_fails(covey_connection_poll(NULL, 0), COVEY_EINVAL, "connection is NULL");
    p = pair_open(address);
    check_int(covey_connection_close(p.client), ==, 0);
    check_int(covey_connection_poll(p.server, SOON_S), ==, 1);
    check_int(covey_connection_stop(p.server), ==, 0);
    p.client = NULL;
    pair_close(&p);
    check_has(covey_error(), "connection is NULL");
}

TEST(addresses_are_checked)
{
    static const struct {
        const char *address;
        const char *why;
    } wrong[] = {{NULL, "NULL"}, {"", "\"\" is not an address"}, {"udp:1:1", "not an address"},
        {"tcp:", "no port"}, {"tcp:host", "no port"}, {"tcp::1", "0 bytes"},
        {"tcp:a:", "not a number"}, {"tcp:a:-1", "not a number"}, {"tcp:a:65536", "more than"},
        {"tcp:a:123456", "not a number"}, {"tcp:a:1x", "not a number"}, {"tcp:::1:80", "brackets"},
        {"tcp:[]:1", "0 bytes"}, {"tcp:[::1:80", "brackets"}, {"tcp:a/b:1", "no name"},
        {"unix:", "0 bytes"}, {"unix:@", "0 bytes"}};
    covey_listener *l = NULL;
    covey_connection *c = NULL;
    char path[1100] = "unix:/";

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        check_fails(covey_listener_open(
                        &l, .address = wrong[i].address, .key = key, .key_size = sizeof key),
            COVEY_EINVAL, wrong[i].why);
    memset(path + strlen(path), 'x', 107);
    check_fails(covey_listener_open(&l, .address = path, .key = key, .key_size = sizeof key),
        COVEY_EINVAL, "x: a path or name of 108 bytes");
    check_has(covey_error(), path);
    memset(path + strlen(path), 'x', 43);
    check_fails(covey_listener_open(&l, .address = path, .key = key, .key_size = sizeof key),
        COVEY_EINVAL, "xxx...: a path or name of 151 bytes");
    memcpy(path, "tcp:", 4);
    memset(path + 4, 'x', 1000);
    memcpy(path + 1004, ":1", 3);
    check_fails(covey_connection_open(&c, .address = path, .key = key, .key_size = sizeof key),
        COVEY_EINVAL, "1000 bytes");
    check_fails(
        covey_connection_open(&c, .address = "tcp:127.0.0.1:0", .key = key, .key_size = sizeof key),
        COVEY_EINVAL, "port 0");
    check_fails(
        covey_connection_open(&c, .address = "tcp:*:7000", .key = key, .key_size = sizeof key),
        COVEY_EINVAL, "for listeners");
}

/* Misuse ************************************************************************************ */

TEST(misuse_is_named)
{
    uint64_t nothing[64] = {0};
    covey_connection *c = (covey_connection *)(void *)nothing;
    covey_listener *l = (covey_listener *)(void *)nothing;
    struct pair p = pair_open(ANY);
    size_t size;

    check_fails(covey_connection_send(NULL, "", 0, 0), COVEY_EINVAL, "NULL");
    check_fails(covey_connection_send(c, "", 0, 0), COVEY_EINVAL, "not a connection");
    check_fails(covey_connection_receive(c, NULL, 0, NULL, 0), COVEY_EINVAL, "not a connection");
    check_fails(covey_connection_receive_alloc(c, NULL, NULL, 0), COVEY_EINVAL, "not a connection");
    check_fails(covey_connection_poll(c, 0), COVEY_EINVAL, "not a connection");
    check_fails(covey_connection_fd(c), COVEY_EINVAL, "not a connection");
    check_fails(covey_connection_close(c), COVEY_EINVAL, "not a connection");
    check(covey_connection_peer(c) == NULL);
    check_int(covey_connection_message_max(c), ==, 0);
    check_int(covey_connection_close(NULL), ==, 0);
    check_fails(covey_connection_send(p.client, NULL, 1, 0), COVEY_EINVAL, "bytes is NULL");
    check_fails(covey_connection_send(p.client, "", 1, 0.0 / 0.0), COVEY_EINVAL, "NaN");
    check_fails(
        covey_connection_receive(p.client, NULL, 1, NULL, 0), COVEY_EINVAL, "bytes is NULL");
    check_fails(covey_connection_receive_alloc(p.client, NULL, &size, 0), COVEY_EINVAL, "NULL");
    check_fails(covey_listener_accept(NULL, &c, 0), COVEY_EINVAL, "NULL");
    check_fails(covey_listener_accept(l, &c, 0), COVEY_EINVAL, "not a listener");
    check_fails(covey_listener_accept(p.listener, NULL, 0), COVEY_EINVAL, "NULL");
    check_fails(covey_listener_fd(l), COVEY_EINVAL, "not a listener");
    check_fails(covey_listener_close(l), COVEY_EINVAL, "not a listener");
    check(covey_listener_address(l) == NULL);
    check_int(covey_listener_close(NULL), ==, 0);
    check_fails(covey_listener_open_with(NULL), COVEY_EINVAL, "options is NULL");
    check_fails(covey_connection_open_with(NULL), COVEY_EINVAL, "options is NULL");
    check_fails(covey_listener_open(&l, .mode = 01000), COVEY_EINVAL, "mode");
    check_fails(covey_listener_open(&l, .backlog = -1), COVEY_EINVAL, "0 or more");
    check_fails(covey_listener_open(&l, .half_open_max = 65537), COVEY_EINVAL, "half_open_max");
    check_fails(
        covey_listener_open(&l, .handshake_timeout_s = -1), COVEY_EINVAL, "handshake_timeout");
    check_fails(covey_connection_open(&c, .address = "tcp:127.0.0.1:1", .key = key,
                    .key_size = sizeof key, .timeout_s = -1),
        COVEY_EINVAL, "timeout_s is -1");
    check_fails(covey_connection_open(&c, .address = "tcp:127.0.0.1:1", .key = key,
                    .key_size = sizeof key, .timeout_s = 0.0 / 0.0),
        COVEY_EINVAL, "timeout_s is");
    pair_close(&p);
}

/* What the program has under that number now is not touched. */
/* Whatever it points to. */
static void check_is_nothing(void *wild)
{
    covey_connection *c = wild;
    covey_listener *l = wild;
    struct covey_waited waited[] = {COVEY_WAITED(c)};
    struct covey_waited listening[] = {COVEY_WAITED(l)};

    check_fails(covey_connection_poll(c, 0), COVEY_EINVAL, "not a connection of this process");
    check_fails(covey_connection_stop(c), COVEY_EINVAL, "not a connection");
    check_fails(covey_connection_close(c), COVEY_EINVAL, "not a connection");
    check(covey_connection_peer(c) == NULL);
    check_fails(covey_listener_fd(l), COVEY_EINVAL, "not a listener of this process");
    check_fails(covey_listener_stop(l), COVEY_EINVAL, "not a listener");
    check_fails(covey_listener_close(l), COVEY_EINVAL, "not a listener");
    check_fails(covey_wait(waited, 1, 0), COVEY_EINVAL, "not a connection");
    check_fails(covey_wait(listening, 1, 0), COVEY_EINVAL, "not a listener");
}

static int use_of_parent(void *argument)
{
    void **both = argument;

    check_is_nothing(both[0]);
    check_is_nothing(both[1]);
    return 0;
}

TEST(what_is_no_connection_or_listener_is_not_looked_at)
{
    const enum covey_method methods[] = {COVEY_SPAWN, COVEY_FORKSERVER};
    struct pair p = pair_open(ANY);
    void *both[] = {p.client, p.listener};

    check_is_nothing((void *)(uintptr_t)0xdead000);
    check_is_nothing((void *)(uintptr_t)16);
    check_is_nothing((char *)p.client + 1);
    check_fails(covey_listener_fd((covey_listener *)(void *)p.client), COVEY_EINVAL, "listener");
    for (int i = 0; i < (getenv("COVEY_TEST_VALGRIND") ? 1 : 2); i++) {
        covey_process *child = NULL;

        check_int(covey_process_start(&child, use_of_parent, both, .argument_size = sizeof both,
                      .method = methods[i]),
            ==, 0);
        child_join(child, 0);
    }
    pair_close(&p);
    check_is_nothing(both[0]);
    check_is_nothing(both[1]);
    check_int(covey_close(), ==, 0); /* the server */
}

enum {
    HANDLES = 10000
};

static void *add_and_remove(void *memory)
{
    char *first = memory;

    for (int i = 0; i < HANDLES; i++)
        check_int(cv_handle_add(first + 32 * i, CV_HANDLE_LISTENER), ==, 0);
    for (int i = 0; i < HANDLES; i++) {
        check(cv_handle_is(first + 32 * i, CV_HANDLE_LISTENER));
        check(!cv_handle_is(first + 32 * i, CV_HANDLE_CONNECTION));
        check(!cv_handle_is(first + 32 * i + 16, CV_HANDLE_LISTENER));
    }
    for (int i = 0; i < HANDLES; i++)
        cv_handle_remove(first + 32 * i, CV_HANDLE_LISTENER);
    for (int i = 0; i < HANDLES; i++)
        check(!cv_handle_is(first + 32 * i, CV_HANDLE_LISTENER));
    return NULL;
}

TEST(many_handles_are_known)
{
    static char memory[2][HANDLES * 32] __attribute__((aligned(32)));
    pthread_t thread;

    check_int(pthread_create(&thread, NULL, add_and_remove, memory[0]), ==, 0);
    (void)add_and_remove(memory[1]);
    check_int(pthread_join(thread, NULL), ==, 0);
}

TEST(a_descriptor_that_was_closed_is_told)
{
    struct pair p = pair_open(ANY);
    int fd = covey_connection_fd(p.client);
    int other;

    check_int(close(fd), ==, 0);
    other = open("/dev/null", O_RDWR | O_CLOEXEC);
    check_int(other, ==, fd);
    check_fails(covey_connection_send(p.client, "x", 1, 1), COVEY_ESTATE, "closed descriptor");
    pair_close(&p);
    check_int(fcntl(other, F_GETFD), ==, FD_CLOEXEC);
    (void)close(other);
}
