/*
 * Calls that the C library makes of others, inside of itself, where nobody sees them: here they are made of the interposed
 * ones. And those that have no way yet: an application that makes one is not recorded any more, by name.
 */
#include "recorder/facts.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

FT_PUBLIC int eventfd_read(int fd, eventfd_t *value) { return read(fd, value, sizeof *value) == sizeof *value ? 0 : -1; }
FT_PUBLIC int eventfd_write(int fd, eventfd_t value) { return write(fd, &value, sizeof value) == sizeof value ? 0 : -1; }

/* ---- files with names of chance */

enum { NAME_TRIES = 100, NAME_LETTERS = 6 };

static int make_temporary(char *template, int suffix, int flags)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	size_t length = strlen(template);
	if (suffix < 0 || length < (size_t)suffix + NAME_LETTERS || memcmp(template + length - (size_t)suffix - NAME_LETTERS, "XXXXXX", NAME_LETTERS) != 0) {
		errno = EINVAL;
		return -1;
	}
	char *name = template + length - (size_t)suffix - NAME_LETTERS;
	for (int tries = 0; tries < NAME_TRIES; tries++) {
		uint8_t chance[NAME_LETTERS];
		if (ft_random(chance, sizeof chance, 0) != (ssize_t)sizeof chance)
			return -1;
		for (int i = 0; i < NAME_LETTERS; i++)
			name[i] = letters[chance[i] % (sizeof letters - 1)];
		int fd = open(template, (flags & ~O_ACCMODE) | O_RDWR | O_CREAT | O_EXCL, 0600);
		if (fd >= 0 || errno != EEXIST)
			return fd;
	}
	errno = EEXIST;
	return -1;
}

FT_PUBLIC int mkstemp(char *template) { return make_temporary(template, 0, 0); }
FT_PUBLIC int mkstemp64(char *template) { return make_temporary(template, 0, 0); }
FT_PUBLIC int mkostemp(char *template, int flags) { return make_temporary(template, 0, flags); }
FT_PUBLIC int mkostemp64(char *template, int flags) { return make_temporary(template, 0, flags); }
FT_PUBLIC int mkstemps(char *template, int suffix) { return make_temporary(template, suffix, 0); }
FT_PUBLIC int mkstemps64(char *template, int suffix) { return make_temporary(template, suffix, 0); }
FT_PUBLIC int mkostemps(char *template, int suffix, int flags) { return make_temporary(template, suffix, flags); }
FT_PUBLIC int mkostemps64(char *template, int suffix, int flags) { return make_temporary(template, suffix, flags); }

/* ---- waiting, with other clocks and masks */

FT_PUBLIC int pselect(int count, fd_set *restrict read_set, fd_set *restrict write_set, fd_set *restrict except_set,
                      const struct timespec *restrict limit, const sigset_t *restrict mask)
{
	struct timeval rest = {0}, *until = NULL;
	sigset_t before;
	if (limit != NULL) {
		rest = (struct timeval){limit->tv_sec, (limit->tv_nsec + 999) / 1000};
		until = &rest;
	}
	/* A signal between the two waits for the next recorded point, where all of them are handled. */
	if (mask != NULL)
		pthread_sigmask(SIG_SETMASK, mask, &before);
	int result = select(count, read_set, write_set, except_set, until), error = errno;
	if (mask != NULL)
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = error;
	return result;
}

FT_PUBLIC int epoll_pwait2(int epoll, struct epoll_event *events, int room, const struct timespec *limit, const sigset_t *mask)
{
	int64_t ms = limit == NULL ? -1 : limit->tv_sec * 1000 + (limit->tv_nsec + 999999) / 1000000;
	return epoll_pwait(epoll, events, room, ms > INT32_MAX ? INT32_MAX : (int)ms, mask);
}

FT_PUBLIC int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *limit, const sigset_t *mask, size_t room)
{
	(void)room;
	return ppoll(fds, count, limit, mask);
}

/* ---- several messages: the first may wait, the others only if the caller waits for all */

FT_PUBLIC int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *limit)
{
	(void)limit; /* looked at by the kernel only between datagrams; a caller that blocks has to bear with more */
	unsigned done = 0;
	for (; done < count; done++) {
		bool more = done > 0 && flags & MSG_WAITFORONE;
		ssize_t got = recvmsg(fd, &messages[done].msg_hdr, (flags & ~MSG_WAITFORONE) | (more ? MSG_DONTWAIT : 0));
		if (got < 0)
			break;
		messages[done].msg_len = (unsigned)got;
	}
	return done > 0 ? (int)done : -1;
}

FT_PUBLIC int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
	unsigned done = 0;
	for (; done < count; done++) {
		ssize_t sent = sendmsg(fd, &messages[done].msg_hdr, flags);
		if (sent < 0)
			break;
		messages[done].msg_len = (unsigned)sent;
	}
	return done > 0 ? (int)done : -1;
}

/* ---- no way yet */

static bool is_outside(int fd) { return ft_me != NULL && ft_is_external(fd); }

FT_PUBLIC ssize_t splice(int in, off64_t *in_at, int out, off64_t *out_at, size_t bytes, unsigned flags)
{
	if (is_outside(in) || is_outside(out) || (ft_me != NULL && (ft_kind_of(in) == FT_CHANNEL || ft_kind_of(out) == FT_CHANNEL)))
		ft_lost(LOG_LOSS_CALL);
	return ft_syscall(SYS_splice, (long)in, in_at, (long)out, out_at, bytes, (unsigned long)flags);
}
