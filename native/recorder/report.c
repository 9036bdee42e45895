/* What became of a replay: the report page, and the ends that are no good ones. */
#include "recorder/connections.h"
#include "recorder/real.h"
#include "recorder/replay.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>

static void add(struct ft_text *text, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int more = vsnprintf(text->at + text->bytes, LOG_REPORT_BYTES - text->bytes, format, arguments);
	va_end(arguments);
	if (more > 0 && text->bytes + (uint32_t)more < LOG_REPORT_BYTES)
		text->bytes += (uint32_t)more;
}

static void add_event(struct ft_text *text, const char *side, const struct log_event *e)
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

void ft_report_publish(const struct ft_text *text, enum log_outcome outcome)
{
	ft_log.report->outcome = outcome;
	ft_log.report->bytes = text->bytes;
	atomic_store(&ft_log.report->ready, 1);
}

/* Only the first to find something wrong reports; the others wait for the end. */
static struct ft_text report_of(const char *outcome)
{
	if (atomic_exchange(&ft_shared.reporting, 1) != 0)
		for (;;)
			ft_syscall(SYS_pause);
	struct ft_text text = {.at = ft_log.report->text};
	add(&text, "outcome=%s\n", outcome);
	return text;
}

static _Noreturn void stop(const struct ft_text *text, enum log_outcome outcome, int status)
{
	ft_report_publish(text, outcome);
	/*
	 * Whoever waits for the report ends this process, after its sockets were made silent: an exit would speak to clients. The
	 * signal may be taken by another thread, and this one comes back from kill() before it stands: it must not go on to the exit.
	 */
	if (ft_connections_wanted()) {
		ft_stop_the_others(SIGSTOP);
		ft_syscall(SYS_kill, ft_syscall(SYS_getpid), (long)SIGSTOP);
		for (;;)
			ft_syscall(SYS_pause);
	}
	ft_stop_the_others(SIGKILL);
	atomic_store(&ft_log.header->mode, LOG_MODE_STOPPED);
	ft_write_line("ftrec: replay stopped:\n%.*s", (int)text->bytes, text->at);
	ft_syscall(SYS_exit_group, status);
	__builtin_unreachable();
}

void ft_diverged(const struct ft_sides *mine, const struct log_event *logged)
{
	struct ft_thread *t = ft_me;
	struct ft_text text = report_of("diverged");
	add(&text, "what=%s\nthread=%u\nposition=%llu\nrecord=%llu\n", mine->what, t->lane, (unsigned long long)t->position,
	    (unsigned long long)t->ordinal);
	add_event(&text, "logged", logged);
	add(&text, "replayed=%s object=%u after=%u bytes=%llu crc=%08llx\n", log_kind_of(mine->kind).name, mine->object, ft_elided(t),
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
	struct ft_text text = report_of("corrupt");
	add(&text, "what=%s\nthread=%u\nposition=%llu\n", why, ft_me->lane, (unsigned long long)ft_me->position);
	stop(&text, LOG_OUTCOME_CORRUPT, 79);
}

void ft_other_build(void)
{
	struct ft_text text = report_of("corrupt");
	add(&text, "what=recorded by another build of libftrec.so\n");
	stop(&text, LOG_OUTCOME_CORRUPT, 79);
}

static void add_threads(struct ft_text *text)
{
	static const char *const names[] = {"runs", "in-call", "at-turn", "waits", "at-end", "gone", "killed"};
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++) {
		struct ft_thread *t = &ft_threads[i];
		uint64_t head = atomic_load(&ft_log.lanes[i].head);
		add(text, "thread=%u %s position=%llu end=%llu", i, names[atomic_load(&t->activity)],
		    (unsigned long long)t->position, (unsigned long long)head);
		if (atomic_load(&ft_shared.several))
			add(text, " process=%u", atomic_load(&t->process));
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
	struct ft_text text = report_of("stalled");
	add_threads(&text);
	stop(&text, LOG_OUTCOME_STALLED, 78);
}

_Noreturn void ft_handover_failed(const char *why)
{
	struct ft_text text = report_of("stalled");
	add(&text, "what=%s\n", why);
	stop(&text, LOG_OUTCOME_STALLED, 78);
}

struct ft_text ft_report_replayed(void)
{
	struct log_header *h = ft_log.header;
	uint64_t events = 0, verified = 0, verified_bytes = 0, unreached = 0;
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++) {
		struct ft_thread *t = &ft_threads[i];
		events += t->events;
		verified += t->verified;
		verified_bytes += t->verified_bytes;
		uint64_t head = atomic_load(&ft_log.lanes[i].head);
		unreached += head > t->position ? head - t->position : 0; /* a lane that began behind its head has none */
		t->events = t->verified = t->verified_bytes = 0;
	}
	uint64_t took_ns = ft_replay_took_ns();
	atomic_store(&h->replayed_events, events);
	atomic_store(&h->verified_outputs, verified);
	atomic_store(&h->verified_bytes, verified_bytes);
	atomic_store(&h->unreached_events, unreached);
	atomic_store(&h->replay_ns, took_ns);
	struct ft_text text = {.at = ft_log.report->text};
	add(&text, "outcome=replayed\nevents=%llu\noutputs-verified=%llu\nbytes-verified=%llu\nunreached-bytes=%llu\nreplay-us=%llu\n",
	    (unsigned long long)events, (unsigned long long)verified, (unsigned long long)verified_bytes,
	    (unsigned long long)unreached, (unsigned long long)took_ns / 1000);
	if (unreached != 0)
		add_threads(&text);
	return text;
}

