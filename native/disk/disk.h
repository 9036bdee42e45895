/* Whole writes into files and fresh looks into directories, by descriptor. */
#ifndef FT_DISK_H
#define FT_DISK_H

#include <dirent.h>
#include <stdint.h>

/* All of it or -1 with errno; how much of it is there then, nobody knows. */
int disk_write_at(int fd, const void *bytes, uint64_t length, uint64_t offset);

/* The entries of the directory `name` below `at` ("." for itself), from the first; never through a link. NULL with errno. */
DIR *disk_list(int at, const char *name);

#endif
