#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Python interpreter, unmodified: python_target.py prints the same and exits alike, with Python's own small-object
allocator and with every object from malloc."""
import os
import pathlib
import sys

from harness import MODES, Test, run

t = Test("python")
TARGET = pathlib.Path(__file__).with_name("python_target.py")
# The distribution's interpreter where there is one: the program that people run.
PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable


def main():
    environment = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONMALLOC": "malloc"}
    wanted = run([PYTHON, TARGET], extra_env=environment)
    if not t.check(wanted[0] == 11, "bare run", wanted):
        return t.end()
    for mode in MODES:
        session = t.path(f"{mode}.tt")
        got = run(t.under(mode, session, [PYTHON, TARGET], "-f"), extra_env=environment)
        t.check(got[0] == 11, f"{mode}: exit status 11", got)
        t.check(got[1] == wanted[1], f"{mode}: same output", got[1].decode() + "\nwanted\n" + wanted[1].decode())
        t.check(got[2] == wanted[2], f"{mode}: nothing else on stderr", got[2].decode())
        if t.findings(session):
            t.check_recorded(session, "python", 1 if mode == "sampled" else 1000)
            t.check_clean(session)
    return t.end()


if __name__ == "__main__":
    sys.exit(main())
