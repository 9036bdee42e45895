/*
 * Children that are not recorded: of a process that has threads. They work for themselves, and that is no loss; with "serve" one
 * of them answers a client, and then the recording must say that it is lost.
 */
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "program.h"

static void *sit(void *unused)
{
	while (going_on())
		nap(2000);
	return unused;
}

static int listen_somewhere(struct sockaddr_in *at)
{
	socklen_t bytes = sizeof *at;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	*at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	MUST(fd >= 0 && bind(fd, (struct sockaddr *)at, sizeof *at) == 0 && listen(fd, 5) == 0);
	MUST(getsockname(fd, (struct sockaddr *)at, &bytes) == 0);
	return fd;
}

static int serve_one(int listener)
{
	char c;
	int fd = accept(listener, NULL, NULL);
	return fd >= 0 && read(fd, &c, 1) == 1 && write(fd, &c, 1) == 1 ? 4 : 1;
}

static void ask_one(const struct sockaddr_in *at)
{
	char c = 'x';
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	MUST(fd >= 0 && connect(fd, (const struct sockaddr *)at, sizeof *at) == 0);
	MUST(write(fd, &c, 1) == 1 && read(fd, &c, 1) == 1);
	close(fd);
}

static uint64_t have_computed(uint64_t n)
{
	int fds[2], status = 0;
	uint64_t value = n;
	MUST(pipe(fds) == 0);
	pid_t child = fork();
	if (child == 0) {
		value = mix(n, 7);
		_exit(write(fds[1], &value, sizeof value) == sizeof value ? 4 : 1);
	}
	close(fds[1]);
	MUST(read(fds[0], &value, sizeof value) == sizeof value && value == mix(n, 7));
	close(fds[0]);
	MUST(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 4);
	return value;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	struct sockaddr_in at;
	int status = 0, listener;
	uint64_t hash = 0;
	begin(argc, argv);
	listener = listen_somewhere(&at);
	MUST(pthread_create(&thread, NULL, sit, NULL) == 0);
	if (argc > 3 && strcmp(argv[3], "serve") == 0) {
		pid_t child = fork();
		if (child == 0)
			_exit(serve_one(listener));
		ask_one(&at);
		MUST(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 4);
	}
	for (uint64_t n = 1; going_on(); n++) {
		hash = mix(hash, have_computed(n));
		say("hash", hash);
		nap(500);
	}
	MUST(pthread_join(thread, NULL) == 0);
	return finish();
}
