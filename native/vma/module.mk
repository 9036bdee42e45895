VMA_LINK_SRCS = vma/link.c vma/btf.c
VMA_READ_SRCS = vma/read.c

TESTS += vma-test
vma-test_SRCS = vma/test/vma_test.c $(VMA_LINK_SRCS) $(VMA_READ_SRCS)
