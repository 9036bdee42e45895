#include "recorder/test/leaks/modules.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MODULES_MAX = 256 };
static struct module modules[MODULES_MAX];
static unsigned module_count;

static enum module_class class_of(const char *name)
{
	static const char *const c[] = {"libc.so", "libc-2", "ld-linux", "libpthread", "libdl.so", "librt.so", "libm.so", "libresolv"};
	if (strncmp(name, "libftrec", 8) == 0)
		return MODULE_RECORDER;
	for (unsigned i = 0; i < sizeof c / sizeof *c; i++)
		if (strncmp(name, c[i], strlen(c[i])) == 0)
			return MODULE_C;
	return MODULE_OTHER;
}

const uint8_t *module_bytes(const struct module *module, uint64_t own, size_t *left)
{
	for (unsigned i = 0; i < module->segment_count; i++) {
		const Elf64_Phdr *s = &module->segments[i];
		if (s->p_type != PT_LOAD || own - s->p_vaddr >= s->p_filesz || s->p_offset + s->p_filesz > module->size)
			continue;
		*left = s->p_filesz - (own - s->p_vaddr);
		return module->bytes + s->p_offset + (own - s->p_vaddr);
	}
	return NULL;
}

static void read_symbols(struct module *module, const Elf64_Ehdr *header)
{
	if (header->e_shoff + (uint64_t)header->e_shnum * sizeof(Elf64_Shdr) > module->size)
		return;
	const Elf64_Shdr *sections = (const Elf64_Shdr *)(module->bytes + header->e_shoff);
	for (unsigned i = 0; i < header->e_shnum; i++) {
		const Elf64_Shdr *s = &sections[i];
		/* The full table is better where there is one. */
		if ((s->sh_type != SHT_DYNSYM && s->sh_type != SHT_SYMTAB) || s->sh_offset + s->sh_size > module->size ||
		    s->sh_link >= header->e_shnum || (s->sh_type == SHT_DYNSYM && module->symbols != NULL))
			continue;
		const Elf64_Shdr *names = &sections[s->sh_link];
		if (names->sh_offset + names->sh_size > module->size)
			continue;
		module->symbols = (const Elf64_Sym *)(module->bytes + s->sh_offset);
		module->symbol_count = s->sh_size / sizeof(Elf64_Sym);
		module->names = (const char *)module->bytes + names->sh_offset;
		module->names_bytes = names->sh_size;
	}
}

static void open_module(struct module *module)
{
	struct stat status;
	int fd = open(module->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstat(fd, &status) == 0 && (size_t)status.st_size > sizeof(Elf64_Ehdr)) {
		void *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (bytes != MAP_FAILED && memcmp(bytes, ELFMAG, SELFMAG) == 0) {
			module->bytes = bytes;
			module->size = (size_t)status.st_size;
		}
	}
	close(fd);
	if (module->bytes == NULL)
		return;
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)module->bytes;
	if (header->e_phoff + (uint64_t)header->e_phnum * sizeof(Elf64_Phdr) > module->size)
		return;
	module->segments = (const Elf64_Phdr *)(module->bytes + header->e_phoff);
	module->segment_count = header->e_phnum;
	for (unsigned i = 0; i < module->segment_count; i++)
		if (module->segments[i].p_type == PT_GNU_EH_FRAME)
			module->frames_header = module->segments[i].p_vaddr;
	for (unsigned i = 0; i < module->segment_count; i++)
		if (module->segments[i].p_type == PT_LOAD) {
			module->base = module->from - (module->segments[i].p_vaddr & ~4095ull);
			break;
		}
	read_symbols(module, header);
}

static struct module *named(const char *path)
{
	for (unsigned i = 0; i < module_count; i++)
		if (strcmp(modules[i].path, path) == 0)
			return &modules[i];
	return NULL;
}

static void read_maps(pid_t pid)
{
	char path[64], line[512], file[256];
	uint64_t from, to, offset;
	snprintf(path, sizeof path, "/proc/%d/maps", pid);
	FILE *maps = fopen(path, "r");
	if (maps == NULL)
		return;
	while (fgets(line, sizeof line, maps) != NULL) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %*s %255s", &from, &to, &offset, file) != 4 || file[0] != '/')
			continue;
		struct module *module = named(file);
		if (module != NULL) {
			module->to = to > module->to ? to : module->to;
			continue;
		}
		if (module_count == MODULES_MAX)
			break;
		module = &modules[module_count++];
		snprintf(module->path, sizeof module->path, "%s", file);
		module->name = strrchr(module->path, '/') + 1;
		module->class = class_of(module->name);
		module->from = from;
		module->to = to;
		open_module(module);
	}
	fclose(maps);
}

static const struct module *known(uint64_t address)
{
	for (unsigned i = 0; i < module_count; i++)
		if (address >= modules[i].from && address < modules[i].to && modules[i].bytes != NULL)
			return &modules[i];
	return NULL;
}

const struct module *module_of(pid_t pid, uint64_t address)
{
	const struct module *module = known(address);
	if (module != NULL)
		return module;
	read_maps(pid);
	return known(address);
}

/* Of several names for one function the shortest that is not reserved. */
static bool is_better(const char *name, const char *best)
{
	if (best == NULL || (best[0] == '_') != (name[0] == '_'))
		return best == NULL || best[0] == '_';
	return strlen(name) < strlen(best);
}

const char *module_symbol(const struct module *module, uint64_t address, bool exact)
{
	uint64_t own = address - module->base;
	const char *best = NULL;
	for (size_t i = 0; i < module->symbol_count; i++) {
		const Elf64_Sym *s = &module->symbols[i];
		unsigned type = ELF64_ST_TYPE(s->st_info);
		if ((type != STT_FUNC && type != STT_GNU_IFUNC) || s->st_shndx == SHN_UNDEF || s->st_name >= module->names_bytes)
			continue;
		if (exact ? s->st_value != own : own - s->st_value >= s->st_size)
			continue;
		if (is_better(module->names + s->st_name, best))
			best = module->names + s->st_name;
	}
	return best;
}
