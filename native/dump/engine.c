#include "dump/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk/disk.h"
#include "dump/clock.h"

void engine_init(struct engine *engine)
{
	*engine = (struct engine){ .pidfd = -1, .socket = -1, .images = -1 };
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int engine_remove_images(int work, const char *name)
{
	DIR *directory = disk_list(work, name);
	if (directory == NULL)
		return errno == ENOENT ? 0 : -1;
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			(void)unlinkat(dirfd(directory), entry->d_name, 0); /* rmdir below says if something is left */
	closedir(directory);
	return unlinkat(work, name, AT_REMOVEDIR);
}

static int make_images(struct engine *engine, int work)
{
	snprintf(engine->images_name, sizeof engine->images_name, "images-%" PRIu64, engine->sequence);
	if (engine_remove_images(work, engine->images_name) != 0 || mkdirat(work, engine->images_name, 0700) != 0)
		return -1;
	engine->images = openat(work, engine->images_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return engine->images < 0 ? -1 : 0;
}

static pid_t spawn(struct engine *engine, const struct engine_places *places, int socket, const char **stage)
{
	char tree[16], target[48], shortcuts[48], pages[64], pages_bytes[48];
	snprintf(tree, sizeof tree, "%d", (int)places->app_pid);
	snprintf(target, sizeof target, HOOK_ENV_TARGET "=%d", (int)places->app_pid);
	snprintf(shortcuts, sizeof shortcuts, HOOK_ENV_SHORTCUTS "=%u", (unsigned)places->shortcuts);
	snprintf(pages, sizeof pages, HOOK_ENV_PAGES "=%s", places->pages_name);
	snprintf(pages_bytes, sizeof pages_bytes, HOOK_ENV_PAGES_BYTES "=%" PRIu64, places->pages_bytes);
	char *const arguments[] = {
		"dump", "--tree", tree, "--images-dir", ENTER_IMAGES_PATH, "--work-dir", ENTER_WORK_PATH,
		"--log-file", engine->log_name, "-v2", "--leave-running", "--tcp-established",
		"--skip-in-flight", "--network-lock", "skip", "--manage-cgroups=ignore",
		"--file-validation", "filesize", "--file-locks", "--link-remap", "--ghost-limit", "64M",
		"--timeout", "60", places->soft_dirty ? "--track-mem" : NULL, NULL,
	};
	char *const environment[] = {
		"LD_BIND_NOW=1", /* no symbol is looked up while the tasks stand still */
		HOOK_ENV_KDAT "=" ENTER_KDAT_PATH, HOOK_ENV_SOCKET "=" ENTER_SOCKET_NUMBER, target, "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
		HOOK_ENV_IMAGES "=" ENTER_IMAGES_NUMBER, shortcuts, pages, pages_bytes,
		places->areas >= 0 ? HOOK_ENV_AREAS "=" ENTER_AREAS_NUMBER : HOOK_ENV_AREAS "=-1", HOOK_ENV_WARM "=1", places->quiet ? HOOK_ENV_NO_PROBE "=1" : NULL, NULL,
	};
	const struct enter_spawn how = {
		.container = places->container, .toolkit = places->toolkit,
		.images = engine->images, .work = places->logs, .kdat = places->kdat,
		.socket = socket, .areas = places->areas, .stdio = { -1, -1, -1 },
		.time_from = places->app_host_pid,
		.arguments = arguments, .environment = environment,
	};
	return enter_spawn(&how, &engine->pidfd, stage);
}

int engine_start(struct engine *engine, const struct engine_places *places, uint64_t sequence, const char **stage)
{
	int pair[2];
	engine_init(engine);
	engine->sequence = sequence;
	snprintf(engine->log_name, sizeof engine->log_name, "dump-%08" PRIu64 ".log", sequence);
	*stage = "images";
	if (make_images(engine, places->work) != 0)
		return -1;
	*stage = "socket";
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		goto failed;
	pid_t pid = spawn(engine, places, pair[1], stage);
	int error = errno;
	close(pair[1]);
	errno = error;
	if (pid > 0) {
		engine->pid = pid;
		engine->socket = pair[0];
		return 0;
	}
	close(pair[0]);
	errno = error;
failed:
	error = errno;
	close_fd(&engine->images);
	(void)engine_remove_images(places->work, engine->images_name);
	errno = error;
	return -1;
}

static void reap(struct engine *engine)
{
	while (waitpid(engine->pid, &engine->status, 0) < 0)
		if (errno != EINTR)
			abort(); /* our own child, nobody else waits for it */
	engine->pid = 0;
	engine->parked = false;
	close_fd(&engine->pidfd);
	close_fd(&engine->socket);
}

static bool take_message(struct engine *engine, struct hook_message *message)
{
	ssize_t got = recv(engine->socket, message, sizeof *message, MSG_DONTWAIT);
	/* It ended with something of ours unread, which is told before what it had said. */
	if (got < 0 && errno == ECONNRESET)
		got = recv(engine->socket, message, sizeof *message, MSG_DONTWAIT);
	if (got == (ssize_t)sizeof *message) {
		engine->parked = message->kind == HOOK_PARKED;
		return true;
	}
	if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
		close_fd(&engine->socket);
	return false;
}

enum engine_news engine_wait(struct engine *engine, int other, uint64_t deadline_us, struct hook_message *message)
{
	for (;;) {
		if (engine->pid == 0)
			return ENGINE_EXITED;
		struct pollfd ready[3] = {
			{ .fd = engine->socket, .events = POLLIN },
			{ .fd = engine->pidfd, .events = POLLIN },
			{ .fd = other, .events = POLLIN },
		};
		int count = poll(ready, 3, clock_left_ms(deadline_us));
		if (count < 0 && errno != EINTR)
			abort(); /* cannot happen with three descriptors of our own */
		if (count == 0)
			return ENGINE_TIMEOUT;
		if (count < 0)
			continue;
		if (ready[0].revents != 0 && take_message(engine, message))
			return ENGINE_MESSAGE;
		if (ready[1].revents != 0) {
			reap(engine);
			return ENGINE_EXITED;
		}
		if (ready[2].revents != 0)
			return ENGINE_OTHER;
	}
}

static int send_message(struct engine *engine, struct hook_message message)
{
	if (engine->socket >= 0 &&
	    send(engine->socket, &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof message)
		return 0;
	return -1;
}

int engine_say(struct engine *engine, enum hook_kind kind, uint64_t limit_us)
{
	return send_message(engine, (struct hook_message){ .kind = kind, .limit_us = limit_us });
}

int engine_go(struct engine *engine, uint64_t limit_us, bool late)
{
	return send_message(engine, (struct hook_message){ .kind = HOOK_GO, .limit_us = limit_us, .late = late });
}

bool engine_succeeded(const struct engine *engine)
{
	return engine->pid == 0 && WIFEXITED(engine->status) && WEXITSTATUS(engine->status) == 0;
}

void engine_drop(struct engine *engine, int work)
{
	if (engine->pid != 0) {
		(void)syscall(SYS_pidfd_send_signal, engine->pidfd, SIGKILL, NULL, 0); /* fails only if it is dead */
		reap(engine);
	}
	if (engine->images >= 0) {
		close_fd(&engine->images);
		(void)engine_remove_images(work, engine->images_name); /* made anew with the same name if need be */
	}
}
