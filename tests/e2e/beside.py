#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two recordings of one program at a time, of different processes: one from inside, where the entry of the operation is a
jump, one from the kernel, where it is a breakpoint. A breakpoint in the wrong process would end it, since behind it the
kernel goes on as the file says. Both must run to their end and count all of their own calls and none of the other's."""
import os
import pathlib
import sqlite3
import subprocess
import sys
import time

from harness import LIMIT, SKIP, Test, end_group, environment, run
from truth import WAYS, way_works

PROGRAM = pathlib.Path(os.environ["FIXTURES"], "fixture_res_files")
RATE = 50
t = Test("beside")


def counted(session):
    """Calls of the operation so far."""
    try:
        with sqlite3.connect(f"file:{session}?mode=ro", uri=True) as db:
            row = db.execute("SELECT max(count) FROM operation_sample JOIN operation ON operation.id = operation_sample.operation "
                             "AND operation.process = operation_sample.process WHERE name = 'request'").fetchone()
    except sqlite3.Error:
        return 0
    return row[0] or 0


def command(session, seconds, *options):
    return t.under("exact", session, [PROGRAM, f"--rate={RATE}", f"--seconds={seconds}"], "--operation", "request=serve_request", *options)


def main():
    if not way_works(t, "kernel"):
        return SKIP
    inside, outside = t.path("inside.tt"), t.path("outside.tt")
    p = subprocess.Popen([str(c) for c in command(inside, 12)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         start_new_session=True, env=environment())
    try:
        until = time.monotonic() + LIMIT
        while not counted(inside) and p.poll() is None and time.monotonic() < until:
            time.sleep(0.05)  # asks for an event: the first row that counts
        status, _, err = run(command(outside, 2, *WAYS["kernel"][0]))
        t.check(status == 0, "from the kernel: runs to its end", f"{status}: {err.decode()[-1000:]}")
        meanwhile = p.poll() is None
        t.check(p.wait(LIMIT) == 0, "from inside: runs to its end", f"status {p.returncode}")
        t.check(meanwhile, "both ran at a time")
    finally:
        end_group(p)
    for session, seconds in ((inside, 12), (outside, 2)):
        t.check(0 < counted(session) <= RATE * seconds, f"{session.stem}: its own calls, at most {RATE * seconds}", counted(session))
    t.check(counted(outside) == RATE * 2, "outside: all calls", counted(outside))
    return t.end()


if __name__ == "__main__":
    sys.exit(main())
