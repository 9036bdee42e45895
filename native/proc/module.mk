PROC_SRCS := proc/proc.c

TESTS += proc-test
proc-test_SRCS = proc/test/proc_test.c $(PROC_SRCS)
