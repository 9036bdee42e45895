ENTER_SRCS := enter/enter.c enter/cgroups.c

TESTS += enter-test
enter-test_SRCS = enter/test/cgroups_test.c enter/cgroups.c $(PROC_SRCS)
