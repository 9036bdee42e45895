/* The same as race-counter, with the lock that it lacks: what replays of that one are compared with. */
#define LOCKED 1
#include "race-counter.c"
