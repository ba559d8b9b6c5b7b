/* SPDX-License-Identifier: Apache-2.0 */
/* The handle hash: 32-bit handle -> object of a kind, for application, line and call handles.
 * Numbers are given out ascending and a number is not used again before all others were, so a late
 * message about a dead handle finds nothing. Open addressing; doubles when two thirds full. */
#ifndef CALL_HANDLE_H
#define CALL_HANDLE_H

#include <stdint.h>

enum handle_kind { HANDLE_NONE, HANDLE_APP, HANDLE_LINE, HANDLE_CALL };

/* A new handle for object, or 0 when memory is short. */
uint32_t handle_new(enum handle_kind kind, void *object);
/* The object, or NULL when there is no such handle of that kind. */
void *handle_get(enum handle_kind kind, uint32_t handle);
void handle_remove(uint32_t handle);
void handle_free_all(void);

#endif
