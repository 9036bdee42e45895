/* The primary's side of the processes' memory: what changed against the base epoch, as the pages section of a blob. */
#ifndef FT_PAGES_COLLECT_H
#define FT_PAGES_COLLECT_H
#include <stdbool.h>
#include <stdint.h>

#include "epoch/writer.h"
#include "hook/areas.h"
#include "pages/packing.h"
#include "pages/set.h"

struct pages_stats {
	uint64_t pages;          /* present in all processes */
	uint64_t dumped;         /* found in CRIU's images */
	uint64_t changed, zero;  /* shipped: as bytes; as a mark */
	uint64_t dropped;
	uint64_t sent_bytes;     /* for the pages shipped as bytes, packed or not */
	uint64_t largest_bytes;  /* of CRIU's images of pages */
	uint32_t largest_id;
	uint64_t wrong;          /* with `verify`: kept pages whose content is not what it was */
};

struct pages_collect {
	int images; /* directory; its images of private memory are taken out of it */
	const struct pages_table *base; /* NULL: full */
	const struct hash_key *key;
	const struct area *kept; /* ascending by pid and address: present but not dumped, as nothing was written there */
	size_t kept_count;
	bool verify; /* kept pages are in the images too, and must be as they were */
	struct epoch_writer *writer;
	struct pages_packer *packer; /* NULL: pages are shipped as they are */
	char reason[160]; /* of a failure that has no errno */
};

/*
 * Writes the section. The table after the epoch, or NULL with errno; EPROTO and a reason: what was kept cannot be right.
 * Call it after the thaw. Only images that are in the table are removed from the directory, and only on success.
 */
struct pages_table *pages_collect(struct pages_collect *self, struct pages_stats *stats);
#endif
