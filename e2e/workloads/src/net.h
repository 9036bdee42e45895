/* A server of lines over TCP: one thread, epoll, many connections, nothing lost under back-pressure. */
#ifndef WORKLOADS_NET_H
#define WORKLOADS_NET_H

#include <stddef.h>
#include <stdint.h>

enum { LINE_BYTES_MAX = 8192, INPUT_BYTES_MAX = 65536, OUTPUT_BYTES_MAX = 262144, CONNECTIONS_MAX = 4096 };

struct connection {
	int fd;
	uint64_t received; /* requests taken from this connection */
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

/* Says why and ends the program. */
_Noreturn void die(const char *what);

/* snprintf into a reply; text that does not fit ends the program. */
size_t reply_text(char *reply, size_t reply_bytes_max, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

uint16_t port_argument(int argc, char **argv);

#endif
