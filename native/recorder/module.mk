RECORDER_SRCS := $(addprefix recorder/,real.c start.c lane.c replay.c walk.c ending.c anew.c missing.c report.c elided.c pace.c solo.c live.c objects.c \
  checksum.c descriptors.c inputs.c messages.c outputs.c channels.c passing.c backlog.c vectors.c sockets.c polls.c opens.c clocks.c locks.c \
  threads.c process.c family.c agreement.c leaving.c signals.c connections.c facts.c attributes.c compound.c)

LIBRARIES += libftrec.so
libftrec.so_SRCS = $(RECORDER_SRCS) $(LIVE_TAKE_SRCS) log/file.c log/reader.c log/stored.c log/build.c $(CRC_SRCS)
libftrec.so_LDLIBS = -Wl,--no-as-needed -l:libdl.so.2 -l:libpthread.so.0 -Wl,--build-id=sha1 -Wl,-Bsymbolic -Wl,--version-script=recorder/exports.map

# Only what is hidden in the library of connections.c, with the rest of the recorder played by the test.
TESTS += recorder-connections-test
recorder-connections-test_SRCS = recorder/test/connections_test.c recorder/connections.c
recorder-connections-test_LDLIBS = -lpthread

TESTS += recorder-objects-test
recorder-objects-test_SRCS = recorder/test/objects_test.c recorder/objects.c

FIXTURES += recorder-load recorder-cost
recorder-cost_SRCS = recorder/test/cost.c
recorder-cost_LDLIBS = -lpthread
recorder-load_SRCS = recorder/test/load.c

FIXTURES += recorder-spoil recorder-stuck
recorder-spoil_SRCS = recorder/test/spoil.c $(LOG_SRCS) $(CRC_SRCS)
recorder-stuck_SRCS = recorder/test/stuck.c

# Which system calls pass the recorder by.
ifeq ($(shell uname -m),x86_64)
FIXTURES += recorder-leaks
recorder-leaks_SRCS = $(addprefix recorder/test/leaks/,leaks.c modules.c unwind.c) log/file.c $(CRC_SRCS)
endif

# One small program per feature; test/run.sh runs each recorded, replayed from its start, and from a checkpoint.
RECORDER_PROGRAMS := mutex rwlock condition semaphore threads clocks channels sockets children files timer signals shorts pipes \
  facts attributes streams temporary waits sendfile deadlines deaf counted bank race-none race-counter race-flag family outsiders
FIXTURES += $(addprefix recorder-program-,$(RECORDER_PROGRAMS))
$(foreach name,$(RECORDER_PROGRAMS),$(eval recorder-program-$(name)_SRCS = recorder/test/programs/$(name).c))
$(foreach name,$(RECORDER_PROGRAMS),$(eval recorder-program-$(name)_LDLIBS = -lpthread))
TEST_SCRIPTS += recorder/test/symbols.sh recorder/test/run.sh recorder/test/bad_input.sh recorder/test/leaks.sh
