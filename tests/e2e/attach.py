#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Attaching to what runs already and has leaked before: lost blocks are found and given to the sites that made them,
the call server's article comes out under real calls, modes change while attached, and a telltale that is killed at any
moment leaves nothing that `telltale detach` cannot take back. `attach.py fixture|call|killed|switch|exec|container|user`.
Start: the table at the end."""
import contextlib
import json
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import sys
import time

from harness import Test, code_of, environment, run

WHAT = sys.argv[1]
FIXTURES = pathlib.Path(os.environ["FIXTURES"])
t = Test(f"attach-{WHAT}", needs=["sipp"] if WHAT == "call" else [])


@contextlib.contextmanager
def fixture(name, *options):
    """A running fixture that has said it is ready; its truth comes from ended()."""
    process = subprocess.Popen([FIXTURES / f"fixture_{name}", *map(str, options)], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True)
    try:
        if name == "old_leaks":
            assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def ended(process):
    """The fixture's truth by function, once it has ended well."""
    out = process.communicate(timeout=120)[0]
    t.check(process.returncode == 0, "the target ended well", process.returncode)
    return {site["function"]: site for site in json.loads(out.splitlines()[-1])["sites"]}


def rows(session, sql, *values):
    with contextlib.closing(sqlite3.connect(f"file:{session}?mode=ro", uri=True)) as db:
        return db.execute(sql, values).fetchall()


def attach(pid, session, *options, limit=90):
    status, out, err = run([t.telltale, "attach", "-q", "-p", pid, "-o", session, *options], limit=limit)
    return t.check(status == 0, f"{pathlib.Path(session).stem}: attached and detached",
                   f"status {status}: {(out + err).decode(errors='replace')}")


def fixture_leaks():
    for mode, options in (("exact", []), ("sampled", ["--mean", "4096"])):
        session = t.path(f"{mode}.tt")
        with fixture("old_leaks", "--seconds", 14) as process:
            code = code_of(process.pid)
            if not attach(process.pid, session, "--mode", mode, "-d", "8", *options):
                continue
            t.check(code == code_of(process.pid), f"{mode}: code is as it was")
            findings = t.findings(session, "--horizon", "2")
            truth = ended(process)
        lost, lost_old, unknown, blocks = rows(session, "select lost_units, old_units, unknown_units, blocks from snapshot order by id desc")[0]
        before = 9000 + 3000  # --capacity's default, and a third of it
        most = truth["lose_record"]["births"] + truth["lose_message"]["births"]
        t.check(lost >= before * 0.99 and lost <= most * 1.001, f"{mode}: {lost} lost of {before} to {most}")
        t.check(lost_old >= before * 0.99, f"{mode}: {lost_old} of them old")
        t.check(unknown <= lost * 0.05, f"{mode}: {lost - unknown} of {lost} given to a site")
        shares = rows(session, "select size_min, site, known_units + old_units from lost_share h join lost_group g on g.process = h.process "
                      "and g.snapshot = h.snapshot and g.id = h.grp where h.snapshot = (select max(id) from snapshot)")
        sizes = {size: max((n, site) for s, site, n in shares if s == size)[1] for size in {s for s, _, _ in shares}}
        wrong = sum(n for size, site, n in shares if site != sizes.get(size))
        t.check(set(sizes) == {40, 200} and wrong <= lost * 0.05, f"{mode}: each size to one site", shares)
        if not findings:
            continue
        named = {f["site"]["frames"][0]["function"]: f for f in findings["findings"] if f["site"]["frames"]}
        for function in ("lose_record", "lose_message"):
            f = named.get(function)
            if t.check(f and f["verdict"] == "leak-lost", f"{mode}: {function} is lost", f and f["verdict"]):
                expected = 9000 if function == "lose_record" else 3000
                got = (f["lost"].get("before_attach") or {})
                got = got.get("units", 0) if isinstance(got, dict) else got
                # sampled: what was lost since attach, to be taken off, is known from some 16 samples
                low, high = (0.95, 1.01) if mode == "exact" else (0.8, 1.2)
                t.check(low * expected <= got <= high * expected, f"{mode}: {function} lost {expected} before", f["lost"])
        t.check(not named.get("open_session") or not named["open_session"]["verdict"].startswith("leak"),
                f"{mode}: what is in use is no leak", named.get("open_session"))


def call():
    cases = pathlib.Path(os.environ["CASES_CALL"])
    for server, mode in (("tapisrv", "exact"), ("tapisrv", "sampled"), ("tapisrv-hotfix", "exact"), ("tapisrv-hotfix", "sampled")):
        name = f"{server}-{mode}"
        session, truth, log = t.path(f"{name}.tt"), t.path(f"{name}.json"), t.path(f"{name}.log")
        options = "--mode sampled --mean 1024" if mode == "sampled" else ""
        # some calls first, then attached for a part of the load
        before = (f"(sleep 5; '{t.telltale}' attach -q -p $TAPISRV_PID -d 12 {options} --operation call=call_new --horizon 4 "
                  f"-o '{session}' >'{log}' 2>&1; echo ended $? >>'{log}') &")
        status, out, err = run([cases / "callload", "--owners", 4, "--calls", 800, "--rate", 40, "--settle", 4, "--truth", truth,
                                "--before", before, "--", cases / server, "--t1", "50"], limit=120)
        if not t.check(status == 0, f"{name}: the load ended well", f"status {status}: {(out + err).decode()[-2000:]}"):
            continue
        counts = json.loads(truth.read_text())
        t.check(counts["calls"] == 800 and counts["failed_calls"] == 0, f"{name}: every call was served", counts)
        if not t.check("ended 0" in log.read_text(), f"{name}: attached and detached", log.read_text()):
            continue
        findings = t.findings(session)
        leaks = [f for f in findings["findings"] if f["verdict"].startswith("leak")] if findings else None
        if server != "tapisrv":
            t.check(leaks == [], f"{name}: no leak", leaks)
            continue
        brief = [(f["verdict"], [r["function"] for r in f["site"]["frames"]][:4], f["lost"], f["evidence"][0]) for f in leaks or []]
        if not t.check(leaks and len(leaks) == 1, f"{name}: one leak", brief):
            continue
        leak, frame = leaks[0], leaks[0]["site"]["frames"][0]
        t.check(frame["function"] == "owner_record_new", f"{name}: its site", frame)
        if mode == "exact":
            t.check(leak["rate"]["operation"] == "call" and abs(leak["rate"]["per_operation"] - 2) < 0.1,
                    f"{name}: 2 blocks a call", leak["rate"])
        # in the last copy: all that was lost until then, attributed to the site or said not to be
        lost, unknown = rows(session, "select lost_units, unknown_units from snapshot order by id desc")[0]
        t.check(unknown <= lost * 0.05, f"{name}: {lost - unknown} of {lost} lost blocks given to a site")
        [(given,)] = rows(session, "select max(n) from (select sum(known_units + old_units) n from lost_share "
                          "where snapshot = (select max(id) from snapshot) group by site)")
        t.check(given >= lost * 0.95, f"{name}: {given} of {lost} to the one that leaks")
        t.check(lost <= counts["leaked_blocks"] * 1.001, f"{name}: no more than were lost", (lost, counts["leaked_blocks"]))


def killed():
    random.seed(int(os.environ.get("ATTACH_SEED", "310626")))
    with fixture("old_leaks", "--seconds", 40, "--rate", 2000) as process:
        code = code_of(process.pid)
        for turn in range(12):
            mode = ("exact", "sampled", "adaptive")[turn % 3]
            command = [t.telltale, "attach", "-q", "-p", str(process.pid), "--mode", mode, "--mean", "4096", "-o", t.path("killed.tt"),
                       "--snapshot-every", "1"]
            recorder = subprocess.Popen([str(c) for c in command], env=environment(), stderr=subprocess.DEVNULL)
            delay = random.uniform(0, 0.12 if turn % 2 else 1.5)
            time.sleep(delay)  # the moment is what is tried
            recorder.kill()
            recorder.wait()
            status, out, err = run([t.telltale, "detach", "-p", process.pid])
            ok = t.check(status == 0, f"turn {turn}, {mode}, {delay:.3f} s: detach", (out + err).decode())
            t.check(code == code_of(process.pid), f"turn {turn}: code is as it was")
            if not ok:
                break
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        t.check(children == [], "no copy was left", children)
        process.send_signal(signal.SIGCONT)
        attach(process.pid, t.path("after.tt"), "-d", "2")
        t.check(code == code_of(process.pid), "after an attach of its own: code is as it was")
        t.check_recorded(t.path("after.tt"), "fixture_old_leaks")
        process.kill()


def switch():
    session = t.path("switch.tt")
    with fixture("old_leaks", "--seconds", 12) as process:
        code = code_of(process.pid)
        recorder = subprocess.Popen([t.telltale, "attach", "-q", "-p", str(process.pid), "-o", session], env=environment())
        deadline = time.monotonic() + 20
        while run([t.telltale, "switch", "-p", process.pid, "--mode", "exact"])[0] != 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        status, _, err = run([t.telltale, "attach", "-q", "-p", process.pid, "-o", t.path("second.tt")])
        t.check(status == 3 and b"another telltale" in err, "a second recorder is refused", err)
        t.check(not os.path.exists(t.path("second.tt")), "and makes no session")
        for mode in ("sampled", "adaptive", "exact"):
            time.sleep(0.7)  # something to record
            status, out, err = run([t.telltale, "switch", "-p", process.pid, "--mode", mode, "--json"])
            t.check(status == 0 and json.loads(out) == {"pid": process.pid, "mode": mode}, f"switched to {mode}", (out, err))
        time.sleep(0.7)
        status, _, err = run([t.telltale, "detach", "-p", process.pid])
        t.check(status == 0, "the recorder leaves at request", err)
        t.check(recorder.wait(30) == 0, "and ends well")
        t.check(code == code_of(process.pid), "code is as it was")
        ended(process)
    found = rows(session, "select mode, state from process order by id")
    t.check([m for m, _ in found] == ["exact", "sampled", "adaptive", "exact"], "an image for each mode", found)
    births = rows(session, "select process, max(births) from site_sample group by process")
    t.check({1, 4} <= {p for p, n in births if n >= 20}, "the exact ones recorded everything", births)


def after_exec():
    script = "import os, sys, time\ntime.sleep(2)\nos.execv(sys.executable, [sys.executable, '-c', " \
             "'import time\\nkept = []\\nfor i in range(50):\\n kept.append(bytes(5000)); time.sleep(0.1)'])"
    process = subprocess.Popen([sys.executable, "-c", script], env=environment())
    try:
        attach(process.pid, t.path("exec.tt"), "-f")
        process.wait(30)
    finally:
        process.kill()
    found = rows(t.path("exec.tt"), "select state, pid from process order by id")
    t.check(found == [("exec", process.pid), ("ended", process.pid)], "recorded before and after exec", found)


def libraries_of(program):
    """The files that the loader brings in for it."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [word for line in said.splitlines() for word in line.split() if word.startswith("/")]


def in_container():
    """First process of a pid namespace, with a root of its own that only its mount namespace has."""
    program, root = FIXTURES / "fixture_old_leaks", t.path("root")
    lines = [f"mount -t tmpfs none {root}"]
    for source, to in [(str(program), "/app/old_leaks")] + [(l, l) for l in libraries_of(program)]:
        lines.append(f"mkdir -p {root}{os.path.dirname(to)} && cp -L {source} {root}{to}")
    lines += [f"mkdir {root}/proc {root}/old", f"mount -t proc proc {root}/proc", f"cd {root}", "pivot_root . old",
              "exec /app/old_leaks --seconds 60 --rate 500"]
    pathlib.Path(root).mkdir()
    container = subprocess.Popen(["unshare", "-pmf", "sh", "-c", " && ".join(lines)], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    if container.stdout.readline() != "ready\n":
        print("attach-container: no namespaces here:", container.stderr.read().strip())
        sys.exit(77)
    pid = int(pathlib.Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()[0])
    try:
        ids = next(l.split() for l in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if l.startswith("NSpid"))
        t.check(ids[1:] == [str(pid), "1"], "it is the first of its namespace", ids)
        code, session, article = code_of(pid), t.path("container.tt"), t.path("container.json")
        attach(pid, session, "-d", "5", "--horizon", "2", "--operation", "lost=lose_record", "--json", "--report", article)
        t.check(code == code_of(pid), "code is as it was")
        named = {f["site"]["frames"][0]["function"]: f for f in json.loads(pathlib.Path(article).read_text())["findings"]
                 if f["site"]["frames"]}
        t.check("lose_record" in named, "its functions have names", list(named))
        t.check(rows(session, "select max(count) from operation_sample")[0][0] > 0, "and can be counted")
        t.check(rows(session, "select exe from process")[0][0].endswith("/app/old_leaks"), "its program is named as inside")
        t.check(rows(session, "select lost_units from snapshot")[0][0] > 10000, "a copy of it was searched")
    finally:
        os.kill(pid, signal.SIGKILL)  # nothing less ends the first of a namespace
        container.wait()


def without_root():
    """Another user's telltale: allowed for its own processes where yama says nothing."""
    scope = pathlib.Path("/proc/sys/kernel/yama/ptrace_scope")
    allowed = not scope.exists() or scope.read_text().strip() == "0"
    if os.geteuid() != 0:
        print("attach-user: needs root to become somebody else")
        sys.exit(77)
    directory = pathlib.Path(t.path("user"))
    directory.mkdir()
    directory.parent.chmod(0o755)
    os.chown(directory, 65534, 65534)

    def nobody(*command, **more):
        return subprocess.Popen([str(c) for c in command], user=65534, group=65534, extra_groups=[], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, text=True, cwd="/", env=environment(), **more)
    with nobody(FIXTURES / "fixture_old_leaks", "--seconds", 60, "--rate", 500) as target:
        try:
            if target.stdout.readline() != "ready\n":
                print("attach-user: the build tree cannot be read by others")
                sys.exit(77)
            with nobody(t.telltale, "attach", "-q", "-p", target.pid, "-d", "5", "-o", directory / "user.tt",
                        stderr=subprocess.PIPE) as recorder:
                said = recorder.communicate(timeout=60)[1]
            if not allowed:
                t.check(recorder.returncode == 3 and "ptrace_scope" in said, "yama's refusal is said", said)
                return
            t.check(recorder.returncode == 0, "attached and detached without root", said)
            found = {f["site"]["frames"][0]["function"] for f in t.findings(directory / "user.tt", "--horizon", "2")["findings"]
                     if f["site"]["frames"]}
            t.check("lose_record" in found, "and recorded what leaks", found)
            with nobody(t.telltale, "attach", "-q", "-p", os.getpid(), "-d", "1", "-o", directory / "root.tt",
                        stderr=subprocess.PIPE) as recorder:
                said = recorder.communicate(timeout=60)[1]
            t.check(recorder.returncode == 3 and said.count("\n") == 1, "root's process is refused in one line", said)
        finally:
            target.kill()


{"fixture": fixture_leaks, "container": in_container, "user": without_root, "call": call, "killed": killed, "switch": switch, "exec": after_exec}[WHAT]()
sys.exit(t.end())
