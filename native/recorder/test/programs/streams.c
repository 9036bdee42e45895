/* The C library's streams over what is input (chance, /proc): lines and letters of them come from the log. */
#include "program.h"

int main(int argc, char **argv)
{
	uint64_t hash = 0;
	char *line = NULL;
	size_t room = 0;
	begin(argc, argv);
	while (going_on() && !failures) {
		FILE *chance = fopen("/dev/urandom", "r"), *uptime = fopen("/proc/uptime", "r");
		char words[64] = "";
		MUST(chance != NULL && uptime != NULL);
		if (failures)
			break;
		for (int i = 0; i < 8; i++)
			hash = mix(hash, (uint64_t)getc(chance));
		MUST(fread(words, 1, 16, chance) == 16);
		ssize_t length = getline(&line, &room, uptime);
		MUST(length > 3 && line[length - 1] == '\n');
		for (ssize_t i = 0; i < length; i++)
			hash = mix(hash, (uint8_t)line[i]);
		for (int i = 0; i < 16; i++)
			hash = mix(hash, (uint8_t)words[i]);
		MUST(getline(&line, &room, uptime) == -1);
		fclose(uptime);
		fclose(chance);
		say("streams", hash);
		nap(300);
	}
	free(line);
	return finish();
}
