# SPDX-License-Identifier: Apache-2.0
"""What tests/e2e/python.py runs under telltale: the same output on each run, from much of what an interpreter
does - C extensions, threads, children, signals that arrive in the middle of malloc, deep recursion."""
import asyncio
import ctypes
import decimal
import hashlib
import json
import multiprocessing
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import zlib


def digest(value):
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def databases():
    db = sqlite3.connect(":memory:")
    db.execute("create table t (k integer primary key, v text)")
    db.executemany("insert into t values (?, ?)", ((i, "v" * (i % 97)) for i in range(20000)))
    db.create_function("twice", 1, lambda x: x * 2)
    return digest(db.execute("select sum(k), count(distinct v), max(twice(k)) from t").fetchall())


def foreign_code():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = libc.realloc.restype = libc.calloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.malloc_usable_size.argtypes = [ctypes.c_void_p]
    libc.malloc_usable_size.restype = ctypes.c_size_t
    blocks = []
    for i in range(3000):
        p = libc.malloc(i % 700)
        ctypes.memset(p, i % 251, i % 700)
        p = libc.realloc(p, (i * 7) % 3000 + 1)
        assert libc.malloc_usable_size(p) >= (i * 7) % 3000 + 1
        blocks.append((p, i))
    kept = [ctypes.string_at(p, min(i % 700, (i * 7) % 3000 + 1)) == bytes([i % 251]) * min(i % 700, (i * 7) % 3000 + 1)
            for p, i in blocks]
    for p, _ in blocks:
        libc.free(p)
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 500)(*((i * 7919) % 1009 for i in range(500)))
    libc.qsort(numbers, 500, 4, compare(lambda a, b: a[0] - b[0]))
    return all(kept), list(numbers) == sorted(numbers)


def threads():
    results = [None] * 8

    def work(n):
        results[n] = digest([zlib.compress(json.dumps({"n": n, "k": [str(j) * 20 for j in range(i)]}).encode()) for i in range(60)])

    for _ in range(5):
        crowd = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
    return digest(results)


def children():
    out = subprocess.run([sys.executable, "-c", "print(sum(range(1000)))"], capture_output=True, text=True, check=True).stdout
    out += subprocess.run("echo shell; exit 3", shell=True, capture_output=True, text=True, check=False).stdout
    with multiprocessing.get_context("fork").Pool(2) as pool:
        out += digest(pool.map(digest, range(200)))
    pid = os.fork()
    if pid == 0:
        junk = [bytes(i) for i in range(5000)]
        os._exit(len(junk) % 50)
    return out, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def signals():
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append([bytes(100) for _ in range(10)]))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    total = 0
    while len(seen) < 100:
        total += len([str(i) for i in range(1000)])
    signal.setitimer(signal.ITIMER_REAL, 0)
    return total > 0 and len(seen) >= 100


def recursion():
    def down(n):
        return [n, down(n + 1)]
    try:
        down(0)
    except RecursionError as error:
        return str(error)[:40]
    return "no limit"


async def tasks():
    async def one(i):
        await asyncio.sleep(0)
        if i % 10 == 0:
            raise ValueError(i)
        return i
    done = await asyncio.gather(*(one(i) for i in range(1000)), return_exceptions=True)
    return sum(x for x in done if isinstance(x, int)), sum(isinstance(x, ValueError) for x in done)


def main():
    decimal.getcontext().prec = 200
    print("sqlite3", databases())
    print("ctypes", foreign_code())
    print("threads", threads())
    print("children", children())
    print("signals", signals())
    print("recursion", recursion())
    print("asyncio", asyncio.run(tasks()))
    print("decimal", digest(decimal.Decimal(2).sqrt()))
    print("re", digest(re.findall(r"(\w+?)(\d)", " ".join(f"word{i}" for i in range(20000)))))
    print("environment", sorted(k for k in os.environ if k.startswith("PYTHON")))
    sys.exit(11)


if __name__ == "__main__":
    main()
