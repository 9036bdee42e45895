LOG_SRCS := log/file.c log/reader.c log/stored.c
PROGRAMS += ftlog
ftlog_SRCS = log/ftlog.c log/build.c $(LOG_SRCS) $(CRC_SRCS)

TESTS += log-test
log-test_SRCS = log/test/log_test.c log/build.c $(LOG_SRCS) $(CRC_SRCS)
