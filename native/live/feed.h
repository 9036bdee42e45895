/*
 * From the standby's frames file (ship/frames.h) to a tracker: what the container met after the checkpoint that was
 * restored. Connections that are in the checkpoint are adopted from their restored sockets first, as their
 * handshakes are not in the file any more.
 *
 * A connection whose handshake was before the checkpoint and that was accepted after it is neither in the checkpoint (the kernel's
 * half-open connections, and those that wait to be accepted, belong to no process) nor in the frames after it. So the frames of
 * the epoch before are kept (ship/source.c) and looked at first. What they tell of connections that are in the checkpoint is
 * overruled by the restored sockets; what they tell of those that were over by then does no harm: nobody claims them, and they have
 * said FIN, or were answered, so they are not taken for waiting (stand_in.c).
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
	uint64_t before; /* in the ring: the first that is known before the checkpoint, without a gap up to it */
	uint64_t from;   /* the entry after the checkpoint */
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
/* Those before the checkpoint; then sockets are adopted. -1 with errno. */
int feed_handshakes(struct feed *feed, struct tracker *tracker);
/* All frames after the checkpoint, in order. -1 with errno. */
int feed_frames(struct feed *feed, struct tracker *tracker);
void feed_close(struct feed *feed);

#endif
