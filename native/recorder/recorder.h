/*
 * libftrec.so: preloaded into an application, it records what the application meets from outside (docs/log-format.md),
 * or feeds it from such a record. This is what its files share.
 *
 * Invariants, on which everything rests:
 *  - What is in memory here is private and is saved by a checkpoint; the log and its mode word are shared and are not.
 *  - After every real call the mode is read again, by the functions that append. If they return false this is a restored
 *    process that was in that call: undo its effect, and take the replay's way.
 *  - Nothing between the reading of the mode and the end of an append depends on anything but private memory.
 *  - A thread of which `ft_me` is NULL is not recorded: its calls go straight through.
 *  - The recorder allocates nothing after its start, and calls no interposed function by its public name.
 */
#ifndef FT_RECORDER_H
#define FT_RECORDER_H
#undef _FORTIFY_SOURCE /* the functions are defined here: no inline versions of them */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include "log/reader.h"

#pragma GCC visibility push(hidden)

/* Not the newest symbols, which came with glibc 2.34: the library must load into 2.31. */
#ifdef __x86_64__
__asm__(".symver dlsym,dlsym@GLIBC_2.2.5");
__asm__(".symver dlvsym,dlvsym@GLIBC_2.2.5");
__asm__(".symver pthread_attr_setstacksize,pthread_attr_setstacksize@GLIBC_2.2.5");
#endif

#define FT_PUBLIC __attribute__((visibility("default")))
#define FT_TLS __attribute__((tls_model("initial-exec")))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define FT_CLOCKS 3
#define FT_THREADS_MAX LOG_LANES_MAX
#define FT_DESCRIPTORS_MAX 65536
#define FT_INPUT_BYTES_MAX (LOG_RECORD_BYTES_MAX - 64) /* one record; a read of more is cut */

/* What a thread is doing, as the end of a replay is found out from it. */
enum ft_activity {
	FT_RUNS,
	FT_IN_REAL,   /* recording: in a call that may block. Replay: in one that is executed and may block */
	FT_AT_TURN,   /* replay: waits for an object's version */
	FT_WAITS,     /* replay: waits for something else, see `over` */
	FT_AT_END,    /* replay: its lane has nothing more */
	FT_GONE,
	FT_KILLED, /* with its process: nothing in the lane says where it ended, so it is not used again */
};

struct ft_thread;
typedef bool ft_over(const struct ft_thread *t, uint64_t argument); /* has come what the thread waits for? Asked by others too */

enum { FT_TOLD = 8 };
struct ft_told {
	uint32_t owner; /* lane + 1 */
	uint64_t progress;
};

struct ft_thread {
	uint32_t lane;
	_Atomic uint32_t process; /* the lane of its process's first thread */
	uint64_t position; /* in the lane; what is before it is published, or consumed */
	uint8_t *at;       /* where that is, or NULL: look it up */
	uint64_t left;     /* bytes from `at` to the segment's end */
	uint64_t ordinal;  /* records up to here */
	uint64_t checked;  /* position of the end of the last CHECK */
	uint32_t crc;      /* of the bytes since then, up to crc_from */
	const uint8_t *crc_from;
	uint64_t clock_ns[FT_CLOCKS];
	uint64_t solo;     /* the last solo section that this lane's log knows of */
	uint32_t holds_turn; /* object + 1 */
	bool in_solo;
	struct ft_told told[FT_TOLD]; /* by AFTERs in this lane, at the other lane's number */
	/* Replay. */
	bool peeked;
	struct log_event next;
	uint64_t next_bytes;
	uint64_t end;
	uint64_t verified, verified_bytes, events;
	/* Seen by other threads. */
	_Atomic uint64_t progress; /* log_progress(): the last record's end (PAD and CHECK are none), and the acquisitions since */
	_Atomic uint32_t pace_stamp; /* of its last call with a stamp, also when recording */
	_Atomic uint64_t pace_ns;    /* replay: when it went on from there; 0: not yet */
	_Atomic uint64_t wanted;   /* replay: others' records prove that it came to here */
	_Atomic uint32_t activity;
	_Atomic uint32_t solo_reached;
	_Atomic(pthread_cond_t *) condition; /* in a real wait on this one */
	_Atomic bool deaf; /* recording: in a real call that goes on after a signal; only while the activity is FT_IN_REAL */
	_Atomic int32_t kernel_tid;
	_Atomic uint32_t turn_object, turn_version;
	ft_over *over; /* set before the activity */
	uint64_t over_argument;
	_Atomic bool kicked;    /* a call may have been interrupted by us alone */
	_Atomic bool cancelled; /* replay: another thread has cancelled it; it happens where the log says, or at the end */
	pthread_t self;
	_Atomic uint64_t signals; /* pending for this thread, by number */
	_Atomic uint32_t uses; /* of this lane, so far: written by who claims it, when it counts as used */
	_Atomic uint64_t log;  /* anew.c: the file that it was last seen to have no append under way in */
} __attribute__((aligned(128))); /* no two threads share a line */

/* A process is known by the lane of its first thread. */
enum ft_process_state { FT_NO_PROCESS, FT_IS_FORKED /* its record is not there yet */, FT_IS_PROCESS, FT_WAS_PROCESS };
enum { FT_SIGNALS = 65 };
struct ft_process {
	_Atomic uint32_t state;
	_Atomic int32_t pid, told; /* in the kernel; what the application was told */
	_Atomic uint32_t answer;   /* agreement.c */
	_Atomic uint32_t sent[FT_SIGNALS], taken[FT_SIGNALS]; /* by processes of the application, by number */
};

/*
 * What the processes of an application must agree on. Private, in place, until the first child is to be recorded; from
 * then on it is one piece of shared memory under the same address in all of them (family.c), which CRIU saves with
 * them. In a process that is alone nothing of this costs anything.
 */
struct ft_shared {
	_Atomic uint32_t thread_count; /* lanes 0 … n-1 have been used */
	_Atomic uint32_t ending;       /* the end of a replay is being made: nobody moves */
	_Atomic uint32_t reporting;    /* somebody has found something wrong */
	_Atomic uint32_t several;      /* a child has been recorded */
	_Atomic uint32_t last_object;  /* of the shared ones */
	_Atomic uint32_t question, question_kind, asker; /* agreement.c */
	struct ft_process processes[FT_THREADS_MAX];
	struct ft_thread threads[FT_THREADS_MAX];
} __attribute__((aligned(4096)));

extern __thread struct ft_thread *ft_me FT_TLS;
extern struct ft_shared ft_shared;
#define ft_threads (ft_shared.threads)
#define ft_thread_count (ft_shared.thread_count)
extern struct log_file ft_log;
extern uint32_t ft_here; /* this process */
static inline bool ft_is_here(const struct ft_thread *t)
{
	return atomic_load_explicit(&t->process, memory_order_relaxed) == ft_here;
}
extern _Atomic uint32_t ft_stop_requested; /* somebody wants the other threads to hold still */
extern _Atomic uint64_t ft_solo_begun, ft_solo_done;

/* start.c */
bool ft_is_among_outsiders(const void *caller);
extern uintptr_t ft_outsiders_from, ft_outsiders_bytes; /* from the first to the end of the last */
static inline bool ft_is_outsider(const void *caller) /* code that is not recorded: allocators, the recorder itself, the loader */
{
	return (uintptr_t)caller - ft_outsiders_from < ft_outsiders_bytes && ft_is_among_outsiders(caller);
}
uint64_t ft_now_ns(void);
uint64_t ft_ticks(void);
long ft_syscall(long number, ...);
long ft_syscall_of(long number, va_list arguments);
void ft_write_line(const char *format, ...) __attribute__((format(printf, 1, 2))); /* to stderr, for a person */


static inline enum log_mode ft_mode_word(void)
{
	return (enum log_mode)atomic_load_explicit(&ft_log.header->mode, memory_order_acquire);
}

/* ending.c */
#define ft_ending (ft_shared.ending)
bool ft_all_still(bool settled); /* of this process */
void ft_replay_is_over(void);
void ft_run_again(struct ft_thread *t);
/* False: the log has ended before. */
bool ft_wait_until(struct ft_thread *t, ft_over *over, uint64_t argument);
bool ft_wait_for_turn(struct ft_thread *t, uint32_t object, uint32_t version);
/* Returns when the mode changes, or the log grows, or if the acquisition of `lock` (NULL: it is none) is proven after all. */
/* Past its lane's last record, before it takes `lock` (NULL: before something else), which it may have taken without a record. */
void ft_wait_for_the_end(struct ft_thread *t, const void *lock);
/* Likewise, where no lock is taken: also until the log proves that the original went on. */
#define FT_ANY_LOCK UINT64_MAX
void ft_wait_for_the_end_or_proof(struct ft_thread *t);
void ft_replay_begins(void);
void ft_replay_ends_if_all_still(bool settled);
bool ft_memory_is_missing(void); /* missing.c */
char ft_state_of(const struct ft_thread *t); /* by the kernel: R, S, D, t, T; S if nobody can say (no /proc) */
void ft_replay_exits(void); /* the application ends, as it did when it was recorded */

/* family.c */
#define FT_NO_LANE UINT32_MAX
void ft_processes_start(void);
bool ft_may_record_child(void);
/* Both are the same in a replay; the second is the first of the ids that channels get which the child inherits. */
void ft_child_is_to_come(uint32_t lane, uint32_t first_object);
uint32_t ft_channels_to_share(void); /* how many ids that takes */
pid_t ft_fork(uint32_t lane); /* FT_NO_LANE: not recorded. The child comes back when its record is in the log */
void ft_child_has_come(uint32_t lane, pid_t told, pid_t real);
void ft_process_ends(void); /* this one */
void ft_process_is_gone(uint32_t process, pid_t told); /* a child, which was reaped */
bool ft_process_is_there(uint32_t process);
bool ft_process_has_read_all(uint32_t process); /* replay: its lanes have nothing more */
uint32_t ft_process_told(pid_t told); /* FT_NO_LANE: none of the recorded */
bool ft_process_is_alone(void);
uint32_t ft_processes_there(void);
void ft_children_forget(void); /* process.c: a child has none */
pid_t ft_pid_told(pid_t real);
pid_t ft_real_pid(pid_t told);
bool ft_has_other_threads(void);
extern bool ft_is_outside; /* a child that is not recorded */
void ft_outside_serves(void);
void ft_stop_the_others(int number);

/* start.c */
bool ft_helper_starts(void);
void ft_helper_hold(void); /* it does nothing until it is let go */
void ft_helper_let_go(void);
void ft_describe_recording(void); /* into the header: whose it is, and how */

/* agreement.c */
enum ft_question { FT_ARE_YOU_STILL, FT_ARE_YOU_SETTLED, FT_GO_LIVE };
extern uint32_t ft_answered;
void ft_answer_now(void);
static inline void ft_answer(void)
{
	if (unlikely(atomic_load_explicit(&ft_shared.question, memory_order_acquire) != ft_answered))
		ft_answer_now();
}
bool ft_others_may_be_still(bool settled);
bool ft_others_agree(enum ft_question question);
const char *ft_others_go_live(const char *(*mine)(void));

/* solo.c */
void ft_hold_still(struct ft_thread *t);
void ft_solo_after_wait(struct ft_thread *t, bool timer_is_due);
void ft_solo_finish(struct ft_thread *t);
void ft_solo_pass(struct ft_thread *t, uint64_t section);
void ft_solo_replay_begin(struct ft_thread *t, bool holds_lock);
void ft_solo_reset(void);

/* signals.c */
void ft_signals_kick(void); /* helper: a thread that sits in a call has signals to handle */
void ft_signals_run(struct ft_thread *t);
bool ft_only_kicked(struct ft_thread *t); /* recording: the call that was interrupted is to be made again */
void ft_signals_replay(struct ft_thread *t, const struct log_event *event);
void ft_signals_run_inside(struct ft_thread *t);
void ft_signals_replay_inside(struct ft_thread *t);
void ft_signals_replay_deaf(void); /* by the signal that kicks: one that was restored where no signal ends its call */
void ft_signals_go_live(void); /* those that other processes had sent, and that had not arrived when the log ended */

/* anew.c */
enum log_mode ft_mode_beyond(struct ft_thread *t, enum log_mode mode); /* of STOPPED and ANEW: as what a call is made */
void ft_begin_anew(void); /* helper, in mode ANEW */

/* Where every interposed call begins: the mode for this thread. LIVE also stands for "not recorded". */
static inline enum log_mode ft_enter(void)
{
	struct ft_thread *t = ft_me;
	if (t == NULL)
		return LOG_MODE_LIVE;
	if (unlikely(atomic_load_explicit(&ft_stop_requested, memory_order_acquire)) && !t->in_solo)
		ft_hold_still(t);
	if (unlikely(atomic_load_explicit(&t->signals, memory_order_relaxed) != 0))
		ft_signals_run(t);
	enum log_mode mode = ft_mode_word();
	return likely(mode <= LOG_MODE_LIVE) ? mode : ft_mode_beyond(t, mode);
}
/* Around a real call that may block: the thread counts as still meanwhile. */
static inline void ft_real_begin(void)
{
	if (ft_me == NULL)
		return;
	if (unlikely(ft_me->in_solo))
		ft_solo_finish(ft_me);
	atomic_store_explicit(&ft_me->activity, FT_IN_REAL, memory_order_release);
}
/* After an output: signals wait until its result is recorded (OUTPUT_SHORT belongs to its OUTPUT). */
static inline void ft_real_end_quietly(void)
{
	if (ft_me == NULL)
		return;
	atomic_store_explicit(&ft_me->activity, FT_RUNS, memory_order_seq_cst);
	if (unlikely(atomic_load_explicit(&ft_ending, memory_order_seq_cst)))
		ft_run_again(ft_me);
	if (unlikely(atomic_load_explicit(&ft_stop_requested, memory_order_seq_cst)))
		ft_hold_still(ft_me);
}
static inline void ft_real_end(void)
{
	ft_real_end_quietly();
	if (ft_me != NULL && unlikely(atomic_load_explicit(&ft_me->signals, memory_order_relaxed) != 0))
		ft_signals_run(ft_me);
}

/* lane.c: recording. All return false if the mode has become REPLAY, true if recorded, or LIVE and not recorded. */
#define FT_NO_TURN UINT32_MAX
/* With a turn, the last word is a log_sync, and gets the version of that object. */
bool ft_put(uint8_t kind, uint32_t object, uint64_t *words, uint32_t word_count, uint32_t turn, const struct iovec *payload,
            int count);
bool ft_put_bare(uint8_t kind, uint32_t object);
bool ft_put_value(uint8_t kind, uint32_t object, uint64_t value);
bool ft_put_sync(uint8_t kind, uint32_t object, uint32_t turn, int32_t result);
/* Of a lock that excludes others, with the AFTER that it needs; `owner`: the last to take it, lane + 1, or 0. */
bool ft_put_lock(uint8_t kind, uint32_t object, uint32_t owner);
bool ft_put_call(uint8_t kind, uint32_t object, long result, int error, const void *payload, size_t bytes);
bool ft_put_callv(uint8_t kind, uint32_t object, long result, int error, const struct iovec *payload, int count);
/* A call that takes a turn on an object. One that gives something up (close, write to a pipe) is put before it is made. */
bool ft_put_turn(uint8_t kind, uint32_t object, long result, int error, uint32_t turn, const void *payload, size_t bytes);
bool ft_put_turnv(uint8_t kind, uint32_t object, long result, int error, uint32_t turn, const struct iovec *payload, int count);
/* Around a put and what must be done before the next thread's turn on the same object. */
void ft_turn_begin(uint32_t object);
void ft_turn_end(uint32_t object);
void ft_turn_keep(struct ft_thread *t); /* the turn ends with the thread's next call, before anything else */
void ft_lost(enum log_loss why); /* the recording ends here; the application goes on */
void ft_lane_begin(struct ft_thread *t, uint32_t lane);
uint32_t ft_lane_new(void); /* UINT32_MAX: none is free */
void ft_lane_claim(uint32_t lane); /* its thread is about to be made */
void ft_lane_give_back(uint32_t lane); /* and was not */
bool ft_lane_await(uint32_t lane, uint32_t uses); /* replay: until it is free, after so many uses. False: the log has ended */
void ft_lane_end(struct ft_thread *t);
bool ft_thread_ends(struct ft_thread *t);

/* replay.c. The record is good until ft_done(). NULL: the log has ended, and the mode is LIVE or RECORD: call ft_enter() again. */
#define FT_ANY UINT32_MAX
const struct log_event *ft_take(uint8_t kind, uint32_t object);
/* The kind that comes next, without waiting for its turn; 0 at the end (and then the mode has changed). */
uint8_t ft_coming(void);
bool ft_pass_in_between(struct ft_thread *t); /* one record of a signal or a section, if that is what comes */
/* The same, for an acquisition. FT_COUNTED: it was only counted. */
#define FT_COUNTED UINT8_MAX
uint8_t ft_coming_acquisition(const void *address);
void ft_done(const struct log_event *event); /* consumed; gives the next version its turn */
long ft_result(const struct log_event *event); /* the result, and errno; ends with ft_done() */

/* walk.c */
const struct log_event *ft_peek(struct ft_thread *t); /* NULL at the end */
bool ft_stands_before(const struct ft_thread *t, uint64_t section);
/* The next record but those of sections (and checks), which are not consumed; its object. 0: there is none. */
uint8_t ft_kind_ahead(const struct ft_thread *t, uint32_t *object);

/* elided.c */
static inline uint8_t ft_elided(const struct ft_thread *t) /* acquisitions since the last record */
{
	return log_progress_elided(atomic_load_explicit(&t->progress, memory_order_relaxed));
}
/* All acquisitions so far are in records: the last one ends at the lane's position. */
static inline void ft_progress(struct ft_thread *t)
{
	atomic_store_explicit(&t->progress, log_progress(t->position, 0), memory_order_release);
}
static inline void ft_progress_elided(struct ft_thread *t)
{
	atomic_store_explicit(&t->progress, atomic_load_explicit(&t->progress, memory_order_relaxed) + 1, memory_order_release);
}
/* Has the lane of `owner` counted what is in no record yet, and in no AFTER here? */
static inline bool ft_needs_after(const struct ft_thread *t, uint32_t owner, uint64_t *progress)
{
	if (owner == 0 || owner == t->lane + 1)
		return false;
	*progress = atomic_load_explicit(&ft_threads[owner - 1].progress, memory_order_acquire);
	const struct ft_told *told = &t->told[owner % FT_TOLD];
	return log_progress_elided(*progress) != 0 && (told->progress != *progress || told->owner != owner);
}
static inline void ft_after_is_put(struct ft_thread *t, uint32_t owner, uint64_t progress)
{
	t->told[owner % FT_TOLD] = (struct ft_told){owner, progress};
}
bool ft_put_after(uint32_t owner); /* before a record that depends on what lane owner - 1 has only counted. As ft_put() */
bool ft_put_after_all(void);       /* the same, of all other lanes, while they hold still */
void ft_want(const struct log_event *after);
bool ft_is_wanted(const struct ft_thread *t); /* at its lane's end: it went on from here */
bool ft_next_is_elided(const struct ft_thread *t, const void *address); /* at the lane's end: is this acquisition proven? */

/* report.c */
struct ft_sides {
	const char *what;
	uint8_t kind;
	uint32_t object;
	uint64_t got_bytes, got_crc;
};
_Noreturn void ft_diverged(const struct ft_sides *mine, const struct log_event *logged);
void ft_stalled(void);
_Noreturn void ft_corrupt(const char *why);
_Noreturn void ft_other_build(void);

/* clocks.c */
extern pid_t ft_told_pid; /* of a child that a replay has made again: what its parent was told, or 0 */

/* live.c */
const char *ft_go_live(void); /* all processes. NULL, or why they must not go on */
const char *ft_process_goes_live(void); /* this one */
void ft_clocks_go_live(void);

/* clocks.c */
const struct timespec *ft_deadline(clockid_t clock, const struct timespec *until, struct timespec *shifted);

/* objects.c */
struct ft_object {
	_Atomic uint32_t version;
	_Atomic uint32_t owner; /* lane + 1 of the last to acquire it */
	_Atomic uint32_t busy;  /* somebody is taking a version, or does what must be over before the next takes his */
} __attribute__((aligned(64))); /* locks of different threads do not share a line; untouched ones cost nothing */
/* The last ones are of what several processes share: in memory that they share too. */
enum { FT_SHARED_OBJECTS = 8192, FT_OWN_OBJECTS = LOG_OBJECTS_MAX - FT_SHARED_OBJECTS };
extern struct ft_object ft_objects[LOG_OBJECTS_MAX] __attribute__((aligned(4096)));
uint32_t ft_object_new(void); /* 0: this is a replay, in which it is learnt from the log */
void ft_object_learn(uint32_t id);
uint32_t ft_object_known(const void *address); /* 0: it has no id yet */
uint32_t ft_object_of(const void *address); /* gives it an id if it has none; 0 as above */
bool ft_object_is(const void *address, uint32_t id); /* learns it, or says that it is another */
void ft_object_forget(const void *address);
void ft_objects_are_shared(void);
void ft_object_is_shared(const void *address); /* by processes, on purpose: then the recording is lost at its first use */

extern bool ft_elides; /* the last owner's acquisitions are only counted: elided.c */

/* descriptors.c */
enum ft_kind {
	FT_UNKNOWN,  /* not recorded */
	FT_SOCKET,   /* external: from the log */
	FT_LISTENER,
	FT_INPUT,    /* devices, /proc, timers, signals: reads from the log */
	FT_STDOUT,   /* external output, inherited */
	FT_CHANNEL,  /* pipe, eventfd, socket pair: bytes from the log, and executed */
	FT_EPOLL,
	FT_FILE,     /* executed */
	FT_PASSED,   /* came through a channel, and nobody knows what it is: using it ends the recording */
};
struct ft_descriptor {
	uint8_t kind;
	bool placeholder;  /* stands for an external channel that only the log knows */
	bool watched;      /* in an epoll set */
	bool eventfd;
	bool nonblocking;
	uint32_t channel;  /* object id; also of a listener that several processes have */
	bool side;         /* which end */
	int32_t epoll;
	uint32_t events;
	uint64_t data;
	int64_t debt;      /* replay: what the real channel still holds though it has been read by the log's account */
	int domain, backlog;
	uint32_t connection; /* replay: connections.c */
	uint32_t address_bytes;
	uint8_t address[128]; /* a listener's, to make it anew */
};
extern struct ft_descriptor ft_descriptors[FT_DESCRIPTORS_MAX];
extern int ft_descriptor_highest; /* that was ever of a kind */
static inline struct ft_descriptor *ft_descriptor(int fd)
{
	static struct ft_descriptor none;
	return (unsigned)fd < FT_DESCRIPTORS_MAX ? &ft_descriptors[fd] : &none;
}
static inline uint8_t ft_kind_of(int fd) { return ft_descriptor(fd)->kind; }
static inline bool ft_is_external(int fd)
{
	uint8_t kind = ft_kind_of(fd);
	return kind >= FT_SOCKET && kind <= FT_STDOUT;
}
void ft_descriptor_set(int fd, enum ft_kind kind);
void ft_descriptor_clear(int fd);
enum ft_kind ft_descriptor_probe(int fd, const char *path); /* of a descriptor that was just opened */
int ft_close(int fd, int (*really)(int, void *), void *stream); /* in its turn */
void ft_place(int fd); /* replay: puts a placeholder there */
int ft_move(int from, int to); /* replay: an executed call's descriptor gets the number it had */

/* channels.c, backlog.c */
void ft_channel_settle(int fd, bool closes);
void ft_backlogs_flush(void);
void ft_backlog_rename(uint32_t channel, uint32_t to);
void ft_backlogs_forget(void);

/* checksum.c */
uint32_t ft_checksum(const void *bytes, size_t count);
uint32_t ft_checksum_more(uint32_t crc, const void *bytes, size_t count);
uint32_t ft_checksum_of(const struct iovec *vector, int count, size_t *total);

#pragma GCC visibility pop
#endif
