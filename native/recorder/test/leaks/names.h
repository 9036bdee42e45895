/* Names of system calls; those that are not here are shown by number. */
#ifndef FT_LEAKS_NAMES_H
#define FT_LEAKS_NAMES_H
#include <sys/syscall.h>
static const struct {
	long number;
	const char *name;
} call_names[] = {
#define N(name) {SYS_##name, #name}
	N(read), N(write), N(open), N(close), N(stat), N(fstat), N(lstat), N(poll), N(lseek), N(mmap), N(mprotect), N(munmap),
	N(brk), N(rt_sigaction), N(rt_sigprocmask), N(rt_sigreturn), N(ioctl), N(pread64), N(pwrite64), N(readv), N(writev),
	N(access), N(pipe), N(select), N(sched_yield), N(mremap), N(msync), N(mincore), N(madvise), N(dup), N(dup2), N(pause),
	N(nanosleep), N(getitimer), N(alarm), N(setitimer), N(getpid), N(sendfile), N(socket), N(connect), N(accept), N(sendto),
	N(recvfrom), N(sendmsg), N(recvmsg), N(shutdown), N(bind), N(listen), N(getsockname), N(getpeername), N(socketpair),
	N(setsockopt), N(getsockopt), N(clone), N(fork), N(vfork), N(execve), N(exit), N(wait4), N(kill), N(uname), N(fcntl),
	N(flock), N(fsync), N(fdatasync), N(truncate), N(ftruncate), N(getdents), N(getcwd), N(chdir), N(fchdir), N(rename),
	N(mkdir), N(rmdir), N(creat), N(link), N(unlink), N(symlink), N(readlink), N(chmod), N(fchmod), N(chown), N(fchown),
	N(umask), N(gettimeofday), N(getrlimit), N(getrusage), N(sysinfo), N(times), N(ptrace), N(getuid), N(syslog), N(getgid),
	N(setuid), N(setgid), N(geteuid), N(getegid), N(setpgid), N(getppid), N(getpgrp), N(setsid), N(getgroups), N(setgroups),
	N(setresuid), N(getresuid), N(setresgid), N(getresgid), N(getpgid), N(getsid), N(rt_sigpending), N(rt_sigtimedwait),
	N(rt_sigqueueinfo), N(rt_sigsuspend), N(sigaltstack), N(utime), N(mknod), N(personality), N(statfs), N(fstatfs),
	N(getpriority), N(setpriority), N(sched_setparam), N(sched_getparam), N(sched_setscheduler), N(sched_getscheduler), N(mlock),
	N(munlock), N(mlockall), N(prctl), N(arch_prctl), N(setrlimit), N(sync), N(gettid), N(readahead), N(setxattr), N(getxattr),
	N(tkill), N(time), N(futex), N(sched_setaffinity), N(sched_getaffinity), N(io_setup), N(io_submit), N(io_getevents),
	N(epoll_create), N(getdents64), N(set_tid_address), N(fadvise64), N(timer_create), N(timer_settime), N(timer_gettime),
	N(timer_delete), N(clock_settime), N(clock_gettime), N(clock_getres), N(clock_nanosleep), N(exit_group), N(epoll_wait),
	N(epoll_ctl), N(tgkill), N(utimes), N(waitid), N(inotify_init), N(inotify_add_watch), N(inotify_rm_watch), N(openat),
	N(mkdirat), N(newfstatat), N(unlinkat), N(renameat), N(readlinkat), N(fchmodat), N(faccessat), N(pselect6), N(ppoll),
	N(set_robust_list), N(splice), N(tee), N(sync_file_range), N(vmsplice), N(utimensat), N(epoll_pwait), N(signalfd),
	N(timerfd_create), N(eventfd), N(fallocate), N(timerfd_settime), N(timerfd_gettime), N(accept4), N(signalfd4), N(eventfd2),
	N(epoll_create1), N(dup3), N(pipe2), N(inotify_init1), N(preadv), N(pwritev), N(recvmmsg), N(prlimit64), N(sendmmsg),
	N(getcpu), N(renameat2), N(seccomp), N(getrandom), N(memfd_create), N(membarrier), N(copy_file_range), N(preadv2),
	N(pwritev2), N(statx), N(rseq), N(pidfd_open), N(clone3), N(close_range), N(openat2), N(faccessat2), N(epoll_pwait2),
#undef N
};
#endif
