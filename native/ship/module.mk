SHIP_SRCS := ship/format.c ship/queue.c ship/source.c ship/room.c ship/frames.c ship/mirror.c ship/link.c ship/link_tls.c \
	ship/sender.c ship/receiver.c
SHIP_LDLIBS := -lssl -lcrypto
# What ship takes from its neighbours.
SHIP_NEEDS_SRCS := log/file.c log/stored.c gate/siphash.c gate/histogram.c

TESTS += ship-format-test
ship-format-test_SRCS = ship/test/format_test.c ship/format.c $(CRC_SRCS)

TESTS += ship-mirror-test
ship-mirror-test_SRCS = ship/test/mirror_test.c ship/test/writer.c $(SHIP_SRCS) $(SHIP_NEEDS_SRCS) $(CRC_SRCS)
ship-mirror-test_LDLIBS = $(SHIP_LDLIBS)

TESTS += ship-link-test
ship-link-test_SRCS = ship/test/link_test.c ship/test/writer.c $(SHIP_SRCS) $(SHIP_NEEDS_SRCS) $(CRC_SRCS)
ship-link-test_LDLIBS = $(SHIP_LDLIBS)
