/* What the files of a replay share: walk.c (the lane), ending.c (waiting, and the end), report.c, elided.c, replay.c. */
#ifndef FT_RECORDER_REPLAY_H
#define FT_RECORDER_REPLAY_H
#include "recorder/recorder.h"

#pragma GCC visibility push(hidden)

/* walk.c */
void ft_consume(struct ft_thread *t);

/* ending.c */
uint64_t ft_replay_took_ns(void);
uint64_t ft_replay_began_ns(void);

/* pace.c */
static inline void ft_pace_goes_on(struct ft_thread *t) /* out of a wait */
{
	if (unlikely(atomic_load(&ft_log.header->flags) & LOG_FLAG_PACE))
		atomic_store(&t->pace_ns, ft_now_ns());
}
bool ft_pace(struct ft_thread *t, const struct log_event *e); /* false: the log has ended */

/* report.c */
struct ft_text {
	char *at;
	uint32_t bytes;
};
struct ft_text ft_report_replayed(void); /* not yet to be read */
void ft_report_publish(const struct ft_text *text, enum log_outcome outcome);
_Noreturn void ft_handover_failed(const char *why);

#pragma GCC visibility pop
#endif
