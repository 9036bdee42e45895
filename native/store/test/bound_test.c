/*
 * What the standby's pages cost: through many epochs of a process that writes, maps, unmaps and drops pages at random, at ever new
 * addresses, the store's tmpfs and memory stay below 1.3 times what is present, one epoch, and what the empty store has.
 *
 * The store is a process of its own, so that its memory can be told from the test's. Not sanitized: that memory would be another.
 */
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crc/crc32c.h"
#include "epoch/writer.h"
#include "pages/set.h"
#include "store/store.h"
#include "test/check.h"

#define PAIR "0123456789ab"
#define HEAP 0x10000000000ull
#define ARENAS 0x20000000000ull
enum { EPOCHS = 250, HEAP_PAGES = 12288, ARENAS_MAX = 64, ARENA_PAGES = 96, ARENA_STEP = 777, PID = 7 };

static char folder[64], store_path[96], blob_path[96], roots_path[96];
static uint64_t seed = 77123;

static uint64_t below(uint64_t limit)
{
	return check_random(&seed) % limit;
}

/* ---- the store, in a process of its own ---- */

static int answer(int fd, const struct epoch_error *e)
{
	char text[256] = "ok";
	if (e->code[0] != 0)
		snprintf(text, sizeof text, "%s: %s", e->code, e->detail);
	return write(fd, text, sizeof text) == (ssize_t)sizeof text ? 0 : -1;
}

/* Reads epochs; 0: wait until all is applied. */
static void serve(int in, int out)
{
	const struct store_options options = {
		.dir = store_path, .spool = folder, .pair = PAIR, .roots = roots_path, .blob_bytes_max = 1 << 30, .journal_bytes_max = 1 << 30,
	};
	struct epoch_error e = { .code = "" };
	struct commit_result result;
	struct store *store = store_open(&options, &e);
	uint64_t epoch;
	while (answer(out, &e) == 0 && read(in, &epoch, sizeof epoch) == (ssize_t)sizeof epoch) {
		e = (struct epoch_error){ .code = "" };
		if (epoch == 0 && applier_finish(store, 10000) != 0)
			(void)epoch_fail(&e, "late", 0, "not applied");
		if (epoch != 0)
			(void)store_commit(store, epoch, blob_path, &result, &e);
	}
	store_close(store);
	_exit(0);
}

struct served {
	pid_t pid;
	int to, from;
};

static int heard_ok(const struct served *s)
{
	char text[256] = "";
	if (read(s->from, text, sizeof text) != (ssize_t)sizeof text || strcmp(text, "ok") != 0) {
		printf("  the store says %s\n", text);
		return 0;
	}
	return 1;
}

static int start(struct served *s)
{
	int to[2], from[2];
	if (pipe(to) != 0 || pipe(from) != 0)
		return 0;
	s->pid = fork();
	if (s->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(to[1]);
		serve(to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	s->to = to[1];
	s->from = from[0];
	return heard_ok(s);
}

static int ask(const struct served *s, uint64_t epoch)
{
	return write(s->to, &epoch, sizeof epoch) == (ssize_t)sizeof epoch && heard_ok(s);
}

/* ---- what it takes ---- */

static uint64_t blocks;

static int add_blocks(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)path, (void)kind, (void)at;
	blocks += (uint64_t)st->st_blocks;
	return 0;
}

/* Its own memory; mapped pages of the tmpfs are the tmpfs's. */
static uint64_t memory_of(pid_t pid)
{
	char path[40], line[256];
	unsigned long long own = 0, kib;
	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	FILE *status = fopen(path, "re");
	while (status != NULL && fgets(line, sizeof line, status) != NULL)
		if (sscanf(line, "RssAnon: %llu", &kib) == 1 || sscanf(line, "RssFile: %llu", &kib) == 1)
			own += kib << 10;
	if (status != NULL)
		fclose(status);
	return own;
}

static uint64_t taken(const struct served *s)
{
	blocks = 0;
	nftw(store_path, add_blocks, 16, FTW_PHYS);
	return blocks * 512 + memory_of(s->pid);
}

/* ---- the primary ---- */

static struct pages_table *table;
static struct pages_set *set;
static uint8_t written[EPOCH_RECORD_BYTES_MAX];
static struct epoch_writer *writer;

static int write_range(uint64_t address, uint64_t pages, uint64_t content)
{
	uint8_t head[PAGES_DATA_HEAD_BYTES];
	struct page_state state = { .lazy = true };
	for (uint64_t i = 0; i < pages; i++) {
		uint64_t *page = (uint64_t *)(void *)(written + i * PAGE_BYTES);
		for (size_t k = 0; k < PAGE_BYTES / 8; k++)
			page[k] = content * 0x9e3779b97f4a7c15u + address + i + k;
		state.crc = ft_crc32c(0, page, PAGE_BYTES);
		if (pages_put(table, set, address + i * PAGE_BYTES, &state) != 0)
			return -1;
	}
	put_u64(head, address | PAGE_LAZY);
	return epoch_record(writer, PAGES_DATA, head, sizeof head, written, pages * PAGE_BYTES);
}

/* As pages/collect.c does: up to the neighbours that are present. */
static int drop_range(uint64_t address, uint64_t pages)
{
	uint8_t head[PAGES_RANGE_BYTES];
	uint64_t before = set->pages;
	if (pages_drop(table, set, address, address + pages * PAGE_BYTES) != 0)
		return -1;
	if (set->pages == before)
		return 0;
	put_u64(head, address);
	put_u64(head + 8, pages);
	return epoch_record(writer, PAGES_DROP, head, sizeof head, NULL, 0);
}

static uint64_t arena_of(uint64_t number)
{
	return ARENAS + number * ARENA_STEP * PAGE_BYTES;
}

/* Holes in the heap, in ascending order; then the oldest arena, up to the next. */
static int drop_some(uint64_t epoch)
{
	for (uint64_t at = below(300); at + 64 < HEAP_PAGES; at += 64 + below(1200))
		if (drop_range(HEAP + at * PAGE_BYTES, 1 + below(60)) != 0)
			return -1;
	return epoch <= ARENAS_MAX ? 0 : drop_range(arena_of(epoch - ARENAS_MAX), ARENA_STEP);
}

static int write_some(uint64_t epoch)
{
	for (uint64_t at = epoch == 1 ? 0 : below(100); at + 64 < HEAP_PAGES;) {
		uint64_t pages = epoch == 1 ? 64 : 1 + below(60);
		if (write_range(HEAP + at * PAGE_BYTES, pages, epoch) != 0)
			return -1;
		at += epoch == 1 ? pages : pages + below(1000);
	}
	/* A tenth of them is sparse. */
	uint64_t arena = arena_of(epoch);
	return write_range(arena, below(10) == 0 ? 3 : ARENA_PAGES, epoch);
}

static int write_blob(uint64_t epoch)
{
	uint8_t head[PAGES_SET_BYTES] = { 0 }, end[PAGES_END_BYTES];
	struct epoch_header header = {
		.pair = PAIR, .generation = 1, .epoch = epoch, .base_epoch = epoch - 1, .flags = epoch == 1 ? EPOCH_FULL : 0,
	};
	int fd = open(blob_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	writer = epoch_writer_open(fd, 1 << 30);
	put_u64(head, PID);
	put_u32(head + 8, 1);
	put_u32(head + 12, epoch == 1 ? PAGES_FRESH : 0);
	int bad = epoch_section_begin(writer, EPOCH_SECTION_PAGES) != 0 ||
		  epoch_record(writer, PAGES_SET, head, sizeof head, NULL, 0) != 0 || drop_some(epoch) != 0 || write_some(epoch) != 0;
	put_u64(end, set->pages);
	put_u64(end + 8, set->digest);
	bad = bad || epoch_record(writer, PAGES_END, end, sizeof end, NULL, 0) != 0 || epoch_section_end(writer) != 0 ||
	      epoch_section_begin(writer, EPOCH_SECTION_IMAGES) != 0 || epoch_section_end(writer) != 0 ||
	      epoch_writer_finish(writer, &header) != 0;
	epoch_writer_close(writer);
	close(fd);
	return bad ? -1 : 0;
}

TEST(the_store_stays_within_its_bound)
{
	struct served s;
	struct stat blob;
	double worst = 0, settled = 0;
	CHECK(start(&s));
	uint64_t empty = taken(&s);
	table = pages_table_new(false);
	set = pages_table_add(table, PID, 1);
	for (uint64_t epoch = 1; epoch <= EPOCHS; epoch++) {
		CHECK(write_blob(epoch) == 0 && stat(blob_path, &blob) == 0);
		CHECK(ask(&s, epoch));
		double resident = (double)set->pages * PAGE_BYTES;
		double now = ((double)(taken(&s) - empty) - (double)blob.st_size) / resident;
		worst = now > worst ? now : worst;
		/* So that one epoch waits at most. */
		CHECK(ask(&s, 0));
		settled = ((double)(taken(&s) - empty)) / resident;
		CHECK(settled <= 1.3);
		CHECK(now <= 1.3);
	}
	printf("  %llu MiB present after %d epochs: %.3f times that, at most %.3f and one epoch; the empty store %llu KiB\n",
	       (unsigned long long)(set->pages >> 8), EPOCHS, settled, worst, (unsigned long long)(empty >> 10));
	close(s.to);
	int status = -1;
	CHECK(waitpid(s.pid, &status, 0) == s.pid);
	CHECK_EQ(status, 0);
	pages_table_free(table);
}

int main(void)
{
	char command[100];
	strcpy(folder, "/dev/shm/ft-bound-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return 1;
	snprintf(store_path, sizeof store_path, "%s/store", folder);
	snprintf(blob_path, sizeof blob_path, "%s/blob", folder);
	snprintf(roots_path, sizeof roots_path, "%s/roots", folder);
	int fd = open(roots_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "tree - /data\n", 13) != 13)
		return 1;
	close(fd);
	RUN(the_store_stays_within_its_bound);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command) == 0 ? check_report() : 1;
}
