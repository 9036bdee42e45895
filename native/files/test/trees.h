/* Random trees: made, changed and compared to the byte. Every random number comes from check_random(). */
#ifndef FT_FILES_TEST_TREES_H
#define FT_FILES_TEST_TREES_H
#include <stdint.h>

extern uint64_t trees_seed;
uint64_t trees_below(uint64_t limit);
/* Some random changes below `path`. `in_overlay`: through a mounted overlay. */
void trees_mutate(const char *path, int changes, int in_overlay);
/* 1 if both are equal: names, types, modes, owners, mtimes, attributes, links, content; else prints the first difference. */
int trees_equal(const char *a, const char *b);
void trees_remove(const char *path);
#endif
