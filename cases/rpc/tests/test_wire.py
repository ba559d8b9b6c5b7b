# SPDX-License-Identifier: Apache-2.0
"""Everything the programs put on the wire, as tshark sees it, and what tshark does not check.

usage: test_wire.py RPCSSD CLUSSVC CLUSCLIENT
Exit status 77 (skipped) without tshark or without the right to capture.
"""

import collections

from rpccase import *
import ownnetwork

# Requests with all flags clear begin with the bytes of another protocol: that dissector is off.
TSHARK = ["tshark", "--disable-protocol", "wg", "-n", "-o", "udp.check_checksum:FALSE"]

UNMATCHED = "No request to this DCE/RPC call found"


def tshark(path, *args):
    result = subprocess.run([*TSHARK, "-r", path, *args], capture_output=True, text=True, timeout=120,
                            check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def calls_with_repeats(datagrams):
    """Indexes of the datagrams of calls in which something was sent twice, as on a busy machine: tshark matches an answer with
    the first request only. That nobody answers unasked, check_by_us holds for all."""
    calls, seen, repeated = [], set(), set()
    for source, target, data in datagrams:
        p = Packet.parse(data)
        call = (p.activity, p.seq)
        calls.append(call)
        if (source, call, p.ptype, p.frag) in seen:
            repeated.add(call)
        seen.add((source, call, p.ptype, p.frag))
    return {n for n, call in enumerate(calls, 1) if call in repeated}


def check_by_tshark(path, datagrams):
    """Every datagram is dissected as RPC, none is malformed, and there is no expert remark."""
    repeated = calls_with_repeats(datagrams)
    rows = tshark(path, "-T", "fields", "-e", "frame.protocols", "-e", "_ws.expert.message", "-e",
                  "_ws.malformed", "-e", "dcerpc.dg_frag_len", "-e", "udp.length", "-e", "_ws.col.Protocol")
    rows = [r.split("\t") for r in rows.splitlines()]
    assert len(rows) == len(datagrams)
    for number, row in enumerate(rows, 1):
        protocols, expert, malformed, length, udp = row[:5]
        assert ":dcerpc" in protocols, (number, row)
        assert not malformed, (number, row)
        assert not expert or (number in repeated and expert == UNMATCHED), (number, row)
        assert int(length) == int(udp) - 88, (number, row)
    return collections.Counter(r[5] for r in rows)


def check_by_us(datagrams):
    """Serial numbers, sequence numbers, boot times, hints, fragments, callbacks."""
    serials, seqs, boots = {}, {}, {}
    parts = collections.defaultdict(dict)
    callbacks = set()
    types = collections.Counter()
    for source, target, data in datagrams:
        p = Packet.parse(data)
        types[p.ptype] += 1
        key = (source, p.activity)
        if key in serials:
            assert (p.serial - serials[key]) & 0xffff in range(1, 0x8000), ("serial", p)
        serials[key] = p.serial
        if p.ptype == REQUEST:
            last = seqs.get(key)
            assert p.seq == (0 if last is None else last) or p.seq == last + 1, ("seq", p, last)
            seqs[key] = p.seq
            if p.interface == CONV:
                callbacks.add((target, source, uuid.UUID(bytes_le=p.body[:16])))
        if p.ptype in (RESPONSE, FAULT):
            # Only one who has been asked answers, with a boot time that does not change.
            assert (target, p.activity) in seqs, ("answer without a request", p)
            assert boots.setdefault((source, p.activity), p.boot) == p.boot != 0, ("boot", p)
            # At most once: no call that changes anything is executed before its client was asked.
            if p.interface == CLUSAPI and p.ptype == RESPONSE:
                assert (target, source, p.activity) in callbacks, ("no callback", p)
        if p.ptype in (REQUEST, RESPONSE) and p.flags & FRAG:
            parts[key + (p.ptype, p.seq)][p.frag] = p
            assert len(p.body) <= 1384
            assert p.flags & LASTFRAG or len(p.body) % 8 == 0
    for fragments in parts.values():
        last = max(fragments)
        assert sorted(fragments) == list(range(last + 1)), "fragments are missing"
        assert [n for n, p in fragments.items() if p.flags & LASTFRAG] == [last]
    return types


def captured(host, work):
    capture = Capture()
    try:
        work()
    finally:
        capture.stop()
    ports = {host.port, host.epm, *(s.port for s in host.others.values())}
    path = os.path.join(host.dir, "capture.pcap")
    capture.write(path, ports)
    return path, list(capture.datagrams(ports))


def test_the_interfaces_dissect_cleanly(rpcssd, clussvc, clusclient):
    with Host(rpcssd, clussvc, scale=0.05, arguments=["--pending", "20"]) as host:
        client = host.client(clusclient)

        def work():
            for command in ("list localhost", "operate localhost", "cycle localhost 3"):
                result = client.do(command)
                assert result["failed"] == 0, (result, client.output)
            client.stop()

        path, datagrams = captured(host, work)
        protocols = check_by_tshark(path, datagrams)
        types = check_by_us(datagrams)
        assert protocols["CLUSAPI"] > 50 and protocols["EPM"] > 5 and protocols["CONV"] > 5, protocols
        assert {REQUEST, RESPONSE, ACK, QUIT, QUACK, FAULT} <= set(types), types
        names = tshark(path, "-Y", "clusapi.opnum", "-T", "fields", "-e", "clusapi.opnum").split()
        assert {"0", "1", "3", "7", "8", "11", "12", "15", "17", "18", "41", "44", "45", "52", "55",
                "56", "57", "65", "66", "67", "68", "107"} <= set(names), set(names)


def test_fragments_are_put_together(rpcssd, clussvc, clusclient):
    with Host(rpcssd, clussvc, scale=0.05, arguments=["--resources", "400"]) as host:
        client = host.client(clusclient)

        def work():
            result = client.do("list localhost")
            assert result["failed"] == 0, result
            client.stop()

        path, datagrams = captured(host, work)
        check_by_tshark(path, datagrams)
        types = check_by_us(datagrams)
        assert types[FACK] > 0, types
        # 413 objects in one answer, as tshark puts it together.
        entries = tshark(path, "-Y", "clusapi.opnum == 7 && dcerpc.pkt_type == 2", "-T", "fields",
                         "-e", "clusapi.ENUM_LIST.EntryCount")
        assert "413" in re.findall(r"\d+", entries), entries


def test_refusals_and_pings_dissect_cleanly(rpcssd, clussvc, clusclient):
    with Host(rpcssd, clussvc, scale=0.02, servers={"amnesia": ["--amnesia"]}) as host:
        client = host.client(clusclient)

        def work():
            assert client.do(f"cycle 127.0.0.1[{host.epm}]")["errors"] == {1717: 1}
            assert client.do(f"cycle 127.0.0.1[{host.others['amnesia'].port}]")["errors"] == {1727: 1}
            client.stop()

        path, datagrams = captured(host, work)
        check_by_tshark(path, datagrams)
        types = collections.Counter(Packet.parse(d).ptype for _, _, d in datagrams)
        assert types[REJECT] >= 2 and types[NOCALL] >= 1 and types[PING] >= 1, types


if not shutil.which("tshark"):
    print("tshark (package tshark) is not installed")
    sys.exit(77)
try:
    Capture().stop()
except PermissionError:
    print("needs CAP_NET_RAW to capture: run as root")
    sys.exit(77)
# By its port a datagram is taken for another protocol wherever tshark knows one there: there is none above 60001.
if ownnetwork.enter():
    ownnetwork.give_out_ports(60002, 65535)
run([f for name, f in list(globals().items()) if name.startswith("test_")])
