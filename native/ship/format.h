/*
 * The shipping stream: how the event log and the frames around it travel from the primary's gate to the standby's.
 * docs/ship-format.md has the picture and the reasons.
 *
 * Over a connection that is authenticated already (link.h), the primary sends one `hello`, the standby one `welcome`;
 * then entries go one way and acks the other. A *position* in the stream counts the bytes of its entries from the stream's
 * beginning: "acked >= stamp" is one comparison.
 *
 * Everything here decodes hostile bytes: lengths are bounded, every part has a checksum, and what is cut off is
 * no part yet. Numbers are little endian.
 */
#ifndef FT_SHIP_FORMAT_H
#define FT_SHIP_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHIP_HELLO_MAGIC 0x3130504948535446ull /* "FTSHIP01" */
#define SHIP_WELCOME_MAGIC 0x454d4f434c455746ull /* "FWELCOME" */
#define SHIP_ACK_MAGIC 0x4b414653u /* "SFAK" */
#define SHIP_VERSION 1u
#define SHIP_STREAM_BYTES 16u
#define SHIP_LOG_HEADER_BYTES 64u /* of the log file: what is fixed when it is made */
#define SHIP_PAYLOAD_BYTES_MAX (1u << 20) /* a whole segment of the log */
#define SHIP_EGRESS_BYTES_MAX 160u /* of a frame that opens or ends a connection: headers and options */
#define SHIP_ENTRY_BYTES_MAX (sizeof(struct ship_entry) + SHIP_PAYLOAD_BYTES_MAX)

enum ship_kind {
	SHIP_HEADER = 1, /* the log file's header from the mode on (struct ship_header) */
	SHIP_LANE = 2, /* bytes of `lane` at `position`, in `segment` of the file; never across a segment's end */
	SHIP_LANE_STATE = 3, /* `segment`: the lane's state, `position`: its thread id */
	SHIP_INGRESS = 4, /* a frame as it was given to the container, with its virtio header; `position`: wall clock, ns */
	SHIP_EGRESS = 5, /* the beginning of a frame of the container that opens or ends a connection; likewise */
	SHIP_CHECKPOINT = 6, /* `position`: an epoch. All before this is in that checkpoint, nothing after it */
	SHIP_TRIM_LANE = 7, /* forget what `lane` holds below `position` */
	SHIP_TRIM_FRAMES = 8, /* forget the frames before the checkpoint of epoch `position` */
	SHIP_GAP = 9, /* a new stream: frames between the one before and this are not known */
	SHIP_KIND_MAX = 10
};

struct ship_entry {
	uint32_t crc; /* crc32c of all that follows: header, payload, padding */
	uint16_t kind;
	uint16_t lane;
	uint32_t length; /* of the payload; zeros follow up to a multiple of 8 */
	uint32_t segment;
	uint64_t sequence; /* counts entries, from 0 */
	uint64_t position;
};
_Static_assert(sizeof(struct ship_entry) == 32, "an entry's header");

/* What changes in the log file's header, from the mode on, as it is there. */
struct ship_header {
	uint8_t bytes[128];
};
#define SHIP_HEADER_WAITS_AT 16u /* its counters of waiting: 16 bytes */

struct ship_hello {
	uint64_t magic;
	uint32_t version; /* looked at before the checksum */
	uint32_t crc; /* of the whole with this field 0 */
	uint64_t pair_hash;
	uint64_t generation;
	uint8_t stream[SHIP_STREAM_BYTES]; /* random, drawn when the stream begins */
	uint8_t log_header[SHIP_LOG_HEADER_BYTES];
	uint64_t reserved[2];
};
_Static_assert(sizeof(struct ship_hello) == 128, "the hello");

enum ship_verdict {
	SHIP_ACCEPTED,
	SHIP_REFUSED_PAIR,
	SHIP_REFUSED_GENERATION, /* older than what is known here */
	SHIP_REFUSED_LOG, /* the mirror is of another log */
	SHIP_REFUSED_STORE, /* the mirror cannot be made or kept */
	SHIP_REFUSED_LOG_VERSION, /* the log, or the mirror that is there, is of another version */
	SHIP_VERDICT_MAX
};

struct ship_welcome {
	uint64_t magic;
	uint32_t version;
	uint32_t crc;
	uint32_t verdict;
	uint32_t reserved;
	uint64_t generation; /* the highest known here */
	uint64_t offset; /* stored so far of the stream that was named: go on from here */
	uint64_t sequence; /* of the entry that begins there */
	uint64_t frames_bytes; /* room for frames in all */
	uint64_t frames_used;
};
_Static_assert(sizeof(struct ship_welcome) == 64, "the welcome");

struct ship_ack {
	uint32_t magic;
	uint32_t crc;
	uint64_t offset; /* all before this is stored */
	uint64_t frames_used;
};
_Static_assert(sizeof(struct ship_ack) == 24, "an ack");

static inline uint32_t ship_padded(uint32_t length) { return (length + 7u) & ~7u; }
static inline uint64_t ship_entry_size(uint32_t length) { return sizeof(struct ship_entry) + ship_padded(length); }
/* Whether entries of this kind are kept in the frames file. */
static inline bool ship_is_frame(uint16_t kind)
{
	return kind == SHIP_INGRESS || kind == SHIP_EGRESS || kind == SHIP_CHECKPOINT || kind == SHIP_GAP;
}

/* Sets `entry->crc` for a payload that is followed by its padding in thought only. */
void ship_entry_seal(struct ship_entry *entry, const void *payload);

enum ship_decoded {
	SHIP_WHOLE = 1,
	SHIP_PART = 0, /* more bytes are needed */
	SHIP_CORRUPT = -1, /* an unknown kind, an impossible length, a wrong sequence or checksum */
};
/* The entry at `bytes`, which must be number `sequence`. Its size is ship_entry_size(entry->length). */
enum ship_decoded ship_entry_decode(const uint8_t *bytes, size_t available, uint64_t sequence, struct ship_entry *entry,
				    const uint8_t **payload);

void ship_hello_seal(struct ship_hello *hello);
void ship_welcome_seal(struct ship_welcome *welcome);
void ship_ack_seal(struct ship_ack *ack);
/* NULL when it is one, or what is wrong with it. */
const char *ship_hello_wrong(const struct ship_hello *hello);
const char *ship_welcome_wrong(const struct ship_welcome *welcome);
const char *ship_ack_wrong(const struct ship_ack *ack);
const char *ship_verdict_name(uint32_t verdict);

#endif
