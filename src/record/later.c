/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for rooms that are being built; meson.build drops it as soon as they are there. */
#include <errno.h>

#include "record/internal.h"

#ifdef TT_NO_HEAP
int tt_heap_image_frozen(pid_t copy, pid_t target, const struct tt_heap_thread *threads,
                         size_t n_threads, struct tt_heap_image *out, struct tt_error *err)
{
    (void)copy, (void)target, (void)threads, (void)n_threads, (void)out;
    return tt_error_set(err, -ENOSYS, "no heap search yet");
}
void tt_heap_image_free(struct tt_heap_image *image)
{
    (void)image;
}
int tt_heap_search(const struct tt_heap_image *image, const struct tt_heap_options *options,
                   tt_heap_name_fn *name, void *name_arg, struct tt_heap_result *out,
                   struct tt_error *err)
{
    (void)image, (void)options, (void)name, (void)name_arg, (void)out;
    return tt_error_set(err, -ENOSYS, "no heap search yet");
}
void tt_heap_result_free(struct tt_heap_result *result)
{
    (void)result;
}
#endif
#ifdef TT_NO_CORE
int tt_heap_image_core(const char *core, const char *exe, struct tt_heap_image *out,
                       struct tt_error *err)
{
    (void)core, (void)exe, (void)out;
    return tt_error_set(err, -ENOSYS, "no heap search yet");
}
#endif
#ifdef TT_NO_ATTACH
int tt_inject_attach(pid_t pid, const struct tt_inject_attach_options *options,
                     struct tt_inject_attached *out, struct tt_error *err)
{
    (void)pid, (void)options, (void)out;
    return tt_error_set(err, -ENOSYS, "attaching is not available yet");
}
void tt_inject_attached_free(struct tt_inject_attached *attached)
{
    tt_vec_free(&attached->notes);
}
int tt_inject_detach(pid_t pid, bool force, struct tt_inject_detached *out, struct tt_error *err)
{
    (void)pid, (void)force, (void)out;
    return tt_error_set(err, -ENOSYS, "attaching is not available yet");
}
#endif
