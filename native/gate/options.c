#include "gate/options.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gate/hold.h"
#include "line/line.h"

enum { OPT_PAIR = 1, OPT_CONTROL, OPT_NETNS_PID, OPT_CONTAINER_IF, OPT_MAC, OPT_MTU, OPT_UPLINK, OPT_LAN_IF,
       OPT_KEY_FILE, OPT_LOCAL, OPT_PEER, OPT_HEARTBEAT_MS, OPT_MISS_LIMIT, OPT_LEASE_MS, OPT_HELD, OPT_QUEUED,
       OPT_GENERATION, OPT_LOG, OPT_SHIP_LOCAL, OPT_SHIP_PEER, OPT_SHIP_PLAIN, OPT_SHIP_QUEUE, OPT_SPIN };

static const struct option names[] = {
	{"pair", required_argument, NULL, OPT_PAIR},
	{"control", required_argument, NULL, OPT_CONTROL},
	{"netns-pid", required_argument, NULL, OPT_NETNS_PID},
	{"container-if", required_argument, NULL, OPT_CONTAINER_IF},
	{"mac", required_argument, NULL, OPT_MAC},
	{"mtu", required_argument, NULL, OPT_MTU},
	{"uplink", required_argument, NULL, OPT_UPLINK},
	{"lan-if", required_argument, NULL, OPT_LAN_IF},
	{"key-file", required_argument, NULL, OPT_KEY_FILE},
	{"heartbeat-local", required_argument, NULL, OPT_LOCAL},
	{"heartbeat-peer", required_argument, NULL, OPT_PEER},
	{"heartbeat-ms", required_argument, NULL, OPT_HEARTBEAT_MS},
	{"miss-limit", required_argument, NULL, OPT_MISS_LIMIT},
	{"lease-ms", required_argument, NULL, OPT_LEASE_MS},
	{"held-bytes-max", required_argument, NULL, OPT_HELD},
	{"queued-bytes-max", required_argument, NULL, OPT_QUEUED},
	{"generation", required_argument, NULL, OPT_GENERATION},
	{"log", required_argument, NULL, OPT_LOG},
	{"ship-local", required_argument, NULL, OPT_SHIP_LOCAL},
	{"ship-peer", required_argument, NULL, OPT_SHIP_PEER},
	{"ship-plain", no_argument, NULL, OPT_SHIP_PLAIN},
	{"ship-queue-bytes", required_argument, NULL, OPT_SHIP_QUEUE},
	{"spin-us", required_argument, NULL, OPT_SPIN},
	{NULL, 0, NULL, 0},
};

static int complain(char *why, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int complain(char *why, size_t size, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(why, size, format, arguments);
	va_end(arguments);
	return -1;
}

static int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	return line_parse_u64(text, out) != 0 || *out < min || *out > max ? -1 : 0;
}

static int parse_name(const char *text, char out[IFNAMSIZ])
{
	if (*text == 0 || strlen(text) >= IFNAMSIZ || strchr(text, '/') != NULL || strcmp(text, ".") == 0 ||
	    strcmp(text, "..") == 0)
		return -1;
	for (const char *at = text; *at != 0; at++)
		if (isspace((unsigned char)*at) || *at == '%' || *at == ':')
			return -1;
	strcpy(out, text);
	return 0;
}

static int parse_text(const char *text, char *out, size_t size)
{
	if (*text == 0 || strlen(text) >= size)
		return -1;
	strcpy(out, text);
	return 0;
}

static int parse_address(const char *text, struct sockaddr_in *out)
{
	char host[INET_ADDRSTRLEN];
	const char *colon = strrchr(text, ':');
	uint64_t port;
	if (colon == NULL || (size_t)(colon - text) >= sizeof host || parse_number(colon + 1, 1, 65535, &port) != 0)
		return -1;
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = 0;
	memset(out, 0, sizeof *out);
	out->sin_family = AF_INET;
	out->sin_port = htons((uint16_t)port);
	return inet_pton(AF_INET, host, &out->sin_addr) == 1 ? 0 : -1;
}

/* 16 bytes as they are, or 32 hexadecimal digits on a line. */
static int parse_key(const char *path, unsigned char key[SIPHASH_KEY_BYTES])
{
	char bytes[2 * SIPHASH_KEY_BYTES + 2] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t length = read(fd, bytes, sizeof bytes - 1);
	close(fd);
	errno = EINVAL;
	if (length == SIPHASH_KEY_BYTES) {
		memcpy(key, bytes, SIPHASH_KEY_BYTES);
		return 0;
	}
	if (length == 2 * SIPHASH_KEY_BYTES + 1 && bytes[2 * SIPHASH_KEY_BYTES] == '\n')
		length--;
	if (length != 2 * SIPHASH_KEY_BYTES)
		return -1;
	for (size_t i = 0; i < SIPHASH_KEY_BYTES; i++) {
		unsigned value;
		if (!isxdigit((unsigned char)bytes[2 * i]) || !isxdigit((unsigned char)bytes[2 * i + 1]) ||
		    sscanf(bytes + 2 * i, "%2x", &value) != 1)
			return -1;
		key[i] = (unsigned char)value;
	}
	return 0;
}

/* 0 when the value is good. */
static int take(int option, const char *value, struct options *out, bool *local, bool *peer)
{
	uint64_t number = 0;
	int result;
	switch (option) {
	case OPT_PAIR:
		return parse_text(value, out->pair, sizeof out->pair);
	case OPT_CONTROL:
		return parse_text(value, out->control, sizeof out->control);
	case OPT_NETNS_PID:
		result = parse_number(value, 0, 1u << 30, &number);
		out->netns_pid = (pid_t)number;
		return result;
	case OPT_CONTAINER_IF:
		return parse_name(value, out->container_if);
	case OPT_MAC:
		return mac_parse(value, out->mac);
	case OPT_MTU:
		result = parse_number(value, 576, 65521, &number);
		out->mtu = (unsigned)number;
		return result;
	case OPT_UPLINK:
		return parse_name(value, out->uplink);
	case OPT_LAN_IF:
		return parse_name(value, out->lan_if);
	case OPT_KEY_FILE:
		return parse_key(value, out->key);
	case OPT_LOCAL:
		*local = true;
		return parse_address(value, &out->heartbeat_local);
	case OPT_PEER:
		*peer = true;
		return parse_address(value, &out->heartbeat_peer);
	case OPT_HEARTBEAT_MS:
		result = parse_number(value, 1, 60000, &number);
		out->heartbeat_ns = number * 1000000;
		return result;
	case OPT_MISS_LIMIT:
		result = parse_number(value, 1, 1000, &number);
		out->miss_limit = (unsigned)number;
		return result;
	case OPT_LEASE_MS:
		result = parse_number(value, 1, 60000, &number);
		out->lease_ns = number * 1000000;
		return result;
	case OPT_HELD:
		return parse_number(value, 4 * FRAME_BYTES_MAX, 1ull << 36, &out->held_bytes_max);
	case OPT_QUEUED:
		return parse_number(value, 4 * FRAME_BYTES_MAX, 1ull << 36, &out->queued_bytes_max);
	case OPT_GENERATION:
		return parse_number(value, 0, UINT64_MAX, &out->generation);
	case OPT_LOG:
		out->log = value;
		return *value == 0 ? -1 : 0;
	case OPT_SHIP_LOCAL:
		return parse_address(value, &out->ship_local);
	case OPT_SHIP_PEER:
		return parse_address(value, &out->ship_peer);
	case OPT_SHIP_PLAIN:
		out->ship_plain = true;
		return 0;
	case OPT_SHIP_QUEUE:
		return parse_number(value, 1u << 20, 1ull << 32, &out->ship_queue_bytes);
	case OPT_SPIN:
		result = parse_number(value, 0, 1000, &number);
		out->spin_ns = number * 1000;
		return result;
	default:
		return -1;
	}
}

int options_parse(int argc, char **argv, struct options *out, char *why, size_t why_size)
{
	bool local = false, peer = false, key = false;
	int option, which = 0;
	memset(out, 0, sizeof *out);
	out->mtu = 1500;
	out->heartbeat_ns = 30000000;
	out->miss_limit = 3;
	out->lease_ns = 60000000;
	out->held_bytes_max = 64u << 20;
	out->queued_bytes_max = 16u << 20;
	out->ship_queue_bytes = 16u << 20;
	out->spin_ns = 60000;
	strcpy(out->container_if, "eth0");
	opterr = 0;
	optind = 1;
	while ((option = getopt_long(argc, argv, "", names, &which)) != -1) {
		if (option == '?')
			return complain(why, why_size, "unknown option, or its value is missing: %s", argv[optind - 1]);
		if (take(option, optarg, out, &local, &peer) != 0)
			return complain(why, why_size, "bad value for --%s: %s", names[which].name, optarg);
		key = key || option == OPT_KEY_FILE;
	}
	if (optind != argc)
		return complain(why, why_size, "not an option: %s", argv[optind]);
	if (out->pair[0] == 0 || out->control[0] == 0 || out->uplink[0] == 0 || out->lan_if[0] == 0)
		return complain(why, why_size, "--pair, --control, --uplink and --lan-if are needed");
	static const unsigned char no_mac[MAC_BYTES];
	if (memcmp(out->mac, no_mac, MAC_BYTES) == 0)
		return complain(why, why_size, "--mac is needed");
	if (local != peer || (local && !key))
		return complain(why, why_size, "--heartbeat-local, --heartbeat-peer and --key-file go together");
	out->heartbeat = local;
	bool ship_local = out->ship_local.sin_port != 0, ship_peer = out->ship_peer.sin_port != 0;
	if (ship_local != ship_peer || (ship_local && !key) || (out->ship_plain && !ship_local))
		return complain(why, why_size, "--ship-local, --ship-peer and --key-file go together");
	out->ship = ship_local;
	return 0;
}
