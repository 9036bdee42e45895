/* The spans against a plain array of pages. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "feed/spans.h"
#include "test/check.h"

enum { PAGE = 4096, PAGES = 400, STEPS = 4000, ROUNDS = 30 };

static int is_same(const struct spans *spans, const uint32_t *origin)
{
	uint64_t last = 0;
	size_t seen = 0;
	for (const struct span *s = spans_at(spans, 0); s != NULL; s = spans_at(spans, s->end)) {
		if (s->start >= s->end || s->start < last)
			return 0;
		for (uint64_t at = s->start; at < s->end; at += PAGE, seen++)
			if (origin[at / PAGE] != (s->origin + (at - s->start)) / PAGE)
				return 0;
		last = s->end;
	}
	for (size_t i = 0; i < PAGES; i++)
		seen -= origin[i] != 0;
	return seen == 0;
}

/* Page 0 is never missing: 0 stands for that. */
static void begin(struct spans *spans, uint32_t *origin, uint64_t *seed)
{
	for (uint64_t at = 1; at < PAGES;) {
		uint64_t end = at + 1 + check_random(seed) % 20;
		end = end > PAGES ? PAGES : end;
		if (check_random(seed) % 2 == 0) {
			if (spans_add(spans, at * PAGE, end * PAGE) != 0)
				abort();
			for (uint64_t i = at; i < end; i++)
				origin[i] = (uint32_t)i;
		}
		at = end;
	}
}

static int step(struct spans *spans, uint32_t *origin, uint64_t *seed)
{
	uint64_t from = 1 + check_random(seed) % (PAGES - 1), count = 1 + check_random(seed) % 12;
	count = from + count > PAGES ? PAGES - from : count;
	if (check_random(seed) % 2 == 0) {
		for (uint64_t i = from; i < from + count; i++)
			origin[i] = 0;
		return spans_cut(spans, from * PAGE, (from + count) * PAGE);
	}
	uint64_t to = 1 + check_random(seed) % (PAGES - 1);
	bool occupied = to + count > PAGES || (to < from + count && from < to + count);
	for (uint64_t i = to; !occupied && i < to + count; i++)
		occupied = origin[i] != 0;
	if (to + count > PAGES)
		return 0;
	int result = spans_move(spans, from * PAGE, to * PAGE, count * PAGE);
	if (occupied)
		return from == to ? result : result == 0 || errno != EEXIST ? -1 : 0;
	for (uint64_t i = 0; i < count; i++) {
		origin[to + i] = origin[from + i];
		origin[from + i] = 0;
	}
	return result;
}

TEST(follow_what_the_application_does)
{
	uint64_t seed = 42;
	for (int round = 0; round < ROUNDS; round++) {
		struct spans spans = { 0 };
		uint32_t origin[PAGES] = { 0 };
		begin(&spans, origin, &seed);
		for (int i = 0; i < STEPS / ROUNDS; i++) {
			CHECK_EQ(step(&spans, origin, &seed), 0);
			CHECK(is_same(&spans, origin));
		}
		struct spans copy;
		CHECK_EQ(spans_copy(&copy, &spans), 0);
		CHECK(is_same(&copy, origin));
		spans_free(&copy);
		spans_free(&spans);
	}
}

TEST(a_fill_upwards_leaves_nothing)
{
	struct spans spans = { 0 };
	CHECK_EQ(spans_add(&spans, 5 * PAGE, 9 * PAGE), 0);
	CHECK_EQ(spans_add(&spans, 9 * PAGE, 12 * PAGE), 0);
	for (uint64_t at = 5; at < 12; at++) {
		const struct span *next = spans_at(&spans, 0);
		CHECK(next != NULL);
		CHECK_EQ(next->start / PAGE, at);
		CHECK_EQ(spans_cut(&spans, at * PAGE, (at + 1) * PAGE), 0);
	}
	CHECK(spans_at(&spans, 0) == NULL);
	CHECK_EQ(spans.count, 0);
	spans_free(&spans);
}

int main(void)
{
	RUN(follow_what_the_application_does);
	RUN(a_fill_upwards_leaves_nothing);
	return check_report();
}
