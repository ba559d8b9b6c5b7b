#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""nginx, unmodified, with a master and two workers that drop privileges: every response is held against a
bare run, through a reload in the middle, and no leak is found. Start: serve."""
import hashlib
import http.client
import os
import signal
import socket
import sys
import time

from harness import MODES, Server, Test

t = Test("nginx", needs=["nginx"])
NGINX = "/usr/sbin/nginx" if os.access("/usr/sbin/nginx", os.X_OK) else "nginx"

CONFIG = """
daemon off;
master_process on;
worker_processes 2;
{user}
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log {dir}/access.log;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    types {{ text/plain txt; text/html html; }}
    gzip on;
    gzip_min_length 100;
    gzip_types text/plain;
    server {{
        listen unix:{dir}/front.sock;
        root {files};
        location /list/ {{ autoindex on; autoindex_exact_size on; }}
        location /again/ {{ proxy_pass http://unix:{dir}/front.sock:/; }}
        location /moved {{ return 302 /a.txt; }}
    }}
}}
"""


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.unix = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.unix)


REQUESTS = [
    ("GET", "/a.txt", {}), ("HEAD", "/a.txt", {}), ("GET", "/empty.txt", {}), ("GET", "/big.txt", {}),
    ("GET", "/big.txt", {"Accept-Encoding": "gzip"}), ("GET", "/big.txt", {"Range": "bytes=100-299,1000-1099"}),
    ("GET", "/no-such-file", {}), ("GET", "/list/", {}), ("GET", "/moved", {}), ("POST", "/a.txt", {"Content-Length": "0"}),
    ("GET", "/again/big.txt", {"Accept-Encoding": "gzip"}), ("GET", "/again/a.txt", {}),
    ("GET", "/" + "x" * 9000, {}), ("DELETE", "/a.txt", {}), ("GET", "/%00", {}),
]


def ask(sock, keep=True):
    """All requests on one connection if the server keeps it; the responses as comparable texts."""
    answers, connection = [], UnixConnection(sock)
    for method, target, headers in REQUESTS:
        if not keep:
            connection.close()
        try:
            connection.request(method, target, headers=headers)
            response = connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            connection.close()  # kept open by a worker that a reload has ended since: RFC 9112 9.3.1 says ask again
            connection.request(method, target, headers=headers)
            response = connection.getresponse()
        body = response.read()
        boundary = response.getheader("Content-Type", "").partition("boundary=")[2].encode()
        if boundary:
            body = body.replace(boundary, b"boundary")  # a counter per worker
        shown = {k: v for k, v in response.getheaders() if k in ("Content-Length", "Content-Encoding", "Location", "ETag",
                                                                  "Accept-Ranges", "Content-Range")}
        answers.append(f"{method} {target[:30]} {response.status} {sorted(shown.items())} {hashlib.sha256(body).hexdigest()}")
    connection.close()
    return answers


def serve(name, command_of, seconds, files):
    """Runs the server for about `seconds`, with a reload half-way; (answers, error log, status)."""
    directory = t.path(name, "nginx.conf").parent
    os.chmod(directory, 0o777)
    config = directory / "nginx.conf"
    user = "user www-data;" if os.getuid() == 0 else ""
    config.write_text(CONFIG.format(dir=directory, files=files, user=user))
    command = command_of([NGINX, "-p", str(directory), "-c", str(config), "-e", f"{directory}/error.log"], directory)
    sock, pid_file = directory / "front.sock", directory / "nginx.pid"

    def master():
        return int(pid_file.read_text())

    def ready():
        return pid_file.exists() and pid_file.read_text().strip() and sock.exists()

    with Server(command, directory, ready, lambda _: os.kill(master(), signal.SIGQUIT)) as server:
        answers = ask(sock) + ask(sock, keep=False)
        began = time.monotonic()
        while time.monotonic() < began + seconds / 2:
            ask(sock)
        os.kill(master(), signal.SIGHUP)
        answers += ask(sock)
        while time.monotonic() < began + seconds:
            ask(sock)
        answers += ask(sock)
    errors = [line.partition("]")[2] for line in (directory / "error.log").read_text().splitlines()
              if any(level in line for level in ("[error]", "[alert]", "[crit]", "[emerg]"))]
    return answers, [e for e in errors if "directory index of" not in e and "No such file" not in e], server.status


def main():
    files = t.path("files", "a.txt").parent
    (files / "a.txt").write_text("a line\n" * 50)
    (files / "empty.txt").write_text("")
    (files / "big.txt").write_text("".join(f"line {i * i}\n" for i in range(60000)))
    for i in range(40):
        t.path("files", "list", f"file-{i}.txt").write_text("x" * i)
    for path in files.rglob("*"):
        os.utime(path, (1700000000, 1700000000))
    os.utime(files, (1700000000, 1700000000))
    bare, _, status = serve("bare", lambda command, _: command, 1, files)
    t.check(status == 0 and len(bare) == 4 * len(REQUESTS), "bare run", status)
    for mode in MODES:
        session = t.path(f"{mode}.tt")
        answers, errors, status = serve(mode, lambda command, _: t.under(mode, session, command, "-f", "--horizon", "2"), 5,
                                        files)
        wrong = [f"{a} != {b}" for a, b in zip(answers, bare) if a != b]
        t.check(not wrong and len(answers) == len(bare), f"{mode}: same responses as bare", "\n".join(wrong))
        t.check(status == 0 and not errors, f"{mode}: nothing in its error log, exit status 0", f"{status} {errors}")
        findings = t.findings(session)
        if findings:
            t.check_recorded(session, "nginx", 1 if mode == "sampled" else 1000)
            t.check_clean(session)
    return t.end()


if __name__ == "__main__":
    sys.exit(main())
