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
from truth import judge, remove_ipc

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
# Way in: options of run, and the resources that it sees. System calls know nothing of streams and libraries; the descriptors
# and mappings of those are found instead.
WAYS = {
    "agent": ([], {"heap"}),
    "kernel": (["--no-inject"], {"fd", "socket", "port", "mapping", "child", "timer", "ipc"}),
}
HORIZON = "2"
AT_ONCE = 11
WAY = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] in WAYS else sys.exit(f"usage: {sys.argv[0]} {'|'.join(WAYS)} [NAME...]")
OPTIONS, KNOWN = WAYS[WAY]
t = Test("resources-" + WAY)


def one(name):
    session = t.path(f"{name}.tt")
    program = pathlib.Path(os.environ["FIXTURES"], "fixture_res_" + name)
    status, out, err = run(t.under("exact", session, [program], "--horizon", HORIZON, "--operation", "request=serve_request", *OPTIONS,
                                   *FIXTURES[name]))
    remove_ipc(err)
    if not t.check(status == 0, f"{name}: does its own work", f"{status}: {err.decode()[-2000:]}"):
        return
    truths = [json.loads(line) for line in out.decode().splitlines()]
    report = t.findings(session)
    if report:
        judge(t, name, truths, report, KNOWN)


def main():
    if WAY == "kernel":
        status, _, err = run(t.under("exact", t.path("try.tt"), ["/bin/true"], *OPTIONS))
        if status != 0:
            print(f"skip {t.name}: {err.decode().strip() or 'no eBPF'}")
            return SKIP
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, sys.argv[2:] or FIXTURES))
    return t.end()


if __name__ == "__main__":
    sys.exit(main())
