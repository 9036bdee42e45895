/* One frame up, by the code's own unwind tables (.eh_frame). x86-64. */
#ifndef FT_LEAKS_UNWIND_H
#define FT_LEAKS_UNWIND_H
#include "recorder/test/leaks/modules.h"

enum { UNWIND_REGISTERS = 17, UNWIND_RSP = 7, UNWIND_RIP = 16 };
struct frame {
	uint64_t registers[UNWIND_REGISTERS]; /* DWARF's numbers */
	bool interrupted; /* rip is not a return address */
};

bool peek_word(pid_t pid, uint64_t address, uint64_t *out);
/* False: this was the last one, or nothing says how to leave it. */
bool unwind_one(pid_t pid, const struct module *module, struct frame *frame);
#endif
