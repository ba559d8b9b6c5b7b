#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The instruction-count gate: bench/pairloop under valgrind's callgrind, with and without telltale. Two lengths of the loop
are compared, so that start and end cancel. Exit status 1 if a mode costs more instructions per pair than bench/gate.json
says, plus its tolerance; 77 without valgrind. Start: main."""
import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile

from measure import limited

REFERENCE = pathlib.Path(__file__).with_name("gate.json")
SHORT, LONG = 200_000, 600_000  # pairs; callgrind runs some fifty times slower than the processor
# The agent reserves less under a limit; valgrind cannot reserve what it takes without one.
ADDRESS_SPACE = 32 << 30


def instructions(directory, command, program):
    """Instructions that `program` executed, itself or as a child of `command`."""
    for old in directory.glob("counts.*"):
        old.unlink()
    done = subprocess.run(["valgrind", "-q", "--tool=callgrind", "--trace-children=yes",
                           f"--callgrind-out-file={directory}/counts.%p", *map(str, command)],
                          capture_output=True, text=True, timeout=300, check=False, preexec_fn=limited(ADDRESS_SPACE))
    for path in directory.glob("counts.*"):
        text = path.read_text(errors="replace")
        total = re.search(r"^(?:summary|totals): (\d+)", text, re.M)
        if total and re.search(rf"^cmd: *{re.escape(str(program))}(?: |$)", text, re.M):
            return int(total.group(1))
    raise RuntimeError(f"no counts of {program} (status {done.returncode}): {done.stderr[-800:]}")


def insist_recorded(session, mode, pairs):
    """An agent that refused or went quiet would cost next to nothing, and the gate would hold for ever."""
    with contextlib.closing(sqlite3.connect(f"file:{session}?mode=ro", uri=True)) as db:
        births = db.execute("select sum(births) from site_sample").fetchone()[0] or 0
        states = db.execute("select exe, state, reason from process").fetchall()
    if any(state == "refused" for _, state, _ in states) or not births or mode == "exact" and births < pairs:
        raise RuntimeError(f"nothing to count: {mode} mode recorded {births} of {pairs} births: {states}")


def per_pair(directory, mode, args, depth):
    """Instructions per malloc/free pair of the loop in a mode (None: bare)."""
    counts = []
    for pairs in (SHORT, LONG):
        loop = [args.pairloop, "--threads", 1, "--depth", depth, "--live", 1000, "--vary", 1, "--min", 16,
                "--max", 128, "--slices", 1, "--pairs", pairs]
        under = [] if mode is None else [args.telltale, "run", "-q", "--mode", mode, "-o", directory / "gate.tt", "--"]
        counts.append(instructions(directory, under + loop, args.pairloop))
        if mode is not None:
            insist_recorded(directory / "gate.tt", mode, pairs)
        for path in directory.glob("gate.tt*"):
            path.unlink()
    return (counts[1] - counts[0]) / (LONG - SHORT)


def main():
    parser = argparse.ArgumentParser(description="Counts instructions per malloc/free pair.")
    parser.add_argument("--telltale", default="build/src/cmd/telltale", type=os.path.abspath)
    parser.add_argument("--pairloop", default="build/bench/pairloop", type=os.path.abspath)
    parser.add_argument("--update", action="store_true", help="make today's counts the reference")
    args = parser.parse_args()
    if not shutil.which("valgrind"):
        print("gate: valgrind is not installed")
        return 77
    reference = json.loads(REFERENCE.read_text(encoding="utf-8")) if REFERENCE.exists() else {"tolerance": 0.05, "added": {}}
    added, worse = {}, []
    with tempfile.TemporaryDirectory(prefix="tt-gate.") as name:
        for depth in (5, 20):
            bare = per_pair(pathlib.Path(name), None, args, depth)
            for mode in ("exact", "sampled", "adaptive"):
                key = f"{mode}, depth {depth}"
                added[key] = round(per_pair(pathlib.Path(name), mode, args, depth) - bare, 1)
                wanted = reference["added"].get(key)
                # The constant half instruction keeps a count of 3 from failing on a rounding.
                over = wanted is not None and added[key] > wanted * (1 + reference["tolerance"]) + 0.5
                if over:
                    worse.append(key)
                print(f"{key}: {added[key]} instructions per pair more than bare" +
                      ("" if wanted is None else f" (reference {wanted})") + ("  TOO MANY" if over else ""), flush=True)
    if args.update or not reference["added"]:
        reference["added"] = added
        REFERENCE.write_text(json.dumps(reference, indent=1) + "\n", encoding="utf-8")
        print(f"gate: reference written to {REFERENCE.name}")
        return 0
    print("gate: " + (f"{len(worse)} of {len(added)} above the reference" if worse else "held"))
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
