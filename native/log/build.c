#include "log/build.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { NOTES_BYTES_MAX = 4096, HEADERS_MAX = 64 };

static size_t padded(size_t bytes) { return (bytes + 3) & ~(size_t)3; }

bool log_build_in_notes(const void *notes, size_t bytes, struct log_build *out)
{
	const uint8_t *at = notes;
	Elf64_Nhdr note;
	while (bytes >= sizeof note) {
		memcpy(&note, at, sizeof note);
		at += sizeof note;
		bytes -= sizeof note;
		size_t name = padded(note.n_namesz), all = name + padded(note.n_descsz);
		if (note.n_namesz > bytes || note.n_descsz > bytes || all > bytes)
			return false;
		if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(at, "GNU", 4) == 0 && note.n_descsz >= sizeof out->id) {
			memcpy(out->id, at + name, sizeof out->id);
			return true;
		}
		at += all;
		bytes -= all;
	}
	return false;
}

static int find_in(int fd, const Elf64_Ehdr *header, struct log_build *out)
{
	Elf64_Phdr segments[HEADERS_MAX];
	uint8_t notes[NOTES_BYTES_MAX];
	unsigned count = header->e_phnum < HEADERS_MAX ? header->e_phnum : HEADERS_MAX;
	ssize_t wanted = (ssize_t)(count * sizeof *segments);
	if (header->e_phentsize != sizeof *segments || pread(fd, segments, (size_t)wanted, (off_t)header->e_phoff) != wanted)
		return -ENOEXEC;
	for (unsigned i = 0; i < count; i++) {
		if (segments[i].p_type != PT_NOTE)
			continue;
		ssize_t bytes = pread(fd, notes, sizeof notes, (off_t)segments[i].p_offset);
		if (bytes <= 0)
			return -ENOEXEC;
		size_t here = segments[i].p_filesz < (uint64_t)bytes ? segments[i].p_filesz : (size_t)bytes;
		if (log_build_in_notes(notes, here, out))
			return 0;
	}
	return -ENOENT;
}

int log_build_of_file(const char *path, struct log_build *out)
{
	Elf64_Ehdr header;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int failed = -ENOEXEC;
	if (pread(fd, &header, sizeof header, 0) == sizeof header && memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 &&
	    header.e_ident[EI_CLASS] == ELFCLASS64)
		failed = find_in(fd, &header, out);
	close(fd);
	return failed;
}
