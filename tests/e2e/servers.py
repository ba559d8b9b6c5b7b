# SPDX-License-Identifier: Apache-2.0
"""Real servers from Debian with clients that check every answer, for tests that attach to them while they work.
Each maker takes an empty directory and returns a running Served; `pid` is the process that does the work.
Protocols are spoken by hand over unix sockets: no client library stands between an answer and its check.
Start: SERVERS."""
import gzip
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

PATIENCE = 10.0  # seconds without an answer are a hang


class Target:
    """A process of ours. progress(): counters that all move while it is well; close() ends it and returns what
    was wrong with it."""
    says_ok = False  # it prints "ok" at its end

    def __init__(self, name, command, directory, env=None):
        self.name, self.complaints = name, []
        self.process = subprocess.Popen([str(c) for c in command], cwd=directory, stdin=subprocess.DEVNULL, env=env,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        self.pid = self.process.pid

    def close(self):
        if self.process.poll() is not None:
            self.complaints.append(f"ended by itself with {self.process.returncode}: {self.process.stdout.read()[-300:]}")
        else:
            self.process.terminate()
            try:
                out = self.process.communicate(timeout=30)[0]
                if self.process.returncode not in (0, -signal.SIGTERM) or (self.says_ok and "ok" not in out):
                    self.complaints.append(f"ended with {self.process.returncode}: {out[-300:]}")
            except subprocess.TimeoutExpired:
                self.complaints.append("did not end within 30 s of SIGTERM")
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        return self.complaints


class Client(threading.Thread):
    """Asks in a loop; ask(n, link) returns None or a complaint, and may keep its connection in link."""

    def __init__(self, ask, who):
        super().__init__(daemon=True)
        self.ask, self.who, self.answers, self.complaints, self.over = ask, who, 0, [], False
        self.start()

    def run(self):
        link = {"who": self.who}
        while not self.over and len(self.complaints) < 5:
            try:
                complaint = self.ask(self.answers, link)
            except (OSError, ValueError, struct.error) as e:
                complaint = f"no answer: {type(e).__name__} {e}"
                link = {"who": self.who}
            if complaint and not self.over:
                self.complaints.append(complaint)
            self.answers += 1


class Served(Target):
    """A server, ready once its socket takes a connection, with clients."""

    def __init__(self, name, command, directory, sock, ask, clients=2, env=None, worker=None):
        super().__init__(name, command, directory, env)
        self.clients = []
        deadline = time.monotonic() + 30
        while True:
            try:
                unix(sock).close()
                break
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start: {self.close()}")
            time.sleep(0.02)
        self.clients = [Client(ask, who) for who in range(clients)]
        if worker:
            self.pid = worker(self.process.pid)

    def progress(self):
        return tuple(c.answers for c in self.clients)

    def close(self):
        for c in self.clients:
            c.over = True
        for c in self.clients:
            c.join(PATIENCE)
            self.complaints += c.complaints
        return super().close()


def unix(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(PATIENCE)
    s.connect(str(path))
    return s


def stream(link, path):
    if "s" not in link:
        link["s"] = unix(path).makefile("rwb")
    return link["s"]


def first_child(pid):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.02)
    raise RuntimeError("no worker process appeared")


def backend(pid):
    """The process of a postgresql that serves the first client."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            try:
                if b"[local]" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
            except OSError:
                pass  # it has ended
        time.sleep(0.02)
    raise RuntimeError("no backend appeared")


def redis(directory):
    sock = pathlib.Path(directory) / "redis.sock"

    def ask(n, link):
        s = stream(link, sock)
        value = (f"{link['who']}:{n}:" + "v" * (n * 37 % 3000)).encode()
        key = f"k{link['who']}:{n % 500}".encode()
        s.write(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(value), value))
        s.write(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key))
        s.flush()
        first, size = s.readline(), s.readline()
        if first != b"+OK\r\n" or size != b"$%d\r\n" % len(value) or s.read(len(value) + 2) != value + b"\r\n":
            return "redis gave back what was not stored"
        return None
    return Served("redis", ["redis-server", "--port", "0", "--unixsocket", sock, "--save", "", "--appendonly", "no",
                            "--io-threads", "4"], directory, sock, ask, clients=3)


def nginx(directory):
    d = pathlib.Path(directory)
    (d / "www").mkdir()
    (d / "temp").mkdir()
    bodies = {f"/{i}.txt": (f"line {i}\n" * (i * i * 7 + 1)).encode() for i in range(12)}
    for name, body in bodies.items():
        (d / "www" / name[1:]).write_bytes(body)
    sock = d / "nginx.sock"
    temps = "".join(f"{k}_temp_path {d}/temp/{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (d / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {d}/pid; error_log {d}/error.log; events {{ worker_connections 64; }}\n"
        f"http {{ access_log off; gzip on; gzip_min_length 1; gzip_types text/plain; {temps} default_type text/plain;\n"
        f"server {{ listen unix:{sock}; root {d}/www; ssi on; }} }}\n")

    def ask(n, link):
        s = stream(link, sock)
        name = f"/{(n + 3 * link['who']) % len(bodies)}.txt"
        zipped = n % 2 == 0
        s.write(f"GET {name} HTTP/1.1\r\nHost: x\r\n{'Accept-Encoding: gzip' if zipped else 'X: y'}\r\n\r\n".encode())
        s.flush()
        head = []
        while (line := s.readline()) not in (b"\r\n", b""):
            head.append(line.lower())
        if not head:
            return "nginx closed the connection without an answer"
        if any(b"chunked" in line for line in head):
            body = b""
            while size := int(s.readline(), 16):
                body += s.read(size)
                s.read(2)
            s.read(2)
        else:
            body = s.read(int(next(line for line in head if line.startswith(b"content-length")).split()[1]))
        if any(b"connection: close" in line for line in head):  # after keepalive_requests
            del link["s"]
        if any(b"content-encoding: gzip" in line for line in head):
            body = gzip.decompress(body)
        return None if body == bodies[name] else f"nginx gave {len(body)} bytes that are not {name}"
    return Served("nginx", ["nginx", "-p", d, "-c", d / "nginx.conf", "-e", d / "error.log"], directory, sock, ask)


def memcached(directory):
    sock = pathlib.Path(directory) / "memcached.sock"

    def ask(n, link):
        s = stream(link, sock)
        key, value = f"k{link['who']}-{n % 300}".encode(), (str(n) * (n % 700 + 1)).encode()
        s.write(b"set %s 0 0 %d\r\n%s\r\nget %s\r\n" % (key, len(value), value, key))
        s.flush()
        if s.readline() != b"STORED\r\n" or s.readline() != b"VALUE %s 0 %d\r\n" % (key, len(value)):
            return "memcached did not store a value"
        if s.read(len(value) + 7) != value + b"\r\nEND\r\n":
            return "memcached gave back what was not stored"
        return None
    return Served("memcached", ["memcached", "-s", sock, "-u", "root", "-t", "4", "-m", "64"], directory, sock, ask, clients=3)


def postgresql(directory):
    d = pathlib.Path(directory)
    user = pwd.getpwnam("postgres")
    binaries = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
    os.chown(d, user.pw_uid, user.pw_gid)
    as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    subprocess.run([*as_user, binaries / "initdb", "-D", d / "data", "-A", "trust", "--no-sync", "-E", "UTF8"], check=True,
                   stdout=subprocess.DEVNULL, cwd=d)
    sock = d / ".s.PGSQL.5432"

    def message(s):
        kind, length = s.read(1), struct.unpack("!i", s.read(4))[0]
        return kind, s.read(length - 4)

    def connect(link):
        text = b"user\0postgres\0database\0postgres\0\0"
        while True:
            s = stream(link, sock)
            s.write(struct.pack("!ii", 8 + len(text), 196608) + text)
            s.flush()
            while (m := message(s))[0] not in (b"Z", b"E"):
                pass
            if m[0] == b"Z":
                return
            del link["s"]  # "the database system is starting up"
            time.sleep(0.02)

    def ask(n, link):
        if "s" not in link:
            connect(link)
        s = link["s"]
        query = (f"select sum(i * {n % 97}), count(*), max(repeat('x', i % 50) || i::text) from generate_series(1, {n % 900 + 10}) i"
                 .encode() + b"\0")
        s.write(b"Q" + struct.pack("!i", 4 + len(query)) + query)
        s.flush()
        row = None
        while (m := message(s))[0] != b"Z":
            if m[0] == b"D":
                row = m[1]
            if m[0] == b"E":
                return f"postgresql said {m[1][:100]}"
        k = n % 900 + 10
        top = max("x" * (i % 50) + str(i) for i in range(1, k + 1))
        fields, at = [], 2
        while row and at < len(row):
            size = struct.unpack_from("!i", row, at)[0]
            fields.append(row[at + 4:at + 4 + size].decode())
            at += 4 + size
        want = [str(k * (k + 1) // 2 * (n % 97)), str(k)]
        return None if fields[:2] == want and len(fields[2]) == len(top) else f"postgresql gave {fields} for {want}"
    return Served("postgresql", [*as_user, binaries / "postgres", "-D", d / "data", "-k", d, "-c", "listen_addresses=", "-F"],
                  directory, sock, ask, worker=backend)


def php(directory):
    d = pathlib.Path(directory)
    fpm = sorted(pathlib.Path("/usr/sbin").glob("php-fpm*"))[-1]
    sock = d / "php.sock"
    (d / "fpm.conf").write_text(f"[global]\nerror_log={d}/error.log\ndaemonize=no\n[www]\nlisten={sock}\nuser=root\ngroup=root\n"
                                "pm=static\npm.max_children=1\n")
    (d / "page.php").write_text("""<?php $n = (int)$_GET['n']; $a = []; for ($i = 0; $i < $n % 500 + 5; $i++) $a["k$i"] = str_repeat((string)$i, 3);
echo json_encode(['n' => $n, 'sum' => array_sum(array_keys(array_values($a))), 'md5' => md5(implode(',', $a))]);""")

    def record(kind, content):
        return struct.pack("!BBHHBx", 1, kind, 1, len(content), 0) + content

    def ask(n, link):
        import hashlib
        s = unix(sock).makefile("rwb")
        params = b""
        for key, value in {"SCRIPT_FILENAME": str(d / "page.php"), "REQUEST_METHOD": "GET", "QUERY_STRING": f"n={n}"}.items():
            params += struct.pack("!BB", len(key), len(value)) + key.encode() + value.encode()
        s.write(record(1, struct.pack("!HB5x", 1, 0)) + record(4, params) + record(4, b"") + record(5, b""))
        s.flush()
        out = b""
        while True:
            head = s.read(8)
            if len(head) < 8:
                return "php-fpm closed the connection amid an answer"
            _, kind, _, size, pad = struct.unpack("!BBHHBx", head)
            content = s.read(size + pad)[:size]
            if kind == 6:
                out += content
            if kind == 7:
                return f"php said {content[:200]}"
            if kind == 3:
                break
        k = n % 500 + 5
        want = {"n": n, "sum": k * (k - 1) // 2, "md5": hashlib.md5(",".join(str(i) * 3 for i in range(k)).encode()).hexdigest()}
        got = json.loads(out.split(b"\r\n\r\n", 1)[1])
        return None if got == want else f"php gave {got} for {want}"
    return Served("php-fpm", [fpm, "-n", "-R", "-F", "-y", d / "fpm.conf"], directory, sock, ask, worker=first_child)


PYTHON = """
import json, socketserver, sys
class Answer(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            asked = json.loads(line)
            words = {str(i): 'w' * i for i in range(asked['n'] % 300)}
            self.wfile.write(json.dumps({'id': asked['id'], 'letters': sum(map(len, words.values()))}).encode() + b'\\n')
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
Server(sys.argv[1], Answer).serve_forever()
"""
NODE = """
const net = require('net');
net.createServer(c => { let rest = '';
  c.on('error', () => {});
  c.on('data', d => { rest += d; let at;
    while ((at = rest.indexOf('\\n')) >= 0) {
      const asked = JSON.parse(rest.slice(0, at)); rest = rest.slice(at + 1);
      const words = {}; for (let i = 0; i < asked.n % 300; i++) words[i] = Buffer.alloc(i, 'w').toString();
      c.write(JSON.stringify({id: asked.id, letters: Object.values(words).reduce((s, w) => s + w.length, 0)}) + '\\n');
    } }); }).listen(process.argv[1]);
"""


def lines(name, command):
    def make(directory):
        sock = pathlib.Path(directory) / "lines.sock"

        def ask(n, link):
            s = stream(link, sock)
            s.write(json.dumps({"id": n, "n": n * 7}).encode() + b"\n")
            s.flush()
            got, k = json.loads(s.readline()), n * 7 % 300
            return None if got == {"id": n, "letters": k * (k - 1) // 2} else f"{name} gave {got}"
        return Served(name, [*command, sock], directory, sock, ask)
    return make


SERVERS = {  # name: (program that must be there, maker)
    "redis": ("redis-server", redis),
    "nginx": ("nginx", nginx),
    "memcached": ("memcached", memcached),
    "postgresql": ("/usr/lib/postgresql", postgresql),
    "php-fpm": ("/usr/sbin/php-fpm*", php),
    "python": ("/usr/bin/python3", lines("python", ["/usr/bin/python3", "-c", PYTHON])),
    "node": ("node", lines("node", ["node", "-e", NODE])),
}


def present(name):
    program = SERVERS[name][0]
    if program.startswith("/"):
        return any(pathlib.Path("/").glob(program[1:]))
    return shutil.which(program) is not None
