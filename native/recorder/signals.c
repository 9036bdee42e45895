/*
 * Signals are delivered at recorded points: the real handler only marks that one has come, and the application's runs at
 * the thread's next interposed call, or before the one that it interrupted returns. Faults of the program itself
 * are not put off.
 */
#include "recorder/real.h"

#include <sys/syscall.h>
#include <ucontext.h>

enum { SIGNALS = 65, KICK_SIGNAL = 61 };

static struct sigaction wanted[SIGNALS];
static siginfo_t last_info[SIGNALS];

static void run_handler(int number, siginfo_t *info)
{
	static ucontext_t none;
	struct sigaction *action = &wanted[number];
	if (action->sa_flags & SA_SIGINFO)
		action->sa_sigaction(number, info, &none);
	else if (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN)
		action->sa_handler(number);
}

static void arrived(int number, siginfo_t *info, void *context)
{
	struct ft_thread *t = ft_me;
	if (t == NULL) {
		/* The helper blocks all signals; this is a thread that is not recorded. */
		if (wanted[number].sa_flags & SA_SIGINFO)
			wanted[number].sa_sigaction(number, info, context);
		else
			run_handler(number, info);
		return;
	}
	last_info[number] = *info;
	atomic_fetch_or(&t->signals, 1ull << (number - 1));
}

/* `inside`: before an interrupted output returns, after what became of it was recorded. */
static void run_pending(struct ft_thread *t, bool inside)
{
	int error = errno;
	enum log_mode mode = ft_mode_word();
	if (mode == LOG_MODE_REPLAY)
		return; /* what comes now is for later, or was logged */
	uint64_t pending;
	while ((pending = atomic_load(&t->signals)) != 0) {
		int number = __builtin_ctzll(pending) + 1;
		if (mode == LOG_MODE_RECORD && !ft_put_call(LOG_SIGNAL, (uint32_t)number, inside, 0, &last_info[number], sizeof(siginfo_t)))
			break;
		atomic_fetch_and(&t->signals, ~(1ull << (number - 1)));
		run_handler(number, &last_info[number]);
	}
	errno = error;
}

void ft_signals_run(struct ft_thread *t) { run_pending(t, false); }
void ft_signals_run_inside(struct ft_thread *t) { run_pending(t, true); }

/* The helper kicks a thread that has a signal, which may have left its call meanwhile, and be in another one. */
bool ft_only_kicked(struct ft_thread *t)
{
	return t != NULL && atomic_exchange(&t->kicked, false) && atomic_load(&t->signals) == 0 && ft_mode_word() != LOG_MODE_REPLAY;
}

void ft_signals_replay(struct ft_thread *t, const struct log_event *e)
{
	siginfo_t info = {0};
	uint32_t number = e->record.object;
	if (number == 0 || number >= SIGNALS)
		ft_corrupt("a signal that does not exist");
	if (e->payload_bytes >= sizeof info)
		memcpy(&info, e->payload, sizeof info);
	ft_done(e);
	atomic_fetch_and(&t->signals, ~(1ull << (number - 1)));
	int error = errno;
	run_handler((int)number, &info);
	errno = error;
}

void ft_signals_replay_inside(struct ft_thread *t)
{
	const struct log_event *e;
	int error = errno;
	while ((e = ft_peek(t)) != NULL && e->record.kind == LOG_SIGNAL && e->call.result == 1 && e->record.elided == ft_elided(t))
		ft_signals_replay(t, e);
	errno = error;
}

/* One that comes between the last look and the blocking call would wait with it. */
void ft_signals_kick(void)
{
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++) {
		struct ft_thread *t = &ft_threads[i];
		if (atomic_load(&t->signals) != 0 && atomic_load(&t->activity) == FT_IN_REAL && atomic_load(&t->condition) == NULL)
			ft_syscall(SYS_tgkill, ft_syscall(SYS_getpid), (long)atomic_load(&t->kernel_tid), (long)KICK_SIGNAL);
	}
}

static bool is_fault(int number)
{
	return number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL || number == SIGTRAP || number == SIGABRT ||
	       number == SIGSYS;
}

FT_PUBLIC int sigaction(int number, const struct sigaction *action, struct sigaction *before)
{
	if (ft_log.header == NULL || number <= 0 || number >= SIGNALS || is_fault(number))
		return REAL(sigaction)(number, action, before);
	if (number == KICK_SIGNAL) {
		errno = EINVAL;
		return -1;
	}
	struct sigaction was = wanted[number], inner;
	if (action != NULL) {
		inner = *action;
		if (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN) {
			inner.sa_sigaction = arrived;
			inner.sa_flags |= SA_SIGINFO;
			inner.sa_flags &= ~SA_RESETHAND;
		}
		wanted[number] = *action;
	}
	int result = REAL(sigaction)(number, action != NULL ? &inner : NULL, before);
	if (result == 0 && before != NULL && before->sa_sigaction == arrived)
		*before = was;
	return result;
}

FT_PUBLIC sighandler_t signal(int number, sighandler_t handler)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, before;
	return sigaction(number, &action, &before) == 0 ? before.sa_handler : SIG_ERR;
}

FT_PUBLIC int pthread_sigmask(int how, const sigset_t *set, sigset_t *before)
{
	sigset_t mine;
	if (set != NULL && how != SIG_UNBLOCK) {
		mine = *set;
		sigdelset(&mine, KICK_SIGNAL);
		set = &mine;
	}
	return REAL(pthread_sigmask)(how, set, before);
}
