TRACK_SRCS := track/tracker.c track/inject.c track/probe.c track/dirty.c

# With ptrace, and memory that must be where the test puts it.
TESTS += track-test
track-test_SRCS = track/test/track_test.c hook/scan.c $(TRACK_SRCS) $(CRC_SRCS)
track-test_SANITIZE := no

TESTS += track-choice-test
track-choice-test_SRCS = track/test/choice_test.c $(TRACK_SRCS) $(CRC_SRCS)
