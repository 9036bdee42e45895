#include "live/feed.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "gate/frame.h"

enum { VIRTIO_NEEDS_CHECKSUM = 1, VIRTIO_DATA_VALID = 2 };

/* A frame's stamp is the primary's wall clock: on this host's monotonic one it may be wrong by what the clocks differ. */
static uint64_t to_monotonic(uint64_t wall_ns)
{
	struct timespec wall, monotonic;
	clock_gettime(CLOCK_REALTIME, &wall);
	clock_gettime(CLOCK_MONOTONIC, &monotonic);
	uint64_t now_wall = (uint64_t)wall.tv_sec * 1000000000u + (uint64_t)wall.tv_nsec;
	uint64_t now = (uint64_t)monotonic.tv_sec * 1000000000u + (uint64_t)monotonic.tv_nsec;
	uint64_t age = now_wall > wall_ns ? now_wall - wall_ns : 0;
	return now > age ? now - age : 0;
}

static int find_checkpoint(struct feed *feed, uint8_t *payload, uint64_t epoch)
{
	struct ship_entry entry;
	bool leads = false;
	uint64_t at = feed->frames.now.tail;
	int64_t size;
	feed->before = at;
	while ((size = frames_read(&feed->frames, at, &entry, payload, SHIP_PAYLOAD_BYTES_MAX)) > 0) {
		at += (uint64_t)size;
		if (entry.kind == SHIP_CHECKPOINT && entry.position == epoch) {
			leads = true;
			feed->gap = false;
			feed->from = at;
		} else if (entry.kind == SHIP_GAP) {
			feed->gap = true;
			if (!leads)
				feed->before = at;
		}
		feed->count++;
		feed->bytes += entry.length;
	}
	if (size < 0)
		return -EBADMSG;
	return leads ? 0 : -ENOENT;
}

int feed_open(struct feed *feed, const char *path, uint64_t epoch)
{
	*feed = (struct feed){0};
	int failed = frames_open_reader(&feed->frames, path);
	/* A mirror makes its file before it hears a word: one that is not there says nothing of what was covered. */
	if (failed != 0)
		return failed == -ENOENT ? -EBADMSG : failed;
	uint8_t *payload = malloc(SHIP_PAYLOAD_BYTES_MAX);
	failed = payload == NULL ? -ENOMEM : find_checkpoint(feed, payload, epoch);
	free(payload);
	if (failed != 0)
		frames_close(&feed->frames);
	return failed;
}

int feed_make_tracker(const struct feed *feed, struct tracker *tracker, uint32_t sockets)
{
	/* Each frame may open a connection and begin a chunk; a bound for what a peer of bad will could send. */
	enum { CONNECTIONS_MAX = 65536 };
	uint64_t connections = feed->count + sockets + 64;
	if (connections > CONNECTIONS_MAX)
		connections = CONNECTIONS_MAX;
	return tracker_open(tracker, (uint32_t)connections, (uint32_t)(feed->bytes / CHUNK_BYTES + 2 * connections + 1));
}

uint64_t feed_begins_ns(const struct feed *feed)
{
	struct ship_entry entry;
	static uint8_t payload[SHIP_PAYLOAD_BYTES_MAX];
	for (uint64_t at = feed->from;;) {
		int64_t size = frames_read(&feed->frames, at, &entry, payload, sizeof payload);
		if (size <= 0)
			return to_monotonic(UINT64_MAX);
		if (entry.kind == SHIP_INGRESS || entry.kind == SHIP_EGRESS)
			return to_monotonic(entry.position);
		at += (uint64_t)size;
	}
}

/* `to`: a place in the ring, or UINT64_MAX for its end. */
static int feed_range(const struct feed *feed, struct tracker *tracker, uint64_t from, uint64_t to)
{
	struct ship_entry entry;
	uint8_t *payload = malloc(SHIP_PAYLOAD_BYTES_MAX);
	int64_t size = 0;
	if (payload == NULL)
		return -1;
	for (uint64_t at = from;
	     at < to && (size = frames_read(&feed->frames, at, &entry, payload, SHIP_PAYLOAD_BYTES_MAX)) > 0; at += (uint64_t)size) {
		if ((entry.kind != SHIP_INGRESS && entry.kind != SHIP_EGRESS) || entry.length <= VIRTIO_HEADER_BYTES)
			continue;
		bool looked_at = (payload[0] & (VIRTIO_NEEDS_CHECKSUM | VIRTIO_DATA_VALID)) != 0;
		bool input = entry.kind == SHIP_INGRESS;
		tracker_frame(tracker, input ? TRACKER_INPUT : TRACKER_OUTPUT, payload + VIRTIO_HEADER_BYTES,
			      entry.length - VIRTIO_HEADER_BYTES, input && !looked_at, to_monotonic(entry.position));
	}
	free(payload);
	errno = EBADMSG;
	return size < 0 ? -1 : 0;
}

int feed_handshakes(struct feed *feed, struct tracker *tracker)
{
	return feed_range(feed, tracker, feed->before, feed->from);
}

int feed_frames(struct feed *feed, struct tracker *tracker)
{
	feed->fed = true;
	return feed_range(feed, tracker, feed->from, UINT64_MAX);
}

void feed_close(struct feed *feed)
{
	frames_close(&feed->frames);
}
