# What ftdump needs of the images, and what ftstore needs.
IMAGES_DELTA_SRCS := images/delta.c images/patch.c
IMAGES_STORE_SRCS := images/parse.c images/patch.c images/table.c images/apply.c

TESTS += images-test
images-test_SRCS = images/test/images_test.c $(sort $(IMAGES_DELTA_SRCS) $(IMAGES_STORE_SRCS)) $(EPOCH_SRCS) $(CRC_SRCS) $(DISK_SRCS)
