/* The memory of a few processes, as CRIU's images and as what a hook would have kept from CRIU. For tests. */
#ifndef FT_PAGES_TEST_MEMORY_H
#define FT_PAGES_TEST_MEMORY_H
#include <stddef.h>
#include <stdint.h>

#include "epoch/writer.h"
#include "pages/collect.h"

enum { MEMORY_PROCESSES = 3, MEMORY_PAGES = 700 };

struct memory {
	int alive[MEMORY_PROCESSES];
	uint8_t present[MEMORY_PROCESSES][MEMORY_PAGES], lazy[MEMORY_PROCESSES][MEMORY_PAGES];
	uint8_t written[MEMORY_PROCESSES][MEMORY_PAGES]; /* since the last epoch */
	uint32_t fill[MEMORY_PROCESSES][MEMORY_PAGES];   /* 0: a page of zeros */
};

void memory_mutate(struct memory *m, uint64_t (*below)(uint64_t));
/* All of it, as a plain dump has it. */
void memory_write(const struct memory *m, int directory);
/* One epoch's section: narrowed to what was written unless `base` is NULL, or by chance. The table after it; aborts on failure. */
struct pages_table *memory_collect(struct memory *m, int directory, const struct pages_table *base, const struct hash_key *key,
				   struct epoch_writer *writer, uint64_t (*below)(uint64_t));
#endif
