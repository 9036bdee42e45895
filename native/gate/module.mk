GATE_CORE_SRCS := gate/hold.c gate/siphash.c gate/histogram.c gate/frame.c gate/heartbeat.c gate/lease.c gate/peer.c

PROGRAMS += ftgate
ftgate_SRCS = gate/main.c gate/options.c gate/control.c gate/verbs.c gate/stats.c gate/events.c gate/state.c \
	gate/egress.c gate/ingress.c gate/container.c gate/beat.c gate/uplink.c gate/tap.c gate/links.c \
	$(GATE_CORE_SRCS) $(LINE_SRCS) $(FAULT_SRCS)
