#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Article 814622 rediscovered from outside (SYSTEMS.md D2): clients of the datagram RPC runtime under rpcload, as shipped and as
hotfixed, watched by two functions of the runtime that telltale is told of (--handle). What must be found is counted by rpcload:
failures that the callers saw, and rpcssd's ledger. `rpc_law.py law` runs the six classes of failure and the hang, `rpc_law.py
innocent` what looks like it and is no leak, `rpc_law.py timers` one client of each kind through all of the article's times, a
hundredth as long; `rpc_law.py full` does that with the 240 s as they are, in half an hour."""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

from harness import Test, environment, run

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "cases" / "rpc" / "tests"))
from rpccase import Host  # noqa: E402

WHAT = sys.argv[1]
CASES = pathlib.Path(os.environ["CASES_RPC"])
HORIZON = 3  # seconds, shortened from 600; RECYCLE ms stand for the 240 s in which a port cools
RECYCLE = 300
RESOURCE = "port grant in rpcssd"
LOST = "port_acquire:ret,port_release:arg1"  # until the runtime knows the port again
COOLED = "port_acquire:ret:ok=nonneg,port_recycle:arg1"  # until it may be used again
COEFFICIENTS = (1, 1, 0, 0, 1, 0)  # ports lost per failure of F1 to F6, as shipped
t = Test(f"rpc {WHAT}")
# A range of the list for each client, below the ephemeral ports; tests that run side by side start at different ones.
first_port = {"law": 5000, "innocent": 12000}[WHAT] + os.getpid() % 5 * 1300 if WHAT in ("law", "innocent") else 28200 + os.getpid() % 20 * 200


def client(name, *load, program="clusclient", pool=100, failing=0.5, handle=LOST, recycle=RECYCLE, ports=None, place=0):
    """One client under load and telltale; (ground truth, findings)."""
    session, truth = t.path(f"{name}.tt"), t.path(f"{name}.json")
    first = first_port + 100 * place
    status, out, err = run([CASES / "rpcload", "--recycle", recycle, "--settle", HORIZON + 2, "--ports", ports or f"{first}-{first + pool - 1}",
                            "--truth", truth, *load, "--", t.telltale, "run", "-q", "-o", session, "--horizon", HORIZON,
                            "--operation", "OpenCluster=OpenCluster", "--label", f"failure={failing}",
                            "--handle", f"{RESOURCE}={handle},limit={pool}", "--", CASES / program], limit=150)
    if not t.check(status == 0, f"{name}: load ended well", f"status {status}: {(out + err).decode()[-2000:]}"):
        return None
    report = t.findings(session)
    return report and (json.loads(truth.read_text()), report["findings"])


def leaks(findings):
    return [f for f in findings if f["verdict"].startswith("leak")]


def left_open(result):
    """Whether ports were lost and the verdict is "undetermined": a machine that stands still for seconds takes evidence away; or
    a call of the load did not end as it was meant to, so that the share of failing calls is another than the label says."""
    truth, findings = result
    return not truth["exact"] or truth["ports_lost"] and not truth["hung"] and not leaks(findings) and any(
        f["resource"] == RESOURCE and f["verdict"] == "undetermined" for f in findings)


def all_clients(runs):
    """Runs all at once, each at its place in the port range; what is left open once more, by itself. {name: (truth, findings)} of
    those that worked."""
    with concurrent.futures.ThreadPoolExecutor(len(runs)) as pool:
        begun = {name: pool.submit(client, name, *load, place=i, **options) for i, (name, load, options) in enumerate(runs)}
        results = {name: future.result() for name, future in begun.items()}
    for i, (name, load, options) in enumerate(runs):
        if results[name] and left_open(results[name]):
            print(f"     rpc {WHAT}: {name} once more, it was left open", flush=True)
            results[name] = client(name, *load, place=i, **options)
    return {name: r for name, r in results.items() if r}


def expect_lost(name, truth, findings):
    """Exactly the ports that rpcload says, as one leak of the right place, and nothing else: the client's descriptors, sockets
    and memory are flat."""
    found, lost = leaks(findings), truth["ports_lost"]
    if truth["hung"]:  # births end with the hang, which may leave it open whether they go on
        found = [f for f in findings if f in found or f["resource"] == RESOURCE and f["verdict"] == "undetermined"]
    if lost == 0:
        t.check(not found, f"{name}: nothing lost, nothing found", [(f["resource"], f["verdict"], f["lost"]) for f in found])
        return None
    if not t.check([f["resource"] for f in found] == [RESOURCE], f"{name}: one leak, of {RESOURCE}",
                   [(f["verdict"], f["lost"], f["would_change_it"], f["evidence"]) for f in findings if f["resource"] == RESOURCE]):
        return None
    leak = found[0]
    t.check(leak["site"]["frames"][0]["function"] == "dg_open", f"{name}: acquired in dg_open", leak["site"]["frames"][0])
    t.check(leak["lost"]["units"] == lost, f"{name}: {lost} ports", leak["lost"])
    t.check(leak["rate"]["operation"] == "OpenCluster" or leak["verdict"] == "undetermined", f"{name}: by OpenCluster", leak["rate"])
    return leak


def law():
    shares = {"half": (0.5, 1), "third": (0.333333, 2), "quarter": (0.25, 3), "fifth": (0.2, 4)}
    runs = [(name, ("--cycles", 80 * good, "--f1", 80, "--pause", 120 // good), {"failing": share}) for name, (share, good) in shares.items()]
    runs += [("none", ("--cycles", 60, "--pause", 100), {"failing": 0})]
    counts = {2: 60, 3: 60, 4: 20, 5: 80, 6: 60}  # of the fourth each waits for a second packet
    runs += [(f"F{k}", ("--cycles", n, f"--f{k}", n, "--pause", 120), {}) for k, n in counts.items()]
    runs += [(f"hang{pool}", ("--until-hang", "--hang-ms", HORIZON * 1000 + 2000, "--cycles", 1, "--f1", 1, "--pause", 9000 // pool), {"pool": pool})
             for pool in (50, 100)]
    runs += [("hotfix", ("--cycles", 150) + tuple(x for k in range(1, 7) for x in (f"--f{k}", 20)) + ("--pause", 20), {"program": "clusclient-hotfix"})]
    results = all_clients(runs)
    for name, (truth, findings) in results.items():
        failures = truth["clients"][0]["failures"]
        leak = expect_lost(name, truth, findings)
        if name in ("F2", "F3", "F4", "F5", "F6", "half"):
            number = 1 if name == "half" else int(name[1])
            t.check(truth["ports_lost"] == COEFFICIENTS[number - 1] * failures[f"F{number}"] and failures[f"F{number}"] >= 20,
                    f"{name}: {COEFFICIENTS[number - 1]} ports for each failure", truth)
        if name.startswith("hang"):
            pool = int(name[4:])
            t.check(truth["hung"] and pool - 6 <= failures["F1"] <= pool, f"{name}: hangs when the list is used up, but for ports in use", truth)
            if leak:
                t.check("exhausted" in [e["kind"] for e in leak["evidence"]], f"{name}: the list is the limit, and used up", leak["evidence"])
                rate = leak["rate"]["per_operation"]
                t.check(rate is None or abs(rate - 0.5) < 0.05, f"{name}: the slope is the same", leak["rate"])
    controls = [o for name in ("third", "quarter", "fifth", "none") for o in ("--control", t.path(f"{name}.tt"))]
    joined = t.findings(t.path("half.tt"), *controls, "--fixed", t.path("hotfix.tt"))
    if joined and t.check(len(leaks(joined["findings"])) == 1, "one leak across the runs", joined["findings"][:3]):
        leak = leaks(joined["findings"])[0]
        text = (leak["law"] or {}).get("text", "")
        t.check(text == "lost units = 1 x failure per OpenCluster" and leak["law"]["r2"] > 0.999, "law across shares of failing calls", leak["law"])
        t.check(leak["confirmed"], "confirmed by the clean control", leak["controls"])


def limit_of(findings):
    return next((f["capacity"] for f in findings if f["resource"] == RESOURCE and f["verdict"] == "capacity limit"), None)


def innocent():
    # Longer than a port cools is no hang: the pool fills and empties four times.
    rate = ("rate", ("--cycles", 260, "--hang-ms", 8000), {"handle": COOLED, "recycle": 3000, "pool": 30})
    results = all_clients([
        ("cooling", ("--cycles", 120, "--pause", 60), {"handle": COOLED, "recycle": 2400}),
        rate,
        ("design", ("--cycles", 60, "--pause", 80, "--design-limit"), {}),
        ("no_list", ("--cycles", 60, "--f1", 60, "--pause", 80), {"ports": "any"}),
        ("successes", ("--cycles", 120, "--pause", 40), {}),
        ("high_water", ("--cycles", 60, "--pause", 80, "--clients", 1, "--probe"), {}),
    ])
    for name, (truth, findings) in results.items():
        t.check(not leaks(findings), f"{name}: no leak", [(f["resource"], f["verdict"], f["lost"]) for f in leaks(findings)])
        t.check(truth["ports_lost"] == 0, f"{name}: nothing lost", truth)
    for finding in results.get("cooling", (None, []))[1]:
        if finding["resource"] == RESOURCE and finding["births"] > 20:
            ages = [e["value"] for e in finding["evidence"] if e["kind"] == "release-age"]
            t.check(finding["verdict"] == "delayed release" and len(ages) == 1 and abs(ages[0] - 2.4) <= 0.25,
                    "cooling: delayed release after 2.4 s, which stand for 240", (finding["verdict"], finding["evidence"]))
    if "rate" in results:
        full = limit_of(results["rate"][1])
        if not full:
            said = [(f["verdict"], f["births"], f["live"], f["note"]) for f in results["rate"][1] if f["resource"] == RESOURCE]
            print(f"     rpc {WHAT}: rate once more, it was left open: {said}", flush=True)
            full = limit_of((client("rate", *rate[1], place=1, **rate[2]) or (None, []))[1])
        t.check(full and full["limit"] == full["peak"] == 30 and 2.8 <= full["delay_seconds"] <= 4.2 and full["recovers_within_seconds"] <= 4.2,
                "rate: a capacity limit, which recovers within the time that a port cools", full or said)
    servers()


def servers():
    """The sides that a client talks to while it loses ports: the cluster server stays flat, and rpcssd shows the grants. Scaled
    timers, as servers forget an activity only after 300 s."""
    broker, server = t.path("broker.tt"), t.path("clussvc.tt")
    first = first_port + 1200
    handle = f"{RESOURCE}=+grant_made:arg1,grant_returned:arg1,limit=100"
    hook = t.path("attach.sh")
    hook.write_text(f"""'{t.telltale}' attach -q -p $RPCSSD_PID -o '{broker}' --horizon {HORIZON} --handle '{handle}' &
'{t.telltale}' attach -q -p $CLUSSVC_PID -o '{server}' --horizon {HORIZON} &
until [ -s '{broker}' ] && [ -s '{server}' ]; do sleep 0.1; done
sleep 1
""")
    truth = t.path("servers.json")
    status, out, err = run([CASES / "rpcload", "--before", f"sh '{hook}'", "--recycle", RECYCLE, "--settle", HORIZON + 2, "--ports",
                            f"{first}-{first + 99}", "--time-scale", "0.005", "--cycles", 60, "--f1", 60, "--pause", 100, "--truth", truth, "--", CASES / "clusclient"])
    if not t.check(status == 0, "servers: load ended well", f"status {status}: {(out + err).decode()[-2000:]}"):
        return
    made = json.loads(truth.read_text())
    t.check(made["clients"][0]["granted"] <= made["ports_lost"] + 8, "servers: rpcssd grants as it does unwatched", made)
    for name, session in (("rpcssd", broker), ("clussvc", server)):
        report = t.findings(session)
        if report:
            found = [f for f in leaks(report["findings"]) if f["resource"] != RESOURCE]
            t.check(not found, f"{name}: no leak of its own", [(f["resource"], f["verdict"], f["lost"]) for f in found])
            grants = [f for f in report["findings"] if f["resource"] == RESOURCE and f["births"] >= made["ports_lost"]]
            t.check(bool(grants) == (name == "rpcssd"), f"{name}: its ledger's entries", grants)


# ---- one client of each kind through all of the article's times ----

SLOTS = ["F1", "F5", "F3", "F1", "F2", "good", "F1", "F5", "F4", "F2", "F1", "F6", "F5", "F1", "good"]  # ten of them lose a port
ROUNDS = 7  # 70 ports lost, and never more than 20 in use or cooling, of 100


class Recorder:
    """`telltale attach` to a process; returns from the constructor when it records."""

    def __init__(self, pid, session, *options):
        self.session = session
        self.process = subprocess.Popen([t.telltale, "attach", "-q", "-p", str(pid), "-o", session, *map(str, options)],
                                        stdin=subprocess.DEVNULL, env=environment())
        while not session.exists() or not session.stat().st_size:
            if self.process.poll() is not None:
                raise RuntimeError(f"attach to {pid} ended with {self.process.returncode}")
            time.sleep(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


def await_ledger(host, wanted):
    """The ledger once that holds of it, or as it is after half a minute."""
    for _ in range(600):
        ledger = host.ledger()
        if wanted(ledger):
            break
        time.sleep(0.05)
    return ledger


def udp_socket(port=0):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        s.bind(("127.0.0.1", port))
    except OSError:
        s.close()
        return None
    return s


class Failing:
    """A client that is led through SLOTS; counts what its caller saw."""

    ERRORS = {"F1": 1722, "F2": 1726, "F3": 1717, "F4": 1727, "F5": 14, "F6": 1720}

    def __init__(self, host, client, ports):
        self.client, self.ports, self.counts, self.strange = client, ports, dict.fromkeys([*self.ERRORS, "good"], 0), []
        self.silent, self.closed = udp_socket(), udp_socket()
        self.closed.connect(self.silent.getsockname())  # keeps its port, and everybody else finds that closed
        at = {"F1": self.closed.getsockname()[1], "F2": self.silent.getsockname()[1], "F3": host.epm, "F4": host.others["forgetful"].port,
              "F5": host.port, "F6": host.port, "good": host.port}
        self.command = {name: f"{'starve' if name == 'F5' else 'cycle'} 127.0.0.1[{port}]" for name, port in at.items()}

    def once(self, slot):
        taken = [s for s in map(udp_socket, self.ports) if s] if slot == "F6" else []
        if slot == "F2":
            self.client.do("timeout 200")
        answer = self.client.do(self.command[slot])
        if slot == "F2":
            self.client.do("timeout 0")
        for s in taken:
            s.close()
        if answer["errors"] == ({} if slot == "good" else {self.ERRORS[slot]: 1}):
            self.counts[slot] += 1
        else:
            self.strange.append((slot, answer))

    def lost(self):
        return sum(c * self.counts[f"F{k}"] for k, c in enumerate(COEFFICIENTS, 1))


def at_even_rate(count, seconds, do):
    """Calls do(i) `count` times over that long, each at its own moment."""
    begin = time.monotonic()
    for i in range(count):
        time.sleep(max(0, begin + seconds * i / count - time.monotonic()))
        do(i)


def copy_session(source, target):
    """A recording as it stands while it goes on."""
    with contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as db, contextlib.closing(sqlite3.connect(target)) as copy:
        db.backup(copy)


SESSIONS = ("leaky", "leaky_rpcssd", "clussvc", "cooling", "cooling_rpcssd")


def pass_times(directory, scale, horizon, load, silence):
    """The timers of the article times `scale`: a port cools 240 s. `load` seconds of failures, then silence; beside it, with an rpcssd of its
    own, a client that only opens and closes, at an even rate. Leaves the recordings, what rpcssd's ledger showed and what the callers saw
    (truth.json) in the directory."""
    cooling, first, stop, opened = 240 * scale, first_port, threading.Event(), []
    session = {name: directory / f"{name}.tt" for name in SESSIONS}
    options = ("--horizon", f"{horizon:g}", "--snapshots", "off")
    grants = ("--handle", f"{RESOURCE}=+grant_made:arg1,grant_returned:arg1,limit=100")
    settings = {"scale": scale, "RPC_PORT_RECYCLE_MS": round(1000 * cooling), "servers": {"forgetful": ["--amnesia"]}}

    def under(name, handle, label):
        return [t.telltale, "run", "-q", "-o", session[name], *options, "--operation", "OpenCluster=OpenCluster", "--label", label,
                "--handle", f"{RESOURCE}={handle},limit=100", "--"]

    def open_and_close(client):
        every, begin = cooling / 24, time.monotonic()
        while not stop.is_set():
            opened.append(client.do("cycle localhost")["ok"])
            stop.wait(max(0, begin + every * len(opened) - time.monotonic()))

    with contextlib.ExitStack() as stack:
        one, two = (stack.enter_context(Host(CASES / "rpcssd", CASES / "clussvc", ports=f"{f}-{f + 99}", **settings)) for f in (first, first + 100))
        recorders = [Recorder(one.rpcssd.pid, session["leaky_rpcssd"], *options, *grants), Recorder(one.server.pid, session["clussvc"], *options),
                     Recorder(two.rpcssd.pid, session["cooling_rpcssd"], *options, *grants)]
        leaky = one.client(CASES / "clusclient", wrapper=under("leaky", LOST, "failure=0.8"))
        cooler = two.client(CASES / "clusclient", wrapper=under("cooling", COOLED, "failure=0"))
        failing = Failing(one, leaky, range(first, first + 100))
        beside = threading.Thread(target=open_and_close, args=[cooler])
        beside.start()
        try:
            at_even_rate(ROUNDS * len(SLOTS), load, lambda i: failing.once(SLOTS[i % len(SLOTS)]))
            time.sleep(silence)
        finally:
            stop.set()
            beside.join()
        truth = {"scale": scale, "counts": failing.counts, "strange": failing.strange, "lost": failing.lost(), "good_beside": sum(opened),
                 "silence": silence, "pid": leaky.pid, "granted": one.ledger(), "granted_beside": two.ledger()}
        copy_session(session["leaky_rpcssd"], directory / "before_exit.tt")
        leaky.stop()
        cooler.stop()
        truth["left"] = {**await_ledger(one, lambda entries: not entries), **await_ledger(two, lambda entries: not entries)}
        time.sleep(1)  # of recording, after all is over
        truth["recorders"] = [r.stop() for r in recorders]
    (directory / "truth.json").write_text(json.dumps(truth))


def judge_times(checks, directory):
    """What telltale says of these recordings."""
    truth = json.loads((directory / "truth.json").read_text())
    scale, lost, granted = truth["scale"], truth["lost"], truth["granted"].get(str(truth["pid"]), 0)
    print(f"     {truth}", flush=True)
    checks.right(not any(truth["recorders"]), "recorders ended well", truth["recorders"])
    checks.right(not truth["strange"] and lost == 10 * ROUNDS and all(n >= ROUNDS for n in truth["counts"].values()), "every caller saw the error that was provoked",
                 truth)
    checks.right(lost <= granted <= lost + 24, f"B4: after {truth['silence']:g} s of silence {granted} ports are granted, {lost} of them lost", truth)
    checks.right(not truth["left"], "B4: all come back when the process exits", truth)

    found, grants = {}, {}
    for name in (*SESSIONS, "before_exit"):
        report = t.findings(directory / f"{name}.tt")
        found[name] = report["findings"] if report else []
        grants[name] = [f for f in found[name] if f["resource"] == RESOURCE]
        checks.right(not [f for f in leaks(found[name]) if f["resource"] != RESOURCE], f"{name}: nothing else leaks",
                     [(f["resource"], f["verdict"], f["lost"]) for f in leaks(found[name])])
        checks.right(name in ("leaky", "before_exit") or not leaks(found[name]), f"{name}: no leak",
                     [(f["verdict"], f["lost"], f["evidence"]) for f in leaks(found[name])])
        for f in grants[name]:
            told = "; ".join(f"{e['kind']}: {e['text']}" for e in f["evidence"] if e["kind"] in ("release-age", "owner", "survival"))
            print(f"     {name}: {f['verdict']}, {f['births']} made, {f['deaths']} released, lost {f['lost']['units']} [{told}] {f['note'] or ''}", flush=True)
    checks.right(not grants["clussvc"], "B8: the cluster server has no grants, and is flat", grants["clussvc"])

    live = sum(f["live"] for f in grants["leaky"])
    checks.right(live == lost, f"B1: {lost} ports lost, one for each failure of F1, F2 and F5", [(f["live"], f["births"]) for f in grants["leaky"]])
    checks.found(any(f["verdict"].startswith("leak") and f["lost"]["units"] == truth["counts"]["F1"] + truth["counts"]["F2"] for f in grants["leaky"]),
                 "B1: leak of the client", [(f["verdict"], f["lost"], f["would_change_it"], f["evidence"]) for f in grants["leaky"]])

    before = max(grants["before_exit"], key=lambda f: f["births"], default=None)
    if checks.right(before, "B7: rpcssd's grants seen"):
        checks.found(before["verdict"].startswith("leak") and lost <= before["lost"]["units"] <= before["live"] == granted,
                     f"B7: rpcssd's grants leak while the client lives, {lost} to {granted} of them",
                     (before["verdict"], before["lost"], before["would_change_it"], before["evidence"]))
        owner = before["owner"] or {}
        checks.right(owner.get("pid") == truth["pid"] and owner["exe"].endswith("/clusclient") and owner["units"] == granted and
                     f"pid {truth['pid']} (clusclient)" in owner["text"], "B7: on behalf of the client process", owner)
    after = [(f["births"], f["deaths"], f["live"]) for f in grants["leaky_rpcssd"]]
    checks.right(after == [(granted, granted, 0)], "B4: its exit gave all of them back", after)

    cooled = max(grants["cooling"], key=lambda f: f["births"], default=None)
    if checks.right(cooled, "B2: cooling ports seen"):
        cooling = 240 * scale
        ages = [e["value"] for e in cooled["evidence"] if e["kind"] == "release-age"]
        checks.found(cooled["verdict"] == "delayed release" and len(ages) == 1 and abs(ages[0] - cooling) <= max(0.25, 0.01 * cooling),
                     f"B2: delayed release after {cooling:g} s, under an even load", (cooled["verdict"], cooled["note"], cooled["evidence"]))


def timers():
    def attempt(checks, k):
        directory = t.path(f"try{k}", "x").parent
        pass_times(directory, 0.01, 6, 20, 13)
        judge_times(checks, directory)
    t.tries(3, attempt)


def full():
    """`rpc_law.py full DIRECTORY`: records into it, in half an hour, unless that was done, and judges. A port counts as lost when it outlives
    300 s; the load goes on for five times that, since from rpcssd's side a load that has ended is a pool that has filled."""
    directory = pathlib.Path(sys.argv[2]).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "truth.json").exists():
        pass_times(directory, 1, 300, 1500, 300)
    t.tries(1, lambda checks, k: judge_times(checks, directory))


{"law": law, "innocent": innocent, "timers": timers, "full": full}[WHAT]()
sys.exit(t.end())
