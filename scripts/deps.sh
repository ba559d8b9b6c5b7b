#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages of the named groups that are missing; does nothing (and needs no root) when
# none is. A group's list stands beside what needs it: packaging/packages.* or tests/packages.txt
# or bench/packages.txt; one package per line, # for comments.
set -eu
cd "$(dirname "$0")/.."
missing=
for group; do
    case $group in
    test | bench) list=$(echo "$group" | sed 's/^test$/tests/')/packages.txt ;;
    *) list=packaging/packages.$group ;;
    esac
    for package in $(sed 's/#.*//' "$list"); do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
            missing="$missing $package"
    done
done
[ -n "$missing" ] || exit 0
echo "telltale: installing:$missing" >&2
as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "telltale: run as root once: apt-get install$missing" >&2
        exit 3
    }
    as_root=sudo
fi
log=$(mktemp)
# RUNLEVEL=1 and policy-rc.d's absence: servers among the test packages are never started by us,
# so the maintainer scripts are told not to start them either.
if ! { $as_root apt-get update -q && $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    rm -f "$log"
    echo "telltale: apt-get could not install what is missing (above)" >&2
    exit 3
fi
rm -f "$log"
