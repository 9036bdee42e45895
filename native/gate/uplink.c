/* Watches whether the bridge still has a live way out of this host. */
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "gate/gate.h"

/* A bridge without any port but TAPs is a LAN of its own: up, as far as anyone can tell. */
static bool is_up(const struct links_summary *summary)
{
	return summary->ports == 0 || summary->live > 0;
}

int uplink_open(struct gate *gate)
{
	gate->uplink_index = if_nametoindex(gate->options->uplink);
	if (gate->uplink_index == 0)
		return -1;
	gate->links_fd = links_watch();
	if (gate->links_fd < 0 || links_summarise(gate->uplink_index, &gate->uplink_ports) != 0)
		return -1;
	gate->lan_up = is_up(&gate->uplink_ports);
	return 0;
}

void uplink_changed(struct gate *gate)
{
	struct links_summary summary;
	links_drain(gate->links_fd);
	if (links_summarise(gate->uplink_index, &summary) != 0) {
		fprintf(stderr, "could not list the interfaces: %s\n", strerror(errno));
		return;
	}
	bool up = is_up(&summary);
	gate->uplink_ports = summary;
	if (up == gate->lan_up)
		return;
	gate->lan_up = up;
	event_lan(gate);
}
