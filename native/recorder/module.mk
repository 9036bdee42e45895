RECORDER_SRCS := $(addprefix recorder/,real.c start.c lane.c replay.c solo.c live.c objects.c checksum.c descriptors.c streams.c \
  sockets.c polls.c opens.c clocks.c locks.c threads.c process.c signals.c)

LIBRARIES += libftrec.so
libftrec.so_SRCS = $(RECORDER_SRCS) log/file.c log/reader.c $(CRC_SRCS)
libftrec.so_LDLIBS = -Wl,--no-as-needed -l:libdl.so.2 -l:libpthread.so.0 -Wl,-Bsymbolic
