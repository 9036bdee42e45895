/*
 * Two gates, a stand-in for the recorder, real interfaces and the kernel's own TCP: what a released frame depended on is in
 * the mirror, whatever dies when. SHIP_RUNS: how many random deaths (30).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gate/hold.h"
#include "gate/test/shipping.h"
#include "ship/frames.h"
#include "ship/test/writer.h"
#include "test/check.h"

#define QUIET_MS 150
#define LANES SHIPPING_LANES

static int sniffer = -1, client = -1, served = -1;
static pid_t application;

/* ---- the service and its client ---- */

static bool dial(void)
{
	int one = 1;
	struct sockaddr_in service = service_address(SERVICE_IP);
	client = world_socket(CLIENT, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return client >= 0 &&
	       (connect(client, (struct sockaddr *)&service, sizeof service) == 0 || errno == EINPROGRESS);
}

static bool serve(void)
{
	int one = 1;
	if (!dial() || !readable(listener, WAIT_MS))
		return false;
	served = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	return served >= 0 && setsockopt(served, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0 &&
	       writable(client, WAIT_MS);
}

/* A record, then the output that it led to. */
static bool answer(const char *text, uint32_t lane)
{
	return writer_append(&log_file, lane, 64, 1) && send(served, text, strlen(text), 0) == (ssize_t)strlen(text);
}

static bool hears(const char *text, int wait_ms)
{
	char got[64] = "";
	return readable(client, wait_ms) && recv(client, got, sizeof got - 1, 0) > 0 && strcmp(got, text) == 0;
}

static bool mirrored(void)
{
	const char *wrong = "there is none";
	int64_t until = world_ms() + WAIT_MS;
	do {
		if (map_mirror() && (wrong = writer_compare_whole(&log_file, &mirror)) == NULL)
			return true;
		poll(NULL, 0, 5);
	} while (world_ms() < until);
	printf("  the mirror: %s\n", wrong);
	return false;
}

static void end_application(int signal)
{
	if (application > 0) {
		kill(application, signal);
		waitpid(application, NULL, 0);
	}
	application = 0;
}

static void finish(void)
{
	end_application(SIGKILL);
	drop(&client);
	drop(&served);
	end_shipping();
	sniffer_count(sniffer, 20);
	world_alone = false;
}

/* ---- output waits for its log ---- */

static bool waits_for_the_standby(const char *options)
{
	if (!start_shipping(options) || !serve() || !answer("one", 0) || !hears("one", WAIT_MS) || !mirrored())
		return false;
	poll(NULL, 0, 100);
	sniffer_count(sniffer, 20);
	kill(b.pid, SIGSTOP);
	/* Records or not: input was delivered, and what the kernel says to it would tell the client to forget it. */
	if (send(client, "question", 8, 0) != 8 || !answer("two", 1) || !gate_reaches(&a, "log_held_frames", 1) ||
	    sniffer_count(sniffer, QUIET_MS) != 0 || readable(client, 0)) {
		printf("  something left while the standby stood still\n");
		return false;
	}
	kill(b.pid, SIGCONT);
	return hears("two", WAIT_MS) && answer("three", 2) && hears("three", WAIT_MS) && mirrored() &&
	       field(gate_ask(&a, "stats"), "ship_connections") == 1;
}

TEST(nothing_leaves_before_its_log_is_acknowledged)
{
	/* Without heartbeats there is no lease: it is the ack alone that is waited for. */
	world_alone = true;
	CHECK(waits_for_the_standby(""));
	finish();
	world_alone = true;
	CHECK(waits_for_the_standby("--ship-plain"));
	finish();
	CHECK(waits_for_the_standby(""));
}

/* Input that nobody answers, as fast as it goes. */
static pid_t flood(int *sink)
{
	struct sockaddr_in any = service_address("0.0.0.0"), service = service_address(SERVICE_IP);
	int from = world_socket(CLIENT, AF_INET, SOCK_DGRAM, 0);
	*sink = world_socket(BOX_A, AF_INET, SOCK_DGRAM, 0);
	if (from < 0 || *sink < 0 || bind(*sink, (struct sockaddr *)&any, sizeof any) != 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			(void)sendto(from, "", 1, 0, (struct sockaddr *)&service, sizeof service);
	}
	close(from);
	return pid;
}

TEST(output_is_collected_but_never_waits_for_a_gate_that_has_nothing_else_to_do)
{
	int sink = -1;
	CHECK(start_shipping(""));
	CHECK(serve());
	CHECK(answer("one", 0));
	CHECK(hears("one", WAIT_MS));
	pid_t pid = flood(&sink);
	CHECK(pid > 0);
	int64_t in_frames = field(gate_ask(&a, "stats reset=1"), "in_frames");
	bool heard = true;
	for (unsigned i = 0; heard && i < 100; i++)
		/* Room for what floods in: a checkpoint now and then. */
		heard = (i % 5 != 0 || checkpoint(true)) && answer("again", i % LANES) && hears("again", WAIT_MS);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	drop(&sink);
	CHECK(heard);
	const char *stats = gate_ask(&a, "stats");
	printf("  100 answers beside %lld other frames: held %lld us at the median, %lld at most, %lld flushes\n",
	       (long long)(field(stats, "in_frames") - in_frames), (long long)field(stats, "delay_us_p50"),
	       (long long)field(stats, "delay_us_max"), (long long)field(stats, "ship_flushes"));
	/* The load is over: the last ones leave like all others. */
	CHECK(checkpoint(true));
	CHECK(answer("last", 1));
	CHECK(hears("last", WAIT_MS));
	CHECK(mirrored());
}

TEST(what_was_collected_outlives_its_connection)
{
	world_alone = true;
	CHECK(start_shipping(""));
	CHECK(serve());
	CHECK(answer("one", 0));
	CHECK(hears("one", WAIT_MS));
	kill(b.pid, SIGSTOP);
	for (unsigned i = 0; i < 20; i++)
		CHECK(answer("x", i % LANES));
	CHECK(gate_reaches(&a, "log_held_frames", 1));
	gate_kill(&b, SIGKILL);
	CHECK(answer("y", 0));
	CHECK(start_mirror(""));
	char got[32] = "";
	size_t length = 0;
	while (length < 21 && readable(client, WAIT_MS)) {
		ssize_t n = recv(client, got + length, sizeof got - length, 0);
		CHECK(n > 0);
		length += (size_t)n;
	}
	CHECK_EQ(length, 21);
	CHECK(memcmp(got, "xxxxxxxxxxxxxxxxxxxxy", 21) == 0);
	CHECK(mirrored());
}

TEST(an_acknowledged_log_is_not_enough_without_a_lease)
{
	CHECK(start_shipping("--lease-ms 60"));
	CHECK(serve());
	CHECK(answer("one", 0));
	CHECK(hears("one", WAIT_MS));
	poll(NULL, 0, 100);
	/* Heartbeats are lost, the stream is not. */
	CHECK_EQ(world_run(HOST_A, "ip route add blackhole 10.77.0.2/32"), 0);
	poll(NULL, 0, 200);
	sniffer_count(sniffer, 20);
	CHECK(answer("two", 0));
	CHECK(mirrored());
	CHECK_EQ(sniffer_count(sniffer, QUIET_MS), 0);
	CHECK(field(gate_ask(&a, "stats"), "log_acked") == field(gate_ask(&a, "stats"), "log_end"));
	CHECK_EQ(world_run(HOST_A, "ip route del blackhole 10.77.0.2/32"), 0);
	CHECK(hears("two", WAIT_MS));
}

TEST(it_asks_before_it_sleeps_unless_told_not_to)
{
	CHECK(start_shipping(""));
	CHECK(serve());
	CHECK(answer("one", 0));
	CHECK(hears("one", WAIT_MS));
	CHECK(field(gate_ask(&a, "stats"), "spins") > 0);
	finish();
	CHECK(start_shipping("--spin-us 0"));
	CHECK(serve());
	CHECK(answer("two", 0));
	CHECK(hears("two", WAIT_MS));
	CHECK_EQ(field(gate_ask(&a, "stats"), "spins"), 0);
}

TEST(log_mode_needs_a_stream_and_a_checkpoint_in_it)
{
	world_alone = true;
	CHECK_EQ(log_create(log_path, LANES, shipping_segments, LOG_MODE_RECORD), 0);
	CHECK_EQ(log_map(log_path, true, &log_file), 0);
	CHECK(start_mirror(""));
	CHECK_EQ(gate_start(&a, HOST_A, BOX_A, "--ship-local 10.77.0.11:7401 --ship-peer 10.77.0.12:7401", NULL), 0);
	CHECK(says(gate_ask(&a, "mode name=log generation=1"), "code=transition"));
	CHECK(gate_ok(&a, "mode name=hold generation=1 epoch=1"));
	CHECK(says(gate_ask(&a, "mode name=log generation=1"), "code=no-stream"));
	CHECK(says(gate_ask(&a, "log role=source path=%s/nothing", shipping_folder), "code=log"));
	CHECK(says(gate_ask(&a, "log role=nobody path=%s", log_path), "code=usage"));
	CHECK(gate_ok(&a, "mark epoch=1"));
	CHECK(gate_ok(&a, "subscribe"));
	CHECK(gate_ok(&a, "log role=source path=%s", log_path));
	CHECK(gate_ok(&a, "thaw"));
	CHECK(gate_ok(&a, "commit epoch=1"));
	/* That one was marked before the stream began: what came between is not in it. */
	CHECK(says(gate_ask(&a, "mode name=log generation=1"), "code=no-base"));
	CHECK(gate_event(&a, "ship-back", WAIT_MS));
	CHECK(gate_ok(&a, "mark epoch=2"));
	CHECK(gate_ok(&a, "thaw"));
	CHECK(says(gate_ask(&a, "mode name=log generation=1"), "code=no-base"));
	CHECK(says(gate_ask(&a, "trim epoch=2"), "code=not-committed"));
	CHECK(gate_ok(&a, "commit epoch=2"));
	CHECK(says(gate_ask(&a, "mode name=log generation=2"), "code=no-stream"));
	CHECK(gate_ok(&a, "mode name=log generation=1"));
	CHECK(says(gate_ask(&a, "log role=none"), "code=transition"));
	/* Opened, it lets things pass of which the standby hears nothing: the stream is over. */
	CHECK(gate_ok(&a, "mode name=open generation=1"));
	CHECK(gate_event(&a, "ship-ended", WAIT_MS));
	CHECK(says(gate_ask(&a, "log role=source path=%s", log_path), "code=transition"));
	/* A standby that takes over lets nobody change what it has. */
	CHECK(gate_ok(&b, "mode name=takeover generation=2"));
	CHECK(gate_event(&b, "ship-ended", WAIT_MS));
}

TEST(from_log_to_hold_and_back_nothing_is_lost_or_early)
{
	world_alone = true;
	CHECK(start_shipping(""));
	CHECK(serve());
	poll(NULL, 0, 100);
	kill(b.pid, SIGSTOP);
	CHECK(answer("one", 0));
	CHECK(gate_reaches(&a, "log_held_frames", 1));
	CHECK(gate_ok(&a, "mode name=hold generation=1"));
	kill(b.pid, SIGCONT);
	CHECK(mirrored());
	sniffer_count(sniffer, 20);
	/* Acknowledged or not: in mode hold it is the checkpoint that counts. */
	CHECK_EQ(sniffer_count(sniffer, QUIET_MS), 0);
	CHECK(checkpoint(true));
	CHECK(hears("one", WAIT_MS));
	CHECK(answer("two", 0));
	CHECK(gate_reaches(&a, "held_frames", 1));
	CHECK(!readable(client, QUIET_MS));
	/* And the other way: what waits for a checkpoint is covered by the log. */
	CHECK(gate_ok(&a, "mode name=log generation=1"));
	CHECK(hears("two", WAIT_MS));
}

/* ---- the standby's files ---- */

TEST(frames_are_in_the_standbys_file_until_the_checkpoint_after_theirs)
{
	struct frames frames;
	struct ship_entry entry;
	static uint8_t payload[FRAME_BYTES_MAX];
	unsigned kinds[SHIP_KIND_MAX] = {0};
	bool found = false;
	CHECK(start_shipping(""));
	CHECK(serve());
	CHECK_EQ(send(client, "remember me", 11, 0), 11);
	CHECK(answer("yes", 0));
	CHECK(hears("yes", WAIT_MS));
	CHECK_EQ(frames_open_reader(&frames, frames_path), 0);
	int64_t size;
	for (uint64_t at = frames.now.tail; (size = frames_read(&frames, at, &entry, payload, sizeof payload)) > 0; at += (uint64_t)size) {
		kinds[entry.kind]++;
		found |= entry.kind == SHIP_INGRESS && memmem(payload, entry.length, "remember me", 11) != NULL;
	}
	frames_close(&frames);
	CHECK_EQ(size, 0);
	CHECK(found);
	/* The SYN-ACK: the kernel's choice of a sequence number is in no log. */
	CHECK(kinds[SHIP_EGRESS] >= 1 && kinds[SHIP_CHECKPOINT] == 1 && kinds[SHIP_INGRESS] >= 3);
	/* Those before it are kept until the next one: then only the two marks are there. */
	CHECK(checkpoint(true));
	int64_t until = world_ms() + WAIT_MS;
	while (field(gate_ask(&b, "stats"), "log_checkpoint") != 2 && world_ms() < until)
		poll(NULL, 0, 5);
	CHECK(field(gate_ask(&b, "stats"), "frames_used") > 64);
	CHECK(checkpoint(true));
	until = world_ms() + WAIT_MS;
	while (field(gate_ask(&b, "stats"), "frames_used") != 64 && world_ms() < until)
		poll(NULL, 0, 5);
	CHECK_EQ(field(gate_ask(&b, "stats"), "frames_used"), 64);
	CHECK_EQ(field(gate_ask(&b, "stats"), "log_checkpoint"), 3);
}

struct effort {
	uint64_t cpu_ns;
	long wakes;
};

static struct effort effort_of(pid_t pid)
{
	struct effort effort = {0};
	char path[64], line[256];
	snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
	FILE *file = fopen(path, "r");
	if (file != NULL && fscanf(file, "%" SCNu64, &effort.cpu_ns) == 1)
		fclose(file);
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	file = fopen(path, "r");
	while (file != NULL && fgets(line, sizeof line, file) != NULL)
		sscanf(line, "voluntary_ctxt_switches: %ld", &effort.wakes);
	if (file != NULL)
		fclose(file);
	return effort;
}

TEST(a_log_that_moves_by_itself_is_shipped_and_an_idle_one_wakes_nobody)
{
	CHECK(start_shipping(""));
	for (unsigned i = 0; i < 50; i++) {
		CHECK(writer_append(&log_file, i % LANES, 256, i));
		CHECK(mirrored());
	}
	/* Heartbeats: 33 a second go out and 33 come in. */
	struct effort before = effort_of(a.pid);
	poll(NULL, 0, 2000);
	struct effort after = effort_of(a.pid);
	printf("  idle: %.0f wake-ups and %.2f ms of processor time a second\n", (after.wakes - before.wakes) / 2.0,
	       (after.cpu_ns - before.cpu_ns) / 2e6);
	CHECK(before.wakes > 0 && after.wakes - before.wakes < 240);
	CHECK(after.cpu_ns - before.cpu_ns < 40000000);
}

TEST(a_full_frames_file_stops_input_until_the_next_checkpoint)
{
	static char bulk[256 << 10], sink[1 << 20];
	CHECK(start_shipping(""));
	CHECK(serve());
	fcntl(served, F_SETFL, O_NONBLOCK);
	size_t sent = 0, got = 0;
	bool told = false;
	int64_t until = world_ms() + 20000;
	while (!told && world_ms() < until) {
		ssize_t n = send(client, bulk, sizeof bulk, 0);
		sent += n > 0 ? (size_t)n : 0;
		n = recv(served, sink, sizeof sink, 0);
		got += n > 0 ? (size_t)n : 0;
		told = gate_event(&a, "log-full where=frames", 1);
	}
	CHECK(told);
	CHECK(field(gate_ask(&a, "stats"), "frames_used") <= 4 << 20);
	/* It goes on when a checkpoint has made room, and not a byte is missing. */
	for (int i = 0; got < sent && i < 200; i++) {
		CHECK(checkpoint(true));
		for (int64_t pause = world_ms() + 20; world_ms() < pause;) {
			ssize_t n = recv(served, sink, sizeof sink, 0);
			got += n > 0 ? (size_t)n : 0;
		}
	}
	CHECK(gate_event(&a, "log-room", WAIT_MS));
	CHECK_EQ(got, sent);
	CHECK(mirrored());
}

TEST(a_full_log_is_told_and_a_trim_lets_it_go_on)
{
	CHECK(start_shipping(""));
	CHECK(serve());
	uint32_t lane = 0;
	while (writer_append(&log_file, lane, 65536, 1))
		lane = (lane + 1) % LANES;
	atomic_fetch_add(&log_file.header->waits, 1); /* as the recorder does */
	CHECK(gate_event(&a, "log-full where=log", WAIT_MS));
	CHECK(mirrored());
	CHECK(checkpoint(true));
	int64_t until = world_ms() + WAIT_MS;
	while (log_free_bytes(&log_file) == 0 && world_ms() < until)
		poll(NULL, 0, 5);
	CHECK(gate_event(&a, "log-room", WAIT_MS));
	for (unsigned round = 0; round < 5; round++) {
		while (writer_append(&log_file, lane, 65536, 1))
			lane = (lane + 1) % LANES;
		poll(NULL, 0, 50);
		CHECK(checkpoint(false));
		CHECK(gate_ok(&a, "trim epoch=%llu lanes=0:%llu,1:%llu,2:%llu,3:%llu", epoch,
			      (unsigned long long)atomic_load(&log_file.lanes[0].head),
			      (unsigned long long)atomic_load(&log_file.lanes[1].head),
			      (unsigned long long)atomic_load(&log_file.lanes[2].head),
			      (unsigned long long)atomic_load(&log_file.lanes[3].head)));
		CHECK(mirrored());
		poll(NULL, 0, 50);
	}
	CHECK(says(gate_ask(&a, "trim lanes=0:99999999999"), "code=beyond"));
	CHECK(says(gate_ask(&a, "trim lanes=7:0"), "code=beyond"));
	CHECK(says(gate_ask(&a, "trim lanes=0:x"), "code=usage"));
	CHECK(answer("still here", 0));
	CHECK(hears("still here", WAIT_MS));
}

/* Sends `bytes` of a pattern, a record before each piece. */
static void pour(uint64_t bytes)
{
	static uint32_t piece[16384];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uint64_t at = 0; at < bytes; at += sizeof piece) {
		for (uint32_t i = 0; i < 16384; i++)
			piece[i] = (uint32_t)(at / 4) + i;
		if (!writer_append(&log_file, 0, 64, at))
			_exit(1);
		for (size_t sent = 0; sent < sizeof piece;) {
			ssize_t n = send(served, (char *)piece + sent, sizeof piece - sent, MSG_NOSIGNAL);
			if (n <= 0)
				_exit(1);
			sent += (size_t)n;
		}
	}
	_exit(0);
}

TEST(a_bulk_of_output_is_intact)
{
	static uint32_t got[16384];
	const uint64_t bytes = 64ull << 20;
	CHECK(start_shipping("--held-bytes-max 1000000"));
	CHECK(serve());
	fflush(stdout);
	application = fork();
	if (application == 0)
		pour(bytes);
	fcntl(client, F_SETFL, 0);
	uint64_t at = 0;
	int64_t began = world_ms();
	while (at < bytes) {
		CHECK(readable(client, WAIT_MS));
		CHECK_EQ(recv(client, got, sizeof got, MSG_WAITALL), sizeof got);
		for (uint32_t i = 0; i < 16384; i++)
			if (got[i] != (uint32_t)(at / 4) + i)
				CHECK(false);
		at += sizeof got;
		/* Acknowledgements are input: they, too, are kept until a checkpoint. */
		if (at % (8 << 20) == 0)
			CHECK(checkpoint(true));
	}
	printf("  %.0f MB/s\n", (double)bytes / 1000.0 / (double)(world_ms() - began + 1));
	CHECK(mirrored());
}

/* ---- breaks ---- */

TEST(a_cut_link_and_a_killed_standby_are_only_a_stall)
{
	CHECK(start_shipping(""));
	CHECK(serve());
	for (unsigned round = 0; round < 3; round++) {
		CHECK_EQ(world_run(HOST_A, "ip link set repl0 down"), 0);
		CHECK(answer("cut", round));
		CHECK(gate_event(&a, "ship-lost", WAIT_MS));
		CHECK(!readable(client, 50));
		CHECK_EQ(world_run(HOST_A, "ip link set repl0 up"), 0);
		CHECK(gate_event(&a, "ship-back", WAIT_MS));
		CHECK(hears("cut", WAIT_MS));
		CHECK(mirrored());
		gate_kill(&b, SIGKILL);
		CHECK(gate_event(&a, "ship-lost", WAIT_MS));
		CHECK(answer("killed", round));
		CHECK(!readable(client, QUIET_MS));
		CHECK_EQ(world_run(HOST_B, "ip link del ftlan0 2>/dev/null || true"), 0);
		CHECK(start_mirror(""));
		CHECK(gate_event(&b, "ship-back", WAIT_MS));
		CHECK(gate_event(&a, "ship-back", WAIT_MS));
		CHECK(hears("killed", WAIT_MS));
		CHECK(mirrored());
	}
}

/* ---- random deaths ---- */

/* With many, answers come while the gate still reads those before them: what is read together gets one stamp. */
#define PIPELINE_FEW 3u
#define PIPELINE_MANY 100u

/*
 * Answers requests, each a number. Before answer n a record goes to some lane, so answer n depends on records 1 … n of
 * all lanes together.
 */
static void run_application(uint64_t seed)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int one = 1, fd = accept(listener, NULL, NULL);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	uint64_t number;
	while (recv(fd, &number, sizeof number, MSG_WAITALL) == sizeof number) {
		uint32_t lane = (uint32_t)(check_random(&seed) % LANES);
		uint32_t payload = (uint32_t)(check_random(&seed) % 200) * 8 + 8;
		if (check_random(&seed) % 50 == 0)
			payload = 100000 / 8 * 8;
		if (!writer_append(&log_file, lane, payload, number) || send(fd, &number, sizeof number, 0) != sizeof number)
			break;
	}
	_exit(0);
}

/* Records in all lanes of the mirror. Each stands for one number. */
static uint64_t records_in(const struct log_file *log)
{
	uint64_t records = 0;
	for (uint32_t lane = 0; lane < LANES; lane++) {
		uint64_t at = 0, head = atomic_load(&log->lanes[lane].head);
		while (at < head) {
			struct log_record record;
			const uint8_t *bytes = log_at(log, lane, at);
			if (bytes == NULL)
				return 0;
			memcpy(&record, bytes, sizeof record);
			records += record.kind == LOG_READ;
			at += record.kind == LOG_PAD ? record.object : record.words * 8u;
		}
	}
	return records;
}

/* Requests whose bytes are in the frames file. Retransmissions count once. */
static uint64_t requests_in(const char *path, uint64_t limit)
{
	static uint8_t payload[FRAME_BYTES_MAX];
	struct frames frames;
	struct ship_entry entry;
	int64_t size;
	uint64_t highest = 0;
	if (frames_open_reader(&frames, path) != 0)
		return 0;
	for (uint64_t at = frames.now.tail; (size = frames_read(&frames, at, &entry, payload, sizeof payload)) > 0; at += (uint64_t)size)
		if (entry.kind == SHIP_INGRESS && entry.length >= 10 + 14 + 20 + 32 + 8 && payload[22] == 8 && payload[24 + 9] == 6) {
			uint64_t number;
			memcpy(&number, payload + entry.length - 8, 8);
			if (number > highest && number <= limit)
				highest = number;
		}
	frames_close(&frames);
	return highest;
}

static bool random_death(uint64_t seed)
{
	uint64_t random = seed * 0x9e3779b97f4a7c15ull | 1, sent = 0, seen = 0, number;
	for (int i = 0; i < 8; i++)
		check_random(&random);
	bool plain = check_random(&random) % 2 == 0, standby_first = check_random(&random) % 2 == 0;
	world_alone = check_random(&random) % 2 == 0;
	unsigned pipeline = check_random(&random) % 2 == 0 ? PIPELINE_FEW : PIPELINE_MANY;
	if (!start_shipping(plain ? "--ship-plain" : ""))
		return false;
	fflush(stdout);
	application = fork();
	if (application == 0)
		run_application(random);
	if (!dial() || !writable(client, WAIT_MS))
		return false;
	int64_t death = world_ms() + 1 + (int64_t)(check_random(&random) % 120), quiet = 0;
	for (;;) {
		while (quiet == 0 && sent < seen + pipeline) {
			number = sent + 1;
			if (send(client, &number, sizeof number, MSG_NOSIGNAL) != sizeof number)
				break;
			sent++;
		}
		if (readable(client, quiet == 0 ? 1 : 20) && recv(client, &number, sizeof number, 0) == sizeof number) {
			if (number != seen + 1)
				return false;
			seen = number;
		} else if (quiet != 0) {
			break;
		}
		if (quiet == 0 && world_ms() >= death) {
			kill(standby_first ? b.pid : a.pid, SIGKILL);
			if (check_random(&random) % 2 == 0)
				for (volatile unsigned spin = (unsigned)(check_random(&random) % 300000); spin > 0; spin--)
					;
			kill(standby_first ? a.pid : b.pid, SIGKILL);
			quiet = 1;
		}
	}
	if (!map_mirror())
		return false;
	const char *wrong = writer_compare(&log_file, &mirror);
	uint64_t records = records_in(&mirror), requests = requests_in(frames_path, sent);
	bool ok = wrong == NULL && records >= seen && requests >= seen;
	if (!ok || seed % 10 == 0 || getenv("SHIP_RUNS") != NULL)
		printf("  seed %llu: %llu answers seen, %llu records and requests up to %llu in the mirror%s%s\n",
		       (unsigned long long)seed, (unsigned long long)seen, (unsigned long long)records,
		       (unsigned long long)requests, wrong == NULL ? "" : ": ", wrong == NULL ? "" : wrong);
	return ok;
}

TEST(whatever_dies_when_the_mirror_explains_all_that_was_seen)
{
	const char *runs = getenv("SHIP_RUNS"), *from = getenv("SHIP_SEED");
	uint64_t first = from == NULL ? 1 : strtoull(from, NULL, 10), count = runs == NULL ? 30 : strtoull(runs, NULL, 10);
	for (uint64_t seed = first; seed < first + count; seed++) {
		bool ok = random_death(seed);
		finish();
		if (!ok)
			printf("  seed %llu failed\n", (unsigned long long)seed);
		CHECK(ok);
	}
}

#define SCENE(name)                                                     \
	do {                                                            \
		if (only == NULL || strcmp(only, #name) == 0) {         \
			RUN(name);                                      \
			finish();                                       \
		}                                                       \
	} while (0)

int main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : NULL;
	if (geteuid() != 0) {
		printf("needs root to make network namespaces; skipped\n");
		return 0;
	}
	signal(SIGPIPE, SIG_IGN);
	if (world_open() != 0 || (sniffer = sniffer_open()) < 0 || !shipping_open()) {
		printf("could not make the network: %s\n", strerror(errno));
		return 1;
	}
	SCENE(nothing_leaves_before_its_log_is_acknowledged);
	SCENE(output_is_collected_but_never_waits_for_a_gate_that_has_nothing_else_to_do);
	SCENE(what_was_collected_outlives_its_connection);
	SCENE(an_acknowledged_log_is_not_enough_without_a_lease);
	SCENE(it_asks_before_it_sleeps_unless_told_not_to);
	SCENE(log_mode_needs_a_stream_and_a_checkpoint_in_it);
	SCENE(from_log_to_hold_and_back_nothing_is_lost_or_early);
	SCENE(frames_are_in_the_standbys_file_until_the_checkpoint_after_theirs);
	SCENE(a_log_that_moves_by_itself_is_shipped_and_an_idle_one_wakes_nobody);
	SCENE(a_full_frames_file_stops_input_until_the_next_checkpoint);
	SCENE(a_full_log_is_told_and_a_trim_lets_it_go_on);
	SCENE(a_bulk_of_output_is_intact);
	SCENE(a_cut_link_and_a_killed_standby_are_only_a_stall);
	SCENE(whatever_dies_when_the_mirror_explains_all_that_was_seen);
	shipping_close();
	world_close();
	return check_report();
}
