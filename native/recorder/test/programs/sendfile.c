/*
 * A file is sent, with and without an offset, more at once than a socket holds. What is sent, how much of it was taken and
 * where the file then stands must be the same in a replay.
 */
#include <sys/sendfile.h>

#include "pair.h"

enum { FILE_BYTES = 300000 };
static uint8_t wanted[FILE_BYTES];

static bool receive(uint64_t *at, uint64_t *hash)
{
	uint8_t bytes[8192];
	ssize_t got = recv(there, bytes, sizeof bytes, 0);
	if (got <= 0)
		return got < 0 && (errno == EAGAIN || errno == EINTR);
	for (ssize_t i = 0; i < got; i++)
		*hash = mix(*hash, bytes[i]);
	*at += (uint64_t)got;
	return true;
}

int main(int argc, char **argv)
{
	uint64_t hash = 0;
	char name[64];
	begin(argc, argv);
	join_them();
	fcntl(here, F_SETFL, O_NONBLOCK);
	for (unsigned i = 0; i < FILE_BYTES; i++)
		wanted[i] = (uint8_t)mix(i, 7);
	snprintf(name, sizeof name, "sendfile-%d.tmp", (int)getpid());
	int file = open(name, O_CREAT | O_RDWR | O_TRUNC, 0600);
	MUST(file >= 0 && write(file, wanted, FILE_BYTES) == FILE_BYTES);
	while (going_on() && !failures) {
		uint64_t received = 0;
		off_t at = 0;
		MUST(lseek(file, 0, SEEK_SET) == 0);
		bool cut = false;
		for (int turn = 0; at < FILE_BYTES && !cut && !failures && going_on(); turn++) {
			bool by_offset = turn % 2 == 0;
			off_t before = at;
			MUST(by_offset || lseek(file, at, SEEK_SET) == at);
			ssize_t sent = sendfile(here, file, by_offset ? &at : NULL, (size_t)(FILE_BYTES - at));
			if (!by_offset)
				at = lseek(file, 0, SEEK_CUR);
			MUST(at - before == (sent > 0 ? sent : 0));
			cut = sent < 0 && errno != EAGAIN && errno != EINTR;
			for (int i = 0; i < 4 && !cut; i++)
				cut = !receive(&received, &hash);
		}
		while (received < FILE_BYTES && !cut && going_on())
			cut = !receive(&received, &hash);
		if (cut) {
			close(here);
			close(there);
			join_them();
			fcntl(here, F_SETFL, O_NONBLOCK);
		}
		say("sendfile", mix(hash, received));
	}
	close(file);
	unlink(name);
	return finish();
}
