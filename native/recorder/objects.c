/*
 * Which object is at an address, and its version. Ids are given in the order of first use; a replay learns them from the
 * records, so that addresses may differ. An address that is initialised again becomes a new object.
 */
#include "recorder/objects.h"

#include <sys/syscall.h>

enum { PROBES_NEAR = 4, FAR_STEP = 40503, PROBES_MAX = 512, FT_BETWEEN_MAX = 64 };

struct ft_slot ft_slots[FT_SLOTS] __attribute__((aligned(4096)));
struct ft_object ft_objects[LOG_OBJECTS_MAX] __attribute__((aligned(4096)));
static _Atomic uint32_t last_id;
static _Atomic uint32_t giving; /* somebody gives the next id, or learns one */

/*
 * Where arrays of locks overlap, what finds no place near its neighbours is spread over the table, in steps that lead out of a
 * part that is full: it may be as long as an array.
 */
static struct ft_slot *slot_at(const void *address, uint64_t probe)
{
	if (probe < PROBES_NEAR)
		return &ft_slots[((uint64_t)(ft_slot_near(address) - ft_slots) + probe) % FT_SLOTS];
	uint64_t hash = ((uint64_t)address >> 2) * 0x9e3779b97f4a7c15ull >> (64 - FT_SLOT_BITS);
	return &ft_slots[(hash + probe * FAR_STEP) % FT_SLOTS];
}

static struct ft_slot *slot_of(const void *address)
{
	for (unsigned probe = 0; probe < PROBES_MAX; probe++) {
		struct ft_slot *slot = slot_at(address, probe);
		const void *there = atomic_load_explicit(&slot->address, memory_order_acquire);
		if (there == address)
			return slot;
		if (there == NULL && (atomic_compare_exchange_strong(&slot->address, &there, address) || there == address))
			return slot;
	}
	return NULL;
}

/*
 * Ids are given by one thread at a time, which reads the mode first. A copy that was restored in between gives the same
 * one as the original; one that was restored before gives none, and learns it from the log.
 */
static void begin_giving(void)
{
	for (unsigned turns = 0; atomic_exchange_explicit(&giving, 1, memory_order_acquire) != 0; turns++)
		if (turns > 100)
			ft_syscall(SYS_sched_yield);
}

static void end_giving(void) { atomic_store_explicit(&giving, 0, memory_order_release); }

void ft_object_learn(uint32_t id)
{
	begin_giving();
	if (id < FT_OWN_OBJECTS && atomic_load(&last_id) < id)
		atomic_store(&last_id, id);
	end_giving();
}

/* Gives `to` an id, if it has none: and returns what it has then. 0: this is a replay now. */
static uint32_t give(_Atomic uint32_t *to)
{
	begin_giving();
	uint32_t id = atomic_load(to);
	if (id == 0 && ft_mode_word() != LOG_MODE_REPLAY) {
		id = atomic_fetch_add(&last_id, 1) + 1;
		if (id < FT_OWN_OBJECTS)
			atomic_store(to, id);
	}
	end_giving();
	if (id < FT_OWN_OBJECTS)
		return id;
	ft_lost(LOG_LOSS_OBJECTS);
	return FT_OWN_OBJECTS - 1;
}

/* ---- objects made to be shared by processes: the order in which they take them would have to be recorded, and is not */

static const void *_Atomic between_processes[FT_BETWEEN_MAX];

void ft_object_is_shared(const void *address)
{
	for (int i = 0; i < FT_BETWEEN_MAX; i++) {
		const void *there = NULL;
		if (atomic_compare_exchange_strong(&between_processes[i], &there, address) || there == address)
			return;
	}
	ft_lost(LOG_LOSS_OBJECTS);
}

/* Of no matter while the process is alone. */
static bool is_shared_by_processes(const void *address)
{
	for (int i = 0; i < FT_BETWEEN_MAX && between_processes[i] != NULL; i++)
		if (between_processes[i] == address)
			return atomic_load(&ft_shared.several) && ft_mode_word() == LOG_MODE_RECORD;
	return false;
}

/* A process has its first child: what it has used alone so far is used by both from now on. */
void ft_objects_are_shared(void)
{
	for (int i = 0; i < FT_BETWEEN_MAX && between_processes[i] != NULL; i++)
		if (ft_object_known(between_processes[i]) != 0 && ft_mode_word() == LOG_MODE_RECORD)
			ft_lost(LOG_LOSS_FORK);
}

uint32_t ft_object_new(void)
{
	_Atomic uint32_t id = 0;
	return give(&id);
}

uint32_t ft_object_of(const void *address)
{
	struct ft_slot *slot = slot_of(address);
	if (slot == NULL) {
		ft_lost(LOG_LOSS_OBJECTS);
		return FT_OWN_OBJECTS - 1;
	}
	uint32_t id = atomic_load_explicit(&slot->id, memory_order_acquire);
	if (likely(id != 0))
		return id;
	if (is_shared_by_processes(address))
		ft_lost(LOG_LOSS_FORK);
	return give(&slot->id);
}

bool ft_object_is(const void *address, uint32_t id)
{
	struct ft_slot *slot = slot_of(address);
	if (slot == NULL || id >= LOG_OBJECTS_MAX)
		return false;
	uint32_t there = atomic_load(&slot->id);
	if (there != 0)
		return there == id;
	atomic_store(&slot->id, id);
	ft_object_learn(id);
	return true;
}

static struct ft_slot *find(const void *address)
{
	for (unsigned probe = 0; probe < PROBES_MAX; probe++) {
		struct ft_slot *slot = slot_at(address, probe);
		const void *there = atomic_load_explicit(&slot->address, memory_order_acquire);
		if (there == NULL || there == address)
			return there == NULL ? NULL : slot;
	}
	return NULL;
}

uint32_t ft_object_known(const void *address)
{
	struct ft_slot *slot = find(address);
	return slot == NULL ? 0 : atomic_load(&slot->id);
}

void ft_object_forget(const void *address)
{
	struct ft_slot *slot = find(address);
	if (slot != NULL)
		atomic_store(&slot->id, 0);
}
