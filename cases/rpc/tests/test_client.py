# SPDX-License-Identifier: Apache-2.0
"""The client's protocol machine, from a server made of one socket, and over a line that loses,
doubles and reorders packets.

usage: test_client.py RPCSSD CLUSSVC CLUSCLIENT CALLS
"""

from rpccase import *

CALLS = sys.argv.pop()

OPEN, CLOSE = 0, 1
BOOT = 0x3e75e000
NO_ANSWER = b""


class FakeServer(Peer):
    """A server that does what the test says."""

    def __init__(self, host, clusclient, **env):
        super().__init__()
        self.client = host.client(clusclient, env={k: str(v) for k, v in env.items()})
        self.client.start(f"cycle 127.0.0.1[{self.port}]")

    def request(self):
        while (p := self.receive()).ptype == PING:
            pass  # we were slow
        assert p.ptype == REQUEST and p.interface == CLUSAPI, p
        self.to = self.sender
        self.current = p
        return p

    def reply(self, ptype, body=b"", boot=BOOT, **kw):
        p = self.current
        return self.send(Packet(ptype, activity=p.activity, opnum=p.opnum, seq=p.seq, body=body,
                                boot=boot, **kw))

    def opened(self):
        self.reply(RESPONSE, bytes(8) + uuid.uuid4().bytes_le)

    def ask(self, body, opnum=1, interface=CONV, version=3, flags=IDEMPOTENT, **kw):
        return self.send(Packet(REQUEST, interface, version, uuid.uuid4(), opnum, 0, body, flags, **kw))

    def who(self, boot=BOOT, activity=None):
        return (activity or self.current.activity).bytes_le + struct.pack("<I", boot)

    def close_cluster(self):
        p = self.request()
        assert p.opnum == CLOSE
        self.reply(RESPONSE, bytes(24))
        return p


def fake(scale=1):
    def decorate(test):
        def wrapped(rpcssd, clussvc, clusclient):
            with Host(rpcssd, clussvc, scale=scale) as host, FakeServer(host, clusclient) as server:
                test(server)
                answer = server.client.answer()
                assert answer["what"] == "done", answer
                assert wrapped.expected == answer["errors"], answer
        wrapped.__name__ = test.__name__
        wrapped.expected = {}
        return wrapped
    return decorate


def errors(expected):
    def decorate(test):
        test.expected = expected
        return test
    return decorate


@fake()
def test_a_good_call(server):
    p = server.request()
    assert (p.opnum, p.seq, p.boot, p.flags, p.frag, p.body) == (OPEN, 0, 0, 0, 0, b"")
    server.opened()
    p = server.request()
    assert (p.opnum, p.seq, p.boot) == (CLOSE, 1, BOOT), "the boot time has been learned"
    assert len(p.body) == 20
    server.reply(RESPONSE, bytes(24))
    server.expect(ACK, seq=1)  # at the end of the association, else by the next call


@fake()
def test_callbacks_are_answered(server):
    p = server.request()
    cas = set()
    for _ in range(2):  # again with the same boot time
        ask = server.ask(server.who())
        r = server.expect(RESPONSE, activity=ask.activity, opnum=1, interface=CONV)
        seq, status = struct.unpack("<I16xI", r.body)
        assert (seq, status) == (p.seq, 0)
        cas.add(r.body[4:20])
    assert len(cas) == 1
    server.ask(server.who(), opnum=0)
    assert server.expect(RESPONSE).body == struct.pack("<II", p.seq, 0)
    server.ask(b"", opnum=2)
    assert server.expect(RESPONSE).body == bytes(4)
    server.ask(b"", opnum=3)
    assert server.expect(REJECT).status == 0x1c010002
    server.ask(server.who(activity=uuid.uuid4()))
    assert server.expect(RESPONSE).body[-4:] == struct.pack("<I", 0x1c00000a)
    server.ask(server.who(BOOT + 1))
    assert server.expect(RESPONSE).body[-4:] == struct.pack("<I", 0x1c010009)
    ask = Packet(REQUEST, CONV, 3, uuid.uuid4(), 1, 0, server.current.activity.bytes +
                 struct.pack(">I", BOOT), IDEMPOTENT, little=False)
    server.send(ask)
    assert server.expect(RESPONSE).body[-4:] == bytes(4), "big-endian servers may ask too"
    server.opened()
    server.close_cluster()


@fake()
def test_what_is_no_callback_is_dropped(server):
    server.request()
    server.ask(server.who(), interface=CLUSAPI)
    server.ask(server.who(), version=4)
    server.ask(server.who(), flags=FRAG | LASTFRAG)
    server.ask(server.who()[:10])
    server.sock.sendto(b"\4\0 short", server.to)
    data = bytearray(Packet(REQUEST, CONV, 3, uuid.uuid4(), 1, 0, server.who()).pack())
    data[78] = 10  # authenticated
    server.sock.sendto(data, server.to)
    ask = server.ask(b"", opnum=2)
    server.expect(RESPONSE, activity=ask.activity)
    server.opened()
    server.close_cluster()


@fake(scale=0.02)
def test_pings_while_it_waits(server):
    p = server.request()
    server.expect(PING, seq=p.seq, activity=p.activity, body=b"")
    server.reply(WORKING)
    server.expect(PING)
    server.reply(NOCALL)  # the request was lost: here it comes again
    again = server.request()
    assert (again.seq, again.activity, again.opnum) == (p.seq, p.activity, p.opnum)
    assert again.serial != p.serial and again.boot == p.boot
    server.opened()
    server.close_cluster()


@fake()
def test_answers_of_other_calls_are_passed_over(server):
    p = server.request()
    server.send(Packet(RESPONSE, activity=uuid.uuid4(), seq=0, boot=BOOT + 5))
    server.send(Packet(REJECT, activity=p.activity, seq=7, boot=BOOT + 5, body=bytes(4)))
    server.opened()
    assert server.close_cluster().boot == BOOT


def refusal(ptype, status):
    def test(server):
        server.request()
        server.reply(ptype, struct.pack("<I", status))
    return fake()(test)


REFUSALS = [(REJECT, 0x1c010003, 1717), (REJECT, 0x1c010014, 1723), (REJECT, 0x1c00000b, 1727),
            (REJECT, 0x1c010006, 1727), (REJECT, 0x1c010002, 1745), (FAULT, 0x1c00001b, 1130),
            (FAULT, 0x1c00001a, 1775), (FAULT, 5, 5), (FAULT, 0x1c00ffff, 1726)]


def test_refusals_become_the_published_errors(*programs):
    for ptype, status, error in REFUSALS:
        errors({error: 1})(refusal(ptype, status))(*programs)


@errors({1728: 1})
@fake()
def test_an_answer_that_is_not_what_the_interface_says(server):
    server.request()
    server.reply(RESPONSE, bytes(7))


def test_keep_alives(rpcssd, clussvc, clusclient):
    """While a context handle is open, every 20 s (here 20 ms)."""
    with Host(rpcssd, clussvc, scale=0.001, RPC_PORT_RECYCLE_MS=10) as host, Peer() as server:
        client = host.client(clusclient)
        client.start(f"hold 127.0.0.1[{server.port}]")
        p = server.expect(REQUEST, interface=CLUSAPI)
        server.send(Packet(RESPONSE, activity=p.activity, seq=p.seq, boot=BOOT,
                           body=bytes(8) + uuid.uuid4().bytes_le), server.sender)
        assert client.answer()["ok"] == 1
        seqs = []
        while len(seqs) < 3:
            p = server.receive()
            if p.ptype == REQUEST:
                assert (p.interface, p.version, p.opnum, p.flags) == (CONVC, 1, 0, MAYBE), p
                assert p.activity != uuid.UUID(int=0) and len(p.body) == 16
                seqs.append(p.seq)
            else:
                assert p.ptype in (ACK, PING), p
        assert seqs == [0, 1, 2]
        client.start("drop")
        while (p := server.receive()).ptype != REQUEST or p.opnum != CLOSE:
            pass
        server.send(Packet(RESPONSE, activity=p.activity, opnum=CLOSE, seq=p.seq, boot=BOOT,
                           body=bytes(24)), server.sender)
        assert client.answer()["ok"] == 1


def test_maybe_and_broadcast(rpcssd, clussvc, clusclient):
    with Host(rpcssd, clussvc, scale=0.1) as host, Peer() as server:
        calls = host.add(Process(CALLS, str(server.port), env=host.env))
        calls.ready()
        assert server.receive().flags == MAYBE
        first = server.expect(REQUEST, interface=EPM, flags=BROADCAST | IDEMPOTENT)
        # Nobody answers: no ping and no quit in between, and the association still works.
        second = server.expect(REQUEST, interface=EPM, flags=BROADCAST | IDEMPOTENT)
        assert (first.activity, first.seq + 1) == (second.activity, second.seq)
        server.send(Packet(RESPONSE, EPM, 3, second.activity, 3, second.seq, b"12345678", boot=BOOT),
                    server.sender)
        assert calls.line() == "= maybe=0 unheard=1726 heard=0 bytes=8"
        assert calls.process.wait(timeout=PATIENCE) == 0


def executed(host):
    host.server.stop()
    return int(re.search(r"executed=(\d+)", host.server.errors()).group(1))


def over(rule, rpcssd, clussvc, clusclient):
    """A long list over a line with this rule: how many calls the server executed, and what came."""
    with Host(rpcssd, clussvc, RPC_PING_MS=5, arguments=["--resources", "60"]) as host, \
            Relay(host.port, rule) as relay:
        client = host.client(clusclient)
        result = client.do(f"list 127.0.0.1[{relay.port}]")
        assert result["failed"] == 0, result
        client.stop()
        return executed(host), client.output


def test_bad_lines_change_nothing(*programs):
    held = []

    def swap(number, to_server, data):  # every fifth packet comes after the next one
        nonlocal held
        passed, held = [data] + held, []
        if number % 5 == 0:
            held, passed = passed, []
        return passed

    good = over(lambda number, to_server, data: [data], *programs)
    assert good[0] == 4 + 4 * 64 and len(good[1]) == 66, good
    for rule in (lambda n, up, data: [] if n % 6 == 2 else [data],
                 lambda n, up, data: [data, data],
                 swap,
                 lambda n, up, data: [] if n % 9 < 3 else [data, data],
                 lambda n, up, data: [data[:40], bytes([data[0]]) + os.urandom(90), data]):
        assert over(rule, *programs) == good


run([f for name, f in list(globals().items()) if name.startswith("test_")])
