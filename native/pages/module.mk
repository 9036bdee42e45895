# What ftdump needs of the pages, and what ftstore needs.
PAGES_SHARED_SRCS := pages/set.c pages/pagemap.c pages/packing.c
PAGES_LDLIBS := -llz4 -lzstd
PAGES_COLLECT_SRCS := pages/collect.c
PAGES_STORE_SRCS := pages/parse.c pages/files.c pages/compose.c

# Run by criu/memory.real.test.ts.
FIXTURES += churn
churn_SRCS = pages/test/churn.c

PAGES_TEST_SRCS := pages/test/memory.c $(PAGES_COLLECT_SRCS) files/hash.c
TESTS += pages-test
pages-test_SRCS = pages/test/pages_test.c $(PAGES_TEST_SRCS) $(PAGES_SHARED_SRCS) $(PAGES_STORE_SRCS) $(TRACK_SRCS) $(EPOCH_SRCS) $(CRC_SRCS)
pages-test_LDLIBS = $(PAGES_LDLIBS)
