#include "ship/link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ship/link_tls.h"

#define GREETING_MAGIC 0x314e494c50534654ull /* "TFSPLIN1" */
#define GREETING_BYTES 24u /* magic, nonce */
#define RECORD_HEADER_BYTES 24u /* tag u64 over all that follows, number u64, length u32, zero u32 */

int link_settings_open(struct link_settings *settings, const char **why)
{
	return settings->kind == LINK_TLS ? link_tls_context(settings, why) : 0;
}

void link_settings_close(struct link_settings *settings)
{
	if (settings->kind == LINK_TLS)
		link_tls_context_free(settings);
}

int link_dress(int fd)
{
	static const char *const unpaced[] = {"cubic", "reno"}; /* the second is in every kernel */
	int one = 1;
	for (unsigned i = 0; i < 2; i++)
		if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, unpaced[i], (socklen_t)strlen(unpaced[i])) == 0)
			break;
	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static enum link_phase die(struct link *link, const char *why)
{
	if (link->phase != LINK_DEAD)
		link->why = why;
	link->phase = LINK_DEAD;
	return LINK_DEAD;
}

void link_reset(struct link *link, const struct link_settings *settings)
{
	link->settings = settings;
	link->phase = LINK_SHUT;
	link->fd = -1;
	link->tls = NULL;
	link->why = "";
	link->wants_out = false;
}

void link_begin(struct link *link, int fd, bool client)
{
	link_reset(link, link->settings);
	link->fd = fd;
	link->client = client;
	link->phase = LINK_GREETING;
	link->wants_out = true;
	if (link->settings->kind == LINK_TLS) {
		if (link_tls_begin(link) != 0)
			die(link, "tls-begin");
		return;
	}
	struct link_plain *plain = &link->plain;
	uint64_t magic = GREETING_MAGIC;
	plain->sent_records = plain->received_records = 0;
	plain->in_length = plain->ready = plain->ready_taken = plain->out_sent = 0;
	if (getrandom(plain->own_nonce, sizeof plain->own_nonce, 0) != sizeof plain->own_nonce)
		die(link, "random");
	memcpy(plain->out, &magic, 8);
	memcpy(plain->out + 8, plain->own_nonce, sizeof plain->own_nonce);
	plain->out_length = GREETING_BYTES;
}

/* A key a direction, of this session alone. */
static void derive(const struct link *link, const unsigned char *client_nonce, const unsigned char *server_nonce,
		   bool from_client, unsigned char out[SIPHASH_KEY_BYTES])
{
	struct {
		char label[16];
		unsigned char client[16], server[16];
		char pair[64];
		uint64_t half;
	} input;
	memset(&input, 0, sizeof input);
	strcpy(input.label, from_client ? "ship plain c2s" : "ship plain s2c");
	memcpy(input.client, client_nonce, 16);
	memcpy(input.server, server_nonce, 16);
	memcpy(input.pair, link->settings->pair, sizeof input.pair);
	for (input.half = 0; input.half < 2; input.half++) {
		uint64_t part = siphash(link->settings->key, &input, sizeof input);
		memcpy(out + 8 * input.half, &part, 8);
	}
}

/* A record says its number, so that none can stand in for another. */
static uint64_t tag_of(const unsigned char key[SIPHASH_KEY_BYTES], const unsigned char *record, uint32_t size)
{
	return siphash(key, record + 8, RECORD_HEADER_BYTES - 8 + size);
}

/* Reads at most up to `wanted` bytes of `in`. 1: they are there. 0: not yet. -1: dead. */
static int gather(struct link *link, size_t wanted)
{
	struct link_plain *plain = &link->plain;
	while (plain->in_length < wanted) {
		ssize_t n = recv(link->fd, plain->in + plain->in_length, sizeof plain->in - plain->in_length, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0) {
			die(link, n == 0 ? "closed" : "receive");
			return -1;
		}
		plain->in_length += (size_t)n;
	}
	return 1;
}

static void consume(struct link_plain *plain, size_t length)
{
	plain->in_length -= length;
	memmove(plain->in, plain->in + length, plain->in_length);
}

static bool flush_plain(struct link *link)
{
	struct link_plain *plain = &link->plain;
	while (plain->out_sent < plain->out_length) {
		ssize_t n = send(link->fd, plain->out + plain->out_sent, plain->out_length - plain->out_sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			link->wants_out = true;
			return true;
		}
		if (n < 0) {
			die(link, "send");
			return false;
		}
		plain->out_sent += (size_t)n;
	}
	plain->out_length = plain->out_sent = 0;
	link->wants_out = false;
	return true;
}

static enum link_phase greet(struct link *link)
{
	struct link_plain *plain = &link->plain;
	uint64_t magic;
	if (!flush_plain(link))
		return LINK_DEAD;
	int got = gather(link, GREETING_BYTES);
	if (got <= 0)
		return link->phase;
	memcpy(&magic, plain->in, 8);
	if (magic != GREETING_MAGIC)
		return die(link, "not-a-gate");
	const unsigned char *theirs = plain->in + 8;
	const unsigned char *client = link->client ? plain->own_nonce : theirs;
	const unsigned char *server = link->client ? theirs : plain->own_nonce;
	derive(link, client, server, link->client, plain->send_key);
	derive(link, client, server, !link->client, plain->receive_key);
	consume(plain, GREETING_BYTES);
	return link->phase = LINK_OPEN;
}

static ssize_t write_plain(struct link *link, const void *bytes, size_t length)
{
	struct link_plain *plain = &link->plain;
	if (!flush_plain(link))
		return -1;
	if (plain->out_length > 0)
		return 0;
	uint32_t size = (uint32_t)(length < LINK_RECORD_BYTES_MAX ? length : LINK_RECORD_BYTES_MAX);
	uint64_t number = plain->sent_records++;
	memset(plain->out, 0, RECORD_HEADER_BYTES);
	memcpy(plain->out + 8, &number, 8);
	memcpy(plain->out + 16, &size, 4);
	memcpy(plain->out + RECORD_HEADER_BYTES, bytes, size);
	uint64_t tag = tag_of(plain->send_key, plain->out, size);
	memcpy(plain->out, &tag, 8);
	plain->out_length = RECORD_HEADER_BYTES + size;
	return flush_plain(link) ? (ssize_t)size : -1;
}

/* Verifies the next record. 1: there are bytes. 0: not yet. -1: dead. */
static int next_record(struct link *link)
{
	struct link_plain *plain = &link->plain;
	uint32_t size;
	uint64_t tag, number;
	int got = gather(link, RECORD_HEADER_BYTES);
	if (got <= 0)
		return got;
	memcpy(&tag, plain->in, 8);
	memcpy(&number, plain->in + 8, 8);
	memcpy(&size, plain->in + 16, 4);
	if (size == 0 || size > LINK_RECORD_BYTES_MAX) {
		die(link, "record-length");
		return -1;
	}
	got = gather(link, RECORD_HEADER_BYTES + size);
	if (got <= 0)
		return got;
	if (number != plain->received_records++ || tag_of(plain->receive_key, plain->in, size) != tag) {
		die(link, "not-authentic");
		return -1;
	}
	plain->ready = size;
	plain->ready_taken = 0;
	return 1;
}

static ssize_t read_plain(struct link *link, void *bytes, size_t length)
{
	struct link_plain *plain = &link->plain;
	if (plain->ready == 0) {
		int got = next_record(link);
		if (got <= 0)
			return got;
	}
	size_t left = plain->ready - plain->ready_taken, size = length < left ? length : left;
	memcpy(bytes, plain->in + RECORD_HEADER_BYTES + plain->ready_taken, size);
	plain->ready_taken += size;
	if (plain->ready_taken == plain->ready) {
		consume(plain, RECORD_HEADER_BYTES + plain->ready);
		plain->ready = 0;
	}
	return (ssize_t)size;
}

/* A connection that is being made reports its failure here. */
static bool is_connected(struct link *link)
{
	int error = 0;
	socklen_t size = sizeof error;
	struct sockaddr_storage peer;
	socklen_t peer_size = sizeof peer;
	if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
		die(link, "connect");
		return false;
	}
	return getpeername(link->fd, (struct sockaddr *)&peer, &peer_size) == 0;
}

enum link_phase link_step(struct link *link)
{
	if (link->phase != LINK_GREETING || !is_connected(link))
		return link->phase;
	if (link->settings->kind == LINK_PLAIN)
		return greet(link);
	const char *why = NULL;
	int done = link_tls_greet(link, &why);
	if (done < 0)
		return die(link, why);
	return done == 0 ? LINK_GREETING : (link->phase = LINK_OPEN);
}

ssize_t link_write(struct link *link, const void *bytes, size_t length)
{
	if (link->phase != LINK_OPEN || length == 0)
		return link->phase == LINK_DEAD ? -1 : 0;
	if (link->settings->kind == LINK_PLAIN)
		return write_plain(link, bytes, length);
	ssize_t n = link_tls_write(link, bytes, length);
	if (n < 0)
		die(link, "send");
	return n;
}

ssize_t link_read(struct link *link, void *bytes, size_t length)
{
	if (link->phase != LINK_OPEN || length == 0)
		return link->phase == LINK_DEAD ? -1 : 0;
	if (link->settings->kind == LINK_PLAIN)
		return read_plain(link, bytes, length);
	const char *why = NULL;
	ssize_t n = link_tls_read(link, bytes, length, &why);
	if (n < 0)
		die(link, why);
	return n;
}

bool link_flush(struct link *link)
{
	if (link->phase == LINK_OPEN && link->settings->kind == LINK_PLAIN)
		return flush_plain(link);
	return link->phase != LINK_DEAD;
}

void link_end(struct link *link)
{
	link_tls_end(link);
	if (link->fd >= 0)
		close(link->fd);
	link_reset(link, link->settings);
}
