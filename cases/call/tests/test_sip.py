# SPDX-License-Identifier: Apache-2.0
"""The SIP side of the call server: transactions, timers, refusals, hostile datagrams.

usage: test_sip.py TAPISRV
"""

import random
import time

from callcase import *

T1 = 20  # ms


def one_call(server, app, line_open=True):
    if line_open:
        app.open()
    phone = Phone(server)
    phone.invite()
    assert phone.expect(100)
    call, privilege = app.new_call()
    assert privilege == OWNER
    return phone, call


def test_call_from_invite_to_bye(tapisrv):
    with Server(tapisrv) as server:
        app = App(server)
        phone, call = one_call(server, app)
        request = app.request(ACCEPT, call)
        assert phone.expect(180).tag("to")
        assert app.event(REPLY).p1 == request
        app.event(CALLSTATE, ACCEPTED)
        request = app.request(ANSWER, call)
        ok = phone.expect(200)
        assert ok["content-type"] == "application/sdp" and ok.body.startswith("v=0")
        reply = app.event(REPLY)
        assert (reply.p1, reply.p2) == (request, 0)
        assert app.status(call)["state"] == ACCEPTED, "connected only with the ACK"
        phone.ack()
        app.event(CALLSTATE, CONNECTED)
        phone.bye()
        assert phone.expect(200, "BYE")
        assert app.event(CALLSTATE, DISCONNECTED).p2 == 1
        app.event(CALLSTATE, IDLE)
        assert app.request(DEALLOCATE, call) == 0
        assert app.request(DEALLOCATE, call) == error(0x18), "the handle is void now"


def test_retransmitted_invite_is_one_call(tapisrv):
    with Server(tapisrv, "--t1", "1000") as server:
        app = App(server)
        phone, call = one_call(server, app)
        phone.send(phone.invite_text)
        assert phone.expect(100)
        app.request(ANSWER, call)
        first = phone.expect(200)
        phone.send(phone.invite_text)
        assert phone.expect(200).tag("to") == first.tag("to")
        app.sync()
        assert not [e for e in app.events if e.msg == APPNEWCALL]
        phone.ack()
        app.event(CALLSTATE, CONNECTED)


def test_cancel(tapisrv):
    with Server(tapisrv, "--t1", str(T1)) as server:
        app = App(server)
        phone, call = one_call(server, app)
        phone.send(phone.request("CANCEL", branch=phone.invite_branch))
        assert phone.expect(200, "CANCEL")
        assert phone.expect(487, "INVITE")
        assert phone.expect(487, "INVITE"), "retransmitted until the ACK"
        phone.ack(same_branch=True)
        assert app.event(CALLSTATE, DISCONNECTED).p2 == 0x80000
        app.event(CALLSTATE, IDLE)
        assert app.request(ANSWER, call) == error(0x1c)
        stray = Phone(server)
        stray.send(stray.request("CANCEL"))
        assert stray.expect(481)


def test_no_ack_ends_at_timer_h(tapisrv):
    with Server(tapisrv, "--t1", str(T1)) as server:
        app = App(server)
        phone, call = one_call(server, app)
        app.request(ANSWER, call)
        for _ in range(4):
            phone.expect(200)
        app.event(CALLSTATE, DISCONNECTED)
        app.event(CALLSTATE, IDLE)
        bye = phone.expect("BYE")
        assert bye["call-id"] == phone.call_id and bye.tag("to") == phone.tag
        phone.answer(bye)
        assert app.request(DEALLOCATE, call) == 0


def test_unanswered_call_is_given_up(tapisrv):
    with Server(tapisrv, "--t1", "2") as server:
        app = App(server)
        phone, call = one_call(server, app)
        assert phone.expect(480)
        assert app.event(CALLSTATE, DISCONNECTED, call).p2 == 0x40
        app.event(CALLSTATE, IDLE)


def test_drop_rejects_or_hangs_up(tapisrv):
    with Server(tapisrv, "--t1", str(T1)) as server:
        app = App(server)
        phone, call = one_call(server, app)
        app.request(DROP, call)
        assert phone.expect(603)
        phone.ack(same_branch=True)
        app.event(CALLSTATE, IDLE)
        assert app.request(DROP, call) == error(0x1c)
        phone, call = one_call(server, app, line_open=False)
        app.request(ANSWER, call)
        phone.expect(200)
        phone.ack()
        app.event(CALLSTATE, CONNECTED)
        app.request(DROP, call)
        phone.expect("BYE")
        bye = phone.expect("BYE")  # sent again (timer E)
        assert app.status(call)["state"] == CONNECTED, "idle only when the BYE is answered"
        phone.answer(bye)
        app.event(CALLSTATE, IDLE)


def test_remnant_lingers_and_goes(tapisrv):
    with Server(tapisrv, "--t1", "5") as server:
        app = App(server)
        phone, call = one_call(server, app)
        app.request(ANSWER, call)
        phone.expect(200)
        phone.ack()
        app.event(CALLSTATE, CONNECTED)
        begin = time.monotonic()
        phone.bye()
        assert phone.expect(200, "BYE")
        # The BYE again: 200 from the remnant until 64*T1 have passed, 481 when it is gone.
        while True:
            phone.bye()
            m = phone.receive()
            if m.status == 481:
                break
            assert m.status == 200 and time.monotonic() - begin < PATIENCE
        assert time.monotonic() - begin >= 64 * 0.005


def test_refusals(tapisrv):
    with Server(tapisrv, "--t1", str(T1)) as server:
        phone = Phone(server, "999")
        phone.invite()
        assert phone.expect(404)
        phone = Phone(server)
        phone.invite()
        assert phone.expect(480), "nobody has opened the line"
        phone.ack(same_branch=True)
        watcher = App(server)
        watcher.open(MONITOR)
        phone = Phone(server)
        phone.invite()
        assert phone.expect(480), "a monitor cannot be first owner"
        watcher.sync()
        assert not watcher.events, "a call without owner is never shown"
        app = App(server)
        app.open(OWNER, DATA)
        phone = Phone(server)
        phone.invite()
        assert phone.expect(480), "opened for another media mode"
        for method, status in (("OPTIONS", 200), ("REGISTER", 405), ("NONSENSE", 405), ("BYE", 481)):
            phone = Phone(server)
            phone.send(phone.request(method))
            assert "INVITE" in phone.expect(status).headers.get("allow", ["INVITE"])[0]
        phone = Phone(server)
        phone.send(phone.request("INVITE", extra="Require: 100rel\r\n"))
        assert phone.expect(420)
        phone = Phone(server)
        phone.send(phone.request("OPTIONS").replace(" SIP/2.0\r\n", " SIP/3.0\r\n", 1))
        assert phone.expect(505)


def test_call_limit(tapisrv):
    with Server(tapisrv, "--max-calls", "1") as server:
        app = App(server)
        one_call(server, app)
        phone = Phone(server)
        phone.invite()
        assert phone.expect(503)["retry-after"]


def test_folded_and_compact_headers(tapisrv):
    with Server(tapisrv) as server:
        phone = Phone(server)
        text = phone.request("OPTIONS").replace("From:", "f:").replace("Call-ID:", "i:")
        text = text.replace("Via: SIP/2.0/UDP", "v: SIP/2.0/UDP\r\n ").replace("\r\nTo:", "\r\nt :\r\n\t")
        phone.send(text)
        assert phone.expect(200)["call-id"] == phone.call_id
        phone.send(phone.request("OPTIONS").replace(";branch", ";rport;branch"))
        assert f"rport={phone.port};received=127.0.0.1;branch" in phone.expect(200)["via"]


def test_hostile_datagrams(tapisrv):
    """Seeded noise, truncations and mutations of good messages; the server goes on serving."""
    rng = random.Random(310626)
    with Server(tapisrv, "--t1", str(T1)) as server:
        app = App(server)
        app.open()
        phone = Phone(server)
        good = [phone.request(m, body="v=0\r\n") for m in ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS")]
        good.append("SIP/2.0 200 OK\r\n" + good[0].partition("\r\n")[2])
        bad = [b"", b"\r\n\r\n", b"\0", b"A" * 60000, b"INVITE", b"INVITE  SIP/2.0\r\n\r\n",
               b"SIP/2.0 9999999999999999999 x\r\n\r\n", b"SIP/2.0 200\r\n\r\n",
               good[0].replace("CSeq: 1", "CSeq: 99999999999").encode(),
               good[0].replace("CSeq: 1", "CSeq: -1").encode(),
               (good[0].partition("\r\n")[0] + "\r\n" + "X: y\r\n" * 5000 + "\r\n").encode(),
               good[0].replace("Via:", "Via: x\r\n" * 40 + "Via:").encode(),
               good[0].replace("<sip:phone", "<" * 3000 + "\"sip:phone").encode(),
               good[0].replace("sip:1000@", "sip:1000@" + "%n%s" * 500).encode(),
               good[0].replace("Call-ID: ", "Call-ID: " + "c" * 50000).encode(),
               good[0].replace("Max-Forwards", "Record-Route: <sip:" + "r" * 20000 + ">\r\nX").encode(),
               good[0].replace(";branch=", ";branch").encode(), good[0].replace(";tag=", ";tag").encode()]
        for text in good:
            for _ in range(150):
                data = bytearray(text.encode())
                for _ in range(rng.randrange(1, 8)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                bad.append(bytes(data[:rng.randrange(len(data) + 1)] if rng.random() < .5 else data))
        for data in bad:
            phone.send(data)
            if rng.random() < .1:
                app.sync()
        # What made it through as a call was offered to the application; it still works.
        other = Phone(server)
        other.send(other.request("OPTIONS"))
        assert other.expect(200)
        app.sync()
        app.events.clear()
        one_call(server, app, line_open=False)


def test_outgoing_call(tapisrv):
    with Server(tapisrv, "--t1", str(T1)) as server:
        app = App(server)
        line = app.open(NONE, 0)
        phone = Phone(server)
        uri = f"sip:far@127.0.0.1:{phone.port}".encode() + b"\0"

        def dial():
            request = app.request(MAKE_CALL, line, var=uri)
            assert 0 < request < 0x80000000
            call = app.params[0]
            assert app.event(REPLY, request).p2 == 0
            return call, phone.expect("INVITE")

        def respond(m, status, tag=""):
            m.headers["to"][0] += tag
            phone.answer(m, status)

        call, invite = dial()
        assert phone.expect("INVITE")["via"] == invite["via"], "timer A"
        respond(invite, "180 Ringing")
        app.event(CALLSTATE, RINGBACK)
        respond(invite, "200 OK", ";tag=far")
        assert phone.expect("ACK").tag("to") == "far"
        app.event(CALLSTATE, CONNECTED)
        app.request(DROP, call)
        phone.answer(phone.expect("BYE"))
        app.event(CALLSTATE, IDLE)
        assert app.request(DEALLOCATE, call) == 0

        call, invite = dial()
        respond(invite, "486 Busy Here", ";tag=far")
        assert phone.expect("ACK")["via"] == invite["via"]
        assert app.event(CALLSTATE, DISCONNECTED, call).p2 == 0x20
        app.event(CALLSTATE, IDLE)

        call, invite = dial()
        respond(invite, "100 Trying")
        app.event(CALLSTATE, PROCEEDING)
        app.request(DROP, call)
        cancel = phone.expect("CANCEL")
        assert cancel["via"] == invite["via"]
        phone.answer(cancel)
        respond(invite, "487 Request Terminated", ";tag=far")
        phone.expect("ACK")
        app.event(CALLSTATE, IDLE)

        call, invite = dial()  # nobody answers: timer B
        assert app.event(CALLSTATE, DISCONNECTED, call).p2 == 0x40
        app.event(CALLSTATE, IDLE)
        assert app.request(MAKE_CALL, line, var=b"tel:1\0") == error(0x10)
        request = app.request(MAKE_CALL, line, var=b"sip:nowhere.example\0")
        assert app.event(REPLY, request).p2 == error(0x10), "no name is ever resolved"


run([f for name, f in list(globals().items()) if name.startswith("test_")])
