/*
 * Echo that verifies itself. Request `<sequence> <payload>`, sequence counting from 1 on each connection; reply
 * `ok <sequence> <counter> <payload>`, counter being the number of requests this connection has had, kept in memory
 * alone. A gap, a repeat or a counter that went back shows either here (`bad …`) or at the client. `stats` answers
 * `ok requests=<n> bad=<n>` for all connections together.
 */
#include "net.h"

#include <stdlib.h>
#include <string.h>

static uint64_t requests;
static uint64_t bad;

static size_t answer(struct connection *connection, char *line, char *reply, size_t reply_bytes_max)
{
	if (strcmp(line, "stats") == 0)
		return reply_text(reply, reply_bytes_max, "ok requests=%llu bad=%llu",
				  (unsigned long long)requests, (unsigned long long)bad);
	char *payload = NULL;
	unsigned long long sequence = strtoull(line, &payload, 10);
	requests++;
	connection->received++;
	if (payload == line || *payload != ' ' || sequence != connection->received) {
		bad++;
		return reply_text(reply, reply_bytes_max, "bad sequence=%llu expected=%llu", sequence,
				  (unsigned long long)connection->received);
	}
	/* The line is bounded by the input check, but a reply is a little longer than its request. */
	if (strlen(payload) + 64 > reply_bytes_max) {
		bad++;
		return reply_text(reply, reply_bytes_max, "bad too-long");
	}
	return reply_text(reply, reply_bytes_max, "ok %llu %llu%s", sequence,
			  (unsigned long long)connection->received, payload);
}

int main(int argc, char **argv)
{
	serve(port_argument(argc, argv), answer);
}
