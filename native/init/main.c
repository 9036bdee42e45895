#include "init/init.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	if (argc >= 4 && strcmp(argv[1], "--ask") == 0)
		return ask_run(argv[2], argv + 3);
	if (argc >= 3 && strcmp(argv[1], "--") == 0)
		return init_run(argv + 2, false);
	if (argc >= 4 && strcmp(argv[1], "--record") == 0 && strcmp(argv[2], "--") == 0)
		return init_run(argv + 3, true);
	fprintf(stderr, "usage: ftinit [--record] -- command [argument…]\n"
			"       ftinit --ask HOSTPID verb [key=value…]\n");
	return 2;
}
