/* What makes descriptors that are executed in a replay too: files, pipes, eventfds, epoll sets. They take turns, for the number. */
#include "recorder/real.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- one descriptor, made by `make` */

struct opening {
	uint8_t kind;
	uint32_t object;
	int (*make)(const struct opening *);
	const char *path;
	int at, flags, argument;
	mode_t permissions;
	const sigset_t *mask;
	enum ft_kind becomes; /* UNKNOWN: probe */
};

static void opened(const struct opening *o, int fd, uint32_t channel)
{
	enum ft_kind kind = o->becomes != FT_UNKNOWN ? o->becomes : ft_descriptor_probe(fd, o->path);
	ft_descriptor_set(fd, kind);
	if (kind == FT_CHANNEL && (unsigned)fd < FT_DESCRIPTORS_MAX) {
		ft_descriptor(fd)->channel = channel;
		ft_descriptor(fd)->eventfd = true;
	}
}

static int make_file(const struct opening *o)
{
	return REAL(openat64)(o->at, o->path, o->flags, o->permissions);
}

/* The checkpoint was taken while this very call was on its way: the file that it made is there, and empty. */
static int make_existing(const struct opening *o)
{
	return REAL(openat64)(o->at, o->path, o->flags & ~O_EXCL, o->permissions);
}

static int open_again(const struct opening *o, const struct log_event *e)
{
	int fd = -1;
	/* Devices and the kernel's files need not exist any more; what is read from them is in the log. */
	if (e->call.result >= 0) {
		fd = o->make(o);
		if (fd < 0 && errno == EEXIST && o->make == make_file && (o->flags & O_EXCL))
			fd = make_existing(o);
		if (fd < 0)
			ft_place(e->call.result);
		else
			ft_move(fd, e->call.result);
		uint32_t channel = 0;
		memcpy(&channel, e->payload, e->payload_bytes < sizeof channel ? 0 : sizeof channel);
		ft_object_learn(channel);
		opened(o, e->call.result, channel);
	}
	return (int)ft_result(e);
}

static int make_descriptor(const struct opening *o)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE) {
			int fd = o->make(o);
			if (fd >= 0 && ft_me != NULL)
				opened(o, fd, o->becomes == FT_CHANNEL ? ft_object_new() : 0);
			return fd;
		}
		if (mode == LOG_MODE_RECORD) {
			int fd = o->make(o), error = errno;
			bool is_channel = fd >= 0 && o->becomes == FT_CHANNEL;
			uint32_t channel = is_channel ? ft_object_new() : 0;
			if (ft_put_turn(o->kind, o->object, fd, error, LOG_OBJECT_DESCRIPTORS, &channel, is_channel ? sizeof channel : 0)) {
				if (fd >= 0)
					opened(o, fd, channel);
				errno = error;
				return fd;
			}
			if (fd >= 0)
				REAL(close)(fd);
			continue;
		}
		const struct log_event *e = ft_take(o->kind, o->object);
		if (e != NULL)
			return open_again(o, e);
	}
}

static int open_file(int at, const char *path, int flags, mode_t permissions)
{
	struct opening o = {.kind = LOG_OPEN, .object = ft_checksum(path, strlen(path)), .make = make_file, .path = path, .at = at,
		.flags = flags, .permissions = permissions};
	return make_descriptor(&o);
}

#define OPEN(name, before, at_fd) \
	va_list a; \
	va_start(a, flags); \
	mode_t permissions = flags & (O_CREAT | __O_TMPFILE) ? va_arg(a, mode_t) : 0; \
	va_end(a); \
	return open_file(at_fd, path, flags, permissions)

FT_PUBLIC int open(const char *path, int flags, ...) { OPEN(open, , AT_FDCWD); }
FT_PUBLIC int open64(const char *path, int flags, ...) { OPEN(open64, , AT_FDCWD); }
FT_PUBLIC int openat(int at, const char *path, int flags, ...) { OPEN(openat, at, at); }
FT_PUBLIC int openat64(int at, const char *path, int flags, ...) { OPEN(openat64, at, at); }
FT_PUBLIC int __open_2(const char *path, int flags) { return open_file(AT_FDCWD, path, flags, 0); }
FT_PUBLIC int __open64_2(const char *path, int flags) { return open_file(AT_FDCWD, path, flags, 0); }
FT_PUBLIC int creat(const char *path, mode_t permissions)
{
	return open_file(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, permissions);
}

static int make_eventfd(const struct opening *o) { return REAL(eventfd)((unsigned)o->argument, o->flags); }
static int make_epoll(const struct opening *o) { return REAL(epoll_create1)(o->flags); }
static int make_timerfd(const struct opening *o) { return REAL(timerfd_create)(o->argument, o->flags); }
static int make_signalfd(const struct opening *o) { return REAL(signalfd)(o->argument, o->mask, o->flags); }

FT_PUBLIC int eventfd(unsigned value, int flags)
{
	struct opening o = {.kind = LOG_EVENTFD, .make = make_eventfd, .argument = (int)value, .flags = flags,
		.becomes = FT_CHANNEL};
	return make_descriptor(&o);
}

static int make_inotify(const struct opening *o) { return (int)ft_syscall(SYS_inotify_init1, (long)o->flags); }
static int make_memory(const struct opening *o) { return (int)ft_syscall(SYS_memfd_create, o->path, (long)o->flags); }

FT_PUBLIC int inotify_init1(int flags)
{
	struct opening o = {.kind = LOG_OPEN, .object = 3, .make = make_inotify, .flags = flags, .becomes = FT_INPUT};
	return make_descriptor(&o);
}

FT_PUBLIC int inotify_init(void) { return inotify_init1(0); }

FT_PUBLIC int memfd_create(const char *name, unsigned flags)
{
	struct opening o = {.kind = LOG_OPEN, .object = 4, .make = make_memory, .path = name, .flags = (int)flags, .becomes = FT_FILE};
	return make_descriptor(&o);
}

FT_PUBLIC int epoll_create1(int flags)
{
	struct opening o = {.kind = LOG_EPOLL_CREATE, .make = make_epoll, .flags = flags, .becomes = FT_EPOLL};
	return make_descriptor(&o);
}

FT_PUBLIC int epoll_create(int size)
{
	(void)size;
	return epoll_create1(0);
}

FT_PUBLIC int timerfd_create(int clock, int flags)
{
	struct opening o = {.kind = LOG_OPEN, .object = 1, .make = make_timerfd, .argument = clock, .flags = flags,
		.becomes = FT_INPUT};
	return make_descriptor(&o);
}

FT_PUBLIC int signalfd(int fd, const sigset_t *mask, int flags)
{
	struct opening o = {.kind = LOG_OPEN, .object = 2, .make = make_signalfd, .argument = fd, .flags = flags, .mask = mask,
		.becomes = FT_INPUT};
	return fd >= 0 ? REAL(signalfd)(fd, mask, flags) : make_descriptor(&o);
}

/* ---- two descriptors */

struct pair {
	int fd[2];
	uint32_t channel;
};

static void both(const struct pair *pair, enum ft_kind kind)
{
	for (int i = 0; i < 2; i++) {
		ft_descriptor_set(pair->fd[i], kind);
		ft_descriptor(pair->fd[i])->channel = pair->channel;
		ft_descriptor(pair->fd[i])->side = i == 1;
	}
}

static int make_pair(int fds[2], int (*make)(int[2], int, int, int), int a, int b, int c)
{
	FT_CALL {
		struct pair pair = {0};
		if (mode != LOG_MODE_REPLAY) {
			int result = make(fds, a, b, c), error = errno;
			if (result == 0 && ft_me != NULL)
				pair = (struct pair){{fds[0], fds[1]}, ft_object_new()};
			if (mode == LOG_MODE_RECORD && !ft_put_turn(LOG_PIPE, (uint32_t)a, result, error, LOG_OBJECT_DESCRIPTORS, &pair, sizeof pair)) {
				if (result == 0) {
					REAL(close)(fds[0]);
					REAL(close)(fds[1]);
				}
				continue;
			}
			if (result == 0 && ft_me != NULL)
				both(&pair, FT_CHANNEL);
			errno = error;
			return result;
		}
		const struct log_event *e = ft_take(LOG_PIPE, (uint32_t)a);
		if (e == NULL)
			continue;
		memcpy(&pair, e->payload, e->payload_bytes < sizeof pair ? 0 : sizeof pair);
		if (e->call.result == 0 && make(fds, a, b, c) == 0) {
			/* One of the numbers that were given may be the other's. */
			if (fds[1] == pair.fd[0])
				fds[1] = REAL(fcntl64)(fds[1], F_DUPFD_CLOEXEC, pair.fd[1] + 1);
			ft_move(fds[0], pair.fd[0]);
			ft_move(fds[1], pair.fd[1]);
			memcpy(fds, pair.fd, sizeof pair.fd);
			ft_object_learn(pair.channel);
			both(&pair, FT_CHANNEL);
		}
		return (int)ft_result(e);
	}
}

static int make_pipe(int fds[2], int flags, int b, int c)
{
	(void)b;
	(void)c;
	return REAL(pipe2)(fds, flags);
}

static int make_socketpair(int fds[2], int domain, int type, int protocol)
{
	return REAL(socketpair)(domain, type, protocol, fds);
}

FT_PUBLIC int pipe2(int fds[2], int flags) { return make_pair(fds, make_pipe, flags, 0, 0); }
FT_PUBLIC int pipe(int fds[2]) { return make_pair(fds, make_pipe, 0, 0, 0); }
FT_PUBLIC int socketpair(int domain, int type, int protocol, int fds[2])
{
	return make_pair(fds, make_socketpair, domain, type, protocol);
}

/* ---- streams of the C library: their own reads and writes are not seen here */

static FILE *open_stream(const char *path, const char *how)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(fopen64)(path, how);
		uint32_t object = ft_checksum(path, strlen(path));
		if (mode == LOG_MODE_RECORD) {
			FILE *file = REAL(fopen64)(path, how);
			int error = errno, fd = file != NULL ? fileno(file) : -1;
			if (ft_put_turn(LOG_OPEN, object, fd, error, LOG_OBJECT_DESCRIPTORS, NULL, 0)) {
				if (fd >= 0)
					ft_descriptor_set(fd, ft_descriptor_probe(fd, path));
				errno = error;
				return file;
			}
			if (file != NULL)
				REAL(fclose)(file);
			continue;
		}
		const struct log_event *e = ft_take(LOG_OPEN, object);
		if (e == NULL)
			continue;
		int fd = e->call.result, real;
		FILE *file = fd < 0 ? NULL : REAL(fopen64)(path, how);
		if (file == NULL && fd >= 0)
			file = REAL(fopen64)("/dev/null", "r+");
		if (file != NULL && (real = fileno(file)) != fd) {
			ft_syscall(SYS_dup3, (long)real, (long)fd, 0L);
			ft_syscall(SYS_close, (long)real);
			file->_fileno = fd;
		}
		if (fd >= 0)
			ft_descriptor_set(fd, ft_descriptor_probe(fd, path));
		ft_result(e);
		return file;
	}
}

FT_PUBLIC FILE *fopen(const char *restrict path, const char *restrict how) { return open_stream(path, how); }
FT_PUBLIC FILE *fopen64(const char *restrict path, const char *restrict how) { return open_stream(path, how); }

static int close_stream(int fd, void *file)
{
	(void)fd;
	return REAL(fclose)(file);
}

FT_PUBLIC int fclose(FILE *file) { return ft_close(fileno(file), close_stream, file); }

static bool is_input(FILE *file)
{
	return ft_me != NULL && ft_kind_of(fileno(file)) == FT_INPUT;
}

FT_PUBLIC size_t fread(void *restrict buffer, size_t size, size_t count, FILE *restrict file)
{
	if (!is_input(file) || size == 0)
		return REAL(fread)(buffer, size, count, file);
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(fread)(buffer, size, count, file);
		if (mode == LOG_MODE_RECORD) {
			size_t result = REAL(fread)(buffer, size, count, file);
			if (ft_put_call(LOG_STREAM_READ, (uint32_t)fileno(file), (long)result, 0, buffer, result * size))
				return result;
			continue;
		}
		const struct log_event *e = ft_take(LOG_STREAM_READ, (uint32_t)fileno(file));
		if (e == NULL)
			continue;
		if ((uint64_t)e->call.result * size <= e->payload_bytes)
			memcpy(buffer, e->payload, (size_t)e->call.result * size);
		return (size_t)ft_result(e);
	}
}

FT_PUBLIC char *fgets(char *restrict buffer, int room, FILE *restrict file)
{
	if (!is_input(file))
		return REAL(fgets)(buffer, room, file);
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(fgets)(buffer, room, file);
		if (mode == LOG_MODE_RECORD) {
			char *line = REAL(fgets)(buffer, room, file);
			size_t bytes = line != NULL ? strlen(line) + 1 : 0;
			if (ft_put_call(LOG_STREAM_READ, (uint32_t)fileno(file), (long)bytes, 0, buffer, bytes))
				return line;
			continue;
		}
		const struct log_event *e = ft_take(LOG_STREAM_READ, (uint32_t)fileno(file));
		if (e == NULL)
			continue;
		size_t bytes = (size_t)e->call.result;
		if (bytes <= (size_t)room && bytes <= e->payload_bytes)
			memcpy(buffer, e->payload, bytes);
		ft_done(e);
		return bytes > 0 ? buffer : NULL;
	}
}

/* By the wrappers above: what a stream of input holds is taken from the log, never from the stream's own buffer. */
FT_PUBLIC int fgetc(FILE *file)
{
	static int (*real)(FILE *);
	unsigned char letter;
	if (is_input(file))
		return fread(&letter, 1, 1, file) == 1 ? letter : EOF;
	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "fgetc");
	return real(file);
}

FT_PUBLIC int getc(FILE *file) { return fgetc(file); }
FT_PUBLIC int _IO_getc(FILE *file);
FT_PUBLIC int _IO_getc(FILE *file) { return fgetc(file); }

FT_PUBLIC ssize_t getdelim(char **restrict line, size_t *restrict room, int delimiter, FILE *restrict file)
{
	static ssize_t (*real)(char **, size_t *, int, FILE *);
	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "getdelim");
	if (!is_input(file))
		return real(line, room, delimiter, file);
	size_t length = 0;
	for (int letter = 0; letter != delimiter && (letter = fgetc(file)) != EOF;) {
		if (*line == NULL || length + 2 > *room) {
			size_t more = *line == NULL || *room < 120 ? 120 : 2 * *room;
			char *larger = realloc(*line, more);
			if (larger == NULL)
				return -1;
			*line = larger;
			*room = more;
		}
		(*line)[length++] = (char)letter;
		(*line)[length] = 0;
	}
	return length > 0 ? (ssize_t)length : -1;
}

FT_PUBLIC ssize_t __getdelim(char **restrict line, size_t *restrict room, int delimiter, FILE *restrict file)
{
	return getdelim(line, room, delimiter, file);
}

FT_PUBLIC ssize_t getline(char **restrict line, size_t *restrict room, FILE *restrict file)
{
	return getdelim(line, room, '\n', file);
}

FT_PUBLIC size_t __fread_chk(void *restrict buffer, size_t room, size_t size, size_t count, FILE *restrict file)
{
	(void)room;
	return fread(buffer, size, count, file);
}

FT_PUBLIC char *__fgets_chk(char *restrict buffer, size_t room, int bytes, FILE *restrict file)
{
	(void)room;
	return fgets(buffer, bytes, file);
}
