/*
 * What a replayed process (libftrec.so, through live/take.h) and ftlive say to each other when the log has ended. A
 * SOCK_SEQPACKET socket with an abstract name, which belongs to the container's network namespace: no file is needed, and
 * nobody outside can reach it. One message a packet; phases, so that neither side can wait for the other at once:
 *
 *   process → ftlive   HELLO                how many processes of the application come
 *                      CLAIM × n            one a connection that it has, or has closed: how far the application is;
 *                                           its socket comes along (SCM_RIGHTS): the restored one or a placeholder
 *                      END                  (then, when every process has come so far)
 *   ftlive → process   NEED × n             which bytes of the replayed output are not acknowledged
 *                      END
 *   process → ftlive   OUTPUT × m           those bytes
 *                      END
 *   ftlive → process   RESULT × n           what became of it; a socket comes along if the one given could not be used
 *                      STAND_IN × k         (after every process has come so far) connections that nobody has accepted
 *                      END
 *
 * The socket that came along is rebuilt in place: it is the same open file as the application's, so nothing has to be
 * moved. Only a placeholder that is no TCP socket is replaced, by the one that comes with RESULT.
 *
 * A connection that waits to be accepted cannot be put into the listening socket's queue. Instead ftlive rebuilds it and
 * makes one of its own to the listener, from inside the network namespace: its stand-in. To the application the listener
 * is as readable as it was. When accept() returns a stand-in (its remote address is in the list), the process asks
 *
 *   process → ftlive   TAKE                 the stand-in's port
 *   ftlive → process   GIVEN                the client's address, and the socket, or none if it is gone
 *
 * and puts that socket in its place. When the last is taken or the time is over, both close.
 */
#ifndef FT_LIVE_HANDOVER_H
#define FT_LIVE_HANDOVER_H

#include <stdint.h>

#define HANDOVER_MAGIC 0x564c5446u /* "FTLV" */
enum { HANDOVER_VERSION = 1, HANDOVER_OUTPUT_BYTES = 32768, HANDOVER_NAME_BYTES_MAX = 100, HANDOVER_CLAIMS_MAX = 65536,
       HANDOVER_STAND_INS_MAX = 4096 };

enum handover_kind {
	HANDOVER_HELLO = 1, HANDOVER_CLAIM, HANDOVER_END, HANDOVER_NEED, HANDOVER_OUTPUT, HANDOVER_RESULT, HANDOVER_STAND_IN,
	HANDOVER_TAKE, HANDOVER_GIVEN,
};

enum handover_flag {
	HANDOVER_SINCE_CHECKPOINT = 1, /* bytes are counted from the checkpoint; the socket is the restored one */
	HANDOVER_SHUT_READ = 2,
	HANDOVER_SHUT_WRITE = 4,
	HANDOVER_CLOSED = 8, /* by the application, after the checkpoint */
	HANDOVER_ABORTED = 16, /* closed so that a reset was to be sent: SO_LINGER of zero */
	HANDOVER_TUPLE = 32, /* the addresses are given; otherwise they are the socket's */
};

struct handover_message {
	uint32_t magic;
	uint16_t version, kind;
	uint32_t claim; /* its number, from 0. HELLO: how many processes come, each with a line of its own; 0 is 1 */
	uint32_t flags;
	uint32_t local, remote; /* addresses, in network order */
	uint16_t local_port, remote_port;
	uint32_t verdict; /* RESULT: enum plan_verdict, or HANDOVER_FAILED with `error` */
	uint64_t read_bytes, written_bytes;
	uint64_t from, bytes; /* NEED, OUTPUT: of the output as the claim counts it. OUTPUT: the data follow */
	uint32_t error;
	uint32_t reserved;
};
_Static_assert(sizeof(struct handover_message) == 72, "no hidden room");

#define HANDOVER_FAILED 1000u

#endif
