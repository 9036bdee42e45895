/*
 * The time of the files in the freeze against their number: walked and told, in turns, over the same tree. Each epoch one file is
 * appended to, one is made and one is removed.   files-bench [DIRECTORY [EPOCHS]]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "epoch/writer.h"
#include "files/scan.h"
#include "files/test/trees.h"

enum { DIRECTORY_FILES = 100, EPOCHS_MAX = 1000 };
enum { WALKED, TOLD, WAYS };

static double now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void put(const char *base, int number, const char *text)
{
	char path[300];
	snprintf(path, sizeof path, "%s/d%d", base, number / DIRECTORY_FILES);
	if (number % DIRECTORY_FILES == 0)
		mkdir(path, 0755);
	snprintf(path, sizeof path, "%s/d%d/f%d", base, number / DIRECTORY_FILES, number);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		abort();
	close(fd);
}

static double scan_us(struct files_index *index)
{
	int blob = memfd_create("blob", MFD_CLOEXEC);
	struct epoch_writer *w = epoch_writer_open(blob, 1ull << 32);
	struct files_scan_options options = {.frozen = 1};
	double from = now_us();
	if (files_scan(index, w, &options, NULL) != 0) {
		fprintf(stderr, "%s: %s\n", files_error(index), strerror(errno));
		exit(1);
	}
	double took = now_us() - from;
	epoch_writer_close(w);
	close(blob);
	files_commit(index);
	return took;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void measure(const char *base, const char *scratch, int files, int epochs)
{
	static double took[WAYS][EPOCHS_MAX];
	struct files_root root = {FILES_TREE, base, "/data"};
	struct files_index *index[WAYS];
	for (int way = 0; way < WAYS; way++)
		index[way] = files_open(&root, 1, NULL, 0, NULL, NULL);
	if (index[WALKED] == NULL || index[TOLD] == NULL || files_watch(index[TOLD], scratch) != 0) {
		perror(base);
		exit(1);
	}
	for (int way = 0; way < WAYS; way++)
		(void)scan_us(index[way]);
	for (int epoch = 0; epoch < epochs; epoch++) {
		char path[300];
		put(base, epoch * 7 % files, "more");
		put(base, files + epoch % 2, "new");
		snprintf(path, sizeof path, "%s/d%d/f%d", base, (files + !(epoch % 2)) / DIRECTORY_FILES, files + !(epoch % 2));
		(void)unlink(path);
		usleep(25000); /* out of the clock's tick */
		for (int turn = 0; turn < WAYS; turn++) {
			int way = (turn + epoch) % WAYS;
			took[way][epoch] = scan_us(index[way]);
		}
	}
	printf("%8d", files);
	for (int way = 0; way < WAYS; way++) {
		qsort(took[way], (size_t)epochs, sizeof **took, by_size);
		printf(" %12.0f %12.0f", took[way][epochs / 2], took[way][epochs * 99 / 100]);
		files_close(index[way]);
	}
	printf("\n");
}

int main(int argc, char **argv)
{
	static const int sizes[] = {100, 1000, 10000, 50000};
	const char *where = argc > 1 ? argv[1] : "/var/tmp";
	int epochs = argc > 2 ? atoi(argv[2]) : 50;
	printf("   files   walked p50   walked p99     told p50     told p99   (us in the freeze, %s, %d epochs)\n", where, epochs);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes && epochs > 0 && epochs <= EPOCHS_MAX; i++) {
		char base[200], tree[256], scratch[256];
		snprintf(base, sizeof base, "%s/ft-bench-XXXXXX", where);
		if (mkdtemp(base) == NULL)
			return 1;
		snprintf(tree, sizeof tree, "%s/tree", base);
		snprintf(scratch, sizeof scratch, "%s/scratch", base);
		mkdir(tree, 0755);
		mkdir(scratch, 0700);
		for (int file = 0; file < sizes[i]; file++)
			put(tree, file, "some content of a small file\n");
		measure(tree, scratch, sizes[i], epochs);
		trees_remove(base);
	}
	return 0;
}
