/* Threads and what they wait for each other with: creation, end, semaphores, barriers, once. Locks are in locks.c. */
#include "recorder/real.h"

#include <dlfcn.h>
#include <sys/syscall.h>

#define IS_RECORDED (ft_me != NULL && !ft_is_outsider(__builtin_return_address(0)))

/* ---- creation and end */

static struct {
	void *(*function)(void *);
	void *argument;
} starts[FT_THREADS_MAX];

static pthread_key_t end_key;
static bool have_end_key;
static int (*set_specific)(pthread_key_t, const void *);

/* The end of a thread, or of the process, is an event. False: the log ended before it. */
bool ft_thread_ends(struct ft_thread *t)
{
	bool replayed = false;
	if (t->in_solo && ft_mode_word() != LOG_MODE_REPLAY)
		ft_solo_finish(t);
	/* It may have acquired what only a record says. */
	FT_CALL {
		if (mode == LOG_MODE_LIVE || (mode == LOG_MODE_RECORD && ft_put_bare(LOG_THREAD_END, 0)))
			break;
		if (mode == LOG_MODE_RECORD)
			continue;
		const struct log_event *e = ft_take(LOG_THREAD_END, FT_ANY);
		if (e == NULL)
			continue;
		ft_done(e);
		replayed = true;
		break;
	}
	ft_lane_end(t);
	return replayed;
}

static void ended(void *state)
{
	if (ft_me == state)
		ft_thread_ends(state);
}

static void *begin(void *argument)
{
	struct ft_thread *t = argument;
	void *(*function)(void *) = starts[t - ft_threads].function;
	void *its = starts[t - ft_threads].argument;
	set_specific(end_key, t);
	ft_lane_begin(t, (uint32_t)(t - ft_threads));
	return function(its);
}

static bool make_end_key(void)
{
	if (!have_end_key) {
		/* By name: in a C library older than 2.34 they are in a library of their own. */
		int (*create)(pthread_key_t *, void (*)(void *)) = dlsym(RTLD_DEFAULT, "pthread_key_create");
		set_specific = dlsym(RTLD_DEFAULT, "pthread_setspecific");
		have_end_key = create != NULL && set_specific != NULL && create(&end_key, ended) == 0;
	}
	return have_end_key;
}

static int create_on(uint32_t lane, pthread_t *out, const pthread_attr_t *attributes, void *(*function)(void *), void *argument)
{
	starts[lane].function = function;
	starts[lane].argument = argument;
	atomic_store(&ft_threads[lane].cancelled, false);
	int failed = REAL(pthread_create)(out, attributes, begin, &ft_threads[lane]);
	if (failed != 0)
		atomic_store(&ft_threads[lane].activity, FT_GONE);
	else if (atomic_load(&ft_threads[lane].activity) != FT_GONE)
		ft_threads[lane].self = *out; /* it may not have begun */
	return failed;
}

FT_PUBLIC int pthread_create(pthread_t *out, const pthread_attr_t *attributes, void *(*function)(void *), void *argument)
{
	if (!IS_RECORDED || !make_end_key())
		return REAL(pthread_create)(out, attributes, function, argument);
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(pthread_create)(out, attributes, function, argument);
		if (mode == LOG_MODE_RECORD) {
			uint32_t lane = ft_lane_new();
			if (lane == UINT32_MAX) {
				ft_lost(LOG_LOSS_LANES);
				continue;
			}
			if (ft_put_sync(LOG_THREAD_CREATE, lane, FT_NO_TURN, (int32_t)ft_threads[lane].uses - 1))
				return create_on(lane, out, attributes, function, argument);
			ft_lane_give_back(lane);
			continue;
		}
		const struct log_event *e = ft_take(LOG_THREAD_CREATE, FT_ANY);
		if (e == NULL)
			continue;
		uint32_t lane = e->record.object;
		if (lane == 0 || lane >= ft_log.lane_count)
			ft_corrupt("a thread on a lane that does not exist");
		if (!ft_lane_await(lane, (uint32_t)e->sync.result))
			continue;
		ft_lane_claim(lane);
		ft_done(e);
		return create_on(lane, out, attributes, function, argument);
	}
}

/* The lane of a thread that has not ended, or NULL. */
static struct ft_thread *lane_of(pthread_t thread)
{
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++)
		if (ft_is_here(&ft_threads[i]) && atomic_load(&ft_threads[i].activity) != FT_GONE && pthread_equal(ft_threads[i].self, thread))
			return &ft_threads[i];
	return NULL;
}

/*
 * In a replay the thread is only marked: it may be behind, and must come to where it was (await_cancellation() in replay.c),
 * or the replay must end. The mark is also made when recording, for one that is restored before it takes effect.
 */
FT_PUBLIC int pthread_cancel(pthread_t thread)
{
	enum log_mode mode = IS_RECORDED ? ft_enter() : LOG_MODE_LIVE;
	struct ft_thread *other = mode == LOG_MODE_LIVE ? NULL : lane_of(thread);
	if (other != NULL)
		atomic_store(&other->cancelled, true);
	return other != NULL && mode == LOG_MODE_REPLAY ? 0 : REAL(pthread_cancel)(thread);
}

FT_PUBLIC int pthread_join(pthread_t thread, void **value)
{
	if (!IS_RECORDED)
		return REAL(pthread_join)(thread, value);
	bool joined = false;
	int result = 0;
	FT_CALL {
		const struct log_event *e = NULL;
		if (mode == LOG_MODE_REPLAY && (e = ft_take(LOG_THREAD_JOIN, FT_ANY)) == NULL)
			continue;
		if (!joined) {
			ft_real_begin();
			atomic_store(&ft_me->deaf, true);
			result = REAL(pthread_join)(thread, value);
			atomic_store(&ft_me->deaf, false);
			ft_real_end();
			joined = true;
		}
		if (e != NULL)
			ft_done(e); /* not before: until then this thread stands at this record */
		if (mode != LOG_MODE_RECORD || ft_put_sync(LOG_THREAD_JOIN, 0, FT_NO_TURN, result))
			return result;
	}
}

/* ---- semaphores: executed, in the order of their versions */

FT_PUBLIC int sem_init(sem_t *semaphore, int shared, unsigned value)
{
	if (IS_RECORDED)
		ft_object_forget(semaphore);
	if (IS_RECORDED && shared != 0)
		ft_object_is_shared(semaphore);
	return REAL(sem_init)(semaphore, shared, value);
}

FT_PUBLIC int sem_post(sem_t *semaphore)
{
	if (!IS_RECORDED)
		return REAL(sem_post)(semaphore);
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(sem_post)(semaphore);
		if (mode == LOG_MODE_RECORD) {
			uint32_t id = ft_object_of(semaphore);
			if (ft_put_sync(LOG_SEM_POST, id, id, 0))
				return REAL(sem_post)(semaphore);
			continue;
		}
		const struct log_event *e = ft_take(LOG_SEM_POST, FT_ANY);
		if (e == NULL)
			continue;
		if (!ft_object_is(semaphore, e->record.object))
			ft_diverged(&(struct ft_sides){.what = "another semaphore", .kind = LOG_SEM_POST}, e);
		int result = REAL(sem_post)(semaphore);
		ft_done(e);
		return result;
	}
}

enum sem_how { SEM_BLOCK, SEM_TRY, SEM_UNTIL };

static int sem_call(sem_t *semaphore, enum sem_how how, const struct timespec *until)
{
	if (how == SEM_TRY)
		return REAL(sem_trywait)(semaphore);
	return how == SEM_BLOCK ? REAL(sem_wait)(semaphore) : REAL(sem_timedwait)(semaphore, until);
}

static int sem_waited(sem_t *semaphore, enum sem_how how, const struct timespec *until)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return sem_call(semaphore, how, until);
		if (mode == LOG_MODE_RECORD) {
			uint32_t id = ft_object_of(semaphore);
			ft_real_begin();
			int result = sem_call(semaphore, how, until), error = errno;
			ft_real_end();
			if (result == 0 ? ft_put_sync(LOG_SEM_WAIT, id, id, 0) : ft_put_sync(LOG_SEM_FAILED, id, FT_NO_TURN, error)) {
				errno = error;
				return result;
			}
			if (result == 0)
				REAL(sem_post)(semaphore);
			continue;
		}
		uint8_t coming = ft_coming();
		const struct log_event *e = coming == 0 ? NULL : ft_take(coming == LOG_SEM_FAILED ? LOG_SEM_FAILED : LOG_SEM_WAIT, FT_ANY);
		if (e == NULL)
			continue;
		if (!ft_object_is(semaphore, e->record.object))
			ft_diverged(&(struct ft_sides){.what = "another semaphore", .kind = LOG_SEM_WAIT}, e);
		int error = e->sync.result;
		ft_real_begin();
		while (coming == LOG_SEM_WAIT && REAL(sem_wait)(semaphore) != 0 && errno == EINTR)
			;
		ft_real_end();
		ft_done(e);
		errno = error;
		return coming == LOG_SEM_WAIT ? 0 : -1;
	}
}

FT_PUBLIC int sem_wait(sem_t *semaphore)
{
	return IS_RECORDED ? sem_waited(semaphore, SEM_BLOCK, NULL) : REAL(sem_wait)(semaphore);
}

FT_PUBLIC int sem_trywait(sem_t *semaphore)
{
	return IS_RECORDED ? sem_waited(semaphore, SEM_TRY, NULL) : REAL(sem_trywait)(semaphore);
}

FT_PUBLIC int sem_timedwait(sem_t *semaphore, const struct timespec *until)
{
	return IS_RECORDED ? sem_waited(semaphore, SEM_UNTIL, until) : REAL(sem_timedwait)(semaphore, until);
}

/*
 * ---- barriers: that a thread has come is recorded before it waits, and who is told to be the last after it. One
 * record after the wait would not do: a solo section may come between, and the others need this thread's coming to get to it.
 */

static bool comes_to_barrier(void)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return false;
		if (mode == LOG_MODE_RECORD) {
			if (ft_put_sync(LOG_BARRIER, 0, FT_NO_TURN, 0))
				return true;
			continue;
		}
		const struct log_event *e = ft_take(LOG_BARRIER, FT_ANY);
		if (e == NULL)
			continue;
		ft_done(e);
		return true;
	}
}

FT_PUBLIC int pthread_barrier_wait(pthread_barrier_t *barrier)
{
	if (!IS_RECORDED || !comes_to_barrier())
		return REAL(pthread_barrier_wait)(barrier);
	ft_real_begin();
	int result = REAL(pthread_barrier_wait)(barrier);
	ft_real_end();
	FT_CALL {
		if (mode == LOG_MODE_LIVE || (mode == LOG_MODE_RECORD && ft_put_sync(LOG_BARRIER_DONE, 0, FT_NO_TURN, result)))
			return result;
		if (mode == LOG_MODE_RECORD)
			continue;
		const struct log_event *e = ft_take(LOG_BARRIER_DONE, FT_ANY);
		if (e == NULL)
			continue;
		result = e->sync.result;
		ft_done(e);
		return result;
	}
}

/* ---- once: which thread runs it */

enum { ONCE_IS_DONE = 2 };
static __thread void (*once_function)(void) FT_TLS;

static void run_once(void)
{
	void (*function)(void) = once_function;
	FT_CALL {
		if (mode == LOG_MODE_LIVE || (mode == LOG_MODE_RECORD && ft_put_sync(LOG_ONCE_RUN, 0, FT_NO_TURN, 0)))
			break;
		if (mode == LOG_MODE_RECORD)
			continue;
		const struct log_event *e = ft_take(LOG_ONCE_RUN, FT_ANY);
		if (e == NULL)
			continue;
		ft_done(e);
		break;
	}
	function();
	/* Who comes later only looks at `control`: what was counted in here has to be in a record first. */
	if (ft_elided(ft_me) != 0 && ft_mode_word() == LOG_MODE_RECORD)
		ft_put_bare(LOG_FLUSH, 0);
}

static bool once_is_done(const struct ft_thread *t, uint64_t control)
{
	(void)t;
	return *(volatile int *)control & ONCE_IS_DONE;
}

FT_PUBLIC int pthread_once(pthread_once_t *control, void (*function)(void))
{
	if (!IS_RECORDED || *(volatile int *)control & ONCE_IS_DONE)
		return REAL(pthread_once)(control, function);
	if (ft_enter() == LOG_MODE_REPLAY && ft_coming() != LOG_ONCE_RUN)
		ft_wait_until(ft_me, once_is_done, (uint64_t)control);
	void (*before)(void) = once_function;
	once_function = function;
	int result = REAL(pthread_once)(control, run_once);
	once_function = before;
	return result;
}
