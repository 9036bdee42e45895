/* A log-linear histogram of microseconds, of fixed size: 16 steps for each power of two, within 6.25 %. */
#ifndef FT_GATE_HISTOGRAM_H
#define FT_GATE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS 16u
#define HISTOGRAM_BUCKETS ((32u - 4u + 1u) * HISTOGRAM_STEPS)

struct histogram {
	uint64_t count;
	uint64_t sum_us;
	uint64_t max_us;
	uint64_t bucket[HISTOGRAM_BUCKETS];
};

void histogram_reset(struct histogram *histogram);
void histogram_add(struct histogram *histogram, uint64_t us);
uint64_t histogram_average(const struct histogram *histogram);
/* The upper edge of the bucket that holds the given percentile, never above the maximum seen. */
uint64_t histogram_percentile(const struct histogram *histogram, unsigned percent);

#endif
