/*
 * A small LAN in network namespaces without names (they vanish with their last process): a client, two hosts with
 * a bridge each, a container on each host, and gates between. Everything waits with a bound.
 */
#ifndef FT_GATE_TEST_WORLD_H
#define FT_GATE_TEST_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SERVICE_MAC "02:f7:00:00:00:05"
#define SERVICE_IP "10.9.0.2"
#define CLIENT_IP "10.9.0.1"
#define CLIENT_MAC "02:f7:00:00:00:01"
#define WAIT_MS 5000

enum place { LAN, CLIENT, HOST_A, HOST_B, BOX_A, BOX_B, PLACES };

struct world_gate {
	pid_t pid;
	int control; /* the main connection; subscribed to events when asked */
	char path[64];
	char buffered[65536];
	size_t buffered_length;
	char events[64][256];
	size_t event_count;
};

extern pid_t place_pid[PLACES];

/* 0, or -1 after saying what went wrong. */
/* Gates started from now on have no peer, and so no lease that could run out. */
extern bool world_alone;
int world_open(void);
void world_close(void);
/* Runs a command of iproute2 in a namespace; its exit status. */
int world_run(enum place place, const char *format, ...) __attribute__((format(printf, 2, 3)));
int world_socket(enum place place, int domain, int type, int protocol);
/* A container that was stopped and started again: a new, empty namespace. */
int world_renew(enum place place);

int64_t world_ms(void);

/* Starts a gate; `options` is appended, `fault` is FTCTL_FAULT or NULL. Returns 0, or its exit status; `said` is its first line. */
int gate_start(struct world_gate *gate, enum place host, enum place box, const char *options, const char *fault);
extern char gate_said[4096];
/* Ends it by the given signal and waits. */
void gate_kill(struct world_gate *gate, int signal);
int gate_connect(const struct world_gate *gate);
/* Sends a request and returns the reply (static storage), "" when none came. Events on the way are kept. */
const char *gate_ask(struct world_gate *gate, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool gate_ok(struct world_gate *gate, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A number of the reply, -1 when it is not there. */
int64_t field(const char *reply, const char *key);
bool says(const char *reply, const char *pair); /* "mode=hold" */
/* Waits for an event that begins with `prefix` and takes it. */
bool gate_event(struct world_gate *gate, const char *prefix, int wait_ms);
void gate_forget_events(struct world_gate *gate);
/* Asks for stats until `key` is at least `least`. */
bool gate_reaches(struct world_gate *gate, const char *key, int64_t least);

/* All frames that come from the service's address and reach the client's end of the wire. */
int sniffer_open(void);
/* How many came within `wait_ms`; the last one is kept. */
int sniffer_count(int sniffer, int wait_ms);
/* Only those of one type: a container's kernel may begin to look for IPv6 neighbours at any time. */
int sniffer_count_of(int sniffer, uint16_t ethertype, int wait_ms);
extern unsigned char sniffed[2048];
extern size_t sniffed_length;
extern size_t sniffed_longest;

bool readable(int fd, int wait_ms);
bool writable(int fd, int wait_ms);

#endif
