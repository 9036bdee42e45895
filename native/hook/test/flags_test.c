/* What is put together from maps and flags is what the kernel says in smaps, or nothing. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hook/flags.h"
#include "hook/smaps.h"
#include "test/check.h"

enum { TEXT_BYTES = 4 << 20, PAGE = 4096 };

static char folder[] = "/tmp/flags-test-XXXXXX";
static int program = -1;

/* A process that does what it is told to its memory by a byte, and answers with one. */
struct subject {
	pid_t pid;
	int ask, answer, link, proc;
};

static void be_subject(int ask, int answer)
{
	static const int advice[] = { MADV_DONTFORK, MADV_DONTDUMP, MADV_WIPEONFORK, MADV_DOFORK };
	char *at = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char which;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (write(answer, "", 1) == 1 && read(ask, &which, 1) == 1)
		if (madvise(at, 4 * PAGE, advice[(int)which]) != 0)
			_exit(2);
	_exit(1);
}

static void begin(struct subject *s)
{
	int ask[2], answer[2];
	char byte, path[32];
	CHECK(pipe(ask) == 0 && pipe(answer) == 0);
	s->pid = fork();
	if (s->pid == 0)
		be_subject(ask[0], answer[1]);
	s->ask = ask[1];
	s->answer = answer[0];
	CHECK(read(s->answer, &byte, 1) == 1);
	snprintf(path, sizeof path, "/proc/%d", (int)s->pid);
	s->proc = open(path, O_PATH | O_DIRECTORY);
	s->link = vma_link(program, s->pid);
	CHECK(s->proc >= 0 && s->link >= 0);
	flags_load(s->link, folder);
}

static void tell(const struct subject *s, char what)
{
	char byte;
	CHECK(write(s->ask, &what, 1) == 1 && read(s->answer, &byte, 1) == 1);
}

static void end(const struct subject *s)
{
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	close(s->ask);
	close(s->answer);
	close(s->link);
	close(s->proc);
}

static size_t read_smaps(const struct subject *s, char *text)
{
	size_t length = 0;
	int fd = openat(s->proc, "smaps", O_RDONLY);
	for (ssize_t got; (got = read(fd, text + length, TEXT_BYTES - 1 - length)) > 0;)
		length += (size_t)got;
	close(fd);
	length = smaps_filter(text, length);
	text[length] = 0;
	return length;
}

static struct flags_view view, later;
static char smaps[TEXT_BYTES], composed[TEXT_BYTES];

TEST(what_has_been_learnt_is_put_together)
{
	struct subject s;
	begin(&s);
	CHECK(flags_see_all(s.proc, &view));
	CHECK(flags_compose(&view, composed, sizeof composed) == 0);
	size_t length = read_smaps(&s, smaps);
	flags_learn(&view, smaps);
	CHECK(flags_compose(&view, composed, sizeof composed) == length && memcmp(composed, smaps, length) == 0);
	CHECK(flags_compose(&view, composed, length) == 0); /* no room */
	flags_save();
	end(&s);
}

TEST(flags_that_are_new_are_not_guessed)
{
	struct subject s;
	begin(&s); /* which reads what was saved */
	for (char what = 0; what < 4; what++) {
		CHECK(flags_see_all(s.proc, &view));
		CHECK(flags_compose(&view, composed, sizeof composed) == read_smaps(&s, smaps) && strcmp(composed, smaps) == 0);
		tell(&s, what);
		CHECK(flags_room(&later, view.length) && flags_see(s.proc, &later));
		CHECK(!flags_same(&view, &later));
		CHECK(flags_compose(&later, composed, sizeof composed) == 0 || what == 3);
		read_smaps(&s, smaps);
		flags_learn(&later, smaps);
	}
	end(&s);
}

TEST(a_view_of_two_moments_is_refused)
{
	struct subject s;
	begin(&s);
	CHECK(flags_see_all(s.proc, &view));
	read_smaps(&s, smaps);
	flags_learn(&view, smaps);
	view.vma[1].end += PAGE;
	CHECK(flags_compose(&view, composed, sizeof composed) == 0);
	view.vma[1].end -= PAGE;
	view.count--;
	CHECK(flags_compose(&view, composed, sizeof composed) == 0);
	end(&s);
}

TEST(a_damaged_list_is_no_list)
{
	char path[64];
	snprintf(path, sizeof path, "%s/ftctl-flags", folder);
	int fd = open(path, O_RDWR);
	char byte;
	CHECK(fd >= 0 && pread(fd, &byte, 1, 40) == 1);
	byte ^= 1;
	CHECK(pwrite(fd, &byte, 1, 40) == 1);
	close(fd);
	struct subject s;
	begin(&s);
	CHECK(flags_see_all(s.proc, &view) && flags_compose(&view, composed, sizeof composed) == 0);
	end(&s);
	unlink(path);
}

int main(void)
{
	const char *why;
	program = vma_program(&why);
	if (program < 0 || mkdtemp(folder) == NULL) {
		printf("skipped: %s\n", why);
		return 0;
	}
	RUN(what_has_been_learnt_is_put_together);
	RUN(flags_that_are_new_are_not_guessed);
	RUN(a_view_of_two_moments_is_refused);
	RUN(a_damaged_list_is_no_list);
	rmdir(folder);
	return check_report();
}
