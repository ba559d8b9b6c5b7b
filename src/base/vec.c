/* SPDX-License-Identifier: Apache-2.0 */
/* Growth for vec.h: doubling, with the multiplication checked. Start: tt_vec_reserve_. */
#include "base/vec.h"

int tt_vec_reserve_(void **data, size_t *cap, size_t need, size_t width)
{
    if (need <= *cap)
        return 0;
    size_t want = *cap ? *cap : 8;
    while (want < need) {
        if (want > (size_t)-1 / 2)
            return -ENOMEM;
        want *= 2;
    }
    void *grown = reallocarray(*data, want, width);
    if (!grown)
        return -ENOMEM;
    *data = grown;
    *cap = want;
    return 0;
}
