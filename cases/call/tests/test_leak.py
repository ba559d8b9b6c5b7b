# SPDX-License-Identifier: Apache-2.0
"""The ground truth of the leak: whole runs of callload with SIPp, in which a preloaded shim counts
what the server has not freed when it exits. The only blocks are those of 40 bytes that article
310626 speaks of, in exactly the number that callload says.

usage: test_leak.py TAPISRV TAPISRV_HOTFIX CALLLOAD SHIM
Exit status 77 (skipped) without SIPp.
"""

import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import tempfile

from callcase import *

CALLS = 20


def load(callload, shim, server, *server_args, **options):
    """One run: (blocks of 40 bytes left, bytes left in blocks of other sizes, the truth)."""
    with tempfile.TemporaryDirectory() as directory:
        truth, counts = os.path.join(directory, "truth"), os.path.join(directory, "counts")
        args = [callload, "--calls", str(CALLS), "--rate", "200", "--duration", "10", "--truth", truth]
        for name, value in options.items():
            args += ["--" + name, str(value)]
        args += ["--", "env", f"LD_PRELOAD={shim}", f"CALL_SHIM_OUT={counts}", server, *server_args]
        done = subprocess.run(args, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        with open(truth, encoding="utf-8") as file:
            told = json.load(file)
        with open(counts, encoding="utf-8") as file:
            left = {int(size): int(count) for size, count in map(str.split, file)}
        return left.get(40, 0), left, told


def expect(blocks, *args, exact=True, **options):
    found, left, told = load(*args, **options)
    assert told["calls"] == CALLS and told["exact"] == exact, told
    assert found == blocks, f"{options}: {found} blocks, expected {blocks}; left: {left}"
    assert not exact or told["leaked_blocks"] == blocks, told
    # What the C library keeps for itself (time zone) is there in every run, and is not 40 bytes.
    assert sum(size * n for size, n in left.items() if size != 40) < 4096, left


def all_of(*cases):
    """Runs cases two at a time; the run is mostly waiting for SIPp."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for result in [pool.submit(expect, *args, **options) for args, options in cases]:
            result.result()


def case(blocks, *args, **options):
    return (blocks, *args), options


def test_law_of_the_shipped_build(shipped, hotfix, callload, shim):
    all_of(*[case(CALLS * max(0, n - 2), callload, shim, shipped, owners=n) for n in range(1, 9)])


def test_order_does_not_matter_and_monitors_do_not_count(shipped, hotfix, callload, shim):
    all_of(case(CALLS * 2, callload, shim, shipped, owners=4, order="reverse"),
           case(CALLS * 2, callload, shim, shipped, owners=4, order="random"),
           case(0, callload, shim, shipped, owners=1, monitors=7),
           case(CALLS, callload, shim, shipped, owners=3, monitors=2, deaf=1))


def test_other_ends_free_everything(shipped, hotfix, callload, shim):
    all_of(*[case(0, callload, shim, shipped, owners=n, end=end)
             for n in (3, 5) for end in ("close", "shutdown", "kill")])


def test_hotfix(shipped, hotfix, callload, shim):
    all_of(*[case(0, callload, shim, hotfix, owners=n) for n in (1, 2, 3, 8)])


def test_switches(shipped, hotfix, callload, shim):
    all_of(case(0, callload, shim, shipped, "--law", "L2", owners=2),
           case(CALLS * 3, callload, shim, shipped, "--law", "L2", owners=3),
           case(CALLS * 5, callload, shim, shipped, "--law", "L2", owners=5),
           case(CALLS * 2, callload, shim, shipped, "--owners-counted", "simultaneous", owners=4),
           case(0, callload, shim, shipped, "--leak-probability", "0", owners=4, exact=False))


def owners_in_turn(shim, server, *args, monitor_last=False):
    """One call that four applications own one after the other, never more than two at a time."""
    with tempfile.TemporaryDirectory() as directory:
        counts = os.path.join(directory, "counts")
        with Server(server, *args, env={"LD_PRELOAD": shim, "CALL_SHIM_OUT": counts}) as s:
            apps = [App(s, f"app{i}") for i in range(5)]
            for app in apps:
                app.open(MONITOR | OWNER)
            phone = Phone(s)
            phone.invite()
            calls = [app.new_call()[0] for app in apps]
            for before, after in ((0, 1), (1, 2), (2, 3)):
                assert apps[after].request(SET_PRIVILEGE, calls[after], OWNER) == 0
                assert apps[before].request(SET_PRIVILEGE, calls[before], MONITOR) == 0
            assert apps[2].request(SET_PRIVILEGE, calls[2], OWNER) == 0, "its own record again"
            phone.send(phone.request("CANCEL", branch=phone.invite_branch))
            apps[0].event(CALLSTATE, IDLE)
            for i in [3, 2, 1, 0, 4] if monitor_last else [4, 0, 1, 2, 3]:
                assert apps[i].request(DEALLOCATE, calls[i]) == 0
        with open(counts, encoding="utf-8") as file:
            return dict(map(str.split, file)).get("40", "0")


def test_which_owners_count(shipped, hotfix, callload, shim):
    assert owners_in_turn(shim, shipped) == "2", "four owners ever"
    assert owners_in_turn(shim, shipped, "--owners-counted", "simultaneous") == "0", "two at a time"
    assert owners_in_turn(shim, shipped, monitor_last=True) == "2", "whose handle is last is no matter"
    assert owners_in_turn(shim, hotfix) == "0"


def test_probability_is_seeded(shipped, hotfix, callload, shim):
    args = (callload, shim, shipped, "--leak-probability", "0.5", "--seed", "7")
    first, second = load(*args, owners=3)[0], load(*args, owners=3)[0]
    assert first == second and 0 < first < CALLS, (first, second)


if not shutil.which("sipp"):
    print("SIPp (package sip-tester) is not installed")
    sys.exit(77)
run([f for name, f in list(globals().items()) if name.startswith("test_")])
