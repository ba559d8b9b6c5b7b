/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of the runtime that the Cluster API does not make: maybe and broadcast, to the UDP port
 * given as argument. Prints the status of each; test_client.py is at the other end. Start: main. */
#include "../dg/assoc.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    struct dg_assoc *a;
    struct dg_reply reply;
    unsigned long port = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
    if (port == 0 || port > 65535 || dg_open(&a, INADDR_LOOPBACK, (uint16_t)port) != RPC_OK)
        return 3;
    printf("ready pid=0\n");
    fflush(stdout);
    int maybe = dg_call(a, &rpc_convc, 0, DG_MAYBE, -1, NULL, &reply);
    dg_reply_free(&reply);
    int first = dg_call(a, &rpc_epm, 3, DG_BROADCAST | DG_IDEMPOTENT, -1, NULL, &reply);
    dg_reply_free(&reply);
    int second = dg_call(a, &rpc_epm, 3, DG_BROADCAST | DG_IDEMPOTENT, -1, NULL, &reply);
    printf("= maybe=%d unheard=%d heard=%d bytes=%zu\n", maybe, first, second, reply.len);
    dg_reply_free(&reply);
    dg_close(a);
    return 0;
}
