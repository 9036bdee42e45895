/* One answer of the kernel's about pages: what in it is unchanged since the last dump. hook/dirty.h. */
#include "hook/dirty.h"

#include <stdlib.h>

enum { PAGE = 4096 };

static bool grow(void **list, size_t *room, size_t count, size_t size)
{
	if (count < *room)
		return true;
	size_t more = *room == 0 ? 1024 : *room * 2;
	void *grown = realloc(*list, more * size);
	if (grown == NULL)
		return false;
	*list = grown;
	*room = more;
	return true;
}

static bool note_frame(struct frames *now, uint32_t pid, uint64_t address, uint64_t entry)
{
	struct frames_run *last = now->runs > 0 ? &now->run[now->runs - 1] : NULL;
	if (!grow((void **)&now->entry, &now->entry_room, now->entries, sizeof *now->entry))
		return false;
	if (last == NULL || last->pid != pid || last->address + (uint64_t)last->pages * PAGE != address || last->pages == UINT32_MAX) {
		if (!grow((void **)&now->run, &now->run_room, now->runs, sizeof *now->run))
			return false;
		last = &now->run[now->runs++];
		*last = (struct frames_run){ .pid = pid, .address = address, .first = now->entries };
	}
	last->pages++;
	now->entry[now->entries++] = entry;
	return true;
}

static bool note_kept(struct kept_list *kept, uint32_t pid, uint64_t address)
{
	struct area *last = kept->count > 0 ? &kept->at[kept->count - 1] : NULL;
	if (last != NULL && last->pid == pid && last->end == address) {
		last->end += PAGE;
		return true;
	}
	if (!grow((void **)&kept->at, &kept->room, kept->count, sizeof *kept->at))
		return false;
	kept->at[kept->count++] = (struct area){ .pid = pid, .start = address, .end = address + PAGE };
	return true;
}

/* The first area of a pid that ends beyond `address`. */
static size_t area_at(const struct dirty_look *look, uint32_t pid, uint64_t address)
{
	size_t low = 0, high = look->areas;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct area *area = &look->area[middle];
		if (area->pid < pid || (area->pid == pid && area->end <= address))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Whether a frame may be one of the huge page of zeros. */
static bool may_be_zeros(const struct dirty_look *look, uint64_t address, uint64_t frame)
{
	if (look->zeros != 0)
		return frame >= look->zeros && frame < look->zeros + HUGE_PAGES;
	return frame % HUGE_PAGES == address / PAGE % HUGE_PAGES;
}

static bool is_unchanged(const struct dirty_look *look, uint32_t pid, uint64_t address, uint64_t entry)
{
	const uint64_t place = PAGEMAP_PRESENT | PAGEMAP_SWAPPED | PAGEMAP_FRAME;
	uint64_t frame = entry & PAGEMAP_FRAME, was;
	if ((entry & (PAGEMAP_SOFT_DIRTY | PAGEMAP_OF_FILE)) != 0 || frame == 0 || ((entry & PAGEMAP_PRESENT) != 0 && frame == look->zero))
		return false;
	was = frames_find(look->before, pid, address);
	if (look->any_frame)
		return was != 0;
	return (was & place) == (entry & place) && ((entry & PAGEMAP_PRESENT) == 0 || !may_be_zeros(look, address, frame));
}

int dirty_filter(const struct dirty_look *look, uint32_t pid, uint64_t address, uint64_t *entry, size_t count)
{
	size_t at = area_at(look, pid, address);
	for (size_t i = 0; i < count; i++, address += PAGE) {
		while (at < look->areas && look->area[at].pid == pid && look->area[at].end <= address)
			at++;
		if (at == look->areas || look->area[at].pid != pid)
			return 0;
		if (look->area[at].start > address || (entry[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) == 0)
			continue;
		if (!note_frame(look->now, pid, address, entry[i]))
			return -1;
		if ((look->area[at].flags & AREA_WHOLE) != 0 || !is_unchanged(look, pid, address, entry[i]))
			continue;
		if (!note_kept(look->kept, pid, address))
			return -1;
		if (!look->show)
			entry[i] = 0;
	}
	return 0;
}
