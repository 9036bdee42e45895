/*
 * From the standby's frames file (ship/frames.h) to a tracker: what the container met after the checkpoint that was
 * restored. Connections that are in the checkpoint are adopted from their restored sockets first, as their
 * handshakes are not in the file any more.
 *
 * A gap (a new stream: the gate died, or shipping began anew) after the checkpoint is no end. What left before it had been
 * acknowledged with all that led to it, so the log must be replayed; what came in meanwhile and is not known was not acknowledged to
 * anybody, as output has waited for a checkpoint since: it will come again.
 */
#ifndef FT_LIVE_FEED_H
#define FT_LIVE_FEED_H

#include "live/tracker.h"
#include "ship/frames.h"

struct feed {
	struct frames frames;
	uint64_t from;   /* in the ring: the entry after the checkpoint */
	uint64_t count, bytes;
	bool gap; /* frames after the checkpoint are missing */
	bool fed;
};

/*
 * 0; -ENOENT: the frames do not lead from that checkpoint: it is not there; -errno: the file cannot be used.
 */
int feed_open(struct feed *feed, const char *path, uint64_t epoch);
/* Room for all that the file has, and for `sockets` that are adopted. */
int feed_make_tracker(const struct feed *feed, struct tracker *tracker, uint32_t sockets);
/* What the clock of the tracker was when the checkpoint's frames begin. */
uint64_t feed_begins_ns(const struct feed *feed);
/* All frames, in order. -1 with errno. */
int feed_frames(struct feed *feed, struct tracker *tracker);
void feed_close(struct feed *feed);

#endif
