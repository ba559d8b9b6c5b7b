/* SPDX-License-Identifier: Apache-2.0 */
/* A message in packets, for requests and responses alike: sending within the window that the
 * receiver grants, sending again what it lacks, putting fragments together, and the
 * acknowledgements (fack) in between. Neither end waits here; the callers own the timers.
 * Start: dg_send_start, dg_receive_part. */
#ifndef RPC_DG_XFER_H
#define RPC_DG_XFER_H

#include "pdu.h"

#include <netinet/in.h>

enum { DG_WINDOW = 8, DG_WINDOW_MAX = 24, DG_FRAGS_MAX = 4096, DG_MAX_TSDU = 4096 };

/* Where packets go: a socket, and an address unless it is connected. */
struct dg_path {
    int fd;
    const struct sockaddr_in *to;
};

/* Sends one packet; h->len is set from n. Negative errno of the socket. */
int dg_transmit(struct dg_path path, struct dg_header *h, const void *body, size_t n);

struct dg_send {
    struct dg_header head; /* of every packet; serial counts on */
    const uint8_t *body;   /* borrowed */
    size_t len;
    uint16_t count;  /* fragments in all */
    uint16_t acked;  /* that the receiver has in order */
    uint16_t sent;   /* that were sent at least once */
    uint16_t window; /* that may be under way */
};

/* Prepares a message; -EMSGSIZE when it has too many fragments. */
int dg_send_start(struct dg_send *s, const struct dg_header *head, const void *body, size_t len);
/* Sends what the window lets through. 0 or negative errno. */
int dg_send_more(struct dg_send *s, struct dg_path path);
/* Sends the first fragment that is not acknowledged again, asking for an acknowledgement. */
int dg_send_again(struct dg_send *s, struct dg_path path);
/* A fack came: takes it in and sends what it shows as missing, then what the window lets through.
 */
int dg_send_fack(struct dg_send *s, uint16_t frag, const struct dg_fack *f, struct dg_path path);
bool dg_send_done(const struct dg_send *s);

struct dg_receive {
    struct dg_part {
        uint8_t *data;
        uint16_t len;
        bool here;
    } * parts;
    uint16_t cap;
    uint16_t in_order;
    uint16_t count; /* fragments in all; 0 = the last one has not come */
    uint32_t bytes;
    bool little;
};

/* Takes a packet's body. 0, 1 when it was here already, -ENOMEM, -EMSGSIZE. */
int dg_receive_part(struct dg_receive *r, const struct dg_header *h, const uint8_t *body);
bool dg_receive_done(const struct dg_receive *r);
/* The whole message as one block (malloc), and frees the parts. NULL without memory. */
uint8_t *dg_receive_join(struct dg_receive *r, size_t *len);
void dg_receive_free(struct dg_receive *r);
/* Sends a packet of this type (fack, or nocall) with what has come so far. h is a header of this
 * call from our side; serial is that of the packet that is answered. */
int dg_receive_report(const struct dg_receive *r, struct dg_path path, struct dg_header *h,
                      uint8_t ptype, uint16_t serial);

#endif
