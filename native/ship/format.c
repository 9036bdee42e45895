#include "ship/format.h"

#include <string.h>

#include "crc/crc32c.h"

static const uint8_t zeros[8];

void ship_entry_seal(struct ship_entry *entry, const void *payload)
{
	uint32_t crc = ft_crc32c(0, (const uint8_t *)entry + 4, sizeof *entry - 4);
	crc = ft_crc32c(crc, payload, entry->length);
	entry->crc = ft_crc32c(crc, zeros, ship_padded(entry->length) - entry->length);
}

static bool length_is_possible(const struct ship_entry *entry)
{
	switch ((enum ship_kind)entry->kind) {
	case SHIP_HEADER:
		return entry->length == sizeof(struct ship_header);
	case SHIP_LANE:
		return entry->length > 0 && entry->length <= SHIP_PAYLOAD_BYTES_MAX && entry->length % 8 == 0;
	case SHIP_INGRESS:
		return entry->length > 0 && entry->length <= SHIP_PAYLOAD_BYTES_MAX;
	case SHIP_EGRESS:
		return entry->length > 0 && entry->length <= SHIP_EGRESS_BYTES_MAX;
	case SHIP_LANE_STATE:
	case SHIP_CHECKPOINT:
	case SHIP_TRIM_LANE:
	case SHIP_TRIM_FRAMES:
	case SHIP_GAP:
		return entry->length == 0;
	case SHIP_KIND_MAX:
		break;
	}
	return false;
}

enum ship_decoded ship_entry_decode(const uint8_t *bytes, size_t available, uint64_t sequence, struct ship_entry *entry,
				    const uint8_t **payload)
{
	if (available < sizeof *entry)
		return SHIP_PART;
	memcpy(entry, bytes, sizeof *entry);
	/* Before its checksum can be looked at, a length is only believed within its bounds. */
	if (entry->sequence != sequence || !length_is_possible(entry))
		return SHIP_CORRUPT;
	uint64_t size = ship_entry_size(entry->length);
	if (available < size)
		return SHIP_PART;
	if (ft_crc32c(0, bytes + 4, size - 4) != entry->crc)
		return SHIP_CORRUPT;
	*payload = bytes + sizeof *entry;
	return SHIP_WHOLE;
}

static uint32_t crc_without(const void *bytes, size_t size, size_t at)
{
	uint32_t crc = ft_crc32c(0, bytes, at);
	crc = ft_crc32c(crc, zeros, 4);
	return ft_crc32c(crc, (const uint8_t *)bytes + at + 4, size - at - 4);
}

static uint32_t hello_crc(const struct ship_hello *hello)
{
	return crc_without(hello, sizeof *hello, offsetof(struct ship_hello, crc));
}

static uint32_t welcome_crc(const struct ship_welcome *welcome)
{
	return crc_without(welcome, sizeof *welcome, offsetof(struct ship_welcome, crc));
}

static uint32_t ack_crc(const struct ship_ack *ack)
{
	return crc_without(ack, sizeof *ack, offsetof(struct ship_ack, crc));
}

void ship_hello_seal(struct ship_hello *hello)
{
	hello->magic = SHIP_HELLO_MAGIC;
	hello->version = SHIP_VERSION;
	hello->crc = hello_crc(hello);
}

void ship_welcome_seal(struct ship_welcome *welcome)
{
	welcome->magic = SHIP_WELCOME_MAGIC;
	welcome->version = SHIP_VERSION;
	welcome->crc = welcome_crc(welcome);
}

void ship_ack_seal(struct ship_ack *ack)
{
	ack->magic = SHIP_ACK_MAGIC;
	ack->crc = ack_crc(ack);
}

const char *ship_hello_wrong(const struct ship_hello *hello)
{
	if (hello->magic != SHIP_HELLO_MAGIC)
		return "hello-magic";
	if (hello->version != SHIP_VERSION)
		return "hello-version";
	return hello->crc == hello_crc(hello) ? NULL : "hello-checksum";
}

const char *ship_welcome_wrong(const struct ship_welcome *welcome)
{
	if (welcome->magic != SHIP_WELCOME_MAGIC)
		return "welcome-magic";
	if (welcome->version != SHIP_VERSION)
		return "welcome-version";
	if (welcome->crc != welcome_crc(welcome))
		return "welcome-checksum";
	return welcome->verdict < SHIP_VERDICT_MAX ? NULL : "welcome-verdict";
}

const char *ship_ack_wrong(const struct ship_ack *ack)
{
	if (ack->magic != SHIP_ACK_MAGIC)
		return "ack-magic";
	return ack->crc == ack_crc(ack) ? NULL : "ack-checksum";
}

const char *ship_verdict_name(uint32_t verdict)
{
	static const char *const names[] = {"accepted", "other-pair", "stale-generation", "other-log", "store-failed",
		"other-log-version"};
	return verdict < SHIP_VERDICT_MAX ? names[verdict] : "unknown";
}
