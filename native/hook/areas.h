/*
 * Two files in the directory of a dump's images, by which ftdump and the hook library speak of tracked memory.
 *
 * AREAS_NAME, by ftdump before the freeze: which areas of which process have been under a write-protecting userfaultfd
 * of ftdump's since the last epoch. Ascending by pid and address, no overlaps.
 * KEPT_NAME, by the library after the thaw: what in those areas was present and not written, or (KEPT_AS_WAS) has not changed
 * at all, so that CRIU was not told of it; and which areas were not tracked after all (KEPT_LOST): those were dumped whole.
 *
 * FRAMES_NAME, by the library, where written pages are found by their soft-dirty bits (hook/dirty.h): in which frame of memory each page of
 * a tracked area was. FRAMES_BEFORE_NAME, by ftdump: the same file of the last epoch that it answered with `ok`.
 *
 * All: header, entries, and in the header a crc32c of all entries. Of one host, one build: no byte order is fixed.
 */
#ifndef FT_HOOK_AREAS_H
#define FT_HOOK_AREAS_H

#include <stdint.h>

#define AREAS_NAME "ftctl-areas"
#define KEPT_NAME "ftctl-kept"
#define FRAMES_NAME "ftctl-frames"
#define FRAMES_BEFORE_NAME "ftctl-frames-before"
#define AREAS_MAGIC 0x3153414552415446ull /* FTAREAS1 */
#define KEPT_MAGIC 0x315450454b415446ull  /* FTAKEPT1 */
#define FRAMES_MAGIC 0x31454d4152465446ull /* FTFRAME1 */

enum areas_flags {
	AREAS_VERIFY = 1, /* of the header: tell CRIU of everything all the same */
	AREAS_SOFT_DIRTY = 4, /* of the header: written pages are found by their soft-dirty bits */
	AREAS_QUICK = 2,  /* of the header: this kernel's quick scan tells of all that was written, and of what is gone */
	AREAS_ANY_FRAME = 8, /* of the header, for the test that has to fail: the bits alone are believed */
	AREA_WHOLE = 1,   /* of an area: not tracked for the whole epoch, or the last dump failed */
	AREA_CLOSED = 4,  /* of an area, within ftdump: nobody may read or write it */
	KEPT_LOST = 1,    /* of a kept entry */
	KEPT_AS_WAS = 2,  /* of a kept entry: each of its pages is as it was, there or not */
};

struct areas_header {
	uint64_t magic;
	uint32_t flags, crc;
	uint64_t count;
	uint64_t marker; /* what /proc/PID/pagemap shows for a mark where no page is (track_probe_marker()); 0: not known */
};

struct area {
	uint32_t pid; /* inside */
	uint32_t flags;
	uint64_t start, end;
};

#endif
