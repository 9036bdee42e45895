#include "pages/lazy.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "disk/disk.h"
#include "epoch/format.h"
#include "pages/records.h"

#define MAGIC "FTLAZY01"
#define LIST_BYTES_MAX (1ull << 32)
enum { SET_HEAD_BYTES = 16, RUN_BYTES = 16, SUM_BYTES = 4 };

void lazy_pages_name(uint64_t id, char out[LAZY_NAME_BYTES])
{
	snprintf(out, LAZY_NAME_BYTES, "lazy-%llu.pages", (unsigned long long)id);
}

/* ---- writing ---- */

static uint8_t *extend(struct lazy_writer *w, size_t bytes)
{
	if (w->room - w->length < bytes) {
		size_t room = (w->length + bytes) * 2;
		uint8_t *grown = realloc(w->bytes, room);
		if (grown == NULL)
			return NULL;
		w->bytes = grown;
		w->room = room;
	}
	uint8_t *at = w->bytes + w->length;
	w->length += bytes;
	return at;
}

int lazy_begin_set(struct lazy_writer *w, uint64_t id)
{
	w->set_at = w->length;
	w->set_runs = w->sums = 0;
	uint8_t *head = extend(w, SET_HEAD_BYTES);
	if (head == NULL)
		return -1;
	put_u64(head, id);
	return 0;
}

int lazy_add_run(struct lazy_writer *w, uint64_t from, uint64_t pages, const uint32_t *sum)
{
	if (w->sums_room - w->sums < pages) {
		size_t room = (w->sums + pages) * 2;
		uint32_t *grown = realloc(w->sum, room * sizeof *grown);
		if (grown == NULL)
			return -1;
		w->sum = grown;
		w->sums_room = room;
	}
	uint8_t *run = extend(w, RUN_BYTES);
	if (run == NULL)
		return -1;
	put_u64(run, from);
	put_u64(run + 8, pages);
	memcpy(w->sum + w->sums, sum, pages * sizeof *sum);
	w->sums += pages;
	w->set_runs++;
	w->pages += pages;
	return 0;
}

int lazy_end_set(struct lazy_writer *w)
{
	uint8_t *sums = extend(w, w->sums * SUM_BYTES);
	if (sums == NULL)
		return -1;
	for (size_t i = 0; i < w->sums; i++)
		put_u32(sums + i * SUM_BYTES, w->sum[i]);
	put_u64(w->bytes + w->set_at + 8, w->set_runs);
	w->sets++;
	return 0;
}

int lazy_write(const struct lazy_writer *w, int directory)
{
	uint8_t header[LAZY_HEADER_BYTES] = MAGIC;
	put_u32(header + 8, LAZY_VERSION);
	put_u32(header + 12, w->sets);
	put_u64(header + 16, w->length);
	put_u32(header + 24, ft_crc32c(0, w->bytes, w->length));
	put_u32(header + 28, ft_crc32c(0, header, 28));
	if (unlinkat(directory, LAZY_LIST_NAME, 0) != 0 && errno != ENOENT)
		return -1;
	int fd = openat(directory, LAZY_LIST_NAME, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	int result = disk_write_at(fd, header, sizeof header, 0) != 0 || disk_write_at(fd, w->bytes, w->length, sizeof header) != 0 ? -1 : 0;
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

void lazy_free(struct lazy_writer *w)
{
	free(w->bytes);
	free(w->sum);
	*w = (struct lazy_writer){ 0 };
}

/* ---- reading ---- */

static int bad(struct epoch_error *e, const char *what)
{
	return epoch_fail(e, "corrupt", EBADMSG, "the list of lazy pages: %s", what);
}

static int parse_runs(struct lazy_set *set, const uint8_t *at, uint64_t left, uint64_t *pages, struct epoch_error *e)
{
	uint64_t last_end = 0;
	*pages = 0;
	for (size_t i = 0; i < set->runs; i++, at += RUN_BYTES) {
		uint64_t from = get_u64(at), count = get_u64(at + 8);
		if (from % PAGE_BYTES != 0 || from < last_end || from >= PAGES_ADDRESS_END || count == 0 ||
		    count > (PAGES_ADDRESS_END - from) / PAGE_BYTES || count > left / SUM_BYTES - *pages)
			return bad(e, "a run");
		set->run[i] = (struct lazy_run){ .from = from, .pages = count, .first = *pages };
		*pages += count;
		last_end = from + count * PAGE_BYTES;
	}
	return 0;
}

static int parse_set(struct lazy_list *list, struct lazy_set *set, const uint8_t **at, const uint8_t *end, struct epoch_error *e)
{
	if (end - *at < SET_HEAD_BYTES)
		return bad(e, "it ends early");
	uint64_t runs = get_u64(*at + 8), left = (uint64_t)(end - *at) - SET_HEAD_BYTES, pages;
	set->id = get_u64(*at);
	*at += SET_HEAD_BYTES;
	if (runs > left / RUN_BYTES)
		return bad(e, "it ends early");
	if (set > list->set && set->id <= set[-1].id)
		return bad(e, "its processes");
	set->run = malloc((size_t)runs * sizeof *set->run + 1);
	if (set->run == NULL)
		return epoch_fail(e, "space", ENOMEM, "no memory");
	set->runs = (size_t)runs;
	left -= runs * RUN_BYTES;
	if (parse_runs(set, *at, left, &pages, e) != 0)
		return -1;
	set->sum = *at + runs * RUN_BYTES;
	*at = set->sum + pages * SUM_BYTES;
	list->pages += pages;
	return 0;
}

struct lazy_list *lazy_parse(uint8_t *bytes, size_t length, struct epoch_error *e)
{
	struct lazy_list *list = calloc(1, sizeof *list);
	int result = -1;
	if (list == NULL) {
		free(bytes);
		epoch_fail(e, "space", ENOMEM, "no memory");
		return NULL;
	}
	list->bytes = bytes;
	if (length < LAZY_HEADER_BYTES || memcmp(bytes, MAGIC, 8) != 0 || get_u32(bytes + 28) != ft_crc32c(0, bytes, 28))
		bad(e, "no header");
	else if (get_u32(bytes + 8) != LAZY_VERSION)
		epoch_fail(e, "version", 0, "the list of lazy pages is of version %u", get_u32(bytes + 8));
	else if (get_u64(bytes + 16) != length - LAZY_HEADER_BYTES || get_u32(bytes + 12) > LAZY_SETS_MAX ||
		 ft_crc32c(0, bytes + LAZY_HEADER_BYTES, length - LAZY_HEADER_BYTES) != get_u32(bytes + 24))
		bad(e, "its checksum");
	else if ((list->set = calloc((size_t)get_u32(bytes + 12) + 1, sizeof *list->set)) == NULL)
		epoch_fail(e, "space", ENOMEM, "no memory");
	else
		result = 0;
	const uint8_t *at = bytes + LAZY_HEADER_BYTES, *end = bytes + length;
	for (size_t i = 0; result == 0 && i < get_u32(bytes + 12); i++) {
		list->sets++;
		result = parse_set(list, &list->set[i], &at, end, e);
	}
	if (result == 0 && at != end)
		result = bad(e, "it goes on after its end");
	if (result == 0)
		return list;
	lazy_list_free(list);
	return NULL;
}

struct lazy_list *lazy_read(int directory, struct epoch_error *e)
{
	struct stat st;
	int fd = openat(directory, LAZY_LIST_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		epoch_fail(e, "io", errno, "the list of lazy pages cannot be opened");
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	size_t length = (uint64_t)st.st_size > LIST_BYTES_MAX ? 0 : (size_t)st.st_size, have = 0;
	uint8_t *bytes = malloc(length + LAZY_HEADER_BYTES);
	while (bytes != NULL && have < length) {
		ssize_t got = read(fd, bytes + have, length - have);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		have += (size_t)got;
	}
	close(fd);
	if (bytes == NULL) {
		epoch_fail(e, "space", ENOMEM, "no memory");
		return NULL;
	}
	return lazy_parse(bytes, have, e);
}

void lazy_list_free(struct lazy_list *list)
{
	if (list == NULL)
		return;
	for (size_t i = 0; i < list->sets; i++)
		free(list->set[i].run);
	free(list->set);
	free(list->bytes);
	free(list);
}

const struct lazy_set *lazy_find(const struct lazy_list *list, uint64_t id)
{
	for (size_t i = 0; i < list->sets; i++)
		if (list->set[i].id == id)
			return &list->set[i];
	return NULL;
}

bool lazy_sum(const struct lazy_set *set, uint64_t address, uint32_t *out)
{
	size_t low = 0, high = set->runs;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct lazy_run *run = &set->run[middle];
		if (address < run->from)
			high = middle;
		else if (address >= run->from + run->pages * PAGE_BYTES)
			low = middle + 1;
		else {
			*out = get_u32(set->sum + (run->first + (address - run->from) / PAGE_BYTES) * SUM_BYTES);
			return true;
		}
	}
	return false;
}
