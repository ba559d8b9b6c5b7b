#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The pairs of tests/pairs under telltale. Each program runs twice: with all its losing halves, of which each must be found at
the function and line that the program says, and nothing else; and with all its releasing halves, of which nothing may be called
a leak. By the agent, or by eBPF with nothing in the target. Usage: pairs.py agent|kernel [PROGRAM...]. Start: one."""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

from harness import SKIP, Test, run
from truth import WAYS, judge, left_open, remove_ipc, way_in, way_works

# Program: options of run. What each acquires stands in its own truth.
PROGRAMS = {
    "heap": [],
    "cxx": [],
    "stream": [],
    "fd": [],
    "socket": [],
    "thread": [],
    "mapping": [],
    "child": [],
    "timer": [],
    "ipc": [],
    "library": [],
    "declared": ["--handle", "slot=slot_acquire:ret,slot_release:arg1", "--handle", "ticket=ticket_take:*arg1,ticket_give:arg1"],
}
HORIZON = "2"
AT_ONCE = 8
WAY = way_in(sys.argv)
OPTIONS = WAYS[WAY][0]
t = Test("pairs-" + WAY)


def one(program, half, again=True):
    """Runs one half of a program's pairs and judges it: how many they are. None when verdicts were left open and it is to be
    run once more, later."""
    name = f"{program} {half}"
    binary = pathlib.Path(os.environ["PAIRS"], "pairs_" + program)
    session = t.path(f"{program}-{half}.tt")
    status, out, err = run(t.under("exact", session, [binary, half], "--horizon", HORIZON, "--operation", "round=serve_request",
                                   *OPTIONS, *PROGRAMS[program]))
    remove_ipc(err)
    if not t.check(status == 0 and out, f"{name}: does its own work", f"{status}: {err.decode()[-2000:]}"):
        return 0
    report = t.findings(session)
    truth = json.loads(out)
    if report and again and left_open([truth], report, WAY):
        print(f"     {t.name}: {name} once more, it was left open", flush=True)
        return None
    if report:
        judge(t, name, [truth], report, WAY, counted=False)
        status, out, err = run([t.telltale, "check", session])
        if half == "good" or program in ("timer", "library"):  # the rest have hundreds of findings to name again
            t.check(status == (1 if half == "bad" else 0), f"{name}: check's exit status", f"{status}: {(out + err).decode()[:500]}")
    listed = subprocess.run([binary, "list"], stdout=subprocess.PIPE, check=True)
    return sum(line.startswith(half.encode()) for line in listed.stdout.splitlines())


def main():
    if not way_works(t, WAY):
        return SKIP
    chosen = [(p, h) for p in sys.argv[2:] or PROGRAMS for h in ("bad", "good")]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda c: one(*c), chosen))
    halves = [(c[1], one(*c, again=False) if n is None else n) for c, n in zip(chosen, found)]
    print(f"pairs: {sum(n for h, n in halves if h == 'bad')} losing and {sum(n for h, n in halves if h == 'good')} releasing halves")
    return t.end()


if __name__ == "__main__":
    sys.exit(main())
