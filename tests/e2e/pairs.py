#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The pairs of tests/pairs under telltale. Each program runs twice: with all its losing halves, of which each must be found at
the function and line that the program says, and nothing else; and with all its releasing halves, of which nothing may be called
a leak. Usage: pairs.py [PROGRAM...]. Start: judge."""
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys

from harness import Test, run

# Program: options of run. What a program acquires stands in its own truth.
PROGRAMS = {
    "heap": [],
    "cxx": [],
    "stream": [],
}
# Resources that telltale finds as themselves today; the loss of others is asked for as what it may be seen as too (a stream's
# heap block).
KNOWN = {"heap"}
HORIZON = "2"
AT_ONCE = 12
t = Test("pairs")


def place(function, file, line):
    return function, pathlib.PurePath(file or "").name, line


def frames(finding):
    """The places of a finding's frames; functions without C++ parameters."""
    return {place(re.sub(r"\(.*", "", f.get("function") or ""), f.get("file"), f.get("line")) for f in finding["site"]["frames"]}


def told(finding):
    return finding["resource"], finding["verdict"], [f"{f.get('function')} {f.get('line')}" for f in finding["site"]["frames"][:4]]


def wanted(site):
    """Resources of which one finding must speak."""
    also = set(filter(None, site["also"].split("|")))
    return {site["resource"]} if site["resource"] in KNOWN else also & KNOWN


def judge(name, truth, report):
    """Every planted place found, with the right resource and no more units than it made; no leak elsewhere."""
    planted = {place(s["function"], s["file"], s["line"]): s for s in truth["sites"] if s["leak"]}
    found, wrong = {}, []
    for finding in report["findings"]:
        if not finding["verdict"].startswith("leak"):
            continue
        here = frames(finding) & planted.keys()
        site = planted[next(iter(here))] if len(here) == 1 else None
        if site and finding["resource"] in {site["resource"], *site["also"].split("|")}:
            found.setdefault(next(iter(here)), []).append(finding)
        else:
            wrong.append(told(finding))
    asked = {key: wanted(site) for key, site in planted.items() if wanted(site)}
    missing = []
    for key, resources in asked.items():
        mine = [f for f in found.get(key, []) if f["resource"] in resources]
        if not mine:
            missing.append((key, [told(f) for f in report["findings"] if key in frames(f)]))
        elif not 0 < min(f["lost"]["units"] for f in mine) <= planted[key]["births"]:
            missing.append((key, "units", planted[key]["births"], [f["lost"]["units"] for f in mine]))
    t.check(not missing, f"{name}: {len(asked) - len(missing)} of {len(asked)} planted places found", "\n     ".join(map(str, missing[:20])))
    t.check(not wrong, f"{name}: nothing else called a leak ({len(wrong)})", "\n     ".join(map(str, wrong[:20])))


def remove_ipc(said):
    """System V objects outlive their process; pairs_ipc names on its standard error what it made."""
    for line in said.decode(errors="replace").splitlines():
        made = re.fullmatch(r"(shm|sem|msg) (\d+)", line)
        if made:
            subprocess.run(["ipcrm", {"shm": "-m", "sem": "-s", "msg": "-q"}[made[1]], made[2]], check=False, stderr=subprocess.DEVNULL)


def one(program, half):
    name = f"{program} {half}"
    session = t.path(f"{program}-{half}.tt")
    status, out, err = run(t.under("exact", session, [pathlib.Path(os.environ["PAIRS"], "pairs_" + program), half],
                                   "--horizon", HORIZON, "--operation", "round=serve_request", *PROGRAMS[program]))
    remove_ipc(err)
    if not t.check(status == 0 and out, f"{name}: does its own work", f"{status}: {err.decode()}"):
        return 0
    truth = json.loads(out)
    report = t.findings(session)
    if report:
        judge(name, truth, report)
        status, out, err = run([t.telltale, "check", session])
        t.check(status == (1 if half == "bad" else 0), f"{name}: check's exit status", f"{status}: {(out + err).decode()[:500]}")
    listed = subprocess.run([pathlib.Path(os.environ["PAIRS"], "pairs_" + program), "list"], stdout=subprocess.PIPE, check=True)
    return sum(line.startswith(half.encode()) for line in listed.stdout.splitlines())


def main():
    chosen = [(p, h) for p in sys.argv[1:] or PROGRAMS for h in ("bad", "good")]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        halves = list(pool.map(lambda c: (c[1], one(*c)), chosen))
    print(f"pairs: {sum(n for h, n in halves if h == 'bad')} losing and {sum(n for h, n in halves if h == 'good')} releasing halves")
    return t.end()


if __name__ == "__main__":
    sys.exit(main())
