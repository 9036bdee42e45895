#include "pages/packing.h"

#include <assert.h>
#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/* The fastest that is worth it: the standby waits for every epoch. */
enum { LZ4_ACCELERATION = 1, ZSTD_LEVEL = 1 };
enum { RUN_BYTES_MAX = PAGES_RUN_MAX * PAGE_BYTES };

struct pages_packer {
	enum pages_packing how;
	void *lz4;
	ZSTD_CCtx *zstd;
	uint8_t bytes[RUN_BYTES_MAX];
};

int pages_packing_called(const char *name)
{
	static const char *const names[] = { [PAGES_PLAIN] = "none", [PAGES_LZ4] = "lz4", [PAGES_ZSTD] = "zstd" };
	for (int how = 0; how < (int)(sizeof names / sizeof *names); how++)
		if (strcmp(names[how], name) == 0)
			return how;
	return -1;
}

struct pages_packer *pages_packer_new(enum pages_packing how)
{
	struct pages_packer *packer = malloc(sizeof *packer);
	if (packer == NULL)
		return NULL;
	packer->how = how;
	packer->lz4 = how == PAGES_LZ4 ? malloc((size_t)LZ4_sizeofState()) : NULL;
	packer->zstd = how == PAGES_ZSTD ? ZSTD_createCCtx() : NULL;
	if ((how == PAGES_LZ4 && packer->lz4 == NULL) || (how == PAGES_ZSTD && packer->zstd == NULL)) {
		pages_packer_free(packer);
		errno = ENOMEM;
		return NULL;
	}
	return packer;
}

void pages_packer_free(struct pages_packer *packer)
{
	if (packer == NULL)
		return;
	free(packer->lz4);
	ZSTD_freeCCtx(packer->zstd);
	free(packer);
}

enum pages_packing pages_packer_kind(const struct pages_packer *packer)
{
	return packer->how;
}

const uint8_t *pages_pack(struct pages_packer *packer, const uint8_t *bytes, uint64_t pages, size_t *packed_bytes)
{
	assert(pages > 0 && pages <= PAGES_RUN_MAX);
	size_t length = pages * PAGE_BYTES, room = length - 1, packed = 0;
	if (packer->how == PAGES_LZ4) {
		int got = LZ4_compress_fast_extState(packer->lz4, (const char *)bytes, (char *)packer->bytes, (int)length, (int)room,
						     LZ4_ACCELERATION);
		packed = got > 0 ? (size_t)got : 0;
	} else if (packer->how == PAGES_ZSTD) {
		size_t got = ZSTD_compressCCtx(packer->zstd, packer->bytes, room, bytes, length, ZSTD_LEVEL);
		packed = ZSTD_isError(got) ? 0 : got;
	}
	*packed_bytes = packed;
	return packed > 0 ? packer->bytes : NULL;
}

void pages_unpacker_close(struct pages_unpacker *unpacker)
{
	free(unpacker->bytes);
	ZSTD_freeDCtx(unpacker->zstd);
	*unpacker = (struct pages_unpacker){ 0 };
}

const uint8_t *pages_unpack(struct pages_unpacker *unpacker, enum pages_packing how, const uint8_t *packed, size_t packed_bytes,
			    uint64_t pages)
{
	assert(pages > 0 && pages <= PAGES_RUN_MAX && packed_bytes < EPOCH_RECORD_BYTES_MAX);
	size_t length = pages * PAGE_BYTES, got = 0;
	if (unpacker->bytes == NULL)
		unpacker->bytes = malloc(RUN_BYTES_MAX);
	if (unpacker->zstd == NULL && how == PAGES_ZSTD)
		unpacker->zstd = ZSTD_createDCtx();
	if (unpacker->bytes == NULL || (how == PAGES_ZSTD && unpacker->zstd == NULL)) {
		errno = ENOMEM;
		return NULL;
	}
	if (how == PAGES_LZ4) {
		int made = LZ4_decompress_safe((const char *)packed, (char *)unpacker->bytes, (int)packed_bytes, (int)length);
		got = made > 0 ? (size_t)made : 0;
	} else if (how == PAGES_ZSTD) {
		size_t made = ZSTD_decompressDCtx(unpacker->zstd, unpacker->bytes, length, packed, packed_bytes);
		got = ZSTD_isError(made) ? 0 : made;
	}
	errno = EBADMSG;
	return got == length ? unpacker->bytes : NULL;
}
