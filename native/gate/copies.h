/*
 * Copies of input, from the primary's gate to the standby's, for mode hold: what the container met after the checkpoint that is
 * restored it meets again, so that no client has to send it again, which it does by a clock of its own: after 200 ms at best, and later
 * the longer its requests have taken. Nothing hangs on them: a copy that is lost is a frame that a network lost, a copy too many is one
 * that it delivered twice.
 *
 * A datagram, little endian:
 *    0  magic "FTIN"     4  version u16, header's size u16   8  sender's incarnation   16  receiver's incarnation
 *   24  number          32  generation                      40  committed             48  stamp
 *   56  sealed: u32 length and bytes of each frame, with its virtio header; then the tag (seal.h)
 *
 * Invariants:
 *   1. A stamp is the epoch that was being gathered when the frames came: the first checkpoint that may contain them.
 *   2. What is kept is of one generation, in the order of its stamps, and never more than the arena.
 *   3. Of each sender's life every number is taken once, in rising order.
 */
#ifndef FT_GATE_COPIES_H
#define FT_GATE_COPIES_H

#include "gate/hold.h"
#include "gate/seal.h"

#define COPIES_HEADER_BYTES 56u
#define COPIES_FRAME_BYTES_MAX 32768u
#define COPIES_DATAGRAM_BYTES_MAX 49152u
/* A datagram that is this long is sent. */
#define COPIES_DATAGRAM_BYTES 16384u

struct copies_head {
	uint64_t from, to, number, generation, committed, stamp;
};

struct copies_packer {
	struct seal seal;
	uint64_t number; /* the last that was used */
	uint64_t stamp; /* of what is in the datagram */
	size_t length; /* with the header; 0: nothing is in it */
	unsigned char bytes[COPIES_DATAGRAM_BYTES_MAX];
};

/* False: what is in the datagram has to go first, or the frame is too long for any. */
bool copies_add(struct copies_packer *packer, uint64_t stamp, const unsigned char *frame, size_t length);
/* Numbers, stamps and seals it. The size of the datagram, in packer->bytes, which is empty afterwards; 0: there is none. */
size_t copies_close(struct copies_packer *packer, const unsigned char key[SIPHASH_KEY_BYTES], const char *pair, struct copies_head head);

struct copies_keeper {
	struct seal seal;
	uint64_t from, seen; /* whose numbers up to which */
	uint64_t generation;
	struct hold kept;
	uint64_t omitted; /* frames for which there was no room */
};

/* Whether it looks like one at all. */
bool copies_magic(const unsigned char *bytes, size_t length);
/* Keeps the frames of an authentic datagram from `from` to `to`; false: it is refused. Changes `bytes`. */
bool copies_take(struct copies_keeper *keeper, const unsigned char key[SIPHASH_KEY_BYTES], const char *pair, unsigned char *bytes,
		 size_t length, uint64_t from, uint64_t to, uint64_t now_ns);
/* Forgets what is in the checkpoint of `epoch`. */
void copies_covered(struct copies_keeper *keeper, uint64_t epoch);

#endif
