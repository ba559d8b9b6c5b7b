/* SPDX-License-Identifier: Apache-2.0 */
/* Who owns a call: two owner slots inside the call record, because nearly every call has one owner
 * or two, and a list of separately allocated records for every further owner. A record of an owner
 * that went is marked dead and kept until the call ends, so that a late message about its handle
 * is not taken for another owner's. Start: call_add_owner. */
#ifndef CALL_OWNER_H
#define CALL_OWNER_H

#include <stdbool.h>
#include <stdint.h>

struct call;
struct client;
struct hcall;

enum { OWNER_INLINE = 2 };
enum { OWNER_USED = 1, OWNER_LIVE = 2 };

struct owner_slot {
    struct client *client;
    uint32_t handle;
    uint32_t flags;
};

/* The overflow record. Its size is the constant of the article's law. */
struct owner_record {
    uint64_t call_id;
    struct client *client;
    struct owner_record *next, *prev;
    uint32_t handle;
    uint32_t flags;
};
_Static_assert(sizeof(struct owner_record) == 40, "one overflow owner record is 40 bytes");

struct owner_set {
    struct owner_slot slot[OWNER_INLINE];
    struct owner_record *overflow;
    uint32_t live; /* owners now */
    bool spilled;  /* --law L2: the slots moved to the list */
};

/* Notes that h owns its call. 0 or -ENOMEM. */
int call_add_owner(struct call *call, const struct hcall *h);
/* h owns its call no longer: its record is marked dead. */
void call_remove_owner(struct call *call, const struct hcall *h);
/* Frees the overflow records; the slots are part of the call. */
void owner_list_free(struct call *call);

#endif
