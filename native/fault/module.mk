FAULT_SRCS := fault/fault.c

TESTS += fault-test
fault-test_SRCS = fault/test/fault_test.c $(FAULT_SRCS)
