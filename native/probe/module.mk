PROGRAMS += ftprobe
ftprobe_SRCS = probe/probe.c $(TRACK_SRCS) $(CRC_SRCS) $(LINE_SRCS)
ftprobe_STATIC := 1
ftprobe_LDLIBS = -lpthread
