/*
 * Payloads of the records of a section of files. Paths are relative to the root, without leading slash, empty, "." or ".."
 * components; "" is the root itself (FILES_DIRMETA only). The operations stand in this order, so that each finds what it needs
 * and doing them again after a kill gives the same:
 *
 *   ROOT     u8 kind, name
 *   RESET    (empty)
 *   DIR      meta, path                       what else is there gives way; metadata comes with DIRMETA
 *   RENAME   u16 length of from, from, to     `from` does not exist in the new state, so "no from" means "done"
 *   OPAQUE   u32 names, path                  then so many KEEP
 *   KEEP     name
 *   FILE     u8 flags, u64 size, u16 attributes, meta, path     then DATA and HOLE by offset, then ATTR
 *   DATA     u64 offset, bytes
 *   HOLE     u64 offset, u64 length
 *   SYMLINK  meta, u16 length of path, path, target
 *   NODE     u64 device number, meta, path
 *   LINK     u16 length of existing, existing, path
 *   REMOVE   path                             with everything below
 *   DIRMETA  u16 attributes, meta, path       then ATTR
 *   ATTR     u16 length of name, name, value  an entry has exactly the attributes named
 *
 *   meta = u32 mode with type, u32 uid, u32 gid, i64 mtime seconds, u32 nanoseconds
 */
#ifndef FT_FILES_RECORDS_H
#define FT_FILES_RECORDS_H
#include <stdint.h>

#define FILES_META_BYTES 24u
#define FILES_FILE_HEAD_BYTES (1u + 8u + 2u + FILES_META_BYTES)
#define FILES_DATA_HEAD_BYTES 8u
#define FILES_DATA_BYTES_MAX (255u * 4096u)
#define FILES_FILE_CREATE 1u /* a new inode: whatever is at the path is unlinked first, and the file starts empty */
#define FILES_NAME_BYTES_MAX 255u
#define FILES_ATTRS_MAX 128u
#define FILES_DEPTH_MAX 128u
#define FILES_ROOTS_MAX 32u
#define FILES_SIZE_MAX (1ull << 38) /* of one file: the index keeps 16 bytes for every 4 KiB */
#endif
