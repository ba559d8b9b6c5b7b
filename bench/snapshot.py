#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a snapshot costs: how long the process stands still, beside a bare fork(2) of the same process in the same run, by turns; and how long
the search of the copy takes. The process is bench/heapblocks.c: about eight million blocks a GB. Start: main.

    bench/snapshot.py BUILD [--mebibytes 1024] [--rounds 7] [--write docs/performance.md] [--json FILE]"""
import argparse
import json
import os
import pathlib
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile

BEGIN, END = "<!-- snapshot: begin (written by bench/snapshot.py) -->", "<!-- snapshot: end -->"
PAUSE_BAR, SCAN_BAR = 1.3, 1.0


class Target:
    def __init__(self, build, mebibytes):
        self.process = subprocess.Popen([f"{build}/bench/heapblocks", str(mebibytes), "32"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline().startswith("ready"):
            sys.exit("snapshot: heapblocks did not get ready")

    def fork(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        return self.process.wait()


def snapshot(telltale, pid, path):
    """One snapshot's row, and telltale's peak of memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([telltale, "snapshot", "-p", str(pid), "-o", path], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    with sqlite3.connect(path) as db:
        names = "stop_ns", "fork_ns", "scan_ns", "blocks", "bytes", "lost_units"
        row = dict(zip(names, db.execute(f"SELECT {', '.join(names)} FROM snapshot").fetchone()))
    os.unlink(path)
    row["cpu_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    row["peak"] = after.ru_maxrss * 1024
    return row


def measure(build, mebibytes, rounds):
    telltale = f"{build}/src/cmd/telltale"
    target = Target(build, mebibytes)
    forks, rows = [], []
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(rounds):
            pair = [target.fork()]
            rows.append(snapshot(telltale, target.process.pid, os.path.join(directory, "s.tt")))
            pair.append(target.fork())
            forks.append(statistics.mean(pair))
    if target.close() != 0:
        sys.exit("snapshot: heapblocks did not end well")
    return forks, rows


def table(forks, rows):
    last = rows[-1]
    gb = last["bytes"] / 1e9
    ratios = [r["stop_ns"] / f for r, f in zip(rows, forks)]

    def both(values, scale=1.0):
        return f"{statistics.median(values) / scale:.3g} ({min(values) / scale:.3g} to {max(values) / scale:.3g})"

    def held(value, bar):
        return f"<= {bar:g} | {'held' if value <= bar else 'missed'}"
    scan = [r["scan_ns"] / 1e9 / gb for r in rows]
    return "\n".join([
        f"{gb:.2f} GB in {last['blocks']:,} blocks, {last['lost_units']:,} of them lost; median (least to most) of {len(rows)} rounds.", "",
        "| what | measured | bar | |", "| --- | ---: | ---: | --- |",
        f"| fork(2) by the process itself | {both(forks, 1e6)} ms | | |",
        f"| stop of the process for a snapshot | {both([r['stop_ns'] for r in rows], 1e6)} ms | | |",
        f"| of that in clone(2) | {both([r['fork_ns'] for r in rows], 1e6)} ms | | |",
        f"| stop, in units of that round's fork | {both(ratios)} | {held(statistics.median(ratios), PAUSE_BAR)} |",
        f"| from the stop to the result: reading, blocks, marking, groups, holders | {both(scan)} s per GB | {held(statistics.median(scan), SCAN_BAR)} |",
        f"| processor time of telltale snapshot | {both([r['cpu_s'] / gb for r in rows])} s per GB | | |",
        f"| most memory of telltale, the copied bytes included | {last['peak'] / last['bytes']:.2f} bytes per byte of heap | | |",
    ])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("--mebibytes", type=int, default=1024)
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--write", metavar="PAGE")
    p.add_argument("--json", metavar="FILE")
    a = p.parse_args()
    forks, rows = measure(os.path.abspath(a.build), a.mebibytes, a.rounds)
    if a.json:
        pathlib.Path(a.json).write_text(json.dumps({"fork_ns": forks, "snapshots": rows}, indent=1))
    text = table(forks, rows)
    if a.write:
        page = pathlib.Path(a.write)
        head, rest = page.read_text().split(BEGIN)
        page.write_text(head + BEGIN + "\n" + text + "\n" + END + rest.split(END)[1])
    print(text)


if __name__ == "__main__":
    main()
