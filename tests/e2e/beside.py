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


def side_by_side(inside, outside, seconds):
    """Statuses of both, and whether the one inside still ran when the other had ended."""
    p = subprocess.Popen([str(c) for c in command(inside, seconds)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         start_new_session=True, env=environment())
    try:
        until = time.monotonic() + LIMIT
        while not counted(inside) and p.poll() is None and time.monotonic() < until:
            time.sleep(0.05)  # asks for an event: the first row that counts
        status, _, err = run(command(outside, 2, *WAYS["kernel"][0]))
        meanwhile = p.poll() is None
        return p.wait(LIMIT), (status, err.decode()[-1000:]), meanwhile
    finally:
        end_group(p)


def main():
    if not way_works(t, "kernel"):
        return SKIP
    for seconds in (12, 30, 75):  # a busy machine may need longer for the other's two
        inside, outside = t.path(f"inside{seconds}.tt"), t.path(f"outside{seconds}.tt")
        status, (other, said), meanwhile = side_by_side(inside, outside, seconds)
        t.check(other == 0, "from the kernel: runs to its end", f"{other}: {said}")
        t.check(status == 0, "from inside: runs to its end", f"status {status}")
        if meanwhile or t.failed:
            break
    t.check(meanwhile, "both ran at a time")
    for session, lasted in ((inside, seconds), (outside, 2)):
        t.check(0 < counted(session) <= RATE * lasted, f"{session.stem}: its own calls, at most {RATE * lasted}", counted(session))
    t.check(counted(outside) == RATE * 2, "outside: all calls", counted(outside))
    return t.end()


if __name__ == "__main__":
    sys.exit(main())
