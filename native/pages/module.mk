# What ftdump needs of the pages, and what ftstore needs.
PAGES_SHARED_SRCS := pages/set.c pages/pagemap.c pages/packing.c
PAGES_LDLIBS := -llz4 -lzstd
PAGES_COLLECT_SRCS := pages/collect.c
# The list of what is given later, written by ftstore and read by ftfeed.
PAGES_LAZY_SRCS := pages/lazy.c
PAGES_STORE_SRCS = pages/parse.c pages/files.c pages/compose.c pages/mm.c $(PAGES_LAZY_SRCS)

# Run by criu/memory.real.test.ts.
FIXTURES += churn
churn_SRCS = pages/test/churn.c

PAGES_TEST_SRCS := pages/test/memory.c $(PAGES_COLLECT_SRCS) files/hash.c
TESTS += pages-test
pages-test_SRCS = pages/test/pages_test.c $(PAGES_TEST_SRCS) $(PAGES_SHARED_SRCS) $(PAGES_STORE_SRCS) $(TRACK_SRCS) $(EPOCH_SRCS) $(CRC_SRCS) $(DISK_SRCS)
pages-test_LDLIBS = $(PAGES_LDLIBS)
TESTS += pages-lazy-test
pages-lazy-test_SRCS = pages/test/lazy_test.c pages/mm.c $(PAGES_LAZY_SRCS) $(EPOCH_SRCS) $(CRC_SRCS) $(DISK_SRCS)
