#include "fault/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FAULTS_MAX 32
#define POINT_BYTES_MAX 48
#define DELAY_MS_MAX 600000ul

enum action { ACTION_CRASH, ACTION_ERROR, ACTION_HANG, ACTION_DELAY };

struct fault {
	char point[POINT_BYTES_MAX];
	enum action action;
	unsigned long delay_ms;
	unsigned long skip;
	bool spent;
};

static struct fault faults[FAULTS_MAX];
static size_t fault_count;
static bool loaded;

static int parse_number(const char *text, unsigned long max, unsigned long *out)
{
	char *end;
	if (*text < '0' || *text > '9')
		return -1;
	errno = 0;
	*out = strtoul(text, &end, 10);
	return errno != 0 || *end != 0 || *out > max ? -1 : 0;
}

static int parse_fault(char *item, struct fault *out)
{
	char *rest = item;
	char *point = strsep(&rest, ":");
	char *action = strsep(&rest, ":");
	memset(out, 0, sizeof *out);
	if (action == NULL || *point == 0 || strlen(point) >= sizeof out->point)
		return -1;
	strcpy(out->point, point);
	if (strcmp(action, "crash") == 0)
		out->action = ACTION_CRASH;
	else if (strcmp(action, "error") == 0)
		out->action = ACTION_ERROR;
	else if (strcmp(action, "hang") == 0)
		out->action = ACTION_HANG;
	else if (strncmp(action, "delay=", 6) == 0 && parse_number(action + 6, DELAY_MS_MAX, &out->delay_ms) == 0)
		out->action = ACTION_DELAY;
	else
		return -1;
	return rest == NULL ? 0 : parse_number(rest, 1ul << 40, &out->skip);
}

int ft_fault_load(const char *variable)
{
	char copy[1024];
	loaded = true;
	fault_count = 0;
	if (variable == NULL || *variable == 0)
		return 0;
	if (strlen(variable) >= sizeof copy)
		return -1;
	strcpy(copy, variable);
	char *rest = copy, *item;
	while ((item = strsep(&rest, ",")) != NULL) {
		if (*item == 0)
			continue;
		if (fault_count == FAULTS_MAX || parse_fault(item, &faults[fault_count]) != 0) {
			fault_count = 0;
			return -1;
		}
		fault_count++;
	}
	return 0;
}

static void sleep_ms(unsigned long ms)
{
	struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

static int fire(struct fault *fault)
{
	fprintf(stderr, "fault injected at %s\n", fault->point);
	switch (fault->action) {
	case ACTION_CRASH:
		kill(getpid(), SIGKILL);
		for (;;)
			pause();
	case ACTION_HANG:
		for (;;)
			pause();
	case ACTION_DELAY:
		fault->spent = true;
		sleep_ms(fault->delay_ms);
		return 0;
	case ACTION_ERROR:
		fault->spent = true;
		errno = EIO;
		return -1;
	}
	return 0;
}

int ft_fault(const char *point)
{
	if (!loaded && ft_fault_load(getenv("FTCTL_FAULT")) != 0) {
		/* A typo must not pass for a test. */
		fprintf(stderr, "FTCTL_FAULT is malformed: %s\n", getenv("FTCTL_FAULT"));
		_exit(2);
	}
	for (size_t i = 0; i < fault_count; i++) {
		struct fault *fault = &faults[i];
		if (fault->spent || strcmp(fault->point, point) != 0)
			continue;
		if (fault->skip > 0) {
			fault->skip--;
			continue;
		}
		return fire(fault);
	}
	return 0;
}
