/* SPDX-License-Identifier: Apache-2.0 */
/* What pairs_library.c loads: as little as a library can be. */
int pairs_plugin(int n);

int pairs_plugin(int n)
{
    return n + 1;
}
