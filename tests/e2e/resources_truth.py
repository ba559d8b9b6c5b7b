#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The fixtures of tests/fixtures/res_*.c under telltale: for each resource a leak and what looks like one, held against the truth
that they print. Both ways in must give the same findings: the agent, and eBPF with nothing in the target (`--no-inject`), which
is skipped where the kernel or its rules do not have it. Usage: resources_truth.py agent|kernel [NAME...]. Start: one."""
import concurrent.futures
import json
import os
import pathlib
import sys

from harness import SKIP, Test, run
from truth import WAYS, judge, left_open, remove_ipc, way_in, way_works

# Fixture: options of run.
FIXTURES = {
    "files": [],
    "sockets": [],
    "ports": [],
    "threads": [],
    "mappings": [],
    "children": [],
    "libraries": [],
    "passed": ["-f"],
    "workers": ["-f"],
    "streams": [],
    "timers": [],
}
HORIZON = "2"
AT_ONCE = 6
WAY = way_in(sys.argv)
OPTIONS = WAYS[WAY][0]
t = Test("resources-" + WAY)


def one(name, again=True):
    """Runs a fixture and judges it; one whose verdicts were left open is run once more, later. True when that is due."""
    session = t.path(f"{name}.tt")
    program = pathlib.Path(os.environ["FIXTURES"], "fixture_res_" + name)
    status, out, err = run(t.under("exact", session, [program], "--horizon", HORIZON, "--operation", "request=serve_request", *OPTIONS,
                                   *FIXTURES[name]))
    remove_ipc(err)
    if not t.check(status == 0, f"{name}: does its own work", f"{status}: {err.decode()[-2000:]}"):
        return False
    truths = [json.loads(line) for line in out.decode().splitlines()]
    report = t.findings(session)
    if report and again and left_open(truths, report, WAY):
        print(f"     {t.name}: {name} once more, it was left open", flush=True)
        return True
    if report:
        judge(t, name, truths, report, WAY)
    return False


def main():
    if not way_works(t, WAY):
        return SKIP
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        names = sys.argv[2:] or list(FIXTURES)
        due = [name for name, again in zip(names, list(pool.map(one, names))) if again]
    for name in due:
        one(name, again=False)
    return t.end()


if __name__ == "__main__":
    sys.exit(main())
