/* SPDX-License-Identifier: Apache-2.0 */
/* Many small changes of a stopped process's memory in few system calls. Start: tt_edit_add. */
#ifndef TT_INJECT_EDIT_H
#define TT_INJECT_EDIT_H

#include "inject/internal.h"

#define TT_EDIT_PAGE 4096ULL
#define TT_EDIT_PAGES 1024u /* two a record of the blob */

struct tt_edit_page {
    uint64_t at;
    uint32_t low, high; /* changed bytes [low, high) */
    bool there;
};
/* Zero-initialise. */
struct tt_edit {
    size_t len;
    struct tt_edit_page pages[TT_EDIT_PAGES];
    uint8_t *bytes;
};
/* Says beforehand which bytes will be looked at. 0 or -ENOSPC. */
int tt_edit_add(struct tt_edit *edit, uint64_t at, size_t n);
/* Reads all pages. 0 or -ENOMEM; a page that is not mapped is left out. */
int tt_edit_read(struct tt_edit *edit, const struct tt_target *target);
/* What stands at `at`: 0, or -EIO where nothing is mapped. */
int tt_edit_get(struct tt_edit *edit, uint64_t at, uint8_t *out, size_t n);
/* Changes the copy. */
void tt_edit_put(struct tt_edit *edit, uint64_t at, const uint8_t *from, size_t n);
/* Writes what was changed; goes on after a failure. 0 or the first negative errno. */
int tt_edit_write(struct tt_edit *edit, const struct tt_target *target);
void tt_edit_free(struct tt_edit *edit);

#endif
