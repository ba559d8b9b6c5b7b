#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Real servers under load, attached and detached in exact and in sampled mode while clients check every answer:
no wrong answer, no lost connection, the work goes on afterwards, code bytes are as they were, something was recorded,
and no leak is reported, since there is none. Start: attach_to."""
import os
import pathlib
import sys
import tempfile
import time

from harness import Test, code_of, run
from servers import PATIENCE, SERVERS, present

t = Test("attach-servers")
SECONDS = "5"
# Blocks that must have been followed; some serve from memory of their own and hardly ever call malloc.
LEAST = {"memcached": (0, 0), "php-fpm": (0, 0)}


def moves(served):
    """Whether every client gets answers."""
    before, deadline = served.progress(), time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if all(b > a for a, b in zip(before, served.progress())):
            return True
        time.sleep(0.02)
    return False


def attach_to(name, served):
    code = code_of(served.pid)
    for mode in ("exact", "sampled", "exact"):
        what = f"{name} {mode}"
        session = t.path(f"{name}-{mode}.tt")
        answers = sum(served.progress())
        status, out, err = run([t.telltale, "attach", "-q", "-p", served.pid, "--mode", mode, "-d", SECONDS, "--horizon", "2",
                                *(["--mean", "65536"] if mode == "sampled" else []), "-o", session])
        if not t.check(status == 0, f"{what}: attached and detached", f"status {status}: {(out + err).decode(errors='replace')}"):
            continue
        t.check(sum(served.progress()) > answers + 100, f"{what}: answers meanwhile")
        t.check(moves(served), f"{what}: the work goes on")
        t.check_recorded(session, os.path.basename(os.readlink(f"/proc/{served.pid}/exe")), LEAST.get(name, (200, 1))[mode == "sampled"])
        t.check_clean(session)
        if mode == "exact" or name not in ("redis",):  # jemalloc: releases stay hooked while sampled blocks live
            now = code_of(served.pid)
            t.check(all(now.get(start) == was for start, was in code.items()), f"{what}: code is as it was")
    status, out, err = run([t.telltale, "detach", "-p", served.pid])
    t.check(status == 0, f"{name}: detach of what is detached", (out + err).decode(errors="replace"))


for name in sys.argv[1:] or SERVERS:
    if not present(name):
        print(f"skip {name}: not installed")
        continue
    with tempfile.TemporaryDirectory(prefix="tt-e2e-", ignore_cleanup_errors=True) as directory:
        pathlib.Path(directory).chmod(0o755)
        served = SERVERS[name][1](directory)
        try:
            t.check(moves(served), f"{name}: clients get answers")
            attach_to(name, served)
        finally:
            wrong = served.close()
        t.check(not wrong, f"{name}: every answer right", wrong)
sys.exit(t.end())
