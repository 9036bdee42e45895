/*
 *   0  magic "FTHB"     4  version u16, size u16    8  pair hash          16  incarnation
 *  24  seq             32  echo incarnation        40  echo seq           48  sent_ns
 *  56  generation      64  epoch                   72  committed          80  cpu_ns
 *  88  agent u8, lan u8, app u8, mode u8, 4 zero   96  zero              104  tag over all before
 */
#include "gate/heartbeat.h"

#include <string.h>

#include "gate/little_endian.h"

#define VERSION 1u
#define TAG_AT 104u

static const unsigned char magic[4] = {'F', 'T', 'H', 'B'};

void heartbeat_encode(const struct heartbeat *beat, const unsigned char key[SIPHASH_KEY_BYTES],
		      unsigned char out[HEARTBEAT_BYTES])
{
	memset(out, 0, HEARTBEAT_BYTES);
	memcpy(out, magic, sizeof magic);
	out[4] = VERSION;
	out[6] = HEARTBEAT_BYTES;
	put64(out + 8, beat->pair_hash);
	put64(out + 16, beat->incarnation);
	put64(out + 24, beat->seq);
	put64(out + 32, beat->echo_incarnation);
	put64(out + 40, beat->echo_seq);
	put64(out + 48, beat->sent_ns);
	put64(out + 56, beat->generation);
	put64(out + 64, beat->epoch);
	put64(out + 72, beat->committed);
	put64(out + 80, beat->cpu_ns);
	out[88] = beat->agent;
	out[89] = beat->lan;
	out[90] = (unsigned char)beat->app;
	out[91] = (unsigned char)beat->mode;
	put64(out + TAG_AT, siphash(key, out, TAG_AT));
}

int heartbeat_decode(const unsigned char *bytes, size_t length, const unsigned char key[SIPHASH_KEY_BYTES],
		     uint64_t pair_hash, struct heartbeat *out)
{
	if (length != HEARTBEAT_BYTES || memcmp(bytes, magic, sizeof magic) != 0)
		return -1;
	/* The tag first: nothing else of the datagram means anything without it. */
	if (get64(bytes + TAG_AT) != siphash(key, bytes, TAG_AT))
		return -1;
	if (bytes[4] != VERSION || bytes[5] != 0 || bytes[6] != HEARTBEAT_BYTES || bytes[7] != 0)
		return -1;
	if (get64(bytes + 8) != pair_hash)
		return -1;
	if (bytes[88] > 1 || bytes[89] > 1 || bytes[90] > APP_EXITED || bytes[91] > MODE_LOG)
		return -1;
	memset(out, 0, sizeof *out);
	out->pair_hash = pair_hash;
	out->incarnation = get64(bytes + 16);
	out->seq = get64(bytes + 24);
	out->echo_incarnation = get64(bytes + 32);
	out->echo_seq = get64(bytes + 40);
	out->sent_ns = get64(bytes + 48);
	out->generation = get64(bytes + 56);
	out->epoch = get64(bytes + 64);
	out->committed = get64(bytes + 72);
	out->cpu_ns = get64(bytes + 80);
	out->agent = bytes[88] != 0;
	out->lan = bytes[89] != 0;
	out->app = (enum app_state)bytes[90];
	out->mode = (enum mode)bytes[91];
	return out->incarnation == 0 || out->seq == 0 ? -1 : 0;
}

const char *app_name(enum app_state app)
{
	switch (app) {
	case APP_RUNNING:
		return "running";
	case APP_EXITED:
		return "exited";
	case APP_NONE:
		break;
	}
	return "none";
}

const char *mode_name(enum mode mode)
{
	switch (mode) {
	case MODE_HOLD:
		return "hold";
	case MODE_OPEN:
		return "open";
	case MODE_TAKEOVER:
		return "takeover";
	case MODE_LOG:
		return "log";
	case MODE_CLOSED:
		break;
	}
	return "closed";
}
