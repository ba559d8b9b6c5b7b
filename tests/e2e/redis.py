#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""redis-server, unmodified, whose malloc is jemalloc's: scripted commands give the same answers as a bare
run, a background save (fork) and a reload work, redis-benchmark completes, and no leak is found where keys are
overwritten. Start: serve."""
import subprocess
import sys
import time

from harness import MODES, Server, Test, run

t = Test("redis", needs=["redis-server", "redis-cli", "redis-benchmark"])

SCRIPT = r"""
SET greeting "hello"
APPEND greeting ", world"
GET greeting
STRLEN greeting
SETRANGE greeting 7 redis
GET greeting
MSET a 1 b 2 c 3
INCRBYFLOAT a 0.5
MGET a b c nope
RPUSH list 3 1 2 10 7
SORT list DESC
LRANGE list 0 -1
LINSERT list BEFORE 10 5
HSET hash f1 v1 f2 v2
HGETALL hash
ZADD zset 3 three 1 one 2 two
ZRANGE zset 0 -1 WITHSCORES
SADD set x
SCARD set
PFADD hll a b c d e f g
PFCOUNT hll
BITCOUNT greeting
XADD stream 1-1 field value
XRANGE stream - +
GEOADD places 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
GEODIST places Palermo Catania km
EVAL "local s = 0; for i = 1, 10000 do s = s + i; redis.call('SET', 'lua:' .. (i % 50), string.rep('x', i % 100)) end; return s" 0
EVAL "local t = {}; for i = 1, 20000 do t[i] = tostring(i) end; return #table.concat(t)" 0
EVAL "return redis.call('NOSUCH')" 0
NOSUCHCOMMAND
DEL list hash
EXISTS list hash zset
OBJECT ENCODING zset
DUMP a
TYPE stream
CONFIG SET maxmemory 0
SAVE
DBSIZE
DEBUG RELOAD
DBSIZE
GET greeting
"""


def cli(sock, *arguments, script=None):
    command = ["redis-cli", "-s", str(sock), *arguments]
    done = subprocess.run(command, input=script, capture_output=True, text=True, errors="replace", timeout=60,
                          check=False)
    return done.stdout + done.stderr


def serve(name, command_of, seconds):
    """Runs the script, a benchmark for about `seconds`, and a background save; (answers, benchmark ok, status)."""
    directory = t.path(name, "dump.rdb").parent
    sock = directory / "redis.sock"
    command = command_of(["redis-server", "--port", "0", "--unixsocket", str(sock), "--save", "", "--appendonly", "no",
                          "--dir", str(directory), "--enable-debug-command", "yes", "--daemonize", "no"])
    with Server(command, directory, lambda: sock.exists() and "PONG" in cli(sock, "PING"),
                lambda _: cli(sock, "SHUTDOWN", "NOSAVE")) as server:
        answers = cli(sock, script=SCRIPT).splitlines()
        completed, began = True, time.monotonic()
        while time.monotonic() < began + seconds:
            status, out, err = run(["redis-benchmark", "-s", sock, "-n", "20000", "-P", "16", "-c", "10", "-r", "500", "-d", "100",
                                    "-q", "-t", "set,get,incr,mset"])
            completed = completed and status == 0 and b"Error" not in out + err
        cli(sock, "BGSAVE")
        while "rdb_bgsave_in_progress:0" not in cli(sock, "INFO", "persistence"):
            time.sleep(0.02)
        answers.append("saved: " + str("rdb_last_bgsave_status:ok" in cli(sock, "INFO", "persistence")))
        answers.append(cli(sock, "GET", "greeting"))
    return answers, completed, server.status


def main():
    bare, completed, status = serve("bare", lambda command: command, 0.1)
    t.check(status == 0 and completed and len(bare) > 60 and "saved: True" in bare, "bare run", bare[-5:])
    for mode in MODES:
        session = t.path(f"{mode}.tt")
        follow = ["-f"] if mode == "exact" else []
        answers, completed, status = serve(
            mode, lambda command: t.under(mode, session, command, "--horizon", "2", *follow), 5)
        wrong = [f"{a} != {b}" for a, b in zip(answers, bare) if a != b]
        t.check(not wrong and len(answers) == len(bare), f"{mode}: same answers as bare", "\n".join(wrong))
        t.check(completed and status == 0, f"{mode}: benchmark completes, exit status 0", status)
        findings = t.findings(session)
        if findings:
            t.check("jemalloc" in str(findings.get("session")) + str(findings.get("target")) + str(findings.get("processes")),
                    f"{mode}: the session names jemalloc", findings.get("target"))
            t.check_recorded(session, "redis", 1 if mode == "sampled" else 1000)
            t.check_clean(session)
    return t.end()


if __name__ == "__main__":
    sys.exit(main())
