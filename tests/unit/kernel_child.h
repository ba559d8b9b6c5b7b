/* SPDX-License-Identifier: Apache-2.0 */
/* The child of test_kernel_live.c: what it does by letter, and the functions of its own that the
 * test declares as handles. Start: kernel_child_act. */
#ifndef KERNEL_CHILD_H
#define KERNEL_CHILD_H

#if __has_attribute(noclone)
#define PROBED __attribute__((noinline, noclone))
#else
#define PROBED __attribute__((noinline))
#endif

/* Does what the letter stands for; an unknown one does nothing. */
void kernel_child_act(char what);

PROBED long kernel_child_take(int fails);
PROBED long kernel_child_take_nested(int depth); /* within another call of itself */
PROBED int kernel_child_take_at(int unused, long *out);
PROBED void kernel_child_give(long handle);
PROBED void kernel_child_give_at(const long *handle);

#endif
