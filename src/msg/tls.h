/* SPDX-License-Identifier: MIT */
/*
 * TLS 1.3 with a key that both sides know (docs/wire.md), between bytes and bytes: it knows nothing of
 * sockets and never waits. What the other side has sent is put in, what is to be sent is taken out.
 *
 * Not for two threads at once. Whatever fails leaves its own message; after that only what is to be
 * sent (an alert, for the other side) may be taken out.
 */
#ifndef CV_TLS_H
#define CV_TLS_H

#include <stdbool.h>
#include <stddef.h>

enum {
    CV_TLS_KEY_BYTES = 48,
    CV_TLS_PIECE_MAX = 16384, /* what goes into one record */
    CV_TLS_WANT = 1,          /* more has to come from the other side first */
};

struct cv_tls;

/* The key of TLS that the user's @key gives. COVEY_ESTATE without OpenSSL. */
int cv_tls_derive(unsigned char psk[CV_TLS_KEY_BYTES], const void *key, size_t size);

/* Keeps @psk, which must stay until the handshake is done. */
int cv_tls_open(struct cv_tls **result, bool is_server, const unsigned char psk[CV_TLS_KEY_BYTES]);

/* Frees memory, and says nothing to the other side. */
void cv_tls_free(struct cv_tls *tls);

/* What has come. */
int cv_tls_put(struct cv_tls *tls, const void *bytes, size_t size);

/* What is to be sent: how many bytes, and where they are. */
size_t cv_tls_output(struct cv_tls *tls, const void **bytes);

/* So many of them are sent. */
void cv_tls_sent(struct cv_tls *tls, size_t size);

/* 0: done, and the other side has the key; CV_TLS_WANT; COVEY_EAUTH; COVEY_ENOMEM. */
int cv_tls_handshake(struct cv_tls *tls);

/* Has the other side shown that it has the key, or repeated the words of one that has? A listener knows after
 * the first words of a client. */
bool cv_tls_is_known(const struct cv_tls *tls);

/* Up to CV_TLS_PIECE_MAX bytes, but not none. */
int cv_tls_write(struct cv_tls *tls, const void *bytes, size_t size);

/* 0 with *size bytes, not none; CV_TLS_WANT; COVEY_ECLOSED without a message after the other side's
 * end; COVEY_ECORRUPT for what is not encrypted with the key, or was changed on its way; COVEY_ENOMEM. */
int cv_tls_read(struct cv_tls *tls, void *bytes, size_t room, size_t *size);

/* The last that is to be sent: that nothing more comes. */
int cv_tls_end(struct cv_tls *tls);

#endif
