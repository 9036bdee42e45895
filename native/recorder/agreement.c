/*
 * What the processes of an application do together: the end of a replay. One that is still itself asks the others, twice;
 * whoever of them waits, or their helper, answers for its process. If all are still, each goes live, and then the mode changes.
 *
 * Invariants:
 *  - Questions are asked by who has set `ft_ending`: one at a time, and nobody leaves the place where it waits meanwhile.
 *  - A process answers from what only it can see: whether that has come for which one of its threads waits.
 *  - Every question has an end: who does not answer in time has said no. A process that has died is not waited for;
 *    if its log had more, the replay is over, by name.
 */
#include "recorder/real.h"
#include "recorder/replay.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>

enum { PATIENCE_NS = 500000000, LOOK_AFTER_NS = 20000000, STAT_BYTES_MAX = 512 };
static const uint64_t live_patience_ns = 12000000000;

uint32_t ft_answered;
static _Atomic uint32_t answering;

static struct ft_process *process_of(uint32_t lane) { return &ft_shared.processes[lane]; }
static uint32_t as_answer(uint32_t number, bool yes) { return number << 1 | yes; }

static bool answer_to(uint32_t kind)
{
	if (kind != FT_GO_LIVE)
		return ft_all_still(kind == FT_ARE_YOU_SETTLED);
	const char *failed = ft_process_goes_live();
	if (failed != NULL)
		ft_handover_failed(failed);
	ft_replay_is_over();
	return true;
}

/* By whichever thread comes first; the others go on waiting. */
void ft_answer_now(void)
{
	if (atomic_load(&ft_shared.asker) == ft_here || atomic_exchange(&answering, 1) != 0)
		return;
	uint32_t number = atomic_load(&ft_shared.question);
	if (number != ft_answered) {
		int error = errno;
		bool yes = answer_to(atomic_load(&ft_shared.question_kind));
		ft_answered = number;
		atomic_store(&process_of(ft_here)->answer, as_answer(number, yes));
		errno = error;
	}
	atomic_store(&answering, 0);
}

/* No such process, or only waited for. */
static bool has_died(pid_t pid)
{
	char path[64], stat[STAT_BYTES_MAX];
	if (pid <= 0)
		return false;
	if (ft_syscall(SYS_kill, (long)pid, 0L) != 0)
		return errno == ESRCH;
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	long fd = ft_syscall(SYS_openat, (long)AT_FDCWD, path, (long)(O_RDONLY | O_CLOEXEC));
	if (fd < 0)
		return false;
	long bytes = ft_syscall(SYS_read, fd, stat, (long)sizeof stat - 1);
	ft_syscall(SYS_close, fd);
	stat[bytes > 0 ? bytes : 0] = 0;
	const char *after_name = strrchr(stat, ')');
	return after_name != NULL && (strncmp(after_name, ") Z", 3) == 0 || strncmp(after_name, ") X", 3) == 0);
}

static bool is_dead(uint32_t process)
{
	struct ft_process *p = process_of(process);
	if (!has_died(atomic_load(&p->pid)))
		return false;
	if (!ft_process_has_read_all(process))
		ft_handover_failed("a process has ended before its log");
	ft_process_is_gone(process, atomic_load(&p->told));
	return true;
}

static uint32_t ask(enum ft_question kind)
{
	atomic_store(&ft_shared.asker, ft_here);
	atomic_store(&ft_shared.question_kind, kind);
	uint32_t number = atomic_load(&ft_shared.question) + 1;
	ft_answered = number;
	atomic_store(&ft_shared.question, number);
	return number;
}

static bool hear(uint32_t number, uint64_t patience_ns)
{
	uint64_t from_ns = ft_now_ns();
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++) {
		struct timespec nap = {0, 20000};
		uint32_t answer;
		while (i != ft_here && ft_process_is_there(i) && (answer = atomic_load(&process_of(i)->answer)) >> 1 != number) {
			uint64_t waited_ns = ft_now_ns() - from_ns;
			if (waited_ns > patience_ns || atomic_load(&ft_shared.reporting))
				return false;
			if (waited_ns > LOOK_AFTER_NS && is_dead(i))
				break;
			ft_syscall(SYS_nanosleep, &nap, NULL);
		}
		if (i != ft_here && ft_process_is_there(i) && atomic_load(&process_of(i)->answer) != as_answer(number, true))
			return false;
	}
	return !atomic_load(&ft_shared.reporting);
}

/* What can be seen from here: asking stops everybody for a moment. */
static bool others_may_be_still(bool settled)
{
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++) {
		const struct ft_thread *t = &ft_threads[i];
		uint32_t activity = atomic_load(&t->activity);
		if (ft_is_here(t) || activity == FT_GONE || activity == FT_KILLED)
			continue;
		if (activity == FT_RUNS ? !settled || !is_dead(atomic_load(&t->process)) :
		    activity == FT_AT_END ? *(volatile uint64_t *)&t->position < atomic_load(&ft_log.lanes[i].head) : !settled)
			return false;
	}
	return true;
}

bool ft_others_may_be_still(bool settled)
{
	return likely(!atomic_load_explicit(&ft_shared.several, memory_order_relaxed)) || others_may_be_still(settled);
}

bool ft_others_agree(enum ft_question question)
{
	return likely(!atomic_load_explicit(&ft_shared.several, memory_order_relaxed)) || ft_process_is_alone() ||
	       hear(ask(question), PATIENCE_NS);
}

const char *ft_others_go_live(const char *(*mine)(void))
{
	if (!atomic_load(&ft_shared.several) || ft_process_is_alone())
		return mine();
	/* At once: connections are handed over when all have come. */
	uint32_t number = ask(FT_GO_LIVE);
	const char *failed = mine();
	return failed != NULL || hear(number, live_patience_ns) ? failed : "a process did not go live";
}
