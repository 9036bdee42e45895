/*
 * The kernel's own description of its types (BTF, /sys/kernel/btf/vmlinux): where a member of a structure is, and which number
 * a function has. Pure, and safe on hostile bytes: everything is looked up within the given bytes.
 */
#ifndef FT_VMA_BTF_H
#define FT_VMA_BTF_H

#include <stddef.h>
#include <stdint.h>

enum { BTF_MEMBERS_MAX = 4 };

struct btf_question {
	const char *structure;
	const char *member[BTF_MEMBERS_MAX]; /* NULL: no more. Found through unnamed structures and unions too */
	const char *function;
	/* The answer. */
	uint32_t offset[BTF_MEMBERS_MAX]; /* bytes */
	uint32_t function_id;
};

/* 0, or -1: these bytes are no BTF, or do not say all that was asked. */
int btf_ask(const uint8_t *bytes, size_t count, struct btf_question *question);

#endif
