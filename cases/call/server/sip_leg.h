/* SPDX-License-Identifier: Apache-2.0 */
/* A leg: one SIP dialog with its INVITE, BYE and CANCEL transactions, as sip_leg.c keeps it and
 * sip_input.c moves it on. Start: leg_new_uas, leg_find. */
#ifndef CALL_SIP_LEG_H
#define CALL_SIP_LEG_H

#include "sip_text.h"
#include "tspi.h"

enum { TAG_MAX = 24, RING_LIMIT = 360 /* T1: 180 s, as timer C */ };

enum leg_state {
    LEG_TRYING,     /* UAS: 100 sent */
    LEG_ANSWERED,   /* UAS: 200 sent, retransmitted until ACK or timer H */
    LEG_REJECTED,   /* UAS: 3xx-6xx sent, retransmitted until ACK or timer H */
    LEG_CALLING,    /* UAC: INVITE sent, retransmitted (timer A) until timer B */
    LEG_PROCEEDING, /* UAC: a provisional response came */
    LEG_CANCELLING, /* UAC: CANCEL sent, the final response of INVITE awaited */
    LEG_UP,
    LEG_CLOSING, /* BYE sent, retransmitted (timer E) until timer F */
    LEG_DONE,    /* lingers */
};

struct leg {
    struct leg *hash_next;
    struct call *call;
    enum leg_state state;
    bool uac, cancel_wanted;
    struct sockaddr_in peer;
    struct timer resend, end;
    unsigned interval;          /* of the next retransmission, ms */
    uint32_t invite_cseq, cseq; /* of the INVITE; of our last request */
    char tag[TAG_MAX];          /* ours */
    char branch[TAG_MAX + 8];   /* of our last request */
    char invite_branch[TAG_MAX + 8];
    char *call_id, *local, *remote, *target, *routes; /* dialog: From, To, request URI, Route */
    char *remote_tag, *peer_branch, *copied;          /* what responses to the INVITE copy */
    char *out; /* the message being retransmitted; after that the last response to INVITE */
    size_t out_len;
};

/* A leg for an incoming INVITE, in LEG_TRYING, nothing sent yet. NULL when memory is short. */
struct leg *leg_new_uas(const struct sip_msg *m, const struct sockaddr_in *peer);
/* The leg that a message from the far end belongs to, by Call-ID and tags. */
struct leg *leg_find(const struct sip_msg *m);
void leg_free(struct leg *leg);

/* Sends a response to the leg's INVITE; repeat: until the ACK stops it. */
void leg_respond(struct leg *leg, int status, bool repeat);
/* Sends a request of ours. ACK and CANCEL take the INVITE's number, CANCEL and the ACK of a refusal
 * its branch too. repeat: until the answer stops it. */
void leg_request(struct leg *leg, const char *method, bool repeat);
/* Refuses the INVITE and ends the call, as DISCONNECTED first unless the mode is 0. */
void leg_reject(struct leg *leg, int status, uint32_t disconnect_mode);
void leg_bye(struct leg *leg);
/* Learns the far end's tag, target and route set from the response that makes the dialog. */
void leg_learn(struct leg *leg, const struct sip_msg *m);
/* Takes To of a refusal, for the ACK. */
void leg_learn_refusal(struct leg *leg, const struct sip_msg *m);
/* Arms the end timer at RING_LIMIT. */
void leg_limit_ringing(struct leg *leg);
/* Reports the end to the call and lets go of it. */
void leg_report_end(struct leg *leg, uint32_t disconnect_mode);
/* Nothing more to do: the leg stays for retransmissions, 64*T1. */
void leg_linger(struct leg *leg);
/* Frees all legs. */
void leg_free_all(void);

/* sip_input.c: sends a datagram; one that the kernel refuses is a lost one. */
void sip_send(const struct sockaddr_in *peer, const char *data, size_t len);

#endif
