#include "pages/collect.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "pages/pagemap.h"

struct mapping {
	const uint8_t *bytes;
	uint64_t size;
};

struct range {
	uint64_t from, to;
};

/* One process of the new epoch. */
struct source {
	uint64_t id;
	uint32_t pages_id;
	struct mapping pagemap, pages;
	struct pagemap_reader entries;
};

struct run {
	uint64_t from, to;
	bool lazy, zero;
	const uint8_t *bytes;
};

struct collector {
	struct pages_collect *in;
	struct pages_stats *stats;
	struct pages_table *table;
	struct range *alive; /* of one process, ascending, no overlaps */
	size_t alive_count, alive_room;
	struct run run;
};

static int map_image(int directory, const char *name, struct mapping *out)
{
	struct stat st;
	int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int result = fstat(fd, &st);
	out->size = result == 0 ? (uint64_t)st.st_size : 0;
	out->bytes = NULL;
	if (out->size > 0) {
		void *at = mmap(NULL, out->size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
		if (at == MAP_FAILED)
			result = -1;
		else
			out->bytes = at;
	}
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

static void unmap(struct mapping *mapping)
{
	if (mapping->bytes != NULL)
		munmap((void *)(uintptr_t)mapping->bytes, mapping->size);
	mapping->bytes = NULL;
}

static void names_of(const struct source *source, char pagemap[32], char pages[32])
{
	snprintf(pagemap, 32, "pagemap-%llu.img", (unsigned long long)source->id);
	snprintf(pages, 32, "pages-%u.img", source->pages_id);
}

static int open_source(struct collector *c, uint64_t id, struct source *out)
{
	char pagemap[32], pages[32];
	*out = (struct source){ .id = id };
	names_of(out, pagemap, pages);
	if (map_image(c->in->images, pagemap, &out->pagemap) != 0 ||
	    pagemap_open(out->pagemap.bytes, out->pagemap.size, &out->entries, &out->pages_id) != 0)
		return -1;
	names_of(out, pagemap, pages);
	if (map_image(c->in->images, pages, &out->pages) != 0)
		return -1;
	if (out->pages.size > c->stats->largest_bytes) {
		c->stats->largest_bytes = out->pages.size;
		c->stats->largest_id = out->pages_id;
	}
	return 0;
}

static int remove_source(struct collector *c, uint64_t id, uint32_t pages_id)
{
	struct source source = { .id = id, .pages_id = pages_id };
	char pagemap[32], pages[32];
	names_of(&source, pagemap, pages);
	return unlinkat(c->in->images, pagemap, 0) != 0 || unlinkat(c->in->images, pages, 0) != 0 ? -1 : 0;
}

/* ---- what is there now ---- */

static int add_alive(struct collector *c, uint64_t from, uint64_t to)
{
	if (c->alive_count > 0 && from <= c->alive[c->alive_count - 1].to) {
		if (to > c->alive[c->alive_count - 1].to)
			c->alive[c->alive_count - 1].to = to;
		return 0;
	}
	if (c->alive_count == c->alive_room) {
		size_t room = c->alive_room ? c->alive_room * 2 : 256;
		struct range *grown = realloc(c->alive, room * sizeof *grown);
		if (grown == NULL)
			return -1;
		c->alive = grown;
		c->alive_room = room;
	}
	c->alive[c->alive_count++] = (struct range){ from, to };
	return 0;
}

static int misfit(struct collector *c, uint64_t id, uint64_t address, const char *what)
{
	snprintf(c->in->reason, sizeof c->in->reason, "process %llu, page %llx: %s", (unsigned long long)id,
		 (unsigned long long)address, what);
	errno = EPROTO;
	return -1;
}

/* A page that was kept from CRIU must be one that the standby has. */
static int check_kept(struct collector *c, const struct pages_set *set, const struct area *kept)
{
	struct pages_run run;
	for (uint64_t at = kept->start; at < kept->end; at = run.to) {
		bool found = set != NULL && pages_next_run(set, at, &run) && run.from <= at;
		if (!found)
			return misfit(c, kept->pid, at, "it is called unchanged, and no epoch has it");
	}
	return 0;
}

/* What has not changed at all may have pages that were never there, but not without an epoch before this one. */
static int check_base(struct collector *c, const struct pages_set *set, const struct area *kept)
{
	return set != NULL ? 0 : misfit(c, kept->pid, kept->start, "it is called unchanged, and there is no epoch before");
}

/* The union of what was dumped and what was kept. */
static int list_alive(struct collector *c, const struct source *source, const struct pages_set *base)
{
	struct pagemap_reader entries = source->entries;
	struct pagemap_entry entry;
	size_t kept = 0;
	uint64_t next = 0, pages = 0;
	c->alive_count = 0;
	while (kept < c->in->kept_count && c->in->kept[kept].pid < source->id)
		kept++;
	for (;;) {
		int more = pagemap_next(&entries, &entry);
		if (more < 0)
			return -1;
		if (more > 0 && (entry.address % PAGE_BYTES != 0 || entry.address < next || entry.address >= PAGES_ADDRESS_END ||
				 entry.pages > PAGES_ADDRESS_END / PAGE_BYTES || (entry.flags & PAGEMAP_PRESENT) == 0))
			return misfit(c, source->id, entry.address, "CRIU's pagemap is of a kind that is not known");
		for (; kept < c->in->kept_count && c->in->kept[kept].pid == source->id; kept++) {
			const struct area *area = &c->in->kept[kept];
			if (area->flags & KEPT_LOST)
				continue;
			if (more > 0 && area->start > entry.address)
				break;
			bool as_was = (area->flags & KEPT_AS_WAS) != 0;
			if ((as_was ? check_base(c, base, area) : check_kept(c, base, area)) != 0 || add_alive(c, area->start, area->end) != 0)
				return -1;
		}
		if (more == 0)
			break;
		next = entry.address + entry.pages * PAGE_BYTES;
		pages += entry.pages;
		if (add_alive(c, entry.address, next) != 0)
			return -1;
	}
	if (pages * PAGE_BYTES != source->pages.size)
		return misfit(c, source->id, pages, "CRIU's pagemap and its pages differ in length");
	return 0;
}

/* ---- writing ---- */

static int write_range(struct collector *c, enum epoch_record_type type, uint64_t address, uint64_t pages)
{
	uint8_t head[PAGES_RANGE_BYTES];
	put_u64(head, address);
	put_u64(head + 8, pages);
	return epoch_record(c->in->writer, type, head, sizeof head, NULL, 0);
}

static int drop_range(struct collector *c, struct pages_set *set, uint64_t from, uint64_t to)
{
	uint64_t before = set->pages;
	if (pages_drop(c->table, set, from, to) != 0)
		return -1;
	if (set->pages == before)
		return 0;
	c->stats->dropped += before - set->pages;
	return write_range(c, PAGES_DROP, from, (to - from) / PAGE_BYTES);
}

static int drop_dead(struct collector *c, struct pages_set *set)
{
	uint64_t at = 0;
	for (size_t i = 0; i < c->alive_count; i++) {
		if (c->alive[i].from > at && drop_range(c, set, at, c->alive[i].from) != 0)
			return -1;
		at = c->alive[i].to;
	}
	return drop_range(c, set, at, PAGES_ADDRESS_END);
}

/* 1: written; 0: it is not worth it; -1. */
static int write_packed(struct collector *c, const struct run *run, uint64_t pages)
{
	uint8_t head[PAGES_PACKED_HEAD_BYTES];
	size_t length;
	const uint8_t *bytes = pages_pack(c->in->packer, run->bytes, pages, &length);
	if (bytes == NULL)
		return 0;
	put_u64(head, run->from | (run->lazy ? PAGE_LAZY : 0));
	put_u32(head + 8, (uint32_t)pages);
	put_u32(head + 12, (uint32_t)pages_packer_kind(c->in->packer));
	c->stats->sent_bytes += length;
	return epoch_record(c->in->writer, PAGES_PACKED, head, sizeof head, bytes, length) == 0 ? 1 : -1;
}

static int end_run(struct collector *c)
{
	struct run *run = &c->run;
	uint64_t pages = (run->to - run->from) / PAGE_BYTES, bytes = run->to - run->from;
	uint8_t head[PAGES_DATA_HEAD_BYTES];
	run->to = run->from;
	if (pages == 0)
		return 0;
	if (run->zero) {
		c->stats->zero += pages;
		return write_range(c, PAGES_ZERO, run->from | (run->lazy ? PAGE_LAZY : 0), pages);
	}
	c->stats->changed += pages;
	int packed = c->in->packer == NULL ? 0 : write_packed(c, run, pages);
	if (packed != 0)
		return packed < 0 ? -1 : 0;
	c->stats->sent_bytes += bytes;
	put_u64(head, run->from | (run->lazy ? PAGE_LAZY : 0));
	return epoch_record(c->in->writer, PAGES_DATA, head, sizeof head, run->bytes, bytes);
}

static int add_to_run(struct collector *c, uint64_t address, bool lazy, bool zero, const uint8_t *bytes)
{
	struct run *run = &c->run;
	bool joins = run->to > run->from && run->to == address && run->lazy == lazy && run->zero == zero &&
		     (zero || (run->to - run->from) / PAGE_BYTES < PAGES_RUN_MAX);
	if (!joins) {
		if (end_run(c) != 0)
			return -1;
		*run = (struct run){ .from = address, .lazy = lazy, .zero = zero, .bytes = bytes };
	}
	run->to = address + PAGE_BYTES;
	return 0;
}

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE_BYTES - 1) == 0;
}

static int take_page(struct collector *c, struct pages_set *set, uint64_t address, bool lazy, const uint8_t *bytes)
{
	struct page_state had, state = { .lazy = lazy, .hash = hash_block(c->in->key, bytes, PAGE_BYTES) };
	bool known = pages_get(c->table, set, address, &had);
	if (known && had.lazy == lazy && hash_equal(had.hash, state.hash))
		return 0;
	state.crc = ft_crc32c(0, bytes, PAGE_BYTES);
	return pages_put(c->table, set, address, &state) != 0 || add_to_run(c, address, lazy, is_zero(bytes), bytes) != 0 ? -1 : 0;
}

static int take_pages(struct collector *c, struct pages_set *set, const struct source *source)
{
	struct pagemap_reader entries = source->entries;
	struct pagemap_entry entry;
	const uint8_t *bytes = source->pages.bytes;
	c->run = (struct run){ 0 };
	while (pagemap_next(&entries, &entry) > 0) {
		bool lazy = (entry.flags & PAGEMAP_LAZY) != 0;
		for (uint64_t i = 0; i < entry.pages; i++, bytes += PAGE_BYTES)
			if (take_page(c, set, entry.address + i * PAGE_BYTES, lazy, bytes) != 0)
				return -1;
		c->stats->dumped += entry.pages;
	}
	return end_run(c);
}

/* The kept range that this address is in, or NULL; *at goes on with it. */
static const struct area *kept_at(const struct collector *c, uint64_t id, uint64_t address, size_t *at)
{
	const struct area *kept = c->in->kept;
	while (*at < c->in->kept_count &&
	       (kept[*at].pid < id || (kept[*at].pid == id && (kept[*at].end <= address || (kept[*at].flags & KEPT_LOST)))))
		(*at)++;
	return *at < c->in->kept_count && kept[*at].pid == id && kept[*at].start <= address ? &kept[*at] : NULL;
}

static void is_wrong(struct collector *c, const struct source *source, uint64_t address, const char *what)
{
	c->stats->wrong++;
	(void)misfit(c, source->id, address, what);
}

/* A page that no epoch has reads as zeros. */
static void verify_page(struct collector *c, const struct source *source, const struct pages_set *base, const struct area *area,
			uint64_t address, const uint8_t *bytes)
{
	struct page_state had;
	bool known = base != NULL && pages_get(c->in->base, base, address, &had);
	if (known ? !hash_equal(had.hash, hash_block(c->in->key, bytes, PAGE_BYTES)) : !(area->flags & KEPT_AS_WAS) || !is_zero(bytes))
		is_wrong(c, source, address, "it is called unchanged, and has changed");
}

/* `from` to `to` is not in the images. What was there before is gone, which must have been told. */
static void verify_gap(struct collector *c, const struct source *source, const struct pages_set *base, uint64_t from, uint64_t to,
		       size_t kept)
{
	static const uint8_t zeros[PAGE_BYTES];
	struct block_hash zero = hash_block(c->in->key, zeros, PAGE_BYTES);
	struct pages_run run;
	struct page_state had;
	for (uint64_t at = from; base != NULL && at < to && pages_next_run(base, at, &run) && run.from < to; at = run.to)
		for (uint64_t page = run.from > from ? run.from : from; page < run.to && page < to; page += PAGE_BYTES) {
			const struct area *area = kept_at(c, source->id, page, &kept);
			if (area != NULL && (area->flags & KEPT_AS_WAS) && pages_get(c->in->base, base, page, &had) &&
			    !hash_equal(had.hash, zero))
				is_wrong(c, source, page, "it is called unchanged, and is gone");
		}
}

/* Whatever was kept from CRIU is in the images all the same, and must be what it was. */
static void verify_kept(struct collector *c, const struct source *source, const struct pages_set *base)
{
	struct pagemap_reader entries = source->entries;
	struct pagemap_entry entry;
	const uint8_t *bytes = source->pages.bytes;
	size_t kept = 0;
	uint64_t end = 0;
	while (pagemap_next(&entries, &entry) > 0) {
		verify_gap(c, source, base, end, entry.address, kept);
		for (uint64_t i = 0; i < entry.pages; i++, bytes += PAGE_BYTES) {
			const struct area *area = kept_at(c, source->id, entry.address + i * PAGE_BYTES, &kept);
			if (area != NULL)
				verify_page(c, source, base, area, entry.address + i * PAGE_BYTES, bytes);
		}
		end = entry.address + entry.pages * PAGE_BYTES;
	}
	verify_gap(c, source, base, end, PAGES_ADDRESS_END, kept);
}

static int write_end(struct collector *c, const struct pages_set *set)
{
	uint8_t end[PAGES_END_BYTES];
	put_u64(end, set->pages);
	put_u64(end + 8, set->digest);
	return epoch_record(c->in->writer, PAGES_END, end, sizeof end, NULL, 0);
}

static int collect_source(struct collector *c, const struct source *source)
{
	const struct pages_set *base = c->in->base == NULL ? NULL : pages_table_find(c->in->base, source->id);
	uint8_t head[PAGES_SET_BYTES];
	put_u64(head, source->id);
	put_u32(head + 8, source->pages_id);
	put_u32(head + 12, base == NULL ? PAGES_FRESH : 0);
	struct pages_set *set = base == NULL ? pages_table_add(c->table, source->id, source->pages_id)
					     : pages_table_share(c->table, base, source->pages_id);
	if (set == NULL || epoch_record(c->in->writer, PAGES_SET, head, sizeof head, NULL, 0) != 0 ||
	    list_alive(c, source, base) != 0)
		return -1;
	if (c->in->verify)
		verify_kept(c, source, base);
	return drop_dead(c, set) != 0 || take_pages(c, set, source) != 0 ? -1 : write_end(c, set);
}

static int write_gone(struct collector *c, uint64_t id)
{
	uint8_t head[PAGES_GONE_BYTES];
	put_u64(head, id);
	return epoch_record(c->in->writer, PAGES_GONE, head, sizeof head, NULL, 0);
}

/* ---- which processes ---- */

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* Ids of the pagemap images, ascending. Those of shared memory have a name in place of the number, and stay images. */
static int list_ids(int images, uint64_t **out, size_t *count)
{
	int fd = openat(images, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *listing = fd < 0 ? NULL : fdopendir(fd);
	size_t room = 0;
	*out = NULL;
	*count = 0;
	if (listing == NULL) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	int result = 0;
	for (struct dirent *entry; result == 0 && (entry = readdir(listing)) != NULL;) {
		unsigned long long id;
		int length = 0;
		if (sscanf(entry->d_name, "pagemap-%20llu.img%n", &id, &length) != 1 || entry->d_name[length] != 0 || length == 0)
			continue;
		if (*count == room) {
			room = room ? room * 2 : 16;
			uint64_t *grown = realloc(*out, room * sizeof **out);
			if (grown == NULL || *count == PAGES_SETS_MAX) {
				errno = grown == NULL ? ENOMEM : EFBIG;
				*out = grown == NULL ? *out : grown;
				result = -1;
				break;
			}
			*out = grown;
		}
		(*out)[(*count)++] = id;
	}
	closedir(listing);
	if (*count > 1)
		qsort(*out, *count, sizeof **out, by_number);
	return result;
}

static int collect_id(struct collector *c, uint64_t id)
{
	struct source source;
	int result = open_source(c, id, &source);
	if (result == 0)
		result = collect_source(c, &source);
	int error = errno;
	unmap(&source.pagemap);
	unmap(&source.pages);
	errno = error;
	return result;
}

static int collect_all(struct collector *c)
{
	uint64_t *id;
	size_t count, old = 0, old_count = c->in->base == NULL ? 0 : c->in->base->count;
	int result = list_ids(c->in->images, &id, &count);
	if (result == 0)
		result = epoch_section_begin(c->in->writer, EPOCH_SECTION_PAGES);
	for (size_t i = 0; result == 0 && i <= count; i++) {
		for (; result == 0 && old < old_count && (i == count || c->in->base->set[old].id <= id[i]); old++)
			if (i == count || c->in->base->set[old].id < id[i])
				result = write_gone(c, c->in->base->set[old].id);
		if (result == 0 && i < count)
			result = collect_id(c, id[i]);
	}
	if (result == 0)
		result = epoch_section_end(c->in->writer);
	for (size_t i = 0; result == 0 && i < c->table->count; i++)
		result = remove_source(c, c->table->set[i].id, c->table->set[i].pages_id);
	int error = errno;
	free(id);
	errno = error;
	return result;
}

struct pages_table *pages_collect(struct pages_collect *self, struct pages_stats *stats)
{
	memset(stats, 0, sizeof *stats);
	self->reason[0] = 0;
	struct collector c = { .in = self, .stats = stats, .table = pages_table_new(true) };
	int result = c.table == NULL ? -1 : collect_all(&c);
	int error = errno;
	free(c.alive);
	if (result == 0 && stats->wrong > 0) {
		result = -1;
		error = EPROTO;
	}
	if (result == 0) {
		stats->pages = pages_table_pages(c.table);
		return c.table;
	}
	pages_table_free(c.table);
	errno = error;
	return NULL;
}
