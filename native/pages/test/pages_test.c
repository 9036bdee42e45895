/* Random memory through pagemaps, sections, tables and the standby's files; then hostile sections. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "epoch/reader.h"
#include "pages/files.h"
#include "pages/pagemap.h"
#include "pages/parse.h"
#include "pages/test/memory.h"
#include "test/check.h"
#include "track/tracker.h"

#define PAIR "0123456789ab"
enum { ROUNDS = 50, HOSTILE = 1000 };

static uint64_t seed = 20261122;
static char folder[64];

static uint64_t below(uint64_t limit)
{
	return check_random(&seed) % limit;
}

static int open_folder(const char *name)
{
	char path[128];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	mkdir(path, 0700);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int run(const char *format)
{
	char command[400];
	snprintf(command, sizeof command, format, folder, folder, folder);
	return system(command);
}

static struct epoch_writer *begin_blob(int *fd)
{
	char path[128];
	snprintf(path, sizeof path, "%s/blob", folder);
	(void)unlink(path); /* one that is mapped must not change */
	*fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return epoch_writer_open(*fd, 1 << 30);
}

static struct epoch_reader *end_blob(struct epoch_writer *writer, int fd, uint64_t epoch)
{
	struct epoch_reader *reader = NULL;
	struct epoch_error e;
	struct epoch_header header = { .pair = PAIR, .generation = 1, .epoch = epoch, .flags = EPOCH_FULL };
	if (epoch_section_begin(writer, EPOCH_SECTION_IMAGES) != 0 || epoch_section_end(writer) != 0 ||
	    epoch_writer_finish(writer, &header) != 0 || epoch_reader_open(fd, 1 << 30, &reader, &e) != 0)
		printf("  no blob: %s\n", e.detail);
	epoch_writer_close(writer);
	close(fd);
	return reader;
}

static uint64_t lazy; /* nothing is, here */

/* What is composed from the standby's files is what a plain dump has, byte for byte. */
static int is_same(const struct memory *m, const struct pages_table *table, int store)
{
	struct epoch_error e = { .code = "" };
	if (run("rm -rf %s/want %s/have") != 0)
		return 0;
	int want = open_folder("want"), have = open_folder("have");
	memory_write(m, want);
	int composed = pages_compose(store, table, have, UINT64_MAX, &lazy, &e);
	close(want);
	close(have);
	if (composed != 0)
		printf("  compose: %s %s\n", e.code, e.detail);
	return composed == 0 && run("diff -r %s/want %s/have") == 0;
}

TEST(random_memory_comes_out_as_it_went_in)
{
	static struct memory m;
	static struct hash_key key;
	struct pages_table *primary = NULL, *standby = pages_table_new(false);
	struct epoch_error e = { .code = "" };
	int images = open_folder("images"), store = open_folder("store"), good = hash_key_make(&key) == 0;
	uint64_t refused = 0;
	for (int round = 0; good && round < ROUNDS; round++) {
		int fd, full = round == 0 || below(10) == 0;
		struct epoch_writer *writer = begin_blob(&fd);
		memory_mutate(&m, below);
		struct pages_table *after = memory_collect(&m, images, full ? NULL : primary, &key, writer, below);
		struct epoch_reader *reader = end_blob(writer, fd, (uint64_t)round + 1);
		const struct epoch_section *section = epoch_reader_section(reader, 0);
		struct pages_table *wrong = full ? NULL : pages_table_next(primary, section, true, false, &e);
		refused += wrong == NULL && !full;
		pages_table_free(wrong);
		struct pages_table *next = pages_table_next(standby, section, full, false, &e);
		good = next != NULL && pages_table_equal(next, after);
		/* Half of it, then all of it again, as after a kill. */
		good = good && pages_apply(store, section, full, &e) == 0 && (below(3) != 0 || pages_apply(store, section, full, &e) == 0);
		struct pages_table *found = good ? pages_read(store, true, &e) : NULL;
		good = found != NULL && pages_table_equal(found, next) && is_same(&m, found, store);
		struct pages_table *redone = good ? pages_table_next(found, section, full, true, &e) : NULL;
		good = redone != NULL && pages_table_equal(redone, next);
		if (!good)
			printf("  round %d: %s %s\n", round, e.code, e.detail);
		pages_table_free(redone);
		pages_table_free(found);
		pages_table_free(standby);
		pages_table_free(primary);
		epoch_reader_close(reader);
		standby = next;
		primary = after;
	}
	pages_table_free(standby);
	pages_table_free(primary);
	close(images);
	close(store);
	CHECK(good);
	CHECK(refused > ROUNDS / 2);
}

TEST(a_flipped_bit_at_rest_is_not_restored)
{
	struct epoch_error e = { .code = "" };
	struct pages_run run_found;
	char path[128];
	int store = open_folder("store"), have = open_folder("have2");
	struct pages_table *table = pages_read(store, true, &e);
	CHECK(table != NULL && table->count > 0 && pages_next_run(&table->set[0], 0, &run_found));
	snprintf(path, sizeof path, "%s/store/%llu", folder, (unsigned long long)table->set[0].id);
	int fd = open(path, O_RDWR);
	uint8_t byte;
	off_t at = (off_t)run_found.from + 77;
	CHECK(pread(fd, &byte, 1, at) == 1);
	byte ^= 4;
	CHECK(pwrite(fd, &byte, 1, at) == 1);
	CHECK(pages_compose(store, table, have, UINT64_MAX, &lazy, &e) != 0);
	CHECK_STR(e.code, "corrupt");
	byte ^= 4;
	CHECK(pwrite(fd, &byte, 1, at) == 1);
	CHECK_EQ(pages_compose(store, table, have, UINT64_MAX, &lazy, &e), 0);
	close(fd);
	snprintf(path, sizeof path, "%s/store/%llu.sums", folder, (unsigned long long)table->set[0].id);
	fd = open(path, O_RDWR);
	at = (off_t)(run_found.from / PAGE_BYTES * 8);
	CHECK(pread(fd, &byte, 1, at) == 1);
	byte ^= 1;
	CHECK(pwrite(fd, &byte, 1, at) == 1);
	close(fd);
	CHECK(pages_read(store, true, &e) == NULL);
	CHECK_STR(e.code, "corrupt");
	pages_table_free(table);
	close(store);
	close(have);
}

/* A record of a hostile primary: well framed, anything inside. */
static void write_hostile(struct epoch_writer *writer, const struct epoch_record_view *v)
{
	static uint8_t payload[EPOCH_RECORD_BYTES_MAX];
	uint32_t length = v->length_bytes;
	enum epoch_record_type type = v->type;
	memcpy(payload, v->payload, length);
	switch (below(250)) {
	case 0: type = (enum epoch_record_type)below(80); break;
	case 1: length = (uint32_t)below(length + 1); break;
	case 2:
		for (uint64_t n = 1 + below(3); n > 0 && length > 0; n--)
			payload[below(length < 24 ? length : 24)] = (uint8_t)below(256);
		break;
	case 3: put_u64(payload, below(2) ? UINT64_MAX - below(8192) : below(1ull << 57) & ~4095ull); break;
	case 4:
		if (length >= 16)
			put_u64(payload + 8, below(2) ? UINT64_MAX >> below(30) : below(100000));
		break;
	case 5: return;
	case 6:
		for (uint64_t n = 1 + below(4); type == PAGES_PACKED && n > 0; n--)
			payload[below(length)] ^= (uint8_t)(1 + below(255));
		break;
	case 7: /* more or fewer pages than come out */
		if (type == PAGES_PACKED)
			put_u32(payload + 8, (uint32_t)below(below(2) ? 300 : 1ull << 32));
		break;
	case 8:
		for (uint32_t i = PAGES_PACKED_HEAD_BYTES; type == PAGES_PACKED && i < length; i++)
			payload[i] = (uint8_t)below(256);
		break;
	case 9:
		if (type == PAGES_PACKED)
			put_u32(payload + 12, (uint32_t)below(4));
		break;
	default: break;
	}
	(void)epoch_record(writer, type, payload, length, NULL, 0);
}

TEST(hostile_sections_change_nothing)
{
	static struct memory m;
	static struct hash_key key;
	struct epoch_error e = { .code = "" };
	int images = open_folder("images2"), fd, accepted = 0;
	CHECK_EQ(hash_key_make(&key), 0);
	memory_mutate(&m, below);
	struct epoch_writer *writer = begin_blob(&fd);
	struct pages_table *first = memory_collect(&m, images, NULL, &key, writer, below);
	struct epoch_reader *base_blob = end_blob(writer, fd, 1);
	struct pages_table *base = pages_table_next(first, epoch_reader_section(base_blob, 0), true, false, &e);
	memory_mutate(&m, below);
	writer = begin_blob(&fd);
	struct pages_table *second = memory_collect(&m, images, first, &key, writer, below);
	struct epoch_reader *honest = end_blob(writer, fd, 2);
	for (int i = 0; i < HOSTILE; i++) {
		struct epoch_cursor cursor = epoch_cursor_of(epoch_reader_section(below(8) ? honest : base_blob, 0));
		struct epoch_record_view v;
		writer = begin_blob(&fd);
		(void)epoch_section_begin(writer, EPOCH_SECTION_PAGES);
		while (epoch_cursor_next(&cursor, &v))
			write_hostile(writer, &v);
		(void)epoch_section_end(writer);
		struct epoch_reader *reader = end_blob(writer, fd, 3);
		uint64_t pages = pages_table_pages(base);
		struct pages_table *next = pages_table_next(base, epoch_reader_section(reader, 0), below(9) == 0, below(9) == 0, &e);
		accepted += next != NULL;
		pages_table_free(next);
		epoch_reader_close(reader);
		CHECK_EQ(pages_table_pages(base), pages);
	}
	printf("  %d of %d hostile sections were well-formed enough to be accepted\n", accepted, HOSTILE);
	pages_table_free(first);
	pages_table_free(second);
	pages_table_free(base);
	epoch_reader_close(base_blob);
	epoch_reader_close(honest);
	close(images);
}

TEST(what_is_packed_comes_out_and_garbage_does_not)
{
	static uint8_t run[PAGES_RUN_MAX * PAGE_BYTES], packed[PAGES_RUN_MAX * PAGE_BYTES];
	struct pages_unpacker unpacker = { 0 };
	CHECK_EQ(pages_packing_called("gzip"), -1);
	for (int how = PAGES_LZ4; how <= PAGES_ZSTD; how++) {
		struct pages_packer *packer = pages_packer_new((enum pages_packing)how);
		CHECK(packer != NULL);
		for (int round = 0; round < 200; round++) {
			uint64_t pages = round == 0 ? PAGES_RUN_MAX : 1 + below(6);
			for (size_t i = 0; i < pages * PAGE_BYTES; i++)
				run[i] = (uint8_t)(below(9) == 0 ? below(256) : i >> 6);
			size_t length;
			const uint8_t *bytes = pages_pack(packer, run, pages, &length);
			CHECK(bytes != NULL && length < pages * PAGE_BYTES);
			memcpy(packed, bytes, length);
			const uint8_t *out = pages_unpack(&unpacker, (enum pages_packing)how, packed, length, pages);
			CHECK(out != NULL && memcmp(out, run, pages * PAGE_BYTES) == 0);
			CHECK(pages_unpack(&unpacker, (enum pages_packing)how, packed, length, pages + (pages < PAGES_RUN_MAX ? 1 : -1)) == NULL);
			for (uint64_t n = 1 + below(3); n > 0; n--)
				packed[below(length)] ^= (uint8_t)(1 + below(255));
			(void)pages_unpack(&unpacker, (enum pages_packing)how, packed, below(3) == 0 ? below(length) : length, pages);
		}
		for (size_t i = 0; i < sizeof run; i++)
			run[i] = (uint8_t)below(256);
		size_t length;
		CHECK(pages_pack(packer, run, 3, &length) == NULL);
		pages_packer_free(packer);
	}
	pages_unpacker_close(&unpacker);
}

TEST(pagemaps_are_read_and_garbage_is_refused)
{
	uint8_t bytes[512];
	size_t length = pagemap_write_head(bytes, 7);
	const struct pagemap_entry entries[] = {
		{ 0x400000, 1, PAGEMAP_PRESENT }, { 0x7ffff0000000, 1ull << 33, PAGEMAP_PRESENT | PAGEMAP_LAZY }, { 0x8000000000000, 127, 0 },
	};
	for (size_t i = 0; i < 3; i++)
		length += pagemap_write_entry(bytes + length, &entries[i]);
	struct pagemap_reader reader;
	struct pagemap_entry entry;
	uint32_t id;
	CHECK_EQ(pagemap_open(bytes, length, &reader, &id), 0);
	CHECK_EQ(id, 7);
	for (size_t i = 0; i < 3; i++) {
		CHECK_EQ(pagemap_next(&reader, &entry), 1);
		CHECK(entry.address == entries[i].address && entry.pages == entries[i].pages && entry.flags == entries[i].flags);
	}
	CHECK_EQ(pagemap_next(&reader, &entry), 0);
	for (int i = 0; i < 20000; i++) {
		uint8_t broken[512];
		memcpy(broken, bytes, length);
		for (uint64_t n = below(4); n > 0; n--)
			broken[below(length)] = (uint8_t)below(256);
		size_t size = below(3) == 0 ? below(length) : length;
		int left = 600;
		if (pagemap_open(broken, size, &reader, &id) == 0)
			while (left-- > 0 && pagemap_next(&reader, &entry) == 1)
				;
		CHECK(left != 0);
	}
}

TEST(areas_to_track_are_told_from_others)
{
	static const struct {
		const char *line;
		int kind;
	} lines[] = {
		{ "55d0c0000000-55d0c0021000 rw-p 00000000 00:00 0                          [heap]\n", 1 },
		{ "7f0000000000-7f0000200000 rw-p 00000000 00:00 0 \n", 1 },
		{ "7f0000000000-7f0000200000 ---p 00000000 00:00 0 \n", 1 },
		{ "7f0000000000-7f0000200000 rw-s 00000000 00:01 77                         /dev/zero (deleted)\n", 0 },
		{ "7f0000000000-7f0000200000 rw-p 00000000 fe:00 5398860                    /usr/lib/libc.so.6\n", 0 },
		{ "7f0771d09000-7f0771d0d000 r--p 00000000 00:00 0                          [vvar]\n", 0 },
		{ "7f0771d0f000-7f0771d11000 r-xp 00000000 00:00 0                          [vdso]\n", 0 },
		{ "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n", 0 },
		{ "7f0771d0f000-7f0771d11000 rw-s 00000000 00:12 123                        /[aio] (deleted)\n", -1 },
		{ "garbage\n", 0 },
		{ "", 0 },
	};
	struct area area;
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		CHECK_EQ(track_maps_line(lines[i].line, &area), lines[i].kind);
}

int main(void)
{
	strcpy(folder, "/dev/shm/ft-pages-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return 1;
	printf("seed %llu\n", (unsigned long long)seed);
	RUN(random_memory_comes_out_as_it_went_in);
	RUN(a_flipped_bit_at_rest_is_not_restored);
	RUN(hostile_sections_change_nothing);
	RUN(what_is_packed_comes_out_and_garbage_does_not);
	RUN(pagemaps_are_read_and_garbage_is_refused);
	RUN(areas_to_track_are_told_from_others);
	(void)run("rm -rf %s");
	return check_report();
}
