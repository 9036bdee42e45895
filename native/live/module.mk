# What a gate needs to follow connections; what ftlive adds; and the application's end, which libftrec.so takes in.
LIVE_TRACKER_SRCS := live/segment.c live/stream.c live/connection.c live/tracker.c live/table.c gate/siphash.c
LIVE_REBUILD_SRCS := live/socket.c live/inject.c live/plan.c live/rebuild.c live/message.c live/session.c live/stand_in.c \
	live/broker.c live/feed.c ship/frames.c ship/format.c ship/room.c
LIVE_TAKE_SRCS := live/take.c live/message.c live/epoll.c

PROGRAMS += ftlive
ftlive_SRCS = live/main.c $(LIVE_TRACKER_SRCS) $(LIVE_REBUILD_SRCS) $(LINE_SRCS) $(CRC_SRCS)

# The real thing, between real gates: runs of every scene with random moments.
TESTS += live-failover-test
live-failover-test_SANITIZE := no
live-failover-test_SRCS = live/test/failover_test.c live/test/service.c live/test/capture.c gate/test/world.c $(LIVE_TRACKER_SRCS) \
	$(LIVE_TAKE_SRCS) $(LINE_SRCS) $(CRC_SRCS)
live-failover-test_LDLIBS = -lpthread

TESTS += live-test
live-test_SRCS = live/test/live_test.c live/plan.c live/message.c live/feed.c ship/frames.c ship/format.c ship/room.c \
	$(LIVE_TRACKER_SRCS) $(CRC_SRCS)

FIXTURES += ftlive-sanitized
ftlive-sanitized_SANITIZE := yes
ftlive-sanitized_SRCS = $(ftlive_SRCS)
