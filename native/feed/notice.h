/*
 * That memory is still missing, known where it matters: an abstract socket in the container's network namespace listens as long as
 * a feeder or its guard lives. Nobody may take a checkpoint before.
 */
#ifndef FT_FEED_NOTICE_H
#define FT_FEED_NOTICE_H
#include <sys/types.h>

/* Listens until it is closed. -1 with errno; an earlier feeder that is just ending is waited for. */
int notice_open(pid_t init_pid);
/* Waits until nobody listens. 0; -1 with ETIMEDOUT, or what keeps us from asking. */
int notice_await(pid_t init_pid, int timeout_ms);
#endif
