EPOCH_SRCS := epoch/writer.c epoch/reader.c
