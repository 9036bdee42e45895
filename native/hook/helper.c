/*
 * Invariants: jobs are run one at a time and in the order in which they were posted, by whichever thread takes them.
 */
#include "hook/helper.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

enum { JOBS_MAX = 64, STACK_BYTES = 128 << 10 /* all of it is made present */ };

static struct {
	pthread_mutex_t lock;
	pthread_cond_t posted, ended;
	struct job job[JOBS_MAX];
	size_t first, count;
	bool started, running;
} helper = { .lock = PTHREAD_MUTEX_INITIALIZER, .posted = PTHREAD_COND_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER };

/* With the lock held, and nothing running. */
static void run_first(void)
{
	struct job job = helper.job[helper.first];
	helper.first = (helper.first + 1) % JOBS_MAX;
	helper.count--;
	helper.running = true;
	pthread_mutex_unlock(&helper.lock);
	job.run(&job);
	pthread_mutex_lock(&helper.lock);
	helper.running = false;
	pthread_cond_broadcast(&helper.ended);
}

static void *helper_main(void *unused)
{
	(void)unused;
	/* On a core of its own or later: it never takes CRIU's. */
	static const struct sched_param normal = { 0 };
	(void)sched_setscheduler(0, SCHED_BATCH, &normal);
	pthread_mutex_lock(&helper.lock);
	for (;;) {
		if (helper.running)
			pthread_cond_wait(&helper.ended, &helper.lock);
		else if (helper.count > 0)
			run_first();
		else
			pthread_cond_wait(&helper.posted, &helper.lock);
	}
	return NULL;
}

bool helper_start(void)
{
	pthread_t thread;
	pthread_attr_t attributes;
	sigset_t all, before;
	sigfillset(&all); /* CRIU's signals are for CRIU's thread */
	if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
		return false;
	if (pthread_attr_init(&attributes) == 0) {
		helper.started = pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0 &&
				 pthread_create(&thread, &attributes, helper_main, NULL) == 0;
		pthread_attr_destroy(&attributes);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (helper.started)
		pthread_detach(thread);
	return helper.started;
}

bool helper_post(const struct job *job)
{
	pthread_mutex_lock(&helper.lock);
	bool taken = helper.started && helper.count < JOBS_MAX;
	if (taken)
		helper.job[(helper.first + helper.count++) % JOBS_MAX] = *job;
	pthread_mutex_unlock(&helper.lock);
	if (taken)
		pthread_cond_signal(&helper.posted);
	return taken;
}

bool helper_extend(const struct job *more)
{
	pthread_mutex_lock(&helper.lock);
	struct job *last = &helper.job[(helper.first + helper.count + JOBS_MAX - 1) % JOBS_MAX];
	bool same = helper.count > 0 && last->run == more->run && last->from == more->from && last->to == more->to;
	if (same)
		last->length += more->length;
	pthread_mutex_unlock(&helper.lock);
	return same;
}

void helper_finish(void)
{
	if (!helper.started)
		return;
	pthread_mutex_lock(&helper.lock);
	while (helper.running || helper.count > 0) {
		if (helper.running)
			pthread_cond_wait(&helper.ended, &helper.lock);
		else
			run_first();
	}
	pthread_mutex_unlock(&helper.lock);
}
