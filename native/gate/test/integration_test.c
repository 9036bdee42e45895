/*
 * The gate's promises on real interfaces with the kernel's own TCP. "Nothing arrives" is watched on the client's
 * end of the wire for QUIET_MS; everything else waits for what must come.
 */
#include <linux/if_ether.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gate/test/world.h"
#include "test/check.h"

#define QUIET_MS 150
#define PORT 5000

static struct world_gate a, b;
static int sniffer = -1;
static int listener[PLACES], client = -1, served = -1;
static uint64_t epoch;

/* ---- the service and its client ---- */

static struct sockaddr_in address(const char *ip, int port)
{
	struct sockaddr_in out = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	inet_pton(AF_INET, ip, &out.sin_addr);
	return out;
}

/* A socket keeps its namespace alive. */
static void forget_listener(enum place box)
{
	if (listener[box] > 0)
		close(listener[box]);
	listener[box] = 0;
}

static int dress(enum place box)
{
	int one = 1;
	int bad = world_run(box, "ip link set lo up && ip addr replace " SERVICE_IP "/24 dev eth0 && "
				 "ip neigh replace " CLIENT_IP " lladdr " CLIENT_MAC " dev eth0 nud permanent");
	struct sockaddr_in any = address("0.0.0.0", PORT);
	forget_listener(box);
	listener[box] = world_socket(box, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (bad != 0 || setsockopt(listener[box], SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
	    bind(listener[box], (struct sockaddr *)&any, sizeof any) != 0 || listen(listener[box], 16) != 0)
		return -1;
	return 0;
}

static void hang_up(void)
{
	struct linger now = {.l_onoff = 1};
	if (client >= 0) {
		setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
		close(client);
	}
	if (served >= 0) {
		setsockopt(served, SOL_SOCKET, SO_LINGER, &now, sizeof now);
		close(served);
	}
	client = served = -1;
}

static int dial(void)
{
	struct sockaddr_in service = address(SERVICE_IP, PORT);
	client = world_socket(CLIENT, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (client < 0 || (connect(client, (struct sockaddr *)&service, sizeof service) != 0 && errno != EINPROGRESS))
		return -1;
	return 0;
}

/* One epoch of an imaginary, instant checkpoint. */
static bool commit_epoch(struct world_gate *gate)
{
	bool ok = gate_ok(gate, "mark epoch=%llu", (unsigned long long)epoch) && gate_ok(gate, "thaw") &&
		  gate_ok(gate, "commit epoch=%llu", (unsigned long long)epoch);
	epoch++;
	return ok;
}

/* Commits epochs until the descriptor is ready. */
static bool epochs_until(struct world_gate *gate, int fd, short events, int wait_ms)
{
	int64_t until = world_ms() + wait_ms;
	do {
		struct pollfd one = {.fd = fd, .events = events};
		if (poll(&one, 1, 5) == 1)
			return true;
		if (!commit_epoch(gate))
			return false;
	} while (world_ms() < until);
	return false;
}

static bool serve(struct world_gate *gate, enum place box)
{
	if (!epochs_until(gate, listener[box], POLLIN, WAIT_MS))
		return false;
	served = accept4(listener[box], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	return served >= 0;
}

/* A gate in mode hold on host A with an established connection, everything so far committed. */
static bool start_holding(const char *options, const char *fault)
{
	epoch = 1;
	if (gate_start(&a, HOST_A, BOX_A, options, fault) != 0 || dress(BOX_A) != 0)
		return false;
	return gate_ok(&a, "subscribe") && gate_ok(&a, "mode name=hold generation=1 epoch=1");
}

static bool establish(void)
{
	return dial() == 0 && serve(&a, BOX_A) && epochs_until(&a, client, POLLOUT, WAIT_MS);
}

/* Commits until the container has nothing more to say, so that silence afterwards means something. */
static bool settle(void)
{
	for (int i = 0; i < 200; i++) {
		if (!commit_epoch(&a))
			return false;
		if (field(gate_ask(&a, "stats"), "held_frames") == 0 && sniffer_count(sniffer, 20) == 0 &&
		    field(gate_ask(&a, "stats"), "held_frames") == 0)
			return true;
	}
	return false;
}

static void finish(void)
{
	hang_up();
	forget_listener(BOX_A);
	forget_listener(BOX_B);
	gate_kill(&a, SIGKILL);
	gate_kill(&b, SIGKILL);
	/* What the gates left behind, so that each test starts from nothing. */
	world_run(HOST_A, "ip link del ftlan0 2>/dev/null || true");
	world_run(HOST_B, "ip link del ftlan0 2>/dev/null || true");
	world_renew(BOX_A);
	world_renew(BOX_B);
	sniffer_count(sniffer, 20);
	sniffed_longest = 0;
}

/* ---- output commit ---- */

TEST(nothing_leaves_before_its_epoch_is_committed)
{
	char got[64] = "";
	CHECK(start_holding("", NULL));
	sniffer_count(sniffer, 50);
	/* Not even the handshake. */
	CHECK_EQ(dial(), 0);
	CHECK(gate_event(&a, "held epoch=1", WAIT_MS));
	CHECK(gate_reaches(&a, "held_frames", 1));
	CHECK_EQ(sniffer_count(sniffer, QUIET_MS), 0);
	CHECK(!writable(client, 0));
	/* A mark alone lets nothing out, and neither does the thaw. */
	CHECK(gate_ok(&a, "mark epoch=1"));
	CHECK(gate_ok(&a, "thaw"));
	CHECK_EQ(sniffer_count(sniffer, QUIET_MS), 0);
	CHECK(gate_ok(&a, "commit epoch=1"));
	CHECK(writable(client, WAIT_MS));
	epoch = 2;
	CHECK(serve(&a, BOX_A));
	CHECK(settle());

	/* Not even a bare acknowledgement: it would tell the client that it may forget its data. */
	CHECK_EQ(send(client, "question", 8, 0), 8);
	CHECK(readable(served, WAIT_MS));
	CHECK(gate_reaches(&a, "held_frames", 1));
	CHECK_EQ(sniffer_count(sniffer, QUIET_MS), 0);
	struct tcp_info info;
	socklen_t size = sizeof info;
	CHECK_EQ(getsockopt(client, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
	CHECK(info.tcpi_unacked > 0);

	CHECK_EQ(recv(served, got, sizeof got, 0), 8);
	CHECK_EQ(send(served, "answer", 6, 0), 6);
	CHECK(gate_reaches(&a, "held_bytes", 60 + 72));
	CHECK_EQ(sniffer_count(sniffer, QUIET_MS), 0);
	CHECK(!readable(client, 0));
	CHECK(commit_epoch(&a));
	CHECK(readable(client, WAIT_MS));
	memset(got, 0, sizeof got);
	CHECK_EQ(recv(client, got, sizeof got, 0), 6);
	CHECK_STR(got, "answer");
}

TEST(what_comes_after_the_mark_waits_for_the_next_epoch)
{
	char got[64] = "";
	CHECK(start_holding("", NULL));
	CHECK(establish());
	CHECK(settle());
	CHECK_EQ(send(served, "one", 3, 0), 3);
	/* Not asked for a held frame first: the mark itself must fetch what was sent before it. */
	const char *reply = gate_ask(&a, "mark epoch=%llu", (unsigned long long)epoch);
	CHECK(strncmp(reply, "ok ", 3) == 0);
	CHECK_EQ(field(reply, "drained"), 1);
	CHECK(field(reply, "held_frames") >= 1);
	gate_forget_events(&a);
	CHECK_EQ(send(served, "two", 3, 0), 3);
	char expected[64];
	snprintf(expected, sizeof expected, "held epoch=%llu", (unsigned long long)epoch + 1);
	CHECK(gate_event(&a, expected, WAIT_MS));
	CHECK(gate_ok(&a, "thaw"));
	CHECK(gate_ok(&a, "commit epoch=%llu", (unsigned long long)epoch));
	CHECK(readable(client, WAIT_MS));
	CHECK(poll(NULL, 0, QUIET_MS) == 0);
	CHECK_EQ(recv(client, got, sizeof got, 0), 3);
	CHECK_STR(got, "one");
	epoch++;
	CHECK(commit_epoch(&a));
	CHECK(readable(client, WAIT_MS));
	CHECK_EQ(recv(client, got, sizeof got, 0), 3);
	CHECK_STR(got, "two");
}

/* A dump that came to nothing is taken again under its number; the application ran in between. */
TEST(what_comes_after_a_mark_waits_even_if_the_epoch_is_marked_again)
{
	char got[64] = "";
	CHECK(start_holding("", NULL));
	CHECK(establish());
	CHECK(settle());
	CHECK_EQ(send(served, "one", 3, 0), 3);
	CHECK(gate_ok(&a, "mark epoch=%llu", (unsigned long long)epoch));
	CHECK(gate_ok(&a, "thaw"));
	CHECK_EQ(send(served, "two", 3, 0), 3);
	CHECK(gate_reaches(&a, "held_frames", 2));
	CHECK(gate_ok(&a, "mark epoch=%llu", (unsigned long long)epoch));
	CHECK(gate_ok(&a, "thaw"));
	CHECK(gate_ok(&a, "commit epoch=%llu", (unsigned long long)epoch));
	CHECK(readable(client, WAIT_MS));
	CHECK_EQ(recv(client, got, sizeof got, 0), 3);
	CHECK_STR(got, "one");
	CHECK(!readable(client, QUIET_MS));
	CHECK(gate_ok(&a, "mark epoch=%llu", (unsigned long long)epoch + 1));
	CHECK(gate_ok(&a, "thaw"));
	CHECK(gate_ok(&a, "commit epoch=%llu", (unsigned long long)epoch + 1));
	CHECK(readable(client, WAIT_MS));
	memset(got, 0, sizeof got);
	CHECK_EQ(recv(client, got, sizeof got, 0), 3);
	CHECK_STR(got, "two");
}

TEST(input_waits_between_mark_and_thaw)
{
	char got[64] = "";
	CHECK(start_holding("", NULL));
	CHECK(establish());
	CHECK(settle());
	CHECK(gate_ok(&a, "mark epoch=%llu", (unsigned long long)epoch));
	CHECK(strncmp(gate_ask(&a, "mark epoch=%llu", (unsigned long long)epoch + 1), "fail code=marked", 16) == 0);
	CHECK_EQ(send(client, "hello", 5, 0), 5);
	CHECK(gate_reaches(&a, "queued_frames", 1));
	CHECK(!readable(served, QUIET_MS));
	const char *reply = gate_ask(&a, "thaw");
	CHECK(field(reply, "queued_frames") >= 1);
	CHECK(field(reply, "marked_us") >= QUIET_MS * 1000);
	CHECK(readable(served, WAIT_MS));
	CHECK_EQ(recv(served, got, sizeof got, 0), 5);
	CHECK_STR(got, "hello");
	CHECK_EQ(field(gate_ask(&a, "stats"), "queued_frames"), 0);
}

TEST(the_end_of_the_marking_connection_thaws)
{
	char reply[256] = "";
	CHECK(start_holding("", NULL));
	CHECK(establish());
	CHECK(settle());
	int dumper = gate_connect(&a);
	char request[64];
	int length = snprintf(request, sizeof request, "mark epoch=%llu\n", (unsigned long long)epoch);
	CHECK_EQ(send(dumper, request, (size_t)length, 0), length);
	CHECK(readable(dumper, WAIT_MS));
	CHECK(recv(dumper, reply, sizeof reply - 1, 0) > 0 && strncmp(reply, "ok ", 3) == 0);
	CHECK_EQ(send(client, "hello", 5, 0), 5);
	CHECK(gate_reaches(&a, "queued_frames", 1));
	CHECK(!readable(served, 50));
	close(dumper);
	CHECK(gate_event(&a, "thawed-by-disconnect", WAIT_MS));
	CHECK(readable(served, WAIT_MS));
	/* The frames of the epoch that failed wait for the next one. */
	CHECK(gate_reaches(&a, "held_frames", 1));
	epoch++;
	CHECK(commit_epoch(&a));
	CHECK(gate_reaches(&a, "committed", (int64_t)epoch - 1));
}

TEST(commits_and_generations_only_go_up)
{
	CHECK(start_holding("", NULL));
	CHECK(strncmp(gate_ask(&a, "commit epoch=1"), "fail code=not-marked", 20) == 0);
	CHECK(gate_ok(&a, "mark epoch=3"));
	CHECK(gate_ok(&a, "thaw"));
	CHECK(strncmp(gate_ask(&a, "commit epoch=4"), "fail code=not-marked", 20) == 0);
	CHECK(gate_ok(&a, "mark epoch=3")); /* once more, as for a dump that came to nothing */
	CHECK(strncmp(gate_ask(&a, "mark epoch=3"), "fail code=marked", 16) == 0);
	CHECK(gate_ok(&a, "thaw"));
	CHECK(strncmp(gate_ask(&a, "mark epoch=2"), "fail code=not-monotonic", 23) == 0);
	CHECK(gate_ok(&a, "commit epoch=3"));
	CHECK(strncmp(gate_ask(&a, "commit epoch=3"), "fail code=not-monotonic", 23) == 0);
	CHECK(strncmp(gate_ask(&a, "commit epoch=2"), "fail code=not-monotonic", 23) == 0);
	CHECK(strncmp(gate_ask(&a, "mark epoch=3"), "fail code=not-monotonic", 23) == 0);
	CHECK(gate_ok(&a, "mode name=hold generation=5 epoch=10"));
	CHECK(strncmp(gate_ask(&a, "mode name=open generation=4"), "fail code=stale-generation", 26) == 0);
	CHECK(strncmp(gate_ask(&a, "mode name=takeover generation=5"), "fail code=transition", 20) == 0);
	CHECK(says(gate_ask(&a, "stats"), "mode=hold"));
	CHECK(strncmp(gate_ask(&a, "mode name=ajar generation=5"), "fail code=usage", 15) == 0);
	CHECK(strncmp(gate_ask(&a, "explode"), "fail code=usage", 15) == 0);
	CHECK(strncmp(gate_ask(&a, "mark epoch=-1"), "fail code=usage", 15) == 0);
}

/* ---- crashes ---- */

TEST(a_killed_gate_leaks_nothing_and_tcp_goes_on_after_the_next_one)
{
	char got[64] = "";
	CHECK(start_holding("", NULL));
	CHECK(establish());
	CHECK(settle());
	CHECK_EQ(send(served, "kept", 4, 0), 4);
	CHECK(gate_reaches(&a, "held_frames", 1));
	gate_kill(&a, SIGKILL);
	CHECK_EQ(sniffer_count(sniffer, QUIET_MS), 0);
	/* The interface is still there, with its address. The new gate starts closed. */
	CHECK_EQ(gate_start(&a, HOST_A, BOX_A, "", NULL), 0);
	CHECK(says(gate_ask(&a, "stats"), "mode=closed"));
	CHECK_EQ(sniffer_count(sniffer, QUIET_MS), 0);
	CHECK(gate_ok(&a, "mode name=hold generation=1 epoch=%llu", (unsigned long long)epoch));
	CHECK(epochs_until(&a, client, POLLIN, WAIT_MS));
	CHECK_EQ(recv(client, got, sizeof got, 0), 4);
	CHECK_STR(got, "kept");
}

TEST(injected_faults_fail_or_kill_but_never_leak)
{
	CHECK(start_holding("", "gate.mark:error:3,gate.release:crash:4"));
	CHECK(establish());
	int failures = 0;
	for (int i = 0; i < 3 && failures == 0; i++) {
		const char *reply = gate_ask(&a, "mark epoch=%llu", (unsigned long long)epoch);
		if (strncmp(reply, "fail code=fault", 15) == 0)
			failures++;
		else
			CHECK(gate_ok(&a, "thaw"));
		epoch++;
	}
	CHECK_EQ(send(served, "secret", 6, 0), 6);
	CHECK(gate_reaches(&a, "held_frames", 1));
	sniffer_count(sniffer, 20);
	bool died = false;
	int leaked = 0;
	for (int i = 0; i < 10 && !died; i++) {
		const char *reply = gate_ask(&a, "mark epoch=%llu", (unsigned long long)epoch);
		if (strncmp(reply, "ok ", 3) == 0) {
			CHECK(gate_ok(&a, "thaw"));
			reply = gate_ask(&a, "commit epoch=%llu", (unsigned long long)epoch);
			died = *reply == 0;
			if (!died)
				leaked += (int)field(reply, "released_frames");
		}
		epoch++;
	}
	CHECK(died);
	CHECK(leaked > 0 || sniffer_count(sniffer, QUIET_MS) == 0);
}

/* ---- modes ---- */

TEST(closed_passes_nothing_and_forgets)
{
	CHECK(start_holding("", NULL));
	CHECK(establish());
	CHECK(settle());
	CHECK_EQ(send(served, "gone", 4, 0), 4);
	CHECK(gate_reaches(&a, "held_frames", 1));
	const char *reply = gate_ask(&a, "mode name=closed generation=1");
	CHECK(field(reply, "discarded_frames") >= 1);
	CHECK_EQ(field(gate_ask(&a, "stats"), "held_frames"), 0);
	CHECK_EQ(send(served, "more", 4, 0), 4);
	CHECK_EQ(send(client, "in", 2, 0), 2);
	CHECK(!readable(served, QUIET_MS));
	CHECK_EQ(sniffer_count(sniffer, QUIET_MS), 0);
	CHECK(!readable(client, 0));
	CHECK(gate_reaches(&a, "dropped_in_frames", 1));
	CHECK(strncmp(gate_ask(&a, "garp ip=" SERVICE_IP " count=1"), "fail code=mode", 14) == 0);
}

TEST(opening_releases_everything_in_order)
{
	/* Datagrams, because TCP would put a wrong order right again. */
	struct sockaddr_in to = address(CLIENT_IP, 6000);
	CHECK(start_holding("", NULL));
	int ear = world_socket(CLIENT, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	CHECK_EQ(bind(ear, (struct sockaddr *)&to, sizeof to), 0);
	int mouth = world_socket(BOX_A, AF_INET, SOCK_DGRAM, 0);
	for (int i = 0; i < 200; i++) {
		CHECK_EQ(sendto(mouth, &i, sizeof i, 0, (struct sockaddr *)&to, sizeof to), sizeof i);
		if (i % 25 == 0) {
			CHECK(gate_ok(&a, "mark epoch=%llu", (unsigned long long)epoch++));
			CHECK(gate_ok(&a, "thaw"));
		}
	}
	CHECK(gate_reaches(&a, "held_frames", 200));
	CHECK(gate_ok(&a, "commit epoch=3"));
	int next = 0, number;
	while (readable(ear, QUIET_MS) && recv(ear, &number, sizeof number, 0) == sizeof number)
		CHECK_EQ(number, next++);
	CHECK_EQ(next, 51); /* 0, 1 … 25, 26 … 50 */
	const char *reply = gate_ask(&a, "mode name=open generation=1");
	CHECK(field(reply, "released_frames") >= 149);
	while (next < 200 && readable(ear, WAIT_MS) && recv(ear, &number, sizeof number, 0) == sizeof number)
		CHECK_EQ(number, next++);
	CHECK_EQ(next, 200);
	close(ear);
	close(mouth);
}

TEST(takeover_queues_input_and_speaks_only_arp)
{
	static const unsigned char any[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	epoch = 7;
	CHECK_EQ(gate_start(&a, HOST_A, BOX_A, "", NULL), 0);
	CHECK_EQ(dress(BOX_A), 0);
	CHECK(gate_ok(&a, "subscribe"));
	CHECK(gate_ok(&a, "mode name=takeover generation=2"));
	sniffer_count(sniffer, 50);
	const char *reply = gate_ask(&a, "garp ip=" SERVICE_IP " count=3");
	CHECK_EQ(field(reply, "sent_frames"), 6);
	CHECK_EQ(sniffer_count(sniffer, 100), 6);
	CHECK_EQ(memcmp(sniffed, any, 6), 0);
	CHECK_EQ(sniffed[12] << 8 | sniffed[13], 0x0806);
	CHECK_EQ(sniffed[21], 2);
	/* The client's SYN and its retransmissions wait here. */
	CHECK_EQ(dial(), 0);
	CHECK(gate_reaches(&a, "queued_frames", 1));
	CHECK(!readable(listener[BOX_A], QUIET_MS));
	/* The container talks already, and is not heard. */
	int talker = world_socket(BOX_A, AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in to = address(CLIENT_IP, 9);
	CHECK_EQ(sendto(talker, "hi", 2, 0, (struct sockaddr *)&to, sizeof to), 2);
	CHECK_EQ(sniffer_count(sniffer, QUIET_MS), 0);
	CHECK(gate_ok(&a, "mode name=hold generation=2 epoch=7"));
	/* The queue first: the container answers the SYN that came before it was there, and is held like ever. */
	CHECK(gate_reaches(&a, "delivered_frames", 1));
	CHECK(gate_reaches(&a, "held_frames", 2));
	CHECK_EQ(sniffer_count(sniffer, QUIET_MS), 0);
	close(talker);
	CHECK(serve(&a, BOX_A));
	CHECK(epochs_until(&a, client, POLLOUT, WAIT_MS));
}

/* What was restored first has ended and closed its connections; only what is restored after it may speak. */
TEST(a_takeover_that_is_begun_again_forgets_what_was_said)
{
	CHECK_EQ(gate_start(&a, HOST_A, BOX_A, "", NULL), 0);
	CHECK_EQ(dress(BOX_A), 0);
	CHECK(gate_ok(&a, "mode name=takeover generation=2"));
	int talker = world_socket(BOX_A, AF_INET, SOCK_DGRAM, 0);
	int on = 1;
	struct sockaddr_in to = address("10.9.0.255", 9); /* nobody has to be asked for */
	CHECK_EQ(setsockopt(talker, SOL_SOCKET, SO_BROADCAST, &on, sizeof on), 0);
	CHECK_EQ(sendto(talker, "no", 2, 0, (struct sockaddr *)&to, sizeof to), 2);
	sniffer_count(sniffer, QUIET_MS);
	CHECK(gate_ok(&a, "mode name=takeover generation=2"));
	CHECK(gate_ok(&a, "mode name=open generation=2"));
	CHECK_EQ(sniffer_count_of(sniffer, ETH_P_IP, QUIET_MS), 0);
	CHECK_EQ(sendto(talker, "yes", 3, 0, (struct sockaddr *)&to, sizeof to), 3);
	CHECK(sniffer_count_of(sniffer, ETH_P_IP, QUIET_MS) > 0);
	close(talker);
}

/* ---- bounds ---- */

static unsigned char pattern(size_t i)
{
	return (unsigned char)(i * 2654435761u >> 13);
}

/* Moves `total` bytes from one socket to the other, calling `between` while it waits; checks every byte. */
static bool move(int from, int to, size_t total, bool (*between)(void))
{
	static unsigned char out[65536], in[65536];
	size_t sent = 0, got = 0;
	int64_t until = world_ms() + 30000;
	while (got < total && world_ms() < until) {
		struct pollfd both[2] = {{.fd = from, .events = sent < total ? POLLOUT : 0}, {.fd = to, .events = POLLIN}};
		if (poll(both, 2, 2) < 0)
			return false;
		if (both[0].revents & POLLOUT) {
			size_t n = total - sent < sizeof out ? total - sent : sizeof out;
			for (size_t i = 0; i < n; i++)
				out[i] = pattern(sent + i);
			ssize_t done = send(from, out, n, MSG_NOSIGNAL);
			sent += done > 0 ? (size_t)done : 0;
		}
		if (both[1].revents & POLLIN) {
			ssize_t n = recv(to, in, sizeof in, 0);
			for (ssize_t i = 0; i < n; i++)
				if (in[i] != pattern(got + (size_t)i))
					return false;
			if (n <= 0)
				return false;
			got += (size_t)n;
		}
		if (between != NULL && !between())
			return false;
	}
	return got == total;
}

static bool commit_now(void)
{
	return commit_epoch(&a);
}

TEST(at_its_bound_the_gate_stops_reading_and_drops_nothing)
{
	enum { DATAGRAMS = 1000 };
	struct { int number; char rest[996]; } datagram = {0};
	struct sockaddr_in to = address(CLIENT_IP, 6000);
	int bytes = 8 << 20, next = 0;
	CHECK(start_holding("--held-bytes-max 300000", NULL));
	int ear = world_socket(CLIENT, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	CHECK_EQ(bind(ear, (struct sockaddr *)&to, sizeof to), 0);
	CHECK_EQ(setsockopt(ear, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes), 0);
	int mouth = world_socket(BOX_A, AF_INET, SOCK_DGRAM, 0);
	int64_t dropped = field(gate_ask(&a, "stats"), "dropped_out_frames"); /* while it was closed */
	for (int i = 0; i < DATAGRAMS; i++) {
		datagram.number = i;
		CHECK_EQ(sendto(mouth, &datagram, sizeof datagram, 0, (struct sockaddr *)&to, sizeof to), sizeof datagram);
	}
	CHECK(gate_event(&a, "bound held_bytes=", WAIT_MS));
	const char *stats = gate_ask(&a, "stats");
	CHECK(field(stats, "held_bytes") <= field(stats, "held_bytes_max"));
	CHECK(field(stats, "held_frames") < DATAGRAMS);
	CHECK_EQ(field(stats, "dropped_out_frames"), dropped);
	CHECK_EQ(sniffer_count(sniffer, QUIET_MS), 0);
	/* Even a mark at the bound works: without it nothing would ever be released. */
	int64_t until = world_ms() + 2 * WAIT_MS;
	while (next < DATAGRAMS && world_ms() < until) {
		CHECK(commit_epoch(&a));
		while (recv(ear, &datagram, sizeof datagram, 0) == sizeof datagram)
			CHECK_EQ(datagram.number, next++);
	}
	CHECK_EQ(next, DATAGRAMS);
	CHECK(gate_event(&a, "bound-clear", WAIT_MS));
	close(ear);
	close(mouth);
}

TEST(a_flood_of_input_while_frozen_is_bounded)
{
	CHECK(start_holding("--queued-bytes-max 300000", NULL));
	CHECK(gate_ok(&a, "mark epoch=1"));
	int flood = world_socket(CLIENT, AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in to = address(SERVICE_IP, 7777);
	char datagram[1000] = "";
	for (int i = 0; i < 5000; i++)
		sendto(flood, datagram, sizeof datagram, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
	close(flood);
	CHECK(gate_reaches(&a, "queued_bytes", 200000));
	CHECK(field(gate_ask(&a, "stats"), "queued_bytes") <= 303104);
	CHECK(gate_ok(&a, "thaw"));
	CHECK(gate_reaches(&a, "delivered_frames", 1000));
}

/* ---- offloads ---- */

TEST(bulk_transfer_is_intact_and_segmented_by_the_receiver)
{
	const size_t total = 64u << 20;
	CHECK_EQ(gate_start(&a, HOST_A, BOX_A, "", NULL), 0);
	CHECK_EQ(dress(BOX_A), 0);
	CHECK(gate_ok(&a, "mode name=open generation=1"));
	CHECK_EQ(dial(), 0);
	CHECK(writable(client, WAIT_MS));
	CHECK(readable(listener[BOX_A], WAIT_MS));
	served = accept4(listener[BOX_A], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	CHECK(served >= 0);
	const char *stats;
	CHECK(move(served, client, total, NULL));
	stats = gate_ask(&a, "stats");
	/* Far fewer frames than packets of 1460 bytes: offload came through the container's side … */
	CHECK(field(stats, "out_bytes") >= (int64_t)total);
	CHECK(field(stats, "out_bytes") / field(stats, "out_frames") > 4 * 1460);
	CHECK_EQ(field(stats, "refused_out_frames"), 0);
	/* … and out at the other side, up to the client's end of the wire. */
	sniffer_count(sniffer, 0);
	CHECK(sniffed_longest > 4 * 1460);
	int64_t in_before = field(stats, "in_bytes"), frames_before = field(stats, "in_frames");
	CHECK(move(client, served, total, NULL));
	stats = gate_ask(&a, "stats");
	CHECK((field(stats, "in_bytes") - in_before) / (field(stats, "in_frames") - frames_before) > 4 * 1460);
	struct tcp_info info;
	socklen_t size = sizeof info;
	CHECK_EQ(getsockopt(served, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
	CHECK(info.tcpi_total_retrans < 100);
}

TEST(bulk_transfer_through_many_epochs_is_intact)
{
	CHECK(start_holding("", NULL));
	CHECK(establish());
	CHECK(move(served, client, 16u << 20, commit_now));
	CHECK(move(client, served, 16u << 20, commit_now));
	CHECK(epoch > 20);
}

/* ---- two gates ---- */

static bool start_both(const char *options)
{
	world_alone = false;
	return gate_start(&a, HOST_A, BOX_A, options, NULL) == 0 && gate_start(&b, HOST_B, BOX_B, options, NULL) == 0 &&
	       gate_ok(&a, "subscribe") && gate_ok(&b, "subscribe") && gate_event(&a, "peer state=alive", WAIT_MS) &&
	       gate_event(&b, "peer state=alive", WAIT_MS);
}

/* Makes the container ask who has an address that nobody has. */
static void ask_who_has(int host_number)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
	char ip[32];
	snprintf(ip, sizeof ip, "10.9.0.%d", host_number);
	inet_pton(AF_INET, ip, &to.sin_addr);
	int fd = world_socket(BOX_A, AF_INET, SOCK_DGRAM, 0);
	if (sendto(fd, "x", 1, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to) != 1)
		printf("  sendto: %s\n", strerror(errno));
	close(fd);
}

TEST(arp_passes_only_under_a_fresh_lease)
{
	CHECK(start_both("--heartbeat-ms 10 --miss-limit 20 --lease-ms 300"));
	CHECK_EQ(dress(BOX_A), 0);
	CHECK(gate_ok(&a, "mode name=hold generation=1 epoch=1"));
	CHECK(gate_reaches(&a, "lease_fresh", 1));
	sniffer_count(sniffer, 50);
	ask_who_has(200);
	CHECK(sniffer_count(sniffer, 2500) >= 1); /* the kernel asks three times, a second apart */
	CHECK_EQ(sniffed[12] << 8 | sniffed[13], 0x0806);
	CHECK(gate_reaches(&a, "lease_passed_frames", 1));

	/* The peer stops: silence is told, the lease runs out, ARP is output like any other. */
	kill(b.pid, SIGSTOP);
	CHECK(gate_event(&a, "peer state=silent", WAIT_MS));
	int64_t until = world_ms() + WAIT_MS;
	while (field(gate_ask(&a, "lease"), "lease_fresh") != 0 && world_ms() < until)
		poll(NULL, 0, 5);
	CHECK_EQ(field(gate_ask(&a, "lease"), "lease_fresh"), 0);
	sniffer_count(sniffer, 50);
	int64_t held = field(gate_ask(&a, "stats"), "held_frames");
	ask_who_has(201);
	CHECK(gate_reaches(&a, "held_frames", held + 1));
	CHECK_EQ(sniffer_count(sniffer, QUIET_MS), 0);

	/* It comes back: so does the lease. */
	kill(b.pid, SIGCONT);
	CHECK(gate_event(&a, "peer state=alive", WAIT_MS));
	CHECK(gate_reaches(&a, "lease_fresh", 1));
	ask_who_has(202);
	CHECK(sniffer_count(sniffer, 2500) >= 1);
}

TEST(committed_output_waits_for_the_lease)
{
	struct sockaddr_in to = address(CLIENT_IP, 9);
	CHECK(start_both("--heartbeat-ms 10 --miss-limit 20 --lease-ms 100"));
	CHECK_EQ(dress(BOX_A), 0);
	CHECK(gate_ok(&a, "mode name=hold generation=1 epoch=1"));
	CHECK(gate_reaches(&a, "lease_fresh", 1));
	int mouth = world_socket(BOX_A, AF_INET, SOCK_DGRAM, 0);
	CHECK_EQ(sendto(mouth, "late", 4, 0, (struct sockaddr *)&to, sizeof to), 4);
	CHECK(gate_reaches(&a, "held_frames", 1));
	CHECK(gate_ok(&a, "mark epoch=1"));
	CHECK(gate_ok(&a, "thaw"));
	/* The ack was under way when the peer fell silent: it may be about to take over. */
	kill(b.pid, SIGSTOP);
	int64_t until = world_ms() + WAIT_MS;
	while (field(gate_ask(&a, "lease"), "lease_fresh") != 0 && world_ms() < until)
		poll(NULL, 0, 5);
	sniffer_count(sniffer, 50);
	CHECK_EQ(field(gate_ask(&a, "commit epoch=1"), "released_frames"), 0);
	CHECK_EQ(sniffer_count(sniffer, QUIET_MS), 0);
	/* It is there after all: what was committed leaves without being told again. */
	kill(b.pid, SIGCONT);
	CHECK(sniffer_count(sniffer, 2500) >= 1);
	CHECK(gate_reaches(&a, "held_frames", 0));
	close(mouth);
}

TEST(one_way_deafness_ends_the_lease_though_the_peer_is_heard)
{
	CHECK(start_both("--heartbeat-ms 10 --miss-limit 30 --lease-ms 100"));
	CHECK(gate_ok(&a, "mode name=hold generation=1 epoch=1"));
	CHECK(gate_reaches(&a, "lease_fresh", 1));
	/* a's beats go nowhere, b's still arrive. */
	CHECK_EQ(world_run(HOST_A, "ip route add blackhole 10.77.0.2/32"), 0);
	int64_t until = world_ms() + WAIT_MS;
	while (field(gate_ask(&a, "lease"), "lease_fresh") != 0 && world_ms() < until)
		poll(NULL, 0, 5);
	const char *stats = gate_ask(&a, "stats");
	CHECK_EQ(field(stats, "lease_fresh"), 0);
	CHECK(says(stats, "peer_state=alive"));
	CHECK(gate_event(&b, "peer state=silent", WAIT_MS));
	CHECK_EQ(world_run(HOST_A, "ip route del blackhole 10.77.0.2/32"), 0);
	CHECK(gate_event(&b, "peer state=alive", WAIT_MS));
}

TEST(a_long_release_does_not_look_like_a_dead_host)
{
	char datagram[1400] = "";
	struct sockaddr_in to = address(CLIENT_IP, 9);
	CHECK(start_both("--heartbeat-ms 30 --miss-limit 5 --held-bytes-max 100000000"));
	CHECK_EQ(dress(BOX_A), 0);
	CHECK(gate_ok(&a, "mode name=hold generation=1 epoch=1"));
	int mouth = world_socket(BOX_A, AF_INET, SOCK_DGRAM, 0);
	for (int i = 1; i <= 50000; i++) {
		CHECK_EQ(sendto(mouth, datagram, sizeof datagram, 0, (struct sockaddr *)&to, sizeof to), sizeof datagram);
		if (i % 5000 == 0)
			CHECK(gate_reaches(&a, "held_frames", i));
	}
	gate_forget_events(&b);
	CHECK(gate_ok(&a, "mark epoch=1"));
	/* The lease may run out on the way; the next beat lets the rest go. */
	CHECK(gate_ok(&a, "commit epoch=1"));
	CHECK(gate_reaches(&a, "released_frames", 50000));
	CHECK(!gate_event(&b, "peer state=silent", 50));
	CHECK(says(gate_ask(&b, "stats"), "peer_state=alive"));
	close(mouth);
}

TEST(silence_is_noticed_in_time)
{
	CHECK(start_both("--heartbeat-ms 30 --miss-limit 3"));
	int64_t before = world_ms();
	gate_kill(&b, SIGKILL);
	CHECK(gate_event(&a, "peer state=silent", WAIT_MS));
	int64_t took = world_ms() - before;
	CHECK(took >= 50);
	CHECK(took < 1000);
}

TEST(the_peer_hears_of_agent_application_and_lan)
{
	CHECK(start_both("--heartbeat-ms 10 --miss-limit 20"));
	CHECK(gate_ok(&a, "beat agent=1 app=running lan=1 epoch=42"));
	CHECK(gate_event(&b, "peer-flags agent=1 app=running lan=1 generation=1 epoch=42 mode=closed", WAIT_MS));
	CHECK(gate_ok(&a, "beat agent=1 app=exited lan=1"));
	CHECK(gate_event(&b, "peer-flags agent=1 app=exited", WAIT_MS));
	/* An agent that says nothing any more is dead; its gate lives on. */
	CHECK(gate_event(&b, "peer-flags agent=0 app=exited", WAIT_MS));
	CHECK(says(gate_ask(&b, "stats"), "peer_state=alive"));
	CHECK(gate_ok(&a, "mode name=open generation=3"));
	CHECK(gate_event(&b, "peer-flags agent=0 app=exited lan=1 generation=3 epoch=0 mode=open", WAIT_MS));
	/* The way out of host a goes dead. */
	CHECK_EQ(world_run(LAN, "ip link set hosta down"), 0);
	CHECK(gate_event(&a, "lan state=down", WAIT_MS));
	CHECK(gate_event(&b, "peer-flags agent=0 app=exited lan=0", WAIT_MS));
	CHECK_EQ(world_run(LAN, "ip link set hosta up"), 0);
	CHECK(gate_event(&a, "lan state=up", WAIT_MS));
	CHECK(gate_event(&b, "peer-flags agent=0 app=exited lan=1", WAIT_MS));
}

TEST(a_gate_that_is_outranked_falls_silent)
{
	CHECK(start_both("--heartbeat-ms 10 --miss-limit 20"));
	CHECK_EQ(dress(BOX_A), 0);
	CHECK(gate_ok(&a, "mode name=open generation=1"));
	int talker = world_socket(BOX_A, AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in to = address(CLIENT_IP, 9);
	CHECK_EQ(sendto(talker, "1", 1, 0, (struct sockaddr *)&to, sizeof to), 1);
	CHECK(gate_reaches(&a, "released_frames", 1));
	CHECK(gate_ok(&b, "mode name=takeover generation=2"));
	CHECK(gate_event(&a, "fenced generation=1 peer_generation=2", WAIT_MS));
	CHECK(sniffer_count(sniffer, 50) >= 1);
	CHECK_EQ(sendto(talker, "2", 1, 0, (struct sockaddr *)&to, sizeof to), 1);
	CHECK_EQ(sniffer_count(sniffer, QUIET_MS), 0);
	CHECK(gate_reaches(&a, "held_frames", 1));
	CHECK(strncmp(gate_ask(&a, "mode name=hold generation=1 epoch=1"), "fail code=fenced", 16) == 0);
	CHECK(strncmp(gate_ask(&a, "garp ip=" SERVICE_IP), "fail code=fenced", 16) == 0);
	CHECK_EQ(field(gate_ask(&a, "lease"), "lease_fresh"), 0);
	CHECK(gate_ok(&a, "mode name=closed generation=2"));
	close(talker);
}

TEST(a_restarted_peer_is_taken_up_again)
{
	CHECK(start_both("--heartbeat-ms 10 --miss-limit 5"));
	gate_kill(&b, SIGKILL);
	CHECK(gate_event(&a, "peer state=silent", WAIT_MS));
	CHECK_EQ(gate_start(&b, HOST_B, BOX_B, "--heartbeat-ms 10 --miss-limit 5", NULL), 0);
	CHECK(gate_event(&a, "peer state=alive", WAIT_MS));
}

/* ---- hostile input ---- */

TEST(hostile_bytes_on_both_doors_change_nothing)
{
	uint64_t state = 0x5eed5;
	CHECK(start_both("--heartbeat-ms 10 --miss-limit 20"));
	CHECK(gate_ok(&a, "mode name=hold generation=1 epoch=1"));
	int udp = world_socket(HOST_B, AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in to = address("10.77.0.1", 7400);
	for (int i = 0; i < 2000; i++) {
		unsigned char bytes[300];
		size_t length = check_random(&state) % sizeof bytes;
		for (size_t at = 0; at < length; at++)
			bytes[at] = (unsigned char)check_random(&state);
		if (length > 4 && i % 2 == 0)
			memcpy(bytes, "FTHB", 4);
		sendto(udp, bytes, length, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
	}
	close(udp);
	CHECK(gate_reaches(&a, "beats_refused", 500));
	for (int i = 0; i < 50; i++) {
		static const char alphabet[] = "mark epoch=12 thaw commit name=hold %\n\n\n=\0";
		char bytes[6000];
		int door = gate_connect(&a);
		CHECK(door >= 0);
		for (size_t at = 0; at < sizeof bytes; at++)
			bytes[at] = i % 2 == 0 ? (char)check_random(&state) : alphabet[check_random(&state) % (sizeof alphabet - 1)];
		if (i % 5 == 0)
			memset(bytes, 'a', sizeof bytes);
		send(door, bytes, sizeof bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
		close(door);
	}
	const char *stats = gate_ask(&a, "stats");
	CHECK(says(stats, "mode=hold"));
	CHECK(says(stats, "peer_state=alive"));
	CHECK_EQ(field(stats, "epoch"), 1);
}

TEST(a_subscriber_that_does_not_read_is_cut_off_and_nobody_waits)
{
	CHECK(start_holding("", NULL));
	int lazy = gate_connect(&a);
	int small = 2048;
	setsockopt(lazy, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	CHECK_EQ(send(lazy, "subscribe\n", 10, 0), 10);
	for (int i = 0; i < 4000; i++)
		if (send(lazy, "stats\n", 6, MSG_NOSIGNAL | MSG_DONTWAIT) != 6)
			break;
	CHECK(gate_ok(&a, "hello"));
	CHECK(gate_ok(&a, "mark epoch=1"));
	CHECK(gate_ok(&a, "thaw"));
	close(lazy);
}

/* ---- copies of input ---- */

/* What the box has heard, in order: a letter a datagram. */
static const char *heard(int ear, int wait_ms)
{
	static char letters[64];
	size_t count = 0;
	while (count < sizeof letters - 1 && readable(ear, wait_ms) && recv(ear, letters + count, 1, MSG_DONTWAIT) == 1)
		count++;
	letters[count] = 0;
	return letters;
}

static int open_ear(enum place box)
{
	struct sockaddr_in any = address("0.0.0.0", 7777);
	int ear = world_socket(box, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	return bind(ear, (struct sockaddr *)&any, sizeof any) == 0 ? ear : -1;
}

/* The first holds, and the second has heard so. */
static bool start_copying(void)
{
	return start_both("--heartbeat-ms 20 --miss-limit 50 --lease-ms 900") && dress(BOX_A) == 0 && dress(BOX_B) == 0 &&
	       gate_ok(&a, "mode name=hold generation=1 epoch=1") &&
	       gate_ok(&a, "garp ip=" SERVICE_IP) && /* the LAN may have learnt another place from the scene before */
	       gate_event(&b, "peer-flags agent=0 app=none lan=1 generation=1 epoch=1 mode=hold", WAIT_MS);
}

TEST(what_came_after_the_restored_checkpoint_comes_again_after_a_takeover)
{
	struct sockaddr_in to = address(SERVICE_IP, 7777);
	CHECK(start_copying());
	int ear_a = open_ear(BOX_A), ear_b = open_ear(BOX_B), mouth = world_socket(CLIENT, AF_INET, SOCK_DGRAM, 0);
	CHECK(ear_a >= 0 && ear_b >= 0);
	CHECK_EQ(world_run(CLIENT, "ip neigh replace " SERVICE_IP " lladdr " SERVICE_MAC " dev eth0 nud permanent"), 0);
	/* Of the first epoch; of the second, while the container stands and after that. */
	CHECK_EQ(sendto(mouth, "a", 1, 0, (struct sockaddr *)&to, sizeof to), 1);
	CHECK_STR(heard(ear_a, QUIET_MS), "a");
	CHECK(gate_reaches(&b, "copies_kept", 1));
	CHECK(gate_ok(&a, "mark epoch=1"));
	CHECK_EQ(sendto(mouth, "b", 1, 0, (struct sockaddr *)&to, sizeof to), 1);
	CHECK(gate_reaches(&a, "queued_frames", 1));
	CHECK(gate_ok(&a, "thaw"));
	CHECK(gate_ok(&a, "commit epoch=1"));
	CHECK_EQ(sendto(mouth, "c", 1, 0, (struct sockaddr *)&to, sizeof to), 1);
	CHECK_STR(heard(ear_a, QUIET_MS), "bc");
	CHECK(gate_reaches(&a, "copies_sent", 3));
	CHECK_EQ(field(gate_ask(&b, "stats"), "copies_kept"), 2); /* the first is in the checkpoint */
	gate_kill(&a, SIGKILL);
	CHECK(gate_event(&b, "peer state=silent", WAIT_MS));
	CHECK(gate_ok(&b, "mode name=takeover generation=2"));
	CHECK(gate_ok(&b, "garp ip=" SERVICE_IP));
	CHECK_EQ(sendto(mouth, "d", 1, 0, (struct sockaddr *)&to, sizeof to), 1);
	CHECK(gate_reaches(&b, "queued_frames", 1));
	CHECK_STR(heard(ear_b, QUIET_MS), "");
	CHECK(gate_ok(&b, "mode name=open generation=2 epoch=1"));
	CHECK_STR(heard(ear_b, QUIET_MS), "bcd");
	CHECK_EQ(field(gate_ask(&b, "stats"), "copies_used"), 2);
	close(ear_a);
	close(ear_b);
	close(mouth);
}

TEST(copies_are_for_the_next_takeover_alone)
{
	struct sockaddr_in to = address(SERVICE_IP, 7777);
	CHECK(start_copying());
	int ear = open_ear(BOX_B), mouth = world_socket(CLIENT, AF_INET, SOCK_DGRAM, 0);
	CHECK_EQ(world_run(CLIENT, "ip neigh replace " SERVICE_IP " lladdr " SERVICE_MAC " dev eth0 nud permanent"), 0);
	for (int i = 0; i < 5; i++) {
		CHECK_EQ(sendto(mouth, "a", 1, 0, (struct sockaddr *)&to, sizeof to), 1);
		CHECK(gate_reaches(&b, "copies_kept", i + 1));
	}
	gate_kill(&a, SIGKILL);
	CHECK(gate_event(&b, "peer state=silent", WAIT_MS));
	/* Nobody says from which checkpoint: it is another service that begins here. */
	CHECK(gate_ok(&b, "mode name=takeover generation=2"));
	CHECK(gate_ok(&b, "mode name=open generation=2"));
	CHECK_STR(heard(ear, QUIET_MS), "");
	CHECK_EQ(field(gate_ask(&b, "stats"), "copies_kept"), 0);
	close(ear);
	close(mouth);
}

/* ---- life and death ---- */

TEST(the_container_may_be_replaced)
{
	CHECK(start_holding("", NULL));
	/* Somebody takes the interface away, then the whole container is another. */
	CHECK_EQ(world_run(BOX_A, "ip link del eth0"), 0);
	CHECK(gate_event(&a, "container-gone", WAIT_MS));
	CHECK_EQ(field(gate_ask(&a, "stats"), "container"), 0);
	CHECK(strncmp(gate_ask(&a, "attach pid=999999999"), "fail code=attach", 16) == 0);
	CHECK(gate_ok(&a, "attach pid=%d", place_pid[BOX_A]));
	CHECK(gate_ok(&a, "attach pid=%d", place_pid[BOX_A]));
	forget_listener(BOX_A);
	CHECK_EQ(world_renew(BOX_A), 0);
	CHECK(gate_ok(&a, "attach pid=%d", place_pid[BOX_A]));
	CHECK_EQ(field(gate_ask(&a, "stats"), "container"), 1);
	CHECK_EQ(dress(BOX_A), 0);
	CHECK(establish());
}

TEST(a_second_gate_and_a_missing_bridge_are_refused)
{
	struct world_gate other;
	CHECK(start_holding("", NULL));
	CHECK_EQ(gate_start(&other, HOST_A, BOX_A, "", NULL), 1);
	CHECK(strncmp(gate_said, "fail code=control", 17) == 0);
	CHECK(gate_ok(&a, "hello"));
	CHECK_EQ(gate_start(&other, HOST_B, BOX_B, "--uplink nobridge", NULL), 1);
	CHECK(strncmp(gate_said, "fail code=uplink", 16) == 0);
	CHECK_EQ(gate_start(&other, HOST_B, BOX_B, "--mtu x", NULL), 2);
	CHECK(strncmp(gate_said, "fail code=usage", 15) == 0);
}

TEST(quit_removes_the_interfaces_and_a_signal_leaves_them)
{
	CHECK(start_holding("", NULL));
	gate_kill(&a, SIGTERM);
	CHECK_EQ(world_run(HOST_A, "ip link show ftlan0 >/dev/null"), 0);
	CHECK_EQ(world_run(BOX_A, "ip link show eth0 >/dev/null"), 0);
	CHECK_EQ(gate_start(&a, HOST_A, BOX_A, "", NULL), 0);
	CHECK(gate_ok(&a, "quit"));
	int status = -1;
	CHECK_EQ(waitpid(a.pid, &status, 0), a.pid);
	a.pid = 0;
	CHECK_EQ(status, 0);
	CHECK_EQ(world_run(HOST_A, "! ip link show ftlan0 >/dev/null 2>&1"), 0);
	CHECK_EQ(world_run(BOX_A, "! ip link show eth0 >/dev/null 2>&1"), 0);
}

#define SCENE(name)                                                     \
	do {                                                            \
		const char *only = getenv("ONLY");                      \
		if (only == NULL || strstr(#name, only) != NULL) {      \
			world_alone = true;                             \
			RUN(name);                                      \
			finish();                                       \
		}                                                       \
	} while (0)

int main(void)
{
	if (geteuid() != 0) {
		printf("needs root to make network namespaces; skipped\n");
		return 0;
	}
	signal(SIGPIPE, SIG_IGN);
	if (world_open() != 0 || (sniffer = sniffer_open()) < 0) {
		printf("could not make the network: %s\n", strerror(errno));
		return 1;
	}
	SCENE(nothing_leaves_before_its_epoch_is_committed);
	SCENE(what_comes_after_the_mark_waits_for_the_next_epoch);
	SCENE(what_comes_after_a_mark_waits_even_if_the_epoch_is_marked_again);
	SCENE(input_waits_between_mark_and_thaw);
	SCENE(the_end_of_the_marking_connection_thaws);
	SCENE(commits_and_generations_only_go_up);
	SCENE(a_killed_gate_leaks_nothing_and_tcp_goes_on_after_the_next_one);
	SCENE(injected_faults_fail_or_kill_but_never_leak);
	SCENE(closed_passes_nothing_and_forgets);
	SCENE(opening_releases_everything_in_order);
	SCENE(takeover_queues_input_and_speaks_only_arp);
	SCENE(a_takeover_that_is_begun_again_forgets_what_was_said);
	SCENE(at_its_bound_the_gate_stops_reading_and_drops_nothing);
	SCENE(a_flood_of_input_while_frozen_is_bounded);
	SCENE(bulk_transfer_is_intact_and_segmented_by_the_receiver);
	SCENE(bulk_transfer_through_many_epochs_is_intact);
	SCENE(arp_passes_only_under_a_fresh_lease);
	SCENE(committed_output_waits_for_the_lease);
	SCENE(one_way_deafness_ends_the_lease_though_the_peer_is_heard);
	SCENE(a_long_release_does_not_look_like_a_dead_host);
	SCENE(silence_is_noticed_in_time);
	SCENE(the_peer_hears_of_agent_application_and_lan);
	SCENE(a_gate_that_is_outranked_falls_silent);
	SCENE(a_restarted_peer_is_taken_up_again);
	SCENE(hostile_bytes_on_both_doors_change_nothing);
	SCENE(a_subscriber_that_does_not_read_is_cut_off_and_nobody_waits);
	SCENE(what_came_after_the_restored_checkpoint_comes_again_after_a_takeover);
	SCENE(copies_are_for_the_next_takeover_alone);
	SCENE(the_container_may_be_replaced);
	SCENE(a_second_gate_and_a_missing_bridge_are_refused);
	SCENE(quit_removes_the_interfaces_and_a_signal_leaves_them);
	world_close();
	return check_report();
}
