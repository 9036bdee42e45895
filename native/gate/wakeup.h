/* What an epoll event is about: a kind, and for control and shipping connections a slot. */
#ifndef FT_GATE_WAKEUP_H
#define FT_GATE_WAKEUP_H

#include <stdint.h>

enum wakeup { WAKE_CONTAINER, WAKE_LAN, WAKE_BEAT, WAKE_LINKS, WAKE_LISTEN, WAKE_SIGNAL, WAKE_CONNECTION,
	      WAKE_SHIP_LISTEN, WAKE_SHIP };

static inline uint64_t wakeup_data(enum wakeup kind, unsigned slot)
{
	return (uint64_t)slot << 32 | (uint64_t)kind;
}

#endif
