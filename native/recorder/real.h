/* The functions that this library stands in front of, as the C library has them. Resolved once, at the first use of any. */
#ifndef FT_RECORDER_REAL_H
#define FT_RECORDER_REAL_H
#include "recorder/recorder.h"

#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

/* X(return type, name, parameters) */
#define FT_REAL_FUNCTIONS(X) \
	X(int, pthread_mutex_lock, (pthread_mutex_t *)) \
	X(int, pthread_mutex_unlock, (pthread_mutex_t *)) \
	X(int, pthread_mutex_trylock, (pthread_mutex_t *)) \
	X(int, pthread_mutex_timedlock, (pthread_mutex_t *, const struct timespec *)) \
	X(int, pthread_mutex_init, (pthread_mutex_t *, const pthread_mutexattr_t *)) \
	X(int, pthread_rwlock_rdlock, (pthread_rwlock_t *)) \
	X(int, pthread_rwlock_wrlock, (pthread_rwlock_t *)) \
	X(int, pthread_rwlock_tryrdlock, (pthread_rwlock_t *)) \
	X(int, pthread_rwlock_trywrlock, (pthread_rwlock_t *)) \
	X(int, pthread_rwlock_unlock, (pthread_rwlock_t *)) \
	X(int, pthread_rwlock_init, (pthread_rwlock_t *, const pthread_rwlockattr_t *)) \
	X(int, pthread_spin_lock, (pthread_spinlock_t *)) \
	X(int, pthread_spin_trylock, (pthread_spinlock_t *)) \
	X(int, pthread_spin_unlock, (pthread_spinlock_t *)) \
	X(int, pthread_barrier_wait, (pthread_barrier_t *)) \
	X(int, pthread_once, (pthread_once_t *, void (*)(void))) \
	X(int, pthread_create, (pthread_t *, const pthread_attr_t *, void *(*)(void *), void *)) \
	X(int, pthread_join, (pthread_t, void **)) X(int, pthread_cancel, (pthread_t)) \
	X(int, sem_wait, (sem_t *)) X(int, sem_trywait, (sem_t *)) X(int, sem_post, (sem_t *)) \
	X(int, sem_timedwait, (sem_t *, const struct timespec *)) \
	X(int, sem_init, (sem_t *, int, unsigned)) \
	X(ssize_t, read, (int, void *, size_t)) X(ssize_t, write, (int, const void *, size_t)) \
	X(ssize_t, readv, (int, const struct iovec *, int)) X(ssize_t, writev, (int, const struct iovec *, int)) \
	X(ssize_t, pread64, (int, void *, size_t, off_t)) X(ssize_t, pwrite64, (int, const void *, size_t, off_t)) \
	X(ssize_t, recv, (int, void *, size_t, int)) X(ssize_t, send, (int, const void *, size_t, int)) \
	X(ssize_t, recvfrom, (int, void *, size_t, int, struct sockaddr *, socklen_t *)) \
	X(ssize_t, sendto, (int, const void *, size_t, int, const struct sockaddr *, socklen_t)) \
	X(ssize_t, recvmsg, (int, struct msghdr *, int)) X(ssize_t, sendmsg, (int, const struct msghdr *, int)) \
	X(ssize_t, sendfile64, (int, int, off_t *, size_t)) \
	X(int, accept, (int, struct sockaddr *, socklen_t *)) X(int, accept4, (int, struct sockaddr *, socklen_t *, int)) \
	X(int, socket, (int, int, int)) X(int, socketpair, (int, int, int, int *)) \
	X(int, bind, (int, const struct sockaddr *, socklen_t)) \
	X(int, listen, (int, int)) X(int, connect, (int, const struct sockaddr *, socklen_t)) X(int, shutdown, (int, int)) \
	X(int, getsockopt, (int, int, int, void *, socklen_t *)) X(int, setsockopt, (int, int, int, const void *, socklen_t)) \
	X(int, getsockname, (int, struct sockaddr *, socklen_t *)) X(int, getpeername, (int, struct sockaddr *, socklen_t *)) \
	X(int, close, (int)) X(int, dup, (int)) X(int, dup2, (int, int)) X(int, dup3, (int, int, int)) \
	X(int, fcntl64, (int, int, ...)) X(int, ioctl, (int, unsigned long, ...)) \
	X(int, pipe, (int *)) X(int, pipe2, (int *, int)) X(int, eventfd, (unsigned, int)) \
	X(int, timerfd_create, (int, int)) X(int, signalfd, (int, const sigset_t *, int)) \
	X(int, epoll_create, (int)) X(int, epoll_create1, (int)) X(int, epoll_ctl, (int, int, int, struct epoll_event *)) \
	X(int, epoll_wait, (int, struct epoll_event *, int, int)) \
	X(int, epoll_pwait, (int, struct epoll_event *, int, int, const sigset_t *)) \
	X(int, poll, (struct pollfd *, nfds_t, int)) \
	X(int, ppoll, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *)) \
	X(int, select, (int, fd_set *, fd_set *, fd_set *, struct timeval *)) \
	X(int, open64, (const char *, int, ...)) X(int, openat64, (int, const char *, int, ...)) \
	X(FILE *, fopen64, (const char *, const char *)) X(int, fclose, (FILE *)) X(size_t, fread, (void *, size_t, size_t, FILE *)) \
	X(char *, fgets, (char *, int, FILE *)) \
	X(int, clock_gettime, (clockid_t, struct timespec *)) X(int, gettimeofday, (struct timeval *, void *)) \
	X(time_t, time, (time_t *)) X(int, nanosleep, (const struct timespec *, struct timespec *)) \
	X(int, clock_nanosleep, (clockid_t, int, const struct timespec *, struct timespec *)) \
	X(ssize_t, getrandom, (void *, size_t, unsigned)) X(int, getentropy, (void *, size_t)) \
	X(pid_t, getpid, (void)) X(pid_t, getppid, (void)) X(long, syscall, (long, ...)) \
	X(int, getrusage, (__rusage_who_t, struct rusage *)) \
	X(pid_t, fork, (void)) X(pid_t, waitpid, (pid_t, int *, int)) X(pid_t, wait3, (int *, int, struct rusage *)) \
	X(pid_t, wait4, (pid_t, int *, int, struct rusage *)) \
	X(int, sigaction, (int, const struct sigaction *, struct sigaction *)) \
	X(int, pthread_sigmask, (int, const sigset_t *, sigset_t *)) X(int, sigsuspend, (const sigset_t *)) \
	X(int, execve, (const char *, char *const *, char *const *)) X(int, execvpe, (const char *, char *const *, char *const *)) \
	X(int, kill, (pid_t, int))

struct ft_real {
#define FT_REAL_MEMBER(type, name, parameters) type(*name) parameters;
	FT_REAL_FUNCTIONS(FT_REAL_MEMBER)
#undef FT_REAL_MEMBER
	/* These exist in two versions: the one that knows clocks. */
	int (*pthread_cond_wait)(pthread_cond_t *, pthread_mutex_t *);
	int (*pthread_cond_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
	int (*pthread_cond_clockwait)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
	int (*pthread_cond_signal)(pthread_cond_t *);
	int (*pthread_cond_broadcast)(pthread_cond_t *);
	bool ready;
};
extern struct ft_real ft_real_functions;
void ft_resolve(void);
static inline struct ft_real *ft_real(void)
{
	if (unlikely(!ft_real_functions.ready))
		ft_resolve();
	return &ft_real_functions;
}
#define REAL(name) (ft_real()->name)
/*
 * The body of an interposed function: it is begun again when the mode changes under it. `mode` is LIVE, RECORD or REPLAY;
 * LIVE must return.
 */
#define FT_CALL for (enum log_mode mode = ft_enter();; mode = ft_enter())
#endif
