#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long a server stands still when a tool comes and goes: telltale by its own clock and by a client that asks a
thousand times a second (ping.c), gdb and heaptrack by the client, in the same run, in turns. Start: main.

    bench/soak/pause.py BUILD [--rounds 20] [--write docs/reliability.md] [--json FILE]"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

BEGIN, END = "<!-- pause: begin (written by bench/soak/pause.py) -->", "<!-- pause: end -->"


class Ping:
    def __init__(self, build, threads):
        self.process = subprocess.Popen([f"{build}/bench/soak/ping", str(threads)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.pid = int(self.process.stdout.readline())
        time.sleep(0.2)
        self.window()

    def window(self):
        self.process.stdin.write("x\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        return self.process.wait()


def quiet(command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False, **more)


def nothing(build, pid):
    time.sleep(0.1)
    return {}


def telltale(build, pid):
    done = json.loads(quiet([f"{build}/bench/soak/soak", str(pid), "1", "exact", "50", "1"]).stdout)
    if done["failures"] or done["changed"]:
        raise RuntimeError(f"attach failed: {done['causes']}")
    return {"attach": done["attach_ms"]["max"], "detach": done["detach_ms"]["max"], "one thread": done["start_ms"]["max"]}


def gdb(build, pid):
    quiet(["gdb", "-nx", "-batch", "-p", str(pid)], stdin=subprocess.DEVNULL)
    return {}


def heaptrack(build, pid):
    """Attaches, and leaves as its interrupt handler would under a shell that runs it (bash)."""
    script = pathlib.Path(shutil.which("heaptrack")).resolve()
    process = subprocess.Popen(["timeout", "-s", "INT", "3", "bash", str(script), "-o", "/dev/null", "-p", str(pid)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    process.wait()
    return {}


TOOLS = {"nothing": nothing, "telltale": telltale, "gdb": gdb, "heaptrack": heaptrack}


def measure(build, threads, rounds):
    rows = {name: {"client": []} for name in TOOLS}
    for name in ("nothing", "telltale", "gdb"):
        if name == "gdb" and not shutil.which("gdb"):
            continue
        ping = Ping(build, threads)
        for _ in range(rounds):
            ping.window()
            for key, value in TOOLS[name](build, ping.pid).items():
                rows[name].setdefault(key, []).append(value)
            rows[name]["client"].append(ping.window())
        ping.close()
    for _ in range(min(rounds, 3) if shutil.which("heaptrack") and shutil.which("gdb") else 0):
        ping = Ping(build, threads)  # a fresh one: its detach may hang the server (PEERS.md)
        ping.window()
        TOOLS["heaptrack"](build, ping.pid)
        rows["heaptrack"]["client"].append(ping.window())
        ping.close()
    return rows


def table(results):
    lines = ["| threads | tool | stop by its own clock: attach / detach / one thread, median (max) ms | longest wait of a 1 kHz client, "
             "median (max) ms |", "| ---: | --- | --- | --- |"]

    def both(values):
        return f"{statistics.median(values):.3f} ({max(values):.3f})" if values else "-"
    for threads, rows in results.items():
        for name, row in rows.items():
            if row["client"]:
                own = " / ".join(both(row[k]) for k in ("attach", "detach", "one thread")) if "attach" in row else "-"
                lines.append(f"| {threads} | {name} | {own} | {both(row['client'])} |")
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("--rounds", type=int, default=20)
    p.add_argument("--threads", default="5,64")
    p.add_argument("--write", metavar="PAGE")
    p.add_argument("--json", metavar="FILE")
    a = p.parse_args()
    a.build = os.path.abspath(a.build)
    results = {}
    for n in a.threads.split(","):
        print(f"pause: {n} threads ...", file=sys.stderr, flush=True)
        results[n] = measure(a.build, int(n), a.rounds)
    if a.json:
        pathlib.Path(a.json).write_text(json.dumps(results, indent=1))
    if a.write:
        page = pathlib.Path(a.write)
        head, rest = page.read_text().split(BEGIN)
        page.write_text(head + BEGIN + "\n" + table(results) + "\n" + END + rest.split(END)[1])
    print(table(results))


if __name__ == "__main__":
    main()
