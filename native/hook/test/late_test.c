/* What of two readings counts as the same, and what does not. */
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

#include "hook/diag.h"
#include "hook/witness.h"
#include "test/check.h"

static const char stat_before[] =
	"3 (redis (x) y) S 1 3 3 0 -1 4194560 1783 0 1 0 12 70 0 0 20 0 5 0 2617210 62283776 3074 18446744073709551615 1 2 3 0 0 0 0 12289 17642 0 "
	"0 0 17 0 0 0 0 0 0 11 12 13 14 15 16 17 0\n";

TEST(a_stat_of_a_stopped_task_is_that_of_a_running_one)
{
	CHECK(witness_same_stat(stat_before, stat_before));
	CHECK(witness_same_stat(stat_before,
				"3 (redis (x) y) t 1 3 3 0 -1 4194304 1799 0 1 0 13 71 0 0 20 0 5 0 2617210 62283999 3075 18446744073709551615 1 2 3 "
				"77 78 0 2147221231 12289 17642 9 0 0 17 1 0 0 4 5 6 11 12 13 14 15 16 17 5\n"));
}

TEST(a_stat_with_another_name_start_or_layout_is_another)
{
	static const struct {
		const char *from, *to;
	} changes[] = {
		{ "y) S", "z) S" }, { ") S 1 3", ") S 2 3" }, { "2617210", "2617211" }, { " 11 12", " 11 99" }, { " 5 0 2617210", " 6 0 2617210" },
		{ " 16 17 0\n", " 16 18 0\n" }, { " 17 0\n", "\n" },
	};
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		char after[sizeof stat_before + 16];
		const char *at = strstr(stat_before, changes[i].from);
		size_t head = (size_t)(at - stat_before);
		memcpy(after, stat_before, head);
		strcpy(after + head, changes[i].to);
		strcat(after, at + strlen(changes[i].from));
		CHECK(!witness_same_stat(stat_before, after));
	}
	CHECK(!witness_same_stat(stat_before, ""));
	CHECK(!witness_same_stat("", ""));
}

#define STATUS(pid, filters, pending) \
	"Name:\tx\nTgid:\t3\nPPid:\t" pid "\nNSpid:\t3\nSigPnd:\t" pending "\nShdPnd:\t0000000000000000\nSeccomp:\t2\nSeccomp_filters:\t" filters "\n"

TEST(a_status_tells_of_parents_filters_and_pending_stops)
{
	const char *before = STATUS("1", "1", "0000000000000000");
	CHECK(witness_same_status(before, "State:\tt\n" STATUS("1", "1", "0000000000000000")));
	CHECK(witness_same_status(before, STATUS("1", "1", "0000000000000400")));
	CHECK(!witness_same_status(before, STATUS("2", "1", "0000000000000000")));
	CHECK(!witness_same_status(before, STATUS("1", "2", "0000000000000000")));
	CHECK(!witness_same_status(before, STATUS("1", "1", "0000000000040000"))); /* SIGSTOP */
	CHECK(!witness_same_status(before, ""));
}

struct reply {
	struct nlmsghdr head;
	struct inet_diag_msg socket;
};

static struct reply reply_of(unsigned char state, unsigned short peer)
{
	struct reply reply;
	memset(&reply, 0, sizeof reply);
	reply.head.nlmsg_len = sizeof reply;
	reply.head.nlmsg_type = 20; /* SOCK_DIAG_BY_FAMILY */
	reply.socket.idiag_state = state;
	reply.socket.id.idiag_dport = peer;
	return reply;
}

static bool same(struct reply a, struct reply b, int family)
{
	size_t x = diag_normalize(family, (unsigned char *)&a, sizeof a), y = diag_normalize(family, (unsigned char *)&b, sizeof b);
	return x == sizeof a && x == y && memcmp(&a, &b, x) == 0;
}

TEST(a_connection_may_have_moved_data_but_not_its_state)
{
	struct reply before = reply_of(1, 4711), after = before;
	after.socket.idiag_timer = 1;
	after.socket.idiag_expires = 200;
	after.socket.idiag_wqueue = 5000;
	after.socket.idiag_rqueue = 17;
	CHECK(same(before, after, AF_INET));
	CHECK(same(before, after, AF_INET6));
	CHECK(!same(before, after, AF_UNIX));
	after.socket.idiag_state = 8; /* CLOSE_WAIT */
	CHECK(!same(before, after, AF_INET));
	after = before;
	after.socket.idiag_inode = 99;
	CHECK(!same(before, after, AF_INET));
}

TEST(who_waits_to_be_accepted_counts)
{
	struct reply before = reply_of(10, 0), after = before;
	after.socket.idiag_rqueue = 1;
	CHECK(!same(before, after, AF_INET));
}

TEST(hostile_replies_end_the_reading)
{
	unsigned char bytes[64];
	for (unsigned length = 0; length < 40; length++) {
		memset(bytes, 0, sizeof bytes);
		memcpy(bytes, &length, sizeof length);
		CHECK(diag_normalize(AF_INET, bytes, 20) <= 20);
		CHECK(diag_normalize(AF_INET, bytes, 15) <= 15);
	}
}

int main(void)
{
	RUN(a_stat_of_a_stopped_task_is_that_of_a_running_one);
	RUN(a_stat_with_another_name_start_or_layout_is_another);
	RUN(a_status_tells_of_parents_filters_and_pending_stops);
	RUN(a_connection_may_have_moved_data_but_not_its_state);
	RUN(who_waits_to_be_accepted_counts);
	RUN(hostile_replies_end_the_reading);
	return check_report();
}
