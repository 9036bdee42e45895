#include <stdlib.h>

#include "crc/crc32c.h"
#include "ship/format.h"
#include "test/check.h"

/* In a block of its own size, so that a read beyond it is seen. */
static uint8_t *encode(struct ship_entry *entry, const uint8_t *payload, uint64_t *size)
{
	*size = ship_entry_size(entry->length);
	uint8_t *out = calloc(1, *size);
	ship_entry_seal(entry, payload);
	memcpy(out, entry, sizeof *entry);
	memcpy(out + sizeof *entry, payload, entry->length);
	return out;
}

static struct ship_entry example(uint16_t kind, uint32_t length)
{
	return (struct ship_entry){.kind = kind, .length = length, .lane = 3, .segment = 7, .sequence = 42, .position = 4096};
}

TEST(an_entry_comes_back_as_it_was)
{
	static const struct {
		uint16_t kind;
		uint32_t length;
	} cases[] = {{SHIP_HEADER, 128}, {SHIP_LANE, 8}, {SHIP_LANE, SHIP_PAYLOAD_BYTES_MAX}, {SHIP_LANE_STATE, 0},
		     {SHIP_INGRESS, 71}, {SHIP_EGRESS, 160}, {SHIP_CHECKPOINT, 0}, {SHIP_TRIM_LANE, 0},
		     {SHIP_TRIM_FRAMES, 0}, {SHIP_GAP, 0}};
	uint8_t *payload = malloc(SHIP_PAYLOAD_BYTES_MAX);
	uint64_t random = 7;
	for (size_t i = 0; i < SHIP_PAYLOAD_BYTES_MAX; i++)
		payload[i] = (uint8_t)check_random(&random);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct ship_entry entry = example(cases[i].kind, cases[i].length), got;
		const uint8_t *got_payload;
		uint64_t size;
		uint8_t *bytes = encode(&entry, payload, &size);
		CHECK_EQ(ship_entry_decode(bytes, size, 42, &got, &got_payload), SHIP_WHOLE);
		CHECK(memcmp(&got, &entry, sizeof got) == 0);
		CHECK(memcmp(got_payload, payload, entry.length) == 0);
		/* Its number is part of it, and a shorter one is none yet. */
		CHECK_EQ(ship_entry_decode(bytes, size, 43, &got, &got_payload), SHIP_CORRUPT);
		CHECK_EQ(ship_entry_decode(bytes, size - 1, 42, &got, &got_payload), SHIP_PART);
		CHECK_EQ(ship_entry_decode(bytes, 31, 42, &got, &got_payload), SHIP_PART);
		free(bytes);
	}
	free(payload);
}

TEST(impossible_lengths_are_refused_before_they_are_waited_for)
{
	static const struct {
		uint16_t kind;
		uint32_t length;
	} cases[] = {{SHIP_HEADER, 127}, {SHIP_HEADER, 0}, {SHIP_LANE, 0}, {SHIP_LANE, 12},
		     {SHIP_LANE, SHIP_PAYLOAD_BYTES_MAX + 8}, {SHIP_LANE, UINT32_MAX - 7}, {SHIP_INGRESS, 0},
		     {SHIP_INGRESS, UINT32_MAX}, {SHIP_EGRESS, 161}, {SHIP_CHECKPOINT, 8}, {0, 0}, {SHIP_KIND_MAX, 0},
		     {0xffff, 8}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct ship_entry entry = example(cases[i].kind, cases[i].length), got;
		const uint8_t *payload;
		CHECK_EQ(ship_entry_decode((const uint8_t *)&entry, sizeof entry, 42, &got, &payload), SHIP_CORRUPT);
	}
}

TEST(no_changed_bit_goes_unseen)
{
	uint8_t payload[24] = "twenty-four bytes, whole";
	struct ship_entry entry = example(SHIP_LANE, 24), got;
	const uint8_t *got_payload;
	uint64_t size;
	uint8_t *bytes = encode(&entry, payload, &size);
	for (uint64_t bit = 0; bit < size * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		/* A longer length is a part that never becomes whole; anything else is corrupt. */
		CHECK(ship_entry_decode(bytes, size, 42, &got, &got_payload) != SHIP_WHOLE);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	free(bytes);
}

TEST(random_bytes_are_never_whole)
{
	uint64_t random = 99;
	for (int round = 0; round < 200000; round++) {
		uint64_t length = check_random(&random) % 200;
		uint8_t *bytes = malloc(length + 1);
		struct ship_entry got = {0};
		const uint8_t *payload;
		for (uint64_t i = 0; i < length; i++)
			bytes[i] = (uint8_t)check_random(&random);
		/* Mostly beyond the first look. */
		uint64_t sequence = round % 4 == 0 ? 42 : 0;
		if (length >= 32 && round % 4 != 0) {
			uint16_t kind = (uint16_t)(check_random(&random) % SHIP_KIND_MAX);
			uint32_t size = (uint32_t)(check_random(&random) % 128);
			memcpy(bytes + 4, &kind, 2);
			memcpy(bytes + 8, &size, 4);
			memcpy(bytes + 16, &sequence, 8);
		}
		CHECK(ship_entry_decode(bytes, length, sequence, &got, &payload) != SHIP_WHOLE);
		free(bytes);
	}
}

TEST(greetings_and_acks_are_checked)
{
	struct ship_hello hello = {.generation = 4};
	struct ship_welcome welcome = {.offset = 5};
	struct ship_ack ack = {.offset = 6};
	ship_hello_seal(&hello);
	ship_welcome_seal(&welcome);
	ship_ack_seal(&ack);
	CHECK(ship_hello_wrong(&hello) == NULL && ship_welcome_wrong(&welcome) == NULL && ship_ack_wrong(&ack) == NULL);
	for (size_t i = 0; i < sizeof hello; i++) {
		((uint8_t *)&hello)[i] ^= 1;
		CHECK(ship_hello_wrong(&hello) != NULL);
		((uint8_t *)&hello)[i] ^= 1;
	}
	for (size_t i = 0; i < sizeof welcome; i++) {
		((uint8_t *)&welcome)[i] ^= 1;
		CHECK(ship_welcome_wrong(&welcome) != NULL);
		((uint8_t *)&welcome)[i] ^= 1;
	}
	for (size_t i = 0; i < sizeof ack; i++) {
		((uint8_t *)&ack)[i] ^= 1;
		CHECK(ship_ack_wrong(&ack) != NULL);
		((uint8_t *)&ack)[i] ^= 1;
	}
	hello.version = 2;
	CHECK_STR(ship_hello_wrong(&hello), "hello-version");
	welcome.verdict = SHIP_VERDICT_MAX;
	ship_welcome_seal(&welcome);
	CHECK_STR(ship_welcome_wrong(&welcome), "welcome-verdict");
}

int main(void)
{
	RUN(an_entry_comes_back_as_it_was);
	RUN(impossible_lengths_are_refused_before_they_are_waited_for);
	RUN(no_changed_bit_goes_unseen);
	RUN(random_bytes_are_never_whole);
	RUN(greetings_and_acks_are_checked);
	return check_report();
}
