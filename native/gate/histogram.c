#include "gate/histogram.h"

#include <string.h>

void histogram_reset(struct histogram *histogram)
{
	memset(histogram, 0, sizeof *histogram);
}

static unsigned bucket_of(uint64_t us)
{
	if (us < HISTOGRAM_STEPS)
		return (unsigned)us;
	if (us > UINT32_MAX)
		us = UINT32_MAX;
	unsigned exponent = 31u - (unsigned)__builtin_clz((unsigned)us); /* 4 … 31 */
	unsigned step = (unsigned)(us >> (exponent - 4)) - HISTOGRAM_STEPS;
	return (exponent - 3) * HISTOGRAM_STEPS + step;
}

static uint64_t upper_edge(unsigned bucket)
{
	if (bucket < HISTOGRAM_STEPS)
		return bucket;
	unsigned exponent = bucket / HISTOGRAM_STEPS + 3;
	uint64_t step = bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS;
	return ((step + 1) << (exponent - 4)) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t us)
{
	histogram->count++;
	histogram->sum_us += us;
	if (us > histogram->max_us)
		histogram->max_us = us;
	histogram->bucket[bucket_of(us)]++;
}

uint64_t histogram_average(const struct histogram *histogram)
{
	return histogram->count == 0 ? 0 : histogram->sum_us / histogram->count;
}

uint64_t histogram_percentile(const struct histogram *histogram, unsigned percent)
{
	/* The smallest rank that covers the percentage, counted from 1. */
	uint64_t rank = (histogram->count * percent + 99) / 100, seen = 0;
	if (histogram->count == 0)
		return 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += histogram->bucket[i];
		if (seen >= rank && seen > 0) {
			uint64_t edge = upper_edge(i);
			return edge < histogram->max_us ? edge : histogram->max_us;
		}
	}
	return histogram->max_us;
}
