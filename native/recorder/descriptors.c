/*
 * What every descriptor is: external (served from the log in a replay), or executed. And close, dup, fcntl, ioctl.
 */
#include "recorder/connections.h"
#include "recorder/real.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct ft_descriptor ft_descriptors[FT_DESCRIPTORS_MAX];
int ft_descriptor_highest;

static void is_in_use(int fd)
{
	if (fd > ft_descriptor_highest)
		ft_descriptor_highest = fd;
}

void ft_descriptor_set(int fd, enum ft_kind kind)
{
	if ((unsigned)fd >= FT_DESCRIPTORS_MAX) {
		ft_lost(LOG_LOSS_DESCRIPTOR);
		return;
	}
	ft_descriptors[fd] = (struct ft_descriptor){.kind = (uint8_t)kind, .epoll = -1};
	is_in_use(fd);
}

void ft_descriptor_clear(int fd)
{
	if ((unsigned)fd < FT_DESCRIPTORS_MAX)
		ft_descriptors[fd].kind = FT_UNKNOWN, ft_descriptors[fd].placeholder = ft_descriptors[fd].watched = false, ft_descriptors[fd].connection = 0;
}

/* Files of the kernel's are input even where they look regular. */
enum ft_kind ft_descriptor_probe(int fd, const char *path)
{
	if (strncmp(path, "/proc", 5) == 0 || strncmp(path, "/sys", 4) == 0 || strncmp(path, "/dev/", 5) == 0)
		return strcmp(path, "/dev/null") == 0 ? FT_FILE : FT_INPUT;
	return ft_syscall(SYS_lseek, (long)fd, 0L, (long)SEEK_CUR) < 0 ? FT_INPUT : FT_FILE;
}

void ft_place(int fd)
{
	int null = (int)ft_syscall(SYS_openat, (long)AT_FDCWD, "/dev/null", (long)O_RDWR);
	if (null != fd) {
		ft_syscall(SYS_dup3, (long)null, (long)fd, 0L);
		ft_syscall(SYS_close, (long)null);
	}
}

int ft_move(int from, int to)
{
	if (from < 0 || to < 0 || from == to)
		return to;
	int flags = (int)ft_syscall(SYS_fcntl, (long)from, (long)F_GETFD);
	ft_syscall(SYS_dup3, (long)from, (long)to, flags & FD_CLOEXEC ? (long)O_CLOEXEC : 0L);
	ft_syscall(SYS_close, (long)from);
	return to;
}

int ft_close(int fd, int (*really)(int, void *), void *stream)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE || ft_kind_of(fd) == FT_UNKNOWN)
			break;
		/* Its turn comes before the real call, the next one's after it: the number is free from then on. */
		if (mode == LOG_MODE_RECORD) {
			ft_turn_begin(LOG_OBJECT_DESCRIPTORS);
			bool done = ft_put_turn(LOG_CLOSE, (uint32_t)fd, 0, 0, LOG_OBJECT_DESCRIPTORS, NULL, 0);
			if (done)
				ft_descriptor_clear(fd);
			int result = done ? really(fd, stream) : 0;
			ft_turn_end(LOG_OBJECT_DESCRIPTORS);
			if (done)
				return result;
			continue;
		}
		const struct log_event *e = ft_take(LOG_CLOSE, (uint32_t)fd);
		if (e == NULL)
			continue;
		ft_connection_closes(fd);
		if (ft_kind_of(fd) == FT_CHANNEL)
			ft_channel_settle(fd, true);
		ft_descriptor_clear(fd);
		int result = really(fd, stream);
		ft_done(e);
		return result;
	}
	ft_descriptor_clear(fd);
	return really(fd, stream);
}

static int close_number(int fd, void *none)
{
	(void)none;
	return REAL(close)(fd);
}

FT_PUBLIC int close(int fd) { return ft_kind_of(fd) == FT_UNKNOWN ? REAL(close)(fd) : ft_close(fd, close_number, NULL); }

static void copy_descriptor(int from, int to)
{
	if ((unsigned)to >= FT_DESCRIPTORS_MAX) {
		ft_lost(LOG_LOSS_DESCRIPTOR);
		return;
	}
	ft_descriptors[to] = *ft_descriptor(from);
	ft_descriptors[to].watched = false;
	is_in_use(to);
}

enum { TO_ANY = -1 };

static int duplicate(int from, int to, int flags, int lowest)
{
	if (to == TO_ANY)
		return REAL(fcntl64)(from, flags & O_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD, lowest);
	return flags == 0 ? REAL(dup2)(from, to) : REAL(dup3)(from, to, flags);
}

static int duplicated(int from, int to, int flags, int lowest)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE) {
			int fd = duplicate(from, to, flags, lowest);
			if (fd >= 0 && ft_kind_of(from) != FT_UNKNOWN)
				copy_descriptor(from, fd);
			return fd;
		}
		if (mode == LOG_MODE_RECORD) {
			int fd = duplicate(from, to, flags, lowest), error = errno;
			if (ft_put_turn(LOG_DUP, (uint32_t)from, fd, error, LOG_OBJECT_DESCRIPTORS, NULL, 0)) {
				if (fd >= 0)
					copy_descriptor(from, fd);
				errno = error;
				return fd;
			}
			if (fd >= 0 && to == TO_ANY)
				REAL(close)(fd);
			continue;
		}
		const struct log_event *e = ft_take(LOG_DUP, (uint32_t)from);
		if (e == NULL)
			continue;
		if (e->call.result >= 0) {
			REAL(dup3)(from, e->call.result, flags & O_CLOEXEC);
			ft_connection_duplicated(from);
			copy_descriptor(from, e->call.result);
		}
		return (int)ft_result(e);
	}
}

FT_PUBLIC int dup(int fd)
{
	return duplicated(fd, TO_ANY, 0, 0);
}

FT_PUBLIC int dup2(int from, int to)
{
	return from == to ? REAL(dup2)(from, to) : duplicated(from, to, 0, 0);
}

FT_PUBLIC int dup3(int from, int to, int flags)
{
	return duplicated(from, to, flags, 0);
}

/* Flags of a descriptor: the real one is asked where there is one, else the log. */
static int control(int fd, int command, long argument)
{
	if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
		return duplicated(fd, TO_ANY, command == F_DUPFD ? 0 : O_CLOEXEC, (int)argument);
	if (command == F_SETOWN && argument > 0 && ft_me != NULL)
		argument = ft_real_pid((pid_t)argument);
	FT_CALL {
		if (mode == LOG_MODE_LIVE || !ft_is_external(fd))
			return REAL(fcntl64)(fd, command, argument);
		if (mode == LOG_MODE_RECORD) {
			int result = REAL(fcntl64)(fd, command, argument), error = errno;
			if (ft_put_call(LOG_SOCKET_CALL, (uint32_t)fd, result, error, NULL, 0)) {
				errno = error;
				return result;
			}
			continue;
		}
		const struct log_event *e = ft_take(LOG_SOCKET_CALL, (uint32_t)fd);
		if (e == NULL)
			continue;
		REAL(fcntl64)(fd, command, argument);
		return (int)ft_result(e);
	}
}

FT_PUBLIC int fcntl(int fd, int command, ...)
{
	va_list a;
	va_start(a, command);
	long argument = va_arg(a, long);
	va_end(a);
	return control(fd, command, argument);
}

FT_PUBLIC int fcntl64(int fd, int command, ...)
{
	va_list a;
	va_start(a, command);
	long argument = va_arg(a, long);
	va_end(a);
	return control(fd, command, argument);
}

FT_PUBLIC int ioctl(int fd, unsigned long request, ...)
{
	va_list a;
	va_start(a, request);
	void *argument = va_arg(a, void *);
	va_end(a);
	FT_CALL {
		if (mode == LOG_MODE_LIVE || !ft_is_external(fd))
			return REAL(ioctl)(fd, request, argument);
		/* FIONREAD and the like answer an int; FIONBIO reads one. */
		bool answers = request == FIONREAD || request == TIOCOUTQ;
		if (mode == LOG_MODE_RECORD) {
			int result = REAL(ioctl)(fd, request, argument), error = errno;
			if (ft_put_call(LOG_SOCKET_CALL, (uint32_t)fd, result, error, argument, answers && result == 0 ? sizeof(int) : 0)) {
				errno = error;
				return result;
			}
			continue;
		}
		const struct log_event *e = ft_take(LOG_SOCKET_CALL, (uint32_t)fd);
		if (e == NULL)
			continue;
		if (e->payload_bytes >= sizeof(int) && answers)
			memcpy(argument, e->payload, sizeof(int));
		if (request == FIONBIO && e->call.result == 0)
			(void)REAL(ioctl)(fd, request, argument);
		return (int)ft_result(e);
	}
}
