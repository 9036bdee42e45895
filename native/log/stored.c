#include "log/stored.h"

#include "crc/crc32c.h"

static const struct log_stored *account_of(const struct log_lane *lane, uint32_t number)
{
	return (number & 1) != 0 ? &lane->stored_odd : &lane->stored_even;
}

static void put_account(struct log_lane *lane, const struct log_stored *account)
{
	uint32_t number = atomic_load_explicit(&lane->stored, memory_order_relaxed) + 1;
	struct log_stored *other = (number & 1) != 0 ? &lane->stored_odd : &lane->stored_even;
	*other = *account;
	atomic_store_explicit(&lane->stored, number, memory_order_release);
}

static struct log_stored read_account(const struct log_lane *lane)
{
	return *account_of(lane, atomic_load_explicit(&lane->stored, memory_order_acquire));
}

void log_stored_add(const struct log_file *log, uint32_t number, uint64_t position, const uint8_t *bytes, uint64_t length)
{
	struct log_lane *lane = &log->lanes[number];
	struct log_stored account = read_account(lane);
	uint64_t end = position + length;
	bool known = account.to != 0 && position <= account.to;
	if (known && end <= account.to)
		return;
	uint64_t skip = known ? account.to - position : 0;
	if (!known) {
		/* A mirror that begins in the middle. */
		account = (struct log_stored){.from = position, .before_from = position};
	} else if (account.to % LOG_SEGMENT_BYTES == 0) {
		account.before_from = account.from;
		account.before_crc = account.crc;
		account.from = account.to;
		account.crc = 0;
	}
	account.crc = ft_crc32c(account.crc, bytes + skip, length - skip);
	account.to = end;
	put_account(lane, &account);
}

static bool holds(const struct log_file *log, uint32_t lane, uint64_t from, uint64_t to, uint32_t crc)
{
	if (to < from || to - from > LOG_SEGMENT_BYTES - from % LOG_SEGMENT_BYTES)
		return false;
	const uint8_t *bytes = from == to ? NULL : log_at(log, lane, from);
	return from == to ? crc == 0 : bytes != NULL && ft_crc32c(0, bytes, to - from) == crc;
}

const char *log_stored_check(const struct log_file *log, uint32_t lane)
{
	struct log_stored account = read_account(&log->lanes[lane]);
	uint64_t head = atomic_load(&log->lanes[lane].head), tail = atomic_load(&log->lanes[lane].tail);
	if (account.to == 0)
		return NULL;
	if (account.to != head)
		return "its head is not where it was stored";
	if (!(tail >= head) && !holds(log, lane, account.from, account.to, account.crc))
		return "its last bytes are not what was stored";
	/* A segment that is wholly below the tail has been given back. */
	if (tail < account.from && account.before_from != account.from &&
	    !holds(log, lane, account.before_from, account.from, account.before_crc))
		return "its last bytes are not what was stored";
	return NULL;
}

void log_stored_forget(const struct log_file *log, uint32_t lane)
{
	struct log_stored nothing = {0};
	put_account(&log->lanes[lane], &nothing);
}
