# SPDX-License-Identifier: Apache-2.0
"""What the tests of all cases share: a program under test, which dies with the test, is read line by
line and ends well or is complained of; and the running of a module's tests. Start: Process, run.
"""

import ctypes
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import ownnetwork

PATIENCE = 30.0  # seconds, for anything that is waited for

LIBC = ctypes.CDLL(None)


def die_with_us():
    LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Process:
    """A program of the case; a context manager that ends it and checks that it ended well."""

    def __init__(self, *command, env=None, stdin=None):
        self.stderr = tempfile.TemporaryFile("w+")
        main = threading.current_thread() is threading.main_thread()  # it dies with the thread that made it
        self.process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=self.stderr,
                                        env=env, preexec_fn=die_with_us if main else None)
        self.buffer = b""

    def line(self, patience=PATIENCE):
        """The next line of its standard output; None when it has ended."""
        deadline = time.monotonic() + patience
        while b"\n" not in self.buffer:
            left = max(0, deadline - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                raise AssertionError(f"{self.process.args[0]} said nothing; so far {self.buffer!r}")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def ready(self):
        line = self.line()
        if not line or not line.startswith("ready "):
            raise AssertionError(f"did not start: {line!r} {self.errors()!r}")
        self.pid = int(re.search(r"pid=(\d+)", line).group(1))
        return line

    def errors(self):
        self.stderr.seek(0)
        return self.stderr.read()

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.ended()

    def ended(self):
        """Waits for its end; one that does not end is killed, which its status then shows."""
        try:
            self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        status = self.stop()
        if kind is None and status != 0:
            raise AssertionError(f"{self.process.args[0]} ended with {status}: {self.errors()}")


def run(tests):
    """Runs the test functions of a module, each with the programs from the command line; only
    those with $CASE_TEST in their name, where that is set. As root, in a network of their own."""
    ownnetwork.enter()
    failed = 0
    only = os.environ.get("CASE_TEST")
    for test in tests:
        if only and only not in test.__name__:
            continue
        try:
            test(*sys.argv[1:])
            print(f"ok   {test.__name__}", flush=True)
        except Exception as problem:  # every failure is reported, not only the first
            traceback.print_exc()
            print(f"FAIL {test.__name__}: {problem}", flush=True)
            failed += 1
    sys.exit(1 if failed else 0)
