/*
 * Which system calls of a recorded application does the recorder not see?
 *
 *   recorder-leaks --log LOG --library LIBFTREC --explained LIST [--all] [--children] PROGRAM ARGUMENT…
 *
 * Runs the program recorded, stops it at every system call, and walks up its stack until it has left the C library. If that
 * is in libftrec.so, the recorder made the call, or let it through knowingly; if not, the call has passed it by. Each such
 * kind (call, the C library's function through which it was made, module that called that) has to stand in LIST with
 * a reason. The kernel's page of fast calls (vDSO) is hidden from the program, so that reading a clock is a call
 * too. Processes that it forks are followed with --children, for programs whose children are recorded.
 *
 * Prints the kinds with their numbers. Ends with 0: all explained; 1: not all; 2: it could not be found out, or nothing was
 * recorded. SIGTERM and SIGINT go to the program. Only on x86-64.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log/file.h"
#include "recorder/test/leaks/names.h"
#include "recorder/test/leaks/unwind.h"

enum { KINDS_MAX = 1024, RULES_MAX = 256, FRAMES_MAX = 24, CHAIN_BYTES = 512 };

struct kind {
	long call;
	char through[64], by[64];
	char chain[CHAIN_BYTES]; /* of the first */
	uint64_t count;
	const struct rule_of_list *explained;
};
struct rule_of_list {
	char call[256], through[512], by[64], reason[256];
	bool used;
};
static struct kind kinds[KINDS_MAX];
static unsigned kind_count;
static struct rule_of_list rules[RULES_MAX];
static unsigned rule_count;
static uint64_t seen, by_recorder;
static struct log_file event_log;
static pid_t main_pid;

static const char *call_name(long number)
{
	static char text[24];
	for (unsigned i = 0; i < sizeof call_names / sizeof *call_names; i++)
		if (call_names[i].number == number)
			return call_names[i].name;
	snprintf(text, sizeof text, "#%ld", number);
	return text;
}

/* ---- the list */

static bool any_of(const char *patterns, const char *text)
{
	char copy[sizeof rules->through];
	snprintf(copy, sizeof copy, "%s", patterns);
	for (char *rest = copy, *one; (one = strsep(&rest, ",")) != NULL;)
		if (fnmatch(one, text, 0) == 0)
			return true;
	return false;
}

static int read_rules(const char *path)
{
	char line[1024];
	FILE *file = fopen(path, "r");
	if (file == NULL)
		return -1;
	for (int number = 1; fgets(line, sizeof line, file) != NULL; number++) {
		struct rule_of_list *r = &rules[rule_count];
		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (rule_count == RULES_MAX || sscanf(line, "%255s %511s %63s %255[^\n]", r->call, r->through, r->by, r->reason) != 4) {
			fprintf(stderr, "%s:%d: not `call through by reason`\n", path, number);
			fclose(file);
			return -1;
		}
		rule_count++;
	}
	fclose(file);
	return 0;
}

static const struct rule_of_list *explain(const struct kind *kind)
{
	for (unsigned i = 0; i < rule_count; i++)
		if (any_of(rules[i].call, call_name(kind->call)) && any_of(rules[i].through, kind->through) && any_of(rules[i].by, kind->by)) {
			rules[i].used = true;
			return &rules[i];
		}
	return NULL;
}

/* ---- one call */

static bool read_code(const struct module *m, uint64_t address, uint8_t *out, size_t bytes)
{
	size_t left;
	const uint8_t *at = module_bytes(m, address - m->base, &left);
	if (at == NULL || left < bytes)
		return false;
	memcpy(out, at, bytes);
	return true;
}

/* The function that was called, if the call before this return address says so: through its table of addresses. */
static uint64_t called(pid_t tid, const struct module *m, uint64_t back)
{
	uint8_t code[16];
	int32_t offset;
	uint64_t target = 0;
	if (!read_code(m, back - 6, code, 6))
		return 0;
	memcpy(&offset, code + 2, 4);
	if (code[0] == 0xff && code[1] == 0x15) /* call *offset(%rip) */
		return peek_word(tid, back + (uint64_t)(int64_t)offset, &target) ? target : 0;
	if (code[1] != 0xe8) /* call offset */
		return 0;
	uint64_t stub = back + (uint64_t)(int64_t)offset;
	if (!read_code(m, stub, code, sizeof code))
		return stub;
	for (uint64_t i = 0; i < 8; i++)
		if (code[i] == 0xff && code[i + 1] == 0x25) { /* jmp *offset(%rip), after an endbr64 or a prefix */
			memcpy(&offset, code + i + 2, 4);
			return peek_word(tid, stub + i + 6 + (uint64_t)(int64_t)offset, &target) ? target : 0;
		}
	return stub;
}

static void describe(char *chain, size_t room, const struct module *m, uint64_t pc)
{
	const char *name = m != NULL ? module_symbol(m, pc - 1, false) : NULL;
	size_t used = strlen(chain);
	if (m == NULL)
		snprintf(chain + used, room - used, " < ?%" PRIx64, pc);
	else
		snprintf(chain + used, room - used, " < %s+%" PRIx64 "%s%s%s", m->name, pc - m->base, name != NULL ? "(" : "",
		         name != NULL ? name : "", name != NULL ? ")" : "");
}

/* False: the recorder made it. */
static bool attribute(pid_t tid, const struct user_regs_struct *regs, struct kind *out)
{
	struct frame frame = {.registers = {[0] = regs->rax, [1] = regs->rdx, [2] = regs->rcx, [3] = regs->rbx, [4] = regs->rsi,
		[5] = regs->rdi, [6] = regs->rbp, [7] = regs->rsp, [8] = regs->r8, [9] = regs->r9, [10] = regs->r10, [11] = regs->r11,
		[12] = regs->r12, [13] = regs->r13, [14] = regs->r14, [15] = regs->r15, [16] = regs->rip}};
	const struct module *inner = NULL;
	uint64_t inner_pc = 0;
	*out = (struct kind){.call = (long)regs->orig_rax};
	for (int i = 0; i < FRAMES_MAX; i++) {
		uint64_t pc = frame.registers[UNWIND_RIP];
		const struct module *m = module_of(tid, pc);
		if (m != NULL && m->class == MODULE_RECORDER)
			return false;
		describe(out->chain, sizeof out->chain, m, pc);
		if (m == NULL || m->class == MODULE_OTHER) {
			snprintf(out->by, sizeof out->by, "%s", m != NULL ? m->name : "?");
			const struct module *target = NULL;
			uint64_t entry = inner != NULL && m != NULL ? called(tid, m, pc) : 0;
			target = entry != 0 ? module_of(tid, entry) : NULL;
			if (target != NULL && target->class == MODULE_RECORDER)
				return false; /* it let the call through, and ended with a jump */
			/* A function of its own, which ended with a jump. */
			if (target == m)
				target = NULL;
			const char *name = target != NULL ? module_symbol(target, entry, true) : NULL;
			/* Called by a pointer, or through another function that ended with a jump. */
			if (name == NULL && inner != NULL)
				name = module_symbol(inner, inner_pc - 1, false);
			snprintf(out->through, sizeof out->through, "%s", inner == NULL ? "-" : name != NULL ? name : "?");
			return true;
		}
		inner = m;
		inner_pc = pc;
		if (!unwind_one(tid, m, &frame))
			break;
	}
	/* The C library on its own: a thread's beginning and end. */
	snprintf(out->through, sizeof out->through, "thread");
	snprintf(out->by, sizeof out->by, "-");
	return true;
}

static void count(const struct kind *kind)
{
	for (unsigned i = 0; i < kind_count; i++)
		if (kinds[i].call == kind->call && strcmp(kinds[i].through, kind->through) == 0 && strcmp(kinds[i].by, kind->by) == 0) {
			kinds[i].count++;
			return;
		}
	if (kind_count == KINDS_MAX)
		return;
	kinds[kind_count] = *kind;
	kinds[kind_count].count = 1;
	kinds[kind_count].explained = explain(kind);
	kind_count++;
}

static bool is_recording(const char *path)
{
	if (event_log.header == NULL && log_map(path, false, &event_log) != 0)
		return false;
	return atomic_load(&event_log.lanes[0].state) == LOG_LANE_ACTIVE;
}

/* ---- the program */

/* Without the vDSO the C library asks the kernel for the time. */
static void hide_fast_calls(pid_t tid)
{
	struct user_regs_struct regs;
	uint64_t at, word, type;
	if (ptrace(PTRACE_GETREGS, tid, 0, &regs) != 0 || !peek_word(tid, regs.rsp, &word))
		return;
	at = regs.rsp + 8 * (word + 2); /* argc, the arguments and their end */
	while (peek_word(tid, at, &word) && word != 0)
		at += 8;
	for (at += 8; peek_word(tid, at, &type) && type != AT_NULL; at += 16)
		if (type == AT_SYSINFO_EHDR)
			ptrace(PTRACE_POKEDATA, tid, at, (void *)(uintptr_t)AT_IGNORE);
}

static bool is_entry(pid_t tid)
{
	struct __ptrace_syscall_info info;
	return ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY;
}

static void at_call(pid_t tid, const char *log)
{
	struct user_regs_struct regs;
	struct kind kind;
	if (!is_entry(tid) || !is_recording(log) || ptrace(PTRACE_GETREGS, tid, 0, &regs) != 0)
		return;
	seen++;
	if (attribute(tid, &regs, &kind))
		count(&kind);
	else
		by_recorder++;
}

static void pass_on(int number)
{
	if (main_pid > 0)
		kill(main_pid, number);
}

static void follow(const char *log)
{
	int status;
	pid_t tid;
	while ((tid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		if (tid <= 0)
			continue;
		if (WIFEXITED(status) || WIFSIGNALED(status))
			continue;
		int number = WSTOPSIG(status), event = status >> 16, deliver = 0;
		if (number == (SIGTRAP | 0x80)) {
			at_call(tid, log);
		} else if (event == PTRACE_EVENT_EXEC) {
			hide_fast_calls(tid);
		} else if (event == 0 && number != SIGSTOP && number != SIGTRAP) {
			deliver = number;
		}
		ptrace(PTRACE_SYSCALL, tid, 0, (void *)(uintptr_t)deliver);
	}
}

static int start(char **command, const char *log, const char *library, bool children)
{
	main_pid = fork();
	if (main_pid == 0) {
		setenv("FTREC_LOG", log, 1);
		setenv("LD_PRELOAD", library, 1);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		execvp(command[0], command);
		_exit(127);
	}
	int status;
	if (main_pid < 0 || waitpid(main_pid, &status, 0) != main_pid || !WIFSTOPPED(status))
		return -1;
	long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
	if (children)
		options |= PTRACE_O_TRACEFORK;
	if (ptrace(PTRACE_SETOPTIONS, main_pid, 0, (void *)options) != 0)
		return -1;
	return ptrace(PTRACE_SYSCALL, main_pid, 0, 0) == 0 ? 0 : -1;
}

static int report(bool all)
{
	unsigned unexplained = 0;
	for (unsigned i = 0; i < kind_count; i++) {
		const struct kind *k = &kinds[i];
		unexplained += k->explained == NULL;
		if (k->explained != NULL && !all)
			continue;
		printf("%s %8" PRIu64 "  %s through %s by %s%s%s\n", k->explained != NULL ? "   " : "NOT", k->count, call_name(k->call),
		       k->through, k->by, k->explained != NULL ? ": " : "", k->explained != NULL ? k->explained->reason : "");
		if (k->explained == NULL || getenv("CHAINS") != NULL)
			printf("               %s\n", k->chain);
	}
	printf("%" PRIu64 " system calls, %" PRIu64 " of them the recorder's own; %u kinds passed it by, %u not explained\n", seen, by_recorder,
	       kind_count, unexplained);
	if (by_recorder == 0) {
		fprintf(stderr, "recorder-leaks: nothing was recorded\n");
		return 2;
	}
	return unexplained != 0;
}

int main(int argc, char **argv)
{
	const char *log = NULL, *library = NULL, *list = NULL;
	bool all = false, children = false;
	int i = 1;
	for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
		if (strcmp(argv[i], "--all") == 0)
			all = true;
		else if (strcmp(argv[i], "--children") == 0)
			children = true;
		else if (i + 1 < argc && strcmp(argv[i], "--log") == 0)
			log = argv[++i];
		else if (i + 1 < argc && strcmp(argv[i], "--library") == 0)
			library = argv[++i];
		else if (i + 1 < argc && strcmp(argv[i], "--explained") == 0)
			list = argv[++i];
	}
	if (i == argc || log == NULL || library == NULL || list == NULL) {
		fprintf(stderr, "usage: recorder-leaks --log LOG --library LIBFTREC --explained LIST [--all] [--children] PROGRAM ARGUMENT…\n");
		return 2;
	}
	if (read_rules(list) != 0)
		return 2;
	struct sigaction action = {.sa_handler = pass_on};
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	if (start(argv + i, log, library, children) != 0) {
		perror("recorder-leaks: the program does not start");
		return 2;
	}
	follow(log);
	return report(all);
}
