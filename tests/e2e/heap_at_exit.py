#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program that ends by itself, before statistics can tell anything: a copy of its memory at its exit shows what nothing points to,
and nothing else is called lost, above all not what only main's own variables held. And an exit does not wait for a recorder that
stands still. Start: main."""
import contextlib
import os
import pathlib
import select
import signal
import sqlite3
import subprocess
import sys

from harness import LIMIT, SKIP, Test, environment, run

PROGRAM = pathlib.Path(os.environ["FIXTURES"], "fixture_lost_at_exit")
BLOCKS, STATUS = 400, 7
t = Test("heap-at-exit")


def unreachable(report):
    """Function that acquired them -> units that the evidence says nothing points to."""
    units = {}
    for finding in report["findings"]:
        for evidence in finding["evidence"]:
            if evidence["kind"] == "unreachable" and finding["site"]["frames"]:
                units[finding["site"]["frames"][0]["function"]] = evidence["units"]
    return units


def ends(how, checks, k):
    session = t.path(f"{how}{k}.tt")
    status, _, err = run(t.under("exact", session, [PROGRAM, how], "--snapshots", "auto"))
    checks.right(status == STATUS, f"{how}: ends as it would", f"{status}: {err.decode()}")
    report = t.findings(session)
    units = unreachable(report) if report else {}
    checks.found(units.get("lose_block") == BLOCKS, f"{how}: {units.get('lose_block', 0)} of {BLOCKS} lost blocks proven", units)
    checks.right(not units.get("hold_block") and not units.get("give_block"), f"{how}: nothing that is held", units)
    leaks = [f["site"]["frames"][0]["function"] for f in report["findings"] if f["verdict"].startswith("leak") and f["site"]["frames"]]
    checks.right(set(leaks) <= {"lose_block"}, f"{how}: nothing else is called a leak", leaks)


def stand_still(recorder, pid):
    """Stops the recorder, but not while it has stopped the program for a copy."""
    for _ in range(1000):
        os.kill(recorder.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, recorder.pid, os.WSTOPPED)
        status = pathlib.Path("/proc", str(pid), "status").read_text(encoding="utf-8")
        if "TracerPid:\t0\n" in status:
            return
        os.kill(recorder.pid, signal.SIGCONT)
        os.waitid(os.P_PID, recorder.pid, os.WCONTINUED)


def does_not_wait():
    """The recorder is stopped; the program must end all the same."""
    command = t.under("exact", t.path("deaf.tt"), [PROGRAM, "return", "wait"], "--snapshots", "auto")
    recorder = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    pid = int(recorder.stdout.readline().split()[1])
    end = os.pidfd_open(pid)
    stand_still(recorder, pid)
    recorder.stdin.close()
    ended = select.select([end], [], [], LIMIT)[0]
    os.kill(recorder.pid, signal.SIGCONT)
    t.check(ended, "the exit does not wait for a recorder that stands still")
    t.check(recorder.wait() == STATUS, "and the recorder ends as its command")
    recorder.stdout.close()
    os.close(end)


def may_trace():
    session = t.path("try.tt")
    status, _, err = run(t.under("exact", session, [PROGRAM, "return"], "--snapshots", "auto"))
    with contextlib.closing(sqlite3.connect(f"file:{session}?mode=ro", uri=True)) as db:
        why = " ".join(row[0] for row in db.execute("SELECT what FROM dropped"))
    if "SYS_PTRACE" in why or "ptrace_scope" in why:
        print(f"skip {t.name}: {why}")
        return False
    return t.check(status == STATUS, "runs", err.decode())


def main():
    if not may_trace():
        return SKIP
    for how in ("return", "exit"):
        t.tries(3, lambda checks, k, how=how: ends(how, checks, k))
    does_not_wait()
    return t.end()


if __name__ == "__main__":
    sys.exit(main())
