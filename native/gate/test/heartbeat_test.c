#include <stdlib.h>

#include "gate/heartbeat.h"
#include "gate/peer.h"
#include "gate/siphash.h"
#include "test/check.h"

#define MS 1000000ull
#define PAIR 0x1122334455667788ull

static const unsigned char key[SIPHASH_KEY_BYTES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* From the reference implementation: key 00…0f, message 00…(n-1). */
TEST(siphash_reference_vectors)
{
	static const uint64_t want[10] = {0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d,
					  0xcf2794e0277187b7, 0x18765564cd99a68d, 0xcbc9466e58fee3ce, 0xab0200f58b01d137,
					  0x93f5f5799a932462, 0x9e0082df0ba9e4b0};
	unsigned char message[15];
	for (unsigned char i = 0; i < sizeof message; i++)
		message[i] = i;
	for (size_t length = 0; length < 10; length++)
		CHECK(siphash(key, message, length) == want[length]);
	CHECK(siphash(key, message, 15) == 0xa129ca6149be45e5);
}

static struct heartbeat sample(void)
{
	return (struct heartbeat){.pair_hash = PAIR, .incarnation = 7, .seq = 9, .echo_incarnation = 5, .echo_seq = 3,
				  .sent_ns = 123456789, .generation = 4, .epoch = 77, .committed = 76,
				  .cpu_ns = UINT64_MAX, .agent = true, .lan = true, .app = APP_RUNNING, .mode = MODE_HOLD};
}

TEST(codec_goes_both_ways)
{
	unsigned char bytes[HEARTBEAT_BYTES];
	struct heartbeat in = sample(), out;
	heartbeat_encode(&in, key, bytes);
	CHECK_EQ(heartbeat_decode(bytes, sizeof bytes, key, PAIR, &out), 0);
	CHECK_EQ(out.incarnation, 7);
	CHECK_EQ(out.seq, 9);
	CHECK_EQ(out.echo_incarnation, 5);
	CHECK_EQ(out.echo_seq, 3);
	CHECK_EQ(out.sent_ns, 123456789);
	CHECK_EQ(out.generation, 4);
	CHECK_EQ(out.epoch, 77);
	CHECK_EQ(out.committed, 76);
	CHECK(out.cpu_ns == UINT64_MAX);
	CHECK(out.agent && out.lan);
	CHECK_EQ(out.app, APP_RUNNING);
	CHECK_EQ(out.mode, MODE_HOLD);
}

TEST(every_flipped_bit_and_every_other_length_is_refused)
{
	unsigned char bytes[HEARTBEAT_BYTES + 8] = {0};
	struct heartbeat in = sample(), out;
	heartbeat_encode(&in, key, bytes);
	for (size_t bit = 0; bit < HEARTBEAT_BYTES * 8; bit++) {
		bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
		CHECK_EQ(heartbeat_decode(bytes, HEARTBEAT_BYTES, key, PAIR, &out), -1);
		bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
	for (size_t length = 0; length < sizeof bytes; length++)
		CHECK_EQ(heartbeat_decode(bytes, length, key, PAIR, &out), length == HEARTBEAT_BYTES ? 0 : -1);
}

TEST(other_pairs_and_other_keys_are_refused)
{
	unsigned char bytes[HEARTBEAT_BYTES], other[SIPHASH_KEY_BYTES];
	struct heartbeat in = sample(), out;
	memcpy(other, key, sizeof other);
	other[15] ^= 1;
	heartbeat_encode(&in, key, bytes);
	CHECK_EQ(heartbeat_decode(bytes, sizeof bytes, key, PAIR + 1, &out), -1);
	CHECK_EQ(heartbeat_decode(bytes, sizeof bytes, other, PAIR, &out), -1);
}

/* Even authenticated nonsense (an other version, a bug) stays within the types. */
TEST(authentic_nonsense_is_refused)
{
	unsigned char bytes[HEARTBEAT_BYTES];
	struct heartbeat in = sample(), out;
	static const struct { size_t at; unsigned char value; } bad[] = {{4, 2}, {6, 0}, {88, 2}, {89, 255}, {90, 3}, {91, 5}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		heartbeat_encode(&in, key, bytes);
		bytes[bad[i].at] = bad[i].value;
		uint64_t tag = siphash(key, bytes, 104);
		memcpy(bytes + 104, &tag, 8);
		CHECK_EQ(heartbeat_decode(bytes, sizeof bytes, key, PAIR, &out), -1);
	}
	in.incarnation = 0;
	heartbeat_encode(&in, key, bytes);
	CHECK_EQ(heartbeat_decode(bytes, sizeof bytes, key, PAIR, &out), -1);
}

TEST(fuzzed_datagrams_are_refused)
{
	uint64_t state = 0x5eed3;
	for (int round = 0; round < 100000; round++) {
		size_t length = check_random(&state) % 4 == 0 ? check_random(&state) % 200 : HEARTBEAT_BYTES;
		unsigned char *bytes = malloc(length + 1);
		struct heartbeat out;
		CHECK(bytes != NULL);
		for (size_t i = 0; i < length; i++)
			bytes[i] = (unsigned char)check_random(&state);
		if (length >= 4)
			memcpy(bytes, "FTHB", 4);
		int decoded = heartbeat_decode(bytes, length, key, PAIR, &out);
		free(bytes);
		CHECK_EQ(decoded, -1);
	}
}

/* Two peers that talk to each other over a wire of our making. */
struct wire {
	struct peer a, b;
	uint64_t now;
};

static void wire_open(struct wire *wire)
{
	peer_init(&wire->a, 0xa, 90 * MS, 60 * MS);
	peer_init(&wire->b, 0xb, 90 * MS, 60 * MS);
	wire->now = 1000 * MS;
}

static struct heartbeat next_beat(struct peer *from, uint64_t now)
{
	struct heartbeat beat = {.pair_hash = PAIR, .mode = MODE_CLOSED};
	peer_compose(from, &beat, now);
	return beat;
}

static void greet(struct wire *wire)
{
	for (int i = 0; i < 3; i++) {
		struct heartbeat a = next_beat(&wire->a, wire->now), b;
		peer_receive(&wire->b, &a, wire->now);
		b = next_beat(&wire->b, wire->now);
		peer_receive(&wire->a, &b, wire->now);
		wire->now += 30 * MS;
	}
}

TEST(a_peer_is_believed_once_it_has_echoed)
{
	struct wire wire;
	wire_open(&wire);
	struct heartbeat a = next_beat(&wire.a, wire.now);
	CHECK_EQ(peer_receive(&wire.b, &a, wire.now), PEER_GREETED);
	CHECK_EQ(wire.b.state, PEER_NONE);
	CHECK(!peer_fell_silent(&wire.b, wire.now + 1000 * MS));
	struct heartbeat b = next_beat(&wire.b, wire.now);
	CHECK_EQ(peer_receive(&wire.a, &b, wire.now), PEER_ACCEPTED);
	CHECK_EQ(wire.a.state, PEER_ALIVE);
	CHECK(lease_fresh(&wire.a.lease, wire.now));
	a = next_beat(&wire.a, wire.now);
	CHECK_EQ(peer_receive(&wire.b, &a, wire.now), PEER_ACCEPTED);
	CHECK_EQ(wire.b.state, PEER_ALIVE);
}

TEST(replays_reflections_and_earlier_lives_are_refused)
{
	struct wire wire;
	wire_open(&wire);
	struct heartbeat old = next_beat(&wire.a, wire.now);
	greet(&wire);
	struct heartbeat a = next_beat(&wire.a, wire.now);
	CHECK_EQ(peer_receive(&wire.b, &a, wire.now), PEER_ACCEPTED);
	CHECK_EQ(peer_receive(&wire.b, &a, wire.now), PEER_REFUSED);
	CHECK_EQ(peer_receive(&wire.b, &old, wire.now), PEER_REFUSED);
	CHECK_EQ(peer_receive(&wire.a, &a, wire.now), PEER_REFUSED);
	/* Recorded while an earlier gate of b listened: echoes that one, not this. */
	struct heartbeat recorded = a;
	recorded.incarnation = 0xc;
	recorded.seq = 1000000;
	recorded.echo_incarnation = 0xb0;
	CHECK_EQ(peer_receive(&wire.b, &recorded, wire.now), PEER_REFUSED);
	wire.now += 91 * MS;
	CHECK(peer_fell_silent(&wire.b, wire.now));
	CHECK_EQ(peer_receive(&wire.b, &recorded, wire.now), PEER_GREETED);
	CHECK_EQ(wire.b.state, PEER_SILENT);
	/* Recorded in this life, but long ago. */
	wire.now += 2000 * MS;
	recorded.incarnation = 0xd;
	recorded.echo_incarnation = 0xb;
	recorded.echo_seq = 1;
	CHECK_EQ(peer_receive(&wire.b, &recorded, wire.now), PEER_GREETED);
	CHECK_EQ(wire.b.state, PEER_SILENT);
	/* And the true one is taken up again. */
	greet(&wire);
	CHECK_EQ(wire.b.state, PEER_ALIVE);
	CHECK_EQ(wire.b.incarnation, 0xa);
}

TEST(the_lease_counts_from_when_the_echoed_beat_was_sent)
{
	struct wire wire;
	wire_open(&wire);
	greet(&wire);
	struct heartbeat a = next_beat(&wire.a, wire.now);
	uint64_t sent = wire.now;
	CHECK_EQ(peer_receive(&wire.b, &a, wire.now), PEER_ACCEPTED);
	struct heartbeat b = next_beat(&wire.b, wire.now);
	/* 59 ms on the way: when it comes, only 1 ms of the lease is left. */
	wire.now += 59 * MS;
	CHECK_EQ(peer_receive(&wire.a, &b, wire.now), PEER_ACCEPTED);
	CHECK_EQ(wire.a.lease.proven_ns, sent);
	CHECK(lease_fresh(&wire.a.lease, sent + 60 * MS));
	CHECK(!lease_fresh(&wire.a.lease, sent + 60 * MS + 1));
}

TEST(hearing_the_peer_is_no_lease_when_it_does_not_hear_us)
{
	struct wire wire;
	wire_open(&wire);
	greet(&wire);
	uint64_t proven = wire.a.lease.proven_ns;
	for (int i = 0; i < 10; i++) {
		wire.now += 30 * MS;
		next_beat(&wire.a, wire.now); /* lost */
		struct heartbeat b = next_beat(&wire.b, wire.now);
		CHECK_EQ(peer_receive(&wire.a, &b, wire.now), PEER_ACCEPTED);
		CHECK(!peer_fell_silent(&wire.a, wire.now));
	}
	CHECK(wire.a.lease.proven_ns <= proven + 30 * MS);
	CHECK(!lease_fresh(&wire.a.lease, wire.now));
	CHECK_EQ(wire.a.state, PEER_ALIVE);
}

TEST(an_echo_from_the_future_or_the_far_past_is_none)
{
	struct lease lease;
	lease_init(&lease, 60 * MS);
	CHECK(!lease_fresh(&lease, 1));
	for (uint64_t seq = 1; seq <= 600; seq++)
		lease_sent(&lease, seq, seq * MS);
	CHECK_EQ(lease_echo(&lease, 601), 0);
	CHECK_EQ(lease_echo(&lease, UINT64_MAX), 0);
	CHECK_EQ(lease_echo(&lease, 0), 0);
	CHECK_EQ(lease_echo(&lease, 600 - LEASE_BEATS), 0);
	CHECK(!lease_fresh(&lease, 600 * MS));
	CHECK_EQ(lease_echo(&lease, 600), 600 * MS);
	CHECK_EQ(lease_echo(&lease, 500), 500 * MS);
	CHECK_EQ(lease.proven_ns, 600 * MS);
}

TEST(silence_is_told_once_and_not_for_our_own_standstill)
{
	struct wire wire;
	wire_open(&wire);
	greet(&wire);
	uint64_t heard = wire.a.heard_ns;
	CHECK_EQ(peer_deadline_ns(&wire.a), heard + 90 * MS);
	CHECK(!peer_fell_silent(&wire.a, heard + 89 * MS));
	peer_grant_grace(&wire.a, heard + 120 * MS);
	CHECK(!peer_fell_silent(&wire.a, heard + 119 * MS));
	CHECK(peer_fell_silent(&wire.a, heard + 120 * MS));
	CHECK(!peer_fell_silent(&wire.a, heard + 500 * MS));
	CHECK(peer_deadline_ns(&wire.a) == UINT64_MAX);
}

TEST(a_serving_peer_of_a_higher_generation_outranks)
{
	struct wire wire;
	wire_open(&wire);
	greet(&wire);
	struct heartbeat b = next_beat(&wire.b, wire.now);
	b.generation = 5;
	CHECK_EQ(peer_receive(&wire.a, &b, wire.now), PEER_ACCEPTED);
	CHECK(!peer_outranks(&wire.a, 4));
	b = next_beat(&wire.b, wire.now);
	b.generation = 5;
	b.mode = MODE_TAKEOVER;
	CHECK_EQ(peer_receive(&wire.a, &b, wire.now), PEER_ACCEPTED);
	CHECK(peer_outranks(&wire.a, 4));
	CHECK(!peer_outranks(&wire.a, 5));
	/* Silence does not take it back. */
	CHECK(peer_fell_silent(&wire.a, wire.now + 91 * MS));
	CHECK(peer_outranks(&wire.a, 4));
}

int main(void)
{
	RUN(siphash_reference_vectors);
	RUN(codec_goes_both_ways);
	RUN(every_flipped_bit_and_every_other_length_is_refused);
	RUN(other_pairs_and_other_keys_are_refused);
	RUN(authentic_nonsense_is_refused);
	RUN(fuzzed_datagrams_are_refused);
	RUN(a_peer_is_believed_once_it_has_echoed);
	RUN(replays_reflections_and_earlier_lives_are_refused);
	RUN(the_lease_counts_from_when_the_echoed_beat_was_sent);
	RUN(hearing_the_peer_is_no_lease_when_it_does_not_hear_us);
	RUN(an_echo_from_the_future_or_the_far_past_is_none);
	RUN(silence_is_told_once_and_not_for_our_own_standstill);
	RUN(a_serving_peer_of_a_higher_generation_outranks);
	return check_report();
}
