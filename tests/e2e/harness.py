# SPDX-License-Identifier: Apache-2.0
"""What the whole-program tests share: running a program bare and under telltale, servers with an end,
findings as JSON, one line per check. Each test has a network of its own, its servers listen on unix sockets in
a directory of its own, and only processes that it started are ended. Start: Test."""
import atexit
import contextlib
import json
import os
import pathlib
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "cases" / "tests"))
import ownnetwork  # noqa: E402

SKIP = 77
MODES = ("exact", "adaptive", "sampled")
LIMIT = 200  # seconds; ends a hang, times nothing


def environment():
    """The test's environment without what would change a target's output."""
    e = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "NO_COLOR")}
    e.update(LC_ALL="C", DEBUGINFOD_URLS="", TZ="UTC")
    return e


def end_group(process):
    """Ends a process started with start_new_session, and what it left in its group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
    except ProcessLookupError:
        pass
    return process.wait()


def run(command, cwd=None, stdin=subprocess.DEVNULL, extra_env=None, limit=LIMIT):
    """Runs to the end; (status, stdout, stderr) as bytes. Raises TimeoutError, having killed the group."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen([str(c) for c in command], cwd=cwd, stdin=stdin, stdout=out, stderr=err,
                                   start_new_session=True, env=dict(environment(), **(extra_env or {})))
        fd = os.pidfd_open(process.pid)
        ended = select.select([fd], [], [], limit)[0]
        os.close(fd)
        status = end_group(process)
        out.seek(0)
        err.seek(0)
        if not ended:
            raise TimeoutError(f"{command} still ran after {limit} s; stderr: {err.read()[-2000:].decode(errors='replace')}")
        return status, out.read(), err.read()


def code_of(pid):
    """The executable bytes of a process's files."""
    parts = {}
    with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as maps, open(f"/proc/{pid}/mem", "rb") as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) r.x. \S+ \S+ ([1-9]\d*)\s+(/.*)", line)
            if m:
                start, end = int(m[1], 16), int(m[2], 16)
                mem.seek(start)
                parts[start] = mem.read(end - start)
    return parts


class Server:
    """A server started by the test: `with Server(command, ready, stop) as s`. ready() is asked until it is
    true; stop(server) ends it in its own way. `status` afterwards."""

    def __init__(self, command, cwd, ready, stop):
        self.command, self.cwd, self.ready, self.stop = [str(c) for c in command], cwd, ready, stop
        self.status = None

    def __enter__(self):
        self.log = open(pathlib.Path(self.cwd) / "server.log", "wb")
        self.process = subprocess.Popen(self.command, cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, start_new_session=True, env=environment())
        deadline = time.monotonic() + 30
        while not self.ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.command[0]} ended with {self.process.returncode}: {self.said()}")
            if time.monotonic() > deadline:
                end_group(self.process)
                raise TimeoutError(f"server not ready: {self.said()}")
            time.sleep(0.02)
        return self

    def said(self):
        self.log.flush()
        return pathlib.Path(self.log.name).read_text(errors="replace")[-2000:]

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop(self)
        fd = os.pidfd_open(self.process.pid)
        ended = kind is None and select.select([fd], [], [], 30)[0]
        os.close(fd)
        self.status = end_group(self.process)
        self.log.close()
        if kind is None and not ended:
            raise TimeoutError("server did not stop: " + pathlib.Path(self.log.name).read_text(errors="replace")[-2000:])


class Checks:
    """The checks of one try of several, see Test.tries."""

    def __init__(self):
        self.all = []
        self.missed = self.wrong = False

    def right(self, condition, what, detail=""):
        """Must hold at every try."""
        self.all.append((condition, what, detail))
        self.wrong |= not condition
        return condition

    def found(self, condition, what, detail=""):
        """May be missed by chance, or for want of a processor."""
        self.all.append((condition, what, detail))
        self.missed |= not condition
        return condition

    def show(self, test):
        for condition, what, detail in self.all:
            test.check(condition, what, detail)


class Test:
    """One test program: `t = Test("redis", needs=[...])`, then t.check(...) and sys.exit(t.end())."""

    def __init__(self, name, needs=()):
        self.name, self.failed, self.done = name, 0, 0
        self.lock = threading.Lock()
        self.telltale = os.path.abspath(os.environ.get("TELLTALE", ""))
        for program in needs:
            if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
                print(f"skip {name}: {program} is not installed")
                sys.exit(SKIP)
        if not os.access(self.telltale, os.X_OK) or os.path.isdir(self.telltale):
            print("set TELLTALE to the telltale program", file=sys.stderr)
            sys.exit(2)
        self.directory = tempfile.mkdtemp(prefix=f"tt-e2e-{name}.")
        atexit.register(shutil.rmtree, self.directory, ignore_errors=True)
        os.chmod(self.directory, 0o755)  # workers that drop privileges must get in
        self.started = time.monotonic()
        ownnetwork.enter()

    def path(self, *parts):
        p = pathlib.Path(self.directory, *parts)
        p.parent.mkdir(parents=True, exist_ok=True)
        return p

    def check(self, condition, what, detail=""):
        """Counts and prints one check; returns the condition."""
        with self.lock:
            self.done += 1
            if condition:
                print(f"ok   {self.name}: {what}", flush=True)
            else:
                self.failed += 1
                text = str(detail)
                print(f"FAIL {self.name}: {what}" + (f"\n     {text[:3000]}" if text else ""), flush=True)
        return condition

    def under(self, mode, session, command, *options):
        """The command line that runs `command` under telltale."""
        return [self.telltale, "run", "-q", "--mode", mode, "-o", session, *options, "--", *command]

    def findings(self, session, *options):
        """`report --format json` as an object, or None after a failed check."""
        status, out, err = run([self.telltale, "report", "--format", "json", *options, session])
        if not self.check(status == 0, f"{pathlib.Path(session).stem}: report", f"status {status}: {err.decode()}"):
            return None
        return json.loads(out)

    def tries(self, most, attempt):
        """A recording of some seconds on a busy machine may leave open what a longer one decides: attempt(checks, k) is made again,
        `most` times in all, while all that went wrong is that something was not found. What was said wrongly counts at once."""
        for k in range(most):
            checks = Checks()
            attempt(checks, k)
            if checks.wrong or not checks.missed:
                break
        checks.show(self)

    def check_recorded(self, session, program, least=1000):
        """The session must hold births of a process that executed `program`: clean is only worth something then."""
        with contextlib.closing(sqlite3.connect(f"file:{session}?mode=ro", uri=True)) as db:
            births = db.execute("select coalesce(sum(b), 0) from (select max(births << coalesce(thin, 0)) as b from site_sample join site on "
                                "site.process = site_sample.process and site.id = site_sample.site join process on "
                                "process.id = site.process where process.exe like ? group by site.process, site.id)",
                                ("%" + program + "%",)).fetchone()[0]
            states = db.execute("select exe, state, reason from process").fetchall()
        self.check(births >= least, f"{pathlib.Path(session).stem}: recorded what {program} acquired ({births} blocks)", states)

    def check_clean(self, session, *options):
        """`check` must find nothing."""
        status, out, err = run([self.telltale, "check", *options, session])
        self.check(status == 0, f"{pathlib.Path(session).stem}: no leak found", f"status {status}: {(out + err).decode()}")

    def end(self):
        print(f"{self.name}: {self.done - self.failed} of {self.done} checks right, {time.monotonic() - self.started:.1f} s")
        return 1 if self.failed or not self.done else 0
