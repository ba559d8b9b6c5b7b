# SPDX-License-Identifier: Apache-2.0
"""The server's protocol machine, the endpoint mapper and the port broker, from a client made of one
socket.

usage: test_server.py RPCSSD CLUSSVC CLUSCLIENT
"""

import random

from rpccase import *

(RNG, UNK_IF, WRONG_BOOT, BUSY) = (0x1c010002, 0x1c010003, 0x1c010006, 0x1c010014)
WHO_FAILED, CANCELLED, MISMATCH = 0x1c00000b, 0x1c00000d, 0x1c00001a
BAD_ACTID = 0x1c00000a
OPEN, CLOSE, ENUM, OPEN_RESOURCE, CREATE_NOTIFY, GET_NOTIFY = 0, 1, 7, 8, 55, 65


def wstring(text, order="<"):
    units = text.encode("utf-16-" + ("le" if order == "<" else "be")) + b"\0\0"
    n = len(units) // 2
    return struct.pack(order + "3I", n, 0, n) + units


class Conversation:
    """One activity: calls in sequence, callbacks answered."""

    def __init__(self, peer, version=3):
        self.peer, self.activity, self.seq, self.version = peer, uuid.uuid4(), -1, version

    def request(self, opnum, body=b"", **kw):
        self.seq += 1
        return Packet(REQUEST, version=self.version, activity=self.activity, opnum=opnum,
                      seq=self.seq, body=body, **kw)

    def call(self, opnum, body=b"", **kw):
        """Sends a request; the packet that answers it, callbacks served on the way."""
        self.peer.send(self.request(opnum, body, **kw))
        return self.answer()

    def answer(self):
        while True:
            p = self.peer.receive()
            if p.ptype != REQUEST:
                return p
            self.peer.identify(p, self.seq)

    def control(self, ptype, body=b"", seq=None, **kw):
        return self.peer.send(Packet(ptype, activity=self.activity, body=body,
                                     seq=self.seq if seq is None else seq, **kw))

    def nothing_came(self):
        """True when nothing is on its way to us: the server answers in order."""
        other = uuid.uuid4()
        self.peer.send(Packet(PING, activity=other))
        p = self.peer.receive()
        return p.ptype == NOCALL and p.activity == other

    def open(self):
        p = self.call(OPEN)
        assert p.ptype == RESPONSE and p.body[:4] == bytes(4), p
        return p.body[4:]


def executed(host):
    host.server.stop()
    return int(re.search(r"executed=(\d+)", host.server.errors()).group(1))


def test_nothing_is_executed_before_the_client_was_asked(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc) as host, Peer(host.port) as peer:
        c = Conversation(peer)
        peer.send(c.request(OPEN))
        ask = peer.expect(REQUEST, interface=CONV, opnum=1, version=3, flags=IDEMPOTENT, boot=0)
        assert ask.activity != c.activity and ask.body[:16] == c.activity.bytes_le
        assert peer.sender == ("127.0.0.1", host.port)
        peer.identify(ask, 0)
        first = peer.expect(RESPONSE, activity=c.activity, seq=0, opnum=OPEN)
        assert len(first.body) == 24 and first.boot == struct.unpack("<I", ask.body[16:])[0]
        # Known now: the next call needs no callback.
        peer.send(c.request(CLOSE, first.body[4:], boot=first.boot))
        assert peer.expect(RESPONSE, seq=1).body == bytes(24)
        assert executed(host) == 2


def test_a_call_is_executed_at_most_once(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc) as host, Peer(host.port) as peer:
        c = Conversation(peer)
        request = c.request(OPEN)
        peer.send(request)
        ask = peer.expect(REQUEST)
        peer.send(request)  # while the server asks
        peer.expect(WORKING, seq=0)
        peer.identify(ask, 0)
        first = peer.expect(RESPONSE)
        peer.identify(ask, 0)  # a callback's answer that comes twice
        peer.send(request)  # after it was answered: the same answer, with a new serial number
        again = peer.expect(RESPONSE, seq=0, body=first.body)
        assert again.serial != first.serial
        c.control(PING)
        peer.expect(RESPONSE, seq=0, body=first.body)
        c.call(CLOSE, first.body[4:])
        peer.send(request)  # long over
        c.control(PING, seq=0)
        assert c.nothing_came()
        c.control(ACK)
        c.control(PING)  # acknowledged: there is nothing to be had any more
        assert c.nothing_came()
        assert executed(host) == 2


def test_refusals(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc) as host, Peer(host.port) as peer:
        def refused(status, **kw):
            p = peer.send(Packet(**kw))
            r = peer.expect(REJECT, activity=p.activity, seq=p.seq)
            assert r.status == status, hex(r.status)
            return r
        refused(UNK_IF, interface=uuid.uuid4())
        refused(UNK_IF, version=4)
        refused(RNG, opnum=108)
        assert refused(WRONG_BOOT, boot=12345).boot == 12345, "the client knows only the old one"
        for flags in (MAYBE, BROADCAST):
            peer.send(Packet(interface=uuid.uuid4(), flags=flags))
        c = Conversation(peer)
        assert c.nothing_came()
        p = c.call(2)  # a number of the interface that this server does not have
        assert p.ptype == FAULT and p.status == RNG
        p = c.call(CLOSE, bytes(20))
        assert p.ptype == FAULT and p.status == MISMATCH
        p = c.call(OPEN_RESOURCE, wstring("No such"))
        assert p.ptype == RESPONSE and struct.unpack("<I", p.body[:4])[0] == 5007
        assert p.body[8:] == bytes(20)


def test_pings(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc) as host, Peer(host.port) as peer:
        c = Conversation(peer)
        c.seq = 0
        c.control(PING)
        peer.expect(NOCALL, body=b"")
        c.seq = -1
        peer.send(c.request(OPEN))
        ask = peer.expect(REQUEST)
        c.control(PING)
        peer.expect(WORKING)
        c.control(PING, seq=5)  # a call of which no request came
        peer.expect(NOCALL, seq=5)
        peer.identify(ask, 0)
        peer.expect(RESPONSE)


def test_a_callback_that_fails(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc, scale=0.01, RPC_COM_TIMEOUT_MS=1500) as host, Peer(host.port) as peer:
        c = Conversation(peer)
        peer.send(c.request(OPEN))
        peer.identify(peer.expect(REQUEST), 0, BAD_ACTID)
        assert peer.expect(REJECT, seq=0).status == WHO_FAILED
        # The client does not answer: the callback is repeated, then it is given up.
        c = Conversation(peer)
        peer.send(c.request(OPEN))
        first = peer.expect(REQUEST)
        again = peer.expect(REQUEST, activity=first.activity, seq=0, body=first.body)
        assert again.serial == first.serial + 1
        while (p := peer.receive()).ptype == REQUEST:
            pass
        assert p.ptype == REJECT and p.status == WHO_FAILED
        # The client says that it is further on: the request was an old one.
        c = Conversation(peer)
        peer.send(c.request(OPEN))
        peer.identify(peer.expect(REQUEST), 3)
        assert c.nothing_came()
        c.seq = 2
        assert c.call(OPEN).ptype == RESPONSE
        assert executed(host) == 1


def test_big_endian_clients(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc) as host, Peer(host.port) as peer:
        c = Conversation(peer)
        c.open()
        p = c.call(OPEN_RESOURCE, wstring("MSDTC", ">"), little=False)
        assert p.ptype == RESPONSE and p.body[:8] == bytes(8), p
        handle = uuid.UUID(bytes_le=p.body[12:])
        p = c.call(11, bytes(4) + handle.bytes, little=False)
        assert p.ptype == RESPONSE and p.body == bytes(24), p


def test_version_2_has_no_rpc_status(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc) as host, Peer(host.port) as peer:
        c = Conversation(peer, version=2)
        c.open()
        assert len(c.call(OPEN_RESOURCE, wstring("MSDTC")).body) == 24


def test_fragmented_requests(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc) as host, Peer(host.port) as peer:
        c = Conversation(peer)
        c.open()
        name = wstring("x" * 70) + bytes(4000)  # trailing bytes are not looked at
        pieces = [name[i:i + 1000] for i in range(0, len(name), 1000)]
        c.seq += 1

        def send(n, ask=False):
            flags = FRAG | (0 if ask else NOFACK) | (LASTFRAG if n + 1 == len(pieces) else 0)
            return peer.send(Packet(activity=c.activity, opnum=OPEN_RESOURCE, seq=c.seq,
                                    body=pieces[n], flags=flags, frag=n))

        def fack(kind, frag, masks, serial):
            p = peer.expect(kind, seq=c.seq, frag=frag)
            version, _, window, tsdu, biggest, acked, n = struct.unpack_from("<BBHIIHH", p.body)
            assert (version, biggest, acked) == (1, 1464, serial) and window > 0 and tsdu > 0
            assert list(struct.unpack_from(f"<{n}I", p.body, 16)) == masks, p.body
        sent = send(1, ask=True)
        fack(FACK, NO_FRAG, [2], sent.serial)
        send(3)
        sent = send(0, ask=True)
        fack(FACK, 1, [2], sent.serial)
        sent = c.control(PING)
        fack(NOCALL, 1, [2], sent.serial)
        sent = send(1, ask=True)  # twice
        fack(FACK, 1, [2], sent.serial)
        send(4)
        send(2)
        p = peer.expect(RESPONSE, seq=c.seq)
        assert struct.unpack("<I", p.body[:4])[0] == 5007


def test_fragmented_responses(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc, scale=0.05, arguments=["--resources", "600"]) as host, Peer(host.port) as peer:
        c = Conversation(peer)
        c.open()
        p = c.call(ENUM, struct.pack("<I", 4))
        parts, facks = {}, 0
        while True:
            if p.flags & FRAG:
                assert p.ptype == RESPONSE and p.seq == c.seq
                lost = p.frag % 7 == 3 and p.frag not in parts
                parts.setdefault(p.frag, None if lost else p.body)  # lost the first time
                if not lost:
                    parts[p.frag] = p.body
                if not p.flags & NOFACK:
                    facks += 1
                    here = [n for n, b in parts.items() if b is not None]
                    in_order = next(n for n in range(len(here) + 1) if n not in here)
                    mask = sum(1 << (n - in_order) for n in here if in_order <= n < in_order + 32)
                    body = struct.pack("<BBHIIHHI", 1, 0, 12, 4096, 1464, p.serial, 1, mask)
                    c.control(FACK, body, frag=(in_order - 1) & 0xffff)
                    if p.flags & LASTFRAG:
                        last = p.frag
                    if in_order and "last" in locals() and in_order > last:
                        break
            p = peer.receive()
        whole = b"".join(parts[n] for n in range(last + 1))
        assert struct.unpack_from("<3I", whole, 0)[1:] == (604, 604) and facks > 2
        assert whole.decode("utf-16-le", "ignore").count("Service ") == 600


def notify_port(c):
    cluster = c.open()
    p = c.call(CREATE_NOTIFY)
    assert p.ptype == RESPONSE and p.body[:8] == bytes(8)
    handle = p.body[8:]
    assert c.call(57, handle + cluster + struct.pack("<II", 0x100, 7)).ptype == RESPONSE
    return handle


def test_cancel_and_orphan(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc) as host, Peer(host.port) as peer:
        c = Conversation(peer)
        handle = notify_port(c)
        peer.send(c.request(GET_NOTIFY, handle))
        c.control(PING)
        peer.expect(WORKING)
        c.control(QUIT, struct.pack("<II", 0, 99))
        assert peer.expect(QUACK).body == struct.pack("<IIB", 0, 99, 1)
        assert peer.expect(FAULT).status == CANCELLED
        c.control(QUIT, struct.pack("<II", 0, 100))  # there is nothing to cancel any more
        assert peer.expect(QUACK).body == struct.pack("<IIB", 0, 100, 0)
        peer.send(c.request(GET_NOTIFY, handle))
        c.control(QUIT)  # an orphan: no answer ever
        c.control(PING)
        assert c.nothing_came()
        # The port has not lost an event to either of them.
        resource = c.call(OPEN_RESOURCE, wstring("MSDTC")).body[8:]
        assert c.call(18, resource).body == bytes(8)
        p = c.call(GET_NOTIFY, handle)
        assert struct.unpack_from("<II", p.body) == (7, 0x100)


def test_a_waiting_call_is_let_go_when_its_port_is_closed(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc) as host, Peer(host.port) as peer, Peer(host.port) as other:
        other.cas = peer.cas  # two threads of one client
        c, d = Conversation(peer), Conversation(other)
        handle = notify_port(c)
        d.open()
        other.send(d.request(GET_NOTIFY, handle))
        d.control(PING)
        other.expect(WORKING)
        assert c.call(107, handle).body == bytes(4)
        p = other.expect(RESPONSE, seq=d.seq)
        assert struct.unpack("<I", p.body[-4:])[0] == 259
        other.send(d.request(GET_NOTIFY, handle))
        assert c.call(56, handle).body == bytes(24)
        other.expect(RESPONSE, seq=d.seq)


def test_handles_belong_to_their_client(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc) as host, Peer(host.port) as peer, Peer(host.port) as stranger:
        c, d = Conversation(peer), Conversation(stranger)
        handle = c.open()
        d.open()
        p = d.call(CLOSE, handle)
        assert p.ptype == FAULT and p.status == MISMATCH
        assert c.call(CLOSE, handle).ptype == RESPONSE


def test_too_busy(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc, arguments=["--max-calls", "1"]) as host, \
            Peer(host.port) as peer, Peer(host.port) as other:
        c, d = Conversation(peer), Conversation(other)
        handle = notify_port(c)
        peer.send(c.request(GET_NOTIFY, handle))
        p = d.call(OPEN)
        assert p.ptype == REJECT and p.status == BUSY


def test_contexts_are_run_down_when_keep_alives_stop(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc, scale=0.015) as host, Peer(host.port) as alive, Peer(host.port) as gone:
        c, d = Conversation(alive), Conversation(gone)
        kept, lost = c.open(), d.open()
        resource = d.call(OPEN_RESOURCE, wstring("MSDTC")).body[8:]
        p, count = None, 0
        while not p or p.ptype != FAULT:  # only asking shows it: calls do not keep a context alive
            count += 1
            alive.send(Packet(REQUEST, CONVC, 1, c.activity, 0, count, alive.cas.bytes_le, MAYBE))
            p = d.call(12, resource)
        assert p.status == MISMATCH
        assert d.call(CLOSE, lost).status == MISMATCH
        assert c.call(CLOSE, kept).ptype == RESPONSE
        host.server.stop()
        assert "rundowns=2 " in host.server.errors() and "contexts=0" in host.server.errors()


def test_idle_activities_are_forgotten(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc, scale=0.001) as host, Peer(host.port) as peer:
        c = Conversation(peer)
        c.open()
        while True:  # until the server has to ask again who this is
            peer.send(c.request(OPEN))
            p = peer.receive()
            if p.ptype == REQUEST:
                break
            select.select([peer.sock], [], [], 0.4)  # longer than it keeps one that is idle


def test_hostile_datagrams(rpcssd, clussvc, _):
    rng = random.Random(814622)
    with Host(rpcssd, clussvc) as host, Peer() as peer:
        c = Conversation(peer)
        seeds = [Packet(ptype, interface, version, c.activity, op, 0, rng.randbytes(n), flags).pack()
                 for ptype in range(11) for interface, version in ((CLUSAPI, 3), (EPM, 3), (CONVC, 1))
                 for op, n, flags in ((0, 0, 0), (3, 150, IDEMPOTENT), (7, 4, 0), (2, 80, FRAG))]
        for number in range(4000):
            data = bytearray(rng.choice(seeds))
            for _ in range(rng.randrange(6)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            data = data[:rng.randrange(len(data) + 1)] if rng.random() < 0.2 else data
            peer.sock.sendto(data, ("127.0.0.1", rng.choice((host.port, host.epm))))
            if number % 100 == 99:  # keep up: what does not fit into a socket is lost
                peer.to = ("127.0.0.1", (host.port, host.epm)[number // 100 % 2])
                mark = peer.send(Packet(PING, activity=uuid.uuid4()))
                while peer.sock.recv(65536)[40:56] != mark.activity.bytes_le:
                    pass  # whatever it answers to nonsense
        with Peer(host.port) as other:
            Conversation(other).open()


# ---- endpoint mapper and broker ----

def tower(port, version=3, interface=CLUSAPI):
    ndr = uuid.UUID("8a885d04-1ceb-11c9-9fe8-08002b104860")
    floors = [(b"\x0d" + u.bytes_le + struct.pack("<H", v), b"\0\0") for u, v in
              ((interface, version), (ndr, 2))]
    floors += [(b"\x0a", b"\0\0"), (b"\x08", struct.pack(">H", port)), (b"\x09", bytes([127, 0, 0, 1]))]
    body = struct.pack("<H", 5)
    for left, right in floors:
        body += struct.pack("<H", len(left)) + left + struct.pack("<H", len(right)) + right
    assert len(body) == 75
    return struct.pack("<II", 75, 75) + body + b"\0"


def ept_entry(port):
    return (struct.pack("<II", 1, 1) + bytes(16) + struct.pack("<III", 3, 0, 4) + b"abc\0" +
            tower(port))


def mapped(c, version=3):
    body = struct.pack("<I", 1) + bytes(16) + struct.pack("<I", 2) + tower(0, version) + bytes(20)
    c.seq += 1
    c.peer.send(Packet(REQUEST, EPM, 3, c.activity, 3, c.seq, body + struct.pack("<I", 8), IDEMPOTENT))
    p = c.peer.expect(RESPONSE)  # an idempotent call needs no callback
    n = struct.unpack_from("<I", p.body, 20)[0]
    at = 36 + 4 * n
    ports = [struct.unpack_from(">H", p.body, at + 84 * i + 8 + 64)[0] for i in range(n)]
    return ports, struct.unpack("<I", p.body[-4:])[0]


def test_endpoint_mapper(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc) as host, Peer(host.epm) as peer:
        c = Conversation(peer)
        assert mapped(c) == ([host.port], 0)
        assert mapped(c, 2) == ([host.port], 0)
        assert mapped(c, 4) == ([], 0x16c9a0d6)

        def change(opnum, more=b""):
            c.seq += 1
            peer.send(Packet(REQUEST, EPM, 3, c.activity, opnum, c.seq, ept_entry(7777) + more))
            p = c.answer()
            assert p.ptype == RESPONSE, p
            return p.status
        assert change(0, struct.pack("<I", 1)) == 0
        assert change(0, struct.pack("<I", 1)) == 0  # no second time
        assert mapped(c) == ([host.port, 7777], 0)
        c.seq += 1
        peer.send(Packet(REQUEST, EPM, 3, c.activity, 2, c.seq,
                         struct.pack("<5I", 0, 0, 0, 1, 0) + bytes(16) + struct.pack("<I", 99),
                         IDEMPOTENT))
        assert struct.unpack_from("<I", peer.expect(RESPONSE).body, 20)[0] == 4
        peer.send(Packet(REQUEST, EPM, 3, None, 4, 0, bytes(20), IDEMPOTENT | BROADCAST))
        assert c.nothing_came(), "a broadcast that would need a callback is not executed"
        assert change(1) == 0
        assert change(1) == 0x16c9a0d6
        # What a process has registered goes with it.
        host.server.stop()
        assert mapped(c) == ([], 0x16c9a0d6)


class Broker:
    """A process as rpcssd sees it."""

    def __init__(self, host):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(host.env["RPCSS_SOCKET"])

    def grant(self, kind=0):
        self.sock.send(struct.pack("<7I", 1, kind, 0, 0, 0, 0, 0))
        return struct.unpack_from("<II", self.sock.recv(4096))


def test_which_endpoints_use_the_list(rpcssd, clussvc, _):
    default, internet, local = 0, 1, 2
    for available in "YN":
        for use in "YN":
            with Host(rpcssd, clussvc, ports="5000,5002-5003 5001", registry=(available, use)) as host:
                broker = Broker(host)
                expected = {internet: available == "Y", local: available == "N",
                            default: available == use}
                for kind, listed in expected.items():
                    status, port = broker.grant(kind)
                    assert status == 0 and (5000 <= port <= 5003) == listed, (available, use, kind)


def test_grants_end_with_the_process(rpcssd, clussvc, _):
    with Host(rpcssd, clussvc, ports="5000-5002") as host:
        broker = Broker(host)
        assert [broker.grant() for _ in range(4)] == [(0, 5000), (0, 5001), (0, 5002), (1, 0)]
        assert host.ledger() == {os.getpid(): 3}
        second = Broker(host)
        broker.sock.close()
        assert second.grant() == (1, 0), "the process still has a connection"
        second.sock.close()
        third = Broker(host)
        while (answer := third.grant())[0] == 1:
            pass
        assert answer == (0, 5000)


def test_invalid_configurations_grant_nothing(rpcssd, clussvc, _):
    for ports in ("5000-", "70000", "5001-5000", "x", ",", "5000-5001x"):
        with Host(rpcssd, clussvc, ports=ports) as host:
            assert Broker(host).grant() == (2, 0), ports
    with Host(rpcssd, clussvc, ports="5000", registry=("Y", "maybe")) as host:
        assert Broker(host).grant() == (2, 0)


run([f for name, f in list(globals().items()) if name.startswith("test_")])
