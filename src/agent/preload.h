/* SPDX-License-Identifier: Apache-2.0 */
/* Between the two preload libraries: the second, for operator new and delete of allocators that
 * define them, runs on the core of the first. Exported under names of our own. */
#ifndef TT_AGENT_PRELOAD_H
#define TT_AGENT_PRELOAD_H

#include "agent/host.h"

#define TT_EXPORT __attribute__((visibility("default")))

/* Tells the core the real entries TT_E_NEW .. TT_E_COUNT - 1 (`real[0]` is that of TT_E_NEW). */
TT_EXPORT void tt_agent_cxx_real(tt_real_fn *const *real);
/* The core's table of hooks, indexed by entry; never NULL entries after tt_agent_cxx_real. */
TT_EXPORT void *const *tt_agent_cxx_entries(void);
/* The real malloc: only operator new of the same object is tracked. */
TT_EXPORT void *tt_agent_cxx_malloc(void);

#endif
