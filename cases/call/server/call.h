/* SPDX-License-Identifier: Apache-2.0 */
/* Calls and call handles: states, privileges, and the messages about them. The provider
 * (sip_leg.c) reports through call_offer and call_set_state; applications act through api.c.
 * Start: call_offer for an incoming call, hcall_dispose and hcall_close for its end. */
#ifndef CALL_CALL_H
#define CALL_CALL_H

#include "owner.h"
#include "server.h"

struct call {
    struct call *next, *prev; /* of the line */
    struct line *line;
    struct leg *leg; /* NULL when the provider has let go */
    struct hcall *hcalls;
    struct owner_set owners;
    uint32_t monitors;
    uint32_t state, mode, media, origin;
    uint64_t id, started_ms;
    char caller[ID_MAX], called[ID_MAX];
};

enum offer_result { OFFER_OK, OFFER_NO_OWNER, OFFER_NO_MEMORY };

/* A call has come in on a line: finds its first owner, hands out monitor handles, sends the
 * messages. media: LINEMEDIAMODE bits. The new call is in *out. */
enum offer_result call_offer(struct line *line, struct leg *leg, uint32_t media, const char *caller,
                             const char *called, struct call **out);

/* An outgoing call with `maker` as sole owner; its handle is in *out. 0 or LINEERR. */
int32_t call_outgoing(struct hline *maker, const char *dest, struct hcall **out);

/* Enters a state and tells all handle holders. No state leaves IDLE. */
void call_set_state(struct call *call, uint32_t state, uint32_t mode);

/* A further handle for hline's application. NULL when memory is short. */
struct hcall *hcall_new(struct call *call, struct hline *hline, uint32_t privilege);
struct hcall *hcall_of_app(const struct call *call, const struct app *app);

/* Changes what a handle may do and tells the others but `cause`, the handle of the application that
 * did it. 0 or LINEERR_NOMEM. */
int32_t hcall_set_privilege(struct hcall *h, uint32_t privilege, const struct hcall *cause);

/* Takes a handle away at lineDeallocateCall; with the last one the call goes. */
void hcall_dispose(struct hcall *h);
/* Takes a handle away because its line closes, its application ends or its privilege is set to
 * NONE. drop: a sole owner's call is dropped. */
void hcall_close(struct hcall *h, bool drop);

/* Puts APPNEWCALL and CALLSTATE in front of an application that was given a handle. */
void hcall_announce(struct hcall *h);
/* Tells the holders other than h and its giver that h joined (not for a new call's notice). */
void hcall_tell_new(const struct hcall *h, const struct hcall *giver);
/* Queues one message about a call handle to its application. */
void hcall_post(struct hcall *h, uint32_t msg, uint32_t p1, uint32_t p2, uint32_t p3);

/* The opener that shall own a call of a media mode, by priority and then by order of opening; skips
 * openers whose client reads too slowly. NULL: none. */
struct hline *call_best_opener(const struct line *line, uint32_t media_mode);
/* lineSetAppPriority: 1 puts module on top of the list, 0 removes it. 0 or LINEERR. */
int32_t call_set_priority(const char *module, uint32_t priority);

#endif
