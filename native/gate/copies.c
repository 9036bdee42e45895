#include "gate/copies.h"

#include <endian.h>
#include <string.h>

#include "gate/frame.h"
#include "gate/invariant.h"
#include "gate/little_endian.h"

#define VERSION 1u
#define LENGTH_BYTES 4u

static const unsigned char magic[4] = {'F', 'T', 'I', 'N'};

bool copies_add(struct copies_packer *packer, uint64_t stamp, const unsigned char *frame, size_t length)
{
	if (packer->length == 0) {
		packer->length = COPIES_HEADER_BYTES;
		packer->stamp = stamp;
	}
	bool empty = packer->length == COPIES_HEADER_BYTES;
	size_t after = packer->length + LENGTH_BYTES + length;
	if (length > COPIES_FRAME_BYTES_MAX || packer->stamp != stamp || (!empty && after > COPIES_DATAGRAM_BYTES)) {
		if (empty)
			packer->length = 0;
		return false;
	}
	INVARIANT(after + SEAL_TAG_BYTES <= sizeof packer->bytes);
	uint32_t prefix = htole32((uint32_t)length);
	memcpy(packer->bytes + packer->length, &prefix, LENGTH_BYTES);
	memcpy(packer->bytes + packer->length + LENGTH_BYTES, frame, length);
	packer->length = after;
	return true;
}

size_t copies_close(struct copies_packer *packer, const unsigned char key[SIPHASH_KEY_BYTES], const char *pair, struct copies_head head)
{
	unsigned char *header = packer->bytes;
	size_t length = packer->length;
	packer->length = 0;
	if (length <= COPIES_HEADER_BYTES || !seal_key(&packer->seal, key, pair, head.from, head.to))
		return 0;
	head.number = ++packer->number;
	memcpy(header, magic, sizeof magic);
	header[4] = VERSION;
	header[5] = 0;
	header[6] = COPIES_HEADER_BYTES;
	header[7] = 0;
	put64(header + 8, head.from);
	put64(header + 16, head.to);
	put64(header + 24, head.number);
	put64(header + 32, head.generation);
	put64(header + 40, head.committed);
	put64(header + 48, packer->stamp);
	if (!seal_close(&packer->seal, head.number, header, COPIES_HEADER_BYTES, header + COPIES_HEADER_BYTES, length - COPIES_HEADER_BYTES))
		return 0;
	return length + SEAL_TAG_BYTES;
}

bool copies_magic(const unsigned char *bytes, size_t length)
{
	return length >= sizeof magic && memcmp(bytes, magic, sizeof magic) == 0;
}

static void keep(struct copies_keeper *keeper, const unsigned char *at, size_t left, uint64_t stamp, uint64_t now_ns)
{
	while (left > LENGTH_BYTES) {
		uint32_t length;
		memcpy(&length, at, LENGTH_BYTES);
		length = le32toh(length);
		if (length <= VIRTIO_HEADER_BYTES || length > COPIES_FRAME_BYTES_MAX || length > left - LENGTH_BYTES)
			return;
		unsigned char *room = hold_reserve(&keeper->kept, length);
		if (room == NULL) {
			keeper->omitted++;
		} else {
			memcpy(room, at + LENGTH_BYTES, length);
			hold_commit(&keeper->kept, length, stamp, now_ns);
		}
		at += LENGTH_BYTES + length;
		left -= LENGTH_BYTES + length;
	}
}

bool copies_take(struct copies_keeper *keeper, const unsigned char key[SIPHASH_KEY_BYTES], const char *pair, unsigned char *bytes,
		 size_t length, uint64_t from, uint64_t to, uint64_t now_ns)
{
	if (length < COPIES_HEADER_BYTES + SEAL_TAG_BYTES || !copies_magic(bytes, length) || bytes[4] != VERSION || bytes[5] != 0 ||
	    bytes[6] != COPIES_HEADER_BYTES || bytes[7] != 0 || get64(bytes + 8) != from || get64(bytes + 16) != to)
		return false;
	uint64_t number = get64(bytes + 24), generation = get64(bytes + 32), stamp = get64(bytes + 48);
	size_t sealed = length - COPIES_HEADER_BYTES - SEAL_TAG_BYTES;
	if ((keeper->from == from && number <= keeper->seen) || !seal_key(&keeper->seal, key, pair, from, to) ||
	    !seal_open(&keeper->seal, number, bytes, COPIES_HEADER_BYTES, bytes + COPIES_HEADER_BYTES, sealed))
		return false;
	/* From here on it is what the peer's gate has said. */
	keeper->from = from;
	keeper->seen = number;
	if (stamp == 0 || stamp == HOLD_UNSETTLED || generation < keeper->generation)
		return false;
	/* Another life of the service, or of the gate's count. */
	if (generation != keeper->generation || stamp < keeper->kept.stamp_max)
		hold_clear(&keeper->kept);
	keeper->generation = generation;
	copies_covered(keeper, get64(bytes + 40));
	keep(keeper, bytes + COPIES_HEADER_BYTES, sealed, stamp, now_ns);
	return true;
}

void copies_covered(struct copies_keeper *keeper, uint64_t epoch)
{
	const struct hold_frame *oldest;
	while ((oldest = hold_oldest(&keeper->kept)) != NULL && oldest->stamp <= epoch)
		hold_pop(&keeper->kept);
}
