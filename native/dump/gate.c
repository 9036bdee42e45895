#include "dump/gate.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dump/clock.h"

void gate_init(struct gate *gate, const char *path)
{
	memset(gate, 0, sizeof *gate);
	gate->path = path;
	gate->fd = -1;
}

void gate_close(struct gate *gate)
{
	if (gate->fd >= 0)
		close(gate->fd);
	gate->fd = -1;
	gate->marked = false;
	memset(&gate->reader, 0, sizeof gate->reader);
}

static int failed(struct gate *gate, const char *what, int error)
{
	snprintf(gate->error, sizeof gate->error, "gate: %s: %s", what, strerror(error));
	gate_close(gate);
	errno = error;
	return -1;
}

static int read_more(struct gate *gate, uint64_t deadline_us)
{
	struct pollfd ready = { .fd = gate->fd, .events = POLLIN };
	int count = poll(&ready, 1, clock_left_ms(deadline_us));
	if (count < 0 && errno == EINTR)
		return 0;
	if (count == 0)
		errno = ETIMEDOUT;
	if (count <= 0)
		return -1;
	size_t space = line_reader_space(&gate->reader);
	ssize_t got = recv(gate->fd, gate->reader.text + gate->reader.length, space, MSG_DONTWAIT);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got == 0)
		errno = ECONNRESET;
	if (got <= 0)
		return -1;
	gate->reader.length += (size_t)got;
	return 0;
}

/* One request, one reply. Events cannot come: this connection never subscribes. */
static int ask(struct gate *gate, const char *what, const struct line_writer *request, uint64_t deadline_us)
{
	if (gate->fd < 0)
		return failed(gate, what, ENOTCONN);
	if (send(gate->fd, request->text, request->length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)request->length)
		return failed(gate, what, errno);
	for (;;) {
		char *text;
		size_t length;
		struct line line;
		int have = line_reader_next(&gate->reader, &text, &length);
		if (have < 0 || (have > 0 && line_parse(text, length, &line) != 0))
			return failed(gate, what, EPROTO);
		if (have == 0) {
			if (read_more(gate, deadline_us) != 0)
				return failed(gate, what, errno);
			continue;
		}
		if (strcmp(line.verb, "ok") == 0)
			return 0;
		const char *code = line_get(&line, "code");
		snprintf(gate->error, sizeof gate->error, "gate: %s was refused: %s", what, code == NULL ? line.verb : code);
		errno = EPROTO;
		return -1;
	}
}

int gate_connect(struct gate *gate, uint64_t deadline_us)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (gate->path == NULL || gate->fd >= 0)
		return 0;
	if (strlen(gate->path) >= sizeof address.sun_path)
		return failed(gate, "connect", ENAMETOOLONG);
	strcpy(address.sun_path, gate->path);
	gate->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (gate->fd < 0 || connect(gate->fd, (struct sockaddr *)&address, sizeof address) != 0)
		return failed(gate, "connect", errno);
	struct line_writer request;
	line_begin(&request, "hello");
	line_end(&request);
	return ask(gate, "hello", &request, deadline_us);
}

int gate_mark(struct gate *gate, uint64_t epoch, uint64_t deadline_us)
{
	if (gate->path == NULL)
		return 0;
	struct line_writer request;
	line_begin(&request, "mark");
	line_u64(&request, "epoch", epoch);
	line_end(&request);
	if (ask(gate, "mark", &request, deadline_us) != 0)
		return -1;
	gate->marked = true;
	return 0;
}

int gate_thaw(struct gate *gate, uint64_t deadline_us)
{
	if (!gate->marked)
		return 0;
	struct line_writer request;
	line_begin(&request, "thaw");
	line_end(&request);
	gate->marked = false;
	if (ask(gate, "thaw", &request, deadline_us) == 0)
		return 0;
	gate_close(gate); /* which thaws as well */
	return -1;
}
