/* In which frame of memory each page was: kept from one dump to the next. hook/dirty.h. */
#include "hook/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "hook/whole.h"

#define ENTRIES_MAX (1ull << 32)

struct frames_header {
	uint64_t magic;
	uint32_t crc, zero;
	uint64_t runs, entries;
};

static uint32_t sum_of(const struct frames *frames)
{
	uint32_t crc = ft_crc32c(0, frames->run, frames->runs * sizeof *frames->run);
	return ft_crc32c(crc, frames->entry, frames->entries * sizeof *frames->entry);
}

static bool in_order(const struct frames *frames)
{
	for (size_t i = 0; i < frames->runs; i++) {
		const struct frames_run *run = &frames->run[i], *last = run - 1;
		if (run->first > frames->entries || run->pages > frames->entries - run->first)
			return false;
		if (i > 0 && (last->pid > run->pid || (last->pid == run->pid && last->address > run->address)))
			return false;
	}
	return true;
}

int frames_read(int fd, struct frames *out)
{
	struct frames_header header;
	*out = (struct frames){ 0 };
	if (!whole_read(fd, &header, sizeof header) || header.magic != FRAMES_MAGIC || header.zero != 0 ||
	    header.runs > header.entries || header.entries > ENTRIES_MAX)
		return -1;
	out->runs = header.runs;
	out->entries = header.entries;
	out->run = malloc(header.runs * sizeof *out->run + 1);
	out->entry = malloc(header.entries * sizeof *out->entry + 1);
	if (out->run != NULL && out->entry != NULL && whole_read(fd, out->run, header.runs * sizeof *out->run) &&
	    whole_read(fd, out->entry, header.entries * sizeof *out->entry) && sum_of(out) == header.crc && in_order(out))
		return 0;
	frames_free(out);
	return -1;
}

static int by_place(const void *a, const void *b)
{
	const struct frames_run *x = a, *y = b;
	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	return x->address < y->address ? -1 : x->address > y->address;
}

int frames_write(int fd, struct frames *frames)
{
	if (frames->runs > 1)
		qsort(frames->run, frames->runs, sizeof *frames->run, by_place);
	const struct frames_header header = { .magic = FRAMES_MAGIC, .crc = sum_of(frames), .runs = frames->runs, .entries = frames->entries };
	bool all = whole_write(fd, &header, sizeof header) && whole_write(fd, frames->run, frames->runs * sizeof *frames->run) &&
		   whole_write(fd, frames->entry, frames->entries * sizeof *frames->entry);
	return all ? 0 : -1;
}

/* The last run that begins at or before the page. One that begins earlier and reaches over another is not looked for: not known is safe. */
uint64_t frames_find(const struct frames *frames, uint32_t pid, uint64_t address)
{
	size_t low = 0, high = frames->runs;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct frames_run *run = &frames->run[middle];
		if (run->pid < pid || (run->pid == pid && run->address <= address))
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0 || frames->run[low - 1].pid != pid)
		return 0;
	const struct frames_run *run = &frames->run[low - 1];
	uint64_t page = (address - run->address) / 4096;
	return page < run->pages ? frames->entry[run->first + page] : 0;
}

void frames_free(struct frames *frames)
{
	free(frames->run);
	free(frames->entry);
	*frames = (struct frames){ 0 };
}
