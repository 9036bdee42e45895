/*
 * Random trees, changed at random, through scan, blob, decoder and apply: equal to the byte each time. FTCTL_TEST_SEED gives
 * another seed, FTCTL_TEST_ROUNDS another length.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "epoch/reader.h"
#include "epoch/writer.h"
#include "files/apply.h"
#include "files/hash.h"
#include "files/scan.h"
#include "files/test/trees.h"
#include "test/check.h"

static int rounds = 120;
static int watched; /* the kernel tells what changed, and everything is audited */
static char base[64];

static const char *at(char *buffer, const char *name)
{
	snprintf(buffer, 256, "%s/%s", base, name);
	return buffer;
}

/* One primary and one standby. */
struct pair {
	struct files_index *index;
	struct tracked *tracked;
	int container_fd, store_fd;
	uint64_t chain, seq;
	struct files_scan_stats stats;
	uint64_t told, walked; /* frozen scans */
};

static int scan(struct pair *p, int frozen, int *blob)
{
	struct files_scan_options options = {.frozen = frozen};
	struct epoch_header h = {.pair = "0123456789ab", .generation = 1, .flags = EPOCH_FILES_ONLY};
	*blob = memfd_create("blob", MFD_CLOEXEC);
	struct epoch_writer *w = epoch_writer_open(*blob, 1ull << 30);
	int result = files_scan(p->index, w, &options, &p->stats);
	if (result == 0)
		result = files_verify(p->index);
	files_stamp(p->index, &h);
	if (result == 0)
		result = epoch_writer_finish(w, &h);
	if (result != 0)
		printf("  scan (%u roots told, %u walked: %s): %s: %s\n", p->stats.told, p->stats.walked, p->stats.why ? p->stats.why : "",
		       files_error(p->index), strerror(errno));
	p->told += p->stats.told;
	p->walked += p->stats.walked;
	epoch_writer_close(w);
	return result;
}

/* The first half of the operations, as if killed there; then all of them. */
static int apply_twice(struct pair *p, const struct files_section *section, struct epoch_error *e)
{
	struct files_section cut = *section;
	struct files_apply_stats stats = {0};
	struct epoch_record_view v;
	struct epoch_cursor c = section->ops;
	uint64_t records = 0;
	while (epoch_cursor_next(&c, &v))
		records++;
	struct tracked *tracked = section->kind == FILES_UPPER ? p->tracked : NULL;
	if (tracked_before(p->tracked, section, e) != 0)
		return -1;
	if (records > 1 && trees_below(2)) {
		c = section->ops;
		for (uint64_t n = trees_below(records); n > 0; n--)
			epoch_cursor_next(&c, &v);
		/* Not in the middle of an operation: that is for the sweep of the store. */
		while (epoch_cursor_next(&c, &v) && (v.type == FILES_DATA || v.type == FILES_HOLE || v.type == FILES_ATTR || v.type == FILES_KEEP))
			;
		cut.ops.end = c.at == section->ops.end ? c.at : v.payload - EPOCH_RECORD_HEADER_BYTES;
		cut.reset = 0;
		if (files_apply(p->container_fd, &cut, NULL, &stats, e) != 0)
			return -1;
	}
	return files_apply(p->container_fd, section, tracked, &stats, e);
}

static int ship(struct pair *p, int blob)
{
	struct epoch_reader *r = NULL;
	struct epoch_error e = {0};
	static struct files_section section;
	int result = epoch_reader_open(blob, 1ull << 30, &r, &e);
	const struct epoch_header *h = result == 0 ? epoch_reader_header(r) : NULL;
	if (result == 0 && !(h->files_seq == 1 || (h->files_chain == p->chain && h->files_seq == p->seq + 1)))
		result = epoch_fail(&e, "base", 0, "the chain of files is broken");
	if (result == 0)
		result = files_check(epoch_reader_section(r, 0), &section, &e);
	if (result == 0 && section.reset != (h->files_seq == 1))
		result = epoch_fail(&e, "corrupt", 0, "reset");
	if (result == 0)
		result = apply_twice(p, &section, &e);
	if (result == 0) {
		p->chain = h->files_chain;
		p->seq = h->files_seq;
	} else {
		printf("  ship: %s %s\n", e.code, e.detail);
	}
	epoch_reader_close(r);
	return result;
}

static int calm; /* no resets, no failed dumps */

static int one_epoch(struct pair *p, int frozen)
{
	int blob, result;
	if (!calm && trees_below(40) == 0)
		files_reset(p->index);
	if (!calm && trees_below(4) == 0) { /* a dump that failed */
		result = scan(p, frozen, &blob);
		close(blob);
		files_rollback(p->index);
		if (result != 0)
			return -1;
	}
	result = scan(p, frozen, &blob);
	if (result == 0)
		result = ship(p, blob);
	close(blob);
	if (result == 0)
		files_commit(p->index);
	return result;
}

static int open_pair(struct pair *p, enum files_kind kind, const char *primary, const char *container, const char *name,
                     uint64_t bytes_max)
{
	char where[256] = "", store[256];
	struct files_root root = {kind, primary, name};
	static const char *const exclude[] = {"/.ftctl"};
	struct files_limits limits = {.bytes_max = bytes_max};
	memset(p, 0, sizeof *p);
	mkdir(at(store, "store"), 0700);
	p->index = files_open(&root, 1, exclude, 1, &limits, where);
	if (p->index != NULL && watched) {
		if (files_watch(p->index, store) != 0)
			printf("  not watched: %s\n", strerror(errno));
		files_audit(p->index);
	}
	p->container_fd = open(container, O_RDONLY | O_DIRECTORY);
	p->store_fd = open(store, O_RDONLY | O_DIRECTORY);
	p->tracked = tracked_open(p->store_fd, "paths", NULL);
	return p->index && p->container_fd >= 0 && p->tracked ? 0 : -1;
}

static void close_pair(struct pair *p)
{
	files_close(p->index);
	tracked_close(p->tracked);
	close(p->container_fd);
	close(p->store_fd);
}

static void make_base(const char *where)
{
	snprintf(base, sizeof base, "%s/ft-files-XXXXXX", where);
	if (mkdtemp(base) == NULL)
		abort();
}

static int run_tree(const char *where)
{
	char primary[256], container[256], copy[256];
	struct pair p;
	int bad = 0;
	uint64_t renames = 0, captured = 0;
	make_base(where);
	mkdir(at(primary, "primary"), 0755);
	mkdir(at(container, "container"), 0755);
	mkdir(at(copy, "container/data"), 0755);
	trees_mutate(copy, 30, 0); /* what an earlier life left there */
	bad = open_pair(&p, FILES_TREE, primary, container, "/data", 0) != 0;
	for (int round = 0; round < rounds && !bad; round++) {
		trees_mutate(primary, (int)trees_below(60), 0);
		if (trees_below(4) == 0)
			bad |= one_epoch(&p, 0) != 0;
		bad |= bad || one_epoch(&p, 1) != 0 || !trees_equal(primary, copy) || !trees_equal(copy, primary);
		renames += p.stats.renames;
		captured += p.stats.captured_bytes;
		if (bad)
			printf("  round %d in %s\n", round, where);
	}
	printf("  %s: %d rounds, %llu renames, %llu bytes captured, %llu told, %llu walked\n", where, rounds,
	       (unsigned long long)renames, (unsigned long long)captured, (unsigned long long)p.told, (unsigned long long)p.walked);
	close_pair(&p);
	trees_remove(base);
	return !bad && renames > 0 && (p.told > 0) == watched;
}

TEST(random_trees_on_a_disk)
{
	CHECK(run_tree("/var/tmp"));
}

TEST(random_trees_on_tmpfs)
{
	CHECK(run_tree("/dev/shm"));
}

static int mount_overlay(const char *who)
{
	char upper[300], work[300], merged[300], options[1000];
	snprintf(upper, sizeof upper, "%s/%s-upper", base, who);
	snprintf(work, sizeof work, "%s/%s-work", base, who);
	snprintf(merged, sizeof merged, "%s/%s", base, who);
	mkdir(upper, 0755);
	mkdir(work, 0755);
	mkdir(merged, 0755);
	snprintf(options, sizeof options, "lowerdir=%s/lower,upperdir=%s,workdir=%s,redirect_dir=off,metacopy=off,index=off", base,
	         upper, work);
	return mount("overlay", merged, "overlay", 0, options);
}

static void unmount(const char *who)
{
	char merged[300];
	snprintf(merged, sizeof merged, "%s/%s", base, who);
	umount2(merged, MNT_DETACH);
}

/* Two overlays over one lower tree, as two containers of one image: what is compared is what the application sees. */
static int run_overlay(const char *where)
{
	char lower[256], upper[256], primary[256], standby[256];
	struct pair p;
	int bad = 0;
	make_base(where);
	mkdir(at(lower, "lower"), 0755);
	trees_mutate(lower, 200, 0);
	if (mount_overlay("primary") != 0 || mount_overlay("standby") != 0) {
		printf("  no overlay on %s: %s\n", where, strerror(errno));
		bad = 1;
	}
	bad |= open_pair(&p, FILES_UPPER, at(upper, "primary-upper"), at(standby, "standby"), "/", 0) != 0;
	at(primary, "primary");
	for (int round = 0; round < rounds && !bad; round++) {
		trees_mutate(primary, (int)trees_below(60), 1);
		if (trees_below(4) == 0)
			bad |= one_epoch(&p, 0) != 0;
		bad |= bad || one_epoch(&p, 1) != 0 || !trees_equal(primary, standby) || !trees_equal(standby, primary);
		if (trees_below(20) == 0) { /* the store starts anew */
			tracked_close(p.tracked);
			p.tracked = tracked_open(p.store_fd, "paths", NULL);
		}
		if (bad)
			printf("  overlay, round %d\n", round);
	}
	printf("  %s: %d rounds of an overlay, %llu told, %llu walked\n", where, rounds, (unsigned long long)p.told,
	       (unsigned long long)p.walked);
	close_pair(&p);
	unmount("primary");
	unmount("standby");
	trees_remove(base);
	return !bad && (p.told > 0) == watched;
}

TEST(random_writable_layers)
{
	CHECK(run_overlay("/dev/shm"));
	CHECK(run_overlay("/var/tmp"));
}

static void put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		abort();
	close(fd);
}

/* A socket is not carried; what the image has under its name must not be there all the same: an application could not bind again. */
TEST(a_socket_hides_what_the_image_has)
{
	char lower[256], upper[256], standby[256], path[300];
	struct pair p;
	make_base("/dev/shm");
	mkdir(at(lower, "lower"), 0755);
	snprintf(path, sizeof path, "%s/control", lower);
	put_file(path, "of the image");
	CHECK(mount_overlay("primary") == 0 && mount_overlay("standby") == 0);
	CHECK_EQ(open_pair(&p, FILES_UPPER, at(upper, "primary-upper"), at(standby, "standby"), "/", 0), 0);
	snprintf(path, sizeof path, "%s/primary/control", base);
	CHECK(unlink(path) == 0 && mknod(path, S_IFSOCK | 0600, 0) == 0);
	CHECK_EQ(one_epoch(&p, 1), 0);
	snprintf(path, sizeof path, "%s/control", standby);
	CHECK(access(path, F_OK) != 0);
	/* And something else in its place is there again. */
	snprintf(path, sizeof path, "%s/primary/control", base);
	CHECK_EQ(unlink(path), 0);
	put_file(path, "written");
	CHECK_EQ(one_epoch(&p, 1), 0);
	snprintf(path, sizeof path, "%s/control", standby);
	CHECK_EQ(access(path, F_OK), 0);
	close_pair(&p);
	unmount("primary");
	unmount("standby");
	trees_remove(base);
}

static int simple_pair(struct pair *p, char *primary, char *copy, uint64_t bytes_max)
{
	char container[256];
	make_base("/var/tmp");
	mkdir(at(primary, "primary"), 0755);
	mkdir(at(container, "container"), 0755);
	mkdir(at(copy, "container/data"), 0755);
	return open_pair(p, FILES_TREE, primary, container, "/data", bytes_max);
}

/* A presync may stop at its budget; what it left comes with the next ones. */
TEST(presync_in_parts)
{
	char primary[256], copy[256];
	struct pair p;
	int bad = simple_pair(&p, primary, copy, 20000), parts = 0;
	calm = 1;
	trees_mutate(primary, 300, 0);
	char large[300];
	static char content[200001];
	memset(content, 'x', 200000);
	for (int i = 0; i < 200000; i += 1000)
		memcpy(content + i, (char[]){(char)('a' + i / 1000 % 26), (char)('a' + i / 26000)}, 2);
	snprintf(large, sizeof large, "%s/large", primary);
	put_file(large, content);
	do
		bad |= one_epoch(&p, 0) != 0;
	while (!bad && p.stats.more && ++parts < 200);
	bad |= bad || one_epoch(&p, 1) != 0 || !trees_equal(primary, copy);
	calm = 0;
	close_pair(&p);
	trees_remove(base);
	CHECK(!bad);
	CHECK(parts > 8);
}

/* The same size, written within the tick of the clock that stamps files: only the rule for racy times can see it. */
TEST(changes_within_one_tick_are_seen)
{
	char primary[256], copy[256], file[300], text[32];
	struct pair p;
	int bad = simple_pair(&p, primary, copy, 0);
	snprintf(file, sizeof file, "%s/f", primary);
	for (int i = 0; i < 400 && !bad; i++) {
		snprintf(text, sizeof text, "%08d", i);
		put_file(file, text);
		bad |= one_epoch(&p, 1) != 0 || !trees_equal(primary, copy);
	}
	close_pair(&p);
	trees_remove(base);
	CHECK(!bad);
}

/* What grows is captured by its end alone; a change further up at the same time must be found out, not lost. */
TEST(appended_files_and_the_lie)
{
	enum { SIZE = 3 << 20 };
	char primary[256], copy[256], file[300];
	struct pair p;
	int bad = simple_pair(&p, primary, copy, 0), blob;
	char *bytes = calloc(1, SIZE);
	memset(bytes, 'x', SIZE - 1);
	snprintf(file, sizeof file, "%s/log", primary);
	put_file(file, bytes);
	bad |= one_epoch(&p, 1) != 0;
	int fd = open(file, O_WRONLY);
	bad |= pwrite(fd, "appended", 8, SIZE - 1) != 8 || scan(&p, 1, &blob) != 0;
	uint64_t read_frozen = p.stats.hashed_bytes, captured = p.stats.captured_bytes;
	bad |= ship(&p, blob) != 0 || !trees_equal(primary, copy);
	close(blob);
	files_commit(p.index);
	/* Now it grows and changes at its beginning. */
	bad |= pwrite(fd, "y", 1, 100) != 1 || pwrite(fd, "more", 4, SIZE + 7) != 4;
	close(fd);
	struct files_scan_options options = {.frozen = 1};
	blob = memfd_create("blob", MFD_CLOEXEC);
	struct epoch_writer *w = epoch_writer_open(blob, 1ull << 30);
	int scanned = files_scan(p.index, w, &options, NULL), verified = files_verify(p.index), error = errno;
	epoch_writer_close(w);
	close(blob);
	files_rollback(p.index);
	bad |= bad || one_epoch(&p, 1) != 0 || !trees_equal(primary, copy);
	free(bytes);
	close_pair(&p);
	trees_remove(base);
	CHECK(!bad);
	CHECK_EQ(captured, 8);
	CHECK(read_frozen < 200000);
	CHECK_EQ(scanned, 0);
	CHECK_EQ(verified, -1);
	CHECK_EQ(error, EAGAIN);
}

/* A link inside the container that points out of it must not lead an operation there. */
TEST(links_lead_nowhere)
{
	char primary[256], copy[256], path[300], outside[256];
	struct pair p;
	struct stat st;
	int bad = simple_pair(&p, primary, copy, 0);
	mkdir(at(outside, "outside"), 0755);
	snprintf(path, sizeof path, "%s/d", primary);
	mkdir(path, 0755);
	bad |= one_epoch(&p, 1) != 0;
	snprintf(path, sizeof path, "%s/d/f", primary);
	put_file(path, "secret");
	/* Someone in the standby container turns the directory into a link. */
	snprintf(path, sizeof path, "%s/d", copy);
	bad |= rmdir(path) != 0 || symlink(outside, path) != 0;
	int blob, result = scan(&p, 1, &blob);
	bad |= result != 0;
	result = ship(&p, blob);
	close(blob);
	files_rollback(p.index);
	snprintf(path, sizeof path, "%s/outside/f", base);
	int leaked = lstat(path, &st) == 0;
	close_pair(&p);
	trees_remove(base);
	CHECK(!bad);
	CHECK(!leaked);
	CHECK_EQ(result, -1);
}

/* Docker mounts files of its own over some of the container's, and directories over others. */
TEST(what_is_behind_a_mount_is_left_alone)
{
	char primary[256], copy[256], path[300], other[300], text[8] = "";
	struct pair p;
	int bad = simple_pair(&p, primary, copy, 0);
	snprintf(path, sizeof path, "%s/hosts", copy);
	snprintf(other, sizeof other, "%s/mounted", base);
	put_file(path, "");
	put_file(other, "docker");
	bad |= mount(other, path, NULL, MS_BIND, NULL) != 0;
	snprintf(path, sizeof path, "%s/shm", copy);
	mkdir(path, 0755);
	bad |= mount("tmpfs", path, "tmpfs", 0, "size=1m") != 0;
	snprintf(other, sizeof other, "%s/shm", primary);
	mkdir(other, 0700);
	snprintf(other, sizeof other, "%s/shm/f", primary);
	put_file(other, "upper");
	snprintf(other, sizeof other, "%s/hosts", primary);
	put_file(other, "upper");
	snprintf(other, sizeof other, "%s/seen", primary);
	put_file(other, "upper");
	bad |= one_epoch(&p, 1) != 0;
	put_file(other, "again");
	snprintf(other, sizeof other, "%s/hosts", primary);
	put_file(other, "again");
	bad |= one_epoch(&p, 1) != 0;
	snprintf(path, sizeof path, "%s/hosts", copy);
	int fd = open(path, O_RDONLY);
	bad |= read(fd, text, 6) != 6 || strcmp(text, "docker") != 0;
	close(fd);
	snprintf(path, sizeof path, "%s/seen", copy);
	fd = open(path, O_RDONLY);
	bad |= read(fd, text, 6) != 5 || memcmp(text, "again", 5) != 0;
	close(fd);
	snprintf(path, sizeof path, "%s/shm/f", copy);
	bad |= access(path, F_OK) == 0;
	snprintf(path, sizeof path, "%s/hosts", copy);
	umount2(path, MNT_DETACH);
	snprintf(path, sizeof path, "%s/shm", copy);
	umount2(path, MNT_DETACH);
	close_pair(&p);
	trees_remove(base);
	CHECK(!bad);
}

TEST(an_unchanged_tree_reads_no_content)
{
	char primary[256], copy[256];
	struct pair p;
	struct timespec tick = {.tv_nsec = 50000000};
	int bad = simple_pair(&p, primary, copy, 0);
	calm = 1;
	trees_mutate(primary, 300, 0);
	bad |= one_epoch(&p, 1) != 0;
	nanosleep(&tick, NULL); /* out of the clock's tick */
	bad |= one_epoch(&p, 1) != 0;
	bad |= one_epoch(&p, 1) != 0;
	calm = 0;
	close_pair(&p);
	trees_remove(base);
	CHECK(!bad);
	CHECK_EQ(p.stats.hashed_bytes, 0);
	CHECK_EQ(p.stats.changed, 0);
}

TEST(hashes_tell_blocks_apart)
{
	static struct hash_key key;
	uint8_t block[4096];
	CHECK_EQ(hash_key_make(&key), 0);
	memset(block, 0, sizeof block);
	struct block_hash zero = hash_block(&key, block, sizeof block);
	for (size_t bit = 0; bit < sizeof block * 8; bit += 7) {
		block[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		struct block_hash h = hash_block(&key, block, sizeof block);
		CHECK(h.low != zero.low && h.high != zero.high);
		block[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	CHECK(hash_equal(hash_block(&key, block, sizeof block), zero));
}

/* Sets every checksum of a blob with one section right again, so that a mutation reaches what lies behind them. */
static void mend(uint8_t *bytes, size_t size)
{
	uint32_t chain = 0;
	size_t at = EPOCH_HEADER_BYTES + EPOCH_SECTION_HEADER_BYTES;
	uint8_t *section = bytes + EPOCH_HEADER_BYTES;
	put_u32(bytes + HEADER_CRC, ft_crc32c(0, bytes, HEADER_CRC));
	put_u32(section + SECTION_CRC, ft_crc32c(0, section, SECTION_CRC));
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

/* 1 if it got as far as being applied. */
static int take_hostile(struct pair *p, const uint8_t *bytes, size_t size)
{
	static struct files_section section;
	struct files_apply_stats stats = {0};
	struct epoch_reader *r = NULL;
	struct epoch_error e;
	const struct epoch_section *s;
	int fd = memfd_create("hostile", MFD_CLOEXEC), applied = 0;
	if (write(fd, bytes, size) != (ssize_t)size)
		abort();
	if (epoch_reader_open(fd, 1 << 24, &r, &e) == 0 && (s = epoch_reader_section(r, 0)) != NULL &&
	    s->kind == EPOCH_SECTION_FILES && files_check(s, &section, &e) == 0 && strcmp(section.name, "/data") == 0) {
		applied = 1;
		(void)files_apply(p->container_fd, &section, NULL, &stats, &e); /* may fail; must not lead outside */
	}
	epoch_reader_close(r);
	close(fd);
	return applied;
}

/* Blobs of someone who can compute checksums: refused or applied inside the root, and nowhere else. */
TEST(hostile_operations_stay_inside)
{
	char primary[256], copy[256], outside[256], before[256];
	struct pair p;
	int bad = simple_pair(&p, primary, copy, 0), blob, applied = 0;
	mkdir(at(outside, "outside"), 0755);
	trees_mutate(outside, 40, 0);
	at(before, "before");
	char command[2200];
	snprintf(command, sizeof command, "cp -a %s %s && ln -s %s %s/out && ln -s .. %s/up && cp -a %s/out %s/up %s", outside, before,
	         outside, primary, primary, primary, primary, copy);
	bad |= system(command) != 0;
	trees_mutate(primary, 60, 0);
	bad |= bad || scan(&p, 1, &blob) != 0;
	size_t size = bad ? 0 : (size_t)lseek(blob, 0, SEEK_END);
	uint8_t *bytes = malloc(size + 1), *copied = malloc(size + 1);
	bad |= bad || pread(blob, bytes, size, 0) != (ssize_t)size || !take_hostile(&p, bytes, size);
	for (int round = 0; round < 4000 && !bad; round++) {
		memcpy(copied, bytes, size);
		for (uint64_t n = 1 + trees_below(4); n > 0; n--) {
			size_t to = EPOCH_HEADER_BYTES + EPOCH_SECTION_HEADER_BYTES + trees_below(size - 200);
			static const char bits[] = "../../outside/out/up/\0\377a";
			size_t from = trees_below(sizeof bits - 4), length = 1 + trees_below(4);
			if (trees_below(2))
				memcpy(copied + to, bits + from, length);
			else
				copied[to] = (uint8_t)trees_below(256);
		}
		mend(copied, size);
		applied += take_hostile(&p, copied, size);
	}
	free(bytes);
	free(copied);
	close(blob);
	bad |= !trees_equal(before, outside) || !trees_equal(outside, before);
	files_rollback(p.index);
	close_pair(&p);
	trees_remove(base);
	printf("  %d of 4000 were well-formed enough to be applied\n", applied);
	CHECK(!bad);
	CHECK(applied > 50);
}

/* Written by hand: each of these paths must be refused. */
TEST(paths_that_lead_out_are_refused)
{
	static const char *const paths[] = {"../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a/.", "a/", "..", ""};
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		static struct files_section section;
		struct epoch_header h = {.pair = "0123456789ab", .generation = 1, .flags = EPOCH_FILES_ONLY, .files_chain = 1, .files_seq = 2};
		struct epoch_reader *r = NULL;
		struct epoch_error e = {.code = ""};
		int fd = memfd_create("blob", MFD_CLOEXEC);
		struct epoch_writer *w = epoch_writer_open(fd, 1 << 20);
		epoch_section_begin(w, EPOCH_SECTION_FILES);
		epoch_record(w, FILES_ROOT, "\2/data", 6, NULL, 0);
		epoch_record(w, FILES_REMOVE, paths[i], strlen(paths[i]), NULL, 0);
		epoch_section_end(w);
		int written = epoch_writer_finish(w, &h), opened = epoch_reader_open(fd, 1 << 20, &r, &e);
		int checked = opened == 0 ? files_check(epoch_reader_section(r, 0), &section, &e) : 0;
		epoch_writer_close(w);
		epoch_reader_close(r);
		close(fd);
		CHECK_EQ(written, 0);
		CHECK_EQ(opened, 0);
		CHECK_EQ(checked, -1);
		CHECK_STR(e.code, "corrupt");
	}
}

int main(void)
{
	const char *seed = getenv("FTCTL_TEST_SEED"), *length = getenv("FTCTL_TEST_ROUNDS");
	trees_seed = seed ? strtoull(seed, NULL, 10) : 20240612;
	rounds = length ? atoi(length) : rounds;
	printf("seed %llu\n", (unsigned long long)trees_seed);
	trees_seed = (trees_seed + 1) * 0x9e3779b97f4a7c15ull; /* small seeds would begin poorly */
	umask(0);
	if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
		printf("needs root: owners, devices and overlays are part of what is tested\n");
		return 1;
	}
	RUN(hashes_tell_blocks_apart);
	RUN(changes_within_one_tick_are_seen);
	RUN(an_unchanged_tree_reads_no_content);
	RUN(appended_files_and_the_lie);
	RUN(presync_in_parts);
	RUN(paths_that_lead_out_are_refused);
	RUN(hostile_operations_stay_inside);
	RUN(links_lead_nowhere);
	RUN(what_is_behind_a_mount_is_left_alone);
	RUN(random_trees_on_a_disk);
	RUN(random_trees_on_tmpfs);
	RUN(random_writable_layers);
	RUN(a_socket_hides_what_the_image_has);
	watched = 1;
	RUN(changes_within_one_tick_are_seen);
	RUN(an_unchanged_tree_reads_no_content);
	RUN(presync_in_parts);
	RUN(random_trees_on_a_disk);
	RUN(random_trees_on_tmpfs);
	RUN(random_writable_layers);
	return check_report();
}
