/* What a replay claims of its connections, when its threads come to them at once. The rest of the recorder is played here. */
#include "recorder/connections.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "live/take.h"
#include "recorder/real.h"
#include "test/check.h"

enum { THREADS = 8, EACH = 16, SOCKETS = THREADS * EACH, ROUNDS = 200, FIRST = 100, CALLS = 3, BYTES = 7 };

struct ft_descriptor ft_descriptors[FT_DESCRIPTORS_MAX];
int ft_descriptor_highest;
uint32_t ft_processes_there(void) { return 1; }
static struct live_claim claimed[FT_DESCRIPTORS_MAX];
static uint32_t claims;

static int no_peer(int fd, struct sockaddr *address, socklen_t *bytes)
{
	(void)fd, (void)address, (void)bytes;
	return -1;
}
struct ft_real ft_real_functions = {.getpeername = no_peer, .ready = true};
void ft_resolve(void) {}
long ft_syscall(long number, ...)
{
	return number == SYS_sched_yield ? syscall(number) : 0;
}
uint64_t ft_now_ns(void) { return 0; }
void ft_write_line(const char *format, ...) { (void)format; }
int live_take(struct live *live, const char *name, uint32_t processes, struct live_claim *all, uint32_t count,
              live_output *output, void *context, int timeout_ms)
{
	(void)live, (void)name, (void)processes, (void)output, (void)context, (void)timeout_ms;
	memcpy(claimed, all, count * sizeof *all);
	claims = count;
	return 0;
}
int live_accepted(struct live *live, int fd, struct sockaddr_in *remote)
{
	(void)live, (void)fd, (void)remote;
	return 0;
}
void live_end(struct live *live) { (void)live; }

static _Atomic uint32_t ready;

/* Each thread has its own sockets, as in memcached, so that only what the recorder shares can be shared. */
static void *replay(void *argument)
{
	int number = *(int *)argument;
	atomic_fetch_add(&ready, 1);
	while (atomic_load(&ready) < THREADS)
		;
	for (int call = 0; call < CALLS; call++)
		for (int i = 0; i < EACH; i++)
			ft_connection_read(FIRST + i * THREADS + number, BYTES);
	return NULL;
}

static bool each_claimed_once(void)
{
	int seen[SOCKETS] = {0};
	for (uint32_t i = 0; i < claims; i++) {
		int at = claimed[i].descriptor - FIRST;
		if (at < 0 || at >= SOCKETS || seen[at]++ > 0 || claimed[i].read_bytes != CALLS * BYTES || !claimed[i].since_checkpoint)
			return false;
	}
	return claims == SOCKETS;
}

TEST(threads_that_come_at_once_have_a_connection_each)
{
	int wrong = 0;
	for (int round = 0; round < ROUNDS; round++) {
		pthread_t threads[THREADS];
		int numbers[THREADS];
		for (int fd = FIRST; fd < FIRST + SOCKETS; fd++)
			ft_descriptors[fd] = (struct ft_descriptor){.kind = FT_SOCKET, .domain = AF_INET};
		atomic_store(&ready, 0);
		for (int i = 0; i < THREADS; i++) {
			numbers[i] = i;
			CHECK_EQ(pthread_create(&threads[i], NULL, replay, &numbers[i]), 0);
		}
		for (int i = 0; i < THREADS; i++)
			CHECK_EQ(pthread_join(threads[i], NULL), 0);
		CHECK(ft_connections_go_live() == NULL);
		wrong += !each_claimed_once();
	}
	CHECK_EQ(wrong, 0);
}

int main(void)
{
	ft_connections_start("test");
	RUN(threads_that_come_at_once_have_a_connection_each);
	return check_report();
}
