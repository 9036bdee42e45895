/*
 * Where a process leaves without an exit: _exit, and another image. What a child does behind an exec is not recorded; in a
 * replay it does it again. (The process of lane 0 goes on being recorded, from the new image's beginning: start.c.)
 */
#include "recorder/real.h"

#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 4096 };

/* After a vfork these are another process's calls, in this one's memory. */
static bool is_recorded(void)
{
	return ft_me != NULL && ft_syscall(SYS_getpid) == atomic_load(&ft_shared.processes[ft_here].pid);
}

FT_PUBLIC _Noreturn void _exit(int status)
{
	if (is_recorded())
		ft_process_ends();
	for (;;)
		ft_syscall(SYS_exit_group, (long)status);
}

FT_PUBLIC _Noreturn void _Exit(int status) { _exit(status); }

static void leave(void)
{
	if (is_recorded() && ft_here != 0)
		ft_process_ends();
}

FT_PUBLIC int execve(const char *path, char *const arguments[], char *const environment[])
{
	leave();
	return REAL(execve)(path, arguments, environment);
}

FT_PUBLIC int execv(const char *path, char *const arguments[]) { return execve(path, arguments, environ); }

FT_PUBLIC int execvpe(const char *file, char *const arguments[], char *const environment[])
{
	leave();
	return REAL(execvpe)(file, arguments, environment);
}

FT_PUBLIC int execvp(const char *file, char *const arguments[]) { return execvpe(file, arguments, environ); }

/* The arguments from `first` on, to the NULL; and what follows it. */
static void gather(char *out[ARGUMENTS_MAX], const char *first, va_list more)
{
	int count = 0;
	for (char *next = (char *)first; next != NULL && count < ARGUMENTS_MAX - 1; next = va_arg(more, char *))
		out[count++] = next;
	out[count] = NULL;
}

#define GATHERED(first) \
	char *arguments[ARGUMENTS_MAX]; \
	va_list more; \
	va_start(more, first); \
	gather(arguments, first, more)

FT_PUBLIC int execl(const char *path, const char *first, ...)
{
	GATHERED(first);
	va_end(more);
	return execve(path, arguments, environ);
}

FT_PUBLIC int execlp(const char *file, const char *first, ...)
{
	GATHERED(first);
	va_end(more);
	return execvpe(file, arguments, environ);
}

FT_PUBLIC int execle(const char *path, const char *first, ...)
{
	GATHERED(first);
	char *const *environment = va_arg(more, char *const *);
	va_end(more);
	return execve(path, arguments, environment);
}
