INIT_SRCS = init/request.c init/application.c $(LINE_SRCS)

PROGRAMS += ftinit
ftinit_SRCS = init/main.c init/init.c init/ask.c $(INIT_SRCS)
ftinit_STATIC := 1

TESTS += init-test
init-test_SRCS = init/test/init_test.c $(INIT_SRCS)

TEST_SCRIPTS += init/test/namespace.sh

# A process that holds one of everything that cannot be protected, for the tests of preflight.
FIXTURES += odd-holder
odd-holder_SRCS = init/test/odd_holder.c
odd-holder_STATIC := 1
