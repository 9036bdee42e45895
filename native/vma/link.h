/*
 * The memory areas of a process with their flags, straight from the kernel: an iterator of BPF over its vm_area_structs.
 *
 * /proc/PID/smaps says the same flags, but looks at every page of memory for that (26 ms at 1 GiB); this takes microseconds,
 * whatever the memory. The program has a dozen instructions and is put together here; where its three fields are, the kernel says
 * itself (vma/btf.h). A link is made on the host, and handed to who shall read it.
 */
#ifndef FT_VMA_LINK_H
#define FT_VMA_LINK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* One area; areas come in ascending order. The gate area ([vsyscall]) is none. */
struct vma {
	uint64_t start, end;
	uint64_t flags; /* the kernel's own bits */
};

/* The program in the kernel: a descriptor, or -1 with errno and why. Takes some ten milliseconds. */
int vma_program(const char **why);
/* An iterator of it over the process of this thread: a descriptor, or -1 with errno. The number is as *readers* see it: the kernel
 * looks the thread up in their pid namespace, each time. */
int vma_link(int program, pid_t tid);
/* What it finds now: the count, or -1 with errno; ENOSPC if there are more than `max`. Needs CAP_BPF. */
ssize_t vma_read(int link, struct vma *out, size_t max);

#endif
