/* For the tests of bad input: with STUCK in its environment it computes for ever after some events, as no recording of it did. */
#include "programs/program.h"

int main(int argc, char **argv)
{
	uint64_t hash = 0;
	volatile bool forever = getenv("STUCK") != NULL;
	begin(argc, argv);
	for (int i = 0; going_on(); i++) {
		say("stuck", hash = mix(hash, now_ms()));
		while (i == 50 && forever)
			;
		nap(200);
	}
	return finish();
}
