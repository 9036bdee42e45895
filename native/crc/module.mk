CRC_SRCS := crc/crc32c.c

TESTS += crc-test
crc-test_SRCS = crc/test/crc32c_test.c $(CRC_SRCS)
