/*
 * ftprobe: the smallest program that has what a service has: an established TCP connection and an output. It
 * sends a number through the connection, takes it out at the other end, prints it, and goes on with the next;
 * it ends with an error as soon as anything is not as it was. Preflight dumps and restores it.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVERY_NS = 5000000 };

static int connect_to_self(int ends[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &length) != 0)
		return -1;
	ends[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (ends[0] < 0 || connect(ends[0], (struct sockaddr *)&address, sizeof address) != 0)
		return -1;
	ends[1] = accept(listener, NULL, NULL);
	return ends[1] < 0 ? -1 : 0;
}

static int exchange(const int ends[2], uint64_t number)
{
	uint64_t got = 0;
	if (send(ends[0], &number, sizeof number, MSG_NOSIGNAL) != sizeof number)
		return -1;
	if (recv(ends[1], &got, sizeof got, MSG_WAITALL) != sizeof got)
		return -1;
	return got == number ? 0 : -1;
}

int main(void)
{
	int ends[2];
	if (connect_to_self(ends) != 0) {
		perror("ftprobe");
		return 1;
	}
	for (uint64_t number = 1;; number++) {
		char line[32];
		const struct timespec pause = { .tv_nsec = EVERY_NS };
		if (exchange(ends, number) != 0) {
			perror("ftprobe: the connection was lost");
			return 1;
		}
		int length = snprintf(line, sizeof line, "%" PRIu64 "\n", number);
		if (write(STDOUT_FILENO, line, (size_t)length) != length)
			return 1;
		nanosleep(&pause, NULL);
	}
}
