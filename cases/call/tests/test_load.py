# SPDX-License-Identifier: Apache-2.0
"""callload and callowner as programs: exit status, wrappers, interruption, parallel runs, outgoing
calls to `sipp -sn uas`.

usage: test_load.py TAPISRV CALLLOAD CALLOWNER
Exit status 77 (skipped) without SIPp.
"""

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

from callcase import *

QUICK = ["--calls", "10", "--rate", "100", "--duration", "10"]


def finish(process, patience=60):
    output, errors = process.communicate(timeout=patience)
    return process.returncode, output, errors


def start(*args, **kw):
    return subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)


def await_text(stream, pattern):
    """Reads a stream up to the first match."""
    text = ""
    while not re.search(pattern, text):
        assert select.select([stream], [], [], PATIENCE)[0], f"no {pattern} in {text!r}"
        data = os.read(stream.fileno(), 4096).decode()
        assert data, f"no {pattern} in {text!r}"
        text += data
    return text


def test_exit_status_is_the_command_s(tapisrv, callload, callowner):
    wrapper = ["sh", "-c", '"$0"; status=$?; exit $((status + 7))']
    status, _, errors = finish(start(callload, *QUICK, "--", *wrapper, tapisrv))
    assert status == 7, errors
    status, _, errors = finish(start(callload, *QUICK, "--", "sh", "-c", "exit 5"))
    assert status == 5 and "ended before it was ready" in errors, errors
    status, _, errors = finish(start(callload, *QUICK, "--", "/nonexistent"))
    assert status == 127 and "cannot run /nonexistent" in errors, errors
    status, _, errors = finish(start(callload, *QUICK, "--", tapisrv, "--socket", "/nonexistent/s"))
    assert status == 3 and "cannot listen" in errors, errors
    status, _, errors = finish(start(callload, *QUICK, "--sipp", "/nonexistent", "--", tapisrv))
    assert status == 3 and "sip-tester" in errors, errors
    assert finish(start(callload, "--owners", "0", "--", tapisrv))[0] == 2
    assert finish(start(callload))[0] == 2
    assert finish(start(callload, "--end", "never", "--", tapisrv))[0] == 2


def test_hooks(tapisrv, callload, callowner):
    # What a hook leaves running in the background does not hold up the run.
    status, _, errors = finish(start(callload, *QUICK, "--before", "sleep 1 & echo up $TAPISRV_PID",
                                     "--after", "kill -0 $TAPISRV_PID && echo after", "--", tapisrv))
    assert status == 0 and re.search(r"up \d+\n(.*\n)*after\n", errors), errors
    status, _, errors = finish(start(callload, *QUICK, "--before", "exit 4", "--", tapisrv))
    assert status == 3 and '"exit 4" failed' in errors, errors


def test_parallel_runs(tapisrv, callload, callowner):
    runs = [start(callload, *QUICK, "--owners", str(n), "--", tapisrv) for n in (1, 2, 3)]
    for process in runs:
        status, _, errors = finish(process)
        assert status == 0 and "10 calls (0 failed)" in errors, errors


def test_interruption_leaves_nothing_behind(tapisrv, callload, callowner):
    for number in (signal.SIGINT, signal.SIGTERM):
        with tempfile.TemporaryDirectory() as directory:
            mark = os.path.join(directory, "mark")
            # Every process of the run has the mark in its environment.
            process = start(callload, "--calls", "100000", "--rate", "200", "--", tapisrv,
                            env={**os.environ, "CALL_MARK": mark})
            await_text(process.stderr, r"100 of|200 of|\d+ of 100000")
            process.send_signal(number)
            status, _, errors = finish(process)
            assert status == 130, (status, errors)
            left = []
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{pid}/environ", "rb") as file:
                        if mark.encode() in file.read():
                            left.append(pid)
                except OSError:
                    pass
            assert not left


def test_server_that_dies_is_noticed(tapisrv, callload, callowner):
    process = start(callload, "--calls", "100000", "--rate", "200", "--", "sh", "-c",
                    'exec "$0" --ready-fd 1', tapisrv)
    await_text(process.stderr, r"\d+ of 100000")
    with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="utf-8") as file:
        children = file.read().split()
    server = [p for p in children if os.readlink(f"/proc/{p}/exe") == os.path.realpath(tapisrv)]
    os.kill(int(server[0]), signal.SIGKILL)
    status, _, errors = finish(process)
    assert status == 3 and "the server ended during the load" in errors, (status, errors)


def test_outgoing_calls_to_sipp(tapisrv, callload, callowner):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    far = start("sipp", "-sn", "uas", "-i", "127.0.0.1", "-p", str(port), "-m", "1", "-nostdin",
                env={**os.environ, "TERM": "dumb"})
    try:
        with Server(tapisrv) as server:
            app = App(server)
            line = app.open(NONE, 0)
            # INVITE is retransmitted, so it does not matter when SIPp begins to listen.
            request = app.request(MAKE_CALL, line, var=f"sip:far@127.0.0.1:{port}\0".encode())
            call = app.params[0]
            assert app.event(REPLY, request).p2 == 0
            app.event(CALLSTATE, RINGBACK, call)
            app.event(CALLSTATE, CONNECTED, call)
            app.request(DROP, call)
            app.event(CALLSTATE, IDLE, call)
            assert app.request(DEALLOCATE, call) == 0
            # And with the client program: nobody is there now, so the call ends by timer B.
        with Server(tapisrv, "--t1", "5") as server:
            client = start(callowner, "--role", "monitor", "--calls", "1", "--make",
                           f"sip:far@127.0.0.1:{server.port}", stdin=subprocess.PIPE,
                           env={**os.environ, "TAPISRV_SOCKET": server.path})
            status, output, errors = finish(client)
            truth = json.loads(output.splitlines()[-1])
            assert status == 0 and truth["owned"] == truth["deallocated"] == 1, (truth, errors)
    finally:
        far.kill()
        finish(far)


def test_late_joiner_asks_for_calls(tapisrv, callload, callowner):
    with Server(tapisrv, "--t1", "20") as server:
        app = App(server)
        app.open()
        phone = Phone(server)
        phone.invite()
        call, _ = app.new_call()
        client = start(callowner, "--role", "join", "--calls", "1", stdin=subprocess.PIPE,
                       env={**os.environ, "TAPISRV_SOCKET": server.path})
        app.event(CALLINFO, NUMOWNERINCR | NUMMONITORS, call)
        phone.send(phone.request("CANCEL", branch=phone.invite_branch))
        phone.expect(487)
        status, output, errors = finish(client)
        truth = json.loads(output.splitlines()[-1])
        assert status == 0 and truth["owned"] == truth["deallocated"] == 1, (truth, errors)
        assert app.info(call)["owners"] == 1


if not shutil.which("sipp"):
    print("SIPp (package sip-tester) is not installed")
    sys.exit(77)
run([f for name, f in list(globals().items()) if name.startswith("test_")])
