/*
 * Assertions that stay on. A gate that finds itself in an impossible state dies: everything it holds vanishes
 * unsent, which is a stall and never a leak.
 */
#ifndef FT_GATE_INVARIANT_H
#define FT_GATE_INVARIANT_H

#include <stdio.h>
#include <stdlib.h>

#define INVARIANT(condition)                                                                   \
	do {                                                                                   \
		if (!(condition)) {                                                            \
			fprintf(stderr, "%s:%d: invariant violated: %s\n", __FILE__, __LINE__, \
				#condition);                                                   \
			abort();                                                               \
		}                                                                              \
	} while (0)

#endif
