/*
 * libfthook.so: preloaded into the CRIU process alone, by CRIU's own dynamic loader. It tells ftdump where the
 * dump stands and holds CRIU still at three places, none of which needs a change to CRIU (see hook/message.h).
 *
 * Where the places are, in CRIU 4.2.1: cr_dump_tasks() → collect_pstree() arms alarm(timeout), seizes every
 * task, and calls alarm(0) the moment all are stopped; collect_namespaces() (sock_diag), memory and files
 * come after. So `alarm(0)` after the first PTRACE_SEIZE is the barrier (CRIU waits at the first thing
 * after it that the barrier is for, see hook_await_mark()). Tasks run again by PTRACE_DETACH in pstree_switch_state(), after
 * all images are written.
 *
 * Invariants:
 *  - Between the first PTRACE_SEIZE and the last PTRACE_DETACH no wait is without a bound: the freeze limit
 *    ends it, and so does the loss of the socket.
 *  - CRIU is never killed in that time, not even with its parent: killed half-way it would leave its parasite
 *    in a task or a socket in repair mode. It is made to fail instead, and undoes everything itself.
 *  - Each shortcut (hook/splices.h, hook/pages.h, hook/smaps.h, hook/late.h) gives CRIU what it would have got without.
 *  - Without environment switches every function is the libc's own.
 */
#include "hook/hook.h"

#include "hook/descriptors.h"
#include "hook/filters.h"
#include "hook/flags.h"
#include "hook/helper.h"
#include "hook/images.h"
#include "hook/late.h"
#include "hook/pages.h"
#include "hook/phases.h"
#include "hook/smaps.h"
#include "hook/splices.h"
#include "hook/texts.h"
#include "hook/witness.h"
#include "hook/written.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHECK_EVERY_US = 1000, IMAGES_BYTES = 1 << 20, WARM_BYTES = 4 << 20, WARM_NICE = -10 };

struct hook hook = { .socket = -1 };

static uint64_t now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static long number_from(const char *name)
{
	const char *text = getenv(name);
	return text == NULL ? -1 : strtol(text, NULL, 10);
}

__attribute__((constructor)) static void hook_load(void)
{
	hook.kdat = getenv(HOOK_ENV_KDAT);
	hook.no_probe = getenv(HOOK_ENV_NO_PROBE) != NULL;
	hook.warm = getenv(HOOK_ENV_WARM) != NULL;
	hook.send_window = getenv(HOOK_ENV_SEND_WINDOW) != NULL;
	hook.socket = (int)number_from(HOOK_ENV_SOCKET);
	hook.target = number_from(HOOK_ENV_TARGET);
	long shortcuts = number_from(HOOK_ENV_SHORTCUTS);
	hook.shortcuts = shortcuts > 0 && hook.socket >= 0 ? (unsigned)shortcuts : 0;
}

/* ---- talking to ftdump ---- */

static void socket_lost(void)
{
	syscall(SYS_close, hook.socket);
	hook.socket = -1;
}

void hook_say(enum hook_kind kind)
{
	struct hook_message message = { .kind = kind, .threads = hook.seized };
	message.failed = !splices_whole();
	message.stale = hook.stale;
	memcpy(message.moved, hook.moved, sizeof message.moved);
	if (kind == HOOK_THAWED) {
		if (witness_composed() || smaps_composed())
			hook.used |= HOOK_FLAGS;
		if (written_quickly())
			hook.used |= HOOK_QUICK;
		if (!late_is_on() || descriptors_whole())
			hook.used |= HOOK_DESCRIPTORS; /* it is a part of that */
		if (!late_is_on() || texts_whole())
			hook.used |= HOOK_TEXTS; /* likewise */
		if (!images_all_kept())
			hook.used &= ~(unsigned)HOOK_IMAGES;
		message.phases = phases_seen();
		message.plain = hook.shortcuts & ~hook.used;
	}
	if (hook.frozen_at_us != 0)
		message.frozen_us = now_us() - hook.frozen_at_us;
	if (hook.socket >= 0 && send(hook.socket, &message, sizeof message, MSG_NOSIGNAL) != sizeof message)
		socket_lost();
}

static uint64_t left_us(void)
{
	if (hook.frozen_at_us == 0)
		return UINT64_MAX;
	uint64_t spent = now_us() - hook.frozen_at_us;
	return spent >= hook.limit_us ? 0 : hook.limit_us - spent;
}

/* One message if there is one within `wait_us`; kind 0 for none. A lost socket is noted. */
static struct hook_message hear(uint64_t wait_us)
{
	struct hook_message message = { 0 };
	while (hook.socket >= 0) {
		struct pollfd ready = { .fd = hook.socket, .events = POLLIN };
		struct timespec wait = { .tv_sec = (time_t)(wait_us / 1000000),
					 .tv_nsec = (long)(wait_us % 1000000) * 1000 };
		int count = ppoll(&ready, 1, wait_us == UINT64_MAX ? NULL : &wait, NULL);
		if (count < 0 && errno == EINTR && wait_us == UINT64_MAX)
			continue;
		if (count <= 0)
			return message;
		ssize_t got = recv(hook.socket, &message, sizeof message, MSG_DONTWAIT);
		if (got == (ssize_t)sizeof message) {
			hook.released |= message.kind == HOOK_RELEASE; /* nobody may be waiting for it yet */
			return message;
		}
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		socket_lost();
		message = (struct hook_message){ 0 };
	}
	return message;
}

/* Waits for `wanted`, for an abort, for the end of the time or of the socket. */
static void await_frozen(enum hook_kind wanted)
{
	while (hook.socket >= 0) {
		struct hook_message message = hear(left_us());
		if (message.kind == (uint32_t)wanted)
			return;
		if (message.kind == HOOK_ABORT || (message.kind == 0 && left_us() == 0)) {
			hook.aborted = true;
			return;
		}
	}
}

/* Asked at every image that CRIU creates and every chunk of memory that it copies. */
bool hook_must_fail(void)
{
	if (hook.stage != STAGE_FROZEN)
		return false;
	if (!hook.aborted && (left_us() == 0 || !splices_whole()))
		hook.aborted = true;
	uint64_t now = now_us();
	if (!hook.aborted && hook.socket >= 0 && now >= hook.check_at_us) {
		hook.check_at_us = now + CHECK_EVERY_US;
		hook.aborted = hear(0).kind == HOOK_ABORT;
	}
	return hook.aborted;
}

/* ---- the three places ---- */

/* SIGALRM makes CRIU give up waiting for a task that does not stop, for instance one in uninterruptible sleep. */
static void arm_alarm(uint64_t us)
{
	struct itimerval timer = { .it_value = { .tv_sec = (time_t)(us / 1000000), .tv_usec = (long)(us % 1000000) } };
	setitimer(ITIMER_REAL, &timer, NULL);
}

/*
 * While the tasks stand still, nothing on this host is more urgent. Where the kernel groups tasks by session, a task's
 * niceness counts within its session alone, so CRIU gets one of its own, which is nice as well. Refused: only slower.
 */
static void go_first(void)
{
	(void)setpriority(PRIO_PROCESS, 0, WARM_NICE);
	if (setsid() < 0)
		return;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	char text[16];
	int length = snprintf(text, sizeof text, "%d", WARM_NICE);
	if (write(fd, text, (size_t)length) != length)
		errno = 0;
	syscall(SYS_close, fd);
}

/*
 * A fresh process pays for every page it touches first, and would do so while the tasks are frozen. So the heap
 * is grown and everything mapped is made present before we report that we are parked.
 */
static void warm_up(void)
{
	mallopt(M_TOP_PAD, WARM_BYTES);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	void *room = malloc(WARM_BYTES);
	if (room != NULL)
		memset(room, 0, WARM_BYTES);
	free(room);
	/* Refused beyond RLIMIT_MEMLOCK: then it is only slower. */
	if (mlockall(MCL_CURRENT) == 0)
		munlockall();
	go_first();
}

/* What cannot be prepared is done the plain way, and ftdump hears of it. */
static void prepare_shortcuts(void)
{
	if ((hook.shortcuts & (HOOK_SPLICES | HOOK_SMAPS)) != 0 && !helper_start())
		return;
	if ((hook.shortcuts & HOOK_FLAGS) != 0)
		flags_load((int)number_from(HOOK_ENV_AREAS), hook.kdat);
	long images = number_from(HOOK_ENV_IMAGES), bytes = number_from(HOOK_ENV_PAGES_BYTES);
	const char *pages = getenv(HOOK_ENV_PAGES);
	if ((hook.shortcuts & HOOK_PAGES) != 0 && images >= 0 && pages != NULL && bytes > 0)
		(void)pages_prepare((int)images, pages, (size_t)bytes);
	if ((hook.shortcuts & HOOK_DESCRIPTORS) != 0)
		(void)descriptors_prepare((pid_t)hook.target);
	if ((hook.shortcuts & HOOK_TEXTS) != 0)
		(void)texts_prepare((pid_t)hook.target);
	if ((hook.shortcuts & HOOK_IMAGES) != 0 && images >= 0)
		(void)images_prepare((int)images, IMAGES_BYTES);
	if ((hook.shortcuts & HOOK_SMAPS) != 0)
		(void)smaps_prepare((pid_t)hook.target);
}

void hook_freeze_begins(void)
{
	hook.frozen_at_us = now_us();
	phases_begin();
	arm_alarm(hook.limit_us);
}

static void park(void)
{
	bool late = false;
	arm_alarm(0); /* CRIU's own timer runs since before it was parked */
	prepare_shortcuts();
	if (hook.warm)
		warm_up();
	hook_say(HOOK_PARKED);
	for (;;) {
		struct hook_message message = hear(UINT64_MAX);
		if (message.kind == HOOK_GO) {
			hook.limit_us = message.limit_us;
			late = message.late && (hook.shortcuts & HOOK_LATE) != 0;
			written_load();
			break;
		}
		if (hook.socket < 0 || message.kind == HOOK_ABORT)
			_exit(1); /* nothing is seized yet */
	}
	prctl(PR_SET_PDEATHSIG, 0);
	if (late && late_begin())
		return;
	hook.stage = STAGE_SEIZING;
	hook_freeze_begins();
}

static void mark_came(void)
{
	hook.marking = false;
	if (late_is_on()) {
		late_marked();
		return;
	}
	phase_enter(PHASE_COLLECT);
	smaps_begin(); /* not before: the mark may need the core */
}

/*
 * While the gate is marked, CRIU may look at what a packet cannot change: which namespaces there are. So this stands
 * before its first socket, its first image, smaps, and every further ptrace.
 */
void hook_await_mark(void)
{
	if (!hook.marking)
		return;
	phase_enter(PHASE_MARK);
	await_frozen(HOOK_CAPTURE);
	mark_came();
}

void hook_look_for_mark(void)
{
	if (!hook.marking)
		return;
	uint32_t kind = hear(0).kind;
	hook.aborted |= kind == HOOK_ABORT;
	if (kind == HOOK_CAPTURE || kind == HOOK_ABORT)
		mark_came();
}

static void barrier(void)
{
	hook.stage = STAGE_FROZEN;
	hook.marking = true;
	hook_say(HOOK_FROZEN);
	if ((hook.shortcuts & HOOK_MARK) == 0) {
		hook_await_mark();
		return;
	}
	hook.used |= HOOK_MARK;
	phase_enter(PHASE_COLLECT);
}

void hook_frozen_late(void)
{
	arm_alarm(0);
	hook.stage = STAGE_FROZEN;
	hook.marking = true;
	hook.used |= HOOK_LATE | HOOK_SMAPS | HOOK_MARK; /* there is nothing left for the others to do */
	hook_say(HOOK_FROZEN);
}

static void before_detach(void)
{
	hook_await_mark();
	(void)late_settle(); /* the message says whether anything has moved */
	hook.stage = STAGE_DETACHING;
	(void)splices_finish(); /* the message says whether it failed */
	phase_enter(PHASE_WAIT);
	hook_say(HOOK_DETACHING);
	if (!hook.aborted && !hook.released)
		await_frozen(HOOK_RELEASE);
	phase_enter(PHASE_DETACH);
}

static void after_detach(void)
{
	hook.detached++;
	if (hook.detached != hook.seized)
		return;
	hook.stage = STAGE_THAWED;
	phases_end();
	hook_say(HOOK_THAWED);
	if (!images_save() || !pages_trim())
		_exit(1); /* ftdump must not take the images */
	written_save();
	filters_save();
	smaps_learn();
	flags_save();
}

/* Tasks that were seized one by one. With more than that, one that ends meanwhile makes the dump fail. */
enum { TAKEN_MAX = 8192 };
static struct {
	pid_t pid[TAKEN_MAX];
	size_t count;
} taken;

static void note_taken(pid_t pid)
{
	hook.seized++;
	if (taken.count < TAKEN_MAX)
		taken.pid[taken.count++] = pid;
}

long ptrace(enum __ptrace_request request, ...)
{
	static long (*real)(enum __ptrace_request, ...);
	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "ptrace");
	va_list arguments;
	va_start(arguments, request);
	pid_t pid = va_arg(arguments, pid_t);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);

	bool watched = hook.target > 0;
	long answer;
	if (watched && hook.stage == STAGE_READING && late_ptrace((int)request, pid, address, data, &answer))
		return answer;
	/* After a late freeze CRIU may go on as far as its first image: until then it reads nothing that a packet changes. */
	if (request != PTRACE_DETACH && !late_is_on())
		hook_await_mark();
	if (request == PTRACE_CONT && hook.stage == STAGE_FROZEN)
		hook_look_for_mark();
	if (watched && request == PTRACE_PEEKSIGINFO)
		phase_enter(PHASE_INFECT);
	if (watched && request == PTRACE_SEIZE && pid == hook.target && hook.stage == STAGE_START)
		park();
	if (watched && hook.stage == STAGE_READING && late_ptrace((int)request, pid, address, data, &answer))
		return answer;
	if (watched && request == PTRACE_DETACH && hook.stage == STAGE_FROZEN)
		before_detach();
	long result = real(request, pid, address, data);
	int error = errno;
	if (watched && request == PTRACE_SEIZE && result == 0 && hook.stage == STAGE_SEIZING)
		note_taken(pid);
	if (watched && hook.stage == STAGE_FROZEN)
		filters_note((int)request, pid, address, data, result, error);
	if (watched && request == PTRACE_DETACH && hook.stage >= STAGE_SEIZING && hook.stage != STAGE_THAWED)
		after_detach();
	errno = error;
	return result;
}

/* A task that ends while it is being seized is not detached: it must not be waited for. */
static void note_end(pid_t pid)
{
	for (size_t i = 0; i < taken.count; i++)
		if (taken.pid[i] == pid) {
			taken.pid[i] = taken.pid[--taken.count];
			hook.seized--;
			return;
		}
}

pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
	if (late_wait(pid, status))
		return pid;
	pid_t got = (pid_t)syscall(SYS_wait4, pid, status, options, usage);
	int error = errno;
	if (got > 0 && hook.stage == STAGE_SEIZING && status != NULL && (WIFEXITED(*status) || WIFSIGNALED(*status)))
		note_end(got);
	errno = error;
	return got;
}

unsigned alarm(unsigned seconds)
{
	if (hook.stage == STAGE_READING)
		return 0; /* the freeze has an alarm of its own */
	if (seconds == 0 && hook.stage == STAGE_SEIZING)
		barrier();
	struct itimerval timer = { .it_value = { .tv_sec = seconds } }, old = { 0 };
	setitimer(ITIMER_REAL, &timer, &old);
	return (unsigned)(old.it_value.tv_sec + (old.it_value.tv_usec > 0));
}
