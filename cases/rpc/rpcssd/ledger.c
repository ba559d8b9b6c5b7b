/* SPDX-License-Identifier: Apache-2.0 */
/* Ports and their holders; see ledger.h. */
#include "ledger.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { PORTS = 65536 };

static bool restricted, valid = true, list_is_internet, default_is_internet;
static struct {
    bool listed;
    pid_t holder; /* 0 = free */
} port_table[PORTS];

/* "5000-5099", "5984", separated by commas or blanks. */
static bool read_ports(const char *text)
{
    bool any = false;
    while (*text) {
        char *end;
        if (*text == ',' || isspace((unsigned char)*text)) {
            text++;
            continue;
        }
        if (!isdigit((unsigned char)*text))
            return false;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (*end == '-') {
            if (!isdigit((unsigned char)end[1]))
                return false;
            last = strtoul(end + 1, &end, 10);
        }
        if (first >= PORTS || last >= PORTS || first > last ||
            (*end && *end != ',' && !isspace((unsigned char)*end)))
            return false;
        for (unsigned long p = first; p <= last; p++)
            port_table[p].listed = p != 0; /* nobody can be granted port 0 */
        any = true;
        text = end;
    }
    return any;
}

static bool read_flag(const char *text, bool *flag)
{
    *flag = text && strcasecmp(text, "Y") == 0;
    return text && (*flag || strcasecmp(text, "N") == 0);
}

bool ledger_configure(const char *ports, const char *available, const char *use_internet)
{
    restricted = ports || available || use_internet;
    valid = !restricted || (ports && read_ports(ports) && read_flag(available, &list_is_internet) &&
                            read_flag(use_internet, &default_is_internet));
    return valid;
}

/* The two entries of the ledger: a port goes to a process, a port comes back. Functions of their
 * own, so that a tool from outside can count them (README.md). */
__attribute__((noinline)) void grant_made(int port, pid_t pid);
__attribute__((noinline)) void grant_returned(int port);

void grant_made(int port, pid_t pid)
{
    port_table[port].holder = pid;
}

void grant_returned(int port)
{
    port_table[port].holder = 0;
}

uint32_t ledger_grant(pid_t pid, uint32_t class, uint16_t *port)
{
    *port = 0;
    if (!valid)
        return BROKER_BAD_CONFIG;
    bool internet = class == BROKER_INTERNET || (class == BROKER_DEFAULT && default_is_internet);
    if (!restricted || internet != list_is_internet)
        return BROKER_OK;
    for (unsigned p = 1; p < PORTS; p++)
        if (port_table[p].listed && !port_table[p].holder) {
            grant_made((int)p, pid);
            *port = (uint16_t)p;
            return BROKER_OK;
        }
    return BROKER_EXHAUSTED;
}

void ledger_process_ended(pid_t pid)
{
    for (unsigned p = 0; p < PORTS; p++)
        if (port_table[p].holder == pid)
            grant_returned((int)p);
}

static struct broker_entry *entry_of(struct broker_reply *reply, pid_t pid)
{
    for (uint32_t i = 0; i < reply->count; i++)
        if (reply->entry[i].pid == pid)
            return &reply->entry[i];
    if (reply->count == sizeof reply->entry / sizeof reply->entry[0])
        return NULL; /* more processes than a report has room for: the rest is left out */
    reply->entry[reply->count] = (struct broker_entry){pid, 0};
    return &reply->entry[reply->count++];
}

void ledger_report(struct broker_reply *reply)
{
    for (unsigned p = 0; p < PORTS; p++) {
        reply->value += port_table[p].listed;
        struct broker_entry *e =
            port_table[p].holder ? entry_of(reply, port_table[p].holder) : NULL;
        if (e)
            e->granted++;
    }
}
