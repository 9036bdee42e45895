/* The areas that the iterator finds are those of /proc/PID/maps, their flags follow what is done to them, and no bytes hurt the reader of BTF. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vma/btf.h"
#include "vma/link.h"

enum { AREAS_MAX = 4096, PAGES = 8, PAGE = 4096 };

static struct vma area[AREAS_MAX];

static const struct vma *area_of(const struct vma *list, ssize_t count, const void *at)
{
	for (ssize_t i = 0; i < count; i++)
		if (list[i].start <= (uintptr_t)at && (uintptr_t)at < list[i].end)
			return &list[i];
	return NULL;
}

static void agrees_with_maps(int link)
{
	static char text[1 << 20];
	ssize_t count = vma_read(link, area, AREAS_MAX);
	int fd = open("/proc/self/maps", O_RDONLY);
	size_t length = 0;
	for (ssize_t got; (got = read(fd, text + length, sizeof text - 1 - length)) > 0;)
		length += (size_t)got;
	close(fd);
	assert(count > 0);
	ssize_t seen = 0;
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		unsigned long start, end;
		assert(sscanf(line, "%lx-%lx", &start, &end) == 2);
		if (strstr(line, "[vsyscall]") != NULL)
			continue;
		assert(seen < count && area[seen].start == start && area[seen].end == end);
		seen++;
	}
	assert(seen == count);
}

static void flags_follow(int link)
{
	uint8_t *at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert(at != MAP_FAILED);
	static const int advice[] = { MADV_DONTFORK, MADV_DOFORK, MADV_DONTDUMP, MADV_DODUMP, MADV_WIPEONFORK, MADV_SEQUENTIAL };
	uint64_t last = 0;
	for (size_t i = 0; i < sizeof advice / sizeof *advice; i++) {
		assert(madvise(at, PAGES * PAGE, advice[i]) == 0);
		ssize_t count = vma_read(link, area, AREAS_MAX);
		assert(count > 0);
		const struct vma *found = area_of(area, count, at);
		assert(found != NULL && found->flags != last);
		last = found->flags;
	}
	munmap(at, PAGES * PAGE);
	errno = 0;
	assert(vma_read(link, area, 1) == -1 && errno == ENOSPC);
}

/* A description of our own, cut short and with every byte turned over in turn: an answer or none, but nothing else. */
static void survives_hostile_bytes(void)
{
	FILE *file = fopen("/sys/kernel/btf/vmlinux", "re");
	static uint8_t kernel[16 << 10];
	size_t count = file == NULL ? 0 : fread(kernel, 1, sizeof kernel, file);
	if (file != NULL)
		fclose(file);
	struct btf_question question = { .structure = "no_such", .member = { "x" }, .function = "no_such" };
	for (size_t length = 0; length < count; length += 7) {
		uint8_t *copy = malloc(length + 1);
		memcpy(copy, kernel, length);
		assert(btf_ask(copy, length, &question) == -1);
		free(copy);
	}
	/* A header that tells of exactly what is there. */
	uint32_t types = (uint32_t)(count > 4096 ? 4096 : 0), strings = 64;
	for (size_t i = 0; types > 0 && i < types; i += 3) {
		uint8_t *copy = malloc(24 + types + strings);
		memcpy(copy, kernel, 24 + types + strings);
		memcpy(copy + 8, (uint32_t[]){ 0, types, types, strings }, 16);
		copy[24 + i] ^= 0xff;
		(void)btf_ask(copy, 24 + types + strings, &question);
		free(copy);
	}
}

int main(void)
{
	const char *why;
	int program = vma_program(&why);
	if (program < 0) {
		fprintf(stderr, "vma_test: skipped: %s: %s\n", why, strerror(errno));
		return 0;
	}
	int link = vma_link(program, getpid());
	assert(link >= 0);
	agrees_with_maps(link);
	flags_follow(link);
	survives_hostile_bytes();
	close(link);
	close(program);
	return 0;
}
