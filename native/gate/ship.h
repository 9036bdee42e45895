/*
 * The gate's side of shipping: when the log is looked at, what waits for its ack, who is told. native/ship does the rest.
 *
 * A gate is a source (the primary's), a mirror (the standby's), or neither; never both.
 */
#ifndef FT_GATE_SHIP_H
#define FT_GATE_SHIP_H

#include "gate/hold.h"
#include "ship/receiver.h"
#include "ship/sender.h"

struct gate;

enum ship_role { SHIP_NONE, SHIP_SOURCE, SHIP_MIRROR };

struct ship_files {
	char log[256], frames[256];
	uint64_t frames_bytes;
};

/* What epoll knows of a socket. */
struct ship_watched {
	uint64_t connections;
	int fd;
	uint32_t interest;
};

struct ship {
	enum ship_role role;
	struct link_settings settings;
	struct source source;
	struct sender sender;
	struct mirror mirror;
	struct receiver receiver;
	struct ship_watched watched[RECEIVER_SLOTS];
	bool up_told;
	const char *full_told; /* where there is no room; NULL: nowhere */
	bool broken_told;
	uint64_t waits_told; /* of the recorder */
	uint64_t base_epoch; /* the first that was marked in this stream; 0: none yet */
	bool based; /* and one of them was committed: the log leads from a checkpoint that the standby has */
	uint64_t looked_ns; /* at the log */
	uint64_t output_ns; /* since when output waits that no flush has covered */
	uint64_t output_frames; /* 0: none does */
	bool moves; /* something came into the stream lately: look again in a millisecond */
};

int ship_open(struct gate *gate, const char **why);
void ship_close(struct gate *gate);
/* NULL, or a code and perhaps an errno. */
const char *ship_start(struct gate *gate, enum ship_role role, const struct ship_files *files, int *error);
const char *ship_role_name(enum ship_role role);

/* Frames. All is well when nothing is shipped. */
bool ship_takes_ingress(struct gate *gate, size_t length);
void ship_delivered(struct gate *gate, const struct hold_frame *frame);
bool ship_takes_stamps(const struct gate *gate);
/* Whether this frame's stamp cannot wait for the frames that are read after it. */
bool ship_notes(const unsigned char *frame, size_t length);
/* Of a frame that was just read, and of all before it. */
uint64_t ship_stamp(struct gate *gate, const unsigned char *frame, size_t length);
/* Of all that happened until now. */
uint64_t ship_position(struct gate *gate);
bool ship_covers(const struct gate *gate, uint64_t stamp);
/*
 * `frames` more of output wait. What led to them is sent when there is nothing else to do, and after COLLECT_NS or
 * COLLECT_FRAMES in any case: both ends do the same work for a flush of one frame as for one of thirty.
 */
void ship_output(struct gate *gate, size_t frames);
bool ship_output_waits(const struct gate *gate);
void ship_flush(struct gate *gate);

/* Checkpoints and modes. */
bool ship_takes_mark(const struct gate *gate);
void ship_mark(struct gate *gate, uint64_t epoch);
void ship_committed(struct gate *gate, uint64_t epoch);
/* `lanes`: "lane:position,…", or NULL for what the gate itself knows to be needless. */
const char *ship_trim(struct gate *gate, uint64_t epoch, const char *lanes);
const char *ship_refuses_log(const struct gate *gate, uint64_t generation);
void ship_mode_changed(struct gate *gate);

/* The loop. */
void ship_accept(struct gate *gate);
void ship_ready(struct gate *gate, unsigned slot);
void ship_turn(struct gate *gate);
void ship_watch(struct gate *gate);
uint64_t ship_deadline_ns(const struct gate *gate);

uint64_t ship_acked(const struct gate *gate);
const char *ship_why(const struct gate *gate);

#endif
