/* SPDX-License-Identifier: Apache-2.0 */
/* Many small changes of a stopped process's memory in few system calls: the pages that hold them
 * are read at once, changed here, and each written back from its first changed byte to its last.
 * Only while all threads stand still, since bytes between changes are written too. Start:
 * tt_edit_read. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "inject/edit.h"

static int add_page(struct tt_edit *e, uint64_t at)
{
    for (size_t i = 0; i < e->len; i++)
        if (e->pages[i].at == at)
            return 0;
    if (e->len == TT_EDIT_PAGES)
        return -ENOSPC;
    e->pages[e->len++] = (struct tt_edit_page){.at = at, .low = TT_EDIT_PAGE};
    return 0;
}

int tt_edit_add(struct tt_edit *edit, uint64_t at, size_t n)
{
    int code = add_page(edit, at & ~(TT_EDIT_PAGE - 1));
    return code ? code : add_page(edit, (at + n - 1) & ~(TT_EDIT_PAGE - 1));
}

int tt_edit_read(struct tt_edit *edit, const struct tt_target *target)
{
    struct iovec to[TT_EDIT_PAGES], from[TT_EDIT_PAGES];
    if (!edit->bytes && !(edit->bytes = malloc(TT_EDIT_PAGES * TT_EDIT_PAGE)))
        return -ENOMEM;
    for (size_t i = 0; i < edit->len; i++) {
        to[i] = (struct iovec){edit->bytes + i * TT_EDIT_PAGE, TT_EDIT_PAGE};
        from[i] = (struct iovec){.iov_len = TT_EDIT_PAGE};
        memcpy(&from[i].iov_base, &edit->pages[i].at, sizeof from[i].iov_base);
    }
    ssize_t got = edit->len ? process_vm_readv(target->pid, to, edit->len, from, edit->len, 0) : 0;
    bool all = got == (ssize_t)(edit->len * TT_EDIT_PAGE);
    for (size_t i = 0; i < edit->len; i++)
        edit->pages[i].there =
            all || tt_target_read(target, edit->pages[i].at, to[i].iov_base, TT_EDIT_PAGE) == 0;
    return 0;
}

/* Calls of one byte at a time are few: a change has at most 16. */
static uint8_t *byte_at(struct tt_edit *e, uint64_t at, struct tt_edit_page **page)
{
    for (size_t i = 0; i < e->len; i++)
        if (at - e->pages[i].at < TT_EDIT_PAGE) {
            *page = &e->pages[i];
            return e->pages[i].there ? e->bytes + i * TT_EDIT_PAGE + (at - e->pages[i].at) : NULL;
        }
    return NULL;
}

int tt_edit_get(struct tt_edit *edit, uint64_t at, uint8_t *out, size_t n)
{
    struct tt_edit_page *page;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = byte_at(edit, at + i, &page);
        if (!p)
            return -EIO;
        out[i] = *p;
    }
    return 0;
}

void tt_edit_put(struct tt_edit *edit, uint64_t at, const uint8_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct tt_edit_page *page;
        uint8_t *p = byte_at(edit, at + i, &page);
        if (!p)
            return;
        uint32_t offset = (uint32_t)(at + i - page->at);
        *p = from[i];
        page->low = offset < page->low ? offset : page->low;
        page->high = offset + 1 > page->high ? offset + 1 : page->high;
    }
}

int tt_edit_write(struct tt_edit *edit, const struct tt_target *target)
{
    int code = 0;
    for (size_t i = 0; i < edit->len; i++) {
        struct tt_edit_page *p = &edit->pages[i];
        if (p->high <= p->low)
            continue;
        int r = tt_target_write(target, p->at + p->low, edit->bytes + i * TT_EDIT_PAGE + p->low,
                                p->high - p->low);
        code = code ? code : r;
    }
    return code;
}

void tt_edit_free(struct tt_edit *edit)
{
    free(edit->bytes);
    *edit = (struct tt_edit){0};
}
