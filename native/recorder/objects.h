/* Which object is at an address: the look-up that nearly every lock needs, without a call. The rest is in objects.c. */
#ifndef FT_RECORDER_OBJECTS_H
#define FT_RECORDER_OBJECTS_H
#include "recorder/recorder.h"

#pragma GCC visibility push(hidden)

enum { FT_SLOT_BITS = 18, FT_SLOTS = 1 << FT_SLOT_BITS };
struct ft_slot {
	_Atomic(const void *) address;
	_Atomic uint32_t id; /* 0: none yet */
};
extern struct ft_slot ft_slots[FT_SLOTS];

/*
 * Where to look first: objects that are neighbours have slots that are, so that an array of locks needs few lines and pages of
 * this table. (Spread at random, the look-up of a lock in a table of thousands was a miss in the cache each time.)
 */
static inline struct ft_slot *ft_slot_near(const void *address)
{
	uint64_t region = (uint64_t)address >> 20, offset = region * 0x9e3779b97f4a7c15ull >> (64 - FT_SLOT_BITS);
	return &ft_slots[(((uint64_t)address >> 5) + offset) % FT_SLOTS];
}

/* What an acquisition will write to is fetched while the lock itself is. A guess, on which nothing but time hangs. */
static inline void ft_object_is_wanted(const void *address)
{
	__builtin_prefetch(&ft_objects[atomic_load_explicit(&ft_slot_near(address)->id, memory_order_relaxed)], 1);
}

/* As ft_object_of(). */
static inline uint32_t ft_object_at(const void *address)
{
	struct ft_slot *slot = ft_slot_near(address);
	if (likely(atomic_load_explicit(&slot->address, memory_order_acquire) == address)) {
		uint32_t id = atomic_load_explicit(&slot->id, memory_order_acquire);
		if (likely(id != 0))
			return id;
	}
	return ft_object_of(address);
}

#pragma GCC visibility pop
#endif
