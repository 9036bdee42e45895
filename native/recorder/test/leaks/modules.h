/*
 * The code that a traced process has mapped: which file an address is of, how a frame there is left (its .eh_frame), and
 * the exported name that it lies in. x86-64. Files are read from this mount namespace.
 */
#ifndef FT_LEAKS_MODULES_H
#define FT_LEAKS_MODULES_H
#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum module_class {
	MODULE_OTHER,    /* the application and its libraries */
	MODULE_C,        /* the C library and the loader: what they do, they do for somebody */
	MODULE_RECORDER, /* libftrec.so */
};

struct module {
	char path[256];
	const char *name; /* without folders */
	enum module_class class;
	uint64_t from, to; /* of all of its mappings */
	uint64_t base;     /* address = base + the file's own */
	const uint8_t *bytes;
	size_t size;
	const Elf64_Phdr *segments;
	unsigned segment_count;
	uint64_t frames_header; /* .eh_frame_hdr's own address, or 0 */
	const Elf64_Sym *symbols;
	size_t symbol_count;
	const char *names;
	size_t names_bytes;
};

/* NULL: no file's code. Looks at the maps again if the address is new. */
const struct module *module_of(pid_t pid, uint64_t address);
/* The file's bytes at its own address (without base), or NULL; `left` is how many there are. */
const uint8_t *module_bytes(const struct module *module, uint64_t own, size_t *left);
/* The exported function that contains the address. `exact`: begins there. NULL: none. */
const char *module_symbol(const struct module *module, uint64_t address, bool exact);
#endif
