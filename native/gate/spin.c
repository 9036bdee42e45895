#include "gate/spin.h"

#include <string.h>

#include "gate/invariant.h"

void spin_open(struct spin *spin, uint64_t patience_ns)
{
	memset(spin, 0, sizeof *spin);
	spin->patience_ns = patience_ns;
	for (unsigned hope = 0; hope < SPIN_HOPES; hope++)
		spin->credit[hope] = SPIN_CREDIT_MAX / 2;
}

static bool is_worth_it(struct spin *spin, enum spin_hope hope)
{
	if (spin->credit[hope] > 0)
		return true;
	if (++spin->passed[hope] < SPIN_PROBE_EVERY)
		return false;
	spin->passed[hope] = 0;
	return true;
}

bool spin_begin(struct spin *spin, enum spin_hope hope, uint64_t now_ns)
{
	INVARIANT(spin->until_ns == 0);
	if (hope == SPIN_NOTHING || spin->patience_ns == 0 || now_ns < spin->away_until_ns || !is_worth_it(spin, hope))
		return false;
	spin->hope = hope;
	spin->until_ns = now_ns + spin->patience_ns;
	spin->tried++;
	return true;
}

static bool give_up(struct spin *spin)
{
	unsigned *credit = &spin->credit[spin->hope];
	*credit = *credit > SPIN_LOSS ? *credit - SPIN_LOSS : 0;
	spin->until_ns = 0;
	return false;
}

bool spin_goes_on(struct spin *spin, uint64_t asked_ns, uint64_t now_ns)
{
	INVARIANT(spin->until_ns != 0);
	if (now_ns - asked_ns >= SPIN_TAKEN_NS) {
		spin->away_until_ns = now_ns + SPIN_AWAY_NS;
		return give_up(spin);
	}
	return now_ns < spin->until_ns || give_up(spin);
}

void spin_paid(struct spin *spin)
{
	INVARIANT(spin->until_ns != 0);
	if (spin->credit[spin->hope] < SPIN_CREDIT_MAX)
		spin->credit[spin->hope]++;
	spin->until_ns = 0;
	spin->paid++;
}
