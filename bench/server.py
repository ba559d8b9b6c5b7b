# SPDX-License-Identifier: Apache-2.0
"""What a redis server pays: under `telltale run` beside bare servers, and within one server that is attached to and left
again, many times. Groups of bench.py. Start: redis, redis_attached."""
import ctypes
import math
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import time

from measure import (MODES, Process, attached_to, cpu_seconds, descendants, find_below, of_servers, paired, ratio, rounds,
                     spread)

REDIS = ["redis-server", "--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no",
         "--enable-debug-command", "yes"]  # DEBUG POPULATE


ON_CORE_1 = ["taskset", "-c", "1"] if (os.cpu_count() or 1) > 1 else []


def elsewhere():
    """Before exec: on core 1, where all is but the server."""
    if ON_CORE_1:
        os.sched_setaffinity(0, {1})


def alike():
    """The same, and the same addresses in each process."""
    ctypes.CDLL(None).personality(0x0040000)  # ADDR_NO_RANDOMIZE
    elsewhere()


def pin(pid, core):
    """All threads of a process on one core, where there are two."""
    for task in os.listdir(f"/proc/{pid}/task") if ON_CORE_1 else []:
        os.sched_setaffinity(int(task), {core})


class Redis:
    """A redis server under a tool, on a socket of its own."""

    def __init__(self, b, tool, preexec=alike):
        self.tool = tool
        self.sock = os.path.join(b.directory, re.sub(r"[ ,]+", "-", tool) + ".sock")
        command, env, _ = b.under(tool, [*REDIS, "--unixsocket", self.sock, "--dir", b.directory])
        self.process = Process(command, env=env, preexec=preexec)
        for _ in range(500):
            self.pid = find_below(self.process.pid, "redis-check-rdb") or find_below(self.process.pid, "redis-server")
            if self.pid and os.path.exists(self.sock) and "PONG" in self.cli("PING"):
                pin(self.pid, 0)
                return
            time.sleep(0.02)
        said = self.process.complaints()
        self.close()
        raise RuntimeError(f"redis under {tool} does not answer: {said}")

    def cli(self, *command):
        return subprocess.run(["redis-cli", "-s", self.sock, *command], capture_output=True, text=True, timeout=60,
                              check=False).stdout

    def burst(self, requests):
        """CPU seconds of the server for a burst of pipelined requests."""
        before = cpu_seconds(self.pid)
        subprocess.run([*ON_CORE_1, "redis-benchmark", "-s", self.sock, "-P", "16", "-c", "20", "-n", str(requests),
                        "-r", "10000", "-d", "64", "-q", "-t", "set,get"], stdout=subprocess.DEVNULL, check=True, timeout=120)
        return cpu_seconds(self.pid) - before

    def close(self):
        if os.path.exists(self.sock):
            self.cli("SHUTDOWN", "NOSAVE")
            self.process.wait(10)
            if self.process.not_recorded():
                raise RuntimeError(f"redis was not recorded under {self.tool}")
        self.process.__exit__()


def redis(b):
    """Servers under all tools at once, bursts in turn; CPU of the server process, not of the recorder. Two processes of one
    program differ by some per cent (memory layout): so each round starts new servers, addresses are not randomised, servers
    keep to one core and all else to the other, and the base is the mean of two bare servers, whose ratio is the control."""
    if not shutil.which("redis-server") or not shutil.which("redis-benchmark"):
        b.row("redis", "redis -P 16: server CPU, exact / bare", None, "times", 1.3, note="redis is not installed")
        return
    print("redis: SET and GET, -P 16", flush=True)
    tools = ["bare", "bare again", *MODES]
    ratios, recorder = {tool: [] for tool in tools}, {tool: [] for tool in MODES}
    for n in b.servers():
        servers = {}
        try:
            for tool in tools[n % len(tools):] + tools[:n % len(tools)]:
                servers[tool] = Redis(b, tool)
                servers[tool].burst(20_000)  # allocate the keys before measuring
            before, began = {t: recorder_cpu(servers[t]) for t in MODES}, time.monotonic()
            bursts = rounds(6, tools, lambda tool: servers[tool].burst(max(40_000 // b.args.hurry, 20_000)))
            bursts["both bare"] = [(x + y) / 2 for x, y in zip(bursts["bare"], bursts["bare again"])]
            for tool in tools:
                ratios[tool].append(paired(bursts, tool, "bare" if tool == "bare again" else "both bare", ratio))
            for tool in MODES:
                recorder[tool].append(100 * (recorder_cpu(servers[tool]) - before[tool]) / (time.monotonic() - began))
        finally:
            for server in servers.values():
                server.close()
            b.clear()
    bars = {"exact": 1.3, "sampled": 1.03}
    for tool in tools[1:]:
        b.row("redis", f"redis -P 16: server CPU, {tool} / bare", statistics.median(ratios[tool]), "times", bars.get(tool),
              note=spread(ratios[tool]), values=ratios[tool])
    for tool in MODES:
        b.row("redis", f"redis -P 16: recorder, {tool}", statistics.median(recorder[tool]), "% of a core")


def recorder_cpu(server):
    return sum(cpu_seconds(p) for p in descendants(server.process.pid) if p != server.pid)


# --- attaching and leaving by turns ------------------------------------------------------------------

# What is done to a server in turn; before and after each of these it runs bare.
TURNS = ("sampled", "nothing", "exact", "sampled", "nothing", "adaptive")
# Rounds of bench/steadyclient.c. A phase is in slices of some 5 ms, of which the median counts: of what comes more rarely than
# that, neighbours on the machine included, nothing is in the figure; of the sampled blocks, some hundreds a second, all is.
SLICES, SLICE, SETTLING = 100, 10, 250


def code_of(pid):
    """Bytes of all executable mappings of files, by address: what attaching changes and leaving restores."""
    found = {}
    with open(f"/proc/{pid}/mem", "rb") as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            words = line.split()
            if "x" in words[1] and len(words) > 5 and words[5].startswith("/"):
                begin, end = (int(word, 16) for word in words[0].split("-"))
                memory.seek(begin)
                found[begin] = memory.read(end - begin)
    return found


class Steady(Redis):
    """A server at addresses of its own and its client, both on core 0: then the client sends while the server waits, and
    the server finds the same 20 times 16 requests each time."""

    def __init__(self, b):
        super().__init__(b, "steady", preexec=elsewhere)
        self.b = b
        self.code = code_of(self.pid)
        self.client = None
        self.connect()
        self.do(SETTLING)

    def connect(self):
        """A client of new connections."""
        if self.client:
            self.client.__exit__()
        self.client = Process([self.b.programs / "steadyclient", self.sock], stdin=subprocess.PIPE)
        pin(self.client.pid, 0)

    def do(self, count):
        """`count` rounds; logarithms of the client's and of the server's CPU time."""
        before = cpu_seconds(self.client.pid), cpu_seconds(self.pid)
        self.client.popen.stdin.write(f"{count}\n")
        self.client.popen.stdin.flush()
        if self.client.popen.stdout.readline() != "done\n":
            raise RuntimeError(f"the client ended: {self.client.complaints()}")
        return math.log(cpu_seconds(self.client.pid) - before[0]), math.log(cpu_seconds(self.pid) - before[1])

    def phase(self):
        self.do(SETTLING)
        return [self.do(SLICE) for _ in range(SLICES)]

    def attached(self, mode):
        """A phase with telltale attached, as a user would have it but for frozen copies, of which there is one a minute at
        most and not one in each phase."""
        recorder = attached_to(self.b, self.pid, *mode.split(), "--snapshots", "off", preexec=elsewhere)
        try:
            return self.phase()
        finally:
            os.kill(recorder.pid, signal.SIGTERM)
            left = recorder.wait(30) is not None
            recorder.__exit__()
            if not left:
                raise RuntimeError("telltale attach does not end")
            self.b.clear()

    def restored(self):
        """Whether the code is as it was before the first attach. The releases of sampled objects stay hooked, by the long
        way, until the last of these is gone: new values take the place of the old, at last new connections too, then telltale
        detach."""
        for n in range(10):
            if code_of(self.pid) == self.code:
                return True
            if n > 3:
                self.connect()
            self.do(SETTLING)
            subprocess.run([self.b.telltale, "detach", "-p", str(self.pid)], capture_output=True, preexec_fn=elsewhere,
                           timeout=60, check=False)
        return False

    def close(self):
        self.client.__exit__()
        super().close()


def turns(server, what, until):
    """{kind: [log of the server's CPU time to that of the bare phases before and after]}, and how often the server could not be
    made bare again (that turn does not count). A virtual machine's speed changes by half and more within milliseconds, for the
    server and for the client on the same core; what the client's time foretells of the server's, by linear regression over the
    bare slices, is taken off each slice."""
    phases, clean = [server.phase()], []
    while time.monotonic() < until:
        kind = what[len(clean) % len(what)]
        phases.append(server.phase() if kind == "nothing" else server.attached(kind))
        clean.append(server.restored())
        phases.append(server.phase())
    bare = [pair for phase in phases[::2] for pair in phase]
    slope = statistics.linear_regression([client for client, _ in bare], [own for _, own in bare]).slope
    level = [statistics.median(own - slope * client for client, own in phase) for phase in phases]
    logs = {kind: [] for kind in what}
    for n, well in enumerate(clean):
        if well:
            logs[what[n % len(what)]].append(level[2 * n + 1] - (level[2 * n] + level[2 * n + 2]) / 2)
    return logs, clean.count(False)


def redis_attached(b):
    """One server after the other runs bare, attached to, bare, left alone, bare, and so on, for the same requests in each phase.
    Its CPU time is compared with the mean of the bare phases before and after: the same process, at the same addresses, half
    a second earlier and later. What "nothing" gives is the error of the method. All is as `telltale attach` does it by itself:
    sampling, looking for untouched objects, watching descriptors, the recorder's reading. A server's value is the median over
    its turns (see there), the row's the mean over servers; the interval is by bootstrap, of servers and of their turns."""
    if not shutil.which("redis-server"):
        b.row("attached", "redis -P 16: server CPU, exact / before", None, "times", 1.3, note="redis is not installed")
        return
    print("attached: redis, SET and GET, 20 times 16 requests at once", flush=True)
    found = {}
    for _ in b.servers():
        server = Steady(b)
        try:
            logs, failed = turns(server, TURNS, time.monotonic() + min(75, b.args.seconds) / b.args.hurry)
        finally:
            server.close()
        for kind, values in logs.items():
            found.setdefault(kind, []).append(values)
        print("  one server: " + ", ".join(f"{kind} {math.exp(statistics.median(v)):.4f} of {len(v)}"
                                           for kind, v in logs.items() if v) + (f"; not bare again: {failed}" if failed else ""),
              flush=True)
    for kind, bar in (("nothing", None), ("exact", 1.3), ("sampled", 1.03), ("adaptive", None)):
        value, note = of_servers(found[kind])
        b.row("attached", f"redis -P 16: server CPU, {kind} / bare before and after", value, "times", bar, note=note,
              servers=found[kind])
