/*
 * Going live on real TCP: a client's host, two hosts with a gate each, a deterministic service. At a random moment the
 * primary is killed; the service's state goes on at the standby, where ftlive rebuilds its connections, and every client
 * must get every byte, once, in order, without a reset.
 *
 *   live-failover-test [runs] [seed] [scene]    without arguments: one run of every scene
 *
 * FTLIVE: the program to be tested, otherwise the one under the sanitizers; FTGATE: the gates, otherwise the product's.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/ethernet.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gate/test/world.h"
#include "live/handover.h"
#include "live/table.h"
#include "live/test/capture.h"
#include "live/test/service.h"
#include "test/check.h"

struct scene {
	const char *name;
	unsigned connections, late, idle, slow, push, early_shut;
	uint64_t bytes;
	unsigned run_ms; /* the longest life of the primary */
	bool checkpoint, everything;
};

static const struct scene scenes[] = {
	{ "one echo", 1, 0, 0, 0, 0, 0, 64 << 20, 100, false, false },
	{ "five of each", 5, 0, 1, 1, 1, 2, 1 << 20, 120, false, false },
	{ "large both ways", 4, 0, 0, 0, 2, 1, 24 << 20, 200, false, true },
	{ "unread and unacknowledged", 6, 0, 0, 6, 3, 2, 3 << 20, 150, false, false },
	{ "half-closed", 12, 0, 0, 2, 4, 8, 60000, 20, false, false },
	{ "idle", 20, 0, 20, 0, 0, 4, 20000, 100, false, false },
	{ "not accepted yet", 4, 12, 0, 0, 0, 6, 40000, 80, false, false },
	{ "fifty", 50, 0, 10, 5, 10, 10, 200000, 150, false, false },
	{ "restored from a checkpoint", 12, 0, 3, 3, 3, 3, 1 << 20, 120, true, false },
	{ "fifty from a checkpoint", 50, 4, 10, 5, 10, 10, 200000, 150, true, true },
};
enum { SCENES = sizeof scenes / sizeof *scenes };

static struct stage *stage;
static struct world_gate a, b;
static struct capture capture;
static unsigned seed;
static double first_ms[4096], take_ms[4096];
static unsigned figures;
static struct served dead[SERVED_MAX]; /* the service's state at the log's end */

static unsigned dice(unsigned below) { return (unsigned)rand_r(&seed) % below; }

static int dress(enum place box)
{
	return world_run(box, "ip link set lo up && ip addr add " SERVICE_IP "/24 dev eth0 && ip link set eth0 up && "
			      "ip neigh add " CLIENT_IP " lladdr " CLIENT_MAC " dev eth0 nud permanent");
}

static int enter(enum place place)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/ns/net", place_pid[place]);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static int listen_in(enum place box)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(SERVICE_PORT) };
	int fd = world_socket(box, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
	    bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 256) != 0)
		return -1;
	return fd;
}

static bool wait_for(const _Atomic int *word, int value, int limit_ms)
{
	int64_t until = world_ms() + limit_ms;
	while (atomic_load(word) != value) {
		if (world_ms() > until)
			return false;
		usleep(100);
	}
	return true;
}

static void end_child(pid_t pid)
{
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

/* ---- the primary ---- */

static pid_t start_primary(void)
{
	int listener = listen_in(BOX_A);
	fflush(stdout);
	pid_t pid = listener < 0 ? -1 : fork();
	if (pid == 0) {
		static int fds[SERVED_MAX];
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int epoll = epoll_create1(EPOLL_CLOEXEC);
		if (epoll < 0 || service_watch(epoll, listener, LISTENER_NUMBER, false) != 0)
			_exit(1);
		service_run(stage, listener, fds, epoll, seed % 2 != 0, seed, NULL);
	}
	if (listener >= 0)
		close(listener);
	return pid;
}

static pid_t start_clients(void)
{
	int netns = enter(CLIENT);
	fflush(stdout);
	pid_t pid = netns < 0 ? -1 : fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		clients_run(stage, netns, SERVICE_IP, seed);
	}
	if (netns >= 0)
		close(netns);
	return pid;
}

static void cast(const struct scene *scene)
{
	memset(stage, 0, sizeof *stage);
	stage->dialled_count = scene->connections + scene->late;
	for (unsigned i = 0; i < stage->dialled_count; i++) {
		struct dialled *one = &stage->dialled[i];
		one->late = i >= scene->connections;
		one->idle = !one->late && i < scene->idle;
		one->slow = !one->late && i >= scene->connections - scene->slow;
		one->kind = i % scene->connections < scene->push ? SERVED_PUSH : SERVED_ECHO;
		one->early_shut = (i * 7 + 3) % stage->dialled_count < scene->early_shut;
		one->bytes = one->kind == SERVED_PUSH ? 1 + dice(2000) : 1100 + (unsigned)scene->bytes / 2 + dice((unsigned)scene->bytes / 2);
	}
}

static int write_table(const char *path)
{
	size_t length;
	pthread_mutex_lock(&capture.lock);
	uint8_t *bytes = table_encode(&capture.tracker, now_ns(), &length);
	pthread_mutex_unlock(&capture.lock);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int result = bytes != NULL && fd >= 0 && write(fd, bytes, length) == (ssize_t)length ? 0 : -1;
	free(bytes);
	if (fd >= 0)
		close(fd);
	return result;
}

/* The service stands still, everything seen so far is in the tracker: that is what a mark makes sure of. */
static bool take_checkpoint(const char *table)
{
	atomic_store(&stage->stop, 1);
	bool ok = wait_for(&stage->stopped, 1, 2000) && capture_settle(&capture) && write_table(table) == 0;
	memcpy(stage->before, stage->served, sizeof stage->before);
	atomic_store(&stage->stop, 0);
	return ok;
}

static bool die(pid_t primary)
{
	bool network_first = dice(2) == 0;
	if (network_first)
		gate_kill(&a, SIGKILL);
	else
		atomic_store(&stage->stop, 1);
	usleep(dice(20000));
	if (network_first)
		atomic_store(&stage->stop, 1);
	bool ok = wait_for(&stage->stopped, 1, 2000);
	if (!network_first)
		gate_kill(&a, SIGKILL);
	end_child(primary);
	memcpy(dead, stage->served, sizeof dead);
	return ok;
}

/* ---- the standby ---- */

struct helper {
	pid_t pid;
	int said;
};

static bool helper_start(struct helper *helper, const char *name, const char *table, const char *accept_ms)
{
	int pipe_fd[2];
	char line[64] = "", pid_text[16], program[512];
	const char *build = getenv("BUILD"), *other = getenv("FTLIVE");
	snprintf(program, sizeof program, "%s/test/ftlive-sanitized", build == NULL ? "../build" : build);
	if (other != NULL)
		snprintf(program, sizeof program, "%s", other);
	snprintf(pid_text, sizeof pid_text, "%d", place_pid[BOX_B]);
	if (pipe2(pipe_fd, O_CLOEXEC) != 0)
		return false;
	fflush(stdout);
	helper->pid = fork();
	if (helper->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(pipe_fd[1], STDOUT_FILENO);
		execl(program, "ftlive", "--pid", pid_text, "--name", name, "--table", table, "--accept-timeout-ms", accept_ms, (char *)NULL);
		_exit(127);
	}
	close(pipe_fd[1]);
	helper->said = pipe_fd[0];
	return readable(helper->said, 5000) && read(helper->said, line, sizeof line - 1) > 0 && strcmp(line, "ready\n") == 0;
}

/* Its last line, in `line`; true if it ended well. */
static bool helper_end(struct helper *helper, char *line, size_t size)
{
	int status = -1;
	ssize_t got = readable(helper->said, 10000) ? read(helper->said, line, size - 1) : 0;
	line[got < 0 ? 0 : got] = 0;
	if (got <= 0)
		kill(helper->pid, SIGKILL);
	waitpid(helper->pid, &status, 0);
	close(helper->said);
	return status == 0;
}

static bool regenerate(void *context, uint32_t claim, uint64_t from, void *room, size_t bytes)
{
	const uint32_t *numbers = context;
	const struct served *one = &stage->served[numbers[claim] & 0xffff];
	/* At the checkpoint counts begin anew. */
	served_output(one, from + ((numbers[claim] & 0x10000) != 0 ? stage->before[numbers[claim] & 0xffff].written : 0), room, bytes);
	return true;
}

static void name_claim(struct live_claim *claim, const struct served *one, int fd)
{
	*claim = (struct live_claim){ .descriptor = fd, .shut_write = one->shut, .closed = one->closed,
				      .read_bytes = one->read, .written_bytes = one->written };
	claim->local = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(SERVICE_PORT) };
	inet_pton(AF_INET, SERVICE_IP, &claim->local.sin_addr);
	claim->remote = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(one->port), .sin_addr = one->address };
}

static int placeholder(unsigned number)
{
	/* Some are no sockets at all, and are replaced. */
	return number % 3 == 2 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* As CRIU restores: sockets in the state of the checkpoint. */
static bool restore_sockets(int *fds)
{
	static struct live_claim claims[SERVED_MAX];
	static uint32_t numbers[SERVED_MAX];
	static struct live live;
	uint32_t count = 0;
	for (uint32_t i = 0; i < SERVED_MAX; i++) {
		if (!stage->before[i].used || stage->before[i].closed)
			continue;
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		name_claim(&claims[count], &stage->before[i], fds[i]);
		numbers[count++] = i;
	}
	if (live_take(&live, "checkpoint", 1, claims, count, regenerate, numbers, 5000) != 0)
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (claims[i].verdict != 0)
			return false;
	live_end(&live);
	return true;
}

static void fail_live(const char *what, uint32_t claim, uint32_t verdict, int error)
{
	snprintf(stage->server_why, sizeof stage->server_why, "%s: claim %u verdict %u: %s", what, claim, verdict, strerror(error));
	atomic_store(&stage->live_failed, 1);
	_exit(1);
}

/* Nobody asked for microseconds: a clock that goes so fast outruns what the next takeover can know of it. */
static void check_clock(int fd, uint32_t claim)
{
	enum { OPTION_MICROSECONDS = 64 };
	struct tcp_info info;
	socklen_t length = sizeof info;
	if (fd >= 0 && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
	    (info.tcpi_options & OPTION_MICROSECONDS) != 0)
		fail_live("timestamps in microseconds", claim, 0, 0);
}

static void go_live(int listener, bool checkpoint, bool edge)
{
	static int fds[SERVED_MAX];
	static struct live_claim claims[SERVED_MAX];
	static struct live_epoll sets[SERVED_MAX + 8];
	static uint32_t numbers[SERVED_MAX];
	static struct live live;
	uint32_t count = 0;
	size_t watched;
	int epoll = epoll_create1(EPOLL_CLOEXEC), aside[SERVED_MAX], asides = 0;
	for (uint32_t i = 0; i < SERVED_MAX; i++)
		fds[i] = -1;
	if (service_watch(epoll, listener, LISTENER_NUMBER, false) != 0 || (checkpoint && !restore_sockets(fds)))
		fail_live("restore", 0, 0, errno);
	for (uint32_t i = 0; i < stage->served_count; i++) {
		const struct served *one = &stage->served[i];
		/* Closed before the checkpoint: no socket is restored, but its last output may not have arrived. */
		bool old = checkpoint && stage->before[i].used && !stage->before[i].closed;
		if (!old && !(one->closed && i % 2 == 0))
			fds[i] = placeholder(i);
		name_claim(&claims[count], one, fds[i]);
		if (old) {
			claims[count].since_checkpoint = true;
			claims[count].read_bytes -= stage->before[i].read;
			claims[count].written_bytes -= stage->before[i].written;
		}
		numbers[count++] = i | (old ? 0x10000 : 0);
		if (one->closed && fds[i] >= 0)
			aside[asides++] = fds[i];
		else if (fds[i] >= 0 && service_watch(epoll, fds[i], i, edge) != 0)
			fail_live("watch", i, 0, errno);
	}
	uint64_t from = now_ns();
	atomic_store(&stage->rebuild_ns, from);
	if (live_epoll_read(sets, sizeof sets / sizeof *sets, &watched) != 0)
		fail_live("epoll read", 0, 0, errno);
	uint64_t read_ns = now_ns();
	if (live_take(&live, "live", 1, claims, count, regenerate, numbers, 5000) != 0)
		fail_live("take", 0, 0, errno);
	uint64_t taken_ns = now_ns();
	if (live_epoll_apply(sets, watched) != 0)
		fail_live("epoll apply", 0, 0, errno);
	atomic_store(&stage->live_us, (now_ns() - from) / 1000);
	if (getenv("LIVE_VERBOSE") != NULL)
		fprintf(stderr, "  us: epoll sets %llu, take %llu, epoll sets again %llu\n", (unsigned long long)(read_ns - from) / 1000,
			(unsigned long long)(taken_ns - read_ns) / 1000, (unsigned long long)(now_ns() - taken_ns) / 1000);
	for (uint32_t i = 0; i < count; i++)
		if (claims[i].verdict > 1)
			fail_live("result", numbers[i] & 0xffff, claims[i].verdict, claims[i].error);
	for (uint32_t i = 0; i < count; i++)
		check_clock(claims[i].descriptor, numbers[i] & 0xffff);
	while (asides > 0)
		close(aside[--asides]);
	atomic_store(&stage->go, 1);
	service_run(stage, listener, fds, epoll, edge, seed, &live);
}

static pid_t start_standby(bool checkpoint, bool edge)
{
	int netns = enter(BOX_B), listener = listen_in(BOX_B);
	fflush(stdout);
	pid_t pid = netns < 0 || listener < 0 ? -1 : fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (setns(netns, CLONE_NEWNET) != 0)
			_exit(1);
		go_live(listener, checkpoint, edge);
	}
	close(netns);
	close(listener);
	return pid;
}

/* ---- a run ---- */

static bool all_done(void)
{
	for (uint32_t i = 0; i < stage->dialled_count; i++)
		if (atomic_load(&stage->dialled[i].state) == 0)
			return false;
	return true;
}

static void say_served(uint16_t port, const char *when, const struct served *all)
{
	for (uint32_t i = 0; i < SERVED_MAX; i++)
		if (all[i].used && all[i].port == port)
			printf("    service, %s: %u read %llu written %llu%s%s%s\n", when, i, (unsigned long long)all[i].read,
			       (unsigned long long)all[i].written, all[i].eof ? " eof" : "", all[i].shut ? " shut" : "",
			       all[i].closed ? " closed" : "");
}

static unsigned judge(void)
{
	unsigned failed = 0;
	for (uint32_t i = 0; i < stage->dialled_count; i++) {
		const struct dialled *one = &stage->dialled[i];
		if (atomic_load(&one->state) == 1)
			continue;
		failed++;
		printf("  client %u (%s%s%s%s%c, %llu bytes): %s\n", i, one->idle ? "idle " : "", one->slow ? "slow " : "",
		       one->early_shut ? "early-shut " : "", one->late ? "late " : "", one->kind,
		       (unsigned long long)one->bytes, atomic_load(&one->state) == 0 ? "not done" : one->why);
		say_served(one->port, "at the checkpoint", stage->before);
		say_served(one->port, "at the end of the log", dead);
		say_served(one->port, "now", stage->served);
	}
	if (atomic_load(&stage->server_bad) != 0) {
		printf("  service: %s\n", stage->server_why);
		failed++;
	}
	return failed;
}

static void figure(void)
{
	uint64_t first = UINT64_MAX, from = atomic_load(&stage->rebuild_ns);
	for (uint32_t i = 0; i < stage->dialled_count; i++) {
		uint64_t at = atomic_load(&stage->dialled[i].first_after_ns);
		if (at != 0 && at < first)
			first = at;
	}
	if (first == UINT64_MAX || figures == sizeof first_ms / sizeof *first_ms)
		return;
	first_ms[figures] = (double)(first - from) / 1e6;
	take_ms[figures++] = (double)atomic_load(&stage->live_us) / 1e3;
}

static bool set_up(const struct scene *scene)
{
	capture.syn_only = !scene->everything;
	return world_renew(BOX_A) == 0 && world_renew(BOX_B) == 0 && gate_start(&a, HOST_A, BOX_A, "", NULL) == 0 &&
	       gate_start(&b, HOST_B, BOX_B, "", NULL) == 0 && dress(BOX_A) == 0 && dress(BOX_B) == 0 &&
	       gate_ok(&a, "mode name=open generation=1") && gate_ok(&a, "garp ip=" SERVICE_IP " count=1") &&
	       capture_start(&capture, world_socket(HOST_A, AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)), "ftlan0") == 0;
}

/* True: every client got everything. */
static bool run(const struct scene *scene, unsigned run_seed)
{
	static const char table[] = "/tmp/ftlive-test-table", table_before[] = "/tmp/ftlive-test-table-before";
	struct helper before = { 0 }, helper = { 0 };
	char line[4096] = "", checkpoint_line[4096] = "";
	seed = run_seed;
	bool edge = seed % 2 != 0;
	cast(scene);
	if (!set_up(scene)) {
		printf("  could not set up the network: %s\n", gate_said);
		gate_kill(&a, SIGKILL);
		gate_kill(&b, SIGKILL);
		return false;
	}
	pid_t primary = start_primary(), clients = start_clients(), standby = 0;
	usleep(2000 + dice(scene->run_ms * 1000));
	bool ok = true;
	if (scene->checkpoint) {
		ok = take_checkpoint(table_before);
		usleep(2000 + dice(scene->run_ms * 500));
	}
	if (ok && scene->late > 0) {
		atomic_store(&stage->accept_off, 1);
		ok = wait_for(&stage->accept_off, 2, 2000);
		atomic_store(&stage->late, 1);
		usleep(20000 + dice(30000));
	}
	ok = ok && die(primary);
	ok = ok && gate_ok(&b, "mode name=takeover generation=2") && gate_ok(&b, "garp ip=" SERVICE_IP " count=1");
	usleep(1000 * dice(30));
	ok = ok && capture_settle(&capture);
	unsigned missed = capture_stop(&capture);
	atomic_store(&stage->stop, 0);
	ok = ok && missed == 0 && write_table(table) == 0 && helper_start(&helper, "live", table, "3000") &&
	     (!scene->checkpoint || helper_start(&before, "checkpoint", table_before, "0"));
	tracker_close(&capture.tracker);
	atomic_store(&stage->accept_off, 0);
	if (ok)
		standby = start_standby(scene->checkpoint, edge);
	int64_t until = world_ms() + 8000;
	while (ok && atomic_load(&stage->go) == 0 && atomic_load(&stage->live_failed) == 0 && world_ms() < until)
		usleep(50);
	ok = ok && atomic_load(&stage->go) == 1 && gate_ok(&b, "mode name=open generation=2");
	until = world_ms() + 26000;
	while (ok && !all_done() && world_ms() < until)
		usleep(1000);
	if (!ok)
		printf("  went wrong: %s (missed %u frames)\n", stage->server_why, missed);
	unsigned failed = judge();
	if (failed > 0 && getenv("LIVE_VERBOSE") != NULL)
		(void)(world_run(BOX_B, "ss -tnimo") + world_run(CLIENT, "ss -tnimo"));
	end_child(standby);
	end_child(clients);
	if (helper.pid > 0)
		helper_end(&helper, line, sizeof line);
	if (before.pid > 0)
		helper_end(&before, checkpoint_line, sizeof checkpoint_line);
	gate_kill(&a, SIGKILL);
	gate_kill(&b, SIGKILL);
	unlink(table);
	unlink(table_before);
	if (ok && failed == 0)
		figure();
	if (!ok || failed > 0 || getenv("LIVE_VERBOSE") != NULL)
		printf("  %s seed=%u%s: %s", scene->name, run_seed, edge ? " edge" : "", line[0] ? line : "\n");
	return ok && failed == 0;
}

static int by_size(const void *x, const void *y)
{
	double difference = *(const double *)x - *(const double *)y;
	return difference < 0 ? -1 : difference > 0;
}

static void say_figures(const char *name, unsigned good, unsigned runs)
{
	qsort(first_ms, figures, sizeof *first_ms, by_size);
	qsort(take_ms, figures, sizeof *take_ms, by_size);
	printf("  %-28s %u of %u", name, good, runs);
	if (figures > 0)
		printf("; ms from the start of rebuilding: live p50 %.2f max %.2f, first byte at a client p50 %.2f max %.2f",
		       take_ms[figures / 2], take_ms[figures - 1], first_ms[figures / 2], first_ms[figures - 1]);
	printf("\n");
	figures = 0;
}

static unsigned runs, base;
static const struct scene *current;

TEST(every_client_gets_everything)
{
	unsigned good = 0, first = base + (unsigned)(current - scenes) * 10007;
	for (unsigned i = 0; i < runs; i++)
		good += run(current, first + i) ? 1 : 0;
	say_figures(current->name, good, runs);
	CHECK_EQ(good, runs);
}

int main(int count, char **arguments)
{
	runs = count > 1 ? (unsigned)atoi(arguments[1]) : 1;
	base = count > 2 ? (unsigned)strtoul(arguments[2], NULL, 0) : (unsigned)time(NULL);
	if (geteuid() != 0) {
		printf("needs root to make network namespaces; skipped\n");
		return 0;
	}
	stage = mmap(NULL, sizeof *stage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	signal(SIGPIPE, SIG_IGN);
	if (getenv("FTGATE") == NULL) {
		char gate[512];
		const char *build = getenv("BUILD");
		snprintf(gate, sizeof gate, "%s/bin/ftgate", build == NULL ? "../build" : build);
		setenv("FTGATE", gate, 1);
	}
	world_alone = true;
	if (stage == MAP_FAILED || world_open() != 0) {
		printf("could not make the network: %s\n", strerror(errno));
		return 1;
	}
	printf("  seed %u\n", base);
	for (unsigned i = 0; i < SCENES; i++) {
		if (count > 3 && strstr(scenes[i].name, arguments[3]) == NULL)
			continue;
		current = &scenes[i];
		RUN(every_client_gets_everything);
	}
	world_close();
	return check_report();
}
