/*
 * The beginning, and the helper thread. Without FTREC_LOG in the environment nothing is recorded and every call goes
 * straight through. Only one process of the container owns lane 0: the first that comes, also after it has replaced its
 * image by exec (an entry point written for a shell ends so).
 */
#include "log/build.h"
#include "recorder/connections.h"
#include "recorder/real.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { HELPER_NS = 5000000, SETTLED_ROUNDS = 20, /* a thread in a real call may only have to be scheduled */ STALL_NS_DEFAULT = 2000000000, KICK_SIGNAL = 61, OUTSIDERS_MAX = 8 };

__thread struct ft_thread *ft_me FT_TLS;
struct log_file ft_log;

static struct log_build build;
static struct range {
	uintptr_t from, to;
} outsiders[OUTSIDERS_MAX];
static int outsider_count;
uintptr_t ft_outsiders_from, ft_outsiders_bytes;
bool ft_elides;
static bool without_sections;
static uint64_t stall_ns = STALL_NS_DEFAULT;
static _Atomic int32_t helper_tid;

uint64_t ft_now_ns(void)
{
	struct timespec now;
	REAL(clock_gettime)(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t ft_ticks(void)
{
#ifdef __x86_64__
	return __builtin_ia32_rdtsc();
#else
	return ft_now_ns();
#endif
}

long ft_syscall_of(long number, va_list a)
{
	long arguments[6];
	for (int i = 0; i < 6; i++)
		arguments[i] = va_arg(a, long);
	return REAL(syscall)(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}

long ft_syscall(long number, ...)
{
	va_list a;
	va_start(a, number);
	long result = ft_syscall_of(number, a);
	va_end(a);
	return result;
}

void ft_write_line(const char *format, ...)
{
	char line[LOG_PAGE_BYTES + 64];
	va_list arguments;
	va_start(arguments, format);
	int bytes = vsnprintf(line, sizeof line, format, arguments);
	va_end(arguments);
	if (bytes > 0)
		ft_syscall(SYS_write, 2L, line, (long)((size_t)bytes < sizeof line ? (size_t)bytes : sizeof line - 1));
}

static void surround(const struct range *range)
{
	uintptr_t to = ft_outsiders_from + ft_outsiders_bytes;
	if (ft_outsiders_bytes == 0 || range->from < ft_outsiders_from)
		ft_outsiders_from = range->from;
	ft_outsiders_bytes = (range->to > to ? range->to : to) - ft_outsiders_from;
}

/* Allocators and the loader take locks at times of their own; what they do is not part of what is replayed. */
static int find_outsider(struct dl_phdr_info *info, size_t size, void *unused)
{
	static const char *const names[] = {"jemalloc", "tcmalloc", "mimalloc", "libftrec", "ld-linux", "libgcc_s"};
	(void)size;
	(void)unused;
	for (unsigned n = 0; n < sizeof names / sizeof *names && outsider_count < OUTSIDERS_MAX; n++) {
		if (strstr(info->dlpi_name, names[n]) == NULL)
			continue;
		struct range range = {UINTPTR_MAX, 0};
		bool is_recorder = strcmp(names[n], "libftrec") == 0;
		for (int i = 0; i < info->dlpi_phnum; i++) {
			if (is_recorder && info->dlpi_phdr[i].p_type == PT_NOTE)
				log_build_in_notes((const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr), info->dlpi_phdr[i].p_memsz, &build);
			uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, to = from + info->dlpi_phdr[i].p_memsz;
			if (info->dlpi_phdr[i].p_type != PT_LOAD)
				continue;
			range.from = from < range.from ? from : range.from;
			range.to = to > range.to ? to : range.to;
		}
		outsiders[outsider_count++] = range;
		surround(&range);
		break;
	}
	return 0;
}

bool ft_is_among_outsiders(const void *caller)
{
	for (int i = 0; i < outsider_count; i++)
		if ((uintptr_t)caller - outsiders[i].from < outsiders[i].to - outsiders[i].from)
			return true;
	return false;
}

/* ---- the helper: kicks what sits in calls from before a checkpoint, and finds the end of a replay, or that it stalls */

static void kick(void)
{
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++) {
		struct ft_thread *t = &ft_threads[i];
		if (!ft_is_here(t) || atomic_load(&t->activity) != FT_IN_REAL)
			continue;
		pthread_cond_t *condition = atomic_load(&t->condition);
		if (condition != NULL)
			REAL(pthread_cond_broadcast)(condition);
		else
			ft_syscall(SYS_tgkill, ft_syscall(SYS_getpid), (long)atomic_load(&t->kernel_tid), (long)KICK_SIGNAL);
	}
}

static uint64_t events_so_far(void)
{
	uint64_t events = 0;
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++)
		events += *(volatile uint64_t *)&ft_threads[i].position;
	return events;
}

static void watch_replay(void)
{
	static uint64_t events, since_ns;
	static int rounds;
	uint64_t now = ft_now_ns(), seen = events_so_far();
	ft_replay_begins();
	kick();
	ft_answer();
	if (seen != events || since_ns == 0) {
		events = seen;
		since_ns = now;
		rounds = 0;
		return;
	}
	if (++rounds >= SETTLED_ROUNDS) {
		if (ft_memory_is_missing()) {
			rounds = 0;
			since_ns = now;
			return;
		}
		ft_replay_ends_if_all_still(true);
	}
	if (ft_mode_word() != LOG_MODE_REPLAY)
		since_ns = 0;
	else if (now - since_ns > stall_ns)
		ft_stalled();
}

static _Atomic uint32_t helper_works;

/* A fork must not find it in the middle of something. */
void ft_helper_hold(void)
{
	while (atomic_exchange(&helper_works, 1) != 0)
		ft_syscall(SYS_sched_yield);
}

void ft_helper_let_go(void) { atomic_store(&helper_works, 0); }

static void *helper(void *unused)
{
	struct timespec nap = {0, HELPER_NS};
	(void)unused;
	atomic_store(&helper_tid, (int32_t)ft_syscall(SYS_gettid));
	for (;;) {
		ft_syscall(SYS_nanosleep, &nap, NULL);
		if (atomic_exchange(&helper_works, 1) != 0)
			continue;
		ft_backlogs_flush();
		if (ft_mode_word() == LOG_MODE_REPLAY) {
			watch_replay();
		} else {
			if (unlikely(ft_mode_word() == LOG_MODE_ANEW))
				ft_begin_anew();
			ft_signals_kick();
			ft_connections_tick();
		}
		ft_helper_let_go();
	}
	return NULL;
}

static void kicked(int number)
{
	(void)number;
	if (ft_me != NULL)
		atomic_store(&ft_me->kicked, true);
	ft_signals_replay_deaf();
}

static int start_helper(void)
{
	struct sigaction action = {.sa_handler = kicked};
	sigset_t all, before;
	pthread_attr_t attributes;
	pthread_t thread;
	sigfillset(&action.sa_mask);
	if (REAL(sigaction)(KICK_SIGNAL, &action, NULL) != 0)
		return -1;
	sigfillset(&all);
	REAL(pthread_sigmask)(SIG_BLOCK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, 128 << 10);
	int failed = REAL(pthread_create)(&thread, &attributes, helper, NULL);
	/* An application's thread-local variables are on it too. */
	if (failed != 0 && pthread_attr_setstacksize(&attributes, 8 << 20) == 0)
		failed = REAL(pthread_create)(&thread, &attributes, helper, NULL);
	pthread_attr_destroy(&attributes);
	REAL(pthread_sigmask)(SIG_SETMASK, &before, NULL);
	return failed;
}

bool ft_helper_starts(void) { return start_helper() == 0; }

/* ---- the start */

static void measure_ticks(void)
{
	struct timespec real;
	uint64_t from_ns = ft_now_ns(), from = ft_ticks();
	while (ft_now_ns() - from_ns < 1000000)
		;
	uint64_t ticks = ft_ticks() - from, ns = ft_now_ns() - from_ns;
	REAL(clock_gettime)(CLOCK_REALTIME, &real);
	atomic_store(&ft_log.header->ticks_per_s, ticks * 1000000000u / ns);
	atomic_store(&ft_log.header->start_ticks, from);
	atomic_store(&ft_log.header->start_ns, (uint64_t)real.tv_sec * 1000000000u + (uint64_t)real.tv_nsec);
}

void ft_describe_recording(void)
{
	for (int i = 0; i < 2; i++)
		atomic_store(&ft_log.header->recorder_build[i], build.id[i]);
	atomic_fetch_or(&ft_log.header->flags, (ft_elides ? LOG_FLAG_ELIDE : 0u) | (without_sections ? LOG_FLAG_NO_SOLO : 0u));
	measure_ticks();
}

static bool claim(void)
{
	uint32_t mine = (uint32_t)ft_syscall(SYS_getpid), nobody = 0;
	return atomic_compare_exchange_strong(&ft_log.header->owner_pid, &nobody, mine) || nobody == mine;
}

/* A process that is made anew replays only what this build has recorded. (A restored one is compared by `ftlog check`.) */
static void check_build(void)
{
	if (ft_mode_word() == LOG_MODE_RECORD) {
		for (int i = 0; i < 2; i++)
			atomic_store(&ft_log.header->recorder_build[i], build.id[i]);
		return;
	}
	if (atomic_load(&ft_log.header->recorder_build[0]) != build.id[0] || atomic_load(&ft_log.header->recorder_build[1]) != build.id[1])
		ft_other_build();
}

/* The image before an exec may have left records; nothing can be replayed from before this one. */
static void forget_image_before(void)
{
	for (uint32_t lane = 0; lane < ft_log.lane_count; lane++) {
		uint64_t head = atomic_load(&ft_log.lanes[lane].head);
		ft_threads[lane].activity = FT_GONE;
		if (ft_mode_word() != LOG_MODE_RECORD)
			head = atomic_load(&ft_log.lanes[lane].tail);
		else
			log_trim(&ft_log, lane, head);
		ft_threads[lane].position = ft_threads[lane].checked = head;
	}
}

__attribute__((constructor)) static void start(void)
{
	ft_real();
	const char *path = getenv("FTREC_LOG"), *stall = getenv("FTREC_STALL_MS"), *without_solo = getenv("FTREC_NO_SOLO"),
	           *without_counting = getenv("FTREC_NO_ELIDE");
	if (path == NULL || *path == 0)
		return;
	dl_iterate_phdr(find_outsider, NULL);
	ft_checksum("", 0);
	int failed = log_map(path, true, &ft_log);
	if (failed != 0) {
		ft_write_line("ftrec: %s: %s; nothing is recorded\n", path, log_why(failed));
		return;
	}
	/* In mode ANEW the owner is restored, and this is a child of its that is not recorded. */
	if ((ft_mode_word() != LOG_MODE_RECORD && ft_mode_word() != LOG_MODE_REPLAY) || !claim())
		return;
	if (stall != NULL)
		stall_ns = (uint64_t)atol(stall) * 1000000;
	without_sections = without_solo != NULL;
	if (without_sections)
		atomic_fetch_or(&ft_log.header->flags, LOG_FLAG_NO_SOLO);
	if (without_counting == NULL)
		atomic_fetch_or(&ft_log.header->flags, LOG_FLAG_ELIDE);
	ft_elides = atomic_load(&ft_log.header->flags) & LOG_FLAG_ELIDE;
	check_build();
	forget_image_before();
	ft_processes_start();
	ft_connections_start(getenv("FTREC_LIVE"));
	if (ft_mode_word() == LOG_MODE_RECORD)
		measure_ticks();
	for (int fd = 0; fd < 3; fd++)
		ft_descriptor_set(fd, fd == 0 ? FT_UNKNOWN : FT_STDOUT);
	if (start_helper() != 0) {
		ft_write_line("ftrec: no helper thread; nothing is recorded\n");
		return;
	}
	ft_lane_begin(&ft_threads[0], 0);
}

__attribute__((destructor)) static void end(void)
{
	if (ft_me != NULL)
		ft_process_ends();
}
