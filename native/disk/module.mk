DISK_SRCS := disk/disk.c

TESTS += disk-test
disk-test_SRCS = disk/test/disk_test.c $(DISK_SRCS)
