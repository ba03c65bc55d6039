/* SPDX-License-Identifier: MIT */
/*
 * OpenSSL, loaded when it is first needed: a program that has no connections does not pay for it at
 * each of its starts.
 *
 * Only functions that stand in this list may be called, and only as ssl->NAME. What OpenSSL's headers
 * define as macros calls the function itself, past the table: its expansion has to be written out.
 * With the build option tls=linked the table has the addresses that the linker has found.
 */
#ifndef CV_OPENSSL_H
#define CV_OPENSSL_H

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>

#define CV_OPENSSL_FUNCTIONS(X)                                                                    \
    X(BIO_ctrl)                                                                                    \
    X(BIO_free)                                                                                    \
    X(BIO_new)                                                                                     \
    X(BIO_read)                                                                                    \
    X(BIO_s_mem)                                                                                   \
    X(BIO_write)                                                                                   \
    X(ERR_clear_error)                                                                             \
    X(ERR_peek_error)                                                                              \
    X(ERR_reason_error_string)                                                                     \
    X(EVP_sha384)                                                                                  \
    X(HMAC)                                                                                        \
    X(OPENSSL_init_ssl)                                                                            \
    X(SSL_CIPHER_find)                                                                             \
    X(SSL_CTX_clear_options)                                                                       \
    X(SSL_CTX_ctrl)                                                                                \
    X(SSL_CTX_free)                                                                                \
    X(SSL_CTX_new)                                                                                 \
    X(SSL_CTX_set_ciphersuites)                                                                    \
    X(SSL_CTX_set_max_early_data)                                                                  \
    X(SSL_CTX_set_num_tickets)                                                                     \
    X(SSL_CTX_set_options)                                                                         \
    X(SSL_CTX_set_psk_find_session_callback)                                                       \
    X(SSL_CTX_set_psk_use_session_callback)                                                        \
    X(SSL_SESSION_free)                                                                            \
    X(SSL_SESSION_new)                                                                             \
    X(SSL_SESSION_set1_master_key)                                                                 \
    X(SSL_SESSION_set_cipher)                                                                      \
    X(SSL_SESSION_set_protocol_version)                                                            \
    X(SSL_do_handshake)                                                                            \
    X(SSL_free)                                                                                    \
    X(SSL_get_error)                                                                               \
    X(SSL_get_ex_data)                                                                             \
    X(SSL_key_update)                                                                              \
    X(SSL_new)                                                                                     \
    X(SSL_read_ex)                                                                                 \
    X(SSL_session_reused)                                                                          \
    X(SSL_set_accept_state)                                                                        \
    X(SSL_set_bio)                                                                                 \
    X(SSL_set_connect_state)                                                                       \
    X(SSL_set_ex_data)                                                                             \
    X(SSL_set_verify)                                                                              \
    X(SSL_shutdown)                                                                                \
    X(SSL_write_ex)                                                                                \
    X(TLS_method)

struct cv_openssl {
#define CV_OPENSSL_MEMBER_(name) __typeof__(name) *(name);
    CV_OPENSSL_FUNCTIONS(CV_OPENSSL_MEMBER_)
#undef CV_OPENSSL_MEMBER_
    void *library; /* what dlopen() gave; NULL: it is linked */
};

/* Fills it. COVEY_ESTATE, and says what is missing. */
int cv_openssl_load(struct cv_openssl *ssl);

/* For one that was loaded and is not used after all. */
void cv_openssl_unload(struct cv_openssl *ssl);

#endif
