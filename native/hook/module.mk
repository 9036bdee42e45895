LIBRARIES += libfthook.so
libfthook.so_SRCS = hook/hook.c hook/limits.c
libfthook.so_LDLIBS = -ldl

TESTS += hook-limits-test
hook-limits-test_SRCS = hook/test/limits_test.c hook/limits.c
hook-limits-test_LDLIBS = -ldl
