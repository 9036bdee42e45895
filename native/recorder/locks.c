/*
 * Mutexes, read-write locks, spin locks and condition variables. The order in which threads acquire an object is its
 * version; releases need no record. An acquisition by the last owner is only counted (see `elided`): its order follows from
 * the owner's own.
 */
#include "recorder/objects.h"
#include "recorder/real.h"

/* Shared locks have no owner that excludes others: each acquisition is recorded. */
static inline bool excludes(uint8_t kind) { return kind == LOG_LOCK || kind == LOG_WRITE_LOCK; }

static __attribute__((noinline)) bool acquired_from(uint8_t kind, uint32_t id)
{
	struct ft_object *object = &ft_objects[id];
	uint32_t owner = atomic_load_explicit(&object->owner, memory_order_relaxed);
	if (!(excludes(kind) ? ft_put_lock(kind, id, owner) : ft_put_after(owner) && ft_put_sync(kind, id, id, 0)))
		return false;
	atomic_store_explicit(&object->owner, excludes(kind) ? ft_me->lane + 1 : 0, memory_order_relaxed);
	return true;
}

/* After a real acquisition. False: restored meanwhile; give it back and take the replay's way. */
static inline bool acquired(uint8_t kind, const void *address)
{
	struct ft_thread *t = ft_me;
	enum log_mode mode = ft_mode_word();
	if (unlikely(mode != LOG_MODE_RECORD))
		return mode != LOG_MODE_REPLAY;
	uint32_t id = ft_object_at(address);
	struct ft_object *object = &ft_objects[id];
	if (!excludes(kind) || !ft_elides || atomic_load_explicit(&object->owner, memory_order_relaxed) != t->lane + 1 ||
	    t->solo != atomic_load_explicit(&ft_solo_begun, memory_order_relaxed))
		return acquired_from(kind, id);
	atomic_store_explicit(&object->version, atomic_load_explicit(&object->version, memory_order_relaxed) + 1,
	                      memory_order_release);
	ft_progress_elided(t);
	if (unlikely(ft_elided(t) == UINT8_MAX))
		ft_put_bare(LOG_FLUSH, 0);
	return true;
}

/* Replay, for an acquisition that was only counted. */
static void acquired_again(const void *address)
{
	struct ft_object *object = &ft_objects[ft_object_of(address)];
	ft_progress_elided(ft_me);
	atomic_fetch_add(&object->version, 1);
}

static void wrong_object(const struct log_event *e, const void *address)
{
	struct ft_sides mine = {.what = "another object at this place", .kind = e->record.kind,
		.object = ft_object_of(address)};
	ft_diverged(&mine, e);
}

struct lock {
	uint8_t kind;
	void *address;
	int (*try)(void *);
	int (*acquire)(void *);
	int (*release)(void *);
};

static int acquire_really(const struct lock *lock)
{
	ft_real_begin();
	int result = lock->acquire(lock->address);
	ft_real_end();
	return result;
}

/*
 * Replay: its turn has come. A section goes on unless the log says that it ended here: when it was recorded the lock may have been
 * free, and what the callback writes after it must not be seen before the end.
 */
static void acquire_in_turn(const struct lock *lock)
{
	if (lock->try(lock->address) == 0)
		return;
	bool solo = ft_me->in_solo;
	ft_me->in_solo = false;
	acquire_really(lock);
	ft_me->in_solo = solo;
}

/* Replay: 0 or the recorded failure; -1 when the log has ended. */
static int acquire_again(const struct lock *lock)
{
	uint8_t coming = ft_coming_acquisition(lock->address);
	if (coming == 0)
		return -1;
	if (coming == FT_COUNTED) {
		acquire_in_turn(lock);
		acquired_again(lock->address);
		return 0;
	}
	if (coming == LOG_TRY_FAILED) {
		const struct log_event *e = ft_take(LOG_TRY_FAILED, FT_ANY);
		if (e == NULL)
			return -1;
		int result = e->sync.result;
		ft_done(e);
		return result;
	}
	const struct log_event *e = ft_take(lock->kind, FT_ANY);
	if (e == NULL)
		return -1;
	if (!ft_object_is(lock->address, e->record.object))
		wrong_object(e, lock->address);
	acquire_in_turn(lock);
	bool exclusive = lock->kind == LOG_LOCK || lock->kind == LOG_WRITE_LOCK;
	atomic_store(&ft_objects[e->record.object].owner, exclusive ? ft_me->lane + 1 : 0);
	ft_done(e);
	return 0;
}

static int locked(const struct lock *lock)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return lock->acquire(lock->address);
		if (mode == LOG_MODE_REPLAY) {
			int result = acquire_again(lock);
			if (result < 0)
				continue;
			ft_solo_replay_begin(ft_me, true);
			return result;
		}
		int result = lock->try(lock->address);
		bool solo = ft_me->in_solo;
		if (result != 0)
			result = acquire_really(lock);
		if (result != 0) {
			if (ft_put_sync(LOG_TRY_FAILED, 0, FT_NO_TURN, result))
				return result;
			continue;
		}
		if (acquired(lock->kind, lock->address)) {
			/* A timer's callback that had to wait for a lock goes on alone afterwards. */
			if (solo && !ft_me->in_solo)
				ft_solo_after_wait(ft_me, true);
			return 0;
		}
		lock->release(lock->address);
	}
}

/* The way of nearly all: it is recorded, and the lock is free. False: nothing has been done. */
#define AT_ONCE(kind, address, prefix, try_name) \
	(likely(ft_enter() == LOG_MODE_RECORD) && (ft_object_is_wanted(address), true) && \
	 likely(ft_real_functions.try_name(address) == 0) && \
	 (likely(acquired(kind, (const void *)(address))) || (ft_real_functions.prefix##_unlock(address), false)))

static int tried(const struct lock *lock)
{
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return lock->try(lock->address);
		if (mode == LOG_MODE_REPLAY) {
			int result = acquire_again(lock);
			if (result < 0)
				continue;
			return result;
		}
		int result = lock->try(lock->address);
		if (result != 0) {
			if (ft_put_sync(LOG_TRY_FAILED, 0, FT_NO_TURN, result))
				return result;
			continue;
		}
		if (acquired(lock->kind, lock->address))
			return 0;
		lock->release(lock->address);
	}
}

#define IS_RECORDED (ft_me != NULL && !ft_is_outsider(__builtin_return_address(0)))
#define LOCK(a_kind, object, prefix, try_name, acquire_name) \
	(struct lock){.kind = (a_kind), .address = (object), .try = (int (*)(void *))REAL(try_name), \
		.acquire = (int (*)(void *))REAL(acquire_name), .release = (int (*)(void *))REAL(prefix##_unlock)}

static __attribute__((noinline)) int mutex_locked_slowly(pthread_mutex_t *mutex)
{
	struct lock lock = LOCK(LOG_LOCK, mutex, pthread_mutex, pthread_mutex_trylock, pthread_mutex_lock);
	return locked(&lock);
}

FT_PUBLIC int pthread_mutex_lock(pthread_mutex_t *mutex)
{
	if (!IS_RECORDED)
		return REAL(pthread_mutex_lock)(mutex);
	return AT_ONCE(LOG_LOCK, mutex, pthread_mutex, pthread_mutex_trylock) ? 0 : mutex_locked_slowly(mutex);
}

static __attribute__((noinline)) int mutex_tried_slowly(pthread_mutex_t *mutex)
{
	struct lock lock = LOCK(LOG_LOCK, mutex, pthread_mutex, pthread_mutex_trylock, pthread_mutex_lock);
	return tried(&lock);
}

FT_PUBLIC int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
	if (!IS_RECORDED)
		return REAL(pthread_mutex_trylock)(mutex);
	return AT_ONCE(LOG_LOCK, mutex, pthread_mutex, pthread_mutex_trylock) ? 0 : mutex_tried_slowly(mutex);
}

FT_PUBLIC int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *until)
{
	if (!IS_RECORDED)
		return REAL(pthread_mutex_timedlock)(mutex, until);
	struct lock lock = LOCK(LOG_LOCK, mutex, pthread_mutex, pthread_mutex_trylock, pthread_mutex_lock);
	FT_CALL {
		if (mode == LOG_MODE_LIVE)
			return REAL(pthread_mutex_timedlock)(mutex, until);
		if (mode == LOG_MODE_REPLAY) {
			int result = acquire_again(&lock);
			if (result >= 0)
				return result;
			continue;
		}
		ft_real_begin();
		int result = REAL(pthread_mutex_timedlock)(mutex, until);
		ft_real_end();
		if (result == 0 ? acquired(LOG_LOCK, mutex) : ft_put_sync(LOG_TRY_FAILED, 0, FT_NO_TURN, result))
			return result;
		if (result == 0)
			REAL(pthread_mutex_unlock)(mutex);
	}
}

FT_PUBLIC int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
	if (IS_RECORDED)
		ft_object_forget(mutex);
	/* What the C library does with PTHREAD_PROCESS_SHARED; asking it needs a newer one. */
	if (IS_RECORDED && attributes != NULL && *(const int *)attributes < 0)
		ft_object_is_shared(mutex);
	return REAL(pthread_mutex_init)(mutex, attributes);
}

FT_PUBLIC int pthread_rwlock_rdlock(pthread_rwlock_t *rwlock)
{
	if (!IS_RECORDED)
		return REAL(pthread_rwlock_rdlock)(rwlock);
	struct lock lock = LOCK(LOG_READ_LOCK, rwlock, pthread_rwlock, pthread_rwlock_tryrdlock, pthread_rwlock_rdlock);
	return locked(&lock);
}

FT_PUBLIC int pthread_rwlock_wrlock(pthread_rwlock_t *rwlock)
{
	if (!IS_RECORDED)
		return REAL(pthread_rwlock_wrlock)(rwlock);
	struct lock lock = LOCK(LOG_WRITE_LOCK, rwlock, pthread_rwlock, pthread_rwlock_trywrlock, pthread_rwlock_wrlock);
	return locked(&lock);
}

FT_PUBLIC int pthread_rwlock_tryrdlock(pthread_rwlock_t *rwlock)
{
	if (!IS_RECORDED)
		return REAL(pthread_rwlock_tryrdlock)(rwlock);
	struct lock lock = LOCK(LOG_READ_LOCK, rwlock, pthread_rwlock, pthread_rwlock_tryrdlock, pthread_rwlock_rdlock);
	return tried(&lock);
}

FT_PUBLIC int pthread_rwlock_trywrlock(pthread_rwlock_t *rwlock)
{
	if (!IS_RECORDED)
		return REAL(pthread_rwlock_trywrlock)(rwlock);
	struct lock lock = LOCK(LOG_WRITE_LOCK, rwlock, pthread_rwlock, pthread_rwlock_trywrlock, pthread_rwlock_wrlock);
	return tried(&lock);
}

FT_PUBLIC int pthread_rwlock_init(pthread_rwlock_t *rwlock, const pthread_rwlockattr_t *attributes)
{
	if (IS_RECORDED)
		ft_object_forget(rwlock);
	if (IS_RECORDED && attributes != NULL && ((const int *)attributes)[1] == PTHREAD_PROCESS_SHARED)
		ft_object_is_shared(rwlock);
	return REAL(pthread_rwlock_init)(rwlock, attributes);
}

FT_PUBLIC int pthread_spin_lock(pthread_spinlock_t *spin)
{
	if (!IS_RECORDED)
		return REAL(pthread_spin_lock)(spin);
	struct lock lock = LOCK(LOG_LOCK, (void *)spin, pthread_spin, pthread_spin_trylock, pthread_spin_lock);
	return locked(&lock);
}

FT_PUBLIC int pthread_spin_trylock(pthread_spinlock_t *spin)
{
	if (!IS_RECORDED)
		return REAL(pthread_spin_trylock)(spin);
	struct lock lock = LOCK(LOG_LOCK, (void *)spin, pthread_spin, pthread_spin_trylock, pthread_spin_lock);
	return tried(&lock);
}

/* ---- condition variables: in a replay nobody waits really, so nobody is woken either */

struct wait {
	pthread_cond_t *condition;
	pthread_mutex_t *mutex;
	const struct timespec *until;
	const clockid_t *clock;
};

/* Since glibc 2.25 a condition variable says its clock there. */
static clockid_t clock_of(const pthread_cond_t *condition)
{
	return condition->__data.__wrefs & 2 ? CLOCK_MONOTONIC : CLOCK_REALTIME;
}

static int wait_really(const struct wait *wait)
{
	struct timespec shifted;
	if (wait->clock != NULL)
		return REAL(pthread_cond_clockwait)(wait->condition, wait->mutex, *wait->clock, ft_deadline(*wait->clock, wait->until, &shifted));
	if (wait->until != NULL)
		return REAL(pthread_cond_timedwait)(wait->condition, wait->mutex, ft_deadline(clock_of(wait->condition), wait->until, &shifted));
	return REAL(pthread_cond_wait)(wait->condition, wait->mutex);
}

/* The mutex is free. -1: the log has ended while the thread waited. */
static int wait_again(const struct wait *wait)
{
	const struct log_event *e = ft_take(LOG_WAIT_END, FT_ANY);
	if (e == NULL)
		return -1;
	if (!ft_object_is(wait->mutex, e->record.object))
		wrong_object(e, wait->mutex);
	int result = e->sync.result;
	struct lock lock = LOCK(LOG_LOCK, wait->mutex, pthread_mutex, pthread_mutex_trylock, pthread_mutex_lock);
	acquire_in_turn(&lock);
	atomic_store(&ft_objects[e->record.object].owner, ft_me->lane + 1);
	ft_done(e);
	ft_solo_replay_begin(ft_me, true);
	return result;
}

static int waited(const struct wait *wait)
{
	enum log_mode mode = ft_enter();
	if (mode == LOG_MODE_LIVE)
		return wait_really(wait);
	if (mode == LOG_MODE_RECORD) {
		atomic_store(&ft_me->condition, wait->condition);
		ft_real_begin();
		atomic_store(&ft_me->deaf, true);
		int result = wait_really(wait);
		atomic_store(&ft_me->deaf, false);
		ft_real_end();
		atomic_store(&ft_me->condition, NULL);
		uint32_t id = ft_object_of(wait->mutex);
		if (ft_put_after(atomic_load(&ft_objects[id].owner)) && ft_put_sync(LOG_WAIT_END, id, id, result)) {
			atomic_store(&ft_objects[id].owner, ft_me->lane + 1);
			ft_solo_after_wait(ft_me, result == ETIMEDOUT);
			return result;
		}
	}
	REAL(pthread_mutex_unlock)(wait->mutex);
	int result = wait_again(wait);
	if (result >= 0)
		return result;
	/* Waking for no reason is allowed, and the application looks again. Recording goes on with this acquisition. */
	struct lock lock = LOCK(LOG_LOCK, wait->mutex, pthread_mutex, pthread_mutex_trylock, pthread_mutex_lock);
	return locked(&lock);
}

FT_PUBLIC int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
	struct wait wait = {condition, mutex, NULL, NULL};
	return IS_RECORDED ? waited(&wait) : wait_really(&wait);
}

FT_PUBLIC int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until)
{
	struct wait wait = {condition, mutex, until, NULL};
	return IS_RECORDED ? waited(&wait) : wait_really(&wait);
}

FT_PUBLIC int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                                     const struct timespec *until)
{
	struct wait wait = {condition, mutex, until, &clock};
	return IS_RECORDED ? waited(&wait) : wait_really(&wait);
}
