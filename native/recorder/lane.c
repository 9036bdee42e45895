/*
 * Appending to a lane. Only the lane's thread does.
 *
 * Invariants:
 *  - `position` is what the shared head was made by this thread; the head is moved by compare-and-swap from it, so a
 *    thread that was restored between its write and its publication cannot take back what the original did later.
 *  - A full log makes the thread wait here. It leaves the wait if the mode changes.
 */
#include "recorder/real.h"
#include "recorder/replay.h"

#include <sys/syscall.h>

enum { WAIT_FOR_SPACE_NS = 200000, TURN_LEASE_NS = 100000000 };

static inline void publish(struct ft_thread *t, uint64_t bytes)
{
	uint64_t was = t->position;
	_Atomic uint64_t *head = &ft_log.lanes[t->lane].head;
#ifdef __x86_64__
	/* One instruction is enough: only this thread writes the head; it has not to be locked against other processors. */
	__asm__ volatile("cmpxchgq %2, %1" : "+a"(was), "+m"(*(uint64_t *)head) : "r"(was + bytes) : "memory", "cc");
#else
	atomic_compare_exchange_strong(head, &was, was + bytes);
#endif
	/* Further on: the original of this copy was here. Behind: records would be lost, and nobody would know; or the lane begins later (anew.c). */
	if (unlikely((int64_t)(was - t->position) < 0) && ft_mode_word() != LOG_MODE_ANEW)
		ft_lost(LOG_LOSS_RECORD);
	t->position += bytes;
	t->at += bytes;
	t->left -= bytes;
	t->ordinal++;
}

static __attribute__((noinline)) void fold_crc(struct ft_thread *t)
{
	if (t->crc_from != NULL && t->at > t->crc_from)
		t->crc = ft_checksum_more(t->crc, t->crc_from, (size_t)(t->at - t->crc_from));
	t->crc_from = t->at;
}

static void pad(struct ft_thread *t)
{
	struct log_record record = {.kind = LOG_PAD, .words = 1, .object = (uint32_t)t->left};
	memcpy(t->at, &record, sizeof record);
	uint64_t all = t->left;
	t->at += sizeof record;
	fold_crc(t);
	t->at -= sizeof record;
	publish(t, all);
	t->at = NULL;
	t->crc_from = NULL;
}

/* True if the lane has the bytes; false if the mode is no longer RECORD. */
static __attribute__((noinline)) bool make_room(struct ft_thread *t, uint64_t bytes)
{
	uint64_t waited = 0;
	if (t->at != NULL && t->left < bytes && t->left > 0) {
		if (ft_mode_word() != LOG_MODE_RECORD)
			return false;
		pad(t);
	}
	if (t->at != NULL && t->left >= bytes)
		return true;
	fold_crc(t);
	uint8_t *at;
	while (ft_mode_word() == LOG_MODE_RECORD && (at = log_extend(&ft_log, t->lane, t->position)) == NULL) {
		if (waited == 0)
			atomic_fetch_add(&ft_log.header->waits, 1);
		struct timespec nap = {0, WAIT_FOR_SPACE_NS};
		waited += WAIT_FOR_SPACE_NS;
		atomic_fetch_add(&ft_log.header->wait_ns, WAIT_FOR_SPACE_NS);
		REAL(nanosleep)(&nap, NULL);
	}
	if (ft_mode_word() != LOG_MODE_RECORD)
		return false;
	t->at = at;
	t->crc_from = at;
	t->left = LOG_SEGMENT_BYTES - t->position % LOG_SEGMENT_BYTES;
	return true;
}

static __attribute__((noinline)) void put_check(struct ft_thread *t)
{
	struct log_check check = {.ticks = ft_ticks()};
	if (t->left < sizeof check + 8 && !make_room(t, sizeof check + 8))
		return;
	fold_crc(t);
	check.ordinal = t->ordinal;
	check.position = t->position;
	struct log_record record = {.kind = LOG_CHECK, .words = 4, .object = t->crc};
	if (ft_mode_word() != LOG_MODE_RECORD)
		return;
	memcpy(t->at, &record, 8);
	memcpy(t->at + 8, &check, sizeof check);
	publish(t, 8 + sizeof check);
	t->crc = 0;
	t->crc_from = t->at;
	t->checked = t->position;
}

static __attribute__((noinline)) bool put_pass(struct ft_thread *t)
{
	uint64_t before = t->solo;
	t->solo = atomic_load(&ft_solo_begun); /* first: this record has none before it */
	bool done = ft_put_value(LOG_SOLO_PASS, 0, t->solo);
	if (!done)
		t->solo = before;
	return done;
}

/*
 * Of an object that several threads may take a turn on at once. From here to ft_turn_end() nobody else takes one:
 * a copy that was restored between the mode and the version must not take what another one got in the original.
 */
void ft_turn_begin(uint32_t object)
{
	if (ft_me == NULL || ft_me->holds_turn == object + 1)
		return;
	uint64_t from_ns = 0;
	for (unsigned turns = 0; atomic_exchange_explicit(&ft_objects[object].busy, 1, memory_order_acquire) != 0; turns++) {
		if (turns > 100)
			ft_syscall(SYS_sched_yield);
		/* Of a process that was killed with it. */
		if (turns == 200 && object >= FT_OWN_OBJECTS)
			from_ns = ft_now_ns();
		if (from_ns != 0 && ft_now_ns() - from_ns > TURN_LEASE_NS)
			break;
	}
	ft_me->holds_turn = object + 1;
}

void ft_turn_end(uint32_t object)
{
	if (ft_me == NULL)
		return;
	ft_me->holds_turn = 0;
	atomic_store_explicit(&ft_objects[object].busy, 0, memory_order_release);
}

/* Only who holds such a lock takes a version of it. */
static inline bool is_exclusive(uint8_t kind)
{
	return kind < 32 && (1u << LOG_LOCK | 1u << LOG_WRITE_LOCK | 1u << LOG_WAIT_END) >> kind & 1;
}

/* The version is taken only when the mode is known, or a restored thread would have taken one that it must wait for. */
static inline uint32_t take_version(uint32_t turn, bool exclusive)
{
	_Atomic uint32_t *version = &ft_objects[turn].version;
	if (!exclusive)
		return atomic_fetch_add(version, 1);
	uint32_t taken = atomic_load_explicit(version, memory_order_relaxed);
	atomic_store_explicit(version, taken + 1, memory_order_release);
	return taken;
}

/* IS_READY: there is room for so many bytes, and the lane knows of all sections. Else what the append returns. */
enum { IS_READY = 2 };
static inline int get_ready(struct ft_thread *t, uint64_t bytes)
{
	if (unlikely(t->solo != atomic_load_explicit(&ft_solo_begun, memory_order_relaxed)) && !put_pass(t))
		return false;
	if (unlikely(t->at == NULL || t->left < bytes) && !make_room(t, bytes))
		return ft_mode_word() != LOG_MODE_REPLAY;
	return IS_READY;
}

static inline bool appended(struct ft_thread *t, uint64_t bytes)
{
	publish(t, bytes);
	ft_progress(t);
	if (unlikely(t->position - t->checked >= LOG_CHECK_EVERY_BYTES))
		put_check(t);
	return true;
}

static inline struct log_record record_of(struct ft_thread *t, uint8_t kind, uint64_t bytes, uint32_t object)
{
	return (struct log_record){.kind = kind, .elided = ft_elided(t), .words = (uint16_t)(bytes / 8), .object = object};
}

/* Each of those who have it inside of them knows how many words and pieces there are. */
static inline __attribute__((always_inline)) bool put(uint8_t kind, uint32_t object, uint64_t *words, uint32_t word_count,
                                                      uint32_t turn, const struct iovec *payload, int count)
{
	struct ft_thread *t = ft_me;
	uint64_t bytes = 8 + word_count * 8, payload_bytes = 0;
	for (int i = 0; i < count; i++)
		payload_bytes += payload[i].iov_len;
	bytes += (payload_bytes + 7) & ~7ull;
	if (unlikely(bytes > LOG_RECORD_BYTES_MAX)) {
		ft_lost(LOG_LOSS_RECORD);
		return true;
	}
	int ready = get_ready(t, bytes);
	if (unlikely(ready != IS_READY))
		return ready;
	struct log_record record = record_of(t, kind, bytes, object);
	bool exclusive = is_exclusive(kind), shared = turn != FT_NO_TURN && !exclusive && t->holds_turn != turn + 1;
	if (unlikely(shared))
		ft_turn_begin(turn);
	enum log_mode mode = ft_mode_word();
	if (likely(mode == LOG_MODE_RECORD) && turn != FT_NO_TURN) {
		uint32_t version = take_version(turn, exclusive);
		memcpy(&words[word_count - 1], &version, sizeof version); /* the first half of a log_sync */
	}
	if (unlikely(shared))
		ft_turn_end(turn);
	if (unlikely(mode != LOG_MODE_RECORD))
		return mode != LOG_MODE_REPLAY;
	uint8_t *at = t->at;
	memcpy(at, &record, 8);
	at += 8;
	for (uint32_t i = 0; i < word_count; i++, at += 8)
		memcpy(at, &words[i], 8);
	if (payload_bytes != 0) {
		memset(t->at + bytes - 8, 0, 8);
		for (int i = 0; i < count; i++) {
			memcpy(at, payload[i].iov_base, payload[i].iov_len);
			at += payload[i].iov_len;
		}
	}
	return appended(t, bytes);
}

bool ft_put(uint8_t kind, uint32_t object, uint64_t *words, uint32_t word_count, uint32_t turn, const struct iovec *payload,
            int count)
{
	return put(kind, object, words, word_count, turn, payload, count);
}

bool ft_put_bare(uint8_t kind, uint32_t object) { return put(kind, object, NULL, 0, FT_NO_TURN, NULL, 0); }

bool ft_put_value(uint8_t kind, uint32_t object, uint64_t value)
{
	return put(kind, object, &value, 1, FT_NO_TURN, NULL, 0);
}

bool ft_put_sync(uint8_t kind, uint32_t object, uint32_t turn, int32_t result)
{
	struct log_sync sync = {.version = 0, .result = result};
	uint64_t word;
	memcpy(&word, &sync, 8);
	return put(kind, object, &word, 1, turn, NULL, 0);
}

/* Both records are published at once: the AFTER comes before what depends on it either way. */
bool ft_put_lock(uint8_t kind, uint32_t object, uint32_t owner)
{
	struct ft_thread *t = ft_me;
	uint64_t progress, bytes = 16;
	bool after = ft_needs_after(t, owner, &progress);
	if (after)
		bytes += 16;
	int ready = get_ready(t, bytes);
	if (unlikely(ready != IS_READY))
		return ready;
	struct log_record first = record_of(t, LOG_AFTER, 16, owner - 1), lock = record_of(t, kind, 16, object);
	enum log_mode mode = ft_mode_word();
	if (unlikely(mode != LOG_MODE_RECORD))
		return mode != LOG_MODE_REPLAY;
	struct log_sync sync = {.version = take_version(object, true)};
	uint8_t *at = t->at;
	if (after) {
		memcpy(at, &first, 8);
		memcpy(at + 8, &progress, 8);
		at += 16;
		lock.elided = 0; /* they are in the first record */
		t->ordinal++;
		ft_after_is_put(t, owner, progress);
	}
	memcpy(at, &lock, 8);
	memcpy(at + 8, &sync, 8);
	return appended(t, bytes);
}

static uint64_t call_word(long result, int error)
{
	struct log_call call = {.result = result < 0 ? -(error != 0 ? error : 1) : (int32_t)result,
		.stamp = (uint32_t)(ft_ticks() >> LOG_STAMP_SHIFT)};
	uint64_t word;
	memcpy(&word, &call, 8);
	atomic_store_explicit(&ft_me->pace_stamp, call.stamp, memory_order_relaxed);
	return word;
}

bool ft_put_callv(uint8_t kind, uint32_t object, long result, int error, const struct iovec *payload, int count)
{
	uint64_t word = call_word(result, error);
	return put(kind, object, &word, 1, FT_NO_TURN, payload, count);
}

bool ft_put_call(uint8_t kind, uint32_t object, long result, int error, const void *payload, size_t bytes)
{
	struct iovec vector = {(void *)payload, bytes};
	uint64_t word = call_word(result, error);
	return put(kind, object, &word, 1, FT_NO_TURN, &vector, 1);
}

bool ft_put_turnv(uint8_t kind, uint32_t object, long result, int error, uint32_t turn, const struct iovec *payload, int count)
{
	struct log_sync sync = {.version = 0, .result = (int32_t)turn};
	uint64_t words[2] = {call_word(result, error)};
	memcpy(&words[1], &sync, 8);
	return ft_put(kind, object, words, 2, turn, payload, count);
}

bool ft_put_turn(uint8_t kind, uint32_t object, long result, int error, uint32_t turn, const void *payload, size_t bytes)
{
	struct iovec vector = {(void *)payload, bytes};
	return ft_put_turnv(kind, object, result, error, turn, &vector, bytes != 0);
}

void ft_lost(enum log_loss why)
{
	uint32_t none = LOG_LOSS_NONE, record = LOG_MODE_RECORD;
	atomic_compare_exchange_strong(&ft_log.header->lost, &none, why);
	atomic_compare_exchange_strong(&ft_log.header->mode, &record, LOG_MODE_LIVE);
}

uint32_t ft_lane_new(void)
{
	/* The lowest that is not in use: the same in a replay only because the record says it. */
	for (uint32_t lane = 1; lane < ft_log.lane_count; lane++) {
		uint32_t gone = FT_GONE;
		if (atomic_compare_exchange_strong(&ft_threads[lane].activity, &gone, FT_IN_REAL)) {
			ft_lane_claim(lane);
			return lane;
		}
	}
	return UINT32_MAX;
}

/* From here on it counts; it holds still until it has begun, unless a replay has to wait for it. */
void ft_lane_claim(uint32_t lane)
{
	uint32_t count = atomic_load(&ft_thread_count);
	atomic_store(&ft_threads[lane].pace_stamp, ft_me != NULL ? atomic_load(&ft_me->pace_stamp) : 0);
	atomic_store(&ft_threads[lane].pace_ns, 0);
	ft_pace_goes_on(&ft_threads[lane]);
	atomic_store(&ft_threads[lane].process, ft_here);
	atomic_store(&ft_threads[lane].activity, ft_mode_word() == LOG_MODE_RECORD ? FT_IN_REAL : FT_RUNS);
	while (count <= lane && !atomic_compare_exchange_weak(&ft_thread_count, &count, lane + 1))
		;
	/* Last: who waits for the use after this one must not find the lane still free. */
	atomic_fetch_add_explicit(&ft_threads[lane].uses, 1, memory_order_release);
}

void ft_lane_give_back(uint32_t lane)
{
	atomic_fetch_sub(&ft_threads[lane].uses, 1);
	atomic_store(&ft_threads[lane].activity, FT_GONE);
}

static bool is_free(const struct ft_thread *t, uint64_t wanted)
{
	const struct ft_thread *other = &ft_threads[(uint32_t)wanted];
	(void)t;
	return atomic_load_explicit(&other->uses, memory_order_acquire) == wanted >> 32 && atomic_load(&other->activity) == FT_GONE;
}

/* Threads of different parents may use a lane one after the other: it is not enough that nobody does. */
bool ft_lane_await(uint32_t lane, uint32_t uses)
{
	return ft_wait_until(ft_me, is_free, (uint64_t)uses << 32 | lane);
}

void ft_lane_begin(struct ft_thread *t, uint32_t lane)
{
	t->lane = lane;
	t->self = pthread_self();
	atomic_store(&t->condition, NULL);
	atomic_store(&t->deaf, false);
	ft_progress(t);
	t->in_solo = false;
	t->peeked = false;
	memset(t->clock_ns, 0, sizeof t->clock_ns);
	atomic_store(&t->kernel_tid, (int32_t)ft_syscall(SYS_gettid));
	atomic_store(&t->solo_reached, 0);
	if (ft_mode_word() == LOG_MODE_RECORD) {
		atomic_store(&ft_log.lanes[lane].kernel_tid, (uint32_t)atomic_load(&t->kernel_tid));
		atomic_store(&ft_log.lanes[lane].state, LOG_LANE_ACTIVE);
	}
	if (lane == 0)
		ft_lane_claim(0);
	ft_me = t;
	ft_real_end();
}

void ft_lane_end(struct ft_thread *t)
{
	ft_me = NULL;
	if (ft_mode_word() == LOG_MODE_RECORD)
		atomic_store(&ft_log.lanes[t->lane].state, LOG_LANE_ENDED);
	/* Before the lane is free: another parent may give it to its child at once. */
	if (t->lane == ft_here)
		atomic_store(&ft_shared.processes[ft_here].state, FT_WAS_PROCESS);
	atomic_store(&t->activity, FT_GONE);
}
