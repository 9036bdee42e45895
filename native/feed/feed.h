/*
 * ftfeed: stands in for `criu lazy-pages`. CRIU's restore connects to lazy-pages.socket in its work directory and sends, for each
 * process, its pid (int) and its userfaultfd (SCM_RIGHTS, with one byte), -pid for a zombie, and at the end, with every task still
 * stopped, the number 0x52535446.
 */
#ifndef FT_FEED_FEED_H
#define FT_FEED_FEED_H
#include <stdbool.h>
#include <sys/types.h>

#include "feed/space.h"

struct feed {
	struct lazy_list *list;
	struct feed_source *source; /* one for each set of the list */
	int listener, client;	    /* CRIU's connection; -1: not (any more) there */
	int starter;		    /* closed by the one who started the restore when it is over */
	int guard;		    /* pidfd of the process that holds our descriptors as well */
	bool finished;		    /* the restore */
	int pace_ms;		    /* between slices; 0 but in tests, where they are small then as well */
	uint64_t due_us;
	struct space *space;
	size_t spaces, room;
	struct feed_counts counts;
	_Atomic uint64_t *turns;    /* counted up each time round, at least once a second, for the guard to see; or NULL */
};

enum feed_outcome {
	FEED_DONE,    /* nothing is missing */
	FEED_ABORTED, /* the restore came to nothing */
	FEED_FAILED,  /* *e: memory is missing and will not come */
};
/* To the end. Descriptors of spaces are closed only if they are done with. */
enum feed_outcome feed_run(struct feed *feed, struct epoch_error *e);
#endif
