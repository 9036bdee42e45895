/*
 * Payloads of the records of the images section. Images come in ascending order of their names, bytes compared; every image of
 * the new epoch is named, and every one of the base's that is gone has IMAGE_REMOVED. Within an image offsets ascend. Blocks
 * of 4 KiB that no record covers are the base's at the same offset, and have the same length there.
 *
 *   IMAGE_FILE     u64 size, u64 base size (IMAGE_NO_BASE: none), name
 *   IMAGE_DATA     u64 offset, bytes       offset a multiple of 4096; length too, or up to the end of the file
 *   IMAGE_COPY     u64 offset, u64 base offset, u64 length   all multiples of 4096; together at most the base's size
 *   IMAGE_END      u32 crc32c of the whole
 *   IMAGE_REMOVED  name
 *   IMAGE_PATCHES  one or more images that have the size that they have in the base, at most IMAGE_PATCH_SIZE_MAX, each:
 *                  u8 bytes of the name before in this section that this one begins with, u8 more bytes, these, all without
 *                  ".img"; varint size; u32 crc32c of the whole; ranges (images/patch.h)
 */
#ifndef FT_IMAGES_RECORDS_H
#define FT_IMAGES_RECORDS_H
#include <stdint.h>

#define IMAGE_NO_BASE UINT64_MAX
#define IMAGE_NAME_BYTES_MAX 255u
#define IMAGES_MAX 65536u
#define IMAGE_FILE_HEAD_BYTES 16u
#define IMAGE_DATA_HEAD_BYTES 8u
#define IMAGE_COPY_BYTES 24u
#define IMAGE_RUN_BYTES_MAX (255u * 4096u) /* a record's content, below EPOCH_RECORD_BYTES_MAX */
#endif
