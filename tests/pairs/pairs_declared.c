/* SPDX-License-Identifier: Apache-2.0 */
/* Handles of the program's own, declared by `--handle slot=slot_acquire:ret,slot_release:arg1` and
 * `--handle ticket=ticket_take:*arg1,ticket_give:arg1`: a table of numbers, with no system resource
 * behind them. */
#include "pairs.h"

#include <stdint.h>

#define SLOTS 65536
static bool taken[2][SLOTS];

static long take(unsigned table)
{
    static unsigned next[2];
    for (unsigned tried = 0; tried < SLOTS; tried++) {
        unsigned slot = next[table]++ % SLOTS;
        if (slot && !taken[table][slot]) {
            taken[table][slot] = true;
            return (long)slot;
        }
    }
    return -1;
}

/* Declared as acquired by the result and released by the first argument. */
PAIRS_OWN_FRAME long slot_acquire(const char *name);
PAIRS_OWN_FRAME void slot_release(long slot);
long slot_acquire(const char *name)
{
    fx_use(&name);
    return take(0);
}
void slot_release(long slot)
{
    taken[0][slot] = false;
}

/* Acquired through a pointer, as the 64 bits at the first argument. */
PAIRS_OWN_FRAME int ticket_take(long *out);
PAIRS_OWN_FRAME void ticket_give(long ticket);
int ticket_take(long *out)
{
    *out = take(1);
    return *out < 0 ? -1 : 0;
}
void ticket_give(long ticket)
{
    taken[1][ticket] = false;
}
static PAIRS_OWN_FRAME long ticket(void)
{
    long t;
    if (ticket_take(&t))
        pairs_failed("ticket_take");
    return t;
}

#define UNIT long
#define RESOURCE "slot"
#define ACQUIRER slot
#define NEW_UNIT slot_acquire("pairs")
#define END_UNIT(v) slot_release(v)
#define FLOWS FLOWS_ALL
#include "flows.inc"
#undef RESOURCE

#define RESOURCE "ticket"
#define ACQUIRER ticket
#define NEW_UNIT ticket()
#define END_UNIT(v) ticket_give(v)
#define FLOWS FLOWS_BASIC | FLOWS_CALLS
#include "flows.inc"
