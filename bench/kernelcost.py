#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What recording from the kernel costs: ns added to an open+close pair, to a system call that nobody records, and to those that
tell for whom a thread works (recv, poll), with strace -f and valgrind --track-fds in the same rounds. Each tool against a bare
run of its own round, medians.
    kernelcost.py BUILD [ROUNDS]        needs root; strace and valgrind where they are installed
Start: main."""
import os
import re
import shutil
import sys
import tempfile
import time

import measure


def runs(program, pid):
    try:
        return os.readlink(f"/proc/{pid}/exe") == program
    except OSError:
        return False


def settled(program):
    """Until no process of telltale's is left: one takes the tracepoints away after its end, and until then they cost."""
    for _ in range(150):
        if not any(runs(program, pid) for pid in os.listdir("/proc") if pid.isdigit()):
            return
        time.sleep(0.2)


def main():
    build, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    loop = os.path.join(build, "bench", "kernelloop")
    scratch = tempfile.mkdtemp()
    session = os.path.join(scratch, "loop.tt")
    telltale = [os.path.join(build, "src", "cmd", "telltale"), "run", "--no-inject", "-q", "-o", session, "--"]
    commands = {
        "bare": [loop, "10"],
        "telltale --no-inject": telltale + [loop, "10"],
        "telltale --no-inject, depth 30": telltale + [loop, "30"],
    }
    if shutil.which("strace"):
        commands["strace -f"] = ["strace", "-f", "-o", "/dev/null", loop, "10", "--slow"]
    if shutil.which("valgrind"):
        commands["valgrind --track-fds"] = ["valgrind", "-q", "--track-fds=yes", loop, "10", "--slow"]

    def once(tool):
        text = measure.output_of(commands[tool])
        settled(os.path.realpath(telltale[0]))
        for name in os.listdir(scratch):
            os.unlink(os.path.join(scratch, name))
        found = re.search(r"open_close_ns ([\d.]+) other_ns ([\d.]+) recv_ns ([\d.]+) poll_ns ([\d.]+)", text or "")
        return [float(ns) for ns in found.groups()] if found else None

    values = measure.rounds(count, list(commands), once)
    names = ("open+close", "another call", "recv", "poll")
    bare = [v for v in values["bare"] if v]
    print("bare: " + ", ".join(f"{name} {sorted(v[i] for v in bare)[len(bare) // 2]:.0f} ns" for i, name in enumerate(names)))
    for tool in list(commands)[1:]:
        added = [measure.paired(values, tool, "bare", lambda a, b, i=i: a[i] - b[i]) for i in range(len(names))]
        print(f"{tool}: " + ("not measured" if None in added else
                             ", ".join(f"{name} +{ns:.0f} ns" for name, ns in zip(names, added))))
    shutil.rmtree(scratch)


main()
