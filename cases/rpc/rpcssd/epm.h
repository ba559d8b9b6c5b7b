/* SPDX-License-Identifier: Apache-2.0 */
/* The endpoint mapper (C706 appendix O): where on this host is an interface served? Entries come
 * over rpcssd's local socket and live as long as the connection, or by ept_insert and live until
 * ept_delete. Start: epm_service. */
#ifndef RPCSSD_EPM_H
#define RPCSSD_EPM_H

#include "../dg/server.h"
#include "../dg/tower.h"

extern const struct dg_service epm_service;

/* Owner: anything but NULL, which is for entries of ept_insert. Negative errno without room. */
int epm_add(const struct tower *t, const char *annotation, const void *owner);
void epm_remove_owner(const void *owner);

#endif
