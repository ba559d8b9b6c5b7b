#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bytes.sh FILE NAME: the bytes of FILE as a C array NAME, aligned as ELF readers expect.
printf '/* made from %s */\n_Alignas(8) static const unsigned char %s[] = {\n' "${1##*/}" "$2"
od -An -v -tx1 "$1" | sed 's/ \(..\)/0x\1,/g'
echo '};'
