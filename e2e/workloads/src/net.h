/*
 * A server of lines over TCP: one thread or several, epoll, many connections, nothing lost under back-pressure.
 *
 * Invariant: a connection belongs to one worker from its arrival to its end; only that worker's thread touches it. On its way from
 * the thread that accepts to its worker it is in the worker's inbox, under the inbox's lock.
 */
#ifndef WORKLOADS_NET_H
#define WORKLOADS_NET_H

#include <stddef.h>
#include <stdint.h>

enum { LINE_BYTES_MAX = 8192, INPUT_BYTES_MAX = 65536, OUTPUT_BYTES_MAX = 262144, CONNECTIONS_MAX = 4096, THREADS_MAX = 16 };

struct connection {
	int fd;
	unsigned worker;   /* which thread serves it, from 0 */
	uint64_t received; /* requests taken from this connection */
	struct connection *next; /* in an inbox */
	size_t input_bytes;
	size_t output_bytes;
	int closing;
	char input[INPUT_BYTES_MAX];
	char output[OUTPUT_BYTES_MAX];
};

/* Answers one line (ended by NUL, without its newline): writes a reply without newline, returns its length. */
typedef size_t (*answer_fn)(struct connection *connection, char *line, char *reply, size_t reply_bytes_max);

/* Serves for ever; returns only by ending the program. */
_Noreturn void serve(uint16_t port, answer_fn answer);

/* The same with so many threads, which call `answer` side by side; connections are dealt out in turn. */
_Noreturn void serve_threads(uint16_t port, unsigned threads, answer_fn answer);

/* Starts a thread that is never waited for. */
void start_thread(void *(*work)(void *), void *argument);

/* Says why and ends the program. */
_Noreturn void die(const char *what);

/* snprintf into a reply; text that does not fit ends the program. */
size_t reply_text(char *reply, size_t reply_bytes_max, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

uint16_t port_argument(int argc, char **argv);

#endif
