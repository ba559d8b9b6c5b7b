/* SPDX-License-Identifier: Apache-2.0 */
/* The telephony service provider, SIP over UDP, as the rest of the server sees it. A leg is one SIP
 * dialog with its transactions; it knows the call above it until the call or the dialog ends, then
 * lingers for 64*T1 to absorb retransmissions and is freed. Start: sip_open, sip_receive in
 * sip_input.c. */
#ifndef CALL_TSPI_H
#define CALL_TSPI_H

#include "call.h"

/* Binds the UDP socket of config.sip_port (0: any; the port is written back). 0 or -errno. */
int sip_open(void);
void sip_close_all(void);

/* What the call layer asks of the provider, named after the TSPI functions. */
int32_t tspi_accept(struct leg *leg);                        /* ring: 180; 0 or LINEERR */
int32_t tspi_answer(struct leg *leg);                        /* 200; 0 or LINEERR */
void tspi_drop(struct leg *leg);                             /* reject, cancel or BYE */
void tspi_close_call(struct leg *leg);                       /* nobody holds the call any more */
int32_t tspi_make_call(struct call *call, const char *dest); /* 0 or LINEERR */

#endif
