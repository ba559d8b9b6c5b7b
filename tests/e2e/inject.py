#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""telltale inject on fixtures that print which of their error paths lose something: each of those is found, by the line
of the failing call and the line of what it loses, and nothing else; a campaign that is cut goes on in the same order to
the same end; a server is tried under its load, and one of forked workers
in all its processes. Usage: inject.py paths|server|prefork. Start: paths."""
import json
import os
import sys

from harness import Test, run

WHAT = sys.argv[1] if len(sys.argv) > 1 else "paths"
t = Test("inject-" + WHAT)
FIXTURES = os.environ["FIXTURES"]


def inject(*options, command):
    """(exit status, report) of one campaign."""
    status, out, err = run([t.telltale, "inject", "-q", "--json", *options, "--", *command])
    try:
        return status, json.loads(out)
    except ValueError:
        t.check(False, "report", (status, out[-500:], err))
        sys.exit(t.end())


def line(site, source):
    """The innermost line of the fixture's own source in a stack."""
    return next((f["line"] for f in site["frames"] if (f["file"] or "").endswith(source)), None)


def found(report, source):
    return sorted((line(f["fault"]["site"], source), line(f["site"], source), f["resource"], f["lost"]["units"])
                  for f in report["findings"])


def order(report):
    return [(trial["stack"], trial["call"], trial["error"], trial["nth"]) for trial in report["trials"]]


def paths():
    program = [os.path.join(FIXTURES, "fixture_error_paths")]
    status, out, _ = run(program)
    truth = json.loads(out)
    t.check(status == 0 and truth["failed"] == 0 and len(truth["leaks"]) == 7, "seven of twenty paths lose something", truth)
    wanted = sorted((fails, leak["loses"], leak["resource"], leak["units"])
                    for leak in truth["leaks"] for fails in leak["fails"])
    status, whole = inject(command=program)
    t.check(whole["searched"]["heap"], "the heap was searched", whole["searched"])
    t.check(found(whole, "error_paths.c") == wanted, "exactly the planted losses", (found(whole, "error_paths.c"), wanted))
    t.check(status == 1, "exit status 1", status)
    t.check(all(f["verdict"] == "leak-lost" and f["fault"]["program"] == "went on" for f in whole["findings"]), "verdicts")
    faults = whole["faults"]
    t.check(faults["tried"] == faults["planned"] == faults["went_on"] > 100, "all faults were tried and survived", faults)
    t.check(not whole["deaths"] and not whole["left"] and not whole["dropped"], "nothing else", whole["deaths"])
    t.check({line(k["site"], "error_paths.c") for k in whole["kept"]} != set(), "what is still pointed to is kept, not lost")

    program.append("gives_up")
    truth = json.loads(run(program)[1])
    status, report = inject("--calls", "memory", command=program)
    t.check(found(report, "error_paths.c") == [(truth["fails"], truth["loses"], "heap", 1)],
            "main gave up: what was lost before is lost, what main holds is not", (truth, found(report, "error_paths.c")))
    t.check([f["fault"]["program"] for f in report["findings"]] == ["gave up"] and report["left"] == [] and report["kept"] != [],
            "and is kept", report["faults"])
    program.pop()

    few, state = ["--calls", "network,streams"], t.path("cut.faults")
    options = [*few, "-o", state, "--resume"]
    _, once = inject(*few, command=program)
    _, cut = inject(*options, "--faults", "5", command=program)
    t.check(cut["faults"]["tried"] == 5 and cut["faults"]["not_tried"] == once["faults"]["planned"] - 5, "cut after five", cut["faults"])
    status, rest = inject(*options, command=program)
    t.check(rest["faults"]["tried_before"] == 5 and rest["faults"]["not_tried"] == 0, "goes on", rest["faults"])
    t.check(order(once) == order(cut) == order(rest), "in the same order")
    t.check(found(rest, "error_paths.c") == found(once, "error_paths.c") and status == 1, "to the same end", found(rest, "error_paths.c"))
    status, none = inject("--calls", "pthread_create", command=program)
    t.check(status == 0 and none["findings"] == [] and none["faults"]["tried"] == 2, "exit status 0 where nothing is lost", none["faults"])


def server():
    program, socket = os.path.join(FIXTURES, "fixture_error_server"), t.path("server.sock")
    truth = json.loads(run([program])[1])
    status, report = inject("--load", f"{program} ask {socket}", "--nth", "2", "--calls", "memory,network,read",
                            command=[program, "serve", socket])
    t.check(found(report, "error_server.c") == [(truth["fails"], truth["loses"], "socket", 1)], "exactly the planted loss",
            found(report, "error_server.c"))
    t.check(status == 1 and report["faults"]["went_on"] == report["faults"]["tried"] > 2, "the server went on", report["faults"])


def in_child(site):
    return site["frames"][-1]["module"] == "[forked child]"


def prefork():
    program, socket = os.path.join(FIXTURES, "fixture_error_prefork"), t.path("prefork.sock")
    truth = json.loads(run([program])[1])
    options = ["--nth", "1", "--settle", "0.1", "--load", f"{program} ask {socket}"]
    status, report = inject("-f", *options, "--calls", "memory,fork,socketpair,accept,open,read,write", command=[program, "serve", socket])
    wanted = sorted((leak["fails"], leak["loses"], leak["resource"], leak["units"]) for leak in truth["leaks"])
    t.check(status == 1 and found(report, "error_prefork.c") == wanted, "exactly the planted losses, of master and workers",
            (found(report, "error_prefork.c"), wanted))
    children = sorted((line(f["site"], "error_prefork.c"), in_child(f["site"])) for f in report["findings"])
    t.check(children == sorted((leak["loses"], leak["child"]) for leak in truth["leaks"]), "each in its process", children)
    t.check(report["searched"]["heap"] and not report["dropped"], "all processes were searched", report["searched"])
    t.check([line(d["fault"]["site"], "error_prefork.c") for d in report["deaths"]] == [truth["dies"]],
            "a worker dies and is started anew", report["deaths"])
    faults = report["faults"]
    t.check(faults["tried"] == faults["planned"] == faults["went_on"] + 1 > 12 and not report["unsteady_stacks"],
            "the server went on after all other faults", faults)
    t.check({(line(f["fault"]["site"], "error_prefork.c"), f["resource"]) for f in report["left"]} == {(truth["ends"], "socket")},
            "a worker that ends with its hands full loses nothing", report["left"])


{"paths": paths, "server": server, "prefork": prefork}[WHAT]()
sys.exit(t.end())
