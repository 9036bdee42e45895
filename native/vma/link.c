#include "vma/link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vma/btf.h"

enum { BTF_BYTES_MAX = 64 << 20, START = 0, END, FLAGS };
/* struct bpf_iter__task_vma, and struct bpf_iter_meta: pointers, in this order since they exist. */
enum { CONTEXT_META = 0, CONTEXT_VMA = 16, META_SEQ = 0 };

static long bpf(int command, union bpf_attr *attributes)
{
	return syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

/* The kernel's description, in malloc'd memory; NULL with errno. Its size is not known before. */
static uint8_t *read_btf(size_t *count)
{
	int fd = open("/sys/kernel/btf/vmlinux", O_RDONLY | O_CLOEXEC);
	struct stat found;
	uint8_t *bytes = NULL;
	*count = 0;
	if (fd < 0)
		return NULL;
	if (fstat(fd, &found) == 0 && found.st_size > 0 && found.st_size <= BTF_BYTES_MAX)
		bytes = malloc((size_t)found.st_size);
	while (bytes != NULL && *count < (size_t)found.st_size) {
		ssize_t got = read(fd, bytes + *count, (size_t)found.st_size - *count);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		*count += (size_t)got;
	}
	close(fd);
	return bytes;
}

static int ask_kernel(struct btf_question *question)
{
	size_t count;
	uint8_t *bytes = read_btf(&count);
	int result = bytes == NULL ? -1 : btf_ask(bytes, count, question);
	if (bytes != NULL && result != 0)
		errno = EOPNOTSUPP;
	int error = errno;
	free(bytes);
	errno = error;
	return result;
}

#define LOAD(to, from, offset) ((struct bpf_insn){ BPF_LDX | BPF_MEM | BPF_DW, to, from, (int16_t)(offset), 0 })
#define STORE(offset, from) ((struct bpf_insn){ BPF_STX | BPF_MEM | BPF_DW, BPF_REG_10, from, (int16_t)(offset), 0 })
#define COPY(to, from) ((struct bpf_insn){ BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0 })
#define ADD(to, number) ((struct bpf_insn){ BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, number })
#define SET(to, number) ((struct bpf_insn){ BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, number })
#define IF_ZERO(what, skip) ((struct bpf_insn){ BPF_JMP | BPF_JEQ | BPF_K, what, 0, skip, 0 })
#define CALL(function) ((struct bpf_insn){ BPF_JMP | BPF_CALL, 0, 0, 0, function })
#define EXIT ((struct bpf_insn){ BPF_JMP | BPF_EXIT, 0, 0, 0, 0 })

/* Of each area, three numbers are written; at the end there is no area. */
static int load(const struct btf_question *kernel)
{
	const struct bpf_insn program[] = {
		LOAD(BPF_REG_6, BPF_REG_1, CONTEXT_VMA),
		LOAD(BPF_REG_7, BPF_REG_1, CONTEXT_META),
		IF_ZERO(BPF_REG_6, 11),
		LOAD(BPF_REG_3, BPF_REG_6, kernel->offset[START]),
		STORE(-24, BPF_REG_3),
		LOAD(BPF_REG_3, BPF_REG_6, kernel->offset[END]),
		STORE(-16, BPF_REG_3),
		LOAD(BPF_REG_3, BPF_REG_6, kernel->offset[FLAGS]),
		STORE(-8, BPF_REG_3),
		LOAD(BPF_REG_1, BPF_REG_7, META_SEQ),
		COPY(BPF_REG_2, BPF_REG_10),
		ADD(BPF_REG_2, -24),
		SET(BPF_REG_3, (int)sizeof(struct vma)),
		CALL(BPF_FUNC_seq_write),
		SET(BPF_REG_0, 0),
		EXIT,
	};
	union bpf_attr ask;
	memset(&ask, 0, sizeof ask);
	ask.prog_type = BPF_PROG_TYPE_TRACING;
	ask.expected_attach_type = BPF_TRACE_ITER;
	ask.attach_btf_id = kernel->function_id;
	ask.insns = (uintptr_t)program;
	ask.insn_cnt = sizeof program / sizeof *program;
	ask.license = (uintptr_t)"Dual MIT/GPL"; /* bpf_seq_write() is for such programs only */
	memcpy(ask.prog_name, "ftctl_areas", sizeof "ftctl_areas");
	return (int)bpf(BPF_PROG_LOAD, &ask);
}

int vma_program(const char **why)
{
	struct btf_question kernel = {
		.structure = "vm_area_struct", .member = { "vm_start", "vm_end", "vm_flags" }, .function = "bpf_iter_task_vma",
	};
	*why = "the kernel does not describe its memory areas (CONFIG_DEBUG_INFO_BTF)";
	if (ask_kernel(&kernel) != 0)
		return -1;
	*why = "the kernel refuses an iterator over memory areas";
	return load(&kernel);
}

int vma_link(int program, pid_t tid)
{
	union bpf_iter_link_info of;
	memset(&of, 0, sizeof of);
	of.task.tid = (uint32_t)tid;
	union bpf_attr ask;
	memset(&ask, 0, sizeof ask);
	ask.link_create.prog_fd = (uint32_t)program;
	ask.link_create.attach_type = BPF_TRACE_ITER;
	ask.link_create.iter_info = (uintptr_t)&of;
	ask.link_create.iter_info_len = sizeof of;
	return (int)bpf(BPF_LINK_CREATE, &ask);
}
