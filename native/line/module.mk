LINE_SRCS := line/line.c

TESTS += line-test
line-test_SRCS = line/test/line_test.c $(LINE_SRCS)
