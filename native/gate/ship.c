#include "gate/ship.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "gate/gate.h"
#include "gate/invariant.h"
#include "gate/wakeup.h"

#define LOOK_NS 1000000ull
#define COLLECT_NS 150000ull
#define COLLECT_FRAMES 32u

/* ---- roles ---- */

const char *ship_role_name(enum ship_role role)
{
	switch (role) {
	case SHIP_SOURCE:
		return "source";
	case SHIP_MIRROR:
		return "mirror";
	case SHIP_NONE:
		break;
	}
	return "none";
}

int ship_open(struct gate *gate, const char **why)
{
	const struct options *options = gate->options;
	struct ship *ship = &gate->ship;
	if (!options->ship)
		return 0;
	ship->settings.kind = options->ship_plain ? LINK_PLAIN : LINK_TLS;
	snprintf(ship->settings.pair, sizeof ship->settings.pair, "%s", options->pair);
	memcpy(ship->settings.key, options->key, sizeof ship->settings.key);
	return link_settings_open(&ship->settings, why);
}

static void end_role(struct gate *gate)
{
	struct ship *ship = &gate->ship;
	if (ship->role == SHIP_SOURCE) {
		sender_close(&ship->sender);
		source_close(&ship->source);
	} else if (ship->role == SHIP_MIRROR) {
		receiver_close(&ship->receiver);
		mirror_close(&ship->mirror);
	}
	ship->role = SHIP_NONE;
	ship->up_told = ship->broken_told = ship->based = ship->moves = false;
	ship->full_told = NULL;
	ship->base_epoch = ship->waits_told = ship->output_frames = 0;
	for (unsigned i = 0; i < RECEIVER_SLOTS; i++)
		ship->watched[i].fd = -1;
}

void ship_close(struct gate *gate)
{
	end_role(gate);
	if (gate->options->ship)
		link_settings_close(&gate->ship.settings);
}

static const char *start_source(struct gate *gate, const struct ship_files *files, int *error)
{
	struct ship *ship = &gate->ship;
	int failed = source_open(&ship->source, files->log, gate->generation, gate->options->ship_queue_bytes);
	if (failed != 0) {
		*error = -failed;
		return failed == -EPROTO ? "log-version" : "log";
	}
	sender_open(&ship->sender, &ship->settings, &ship->source, &gate->options->ship_local, &gate->options->ship_peer,
		    gate->pair_hash);
	ship->role = SHIP_SOURCE;
	ship->moves = true;
	return NULL;
}

static const char *start_mirror(struct gate *gate, const struct ship_files *files, int *error)
{
	struct ship *ship = &gate->ship;
	int failed = mirror_open(&ship->mirror, files->log, files->frames, files->frames_bytes);
	if (failed != 0) {
		*error = -failed;
		return "log";
	}
	ship->role = SHIP_MIRROR;
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = wakeup_data(WAKE_SHIP_LISTEN, 0)};
	if (receiver_open(&ship->receiver, &ship->settings, &ship->mirror, &gate->options->ship_local, gate->pair_hash,
			  gate->generation) != 0 ||
	    epoll_ctl(gate->epoll_fd, EPOLL_CTL_ADD, ship->receiver.listen_fd, &event) != 0) {
		*error = errno;
		end_role(gate);
		return "ship";
	}
	return NULL;
}

const char *ship_start(struct gate *gate, enum ship_role role, const struct ship_files *files, int *error)
{
	*error = 0;
	if (!gate->options->ship)
		return "no-ship";
	/* Output that waits for the log would wait for ever; a mirror is of no use to a gate that serves. */
	if (gate->mode == MODE_LOG || (role == SHIP_SOURCE && gate->mode == MODE_OPEN) ||
	    (role == SHIP_MIRROR && gate->mode != MODE_CLOSED))
		return "transition";
	end_role(gate);
	const char *code = NULL;
	if (role == SHIP_SOURCE)
		code = start_source(gate, files, error);
	else if (role == SHIP_MIRROR)
		code = start_mirror(gate, files, error);
	fprintf(stderr, "log role %s%s%s\n", ship_role_name(role), code == NULL ? "" : " failed: ", code == NULL ? "" : code);
	return code;
}

void ship_mode_changed(struct gate *gate)
{
	struct ship *ship = &gate->ship;
	bool useless = (ship->role == SHIP_SOURCE && !gate_holds(gate)) ||
		       (ship->role == SHIP_MIRROR && gate->mode != MODE_CLOSED);
	if (useless) {
		/* A source that let things pass untold cannot go on; a mirror that is being used must not change. */
		if (ship->role == SHIP_MIRROR)
			mirror_spend(&ship->mirror);
		end_role(gate);
		event_plain(gate, "ship-ended");
	} else if (ship->role == SHIP_MIRROR) {
		receiver_outdate(&ship->receiver, gate->generation);
	}
}

/* ---- frames ---- */

static uint64_t wall_ns(void)
{
	struct timespec now;
	INVARIANT(clock_gettime(CLOCK_REALTIME, &now) == 0);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool ship_takes_ingress(struct gate *gate, size_t length)
{
	return gate->ship.role != SHIP_SOURCE || source_has_room_for_frame(&gate->ship.source, (uint32_t)length);
}

void ship_delivered(struct gate *gate, const struct hold_frame *frame)
{
	if (gate->ship.role != SHIP_SOURCE)
		return;
	source_put_ingress(&gate->ship.source, frame->bytes, frame->length, wall_ns());
	gate->ship.moves = true;
}

bool ship_takes_stamps(const struct gate *gate)
{
	return gate->ship.role == SHIP_SOURCE && source_has_room(&gate->ship.source);
}

bool ship_notes(const unsigned char *frame, size_t length)
{
	return source_notes(frame, (uint32_t)length);
}

uint64_t ship_stamp(struct gate *gate, const unsigned char *frame, size_t length)
{
	INVARIANT(gate->ship.role == SHIP_SOURCE);
	gate->ship.moves = true;
	return source_stamp(&gate->ship.source, frame, (uint32_t)length, wall_ns());
}

uint64_t ship_position(struct gate *gate)
{
	return ship_stamp(gate, NULL, 0);
}

bool ship_covers(const struct gate *gate, uint64_t stamp)
{
	INVARIANT(gate->ship.role == SHIP_SOURCE);
	return stamp <= gate->ship.source.queue.acked;
}

/* After a look at the log: what comes from now on has its millisecond. */
static void flush(struct ship *ship)
{
	uint64_t now_ns = clock_now_ns();
	ship->looked_ns = now_ns;
	ship->output_ns = ship->output_frames = 0;
	sender_flush(&ship->sender, now_ns);
}

void ship_output(struct gate *gate, size_t frames)
{
	struct ship *ship = &gate->ship;
	if (ship->output_frames == 0)
		ship->output_ns = gate->now_ns;
	ship->output_frames += frames;
}

bool ship_output_waits(const struct gate *gate)
{
	return gate->ship.output_frames > 0;
}

void ship_flush(struct gate *gate)
{
	INVARIANT(gate->ship.role == SHIP_SOURCE);
	flush(&gate->ship);
}

static void flush_in_time(struct gate *gate)
{
	struct ship *ship = &gate->ship;
	if (ship->output_frames >= COLLECT_FRAMES ||
	    (ship->output_frames > 0 && gate->now_ns - ship->output_ns >= COLLECT_NS))
		flush(ship);
}

/* ---- checkpoints ---- */

bool ship_takes_mark(const struct gate *gate)
{
	const struct source *source = &gate->ship.source;
	/* A broken one ends with the next `log`; checkpoints go on meanwhile. */
	return gate->ship.role != SHIP_SOURCE || source->broken != NULL || source_can_mark(source);
}

void ship_mark(struct gate *gate, uint64_t epoch)
{
	struct ship *ship = &gate->ship;
	if (ship->role != SHIP_SOURCE || ship->source.broken != NULL)
		return;
	const char *code = source_mark(&ship->source, epoch);
	if (code != NULL) {
		fprintf(stderr, "epoch %llu has no mark in the stream: %s\n", (unsigned long long)epoch, code);
		return;
	}
	ship->moves = true;
	if (ship->base_epoch == 0)
		ship->base_epoch = epoch;
}

void ship_committed(struct gate *gate, uint64_t epoch)
{
	struct ship *ship = &gate->ship;
	if (ship->role == SHIP_SOURCE && ship->base_epoch != 0 && epoch >= ship->base_epoch)
		ship->based = true;
}

static const char *trim_lanes(struct source *source, const char *text)
{
	while (*text != 0) {
		char *end;
		errno = 0;
		unsigned long lane = strtoul(text, &end, 10);
		if (end == text || *end != ':' || lane > LOG_LANES_MAX)
			return "usage";
		const char *number = end + 1;
		unsigned long long position = strtoull(number, &end, 10);
		if (end == number || errno != 0 || (*end != 0 && *end != ','))
			return "usage";
		if (source_trim_lane(source, (uint32_t)lane, position / 8 * 8) != 0)
			return "beyond";
		text = *end == ',' ? end + 1 : end;
	}
	return NULL;
}

const char *ship_trim(struct gate *gate, uint64_t epoch, const char *lanes)
{
	struct ship *ship = &gate->ship;
	const char *code = NULL;
	if (ship->role != SHIP_SOURCE)
		return "no-stream";
	if (epoch > gate->committed)
		return "not-committed";
	if (epoch != 0)
		code = source_trim(&ship->source, epoch, lanes == NULL);
	if (code == NULL && lanes != NULL)
		code = trim_lanes(&ship->source, lanes);
	ship->moves = true;
	return code;
}

const char *ship_refuses_log(const struct gate *gate, uint64_t generation)
{
	const struct ship *ship = &gate->ship;
	if (ship->role != SHIP_SOURCE || ship->source.generation != generation)
		return "no-stream";
	if (!ship->based)
		return "no-base";
	if (ship->source.broken != NULL)
		return "log-broken";
	return source_has_room(&ship->source) ? NULL : "log-full";
}

/* ---- the loop ---- */

static void watch_one(struct gate *gate, unsigned slot, int fd, uint64_t connections, uint32_t interest)
{
	struct ship_watched *watched = &gate->ship.watched[slot];
	bool fresh = fd >= 0 && (watched->fd != fd || watched->connections != connections);
	if (fd < 0 || (!fresh && watched->interest == interest)) {
		if (fd < 0)
			watched->fd = -1; /* closing took it out of the epoll set */
		return;
	}
	struct epoll_event event = {.events = interest, .data.u64 = wakeup_data(WAKE_SHIP, slot)};
	INVARIANT(epoll_ctl(gate->epoll_fd, fresh ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) == 0);
	*watched = (struct ship_watched){.fd = fd, .connections = connections, .interest = interest};
}

void ship_watch(struct gate *gate)
{
	struct ship *ship = &gate->ship;
	if (ship->role == SHIP_SOURCE)
		watch_one(gate, 0, ship->sender.link.fd, ship->sender.connections,
			  EPOLLIN | (sender_wants_out(&ship->sender) ? EPOLLOUT : 0u));
	for (unsigned i = 0; ship->role == SHIP_MIRROR && i < RECEIVER_SLOTS; i++)
		watch_one(gate, i, ship->receiver.slots[i].link.fd, ship->receiver.slots[i].connections,
			  (receiver_wants_in(&ship->receiver, i) ? EPOLLIN : 0u) |
				  (receiver_wants_out(&ship->receiver, i) ? EPOLLOUT : 0u));
}

void ship_accept(struct gate *gate)
{
	if (gate->ship.role == SHIP_MIRROR)
		receiver_accept(&gate->ship.receiver, gate->now_ns);
}

void ship_ready(struct gate *gate, unsigned slot)
{
	struct ship *ship = &gate->ship;
	/* Not when the turn began: what was sent since has its time, too. */
	if (ship->role == SHIP_SOURCE)
		sender_ready(&ship->sender, clock_now_ns());
	else if (ship->role == SHIP_MIRROR && slot < RECEIVER_SLOTS)
		receiver_ready(&ship->receiver, slot, gate->now_ns);
}

static bool is_up(const struct ship *ship)
{
	return ship->role == SHIP_SOURCE ? ship->sender.up : ship->receiver.current >= 0;
}

uint64_t ship_acked(const struct gate *gate)
{
	const struct ship *ship = &gate->ship;
	switch (ship->role) {
	case SHIP_SOURCE:
		return ship->source.queue.acked;
	case SHIP_MIRROR:
		return ship->mirror.frames.now.offset;
	case SHIP_NONE:
		break;
	}
	return 0;
}

const char *ship_why(const struct gate *gate)
{
	const char *why = gate->ship.role == SHIP_SOURCE ? gate->ship.sender.why : gate->ship.receiver.why;
	return why[0] == 0 ? "not-connected" : why;
}

/* Where there is no room, or NULL. */
static const char *full_where(struct ship *ship)
{
	const struct source *source = &ship->source;
	if (ship->role == SHIP_MIRROR)
		return ship->receiver.full ? "mirror" : NULL;
	if (source->frames_room != 0 && source_frames_used(source) + FRAME_BYTES_MAX * 2 > source->frames_room)
		return "frames";
	if (!ship_queue_room_frame(&source->queue, FRAME_BYTES_MAX * 2) ||
	    ship_queue_room_items(&source->queue) < 2 * source->items_a_cut_max)
		return "queue";
	uint64_t waits = atomic_load_explicit(&source->log.header->waits, memory_order_relaxed);
	if (waits != ship->waits_told && log_free_bytes(&source->log) == 0) {
		ship->waits_told = waits;
		return "log";
	}
	return NULL;
}

/* Not at once: one that hovers at its bound would speak without end. */
static bool has_room_again(const struct ship *ship)
{
	const struct source *source = &ship->source;
	if (ship->role == SHIP_MIRROR)
		return true;
	return source_frames_used(source) <= source->frames_room / 4 * 3 &&
	       ship_queue_room_items(&source->queue) >= 3 * source->items_a_cut_max &&
	       ship_queue_room_frame(&source->queue, (uint32_t)(source->queue.frames_bytes / 4)) &&
	       log_free_bytes(&source->log) > 0;
}

static void tell(struct gate *gate)
{
	struct ship *ship = &gate->ship;
	if (is_up(ship) != ship->up_told) {
		ship->up_told = is_up(ship);
		event_ship(gate);
	}
	const char *where = full_where(ship);
	if ((ship->full_told == NULL && where != NULL) || (ship->full_told != NULL && where == NULL && has_room_again(ship))) {
		ship->full_told = where;
		event_log_full(gate);
	}
	if (ship->role == SHIP_SOURCE && ship->source.broken != NULL && !ship->broken_told) {
		ship->broken_told = true;
		event_log_broken(gate);
	}
}

static void look(struct gate *gate)
{
	struct ship *ship = &gate->ship;
	if (gate->now_ns - ship->looked_ns < LOOK_NS)
		return;
	ship->moves = source_cut(&ship->source);
	flush(ship);
}

void ship_turn(struct gate *gate)
{
	struct ship *ship = &gate->ship;
	if (ship->role == SHIP_NONE)
		return;
	if (ship->role == SHIP_SOURCE) {
		sender_tick(&ship->sender, gate->now_ns);
		flush_in_time(gate);
		look(gate);
	} else {
		receiver_tick(&ship->receiver, gate->now_ns);
	}
	tell(gate);
}

uint64_t ship_deadline_ns(const struct gate *gate)
{
	const struct ship *ship = &gate->ship;
	if (ship->role == SHIP_NONE)
		return UINT64_MAX;
	if (ship->role == SHIP_MIRROR)
		return receiver_deadline_ns(&ship->receiver);
	uint64_t deadline_ns = sender_deadline_ns(&ship->sender);
	uint64_t look_ns = ship->looked_ns + LOOK_NS;
	return ship->moves && look_ns < deadline_ns ? look_ns : deadline_ns;
}
