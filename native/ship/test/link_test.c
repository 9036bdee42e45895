/* Sender to receiver over loopback: both kinds of link, hostile peers, breaks, a full mirror. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ship/receiver.h"
#include "ship/sender.h"
#include "ship/test/writer.h"
#include "test/check.h"

#define RING_BYTES (4u << 20)

static char folder[] = "/dev/shm/ship-link-XXXXXX";
static char log_path[64], mirror_path[96], frames_path[96];
static struct log_file log_file;
static struct source source;
static struct mirror mirror;
static struct sender sender;
static struct receiver receiver;
static struct link_settings here, there;
static struct sockaddr_in address;
static int proxy_listen = -1, proxy_in = -1, proxy_out = -1; /* client's side, server's side */
static long proxy_spoil = -1; /* this byte of what goes to the server is changed */
static bool proxy_deaf;
static uint64_t proxy_bytes;

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool settle(struct link_settings *settings, enum link_kind kind, const char *pair, const char *key)
{
	const char *why;
	memset(settings, 0, sizeof *settings);
	settings->kind = kind;
	snprintf(settings->pair, sizeof settings->pair, "%s", pair);
	memcpy(settings->key, key, sizeof settings->key);
	return link_settings_open(settings, &why) == 0;
}

static bool listen_again(uint64_t generation)
{
	socklen_t size = sizeof address;
	if (mirror_open(&mirror, mirror_path, frames_path, RING_BYTES) != 0 ||
	    receiver_open(&receiver, &there, &mirror, &address, 77, generation) != 0)
		return false;
	return getsockname(receiver.listen_fd, (struct sockaddr *)&address, &size) == 0;
}

static void stop_listening(void)
{
	receiver_close(&receiver);
	mirror_close(&mirror);
}

static bool begin(enum link_kind ours, const char *key, enum link_kind theirs, const char *pair)
{
	struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	unlink(log_path);
	unlink(mirror_path);
	unlink(frames_path);
	address = local;
	if (!settle(&here, ours, "pair", key) || !settle(&there, theirs, pair, "0123456789abcdef") || !listen_again(1) ||
	    log_create(log_path, 4, 16, LOG_MODE_RECORD) != 0 || log_map(log_path, true, &log_file) != 0 ||
	    source_open(&source, log_path, 3, 1 << 20) != 0)
		return false;
	sender_open(&sender, &here, &source, &local, &address, 77);
	return true;
}

static void end(void)
{
	sender_close(&sender);
	source_close(&source);
	stop_listening();
	log_unmap(&log_file);
	link_settings_close(&here);
	link_settings_close(&there);
	int *fds[] = {&proxy_listen, &proxy_in, &proxy_out};
	for (size_t i = 0; i < 3; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	proxy_spoil = -1;
	proxy_deaf = false;
}

static void pass_on(int from, int to, bool to_server)
{
	char bytes[65536];
	if (from < 0)
		return;
	ssize_t n = recv(from, bytes, sizeof bytes, MSG_DONTWAIT);
	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			shutdown(to, SHUT_RDWR);
		return;
	}
	for (ssize_t i = 0; to_server && i < n; i++)
		if ((long)proxy_bytes++ == proxy_spoil)
			bytes[i] ^= 4;
	ssize_t at = 0;
	while (at < n) {
		ssize_t sent = send(to, bytes + at, (size_t)(n - at), MSG_NOSIGNAL);
		if (sent < 0)
			return;
		at += sent;
	}
}

static void proxy_turn(void)
{
	if (proxy_listen < 0 || proxy_deaf)
		return;
	int fd = accept4(proxy_listen, NULL, NULL, SOCK_NONBLOCK);
	if (fd >= 0) {
		close(proxy_in);
		close(proxy_out);
		proxy_in = fd;
		proxy_bytes = 0;
		proxy_out = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(proxy_out, (struct sockaddr *)&address, sizeof address) != 0)
			printf("  the proxy could not connect\n");
	}
	pass_on(proxy_in, proxy_out, true);
	pass_on(proxy_out, proxy_in, false);
}

/* The sender speaks to the proxy from now on. */
static bool interpose(void)
{
	struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof local;
	proxy_listen = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (bind(proxy_listen, (struct sockaddr *)&local, sizeof local) != 0 || listen(proxy_listen, 4) != 0 ||
	    getsockname(proxy_listen, (struct sockaddr *)&local, &size) != 0)
		return false;
	sender.peer = local;
	return true;
}

/* One turn of both loops, as epoll would drive them. */
static void turn(void)
{
	uint64_t now = now_ns();
	sender_tick(&sender, now);
	sender_ready(&sender, now);
	sender_flush(&sender, now);
	proxy_turn();
	if (receiver.listen_fd >= 0) {
		struct pollfd one = {.fd = receiver.listen_fd, .events = POLLIN};
		if (poll(&one, 1, 0) == 1)
			receiver_accept(&receiver, now);
		for (unsigned slot = 0; slot < RECEIVER_SLOTS; slot++)
			if (receiver_wants_in(&receiver, slot))
				receiver_ready(&receiver, slot, now);
		receiver_tick(&receiver, now);
	}
	sender_ready(&sender, now);
}

static bool until(bool (*reached)(void), unsigned wait_ms)
{
	uint64_t limit = now_ns() + wait_ms * 1000000ull;
	do {
		if (reached())
			return true;
		turn();
		struct timespec pause = {.tv_nsec = 20000};
		nanosleep(&pause, NULL);
	} while (now_ns() < limit);
	return reached();
}

static bool is_up(void) { return sender.up && receiver.current >= 0; }
static bool all_acked(void) { return source.queue.acked == source.queue.end; }
static bool is_refused(void) { return !sender.up && sender.link.phase == LINK_SHUT && sender.why[0] != 0; }
static bool is_full(void) { return receiver.full; }
static bool never(void) { return false; }

static bool fill(unsigned records, uint64_t seed)
{
	for (unsigned i = 0; i < records; i++)
		if (!writer_append(&log_file, i % 4, 8 * (i % 400), seed + i))
			return false;
	return source_cut(&source);
}

static bool ships(enum link_kind kind)
{
	uint8_t frame[5000] = "a frame";
	if (!begin(kind, "0123456789abcdef", kind, "pair") || !fill(500, 1) || !until(is_up, 2000) || !until(all_acked, 2000))
		return false;
	source_put_ingress(&source, frame, sizeof frame, 1);
	return fill(3000, 2) && until(all_acked, 2000) && writer_compare_whole(&log_file, &mirror.log) == NULL;
}

TEST(tls_ships)
{
	CHECK(ships(LINK_TLS));
	CHECK(sender.delay.count > 0);
	/* Many entries that are there at once: few acks. */
	uint64_t acks = receiver.acks, entries = source.queue.last;
	for (unsigned i = 0; i < 500; i++)
		CHECK(fill(1, i));
	CHECK(until(all_acked, 2000));
	CHECK(source.queue.last - entries >= 500);
	CHECK(receiver.acks - acks < 50);
	end();
}

TEST(plain_ships)
{
	CHECK(ships(LINK_PLAIN));
	end();
}

static bool is_kept_out(enum link_kind ours, const char *key, enum link_kind theirs, const char *pair)
{
	bool kept = begin(ours, key, theirs, pair) && fill(10, 1) && until(is_refused, 3000) && receiver.current < 0 &&
		    mirror.frames.now.sequence == 0 && !mirror.has_log && source.queue.acked == 0;
	if (!kept)
		printf("  let in, or not refused: %s\n", sender.why);
	end();
	return kept;
}

TEST(who_has_another_key_is_kept_out)
{
	CHECK(is_kept_out(LINK_TLS, "0123456789abcdeF", LINK_TLS, "pair"));
	CHECK(is_kept_out(LINK_PLAIN, "0123456789abcdeF", LINK_PLAIN, "pair"));
	/* The right key of another pair. */
	CHECK(is_kept_out(LINK_TLS, "0123456789abcdef", LINK_TLS, "other"));
	CHECK(is_kept_out(LINK_PLAIN, "0123456789abcdef", LINK_PLAIN, "other"));
	/* One side encrypts, the other does not: no falling back. */
	CHECK(is_kept_out(LINK_TLS, "0123456789abcdef", LINK_PLAIN, "pair"));
	CHECK(is_kept_out(LINK_PLAIN, "0123456789abcdef", LINK_TLS, "pair"));
}

TEST(strangers_and_their_bytes_change_nothing)
{
	for (enum link_kind kind = LINK_TLS; kind <= LINK_PLAIN; kind++) {
		uint64_t random = 5;
		CHECK(ships(kind));
		for (int i = 0; i < 200; i++) {
			char bytes[3000];
			int fd = socket(AF_INET, SOCK_STREAM, 0);
			CHECK_EQ(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
			size_t length = check_random(&random) % sizeof bytes;
			for (size_t at = 0; at < length; at++)
				bytes[at] = (char)check_random(&random);
			/* Some begin as they should. */
			if (kind == LINK_PLAIN && i % 2 == 0)
				memcpy(bytes, "TFSPLIN1", 8);
			if (kind == LINK_TLS && i % 2 == 0)
				memcpy(bytes, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
			CHECK(send(fd, bytes, length, MSG_NOSIGNAL) >= 0);
			turn();
			turn();
			close(fd);
		}
		/* The true one was not disturbed. */
		CHECK(is_up());
		CHECK_EQ(sender.connections, 1);
		CHECK(fill(100, 3));
		CHECK(until(all_acked, 2000));
		CHECK(writer_compare_whole(&log_file, &mirror.log) == NULL);
		end();
	}
}

TEST(a_changed_bit_on_the_way_ends_the_connection_and_nothing_else)
{
	for (enum link_kind kind = LINK_TLS; kind <= LINK_PLAIN; kind++) {
		CHECK(begin(kind, "0123456789abcdef", kind, "pair"));
		CHECK(interpose());
		CHECK(fill(1000, 1));
		/* Well after the handshake. */
		proxy_spoil = 50000;
		CHECK(until(is_refused, 3000));
		CHECK(!all_acked());
		if (mirror.has_log)
			CHECK(writer_compare(&log_file, &mirror.log) == NULL);
		proxy_spoil = -1;
		CHECK(until(all_acked, 3000));
		CHECK(sender.connections > 1);
		CHECK(writer_compare_whole(&log_file, &mirror.log) == NULL);
		end();
	}
}

TEST(after_a_break_it_goes_on_from_what_is_stored)
{
	CHECK(ships(LINK_TLS));
	uint64_t stored = mirror.lane_bytes;
	for (unsigned i = 0; i < 20; i++) {
		CHECK(fill(50, i));
		turn();
		shutdown(sender.link.fd, SHUT_RDWR);
		CHECK(until(all_acked, 3000));
	}
	CHECK(sender.connections > 10);
	CHECK(writer_compare_whole(&log_file, &mirror.log) == NULL);
	/* Not from the beginning. */
	CHECK(mirror.lane_bytes - stored < 4 * stored);
	end();
}

TEST(a_standby_that_comes_again_goes_on_from_its_files)
{
	CHECK(ships(LINK_PLAIN));
	uint64_t acked = source.queue.acked;
	stop_listening();
	CHECK(fill(500, 9));
	CHECK(until(is_refused, 2000));
	CHECK_EQ(source.queue.acked, acked);
	CHECK(!all_acked());
	CHECK(listen_again(1));
	CHECK(until(all_acked, 3000));
	CHECK(writer_compare_whole(&log_file, &mirror.log) == NULL);
	/* With other files it is another standby: it is not told half a story. */
	stop_listening();
	unlink(mirror_path);
	unlink(frames_path);
	CHECK(fill(500, 10));
	CHECK(listen_again(1));
	CHECK(!until(all_acked, 1500));
	CHECK_STR(sender.why, "standby-forgot");
	end();
}

TEST(a_newer_generation_ends_the_older_stream_for_good)
{
	CHECK(ships(LINK_TLS));
	uint64_t head = atomic_load(&mirror.log.lanes[0].head);
	receiver_outdate(&receiver, 3);
	CHECK(is_up());
	receiver_outdate(&receiver, 4);
	CHECK_EQ(receiver.current, -1);
	CHECK(fill(100, 4));
	CHECK(!until(all_acked, 1200));
	CHECK_STR(sender.why, "stale-generation");
	CHECK_EQ(atomic_load(&mirror.log.lanes[0].head), head);
	end();
}

TEST(a_standby_that_stands_still_is_waited_for_without_end)
{
	CHECK(ships(LINK_TLS));
	uint64_t acked = source.queue.acked;
	int listener = receiver.listen_fd, current = receiver.current;
	receiver.listen_fd = -1; /* turn() leaves it alone */
	CHECK(fill(2000, 5));
	CHECK(!until(all_acked, 300));
	CHECK_EQ(source.queue.acked, acked);
	receiver.listen_fd = listener;
	receiver.current = current;
	CHECK(until(all_acked, 5000));
	CHECK(writer_compare_whole(&log_file, &mirror.log) == NULL);
	end();
}

TEST(a_peer_that_only_listens_is_given_up)
{
	CHECK(begin(LINK_TLS, "0123456789abcdef", LINK_TLS, "pair"));
	CHECK(interpose());
	proxy_deaf = true;
	CHECK(until(is_refused, 4000));
	CHECK_STR(sender.why, "no-answer");
	proxy_deaf = false;
	CHECK(until(is_up, 4000));
	end();
}

TEST(a_full_mirror_stops_the_acks_and_goes_on_when_there_is_room)
{
	char small[64];
	if (geteuid() != 0)
		return;
	snprintf(small, sizeof small, "%s/small", folder);
	CHECK(mkdir(small, 0700) == 0);
	CHECK(mount("none", small, "tmpfs", 0, "size=1500k") == 0);
	char mirror_before[96], frames_before[96];
	strcpy(mirror_before, mirror_path);
	strcpy(frames_before, frames_path);
	snprintf(mirror_path, sizeof mirror_path, "%s/mirror", small);
	snprintf(frames_path, sizeof frames_path, "%s/frames", small);
	bool ok = begin(LINK_TLS, "0123456789abcdef", LINK_TLS, "pair") && fill(2000, 1) && until(is_full, 3000);
	uint64_t acked = source.queue.acked;
	bool waits = !until(all_acked, 200) && source.queue.acked == acked && is_up();
	bool sound = writer_compare(&log_file, &mirror.log) == NULL;
	ok = ok && mount("none", small, "tmpfs", MS_REMOUNT, "size=20m") == 0;
	bool goes_on = ok && until(all_acked, 3000) && !receiver.full &&
		       writer_compare_whole(&log_file, &mirror.log) == NULL && sender.connections == 1;
	end();
	umount2(small, MNT_DETACH);
	rmdir(small);
	strcpy(mirror_path, mirror_before);
	strcpy(frames_path, frames_before);
	CHECK(ok);
	CHECK(waits);
	CHECK(sound);
	CHECK(goes_on);
}

TEST(acks_that_cannot_be_right_are_not_believed)
{
	/* A standby with the right key and a broken mind: the receiver's own link, used by hand. */
	CHECK(ships(LINK_PLAIN));
	uint64_t acked = source.queue.acked;
	static const uint64_t wrong[] = {8, UINT64_MAX, 1ull << 40};
	for (size_t i = 0; i < 3; i++) {
		CHECK(until(is_up, 2000));
		struct ship_ack ack = {.offset = wrong[i]};
		ship_ack_seal(&ack);
		CHECK_EQ(link_write(&receiver.slots[receiver.current].link, &ack, sizeof ack), sizeof ack);
		CHECK(until(is_refused, 1000));
		CHECK_STR(sender.why, "impossible-ack");
		CHECK_EQ(source.queue.acked, acked);
	}
	CHECK(!until(never, 10));
	end();
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	if (mkdtemp(folder) == NULL)
		return 1;
	snprintf(log_path, sizeof log_path, "%s/log", folder);
	snprintf(mirror_path, sizeof mirror_path, "%s/mirror", folder);
	snprintf(frames_path, sizeof frames_path, "%s/frames", folder);
	RUN(tls_ships);
	RUN(plain_ships);
	RUN(who_has_another_key_is_kept_out);
	RUN(strangers_and_their_bytes_change_nothing);
	RUN(a_changed_bit_on_the_way_ends_the_connection_and_nothing_else);
	RUN(after_a_break_it_goes_on_from_what_is_stored);
	RUN(a_standby_that_comes_again_goes_on_from_its_files);
	RUN(a_newer_generation_ends_the_older_stream_for_good);
	RUN(a_standby_that_stands_still_is_waited_for_without_end);
	RUN(a_peer_that_only_listens_is_given_up);
	RUN(a_full_mirror_stops_the_acks_and_goes_on_when_there_is_room);
	RUN(acks_that_cannot_be_right_are_not_believed);
	unlink(log_path);
	unlink(mirror_path);
	unlink(frames_path);
	rmdir(folder);
	return check_report();
}
