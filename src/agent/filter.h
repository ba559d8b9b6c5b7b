/* SPDX-License-Identifier: Apache-2.0 */
/* Seccomp filters. Start: tt_filter_forbids. */
#ifndef TT_AGENT_FILTER_H
#define TT_AGENT_FILTER_H

#include <stddef.h>
#include <stdint.h>

struct sock_filter;
struct seccomp_data;

/* The name of a system call of the agent's that a filter of n instructions would not let through
 * nor answer with an error: it ends the process or asks somebody else. NULL: there is none. */
const char *tt_filter_forbids(const struct sock_filter *code, size_t n);

/* What one filter answers to a call (seccomp(2), SECCOMP_RET_*). What the kernel would not have
 * taken answers SECCOMP_RET_KILL_PROCESS. */
uint32_t tt_filter_run(const struct sock_filter *code, size_t n, const struct seccomp_data *data);

#endif
