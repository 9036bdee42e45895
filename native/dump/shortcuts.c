#include "dump/shortcuts.h"

#include <stdio.h>
#include <string.h>

#include "hook/message.h"

static const struct {
	const char *name;
	uint32_t bit;
} known[] = {
	{ "splices", HOOK_SPLICES },
	{ "pages", HOOK_PAGES },
	{ "smaps", HOOK_SMAPS },
	{ "mark", HOOK_MARK },
	{ "late", HOOK_LATE },
	{ "flags", HOOK_FLAGS },
	{ "quick", HOOK_QUICK },
	{ "images", HOOK_IMAGES },
	{ "descriptors", HOOK_DESCRIPTORS },
	{ "texts", HOOK_TEXTS },
};

uint32_t shortcut_called(const char *name)
{
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(known[i].name, name) == 0)
			return known[i].bit;
	return 0;
}

void shortcuts_list(uint32_t shortcuts, char *out, size_t size)
{
	size_t used = 0;
	out[0] = 0;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if ((shortcuts & known[i].bit) != 0 && used < size)
			used += (size_t)snprintf(out + used, size - used, "%s%s", used > 0 ? "," : "", known[i].name);
}
