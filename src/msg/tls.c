/* SPDX-License-Identifier: MIT */
#include "msg/tls.h"

#include "base/atomic.h"
#include "base/error.h"
#include "msg/openssl.h"

#include <stdlib.h>
#include <string.h>

/* What TLS hashes into the handshake: another version of the derivation is another name. */
#define IDENTITY "covey-1"
#define SALT     "covey connection 1"
#define INFO     "TLS 1.3 external PSK, TLS_AES_256_GCM_SHA384"

/* One suite only: OpenSSL settles on the suite first, and then on a key that fits its hash. */
#define SUITE "TLS_AES_256_GCM_SHA384"
static const unsigned char suite_id[2] = {0x13, 0x02};

enum {
    HASH_BYTES = CV_TLS_KEY_BYTES,
#ifdef CV_TESTING
    RECORDS_PER_KEY = 100,
#else
    RECORDS_PER_KEY = 1 << 24, /* RFC 8446, 5.5: a key is good for 2^24.5 full ones */
#endif
    SINK_BYTES = 4096,
    ALERT = SSL_AD_REASON_OFFSET, /* added to the number of an alert that has come */
    ALERT_MAX = 255,
};

/*
 * One for the process, with the settings that all connections share; never freed. Whoever needs it
 * first makes it, and if there are several, one of theirs is kept: so there is no lock here that
 * a fork could find held.
 */
struct shared {
    struct cv_openssl ssl;
    SSL_CTX *settings;
};

struct cv_tls {
    const struct cv_openssl *ssl;
    SSL *state;
    BIO *in;
    BIO *out;
    const unsigned char *psk;
    bool is_named; /* a client has named the key: if that does not fail, its proof was right */
    bool is_known;
    unsigned records; /* sent with the present key */
};

static struct shared *shared;

/* Settings *********************************************************************************** */

/* The key as OpenSSL takes it: the session in which it was agreed on, so to speak. */
static int make_session(SSL *state, SSL_SESSION **session)
{
    const struct cv_tls *tls = shared->ssl.SSL_get_ex_data(state, 0);
    const struct cv_openssl *ssl = tls->ssl;
    SSL_SESSION *s = ssl->SSL_SESSION_new();

    if (s && ssl->SSL_SESSION_set1_master_key(s, tls->psk, CV_TLS_KEY_BYTES) &&
        ssl->SSL_SESSION_set_cipher(s, ssl->SSL_CIPHER_find(state, suite_id)) &&
        ssl->SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION)) {
        *session = s;
        return 1;
    }
    ssl->SSL_SESSION_free(s);
    return 0;
}

/* The client's. */
static int use_key(SSL *state, const EVP_MD *hash, const unsigned char **id, size_t *id_size,
    SSL_SESSION **session)
{
    (void)hash;
    *id = (const unsigned char *)IDENTITY;
    *id_size = strlen(IDENTITY);
    return make_session(state, session);
}

/* The server's. Without a session the handshake goes on without the key, and fails since there is no
 * certificate. */
static int find_key(SSL *state, const unsigned char *id, size_t id_size, SSL_SESSION **session)
{
    struct cv_tls *tls = shared->ssl.SSL_get_ex_data(state, 0);

    *session = NULL;
    tls->is_named = id_size == strlen(IDENTITY) && memcmp(id, IDENTITY, id_size) == 0;
    return tls->is_named ? make_session(state, session) : 1;
}

/* Settings of the machine (openssl.cnf) apply but for what is set here. */
static bool configure(const struct cv_openssl *ssl, SSL_CTX *settings)
{
    (void)ssl->SSL_CTX_set_options(
        settings, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    (void)ssl->SSL_CTX_clear_options(
        settings, SSL_OP_ALLOW_NO_DHE_KEX | SSL_OP_IGNORE_UNEXPECTED_EOF);
    (void)ssl->SSL_CTX_ctrl(settings, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, NULL);
    (void)ssl->SSL_CTX_ctrl(settings, SSL_CTRL_MODE,
        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS, NULL);
    ssl->SSL_CTX_set_psk_use_session_callback(settings, use_key);
    ssl->SSL_CTX_set_psk_find_session_callback(settings, find_key);
    return ssl->SSL_CTX_ctrl(settings, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_3_VERSION, NULL) &&
           ssl->SSL_CTX_ctrl(settings, SSL_CTRL_SET_MAX_PROTO_VERSION, TLS1_3_VERSION, NULL) &&
           ssl->SSL_CTX_set_ciphersuites(settings, SUITE) &&
           ssl->SSL_CTX_set_num_tickets(settings, 0) &&
           ssl->SSL_CTX_set_max_early_data(settings, 0);
}

/* OpenSSL's own reason for its first error since the last operation began. */
static const char *reason(const struct cv_openssl *ssl)
{
    const char *text = ssl->ERR_reason_error_string(ssl->ERR_peek_error());

    return text ? text : "no reason given";
}

static int make_shared(struct shared *s)
{
    int r = cv_openssl_load(&s->ssl);

    if (r != 0)
        return r;
    /* Its clean-up at exit would be in the way of threads that still use connections. */
    if (!s->ssl.OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, NULL)) {
        r = cv_fail(COVEY_ESTATE, "OpenSSL does not start: %s", reason(&s->ssl));
        goto unload;
    }
    s->ssl.ERR_clear_error();
    s->settings = s->ssl.SSL_CTX_new(s->ssl.TLS_method());
    if (s->settings && configure(&s->ssl, s->settings))
        return 0;
    r = cv_fail(COVEY_ESTATE, "OpenSSL does not do TLS 1.3 with " SUITE ": %s", reason(&s->ssl));
    s->ssl.SSL_CTX_free(s->settings);
unload:
    cv_openssl_unload(&s->ssl);
    return r;
}

static int prepare(void)
{
    struct shared *made;
    int r;

    if (cv_load_acquire(&shared))
        return 0;
    made = calloc(1, sizeof *made);
    if (!made)
        return cv_fail(COVEY_ENOMEM, "no memory for OpenSSL's functions");
    r = make_shared(made);
    if (r == 0) {
        struct shared *none = NULL;

        if (__atomic_compare_exchange_n(
                &shared, &none, made, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return 0;
        made->ssl.SSL_CTX_free(made->settings);
        cv_openssl_unload(&made->ssl);
    }
    free(made);
    return r;
}

/* Keys *************************************************************************************** */

/* HKDF (RFC 5869) with SHA-384, whose output is as long as the key: so there is one step of each kind. */
int cv_tls_derive(unsigned char psk[CV_TLS_KEY_BYTES], const void *key, size_t size)
{
    static const unsigned char info[] = INFO "\1"; /* and a 0, which does not count */
    unsigned char secret[HASH_BYTES];
    const struct cv_openssl *ssl;
    bool done;
    int r = prepare();

    if (r != 0)
        return r;
    ssl = &shared->ssl;
    if (size > INT32_MAX)
        return cv_fail(COVEY_EINVAL, "the key has %zu bytes: 32 are enough", size);
    ssl->ERR_clear_error();
    /* What it calls the key is here the salt. */
    done = ssl->HMAC(ssl->EVP_sha384(), SALT, (int)strlen(SALT), key, size, secret, NULL) &&
           ssl->HMAC(ssl->EVP_sha384(), secret, HASH_BYTES, info, sizeof info - 1, psk, NULL);
    explicit_bzero(secret, sizeof secret);
    return done ? 0 : cv_fail(COVEY_ESTATE, "OpenSSL does not do HMAC: %s", reason(ssl));
}

/* One connection ***************************************************************************** */

int cv_tls_open(struct cv_tls **result, bool is_server, const unsigned char psk[CV_TLS_KEY_BYTES])
{
    const struct cv_openssl *ssl;
    struct cv_tls *tls;
    int r = prepare();

    if (r != 0)
        return r;
    tls = calloc(1, sizeof *tls);
    if (!tls)
        return cv_fail(COVEY_ENOMEM, "no memory for a connection");
    ssl = &shared->ssl;
    ssl->ERR_clear_error();
    tls->ssl = ssl;
    tls->psk = psk;
    tls->state = ssl->SSL_new(shared->settings);
    tls->in = ssl->BIO_new(ssl->BIO_s_mem());
    tls->out = ssl->BIO_new(ssl->BIO_s_mem());
    if (!tls->state || !tls->in || !tls->out || !ssl->SSL_set_ex_data(tls->state, 0, tls)) {
        r = cv_fail(COVEY_ENOMEM, "no memory for a connection: %s", reason(ssl));
        (void)ssl->BIO_free(tls->in);
        (void)ssl->BIO_free(tls->out);
        ssl->SSL_free(tls->state);
        free(tls);
        return r;
    }
    /* Empty is not the end. */
    (void)ssl->BIO_ctrl(tls->in, BIO_C_SET_BUF_MEM_EOF_RETURN, -1, NULL);
    ssl->SSL_set_bio(tls->state, tls->in, tls->out); /* which now owns them */
    if (is_server) {
        ssl->SSL_set_accept_state(tls->state);
    } else {
        /* It would accept a server that has no key but some certificate: so none is trusted, and the
         * end of the handshake asks again. */
        ssl->SSL_set_verify(tls->state, SSL_VERIFY_PEER, NULL);
        ssl->SSL_set_connect_state(tls->state);
    }
    *result = tls;
    return 0;
}

void cv_tls_free(struct cv_tls *tls)
{
    if (!tls)
        return;
    tls->ssl->SSL_free(tls->state);
    free(tls);
}

int cv_tls_put(struct cv_tls *tls, const void *bytes, size_t size)
{
    int n;

    if (size == 0)
        return 0;
    tls->ssl->ERR_clear_error();
    n = tls->ssl->BIO_write(tls->in, bytes, (int)size);
    return n == (int)size ? 0 : cv_fail(COVEY_ENOMEM, "no memory for %zu bytes that came", size);
}

size_t cv_tls_output(struct cv_tls *tls, const void **bytes)
{
    char *start = NULL;
    long n = tls->ssl->BIO_ctrl(tls->out, BIO_CTRL_INFO, 0, &start);

    *bytes = start;
    return n > 0 ? (size_t)n : 0;
}

void cv_tls_sent(struct cv_tls *tls, size_t size)
{
    unsigned char sink[SINK_BYTES];

    while (size > 0) {
        int n = tls->ssl->BIO_read(tls->out, sink, size < sizeof sink ? (int)size : SINK_BYTES);

        if (n <= 0)
            return;
        size -= (size_t)n;
    }
}

/* These are the alerts of one that has found the key to be another, or has none. */
static bool is_about_keys(int alert)
{
    return alert == SSL_AD_HANDSHAKE_FAILURE || alert == SSL_AD_ILLEGAL_PARAMETER ||
           alert == SSL_AD_DECRYPT_ERROR || alert == SSL_AD_UNKNOWN_PSK_IDENTITY ||
           alert == SSL_AD_BAD_RECORD_MAC;
}

static bool has_no_memory(const struct cv_tls *tls)
{
    return ERR_GET_REASON(tls->ssl->ERR_peek_error()) == ERR_R_MALLOC_FAILURE;
}

static int handshake_failed(const struct cv_tls *tls)
{
    int number = ERR_GET_REASON(tls->ssl->ERR_peek_error());

    if (has_no_memory(tls))
        return cv_fail(COVEY_ENOMEM, "no memory for a handshake");
    if (number >= ALERT && number <= ALERT + ALERT_MAX && is_about_keys(number - ALERT))
        return cv_fail(COVEY_EAUTH,
            "the other side has refused the key: is it the same? (TLS alert %d)", number - ALERT);
    if (number >= ALERT && number <= ALERT + ALERT_MAX)
        return cv_fail(
            COVEY_EAUTH, "the other side has ended the handshake (TLS alert %d)", number - ALERT);
    if (number == SSL_R_BINDER_DOES_NOT_VERIFY)
        return cv_fail(COVEY_EAUTH, "the other side has another key");
    if (number == SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM || number == SSL_R_NO_SHARED_CIPHER ||
        number == SSL_R_NO_CERTIFICATE_SET || number == SSL_R_CERTIFICATE_VERIFY_FAILED)
        return cv_fail(
            COVEY_EAUTH, "the other side speaks TLS, but has no key (%s)", reason(tls->ssl));
    return cv_fail(
        COVEY_EAUTH, "the other side does not speak covey's protocol (%s)", reason(tls->ssl));
}

bool cv_tls_is_known(const struct cv_tls *tls)
{
    return tls->is_known;
}

/* Where the groups of the two sides differ, OpenSSL asks a client for other words (HelloRetryRequest), and
 * forgets meanwhile that it has verified the first: so it does not tell who is known. */
int cv_tls_handshake(struct cv_tls *tls)
{
    int done;

    tls->ssl->ERR_clear_error();
    done = tls->ssl->SSL_do_handshake(tls->state);
    if (done != 1) {
        if (tls->ssl->SSL_get_error(tls->state, done) != SSL_ERROR_WANT_READ)
            return handshake_failed(tls);
        tls->is_known = tls->is_named;
        return CV_TLS_WANT;
    }
    if (!tls->ssl->SSL_session_reused(tls->state))
        return cv_fail(COVEY_EAUTH, "the other side speaks TLS, but has no key");
    tls->is_known = true;
    tls->psk = NULL;
    return 0;
}

/* Now and then with a new key, which the other side is told before. */
int cv_tls_write(struct cv_tls *tls, const void *bytes, size_t size)
{
    size_t n = 0;

    tls->ssl->ERR_clear_error();
    if (++tls->records == RECORDS_PER_KEY) {
        (void)tls->ssl->SSL_key_update(tls->state, SSL_KEY_UPDATE_NOT_REQUESTED);
        tls->records = 0;
    }
    if (tls->ssl->SSL_write_ex(tls->state, bytes, size, &n) == 1 && n == size)
        return 0;
    return cv_fail(COVEY_ENOMEM, "%zu bytes cannot be encrypted: %s", size, reason(tls->ssl));
}

int cv_tls_read(struct cv_tls *tls, void *bytes, size_t room, size_t *size)
{
    int done;

    tls->ssl->ERR_clear_error();
    done = tls->ssl->SSL_read_ex(tls->state, bytes, room, size);
    if (done == 1)
        return 0;
    switch (tls->ssl->SSL_get_error(tls->state, done)) {
    case SSL_ERROR_WANT_READ:
        return CV_TLS_WANT;
    case SSL_ERROR_ZERO_RETURN:
        return COVEY_ECLOSED;
    default:
        if (has_no_memory(tls))
            return cv_fail(COVEY_ENOMEM, "no memory for what came");
        return cv_fail(COVEY_ECORRUPT, "what came is not what the other side has encrypted: %s",
            reason(tls->ssl));
    }
}

int cv_tls_end(struct cv_tls *tls)
{
    tls->ssl->ERR_clear_error();
    if (tls->ssl->SSL_shutdown(tls->state) >= 0)
        return 0;
    return cv_fail(
        COVEY_ENOMEM, "the end of a connection cannot be encrypted: %s", reason(tls->ssl));
}
