# SPDX-License-Identifier: Apache-2.0
"""How the benchmarks measure: every tool in turn within each round, differences and ratios within the round, the
median over rounds. A machine whose clock changes or whose neighbours are noisy then disturbs all tools alike.
Start: rounds, Process."""
import contextlib
import math
import os
import pathlib
import random
import resource
import select
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile

MODES = ("exact", "sampled", "adaptive")


def rounds(count, tools, once):
    """Calls once(tool) for each tool in each of `count` rounds, in an order that rotates; returns
    {tool: [value per round]}. once may return None (the tool failed): the round then has no value for it."""
    values = {tool: [] for tool in tools}
    for n in range(count):
        order = tools[n % len(tools):] + tools[:n % len(tools)]
        for tool in order:
            values[tool].append(once(tool))
    return values


def paired(values, tool, base, how):
    """Median over the rounds in which both were measured of how(tool's value, base's value); None if none."""
    both = [how(a, b) for a, b in zip(values[tool], values[base]) if a is not None and b is not None]
    return statistics.median(both) if both else None


def interval(values):
    """A 95 % confidence interval of the median, by order statistics: it assumes no distribution."""
    ordered, tail, cut = sorted(values), 0.5 ** len(values), 0
    while tail <= 0.025 and cut < len(ordered) // 2:  # tail: P(at most `cut` of the values lie below the median)
        cut += 1
        tail += math.comb(len(ordered), cut) * 0.5 ** len(values)
    cut = max(cut - 1, 0)
    return ordered[cut], ordered[-1 - cut]


def spread(values):
    """The interval in words, for a row about servers; of fewer than six there is none."""
    lo, hi = interval(values)
    return f"{'95 %' if len(values) > 5 else 'all'}: {lo:.3f} to {hi:.3f}, {len(values)} servers"


def of_servers(servers):
    """Of the logarithms of ratios of several servers, a list for each: the ratio, the mean of their medians, and its 95 %
    interval in words, by a bootstrap of servers and then of each one's values (seeded). (None, why) without any."""
    servers = [values for values in servers if values]
    if not servers:
        return None, "none"
    draw = random.Random(1)

    def once():
        some = draw.choices(servers, k=len(servers))
        return statistics.fmean(statistics.median(draw.choices(values, k=len(values))) for values in some)

    drawn = sorted(once() for _ in range(4000))
    middle = statistics.fmean(statistics.median(values) for values in servers)
    return math.exp(middle), (f"95 %: {math.exp(drawn[100]):.3f} to {math.exp(drawn[3899]):.3f}, "
                              f"{sum(map(len, servers))} times in {len(servers)} servers")


def difference(a, b):
    return a - b


def ratio(a, b):
    return a / b


def limited(bytes_of_address_space):
    """A preexec function that bounds address space: heaptrack 1.4's interpreter otherwise takes all memory of the
    machine when there are many pairs of size and stack."""
    def apply():
        resource.setrlimit(resource.RLIMIT_AS, (bytes_of_address_space, bytes_of_address_space))
    return apply


class Process:
    """A program in a session of its own, ended with all it left when the block ends."""

    def __init__(self, command, cwd=None, env=None, preexec=None, stdin=subprocess.DEVNULL):
        self.err = tempfile.TemporaryFile()
        # preexec_fn is safe here: the benchmark has one thread.
        self.popen = subprocess.Popen([str(c) for c in command], cwd=cwd, env=dict(os.environ, **(env or {})), stdin=stdin,
                                      stdout=subprocess.PIPE, stderr=self.err, start_new_session=True, text=True,
                                      preexec_fn=preexec)
        self.pid = self.popen.pid

    def __enter__(self):
        return self

    def wait(self, seconds):
        """Exit status, or None if it still runs."""
        fd = os.pidfd_open(self.pid)
        ended = select.select([fd], [], [], seconds)[0]
        os.close(fd)
        return self.popen.poll() if ended else None

    def complaints(self):
        self.err.seek(0)
        return self.err.read().decode(errors="replace")[-1000:]

    def not_recorded(self):
        """Whether telltale said that it could not record: the run would then look cheap."""
        said = self.complaints()
        if "could not record" in said:
            print(f"bench: {said.strip()}", file=sys.stderr)
        return "could not record" in said

    def __exit__(self, *_):
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()
        self.popen.stdout.close()
        self.err.close()


def output_of(command, seconds=120, **options):
    """Standard output of a program that must end well, or None with the reason on stderr."""
    with Process(command, **options) as process:
        fd = process.popen.stdout
        text = fd.read() if select.select([fd], [], [], seconds)[0] else ""
        status = process.wait(seconds)
        if status != 0:
            print(f"bench: {command[0]}: status {status}: {process.complaints()}", file=sys.stderr)
            return None
        if process.not_recorded():
            return None
        return text


def children_of(pid):
    return [int(p) for task in pathlib.Path(f"/proc/{pid}/task").glob("*")
            for p in (task / "children").read_text().split()]


def descendants(pid):
    """pid and everything below it."""
    found = [pid]
    for one in found:
        try:
            found += children_of(one)
        except FileNotFoundError:
            pass
    return found


def executable(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""


def find_below(pid, program):
    """The descendant of pid (or itself) that executes `program`; None if there is none (yet)."""
    return next((p for p in descendants(pid) if executable(p) == program), None)


def cpu_seconds(pid):
    """CPU time of all threads, from schedstat: the same as utime + stime, but in ns and not in ticks of 10 ms."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def pss_bytes(pid):
    """Proportional set size: what is shared between target and recorder is counted once in the sum."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no Pss line")


def attached_to(b, pid, mode, *options, preexec=None):
    """telltale, attached to a process in which all is patched by now; leave it by __exit__."""
    session = b.session()
    process = Process([b.telltale, "attach", "-q", "-p", pid, "--mode", mode, *options, "-o", session], preexec=preexec)
    for _ in range(500):
        if is_running(session):
            return process
        if process.wait(0.02) is not None:
            break
    said = process.complaints()
    process.__exit__()
    raise RuntimeError(f"cannot attach in {mode} mode: {said}")


def is_running(session):
    """Whether the session knows a process that records. Its first rows are written in one piece."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{session}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute("select count(*) from process where state = 'running'").fetchone()[0] > 0
    except sqlite3.OperationalError:
        return False
