PROGRAMS += ftprobe
ftprobe_SRCS = probe/probe.c
ftprobe_STATIC := 1
ftprobe_LDLIBS = -lpthread
