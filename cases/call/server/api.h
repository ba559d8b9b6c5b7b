/* SPDX-License-Identifier: Apache-2.0 */
/* The API functions, one static on_* each behind a table indexed by function number. Start:
 * api_dispatch. */
#ifndef CALL_API_H
#define CALL_API_H

#include "client.h"

struct api_call {
    struct client *client;
    const struct wire_packet *in;
    size_t in_var; /* bytes of variable data that came */
    struct wire_packet *out;
    size_t *out_var; /* bytes of variable data to send */
    /* Of an asynchronous function: the leg operation to be done, and then reported with LINE_REPLY,
     * after the reply with the request id is out. */
    void (*later)(struct api_call *call);
    struct hcall *h;
    struct app *app;
    uint32_t request_id;
};

/* Carries out one request and returns its result. */
int32_t api_dispatch(struct api_call *call);
/* Finishes an asynchronous request. */
void api_complete(struct api_call *call);

/* lineClose, lineShutdown: what rundown needs of them. */
void hline_close(struct hline *hl);
void app_shutdown(struct app *app);

#endif
