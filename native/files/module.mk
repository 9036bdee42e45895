# What ftdump needs of the files, and what ftstore needs. Both read a roots file: line/line.c is in $(LINE_SRCS).
FILES_SCAN_SRCS := files/scan.c files/index.c files/told.c files/watch.c files/used.c files/walk.c files/look.c files/audit.c files/plan.c files/content.c files/attributes.c files/hash.c files/roots.c
FILES_APPLY_SRCS := files/parse.c files/apply.c files/apply_entry.c files/tracked.c

TESTS += files-test
files-test_SRCS = files/test/files_test.c files/test/trees.c $(FILES_SCAN_SRCS) $(FILES_APPLY_SRCS) $(EPOCH_SRCS) $(CRC_SRCS) $(DISK_SRCS) $(LINE_SRCS)

TESTS += watch-test
watch-test_SRCS = files/test/watch_test.c files/test/trees.c dump/tree.c $(FILES_SCAN_SRCS) $(EPOCH_SRCS) $(CRC_SRCS) $(DISK_SRCS) $(LINE_SRCS) $(PROC_SRCS)
watch-test_LDLIBS = -lpthread

FIXTURES += files-bench
files-bench_SRCS = files/test/files_bench.c files/test/trees.c $(FILES_SCAN_SRCS) $(EPOCH_SRCS) $(CRC_SRCS) $(DISK_SRCS) $(LINE_SRCS)
