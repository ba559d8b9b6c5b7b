/* SPDX-License-Identifier: Apache-2.0 */
/* A growing array for any element type, as macros over {data, len, cap}: the one container the
 * house needs everywhere. Declare with TT_VEC(type), zero-initialise, free with tt_vec_free.
 * Start: tt_vec_push. */
#ifndef TT_BASE_VEC_H
#define TT_BASE_VEC_H

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#define TT_VEC(type)                                                                               \
    struct {                                                                                       \
        type *data;                                                                                \
        size_t len, cap;                                                                           \
    }

/* Makes room for n elements in all. 0 or -ENOMEM; on -ENOMEM the vector is unchanged. */
#define tt_vec_reserve(v, n) tt_vec_reserve_((void **)&(v)->data, &(v)->cap, (n), sizeof *(v)->data)

/* Appends by value. 0 or -ENOMEM. */
#define tt_vec_push(v, ...)                                                                        \
    (tt_vec_reserve((v), (v)->len + 1) ? -ENOMEM : ((v)->data[(v)->len++] = (__VA_ARGS__), 0))

#define tt_vec_free(v) (free((v)->data), (v)->data = NULL, (v)->len = (v)->cap = 0)

int tt_vec_reserve_(void **data, size_t *cap, size_t need, size_t width);

#endif
