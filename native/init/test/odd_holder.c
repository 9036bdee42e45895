/*
 * odd-holder UNIX-SOCKET FILE: opens one of everything that a checkpoint cannot hold, says `name fd` for each that the
 * kernel granted, then `ready`, and waits. UNIX-SOCKET is connected to; FILE is made, deleted and kept open.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static void granted(const char *name, int fd)
{
	if (fd >= 0)
		printf("%s %d\n", name, fd);
	else
		printf("%s refused %s\n", name, strerror(errno));
}

static int open_io_uring(void)
{
	struct io_uring_params params = { 0 };
	return (int)syscall(SYS_io_uring_setup, 4, &params);
}

static int open_perf(void)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_DUMMY };
	return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static int listen_mptcp(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 262 /* IPPROTO_MPTCP */);
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(4571) };
	if (fd >= 0 && (bind(fd, (struct sockaddr *)&any, sizeof(any)) != 0 || listen(fd, 1) != 0))
		return -1;
	return fd;
}

static int connect_unix(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (strlen(path) >= sizeof(address.sun_path))
		return -1;
	strcpy(address.sun_path, path);
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? fd : -1;
}

static int open_deleted(const char *path)
{
	int fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
	if (fd < 0 || ftruncate(fd, 2 << 20) != 0 || unlink(path) != 0)
		return -1;
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	int pair[2];
	granted("io_uring", open_io_uring());
	granted("userfaultfd", (int)syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */));
	granted("perf", open_perf());
	granted("mptcp", listen_mptcp());
	granted("packet", socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
	granted("raw", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	granted("unix", connect_unix(argv[1]));
	granted("pair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 ? pair[0] : -1);
	granted("deleted", open_deleted(argv[2]));
	granted("tun", open("/dev/net/tun", O_RDWR));
	int segment = shmget(IPC_PRIVATE, 4096, 0600);
	granted("shm", segment >= 0 && shmat(segment, NULL, 0) != (void *)-1 ? segment : -1);
	printf("ready\n");
	fflush(stdout);
	for (;;)
		pause();
}
