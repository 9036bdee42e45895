/* Following connections: frames in, state out; and hostile bytes. No privileges needed. */
#include "live/handover.h"
#include "live/rebuild.h"
#include "live/table.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gate/frame.h"
#include "live/feed.h"
#include "live/message.h"
#include "test/check.h"

enum { REMOTE = 0x0100090a, LOCAL = 0x0200090a, REMOTE_PORT = 40000, LOCAL_PORT = 7007, REMOTE_ISN = 0xfffffff0, LOCAL_ISN = 77 };
static const uint64_t ms = 1000000;

static struct tracker tracker;
static uint8_t frame[70000];

struct made {
	bool output;
	uint32_t sequence, acknowledged;
	uint8_t flags;
	uint16_t window;
	uint32_t tsval, tsecr;
	const char *payload;
	size_t bytes;
};

static void put(uint8_t *at, uint32_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
}

static size_t make_frame(const struct made *made)
{
	static const uint8_t syn_options[] = { 2, 4, 5, 180, 4, 2, 1, 3, 3, 7, 1, 1 };
	bool syn = (made->flags & SEGMENT_SYN) != 0;
	size_t options = 12 + (syn ? sizeof syn_options : 0), tcp_bytes = 20 + options + made->bytes;
	memset(frame, 0, 54 + options);
	put(frame + 12, 0x0800, 2);
	uint8_t *ip = frame + 14, *tcp = ip + 20;
	ip[0] = 0x45;
	put(ip + 2, (uint32_t)(20 + tcp_bytes) & 0xffff, 2);
	ip[9] = 6;
	uint32_t local = LOCAL, remote = REMOTE;
	memcpy(ip + 12, made->output ? &local : &remote, 4);
	memcpy(ip + 16, made->output ? &remote : &local, 4);
	put(tcp, made->output ? LOCAL_PORT : REMOTE_PORT, 2);
	put(tcp + 2, made->output ? REMOTE_PORT : LOCAL_PORT, 2);
	put(tcp + 4, made->sequence, 4);
	put(tcp + 8, made->acknowledged, 4);
	tcp[12] = (uint8_t)((20 + options) / 4 << 4);
	tcp[13] = made->flags;
	put(tcp + 14, made->window, 2);
	memcpy(tcp + 20, "\1\1\10\12", 4);
	put(tcp + 24, made->tsval, 4);
	put(tcp + 28, made->tsecr, 4);
	if (syn)
		memcpy(tcp + 32, syn_options, sizeof syn_options);
	if (made->bytes > 0)
		memcpy(tcp + 20 + options, made->payload, made->bytes);
	uint32_t sum = segment_sum(0, ip + 12, 8) + 6 + (uint32_t)tcp_bytes;
	put(tcp + 16, segment_fold(segment_sum(sum, tcp, tcp_bytes)), 2);
	return 34 + tcp_bytes;
}

static void feed(struct made made, uint64_t now_ns)
{
	size_t length = make_frame(&made);
	tracker_frame(&tracker, made.output ? TRACKER_OUTPUT : TRACKER_INPUT, frame, length, true, now_ns);
}

static void input(uint32_t offset, const char *payload, uint8_t flags)
{
	feed((struct made){ .sequence = REMOTE_ISN + 1 + offset, .acknowledged = LOCAL_ISN + 1, .flags = flags | SEGMENT_ACK,
			    .window = 100, .tsval = 500, .tsecr = 9000, .payload = payload, .bytes = strlen(payload) }, 10 * ms);
}

static struct connection *the_connection(void)
{
	struct tuple tuple = { LOCAL, REMOTE, LOCAL_PORT, REMOTE_PORT };
	return tracker_find(&tracker, &tuple);
}

/* Established by the remote side; the container's clock is at 9000 when ours is at 10 ms. */
static struct connection *establish(void)
{
	tracker_close(&tracker);
	if (tracker_open(&tracker, 4, 64) != 0)
		return NULL;
	feed((struct made){ .sequence = REMOTE_ISN, .flags = SEGMENT_SYN, .window = 64240, .tsval = 499 }, 9 * ms);
	feed((struct made){ .output = true, .sequence = LOCAL_ISN, .acknowledged = REMOTE_ISN + 1,
			    .flags = SEGMENT_SYN | SEGMENT_ACK, .window = 65160, .tsval = 9000, .tsecr = 499 }, 10 * ms);
	input(0, "", 0);
	return the_connection();
}

static bool has(const struct connection *connection, const char *text)
{
	char got[256];
	size_t length = (size_t)(connection->input.next - connection->input.start);
	if (length != strlen(text) || length > sizeof got)
		return false;
	stream_copy(&connection->input, &tracker.pool, connection->input.start, (uint8_t *)got, length);
	return memcmp(got, text, length) == 0;
}

TEST(a_handshake_says_what_was_agreed_on)
{
	struct connection *c = establish();
	CHECK(c != NULL);
	CHECK_EQ(c->stage, STAGE_ESTABLISHED);
	CHECK(c->opened_by_remote && c->wscale && c->sack && c->timestamps);
	CHECK_EQ(c->mss, 1460);
	CHECK_EQ(c->send_wscale, 7);
	CHECK_EQ(c->input_origin, REMOTE_ISN + 1);
	CHECK_EQ(c->output_origin, LOCAL_ISN + 1);
	CHECK_EQ(c->send_window, 100 << 7);
	CHECK_EQ(c->remote_tsval, 500);
	CHECK_EQ(connection_timestamp(c, 1010 * ms), 10000);
}

TEST(a_container_that_connects_is_followed_too)
{
	tracker_close(&tracker);
	CHECK_EQ(tracker_open(&tracker, 4, 64), 0);
	feed((struct made){ .output = true, .sequence = LOCAL_ISN, .flags = SEGMENT_SYN, .window = 64240, .tsval = 9000 }, 10 * ms);
	feed((struct made){ .sequence = REMOTE_ISN, .acknowledged = LOCAL_ISN + 2, .flags = SEGMENT_SYN | SEGMENT_ACK }, 10 * ms);
	struct connection *c = the_connection();
	CHECK(c != NULL && !c->opened); /* the answer is to another SYN */
	feed((struct made){ .sequence = REMOTE_ISN, .acknowledged = LOCAL_ISN + 1, .flags = SEGMENT_SYN | SEGMENT_ACK, .tsval = 5, .tsecr = 9000 }, 10 * ms);
	CHECK(c->opened && !c->opened_by_remote && c->wscale);
	input(0, "hello", 0);
	CHECK(has(c, "hello"));
}

TEST(input_is_put_in_order_whatever_comes)
{
	struct connection *c = establish();
	input(5, "fgh", 0);
	input(10, "klm", 0);
	CHECK_EQ(c->input.next, 0);
	input(0, "abcde", 0);
	CHECK(has(c, "abcdefgh"));
	input(3, "XXXXXijkX", 0); /* what is there stays; what is new is taken */
	CHECK(has(c, "abcdefghijklm"));
	input(0, "abc", 0);
	CHECK(has(c, "abcdefghijklm"));
	CHECK_EQ(connection_receive_next(c), REMOTE_ISN + 1 + 13);
	tracker_trim(&tracker, c, REMOTE_ISN + 1 + 10);
	CHECK(has(c, "klm"));
	tracker_trim(&tracker, c, REMOTE_ISN + 1 + 4); /* never back */
	CHECK(has(c, "klm"));
}

TEST(a_fin_counts_when_all_before_it_is_there)
{
	struct connection *c = establish();
	input(3, "def", SEGMENT_FIN);
	CHECK(!c->remote_fin);
	input(6, "after the end", 0);
	input(0, "abc", 0);
	CHECK(c->remote_fin);
	CHECK(has(c, "abcdef"));
	CHECK_EQ(connection_receive_next(c), REMOTE_ISN + 1 + 7);
}

TEST(only_an_exact_reset_counts)
{
	struct connection *c = establish();
	input(3, "", SEGMENT_RST);
	CHECK_EQ(c->stage, STAGE_ESTABLISHED);
	input(0, "", SEGMENT_RST);
	CHECK_EQ(c->stage, STAGE_RESET);
}

TEST(acknowledgements_of_what_was_never_sent_are_not_believed)
{
	struct connection *c = establish();
	feed((struct made){ .output = true, .sequence = LOCAL_ISN + 1, .acknowledged = REMOTE_ISN + 1, .flags = SEGMENT_ACK,
			    .window = 500, .tsval = 9001, .payload = "0123456789", .bytes = 10 }, 11 * ms);
	struct made ack = { .sequence = REMOTE_ISN + 1, .acknowledged = LOCAL_ISN + 1 + 11, .flags = SEGMENT_ACK, .window = 9, .tsecr = 9001 };
	feed(ack, 12 * ms);
	CHECK_EQ(connection_acknowledged(c), 0);
	ack.acknowledged--;
	feed(ack, 12 * ms);
	CHECK_EQ(connection_acknowledged(c), 10);
	ack.acknowledged -= 4;
	feed(ack, 12 * ms);
	CHECK_EQ(connection_acknowledged(c), 10);
	CHECK_EQ(c->receive_window, 500 << 7);
}

TEST(the_same_ports_again_are_a_new_connection_when_the_container_says_so)
{
	struct connection *c = establish();
	input(0, "old", 0);
	feed((struct made){ .sequence = 5000, .flags = SEGMENT_SYN, .window = 1 }, 20 * ms);
	CHECK(has(c, "old"));
	feed((struct made){ .output = true, .sequence = 900, .acknowledged = 5001, .flags = SEGMENT_SYN | SEGMENT_ACK }, 21 * ms);
	CHECK(has(c, ""));
	CHECK_EQ(c->input_origin, 5001);
	CHECK_EQ(c->output_origin, 901);
}

TEST(a_wrong_checksum_a_fragment_and_a_stranger_change_nothing)
{
	struct connection *c = establish();
	size_t length = make_frame(&(struct made){ .sequence = REMOTE_ISN + 1, .acknowledged = LOCAL_ISN + 1, .flags = SEGMENT_ACK,
						   .tsval = 500, .payload = "x", .bytes = 1 });
	frame[length - 1] ^= 1;
	tracker_frame(&tracker, TRACKER_INPUT, frame, length, true, 0);
	CHECK_EQ(tracker.count.broken, 1);
	frame[20] = 0x20;
	tracker_frame(&tracker, TRACKER_INPUT, frame, length, false, 0);
	CHECK_EQ(tracker.count.fragments, 1);
	frame[20] = 0;
	frame[34]++;
	tracker_frame(&tracker, TRACKER_INPUT, frame, length, false, 0);
	CHECK_EQ(tracker.count.strangers, 1);
	CHECK(has(c, ""));
}

TEST(a_large_segment_and_a_full_pool)
{
	static char large[65000];
	struct connection *c = establish(); /* 64 chunks: 256 KiB */
	for (uint32_t i = 0; i < sizeof large; i++)
		large[i] = (char)(i * 31);
	for (uint32_t i = 0; i < 4; i++)
		feed((struct made){ .sequence = REMOTE_ISN + 1 + i * (uint32_t)sizeof large, .acknowledged = LOCAL_ISN + 1,
				    .flags = SEGMENT_ACK, .tsval = 500, .payload = large, .bytes = sizeof large }, 10 * ms);
	CHECK_EQ(c->input.next, 4 * sizeof large);
	CHECK(connection_whole(c));
	input(4 * sizeof large, large + 1, 0);
	feed((struct made){ .sequence = REMOTE_ISN + 1 + 4 * (uint32_t)sizeof large, .acknowledged = LOCAL_ISN + 1,
			    .flags = SEGMENT_ACK, .tsval = 500, .payload = large, .bytes = sizeof large }, 10 * ms);
	CHECK(!connection_whole(c)); /* said, not forgotten */
	uint32_t free_before = tracker.pool.free;
	tracker_trim(&tracker, c, REMOTE_ISN + 1 + (uint32_t)c->input.next);
	CHECK(tracker.pool.free > free_before + 60);
	tracker_forget(&tracker, c);
	CHECK_EQ(tracker.pool.free, 64);
}

TEST(a_full_tracker_refuses_and_counts_and_evicts_what_is_over)
{
	establish();
	for (uint32_t i = 0; i < 3; i++) {
		struct tuple tuple = { LOCAL, REMOTE, LOCAL_PORT, (uint16_t)(1 + i) };
		CHECK(tracker_insert(&tracker, &tuple, 0) != NULL);
	}
	struct tuple more = { LOCAL, REMOTE, LOCAL_PORT, 99 };
	CHECK(tracker_insert(&tracker, &more, 0) == NULL);
	CHECK_EQ(tracker.count.refused, 1);
	input(0, "", SEGMENT_RST);
	CHECK(tracker_insert(&tracker, &more, 0) != NULL);
	CHECK_EQ(tracker.count.evicted, 1);
}

/* ---- plans ---- */

static struct plan plan;

static enum plan_verdict plan_for(struct connection *c, struct socket_state *old, struct view view)
{
	plan_free(&plan);
	return plan_make(c, &tracker.pool, old, &view, 10 * ms, &plan);
}

static void acknowledge(uint32_t bytes)
{
	feed((struct made){ .sequence = connection_receive_next(the_connection()), .acknowledged = LOCAL_ISN + 1 + bytes,
			    .flags = SEGMENT_ACK, .window = 100, .tsval = 501, .tsecr = 9000 }, 10 * ms);
}

TEST(a_plan_says_what_is_unread_and_what_is_to_be_sent)
{
	struct connection *c = establish();
	input(0, "abcdefgh", 0);
	acknowledge(4);
	CHECK_EQ(plan_for(c, NULL, (struct view){ .read_bytes = 5, .written_bytes = 10 }), PLAN_REBUILD);
	CHECK_EQ(plan.unread_bytes, 3);
	CHECK_EQ(memcmp(plan.unread, "fgh", 3), 0);
	CHECK_EQ(plan.receive_next, REMOTE_ISN + 9);
	CHECK_EQ(plan.send_next, LOCAL_ISN + 5);
	CHECK_EQ(plan.output_from, 4);
	CHECK_EQ(plan.output_bytes, 6);
	CHECK_EQ(plan.tsval, 9000 + PLAN_CLOCK_MARGIN_MS);
	CHECK(plan.acknowledge);
	CHECK_EQ(plan_for(c, NULL, (struct view){ .read_bytes = 9 }), PLAN_INCOHERENT);
	CHECK_EQ(plan_for(c, NULL, (struct view){ .written_bytes = 3 }), PLAN_INCOHERENT);
	/* After a gap it may have read what nobody saw come; the rest of that comes again. */
	CHECK_EQ(plan_for(c, NULL, (struct view){ .read_bytes = 9, .written_bytes = 10, .gap = true }), PLAN_REBUILD);
	CHECK_EQ(plan.receive_next, REMOTE_ISN + 10);
	CHECK_EQ(plan.unread_bytes, 0);
	CHECK(plan.receive_window < 1 << 30);
	CHECK_EQ(plan_for(c, NULL, (struct view){ .written_bytes = 3, .gap = true }), PLAN_INCOHERENT);
	CHECK_EQ(plan_for(NULL, NULL, (struct view){ 0 }), PLAN_UNKNOWN);
}

TEST(a_plan_joins_the_checkpoint_with_what_came_after_it)
{
	struct connection *c = establish();
	uint8_t unread[] = "cd", unacknowledged[] = "WXYZ";
	struct socket_state old = { .tuple = { LOCAL, REMOTE, LOCAL_PORT, REMOTE_PORT }, .connected = true, .timestamps = true,
				    .mss = 1460, .receive_next = REMOTE_ISN + 5, .send_unacknowledged = LOCAL_ISN + 101,
				    .unread = unread, .unread_bytes = 2, .unacknowledged = unacknowledged, .unacknowledged_bytes = 4 };
	input(0, "abcdefgh", 0);
	tracker_trim(&tracker, c, REMOTE_ISN + 1 + 4); /* as the checkpoint has the rest */
	acknowledge(102);
	CHECK_EQ(plan_for(c, &old, (struct view){ .since_checkpoint = true, .read_bytes = 1, .written_bytes = 7 }), PLAN_REBUILD);
	CHECK_EQ(plan.unread_bytes, 5);
	CHECK_EQ(memcmp(plan.unread, "defgh", 5), 0);
	CHECK_EQ(plan.old_output_bytes, 2);
	CHECK_EQ(memcmp(plan.old_output, "YZ", 2), 0);
	CHECK_EQ(plan.output_from, 0);
	CHECK_EQ(plan.output_bytes, 7);
	acknowledge(106);
	CHECK_EQ(plan_for(c, &old, (struct view){ .since_checkpoint = true, .read_bytes = 1, .written_bytes = 7 }), PLAN_REBUILD);
	CHECK_EQ(plan.old_output_bytes, 0);
	CHECK_EQ(plan.output_from, 2);
	/* Nothing is known beyond the checkpoint. */
	CHECK_EQ(plan_for(NULL, &old, (struct view){ .since_checkpoint = true }), PLAN_REBUILD);
	CHECK_EQ(plan.unread_bytes, 2);
	CHECK_EQ(plan.old_output_bytes, 4);
	CHECK(!plan.acknowledge);
}

TEST(a_plan_knows_when_a_connection_is_over)
{
	struct connection *c = establish();
	input(0, "bye", SEGMENT_FIN);
	struct view view = { .read_bytes = 3, .written_bytes = 10, .closed = true };
	acknowledge(10);
	CHECK_EQ(plan_for(c, NULL, view), PLAN_REBUILD);
	CHECK(plan.remote_fin && plan.shut_write);
	CHECK_EQ(plan.output_bytes, 0);
	acknowledge(11); /* our FIN too */
	CHECK_EQ(plan_for(c, NULL, view), PLAN_OVER);
}

TEST(an_adopted_connection_goes_on_from_its_socket)
{
	tracker_close(&tracker);
	CHECK_EQ(tracker_open(&tracker, 4, 64), 0);
	uint8_t unread[] = "uv";
	struct socket_state state = { .tuple = { LOCAL, REMOTE, LOCAL_PORT, REMOTE_PORT }, .connected = true, .timestamps = true,
				      .mss = 1460, .receive_next = REMOTE_ISN + 1, .send_unacknowledged = LOCAL_ISN + 1,
				      .unread = unread, .unread_bytes = 2, .timestamp = 9000 };
	struct connection *c = tracker_adopt(&tracker, &state, 10 * ms);
	CHECK(c != NULL);
	input(0, "wx", 0);
	CHECK(has(c, "uvwx"));
	CHECK_EQ(plan_for(c, &state, (struct view){ .since_checkpoint = true, .read_bytes = 3 }), PLAN_REBUILD);
	CHECK_EQ(plan.unread_bytes, 1);
	CHECK_EQ(plan_for(c, NULL, (struct view){ 0 }), PLAN_UNKNOWN); /* where it began nobody knows */
}

/* Its lowest bit says what the clock counts; an odd value once made it go a thousand times too fast. */
TEST(a_plan_leaves_the_clock_of_timestamps_its_pace)
{
	struct socket_state state = { .tuple = { LOCAL, REMOTE, LOCAL_PORT, REMOTE_PORT }, .connected = true, .timestamps = true,
				      .mss = 1460, .receive_next = REMOTE_ISN + 1, .send_unacknowledged = LOCAL_ISN + 1 };
	for (uint32_t timestamp = 9000; timestamp < 9004; timestamp++) {
		for (int microseconds = 0; microseconds < 2; microseconds++) {
			tracker_close(&tracker);
			CHECK_EQ(tracker_open(&tracker, 4, 64), 0);
			state.timestamp = timestamp;
			state.microseconds = microseconds != 0;
			struct connection *c = tracker_adopt(&tracker, &state, 10 * ms);
			CHECK(c != NULL);
			uint32_t least = timestamp + PLAN_CLOCK_UNSURE_MS * (microseconds ? 1000 : 1);
			CHECK_EQ(plan_for(NULL, &state, (struct view){ .since_checkpoint = true }), PLAN_REBUILD);
			CHECK_EQ(plan.tsval & 1, (unsigned)microseconds);
			CHECK(plan.tsval >= least && plan.tsval <= least + 1);
			CHECK_EQ(plan_for(c, &state, (struct view){ .since_checkpoint = true }), PLAN_REBUILD);
			CHECK_EQ(plan.tsval & 1, (unsigned)microseconds);
			CHECK(plan.tsval >= least);
		}
		establish();
		CHECK_EQ(plan_for(&tracker.connection[0], NULL, (struct view){ 0 }), PLAN_REBUILD);
		CHECK_EQ(plan.tsval & 1, 0);
	}
}

/* ---- tables ---- */

TEST(a_table_gives_back_what_was_put_in)
{
	struct connection *c = establish();
	struct tracker other;
	uint32_t connections;
	uint64_t bytes, clock;
	size_t length;
	input(0, "abcdef", SEGMENT_FIN);
	tracker_trim(&tracker, c, REMOTE_ISN + 1 + 2);
	uint8_t *table = table_encode(&tracker, 42, &length);
	CHECK(table != NULL);
	CHECK_EQ(table_measure(table, length, &connections, &bytes), 0);
	CHECK_EQ(connections, 1);
	CHECK_EQ(bytes, 4);
	CHECK_EQ(tracker_open(&other, 4, 8), 0);
	CHECK_EQ(table_decode(&other, table, length, &clock), 0);
	CHECK_EQ(clock, 42);
	struct connection *d = tracker_find(&other, &c->tuple);
	CHECK(d != NULL && d->remote_fin && d->opened && d->wscale && d->input.start == 2 && d->input.next == 6);
	CHECK_EQ(d->send_window, c->send_window);
	CHECK_EQ(d->clock, c->clock);
	tracker_close(&other);
	free(table);
}

TEST(a_hostile_table_is_refused_or_read_without_harm)
{
	uint64_t state = 0x7ab1e;
	size_t length;
	struct tracker other;
	uint64_t clock;
	establish();
	input(0, "abcdef", 0);
	uint8_t *table = table_encode(&tracker, 42, &length), *bad = malloc(length);
	for (int i = 0; i < 20000; i++) {
		memcpy(bad, table, length);
		for (int j = 0; j < 1 + i % 4; j++)
			bad[check_random(&state) % length] = (uint8_t)check_random(&state);
		size_t cut = i % 3 == 0 ? check_random(&state) % (length + 1) : length;
		if (tracker_open(&other, 2, 4) != 0)
			break;
		if (table_decode(&other, bad, cut, &clock) == 0)
			CHECK(cut == length);
		tracker_close(&other);
	}
	free(bad);
	free(table);
}

/* ---- hostile frames ---- */

TEST(hostile_frames_do_no_harm)
{
	uint64_t state = 0xf4a3e5;
	struct connection *c = establish();
	char payload[200];
	memset(payload, 'x', sizeof payload);
	for (int i = 0; i < 300000; i++) {
		uint64_t r = check_random(&state);
		struct made made = { .output = (r & 7) == 0,
				     .sequence = REMOTE_ISN + (uint32_t)(check_random(&state) % 400) - 20,
				     .acknowledged = LOCAL_ISN + (uint32_t)(check_random(&state) % 100),
				     .flags = (uint8_t)(r >> 8 & 0x1f), .window = (uint16_t)(r >> 16), .tsval = (uint32_t)(r >> 32),
				     .payload = payload, .bytes = check_random(&state) % sizeof payload };
		if ((r >> 40 & 63) != 0)
			made.flags &= (uint8_t)~(SEGMENT_SYN | SEGMENT_RST);
		size_t length = make_frame(&made);
		if ((r >> 50 & 3) == 0)
			frame[check_random(&state) % length] = (uint8_t)check_random(&state);
		if ((r >> 52 & 7) == 0)
			length = check_random(&state) % (length + 1);
		/* Exactly as long as it says it is: the sanitizer sees who reads beyond. */
		uint8_t *exact = malloc(length + 1);
		memcpy(exact, frame, length);
		tracker_frame(&tracker, made.output ? TRACKER_OUTPUT : TRACKER_INPUT, exact, length, (r >> 60) == 0, (uint64_t)i * ms);
		free(exact);
		c = the_connection();
		if (c == NULL || (r >> 55 & 255) == 0) {
			c = establish();
			continue;
		}
		CHECK(c->input.start <= c->input.next);
		CHECK(c->input.islands <= STREAM_ISLANDS_MAX);
		for (uint32_t j = 0; j < c->input.islands; j++)
			CHECK(c->input.island[j].from > (j == 0 ? c->input.next : c->input.island[j - 1].to) &&
			      c->input.island[j].to > c->input.island[j].from);
		struct view view = { .read_bytes = check_random(&state) % 300, .written_bytes = check_random(&state) % 300 };
		(void)plan_for(c, NULL, view);
	}
}

/* A stream against the plain truth. */
TEST(a_stream_never_loses_or_changes_a_byte)
{
	enum { TOTAL = 60000 };
	static uint8_t truth[TOTAL], out[TOTAL];
	uint64_t state = 0x57e4;
	struct pool pool;
	struct stream stream;
	struct island islands[STREAM_ISLANDS_MAX];
	for (int i = 0; i < TOTAL; i++)
		truth[i] = (uint8_t)check_random(&state);
	CHECK_EQ(pool_open(&pool, 32), 0);
	for (int round = 0; round < 60; round++) {
		uint64_t seen = 0;
		stream_begin(&stream, islands, 0);
		while (stream.next < TOTAL) {
			uint64_t reach = stream.next + 9000 < TOTAL ? stream.next + 9000 : TOTAL;
			uint64_t from = stream.next > 3000 ? stream.next - 3000 : 0;
			from += check_random(&state) % (reach - from);
			uint64_t bytes = 1 + check_random(&state) % 3000;
			if (check_random(&state) % 4 == 0)
				from = stream.next;
			if (from + bytes > TOTAL)
				bytes = TOTAL - from;
			uint64_t before = stream.next;
			bool taken = stream_add(&stream, &pool, from, truth + from, bytes);
			CHECK(taken || from > before);
			CHECK(!taken || from > before || stream.next >= from + bytes);
			if (check_random(&state) % 8 == 0) {
				stream_copy(&stream, &pool, seen, out, stream.next - seen);
				CHECK_EQ(memcmp(out, truth + seen, stream.next - seen), 0);
				seen = stream.next;
				stream_trim(&stream, &pool, seen);
			}
		}
		stream_copy(&stream, &pool, seen, out, TOTAL - seen);
		CHECK_EQ(memcmp(out, truth + seen, TOTAL - seen), 0);
		stream_clear(&stream, &pool);
		CHECK_EQ(pool.free, 32);
	}
	pool_close(&pool);
}

/* ---- handover ---- */

TEST(messages_carry_a_descriptor_and_refuse_what_is_none)
{
	int pair[2], fd = -1;
	struct handover_message message;
	char data[16];
	size_t bytes;
	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	CHECK_EQ(message_limit(pair[1], 50), 0);
	message_begin(&message, HANDOVER_CLAIM);
	message.claim = 7;
	CHECK_EQ(message_send(pair[0], &message, "data", 4, 0), 0);
	memset(&message, 0, sizeof message);
	CHECK_EQ(message_receive(pair[1], &message, data, sizeof data, &bytes, &fd), 0);
	CHECK(message.kind == HANDOVER_CLAIM && message.claim == 7 && bytes == 4 && fd >= 0);
	close(fd);
	CHECK_EQ(message_receive(pair[1], &message, NULL, 0, NULL, &fd), -1);
	CHECK_EQ(errno, ETIMEDOUT);
	CHECK_EQ(send(pair[0], "short", 5, 0), 5);
	CHECK_EQ(message_receive(pair[1], &message, NULL, 0, NULL, &fd), -1);
	CHECK_EQ(errno, EPROTO);
	message.magic ^= 1;
	CHECK_EQ(message_send(pair[0], &message, NULL, 0, 0), 0);
	CHECK_EQ(message_receive(pair[1], &message, NULL, 0, NULL, &fd), -1);
	CHECK_EQ(fd, -1);
	close(pair[0]);
	CHECK_EQ(message_receive(pair[1], &message, NULL, 0, NULL, &fd), -1);
	CHECK_EQ(errno, ECONNRESET);
	close(pair[1]);
}

/* ---- from the frames file */

static bool keep(struct frames *frames, enum ship_kind kind, uint64_t position, const struct made *made)
{
	static uint8_t bytes[sizeof(struct ship_entry) + VIRTIO_HEADER_BYTES + 2048];
	struct ship_entry entry = { .kind = kind, .position = position };
	memset(bytes, 0, sizeof bytes);
	if (made != NULL) {
		size_t length = make_frame(made);
		memcpy(bytes + sizeof entry + VIRTIO_HEADER_BYTES, frame, length);
		entry.length = (uint32_t)(VIRTIO_HEADER_BYTES + length);
	}
	ship_entry_seal(&entry, bytes + sizeof entry);
	memcpy(bytes, &entry, sizeof entry);
	return frames_append(frames, bytes, ship_entry_size(entry.length)) == 0;
}

static bool keep_handshake(struct frames *frames)
{
	const struct made syn = { .sequence = REMOTE_ISN, .flags = SEGMENT_SYN, .window = 64240, .tsval = 499 };
	const struct made answer = { .output = true, .sequence = LOCAL_ISN, .acknowledged = REMOTE_ISN + 1,
		.flags = SEGMENT_SYN | SEGMENT_ACK, .window = 65160, .tsval = 9000, .tsecr = 499 };
	return keep(frames, SHIP_INGRESS, 0, &syn) && keep(frames, SHIP_EGRESS, 0, &answer);
}

static bool keep_input(struct frames *frames, uint32_t offset, const char *payload)
{
	const struct made made = { .sequence = REMOTE_ISN + 1 + offset, .acknowledged = LOCAL_ISN + 1, .flags = SEGMENT_ACK, .window = 100,
		.tsval = 500, .tsecr = 9000, .payload = payload, .bytes = strlen(payload) };
	return keep(frames, SHIP_INGRESS, 0, &made);
}

/* As session_feed() does for connections of which no socket was restored. */
static bool feeds(const char *path, uint64_t epoch)
{
	struct feed one;
	tracker_close(&tracker);
	if (feed_open(&one, path, epoch) != 0)
		return false;
	bool well = feed_make_tracker(&one, &tracker, 0) == 0 && feed_handshakes(&one, &tracker) == 0 && feed_frames(&one, &tracker) == 0;
	feed_close(&one);
	return well;
}

TEST(a_handshake_that_spans_the_checkpoint_is_known)
{
	char directory[] = "/tmp/ft-live-XXXXXX", path[64];
	struct frames frames;
	CHECK(mkdtemp(directory) != NULL);
	snprintf(path, sizeof path, "%s/frames", directory);
	CHECK_EQ(frames_open(&frames, path, FRAMES_RING_BYTES_MIN), 0);
	CHECK(keep(&frames, SHIP_GAP, 0, NULL) && keep_handshake(&frames) && keep_input(&frames, 0, "set "));
	CHECK(keep(&frames, SHIP_CHECKPOINT, 7, NULL) && keep_input(&frames, 4, "k 1"));
	frames_commit(&frames);
	CHECK(feeds(path, 7));
	struct connection *c = the_connection();
	CHECK(c != NULL && c->opened && c->opened_by_remote && !c->adopted);
	CHECK(c != NULL && c->stage == STAGE_ESTABLISHED && has(c, "set k 1"));
	/* Of before a gap nothing leads to the checkpoint. */
	CHECK(keep(&frames, SHIP_GAP, 0, NULL) && keep(&frames, SHIP_CHECKPOINT, 8, NULL) && keep_input(&frames, 7, "more"));
	frames_commit(&frames);
	CHECK(feeds(path, 8) && the_connection() == NULL);
	frames_close(&frames);
	unlink(path);
	rmdir(directory);
}

int main(void)
{
	RUN(a_handshake_says_what_was_agreed_on);
	RUN(a_container_that_connects_is_followed_too);
	RUN(input_is_put_in_order_whatever_comes);
	RUN(a_fin_counts_when_all_before_it_is_there);
	RUN(only_an_exact_reset_counts);
	RUN(acknowledgements_of_what_was_never_sent_are_not_believed);
	RUN(the_same_ports_again_are_a_new_connection_when_the_container_says_so);
	RUN(a_wrong_checksum_a_fragment_and_a_stranger_change_nothing);
	RUN(a_large_segment_and_a_full_pool);
	RUN(a_full_tracker_refuses_and_counts_and_evicts_what_is_over);
	RUN(a_plan_says_what_is_unread_and_what_is_to_be_sent);
	RUN(a_plan_joins_the_checkpoint_with_what_came_after_it);
	RUN(a_plan_knows_when_a_connection_is_over);
	RUN(an_adopted_connection_goes_on_from_its_socket);
	RUN(a_plan_leaves_the_clock_of_timestamps_its_pace);
	RUN(a_table_gives_back_what_was_put_in);
	RUN(a_hostile_table_is_refused_or_read_without_harm);
	RUN(hostile_frames_do_no_harm);
	RUN(a_stream_never_loses_or_changes_a_byte);
	RUN(messages_carry_a_descriptor_and_refuse_what_is_none);
	RUN(a_handshake_that_spans_the_checkpoint_is_known);
	plan_free(&plan);
	tracker_close(&tracker);
	return check_report();
}
