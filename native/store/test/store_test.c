/*
 * The store, driven as ftstore drives it, killed at every fault point and at random instants, starved of room and fed with
 * broken blobs. What is committed is compared with copies of what the primary had at each epoch.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "epoch/writer.h"
#include "fault/fault.h"
#include "files/scan.h"
#include "files/test/trees.h"
#include "images/delta.h"
#include "pages/files.h"
#include "pages/test/memory.h"
#include "store/store.h"
#include "test/check.h"

#define PAIR "0123456789ab"

static char base[64];

/* A primary that makes blobs, and a process that stands for the standby's container. */
struct world {
	struct files_index *index;
	uint64_t epoch, acked, generation;
	pid_t container;
	struct memory memory;
	struct pages_table *pages; /* of the last blob */
	struct hash_key key;
	char primary[128], images[128], prev[128], store[128], copy[128], roots[128];
};

static void run(const char *format, const char *a, const char *b)
{
	char command[600];
	snprintf(command, sizeof command, format, a, b);
	if (system(command) != 0)
		abort();
}

static pid_t start_container(const char *root)
{
	int ready[2];
	char byte;
	if (pipe(ready) != 0)
		abort();
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (chroot(root) != 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		abort();
	close(ready[0]);
	return pid;
}

static void end_container(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void put(const char *path, const void *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, bytes, size) != (ssize_t)size)
		abort();
	close(fd);
}

static void open_primary(struct world *w)
{
	struct files_root root = {FILES_TREE, w->primary, "/data"};
	files_close(w->index);
	w->index = files_open(&root, 1, NULL, 0, NULL, NULL);
	if (w->index == NULL)
		abort();
}

static void world_make(struct world *w)
{
	char path[200];
	memset(w, 0, sizeof *w);
	strcpy(base, "/dev/shm/ft-store-XXXXXX");
	if (mkdtemp(base) == NULL)
		abort();
	snprintf(w->primary, sizeof w->primary, "%s/primary", base);
	snprintf(w->images, sizeof w->images, "%s/images", base);
	snprintf(w->prev, sizeof w->prev, "%s/prev", base);
	snprintf(w->store, sizeof w->store, "%s/store", base);
	snprintf(w->copy, sizeof w->copy, "%s/container/data", base);
	snprintf(w->roots, sizeof w->roots, "%s/roots", base);
	snprintf(path, sizeof path, "%s/container", base);
	mkdir(w->primary, 0755);
	mkdir(w->images, 0700);
	mkdir(w->prev, 0700);
	mkdir(path, 0755);
	mkdir(w->copy, 0755);
	snprintf(path, sizeof path, "%s/history", base);
	mkdir(path, 0700);
	put(w->roots, "tree - /data\n", 13);
	w->generation = 1;
	if (hash_key_make(&w->key) != 0)
		abort();
	snprintf(path, sizeof path, "%s/container", base);
	w->container = start_container(path);
	open_primary(w);
}

static void world_end(struct world *w)
{
	files_close(w->index);
	pages_table_free(w->pages);
	end_container(w->container);
	trees_remove(base);
}

static void change_images(struct world *w)
{
	static uint8_t pages[200000];
	static size_t size = 100000;
	char path[200];
	if (trees_below(5) == 0)
		size = 4096 * (1 + trees_below(45));
	if (trees_below(3) == 0 && size > 20 * 4096)
		memmove(pages + 8192, pages, size - 8192); /* pages inserted in front */
	for (int i = 0; i < 20; i++)
		pages[trees_below(size)] = (uint8_t)trees_below(256);
	snprintf(path, sizeof path, "%s/pages-1.img", w->images);
	put(path, pages, size);
	snprintf(path, sizeof path, "%s/core-%llu.img", w->images, (unsigned long long)trees_below(3));
	if (trees_below(4) == 0)
		unlink(path);
	else
		put(path, pages, trees_below(3000));
}

static const uint8_t *extra_image; /* of so many bytes, put among the next images */
static size_t extra_bytes;

/* Changes everything and makes the next blob; its state is kept in history/N. */
static void make_blob(struct world *w, int full, char path[200])
{
	struct files_scan_options options = {.frozen = 1};
	struct epoch_header h = {.pair = PAIR, .generation = w->generation, .epoch = w->epoch + 1};
	trees_mutate(w->primary, 20, 0);
	trees_remove(w->prev);
	run("cp -a %s %s", w->images, w->prev);
	change_images(w);
	if (extra_image != NULL) {
		snprintf(path, 200, "%s/pages-9.img", w->images);
		put(path, extra_image, extra_bytes);
		extra_image = NULL;
	}
	h.flags = full ? EPOCH_FULL : 0;
	h.base_epoch = full ? 0 : w->epoch;
	snprintf(path, 200, "%s/blob", base);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600), new = open(w->images, O_RDONLY | O_DIRECTORY),
	    prev = full ? -1 : open(w->prev, O_RDONLY | O_DIRECTORY);
	struct epoch_writer *writer = epoch_writer_open(fd, 1 << 30);
	if (files_scan(w->index, writer, &options, NULL) != 0 || files_verify(w->index) != 0)
		abort();
	memory_mutate(&w->memory, trees_below);
	struct pages_table *pages = memory_collect(&w->memory, new, full ? NULL : w->pages, &w->key, writer, trees_below);
	pages_table_free(w->pages);
	w->pages = pages;
	if (images_delta(prev, new, writer, NULL) != 0)
		abort();
	files_stamp(w->index, &h);
	if (epoch_writer_finish(writer, &h) != 0)
		abort();
	epoch_writer_close(writer);
	files_commit(w->index);
	close(fd);
	close(new);
	if (prev >= 0)
		close(prev);
	w->epoch++;
	char number[200];
	snprintf(number, sizeof number, "%s/history/%llu", base, (unsigned long long)w->epoch);
	mkdir(number, 0700);
	run("cp -a %s %s", w->primary, number);
	run("cp -a %s %s", w->images, number);
	strcat(number, "/memory");
	mkdir(number, 0700);
	int memory = open(number, O_RDONLY | O_DIRECTORY);
	memory_write(&w->memory, memory);
	close(memory);
}

static uint64_t lazy; /* nothing is */

/* The memory in the store, composed, is that of the epoch. */
static int memory_is_at(struct world *w, uint64_t epoch)
{
	char path[200], command[500];
	struct epoch_error e = {.code = ""};
	snprintf(path, sizeof path, "%s/composed", base);
	trees_remove(path);
	mkdir(path, 0700);
	int to = open(path, O_RDONLY | O_DIRECTORY);
	snprintf(path, sizeof path, "%s/pages", w->store);
	int from = open(path, O_RDONLY | O_DIRECTORY);
	struct pages_table *table = pages_read(from, true, &e);
	int same = table != NULL && pages_compose(from, table, to, UINT64_MAX, &lazy, &e) == 0;
	pages_table_free(table);
	close(from);
	close(to);
	snprintf(command, sizeof command, "diff -r %s/composed %s/history/%llu/memory", base, base, (unsigned long long)epoch);
	same = same && system(command) == 0;
	if (!same)
		printf("  the memory is not that of epoch %llu: %s %s\n", (unsigned long long)epoch, e.code, e.detail);
	return same;
}

static struct store *open_store(struct world *w, struct epoch_error *e)
{
	struct store_options options = {.dir = w->store, .pair = PAIR, .roots = w->roots, .root_pid = (uint64_t)w->container,
	                                .blob_bytes_max = 1 << 30, .journal_bytes_max = 1 << 30};
	struct store *s = store_open(&options, e);
	if (s == NULL)
		printf("  the store does not open: %s %s\n", e->code, e->detail);
	return s;
}

/* What is applied is what the primary had at that epoch. */
static int is_at(struct world *w, struct store *s, uint64_t epoch)
{
	char want[200], have[200];
	struct epoch_error e = {.code = ""};
	if (applier_finish(s, 20000) != 0 || s->trouble.code[0] != 0) {
		printf("  not applied: %s %s\n", s->trouble.code, s->trouble.detail);
		return 0;
	}
	if (epoch == 0)
		return 1;
	snprintf(want, sizeof want, "%s/history/%llu/primary", base, (unsigned long long)epoch);
	if (!trees_equal(want, w->copy) || !trees_equal(w->copy, want))
		return 0;
	snprintf(want, sizeof want, "%s/history/%llu/images", base, (unsigned long long)epoch);
	/* By content alone: owner and times of an image do not matter. */
	struct images_table *a = NULL, *b = NULL;
	int fd = open(want, O_RDONLY | O_DIRECTORY);
	a = images_table_read(fd, &e);
	close(fd);
	snprintf(have, sizeof have, "%s/images", w->store);
	fd = open(have, O_RDONLY | O_DIRECTORY);
	b = images_table_read(fd, &e);
	close(fd);
	int same = a && b && a->count == b->count && a->bytes == b->bytes;
	for (size_t i = 0; same && i < a->count; i++)
		same = strcmp(a->entry[i].name, b->entry[i].name) == 0 && a->entry[i].size == b->entry[i].size &&
		       memcmp(a->entry[i].crc, b->entry[i].crc, a->entry[i].blocks * 4) == 0;
	images_table_free(a);
	images_table_free(b);
	if (!same)
		printf("  the images are not those of epoch %llu\n", (unsigned long long)epoch);
	return same && memory_is_at(w, epoch);
}

static int commit(struct store *s, uint64_t epoch, const char *path, struct epoch_error *e)
{
	struct commit_result result;
	memset(e, 0, sizeof *e);
	return store_commit(s, epoch, path, &result, e);
}

/* A process that commits a blob and may die of the fault, or of a SIGKILL after so many microseconds. 1: it said "ok". */
static int commit_and_die(struct world *w, const char *fault, uint64_t epoch, const char *path, long kill_us)
{
	int said[2];
	char byte = 0;
	if (pipe(said) != 0)
		abort();
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		struct epoch_error e = {.code = ""};
		ft_fault_load(fault);
		if (freopen("/dev/null", "w", stderr) == NULL)
			_exit(1);
		struct store *s = open_store(w, &e);
		if (s != NULL && commit(s, epoch, path, &e) == 0 && write(said[1], "x", 1) != 1)
			_exit(1);
		if (s != NULL)
			applier_finish(s, 5000);
		_exit(0);
	}
	close(said[1]);
	if (kill_us >= 0) {
		struct timespec wait = {.tv_nsec = kill_us * 1000};
		nanosleep(&wait, NULL);
		kill(pid, SIGKILL);
	}
	int ok = read(said[0], &byte, 1) == 1;
	close(said[0]);
	waitpid(pid, NULL, 0);
	return ok;
}

/* After a kill: the old epoch or the new one, whole; the new one if it was acknowledged. Then on to the new one. */
static int recovers(struct world *w, const char *path, int acknowledged, int *at_new)
{
	struct epoch_error e = {.code = ""};
	struct store *s = open_store(w, &e);
	if (s == NULL)
		return 0;
	uint64_t epoch = s->committed.epoch;
	int good = (epoch == w->epoch || (epoch == w->epoch - 1 && !acknowledged)) && is_at(w, s, epoch);
	*at_new += epoch == w->epoch;
	if (good && epoch != w->epoch && commit(s, w->epoch, path, &e) != 0) {
		printf("  the same blob again: %s %s\n", e.code, e.detail);
		good = 0;
	}
	good = good && is_at(w, s, w->epoch);
	if (!good)
		printf("  epoch %llu of %llu, acknowledged %d\n", (unsigned long long)epoch, (unsigned long long)w->epoch, acknowledged);
	store_close(s);
	return good;
}

static struct world w;

TEST(killed_at_every_fault_point)
{
	static const char *const faults[] = {"store.verify:crash",  "store.commit:crash",  "store.commit:crash:1",
	                                     "store.apply:crash",   "store.apply:crash:1", "store.apply:crash:2",
	                                     "store.verify:error",  "store.commit:error",  "store.apply:error",
	                                     "store.apply:error:1", "store.apply:error:2"};
	char path[200];
	int good = 1, at_new = 0, rounds = 0;
	world_make(&w);
	for (int round = 0; good && round < 4; round++)
		for (size_t i = 0; good && i < sizeof faults / sizeof *faults; i++, rounds++) {
			if (round % 2)
				files_reset(w.index);
			make_blob(&w, w.epoch == 0 || round % 2, path);
			int ok = commit_and_die(&w, faults[i], w.epoch, path, -1);
			good = recovers(&w, path, ok, &at_new);
			if (!good)
				printf("  %s, round %d\n", faults[i], round);
		}
	world_end(&w);
	printf("  %d kills, %d times the new epoch was there\n", rounds, at_new);
	CHECK(good);
	CHECK(at_new > 0 && at_new < rounds);
}

TEST(killed_at_random_instants)
{
	char path[200];
	int good = 1, at_new = 0, rounds = 120;
	world_make(&w);
	for (int round = 0; good && round < rounds; round++) {
		int full = w.epoch == 0 || trees_below(6) == 0;
		if (full)
			files_reset(w.index);
		make_blob(&w, full, path);
		int ok = commit_and_die(&w, "", w.epoch, path, (long)trees_below(9000));
		good = recovers(&w, path, ok, &at_new);
	}
	world_end(&w);
	printf("  %d kills, %d times the new epoch was there\n", rounds, at_new);
	CHECK(good);
}

static uint8_t *read_all(const char *path, size_t *size)
{
	struct stat st;
	int fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) != 0)
		abort();
	uint8_t *bytes = malloc((size_t)st.st_size + 1);
	if (read(fd, bytes, (size_t)st.st_size) != st.st_size)
		abort();
	close(fd);
	*size = (size_t)st.st_size;
	return bytes;
}

/* Every refusal leaves the epoch before it, and the good blob is still taken afterwards. */
TEST(broken_blobs_change_nothing)
{
	char path[200], broken[200];
	struct epoch_error e = {.code = ""};
	world_make(&w);
	struct store *s = open_store(&w, &e);
	make_blob(&w, 1, path);
	int good = commit(s, 1, path, &e) == 0 && is_at(&w, s, 1);
	make_blob(&w, 0, path);
	snprintf(broken, sizeof broken, "%s/broken", base);
	size_t size;
	uint8_t *bytes = read_all(path, &size);
	for (size_t cut = 0; good && cut < size; cut += 1 + trees_below(size / 300)) {
		put(broken, bytes, cut);
		good = commit(s, 2, broken, &e) != 0 && strcmp(e.code, "corrupt") == 0 && s->committed.epoch == 1;
	}
	for (int i = 0; good && i < 600; i++) {
		size_t at = i < 300 ? trees_below(400) % size : trees_below(size);
		bytes[at] ^= (uint8_t)(1u << trees_below(8));
		uint8_t was = bytes[at];
		put(broken, bytes, size);
		/* The version's own field says "version". */
		good = commit(s, 2, broken, &e) != 0 && s->committed.epoch == 1 && access(broken, F_OK) == 0;
		bytes[at] = was;
		free(bytes);
		bytes = read_all(path, &size);
	}
	good = good && is_at(&w, s, 1) && commit(s, 2, path, &e) == 0 && is_at(&w, s, 2);
	free(bytes);
	store_close(s);
	world_end(&w);
	CHECK(good);
}

static int refused(struct store *s, uint64_t epoch, const char *path, const char *code)
{
	struct epoch_error e;
	int result = commit(s, epoch, path, &e);
	if (result == 0 || strcmp(e.code, code) != 0)
		printf("  epoch %llu: %s %s, not %s\n", (unsigned long long)epoch, e.code, e.detail, code);
	return result != 0 && strcmp(e.code, code) == 0;
}

TEST(chains_are_kept)
{
	char path[200], kept[200];
	struct epoch_error e = {.code = ""};
	world_make(&w);
	struct store *s = open_store(&w, &e);
	snprintf(kept, sizeof kept, "%s/kept", base);
	make_blob(&w, 1, path);
	run("cp %s %s", path, kept);
	int good = refused(s, 7, path, "order") && commit(s, 1, path, &e) == 0;
	good = good && refused(s, 1, kept, "order");
	make_blob(&w, 0, path); /* 2, which is lost */
	make_blob(&w, 0, path); /* 3 */
	good = good && refused(s, 3, path, "base");
	make_blob(&w, 1, path); /* 4: full images, but files of a chain with a gap */
	good = good && refused(s, 4, path, "base");
	files_reset(w.index);
	w.generation = 2;
	make_blob(&w, 1, path);
	good = good && commit(s, 5, path, &e) == 0 && is_at(&w, s, 5);
	files_reset(w.index);
	w.generation = 1;
	make_blob(&w, 1, path);
	good = good && refused(s, 6, path, "generation");
	store_close(s);
	world_end(&w);
	CHECK(good);
}

static int presync(struct world *world, char path[200])
{
	struct files_scan_options options = {.frozen = 0};
	struct epoch_header h = {.pair = PAIR, .generation = world->generation, .flags = EPOCH_FILES_ONLY};
	snprintf(path, 200, "%s/presync", base);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	struct epoch_writer *writer = epoch_writer_open(fd, 1 << 30);
	int result = files_scan(world->index, writer, &options, NULL);
	files_stamp(world->index, &h);
	if (result == 0)
		result = epoch_writer_finish(writer, &h);
	epoch_writer_close(writer);
	close(fd);
	files_commit(world->index);
	return result;
}

/* Files sent ahead: before the first epoch applied at once; later not before the full epoch that they belong to. */
TEST(files_sent_ahead_do_not_overtake_the_memory)
{
	char path[200], images[200];
	struct epoch_error e = {.code = ""};
	struct materialized m = {0};
	world_make(&w);
	struct store *s = open_store(&w, &e);
	trees_mutate(w.primary, 100, 0);
	int good = presync(&w, path) == 0 && commit(s, 0, path, &e) == 0;
	trees_mutate(w.primary, 30, 0);
	good = good && presync(&w, path) == 0 && commit(s, 0, path, &e) == 0;
	make_blob(&w, 1, path);
	good = good && commit(s, 1, path, &e) == 0 && is_at(&w, s, 1);
	/* The primary's dumper starts anew. */
	open_primary(&w);
	trees_mutate(w.primary, 100, 0);
	good = good && presync(&w, path) == 0 && commit(s, 0, path, &e) == 0 && is_at(&w, s, 1);
	store_close(s);
	s = open_store(&w, &e); /* also after a restart */
	good = good && s->committed.epoch == 1 && is_at(&w, s, 1);
	make_blob(&w, 1, path);
	good = good && commit(s, 2, path, &e) == 0 && is_at(&w, s, 2);
	/* And once more, but now the primary dies before the full one. */
	open_primary(&w);
	trees_mutate(w.primary, 100, 0);
	snprintf(images, sizeof images, "%s/given", base);
	good = good && presync(&w, path) == 0 && commit(s, 0, path, &e) == 0;
	good = good && store_materialize(s, images, UINT64_MAX, 20000, &m, &e) == 0 && is_at(&w, s, 2) && m.image_bytes > 0;
	/* The application runs on in these files: only a full epoch may follow. */
	open_primary(&w);
	make_blob(&w, 0, path);
	good = good && refused(s, w.epoch, path, "base");
	files_reset(w.index);
	make_blob(&w, 1, path);
	good = good && commit(s, w.epoch, path, &e) == 0 && is_at(&w, s, w.epoch);
	printf("  %s %s\n", e.code, e.detail);
	store_close(s);
	world_end(&w);
	CHECK(good);
}

/* Ahead of a takeover that does not come: nothing changes, and the next epoch makes it void. */
TEST(what_is_prepared_is_used_until_more_is_committed)
{
	char path[200], images[200];
	struct epoch_error e = {.code = ""};
	struct materialized plain = {0}, m = {0};
	world_make(&w);
	struct store *s = open_store(&w, &e);
	snprintf(images, sizeof images, "%s/given", base);
	int good = store_prepare(s, images, UINT64_MAX, 1 << 30, 20000, &e) != 0 && !store_is_prepared(s, images, UINT64_MAX);
	make_blob(&w, 1, path);
	good = good && commit(s, 1, path, &e) == 0 && store_prepare(s, images, UINT64_MAX, 1 << 30, 20000, &e) == 0;
	good = good && store_is_prepared(s, images, UINT64_MAX) && !store_is_prepared(s, images, 0) && !store_is_prepared(s, base, UINT64_MAX);
	make_blob(&w, 0, path);
	good = good && commit(s, 2, path, &e) == 0 && is_at(&w, s, 2) && !store_is_prepared(s, images, UINT64_MAX);
	good = good && store_prepare(s, images, UINT64_MAX, 0, 20000, &e) != 0 && !store_is_prepared(s, images, UINT64_MAX);
	good = good && store_prepare(s, images, UINT64_MAX, 1 << 30, 20000, &e) == 0 && is_at(&w, s, 2);
	good = good && !s->committed.need_images && store_materialize(s, images, UINT64_MAX, 20000, &m, &e) == 0 && is_at(&w, s, 2);
	good = good && s->committed.need_images && !store_is_prepared(s, images, UINT64_MAX);
	/* The same as without. */
	snprintf(path, sizeof path, "%s/plain", base);
	good = good && store_materialize(s, path, UINT64_MAX, 20000, &plain, &e) == 0 && plain.image_bytes == m.image_bytes;
	char command[500];
	snprintf(command, sizeof command, "diff -r %s %s", images, path);
	good = good && system(command) == 0;
	printf("  %s %s\n", e.code, e.detail);
	store_close(s);
	world_end(&w);
	CHECK(good);
}

TEST(another_container_needs_everything)
{
	char path[200], container[200];
	struct epoch_error e = {.code = ""};
	world_make(&w);
	struct store *s = open_store(&w, &e);
	make_blob(&w, 1, path);
	int good = commit(s, 1, path, &e) == 0 && is_at(&w, s, 1);
	good = good && store_attach(s, (uint64_t)w.container, &e) == 0 && s->committed.epoch == 1;
	end_container(w.container);
	/* Random changes may come to nothing, and an epoch without files needs no container. */
	snprintf(path, sizeof path, "%s/new-in-2", w.primary);
	put(path, "new", 3);
	make_blob(&w, 0, path);
	good = good && refused(s, 2, path, "root");
	snprintf(container, sizeof container, "%s/container", base);
	w.container = start_container(container);
	good = good && store_attach(s, (uint64_t)w.container, &e) == 1 && s->committed.epoch == 0;
	good = good && refused(s, 2, path, "base");
	files_reset(w.index);
	make_blob(&w, 1, path);
	good = good && commit(s, 3, path, &e) == 0 && is_at(&w, s, 3);
	good = good && store_discard(s, &e) == 0 && s->committed.epoch == 0 && s->committed.generation == 1;
	store_close(s);
	world_end(&w);
	CHECK(good);
}

TEST(a_full_disk_leaves_the_old_epoch)
{
	char path[200], filler[200];
	static uint8_t bytes[7 << 20];
	struct epoch_error e = {.code = ""};
	world_make(&w);
	mkdir(w.store, 0700);
	int good = mount("tmpfs", w.store, "tmpfs", 0, "size=12m") == 0;
	struct store *s = open_store(&w, &e);
	make_blob(&w, 1, path);
	good = good && commit(s, 1, path, &e) == 0 && is_at(&w, s, 1);
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 2654435761u >> 13);
	extra_image = bytes;
	extra_bytes = sizeof bytes; /* 7 MiB of images, and a copy of the blob: does not fit */
	make_blob(&w, 0, path);
	good = good && refused(s, 2, path, "space") && is_at(&w, s, 1);
	store_close(s);
	s = open_store(&w, &e);
	good = good && s != NULL && s->committed.epoch == 1 && is_at(&w, s, 1) && refused(s, 2, path, "space");
	good = good && mount("tmpfs", w.store, "tmpfs", MS_REMOUNT, "size=64m") == 0;
	good = good && commit(s, 2, path, &e) == 0 && is_at(&w, s, 2);
	store_close(s);
	umount2(w.store, MNT_DETACH);
	/* The container's own disk. */
	w.store[strlen(w.store) - 1] = 'X';
	good = good && mount("tmpfs", w.copy, "tmpfs", 0, "size=5m") == 0;
	s = open_store(&w, &e);
	files_reset(w.index);
	snprintf(filler, sizeof filler, "%s/filler", w.primary);
	put(filler, bytes, 3 << 20);
	make_blob(&w, 1, path);
	good = good && refused(s, 3, path, "space") && s->committed.epoch == 0;
	good = good && mount("tmpfs", w.copy, "tmpfs", MS_REMOUNT, "size=64m") == 0 && commit(s, 3, path, &e) == 0;
	good = good && is_at(&w, s, 3);
	store_close(s);
	umount2(w.copy, MNT_DETACH);
	world_end(&w);
	CHECK(good);
}

int main(void)
{
	const char *seed = getenv("FTCTL_TEST_SEED");
	trees_seed = seed ? strtoull(seed, NULL, 10) : 20240613;
	printf("seed %llu\n", (unsigned long long)trees_seed);
	trees_seed = (trees_seed + 1) * 0x9e3779b97f4a7c15ull;
	umask(0);
	ft_fault_load("");
	if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
		printf("needs root: it mounts and changes roots\n");
		return 1;
	}
	RUN(chains_are_kept);
	RUN(broken_blobs_change_nothing);
	RUN(files_sent_ahead_do_not_overtake_the_memory);
	RUN(what_is_prepared_is_used_until_more_is_committed);
	RUN(another_container_needs_everything);
	RUN(a_full_disk_leaves_the_old_epoch);
	RUN(killed_at_every_fault_point);
	RUN(killed_at_random_instants);
	return check_report();
}
