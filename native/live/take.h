/*
 * The application's end of going live: libftrec.so calls it when replay has ended and no thread of the process runs
 * application code. live/handover.h says what is said. Allocates nothing, opens one descriptor and closes it again (or
 * keeps it, as long as stand-ins are expected); makes only raw system calls of its own through libc, so the caller sees
 * to it that they are not recorded.
 *
 * What the caller keeps for it, in private memory (a checkpoint contains it):
 *  - for each connection how many bytes the application has read and written, since the checkpoint or since its beginning;
 *  - the last bytes it has written, as many as can be unacknowledged: no more than the socket's send buffer;
 *  - the sockets that the application has closed since the checkpoint, not closed but put aside: live_take() finishes
 *    them, the caller closes them afterwards. The real close() would speak to the client with numbers of the past;
 *  - placeholders for connections opened since: best a TCP socket, never bound or connected. Then everything the replayed
 *    application does to it (options, O_NONBLOCK, dup, fork, epoll) is done for real and stays.
 */
#ifndef FT_LIVE_TAKE_H
#define FT_LIVE_TAKE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

struct live_claim {
	int descriptor; /* restored, placeholder, or put aside; -1: there is none (any more) */
	bool since_checkpoint, shut_read, shut_write, closed, aborted;
	struct sockaddr_in local, remote; /* family 0: the restored socket knows */
	uint64_t read_bytes, written_bytes;
	/* out */
	uint32_t verdict; /* enum plan_verdict, or HANDOVER_FAILED */
	int error;
	/* while it runs */
	uint64_t output_from, output_bytes;
};

/* Copies the bytes [from, from + bytes) of what the application has written on a connection. False: not kept any more. */
typedef bool live_output(void *context, uint32_t claim, uint64_t from, void *room, size_t bytes);

struct live_epoll {
	int epoll, descriptor;
	struct epoll_event event;
};

struct live {
	int socket; /* -1: nothing more to come */
	uint32_t stand_ins;
	uint16_t port[4096];
};

/* `processes`: how many of the application come, each with this call. 0, or -1 with errno: nothing can be said then of any connection. */
int live_take(struct live *live, const char *name, uint32_t processes, struct live_claim *claims, uint32_t count,
	      live_output *output, void *context, int timeout_ms);

/*
 * Of a descriptor that accept() has just returned: 1, it was a stand-in and now is the client's connection (and `remote`
 * its address); 0, it is a connection like any other; -1, it was a stand-in and its client is gone: close it and accept again.
 */
int live_accepted(struct live *live, int fd, struct sockaddr_in *remote);
/* No stand-ins any more: before a checkpoint is taken, or when enough time has passed. */
void live_end(struct live *live);

/*
 * The process's epoll sets, as the kernel knows them. Read before live_take(), applied after it: descriptors that were
 * replaced are added again, and all the others looked at anew, as an edge-triggered set would otherwise not hear of what
 * a rebuilt socket already has. -1 with errno.
 */
int live_epoll_read(struct live_epoll *sets, size_t room, size_t *count);
int live_epoll_apply(const struct live_epoll *sets, size_t count);

#endif
