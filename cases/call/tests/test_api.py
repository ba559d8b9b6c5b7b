# SPDX-License-Identifier: Apache-2.0
"""The rules of the telephony API: who owns a call, who may do what, who is told, what happens when
an application goes. Each rule is that of the SDK page of its function (see README.md).

usage: test_api.py TAPISRV
"""

import signal
import struct
import subprocess
import sys

from callcase import *


def ring(server, user="1000"):
    phone = Phone(server, user)
    phone.invite()
    phone.expect(100)
    return phone


def connect(server, owner, phone, call):
    owner.request(ANSWER, call)
    phone.expect(200)
    phone.ack()
    owner.event(CALLSTATE, CONNECTED, call)


def hang_up(phone):
    phone.bye()
    assert phone.expect(200, "BYE")


def test_first_owner_is_the_first_opener_or_by_priority(tapisrv):
    with Server(tapisrv) as server:
        a, b, c = App(server, "a"), App(server, "b"), App(server, "c")
        c.open(MONITOR)
        a.open(OWNER)
        b.open(MONITOR | OWNER)
        ring(server)
        assert a.new_call()[1] == OWNER
        assert b.new_call()[1] == MONITOR
        assert c.new_call()[1] == MONITOR
        assert a.request(SET_APP_PRIORITY, VOICE, 1, var=b"b\0") == 0
        ring(server)
        assert b.new_call()[1] == OWNER
        a.sync()
        assert not [e for e in a.events if e.msg == APPNEWCALL], "an owner-only opener gets no monitor handle"
        assert a.request(SET_APP_PRIORITY, VOICE, 0, var=b"b\0") == 0
        ring(server)
        assert a.new_call()[1] == OWNER
        assert a.request(SET_APP_PRIORITY, VOICE, 2, var=b"b\0") == error(0x32)


def test_unknown_media_goes_round_the_modes(tapisrv):
    with Server(tapisrv) as server:
        a = App(server)
        a.open(OWNER, DATA)
        phone = Phone(server)
        phone.send(phone.request("INVITE"))  # no session description
        phone.expect(100)
        call, _ = a.new_call()
        assert a.info(call)["media"] == DATA


def test_counts_and_who_is_told(tapisrv):
    with Server(tapisrv) as server:
        a, b, c = App(server, "a"), App(server, "b"), App(server, "c")
        a.open(OWNER)
        b.open(MONITOR | OWNER)
        c.open(MONITOR)
        ring(server)
        ha, hb, hc = a.new_call()[0], b.new_call()[0], c.new_call()[0]
        for app in (a, b, c):
            app.sync()
            assert not app.events, "no CALLINFO beside a new call's notice"
        info = a.info(ha)
        assert (info["owners"], info["monitors"]) == (1, 2)
        assert b.request(SET_PRIVILEGE, hb, OWNER) == 0
        for app, handle in ((a, ha), (c, hc)):
            assert app.event(CALLINFO, device=handle).p1 == NUMOWNERINCR | NUMMONITORS
        b.sync()
        assert not b.events, "never told to the one who caused it"
        info = c.info(hc)
        assert (info["owners"], info["monitors"]) == (2, 1)
        assert b.request(SET_PRIVILEGE, hb, MONITOR) == 0
        assert a.event(CALLINFO).p1 == NUMOWNERDECR | NUMMONITORS
        assert c.request(DEALLOCATE, hc) == 0
        assert a.event(CALLINFO).p1 == NUMMONITORS
        assert a.info(ha)["monitors"] == 1


def test_no_callinfo_after_idle(tapisrv):
    with Server(tapisrv) as server:
        a, b = App(server, "a"), App(server, "b")
        a.open(OWNER)
        b.open(MONITOR | OWNER)
        phone = ring(server)
        ha, hb = a.new_call()[0], b.new_call()[0]
        connect(server, a, phone, ha)
        hang_up(phone)
        a.event(CALLSTATE, IDLE)
        a.events.clear()
        assert b.request(SET_PRIVILEGE, hb, OWNER) == 0, "any state"
        assert b.request(DEALLOCATE, hb) == 0
        a.sync()
        assert not a.events
        assert a.info(ha)["owners"] == 1, "info is readable in idle"
        assert a.status(ha)["state"] == IDLE


def test_privileges(tapisrv):
    with Server(tapisrv) as server:
        a, b = App(server, "a"), App(server, "b")
        la = a.open(OWNER)
        b.open(MONITOR)
        phone = ring(server)
        ha, hb = a.new_call()[0], b.new_call()[0]
        for func in (ANSWER, ACCEPT, DROP, HANDOFF):
            assert b.request(func, hb, VOICE) == error(0x46), "NOTOWNER"
            assert b.request(func, ha, VOICE) == error(0x18), "another application's handle"
        assert a.request(SET_PRIVILEGE, ha, MONITOR) == error(0x1c), "sole owner, not idle"
        assert a.request(SET_PRIVILEGE, ha, NONE) == error(0x1c)
        for bad in (0, 3, 6, 8):
            assert a.request(SET_PRIVILEGE, ha, bad) == error(0x1a)
        assert b.request(SET_PRIVILEGE, hb, OWNER) == 0
        assert a.request(SET_PRIVILEGE, ha, MONITOR) == 0, "there is another owner"
        assert a.request(ANSWER, ha) == error(0x46)
        assert a.request(SET_PRIVILEGE, ha, NONE) == 0
        assert a.request(GET_STATUS, ha, 100) == error(0x18)
        connect(server, b, phone, hb)
        assert b.request(ANSWER, hb) == error(0x1c)
        assert b.request(ACCEPT, hb) == error(0x1c)
        assert a.request(CLOSE, la) == 0
        assert a.request(CLOSE, la) == error(0x2b)


def test_open_and_version_errors(tapisrv):
    with Server(tapisrv, "--lines", "2") as server:
        stranger = App(server, initialize=False)
        assert stranger.request(OPEN, 1, 0, 0x20000, 0, OWNER, VOICE) == error(0x50)
        assert stranger.request(INITIALIZE, 2) == error(0x15)
        assert stranger.request(INITIALIZE, 1, var=b"x\0") == error(0x32)
        assert stranger.request(INITIALIZE, 2, var=b"x" * 200 + b"\0") == error(0x15)
        a = App(server)
        assert a.params[1] == 2

        def opened(app=a.app, line=0, version=0x20000, privileges=OWNER, media=VOICE):
            return a.request(OPEN, app, line, version, 0, privileges, media)
        assert opened(app=5) == error(0x14)
        assert opened(line=2) == error(0x02)
        assert opened(version=0x40000) == error(0x0c)
        assert opened(privileges=0) == error(0x36)
        assert opened(privileges=NONE | OWNER) == error(0x36)
        assert opened(privileges=8) == error(0x36)
        assert opened(media=0) == error(0x2f)
        assert opened(media=0x100) == error(0x2f)
        assert opened(privileges=MONITOR, media=0) == 0, "media modes only count with OWNER"
        assert a.request(NEGOTIATE, a.app, 0, 0x10003, 0x20000) == 0 and a.params[0] == 0x20000
        assert a.request(NEGOTIATE, a.app, 0, 0x10003, 0x1ffff) == 0 and a.params[0] == 0x10004
        assert a.request(NEGOTIATE, a.app, 0, 0x40000, 0x50000) == error(0x0c)
        assert a.request(NEGOTIATE, a.app, 9, 0, 0xffffffff) == error(0x02)
        for func in (0, 17, 38, 40, 1000, 0xffffffff):
            assert a.request(func) == error(0x49)
        assert a.request(SHUTDOWN, a.app) == 0
        assert a.request(SHUTDOWN, a.app) == error(0x50)


def test_deallocate_by_a_sole_owner_depends_on_the_version(tapisrv):
    for version, result in ((0x10004, error(0x1c)), (0x20000, 0)):
        with Server(tapisrv) as server:
            a, b = App(server, "a"), App(server, "b")
            a.open(OWNER, version=version)
            b.open(MONITOR)
            phone = ring(server)
            ha, hb = a.new_call()[0], b.new_call()[0]
            connect(server, a, phone, ha)
            assert a.request(DEALLOCATE, ha) == result
            assert b.status(hb)["state"] == CONNECTED, "the physical call is not changed"
            assert b.info(hb)["owners"] == (1 if result else 0)
            hang_up(phone)
            b.event(CALLSTATE, IDLE)
            assert b.request(DEALLOCATE, hb) == 0


def test_last_handle_of_a_live_call_hangs_up(tapisrv):
    with Server(tapisrv, "--t1", "20") as server:
        a = App(server)
        a.open()
        phone = ring(server)
        call, _ = a.new_call()
        connect(server, a, phone, call)
        assert a.request(DEALLOCATE, call) == 0
        phone.answer(phone.expect("BYE"))


def test_new_calls(tapisrv):
    with Server(tapisrv) as server:
        a, b = App(server, "a"), App(server, "b")
        a.open(OWNER)
        phones = [ring(server) for _ in range(3)]
        calls = [a.new_call()[0] for _ in phones]
        line = b.open(MONITOR | OWNER)
        b.sync()
        assert not b.events, "opened after the calls: no messages about them"

        def new_calls(size=1024, select=1, address=0):
            result = b.request(GET_NEW_CALLS, line, address, select, size)
            if result:
                return result
            entries = struct.unpack("<6I", b.var[:24])[3]
            return struct.unpack(f"<{entries}I", b.var[24:])
        assert new_calls(select=4) == error(0x1b)
        assert new_calls(size=20) == error(0x4d)
        assert new_calls(select=2, address=1) == error(0x11)
        two = new_calls(size=24 + 8)
        assert len(two) == 2, "only as many handles as the caller has room for"
        rest = new_calls()
        assert len(rest) == 1 and not new_calls()
        for call in two + rest:
            assert b.status(call)["privilege"] == MONITOR
        assert a.event(CALLINFO).p1 == NUMMONITORS
        assert b.request(SET_PRIVILEGE, two[0], OWNER) == 0
        assert b.request(GET_CONF, two[0], 1024) == error(0x41)
        assert b.request(GET_CONF, 1, 1024) == error(0x18)
        assert all(a.info(c)["monitors"] + a.info(c)["owners"] == 2 for c in calls)


def test_call_info(tapisrv):
    with Server(tapisrv) as server:
        a = App(server)
        line = a.open(line=1)
        ring(server, "1001")
        call, _ = a.new_call()
        info = a.info(call)
        assert info["line"] == line and info["device"] == 1 and info["media"] == VOICE
        text = a.var[info["caller_offset"]:info["caller_offset"] + info["caller_size"]]
        assert text == b"sip:phone@127.0.0.1\0"
        assert a.request(GET_INFO, call, 67) == error(0x4d)
        assert a.request(GET_INFO, call, 68) == 0 and len(a.var) == 68
        assert struct.unpack("<I", a.var[4:8])[0] > 68, "needed size is told"
        assert a.request(GET_STATUS, call, 27) == error(0x4d)
        status = a.status(call)
        assert status["privilege"] == OWNER and status["features"] == 0x85


def test_handoff(tapisrv):
    with Server(tapisrv) as server:
        a, b, c = App(server, "a"), App(server, "b"), App(server, "c")
        a.open(OWNER)
        b.open(OWNER, DATA)
        c.open(MONITOR)
        ring(server)
        ha, hc = a.new_call()[0], c.new_call()[0]
        assert a.request(HANDOFF, ha, var=b"nobody\0") == error(0x4e)
        assert a.request(HANDOFF, ha, var=b"c\0") == error(0x4e), "opened without OWNER"
        assert a.request(HANDOFF, ha, VOICE) == error(0x4f), "the best opener is the caller"
        assert a.request(HANDOFF, ha, VOICE | DATA) == error(0x2f)
        assert a.request(HANDOFF, ha, 0) == error(0x2f)
        assert a.request(HANDOFF, ha, var=b"b\0") == 0, "by name media modes do not count"
        hb, privilege = b.new_call()
        assert privilege == OWNER
        assert a.status(ha)["privilege"] == OWNER, "the giver keeps it"
        assert c.event(CALLINFO, device=hc).p1 == NUMOWNERINCR
        assert a.info(ha)["owners"] == 2
        assert a.request(HANDOFF, ha, DATA) == 0
        assert b.event(CALLSTATE, device=hb).p3 == OWNER, "told even if already owner"
        assert a.info(ha)["owners"] == 2
        a.sync()
        assert not a.events


def test_close_by_the_sole_owner_drops(tapisrv):
    for end in (CLOSE, SHUTDOWN):
        with Server(tapisrv, "--t1", "20") as server:
            a, b = App(server, "a"), App(server, "b")
            line = a.open(OWNER)
            b.open(MONITOR)
            phone = ring(server)
            ha, hb = a.new_call()[0], b.new_call()[0]
            connect(server, a, phone, ha)
            assert a.request(end, line if end == CLOSE else a.app) == 0
            phone.answer(phone.expect("BYE"))
            b.event(CALLSTATE, IDLE, hb)


def test_close_by_one_of_two_owners_does_not_drop(tapisrv):
    with Server(tapisrv) as server:
        a, b = App(server, "a"), App(server, "b")
        line = a.open(OWNER)
        b.open(MONITOR | OWNER)
        phone = ring(server)
        ha, hb = a.new_call()[0], b.new_call()[0]
        b.request(SET_PRIVILEGE, hb, OWNER)
        connect(server, a, phone, ha)
        assert a.request(CLOSE, line) == 0
        assert b.event(CALLINFO, NUMOWNERDECR).device == hb
        assert b.status(hb)["state"] == CONNECTED
        hang_up(phone)
        b.event(CALLSTATE, IDLE, hb)


CHILD = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from callcase import *
class S: path = sys.argv[2]
app = App(S, "child")
app.open(OWNER)
print("open", flush=True)
call, privilege = app.new_call()
app.request(ANSWER, call)
app.event(CALLSTATE, CONNECTED)
print("connected", flush=True)
time.sleep(3600)
"""


def test_rundown_of_a_killed_owner(tapisrv):
    with Server(tapisrv, "--t1", "20") as server:
        child = subprocess.Popen([sys.executable, "-c", CHILD, sys.path[0], server.path],
                                 stdout=subprocess.PIPE, text=True)
        try:
            assert child.stdout.readline() == "open\n"
            b = App(server)
            b.open(MONITOR)
            phone = ring(server)
            hb, _ = b.new_call()
            phone.expect(200)
            phone.ack()
            assert child.stdout.readline() == "connected\n"
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
            child.stdout.close()
        phone.answer(phone.expect("BYE"))
        b.event(CALLSTATE, IDLE, hb)
        info = b.info(hb)
        assert (info["owners"], info["monitors"]) == (0, 1)


def test_an_application_that_does_not_read_is_bounded(tapisrv):
    """Its queue ends at the limit, it gets no more calls, others are served; afterwards it catches
    up and is a first owner again."""
    with Server(tapisrv, "--queue-limit", "10", "--t1", "20") as server:
        deaf, a = App(server, "deaf"), App(server, "a")
        deaf.open(OWNER)
        a.open(OWNER)
        # The kernel's socket buffer comes first, then the queue. The calls are CANCELled at once.
        offered = 0
        while True:
            phone = ring(server)
            phone.send(phone.request("CANCEL", branch=phone.invite_branch))
            phone.expect(487)
            phone.ack(same_branch=True)
            a.sync()
            if a.events:
                break
            offered += 1
            assert offered < 5000
        deaf.sync()
        assert len([e for e in deaf.events if e.msg == APPNEWCALL]) == offered
        for e in [e for e in deaf.events if e.msg == APPNEWCALL]:
            assert deaf.request(DEALLOCATE, e.p2) == 0
        deaf.events.clear()
        ring(server)
        assert deaf.new_call()[1] == OWNER


def test_hostile_clients(tapisrv):
    with Server(tapisrv) as server:
        for data in (b"x", b"y" * 59, b"z" * 5000, struct.pack("<15I", *[0xffffffff] * 15)):
            app = App(server)
            app.sock.send(data)
            app.sock.settimeout(PATIENCE)
            while data and len(data) < 60 and app.sock.recv(100):
                pass
        a = App(server)
        a.open()
        for func in range(45):
            for params in ((), (0xffffffff,) * 13, (a.app,) * 13):
                for var in (b"", b"\0", b"no end", b"x" * 4096):
                    if func not in (SHUTDOWN, SET_APP_PRIORITY):
                        a.request(func, *params, var=var)
        a.sync()


run([f for name, f in list(globals().items()) if name.startswith("test_")])
