/* Two ends of a connection that the recorder holds for one with the outside (a socket pair would be a channel). */
#ifndef FT_TEST_PAIR_H
#define FT_TEST_PAIR_H
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "program.h"

static int here = -1, there = -1; /* `there` does not block */

static inline void join_them(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
	                              (size_t)snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "pair-%d", (int)getpid()));
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	MUST(bind(listener, (struct sockaddr *)&name, bytes) == 0 && listen(listener, 1) == 0);
	here = socket(AF_UNIX, SOCK_STREAM, 0);
	MUST(connect(here, (struct sockaddr *)&name, bytes) == 0);
	there = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	MUST(there >= 0);
	close(listener);
}
#endif
