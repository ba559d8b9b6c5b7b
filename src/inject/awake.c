/* SPDX-License-Identifier: Apache-2.0 */
/* Idle processors kept awake for the milliseconds of an attach. While threads stand still their
 * processors have nothing to do and halt; to wake a halted one takes a tenth of a millisecond where
 * it sleeps deeply, and in a virtual machine as long as the host likes (milliseconds were seen):
 * longer than the stop itself. A latency of 0 asked of the kernel (Documentation/power/
 * pm_qos_interface.rst, "PM QoS interface": /dev/cpu_dma_latency) makes them wait in a loop
 * instead. The wish ends with the descriptor, so with us at the latest. Start: tt_inject_awake. */
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

#include "inject/internal.h"

int tt_inject_awake(void)
{
    const int32_t latency = 0;
    int fd = open("/dev/cpu_dma_latency", O_RDWR | O_CLOEXEC);
    if (fd >= 0 && write(fd, &latency, sizeof latency) != (ssize_t)sizeof latency) {
        close(fd);
        fd = -1;
    }
    return fd;
}

void tt_inject_drowse(int awake)
{
    if (awake >= 0)
        close(awake);
}
