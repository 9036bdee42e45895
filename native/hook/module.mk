LIBRARIES += libfthook.so
libfthook.so_SRCS = hook/hook.c
libfthook.so_LDLIBS = -ldl
