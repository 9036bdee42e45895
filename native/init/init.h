/*
 * ftinit: PID 1 of a protected container. It waits until it is told to start the application or to adopt a
 * restored one, forwards signals to it, reaps every orphan and exits as the application exited.
 *
 * Invariants:
 *  - The application is started or adopted at most once in the life of ftinit.
 *  - Only a process outside this pid namespace is ever listened to: never the application.
 *  - No descriptor of ftinit's but 0, 1 and 2 reaches the application.
 *  - The application runs in a session of its own, whose leader it is, so that CRIU finds the session's leader
 *    inside the tree that it dumps.
 */
#ifndef FT_INIT_H
#define FT_INIT_H

#include "line/line.h"

#include <stdbool.h>
#include <sys/types.h>

#define FT_INIT_SOCKET "ftctl-init"
enum { INIT_CONNECTIONS_MAX = 8, INIT_LOST_MAX = 16 };

enum init_state { INIT_WAITING, INIT_RUNNING, INIT_EXITED };

/* Children that ended before anybody adopted them: a restored application may die at once. */
struct init_lost {
	pid_t pid;
	int wait_status;
};

struct init {
	char *const *command; /* ends with NULL */
	bool record; /* the application is recorded: mode hybrid */
	enum init_state state;
	pid_t application;
	int wait_status; /* of the application, once state is INIT_EXITED */
	struct init_lost lost[INIT_LOST_MAX];
	unsigned lost_next;
};

/* The exit code that Docker shows: the application's own, or 128 + the signal that ended it. */
int init_exit_code(int wait_status);

/* Carries out one request and writes its one reply. Returns whether the connection asked for events. */
bool init_request(struct init *self, const struct line *request, struct line_writer *reply);

/* The event line about the end of the application. */
void init_event_exited(const struct init *self, struct line_writer *event);

/* Reaps every child that has ended. */
void init_reap(struct init *self);

/* What a signal sent to PID 1 means now: forwards it, or returns the exit code with which to end, or -1. */
int init_signal(const struct init *self, int signal);

/* Forks, makes a session, executes. 0, or -1 with errno when the command could not be executed. */
int application_start(char *const *command, bool record, pid_t *pid);

/* Whether the process is a living child of ours: 0, or -1 with errno (ECHILD: not our child). */
int application_is_child(pid_t pid);

/* PID 1: returns the exit code. */
int init_run(char *const *command, bool record);

/* From the host: sends one request to the ftinit with this host pid, prints the replies. Returns the exit code. */
int ask_run(const char *host_pid, char *const *words);

#endif
