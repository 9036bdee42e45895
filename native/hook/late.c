#include "hook/late.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hook/descriptors.h"
#include "hook/diag.h"
#include "hook/filters.h"
#include "hook/helper.h"
#include "hook/hook.h"
#include "hook/phases.h"
#include "hook/texts.h"
#include "hook/witness.h"
#include "hook/written.h"

enum { OWN_MAX = 4096, LEFT_TO_CRIU = 8 /* sockets */, TASKS_MAX = 1024, STOPPED = PTRACE_EVENT_STOP << 16 | SIGTRAP << 8 | 0x7f };

static struct {
	pid_t task[TASKS_MAX];
	uintptr_t options[TASKS_MAX];
	size_t tasks;
	bool on; /* this dump's freeze is late */
	bool marked, infected; /* so is the gate; the parasite is where it belongs */
	bool settling, settled; /* the last of what was read is being compared, or has been */
	int socket; /* to ftdump, of the second thread's own; -1: none */
	const char *memory_moved, *settled_moved;
} state;

static long trace(int request, pid_t pid, uintptr_t address, uintptr_t data)
{
	return syscall(SYS_ptrace, request, pid, address, data);
}

bool late_begin(void)
{
	if (!witness_begin((pid_t)hook.target))
		return false;
	filters_load();
	state.socket = (int)syscall(SYS_fcntl, hook.socket, F_DUPFD_CLOEXEC, 0);
	hook.stage = STAGE_READING;
	state.on = true;
	return true;
}

bool late_is_on(void)
{
	return state.on;
}

/* Nothing was touched: when a tracer ends, its tasks run on. */
static void give_up(const char *what)
{
	snprintf(hook.moved, sizeof hook.moved, "%s", what);
	hook_say(HOOK_MOVED);
	_exit(1);
}

static size_t place_of(pid_t pid)
{
	for (size_t i = 0; i < state.tasks; i++)
		if (state.task[i] == pid)
			return i;
	return TASKS_MAX;
}

/* ---- stopping ---- */

/* As CRIU does: a signal on its way in is let through, and the stop comes after it. */
static bool await_stop(pid_t pid)
{
	for (;;) {
		int status;
		siginfo_t info;
		if (syscall(SYS_wait4, pid, &status, __WALL, NULL) != pid || !WIFSTOPPED(status))
			return false; /* gone, or the time is over: the alarm interrupts */
		if (trace(PTRACE_GETSIGINFO, pid, 0, (uintptr_t)&info) != 0)
			return false;
		if (info.si_code >> 8 == PTRACE_EVENT_STOP)
			return info.si_signo == SIGTRAP; /* else it was stopped by a signal before */
		if (trace(PTRACE_CONT, pid, 0, (uintptr_t)info.si_signo) != 0)
			return false;
	}
}

static void compare_memory(const struct job *job)
{
	(void)job;
	state.memory_moved = witness_check_memory();
}

static void read_texts(const struct job *job)
{
	(void)job;
	texts_read(state.task, state.tasks);
}

void late_freeze(void)
{
	if (hook.stage != STAGE_READING)
		return;
	hook.stage = STAGE_SEIZING;
	hook_freeze_begins();
	for (size_t i = 0; i < state.tasks; i++)
		if (trace(PTRACE_SEIZE, state.task[i], 0, state.options[i]) != 0 || trace(PTRACE_INTERRUPT, state.task[i], 0, 0) != 0)
			give_up("threads");
	for (size_t i = 0; i < state.tasks; i++)
		if (!await_stop(state.task[i]))
			give_up("a thread's state");
	hook.seized = (unsigned)state.tasks;
	/* While ftdump marks the gate: posted first, or ftdump has the other core. Only after it may CRIU put its parasite where it has seen an
	 * area; and beside it, on the other core, the parasite waited 1.6 ms more for a thread that compared there. */
	static const struct job memory = { .run = compare_memory };
	bool posted = helper_post(&memory);
	hook_frozen_late();
	phase_enter(PHASE_CHECK);
	if (!posted)
		compare_memory(&memory);
	const char *moved = diag_check_local();
	if (moved == NULL)
		moved = witness_check_tasks();
	if (moved == NULL && !filters_same())
		moved = "seccomp filters";
	helper_finish();
	if (moved == NULL)
		moved = state.memory_moved;
	if (moved != NULL)
		give_up(moved);
	phase_enter(PHASE_INFECT);
}

/*
 * The second thread has the rest to do while CRIU looks at descriptors: not before the gate is marked, and not while the parasite is
 * brought in. That waits each time for a task of the application to come to a core, and had to wait for this thread as well, whether
 * on the core or for memory that this looked through (0.35 ms of a pause).
 *
 * At the end of it ftdump is told, which reads files on the core that is free from then on, and was in the way before.
 */
static void compare_rest(const struct job *job)
{
	(void)job;
	state.settled_moved = witness_check_rest();
}

static void compare_connections(const struct job *job)
{
	static uint32_t own[OWN_MAX];
	const char *names;
	(void)job;
	if (state.settled_moved != NULL)
		return;
	size_t length = witness_descriptors(&names);
	if ((hook.shortcuts & HOOK_DESCRIPTORS) != 0)
		descriptors_list(names, length);
	ssize_t sockets = descriptors_sockets(own, OWN_MAX);
	state.settled_moved = diag_check_inet(own, sockets >= 0 ? sockets : witness_sockets(own, OWN_MAX));
}

static void scan_memory(const struct job *job)
{
	static const struct hook_message message = { .kind = HOOK_SETTLED };
	(void)job;
	if (state.settled_moved == NULL)
		state.settled_moved = witness_check_guards();
	if (state.settled_moved != NULL)
		return;
	written_scan(); /* what it does to the marks could not be undone */
	/* Not told, ftdump reads files when CRIU is done: it is only later. */
	(void)send(state.socket, &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void ask_descriptors(const struct job *job)
{
	(void)job;
	descriptors_ask(LEFT_TO_CRIU);
}

static void settle(void)
{
	static const struct job jobs[] = {
		{ .run = compare_rest }, { .run = compare_connections }, { .run = scan_memory }, { .run = ask_descriptors },
	};
	if (!state.on || !state.marked || !state.infected || state.settling)
		return;
	state.settling = true;
	for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++)
		if (!helper_post(&jobs[i]))
			jobs[i].run(&jobs[i]); /* there is no second thread, or there is room for all of them */
}

void late_marked(void)
{
	state.marked = true;
	settle();
}

void late_infected(void)
{
	state.infected = true;
	settle();
}

bool late_settle(void)
{
	if (!state.on || state.settled || hook.stale)
		return !hook.stale;
	hook_await_mark();
	late_infected(); /* whatever CRIU did instead */
	helper_finish();
	state.settled = true;
	static const struct job texts = { .run = read_texts };
	if (state.settled_moved == NULL && (hook.shortcuts & HOOK_TEXTS) != 0)
		(void)helper_post(&texts); /* not before, or pages would wait for it */
	if (state.settled_moved == NULL)
		return true;
	snprintf(hook.moved, sizeof hook.moved, "%s", state.settled_moved);
	hook.stale = hook.aborted = true;
	return false;
}

/* ---- answering ---- */

static long take(pid_t pid)
{
	if (state.tasks == 0 ? pid != (pid_t)hook.target : state.tasks == TASKS_MAX)
		give_up("more threads than can be known");
	if (!witness_thread(pid))
		give_up("more than one process");
	state.options[state.tasks] = 0;
	state.task[state.tasks++] = pid;
	return 0;
}

bool late_ptrace(int request, pid_t pid, void *address, void *data, long *result)
{
	size_t place = place_of(pid);
	*result = 0;
	if (request == PTRACE_SEIZE) {
		*result = take(pid);
		return true;
	}
	if (place == TASKS_MAX) {
		errno = ESRCH;
		*result = -1;
		return true;
	}
	switch (request) {
	case PTRACE_INTERRUPT:
	case PTRACE_DETACH: /* CRIU gives up, and nothing was taken */
		return true;
	case PTRACE_SETOPTIONS:
		state.options[place] = (uintptr_t)data;
		return true;
	case PTRACE_GETSIGINFO: {
		siginfo_t info = { .si_signo = SIGTRAP, .si_code = SIGTRAP | PTRACE_EVENT_STOP << 8 };
		memcpy(data, &info, sizeof info);
		return true;
	}
	default:
		break;
	}
	if (filters_answer(request, pid, address, data, result))
		return true;
	late_freeze();
	return false;
}

bool late_wait(pid_t pid, int *status)
{
	if (hook.stage != STAGE_READING || place_of(pid) == TASKS_MAX)
		return false;
	if (status != NULL)
		*status = STOPPED;
	return true;
}
