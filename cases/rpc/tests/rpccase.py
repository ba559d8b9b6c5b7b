# SPDX-License-Identifier: Apache-2.0
"""What the RPC tests share: a host (rpcssd, clussvc, clients) in a directory of its own, a peer that
speaks the packet protocol by itself (so it is tested without the library), and a capture of what
goes over the loopback interface.

Nothing sleeps: everything waits for an event or a reply, for at most PATIENCE seconds. "Nothing
came" is shown by an answer that must come behind it.
"""

import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests"))
from caseprocess import PATIENCE, Process, run

(REQUEST, PING, RESPONSE, FAULT, WORKING, NOCALL, REJECT, ACK, QUIT, FACK, QUACK) = range(11)
LASTFRAG, FRAG, NOFACK, MAYBE, IDEMPOTENT, BROADCAST = 2, 4, 8, 16, 32, 64
NO_FRAG = 0xffff
CLUSAPI = uuid.UUID("b97db8b2-4c63-11cf-bff6-08002be23f2f")
CONV = uuid.UUID("333a2276-0000-0000-0d00-00809c000000")
CONVC = uuid.UUID("4a967f14-3000-0000-0d00-012882000000")
EPM = uuid.UUID("e1af8308-5d1f-11c9-91a4-08002b14a0fa")


class Client(Process):
    """A clusclient that does what it is told."""

    def __init__(self, binary, env, *args, wrapper=()):
        super().__init__(*wrapper, binary, *args, env=env, stdin=subprocess.PIPE)
        self.output = []
        self.ready()

    def start(self, command):
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def answer(self):
        """The next line "= ...": what it says, as a dictionary."""
        while True:
            line = self.line()
            assert line is not None, f"the client ended: {self.errors()}"
            if line.startswith("= "):
                break
            self.output.append(line)
        words = dict(w.split("=", 1) for w in line.split() if "=" in w and w != "=")
        result = {k: int(v) for k, v in words.items() if k != "errors"}
        pairs = [p.split(":") for p in words.get("errors", "").split(",") if p]
        result["errors"] = {int(a): int(b) for a, b in pairs}
        result["what"] = line.split()[1]
        return result

    def do(self, command):
        self.start(command)
        result = self.answer()
        assert result["what"] == "done", result
        return result

    def stop(self, number=None):
        if self.process.poll() is None:
            if number is None:
                self.process.stdin.close()
                self.process.stdin = None
            else:
                self.process.send_signal(number)
        return self.ended()


class Host:
    """rpcssd and a clussvc; `servers` gives further clussvc by name with their arguments."""

    def __init__(self, rpcssd, clussvc, ports=None, scale=1, arguments=(), env=None,
                 registry=("Y", "Y"), servers=None, **settings):
        self.dir = tempfile.mkdtemp(prefix="rpccase.")
        self.env = {**os.environ, "RPCSS_SOCKET": os.path.join(self.dir, "sock"),
                    "RPC_TIME_SCALE": str(scale), "RPC_COM_TIMEOUT_MS": "20000",
                    **(env or {}), **{k: str(v) for k, v in settings.items()}}
        self.clussvc_binary = clussvc
        self.processes = []
        restrict = (["--ports", ports, "--ports-internet-available", registry[0],
                     "--use-internet-ports", registry[1]] if ports else [])
        try:
            self.rpcssd = self.add(Process(rpcssd, "--epm-port", "0", *restrict, env=self.env))
            ready = self.rpcssd.ready()
            self.epm = int(re.search(r"epm-port=(\d+)", ready).group(1))
            self.env["RPC_EPM_PORT"] = str(self.epm)
            self.server = self.serve(*arguments)
            self.port = self.server.port
            self.others = {name: self.serve("--no-register", *args)
                           for name, args in (servers or {}).items()}
        except BaseException:
            self.__exit__(Exception, None, None)
            raise

    def add(self, process):
        self.processes.append(process)
        return process

    def serve(self, *arguments):
        server = self.add(Process(self.clussvc_binary, *arguments, env=self.env))
        server.port = int(re.search(r"port=(\d+)", server.ready()).group(1))
        return server

    def client(self, binary, *args, env=None, wrapper=()):
        return self.add(Client(binary, {**self.env, **(env or {})}, *args, wrapper=wrapper))

    def ledger(self):
        """Ports granted, by process."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(PATIENCE)
            s.connect(self.env["RPCSS_SOCKET"])
            s.send(struct.pack("<7I", 2, 0, 0, 0, 0, 0, 0))
            data = s.recv(65536)
        count = struct.unpack_from("<3I", data)[2]
        entries = [struct.unpack_from("<iI", data, 12 + 8 * i) for i in range(count)]
        return dict(entries)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        failed = []
        for process in reversed(self.processes):
            status = process.stop()
            if status != 0:
                failed.append((process.process.args[0], status, process.errors()))
        shutil.rmtree(self.dir, ignore_errors=True)
        if kind is None and failed:
            raise AssertionError(f"ended badly: {failed}")


class Packet:
    """A connectionless packet. Written little-endian unless told otherwise."""

    def __init__(self, ptype=REQUEST, interface=CLUSAPI, version=3, activity=None, opnum=0, seq=0,
                 body=b"", flags=0, frag=0, boot=0, serial=0, little=True):
        self.ptype, self.interface, self.version = ptype, interface, version
        self.activity = activity or uuid.uuid4()
        self.opnum, self.seq, self.body, self.flags = opnum, seq, body, flags
        self.frag, self.boot, self.serial, self.little = frag, boot, serial, little

    def pack(self):
        order = "<" if self.little else ">"
        ids = b"".join(u.bytes_le if self.little else u.bytes
                       for u in (uuid.UUID(int=0), self.interface, self.activity))
        return (struct.pack("4B4B", 4, self.ptype, self.flags, 0, 0x10 if self.little else 0, 0, 0,
                            self.serial >> 8) + ids +
                struct.pack(order + "3I5H", self.boot, self.version, self.seq, self.opnum, NO_FRAG,
                            NO_FRAG, len(self.body), self.frag) +
                struct.pack("2B", 0, self.serial & 255) + self.body)

    @staticmethod
    def parse(data):
        assert len(data) >= 80 and data[0] == 4, data
        assert data[4] == 0x10 and data[5] == data[6] == 0, "what we send is little-endian"
        boot, version, seq, opnum, ihint, ahint, length, frag = struct.unpack_from("<3I5H", data, 56)
        assert length == len(data) - 80, "the length field is that of the body"
        assert data[3] & 0xfc == 0 and data[2] & 0x81 == 0, "reserved flags are clear"
        assert data[8:24] == bytes(16)
        p = Packet(data[1], uuid.UUID(bytes_le=data[24:40]), version,
                   uuid.UUID(bytes_le=data[40:56]), opnum, seq, data[80:], data[2], frag, boot,
                   data[7] << 8 | data[79])
        return p

    @property
    def status(self):
        return struct.unpack("<I", self.body[:4])[0]

    def __repr__(self):
        return (f"Packet(type={self.ptype} op={self.opnum} seq={self.seq} flags={self.flags:#x} "
                f"frag={self.frag} len={len(self.body)})")


class Peer:
    """A client or server made of one UDP socket."""

    def __init__(self, to=None):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(PATIENCE)
        self.port = self.sock.getsockname()[1]
        self.to = ("127.0.0.1", to) if to else None
        self.cas = uuid.uuid4()
        self.serial = 0
        self.answered = set()  # callbacks

    def send(self, packet, to=None):
        self.serial += 1
        packet.serial = self.serial
        self.sock.sendto(packet.pack(), to or self.to)
        return packet

    def receive(self):
        """The next packet; a callback that was answered may come again, which is passed over."""
        while True:
            data, self.sender = self.sock.recvfrom(65536)
            p = Packet.parse(data)
            if p.activity not in self.answered:
                return p

    def expect(self, ptype, **wanted):
        """The next packet, which must be of this type and have these fields."""
        p = self.receive()
        assert p.ptype == ptype, (ptype, p)
        for name, value in wanted.items():
            assert getattr(p, name) == value, (name, value, p)
        return p

    def identify(self, ask, seq, status=0):
        """Answers a who_are_you2 callback."""
        assert ask.ptype == REQUEST and ask.interface == CONV and ask.opnum == 1, ask
        self.answered.add(ask.activity)
        self.send(Packet(RESPONSE, CONV, 3, ask.activity, 1, ask.seq,
                         struct.pack("<I", seq) + self.cas.bytes_le + struct.pack("<I", status)),
                  self.sender)

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


class Relay:
    """Stands between clients and a server and loses, doubles or changes packets on the way: `rule` is
    called with (number, to_server, data) and gives the datagrams to pass on. Each client gets a
    port of its own, so that the server can call it back."""

    def __init__(self, server_port, rule):
        self.server = ("127.0.0.1", server_port)
        self.rule = rule
        self.front = self.bound()
        self.port = self.front.getsockname()[1]
        self.wake = socket.socketpair()
        self.count = 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    @staticmethod
    def bound():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 0))
        return s

    def run(self):
        backs = {}  # client -> socket towards the server
        while True:
            ready = select.select([self.front, self.wake[0], *backs.values()], [], [])[0]
            if self.wake[0] in ready:
                break
            for s in ready:
                data, sender = s.recvfrom(65536)
                self.count += 1
                passed = self.rule(self.count, s is self.front, data)
                if s is self.front:
                    if sender not in backs:
                        backs[sender] = self.bound()
                    for d in passed:
                        backs[sender].sendto(d, self.server)
                else:
                    client = next(c for c, b in backs.items() if b is s)
                    for d in passed:
                        self.front.sendto(d, client)
        for s in (self.front, *self.wake, *backs.values()):
            s.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.wake[1].send(b"x")
        self.thread.join()


class Capture:
    """All UDP datagrams over the loopback interface between start and stop, as (source port,
    destination port, payload) in order, and as a file for tshark. Needs CAP_NET_RAW."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self.sock.bind(("lo", 0))
        self.frames = []
        self.mark = os.urandom(16)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            frame, address = self.sock.recvfrom(70000)
            if address[2] == socket.PACKET_OUTGOING:
                continue  # loopback shows everything twice
            if self.mark in frame:
                return
            if frame[23] == socket.IPPROTO_UDP:
                self.frames.append(frame)

    def stop(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            while self.thread.is_alive():  # a marker behind everything; sent again if it was lost
                s.sendto(self.mark, ("127.0.0.1", 9))
                self.thread.join(0.2)
        self.sock.close()

    def datagrams(self, ports):
        """Those from or to one of these ports."""
        for frame in self.frames:
            header = 14 + (frame[14] & 15) * 4
            source, target = struct.unpack_from(">HH", frame, header)
            if source in ports or target in ports:
                yield source, target, frame[header + 8:]

    def write(self, path, ports):
        with open(path, "wb") as f:
            f.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 262144, 1))
            for frame in self.frames:
                header = 14 + (frame[14] & 15) * 4
                source, target = struct.unpack_from(">HH", frame, header)
                if source in ports or target in ports:
                    f.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)
