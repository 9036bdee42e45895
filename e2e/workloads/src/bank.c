/*
 * A bank, served by several threads: accounts with a lock each, an order of a client moves money between two of them. What may never
 * be otherwise: the sum over all accounts, and the number of moves, which is half of the number of changes of all accounts.
 *
 *   move <client> <n> <from> <to> <amount>  → ok <n> <changes of from> <balance of from> <changes of to> <balance of to>
 *   audit <client> <n>                      → ok <n> <sum> <moves>
 *   applied <client>                        → ok <n>, the client's last order
 *   books                                   → ok <sum> <moves>
 *
 * A client numbers its orders from 1, moves and audits alike; one that is not the next is answered `bad …`. Each change of an
 * account has a number, so that a client can put all that it was told of an account, by any thread, into one order. A thread
 * audits by itself too; a bank whose books are wrong stops.
 *
 * Locks, in the order in which they are taken: directory, a client, accounts by number.
 */
#include "net.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { THREADS = 4, ACCOUNTS = 32, START = 1000, CLIENTS_MAX = 1 << 14, NAME_BYTES_MAX = 40, AUDIT_EVERY_MS = 500 };

static struct {
	pthread_mutex_t lock;
	int64_t balance;
	uint64_t changes;
} accounts[ACCOUNTS];

struct client {
	char name[NAME_BYTES_MAX];
	pthread_mutex_t lock;
	uint64_t last;
};

/* Entries are never taken out, so one that was found may be used without the directory's lock. */
static pthread_rwlock_t directory = PTHREAD_RWLOCK_INITIALIZER;
static struct client clients[CLIENTS_MAX];

struct books {
	int64_t sum;
	uint64_t moves;
};

static void must(int error, const char *what)
{
	if (error == 0) return;
	fprintf(stderr, "%s: %s\n", what, strerror(error));
	exit(1);
}

static void lock(pthread_mutex_t *mutex)
{
	must(pthread_mutex_lock(mutex), "pthread_mutex_lock");
}

static void unlock(pthread_mutex_t *mutex)
{
	must(pthread_mutex_unlock(mutex), "pthread_mutex_unlock");
}

/* The client's place, or the free one where it would be; NULL if all are taken. Under the directory's lock. */
static struct client *place_of(const char *name)
{
	uint32_t hash = 2166136261u;
	for (const char *at = name; *at != '\0'; at++)
		hash = (hash ^ (unsigned char)*at) * 16777619u;
	for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *client = &clients[(hash + i) % CLIENTS_MAX];
		if (client->name[0] == '\0' || strcmp(client->name, name) == 0) return client;
	}
	return NULL;
}

static struct client *client_called(const char *name)
{
	must(pthread_rwlock_rdlock(&directory), "pthread_rwlock_rdlock");
	struct client *client = place_of(name);
	int known = client != NULL && client->name[0] != '\0';
	must(pthread_rwlock_unlock(&directory), "pthread_rwlock_unlock");
	if (known) return client;
	must(pthread_rwlock_wrlock(&directory), "pthread_rwlock_wrlock");
	client = place_of(name);
	if (client != NULL && client->name[0] == '\0') {
		must(pthread_mutex_init(&client->lock, NULL), "pthread_mutex_init");
		strcpy(client->name, name);
	}
	must(pthread_rwlock_unlock(&directory), "pthread_rwlock_unlock");
	return client;
}

static struct books audit(void)
{
	struct books books = {0, 0};
	for (int i = 0; i < ACCOUNTS; i++)
		lock(&accounts[i].lock);
	for (int i = 0; i < ACCOUNTS; i++) {
		books.sum += accounts[i].balance;
		books.moves += accounts[i].changes;
	}
	for (int i = 0; i < ACCOUNTS; i++)
		unlock(&accounts[i].lock);
	if (books.sum != (int64_t)START * ACCOUNTS || books.moves % 2 != 0) {
		fprintf(stderr, "the books are wrong: sum %" PRId64 ", changes %" PRIu64 "\n", books.sum, books.moves);
		exit(1);
	}
	books.moves /= 2;
	return books;
}

static size_t move(uint64_t n, unsigned from, unsigned to, int64_t amount, char *reply, size_t reply_bytes_max)
{
	pthread_mutex_t *first = &accounts[from < to ? from : to].lock;
	pthread_mutex_t *second = &accounts[from < to ? to : from].lock;
	lock(first);
	lock(second);
	accounts[from].balance -= amount;
	accounts[to].balance += amount;
	accounts[from].changes++;
	accounts[to].changes++;
	size_t bytes = reply_text(reply, reply_bytes_max, "ok %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRIu64 " %" PRId64, n,
				  accounts[from].changes, accounts[from].balance, accounts[to].changes, accounts[to].balance);
	unlock(second);
	unlock(first);
	return bytes;
}

/* An order with a number: applied once, or refused. */
static size_t order(const char *name, uint64_t n, const char *rest, char *reply, size_t reply_bytes_max)
{
	unsigned from = 0, to = 0;
	int64_t amount = 0;
	int is_move = *rest != '\0';
	if (is_move && (sscanf(rest, "%u %u %" SCNd64, &from, &to, &amount) != 3 || from >= ACCOUNTS || to >= ACCOUNTS || from == to))
		return reply_text(reply, reply_bytes_max, "bad move");
	struct client *client = client_called(name);
	if (client == NULL) return reply_text(reply, reply_bytes_max, "bad too-many-clients");
	size_t bytes;
	lock(&client->lock);
	if (n != client->last + 1) {
		bytes = reply_text(reply, reply_bytes_max, "bad order=%" PRIu64 " last=%" PRIu64, n, client->last);
	} else if (is_move) {
		client->last = n;
		bytes = move(n, from, to, amount, reply, reply_bytes_max);
	} else {
		client->last = n;
		struct books books = audit();
		bytes = reply_text(reply, reply_bytes_max, "ok %" PRIu64 " %" PRId64 " %" PRIu64, n, books.sum, books.moves);
	}
	unlock(&client->lock);
	return bytes;
}

static size_t answer(struct connection *connection, char *line, char *reply, size_t reply_bytes_max)
{
	char name[NAME_BYTES_MAX];
	uint64_t n = 0;
	int end = 0;
	connection->received++;
	if (sscanf(line, "move %39s %" SCNu64 " %n", name, &n, &end) == 2 && line[end] != '\0')
		return order(name, n, line + end, reply, reply_bytes_max);
	if (sscanf(line, "audit %39s %" SCNu64, name, &n) == 2) return order(name, n, "", reply, reply_bytes_max);
	if (sscanf(line, "applied %39s", name) == 1) {
		struct client *client = client_called(name);
		if (client == NULL) return reply_text(reply, reply_bytes_max, "bad too-many-clients");
		lock(&client->lock);
		n = client->last;
		unlock(&client->lock);
		return reply_text(reply, reply_bytes_max, "ok %" PRIu64, n);
	}
	if (strcmp(line, "books") == 0) {
		struct books books = audit();
		return reply_text(reply, reply_bytes_max, "ok %" PRId64 " %" PRIu64, books.sum, books.moves);
	}
	return reply_text(reply, reply_bytes_max, "bad request");
}

static void *audit_now_and_then(void *unused)
{
	(void)unused;
	for (;;) {
		struct timespec a_while = {.tv_nsec = AUDIT_EVERY_MS * 1000000L};
		nanosleep(&a_while, NULL);
		audit();
	}
	return NULL;
}

int main(int argc, char **argv)
{
	uint16_t port = port_argument(argc, argv);
	for (int i = 0; i < ACCOUNTS; i++) {
		must(pthread_mutex_init(&accounts[i].lock, NULL), "pthread_mutex_init");
		accounts[i].balance = START;
	}
	start_thread(audit_now_and_then, NULL);
	serve_threads(port, THREADS, answer);
}
