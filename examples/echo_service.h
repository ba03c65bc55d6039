/* SPDX-License-Identifier: MIT */
/* What both echo servers have in common: sockets, signals and the service itself. */
#ifndef ECHO_SERVICE_H
#define ECHO_SERVICE_H

#include <stdbool.h>

/* Listens on 127.0.0.1, at the port in @text (0: any that is free), and prints which. -1: cannot.
 */
int listen_on(const char *text);

/* The next connection; -1: none this time. */
int accept_connection(int listener);

/* Sends all that comes back in capitals, until the client has no more, or is gone. */
void echo_in_capitals(int connection);

/* SIGTERM, SIGINT and SIGCHLD are from now on read from a descriptor. -1: cannot. */
int catch_signals(void);

/* In a child: they do again what they do by default. */
void release_signals(void);

/* Reads those that have come: true when this process is to end. */
bool is_told_to_end(int signals);

#endif
