/*
 * churn: a program whose memory never rests, and which knows at every moment what each page of it must hold. It maps, unmaps,
 * grows, moves, drops, protects and writes areas at random, forks children that go on with their copies, and lets some of them
 * execute it anew. Every round it checks every page; the first process then prints the number of the round. Whatever is not as
 * it must be ends the process that sees it, with its parents, and the numbers stop.
 *
 *   churn SEED[/ROUNDS[/PAUSE_MS]]     all pages are checked every so many rounds (1), one area in the others; then it forks more often, too.
 *                                      With a pause after each round it is made for a slow machine: it has less memory, of which it changes
 *                                      less in a round, and at most one child, and moves and drops whole page tables more often.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TABLE_PAGES = 512, FIELD_PAGES = 5 * TABLE_PAGES, FIELD_ROUNDS = 24 };
enum { SMALL_SLOTS = 10, SMALL_FIELD_PAGES = 3 * TABLE_PAGES, SMALL_OPERATIONS = 2 };
enum { PAGE = 4096, WORDS = PAGE / 8, SLOTS = 20, PAGES_MAX = FIELD_PAGES, SCATTERED_PAGES = 1200, OPERATIONS = 12, ROUND_NS = 3000000, CHILDREN_MAX = 2, DEPTH_MAX = 2 };

/* An area of so many pages; stamp[i] names the content of a page, 0: as it was mapped. */
struct slot {
	uint64_t *at;
	size_t pages;
	bool file;
	uint32_t uid;
	uint32_t stamp[PAGES_MAX];
};

/* A field is a large area with little in it. The other one is there when we are small, and never of huge pages: its page tables are moved as they are. */
struct field {
	struct slot slot;
	uint64_t *home[2];
};

static struct slot slot[SLOTS];
static struct field field[2];
static uint64_t state;
static uint32_t next_uid = 1, next_stamp = 1;
static unsigned look = 1; /* rounds between checks of all */
static long pause_ms;	  /* not 0: we are small */
static int children, depth, exe = -1, pipes[2];
static const uint64_t *program; /* the file that is mapped privately, as it is */
static size_t program_pages;
static uint64_t *shared, shared_stamp;
static char *path;

static uint64_t draw(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

static void wrong(const char *what)
{
	char line[160];
	int length = snprintf(line, sizeof line, "wrong: %s, errno %d\n", what, errno);
	if (write(STDOUT_FILENO, line, (size_t)length) < 0)
		_exit(4);
	_exit(3);
}

static uint64_t word_of(uint32_t uid, size_t page, uint32_t stamp, size_t word)
{
	uint64_t x = ((uint64_t)uid << 40) ^ ((uint64_t)page << 24) ^ ((uint64_t)stamp << 4) ^ word * 0x9e3779b97f4a7c15u;
	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9u;
	return x ^ x >> 32;
}

static size_t slots(void)
{
	return pause_ms == 0 ? SLOTS : SMALL_SLOTS;
}

static size_t field_pages(void)
{
	return pause_ms == 0 ? FIELD_PAGES : SMALL_FIELD_PAGES;
}

static void check_slot(const struct slot *s)
{
	for (size_t page = 0; page < s->pages; page++) {
		const uint64_t *at = s->at + page * WORDS;
		for (size_t word = 0; word < WORDS; word++) {
			uint64_t want = s->stamp[page] != 0 ? word_of(s->uid, page, s->stamp[page], word)
					: s->file	      ? program[page * WORDS + word]
							      : 0;
			if (at[word] != want)
				wrong("a page is not what it was");
			if (s->stamp[page] == 0 && !s->file && word == 0)
				word = WORDS - 2; /* first and last of what was never touched */
		}
	}
}

static void check_all(void)
{
	for (size_t i = 0; i < slots(); i++)
		check_slot(&slot[i]);
	for (size_t word = 0; depth == 0 && word < WORDS; word++)
		if (shared[word] != word_of(0, 0, (uint32_t)shared_stamp, word))
			wrong("shared memory is not what it was");
}

/* By the program, or by the kernel on its behalf. */
static void write_page(struct slot *s, size_t page)
{
	uint64_t content[WORDS];
	uint32_t stamp = next_stamp++;
	for (size_t word = 0; word < WORDS; word++)
		content[word] = word_of(s->uid, page, stamp, word);
	if (draw(3) == 0) {
		if (write(pipes[1], content, PAGE) != PAGE || read(pipes[0], s->at + page * WORDS, PAGE) != PAGE)
			wrong("a pipe");
	} else {
		memcpy(s->at + page * WORDS, content, PAGE);
	}
	s->stamp[page] = stamp;
}

static void map_pages(struct slot *s, size_t pages, bool file)
{
	s->file = file;
	s->pages = pages;
	if (s->file && s->pages > program_pages)
		s->pages = program_pages;
	s->uid = next_uid++;
	memset(s->stamp, 0, sizeof s->stamp);
	void *at = mmap(NULL, s->pages * PAGE, PROT_READ | PROT_WRITE, s->file ? MAP_PRIVATE : MAP_PRIVATE | MAP_ANONYMOUS,
			s->file ? exe : -1, 0);
	if (at == MAP_FAILED)
		wrong("mmap");
	s->at = at;
}

static void map_slot(struct slot *s)
{
	bool file = draw(4) == 0;
	map_pages(s, draw(6) == 0 ? 600 + draw(SCATTERED_PAGES - 600) : 1 + draw(40), file);
	if (!s->file && draw(2) == 0)
		(void)madvise(s->at, s->pages * PAGE, MADV_HUGEPAGE); /* where there are none, it is only not so */
}

static void unmap_slot(struct slot *s)
{
	if (s->pages > 0 && munmap(s->at, s->pages * PAGE) != 0)
		wrong("munmap");
	s->pages = 0;
}

static void resize_slot(struct slot *s, size_t pages)
{
	if (s->pages == 0 || s->file)
		return;
	if (pages == 0)
		pages = 1;
	if (pages > PAGES_MAX)
		pages = PAGES_MAX;
	void *at = mremap(s->at, s->pages * PAGE, pages * PAGE, MREMAP_MAYMOVE);
	if (at == MAP_FAILED && errno == EFAULT)
		return; /* of several areas, by mprotect() */
	if (at == MAP_FAILED)
		wrong("mremap");
	for (size_t page = s->pages; page < pages; page++)
		s->stamp[page] = 0;
	s->at = at;
	s->pages = pages;
}

/* Onto another place, where something else may have been just before. */
static void move_slot(struct slot *s)
{
	if (s->pages == 0)
		return;
	void *to = mmap(NULL, s->pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (to == MAP_FAILED)
		wrong("mmap");
	if (draw(2) == 0)
		memset(to, 0x5a, s->pages * PAGE);
	/* Piece by piece: mprotect() may have made several areas of it. */
	for (size_t page = 0; page < s->pages; page++)
		if (mremap(s->at + page * WORDS, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (uint64_t *)to + page * WORDS) == MAP_FAILED)
			wrong("mremap to a place");
	s->at = to;
}

static void drop_pages(struct slot *s)
{
	if (s->pages == 0)
		return;
	size_t from = draw(s->pages), count = 1 + draw(s->pages - from);
	if (madvise(s->at + from * WORDS, count * PAGE, MADV_DONTNEED) != 0)
		wrong("madvise");
	for (size_t page = from; page < from + count; page++)
		s->stamp[page] = 0;
}

static void toggle_protection(struct slot *s)
{
	if (s->pages == 0)
		return;
	size_t from = draw(s->pages), count = 1 + draw(s->pages - from);
	if (mprotect(s->at + from * WORDS, count * PAGE, PROT_READ) != 0 ||
	    (draw(2) == 0 && mprotect(s->at + from * WORDS, count * PAGE, PROT_READ | PROT_WRITE) != 0))
		wrong("mprotect");
}

static void write_some(struct slot *s)
{
	if (s->pages == 0)
		return;
	if (mprotect(s->at, s->pages * PAGE, PROT_READ | PROT_WRITE) != 0)
		wrong("mprotect");
	for (uint64_t i = 1 + draw(12); i > 0; i--)
		write_page(s, draw(s->pages));
}

/* A new area of which every other page is written: more regions than the kernel notes at once (512). */
static void scatter(struct slot *s)
{
	unmap_slot(s);
	map_pages(s, SCATTERED_PAGES, false);
	for (size_t page = draw(2); page < s->pages; page += 2)
		write_page(s, page);
}

/*
 * Of a field whole page tables are dropped: the kernel may free them, with all marks in them. So that they stay away for a while, it is looked at
 * rarely, and one table is written at a time.
 */
static void till(struct field *f)
{
	struct slot *s = &f->slot;
	if (s->pages == 0) {
		map_pages(s, field_pages(), false);
		if (f != field && madvise(s->at, s->pages * PAGE, MADV_NOHUGEPAGE) != 0 && errno != EINVAL)
			wrong("madvise");
	}
	size_t before = (uintptr_t)s->at / PAGE % TABLE_PAGES;
	size_t from = (TABLE_PAGES - before) % TABLE_PAGES + draw(s->pages / TABLE_PAGES - 1) * TABLE_PAGES;
	/* When we are small: what is huge is dropped often, what is not gets full. */
	uint64_t which = draw(pause_ms == 0 || f != field ? 20 : 8);
	if (which == 0) {
		if (madvise(s->at + from * WORDS, TABLE_PAGES * PAGE, MADV_DONTNEED) != 0)
			wrong("madvise");
		memset(s->stamp + from, 0, TABLE_PAGES * sizeof *s->stamp);
	} else if (which == 1 || (f != field && which >= 10)) {
		for (int i = 0; i < 8; i++)
			write_page(s, from + draw(TABLE_PAGES));
	}
}

/* What nobody looks at: so that another content was at these addresses before. */
static void litter(const struct field *f, void *at)
{
	if (mmap(at, field_pages() * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		wrong("mmap");
	if (f != field && madvise(at, field_pages() * PAGE, MADV_NOHUGEPAGE) != 0 && errno != EINVAL)
		wrong("madvise");
	const size_t step = pause_ms == 0 ? 8 : 2;
	for (size_t page = draw(step); page < field_pages(); page += step)
		((uint64_t *)at)[page * WORDS] = page;
}

/* A field changes places with other memory, whole page tables at a time: the kernel may move the tables themselves. */
static void move_field(struct field *f)
{
	size_t bytes = field_pages() * PAGE, table = TABLE_PAGES * PAGE;
	for (int i = 0; i < 2 && f->home[1] == NULL; i++) {
		uintptr_t room = (uintptr_t)mmap(NULL, bytes + table, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (room == (uintptr_t)MAP_FAILED)
			wrong("mmap");
		f->home[i] = (uint64_t *)((room + table - 1) / table * table);
		litter(f, f->home[i]);
	}
	if (f->slot.pages == 0)
		return;
	uint64_t *was = f->slot.at, *to = was == f->home[0] ? f->home[1] : f->home[0];
	if (mremap(was, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED) {
		if (errno == EFAULT)
			return; /* of several areas */
		wrong("mremap of a large area");
	}
	if (was == f->home[0] || was == f->home[1])
		litter(f, was);
	f->slot.at = to;
}

static void begin_child(void)
{
	char seed[40];
	int most = pause_ms == 0 ? CHILDREN_MAX : 1, deepest = pause_ms == 0 ? DEPTH_MAX : 1;
	pid_t pid = children < most && depth < deepest ? fork() : -1;
	if (pid > 0)
		children++;
	if (pid != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	depth++;
	children = 0;
	close(pipes[0]);
	close(pipes[1]);
	if (pipe(pipes) != 0) /* the other one is the parent's */
		wrong("a pipe");
	for (uint64_t skip = draw(7) + 1; skip > 0; skip--)
		(void)draw(2);
	state ^= (uint64_t)getpid() << 32;
	if (draw(3) != 0)
		return;
	snprintf(seed, sizeof seed, "%llu/%u/%ld", (unsigned long long)draw(1u << 30) + 1, look, pause_ms);
	char depth_text[2] = { (char)('0' + depth), 0 };
	execl(path, path, seed, depth_text, NULL);
	wrong("exec");
}

static void reap(void)
{
	int status;
	while (children > 0 && waitpid(-1, &status, WNOHANG) > 0) {
		children--;
		if (status != 0)
			wrong("a child");
	}
}

static void operate(void)
{
	struct slot *s = &slot[draw(slots())];
	switch (draw(16)) {
	case 0: unmap_slot(s); map_slot(s); break;
	case 1: unmap_slot(s); break;
	case 2: resize_slot(s, s->pages + draw(60)); break;
	case 3: resize_slot(s, s->pages / 2); break;
	case 4: move_slot(s); break;
	case 5: drop_pages(s); break;
	case 6: toggle_protection(s); break;
	case 7: if (draw(look > 1 ? 2 : 20) == 0) begin_child(); break;
	case 8: if (draw(8) == 0) scatter(s); break;
	default: write_some(s); break;
	}
}

static void write_shared(void)
{
	uint32_t stamp = next_stamp++;
	for (size_t word = 0; word < WORDS; word++)
		shared[word] = word_of(0, 0, stamp, word);
	shared_stamp = stamp;
}

static void set_up(void)
{
	struct stat st;
	exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (exe < 0 || fstat(exe, &st) != 0 || pipe(pipes) != 0)
		wrong("start");
	program_pages = (size_t)st.st_size / PAGE; /* whole pages only */
	program = mmap(NULL, program_pages * PAGE, PROT_READ, MAP_PRIVATE, exe, 0);
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (program == MAP_FAILED || shared == MAP_FAILED)
		wrong("start");
	write_shared();
}

static void read_arguments(int argc, char **argv)
{
	char *rest;
	if (argc < 2)
		_exit(2);
	path = argv[0];
	state = strtoull(argv[1], &rest, 10) * 0x9e3779b97f4a7c15u + 1;
	if (*rest == '/' && (look = (unsigned)strtoul(rest + 1, &rest, 10)) == 0)
		_exit(2);
	if (*rest == '/')
		pause_ms = strtol(rest + 1, &rest, 10);
	if (*rest != 0 || pause_ms < 0 || pause_ms >= 1000)
		_exit(2);
	depth = argc > 2 ? argv[2][0] - '0' : 0;
}

static void work_fields(uint64_t round)
{
	size_t fields = pause_ms == 0 ? 1 : 2;
	for (size_t i = 0; i < fields; i++) {
		till(&field[i]);
		if (draw(pause_ms == 0 ? 40 : 10) == 0)
			move_field(&field[i]);
		if (round % (pause_ms == 0 ? FIELD_ROUNDS : look) == 0)
			check_slot(&field[i].slot);
	}
}

int main(int argc, char **argv)
{
	read_arguments(argc, argv);
	const struct timespec pause = { .tv_nsec = pause_ms == 0 ? ROUND_NS : pause_ms * 1000000 };
	if (depth > 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	set_up();
	for (uint64_t round = 1, life = 100 + draw(400); depth == 0 || life > 0; round++, life--) {
		for (int i = pause_ms == 0 ? OPERATIONS : SMALL_OPERATIONS; i > 0; i--)
			operate();
		work_fields(round);
		if (depth == 0)
			write_shared();
		if (round % look == 0)
			check_all();
		else
			check_slot(&slot[draw(slots())]);
		reap();
		if (depth == 0) {
			char line[32];
			int length = snprintf(line, sizeof line, "%llu\n", (unsigned long long)round);
			if (write(STDOUT_FILENO, line, (size_t)length) != length)
				return 1;
		}
		nanosleep(&pause, NULL);
	}
	while (children > 0) {
		reap();
		nanosleep(&pause, NULL);
	}
	return 0;
}
