#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Article 310626 rediscovered from outside (SYSTEMS.md D1): the call server under SIPp with 1 to 8 owners a call, as shipped
and as hotfixed, and the look-alikes that must not be called leaks. Counts come from SIPp and the owner programs,
never from the server. `call_law.py law` runs the owners' sweep, `call_law.py innocent` the rest."""
import concurrent.futures
import json
import os
import pathlib
import sys

from harness import Test, run

WHAT = sys.argv[1]
CASES = pathlib.Path(os.environ["CASES_CALL"])
CALLS = int(os.environ.get("CALL_LAW_CALLS", "160"))
HORIZON = 6  # seconds; shortened so that the suite stays short, as is T1 of SIP (remnants of a call stay 64 T1)
t = Test(f"call {WHAT}", needs=["sipp"])


def place(name, server="tapisrv", owners=4, monitors=0, end="dealloc", options=(), calls=CALLS, rate=8):
    """One loaded server under telltale; (ground truth, findings, status of check)."""
    session, truth = t.path(f"{name}.tt"), t.path(f"{name}.json")
    command = [CASES / "callload", "--owners", owners, "--monitors", monitors, "--calls", calls, "--rate", rate, "--end", end,
               "--settle", HORIZON + 2, "--truth", truth, *options, "--", t.telltale, "run", "-q", "-o", session,
               "--horizon", HORIZON, "--operation", "call=call_new", "--label", f"owners={owners}", "--", CASES / server, "--t1", "50"]
    status, out, err = run(command, limit=150)
    if not t.check(status == 0, f"{name}: load ended well", f"status {status}: {(out + err).decode()[-2000:]}"):
        return None
    return json.loads(truth.read_text()), t.findings(session), run([t.telltale, "check", session])[0]


def leaks(findings):
    return [f for f in findings["findings"] if f["verdict"].startswith("leak")]


def law():
    runs = [(f"owners{n}", dict(owners=n)) for n in range(1, 9)] + [("hotfix4", dict(server="tapisrv-hotfix")),
                                                                  ("hotfix8", dict(server="tapisrv-hotfix", owners=8))]
    with concurrent.futures.ThreadPoolExecutor(max_workers=10) as pool:
        results = dict(zip([n for n, _ in runs], pool.map(lambda r: place(r[0], **r[1]), runs)))
    for name, result in results.items():
        if result is None or result[1] is None:
            continue
        truth, findings, status = result
        expected, found = truth["leaked_blocks"], leaks(findings)
        t.check(truth["calls"] == CALLS, f"{name}: SIPp placed every call", truth)
        if expected == 0:
            t.check(not found and status == 0, f"{name}: nothing lost, nothing found", found)
            continue
        extra = int(name[-1]) - 2
        if not t.check(len(found) == 1 and status == 1, f"{name}: one leak", found):
            continue
        leak, frame = found[0], found[0]["site"]["frames"][0]
        t.check(frame["function"] == "owner_record_new" and frame["file"].endswith("owner.c") and frame["line"] > 0,
                f"{name}: allocation site", frame)
        t.check(leak["lost"]["units"] == expected == extra * CALLS, f"{name}: {expected} blocks", leak["lost"])
        t.check(leak["lost"]["bytes"] == 40 * expected, f"{name}: 40 requested bytes each", leak["lost"])
        t.check(leak["lost"]["cost"] == 48 * expected, f"{name}: 48 bytes of heap each", leak["lost"])
        t.check(leak["rate"]["operation"] == "call" and leak["rate"]["per_operation"] == extra,
                f"{name}: {extra} blocks per call", leak["rate"])
    controls = [o for n in (1, 2, 3, 5, 6, 7, 8) for o in ("--control", t.path(f"owners{n}.tt"))]
    joined = t.findings(t.path("owners4.tt"), *controls, "--fixed", t.path("hotfix4.tt"))
    if joined:
        leak = leaks(joined)[0]
        text = (leak["law"] or {}).get("text", "")
        t.check("owners - 2" in text and "40" in text and leak["law"]["r2"] > 0.999, "law across 1 to 8 owners", leak["law"])
        t.check(leak["confirmed"], "confirmed by the clean controls", leak["confirmed"])


def innocent():
    runs = {
        "monitors": dict(owners=1, monitors=7),
        "close": dict(end="close"),
        "shutdown": dict(end="shutdown"),
        "kill": dict(end="kill"),
        "hotfix_close": dict(server="tapisrv-hotfix", end="close"),
        "long_calls": dict(owners=2, options=("--duration", 9000)),
        "held_handles": dict(owners=2, options=("--hold", 4000)),
        "deaf_monitor": dict(owners=1, options=("--deaf", 1)),
    }
    with concurrent.futures.ThreadPoolExecutor(max_workers=10) as pool:
        for name, result in zip(runs, pool.map(lambda r: place(r[0], **r[1]), runs.items())):
            if result and result[1]:
                t.check(not leaks(result[1]) and result[2] == 0, f"{name}: no leak", leaks(result[1]))
    owners()


def owners():
    """The client programs of a leaking server are flat: each runs under telltale itself."""
    wrapper = t.path("owner-under-telltale")
    wrapper.write_text(f"""#!/bin/sh
exec '{t.telltale}' run -q -o '{t.directory}/client-%p.tt' --horizon {HORIZON} -- '{CASES}/callowner' "$@"
""")
    wrapper.chmod(0o755)
    if place("clients", options=("--callowner", wrapper)) is None:
        return
    sessions = sorted(pathlib.Path(t.directory).glob("client-*.tt"))
    t.check(len(sessions) == 4, "clients: four recorded", sessions)
    for session in sessions:
        t.check_clean(session)


{"law": law, "innocent": innocent}[WHAT]()
sys.exit(t.end())
