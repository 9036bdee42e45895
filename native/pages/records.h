/*
 * Payloads of the records of the pages section: the private memory of the epoch's processes, by virtual address.
 * Every process of the new epoch has its set, in ascending order of ids; one of the base's that is gone has PAGES_GONE
 * in its place. Within a set all DROP records come first, then DATA, PACKED and ZERO; both runs ascend and do not overlap.
 * What no record covers is the base's.
 *
 *   PAGES_SET    u64 id, u32 id of CRIU's pages image, u32 flags (PAGES_FRESH: begins empty, whatever the base has)
 *   PAGES_DROP   u64 address, u64 pages         not present any more
 *   PAGES_DATA   u64 address + flag, bytes      1 to PAGES_RUN_MAX pages
 *   PAGES_PACKED u64 address + flag, u32 pages, u32 how (pages/packing.h), bytes that make 1 to PAGES_RUN_MAX pages, and are fewer
 *   PAGES_ZERO   u64 address + flag, u64 pages  present, and all zero
 *   PAGES_END    u64 pages present, u64 digest of the set (pages/set.h)
 *   PAGES_GONE   u64 id
 */
#ifndef FT_PAGES_RECORDS_H
#define FT_PAGES_RECORDS_H
#include <stdint.h>

#define PAGE_BYTES 4096u
#define PAGES_FRESH 1u
#define PAGE_LAZY 1u /* in an address: CRIU may restore the page lazily (private and anonymous) */
#define PAGES_RUN_MAX 255u /* below EPOCH_RECORD_BYTES_MAX */
#define PAGES_ZERO_MAX (1ull << 28)
#define PAGES_ADDRESS_END (1ull << 56)
#define PAGES_SETS_MAX 65536u
#define PAGES_SET_BYTES 16u
#define PAGES_RANGE_BYTES 16u
#define PAGES_DATA_HEAD_BYTES 8u
#define PAGES_PACKED_HEAD_BYTES 16u
#define PAGES_END_BYTES 16u
#define PAGES_GONE_BYTES 8u
#endif
