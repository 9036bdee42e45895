/*
 * Signals are delivered at recorded points: the real handler only marks that one has come, and the application's runs at
 * the thread's next interposed call, or before the one that it interrupted returns, or at once where a signal does not end
 * the call (waiting for a condition, for a thread). Faults of the program itself are not put off.
 */
#include "recorder/real.h"

#include <sys/syscall.h>
#include <ucontext.h>

enum { SIGNALS = FT_SIGNALS, KICK_SIGNAL = 61, SLEEP_SUSPENDED = 16 /* beside those of clocks.c */ };

/* In the mask of pending signals, so that a call has one thing to look at: no signal of the application has this number. */
static const uint64_t TURN_KEPT = 1ull << (KICK_SIGNAL - 1);

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
	if (!atomic_load(&t->deaf) || ft_mode_word() == LOG_MODE_REPLAY)
		return;
	/* It may never come to another call. Nothing of the recorder is under way in this thread, so this is as good a point. */
	int error = errno;
	atomic_store(&t->deaf, false);
	ft_real_end();
	ft_real_begin();
	atomic_store(&t->deaf, true);
	errno = error;
}

/* With several processes: how many of this number they had sent to this one, so that a replay lets them come before. */
struct came {
	siginfo_t info;
	uint32_t sent;
};

static bool put_signal(struct ft_thread *t, int number, bool inside)
{
	struct ft_process *p = &ft_shared.processes[ft_here];
	(void)t;
	if (!atomic_load(&ft_shared.several))
		return ft_put_call(LOG_SIGNAL, (uint32_t)number, inside, 0, &last_info[number], sizeof(siginfo_t));
	struct came came = {.info = last_info[number], .sent = atomic_load(&p->sent[number])};
	if (!ft_put_call(LOG_SIGNAL, (uint32_t)number, inside, 0, &came, sizeof came))
		return false;
	atomic_store(&p->taken[number], came.sent);
	return true;
}

static bool was_sent(const struct ft_thread *t, uint64_t argument)
{
	(void)t;
	uint32_t number = (uint32_t)(argument >> 32);
	return (int32_t)(atomic_load(&ft_shared.processes[ft_here].sent[number]) - (uint32_t)argument) >= 0;
}

void ft_signals_go_live(void)
{
	struct ft_process *p = &ft_shared.processes[ft_here];
	for (int number = 1; atomic_load(&ft_shared.several) && number < SIGNALS; number++)
		if (atomic_exchange(&p->taken[number], atomic_load(&p->sent[number])) != atomic_load(&p->sent[number]))
			ft_syscall(SYS_kill, ft_syscall(SYS_getpid), (long)number);
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
		if (mode == LOG_MODE_RECORD && !put_signal(t, number, inside))
			break;
		atomic_fetch_and(&t->signals, ~(1ull << (number - 1)));
		run_handler(number, &last_info[number]);
	}
	errno = error;
}

/* Until the thread's next call; see ft_turn_keep(). */
static void let_turn_go(struct ft_thread *t)
{
	if (atomic_fetch_and(&t->signals, ~TURN_KEPT) & TURN_KEPT)
		ft_turn_end(t->holds_turn - 1);
}

void ft_turn_keep(struct ft_thread *t) { atomic_fetch_or(&t->signals, TURN_KEPT); }

void ft_signals_run(struct ft_thread *t)
{
	let_turn_go(t);
	run_pending(t, false);
}

void ft_signals_run_inside(struct ft_thread *t)
{
	let_turn_go(t);
	run_pending(t, true);
}

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
	if (e->payload_bytes >= sizeof(struct came)) {
		struct came came;
		memcpy(&came, e->payload, sizeof came);
		if (!ft_wait_until(t, was_sent, (uint64_t)number << 32 | came.sent))
			return;
		atomic_store(&ft_shared.processes[ft_here].taken[number], came.sent);
	}
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

void ft_signals_replay_deaf(void)
{
	struct ft_thread *t = ft_me;
	uint32_t object;
	if (t == NULL || !atomic_load(&t->deaf) || atomic_load(&t->condition) != NULL || ft_mode_word() != LOG_MODE_REPLAY)
		return;
	int error = errno;
	atomic_store(&t->deaf, false);
	ft_real_end_quietly();
	while (ft_kind_ahead(t, &object) == LOG_SIGNAL && ft_pass_in_between(t))
		;
	ft_real_begin();
	atomic_store(&t->deaf, true);
	errno = error;
}

/* One that comes between the last look and the blocking call would wait with it. */
void ft_signals_kick(void)
{
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++) {
		struct ft_thread *t = &ft_threads[i];
		if (ft_is_here(t) && atomic_load(&t->signals) != 0 && atomic_load(&t->activity) == FT_IN_REAL && atomic_load(&t->condition) == NULL)
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

/* The handlers run before it returns. Without one it was only kicked. */
FT_PUBLIC int sigsuspend(const sigset_t *mask)
{
	sigset_t mine = *mask;
	sigdelset(&mine, KICK_SIGNAL);
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(sigsuspend)(&mine);
		if (mode == LOG_MODE_REPLAY) {
			const struct log_event *e = ft_take(LOG_SLEEP, SLEEP_SUSPENDED);
			if (e != NULL)
				return (int)ft_result(e);
			continue;
		}
		ft_real_begin();
		REAL(sigsuspend)(&mine);
		bool has_come = atomic_load(&ft_me->signals) != 0;
		ft_real_end();
		if (has_come && ft_put_call(LOG_SLEEP, SLEEP_SUSPENDED, -1, EINTR, NULL, 0)) {
			errno = EINTR;
			return -1;
		}
	}
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
