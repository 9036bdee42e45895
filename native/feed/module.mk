# The notice is read by ftdump as well.
FEED_NOTICE_SRCS := feed/notice.c
FEED_CORE_SRCS := feed/spans.c feed/space.c
PROGRAMS += ftfeed
ftfeed_SRCS = feed/main.c feed/feed.c feed/guard.c $(FEED_CORE_SRCS) $(FEED_NOTICE_SRCS) $(PAGES_LAZY_SRCS) $(EPOCH_SRCS) $(CRC_SRCS) $(DISK_SRCS) $(LINE_SRCS)

TESTS += feed-spans-test
feed-spans-test_SRCS = feed/test/spans_test.c feed/spans.c
