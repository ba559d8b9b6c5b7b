/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds, one in the file of its name, and the common shapes of their rows. Start: resource.c.
 */
#ifndef TT_RESOURCE_KINDS_H
#define TT_RESOURCE_KINDS_H

#include "resource/resource.h"

extern const struct tt_resource tt_resource_fd, tt_resource_socket, tt_resource_port,
    tt_resource_thread, tt_resource_mapping, tt_resource_child, tt_resource_timer, tt_resource_ipc,
    tt_resource_library, tt_resource_stream, tt_resource_directory;

#define TT_ROWS(rows) .watches = (rows), .n_watches = sizeof(rows) / sizeof *(rows)

#endif
