#include "feed/spans.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Room for so many more: before the first change of an operation, so that it is done whole or not at all. */
static int reserve(struct spans *s, size_t more)
{
	if (s->first + s->count + more <= s->room)
		return 0;
	if (s->first > s->count + more) {
		memmove(s->all, s->all + s->first, s->count * sizeof *s->all);
		s->first = 0;
		return 0;
	}
	size_t room = (s->first + s->count + more) * 2;
	struct span *grown = realloc(s->all, room * sizeof *grown);
	if (grown == NULL)
		return -1;
	s->all = grown;
	s->room = room;
	return 0;
}

/* The index in all[] of the first span that ends after `address`. */
static size_t after(const struct spans *s, uint64_t address)
{
	size_t low = s->first, high = s->first + s->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (s->all[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static size_t end_of(const struct spans *s)
{
	return s->first + s->count;
}

/* There is room. */
static void insert(struct spans *s, size_t at, const struct span *span)
{
	memmove(s->all + at + 1, s->all + at, (end_of(s) - at) * sizeof *s->all);
	s->all[at] = *span;
	s->count++;
}

static void take_out(struct spans *s, size_t from, size_t to)
{
	if (from == s->first) {
		s->first = to; /* the usual way: a fill goes upwards */
	} else {
		memmove(s->all + from, s->all + to, (end_of(s) - to) * sizeof *s->all);
	}
	s->count -= to - from;
}

/* Makes an address a border between spans, and returns the index of what begins there or later. There is room. */
static size_t split(struct spans *s, uint64_t address)
{
	size_t at = after(s, address);
	if (at == end_of(s) || s->all[at].start >= address)
		return at;
	struct span upper = s->all[at];
	upper.origin += address - upper.start;
	upper.start = address;
	s->all[at].end = address;
	insert(s, at + 1, &upper);
	return at + 1;
}

int spans_add(struct spans *s, uint64_t start, uint64_t end)
{
	assert(start < end && (s->count == 0 || s->all[end_of(s) - 1].end <= start));
	if (reserve(s, 1) != 0)
		return -1;
	s->all[end_of(s)] = (struct span){ .start = start, .end = end, .origin = start };
	s->count++;
	return 0;
}

int spans_copy(struct spans *out, const struct spans *from)
{
	*out = (struct spans){ 0 };
	if (from->count == 0)
		return 0;
	if (reserve(out, from->count) != 0)
		return -1;
	memcpy(out->all, from->all + from->first, from->count * sizeof *out->all);
	out->count = from->count;
	return 0;
}

void spans_free(struct spans *s)
{
	free(s->all);
	*s = (struct spans){ 0 };
}

const struct span *spans_at(const struct spans *s, uint64_t address)
{
	size_t at = after(s, address);
	return at == end_of(s) ? NULL : &s->all[at];
}

int spans_cut(struct spans *s, uint64_t from, uint64_t to)
{
	if (from >= to)
		return 0;
	if (reserve(s, 2) != 0)
		return -1;
	size_t begin = split(s, from), end = split(s, to);
	take_out(s, begin, end);
	return 0;
}

int spans_move(struct spans *s, uint64_t from, uint64_t to, uint64_t length)
{
	if (from == to || length == 0)
		return 0;
	/* The kernel moves nothing onto itself. */
	const struct span *there = spans_at(s, to);
	errno = EEXIST;
	if ((from < to + length && to < from + length) || (there != NULL && there->start < to + length))
		return -1;
	if (reserve(s, s->count + 4) != 0)
		return -1;
	size_t begin = split(s, from), end = split(s, from + length), count = end - begin;
	struct span *moving = count == 0 ? NULL : malloc(count * sizeof *moving);
	if (moving == NULL)
		return count == 0 ? 0 : -1;
	memcpy(moving, s->all + begin, count * sizeof *moving);
	take_out(s, begin, end);
	for (size_t i = 0; i < count; i++) {
		moving[i].start += to - from;
		moving[i].end += to - from;
	}
	size_t at = after(s, to);
	memmove(s->all + at + count, s->all + at, (end_of(s) - at) * sizeof *s->all);
	memcpy(s->all + at, moving, count * sizeof *moving);
	s->count += count;
	free(moving);
	return 0;
}
