#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs command-line tests that are files (see README.md in this directory).

NAME.sh runs in a scratch directory of its own; what it prints and how it exits is held against
NAME.sh.stdout.{exact,glob,ignore}, NAME.sh.stderr.{...} and NAME.sh.exit. Without a file the
expectation is: nothing printed, exit status 0. A script that exits with 77 is skipped; the last
line it wrote says why. One line per test, a total, exit status 0 when nothing failed (77 when all
were skipped). Start: main.
"""
import argparse
import difflib
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SKIP = 77
LIMIT = 180  # seconds for one script; nothing here is timed, this only ends a hang


def glob_to_regex(text):
    """A .glob file as one regular expression: each line is a pattern with * and ?, and a line that
    is just '...' stands for any number of lines."""
    out = []
    for line in text.splitlines():
        if line == "...":
            out.append(r"(?:.*\n)*")
            continue
        out.append("".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in line))
        out.append(r"\n")
    return re.compile("".join(out))


def mismatch(script, stream, got):
    """None if `got` is what the files next to the script ask for, else a text that shows the difference."""
    base = f"{script}.{stream}"
    if os.path.exists(base + ".ignore"):
        return None
    text = got.decode("utf-8", "replace")
    if os.path.exists(base + ".glob"):
        want = pathlib.Path(base + ".glob").read_text(encoding="utf-8")
        complete = text if not text or text.endswith("\n") else text + "\n"
        if glob_to_regex(want).fullmatch(complete):
            return None
    else:
        exact = pathlib.Path(base + ".exact")
        want = exact.read_text(encoding="utf-8") if exact.exists() else ""
        if text == want:
            return None
    lines = difflib.unified_diff(want.splitlines(), text.splitlines(), f"{stream} wanted", f"{stream} got", lineterm="")
    return "\n".join(lines) or f"{stream}: only the end of the last line differs"


def run_script(command, directory, environment):
    """Runs the command in its own session and ends whatever it left behind; (status, stdout, stderr)."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=err, start_new_session=True)
        # The group is killed before the leader is reaped, so that its number cannot be another's yet.
        pidfd = os.pidfd_open(child.pid)
        ended = bool(select.select([pidfd], [], [], LIMIT)[0])
        os.close(pidfd)
        os.killpg(child.pid, signal.SIGKILL)
        status = child.wait()
        out.seek(0)
        err.seek(0)
        return status if ended else None, out.read(), err.read()


def run_test(script, shared, environment):
    """Returns ('ok' | 'skip' | 'FAIL', explanation)."""
    with tempfile.TemporaryDirectory(prefix="tt-cli.") as scratch:
        environment = dict(environment, SHARED=str(shared), SUITE=str(script.parent), SCRATCH=scratch)
        status, out, err = run_script(["/bin/sh", "-u", str(script)], scratch, environment)
    if status is None:
        return "FAIL", f"still running after {LIMIT} s"
    if status == SKIP:
        said = (out + err).decode("utf-8", "replace").strip().splitlines()
        return "skip", said[-1] if said else "no reason given"
    wanted_exit = 0
    if os.path.exists(f"{script}.exit"):
        wanted_exit = int(pathlib.Path(f"{script}.exit").read_text(encoding="utf-8"))
    problems = [] if status == wanted_exit else [f"exit status {status}, wanted {wanted_exit}"]
    for stream, got in (("stdout", out), ("stderr", err)):
        difference = mismatch(script, stream, got)
        if difference:
            problems.append(difference)
    return ("FAIL", "\n".join(problems)) if problems else ("ok", "")


def run_suite(suite, environment, only):
    """Runs setup_once in a directory that the suite's tests share ($SHARED), then each test."""
    scripts = sorted(s for s in suite.glob("*.sh") if not only or s.stem in only)
    counts = {"ok": 0, "skip": 0, "FAIL": 0}
    shared = pathlib.Path(tempfile.mkdtemp(prefix="tt-cli-shared."))
    try:
        setup = suite / "setup_once"
        if setup.exists():
            prepared = dict(environment, SHARED=str(shared), SUITE=str(suite))
            status, out, err = run_script(["/bin/sh", "-eu", str(setup)], shared, prepared)
            if status != 0:
                sys.stdout.buffer.write(out + err)
                print(f"FAIL {suite.name}/setup_once: exit status {status}")
                return {"ok": 0, "skip": 0, "FAIL": 1}
        for script in scripts:
            result, why = run_test(script, shared, environment)
            counts[result] += 1
            first, _, rest = why.partition("\n")
            print(f"{result:4} {suite.name}/{script.stem}" + (f": {first}" if first else ""), flush=True)
            if rest:
                print("     " + rest.replace("\n", "\n     "), flush=True)
    finally:
        shutil.rmtree(shared, ignore_errors=True)
    return counts


def main():
    parser = argparse.ArgumentParser(description="Runs command-line tests that are files.")
    parser.add_argument("suites", nargs="+", type=pathlib.Path, help="directories with NAME.sh")
    parser.add_argument("--only", action="append", metavar="NAME", help="run just this test")
    args = parser.parse_args()
    if not os.access(os.environ.get("TELLTALE", ""), os.X_OK):
        print("run.py: set TELLTALE to the telltale program", file=sys.stderr)
        return 2
    # Nothing of the caller's terminal or locale may reach expected output.
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "LS_COLORS", "LD_PRELOAD")}
    environment.update(LC_ALL="C", TERM="dumb", DEBUGINFOD_URLS="")
    environment["TELLTALE"] = os.path.abspath(environment["TELLTALE"])
    started = time.monotonic()
    total = {"ok": 0, "skip": 0, "FAIL": 0}
    for suite in args.suites:
        for result, n in run_suite(suite.resolve(), environment, args.only).items():
            total[result] += n
    print(f"{total['ok']} passed, {total['FAIL']} failed, {total['skip']} skipped in {time.monotonic() - started:.1f} s")
    if total["FAIL"] or not sum(total.values()):
        return 1
    return 0 if total["ok"] else SKIP


if __name__ == "__main__":
    sys.exit(main())
