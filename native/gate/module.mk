GATE_CORE_SRCS := gate/hold.c gate/siphash.c gate/histogram.c gate/frame.c gate/heartbeat.c gate/lease.c gate/peer.c \
	gate/spin.c

PROGRAMS += ftgate
ftgate_SRCS = gate/main.c gate/options.c gate/control.c gate/verbs.c gate/stats.c gate/events.c gate/state.c \
	gate/egress.c gate/ingress.c gate/container.c gate/beat.c gate/uplink.c gate/tap.c gate/links.c gate/ship.c \
	gate/copying.c gate/copies.c gate/seal.c \
	$(GATE_CORE_SRCS) $(LINE_SRCS) $(FAULT_SRCS) $(SHIP_SRCS) log/file.c log/stored.c $(CRC_SRCS)
ftgate_LDLIBS = $(SHIP_LDLIBS)

TESTS += gate-hold-test
gate-hold-test_SRCS = gate/test/hold_test.c gate/hold.c

TESTS += gate-heartbeat-test
gate-heartbeat-test_SRCS = gate/test/heartbeat_test.c gate/heartbeat.c gate/siphash.c gate/peer.c gate/lease.c

TESTS += gate-frame-test
gate-frame-test_SRCS = gate/test/frame_test.c gate/frame.c gate/histogram.c gate/options.c $(LINE_SRCS)

TESTS += gate-copies-test
gate-copies-test_SRCS = gate/test/copies_test.c gate/copies.c gate/seal.c gate/hold.c
gate-copies-test_LDLIBS = -lcrypto

TESTS += gate-spin-test
gate-spin-test_SRCS = gate/test/spin_test.c gate/spin.c

# The real thing on real interfaces: the whole gate under the sanitizers, driven from outside.
FIXTURES += ftgate-sanitized
ftgate-sanitized_SANITIZE := yes
ftgate-sanitized_SRCS = $(ftgate_SRCS)
ftgate-sanitized_LDLIBS = $(SHIP_LDLIBS)

TESTS += gate-integration-test
gate-integration-test_SANITIZE := no
gate-integration-test_SRCS = gate/test/integration_test.c gate/test/world.c $(LINE_SRCS)

SHIPPING_TEST_SRCS = gate/test/shipping.c gate/test/world.c ship/test/writer.c log/file.c $(CRC_SRCS) $(LINE_SRCS)

TESTS += gate-ship-test
gate-ship-test_SANITIZE := no
gate-ship-test_SRCS = gate/test/ship_test.c $(SHIPPING_TEST_SRCS) ship/frames.c ship/room.c

# Not run by the tests: what shipping costs, see its first lines.
FIXTURES += gate-ship-bench
gate-ship-bench_SRCS = gate/test/ship_bench.c $(SHIPPING_TEST_SRCS)
