/*
 * More than a channel holds: writes that wait for their reader, one way through a pipe and back through a socket pair. What
 * is read must be what was written, also over the end of a replay.
 */
#include <sys/socket.h>

#include "program.h"

enum { BLOCK_BYTES = 200 << 10 };
static int pipe_fds[2], pair_fds[2];

struct stream {
	int fd;
	uint64_t state, bytes;
};

static void fill(struct stream *s, uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		s->state = s->state * 6364136223846793005ull + 1442695040888963407ull;
		bytes[i] = (uint8_t)(s->state >> 56);
	}
	s->bytes += count;
}

static void put(struct stream *s, size_t count)
{
	static __thread uint8_t bytes[BLOCK_BYTES];
	fill(s, bytes, count);
	for (size_t done = 0; done < count && !failures;) {
		ssize_t here = write(s->fd, bytes + done, count - done);
		MUST(here > 0 || errno == EINTR);
		done += here > 0 ? (size_t)here : 0;
	}
}

static bool get(struct stream *s, size_t most)
{
	static __thread uint8_t bytes[BLOCK_BYTES], wanted[BLOCK_BYTES];
	ssize_t got = read(s->fd, bytes, most);
	if (got < 0 && errno == EINTR)
		return true;
	MUST(got >= 0);
	fill(s, wanted, got > 0 ? (size_t)got : 0);
	MUST(got <= 0 || memcmp(bytes, wanted, (size_t)got) == 0);
	return got > 0;
}

static void *echo(void *unused)
{
	struct stream in = {.fd = pipe_fds[0], .state = 1}, out = {.fd = pair_fds[1], .state = 2};
	(void)unused;
	for (uint64_t n = 0; get(&in, 1 + mix(n, 5) % BLOCK_BYTES) && !failures; n++) {
		if (n % 7 == 0)
			put(&out, 1 + mix(n, 7) % 3000);
		if (n % 50 == 0)
			say("in", in.state);
	}
	shutdown(pair_fds[1], SHUT_WR);
	return NULL;
}

static void *listen_back(void *unused)
{
	struct stream in = {.fd = pair_fds[0], .state = 2};
	(void)unused;
	for (uint64_t n = 0; get(&in, 1 + mix(n, 9) % 8000) && !failures; n++) {
		if (n % 20 == 0)
			nap(200);
		if (n % 50 == 0)
			say("back", in.state);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct stream out = {.state = 1};
	pthread_t threads[2];
	begin(argc, argv);
	MUST(pipe(pipe_fds) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair_fds) == 0);
	out.fd = pipe_fds[1];
	MUST(pthread_create(&threads[0], NULL, echo, NULL) == 0);
	MUST(pthread_create(&threads[1], NULL, listen_back, NULL) == 0);
	for (uint64_t n = 0; going_on() && !failures; n++) {
		put(&out, 1 + mix(n, 3) % BLOCK_BYTES);
		if (n % 5 == 0)
			nap(500);
		if (n % 20 == 0)
			say("out", out.bytes);
	}
	close(pipe_fds[1]);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	return finish();
}
