/* Random directories of images through delta, blob, table and apply; then the same blobs broken in every way. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "epoch/reader.h"
#include "images/apply.h"
#include "images/delta.h"
#include "images/table.h"
#include "test/check.h"

#define ROUNDS 400
#define LARGE 5
#define SMALL 24 /* as sockets have: patched */
#define IMAGES (LARGE + SMALL)

static uint64_t seed = 20240611;
static uint64_t below(uint64_t limit)
{
	return check_random(&seed) % limit;
}

struct model {
	uint8_t *bytes[IMAGES];
	size_t size[IMAGES];
	int present[IMAGES];
};
static const char *const names[IMAGES] = {
	"core-2.img", "empty.img", "fdinfo-3.img", "pages-1.img", "pages-2.img",
	"t-1.img", "t-10.img", "t-1a.img", "t-1ab.img", "t-1ac.img", "t-2.img", "t-3ff.img", "t-40.img", "t-41.img", "t-4a.img", "t-4b.img", "t-a.img",
	"tcp-stream-fe.img", "tcp-stream-ff.img", "tcp-stream-ff0.img", "u.img", "u0.img", "u1.img", "u2.img", "v-.img", "w.img", "x.img", "y.img", "z.img"};

static void fill(uint8_t *at, size_t length)
{
	for (size_t i = 0; i < length; i++)
		at[i] = (uint8_t)check_random(&seed);
}

static uint64_t some_size(int i)
{
	return i < LARGE ? below(300000) : below(4) ? below(200) : 4080 + below(32);
}

static void mutate_small(struct model *m, int i)
{
	if (m->size[i] == 0 || below(3) == 0)
		return;
	for (uint64_t n = below(2) ? 1 + below(4) : below(m->size[i]); n > 0; n--)
		m->bytes[i][below(m->size[i])] ^= (uint8_t)(1 + below(255));
}

/* Overwrites here and there, inserts and removes pages, grows, shrinks, comes and goes. */
static void mutate(struct model *m, int i)
{
	if (i >= LARGE && m->present[i] && below(8) != 0) {
		mutate_small(m, i);
		return;
	}
	if (below(12) == 0 || !m->present[i]) {
		m->present[i] = below(4) != 0;
		m->size[i] = m->present[i] ? some_size(i) : 0;
		m->bytes[i] = realloc(m->bytes[i], m->size[i] + 1);
		fill(m->bytes[i], m->size[i]);
		return;
	}
	for (uint64_t n = below(4); n > 0; n--)
		if (m->size[i] > 0)
			m->bytes[i][below(m->size[i])] ^= (uint8_t)(1 + below(255));
	uint64_t kind = below(6), pages = 1 + below(9), at = m->size[i] / 4096 ? below(m->size[i] / 4096) * 4096 : 0;
	size_t span = pages * 4096;
	if (kind == 0) {
		m->bytes[i] = realloc(m->bytes[i], m->size[i] + span);
		memmove(m->bytes[i] + at + span, m->bytes[i] + at, m->size[i] - at);
		fill(m->bytes[i] + at, span);
		m->size[i] += span;
	} else if (kind == 1 && at + span <= m->size[i]) {
		memmove(m->bytes[i] + at, m->bytes[i] + at + span, m->size[i] - at - span);
		m->size[i] -= span;
	} else if (kind == 2) {
		m->size[i] = m->size[i] ? below(m->size[i]) : 0;
	} else if (kind == 3) {
		size_t more = below(9000);
		m->bytes[i] = realloc(m->bytes[i], m->size[i] + more + 1);
		fill(m->bytes[i] + m->size[i], more);
		m->size[i] += more;
	}
}

static int directory(char *path)
{
	strcpy(path, "/dev/shm/ft-images-XXXXXX");
	return mkdtemp(path) == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY);
}

static void remove_directory(const char *path, int fd)
{
	char command[128];
	close(fd);
	snprintf(command, sizeof command, "rm -rf %s", path);
	if (system(command) != 0)
		abort();
}

static int put(int dirfd, const struct model *m)
{
	for (int i = 0; i < IMAGES; i++) {
		if (!m->present[i]) {
			unlinkat(dirfd, names[i], 0);
			continue;
		}
		int fd = openat(dirfd, names[i], O_WRONLY | O_CREAT | O_TRUNC, 0600);
		if (fd < 0 || write(fd, m->bytes[i], m->size[i]) != (ssize_t)m->size[i])
			return -1;
		close(fd);
	}
	return 0;
}

static int equal(int dirfd, const struct model *m)
{
	for (int i = 0; i < IMAGES; i++) {
		struct stat st;
		int fd = openat(dirfd, names[i], O_RDONLY), same = 1;
		if (fd < 0 && !m->present[i])
			continue;
		if (fd < 0 || !m->present[i])
			return 0;
		uint8_t *bytes = malloc(m->size[i] + 1);
		same = fstat(fd, &st) == 0 && (size_t)st.st_size == m->size[i] &&
		       read(fd, bytes, m->size[i]) == (ssize_t)m->size[i] && memcmp(bytes, m->bytes[i], m->size[i]) == 0;
		free(bytes);
		close(fd);
		if (!same)
			return 0;
	}
	return 1;
}

static int make_blob(int prev, int new, uint64_t epoch, struct images_delta_stats *stats)
{
	int fd = memfd_create("blob", MFD_CLOEXEC);
	struct epoch_writer *w = epoch_writer_open(fd, 1ull << 30);
	struct epoch_header h = {.pair = "0123456789ab", .generation = 1, .epoch = epoch};
	h.flags = prev < 0 ? EPOCH_FULL : 0;
	h.base_epoch = prev < 0 ? 0 : epoch - 1;
	int result = images_delta(prev, new, w, stats) == 0 ? epoch_writer_finish(w, &h) : -1;
	epoch_writer_close(w);
	if (result != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* As if a kill had come in the middle: some of the images, and within those some of the bytes, are still the ones before. */
static int put_back_some(int flat, const struct model *before, const struct model *now)
{
	for (int i = LARGE; i < IMAGES; i++) {
		if (!before->present[i] || !now->present[i] || before->size[i] != now->size[i] || below(2))
			continue;
		size_t from = below(now->size[i] + 1), length = below(now->size[i] - from + 1);
		int fd = openat(flat, names[i], O_WRONLY);
		if (fd < 0 || pwrite(fd, before->bytes[i] + from, length, (off_t)from) != (ssize_t)length)
			return -1;
		close(fd);
	}
	return 0;
}

static void keep(struct model *to, const struct model *from)
{
	for (int i = 0; i < IMAGES; i++) {
		to->present[i] = from->present[i];
		to->size[i] = from->size[i];
		to->bytes[i] = realloc(to->bytes[i], from->size[i] + 1);
		if (from->size[i] > 0)
			memcpy(to->bytes[i], from->bytes[i], from->size[i]);
	}
}

static int table_matches(const struct images_table *t, int dirfd)
{
	struct images_table *read = images_table_read(dirfd, NULL);
	int same = read != NULL && read->count == t->count && read->bytes == t->bytes;
	for (size_t i = 0; same && i < t->count; i++)
		same = strcmp(t->entry[i].name, read->entry[i].name) == 0 && t->entry[i].size == read->entry[i].size &&
		       memcmp(t->entry[i].crc, read->entry[i].crc, t->entry[i].blocks * 4) == 0 &&
		       (t->entry[i].size >= 4096 || memcmp(t->entry[i].small, read->entry[i].small, t->entry[i].size) == 0);
	images_table_free(read);
	return same;
}

TEST(random_epochs_arrive_to_the_byte)
{
	char prev_path[64], new_path[64], flat_path[64];
	int prev = directory(prev_path), new = directory(new_path), flat = directory(flat_path), bad = 0;
	struct model m = {0}, before = {0};
	struct images_table *table = images_table_empty();
	uint64_t moved = 0, shipped = 0, bytes = 0, patched = 0;
	for (int round = 1; round <= ROUNDS && !bad; round++) {
		struct images_delta_stats stats;
		struct epoch_reader *r = NULL;
		struct epoch_error e = {0};
		bad |= put(prev, &m) != 0;
		keep(&before, &m);
		for (int i = 0; i < IMAGES; i++)
			mutate(&m, i);
		bad |= put(new, &m) != 0;
		int blob = make_blob(round == 1 ? -1 : prev, new, (uint64_t)round, &stats);
		bad |= blob < 0 || epoch_reader_open(blob, 1ull << 30, &r, &e) != 0;
		struct images_table *next =
			bad ? NULL : images_table_next(table, epoch_reader_section(r, 0), 0, &e);
		bad |= next == NULL || images_apply(flat, epoch_reader_section(r, 0), 0, &e) != 0;
		bad |= bad || !equal(flat, &m) || !table_matches(next, flat);
		/* Once more, as after a kill: nothing may change. */
		struct images_table *again = bad ? NULL : images_table_next(next, epoch_reader_section(r, 0), 1, &e);
		bad |= again == NULL || !table_matches(again, flat);
		bad |= bad || images_apply(flat, epoch_reader_section(r, 0), 1, &e) != 0 || !equal(flat, &m);
		/* And once more after one in the middle, as a new process that reads its table from what it finds. */
		bad |= bad || put_back_some(flat, &before, &m) != 0;
		struct images_table *found = bad ? NULL : images_table_read(flat, &e);
		struct images_table *mended = found == NULL ? NULL : images_table_next(found, epoch_reader_section(r, 0), 1, &e);
		bad |= mended == NULL || images_apply(flat, epoch_reader_section(r, 0), 1, &e) != 0 || !equal(flat, &m) || !table_matches(mended, flat);
		images_table_free(found);
		images_table_free(mended);
		if (bad)
			printf("  round %d, seed state %llu: %s\n", round, (unsigned long long)seed, e.detail);
		images_table_free(again);
		images_table_free(table);
		table = next;
		epoch_reader_close(r);
		close(blob);
		moved += stats.moved_blocks;
		shipped += stats.shipped_bytes;
		bytes += stats.image_bytes;
		patched += stats.patched_files;
	}
	images_table_free(table);
	for (int i = 0; i < IMAGES; i++) {
		free(m.bytes[i]);
		free(before.bytes[i]);
	}
	remove_directory(prev_path, prev);
	remove_directory(new_path, new);
	remove_directory(flat_path, flat);
	printf("  %d rounds, %llu of %llu bytes shipped, %llu blocks found moved, %llu images patched\n", ROUNDS,
	       (unsigned long long)shipped, (unsigned long long)bytes, (unsigned long long)moved, (unsigned long long)patched);
	CHECK(!bad);
	CHECK(patched > ROUNDS);
	CHECK(moved > 0);
	CHECK(shipped < bytes / 2);
}

static void put_one(int dirfd, const char *name, const uint8_t *bytes, size_t size)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, bytes, size) != (ssize_t)size)
		abort();
	close(fd);
}

TEST(pages_inserted_in_the_middle_are_not_all_shipped)
{
	enum { SIZE = 4 << 20 };
	char prev_path[64], new_path[64];
	int prev = directory(prev_path), new = directory(new_path);
	uint8_t *bytes = malloc(SIZE + 40960);
	struct images_delta_stats stats;
	fill(bytes, SIZE);
	put_one(prev, "pages-1.img", bytes, SIZE);
	memmove(bytes + 500 * 4096 + 40960, bytes + 500 * 4096, SIZE - 500 * 4096);
	fill(bytes + 500 * 4096, 40960);
	put_one(new, "pages-1.img", bytes, SIZE + 40960);
	int blob = make_blob(prev, new, 2, &stats);
	close(blob);
	free(bytes);
	remove_directory(prev_path, prev);
	remove_directory(new_path, new);
	CHECK(blob >= 0);
	CHECK(stats.changed_blocks <= 20);
	CHECK(stats.moved_blocks >= 500);
}

TEST(another_base_is_refused)
{
	char prev_path[64], new_path[64];
	int prev = directory(prev_path), new = directory(new_path);
	uint8_t bytes[20000];
	struct epoch_reader *r = NULL;
	struct epoch_error e = {0};
	fill(bytes, sizeof bytes);
	put_one(prev, "pages-1.img", bytes, sizeof bytes);
	bytes[5000] ^= 1;
	put_one(new, "pages-1.img", bytes, sizeof bytes);
	int blob = make_blob(prev, new, 2, NULL);
	int opened = epoch_reader_open(blob, 1 << 20, &r, &e);
	bytes[15000] ^= 1; /* the standby's base is off by one bit in a block that is not shipped */
	put_one(prev, "pages-1.img", bytes, sizeof bytes);
	struct images_table *base = images_table_read(prev, &e);
	struct images_table *next = opened == 0 ? images_table_next(base, epoch_reader_section(r, 0), 0, &e) : NULL;
	images_table_free(base);
	epoch_reader_close(r);
	close(blob);
	remove_directory(prev_path, prev);
	remove_directory(new_path, new);
	CHECK_EQ(opened, 0);
	CHECK(next == NULL);
	CHECK_STR(e.code, "base");
}

/* What CRIU writes for a connection, some 75 bytes in which a clock is another every time. */
TEST(a_thousand_sockets_cost_little)
{
	enum { SOCKETS = 1000, BYTES = 75 };
	char prev_path[64], new_path[64], name[32];
	int prev = directory(prev_path), new = directory(new_path);
	uint8_t bytes[BYTES];
	struct images_delta_stats stats;
	for (int i = 0; i < SOCKETS; i++) {
		snprintf(name, sizeof name, "tcp-stream-%x.img", 0x9a0000 + i * 3);
		fill(bytes, BYTES);
		put_one(prev, name, bytes, BYTES);
		fill(bytes + 30, 4);
		put_one(new, name, bytes, BYTES);
	}
	int full = make_blob(-1, new, 2, &stats), whole_is_patched = stats.patched_files != 0;
	int blob = make_blob(prev, new, 2, &stats), accepted = 0;
	off_t size = lseek(blob, 0, SEEK_END), whole = lseek(full, 0, SEEK_END);
	struct images_table *base = images_table_read(prev, NULL), *next = NULL;
	struct epoch_reader *r = NULL;
	if (epoch_reader_open(blob, 1 << 20, &r, NULL) == 0)
		next = images_table_next(base, epoch_reader_section(r, 0), 0, NULL);
	accepted = next != NULL && images_apply(prev, epoch_reader_section(r, 0), 0, NULL) == 0 && table_matches(next, new) &&
	           table_matches(next, prev);
	images_table_free(base);
	images_table_free(next);
	epoch_reader_close(r);
	close(blob);
	close(full);
	remove_directory(prev_path, prev);
	remove_directory(new_path, new);
	printf("  %d sockets: %lld bytes, %lld whole\n", SOCKETS, (long long)size, (long long)whole);
	CHECK(accepted);
	CHECK(size < SOCKETS * 20);
	CHECK(!whole_is_patched); /* a full epoch needs no base */
}

TEST(a_patch_is_for_its_base_alone)
{
	char prev_path[64], new_path[64];
	int prev = directory(prev_path), new = directory(new_path);
	uint8_t bytes[500], other[500];
	struct epoch_error e = {0}, absent = {0}, longer = {0}, applied = {0};
	fill(bytes, sizeof bytes);
	memcpy(other, bytes, sizeof bytes);
	put_one(prev, "tcp-stream-1.img", bytes, sizeof bytes);
	bytes[100] ^= 1;
	put_one(new, "tcp-stream-1.img", bytes, sizeof bytes);
	struct images_delta_stats stats;
	struct epoch_reader *r = NULL;
	int blob = make_blob(prev, new, 2, &stats), opened = epoch_reader_open(blob, 1 << 20, &r, &e), wrong = 0;
	other[400] ^= 1; /* one bit, outside of the range that the patch has */
	put_one(prev, "tcp-stream-1.img", other, sizeof other);
	const struct epoch_section *section = opened == 0 ? epoch_reader_section(r, 0) : NULL;
	struct images_table *base = images_table_read(prev, NULL), *none = images_table_empty();
	for (int redo = 0; redo < 2 && section != NULL; redo++) {
		wrong |= images_table_next(base, section, redo, &e) != NULL;
		wrong |= images_table_next(none, section, redo, &absent) != NULL;
	}
	wrong |= section == NULL || images_apply(prev, section, 0, &applied) == 0;
	images_table_free(base);
	put_one(prev, "tcp-stream-1.img", other, 499);
	base = images_table_read(prev, NULL);
	wrong |= section == NULL || images_table_next(base, section, 0, &longer) != NULL;
	images_table_free(base);
	images_table_free(none);
	epoch_reader_close(r);
	close(blob);
	remove_directory(prev_path, prev);
	remove_directory(new_path, new);
	CHECK_EQ(stats.patched_files, 1);
	CHECK(!wrong);
	CHECK_STR(e.code, "base");
	CHECK_STR(absent.code, "base");
	CHECK_STR(longer.code, "base");
	CHECK_STR(applied.code, "corrupt");
}

TEST(an_older_version_is_named)
{
	char new_path[64];
	int new = directory(new_path);
	struct epoch_reader *r = NULL;
	struct epoch_error e = {0};
	put_one(new, "a.img", (const uint8_t *)"abc", 3);
	int blob = make_blob(-1, new, 1, NULL);
	uint8_t version[4];
	put_u32(version, EPOCH_VERSION - 1);
	int opened = pwrite(blob, version, 4, HEADER_VERSION) != 4 ? 0 : epoch_reader_open(blob, 1 << 20, &r, &e);
	close(blob);
	remove_directory(new_path, new);
	CHECK(opened != 0);
	CHECK_STR(e.code, "version");
}

/* Opens bytes as a blob and takes them as far as the table. 0 = accepted. */
static int accepted(const uint8_t *bytes, size_t size, const struct images_table *base)
{
	int fd = memfd_create("broken", MFD_CLOEXEC), result = 0;
	struct epoch_reader *r = NULL;
	struct epoch_error e;
	if (size > 0 && write(fd, bytes, size) != (ssize_t)size)
		abort();
	if (epoch_reader_open(fd, 1 << 22, &r, &e) == 0) {
		struct images_table *next = NULL;
		const struct epoch_section *s = epoch_reader_section(r, 0);
		if (s != NULL && s->kind == EPOCH_SECTION_IMAGES)
			next = images_table_next(base, s, 0, &e);
		result = next != NULL;
		images_table_free(next);
		epoch_reader_close(r);
	}
	close(fd);
	return result;
}

/* Sets every checksum right again, so that a mutation reaches what lies behind them. */
static void mend(uint8_t *bytes, size_t size)
{
	uint32_t chain = 0;
	size_t at = EPOCH_HEADER_BYTES;
	put_u32(bytes + HEADER_CRC, ft_crc32c(0, bytes, HEADER_CRC));
	if (size < at + EPOCH_SECTION_HEADER_BYTES + EPOCH_TRAILER_BYTES)
		return;
	uint8_t *section = bytes + at;
	put_u32(section + SECTION_CRC, ft_crc32c(0, section, SECTION_CRC));
	at += EPOCH_SECTION_HEADER_BYTES;
	while (at + EPOCH_RECORD_HEADER_BYTES + EPOCH_TRAILER_BYTES <= size) {
		uint8_t *record = bytes + at;
		uint32_t length = get_u32(record + RECORD_LENGTH);
		if (length > size - at - EPOCH_RECORD_HEADER_BYTES - EPOCH_TRAILER_BYTES)
			break;
		uint32_t crc = ft_crc32c(0, record, RECORD_CRC);
		put_u32(record + RECORD_CRC, ft_crc32c(crc, record + EPOCH_RECORD_HEADER_BYTES, length));
		chain = ft_crc32c(chain, record, EPOCH_RECORD_HEADER_BYTES);
		at += EPOCH_RECORD_HEADER_BYTES + length;
	}
	chain = ft_crc32c(chain, section, EPOCH_SECTION_HEADER_BYTES);
	put_u32(bytes + size - 4, ft_crc32c(chain, bytes, EPOCH_HEADER_BYTES));
}

TEST(broken_blobs_are_refused)
{
	char prev_path[64], new_path[64];
	int prev = directory(prev_path), new = directory(new_path);
	uint8_t content[30000];
	fill(content, sizeof content);
	put_one(prev, "a.img", content, 30000);
	put_one(prev, "b.img", content, 5000);
	for (int i = 0; i < 8; i++) {
		char name[32];
		snprintf(name, sizeof name, "tcp-stream-%x.img", 0xa7 + i * 5);
		put_one(prev, name, content + i * 80, 75);
		content[i * 80 + 20] ^= 1;
		content[i * 80 + 60 + i] ^= 255;
		put_one(new, name, content + i * 80, 75);
	}
	content[9000] ^= 1;
	put_one(new, "a.img", content, 30000);
	put_one(new, "c.img", content, 100);
	int blob = make_blob(prev, new, 2, NULL);
	struct images_table *base = images_table_read(prev, NULL);
	size_t size = (size_t)lseek(blob, 0, SEEK_END);
	uint8_t *bytes = malloc(size * 2), *copy = malloc(size * 2);
	int bad = pread(blob, bytes, size, 0) != (ssize_t)size || !accepted(bytes, size, base);
	for (size_t cut = 0; cut < size && !bad; cut++)
		bad |= accepted(bytes, cut, base);
	for (size_t bit = 0; bit < size * 8 && !bad; bit += 1 + below(3)) {
		memcpy(copy, bytes, size);
		copy[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		bad |= accepted(copy, size, base);
	}
	for (int round = 0; round < 2000 && !bad; round++) { /* ranges doubled, moved and cut out */
		size_t from = below(size), length = 1 + below(size - from), to = below(size - length + 1);
		memcpy(copy, bytes, size);
		memcpy(copy + to, bytes + from, length);
		bad |= memcmp(copy, bytes, size) != 0 && accepted(copy, size, base);
		memmove(copy + from, copy + from + length, size - from - length);
		bad |= accepted(copy, size - length, base);
	}
	/* Behind mended checksums anything may be accepted that gives the right images, but nothing may crash. */
	for (int round = 0; round < 20000; round++) {
		memcpy(copy, bytes, size);
		for (uint64_t n = 1 + below(3); n > 0; n--) {
			size_t at = below(2) ? EPOCH_HEADER_BYTES + below(200) : below(size);
			copy[at] = below(3) ? (uint8_t)below(256) : (uint8_t)(below(2) * 255);
		}
		mend(copy, size);
		accepted(copy, size, base);
	}
	free(bytes);
	free(copy);
	images_table_free(base);
	close(blob);
	remove_directory(prev_path, prev);
	remove_directory(new_path, new);
	CHECK(!bad);
}

int main(void)
{
	printf("seed %llu\n", (unsigned long long)seed);
	RUN(random_epochs_arrive_to_the_byte);
	RUN(pages_inserted_in_the_middle_are_not_all_shipped);
	RUN(another_base_is_refused);
	RUN(a_thousand_sockets_cost_little);
	RUN(a_patch_is_for_its_base_alone);
	RUN(an_older_version_is_named);
	RUN(broken_blobs_are_refused);
	return check_report();
}
