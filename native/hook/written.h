/* Narrowing CRIU's search for pages to those written since the last epoch. hook/written.c. */
#ifndef FT_HOOK_WRITTEN_H
#define FT_HOOK_WRITTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hook/areas.h"

/* Before the freeze: reads the list of tracked areas, if ftdump has left one, and makes room. */
void written_load(void);
/* All tasks stand: looks through all tracked areas now rather than when CRIU asks for the first. By any thread, but by one alone. */
void written_scan(void);
/* Whether all areas that have been tracked before were looked through by the kernel's quick scan. */
bool written_quickly(void);
/* CRIU closes a descriptor: the next of that number is another file's. */
void written_closed(int fd);
/* The process whose pagemap a descriptor is; 0: it is none. */
uint32_t written_pagemap_of(int fd) __attribute__((visibility("hidden")));
/* Leaves the list for ftdump. */
void written_tell(const struct area *kept, size_t count) __attribute__((visibility("hidden")));
/* After the thaw: tells ftdump what CRIU was not told of. */
void written_save(void);

#endif
