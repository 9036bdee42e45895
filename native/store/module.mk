STORE_SRCS = store/store.c store/state.c store/applier.c store/takeover.c $(FILES_APPLY_SRCS) files/roots.c \
  $(IMAGES_STORE_SRCS) $(PAGES_SHARED_SRCS) $(PAGES_STORE_SRCS) $(EPOCH_SRCS) $(CRC_SRCS) $(DISK_SRCS) $(FAULT_SRCS) $(LINE_SRCS)

PROGRAMS += ftstore
ftstore_SRCS = store/main.c $(STORE_SRCS)
ftstore_LDLIBS = $(PAGES_LDLIBS)

TESTS += store-test
store-test_SRCS = store/test/store_test.c files/test/trees.c $(STORE_SRCS) $(filter-out files/roots.c,$(FILES_SCAN_SRCS)) $(IMAGES_DELTA_SRCS) \
  $(filter-out files/hash.c,$(PAGES_TEST_SRCS))
store-test_LDLIBS = $(PAGES_LDLIBS)

TESTS += store-bound-test
store-bound-test_SRCS = store/test/bound_test.c $(STORE_SRCS)
store-bound-test_SANITIZE := no
store-bound-test_LDLIBS = $(PAGES_LDLIBS)
