/*
 * The gate's `mark` and `thaw`, over its control socket. The gate thaws by itself when the connection that
 * marked is lost, so that the death of ftdump cannot leave the container's ingress stopped.
 */
#ifndef FT_DUMP_GATE_H
#define FT_DUMP_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "line/line.h"

struct gate {
	const char *path; /* NULL: no gate (tests) */
	int fd;
	bool marked;
	struct line_reader reader;
	char error[256]; /* what the gate said, of the last failure */
};

void gate_init(struct gate *gate, const char *path);
/* Connects if it is not connected. Call it before the freeze. */
int gate_connect(struct gate *gate, uint64_t deadline_us);
int gate_mark(struct gate *gate, uint64_t epoch, uint64_t deadline_us);
int gate_thaw(struct gate *gate, uint64_t deadline_us);
void gate_close(struct gate *gate);

#endif
