/*
 * The gate's side of copies (gate/copies.h): in mode hold each frame for the container is copied to the standby's gate, which keeps what no
 * committed checkpoint contains. When it opens after a takeover, that is delivered before what was queued since.
 *
 * Not with a stream: there the frames are in the stream already.
 */
#ifndef FT_GATE_COPYING_H
#define FT_GATE_COPYING_H

#include "gate/copies.h"

struct gate;

struct copying {
	int fd; /* not the heartbeats': a burst of copies must not keep one from leaving */
	struct copies_packer packer;
	struct copies_keeper keeper;
	uint64_t epoch, epoch_bytes; /* copied of the input of an epoch */
	uint64_t sent_frames, omitted_frames, used_frames;
};

int copying_open(struct gate *gate); /* -1 with errno */
void copying_close(struct gate *gate);
/* A frame has come for the container. */
void copying_note(struct gate *gate, const unsigned char *frame, size_t length);
/* What was noted goes to the peer. */
void copying_flush(struct gate *gate);
/* A datagram from the heartbeats' socket; false: refused. */
bool copying_received(struct gate *gate, unsigned char *bytes, size_t length);
/* The container was restored from `epoch`: what came after that is delivered now. */
void copying_use(struct gate *gate, uint64_t epoch);
void copying_forget(struct gate *gate);

#endif
