PROGRAMS += ftrestore
ftrestore_SRCS = restore/main.c restore/feeder.c restore/orphans.c restore/tcp_image.c restore/local_sockets.c $(DUMP_SHARED_SRCS)

TESTS += restore-test restore-orphans-test
restore-orphans-test_SRCS = restore/test/orphans_test.c restore/orphans.c
restore-test_SRCS = restore/test/tcp_image_test.c restore/tcp_image.c restore/local_sockets.c $(DISK_SRCS)
