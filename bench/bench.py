#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What telltale costs, beside heaptrack, a library that only counts, and nothing: nanoseconds per malloc/free pair, CPU
of redis and sqlite, memory, size of the session. Every figure is a ratio or a paired difference from runs that alternate
(measure.py); each row has its bar. Prints a table, writes JSON (--output), and table.py puts it into
docs/performance.md. Start: main, GROUPS."""
import argparse
import contextlib
import json
import os
import pathlib
import platform
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

from measure import (MODES, Process, attached_to, descendants, difference, limited, output_of, paired, pss_bytes, ratio, rounds)
from server import Redis, redis, redis_attached

GIB = 1 << 30
MIB = 1 << 20


class Bench:
    """Options, where programs are, and the rows so far."""

    def __init__(self, args):
        self.args = args
        self.telltale = os.path.abspath(args.telltale)
        self.programs = pathlib.Path(args.programs).resolve()
        self.directory = tempfile.mkdtemp(prefix="tt-bench.")
        self.rows = []
        self.sessions = 0

    def row(self, group, name, value, unit, bar=None, at_least=False, note="", values=None,
            servers=None):
        """Adds a row; bar None means the figure is for information. value None: could not be measured. `values`, of which
        `value` is the median, or `servers` (of_servers) let table.py put several runs together."""
        passed = None if bar is None else value is not None and (value >= bar if at_least else value <= bar)
        self.rows.append({"group": group, "name": name, "value": value, "unit": unit, "bar": bar,
                          "relation": ">=" if at_least else "<=", "pass": passed, "note": note, "values": values,
                          "servers": servers})
        shown = "not measured" if value is None else f"{value:.3g} {unit}"
        wanted = "" if bar is None else f"  (bar {'>=' if at_least else '<='} {bar:g})  {'pass' if passed else 'FAIL'}"
        print(f"  {name}: {shown}{wanted}{'  ' + note if note else ''}", flush=True)

    def servers(self):
        """Counts the rounds of new servers: three for each that was asked for, or what --seconds leaves time for."""
        until = time.monotonic() + self.args.seconds
        for n in range(self.args.rounds * 3):
            yield n
            if time.monotonic() > until:
                return

    def session(self):
        self.sessions += 1
        return os.path.join(self.directory, f"{self.sessions}.tt")

    def under(self, tool, command):
        """The command line of `command` under a tool; environment; address space limit."""
        if tool in MODES:
            return [self.telltale, "run", "-q", "--mode", tool, "-o", self.session(), "--", *command], None, None
        if tool == "heaptrack":
            out = os.path.join(self.directory, "heaptrack")
            return ["heaptrack", "-o", out, *command], None, limited(12 * GIB)
        if tool == "counting":
            return command, {"LD_PRELOAD": str(self.programs / "countshim.so")}, None
        return command, None, None

    def clear(self):
        """Recordings are large; one run's are of no use to the next."""
        for name in os.listdir(self.directory):
            path = os.path.join(self.directory, name)
            if os.path.isfile(path):
                os.unlink(path)


def has_heaptrack():
    return shutil.which("heaptrack") is not None


# --- nanoseconds per pair ---------------------------------------------------------------------

# Pairs per thread and slice. pairloop reports the best slice after the first: noise can only slow one, and the recorder's
# start (reported apart) is over by then. Heaptrack's threads wait for each other, which the best of many would hide: with
# two threads it gets one long slice. Its pairs are few enough for its interpreter's memory.
PAIRS = {"bare": 8_000_000, "counting": 8_000_000, "sampled": 8_000_000, "adaptive": 8_000_000, "exact": 3_000_000,
         "heaptrack": 100_000}
SLICES = 8
# threads, depth, live blocks, call sites; bars of exact, sampled, adaptive (ns) and of heaptrack's cost in units of exact.
LOOPS = [
    (1, 5, 1000, 1, 30, 4, 15, 15), (1, 20, 1000, 1, 45, 4, 15, 15), (1, 60, 1000, 1, 70, 4, 15, 15),
    (2, 5, 1000, 1, 30, 4, 15, 40), (2, 20, 1000, 1, 45, 4, 15, 40), (2, 60, 1000, 1, 70, 4, 15, 40),
    (1, 20, 1000, 8, None, None, None, None),
    (1, 20, 100000, 1, 130, None, None, None), (2, 20, 100000, 1, 130, None, None, None),
]


def pairs(b):
    """The tight loop: a ring of live blocks of small random sizes, each step a free and a malloc at a given depth."""
    tools = ["bare", "counting", *MODES] + (["heaptrack"] if has_heaptrack() else [])
    for threads, depth, live, sites, exact_bar, sampled_bar, adaptive_bar, heaptrack_bar in LOOPS:
        label = f"{threads} thr, depth {depth}, {live:,} live" + (f", {sites} sites" if sites > 1 else "")
        if not re.search(b.args.loops, label):
            continue
        print("pairs: " + label, flush=True)
        here = [t for t in tools if t != "heaptrack" or heaptrack_bar is not None]

        def once(tool, threads=threads, depth=depth, live=live, sites=sites):
            slices = 2 if tool == "heaptrack" and threads > 1 else SLICES
            hurry = 1 if tool == "heaptrack" else b.args.hurry  # its threads wait for its interpreter, once that is behind
            count = max(PAIRS[tool] * SLICES // slices // (5 if live > 10000 else 1) // hurry, live * 2)
            loop = [b.programs / "pairloop", "--threads", threads, "--depth", depth, "--live", live, "--vary", sites, "--min", 16,
                    "--max", 128, "--slices", slices, "--pairs", count]
            command, env, preexec = b.under(tool, [str(x) for x in loop])
            text = output_of(command, env=env, preexec=preexec)
            b.clear()
            return ns_per_pair(text) if text else None

        values = rounds(b.args.rounds, here, once)
        bare = statistics.median(v for v in values["bare"] if v is not None)
        added = {tool: paired(values, tool, "bare", difference) for tool in here[1:]}
        least = {tool: min((v for v in values[tool] if v is not None), default=None) for tool in here}
        bars = {"exact": exact_bar, "sampled": sampled_bar, "adaptive": adaptive_bar}
        b.row("pairs", f"{label}: bare", bare, "ns per pair")
        for tool in here[1:]:
            note = "" if least[tool] is None else f"min {least[tool] - least['bare']:.1f}"
            b.row("pairs", f"{label}: {tool} adds", added[tool], "ns per pair", bars.get(tool), note=note)
        if "heaptrack" in here:
            times = None if None in (added["heaptrack"], added["exact"]) else added["heaptrack"] / max(added["exact"], 0.1)
            b.row("pairs", f"{label}: heaptrack adds, in units of exact", times, "times", heaptrack_bar, at_least=True)


# --- attached ------------------------------------------------------------------------------------


def attached(b):
    """The loop again: bare in its first half, attached in its second, compared within the process."""
    for threads, depth, live, sites, exact_bar, sampled_bar, adaptive_bar, _ in LOOPS:
        label = f"{threads} thr, depth {depth}, {live:,} live"
        if sites > 1 or not re.search(b.args.loops, label):
            continue
        print("attached: " + label, flush=True)

        def once(mode, threads=threads, depth=depth, live=live):
            count = max(PAIRS["exact"] // (5 if live > 10000 else 1) // b.args.hurry, live * 2)
            loop = [b.programs / "pairloop", "--halves", "--threads", threads, "--depth", depth, "--live", live, "--min", 16,
                    "--max", 128, "--slices", SLICES, "--pairs", count]
            with Process(loop, stdin=subprocess.PIPE) as process:
                bare = ns_per_pair(process.popen.stdout.readline())
                with contextlib.ExitStack() as after:
                    if mode != "nothing":
                        after.enter_context(attached_to(b, process.pid, mode, "--snapshots", "off"))
                    process.popen.stdin.write("\n")
                    process.popen.stdin.close()
                    both = ns_per_pair(process.popen.stdout.read())
            b.clear()
            return None if None in (bare, both) else (bare, both)

        values = rounds(b.args.rounds, ["nothing", *MODES], once)
        bare = [v[0] for all_ in values.values() for v in all_ if v]
        b.row("attached", f"{label}: bare", statistics.median(bare), "ns per pair")
        for mode, bar in zip(("nothing", *MODES), (None, exact_bar, sampled_bar, adaptive_bar)):
            more = [after - before for before, after in filter(None, values[mode])]
            least = min(v[1] for v in values[mode] if v) - min(v[0] for v in values[mode] if v) if more else 0
            b.row("attached", f"{label}: {mode} adds", statistics.median(more) if more else None, "ns per pair", bar,
                  note=f"min {least:.1f}")


def start(b):
    """Wall time of a program that does nothing: what telltale and heaptrack add to a start and an end."""
    print("start: a program that does nothing", flush=True)
    tools = ["bare", "exact"] + (["heaptrack"] if has_heaptrack() else [])

    def once(tool):
        command, env, preexec = b.under(tool, ["/bin/true"])
        began = time.monotonic()
        text = output_of(command, env=env, preexec=preexec)
        seconds = time.monotonic() - began
        b.clear()
        return None if text is None else seconds * 1000

    values = rounds(b.args.rounds * 2, tools, once)
    for tool in tools[1:]:
        b.row("start", f"start and end of a program: {tool} adds", paired(values, tool, "bare", difference), "ms")


def ns_per_pair(text):
    """The word of pairloop: its slowest thread (heaptrack talks on the same stream)."""
    found = re.findall(r"^([0-9.]+) ns/pair$", text, re.M)
    return float(found[-1]) if found else None


# --- sqlite --------------------------------------------------------------------------------------

SQL = """
.timer on
create table t (a integer primary key, b text, c integer);
insert into t with recursive n(i) as (values(1) union all select i + 1 from n where i < {rows})
  select i, printf('row %d %s', i * 7919 % 1000003, hex(i)), i % 977 from n;
create index tb on t(b);
select count(*), sum(c), min(b) from t where b > 'row 5';
update t set b = b || ' changed' where c % 10 = 0;
select count(distinct substr(b, 1, 7)) from t;
"""


def sqlite_rows(b):
    """The sqlite3 shell on a database in memory; the CPU time that it says its statements took."""
    if not shutil.which("sqlite3"):
        b.row("sqlite", "CPU, exact / bare", None, "times", 1.3, note="sqlite3 is not installed")
        return
    rows = 1_000_000 // b.args.hurry
    print(f"sqlite: {rows:,} rows in memory", flush=True)
    script = os.path.join(b.directory, "script.sql")
    tools = ["bare", *MODES] + (["heaptrack"] if has_heaptrack() else [])

    def once(tool):
        with open(script, "w", encoding="utf-8") as file:
            file.write(SQL.format(rows=rows))
        command, env, preexec = b.under(tool, ["sqlite3", ":memory:"])
        with open(script, encoding="utf-8") as stdin:
            text = output_of(command, env=env, preexec=preexec, stdin=stdin)
        b.clear()
        times = [line.split() for line in (text or "").splitlines() if line.startswith("Run Time:")]
        return sum(float(t[5]) + float(t[7]) for t in times) if len(times) == 6 else None

    values = rounds(b.args.rounds, tools, once)
    b.row("sqlite", f"sqlite, {rows:,} rows: CPU, bare", statistics.median(v for v in values["bare"] if v), "s")
    for tool in tools[1:]:
        b.row("sqlite", f"sqlite, {rows:,} rows: CPU, {tool} / bare", paired(values, tool, "bare", ratio), "times",
              {"exact": 1.3}.get(tool))


# --- memory ----------------------------------------------------------------------------------------


def settled(measure, seconds=4):
    """The largest of some readings over a few visits of the recorder."""
    most, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        most = max(most, measure())
        time.sleep(0.5)
    return most


def memory(b):
    """Proportional set size of target and recorder together, against the bare program and its heap."""
    mebibytes = 1024 // b.args.hurry
    print(f"memory: {mebibytes} MiB of small blocks", flush=True)
    totals, heap = {}, None
    for tool in ("bare", *MODES):
        command, env, preexec = b.under(tool, [str(b.programs / "heapblocks"), str(mebibytes)])
        with Process(command, env=env, preexec=preexec, stdin=subprocess.PIPE) as process:
            line = process.popen.stdout.readline().split()
            if not line:
                print(f"bench: heapblocks under {tool}: {process.complaints()}", file=sys.stderr)
                continue
            heap = int(line[1])
            totals[tool] = settled(lambda: sum(pss_bytes(p) for p in descendants(process.pid)))
        b.clear()
    memory_rows(b, f"{mebibytes} MiB heap of small blocks", totals, totals.get("bare", heap))
    if not shutil.which("redis-server"):
        return
    totals, heap = {}, None
    for tool in ("bare", *MODES):
        server = Redis(b, tool)
        try:
            server.cli("DEBUG", "POPULATE", str(1_000_000 // b.args.hurry), "key", "64")
            totals[tool] = settled(lambda: sum(pss_bytes(p) for p in descendants(server.process.pid)))
        finally:
            server.close()
            b.clear()
    memory_rows(b, "redis, 1,000,000 keys" if b.args.hurry == 1 else "redis", totals, totals.get("bare"))


def memory_rows(b, label, totals, heap):
    """Bars: 30 % of the heap + 32 MB for exact, 1 % + 16 MB for sampled; the rows say what is left of the constant."""
    for tool, share, constant in (("exact", 0.30, 32), ("sampled", 0.01, 16), ("adaptive", None, None)):
        if tool not in totals or "bare" not in totals:
            b.row("memory", f"{label}: {tool}", None, "% of heap", 100 * share if share else None)
            continue
        more = totals[tool] - totals["bare"]
        bar = None if share is None else share * heap / MIB + constant
        b.row("memory", f"{label}: {tool}, agent and recorder", more / MIB, "MiB", bar, note=f"{100 * more / heap:.1f} % of heap")


# --- session size --------------------------------------------------------------------------------------


def size_of(session):
    """Bytes of the database, what still stands in its write-ahead log included; 0 if there is none."""
    if not os.path.exists(session):
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{session}?mode=ro", uri=True, timeout=10)) as db:
        return db.execute("pragma page_count").fetchone()[0] * db.execute("pragma page_size").fetchone()[0]


def session_size(b):
    """Size of the session at two thirds and at the end of a run at 1,000,000 pairs/s, extended to an hour by the growth
    between them. The recorder thins old rows once there are many, after a minute and a half here."""
    seconds = b.args.session_minutes * 60 // b.args.hurry
    print(f"session: {seconds} s at 1,000,000 pairs/s", flush=True)
    session = b.session()
    command = [b.telltale, "run", "-q", "--mode", "exact", "-o", session, "--", str(b.programs / "busyserver"), str(seconds),
               "1000000"]
    began = time.monotonic()
    with Process(command) as process:
        status = process.wait(seconds * 2 / 3)
        before = size_of(session)
        if status is None:
            status = process.wait(seconds + 60)
        if status != 0:
            print(f"bench: busyserver: status {status}: {process.complaints()}", file=sys.stderr)
            b.row("session", "size after an hour", None, "MB", 20)
            return
    final = size_of(session)
    if not final:
        b.row("session", "size after an hour", None, "MB", 20, note="no session was written")
        return
    hour = final if seconds >= 3600 else final + max(final - before, 0) / (seconds / 3) * (3600 - seconds)
    b.clear()
    took = time.monotonic() - began  # all pairs are made, on a busy machine later than they were due
    b.row("session", f"session of {seconds} s at 1,000,000 pairs/s", final / 1e6, "MB", note=f"took {took:.0f} s")
    b.row("session", "session of an hour" + ("" if seconds >= 3600 else ", extended from that"), hour / 1e6, "MB", 20)


GROUPS = {"pairs": pairs, "attached": attached, "attached-redis": redis_attached, "start": start, "redis": redis,
          "sqlite": sqlite_rows, "memory": memory, "session": session_size}


def machine():
    model = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")
    versions = {}
    for tool in ("heaptrack", "redis-server", "sqlite3"):
        if shutil.which(tool):
            said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False).stdout
            versions[tool] = re.search(r"[0-9]+[.][0-9.]+[0-9]", said).group()
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "libc": " ".join(platform.libc_ver()),
            "versions": versions}


def main():
    parser = argparse.ArgumentParser(description="Benchmarks of telltale against its bars and its peers.")
    parser.add_argument("--telltale", default=os.environ.get("TELLTALE", "build/src/cmd/telltale"))
    parser.add_argument("--programs", default="build/bench", help="directory of pairloop, heapblocks, busyserver, countshim.so")
    parser.add_argument("--groups", default=",".join(GROUPS), help="of " + ",".join(GROUPS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loops", default="", help="of the pairs, only those whose name this pattern matches: '^2 thr'")
    parser.add_argument("--session-minutes", type=int, default=3, help="60 for the full hour")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of a group about servers: no new ones after this")
    parser.add_argument("--hurry", type=int, default=1, help="divide the work by this (a trial of the benchmark itself)")
    parser.add_argument("--output", default="bench-results.json")
    args = parser.parse_args()
    groups = args.groups.split(",")
    if not set(groups) <= set(GROUPS):
        parser.error("unknown group in " + args.groups)
    b = Bench(args)
    try:
        for group in groups:
            GROUPS[group](b)
    finally:
        shutil.rmtree(b.directory, ignore_errors=True)
    result = {"schema": "telltale.bench/1", "date": time.strftime("%Y-%m-%d"), "machine": machine(), "rounds": args.rounds,
              "hurry": args.hurry, "rows": b.rows}
    pathlib.Path(args.output).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    judged = [r for r in b.rows if r["pass"] is not None]
    failed = [r["name"] for r in judged if not r["pass"]]
    print(f"{len(judged) - len(failed)} of {len(judged)} bars held; figures in {args.output}")
    for name in failed:
        print(f"  missed: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
