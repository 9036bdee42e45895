#include "files/told.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t slot_for(const struct told_set *set, uint32_t root, uint64_t ino, const char *name)
{
	uint64_t hash = (ino ^ ((uint64_t)root << 56)) * 0x9e3779b97f4a7c15ull;
	for (const char *at = name; *at != 0; at++)
		hash = (hash ^ (uint8_t)*at) * 0x100000001b3ull;
	size_t at = (size_t)(hash ^ (hash >> 29)) & (set->slots - 1);
	while (set->slot[at] != NULL && (set->slot[at]->root != root || set->slot[at]->ino != ino || strcmp(set->slot[at]->name, name) != 0))
		at = (at + 1) & (set->slots - 1);
	return at;
}

static int grow(struct told_set *set)
{
	struct told_set grown = {.slots = set->slots ? set->slots * 2 : 256, .count = set->count};
	grown.slot = calloc(grown.slots, sizeof(struct told *));
	if (grown.slot == NULL)
		return -1;
	for (size_t i = 0; i < set->slots; i++) {
		struct told *told = set->slot[i];
		if (told != NULL)
			grown.slot[slot_for(&grown, told->root, told->ino, told->name)] = told;
	}
	free(set->slot);
	*set = grown;
	return 0;
}

int told_add(struct told_set *set, uint32_t root, uint64_t ino, const char *name)
{
	if (set->count * 2 >= set->slots && grow(set) != 0)
		return -1;
	size_t at = slot_for(set, root, ino, name), bytes = strlen(name) + 1;
	if (set->slot[at] != NULL)
		return 0;
	if (set->count == TOLD_MAX) {
		errno = E2BIG;
		return -1;
	}
	struct told *told = malloc(sizeof *told + bytes);
	if (told == NULL)
		return -1;
	told->root = root;
	told->ino = ino;
	memcpy(told->name, name, bytes);
	set->slot[at] = told;
	set->count++;
	return 0;
}

void told_clear(struct told_set *set)
{
	if (set->count == 0)
		return;
	for (size_t i = 0; i < set->slots; i++) {
		free(set->slot[i]);
		set->slot[i] = NULL;
	}
	set->count = 0;
}

void told_free(struct told_set *set)
{
	told_clear(set);
	free(set->slot);
	*set = (struct told_set){0};
}
