/*
 * The processes of an application. A child that is forked by a process which has one thread and no client is recorded: in a
 * lane that its parent chose, and wrote into its FORK. Others work for themselves (a snapshot writer); if one of those
 * serves clients after all, the recording is lost, by name.
 *
 * Invariants:
 *  - `ft_shared` and the last ids of `ft_objects` are the process's own until its first recorded child, and one piece of
 *    shared memory for all of them from then on: at the same addresses, inherited, and saved by a checkpoint.
 *  - Whoever makes them shared has one thread, blocks its signals and holds the helper: nobody else writes to them.
 *  - A child does nothing before its parent's FORK is in the log: what it does must not be below a cut without it.
 *  - A lane's fields are written by its own process only; another one may say that it has been forked, or that it is gone.
 */
#include "recorder/connections.h"
#include "recorder/real.h"

#include <sys/mman.h>
#include <sys/syscall.h>

struct ft_shared ft_shared;
uint32_t ft_here;
bool ft_is_outside;

void ft_processes_start(void)
{
	struct ft_process *p = &ft_shared.processes[0];
	atomic_store(&p->pid, (int32_t)ft_syscall(SYS_getpid));
	atomic_store(&p->told, atomic_load(&p->pid));
	atomic_store(&p->state, FT_IS_PROCESS);
	atomic_store(&ft_shared.last_object, FT_OWN_OBJECTS - 1);
}

static struct ft_process *process_of(uint32_t lane) { return &ft_shared.processes[lane]; }

static bool is_there(uint32_t lane)
{
	uint32_t state = atomic_load(&process_of(lane)->state);
	return state == FT_IS_PROCESS || state == FT_IS_FORKED;
}

bool ft_process_is_alone(void)
{
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++)
		if (i != ft_here && is_there(i))
			return false;
	return true;
}

uint32_t ft_processes_there(void)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++)
		count += is_there(i);
	return count;
}

uint32_t ft_process_told(pid_t told)
{
	for (uint32_t i = 0; told > 0 && i < atomic_load(&ft_thread_count); i++)
		if (is_there(i) && atomic_load(&process_of(i)->told) == told)
			return i;
	return FT_NO_LANE;
}

pid_t ft_pid_told(pid_t real)
{
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++)
		if (is_there(i) && atomic_load(&process_of(i)->pid) == real)
			return atomic_load(&process_of(i)->told);
	return real;
}

bool ft_has_other_threads(void)
{
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++)
		if (&ft_threads[i] != ft_me && ft_is_here(&ft_threads[i]) && atomic_load(&ft_threads[i].activity) != FT_GONE)
			return true;
	return false;
}

/* ---- what both inherit */

static bool is_client(const struct ft_descriptor *d)
{
	return d->kind == FT_SOCKET && (d->domain == AF_INET || d->domain == AF_INET6);
}

bool ft_may_record_child(void)
{
	if (ft_has_other_threads())
		return false;
	for (int fd = 0; fd <= ft_descriptor_highest; fd++)
		if (is_client(&ft_descriptors[fd]))
			return false;
	return true;
}

static bool is_own_channel(int fd)
{
	uint8_t kind = ft_descriptors[fd].kind;
	return (kind == FT_CHANNEL || kind == FT_LISTENER) && ft_descriptors[fd].channel < FT_OWN_OBJECTS;
}

/* A listener has no id before. */
static bool is_first_of_its_channel(int fd)
{
	for (int before = 0; before < fd; before++)
		if (is_own_channel(before) && ft_descriptors[fd].channel != 0 &&
		    ft_descriptors[before].channel == ft_descriptors[fd].channel)
			return false;
	return true;
}

uint32_t ft_channels_to_share(void)
{
	uint32_t count = 0;
	for (int fd = 0; fd <= ft_descriptor_highest; fd++)
		count += is_own_channel(fd) && is_first_of_its_channel(fd);
	return count;
}

static void share_channels(uint32_t id)
{
	for (int fd = 0; fd <= ft_descriptor_highest; fd++) {
		uint32_t own = ft_descriptors[fd].channel;
		if (!is_own_channel(fd))
			continue;
		ft_descriptors[fd].channel = id;
		for (int other = fd; own != 0 && other <= ft_descriptor_highest; other++)
			if (is_own_channel(other) && ft_descriptors[other].channel == own)
				ft_descriptors[other].channel = id;
		if (own != 0) {
			atomic_store(&ft_objects[id].version, atomic_load(&ft_objects[own].version));
			ft_backlog_rename(own, id);
		}
		id++;
	}
}

/* ---- the shared memory */

/* Only what was used is copied: the rest is zero, and no page of it has to be saved by a checkpoint. */
static bool share(void *at, size_t bytes, size_t used)
{
	void *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED)
		return false;
	memcpy(room, at, used);
	return mremap(room, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at) != MAP_FAILED;
}

static bool share_all(void)
{
	if (atomic_load(&ft_shared.several))
		return true;
	atomic_store(&ft_shared.several, 1);
	ft_objects_are_shared();
	size_t used = (atomic_load(&ft_shared.last_object) + 1 - FT_OWN_OBJECTS) * sizeof *ft_objects;
	if (share(&ft_shared, sizeof ft_shared, sizeof ft_shared) &&
	    share(&ft_objects[FT_OWN_OBJECTS], FT_SHARED_OBJECTS * sizeof *ft_objects, used))
		return true;
	ft_lost(LOG_LOSS_FORK);
	return false;
}

/* ---- a child */

void ft_child_is_to_come(uint32_t lane, uint32_t first_object)
{
	struct ft_process *p = process_of(lane);
	struct ft_thread *t = &ft_threads[lane];
	uint32_t last = first_object + ft_channels_to_share(), known = atomic_load(&ft_shared.last_object);
	while (known + 1 < last && !atomic_compare_exchange_weak(&ft_shared.last_object, &known, last - 1))
		;
	share_channels(first_object);
	memset(p->sent, 0, sizeof p->sent);
	memset(p->taken, 0, sizeof p->taken);
	atomic_store(&p->pid, 0);
	atomic_store(&p->told, 0);
	atomic_store(&t->signals, 0);
	atomic_store(&t->process, lane);
	atomic_store(&p->state, FT_IS_FORKED);
}

static bool is_in_the_log(const struct ft_thread *t, uint64_t lane)
{
	(void)t;
	return atomic_load(&process_of((uint32_t)lane)->state) == FT_IS_PROCESS;
}

static void await_record(struct ft_thread *t, uint32_t lane, pid_t parent)
{
	struct timespec nap = {0, 20000};
	while (!is_in_the_log(t, lane)) {
		if (ft_mode_word() == LOG_MODE_REPLAY) {
			ft_wait_until(t, is_in_the_log, lane);
			continue;
		}
		ft_answer();
		if (ft_syscall(SYS_getppid) != parent)
			ft_syscall(SYS_exit_group, 1L); /* nobody knows of this child */
		ft_syscall(SYS_nanosleep, &nap, NULL);
	}
}

static void begin_child(uint32_t lane, pid_t parent)
{
	struct ft_thread *t = &ft_threads[lane];
	ft_me = NULL;
	ft_here = lane;
	ft_answered = atomic_load(&ft_shared.question);
	/* The table of descriptors is another one from here on. */
	atomic_store(&ft_objects[LOG_OBJECT_DESCRIPTORS].version, 0);
	ft_children_forget();
	ft_backlogs_forget();
	ft_connections_forked();
	atomic_store(&process_of(lane)->pid, (int32_t)ft_syscall(SYS_getpid));
	await_record(t, lane, parent);
	if (!ft_helper_starts())
		ft_lost(LOG_LOSS_FORK);
	t->solo = atomic_load(&ft_solo_begun);
	ft_lane_begin(t, lane);
}

pid_t ft_fork(uint32_t lane)
{
	sigset_t all, before;
	sigfillset(&all);
	REAL(pthread_sigmask)(SIG_BLOCK, &all, &before);
	ft_helper_hold();
	if (lane != FT_NO_LANE && !share_all())
		lane = FT_NO_LANE;
	pid_t parent = (pid_t)ft_syscall(SYS_getpid), child = REAL(fork)();
	int error = errno;
	ft_helper_let_go();
	if (child == 0 && lane == FT_NO_LANE) {
		ft_is_outside = ft_me != NULL;
		ft_me = NULL;
	} else if (child == 0) {
		begin_child(lane, parent);
	}
	REAL(pthread_sigmask)(SIG_SETMASK, &before, NULL);
	errno = error;
	return child;
}

void ft_child_has_come(uint32_t lane, pid_t told, pid_t real)
{
	struct ft_process *p = process_of(lane);
	atomic_store(&p->told, told);
	if (real > 0)
		atomic_store(&p->pid, real);
	atomic_store(&p->state, real > 0 ? FT_IS_PROCESS : FT_NO_PROCESS);
	if (real <= 0)
		ft_lane_give_back(lane);
}

/* ---- its end */

void ft_process_ends(void)
{
	bool replayed = ft_me != NULL && ft_thread_ends(ft_me);
	if (ft_is_outside)
		return;
	if (replayed && ft_process_is_alone())
		ft_replay_exits();
}

void ft_process_is_gone(uint32_t process, pid_t told)
{
	/* The lane may be another one's by now: it is free when its process has ended, not when that was waited for. */
	if (atomic_load(&process_of(process)->told) != told || !is_there(process))
		return;
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++) {
		if (atomic_load(&ft_threads[i].process) != process || atomic_load(&ft_threads[i].activity) == FT_GONE)
			continue;
		if (ft_mode_word() == LOG_MODE_RECORD)
			atomic_store(&ft_log.lanes[i].state, LOG_LANE_ENDED);
		atomic_store(&ft_threads[i].activity, FT_KILLED);
	}
	atomic_store(&process_of(process)->state, FT_NO_PROCESS);
}

void ft_outside_serves(void)
{
	if (ft_mode_word() == LOG_MODE_RECORD)
		ft_lost(LOG_LOSS_FORK);
}

void ft_stop_the_others(int number)
{
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++)
		if (i != ft_here && is_there(i) && atomic_load(&process_of(i)->pid) > 0)
			ft_syscall(SYS_kill, (long)atomic_load(&process_of(i)->pid), (long)number);
}

bool ft_process_is_there(uint32_t process) { return is_there(process); }

bool ft_process_has_read_all(uint32_t process)
{
	for (uint32_t i = 0; i < atomic_load(&ft_thread_count); i++)
		if (atomic_load(&ft_threads[i].process) == process &&
		    *(volatile uint64_t *)&ft_threads[i].position < atomic_load(&ft_log.lanes[i].head))
			return false;
	return true;
}
