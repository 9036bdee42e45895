/*
 * Starts the toolkit's CRIU inside a container: in all of its namespaces, with its root directory, but with a
 * loader, libraries and images that are on the host. Nothing is mounted into the container: every path that
 * CRIU is given is /proc/self/fd/N, and N was opened on the host before the namespaces were joined.
 *
 * Invariants:
 *  - The container needs nothing but a /proc of its own pid namespace, which Docker always mounts.
 *  - The new process is a child of the caller (CLONE_PARENT), so that the caller can wait for it, and dies with
 *    the caller until it says otherwise (PR_SET_PDEATHSIG).
 *  - No descriptor but the ones listed below reaches it.
 */
#ifndef FT_ENTER_ENTER_H
#define FT_ENTER_ENTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Numbers that the descriptors get in the CRIU process; /proc/self/fd/<these> are its paths. */
enum enter_fd {
	ENTER_LIBRARIES = 11,
	ENTER_CRIU,
	ENTER_HOOK,
	ENTER_IMAGES,
	ENTER_WORK, /* log files */
	ENTER_KDAT,
	ENTER_SOCKET,
	ENTER_STDIO, /* three: what the application's 0, 1 and 2 are to be connected to on restore */
	ENTER_AREAS = ENTER_STDIO + 3, /* an iterator over memory areas (vma/link.h) */
	ENTER_END,
};
#define ENTER_IMAGES_NUMBER "14"
#define ENTER_IMAGES_PATH "/proc/self/fd/14"
#define ENTER_WORK_PATH "/proc/self/fd/15"
#define ENTER_KDAT_PATH "/proc/self/fd/16"
#define ENTER_SOCKET_NUMBER "17"
#define ENTER_AREAS_NUMBER "21"

/* The toolkit folder: ld.so, criu, lib/. All descriptors are close-on-exec. */
struct enter_toolkit {
	int loader;
	int libraries;
	int criu;
	int hook;
};

int enter_toolkit_open(struct enter_toolkit *toolkit, const char *directory, const char *hook);
void enter_toolkit_close(struct enter_toolkit *toolkit);

/* A container, held by the pidfd of its init so that a recycled pid cannot be mistaken for it. */
struct enter_container {
	pid_t init_pid;
	int pidfd;
};

int enter_container_open(struct enter_container *container, pid_t init_pid);
void enter_container_close(struct enter_container *container);
/* False once it has ended; waits up to `wait_ms` for that. */
bool enter_container_alive(const struct enter_container *container, int wait_ms);

struct enter_spawn {
	const struct enter_container *container;
	const struct enter_toolkit *toolkit;
	int images, work, kdat;
	int socket, areas;       /* -1: none */
	int stdio[3];            /* -1: none */
	bool join_cgroups;       /* be accounted to the container: what is restored inherits it */
	pid_t first_pid;         /* 0: leave the pid counter alone */
	pid_t time_from;         /* host pid whose time namespace is joined; 0: the caller's own */
	char *const *arguments;  /* of criu, from its command on, NULL at the end */
	char *const *environment;
};

/* The host pid of the CRIU process, and *pidfd; -1 with errno, and *stage says at what. */
pid_t enter_spawn(const struct enter_spawn *spawn, int *pidfd, const char **stage);

/* Connects to ftinit in the container's network namespace, and makes sure that it is init_pid that listens. */
int enter_connect_init(const struct enter_container *container);

/* Moves the calling process to the cgroups of `pid`, in every hierarchy there is. */
int enter_cgroups(pid_t pid);

/* Parsers of /proc texts, pure. */
/* Where in /proc/self/mountinfo's text the cgroup hierarchy with `controllers` ("" for version 2) is mounted. */
int enter_cgroup_mount(const char *mountinfo, const char *controllers, char *out, size_t size);

#endif
