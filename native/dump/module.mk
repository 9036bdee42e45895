# What ftdump and ftrestore share.
DUMP_SHARED_SRCS = dump/meta.c dump/logs.c dump/target.c dump/tree.c $(DISK_SRCS) $(ENTER_SRCS) $(PROC_SRCS) $(LINE_SRCS) $(CRC_SRCS)

PROGRAMS += ftdump
ftdump_SRCS = dump/main.c dump/dump.c dump/engine.c dump/gate.c dump/scan.c dump/shortcuts.c $(DUMP_SHARED_SRCS) $(FAULT_SRCS) \
	$(EPOCH_SRCS) $(FILES_SCAN_SRCS) $(IMAGES_DELTA_SRCS) $(PAGES_SHARED_SRCS) $(PAGES_COLLECT_SRCS) $(TRACK_SRCS) $(VMA_LINK_SRCS) $(FEED_NOTICE_SRCS)
ftdump_LDLIBS = -lpthread $(PAGES_LDLIBS)

TESTS += dump-test
dump-test_SRCS = dump/test/dump_test.c dump/shortcuts.c dump/meta.c dump/logs.c dump/tree.c $(CRC_SRCS) $(DISK_SRCS) $(PROC_SRCS)
