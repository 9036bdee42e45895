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

static inline uint64_t ft_slot_hash(const void *address)
{
	return ((uint64_t)address >> 3) * 0x9e3779b97f4a7c15ull >> (64 - FT_SLOT_BITS);
}

/* As ft_object_of(). */
static inline uint32_t ft_object_at(const void *address)
{
	struct ft_slot *slot = &ft_slots[ft_slot_hash(address)];
	if (likely(atomic_load_explicit(&slot->address, memory_order_acquire) == address)) {
		uint32_t id = atomic_load_explicit(&slot->id, memory_order_acquire);
		if (likely(id != 0))
			return id;
	}
	return ft_object_of(address);
}

#pragma GCC visibility pop
#endif
