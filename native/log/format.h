/*
 * The event log of a recorded application: one shared file of fixed size, on a tmpfs of the host, mapped by the
 * recorder (libftrec.so, in every process of the application), by the program that ships it, and by a replayer.
 * docs/log-format.md has the picture and the reasons.
 *
 *   page: header | report page | lane table | directories | segments in use (bitmap) | segment 0 | segment 1 | …
 *
 * How to read it, in short (native/log/reader.h does it):
 *  - A lane is the log of one thread: a stream of bytes from `tail` to `head`, both counted from the lane's
 *    beginning and never falling. Byte p of lane l is in segment `directory[l][(p / segment) % segments]`, at offset
 *    p % segment. An entry is of use only if it names its own p / segment; otherwise the bytes do not exist (any more).
 *  - `head` is stored with release order after the bytes below it: load it with acquire order, then read. Only the lane's
 *    thread moves it. `tail` is moved only by the one who trims (log_trim()).
 *  - Lanes are merged by object: an event with (object, version v) comes after the one with (object, v - 1). There is no
 *    total order, and none is needed. For a person, events are shown in the order of their time stamps.
 *  - A cut, for an ack or a frame's stamp, is one load of every head. What happened before a frame left the
 *    application is below a cut that is taken *after* the frame was seen. A cut alone need not be closed (lane A may
 *    name a version that lane B had not yet when B's head was loaded, a moment earlier): load all the heads once, then all
 *    of them again: everything that the first set needs is below the second.
 *  - A standby's file is a mirror: same size, same directory, same bytes in the same segments, same heads. A restored
 *    process has positions (private memory) that it will look up there.
 *  - Bytes between `head` and what the thread has written are no record yet, whatever they hold.
 *
 * Invariants (kept by native/log/file.c and the recorder):
 *  - A record never crosses a segment's end: PAD fills what is left.
 *  - A record's bytes are a function of private memory alone once the mode has been read. So a thread that is restored
 *    from a checkpoint in the middle of an append writes the same bytes to the same place again; and `head` is
 *    moved by compare-and-swap from the thread's own position, so it never falls.
 *  - A segment belongs to one lane at a time. Taken by setting its bit and then the directory's entry, both by
 *    compare-and-swap; given back in the opposite order.
 */
#ifndef FT_LOG_FORMAT_H
#define FT_LOG_FORMAT_H
#include <stdatomic.h>
#include <stdint.h>

#define LOG_MAGIC 0x31474f4c43455246ull /* "FRECLOG1" */
#define LOG_VERSION 2u /* 2: a pipe's and an eventfd's input ends with the channel's object; the recorder's build */
#define LOG_PAGE_BYTES 4096u
#define LOG_LANES_MAX 256u
#define LOG_SEGMENTS_MAX 4096u
#define LOG_SEGMENT_BYTES (1u << 20)
#define LOG_RECORD_BYTES_MAX (1u << 18) /* with its two or three words; longer input is cut by the recorder */
#define LOG_CHECK_EVERY_BYTES 4096u     /* a CHECK comes at the latest after this many bytes and one record */
#define LOG_REPORT_BYTES (LOG_PAGE_BYTES - 64u)

/* The mode word. Whoever owns the file sets it; the recorder reads it at every call and, at the log's end, moves on. */
enum log_mode {
	LOG_MODE_RECORD = 1,
	LOG_MODE_REPLAY = 2,
	LOG_MODE_LIVE = 3, /* neither: calls go straight through */
	LOG_MODE_STOPPED = 4, /* after a divergence, a stall or a corrupt log; the report page says why */
	LOG_MODE_ANEW = 5, /* a new file for a restored application: it sets RECORD when its lanes have begun. Never shipped */
};

/* Of a replay; also the first word of what `ftlog report` prints. */
enum log_outcome { LOG_OUTCOME_NONE, LOG_OUTCOME_REPLAYED, LOG_OUTCOME_DIVERGED, LOG_OUTCOME_STALLED, LOG_OUTCOME_CORRUPT };

struct log_header {
	uint64_t magic;
	uint32_t version;
	uint32_t crc; /* of the first 64 bytes with this field 0: what is fixed when the file is made */
	uint32_t lane_count, segment_count;
	uint64_t file_bytes;
	uint8_t log_id[16]; /* random: tells one file from another */
	uint8_t reserved[16];
	/* From here on things change. */
	_Atomic uint32_t mode;
	_Atomic uint32_t after_replay;   /* the mode to go on in at the log's end: LIVE or RECORD. In mode ANEW: of log_id */
	_Atomic uint64_t generation;     /* raised when a replay has ended and recording begins again */
	_Atomic uint64_t waits;          /* how often a thread found no free segment and waited */
	_Atomic uint64_t wait_ns;
	_Atomic uint64_t start_ns;       /* CLOCK_REALTIME at the recorder's start */
	_Atomic uint64_t start_ticks;    /* the tick counter then */
	_Atomic uint64_t ticks_per_s;
	_Atomic uint32_t flags;          /* LOG_FLAG_* */
	_Atomic uint32_t lost;           /* enum log_loss: why the recording cannot be replayed, or 0 */
	_Atomic uint32_t owner_pid;      /* the process whose main thread is lane 0, as it sees itself; 0 = the next to come */
	_Atomic uint32_t solo_failures; /* sections that were not, because a thread did not stop in time */
	/* Replay. */
	_Atomic uint64_t replayed_events, verified_outputs, replay_ns, unreached_events, verified_bytes;
	_Atomic uint64_t recorder_build[2]; /* the first 16 bytes of the recorder's build id; 0: none has started */
};
_Static_assert(sizeof(struct log_header) == 192, "what changes fits into what is shipped of it");

enum log_flags { LOG_FLAG_NO_SOLO = 1u, LOG_FLAG_PACE = 2u, LOG_FLAG_ELIDE = 4u };
/* Never silently: the recorder sets this, and goes on LIVE. */
enum log_loss { LOG_LOSS_NONE, LOG_LOSS_LANES, LOG_LOSS_OBJECTS, LOG_LOSS_DESCRIPTOR, LOG_LOSS_RECORD, LOG_LOSS_FORK,
	LOG_LOSS_CALL /* one that the recorder has no way for */ };

/* Where a replay says what became of it: text, `key=value` a line. Written before `ready`. */
struct log_report {
	_Atomic uint32_t ready;
	uint32_t outcome;
	uint32_t bytes;
	uint8_t reserved[52];
	char text[LOG_REPORT_BYTES];
};

/*
 * What a mirror has stored of a lane up to `to`, in its last segment and in the one before: checksums of bytes that no CHECK
 * guards yet. `to` 0: nobody has stored anything here.
 */
struct log_stored {
	uint64_t from, to;
	uint64_t before_from;
	uint32_t crc, before_crc;
};

struct log_lane {
	_Atomic uint64_t head; /* moved by the lane's thread only */
	_Atomic uint32_t state; /* enum log_lane_state */
	_Atomic uint32_t kernel_tid;
	struct log_stored stored_even;
	_Atomic uint64_t reached; /* where the end of a replay left it, + 1: what comes after is of another past. 0: there was none */
	uint8_t reserved_1[8];
	_Atomic uint64_t tail;    /* moved by log_trim() only */
	_Atomic uint64_t shipped; /* free for the shipper */
	struct log_stored stored_odd;
	_Atomic uint32_t stored; /* counts; its lowest bit says which of the two is true */
	uint8_t reserved_2[12];
};
enum log_lane_state { LOG_LANE_UNUSED, LOG_LANE_ACTIVE, LOG_LANE_ENDED };
_Static_assert(sizeof(struct log_lane) == 128, "a lane's two halves have a cache line each");
_Static_assert(sizeof(struct log_report) == LOG_PAGE_BYTES, "the report is one page");

/* A directory's entry: which segment holds part `part` of the lane. 0 = none. */
static inline uint64_t log_entry(uint64_t part, uint32_t segment) { return part << 16 | (segment + 1u); }
static inline uint64_t log_entry_part(uint64_t entry) { return entry >> 16; }
static inline uint32_t log_entry_segment(uint64_t entry) { return (uint32_t)(entry & 0xffff) - 1u; }

/*
 * A record: 8-byte words, the first always this. `elided` counts acquisitions of locks by this thread since the
 * record before, each of an object whose last owner was this thread: they happen again by themselves. Whoever takes such
 * an object next puts an AFTER before its own record, if they are in no record yet.
 */
struct log_record {
	uint8_t kind;   /* enum log_kind */
	uint8_t elided;
	uint16_t words; /* of 8 bytes, this one included; 0 is no record */
	uint32_t object; /* descriptor, object id, lane or clock, by kind; for CLOCK_DELTA the nanoseconds */
};
_Static_assert(sizeof(struct log_record) == 8, "the first word");

/* Which words follow, by kind (log_kinds[] in reader.c). */
enum log_shape {
	LOG_SHAPE_BARE,  /* nothing */
	LOG_SHAPE_CHECK, /* struct log_check */
	LOG_SHAPE_VALUE, /* uint64_t */
	LOG_SHAPE_SYNC,  /* struct log_sync */
	LOG_SHAPE_CALL,  /* struct log_call, then input bytes */
	LOG_SHAPE_OUTPUT, /* struct log_output */
	LOG_SHAPE_TURN,  /* struct log_call, struct log_sync (result unused), then input bytes */
};

struct log_check {
	uint64_t ordinal;  /* records in this lane before this one, PAD and CHECK included */
	uint64_t ticks;    /* the tick counter: stamps in full */
	uint64_t position; /* of this record in the lane */
};                     /* `object` is the crc32c of the bytes since the end of the CHECK before (or the lane's start) */
struct log_sync {
	uint32_t version;
	int32_t result; /* for TURN the object's id: a descriptor's channel or LOG_OBJECT_DESCRIPTORS */
};
struct log_call {
	int32_t result; /* -errno if it failed */
	uint32_t stamp; /* tick counter >> LOG_STAMP_SHIFT */
};
struct log_output {
	uint32_t bytes;
	uint32_t crc; /* crc32c of what the application asked to write */
};
#define LOG_STAMP_SHIFT 10
/* AFTER: what follows depends on lane `object` having come to here. */
static inline uint64_t log_progress(uint64_t position, uint8_t elided) { return position << 5 | elided; }
static inline uint64_t log_progress_position(uint64_t progress) { return progress >> 8 << 3; }
static inline uint8_t log_progress_elided(uint64_t progress) { return (uint8_t)progress; }
#define LOG_OBJECT_DESCRIPTORS 0 /* the descriptor table: calls that make or close one take turns */
/* Object ids are small numbers, given in the order of first use; 0 is the descriptor table. */
#define LOG_OBJECTS_MAX (1u << 20)

/* Numbers are part of the format: never reuse one. What each means: docs/log-format.md. */
enum log_kind {
	LOG_PAD = 1, LOG_CHECK = 2, LOG_FLUSH = 3,
	/* threads and their objects */
	LOG_LOCK = 16, LOG_TRY_FAILED = 17, LOG_READ_LOCK = 18, LOG_WRITE_LOCK = 19, LOG_WAIT_END = 20, LOG_SEM_POST = 21,
	LOG_SEM_WAIT = 22, LOG_SEM_FAILED = 23, LOG_BARRIER = 24, LOG_ONCE_RUN = 25, LOG_ONCE_DONE = 26, LOG_THREAD_CREATE = 27,
	LOG_THREAD_JOIN = 28, LOG_THREAD_END = 29, LOG_SIGNAL = 30, LOG_BARRIER_DONE = 31,
	LOG_AFTER = 32,
	/* solo sections */
	LOG_SOLO_BEGIN = 40, LOG_SOLO_END = 41, LOG_SOLO_PASS = 42,
	/* external channels and other input, by value */
	LOG_READ = 48, LOG_OUTPUT = 49, LOG_OUTPUT_SHORT = 50, LOG_SOCKET_OPTION = 51, LOG_SOCKET_NAME = 52, LOG_SOCKET_CALL = 53,
	LOG_POLL = 54, LOG_EPOLL_WAIT = 55, LOG_EPOLL_CTL = 56, LOG_CLOCK = 57, LOG_REALTIME_DELTA = 58, LOG_MONOTONIC_DELTA = 59,
	LOG_SLEEP = 60, LOG_RANDOM = 61, LOG_IDENTITY = 62, LOG_STREAM_READ = 63, LOG_STAT = 64, LOG_FILE_CALL = 65,
	LOG_FILE_READ = 66, LOG_FILE_WRITE = 67, LOG_USAGE = 68, LOG_CLOCK_RESULT = 69, LOG_MESSAGE = 70, LOG_COARSE_DELTA = 71,
	/* calls that take turns on a channel or on the descriptor table */
	LOG_SOCKET = 80, LOG_ACCEPT = 81, LOG_CLOSE = 82, LOG_OPEN = 83, LOG_DUP = 84, LOG_PIPE = 85, LOG_EVENTFD = 86,
	LOG_EPOLL_CREATE = 87, LOG_CHANNEL_READ = 88, LOG_CHANNEL_WRITE = 89, LOG_FORK = 90, LOG_WAIT_CHILD = 91,
	LOG_TURN_CALL = 92, LOG_KIND_MAX = 93
};
#endif
