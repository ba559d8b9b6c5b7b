#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The soak: attach and detach, thousands of times, on loaded targets that would show any harm, in exact and
sampled mode by turns; docs/reliability.md takes its table from here. Every target checks its own memory or has a
client that checks every answer; a counter that stands still for ten seconds is a hang. Start: main.

    bench/soak/soak.py BUILD [--cycles 10000] [--only loop,redis] [--write docs/reliability.md] [--json FILE]"""
import argparse
import json
import mmap
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "e2e"))
from servers import SERVERS, Target, present  # noqa: E402

HANG = 10.0
BEGIN, END = "<!-- soak: begin (written by bench/soak/soak.py) -->", "<!-- soak: end -->"


def say(*words):
    print(*words, file=sys.stderr, flush=True)


class Own(Target):
    """soaktarget or soakthrow: counters in a file."""
    says_ok = True

    def __init__(self, name, build, arguments, counters, directory):
        self.file = pathlib.Path(directory) / "counters"
        program = pathlib.Path(build) / "bench" / "soak" / arguments[0]
        super().__init__(name, [str(program), *arguments[1:], str(self.file)], directory)
        if "ready" not in self.process.stdout.readline():
            raise RuntimeError(f"{name} did not start")
        self.count = counters
        with open(self.file, "rb") as f:
            self.map = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)

    def progress(self):
        return struct.unpack_from(f"{self.count}Q", self.map)


KINDS = {  # name: (what it is, share of the cycles, make(build, directory), pause between cycles in ms)
    "loop": ("malloc loop, 4 threads, every block checked", 0.36,
             lambda b, d: Own("loop", b, ["soaktarget", "loop", "4"], 4, d), 0.5),
    "crowd": ("the same with 64 threads", 0.02, lambda b, d: Own("crowd", b, ["soaktarget", "loop", "64"], 64, d), 2),
    "fork": ("forks all the time, 2 threads beside it", 0.12,
             lambda b, d: Own("fork", b, ["soaktarget", "fork", "2"], 3, d), 1),
    # its epoll_wait ends after 20 ms, which begin again at each stop: never, if the stops come faster
    "signal": ("a signal every 500 us, a thread in epoll_wait that must not see EINTR", 0.14,
               lambda b, d: Own("signal", b, ["soaktarget", "signal", "3"], 4, d), 25),
    "throw": ("C++ exceptions through frames that allocate, 3 threads", 0.12,
              lambda b, d: Own("throw", b, ["soakthrow", "3"], 3, d), 0.5),
    "redis": ("redis-server with I/O threads (jemalloc), 3 clients that check every answer", 0.12,
              lambda b, d: SERVERS["redis"][1](d), 0.5),
    "nginx": ("nginx with gzip, 2 clients that check every answer", 0.12, lambda b, d: SERVERS["nginx"][1](d), 0.5),
}


def soak(build, kind, cycles, mode):
    what, share, make, between = KINDS[kind]
    row = {"kind": kind, "what": what}
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        target = make(build, directory)
        controller = subprocess.Popen([f"{build}/bench/soak/soak", str(target.pid), str(cycles), mode, "1", str(between)],
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        last, moved, hung = target.progress(), {}, []
        started = now = time.monotonic()
        while controller.poll() is None:
            time.sleep(0.25)
            now = time.monotonic()
            progress = target.progress()
            for i, value in enumerate(progress):
                if value != last[i]:
                    moved[i] = now
                elif now - moved.get(i, started) > HANG and i not in hung:
                    hung.append(i)
            last = progress
            if len(hung) == len(progress) or target.process.poll() is not None:
                controller.terminate()
                break
        out, err = controller.communicate()
        try:
            row.update(json.loads(out))
        except ValueError:
            row.update(cycles=0, failures=1, changed=0, causes={f"controller: {(err or out)[-200:]}": 1})
        before = target.progress()  # after the last detach it must go on
        deadline = time.monotonic() + HANG
        while any(a == b for a, b in zip(before, target.progress())) and time.monotonic() < deadline:
            time.sleep(0.05)
        hung += [i for i, (a, b) in enumerate(zip(before, target.progress())) if a == b and i not in hung]
        row["hangs"] = len(hung)
        row["work"] = sum(target.progress())
        row["seconds"] = round(now - started, 1)
        row["wrong"] = target.close()
    return row


def table(rows):
    lines = ["| target | cycles | crashes, wrong contents | hangs | refused attaches | code restored | stop at attach, ms: median / p95 / max |"
             " at detach | one thread, memory |", "| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |"]

    def times(row, key):
        t = row.get(key)
        return f"{t['median']:.3f} / {t['p95']:.3f} / {t['max']:.2f}" if t else "-"
    for r in rows:
        lines.append(f"| {r['what']} | {r['cycles']} | {len(r['wrong'])} | {r['hangs']} | {r['failures']} | "
                     f"{'yes' if not r['changed'] else 'NO: ' + str(r['changed'])} | {times(r, 'attach_ms')} | "
                     f"{times(r, 'detach_ms')} | {times(r, 'start_ms')} |")
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("--cycles", type=int, default=10000)
    p.add_argument("--mode", default="both", choices=("exact", "sampled", "both"))
    p.add_argument("--only", default=",".join(KINDS))
    p.add_argument("--write", metavar="PAGE")
    p.add_argument("--json", metavar="FILE")
    a = p.parse_args()
    a.build = os.path.abspath(a.build)
    rows, bad = [], 0
    for kind in a.only.split(","):
        if kind in SERVERS and not present(kind):
            say(f"soak: {kind} is not installed: skipped")
            continue
        share = KINDS[kind][1] / sum(KINDS[k][1] for k in a.only.split(","))
        say(f"soak: {kind}, {max(1, round(a.cycles * share))} cycles ...")
        row = soak(a.build, kind, max(1, round(a.cycles * share)), a.mode)
        rows.append(row)
        faults = len(row["wrong"]) + row["hangs"] + row["failures"] + bool(row["changed"])
        bad += faults
        say(f"soak: {kind}: {row['cycles']} cycles in {row['seconds']} s, {'all well' if not faults else 'FAULTS: ' + json.dumps({k: row[k] for k in ('wrong', 'hangs', 'failures', 'changed', 'causes')})}")
    if a.json:
        pathlib.Path(a.json).write_text(json.dumps(rows, indent=1))
    if a.write:
        page = pathlib.Path(a.write)
        text = page.read_text()
        head, rest = text.split(BEGIN)
        page.write_text(head + BEGIN + "\n" + table(rows) + "\n" + END + rest.split(END)[1])
    print(table(rows))
    print(f"soak: {sum(r['cycles'] for r in rows)} cycles, {bad} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
