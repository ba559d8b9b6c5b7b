#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The pairs of tests/pairs under telltale. Each program runs twice: with all its losing halves, of which each must be found at
the function and line that the program says, and nothing else; and with all its releasing halves, of which nothing may be called
a leak. Usage: pairs.py [PROGRAM...]. Start: one."""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

from harness import Test, run
from truth import judge, remove_ipc

# Program: options of run, and the resources that are asked for by name. What each acquires stands in its own truth.
PROGRAMS = {
    "heap": ([], {"heap"}),
    "cxx": ([], {"heap"}),
    "stream": ([], {"heap"}),
}
HORIZON = "2"
AT_ONCE = 12
t = Test("pairs")


def one(program, half):
    name = f"{program} {half}"
    options, known = PROGRAMS[program]
    binary = pathlib.Path(os.environ["PAIRS"], "pairs_" + program)
    session = t.path(f"{program}-{half}.tt")
    status, out, err = run(t.under("exact", session, [binary, half], "--horizon", HORIZON, "--operation", "round=serve_request", *options))
    remove_ipc(err)
    if not t.check(status == 0 and out, f"{name}: does its own work", f"{status}: {err.decode()[-2000:]}"):
        return 0
    report = t.findings(session)
    if report:
        judge(t, name, [json.loads(out)], report, known)
        status, out, err = run([t.telltale, "check", session])
        t.check(status == (1 if half == "bad" else 0), f"{name}: check's exit status", f"{status}: {(out + err).decode()[:500]}")
    listed = subprocess.run([binary, "list"], stdout=subprocess.PIPE, check=True)
    return sum(line.startswith(half.encode()) for line in listed.stdout.splitlines())


def main():
    chosen = [(p, h) for p in sys.argv[1:] or PROGRAMS for h in ("bad", "good")]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        halves = list(pool.map(lambda c: (c[1], one(*c)), chosen))
    print(f"pairs: {sum(n for h, n in halves if h == 'bad')} losing and {sum(n for h, n in halves if h == 'good')} releasing halves")
    return t.end()


if __name__ == "__main__":
    sys.exit(main())
