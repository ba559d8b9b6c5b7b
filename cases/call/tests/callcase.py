# SPDX-License-Identifier: Apache-2.0
"""What the call server's tests share: a server under test, applications that speak its socket
protocol by themselves (so the protocol is tested without libtapi), and a telephone that speaks SIP.

Nothing sleeps: everything waits for an event or a reply, for at most PATIENCE seconds. "Nothing
came" is shown by a round trip: a reply comes behind all events that were sent before it.
"""

import os
import re
import select
import shutil
import socket
import struct
import sys
import tempfile
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests"))
from caseprocess import PATIENCE, Process, run

# Function numbers (wire.h), messages, states, privileges (tapi.h).
INITIALIZE, SHUTDOWN, NEGOTIATE, OPEN, CLOSE, SET_APP_PRIORITY, MAKE_CALL, ANSWER, ACCEPT = range(1, 10)
DROP, HANDOFF, DEALLOCATE, SET_PRIVILEGE, GET_INFO, GET_STATUS, GET_CONF = range(10, 17)
GET_NEW_CALLS = 39
CALLINFO, CALLSTATE, REPLY, APPNEWCALL = 1, 2, 12, 23
IDLE, OFFERING, ACCEPTED, DIALING, RINGBACK, BUSY = 1, 2, 4, 0x10, 0x20, 0x40
CONNECTED, PROCEEDING, DISCONNECTED = 0x100, 0x200, 0x4000
NONE, MONITOR, OWNER = 1, 2, 4
NUMOWNERINCR, NUMOWNERDECR, NUMMONITORS = 0x800, 0x1000, 0x2000
VOICE, UNKNOWN_MEDIA, DATA = 4, 2, 0x10


def error(code):
    return 0x80000000 | code


class Server(Process):
    """A running tapisrv."""

    def __init__(self, binary, *args, env=None):
        self.dir = tempfile.mkdtemp(prefix="callcase.")
        self.path = os.path.join(self.dir, "sock")
        super().__init__(binary, "--sip-port", "0", "--socket", self.path, *args, env={**os.environ, **(env or {})})
        self.port = int(re.search(r"sip-port=(\d+)", self.ready()).group(1))

    def ended(self):
        status = super().ended()
        shutil.rmtree(self.dir, ignore_errors=True)
        return status


class Event:
    def __init__(self, data):
        (size, self.app, _, self.device, self.msg, self.instance,
         self.p1, self.p2, self.p3, self.p4) = struct.unpack("<10I", data)
        assert size == 40

    def __repr__(self):
        return f"Event(msg={self.msg} dev={self.device:#x} p={self.p1:#x},{self.p2:#x},{self.p3:#x})"


class App:
    """One attached process with one application handle."""

    def __init__(self, server, name="test", initialize=True):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(server.path)
        self.events = []
        self.sequence = 0
        self.params = ()
        self.var = b""
        self.app = 0
        if initialize:
            assert self.request(INITIALIZE, 2, var=name.encode() + b"\0") == 0
            self.app = self.params[0]

    def request(self, func, *params, var=b""):
        self.sequence += 1
        params = list(params) + [0] * (13 - len(params))
        self.sock.send(struct.pack("<15I", func, self.sequence, *params) + var)
        while True:
            data = self.sock.recv(65536)
            assert data, "server closed the connection"
            if len(data) == 40:
                self.events.append(Event(data))
                continue
            result, sequence, *self.params = struct.unpack("<15I", data[:60])
            assert sequence == self.sequence
            self.var = data[60:]
            return result

    def open(self, privileges=OWNER, media=VOICE | UNKNOWN_MEDIA, line=0, version=0x20000):
        result = self.request(OPEN, self.app, line, version, 7, privileges, media)
        assert result == 0, hex(result)
        return self.params[0]

    def event(self, msg, p1=None, device=None):
        """Waits for an event; earlier ones that do not match stay queued."""
        def match(e):
            return e.msg == msg and (p1 is None or e.p1 == p1) and device in (None, e.device)
        deadline = time.monotonic() + PATIENCE
        while True:
            for i, e in enumerate(self.events):
                if match(e):
                    return self.events.pop(i)
            self.sock.settimeout(max(0.001, deadline - time.monotonic()))
            data = self.sock.recv(65536)
            assert len(data) == 40, "a reply nobody asked for, or end of file"
            self.events.append(Event(data))
            self.sock.settimeout(PATIENCE)

    def new_call(self):
        """Waits for APPNEWCALL and the CALLSTATE behind it: (handle, privilege)."""
        e = self.event(APPNEWCALL)
        state = self.event(CALLSTATE, device=e.p2)
        assert state.p3 == e.p3, "CALLSTATE carries the privilege of a first handle"
        return e.p2, e.p3

    def sync(self):
        """After this all events sent so far are in self.events."""
        self.request(NEGOTIATE, self.app, 0, 0, 0xffffffff)

    def info(self, call):
        assert self.request(GET_INFO, call, 1024) == 0
        names = ("total needed used line device address media id states origin reason owners "
                 "monitors caller_size caller_offset called_size called_offset").split()
        return dict(zip(names, struct.unpack("<17I", self.var[:68])))

    def status(self, call):
        assert self.request(GET_STATUS, call, 1024) == 0
        return dict(zip("total needed used state mode privilege features".split(),
                        struct.unpack("<7I", self.var)))

    def close(self):
        self.sock.close()


class Message:
    """A SIP message taken apart."""

    def __init__(self, data):
        head, _, self.body = data.decode().partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        self.first = first
        self.headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            self.headers.setdefault(name.lower(), []).append(value.strip())
        self.status = int(first.split()[1]) if first.startswith("SIP/2.0") else None
        self.method = None if self.status else first.split()[0]
        assert int(self["content-length"]) == len(self.body)

    def __getitem__(self, name):
        return self.headers[name][0]

    def tag(self, name):
        found = re.search(r";tag=([^;]+)", self[name])
        return found.group(1) if found else None


class Phone:
    """One SIP dialog seen from the caller."""

    count = 0

    def __init__(self, server, user="1000"):
        Phone.count += 1
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.server = ("127.0.0.1", server.port)
        self.user = user
        self.call_id = f"{os.getpid()}-{Phone.count}@test"
        self.tag = f"tag{Phone.count}"
        self.branch = 0
        self.to_tag = None
        self.cseq = 1

    def send(self, text):
        self.sock.sendto(text if isinstance(text, bytes) else text.encode(), self.server)

    def request(self, method, branch=None, cseq=None, extra="", body="", to_tag=None, uri=None):
        if branch is None:
            self.branch += 1
            branch = f"z9hG4bK{self.branch}-{self.call_id}"
        uri = uri or f"sip:{self.user}@127.0.0.1"
        to_tag = to_tag or self.to_tag
        return (f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{self.port};branch={branch}\r\n"
                f"From: \"A, \\\"B\\\"\" <sip:phone@127.0.0.1>;tag={self.tag}\r\n"
                f"To: <sip:{self.user}@127.0.0.1>{';tag=' + to_tag if to_tag else ''}\r\n"
                f"Call-ID: {self.call_id}\r\nCSeq: {cseq or self.cseq} {method}\r\n"
                f"Contact: <sip:phone@127.0.0.1:{self.port}>\r\nMax-Forwards: 70\r\n{extra}"
                f"Content-Length: {len(body)}\r\n\r\n{body}")

    def invite(self, **kw):
        self.invite_text = self.request("INVITE", body="v=0\r\n", **kw)
        self.invite_branch = re.search(r"branch=([^\r;]+)", self.invite_text).group(1)
        self.send(self.invite_text)

    def receive(self, timeout=PATIENCE):
        if not select.select([self.sock], [], [], timeout)[0]:
            return None
        return Message(self.sock.recv(65536))

    def expect(self, what, method=None):
        """The next message with this status (int) or method (str); others are passed over."""
        deadline = time.monotonic() + PATIENCE
        while True:
            m = self.receive(max(0, deadline - time.monotonic()))
            assert m, f"no {what} came"
            if what in (m.status, m.method) and (not method or m["cseq"].endswith(method)):
                if m.status and m.tag("to") and m["cseq"].endswith("INVITE"):
                    self.to_tag = m.tag("to")
                return m

    def ack(self, same_branch=False):
        self.send(self.request("ACK", branch=self.invite_branch if same_branch else None))

    def bye(self):
        self.send(self.request("BYE", cseq=self.cseq + 1))

    def answer(self, m, status="200 OK"):
        """Answers a request that the server sent."""
        copied = "".join(f"{n}: {m[n.lower()]}\r\n" for n in ("Via", "From", "To", "Call-ID", "CSeq"))
        self.send(f"SIP/2.0 {status}\r\n{copied}Content-Length: 0\r\n\r\n")
