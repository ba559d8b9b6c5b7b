#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Resources that a program alone knows of, and for whom they are held: a ticket server (tests/fixtures/ticket_server.c)
under telltale with a declared handle. Forgotten tickets are a leak that names its clients; sockets whose client hung up are
one of their own; tickets that cool down reach their limit by the rate; and tickets that come back are nothing at all."""
import contextlib
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import time

from harness import SKIP, Test, end_group, environment, run
from truth import WAYS, way_works

WAY = "kernel" if sys.argv[1:2] == ["kernel"] else "agent"
OPTIONS = WAYS[WAY][0]
SERVER = pathlib.Path(os.environ["FIXTURES"], "fixture_ticket_server" + ("_static" if WAY == "kernel" else ""))
HANDLE = "ticket=ticket_take:ret:ok=nonneg,ticket_give:arg1,limit=%d"
t = Test("resources" if WAY == "agent" else "resources-kernel")


def ask(port, what):
    """One connection that hangs up after the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
        s.sendall(what)
        return s.recv(1)


@contextlib.contextmanager
def server(command):
    """The running server's port; afterwards its truth is in .truth."""
    class Running:
        truth = None
    p = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True,
                         env=environment())
    running = Running()
    try:
        running.port = int(p.stdout.readline())
        running.pid = p.pid
        yield running
        ask(running.port, b"q")
        running.truth = json.loads(p.stdout.readline())
        p.wait(60)
    finally:
        end_group(p)


def load(port, seconds, per_second, what):
    """Requests as they come, at random; with an even pace what is released after a time looks like a full cache."""
    end, n, chance = time.monotonic() + seconds, 0, random.Random(7)
    while time.monotonic() < end:
        ask(port, what[n % len(what)])
        n += 1
        time.sleep(chance.expovariate(per_second))
    return n


def until_found(record):
    """What record() gave, truth and findings; made again, three times in all, while a verdict is left open."""
    for _ in range(3):
        truth, findings = record()
        if leaks(findings):
            break
    return truth, findings


def recorded(name, tickets, cooling_ms, seconds, per_second, what):
    """(server's truth, findings) of one run."""
    session = t.path(f"{name}.tt")
    command = t.under("exact", session, [SERVER, tickets, cooling_ms], "--horizon", "2", "--snapshots", "off", "--handle",
                      HANDLE % tickets, *OPTIONS)
    with server(command) as s:
        load(s.port, seconds, per_second, what)
    return s.truth, t.findings(session)["findings"]


def leaks(findings):
    return [f for f in findings if f["verdict"].startswith("leak")]


def of(findings, resource):
    return [f for f in findings if f["resource"] == resource]


def functions(finding):
    return [f["function"] for f in finding["site"]["frames"]]


def forgotten():
    truth, findings = until_found(lambda: recorded("forgotten", 1000, 100, 14, 30, [b"l", b"o", b"o"]))
    found = leaks(findings)
    if not t.check(len(found) == 1 and found[0]["resource"] == "ticket", "forgotten tickets are one leak",
                   [(f["resource"], f["verdict"], functions(f)) for f in found]):
        return
    f = found[0]
    t.check("forget_ticket" in functions(f), "at the place that forgets them", functions(f))
    t.check(f["live"] == truth["leaked"], "all of them counted", (f["live"], truth))
    t.check(f["owner"] and f["owner"]["host"] == "127.0.0.1" and f["owner"]["outlives"],
            "on behalf of clients that have gone", f["owner"])
    t.check(f["forecast"] and f["forecast"]["limit"] == 1000, "with the limit that was declared", f["forecast"])


def hung_up():
    truth, findings = until_found(lambda: recorded("hung up", 1000, 100, 14, 12, [b"k", b"o"]))
    found = leaks(findings)
    t.check(len(found) == 1 and found[0]["resource"] == "socket" and "main" in functions(found[0]), "sockets whose client hung up are one leak",
            [(f["resource"], f["verdict"], functions(f)) for f in found])
    state = found[0]["state"] if found else None
    t.check(state and state["name"] == "CLOSE_WAIT" and state["now"] >= 0.5 * truth["kept"], "and are in CLOSE_WAIT", (state, truth))


def cooling():
    _, findings = recorded("cooling", 20, 3000, 16, 20, [b"c"])
    tickets = [f for f in of(findings, "ticket") if "cool_ticket" in functions(f)]
    t.check(not leaks(findings), "cooling tickets are no leak", [(f["resource"], functions(f)) for f in leaks(findings)])
    t.check([f["verdict"] for f in tickets] == ["capacity limit"] and tickets[0]["capacity"]["limit"] == 20,
            "but reach their limit by the rate", [(f["verdict"], f["note"]) for f in tickets])
    _, findings = recorded("cooling slowly", 200, 2000, 16, 20, [b"c"])
    tickets = [f for f in of(findings, "ticket") if "cool_ticket" in functions(f)]
    t.check([f["verdict"] for f in tickets] == ["delayed release"], "and below it are released late",
            [(f["verdict"], f["note"]) for f in tickets])


def given_back():
    _, findings = recorded("given back", 1000, 100, 10, 50, [b"o"])
    t.check(not leaks(findings), "what is given back is no leak", [(f["resource"], functions(f)) for f in leaks(findings)])
    t.check(of(findings, "ticket"), "though it was watched")


def told():
    """What a program tells itself (include/telltale.h), by run and attached; its values are looked at only then."""
    program = pathlib.Path(os.environ["FIXTURES"], "fixture_told")
    status, out, _ = run([program, "1"])
    t.check(status == 0 and json.loads(out)["looked"] == 0, "told: nobody listens, nothing is evaluated", out)

    def from_start():
        session = t.path("told.tt")
        out = run(t.under("exact", session, [program, "12"], "--horizon", "2", "--snapshots", "off"))[1]
        return json.loads(out), t.findings(session)["findings"]

    def attached_to():
        session = t.path("told attached.tt")
        p = subprocess.Popen([program, "16"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True, env=environment())
        status, _, err = run([t.telltale, "attach", "-q", "-p", str(p.pid), "-d", "12", "-o", session, "--horizon", "2", "--snapshots", "off"])
        t.check(status == 0, "told: attached and left again", err)
        truth = json.loads(p.communicate(timeout=60)[0])
        t.check(p.returncode == 0 and truth["looked"] < 2 * truth["given"], "told: goes on and is quiet again", truth)
        return truth, t.findings(session)["findings"]

    truth, findings = until_found(from_start)
    found = leaks(findings)
    if t.check(len(found) == 1 and found[0]["resource"] == "pass" and functions(found[0])[0] == "pass_take", "told: forgotten passes are one leak",
               [(f["resource"], f["verdict"], functions(f)) for f in found]):
        t.check(found[0]["live"] == truth["forgotten"] and found[0]["births"] == truth["given"], "told: all of them counted", (found[0]["live"], truth))
        t.check(found[0]["rate"]["operation"] == "request" and abs(found[0]["rate"]["per_operation"] - 1 / 3) < 1e-6,
                "told: one in three requests", found[0]["rate"])
    found = leaks(until_found(attached_to)[1])
    t.check([f["resource"] for f in found] == ["pass"], "told: attached, forgotten passes are one leak",
            [(f["resource"], f["verdict"], functions(f)) for f in found])


def attach():
    """(None, findings) of a server that runs already when it is recorded, and goes on afterwards."""
    session = t.path("attached.tt")
    with server([SERVER, 1000, 100]) as s:
        load(s.port, 1, 30, [b"l"])
        recorder = subprocess.Popen([t.telltale, "attach", "-q", "-p", str(s.pid), "-d", "14", "-o", session, "--horizon", "2",
                                     "--snapshots", "off", "--handle", HANDLE % 1000, *OPTIONS], stdin=subprocess.DEVNULL,
                                    stderr=subprocess.PIPE, start_new_session=True, env=environment())
        while recorder.poll() is None:
            load(s.port, 0.5, 30, [b"l", b"o", b"o"])
        said = recorder.stderr.read().decode()
        load(s.port, 0.5, 30, [b"l", b"o"])  # it goes on
    t.check(recorder.returncode == 0, "attached and left again", said)
    return None, t.findings(session)["findings"]


def attached():
    """Forgotten tickets of such a server."""
    found = leaks(until_found(attach)[1])
    t.check(len(found) == 1 and found[0]["resource"] == "ticket" and "forget_ticket" in functions(found[0]),
            "attached: forgotten tickets are one leak", [(f["resource"], f["verdict"], functions(f)) for f in found])


def main():
    if not way_works(t, WAY):
        return SKIP
    if not SERVER.exists():
        print(f"skip {t.name}: no static libc")
        return SKIP
    tests = {f.__name__: f for f in (forgotten, hung_up, cooling, given_back, told, attached)}
    for name in sys.argv[2 if WAY == "kernel" else 1:] or tests:
        tests[name]()
    return t.end()


if __name__ == "__main__":
    sys.exit(main())
