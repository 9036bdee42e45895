#include "pages/test/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pages/pagemap.h"

static uint64_t id_of(int process)
{
	return (uint64_t[]){ 3, 70, 4000 }[process];
}

/* One dense area, one with holes, far away. */
static uint64_t address_of(int page)
{
	return page < 550 ? 0x400000 + (uint64_t)page * PAGE_BYTES : 0x7f0000200000 + (uint64_t)(page - 550) * 3 * PAGE_BYTES;
}

static void begin(struct memory *m, int process, uint64_t (*below)(uint64_t))
{
	m->alive[process] = 1;
	for (int page = 0; page < MEMORY_PAGES; page++) {
		m->present[process][page] = below(3) != 0;
		m->lazy[process][page] = page < 300;
		m->fill[process][page] = (uint32_t)below(50);
		m->written[process][page] = 1;
	}
}

void memory_mutate(struct memory *m, uint64_t (*below)(uint64_t))
{
	for (int process = 0; process < MEMORY_PROCESSES; process++) {
		if (!m->alive[process] || below(25) == 0) {
			m->alive[process] = 0;
			if (process == 0 || below(3) == 0)
				begin(m, process, below);
			continue;
		}
		for (uint64_t n = below(30); n > 0; n--) {
			int page = (int)below(MEMORY_PAGES);
			m->present[process][page] = 1;
			m->written[process][page] = 1;
			if (below(3) != 0)
				m->fill[process][page] = (uint32_t)below(1000);
		}
		int from = (int)below(MEMORY_PAGES), count = (int)below(40);
		for (int page = from; page < MEMORY_PAGES && page < from + count && below(2) == 0; page++)
			m->present[process][page] = 0;
	}
}

static void write_whole(int fd, const void *bytes, size_t length)
{
	if (write(fd, bytes, length) != (ssize_t)length)
		abort();
}

static int make(int directory, const char *format, uint64_t number)
{
	char name[48];
	snprintf(name, sizeof name, format, (unsigned long long)number);
	int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		abort();
	return fd;
}

static void write_process(const struct memory *m, int process, int directory, int narrowed)
{
	uint8_t message[PAGEMAP_ENTRY_BYTES_MAX], content[PAGE_BYTES];
	int pagemap = make(directory, "pagemap-%llu.img", id_of(process)), pages = make(directory, "pages-%llu.img", (uint64_t)process + 20);
	struct pagemap_entry entry = { 0 };
	write_whole(pagemap, message, pagemap_write_head(message, (uint32_t)process + 20));
	for (int page = 0; page <= MEMORY_PAGES; page++) {
		int told = page < MEMORY_PAGES && m->present[process][page] && (!narrowed || m->written[process][page]);
		uint32_t flags = told && m->lazy[process][page] ? PAGEMAP_PRESENT | PAGEMAP_LAZY : PAGEMAP_PRESENT;
		int joins = told && entry.pages > 0 && flags == entry.flags && entry.address + entry.pages * PAGE_BYTES == address_of(page);
		if (entry.pages > 0 && !joins) {
			write_whole(pagemap, message, pagemap_write_entry(message, &entry));
			entry.pages = 0;
		}
		if (!told)
			continue;
		if (entry.pages == 0)
			entry = (struct pagemap_entry){ .address = address_of(page), .flags = flags };
		entry.pages++;
		memset(content, 0, sizeof content);
		for (size_t at = 0; m->fill[process][page] != 0 && at < PAGE_BYTES; at += 4)
			/* Half of the pages can be packed. */
			memcpy(content + at, (uint32_t[]){ m->fill[process][page] % 2 ? m->fill[process][page] * 2654435761u ^ (uint32_t)at % 64
										      : (m->fill[process][page] + (uint32_t)at) * 2654435761u }, 4);
		write_whole(pages, content, sizeof content);
	}
	close(pagemap);
	close(pages);
}

void memory_write(const struct memory *m, int directory)
{
	for (int process = 0; process < MEMORY_PROCESSES; process++)
		if (m->alive[process])
			write_process(m, process, directory, 0);
}

struct pages_table *memory_collect(struct memory *m, int directory, const struct pages_table *base, const struct hash_key *key,
				   struct epoch_writer *writer, uint64_t (*below)(uint64_t))
{
	static struct area kept[MEMORY_PROCESSES * MEMORY_PAGES];
	struct pages_stats stats;
	size_t count = 0;
	for (int process = 0; process < MEMORY_PROCESSES; process++) {
		int narrowed = base != NULL && pages_table_find(base, id_of(process)) != NULL && below(4) != 0;
		if (!m->alive[process])
			continue;
		write_process(m, process, directory, narrowed);
		for (int page = 0; narrowed && page < MEMORY_PAGES; page++)
			if (m->present[process][page] && !m->written[process][page])
				kept[count++] = (struct area){ (uint32_t)id_of(process), 0, address_of(page), address_of(page) + PAGE_BYTES };
		memset(m->written[process], 0, MEMORY_PAGES);
	}
	static struct pages_packer *packers[3];
	enum pages_packing how = (enum pages_packing)below(3);
	if (packers[how] == NULL && (packers[how] = pages_packer_new(how)) == NULL)
		abort();
	struct pages_collect collect = { .images = directory, .base = base, .key = key, .kept = kept, .kept_count = count, .writer = writer,
		.packer = packers[how] };
	struct pages_table *table = pages_collect(&collect, &stats);
	if (table == NULL) {
		printf("  collect: %s\n", collect.reason);
		abort();
	}
	return table;
}
