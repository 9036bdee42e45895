/*
 * Consuming a lane. A record is consumed (position, versions) by ft_done() only, after what it stands for has happened; so
 * a checkpoint taken during a replay, or a replay that ends in the middle of a wait, finds its place again.
 */
#include "recorder/connections.h"
#include "recorder/real.h"

#include <stdarg.h>
#include <stdio.h>
#include <sched.h>
#include <unistd.h>
#include <sys/syscall.h>

enum { CANCELLATION_NAPS = 10000 };

static uint64_t began_ns;
static _Atomic uint32_t reporting;
_Atomic uint32_t ft_ending;

void ft_replay_begins(void)
{
	if (began_ns == 0 && ft_mode_word() == LOG_MODE_REPLAY)
		began_ns = ft_now_ns();
}

static void back_off(unsigned *turns)
{
	++*turns;
	if (*turns < 200) {
#ifdef __x86_64__
		__builtin_ia32_pause();
#endif
	} else if (*turns < 1000) {
		ft_syscall(SYS_sched_yield);
	} else {
		struct timespec nap = {0, 50000};
		ft_syscall(SYS_nanosleep, &nap, NULL);
	}
}

/* ---- reports */

struct text {
	char *at;
	uint32_t bytes;
};

static void add(struct text *text, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int more = vsnprintf(text->at + text->bytes, LOG_REPORT_BYTES - text->bytes, format, arguments);
	va_end(arguments);
	if (more > 0 && text->bytes + (uint32_t)more < LOG_REPORT_BYTES)
		text->bytes += (uint32_t)more;
}

static void add_event(struct text *text, const char *side, const struct log_event *e)
{
	add(text, "%s=%s object=%u after=%u", side, log_kind_of(e->record.kind).name, e->record.object, e->record.elided);
	if (e->shape == LOG_SHAPE_CALL || e->shape == LOG_SHAPE_TURN)
		add(text, " result=%d", e->call.result);
	if (e->shape == LOG_SHAPE_TURN || e->shape == LOG_SHAPE_SYNC)
		add(text, " version=%u result-or-turn=%d", e->sync.version, e->sync.result);
	if (e->shape == LOG_SHAPE_OUTPUT)
		add(text, " bytes=%u crc=%08x", e->output.bytes, e->output.crc);
	add(text, "\n");
}

static void publish_report(struct text *text, enum log_outcome outcome)
{
	ft_log.report->outcome = outcome;
	ft_log.report->bytes = text->bytes;
	atomic_store(&ft_log.report->ready, 1);
}

/* Only the first to find something wrong reports; the others wait for the end. */
static struct text report_of(const char *outcome)
{
	if (atomic_exchange(&reporting, 1) != 0)
		for (;;)
			ft_syscall(SYS_pause);
	struct text text = {.at = ft_log.report->text};
	add(&text, "outcome=%s\n", outcome);
	return text;
}

static _Noreturn void stop(struct text *text, enum log_outcome outcome, int status)
{
	publish_report(text, outcome);
	/* Whoever waits for the report ends this process, after its sockets were made silent: an exit would speak to clients. */
	if (ft_connections_wanted())
		ft_syscall(SYS_kill, ft_syscall(SYS_getpid), (long)SIGSTOP);
	atomic_store(&ft_log.header->mode, LOG_MODE_STOPPED);
	ft_write_line("ftrec: replay stopped:\n%.*s", (int)text->bytes, text->at);
	ft_syscall(SYS_exit_group, status);
	__builtin_unreachable();
}

void ft_diverged(const struct ft_sides *mine, const struct log_event *logged)
{
	struct ft_thread *t = ft_me;
	struct text text = report_of("diverged");
	add(&text, "what=%s\nthread=%u\nposition=%llu\nrecord=%llu\n", mine->what, t->lane, (unsigned long long)t->position,
	    (unsigned long long)t->ordinal);
	add_event(&text, "logged", logged);
	add(&text, "replayed=%s object=%u after=%u bytes=%llu crc=%08llx\n", log_kind_of(mine->kind).name, mine->object, t->elided,
	    (unsigned long long)mine->got_bytes, (unsigned long long)mine->got_crc);
	/* What comes next helps to find the place where the two parted. */
	uint64_t at = t->position + t->next_bytes;
	for (int i = 0; i < 6; i++) {
		struct log_event e;
		const char *why;
		const uint8_t *bytes = log_at(&ft_log, t->lane, at);
		uint32_t length = bytes == NULL || at >= t->end ? 0 :
			log_decode(bytes, LOG_SEGMENT_BYTES - at % LOG_SEGMENT_BYTES, &e, &why);
		if (length == 0)
			break;
		add_event(&text, "then", &e);
		at += length;
	}
	stop(&text, LOG_OUTCOME_DIVERGED, 77);
}

void ft_corrupt(const char *why)
{
	struct text text = report_of("corrupt");
	add(&text, "what=%s\nthread=%u\nposition=%llu\n", why, ft_me->lane, (unsigned long long)ft_me->position);
	stop(&text, LOG_OUTCOME_CORRUPT, 79);
}

static void add_threads(struct text *text)
{
	static const char *const names[] = {"runs", "in-call", "at-turn", "at-end", "gone"};
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++) {
		struct ft_thread *t = &ft_threads[i];
		uint64_t head = atomic_load(&ft_log.lanes[i].head);
		add(text, "thread=%u %s position=%llu end=%llu", i, names[atomic_load(&t->activity)],
		    (unsigned long long)t->position, (unsigned long long)head);
		if (atomic_load(&t->activity) == FT_AT_TURN) {
			uint32_t object = atomic_load(&t->turn_object);
			add(text, " object=%u version=%u of=%u", object, atomic_load(&ft_objects[object].version),
			    atomic_load(&t->turn_version));
		}
		add(text, "\n");
		if (t->peeked && t->position < head)
			add_event(text, "next", &t->next);
	}
}

void ft_stalled(void)
{
	struct text text = report_of("stalled");
	add_threads(&text);
	stop(&text, LOG_OUTCOME_STALLED, 78);
}

/* ---- walking */

static void fold_crc(struct ft_thread *t)
{
	if (t->crc_from != NULL && t->at > t->crc_from)
		t->crc = ft_checksum_more(t->crc, t->crc_from, (size_t)(t->at - t->crc_from));
	t->crc_from = t->at;
}

static void skip(struct ft_thread *t, uint64_t bytes)
{
	t->position += bytes;
	t->at += bytes;
	t->left -= bytes;
	t->ordinal++;
	t->peeked = false;
}

static bool find_bytes(struct ft_thread *t)
{
	if (t->at != NULL && t->left != 0)
		return true;
	fold_crc(t);
	t->at = log_at(&ft_log, t->lane, t->position);
	t->crc_from = t->at;
	t->left = LOG_SEGMENT_BYTES - t->position % LOG_SEGMENT_BYTES;
	return t->at != NULL;
}

static void pass_check(struct ft_thread *t)
{
	fold_crc(t);
	if (t->next.check.position != t->position || t->next.record.object != t->crc || t->next.check.ordinal != t->ordinal)
		ft_corrupt("a check does not match");
	skip(t, t->next_bytes);
	t->crc = 0;
	t->crc_from = t->at;
	t->checked = t->position;
}

static void pass_pad(struct ft_thread *t)
{
	if (t->next.record.object != t->left)
		ft_corrupt("padding that does not end with its segment");
	t->at += 8;
	fold_crc(t);
	t->at -= 8;
	skip(t, t->left);
	t->at = NULL;
	t->crc_from = NULL;
}

const struct log_event *ft_peek(struct ft_thread *t)
{
	const char *why = NULL;
	for (;;) {
		if (t->peeked && (t->next.record.kind != LOG_FLUSH || t->elided != t->next.record.elided))
			return &t->next;
		if (t->peeked) {
			skip(t, t->next_bytes);
			t->elided = 0;
		}
		if (t->position >= t->end)
			t->end = atomic_load_explicit(&ft_log.lanes[t->lane].head, memory_order_acquire);
		if (t->position >= t->end || !find_bytes(t))
			return NULL;
		uint64_t available = t->end - t->position < t->left ? t->end - t->position : t->left;
		t->next_bytes = log_decode(t->at, available, &t->next, &why);
		if (t->next_bytes == 0)
			ft_corrupt(why);
		t->peeked = true;
		if (t->next.record.kind == LOG_CHECK)
			pass_check(t);
		else if (t->next.record.kind == LOG_PAD)
			pass_pad(t);
	}
}

/*
 * Of another thread that sits in a real call from before a checkpoint, out of which nothing may wake it (a join): whatever it
 * does, it stops at its next record before it runs on, if no acquisitions that were only counted come before. Is that
 * the pass of this section, or the end?
 */
bool ft_stands_before(const struct ft_thread *t, uint64_t section)
{
	uint64_t at = t->position, head = atomic_load_explicit(&ft_log.lanes[t->lane].head, memory_order_acquire);
	while (at < head) {
		struct log_event e;
		const char *why;
		uint64_t left = LOG_SEGMENT_BYTES - at % LOG_SEGMENT_BYTES;
		const uint8_t *bytes = log_at(&ft_log, t->lane, at);
		uint32_t length = bytes == NULL ? 0 : log_decode(bytes, left, &e, &why);
		if (length == 0)
			return false;
		/* The end of its own section it has reached with the call that it is in. */
		if (e.record.kind != LOG_CHECK && e.record.kind != LOG_PAD && e.record.kind != LOG_SOLO_END)
			return e.record.kind == LOG_SOLO_PASS && e.value >= section && e.record.elided == t->elided;
		at += e.record.kind == LOG_PAD ? left : length;
	}
	return true;
}

static void consume(struct ft_thread *t)
{
	skip(t, t->next_bytes);
	t->elided = 0;
	t->owed_known = false;
	t->events++;
}

/* ---- the end */

static struct text summary(void)
{
	struct log_header *h = ft_log.header;
	uint64_t events = 0, verified = 0, verified_bytes = 0, unreached = 0;
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++) {
		struct ft_thread *t = &ft_threads[i];
		events += t->events;
		verified += t->verified;
		verified_bytes += t->verified_bytes;
		unreached += atomic_load(&ft_log.lanes[i].head) - t->position;
		t->events = t->verified = t->verified_bytes = 0;
	}
	uint64_t took_ns = began_ns != 0 ? ft_now_ns() - began_ns : 0;
	began_ns = 0;
	atomic_store(&h->replayed_events, events);
	atomic_store(&h->verified_outputs, verified);
	atomic_store(&h->verified_bytes, verified_bytes);
	atomic_store(&h->unreached_events, unreached);
	atomic_store(&h->replay_ns, took_ns);
	struct text text = {.at = ft_log.report->text};
	add(&text, "outcome=replayed\nevents=%llu\noutputs-verified=%llu\nbytes-verified=%llu\nunreached-bytes=%llu\nreplay-us=%llu\n",
	    (unsigned long long)events, (unsigned long long)verified, (unsigned long long)verified_bytes,
	    (unsigned long long)unreached, (unsigned long long)took_ns / 1000);
	if (unreached != 0)
		add_threads(&text);
	return text;
}

static bool all_still(bool settled)
{
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++) {
		enum ft_activity activity = atomic_load(&ft_threads[i].activity);
		if (activity == FT_RUNS || (!settled && activity != FT_AT_END && activity != FT_GONE))
			return false;
		const struct ft_thread *t = &ft_threads[i];
		if (activity == FT_AT_TURN && /* it may only have to be scheduled */
		    atomic_load(&ft_objects[atomic_load(&t->turn_object)].version) == atomic_load(&t->turn_version))
			return false;
	}
	return true;
}

/*
 * While `ft_ending` is set no thread leaves the place where it waits (ft_run_again()), so what is seen of all threads after it
 * was set stays so until the mode has changed.
 */
static _Noreturn void ft_handover_failed(const char *why)
{
	struct text text = report_of("stalled");
	add(&text, "what=%s\n", why);
	stop(&text, LOG_OUTCOME_STALLED, 78);
}

void ft_replay_ends_if_all_still(bool settled)
{
	uint32_t nobody = 0;
	if (!all_still(settled) || ft_mode_word() != LOG_MODE_REPLAY ||
	    !atomic_compare_exchange_strong(&ft_ending, &nobody, 1))
		return;
	if (all_still(settled) && ft_mode_word() == LOG_MODE_REPLAY) {
		struct text text = summary();
		const char *failed = ft_go_live();
		if (failed != NULL)
			ft_handover_failed(failed);
		ft_solo_reset();
		publish_report(&text, LOG_OUTCOME_REPLAYED);
		atomic_fetch_add(&ft_log.header->generation, 1);
		atomic_store(&ft_log.header->mode, atomic_load(&ft_log.header->after_replay));
	}
	began_ns = 0;
	atomic_store(&ft_ending, 0);
}

/* Out of a wait. Not while the end is being made: what waits then has not happened. */
void ft_run_again(struct ft_thread *t)
{
	for (;;) {
		atomic_store(&t->activity, FT_RUNS);
		if (!atomic_load(&ft_ending))
			return;
		atomic_store(&t->activity, FT_AT_END);
		unsigned turns = 0;
		while (atomic_load(&ft_ending))
			back_off(&turns);
	}
}

void ft_replay_exits(void)
{
	struct text text = summary();
	publish_report(&text, LOG_OUTCOME_REPLAYED);
}

void ft_wait_for_the_end(struct ft_thread *t)
{
	unsigned turns = 0;
	atomic_store(&t->activity, FT_AT_END);
	while (ft_mode_word() == LOG_MODE_REPLAY) {
		if (t->position < atomic_load(&ft_log.lanes[t->lane].head))
			break; /* the log grew */
		ft_replay_ends_if_all_still(false);
		back_off(&turns);
	}
	ft_run_again(t);
}

/* ---- turns */

static bool takes_turn(const struct log_event *e)
{
	switch (e->record.kind) {
	case LOG_TRY_FAILED: case LOG_SEM_FAILED: case LOG_THREAD_CREATE: case LOG_THREAD_JOIN: case LOG_BARRIER: case LOG_BARRIER_DONE: case LOG_ONCE_RUN:
		return false;
	default: return e->shape == LOG_SHAPE_SYNC || e->shape == LOG_SHAPE_TURN;
	}
}

static uint32_t object_of(const struct log_event *e)
{
	return e->shape == LOG_SHAPE_SYNC ? e->record.object : (uint32_t)e->sync.result;
}

static bool wait_for_turn(struct ft_thread *t, const struct log_event *e)
{
	uint32_t object = object_of(e);
	if (object >= LOG_OBJECTS_MAX)
		ft_corrupt("an object that cannot be");
	if (atomic_load_explicit(&ft_objects[object].version, memory_order_acquire) == e->sync.version)
		return true;
	unsigned turns = 0;
	atomic_store(&t->turn_object, object);
	atomic_store(&t->turn_version, e->sync.version);
	atomic_store(&t->activity, FT_AT_TURN);
	bool mine;
	while (!(mine = atomic_load_explicit(&ft_objects[object].version, memory_order_acquire) == e->sync.version) &&
	       ft_mode_word() == LOG_MODE_REPLAY)
		back_off(&turns);
	ft_run_again(t);
	return mine && ft_mode_word() == LOG_MODE_REPLAY;
}

/* The recorded time between two calls is the least that passes between them: against data races (RRC's way). */
static void pace(struct ft_thread *t, const struct log_event *e)
{
	if (e->shape != LOG_SHAPE_CALL && e->shape != LOG_SHAPE_TURN)
		return;
	uint64_t rate = atomic_load(&ft_log.header->ticks_per_s), now = ft_now_ns();
	uint32_t ticks = e->call.stamp - (uint32_t)t->pace_stamp;
	uint64_t wanted_ns = rate == 0 ? 0 : ((uint64_t)ticks << LOG_STAMP_SHIFT) * 1000 / (rate / 1000000 + 1);
	if (t->pace_ns != 0 && wanted_ns < 2000000)
		while (now < t->pace_ns + wanted_ns && ft_mode_word() == LOG_MODE_REPLAY) {
			ft_syscall(SYS_sched_yield);
			now = ft_now_ns();
		}
	t->pace_ns = now;
	t->pace_stamp = e->call.stamp;
}

/* ---- what the interposed functions call */

static void owe(struct ft_thread *t, uint32_t id, uint32_t version)
{
	for (uint32_t i = 0; i < t->owed_count; i++)
		if (t->owed[i].id == id) {
			if ((int32_t)(version - t->owed[i].until) < 0)
				t->owed[i].until = version;
			return;
		}
	if (t->owed_count < FT_OWED_MAX) {
		t->owed[t->owed_count].id = id;
		t->owed[t->owed_count++].until = version;
	}
}

/* The first version of each object that this thread owns that another lane is still to consume. */
static void find_owed(struct ft_thread *t)
{
	t->owed_count = 0;
	t->owed_known = true;
	for (uint32_t lane = 0; lane < atomic_load(&ft_thread_count); lane++) {
		uint64_t at = *(volatile uint64_t *)&ft_threads[lane].position;
		uint64_t head = lane == t->lane ? 0 : atomic_load(&ft_log.lanes[lane].head);
		while (at < head) {
			struct log_event e;
			const char *why;
			uint64_t left = LOG_SEGMENT_BYTES - at % LOG_SEGMENT_BYTES;
			const uint8_t *bytes = log_at(&ft_log, lane, at);
			uint32_t length = bytes == NULL ? 0 : log_decode(bytes, left, &e, &why);
			if (length == 0)
				break;
			if ((e.record.kind == LOG_LOCK || e.record.kind == LOG_WRITE_LOCK || e.record.kind == LOG_READ_LOCK ||
			     e.record.kind == LOG_WAIT_END) && e.record.object < LOG_OBJECTS_MAX &&
			    atomic_load(&ft_objects[e.record.object].owner) == t->lane + 1)
				owe(t, e.record.object, e.sync.version);
			at += e.record.kind == LOG_PAD ? left : length;
		}
	}
}

static bool owes(const struct ft_thread *t)
{
	for (uint32_t i = 0; i < t->owed_count; i++)
		if ((int32_t)(t->owed[i].until - atomic_load(&ft_objects[t->owed[i].id].version)) > 0)
			return true;
	return false;
}

/*
 * A lane ends in the middle of a stretch of counted acquisitions: the count would have come with the next record. That
 * they happened is seen from the next owner's version, in another lane. What this thread does between them is its own.
 */
static bool is_elided_at_the_end(struct ft_thread *t, const void *address)
{
	uint32_t id = ft_object_known(address);
	if (!ft_elides || id == 0 || atomic_load(&ft_objects[id].owner) != t->lane + 1)
		return false;
	if (!t->owed_known)
		find_owed(t);
	/* Of this object not more than the next owner's version says; of one that nobody takes later, what is needed to get on. */
	for (uint32_t i = 0; i < t->owed_count; i++)
		if (t->owed[i].id == id)
			return (int32_t)(t->owed[i].until - atomic_load(&ft_objects[id].version)) > 0;
	return owes(t);
}

bool ft_next_is_elided(const void *address)
{
	const struct log_event *e = ft_peek(ft_me);
	return e != NULL ? e->record.elided > ft_me->elided : is_elided_at_the_end(ft_me, address);
}

/* What is consumed on the way to a record that a call is waiting for. True if it was one of these. */
static bool pass_in_between(struct ft_thread *t, const struct log_event *e)
{
	uint64_t section = e->value;
	switch (e->record.kind) {
	case LOG_SOLO_PASS:
		consume(t);
		ft_solo_pass(t, section);
		return true;
	case LOG_SOLO_END:
		consume(t);
		ft_solo_finish(t);
		return true;
	case LOG_SIGNAL:
		ft_signals_replay(t, e);
		return true;
	default: return false;
	}
}

static const struct log_event *coming(struct ft_thread *t)
{
	ft_replay_begins();
	for (;;) {
		const struct log_event *e = ft_peek(t);
		if (e == NULL) {
			ft_wait_for_the_end(t);
			if (ft_mode_word() != LOG_MODE_REPLAY)
				return NULL;
			continue;
		}
		if (e->record.elided != t->elided)
			return e; /* a divergence: the caller says what it wanted */
		if (!pass_in_between(t, e))
			return e;
	}
}

uint8_t ft_coming(void)
{
	const struct log_event *e = coming(ft_me);
	return e == NULL ? 0 : e->record.kind;
}

/* The thread was cancelled in this call. The other thread does it again; nanosleep() is a place where it can happen. */
static void await_cancellation(struct ft_thread *t)
{
	struct timespec nap = {0, 100000};
	atomic_store(&t->activity, FT_IN_REAL);
	for (unsigned i = 0; i < CANCELLATION_NAPS && ft_mode_word() == LOG_MODE_REPLAY; i++)
		REAL(nanosleep)(&nap, NULL);
	ft_run_again(t);
}

const struct log_event *ft_take(uint8_t kind, uint32_t object)
{
	struct ft_thread *t = ft_me;
	const struct log_event *e = coming(t);
	if (e == NULL)
		return NULL;
	struct ft_sides mine = {.kind = kind, .object = object};
	if (e->record.kind == LOG_THREAD_END && kind != LOG_THREAD_END && e->record.elided == t->elided)
		await_cancellation(t);
	if (ft_mode_word() != LOG_MODE_REPLAY)
		return NULL;
	if (e->record.elided != t->elided)
		mine.what = "locks taken since the last event";
	else if (e->record.kind != kind)
		mine.what = "call";
	else if (object != FT_ANY && e->record.object != object)
		mine.what = "object";
	if (mine.what != NULL)
		ft_diverged(&mine, e);
	if (takes_turn(e) && !wait_for_turn(t, e))
		return NULL;
	if (unlikely(atomic_load(&ft_log.header->flags) & LOG_FLAG_PACE))
		pace(t, e);
	return e;
}

void ft_done(const struct log_event *e)
{
	struct ft_thread *t = ft_me;
	consume(t);
	if (takes_turn(e))
		atomic_store_explicit(&ft_objects[object_of(e)].version, e->sync.version + 1, memory_order_release);
}

long ft_result(const struct log_event *e)
{
	int result = e->call.result;
	ft_done(e);
	if (result >= 0)
		return result;
	errno = -result;
	return -1;
}
