#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Article 814622 rediscovered from outside (SYSTEMS.md D2): clients of the datagram RPC runtime under rpcload, as shipped and as
hotfixed, watched by two functions of the runtime that telltale is told of (--handle). What must be found is counted by rpcload:
failures that the callers saw, and rpcssd's ledger. `rpc_law.py law` runs the six classes of failure and the hang, `rpc_law.py
innocent` what looks like it and is no leak."""
import concurrent.futures
import json
import os
import pathlib
import sys

from harness import Test, run

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
first_port = {"law": 5000, "innocent": 12000}.get(WHAT, 5000) + os.getpid() % 5 * 1300


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
    """Whether ports were lost and the verdict is "undetermined": a machine that stands still for seconds takes evidence away."""
    truth, findings = result
    return truth["ports_lost"] and not truth["hung"] and not leaks(findings) and any(
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


def innocent():
    results = all_clients([
        ("cooling", ("--cycles", 120, "--pause", 60), {"handle": COOLED, "recycle": 2400}),
        ("rate", ("--cycles", 120), {"handle": COOLED, "recycle": 3000, "pool": 30}),
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
    kinds = [e["kind"] for f in results.get("rate", (None, []))[1] if f["resource"] == RESOURCE for e in f["evidence"]]
    t.check("exhausted" in kinds, "rate: a limit is used up, and no leak", kinds)
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


{"law": law, "innocent": innocent}[WHAT]()
sys.exit(t.end())
