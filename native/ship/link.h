/*
 * One authenticated connection between two gates over a non-blocking TCP socket. Two kinds:
 *   tls    TLS 1.3 with a pre-shared key that is derived from the pair's key, with a fresh Diffie-Hellman exchange (forward
 *          secrecy). Nothing but TLS_AES_128_GCM_SHA256, no tickets, no certificate is ever believed.
 *   plain  for a wire that nobody else is on: every record carries SipHash-2-4 over a session key from both ends' nonces, a
 *          counter and its bytes. Forged, changed, replayed and reordered bytes end the connection; but
 *          whoever listens READS EVERYTHING the service is sent, and a tag has 64 bits.
 * Only one end of a pair listens at a time, so a connection cannot be reflected to whoever made it.
 *
 * Invariants: no call blocks; nothing that is not authentic is ever handed out; buffers are of fixed size;
 * after the first failure every call fails, and `why` says what it was.
 */
#ifndef FT_SHIP_LINK_H
#define FT_SHIP_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "gate/siphash.h"

#define LINK_RECORD_BYTES_MAX 65536u

enum link_kind { LINK_TLS, LINK_PLAIN };
enum link_phase { LINK_SHUT, LINK_GREETING, LINK_OPEN, LINK_DEAD };

struct link_settings {
	enum link_kind kind;
	char pair[64];
	unsigned char key[SIPHASH_KEY_BYTES];
	void *context; /* of the TLS library; link_settings_open() makes it */
};

struct link_plain {
	unsigned char own_nonce[16];
	unsigned char send_key[SIPHASH_KEY_BYTES], receive_key[SIPHASH_KEY_BYTES];
	uint64_t sent_records, received_records;
	size_t out_length, out_sent; /* a record, or the greeting, on its way */
	size_t in_length; /* of an unfinished record */
	size_t ready, ready_taken; /* verified bytes at in + the record's header */
	unsigned char out[LINK_RECORD_BYTES_MAX + 32];
	unsigned char in[LINK_RECORD_BYTES_MAX + 32];
};

struct link {
	const struct link_settings *settings;
	enum link_phase phase;
	int fd; /* -1: none */
	bool client;
	bool wants_out; /* the socket takes nothing now, or is still connecting */
	const char *why;
	void *tls;
	struct link_plain plain;
};

/* Makes what all links of one kind share. 0, or -1 and *why. Both ends of the pair must have the same pair and key. */
int link_settings_open(struct link_settings *settings, const char **why);
void link_settings_close(struct link_settings *settings);

/*
 * For a socket that is to carry a link: small writes at once, and no pacing. Where the host's default is BBR, a timer goes with
 * every flight; what two gates say to each other is a few kilobytes that somebody waits for. 0, or -1 with errno.
 */
int link_dress(int fd);
void link_reset(struct link *link, const struct link_settings *settings);
/* Takes over a connected or connecting socket, and ends it in the end. */
void link_begin(struct link *link, int fd, bool client);
/* Goes on with the handshake. What the link is now. */
enum link_phase link_step(struct link *link);
/* How many bytes were taken, 0: none for now, -1: dead. */
ssize_t link_write(struct link *link, const void *bytes, size_t length);
/* How many bytes came, 0: none for now, -1: dead. */
ssize_t link_read(struct link *link, void *bytes, size_t length);
/* Pushes out what link_write() has taken and the socket has not. False: dead. */
bool link_flush(struct link *link);
void link_end(struct link *link);

#endif
