/*
 * The epoch blob: everything one epoch changes, in one file. docs/epoch-format.md has the picture.
 * All numbers little endian, nothing aligned; read and written with the accessors below.
 *
 *   header | section { record … } … | trailer
 *
 * Sections of files come first (one a root, in the order of the roots file), then the pages of the processes' private
 * memory, the section of images last.
 */
#ifndef FT_EPOCH_FORMAT_H
#define FT_EPOCH_FORMAT_H
#include <stdint.h>
#include <string.h>

#define EPOCH_MAGIC "FTEPOCH1"
#define EPOCH_TRAILER_MAGIC "FTEPEND1"
#define EPOCH_VERSION 4u
#define EPOCH_HEADER_BYTES 112u
#define EPOCH_SECTION_HEADER_BYTES 32u
#define EPOCH_RECORD_HEADER_BYTES 16u
#define EPOCH_TRAILER_BYTES 16u
#define EPOCH_SECTIONS_MAX 64u
#define EPOCH_RECORD_BYTES_MAX (1u << 20) /* payload of one record; longer content is cut into several */
#define EPOCH_PATH_BYTES_MAX 4096u
#define EPOCH_BLOCK_BYTES 4096u
#define EPOCH_PAIR_BYTES 16u

enum epoch_flags {
    EPOCH_FULL = 1u,       /* the images need no base: base_epoch is 0 */
    EPOCH_FILES_ONLY = 2u, /* presync: no section of images, epoch 0, base_epoch 0 */
};

enum epoch_section_kind { EPOCH_SECTION_FILES = 1, EPOCH_SECTION_IMAGES = 2, EPOCH_SECTION_PAGES = 3 };

/* Record types. Payload layouts are in docs/epoch-format.md; only native/files, native/pages and native/images
 * read them. */
enum epoch_record_type {
    IMAGE_FILE = 1,   /* begins an image: size, size in the base, name */
    IMAGE_DATA = 2,   /* bytes at an offset */
    IMAGE_COPY = 3,   /* a range of the base's file at another offset */
    IMAGE_REMOVED = 4,
    IMAGE_END = 5,     /* ends an image: crc32c of the whole */
    IMAGE_PATCHES = 6, /* small images, each as what differs from the base's of the same name */
    FILES_ROOT = 32,  /* first of a section: which root */
    FILES_RESET = 33, /* second, with files_seq 1: what is not named in this section does not exist */
    FILES_DIR = 34,   /* a directory exists */
    FILES_RENAME = 35,
    FILES_OPAQUE = 36, /* a directory keeps none of its entries but those of the FILES_KEEP that follow */
    FILES_KEEP = 37,
    FILES_FILE = 38, /* begins a regular file: size and metadata; data, holes and attributes follow */
    FILES_DATA = 39,
    FILES_HOLE = 40,
    FILES_SYMLINK = 41,
    FILES_NODE = 42, /* fifo or device */
    FILES_LINK = 43,
    FILES_REMOVE = 44,
    FILES_DIRMETA = 45, /* a directory's metadata, when all is in it; attributes follow */
    FILES_ATTR = 46,    /* one extended attribute of the file or directory before it */
    PAGES_SET = 64,     /* begins the memory of one process */
    PAGES_DROP = 65,    /* pages that are not present any more */
    PAGES_DATA = 66,    /* pages at an address */
    PAGES_ZERO = 67,    /* pages of zeros */
    PAGES_END = 68,     /* how many there are now, and their digest */
    PAGES_GONE = 69,    /* a process of the base that is no more */
    PAGES_PACKED = 70,  /* as PAGES_DATA, compressed */
};

/*
 * What the header says.
 *
 * Two chains are checked by the standby, apart from each other:
 * - images: base_epoch is the last committed epoch, or 0 with EPOCH_FULL.
 * - files: `files_chain` is a random number that names one life of the primary's files index, `files_seq` counts its blobs
 *   from 1. A blob with files_seq 1 starts a new chain and needs nothing (every root begins with FILES_RESET); any other must
 *   be the next of the chain that is committed. So a full epoch after n presyncs has EPOCH_FULL and files_seq n + 1, and ships
 *   no file twice. 0/0 = the blob has no sections of files and leaves the files as they are.
 */
struct epoch_header {
    char pair[EPOCH_PAIR_BYTES]; /* 12 hexadecimal digits, NUL padded */
    uint32_t flags;
    uint32_t section_count; /* set by the writer */
    uint64_t generation;
    uint64_t epoch;
    uint64_t base_epoch;
    uint64_t files_chain;
    uint64_t files_seq;
    uint64_t total_bytes; /* set by the writer */
};

/* Offsets of the fields. Every header ends with its crc32c. */
#define EPOCH_SECTION_MAGIC 0x54434553u /* "SECT" */
enum epoch_header_offsets {
    HEADER_VERSION = 8, HEADER_FLAGS = 12, HEADER_PAIR = 16, HEADER_GENERATION = 32, HEADER_EPOCH = 40, HEADER_BASE = 48,
    HEADER_FILES_CHAIN = 56, HEADER_FILES_SEQ = 64, HEADER_TOTAL = 72, HEADER_SECTIONS = 80, HEADER_RESERVED = 84,
    HEADER_CRC = 108,
    SECTION_KIND = 4, SECTION_ORDINAL = 8, SECTION_RECORDS = 12, SECTION_BYTES = 16, SECTION_RESERVED = 24, SECTION_CRC = 28,
    RECORD_TYPE = 0, RECORD_LENGTH = 4, RECORD_ORDINAL = 8, RECORD_CRC = 12, /* of the 12 bytes before and the payload */
    TRAILER_RESERVED = 8, TRAILER_CRC = 12, /* of all record headers and, after its records, each section's; the header's last */
};

static inline void put_u16(uint8_t *at, uint16_t value) { memcpy(at, &value, 2); }
static inline void put_u32(uint8_t *at, uint32_t value) { memcpy(at, &value, 4); }
static inline void put_u64(uint8_t *at, uint64_t value) { memcpy(at, &value, 8); }
static inline uint16_t get_u16(const uint8_t *at) { uint16_t v; memcpy(&v, at, 2); return v; }
static inline uint32_t get_u32(const uint8_t *at) { uint32_t v; memcpy(&v, at, 4); return v; }
static inline uint64_t get_u64(const uint8_t *at) { uint64_t v; memcpy(&v, at, 8); return v; }
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the accessors assume a little-endian processor"
#endif
#endif
