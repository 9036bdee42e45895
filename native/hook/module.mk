LIBRARIES += libfthook.so
libfthook.so_SRCS = hook/hook.c hook/files.c hook/sockets.c hook/limits.c hook/phases.c hook/helper.c hook/splices.c hook/pages.c hook/images.c hook/descriptors.c hook/texts.c hook/smaps.c hook/written.c hook/scan.c hook/dirty.c hook/unchanged.c hook/frames.c hook/whole.c \
	hook/late.c hook/witness.c hook/diag.c hook/filters.c hook/flags.c $(VMA_READ_SRCS) $(CRC_SRCS)
libfthook.so_LDLIBS = -ldl -lpthread

TESTS += hook-limits-test
hook-limits-test_SRCS = hook/test/limits_test.c hook/limits.c
hook-limits-test_LDLIBS = -ldl

TESTS += hook-shortcuts-test
hook-shortcuts-test_SRCS = hook/test/shortcuts_test.c hook/images.c hook/whole.c hook/helper.c hook/splices.c hook/pages.c hook/smaps.c hook/flags.c $(VMA_READ_SRCS) $(CRC_SRCS)
hook-shortcuts-test_LDLIBS = -lpthread

TESTS += hook-late-test
hook-late-test_SRCS = hook/test/late_test.c hook/witness.c hook/diag.c hook/smaps.c hook/whole.c hook/helper.c hook/flags.c $(VMA_READ_SRCS) $(CRC_SRCS)
hook-late-test_LDLIBS = -lpthread

TESTS += hook-descriptors-test
hook-descriptors-test_SRCS = hook/test/descriptors_test.c hook/descriptors.c

TESTS += hook-texts-test
hook-texts-test_SRCS = hook/test/texts_test.c hook/texts.c hook/whole.c
hook-texts-test_LDLIBS = -lpthread

FIXTURES += fidget
fidget_SRCS = hook/test/fidget.c
fidget_LDLIBS = -lpthread -lrt

# With as few areas as a process has: no sanitizer.
TESTS += hook-flags-test
hook-flags-test_SRCS = hook/test/flags_test.c hook/flags.c hook/smaps.c hook/whole.c hook/helper.c $(VMA_LINK_SRCS) $(VMA_READ_SRCS) $(CRC_SRCS)
hook-flags-test_LDLIBS = -lpthread
hook-flags-test_SANITIZE := no

TESTS += hook-dirty-test
hook-dirty-test_SRCS = hook/test/dirty_test.c hook/unchanged.c hook/frames.c hook/whole.c $(CRC_SRCS)
