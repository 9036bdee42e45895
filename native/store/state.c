#include "store/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc/crc32c.h"

#define MAGIC "FTSTORE1"
#define VERSION 1u
#define STATE_BYTES (8 + 4 + 4 + EPOCH_PAIR_BYTES + 7 * 8 + 2 * 4 + 4)
#define STATE_CRC (STATE_BYTES - 4)

static void encode(const char *pair, const struct store_state *s, uint8_t *out)
{
	const uint64_t numbers[7] = {s->generation, s->epoch,    s->files_chain, s->files_seq,
	                             s->applied,    s->root_pid, s->root_start};
	memset(out, 0, STATE_BYTES);
	memcpy(out, MAGIC, 8);
	put_u32(out + 8, VERSION);
	memcpy(out + 16, pair, strnlen(pair, EPOCH_PAIR_BYTES));
	for (int i = 0; i < 7; i++)
		put_u64(out + 32 + 8 * i, numbers[i]);
	put_u32(out + 88, s->need_images);
	put_u32(out + 92, s->need_files);
	put_u32(out + STATE_CRC, ft_crc32c(0, out, STATE_CRC));
}

static int decode(const uint8_t *in, const char *pair, struct store_state *s, struct epoch_error *e)
{
	char owner[EPOCH_PAIR_BYTES + 1] = "";
	uint64_t *numbers[7] = {&s->generation, &s->epoch,    &s->files_chain, &s->files_seq,
	                        &s->applied,    &s->root_pid, &s->root_start};
	if (memcmp(in, MAGIC, 8) != 0 || get_u32(in + STATE_CRC) != ft_crc32c(0, in, STATE_CRC))
		return epoch_fail(e, "corrupt", 0, "the store's state file is damaged");
	if (get_u32(in + 8) != VERSION)
		return epoch_fail(e, "version", 0, "the store's state file has version %u", get_u32(in + 8));
	memcpy(owner, in + 16, EPOCH_PAIR_BYTES);
	if (strcmp(owner, pair) != 0)
		return epoch_fail(e, "corrupt", 0, "the store belongs to pair %s", owner);
	for (int i = 0; i < 7; i++)
		*numbers[i] = get_u64(in + 32 + 8 * i);
	s->need_images = get_u32(in + 88);
	s->need_files = get_u32(in + 92);
	return 0;
}

int state_read(int dirfd, const char *pair, struct store_state *out, struct epoch_error *e)
{
	uint8_t bytes[STATE_BYTES + 1];
	memset(out, 0, sizeof *out);
	int fd = openat(dirfd, "state", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : epoch_fail(e, "io", errno, "the store's state file cannot be opened");
	ssize_t got = read(fd, bytes, sizeof bytes);
	close(fd);
	if (got != STATE_BYTES)
		return epoch_fail(e, "corrupt", 0, "the store's state file has another length");
	return decode(bytes, pair, out, e);
}

int state_write(int dirfd, const char *pair, const struct store_state *state, struct epoch_error *e)
{
	uint8_t bytes[STATE_BYTES];
	encode(pair, state, bytes);
	int fd = openat(dirfd, "state.new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int failed = fd < 0 || write(fd, bytes, sizeof bytes) != (ssize_t)sizeof bytes;
	int error = errno;
	if (fd >= 0)
		close(fd);
	if (!failed && renameat(dirfd, "state.new", dirfd, "state") == 0)
		return 0;
	error = failed ? error : errno;
	return epoch_fail(e, error == ENOSPC ? "space" : "io", error, "the store's state file cannot be written");
}

int state_accepts(const struct store_state *s, const struct epoch_header *h, struct epoch_error *e)
{
	unsigned long long epoch = h->epoch, base = h->base_epoch, last = s->epoch, generation = h->generation;
	if (h->generation < s->generation)
		return epoch_fail(e, "generation", 0, "generation %llu is over: this standby has seen %llu", generation,
		                  (unsigned long long)s->generation);
	if (!(h->flags & EPOCH_FILES_ONLY) && h->generation == s->generation && h->epoch <= s->epoch)
		return epoch_fail(e, "order", 0, "epoch %llu is not after %llu", epoch, last);
	if (!(h->flags & (EPOCH_FULL | EPOCH_FILES_ONLY)) &&
	    (s->need_images || h->base_epoch != s->epoch || h->generation != s->generation))
		return epoch_fail(e, "base", 0, "epoch %llu is built upon %llu, this standby has %llu%s", epoch, base, last,
		                  s->need_images ? " and needs a full one" : "");
	if (h->files_seq > 1 && (s->need_files || h->files_chain != s->files_chain || h->files_seq != s->files_seq + 1))
		return epoch_fail(e, "base", 0, "its files continue another chain: a full epoch is needed");
	return 0;
}

void state_advance(struct store_state *s, const struct epoch_header *h)
{
	s->generation = h->generation;
	if (!(h->flags & EPOCH_FILES_ONLY)) {
		s->epoch = h->epoch;
		s->need_images = 0;
	}
	if (h->files_seq > 0) {
		s->files_chain = h->files_chain;
		s->files_seq = h->files_seq;
		s->need_files = 0;
	}
}

uint64_t process_start(uint64_t pid)
{
	char path[64], text[1024];
	unsigned long long start = 0;
	snprintf(path, sizeof path, "/proc/%llu/stat", (unsigned long long)pid);
	int fd = pid ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	if (got <= 0)
		return 0;
	text[got] = 0;
	char *after = strrchr(text, ')'); /* the name may hold anything */
	if (after == NULL || after[1] != ' ' || after[2] == 'Z' ||
	    sscanf(after + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &start) != 1)
		return 0;
	return start;
}
